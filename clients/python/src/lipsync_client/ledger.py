"""Audio that a session has sent, and frames that have come back. Pure bookkeeping."""

from collections import deque
from dataclasses import dataclass

from .audio import AudioFormat, items_per_s
from .errors import ChunkTooLargeError, ProtocolError, WindowFullError
from .events import Opened
from .v1 import lipsync_pb2 as pb


@dataclass(slots=True)
class _Held:
    segment_id: int
    n_items: int
    n_shown: int = 0
    """Items that frames have come back for."""


class Ledger:
    """The account of one session: segment ids, audio that the server holds, interruptions.

    Audio counts as held from the moment it is sent until a frame that shows it comes back. The
    server counts only audio that it has not begun to work on, so this never reaches its limit.
    """

    def __init__(self, audio: AudioFormat, opened: Opened) -> None:
        self._fps = max(opened.fps, 1)
        self._items_per_s = max(items_per_s(audio, opened.fps), 1)
        self._window = max(opened.max_buffered_audio_s, 1) * self._items_per_s
        # Segments of which something is held, oldest first.
        self._held: deque[_Held] = deque()
        self.newest = 0
        """The segment that audio goes to, or went to last; 0 before the first."""
        self._newest_is_open = False
        # Everything up to this segment was interrupted.
        self._cleared_to = 0
        # Interruptions that the server has not answered: the newest segment of each.
        self._unanswered: deque[int] = deque()
        # Everything up to this segment is gone on the server too.
        self._confirmed_to = 0

    def grant(self, n_items: int) -> int:
        """Book room for at most `n_items` of the current segment, which begins if there is none.

        Returns how many may be sent now; 0 = none.
        """
        # A second at most, so that messages stay small; small windows go round in four pieces.
        piece = max(1, min(self._window // 4, self._items_per_s))
        n_items = min(n_items, piece, max(0, self._window - self.n_held))
        if n_items == 0:
            return 0
        if not self._newest_is_open:
            self.newest += 1
            self._newest_is_open = True
        if self._held and self._held[-1].segment_id == self.newest:
            self._held[-1].n_items += n_items
        else:
            self._held.append(_Held(self.newest, n_items))
        return n_items

    def resume(self, newest: int) -> None:
        """Go on with the books of another session, which had begun segments up to `newest`."""
        self.newest = newest

    def begin_at(self, segment_id: int, first_item: int) -> None:
        """Begin a segment again from an item on: what lies before it is not held."""
        self.newest = segment_id
        self._newest_is_open = True
        self._held.append(_Held(segment_id, first_item, first_item))

    def check_room(self, n_items: int) -> None:
        """Refuse audio that does not fit now, and audio that never fits."""
        if n_items > self._window:
            raise ChunkTooLargeError(n_items / self._items_per_s, self._window / self._items_per_s)
        if n_items > self._window - self.n_held:
            raise WindowFullError(self.n_held / self._items_per_s, self._window / self._items_per_s)

    @property
    def n_held(self) -> int:
        """Items with the server."""
        return sum(held.n_items - held.n_shown for held in self._held)

    def end_segment(self) -> int | None:
        """End the current segment and return its id; None when there is none."""
        was_open, self._newest_is_open = self._newest_is_open, False
        return self.newest if was_open else None

    @property
    def open_segment(self) -> int | None:
        """The segment that is open, if one is."""
        return self.newest if self._newest_is_open else None

    @property
    def current(self) -> int:
        """The segment that audio belongs to now: the open one, or the one that begins with it."""
        return self.newest if self._newest_is_open else self.newest + 1

    def clear(self) -> None:
        """Interrupt everything. Later audio reaches a server that holds nothing."""
        self._newest_is_open = False
        self._cleared_to = self.newest
        self._unanswered.append(self.newest)
        self._held.clear()

    def confirm_clear(self) -> None:
        """Book the server's answer to an interruption."""
        if self._unanswered:
            self._confirmed_to = self._unanswered.popleft()

    def book_frame(self, frame: pb.CompositedFrame) -> bool:
        """Book a frame; False when it was under way while its segment was interrupted."""
        if not frame.HasField("audio_time_us"):
            return True  # Frames of silence belong to no segment.
        if frame.segment_id <= self._confirmed_to:
            raise ProtocolError("a frame came after its segment was cleared")
        # Segments play in order.
        while self._held and self._held[0].segment_id < frame.segment_id:
            self._held.popleft()
        if self._held and self._held[0].segment_id == frame.segment_id:
            held = self._held[0]
            shown_us = frame.audio_time_us + 1_000_000 // self._fps
            held.n_shown = min(held.n_items, shown_us * self._items_per_s // 1_000_000)
        return frame.segment_id > self._cleared_to

    def book_end(self, segment_id: int) -> bool:
        """Book the end of a segment; False when it was under way during an interruption."""
        while self._held and self._held[0].segment_id <= segment_id:
            self._held.popleft()
        return segment_id > self._cleared_to
