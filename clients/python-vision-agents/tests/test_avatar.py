"""The avatar on Vision Agents' own streams and tracks, against a real server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from getstream.video.rtc.track_util import PcmData
from links import link
from lipsync_client import CallError, Retry
from vision_agents.core.agents.inference import (
    AudioOutputChunk,
    AudioOutputFlush,
    AudioOutputStream,
)

from lipsync_vision_agents import LipsyncAvatar

RATE_HZ = 16_000


class Talk:
    """An agent's voice in, and what comes out."""

    def __init__(self, avatar: LipsyncAvatar, voice: AudioOutputStream) -> None:
        self.avatar = avatar
        self._voice = voice

    async def say(self, samples: bytes, *, final: bool = True, rate_hz: int = RATE_HZ) -> None:
        pcm = PcmData.from_bytes(samples, sample_rate=rate_hz, format="s16", channels=1)
        await self._voice.send(AudioOutputChunk(data=pcm, final=final))

    async def interrupt(self) -> None:
        await self._voice.flush()

    async def next(self) -> AudioOutputChunk | AudioOutputFlush:
        async with asyncio.timeout(60):
            return await self.avatar.audio_output().get()

    async def heard(self, n_bytes: int) -> bytes:
        """So much sound; what an interruption leaves behind is not counted."""
        sound = b""
        while len(sound) < n_bytes:
            item = await self.next()
            if isinstance(item, AudioOutputChunk) and item.data is not None:
                sound += np.asarray(item.data.samples).astype("<i2").tobytes()
        return sound


@asynccontextmanager
async def talk(server: str) -> AsyncIterator[Talk]:
    avatar = LipsyncAvatar(
        server=server, model="mira", sample_rate=RATE_HZ, retry=Retry(first_s=0.05, longest_s=0.2)
    )
    voice = AudioOutputStream()
    avatar.attach_audio_input(voice)
    await avatar.start()
    try:
        yield Talk(avatar, voice)
    finally:
        await avatar.close()
        await avatar.close()


async def test_the_voice_comes_back_with_a_face(server: str, speech: bytes) -> None:
    async with talk(server) as t:
        await t.say(speech[:16_000])
        assert (await t.heard(16_000))[:16_000] == speech[:16_000]
        frame = await t.avatar.video_output().recv()
        assert (frame.width, frame.height) == (1280, 720)
        # Another reply in the same session.
        await t.say(speech[:9_600])
        assert (await t.heard(9_600))[:9_600] == speech[:9_600]


async def test_nothing_follows_an_interruption(server: str, speech: bytes) -> None:
    async with talk(server) as t:
        for _ in range(20):
            await t.say(speech, final=False)
            await t.heard(640)
            await t.interrupt()
            async with asyncio.timeout(60):
                while not isinstance(await t.next(), AudioOutputFlush):
                    pass
        silence_then = speech[9_600:19_200]
        await t.say(silence_then)
        assert (await t.heard(9_600))[:9_600] == silence_then


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 24_000, 44_100, 48_000])
async def test_any_rate_is_heard(server: str, rate_hz: int) -> None:
    async with talk(server) as t:
        await t.say(bytes(2 * rate_hz), rate_hz=rate_hz)
        assert len(await t.heard(2 * RATE_HZ * 9 // 10)) > 0


async def test_a_server_that_goes_leaves_the_voice(server: str, speech: bytes) -> None:
    async with link(server) as near, talk(near.address) as t:
        await t.say(speech)
        heard = await t.heard(640)
        near.cut()
        heard += await t.heard(len(speech) - len(heard))
        assert heard[: len(speech)] == speech


async def test_without_a_server_the_start_fails() -> None:
    avatar = LipsyncAvatar(server="127.0.0.1:1", model="mira", answer_timeout=1.0)
    avatar.attach_audio_input(AudioOutputStream())
    with pytest.raises(CallError):
        await avatar.start()
    await avatar.close()


async def test_it_closes_in_the_middle_of_a_reply(server: str, speech: bytes) -> None:
    before = asyncio.all_tasks()
    async with asyncio.timeout(60), talk(server) as t:
        await t.say(speech * 4, final=False)
        await t.heard(640)
    for task in asyncio.all_tasks() - before:
        # grpcio's own end a moment after their call.
        await asyncio.wait([task], timeout=5)
        assert task.done(), task


async def test_an_event_loop_that_blocks_loses_nothing(server: str, speech: bytes) -> None:
    async with talk(server) as t:
        await t.say(speech)
        heard = await t.heard(640)
        time.sleep(5)  # noqa: ASYNC251 - What users do.
        heard += await t.heard(len(speech) - len(heard))
        assert heard[: len(speech)] == speech
