"""Sessions that outlive their connection, against a real server behind a link that is cut."""

import asyncio

import grpc
import pytest
from links import link
from speech import frames

from lipsync_client import (
    CallError,
    Cleared,
    Client,
    Frame,
    LastingEvent,
    LastingSession,
    Lost,
    Restored,
    Retry,
    SegmentEnd,
    SessionClosedError,
    SessionLostError,
)

QUICK = Retry(first_s=0.05, longest_s=0.2, resume_within_s=0)
"""Sessions that are not resumed: `test_resume` has those that are."""


async def up_to(session: LastingSession, kind: type[LastingEvent]) -> list[LastingEvent]:
    """Everything up to the first event of this kind, which is the last."""
    seen: list[LastingEvent] = []
    while not seen or not isinstance(seen[-1], kind):
        seen.append(await anext(session))
    return seen


async def test_it_continues_at_the_same_place(server: str, speech: bytes) -> None:
    async with (
        link(server) as near,
        Client(near.address) as client,
        client.lasting_session("mira", start_frame_index=7, retry=QUICK) as session,
    ):
        assert await session.push_audio(speech[:12_800]) == 1
        assert await session.end_segment() == 1
        assert await session.push_audio(speech[12_800:25_601]) == 2
        seen = await up_to(session, SegmentEnd)
        near.cut()
        lost = (await up_to(session, Lost))[-1]
        assert isinstance(lost, Lost)
        assert session.is_lost
        with pytest.raises(SessionLostError):
            await session.push_audio(speech)
        assert await session.end_segment() is None
        await session.clear()

        # The second segment could not make more than the frames whose look-ahead had come.
        (unplayed,) = lost.unplayed
        assert (unplayed.segment_id, unplayed.is_ended) == (2, False)
        assert unplayed.audio == speech[12_800:25_601][-len(unplayed.audio) :]
        assert len(unplayed.audio) % 1_280 == 1

        assert isinstance(await anext(session), Restored)
        assert await session.push_audio(unplayed.audio) == 3
        await session.push_audio(b"")
        assert await session.end_segment() == 3
        await session.finish()
        seen += [event async for event in session]
    shown = frames(e for e in seen if isinstance(e, Frame | SegmentEnd))
    assert [frame.index for frame in shown] == [7 + n for n in range(len(shown))]
    assert [frame.pts_us for frame in shown] == [40_000 * n for n in range(len(shown))]
    assert [e for e in seen if isinstance(e, SegmentEnd)] == [
        SegmentEnd(1, 10),
        SegmentEnd(3, len(unplayed.audio) // 1_280),
    ]


async def test_what_meets_a_dead_connection_is_in_the_loss(server: str, speech: bytes) -> None:
    async with (
        link(server) as near,
        Client(near.address) as client,
        client.lasting_session("mira", retry=QUICK) as session,
    ):
        near.cut()
        waiting = asyncio.create_task(up_to(session, Lost))
        pushed = b""
        try:
            while True:
                await session.push_audio(speech[:320])
                pushed += speech[:320]
                await asyncio.sleep(0)
        except SessionLostError:
            pass
        lost = (await waiting)[-1]
        assert isinstance(lost, Lost)
        assert lost.error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)
        assert b"".join(u.audio for u in lost.unplayed) == pushed
        assert isinstance(await anext(session), Restored)
        await session.clear()
        assert isinstance((await up_to(session, Cleared))[-1], Cleared)


async def test_samples_that_are_cut_keep_the_count(server: str, speech: bytes) -> None:
    async with Client(server) as client, client.lasting_session("mira") as session:
        assert await session.push_audio(speech[:1]) == 1
        assert await session.end_segment() is None
        assert await session.push_audio(speech[:1]) == 1
        assert await session.push_audio(speech[1:1_281]) == 1
        assert await session.end_segment() == 1
        assert await session.push_audio(speech[:1_280]) == 2
        await session.finish()
        ends = [e.segment_id async for e in session if isinstance(e, SegmentEnd)]
    assert ends == [1, 2]


async def test_a_refusal_that_would_come_again_is_raised(server: str) -> None:
    async with Client(server) as client:
        with pytest.raises(CallError) as refused:
            async with client.lasting_session("nobody", retry=QUICK):
                pass
        assert refused.value.code is grpc.StatusCode.NOT_FOUND


async def test_a_container_among_the_samples_is_lost_for_good(server: str, speech: bytes) -> None:
    async with Client(server) as client, client.lasting_session("mira", retry=QUICK) as session:
        await session.push_audio(b"ID3\x04" + bytes(8_000))
        lost = (await up_to(session, Lost))[-1]
        assert isinstance(lost, Lost)
        assert lost.error.code is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(CallError):
            await anext(session)


async def test_it_gives_up_when_told_so(server: str) -> None:
    retry = Retry(first_s=0.05, longest_s=0.1, give_up_after_s=0.3, resume_within_s=0)
    async with Client(server, answer_timeout=5) as client:
        async with (
            link(server) as near,
            Client(near.address, answer_timeout=1) as there,
            there.lasting_session("mira", retry=retry) as session,
        ):
            near.die()
            near.cut()
            await up_to(session, Lost)
            with pytest.raises(CallError):
                await anext(session)
        await session.close()
        with pytest.raises(SessionClosedError):
            await session.push_audio(b"")
        assert await client.list_models()


def test_a_retry_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="first_s"):
        Retry(first_s=0)
