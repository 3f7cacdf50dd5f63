"""`AvatarSession` in the agent's own process, and what LiveKit makes of our pictures."""

import asyncio

import numpy as np
import pytest
from lipsync_client import CallError, Client, Output, OutputFormat
from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.testing import fake_job_context
from rooms import pair
from wire import audio

from lipsync_livekit import AvatarSession, FaceGenerator


async def test_it_starts_speaks_and_leaves_no_task(server: str, speech: bytes) -> None:
    before = asyncio.all_tasks()
    agent, _ = pair()
    with fake_job_context(room=agent.room):
        session: AgentSession[None] = AgentSession()
        avatar = AvatarSession(server, "mira", sample_rate=16_000)
        await avatar.start(session, agent.room)
        assert avatar.avatar_identity == "agent"
        with pytest.raises(RuntimeError, match="before"):
            await avatar.start(session, agent.room)
        output = session.output.audio
        assert output is not None
        assert output.sample_rate == 16_000
        for _ in range(2):
            await output.capture_frame(audio(speech[:16_000]))
            output.flush()
            end = await output.wait_for_playout()
            assert not end.interrupted
            assert end.playback_position == pytest.approx(0.5)
        # A segment without a sample ends, too.
        await output.capture_frame(audio(b""))
        output.flush()
        assert (await output.wait_for_playout()).playback_position == 0
        # In the middle of a segment.
        await output.capture_frame(audio(speech))
        await avatar.wait_for_join(timeout=60)
        await avatar.aclose()
        await avatar.aclose()
        assert not agent.room.remote_participants["avatar"].method_calls
        await session.aclose()
    leftover = asyncio.all_tasks() - before
    for task in leftover:
        # LiveKit's own publishers end a moment after they are cancelled.
        await asyncio.wait([task], timeout=5)
    assert {task for task in leftover if not task.done()} == set()


async def test_without_a_server_the_agent_stays_as_it_was() -> None:
    agent, _ = pair()
    session: AgentSession[None] = AgentSession()
    avatar = AvatarSession("127.0.0.1:1", "mira", answer_timeout=1.0)
    with pytest.raises(CallError):
        await avatar.start(session, agent.room)
    assert session.output.audio is None
    await avatar.aclose()


def test_pictures_in_full_range_are_refused() -> None:
    agent = AvatarSession("127.0.0.1:1", "mira", format=OutputFormat.I420)
    del agent
    with pytest.raises(ValueError, match="I420_LIMITED_BT601"):
        FaceGenerator.__init__(
            object.__new__(FaceGenerator),
            None,  # type: ignore[arg-type]
            "mira",
            format=OutputFormat.I420,
        )


def test_white_is_white_after_livekits_conversion() -> None:
    def grey(luma: int) -> int:
        planes = bytes([luma]) * (16 * 16) + bytes([128]) * (2 * 8 * 8)
        frame = rtc.VideoFrame(16, 16, rtc.VideoBufferType.I420, planes)
        return bytes(frame.convert(rtc.VideoBufferType.RGB24).data)[0]

    # What crates/compositor makes of white and black in limited range.
    assert (grey(235), grey(16)) == (255, 0)


async def test_livekit_shows_the_servers_colours(client: Client, speech: bytes) -> None:
    async def first(format: OutputFormat) -> "np.typing.NDArray[np.int64]":
        made = await client.infer("mira", speech[:1_280], output=Output(format=format))
        frame = made.frames[0]
        size = (frame.height, frame.width, 3)
        data: bytes | bytearray = frame.data
        if format is not OutputFormat.RGB:
            planes = rtc.VideoFrame(frame.width, frame.height, rtc.VideoBufferType.I420, frame.data)
            data = bytes(planes.convert(rtc.VideoBufferType.RGB24).data)
        return np.frombuffer(data, np.uint8).reshape(size).astype(int)

    rgb = await first(OutputFormat.RGB)
    limited = await first(OutputFormat.I420_LIMITED_BT601) - rgb
    full = await first(OutputFormat.I420) - rgb
    # No bias, and an error of the halved chroma alone.
    assert np.abs(limited.mean(axis=(0, 1))).max() < 0.7
    assert np.abs(limited).mean() < 1.5
    # The full range is what came out wrong before.
    assert np.abs(full).mean() > 3 * np.abs(limited).mean()
