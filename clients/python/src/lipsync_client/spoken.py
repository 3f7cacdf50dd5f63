"""What was said in a lasting session and may have to be said again. Pure bookkeeping."""

from collections import deque
from dataclasses import dataclass, field

from .audio import AudioFormat, items_per_s
from .events import Frame, Opened


@dataclass(frozen=True, slots=True)
class Unplayed:
    """Audio of a segment whose frames have not come."""

    segment_id: int
    audio: bytes
    """From the first sample of the first missing frame to the last that was pushed."""
    is_ended: bool
    """Whether `end_segment` was called for it."""


@dataclass(slots=True)
class Segment:
    """A segment whose frames have not all come."""

    segment_id: int
    audio: bytearray = field(default_factory=bytearray)
    n_dropped: int = 0
    """Items that are no longer in `audio`."""
    n_shown: int = 0
    """Items whose frames have come."""
    is_ended: bool = False


class Spoken:
    """The audio of segments whose frames have not all come.

    Of what was shown it keeps as much as a server must hear again to resume there.
    """

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        self._segments: deque[Segment] = deque()
        self._fps = 1
        self._items_per_s = 1
        self._n_context = 0

    def opened(self, opened: Opened) -> None:
        """Take the parameters of a session that has begun."""
        self._fps = max(opened.fps, 1)
        self._items_per_s = items_per_s(self._audio, self._fps)
        self._n_context = -(-opened.resume_context_ms * self._items_per_s // 1000)

    @property
    def open_segment(self) -> Segment | None:
        """The segment that takes audio now, if one does."""
        if self._segments and not self._segments[-1].is_ended:
            return self._segments[-1]
        return None

    def begin(self, segment_id: int) -> Segment:
        """Begin a segment."""
        self._segments.append(Segment(segment_id))
        return self._segments[-1]

    def clear(self) -> None:
        """Forget everything."""
        self._segments.clear()

    def shown(self, frame: Frame) -> None:
        """Forget what is shown, except what a server needs to resume behind it."""
        if frame.audio_time_us is None:
            return
        while self._segments and self._segments[0].segment_id < frame.segment_id:
            self._segments.popleft()
        if not self._segments or self._segments[0].segment_id != frame.segment_id:
            return
        segment = self._segments[0]
        n = round(frame.audio_time_us * self._fps / 1_000_000) + 1
        segment.n_shown = max(n * self._items_per_s // self._fps, segment.n_shown)
        n_dropped = max(segment.n_shown - self._n_context, segment.n_dropped)
        del segment.audio[: (n_dropped - segment.n_dropped) * self._audio.item_bytes]
        segment.n_dropped = n_dropped

    def ended(self, segment_id: int) -> None:
        """Forget a segment whose frames have all come, and those before it."""
        while self._segments and self._segments[0].segment_id <= segment_id:
            self._segments.popleft()

    def unplayed(self) -> tuple[Unplayed, ...]:
        """Return what was not shown."""
        return tuple(
            Unplayed(s.segment_id, self._from(s, s.n_shown) or b"", s.is_ended)
            for s in self._segments
        )

    def again(self, segment_id: int, first_item: int) -> list[Segment] | None:
        """Return what a server must hear that resumes in a segment, from `first_item` of that on.

        `n_dropped` of each is its first item. None: it is not there any more.
        """
        said: list[Segment] = []
        for segment in self._segments:
            first = first_item if segment.segment_id == segment_id else 0
            audio = self._from(segment, first)
            if audio is None:
                return None
            said.append(
                Segment(segment.segment_id, bytearray(audio), first, is_ended=segment.is_ended)
            )
        return said

    def _from(self, segment: Segment, first_item: int) -> bytes | None:
        if first_item < segment.n_dropped:
            return None
        start = (first_item - segment.n_dropped) * self._audio.item_bytes
        return bytes(segment.audio[start:])
