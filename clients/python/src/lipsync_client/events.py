"""Events from a server."""

from dataclasses import dataclass, field
from typing import TypeAlias

from .options import OutputFormat
from .v1 import lipsync_pb2 as pb


@dataclass(frozen=True, slots=True)
class Opened:
    """The server's parameters of a session."""

    fps: int
    width: int
    """Size of full frames, px."""
    height: int
    audio_kind: str
    """`ave`, `hubert`, `wenet` or `mel`."""
    look_ahead_ms: int
    """Audio beyond a frame's time that must have arrived before the frame can be made."""
    max_buffered_audio_s: int
    """Audio that may wait in the server."""
    max_unsent_ms: int
    """Finished frames that may wait in the server, ms of video."""
    frame_buffer_ms: int
    """With REALTIME: the first frame of a segment leaves so long after it is made."""
    request_id: str | None
    """What the server's log calls this session."""
    resume_token: bytes = b""
    """For `Client.session(resume_token=...)` until a frame brings a later one; empty unless asked
    for."""
    resume_context_ms: int = 0
    """Audio before the next frame of a segment that must be sent again to resume there, at most."""
    resumed: "Resumption | None" = None
    """Where a session goes on; None where it begins."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a session goes on with another that was lost."""

    segment_id: int
    """The segment in which it was; 0 = none."""
    first_item: int
    """The first item of that segment which must be sent again."""
    next_audio_time_us: int
    """The place of its next frame."""
    next_pts_us: int
    next_index: int
    """Place of the next frame on the avatar's timeline."""


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle in background pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture."""

    index: int
    """Place on the avatar's timeline."""
    background_index: int
    pts_us: int
    """When it is shown; 0 for the first frame, one frame duration apart."""
    audio_time_us: int | None
    """Its place in its segment, which the mouth is in step with; None for idle frames."""
    segment_id: int
    """0 in unary answers."""
    format: OutputFormat
    width: int
    height: int
    region: Rect
    """The face rectangle in the full background frame."""
    generated: bool
    """False: background without the network (an idle or skipped frame)."""
    data: bytes
    """The coded picture."""
    audio: bytes
    """The sound that is heard while it is shown, in the session's format; with `audio_echo`."""
    resume_token: bytes = field(default=b"", repr=False, compare=False)
    """For `Client.session(resume_token=...)`: the session after this frame."""


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """All frames of a segment have arrived."""

    segment_id: int
    n_frames: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """An interruption took effect: flush your buffers."""

    last_pts_us: int | None
    """Of the last frame that the server sent; None when there was none."""
    last_audio_time_us: int | None
    """Its place in its segment."""


@dataclass(frozen=True, slots=True)
class ServerWarning:
    """A warning, not an error."""

    code: str
    """Stable, machine-readable."""
    text: str
    """For people."""


Event: TypeAlias = Frame | SegmentEnd | Cleared | ServerWarning
"""What a session gives."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to a unary request."""

    frames: tuple[Frame, ...]
    timings: pb.Timings
    """Where the time went."""
    warnings: tuple[ServerWarning, ...] = ()
    """What was odd about the audio."""


def opened_from_proto(message: pb.Opened, request_id: str | None) -> Opened:
    """Read the server's parameters of a session."""
    return Opened(
        fps=message.fps,
        width=message.width,
        height=message.height,
        audio_kind=message.audio_kind,
        look_ahead_ms=message.look_ahead_ms,
        max_buffered_audio_s=message.max_buffered_audio_s,
        max_unsent_ms=message.max_unsent_ms,
        frame_buffer_ms=message.frame_buffer_ms,
        request_id=request_id,
        resume_token=message.resume_token,
        resume_context_ms=message.resume_context_ms,
        resumed=_resumption(message.resumed) if message.HasField("resumed") else None,
    )


def _resumption(message: pb.Resumed) -> Resumption:
    return Resumption(
        segment_id=message.segment_id,
        first_item=message.first_item,
        next_audio_time_us=message.next_audio_time_us,
        next_pts_us=message.next_pts_us,
        next_index=message.next_frame_index,
    )


def frame_from_proto(message: pb.CompositedFrame) -> Frame:
    """Read a frame."""
    region = message.region
    return Frame(
        index=message.frame_index,
        background_index=message.background_index,
        pts_us=message.pts_us,
        audio_time_us=message.audio_time_us if message.HasField("audio_time_us") else None,
        segment_id=message.segment_id,
        format=OutputFormat(message.format),
        width=message.width,
        height=message.height,
        region=Rect(region.x, region.y, region.width, region.height),
        generated=message.generated,
        data=message.data,
        audio=message.audio,
        resume_token=message.resume_token,
    )


def cleared_from_proto(message: pb.Cleared) -> Cleared:
    """Read the answer to an interruption."""
    return Cleared(
        last_pts_us=message.last_pts_us if message.HasField("last_pts_us") else None,
        last_audio_time_us=(
            message.last_audio_time_us if message.HasField("last_audio_time_us") else None
        ),
    )
