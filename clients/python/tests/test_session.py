"""Live sessions, against a real server."""

import asyncio
import signal
from pathlib import Path

import grpc
import pytest
from servers import running
from speech import frames, rest, take_frames, until

from lipsync_client import (
    CallError,
    ChunkTooLargeError,
    Cleared,
    Client,
    Frame,
    Pacing,
    PcmS16,
    SegmentEnd,
    SessionClosedError,
    WindowFullError,
    Windows,
    WrongAudioError,
)


@pytest.mark.parametrize("chunk_bytes", [320, 10_002, 1_000_000])
async def test_a_session_gives_the_frames_of_one_unary_call(
    client: Client, speech: bytes, chunk_bytes: int
) -> None:
    whole = await client.infer("mira", speech)
    async with client.session("mira") as session:
        assert session.opened.fps == 25
        assert session.opened.request_id
        for start in range(0, len(speech), chunk_bytes):
            assert await session.push_audio(speech[start : start + chunk_bytes]) == 1
        assert await session.end_segment() == 1
        await session.finish()
        events = await rest(session)
    assert [f.data for f in frames(events)] == [f.data for f in whole.frames]
    assert [f.audio_time_us for f in frames(events)] == [f.pts_us for f in whole.frames]
    assert events[-1] == SegmentEnd(1, len(whole.frames))


async def test_segments_number_themselves(client: Client, speech: bytes) -> None:
    async with client.session("mira") as session:
        assert await session.end_segment() is None
        for segment_id in (1, 2):
            assert await session.push_audio(speech[:6_400]) == segment_id
            assert await session.end_segment() == segment_id
        await session.finish()
        seen = [(f.segment_id, f.pts_us // 40_000) for f in frames(await rest(session))]
    assert seen == [(1 + n // 5, n) for n in range(10)]


async def test_after_clear_nothing_of_before_is_given(client: Client, speech: bytes) -> None:
    for n_seen in range(4):
        async with client.session("mira") as session:
            await session.push_audio(speech)
            last_pts_us = -1
            for _ in range(n_seen):
                frame = await anext(session)
                assert isinstance(frame, Frame)
                last_pts_us = frame.pts_us
            await session.clear()
            assert await session.push_audio(speech[:3_200]) == 2
            await session.finish()
            cleared = await anext(session)
            assert isinstance(cleared, Cleared)
            assert (-1 if cleared.last_pts_us is None else cleared.last_pts_us) >= last_pts_us
            after = frames(await rest(session))
        assert [frame.segment_id for frame in after] == [2, 2, 2]


async def test_a_sender_waits_for_room(client: Client, speech: bytes) -> None:
    # The server of these tests holds 2 seconds.
    long = speech * 4
    async with client.session("mira") as session:

        async def speak() -> None:
            await session.push_audio(long)
            await session.finish()

        await session.push_audio(long[:32_000])
        with pytest.raises(WindowFullError):
            await session.push_audio(long[:48_000], wait=False)
        with pytest.raises(ChunkTooLargeError, match=r"6\.\d\d s .* at most 2\.00 s"):
            await session.push_audio(long, wait=False)
        await session.clear()
        assert isinstance(await anext(session), Cleared)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speak())
            seen = tasks.create_task(rest(session))
    assert len(frames(seen.result())) == -(-len(long) // 2 * 25 // 16_000)


async def test_the_echo_of_a_session_is_its_audio(client: Client, speech: bytes) -> None:
    # 22.05 kHz: frames have 882 samples each; the last one has what is left.
    audio = PcmS16(rate_hz=22_050)
    async with client.session("mira", audio, audio_echo=True) as session:
        for start in range(0, len(speech), 2_222):
            await session.push_audio(speech[start : start + 2_222])
        await session.end_segment()
        await session.push_audio(speech[:4_000])
        await session.finish()
        seen = frames(await rest(session))
    for segment_id, said in ((1, speech), (2, speech[:4_000])):
        heard = b"".join(f.audio for f in seen if f.segment_id == segment_id)
        assert heard == said
    assert len(seen[0].audio) == 882 * 2


async def test_paced_frames_leave_at_their_time(client: Client, speech: bytes) -> None:
    loop = asyncio.get_running_loop()
    whole = await client.infer("mira", speech)
    async with client.session("mira", pacing=Pacing.REALTIME) as session:
        await session.push_audio(speech)
        await session.finish()
        arrivals = []
        seen = []
        async for event in session:
            if isinstance(event, Frame):
                arrivals.append(loop.time())
                seen.append(event)
    assert [f.audio_time_us for f in seen] == [f.pts_us for f in whole.frames]
    # A slow machine may be later than this, and skip the network then; never earlier.
    duration_s = (len(seen) - 1) / session.opened.fps
    assert arrivals[-1] - arrivals[0] > 0.8 * duration_s
    for frame, alone in zip(seen, whole.frames, strict=True):
        assert not frame.generated or frame.data == alone.data


async def test_idle_frames_come_without_audio(client: Client, speech: bytes) -> None:
    async with client.session("mira", pacing=Pacing.REALTIME, idle_frames=True) as session:
        assert all(f.audio_time_us is None for f in await take_frames(session, 3))
        await session.push_audio(speech)
        await session.end_segment()
        spoken = []
        async for event in session:
            if isinstance(event, Frame) and event.segment_id == 1:
                spoken.append(event)
            if isinstance(event, SegmentEnd):
                break
        assert [f.audio_time_us for f in spoken] == [n * 40_000 for n in range(len(spoken))]
        assert len(spoken) == -(-len(speech) // 2 * 25 // 16_000)
        # The mouth comes to rest in a few frames, which the network has a part in.
        after = await take_frames(session, 25)
    assert all(f.audio_time_us is None for f in after)
    assert not all(f.generated for f in after)


async def test_cancelled_calls_do_no_harm(client: Client, speech: bytes) -> None:
    async with client.session("mira") as session:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(session), 0.01)
        with pytest.raises(TimeoutError):
            # Nobody takes frames, so this waits for ever.
            await asyncio.wait_for(session.push_audio(speech * 8), 0.2)
        await session.clear()
        assert await session.push_audio(speech[:1_280]) == 2
        await session.finish()
        events = await rest(session)
    assert [frame.segment_id for frame in frames(events)] == [2]


async def test_a_session_that_is_left_is_given_back(client: Client, speech: bytes) -> None:
    async def none_is_left() -> bool:
        return (await client.server_stats()).sessions == 0

    async with client.session("mira") as session:
        await session.push_audio(speech)
        await anext(session)
    await until("the session that was left is gone", none_is_left)
    with pytest.raises(SessionClosedError):
        await session.push_audio(speech)


async def test_a_cancelled_task_gives_its_session_back(client: Client, speech: bytes) -> None:
    speaking = asyncio.Event()

    async def talk() -> None:
        async with client.session("mira") as session:
            await session.push_audio(speech)
            async for _ in session:  # Never ends: the segment does not.
                speaking.set()

    async def none_is_left() -> bool:
        return (await client.server_stats()).sessions == 0

    task = asyncio.create_task(talk())
    await asyncio.wait_for(speaking.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until("the session of the task is gone", none_is_left)


async def test_refusals_are_typed(client: Client, speech: bytes) -> None:
    with pytest.raises(CallError) as refused:
        async with client.session("nobody"):
            pass
    assert refused.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(CallError) as refused:
        async with client.session("mira", PcmS16(rate_hz=7)):
            pass
    assert [v.field for v in refused.value.violations] == ["open.sample_rate_hz"]
    assert refused.value.request_id
    async with client.session("mira", Windows()) as session:
        with pytest.raises(WrongAudioError):
            await session.push_audio(b"abc")
    async with client.session("mira") as session:
        await session.push_audio(speech[:640])
        await session.finish()
        with pytest.raises(SessionClosedError):
            await session.clear()
        assert len(frames(await rest(session))) == 1


async def test_sessions_that_were_refused_or_ended_leave_no_task(
    client: Client, server_binary: Path, speech: bytes
) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(CallError):
        await client.session("nobody").__aenter__()
    with running(server_binary) as (address, process):
        async with Client(address) as other:
            session = other.session("mira", pacing=Pacing.REALTIME)
            await session.__aenter__()
            await session.push_audio(speech)
            process.kill()
            # Whoever looks away from its end need not close it.
            with pytest.raises(CallError):
                await rest(session)
    for task in asyncio.all_tasks() - before:
        # grpcio's own end a moment after their call.
        await asyncio.wait([task], timeout=5)
        assert task.done(), task


async def test_too_many_sessions_are_told_when_to_come_back(client: Client) -> None:
    async with (
        client.session("mira"),
        client.session("mira"),
        client.session("mira"),
        client.session("mira"),
    ):
        with pytest.raises(CallError) as refused:
            async with client.session("mira"):
                pass
    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 0


async def test_a_server_that_shuts_down_says_so(server_binary: Path, speech: bytes) -> None:
    with running(server_binary) as (address, process):
        async with Client(address) as client:
            await client.wait_until_serving()
            async with client.session("mira") as session:
                await session.push_audio(speech)
                await anext(session)
                process.send_signal(signal.SIGTERM)
                with pytest.raises(CallError) as ended:
                    await rest(session)
                with pytest.raises(SessionClosedError):
                    await session.push_audio(speech)
            assert ended.value.code is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(process.wait, 60) == 0
