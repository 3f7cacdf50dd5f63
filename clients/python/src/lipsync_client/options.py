"""Options of a client: output format, pacing, priority."""

from dataclasses import dataclass
from enum import IntEnum

from .v1 import lipsync_pb2 as pb


class OutputFormat(IntEnum):
    """The format of frames."""

    DEFAULT = 0
    """The server's, JPEG unless it is configured otherwise."""
    JPEG = 1
    PNG = 2
    RGB = 3
    """Raw, 3 bytes per pixel, row-major, no padding."""
    I420 = 4
    """Raw planar YUV 4:2:0, BT.601 full range."""
    I420_LIMITED_BT601 = 5
    """Raw planar YUV 4:2:0, BT.601 limited range: what WebRTC and LiveKit take."""
    I420_LIMITED_BT709 = 6
    """Raw planar YUV 4:2:0, BT.709 limited range: what players take for high definition."""


class Pacing(IntEnum):
    """When frames leave the server."""

    ASAP = 1
    """As soon as they are made."""
    REALTIME = 2
    """At their time."""


class Priority(IntEnum):
    """How urgent a request is."""

    DEFAULT = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Output:
    """The output options of frames."""

    format: OutputFormat = OutputFormat.DEFAULT
    quality: int = 0
    """JPEG quality 1..100; 0 = the server's."""
    region_only: bool = False
    """Only the face rectangle is coded and sent."""

    def to_proto(self) -> pb.OutputOptions:
        """Return it as the wire names it."""
        return pb.OutputOptions(
            format=pb.OutputFormat.ValueType(self.format),
            quality=self.quality,
            region_only=self.region_only,
        )
