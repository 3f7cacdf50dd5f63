"""Frames of the server as Pipecat takes them, and what its transports must know of them."""

import io
from typing import Any

from lipsync_client import Client, Frame, OutputFormat

FORMATS = (OutputFormat.RGB, OutputFormat.JPEG)
"""What the server sends: RGB as Pipecat takes it (2.8 MB a frame of 1280x720), or JPEG (50 KB),
which is decoded here with Pillow. JPEG suits a server far away."""


def check_format(format: OutputFormat) -> None:  # noqa: A002
    """Raise `ValueError` for a format that Pipecat's transports do not take."""
    if format not in FORMATS:
        names = ", ".join(f.name for f in FORMATS)
        raise ValueError(f"format: expected one of {names}, found {format.name}")
    if format is OutputFormat.JPEG:
        try:
            import PIL.Image  # noqa: F401
        except ImportError:
            raise ValueError(
                "format: JPEG needs Pillow (pip install 'lipsync-pipecat[jpeg]')"
            ) from None


def rgb(frame: Frame) -> bytes:
    """Return the pixels of a frame."""
    if frame.format is not OutputFormat.JPEG:
        return frame.data
    from PIL import Image

    with Image.open(io.BytesIO(frame.data)) as picture:
        return picture.convert("RGB").tobytes()


async def video_params(server: str, model: str, **connection: Any) -> dict[str, Any]:
    """Return the video settings of a transport for an avatar.

    Use it as `TransportParams(audio_out_enabled=True, **await video_params(server, "mira"))`. With
    any other size Pipecat resizes every frame. The frame rate is one more than the avatar's:
    Pipecat's clock for live video starts anew after a stall, and what waits then would wait for
    good, late for its sound. So it shows pictures when they come, and catches up.

    `connection` is what `lipsync_client.Client` takes beside the address. Raises `CallError`.
    """
    async with Client(server, **connection) as client:
        stats = await client.model_stats(model)
        if stats.fps == 0 or stats.width == 0:
            stats = await client.load_model(model)
    return {
        "video_out_enabled": True,
        "video_out_is_live": True,
        "video_out_width": stats.width,
        "video_out_height": stats.height,
        "video_out_framerate": stats.fps + 1,
    }
