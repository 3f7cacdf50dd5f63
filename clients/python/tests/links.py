"""What may stand between a client and a server: TLS, and a link that goes dead."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

TLS = Path(__file__).resolve().parents[3] / "tests/data/tls"
CA = TLS / "ca.pem"


class Link:
    """A TCP proxy that can fall silent: its ends stay connected, and nothing passes any more."""

    def __init__(self, server: str) -> None:
        self.address = ""
        self._server = server
        self._alive = asyncio.Event()
        self._alive.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def die(self) -> None:
        self._alive.clear()

    def move(self, server: str) -> None:
        """Pass whoever connects from now on to another server."""
        self._server = server

    def cut(self) -> None:
        """Drop what is connected; whoever connects again gets through."""
        self.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._alive.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._server.rsplit(":", 1)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        for pair in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pass(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def link(server: str, *, tls: bool = False) -> AsyncIterator[Link]:
    """Listen, and pass what comes to `server`; with `tls` the near end speaks it."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem", TLS / "server-key.pem")
        context.set_alpn_protocols(["h2"])
    made = Link(server)
    listener = await asyncio.start_server(made.accept, "127.0.0.1", 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    made.address = f"127.0.0.1:{port}"
    try:
        yield made
    finally:
        made.close()
        listener.close()
