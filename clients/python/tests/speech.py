"""What the tests say, and what they wait for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from lipsync_client import Event, Frame, Session, read_wav

SILENCE = bytes(2 * 16_000)
"""A second of it."""


def read_speech(path: Path) -> bytes:
    wav = read_wav(path)
    assert (wav.rate_hz, wav.n_channels) == (16_000, 1)
    return wav.samples


async def rest(session: Session) -> list[Event]:
    """Everything until the session ends."""
    return [event async for event in session]


def frames(events: Iterable[Event]) -> list[Frame]:
    return [event for event in events if isinstance(event, Frame)]


async def take_frames(session: Session, n_frames: int) -> list[Frame]:
    """The next frames, whatever else comes."""
    seen: list[Frame] = []
    while len(seen) < n_frames:
        event = await anext(session)
        if isinstance(event, Frame):
            seen.append(event)
    return seen


async def until(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition of the server; give up loudly."""
    try:
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # The server has nothing to wait on.
    except TimeoutError:
        raise AssertionError(f"still waiting until {what}") from None
