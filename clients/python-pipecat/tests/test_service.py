"""The service in Pipecat's own test pipeline, against a real server."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conversation import conversation
from lipsync_client import OutputFormat
from pipecat.frames.frames import (
    CancelFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    MetricsFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.tests.utils import SleepFrame, run_test
from replies import (
    PARAMS,
    RATE_HZ,
    START_S,
    heard,
    kinds,
    reply,
    service,
    sound,
    without_pictures,
    word,
)
from servers import running

from lipsync_pipecat import LipsyncVideoService, video_params


async def run(
    processor: LipsyncVideoService, frames: Sequence[Frame]
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    return await run_test(
        processor, frames_to_send=frames, pipeline_params=PARAMS, start_timeout=START_S
    )


async def test_the_echo_is_the_sound_and_has_pictures(server: str, speech: bytes) -> None:
    one, two = speech[:32_000], speech[:19_990]
    down, up = await run(service(server), [*reply(one, "1"), *reply(two, "2")])
    assert heard(down, "1") == one
    assert heard(down, "2") == two
    order = [f for f in without_pictures(down) if not isinstance(f, MetricsFrame)]
    assert kinds(order) == ["TTSStartedFrame", "TTSAudioRawFrame", "TTSStoppedFrame"] * 2
    assert [f.context_id for f in order if isinstance(f, TTSStoppedFrame)] == ["1", "2"]
    pictures = [f for f in down if isinstance(f, OutputImageRawFrame)]
    assert {(f.size, f.format, len(f.image)) for f in pictures} == {
        ((1280, 720), "RGB", 1280 * 720 * 3)
    }
    # Each sound follows its picture.
    for before, frame in itertools.pairwise(down):
        if isinstance(frame, TTSAudioRawFrame):
            assert isinstance(before, OutputImageRawFrame | MetricsFrame)
    ttfb = [
        data
        for f in down
        if isinstance(f, MetricsFrame)
        for data in f.data
        if isinstance(data, TTFBMetricsData) and data.value > 0
    ]
    assert len(ttfb) == 1
    assert not [f for f in up if isinstance(f, ErrorFrame)]


async def test_nothing_follows_an_interruption(server: str, speech: bytes) -> None:
    def is_sound(frame: Frame, context_id: str) -> bool:
        return isinstance(frame, TTSAudioRawFrame) and frame.context_id == context_id

    n_cut = 20
    async with conversation(service(server)) as talk:
        place = 0
        for n in range(n_cut):
            name = f"cut {n}"
            await talk.send(*reply(speech * 2, name, is_whole=n % 2 == 0))
            place = await talk.until(lambda f, name=name: is_sound(f, name), place)  # type: ignore[misc]
            await talk.send(InterruptionFrame())
            place = await talk.until(lambda f: isinstance(f, InterruptionFrame), place)
            # Late, as from a text-to-speech over a network.
            await talk.send(*sound(speech[:3_200], name), TTSStoppedFrame(context_id=name))
        await talk.send(*reply(speech[:9_600], "last"))
        await talk.until(lambda f: isinstance(f, TTSStoppedFrame), place)
        down = talk.frames
    assert heard(down, "last") == speech[:9_600]
    interruptions = [i for i, f in enumerate(down) if isinstance(f, InterruptionFrame)]
    assert len(interruptions) == n_cut
    context_ids = [getattr(f, "context_id", None) for f in down]
    for n, at in enumerate(interruptions):
        assert f"cut {n}" in context_ids[:at]
        assert f"cut {n}" not in context_ids[at:]
    assert [f.context_id for f in down if isinstance(f, TTSStoppedFrame)] == ["last"]


async def test_two_hundred_interruptions_in_a_row(server: str, speech: bytes) -> None:
    n_cut = 200
    async with conversation(service(server)) as talk:
        place = 0
        for n in range(n_cut):
            await talk.send(*reply(speech[:3_200], f"cut {n}", is_whole=n % 2 == 0))
            await talk.send(InterruptionFrame())
        for _ in range(n_cut):
            place = 1 + await talk.until(lambda f: isinstance(f, InterruptionFrame), place)
        await talk.send(*reply(speech[:6_400], "last"))
        await talk.until(lambda f: isinstance(f, TTSStoppedFrame) and f.context_id == "last", place)
        after = talk.frames[place:]
    assert heard(after, "last") == speech[:6_400]
    # Interruptions overtake replies that still wait in the pipeline, so some replies come behind
    # all of them. But once the last one has begun, nothing of another is heard.
    contexts = [c for c in (getattr(f, "context_id", None) for f in after) if c is not None]
    assert set(contexts[contexts.index("last") :]) == {"last"}


async def test_an_event_loop_that_blocks_loses_nothing(server: str, speech: bytes) -> None:
    async with conversation(service(server)) as talk:
        await talk.send(*reply(speech, "1"))
        await talk.until(lambda f: isinstance(f, TTSAudioRawFrame))
        time.sleep(5)  # noqa: ASYNC251 - What users do.
        place = await talk.until(lambda f: isinstance(f, TTSStoppedFrame))
        await talk.send(*reply(speech[:6_400], "2"))
        await talk.until(lambda f: isinstance(f, TTSStoppedFrame), place + 1)
        down = talk.frames
    assert heard(down, "1") == speech
    assert heard(down, "2") == speech[:6_400]


async def test_an_interruption_in_pipecats_own_test(server: str, speech: bytes) -> None:
    frames = [*reply(speech[:6_400], "1"), SleepFrame(sleep=1.0), InterruptionFrame()]
    down, _ = await run(service(server), [*frames, *reply(speech[:6_400], "2")])
    assert heard(down, "2") == speech[:6_400]
    at = next(i for i, f in enumerate(down) if isinstance(f, InterruptionFrame))
    context_ids = [getattr(f, "context_id", None) for f in down]
    # Where the machine is slow, Pipecat's queues let the interruption overtake the reply.
    assert "1" not in context_ids[at:] or "1" not in context_ids[:at]


async def test_words_follow_the_sound_before_them(server: str, speech: bytes) -> None:
    pieces = sound(speech[:32_000], "1")
    frames: list[Frame] = [TTSStartedFrame(context_id="1")]
    for n, piece in enumerate(pieces):
        frames.append(piece)
        if n % 10 == 9:
            frames.append(word(f"{n + 1}", "1"))
    frames.append(TTSStoppedFrame(context_id="1"))
    down, _ = await run(service(server), frames)
    n_bytes, seen = 0, []
    for frame in down:
        if isinstance(frame, TTSAudioRawFrame):
            n_bytes += len(frame.audio)
        elif isinstance(frame, TTSTextFrame):
            # Not before its sound, and at most a frame later.
            spoken = int(frame.text) * 640
            assert spoken <= n_bytes < spoken + 1_280
            seen.append(frame.text)
    assert seen == ["10", "20", "30", "40", "50"]
    assert isinstance(without_pictures(down)[-1], TTSStoppedFrame)


@pytest.mark.parametrize(
    ("rate_hz", "n_channels"), [(8_000, 1), (22_050, 1), (24_000, 2), (44_100, 1), (48_000, 2)]
)
async def test_any_rate_becomes_the_pipelines(server: str, rate_hz: int, n_channels: int) -> None:
    samples = bytes(2 * n_channels * rate_hz)
    frames = [
        TTSStartedFrame(context_id="1"),
        *sound(samples, "1", rate_hz=rate_hz, n_channels=n_channels),
        TTSStoppedFrame(context_id="1"),
    ]
    down, _ = await run(service(server), frames)
    audio = [f for f in down if isinstance(f, TTSAudioRawFrame)]
    assert {(f.sample_rate, f.num_channels) for f in audio} == {(RATE_HZ, 1)}
    # A resampler keeps some samples back.
    assert 0.8 < len(heard(down, "1")) / 2 / RATE_HZ <= 1.01


async def test_a_reply_without_sound_ends(server: str, speech: bytes) -> None:
    frames = [
        TTSStartedFrame(context_id="0"),
        TTSStoppedFrame(context_id="0"),
        *reply(speech[:3_200], "1"),
        TTSStartedFrame(context_id="2"),
        *sound(b"", "2"),
        TTSAudioRawFrame(b"", RATE_HZ, 1, context_id="2"),
        TTSStoppedFrame(context_id="2"),
    ]
    down, _ = await run(service(server), frames)
    assert [f.context_id for f in down if isinstance(f, TTSStoppedFrame)] == ["0", "1", "2"]


async def test_cancel_does_not_wait(server: str, speech: bytes) -> None:
    frames = [*reply(speech * 10, "1"), SleepFrame(sleep=0.5), CancelFrame()]
    async with asyncio.timeout(START_S):
        down, _ = await run_test(
            service(server),
            frames_to_send=frames,
            pipeline_params=PARAMS,
            start_timeout=START_S,
            send_end_frame=False,
        )
    assert len(heard(down, "1")) < len(speech) * 10


async def test_without_a_server_the_sound_passes(speech: bytes) -> None:
    down, up = await run(
        LipsyncVideoService(server="127.0.0.1:1", model="mira", connect_timeout_s=2),
        [*reply(speech, "1"), *reply(speech[:6_400], "2")],
    )
    assert heard(down, "1") == speech
    assert heard(down, "2") == speech[:6_400]
    assert [f.context_id for f in down if isinstance(f, TTSStoppedFrame)] == ["1", "2"]
    assert len([f for f in up if isinstance(f, ErrorFrame)]) == 1


async def test_an_avatar_that_is_not_there_leaves_the_sound(server: str, speech: bytes) -> None:
    down, up = await run(LipsyncVideoService(server=server, model="nobody"), reply(speech, "1"))
    assert heard(down, "1") == speech
    assert len([f for f in up if isinstance(f, ErrorFrame)]) == 1


async def test_a_server_that_dies_in_a_reply_leaves_the_sound(
    server_binary: Path, speech: bytes
) -> None:
    with running(server_binary) as (address, process):
        processor = service(address)
        killed = asyncio.Event()

        @processor.event_handler("on_after_push_frame")
        async def _(_: LipsyncVideoService, frame: Frame) -> None:
            if isinstance(frame, TTSAudioRawFrame) and not killed.is_set():
                killed.set()
                process.kill()

        down, up = await run(processor, [*reply(speech, "1"), *reply(speech[:6_400], "2")])
    assert killed.is_set()
    assert heard(down, "1") == speech
    assert heard(down, "2") == speech[:6_400]
    assert [f.context_id for f in down if isinstance(f, TTSStoppedFrame)] == ["1", "2"]
    assert len([f for f in up if isinstance(f, ErrorFrame)]) == 1


async def test_a_transport_learns_the_size(server: str) -> None:
    params = await video_params(server, "mira")
    assert (params["video_out_width"], params["video_out_height"]) == (1280, 720)
    assert params["video_out_framerate"] == 26


def test_pictures_that_transports_do_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of RGB, JPEG"):
        LipsyncVideoService(model="mira", format=OutputFormat.I420)
