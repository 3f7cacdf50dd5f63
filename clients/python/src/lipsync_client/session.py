"""One live session."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TypeAlias

import grpc
import grpc.aio

from .audio import AudioFormat, Bytes, Pcm, Steps, whole_items
from .errors import (
    CallError,
    EndedWhileSendingError,
    LipsyncError,
    ProtocolError,
    SessionClosedError,
    call_error,
)
from .events import (
    Event,
    Opened,
    SegmentEnd,
    ServerWarning,
    cleared_from_proto,
    frame_from_proto,
    opened_from_proto,
)
from .ledger import Ledger
from .v1 import lipsync_pb2 as pb
from .v1 import lipsync_pb2_grpc as rpc

_Call: TypeAlias = grpc.aio.StreamStreamCall[pb.StreamCompositeRequest, pb.StreamCompositeResponse]

_OUTGOING = 2
"""Messages between `push_audio` and the connection. Few, so that an interruption overtakes nothing
but what the connection has taken already."""
_OPEN_ATTEMPTS = 3
_INCOMING = 4
"""Messages between the connection and who takes events. Few: a slow reader shall be felt."""


class Session:
    """One live session: audio in, frames out; made by `Client.session`.

    An asynchronous context manager that opens the session and, at the end, cancels what is left of
    it; and an asynchronous iterator over what the server sends, until the session ends.

    An utterance is a *segment*: it begins with its first audio and ends with `end_segment`, which
    makes the frames that still waited for audio to come. Calls may be cancelled (by
    `asyncio.wait_for`, for example) without harm to the session. One task may speak while another
    takes events; two tasks that speak at the same time would mix their audio.
    """

    def __init__(
        self,
        stub: "rpc.LipSyncAsyncStub",
        audio: AudioFormat,
        request: pb.OpenSession,
        metadata: tuple[tuple[str, str], ...],
        open_timeout: float,
    ) -> None:
        self._stub = stub
        self._audio = audio
        self._request = request
        self._metadata = metadata
        self._open_timeout = open_timeout
        self._call: _Call | None = None
        self._opened: Opened | None = None
        self._ledger: Ledger | None = None
        self._outgoing: asyncio.Queue[pb.StreamCompositeRequest | None] = asyncio.Queue(_OUTGOING)
        self._incoming: asyncio.Queue[pb.StreamCompositeResponse | None] = asyncio.Queue(_INCOMING)
        self._reader: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()  # Something changed for who waits to send.
        self._carry = b""  # The beginning of a sample whose rest has not been pushed.
        self._finished = False
        self._over = False
        self._error: LipsyncError | None = None

    async def __aenter__(self) -> "Session":
        """Open the session; return when the server has loaded the model and accepted.

        Raises `CallError` when it does not, or not within the client's `answer_timeout`.
        """
        try:
            async with asyncio.timeout(self._open_timeout):
                call, first = await self._open()
        except TimeoutError:
            await self.close()
            raise CallError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"the session was not opened within the client's limit of {self._open_timeout} s",
            ) from None
        except BaseException:
            await self.close()
            raise
        self._opened = opened_from_proto(first.opened, await _request_id(call))
        self._ledger = Ledger(self._audio, self._opened)
        self._reader = asyncio.create_task(self._read_all(call))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel the rest of the session."""
        await self.close()

    async def _open(self) -> tuple[_Call, pb.StreamCompositeResponse]:
        """Make the call; return it and the server's first message."""
        for attempt in range(_OPEN_ATTEMPTS):
            # Its own, so that what serves the call before cannot take a message from it.
            self._outgoing = asyncio.Queue(_OUTGOING)
            requests = self._requests(self._outgoing)
            self._call = self._stub.StreamComposite(requests, metadata=self._metadata)
            try:
                first = await self._read(self._call)
            except EndedWhileSendingError:
                # A refusal met `open` on its way, and grpcio has lost it. Nothing has begun.
                self._end_requests()
                if attempt + 1 == _OPEN_ATTEMPTS:
                    raise
                continue
            if isinstance(first, pb.StreamCompositeResponse) and first.HasField("opened"):
                return self._call, first
            break
        raise ProtocolError("the first message was not `opened`")

    @property
    def opened(self) -> Opened:
        """What the server said: frame rate, size, look-ahead, limits."""
        if self._opened is None:
            raise SessionClosedError("the session was not opened: use `async with`")
        return self._opened

    @property
    def next_segment(self) -> int:
        """The id of the segment that audio would belong to now: the open one, or a new one."""
        return 1 if self._ledger is None else self._ledger.current

    @property
    def is_over(self) -> bool:
        """Whether the server or the connection has ended it; events may still be waiting."""
        return self._over

    async def push_audio(self, audio: Bytes, *, wait: bool = True) -> int:
        """Send audio in the announced format, of any length; return the id of its segment.

        The first audio, and the first after `end_segment` or `clear`, begins a segment. Samples may
        be cut anywhere, as they come from a pipe or a socket: the beginning of one waits here for
        its rest.

        While the server holds as much audio as it may (`opened.max_buffered_audio_s`) this waits
        for frames to come back, so somebody must take events meanwhile; with `wait=False` it raises
        `WindowFullError` at once and sends nothing, or `ChunkTooLargeError` where the audio is more
        than the server will ever hold. A call that is cancelled while it waits has
        sent a part of its audio; `clear` or `end_segment` may follow.

        Raises `WrongAudioError` for parts of feature steps or windows, `SessionClosedError` when
        the session is over.
        """
        ledger = self._open_ledger()
        view, carry = self._joined(audio)
        item_bytes = self._audio.item_bytes
        if not wait:
            self.check_room(audio)
        # Where this is cancelled the audio is lost, and the beginning of a sample with it.
        self._carry = b""
        while view.nbytes:
            n_items = 0
            if not self._outgoing.full():
                n_items = ledger.grant(view.nbytes // item_bytes)
            if n_items == 0:
                await self._changed()
                continue
            piece, view = view[: n_items * item_bytes], view[n_items * item_bytes :]
            self._outgoing.put_nowait(self._chunk(ledger.newest, bytes(piece)))
        self._carry = carry
        return ledger.current if carry else ledger.newest

    def check_room(self, audio: Bytes) -> None:
        """Refuse audio that could not be sent at once.

        Raises `WindowFullError`, `ChunkTooLargeError`, or `SessionClosedError`.
        """
        view, _ = self._joined(audio)
        self._open_ledger().check_room(view.nbytes // self._audio.item_bytes)

    def resume(self, newest: int) -> None:
        """Count segments on from `newest`: the session goes on with another one."""
        self._open_ledger().resume(newest)

    async def push_again(self, segment_id: int, first_item: int, audio: Bytes) -> None:
        """Say a segment of the session before this one again, from an item on."""
        self._open_ledger().begin_at(segment_id, first_item)
        await self.push_audio(audio)

    async def end_segment(self) -> int | None:
        """End the utterance: its tail is made. Return its id; None when none is under way.

        If the audio ends inside a sample, the server warns (`audio_truncated`).

        Raises `SessionClosedError` when the session is over.
        """
        ledger = self._open_ledger()
        await self._send_carry(ledger)
        await self._place()
        ended = ledger.end_segment()
        if ended is not None:
            end = pb.EndSegment(segment_id=ended)
            self._outgoing.put_nowait(pb.StreamCompositeRequest(end_segment=end))
        return ended

    async def clear(self) -> None:
        """Interrupt: drop all audio and frames on their way.

        It returns at once. From then on no interrupted frame follows, and `Cleared` comes once the
        server has confirmed.

        Raises `SessionClosedError` when the session is over.
        """
        ledger = self._open_ledger()
        await self._place()
        ledger.clear()
        self._carry = b""
        self._outgoing.put_nowait(pb.StreamCompositeRequest(clear=pb.Clear()))
        self._bell.set()

    async def finish(self) -> None:
        """End sending: the server makes the queued frames and ends the session."""
        if self._finished or self._over:
            return
        if self._ledger is not None:
            await self._send_carry(self._ledger)
        await self._place()
        self._finished = True
        self._outgoing.put_nowait(None)

    async def close(self) -> None:
        """Cancel the rest of the session."""
        self._end()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._call is not None:
            self._call.cancel()
        self._end_requests()
        while not self._incoming.empty():
            self._incoming.get_nowait()
        self._incoming.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over the events until the session ends."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event.

        Raises `CallError` when the server ends the session, `ProtocolError` when it breaks the
        contract; after either there is nothing more.
        """
        while True:
            if self._incoming.empty() and (self._over or self._reader is None):
                raise self._take_error() or StopAsyncIteration
            message = await self._incoming.get()
            if message is None:
                raise self._take_error() or StopAsyncIteration
            try:
                event = self._event(message)
            except ProtocolError as error:
                self._error = error
                await self.close()
                raise
            self._bell.set()
            if event is not None:
                return event

    def _event(self, message: pb.StreamCompositeResponse) -> Event | None:
        """Book a message; None for what was interrupted, and for what is not known here."""
        ledger = self._ledger
        if ledger is None:
            return None
        match message.WhichOneof("message"):
            case "frame":
                return frame_from_proto(message.frame) if ledger.book_frame(message.frame) else None
            case "segment_end":
                end = message.segment_end
                wanted = ledger.book_end(end.segment_id)
                return SegmentEnd(end.segment_id, end.n_frames) if wanted else None
            case "cleared":
                ledger.confirm_clear()
                return cleared_from_proto(message.cleared)
            case "warning":
                return ServerWarning(message.warning.code, message.warning.text)
            case "opened":
                raise ProtocolError("the session was opened twice")
        return None

    def _joined(self, audio: Bytes) -> tuple[memoryview, bytes]:
        """Return the whole items that there are now, and the beginning of one more sample."""
        if not isinstance(self._audio, Pcm):
            return whole_items(self._audio, audio), b""
        view = memoryview(audio).cast("B")
        if self._carry and view.nbytes:
            view = memoryview(self._carry + bytes(view))
        elif self._carry:
            return view, self._carry
        n_whole = view.nbytes - view.nbytes % self._audio.item_bytes
        return view[:n_whole], bytes(view[n_whole:])

    async def _send_carry(self, ledger: Ledger) -> None:
        """Tell the server of a sample that ends before its end: it warns and drops it."""
        # Without a segment there is nothing that it could end.
        if self._carry and ledger.open_segment is not None:
            await self._place()
            self._outgoing.put_nowait(self._chunk(ledger.open_segment, self._carry))
        self._carry = b""

    def _chunk(self, segment_id: int, data: bytes) -> pb.StreamCompositeRequest:
        if isinstance(self._audio, Pcm):
            chunk = pb.AudioChunk(segment_id=segment_id, pcm=data)
        elif isinstance(self._audio, Steps):
            chunk = pb.AudioChunk(segment_id=segment_id, steps=data)
        else:
            chunk = pb.AudioChunk(segment_id=segment_id, windows=data)
        return pb.StreamCompositeRequest(audio=chunk)

    def _open_ledger(self) -> Ledger:
        if self._ledger is None or self._over or self._finished:
            raise SessionClosedError("the session takes nothing more") from self._error
        return self._ledger

    async def _place(self) -> None:
        """Wait for a place in front of the connection: what is booked after it is also sent."""
        while self._outgoing.full():
            await self._changed()

    async def _changed(self) -> None:
        """Wait until there may be room or a place, or until the session is over."""
        self._bell.clear()
        await self._bell.wait()
        if self._over:
            raise SessionClosedError("the session is over") from self._error

    async def _requests(
        self, outgoing: asyncio.Queue[pb.StreamCompositeRequest | None]
    ) -> AsyncIterator[pb.StreamCompositeRequest]:
        # At once: a proxy such as nginx may hold back the server's headers until it comes.
        yield pb.StreamCompositeRequest(open=self._request)
        while (message := await outgoing.get()) is not None:
            self._bell.set()
            yield message

    def _end_requests(self) -> None:
        """Let go of grpcio's task, which waits for the next request even if the call has ended."""
        # Where there is no room it does not wait: it sends, and that fails.
        if not self._outgoing.full():
            self._outgoing.put_nowait(None)

    async def _read(self, call: _Call) -> object:
        """Wait for the next message; `grpc.aio.EOF` at the end."""
        try:
            return await call.read()
        except grpc.aio.AioRpcError as error:
            raise call_error(error, await _request_id(call)) from None

    async def _read_all(self, call: _Call) -> None:
        """Take messages off the connection.

        A task of its own, because a read of grpcio that is cancelled cancels its whole call.
        """
        try:
            while isinstance(message := await self._read(call), pb.StreamCompositeResponse):
                await self._incoming.put(message)
        except CallError as error:
            self._error = error
        self._end()
        self._end_requests()
        await self._incoming.put(None)

    def _end(self) -> None:
        """Nothing more will come: a waiting sender must learn it."""
        self._over = True
        self._bell.set()

    def _take_error(self) -> LipsyncError | None:
        """Return why the session ended badly, once."""
        error, self._error = self._error, None
        return error


async def _request_id(call: _Call) -> str | None:
    for key, value in await call.initial_metadata() or ():
        if key == "x-request-id" and isinstance(value, str):
            return value
    return None
