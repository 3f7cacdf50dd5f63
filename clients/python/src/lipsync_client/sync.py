"""The client for programs without asyncio.

A thread of this module runs the event loop; every call waits for its answer. Calls may come from
any thread, so one may speak while another takes frames.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc

from .audio import AudioFormat, Bytes
from .channel import ANSWER_TIMEOUT_S, PING_INTERVAL_S, PING_TIMEOUT_S
from .client import Client
from .events import Event, Frame, Opened
from .options import Output, Pacing, Priority
from .session import Session

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Loop:
    """An event loop in a thread, for all clients of the process.

    grpcio shares one poller among event loops, and fills the log with errors when one of them is
    closed. So this one never is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                run = self._loop.run_forever
                threading.Thread(target=run, name="lipsync-client", daemon=True).start()
            return self._loop

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a coroutine. If the waiting is interrupted, it is cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


_LOOP = _Loop()


async def _next(events: AsyncIterator[_T]) -> _T | None:
    """Return the next one, or None: `StopAsyncIteration` does not pass through a future."""
    return await anext(events, None)


def _client_call(
    method: Callable[Concatenate[Client, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate["SyncClient", _P], _T]:
    @functools.wraps(method)
    def call(self: "SyncClient", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return _LOOP.run(method(self._open_client(), *args, **kwargs))

    return call


def _session_call(
    method: Callable[Concatenate[Session, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate["SyncSession", _P], _T]:
    @functools.wraps(method)
    def call(self: "SyncSession", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return _LOOP.run(method(self._session, *args, **kwargs))

    return call


class SyncSession:
    """A `Session` whose calls block: a context manager, and an iterator over events."""

    push_audio = _session_call(Session.push_audio)
    end_segment = _session_call(Session.end_segment)
    clear = _session_call(Session.clear)
    finish = _session_call(Session.finish)
    close = _session_call(Session.close)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> "SyncSession":
        """Open the session; return when the server has accepted it."""
        _LOOP.run(self._session.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel the rest of the session."""
        self.close()

    @property
    def opened(self) -> Opened:
        """What the server said: frame rate, size, look-ahead, limits."""
        return self._session.opened

    def __iter__(self) -> Iterator[Event]:
        """Iterate over the events until the session ends."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event."""
        event = _LOOP.run(_next(aiter(self._session)))
        if event is None:
            raise StopIteration
        return event


class SyncClient:
    """A `Client` whose calls block: a context manager."""

    infer = _client_call(Client.infer)
    wait_until_serving = _client_call(Client.wait_until_serving)
    list_models = _client_call(Client.list_models)
    load_model = _client_call(Client.load_model)
    unload_model = _client_call(Client.unload_model)
    model_stats = _client_call(Client.model_stats)
    server_stats = _client_call(Client.server_stats)

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        ca: str | Path | bytes | None = None,
        metadata: Mapping[str, str] | None = None,
        answer_timeout: float = ANSWER_TIMEOUT_S,
        pings: tuple[float, float] = (PING_INTERVAL_S, PING_TIMEOUT_S),
    ) -> None:
        """Prepare a connection, as `Client` does."""

        async def make() -> Client:
            return Client(
                address,
                credentials=credentials,
                ca=ca,
                metadata=metadata,
                answer_timeout=answer_timeout,
                pings=pings,
            )

        self._client: Client | None = _LOOP.run(make())

    def __enter__(self) -> "SyncClient":
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection, and cancel its calls and sessions. Twice is no error."""
        client, self._client = self._client, None
        if client is not None:
            _LOOP.run(client.close())

    def _open_client(self) -> Client:
        if self._client is None:
            raise RuntimeError("the client is closed")
        return self._client

    def session(
        self,
        model_id: str,
        audio: AudioFormat | None = None,
        *,
        output: Output | None = None,
        pacing: Pacing = Pacing.ASAP,
        idle_frames: bool = False,
        audio_echo: bool = False,
        start_frame_index: int = 0,
        priority: Priority = Priority.DEFAULT,
    ) -> SyncSession:
        """Configure a live session, as `Client.session` does; `with` opens it."""
        session = self._open_client().session(
            model_id,
            audio,
            output=output,
            pacing=pacing,
            idle_frames=idle_frames,
            audio_echo=audio_echo,
            start_frame_index=start_frame_index,
            priority=priority,
        )
        return SyncSession(session)

    def infer_utterance(
        self,
        model_id: str,
        samples: Bytes,
        audio: AudioFormat | None = None,
        *,
        batch: int = 32,
        start_frame_index: int = 0,
        output: Output | None = None,
        priority: Priority = Priority.DEFAULT,
        timeout: float | None = 30.0,
    ) -> Iterator[Frame]:
        """Make all frames of an utterance of any length, as `Client.infer_utterance` does."""
        frames = self._open_client().infer_utterance(
            model_id,
            samples,
            audio,
            batch=batch,
            start_frame_index=start_frame_index,
            output=output,
            priority=priority,
            timeout=timeout,
        )
        while (frame := _LOOP.run(_next(frames))) is not None:
            yield frame
