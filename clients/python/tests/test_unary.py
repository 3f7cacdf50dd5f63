"""Unary requests and administration, against a real server."""

import grpc
import pytest

from lipsync_client import CallError, Client, Output, OutputFormat, PcmF32, WrongAudioError
from lipsync_client.v1 import lipsync_pb2 as pb


async def test_infer_gives_every_frame_of_the_audio(client: Client, speech: bytes) -> None:
    batch = await client.infer("mira", speech)
    n_samples = len(speech) // 2
    assert len(batch.frames) == -(-n_samples * 25 // 16_000)
    assert [frame.pts_us for frame in batch.frames[:3]] == [0, 40_000, 80_000]
    assert all(frame.data.startswith(b"\xff\xd8") for frame in batch.frames)
    assert batch.timings.total_us > 0


async def test_a_part_is_the_part_of_the_whole(client: Client, speech: bytes) -> None:
    whole = await client.infer("mira", speech)
    part = await client.infer("mira", speech, first_frame=10, frame_count=4, start_frame_index=10)
    assert [f.data for f in part.frames] == [f.data for f in whole.frames[10:14]]


async def test_output_is_what_was_asked_for(client: Client, speech: bytes) -> None:
    output = Output(OutputFormat.RGB, region_only=True)
    batch = await client.infer("mira", speech, frame_count=1, output=output)
    (frame,) = batch.frames
    assert frame.format is OutputFormat.RGB
    assert (frame.width, frame.height) == (frame.region.width, frame.region.height)
    assert len(frame.data) == frame.width * frame.height * 3


async def test_a_refusal_names_the_field_and_the_request(client: Client, speech: bytes) -> None:
    with pytest.raises(CallError) as refused:
        await client.infer("mira", speech + speech, PcmF32(rate_hz=7))
    error = refused.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [v.field for v in error.violations] == ["pcm.sample_rate_hz"]
    assert error.request_id
    assert error.retry_after is None


async def test_parts_of_samples_are_refused_here(client: Client) -> None:
    with pytest.raises(WrongAudioError):
        await client.infer("mira", b"abc")


async def test_nobody_at_the_address() -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(CallError) as refused:
            await client.server_stats()
    assert refused.value.code is grpc.StatusCode.UNAVAILABLE


async def test_models_are_listed_loaded_and_known(client: Client) -> None:
    assert [model.model_id for model in await client.list_models()] == ["mira", "tomo"]
    loaded = await client.load_model("mira")
    assert (loaded.state, loaded.fps) == (pb.MODEL_STATE_READY, 25)
    assert (await client.model_stats("mira")).weights_bytes > 0
    assert (await client.server_stats()).models_loaded == 1
    with pytest.raises(CallError) as refused:
        await client.unload_model("nobody")
    assert refused.value.code is grpc.StatusCode.NOT_FOUND
