"""A real server for the tests: the demo avatar on a port of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from servers import REPOSITORY, find_binary, running
from speech import read_speech

from lipsync_client import Client


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """LIPSYNC_SERVER_BIN, or what cargo builds."""
    return find_binary()


@pytest.fixture(scope="session")
def server(server_binary: Path) -> Iterator[str]:
    """The address of a server with small limits, which the tests reach."""
    limits = {"SESSION__MAX_BUFFERED_AUDIO_S": "2", "SESSION__MAX_SESSIONS": "4"}
    with running(server_binary, **limits) as (address, _):
        yield address


@pytest.fixture
async def client(server: str) -> AsyncIterator[Client]:
    """A connection to it."""
    async with Client(server) as client:
        await client.wait_until_serving()
        yield client


@pytest.fixture(scope="session")
def speech() -> bytes:
    """A second and a half of a sentence, 16 kHz mono."""
    return read_speech(REPOSITORY / "assets/speech/welcome.wav")[: 2 * 24_000 + 2 * 77]
