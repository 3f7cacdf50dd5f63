"""The same with KServe's client, which cannot live in one process with Triton's.

    python kserve_smoke.py HOST:PORT MODEL
"""

import asyncio
import sys

import numpy
from kserve import InferInput, InferRequest, InferenceGRPCClient


async def main() -> None:
    address, model = sys.argv[1:3]
    client = InferenceGRPCClient(url=address)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(model)
    samples = numpy.zeros(8_000, numpy.int16)
    speech = InferInput("PCM", list(samples.shape), "INT16")
    speech.set_data_from_numpy(samples)
    request = InferRequest(model, [speech], parameters={"sample_rate_hz": 16_000})
    answer = await client.infer(request)
    frames = next(o for o in answer.outputs if o.name == "FRAMES")
    assert list(frames.shape) == [13], frames.shape
    print("kserve: live, ready, model ready, 13 frames")


asyncio.run(main())
