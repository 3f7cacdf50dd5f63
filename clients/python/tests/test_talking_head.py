"""The face of a voice agent, against a real server behind a link that is cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from links import link

from lipsync_client import (
    Client,
    Failure,
    HeadItem,
    Moment,
    Pacing,
    PcmS16,
    Restored,
    Retry,
    SegmentEnd,
    SessionClosedError,
    TalkingHead,
)

AUDIO = PcmS16(16_000)


@asynccontextmanager
async def talking(address: str) -> AsyncIterator[TalkingHead]:
    async with Client(address) as client:
        session = client.lasting_session(
            "mira",
            AUDIO,
            pacing=Pacing.REALTIME,
            idle_frames=True,
            audio_echo=True,
            retry=Retry(first_s=0.05, longest_s=0.2, resume_within_s=0),
        )
        head = TalkingHead(session, AUDIO)
        await head.start()
        try:
            yield head
        finally:
            await head.close()


async def up_to_end(head: TalkingHead, segment_id: int) -> list[HeadItem]:
    seen: list[HeadItem] = []
    while not seen or not isinstance(seen[-1], SegmentEnd) or seen[-1].segment_id != segment_id:
        item = await head.take()
        assert item is not None
        seen.append(item)
    return seen


def sound(items: list[HeadItem], segment_id: int) -> bytes:
    moments = [item for item in items if isinstance(item, Moment)]
    return b"".join(m.audio for m in moments if m.segment_id == segment_id)


def ends(items: list[HeadItem]) -> list[int]:
    return [item.segment_id for item in items if isinstance(item, SegmentEnd)]


async def test_sound_and_pictures_belong_together(server: str, speech: bytes) -> None:
    async with talking(server) as head:
        # A segment without samples between two others.
        for part, segment_id in ((speech[:20_001], 1), (b"", 2), (speech[:6_400], 3)):
            assert await head.push(part) == segment_id
            assert await head.end() == segment_id
        assert await head.end() is None
        seen = await up_to_end(head, 3)
    assert sound(seen, 1) == speech[:20_000]
    assert sound(seen, 3) == speech[:6_400]
    assert ends(seen) == [1, 2, 3]
    for item in seen:
        assert not isinstance(item, Moment) or (item.picture is not None)


async def test_nothing_of_an_interrupted_reply_comes_out(server: str, speech: bytes) -> None:
    async with talking(server) as head:
        for _ in range(5):
            before = await head.push(speech)
            while not isinstance(item := await head.take(), Moment) or not item.audio:
                pass
            assert item.segment_id == before
            # One more push waits for room while it is interrupted.
            waiting = asyncio.create_task(head.push(speech * 4))
            await asyncio.sleep(0)
            head.clear()
            await waiting
            after = await head.push(speech[:6_400])
            assert after > before
            assert await head.end() == after
            seen = await up_to_end(head, after)
            assert sound(seen, after) == speech[:6_400]
            assert ends(seen) == [after]
            spoken = {item.segment_id for item in seen if isinstance(item, Moment)}
            assert spoken <= {0, after}


async def test_the_voice_goes_on_without_a_server(server: str, speech: bytes) -> None:
    async with link(server) as near, talking(near.address) as head:
        await head.push(speech)
        seen: list[HeadItem] = []
        while sum(isinstance(item, Moment) and bool(item.audio) for item in seen) < 4:
            item = await head.take()
            assert item is not None
            seen.append(item)
        near.cut()
        while not isinstance(seen[-1], Failure):
            item = await head.take()
            assert item is not None
            seen.append(item)
        # The rest of the reply is heard without a face, even if the server is back.
        await head.push(speech[:9_600])
        await head.end()
        seen += await up_to_end(head, 1)
        assert sound(seen, 1) == speech + speech[:9_600]
        while not any(isinstance(item, Restored) for item in seen):
            item = await head.take()
            assert item is not None
            seen.append(item)
        assert head.has_face
        await head.push(speech[:6_400])
        await head.end()
        later = await up_to_end(head, 2)
    seen += later
    assert sound(later, 2) == speech[:6_400]
    assert ends(seen) == [1, 2]
    assert [type(i) for i in seen if isinstance(i, Failure | Restored)] == [Failure, Restored]
    talked = [item for item in later if isinstance(item, Moment) and item.segment_id == 2]
    assert all(item.picture is not None for item in talked)


async def test_a_head_that_closes_wakes_who_waits(server: str) -> None:
    async with talking(server) as head:
        while head.now() is not None:
            pass
        waiting = asyncio.create_task(head.take())
        await head.close()
        item = await waiting
        assert item is None or isinstance(item, Moment)
        with pytest.raises(SessionClosedError):
            await head.push(b"12")
        head.clear()
        await head.close()
