"""A face for a voice agent: speech goes in, moments of picture and sound come out.

It holds the rules that every framework needs and none has: sound goes on without a face when the
server is lost, nothing of an interrupted reply comes out, and segments end once and in order. It
knows no framework.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from .audio import Bytes, PcmS16
from .errors import CallError, LipsyncError, SessionClosedError, SessionLostError
from .events import Event, Frame, Opened, SegmentEnd
from .lasting import LastingSession, Lost, Restored, Resumed
from .spoken import Unplayed

_MAX_QUEUED_FRAMES = 50
"""Pictures that wait for who shows them. The server is read no further then."""
_MAX_IDLE_FRAMES = 4
"""With so many waiting, idle ones are left out: whoever shows them has a slower clock, or slept."""
_THROUGH_S = 2.0
"""Sound without a face that waits for who plays it."""
_PIECE_S = 0.04
"""Its pieces."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is seen and heard for one frame duration."""

    picture: Frame | None
    """None: the server is lost, and the sound goes on."""
    audio: bytes
    """Empty while nobody speaks."""
    segment_id: int
    """0 while nobody speaks."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The server is lost, or refused for good. Comes once for each loss, before `Restored`."""

    error: LipsyncError
    is_final: bool
    """There is no face from here on; sound goes on."""


HeadItem: TypeAlias = Moment | SegmentEnd | Failure | Restored
"""What a talking head gives. `SegmentEnd.n_frames` counts moments with a picture."""


@dataclass(slots=True)
class _Segment:
    segment_id: int
    sent_as: int | None = None
    """What the session calls it; None before its first sample."""
    is_through: bool = False
    """It is heard without a face, to its end."""
    is_ended: bool = False


class TalkingHead:
    """A lasting session in real time, with its sound; for the adapters of voice frameworks.

    One task pushes, another takes. All times are the server's: a moment comes when it is due.
    """

    def __init__(self, session: LastingSession, audio: PcmS16) -> None:
        self._session = session
        self._audio = audio
        self._items: deque[HeadItem] = deque()
        self._bell = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._pushing: asyncio.Task[int] | None = None
        self._clearing: asyncio.Task[None] | None = None
        # Segments that are not over, oldest first; the last one may be open.
        self._segments: deque[_Segment] = deque()
        self._newest = 0
        self._cleared_to = 0
        self._n_clears = 0
        self._is_dead = False
        self._is_closed = False

    async def start(self, *, needs_face: bool = True) -> None:
        """Open the session. Raises `CallError` where there is no server, or it refuses.

        With `needs_face=False` a `Failure` comes instead: the voice is heard, and the face comes
        when the server does.
        """
        try:
            await self._session.__aenter__()
        except CallError as error:
            if needs_face:
                raise
            self._session.start_lost(error)
            if not error.is_final:
                self._put(Failure(error, is_final=False))
        self._reader = asyncio.create_task(self._read(), name="lipsync-head")

    @property
    def opened(self) -> Opened:
        """The server's parameters."""
        return self._session.opened

    @property
    def has_face(self) -> bool:
        """Whether there is a session now."""
        return not (self._is_dead or self._session.is_lost)

    @property
    def open_segment(self) -> int | None:
        """The segment that takes audio now, if one does."""
        if self._segments and not self._segments[-1].is_ended:
            return self._segments[-1].segment_id
        return None

    @property
    def next_segment(self) -> int:
        """The id of the segment that audio would belong to now."""
        return self.open_segment or self._newest + 1

    async def push(self, audio: Bytes) -> int:
        """Say this; return the id of its segment, which begins if none is open.

        Waits while the server holds as much as it may. Audio that an interruption meets here is
        dropped. Raises `SessionClosedError` after `close`.
        """
        n_clears = self._n_clears
        await self._cleared()
        if n_clears != self._n_clears:
            return self._newest  # It was said before the interruption.
        if self._is_closed:
            raise SessionClosedError("the talking head is closed")
        if self.open_segment is None:
            self._newest += 1
            self._segments.append(_Segment(self._newest, is_through=not self.has_face))
        segment = self._segments[-1]
        data = bytes(memoryview(audio).cast("B"))
        if not data:
            return segment.segment_id
        if not segment.is_through:
            # Known before it is sent: frames may come back while the rest waits for room.
            segment.sent_as = self._session.next_segment
            try:
                await self._cancellable(self._session.push_audio(data))
            except SessionLostError:
                segment.is_through = True
        if segment.is_through and segment.segment_id > self._cleared_to:
            await self._push_through(segment, data)
        return segment.segment_id

    async def end(self) -> int | None:
        """End the utterance; return its id, None when none is open. Its `SegmentEnd` will come."""
        await self._cleared()
        if self.open_segment is None:
            return None
        segment = self._segments[-1]
        segment.is_ended = True
        if segment.sent_as is not None and not segment.is_through:
            if await self._session.end_segment() is not None:
                return segment.segment_id
            segment.sent_as = None  # Not a whole sample came.
        self._end_what_is_over()
        return segment.segment_id

    def clear(self) -> None:
        """Interrupt. From here on nothing of before comes out."""
        self._n_clears += 1
        self._cleared_to = self._newest
        self._segments.clear()
        self._items = deque(
            item for item in self._items if not isinstance(item, SegmentEnd | Moment)
        )
        if self._pushing is not None:
            self._pushing.cancel()
        if self._clearing is None and not self._is_closed:
            self._clearing = asyncio.create_task(self._clear())
        self._ring()

    async def take(self) -> HeadItem | None:
        """Wait for the next item; None after `close`."""
        while not self._items:
            if self._is_closed:
                return None
            self._bell.clear()
            await self._bell.wait()
        item = self._items.popleft()
        self._ring()
        return item

    def now(self) -> HeadItem | None:
        """Return the next item if there is one."""
        if not self._items:
            return None
        item = self._items.popleft()
        self._ring()
        return item

    async def close(self) -> None:
        """End everything. Who waits in `take` gets None."""
        self._is_closed = True
        self._items.clear()
        for task in (self._pushing, self._clearing, self._reader):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._session.close()
        self._ring()

    async def _cleared(self) -> None:
        """Wait until an interruption is on its way, so that new audio follows it."""
        if self._clearing is not None:
            await asyncio.wait([self._clearing])

    async def _clear(self) -> None:
        with contextlib.suppress(SessionClosedError):
            await self._session.clear()
        self._clearing = None

    async def _cancellable(self, work: Coroutine[Any, Any, int]) -> None:
        """Wait for a push that an interruption may cancel."""
        task = self._pushing = asyncio.create_task(work)
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled() or self._is_self_cancelled():
                task.cancel()
                raise
        finally:
            self._pushing = None

    @staticmethod
    def _is_self_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def _push_through(self, segment: _Segment, data: bytes) -> None:
        """Queue sound without a face, in pieces; wait while much of it is queued."""
        for piece in self._pieces(data):
            while self._queued_sound() * _PIECE_S >= _THROUGH_S and not self._is_closed:
                self._bell.clear()
                await self._bell.wait()
            if segment.segment_id <= self._cleared_to:
                return
            self._put(Moment(None, piece, segment.segment_id))

    def _n_pictures(self) -> int:
        return sum(isinstance(item, Moment) and item.picture is not None for item in self._items)

    def _queued_sound(self) -> int:
        return sum(isinstance(item, Moment) and item.picture is None for item in self._items)

    def _pieces(self, data: bytes) -> list[bytes]:
        n_bytes = int(self._audio.rate_hz * _PIECE_S) * self._audio.item_bytes
        return [data[start : start + n_bytes] for start in range(0, len(data), n_bytes)]

    async def _read(self) -> None:
        """Take what the server sends. Ends only with the head: a dead server leaves the sound."""
        events = aiter(self._session)
        try:
            while True:
                while self._n_pictures() >= _MAX_QUEUED_FRAMES:
                    self._bell.clear()
                    await self._bell.wait()
                event = await anext(events)
                if isinstance(event, Lost):
                    self._lose(event)
                elif isinstance(event, Restored):
                    self._put(event)
                elif not isinstance(event, Resumed):  # Nothing is missing.
                    self._book(event)
        except StopAsyncIteration:
            self._die(SessionClosedError("the server ended the session"))
        except LipsyncError as error:
            self._die(error)

    def _book(self, event: Event) -> None:
        match event:
            case Frame(audio_time_us=None):
                self._put_idle(event)
            case Frame():
                if (segment := self._sent_as(event.segment_id)) is not None:
                    self._put(Moment(event, event.audio, segment.segment_id))
            case SegmentEnd(sent_as, n_frames):
                segment = self._sent_as(sent_as)
                if segment is not None:
                    self._segments.remove(segment)
                    self._put(SegmentEnd(segment.segment_id, n_frames))
                    self._end_what_is_over()
            case _:
                pass

    def _put_idle(self, picture: Frame) -> None:
        """Show the face at rest; under sound that is heard without a face, if there is some."""
        for i, item in enumerate(self._items):
            if isinstance(item, Moment) and item.picture is None:
                self._items[i] = Moment(picture, item.audio, item.segment_id)
                return
        if len(self._items) < _MAX_IDLE_FRAMES:
            self._put(Moment(picture, b"", 0))

    def _sent_as(self, segment_id: int) -> _Segment | None:
        """Return the segment that the session calls so; None if it was interrupted."""
        return next((s for s in self._segments if s.sent_as == segment_id), None)

    def _end_what_is_over(self) -> None:
        """End the oldest segments of which the server owes nothing."""
        while self._segments and self._segments[0].is_ended:
            first = self._segments[0]
            if first.sent_as is not None and not first.is_through:
                return
            self._segments.popleft()
            self._put(SegmentEnd(first.segment_id, 0))

    def _lose(self, lost: Lost) -> None:
        """Let the sound that the server had be heard without a face."""
        self._put(Failure(lost.error, is_final=False))
        unplayed: dict[int, Unplayed] = {held.segment_id: held for held in lost.unplayed}
        for segment in list(self._segments):
            if not segment.is_through and segment.sent_as in unplayed:
                for piece in self._pieces(unplayed[segment.sent_as].audio):
                    self._put(Moment(None, piece, segment.segment_id))
            segment.is_through = True
            self._end_what_is_over()

    def _die(self, error: LipsyncError) -> None:
        self._is_dead = True
        for segment in self._segments:
            segment.is_through = True
        self._end_what_is_over()
        if not self._is_closed:
            self._put(Failure(error, is_final=True))

    def _put(self, item: HeadItem) -> None:
        if isinstance(item, Moment | SegmentEnd) and 0 < item.segment_id <= self._cleared_to:
            return
        self._items.append(item)
        self._ring()

    def _ring(self) -> None:
        self._bell.set()


def lost_for_being_idle(error: LipsyncError) -> bool:
    """Whether a session ended because nothing was said for long; it is opened again at once."""
    return isinstance(error, CallError) and error.code.name == "DEADLINE_EXCEEDED"
