"""Rest: now and then nobody calls and no model is loaded. What the process has then, it keeps for ever.

Under load the memory goes up and down by hundreds of megabytes as models come and go, so that no run can tell a
megabyte an hour there. At rest it can."""

import asyncio
import contextlib

SETTLE_S = 25.0
"""The server gives free pages back every ten seconds: two of those, and a little."""
PATIENCE_S = 120.0
"""For the longest call to end."""


class Gate:
    """Clients work inside; while it is shut none begins, and those inside end what they do."""

    def __init__(self):
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._inside = 0

    @property
    def is_open(self):
        """Whether work may go on."""
        return self._open.is_set()

    @contextlib.asynccontextmanager
    async def work(self):
        """Wait until it is open, and be inside."""
        await self._open.wait()
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._empty.set()

    @contextlib.asynccontextmanager
    async def shut(self):
        """Shut it, wait until nobody is inside, and open it again at the end."""
        self._open.clear()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._empty.wait()
            yield
        finally:
            self._open.set()


async def rest(load, server):
    """Unload everything while nobody calls; return what the process has then."""
    async with load.gate.shut():
        async with load.client("ops") as client:
            for model in await client.list_models():
                await client.unload_model(model.model_id)
            held = {model.model_id: model.reserved_bytes for model in await client.list_models() if model.reserved_bytes}
            if held:
                raise SystemExit(f"still held at rest: {held}")
        await asyncio.sleep(SETTLE_S)
        return server.sample(load.now())
