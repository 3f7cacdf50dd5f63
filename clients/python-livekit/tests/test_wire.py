"""LiveKit's avatar wire, both ends of it theirs, against a real server."""

import asyncio
import time
from pathlib import Path

import pytest
from links import link
from lipsync_client import Client, Frame, OutputFormat
from livekit import rtc
from servers import running
from wire import RATE_HZ, audio, tone, wire

from lipsync_livekit import generator
from lipsync_livekit.pictures import video_frame

N_SEGMENTS = 50
N_INTERRUPTIONS = 20


async def test_every_segment_ends_once_and_at_its_place(client: Client, speech: bytes) -> None:
    async with wire(client) as w:
        pushed = b""
        for n in range(N_SEGMENTS):
            # 50 to 245 ms; most do not end with a frame.
            samples = speech[n * 640 :][: 2 * (800 + 64 * n)]
            end = await w.said(samples)
            assert not end.interrupted
            assert end.playback_position == pytest.approx(len(samples) / 2 / RATE_HZ, abs=1e-6)
            pushed += samples
        assert len(w.started) == len(w.finished) == w.avatar.n_streams == N_SEGMENTS
        assert w.tap.sound() == pushed
    assert [track.kind for track in w.avatar.tracks] == [
        rtc.TrackKind.KIND_AUDIO,
        rtc.TrackKind.KIND_VIDEO,
    ]


async def test_interruptions_are_answered_and_nothing_follows(
    client: Client, speech: bytes
) -> None:
    async with wire(client) as w:
        for n in range(N_INTERRUPTIONS):
            await w.say(speech)
            await w.until_started(n + 1)
            w.output.clear_buffer()
            # As an agent does: the interrupted segment is flushed after it was cleared.
            w.output.flush()
            end = await w.output.wait_for_playout()
            assert end.interrupted
            heard = w.tap.sound()
            # What was handed over is what counts, to the sample; and it is the beginning.
            assert end.playback_position == pytest.approx(len(heard) / 2 / RATE_HZ, abs=1e-6)
            assert heard == speech[: len(heard)]
            w.tap.frames.clear()
        last = await w.said(speech[:6_400])
        assert (last.interrupted, w.tap.sound()) == (False, speech[:6_400])
        assert len(w.finished) == N_INTERRUPTIONS + 1


async def test_interruptions_before_the_first_sound_are_answered_too(
    client: Client, speech: bytes
) -> None:
    async with wire(client) as w:
        await w.said(speech[:3_200])
        w.tap.frames.clear()
        for _ in range(200):
            await w.say(speech[:3_200])
            w.output.clear_buffer()
            w.output.flush()
            assert (await w.output.wait_for_playout()).interrupted
        assert len(w.finished) == 201
        heard_before = len(w.tap.sound())
        await w.said(speech[:6_400])
        assert w.tap.sound()[heard_before:] == speech[:6_400]
        assert len(w.finished) == 202


async def test_segments_without_samples_end_too(client: Client, speech: bytes) -> None:
    async with wire(client) as w:
        for n in range(10):
            samples = b"" if n % 2 else speech[:3_200]
            await w.output.capture_frame(audio(samples))
            w.output.flush()
            async with asyncio.timeout(60):
                end = await w.output.wait_for_playout()
            assert not end.interrupted
            assert end.playback_position == pytest.approx(len(samples) / 2 / RATE_HZ)
        assert len(w.finished) == 10


async def test_an_event_loop_that_blocks_loses_nothing(client: Client, speech: bytes) -> None:
    async with wire(client) as w:
        await w.say(speech)
        await w.until_started(1)
        time.sleep(5)  # noqa: ASYNC251 - What users do.
        w.output.flush()
        end = await w.output.wait_for_playout()
        assert end.playback_position == pytest.approx(len(speech) / 2 / RATE_HZ, abs=1e-6)
        assert w.tap.sound() == speech
        await w.said(speech[:6_400])
        assert len(w.finished) == 2


async def test_each_sound_follows_its_picture(
    client: Client, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: dict[int, int | None] = {}

    def noting_time(picture: Frame) -> rtc.VideoFrame:
        frame = video_frame(picture)
        times[id(frame)] = picture.audio_time_us
        return frame

    monkeypatch.setattr(generator, "video_frame", noting_time)
    async with wire(client) as w:
        await w.said(speech)
        kinds = [isinstance(frame, rtc.AudioFrame) for frame in w.tap.frames]
        first = kinds.index(True)
        n_sounds = kinds.count(True)
        # Picture, sound, picture, sound: the n-th picture is that of the n-th 40 ms.
        assert kinds[first - 1 : first - 1 + 2 * n_sounds] == [False, True] * n_sounds
        assert n_sounds == -(-len(speech) // 1_280)
        # And the server says so: each picture comes when the sound has reached its time.
        heard_us = 0
        for frame in w.tap.frames[first - 1 : first - 1 + 2 * n_sounds]:
            if isinstance(frame, rtc.AudioFrame):
                heard_us += 1_000_000 * frame.samples_per_channel // RATE_HZ
            else:
                assert times[id(frame)] == heard_us


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 24_000, 44_100, 48_000])
async def test_any_rate_is_heard_whole(client: Client, rate_hz: int) -> None:
    async with wire(client) as w:
        await w.said(tone(rate_hz, 0.2), rate_hz)
        end = await w.said(tone(rate_hz, 0.5), rate_hz)
        assert end.playback_position == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("format", [OutputFormat.RGB, OutputFormat.JPEG])
async def test_other_formats_are_published(
    client: Client, speech: bytes, format: OutputFormat
) -> None:
    async with wire(client, format=format) as w:
        await w.said(speech[:6_400])
        pictures = [f for f in w.tap.frames if isinstance(f, rtc.VideoFrame)]
        assert {(p.width, p.height, p.type) for p in pictures} == {
            (1280, 720, rtc.VideoBufferType.RGB24)
        }


async def test_a_server_that_goes_leaves_the_voice(server: str, speech: bytes) -> None:
    async with link(server) as near, Client(near.address) as client, wire(client) as w:
        await w.say(speech)
        await w.until_started(1)
        near.cut()
        w.output.flush()
        end = await w.output.wait_for_playout()
        assert not end.interrupted
        assert end.playback_position == pytest.approx(len(speech) / 2 / RATE_HZ, abs=1e-6)
        assert w.tap.sound() == speech
        n_said = 1
        async with asyncio.timeout(60):
            while not w.generator.has_face:
                await w.said(speech[:3_200])
                n_said += 1
        w.tap.frames.clear()
        await w.said(speech[:6_400])
        assert w.tap.sound() == speech[:6_400]
        assert len(w.finished) == n_said + 1


async def test_a_server_that_dies_in_a_segment_leaves_the_voice(
    server_binary: Path, speech: bytes
) -> None:
    with running(server_binary) as (address, process):
        async with Client(address) as client, wire(client) as w:
            await w.say(speech)
            await w.until_started(1)
            process.kill()
            w.output.flush()
            async with asyncio.timeout(60):
                end = await w.output.wait_for_playout()
                assert not end.interrupted
                assert end.playback_position == pytest.approx(len(speech) / 2 / RATE_HZ, abs=1e-6)
                assert w.tap.sound() == speech
                # Interruptions are answered without a server, too.
                await w.say(speech)
                await w.until_started(2)
                w.output.clear_buffer()
                w.output.flush()
                assert (await w.output.wait_for_playout()).interrupted
        assert len(w.finished) == 2
