"""A session that outlives its connection."""

import asyncio
import dataclasses
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeAlias

import grpc

from .audio import AudioFormat, Bytes, items_per_s
from .errors import CallError, ProtocolError, SessionClosedError, SessionLostError
from .events import Cleared, Event, Frame, Opened, SegmentEnd
from .session import Session

_LONGEST_ADVICE_S = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """When a lost session is opened again."""

    first_s: float = 0.25
    """The first wait, which doubles with each attempt. The first attempt follows at once if the
    session had lasted for `longest_s`."""
    longest_s: float = 5.0
    """The longest wait. The server's own advice (`retry_after`) may be longer, up to a minute."""
    give_up_after_s: float | None = None
    """Without a session for so long, the error is raised; None = never."""

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.longest_s:
            raise ValueError(
                f"first_s: expected above 0 and at most longest_s ({self.longest_s}), "
                f"found {self.first_s}"
            )


@dataclass(frozen=True, slots=True)
class Unplayed:
    """Audio of a segment whose frames have not come."""

    segment_id: int
    audio: bytes
    """From the first sample of the first missing frame to the last that was pushed."""
    is_ended: bool
    """Whether `end_segment` was called for it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone, and its segments with it: no `SegmentEnd` follows for them."""

    error: CallError
    unplayed: tuple[Unplayed, ...]
    """Play it without a face, push it again after `Restored`, or forget it."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A new session continues at the next place on the walk."""

    opened: Opened
    after_s: float
    """Time without a session."""


LastingEvent: TypeAlias = Event | Lost | Restored
"""What a lasting session gives."""


@dataclass(slots=True)
class _Open:
    """A segment whose frames have not all come."""

    segment_id: int
    audio: bytearray = field(default_factory=bytearray)
    n_dropped: int = 0
    """Items that were shown, and are no longer in `audio`."""
    is_ended: bool = False


class LastingSession:
    """A session that is opened again when its connection is lost; from `Client.lasting_session`.

    Use it as a `Session`. Ids of segments, `pts_us` and the walk continue over connections. Two
    more events tell of a loss: `Lost`, with the audio that was not shown, and `Restored`. The
    session is opened again while somebody takes events. Between the two events `is_lost` is true
    and `push_audio` raises `SessionLostError`; `clear` and `end_segment` do nothing.

    Refusals that would come again (a wrong field, an unknown model, a wrong key) are raised, after
    the `Lost` where there was a session.
    """

    def __init__(
        self, make: Callable[[int], Session], audio: AudioFormat, start: int, retry: Retry
    ) -> None:
        self._make = make
        self._audio = audio
        self._retry = retry
        self._session: Session | None = None
        self._opened: Opened | None = None
        self._error: CallError | None = None
        self._lost_at = 0.0
        self._connected_at = 0.0
        self._wait_s = 0.0  # Before the next attempt.
        self._has_begun = False
        self._is_closed = False
        self._held: deque[_Open] = deque()
        self._next_index = start
        self._next_pts_us = 0
        self._newest = 0
        # Less than a sample, of a segment that begins with its rest.
        self._carry = b""
        # What is added to the numbers of the present connection.
        self._segments_before = 0
        self._pts_before_us = 0

    async def __aenter__(self) -> "LastingSession":
        """Open the session. Raises `CallError`: the first attempt is not repeated."""
        await self._connect()
        return self

    def start_lost(self, error: CallError) -> None:
        """Begin without a connection: the first event is `Restored`, as soon as there is one."""
        self._has_begun = True
        self._error, self._lost_at = error, time.monotonic()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel the rest of the session."""
        await self.close()

    @property
    def opened(self) -> Opened:
        """The parameters that the server gave last."""
        if self._opened is None:
            raise SessionClosedError("the session was not opened: use `async with`")
        return self._opened

    @property
    def is_lost(self) -> bool:
        """Whether `Lost` was given and `Restored` was not."""
        return self._session is None

    @property
    def next_segment(self) -> int:
        """The id of the segment that audio would belong to now."""
        if self._has_open:
            return self._held[-1].segment_id
        # A session that is over counts no more.
        if self._session is None or self._session.is_over:
            return self._newest + 1
        return self._session.next_segment + self._segments_before

    @property
    def _has_open(self) -> bool:
        return bool(self._held) and not self._held[-1].is_ended

    async def push_audio(self, audio: Bytes, *, wait: bool = True) -> int:
        """As `Session.push_audio`.

        Audio that meets a connection that is already gone is in the `Lost` that follows. Raises
        `SessionLostError` from then on, until `Restored`.
        """
        session = self._present()
        data = bytes(memoryview(audio).cast("B"))
        if not wait:
            session.check_room(data)
        if not self._has_open:
            data, self._carry = self._carry + data, b""
            if len(data) < self._audio.item_bytes:
                self._carry = data
                return self.next_segment
            self._newest = self.next_segment
            self._held.append(_Open(self._newest))
        held = self._held[-1]
        held.audio += data
        try:
            await session.push_audio(data)
        except SessionClosedError:
            self._check_open()
        return held.segment_id

    async def end_segment(self) -> int | None:
        """As `Session.end_segment`; None also while the session is lost."""
        self._check_open()
        self._carry = b""
        if self._session is None or not self._has_open:
            return None
        held = self._held[-1]
        held.is_ended = True
        try:
            await self._session.end_segment()
        except SessionClosedError:
            self._check_open()
        return held.segment_id

    async def clear(self) -> None:
        """As `Session.clear`. If the connection is gone, no `Cleared` follows."""
        self._check_open()
        self._held.clear()
        self._carry = b""
        if self._session is None:
            return
        try:
            await self._session.clear()
        except SessionClosedError:
            self._check_open()

    async def finish(self) -> None:
        """End sending: the server makes the queued frames and ends the session."""
        if self._session is None:
            await self.close()
        else:
            await self._session.finish()

    async def close(self) -> None:
        """Cancel the rest of the session."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    def __aiter__(self) -> AsyncIterator[LastingEvent]:
        """Iterate over the events until the session is finished or closed."""
        return self

    async def __anext__(self) -> LastingEvent:
        """Wait for the next event; open the session again where it was lost.

        Raises `CallError` for a refusal that would come again, and after `Retry.give_up_after_s`.
        """
        if self._session is None:
            if self._error is not None and self._error.is_final:
                raise self._error
            return await self._restore()
        try:
            event = await anext(self._session)
        except (CallError, ProtocolError) as error:
            if self._is_closed:
                raise
            return self._lose(_call_error(error))
        return self._continued(event)

    async def _connect(self) -> None:
        session = self._make(self._next_index)
        await session.__aenter__()
        if self._is_closed:
            await session.close()
            raise StopAsyncIteration
        self._segments_before = self._newest
        self._pts_before_us = self._next_pts_us
        self._session, self._opened = session, session.opened
        self._has_begun = True
        self._connected_at = time.monotonic()

    async def _restore(self) -> Restored:
        while not self._is_closed:
            if self._wait_s:
                # Clients that were lost together shall not come back together.
                await asyncio.sleep(self._wait_s * random.uniform(0.5, 1))  # noqa: S311
            try:
                await self._connect()
            except (CallError, ProtocolError) as failure:
                self._error = error = _call_error(failure)
                without_s = time.monotonic() - self._lost_at
                limit_s = self._retry.give_up_after_s
                if error.is_final or (limit_s is not None and without_s >= limit_s):
                    raise
                self._wait_longer(error)
            else:
                return Restored(self.opened, time.monotonic() - self._lost_at)
        raise StopAsyncIteration

    def _wait_longer(self, error: CallError) -> None:
        wait_s = min(max(self._retry.first_s, 2 * self._wait_s), self._retry.longest_s)
        self._wait_s = max(wait_s, min(error.retry_after or 0, _LONGEST_ADVICE_S))

    def _lose(self, error: CallError) -> Lost:
        self._session, self._error, self._lost_at = None, error, time.monotonic()
        # A server that ends every session at once must not be asked in a tight loop.
        if self._lost_at - self._connected_at < self._retry.longest_s:
            self._wait_longer(error)
        else:
            self._wait_s = 0.0
        self._carry = b""
        unplayed = tuple(Unplayed(h.segment_id, bytes(h.audio), h.is_ended) for h in self._held)
        self._held.clear()
        return Lost(error, unplayed)

    def _continued(self, event: Event) -> Event:
        """Return an event with the numbers of the whole session."""
        match event:
            case Frame():
                event = dataclasses.replace(
                    event,
                    pts_us=event.pts_us + self._pts_before_us,
                    segment_id=event.segment_id and event.segment_id + self._segments_before,
                )
                self._next_index = event.index + 1
                self._next_pts_us = event.pts_us + 1_000_000 // max(self.opened.fps, 1)
                self._book(event)
            case SegmentEnd():
                event = SegmentEnd(event.segment_id + self._segments_before, event.n_frames)
                while self._held and self._held[0].segment_id <= event.segment_id:
                    self._held.popleft()
            case Cleared() if event.last_pts_us is not None:
                event = Cleared(event.last_pts_us + self._pts_before_us, event.last_audio_time_us)
            case _:
                pass
        return event

    def _book(self, frame: Frame) -> None:
        """Forget audio that was shown."""
        if frame.audio_time_us is None:
            return
        while self._held and self._held[0].segment_id < frame.segment_id:
            self._held.popleft()
        if not self._held or self._held[0].segment_id != frame.segment_id:
            return
        held, fps = self._held[0], max(self.opened.fps, 1)
        n = round(frame.audio_time_us * fps / 1_000_000) + 1
        n_shown = n * items_per_s(self._audio, fps) // fps
        del held.audio[: max(n_shown - held.n_dropped, 0) * self._audio.item_bytes]
        held.n_dropped = max(n_shown, held.n_dropped)

    def _present(self) -> Session:
        self._check_open()
        if self._session is None:
            raise SessionLostError("the session is lost, and being opened again") from self._error
        return self._session

    def _check_open(self) -> None:
        if self._is_closed or not self._has_begun:
            raise SessionClosedError("the session takes nothing more") from self._error


def _call_error(error: CallError | ProtocolError) -> CallError:
    if isinstance(error, CallError):
        return error
    return CallError(grpc.StatusCode.INTERNAL, f"the server broke the contract: {error}")
