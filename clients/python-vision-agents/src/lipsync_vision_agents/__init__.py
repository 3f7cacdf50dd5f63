"""An avatar for Vision Agents, rendered by your own lipsync-server."""

from .avatar import LipsyncAvatar

__all__ = ["LipsyncAvatar"]
