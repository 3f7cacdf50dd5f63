"""The client for programs without asyncio.

A thread of this module runs the event loop; every call waits for its answer. Calls may come from
any thread, so one may speak while another takes frames.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from .client import Client
from .events import Event, Frame, Opened
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


def _client_init(
    method: Callable[Concatenate[Client, _P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate["SyncClient", _P], None]]:
    def like(init: Callable[..., None]) -> Callable[Concatenate["SyncClient", _P], None]:
        @functools.wraps(method)
        def call(self: "SyncClient", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
            init(self, *args, **kwargs)

        return call

    return like


def _client_session(
    method: Callable[Concatenate[Client, _P], Session],
) -> Callable[Concatenate["SyncClient", _P], "SyncSession"]:
    @functools.wraps(method)
    def call(self: "SyncClient", /, *args: _P.args, **kwargs: _P.kwargs) -> SyncSession:
        return SyncSession(method(self._open_client(), *args, **kwargs))

    return call


def _client_frames(
    method: Callable[Concatenate[Client, _P], AsyncIterator[Frame]],
) -> Callable[Concatenate["SyncClient", _P], Iterator[Frame]]:
    @functools.wraps(method)
    def call(self: "SyncClient", /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[Frame]:
        frames = method(self._open_client(), *args, **kwargs)
        while (frame := _LOOP.run(_next(frames))) is not None:
            yield frame

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

    session = _client_session(Client.session)
    infer_utterance = _client_frames(Client.infer_utterance)

    @_client_init(Client.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        async def make() -> Client:
            return Client(*args, **kwargs)

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
