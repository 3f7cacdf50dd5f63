"""An avatar for Pipecat, rendered by your own lipsync-server."""

from .pictures import video_params
from .service import LipsyncVideoService

__all__ = ["LipsyncVideoService", "video_params"]
