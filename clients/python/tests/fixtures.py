"""A real server and speech, for the tests of all packages."""

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
def settings() -> dict[str, str]:
    """What the server is started with; a package's conftest may have its own."""
    return {}


@pytest.fixture(scope="session")
def server(server_binary: Path, settings: dict[str, str]) -> Iterator[str]:
    """The address of a server."""
    with running(server_binary, **settings) as (address, _):
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
    return read_speech(REPOSITORY / "assets/speech/welcome.wav")[: 2 * 24_000]
