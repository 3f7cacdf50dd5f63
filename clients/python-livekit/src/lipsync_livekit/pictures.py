"""Frames of the server as LiveKit takes them."""

import io

from lipsync_client import Frame, OutputFormat
from livekit import rtc

FORMATS = (
    OutputFormat.I420_LIMITED_BT601,
    OutputFormat.RGB,
    OutputFormat.JPEG,
)
"""What can be published: planes as they are (1.4 MB a frame of 1280x720), RGB, which LiveKit
converts, and JPEG (50 KB), which is decoded here with Pillow. JPEG suits a server far away."""

_RAW = {
    OutputFormat.I420_LIMITED_BT601: rtc.VideoBufferType.I420,
    OutputFormat.RGB: rtc.VideoBufferType.RGB24,
}


def check_format(format: OutputFormat) -> None:  # noqa: A002
    """Raise `ValueError` for a format that LiveKit would show in wrong colours or not at all."""
    if format not in FORMATS:
        names = ", ".join(f.name for f in FORMATS)
        raise ValueError(f"format: expected one of {names}, found {format.name}")
    if format is OutputFormat.JPEG:
        try:
            import PIL.Image  # noqa: F401
        except ImportError:
            raise ValueError(
                "format: JPEG needs Pillow (pip install 'lipsync-livekit[jpeg]')"
            ) from None


def video_frame(frame: Frame) -> rtc.VideoFrame:
    """Return a frame for a video source."""
    if frame.format is not OutputFormat.JPEG:
        return rtc.VideoFrame(frame.width, frame.height, _RAW[frame.format], frame.data)
    from PIL import Image

    with Image.open(io.BytesIO(frame.data)) as picture:
        rgb = picture.convert("RGB")
        return rtc.VideoFrame(rgb.width, rgb.height, rtc.VideoBufferType.RGB24, rgb.tobytes())
