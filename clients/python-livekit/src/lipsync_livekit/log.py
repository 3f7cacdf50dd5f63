"""The log of this package."""

import logging

logger = logging.getLogger("lipsync_livekit")
