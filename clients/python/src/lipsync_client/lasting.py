"""A session that outlives its connection."""

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias

import grpc

from .audio import AudioFormat, Bytes
from .errors import (
    CallError,
    ProtocolError,
    SessionClosedError,
    SessionLostError,
    WindowFullError,
)
from .events import Cleared, Event, Frame, Opened, Resumption, SegmentEnd
from .session import Session
from .spoken import Segment, Spoken, Unplayed

_LONGEST_ADVICE_S = 60.0
_CUT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
    }
)
"""How sessions end whose connection or server is gone."""


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
    resume_within_s: float = 2.0
    """How long to try to go on in the middle of what is said, before `Lost` gives it back; 0 = do
    not try. `push_audio` waits meanwhile."""

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.longest_s:
            raise ValueError(
                f"first_s: expected above 0 and at most longest_s ({self.longest_s}), "
                f"found {self.first_s}"
            )


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


@dataclass(frozen=True, slots=True)
class Resumed:
    """A new session goes on behind the last frame that came: nothing is missing or repeated."""

    opened: Opened
    after_s: float
    """Time without a session."""


LastingEvent: TypeAlias = Event | Lost | Restored | Resumed
"""What a lasting session gives."""


class LastingSession:
    """A session that is opened again when its connection is lost; from `Client.lasting_session`.

    Use it as a `Session`. Ids of segments, `pts_us` and the walk continue over connections. The
    session is opened again while somebody takes events. Where the server, or another one that
    shares its `session.resume_key_file`, can go on in the middle of what is said, there is one more
    event, `Resumed`. Otherwise there are two: `Lost`, with the audio that was not shown, and
    `Restored`. Between those two `is_lost` is true and `push_audio` raises `SessionLostError`;
    `clear` and `end_segment` do nothing.

    Refusals that would come again (a wrong field, an unknown model, a wrong key) are raised, after
    the `Lost` where there was a session.
    """

    def __init__(
        self, make: Callable[[int, bytes], Session], audio: AudioFormat, start: int, retry: Retry
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
        self._is_finished = False
        self._spoken = Spoken(audio)
        self._token = b""
        self._is_resuming = False
        # A session that could not go on with the lost one, and begins anew.
        self._fresh: Session | None = None
        self._has_shown = False  # Since it was opened.
        # What was said is being said again.
        self._saying: asyncio.Task[None] | None = None
        # Nothing stands between audio and the session.
        self._settled = asyncio.Event()
        self._settled.set()
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
        return self._session is None and not self._is_resuming

    @property
    def next_segment(self) -> int:
        """The id of the segment that audio would belong to now."""
        if (held := self._spoken.open_segment) is not None:
            return held.segment_id
        # A session that is over counts no more.
        if self._session is None or self._session.is_over:
            return self._newest + 1
        return self._session.next_segment + self._segments_before

    async def push_audio(self, audio: Bytes, *, wait: bool = True) -> int:
        """As `Session.push_audio`.

        Audio that meets a connection that is already gone is in the `Lost` that follows. Raises
        `SessionLostError` from then on, until `Restored`. Waits while the session is resumed.
        """
        session = await self._present(wait)
        data = bytes(memoryview(audio).cast("B"))
        if not wait:
            session.check_room(data)
        held = self._spoken.open_segment
        if held is None:
            data, self._carry = self._carry + data, b""
            if len(data) < self._audio.item_bytes:
                self._carry = data
                return self.next_segment
            self._newest = self.next_segment
            held = self._spoken.begin(self._newest)
        held.audio += data
        try:
            await session.push_audio(data)
        except SessionClosedError:
            self._check_open()
        return held.segment_id

    async def end_segment(self) -> int | None:
        """As `Session.end_segment`; None also while the session is lost."""
        self._check_open()
        await self._settled.wait()
        self._carry = b""
        held = self._spoken.open_segment
        if self._session is None or held is None:
            return None
        held.is_ended = True
        try:
            await self._session.end_segment()
        except SessionClosedError:
            self._check_open()
        return held.segment_id

    async def clear(self) -> None:
        """As `Session.clear`. If the connection is gone, no `Cleared` follows."""
        self._check_open()
        self._spoken.clear()
        self._carry = b""
        if self._saying is not None:
            self._saying.cancel()
        if self._session is None:
            return
        try:
            await self._session.clear()
        except SessionClosedError:
            self._check_open()

    async def finish(self) -> None:
        """End sending: the server makes the queued frames and ends the session."""
        self._is_finished = True
        if self.is_lost:
            await self.close()
        # Otherwise it is finished when everything is said again.
        elif self._session is not None and self._settled.is_set():
            await self._session.finish()

    async def close(self) -> None:
        """Cancel the rest of the session."""
        self._is_closed = True
        self._settled.set()
        if self._saying is not None:
            self._saying.cancel()
        for session in (self._session, self._fresh):
            if session is not None:
                await session.close()

    def __aiter__(self) -> AsyncIterator[LastingEvent]:
        """Iterate over the events until the session is finished or closed."""
        return self

    async def __anext__(self) -> LastingEvent:
        """Wait for the next event; open the session again where it was lost.

        Raises `CallError` for a refusal that would come again, and after `Retry.give_up_after_s`.
        """
        if self._is_resuming:
            return await self._resume()
        if self._session is None:
            if self._error is not None and self._error.is_final:
                raise self._error
            return await self._restore()
        try:
            event = await anext(self._session)
        except (CallError, ProtocolError) as failure:
            if self._is_closed:
                raise
            self._end(_call_error(failure), isinstance(failure, CallError))
            return await self._resume() if self._is_resuming else self._lose()
        return self._continued(event)

    async def _connect(self) -> None:
        session, self._fresh = self._fresh, None
        if session is None:
            session = self._make(self._next_index, b"")
            await session.__aenter__()
        if self._is_closed:
            await session.close()
            raise StopAsyncIteration
        self._segments_before = self._newest
        self._pts_before_us = self._next_pts_us
        self._has_begun = True
        self._take(session)

    def _take(self, session: Session) -> None:
        self._session, self._opened = session, session.opened
        self._connected_at = time.monotonic()
        self._has_shown = False
        self._token = session.opened.resume_token
        self._spoken.opened(session.opened)

    async def _restore(self) -> Restored:
        while not self._is_closed:
            if self._wait_s and self._fresh is None:
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

    def _end(self, error: CallError, may_go_on: bool) -> None:
        """Book that the session has ended so."""
        self._session, self._error, self._lost_at = None, error, time.monotonic()
        was_short = self._lost_at - self._connected_at < self._retry.longest_s
        # One that was resumed, and then lost before it could show anything, is not resumed again.
        in_vain = was_short and self.opened.resumed is not None and not self._has_shown
        self._is_resuming = bool(
            may_go_on
            and self._token
            and self._retry.resume_within_s > 0
            and error.code in _CUT
            and not in_vain
        )
        if self._is_resuming:
            self._settled.clear()
        # A server that ends every session at once must not be asked in a tight loop.
        if was_short:
            self._wait_longer(error)
        else:
            self._wait_s = 0.0

    def _lose(self) -> Lost:
        """Give up what was said."""
        assert self._error is not None
        self._is_resuming = False
        self._settled.set()
        self._carry = b""
        unplayed = self._spoken.unplayed()
        self._spoken.clear()
        return Lost(self._error, unplayed)

    async def _resume(self) -> Resumed | Lost:
        """Go on where the session was lost, or give up."""
        wait_s = 0.0
        while not self._is_closed:
            left_s = self._lost_at + self._retry.resume_within_s - time.monotonic()
            if left_s <= wait_s:
                return self._lose()
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311
            wait_s = max(self._retry.first_s, 2 * wait_s)
            session = self._make(self._next_index, self._token)
            try:
                async with asyncio.timeout(left_s):
                    await session.__aenter__()
            except (CallError, ProtocolError, TimeoutError) as failure:
                if isinstance(failure, CallError) and failure.is_final:
                    self._error = failure
                    return self._lose()
                continue
            if self._is_closed:
                await session.close()
                break
            resumed = session.opened.resumed
            if resumed is None:
                self._fresh = session
                return self._lose()
            if (said := self._said_in(resumed)) is None:
                await session.close()
                return self._lose()
            self._is_resuming = False
            self._take(session)
            self._saying = asyncio.create_task(self._say_again(session, said))
            return Resumed(session.opened, time.monotonic() - self._lost_at)
        raise StopAsyncIteration

    def _said_in(self, resumed: Resumption) -> list[Segment] | None:
        """Return what a session must hear to go on; None where that is not here any more."""
        segment_id = resumed.segment_id and resumed.segment_id + self._segments_before
        return self._spoken.again(segment_id, resumed.first_item)

    async def _say_again(self, session: Session, said: list[Segment]) -> None:
        """Say what was said and not shown."""
        before = self._segments_before
        try:
            # The connection may be gone again: whoever takes events will learn it.
            with contextlib.suppress(SessionClosedError):
                session.resume(self._newest - before)
                for segment in said:
                    segment_id = segment.segment_id - before
                    await session.push_again(segment_id, segment.n_dropped, segment.audio)
                    if segment.is_ended:
                        await session.end_segment()
                if self._is_finished:
                    await session.finish()
        finally:
            if self._session is session:
                self._settled.set()

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
                self._has_shown = True
                self._token = event.resume_token or self._token
                self._spoken.shown(event)
            case SegmentEnd():
                event = SegmentEnd(event.segment_id + self._segments_before, event.n_frames)
                self._spoken.ended(event.segment_id)
            case Cleared() if event.last_pts_us is not None:
                event = Cleared(event.last_pts_us + self._pts_before_us, event.last_audio_time_us)
            case _:
                pass
        return event

    async def _present(self, wait: bool) -> Session:
        self._check_open()
        if not wait and not self._settled.is_set():
            window_s = float(self.opened.max_buffered_audio_s)
            raise WindowFullError(window_s, window_s)
        await self._settled.wait()
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
