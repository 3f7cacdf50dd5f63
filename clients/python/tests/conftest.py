"""A real server for the tests: the demo avatar on a port of its own."""

import pytest
from fixtures import client, server, server_binary
from servers import REPOSITORY
from speech import read_speech

__all__ = ["client", "server", "server_binary", "settings", "speech"]


@pytest.fixture(scope="session")
def settings() -> dict[str, str]:
    """Small limits, which the tests reach."""
    return {"SESSION__MAX_BUFFERED_AUDIO_S": "2", "SESSION__MAX_SESSIONS": "4"}


@pytest.fixture(scope="session")
def speech() -> bytes:
    """A second and a half of a sentence, 16 kHz mono, and some samples more."""
    return read_speech(REPOSITORY / "assets/speech/welcome.wav")[: 2 * 24_000 + 2 * 77]
