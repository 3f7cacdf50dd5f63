"""A real server, and speech."""

from fixtures import client, server, server_binary, settings, speech

__all__ = ["client", "server", "server_binary", "settings", "speech"]
