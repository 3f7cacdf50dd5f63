"""Sessions that go on in the middle of a sentence, on the server that they lost or on another."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from links import link
from servers import running
from speech import frames

from lipsync_client import (
    Cleared,
    Client,
    Failure,
    Frame,
    HeadItem,
    LastingEvent,
    LastingSession,
    Lost,
    Moment,
    Pacing,
    PcmS16,
    Restored,
    Resumed,
    Retry,
    SegmentEnd,
    ServerWarning,
    TalkingHead,
)

QUICK = Retry(first_s=0.05, longest_s=0.2, resume_within_s=10)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What replicas share."""
    file = tmp_path_factory.mktemp("keys") / "resume.key"
    file.write_text("0123456789abcdef" * 4 + "\n")
    return file


@pytest.fixture(scope="module")
def replica(server_binary: Path, key_file: Path) -> Iterator[str]:
    """A server that others hand their sessions to."""
    with running(server_binary, SESSION__RESUME_KEY_FILE=str(key_file)) as (address, _):
        yield address


async def until_frames(session: LastingSession, n_frames: int) -> list[LastingEvent]:
    """Everything up to a number of frames of speech."""
    seen: list[LastingEvent] = []
    while sum(isinstance(e, Frame) and e.audio_time_us is not None for e in seen) < n_frames:
        seen.append(await anext(session))
    return seen


def told(events: list[LastingEvent]) -> list[LastingEvent]:
    """Everything but frames, and warnings of a busy machine."""
    late = "late_frames"
    return [
        event
        for event in events
        if not isinstance(event, Frame)
        and not (isinstance(event, ServerWarning) and event.code == late)
    ]


async def unbroken(address: str, speech: bytes, **options: object) -> list[Frame]:
    """The frames of both sentences, from a session that nothing happens to."""
    async with Client(address) as client, client.session("mira", **options) as session:  # type: ignore[arg-type]
        await session.push_audio(speech)
        await session.end_segment()
        await session.push_audio(speech[:6_400])
        await session.finish()
        return frames([event async for event in session])


@pytest.mark.parametrize("idle_frames", [False, True])
async def test_a_killed_server_costs_no_frame(
    server_binary: Path, key_file: Path, replica: str, speech: bytes, *, idle_frames: bool
) -> None:
    expected = await unbroken(replica, speech, idle_frames=idle_frames)
    settings = {"SESSION__RESUME_KEY_FILE": str(key_file)}
    with running(server_binary, **settings) as (first, process):
        async with (
            link(first) as near,
            Client(near.address) as client,
            client.lasting_session("mira", idle_frames=idle_frames, retry=QUICK) as session,
        ):
            # The tail of an open sentence cannot have come.
            assert await session.push_audio(speech[:40_001]) == 1
            seen = await until_frames(session, 12)
            near.move(replica)
            process.kill()
            seen += await asyncio.wait_for(anext_of(session, Resumed), 60)
            assert not session.is_lost
            assert await session.push_audio(speech[40_001:]) == 1
            assert await session.end_segment() == 1
            assert await session.push_audio(speech[:6_400]) == 2
            await session.finish()
            seen += [event async for event in session]
    ends = [SegmentEnd(1, -(-len(speech) // 1_280)), SegmentEnd(2, 5)]
    (resumed, *rest) = told(seen)
    assert isinstance(resumed, Resumed)
    assert rest == ends
    assert frames(event for event in seen if isinstance(event, Frame)) == expected


async def anext_of(session: LastingSession, kind: type[LastingEvent]) -> list[LastingEvent]:
    """Everything up to the first event of this kind, which is the last."""
    seen: list[LastingEvent] = []
    while not seen or not isinstance(seen[-1], kind):
        seen.append(await anext(session))
    return seen


async def test_a_paced_face_goes_on_without_a_jump(replica: str, speech: bytes) -> None:
    async with (
        link(replica) as near,
        Client(near.address) as client,
        client.lasting_session(
            "mira", pacing=Pacing.REALTIME, idle_frames=True, audio_echo=True, retry=QUICK
        ) as session,
    ):
        await session.push_audio(speech)
        await session.end_segment()
        seen = await until_frames(session, 12)
        near.cut()
        seen += await anext_of(session, SegmentEnd)
    shown = frames(event for event in seen if isinstance(event, Frame))
    assert [frame.index for frame in shown] == list(range(len(shown)))
    assert [frame.pts_us for frame in shown] == [40_000 * n for n in range(len(shown))]
    spoken = [frame for frame in shown if frame.audio_time_us is not None]
    n_frames = -(-len(speech) // 1_280)
    assert [frame.audio_time_us for frame in spoken] == [40_000 * n for n in range(n_frames)]
    assert b"".join(frame.audio for frame in spoken) == speech
    assert [type(event) for event in told(seen)] == [Resumed, SegmentEnd]


async def test_a_server_with_other_keys_begins_anew(
    server: str, replica: str, speech: bytes
) -> None:
    async with (
        link(replica) as near,
        Client(near.address) as client,
        client.lasting_session("mira", retry=QUICK) as session,
    ):
        await session.push_audio(speech)
        seen = await until_frames(session, 12)
        near.move(server)
        near.cut()
        lost = (await anext_of(session, Lost))[-1]
        assert isinstance(lost, Lost)
        (unplayed,) = lost.unplayed
        assert speech.endswith(unplayed.audio)
        assert isinstance(await anext(session), Restored)
        await session.push_audio(unplayed.audio)
        await session.finish()
        seen = [event async for event in session]
    (warning, end) = told(seen)
    assert isinstance(warning, ServerWarning)
    assert warning.code == "resume_refused"
    assert end == SegmentEnd(2, -(-len(unplayed.audio) // 1_280))


async def test_what_was_interrupted_is_not_said_again(replica: str, speech: bytes) -> None:
    async with (
        link(replica) as near,
        Client(near.address) as client,
        client.lasting_session("mira", retry=QUICK) as session,
    ):
        await session.push_audio(speech)
        await until_frames(session, 12)
        near.cut()
        await session.clear()
        (*_, resumed) = await anext_of(session, Resumed)
        assert isinstance(resumed, Resumed)
        assert await session.push_audio(speech[:6_400]) == 2
        await session.finish()
        seen = [event async for event in session]
    assert {frame.segment_id for frame in frames(e for e in seen if isinstance(e, Frame))} == {2}
    assert told(seen)[-1] == SegmentEnd(2, 5)
    assert all(isinstance(event, Cleared | SegmentEnd) for event in told(seen))


async def test_what_is_pushed_meanwhile_waits_and_what_cannot_wait_is_refused(
    replica: str, speech: bytes
) -> None:
    async with (
        link(replica) as near,
        Client(near.address) as client,
        client.lasting_session("mira", retry=QUICK) as session,
    ):
        await session.push_audio(speech[:25_600])
        seen = await until_frames(session, 6)
        near.cut()
        taking = asyncio.create_task(anext_of(session, SegmentEnd))
        for start in range(25_600, len(speech), 640):
            await session.push_audio(speech[start : start + 640])
            await asyncio.sleep(0)
        await session.end_segment()
        seen += await taking
    shown = frames(event for event in seen if isinstance(event, Frame))
    assert [f.pts_us for f in shown] == [40_000 * n for n in range(-(-len(speech) // 1_280))]
    assert [type(event) for event in told(seen)] == [Resumed, SegmentEnd]


async def test_a_talking_head_keeps_its_face(replica: str, speech: bytes) -> None:
    audio = PcmS16()
    async with link(replica) as near, Client(near.address) as client:
        session = client.lasting_session(
            "mira", audio, pacing=Pacing.REALTIME, idle_frames=True, audio_echo=True, retry=QUICK
        )
        head = TalkingHead(session, audio)
        await head.start()
        await head.push(speech)
        await head.end()
        items: list[HeadItem | None] = []
        heard = b""
        while not items or not isinstance(items[-1], SegmentEnd):
            items.append(item := await head.take())
            if isinstance(item, Moment):
                heard += item.audio
                if len(heard) == 8 * 1_280:
                    near.cut()
        await head.close()
    assert heard == speech
    assert not any(isinstance(item, Failure) for item in items)
    assert all(item.picture is not None for item in items if isinstance(item, Moment))
