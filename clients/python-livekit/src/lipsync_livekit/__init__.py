"""An avatar for LiveKit Agents, rendered by your own lipsync-server.

`AvatarSession` renders in the agent's process; `RemoteAvatarSession` asks a worker to.
"""

from .avatar import AvatarSession
from .generator import FaceGenerator
from .receiver import AudioReceiver
from .remote import RemoteAvatarSession, WorkerError, avatar_token
from .worker import Worker, render

__all__ = [
    "AudioReceiver",
    "AvatarSession",
    "FaceGenerator",
    "RemoteAvatarSession",
    "Worker",
    "WorkerError",
    "avatar_token",
    "render",
]
