"""Calls every method of the Open Inference Protocol with Triton's own client.

    python smoke.py HOST:PORT MODEL

Ends with the number of checks; the first that fails ends it with an error.
"""

import queue
import sys

import numpy
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

N_CHECKS = 0


def check(is_right: bool, what: str) -> None:
    global N_CHECKS
    if not is_right:
        raise SystemExit(f"FAILED: {what}")
    N_CHECKS += 1


def refused(call, code: str, text: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        found = f"{error.status()}: {error.message()}"
        check(code in found and text in found, f"expected {code} and {text!r}, found {found}")
    else:
        raise SystemExit(f"FAILED: not refused: {text}")


def speech(seconds: float, name: str = "PCM") -> triton.InferInput:
    t = numpy.arange(int(16_000 * seconds)) / 16_000
    samples = (9000 * numpy.sin(2 * numpy.pi * 180 * t) * numpy.sin(2 * numpy.pi * 2 * t)).astype(numpy.int16)
    tensor = triton.InferInput(name, samples.shape, "INT16")
    tensor.set_data_from_numpy(samples)
    return tensor


def describe(client: triton.InferenceServerClient, model: str) -> None:
    check(client.is_server_live(), "live")
    check(client.is_server_ready(), "ready")
    check(client.is_model_ready(model), "the model is ready")
    check(client.is_model_ready(model, "2"), "its second version is ready")
    check(not client.is_model_ready("nobody"), "an unknown model is not")
    server = client.get_server_metadata()
    check(server.name == "lipsync-server" and "model_repository" in server.extensions, "metadata of the server")
    metadata = client.get_model_metadata(model)
    check([t.name for t in metadata.inputs] == ["PCM", "STEPS", "WINDOWS"], "inputs")
    check(list(metadata.versions) == ["1", "2"], "versions")
    config = client.get_model_config(model).config
    check(config.name == model and not config.model_transaction_policy.decoupled, "configuration")
    decoupled = client.get_model_config(model, "2").config
    check(decoupled.model_transaction_policy.decoupled, "version 2 is decoupled")
    index = client.get_model_repository_index()
    check((model, "1", "READY") in [(m.name, m.version, m.state) for m in index.models], "index")
    check(client.get_trace_settings().settings["trace_level"].value == ["OFF"], "traces are off")
    refused(lambda: client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"}), "UNIMPLEMENTED", "traces")
    check(client.get_log_settings().settings["log_error"].bool_param, "errors are logged")
    refused(lambda: client.update_log_settings({"log_verbose_level": 1}), "UNIMPLEMENTED", "logging.level")
    for call in (
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        lambda: client.register_system_shared_memory("a", "/a", 16),
        client.unregister_system_shared_memory,
        lambda: client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 16),
        client.unregister_cuda_shared_memory,
    ):
        refused(call, "UNIMPLEMENTED", "shared memory")


def infer(client: triton.InferenceServerClient, model: str) -> numpy.ndarray:
    answer = client.infer(model, [speech(1)], request_id="one", parameters={"sample_rate_hz": 16_000})
    frames = answer.as_numpy("FRAMES")
    check(frames.shape == (25,) and all(f.startswith(b"\xff\xd8") for f in frames), "25 JPEG files")
    check(answer.get_response().id == "one", "the id comes back")
    times = answer.as_numpy("AUDIO_TIME_US")
    check(list(times) == [n * 40_000 for n in range(25)], "times")
    check(answer.as_numpy("REGION").shape == (25, 4), "regions")
    # One output, another format, levels and limits of Triton's own.
    output = triton.InferRequestedOutput("FRAMES")
    parameters = {"format": "png", "region_only": True}
    answer = client.infer(model, [speech(0.2)], outputs=[output], priority=1, timeout=30_000_000, parameters=parameters)
    check([o.name for o in answer.get_response().outputs] == ["FRAMES"], "one output")
    check(answer.as_numpy("FRAMES")[0].startswith(b"\x89PNG"), "PNG")
    done: queue.Queue = queue.Queue()
    client.async_infer(model, [speech(0.2)], lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=60)
    check(error is None and result.as_numpy("FRAMES").shape == (5,), "an asynchronous call")
    refused(lambda: client.infer(model, [speech(1)], priority=7), "INVALID_ARGUMENT", "priority")
    refused(lambda: client.infer(model, [speech(1, "AUDIO")]), "INVALID_ARGUMENT", "PCM, STEPS or WINDOWS")
    refused(lambda: client.infer("nobody", [speech(1)]), "NOT_FOUND", "nobody")
    return frames


def stream(client: triton.InferenceServerClient, model: str, frames: numpy.ndarray) -> None:
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for n in range(3):
        client.async_stream_infer(model, [speech(0.4)], request_id=str(n))
    for n in range(3):
        result, error = answers.get(timeout=60)
        check(error is None and result.get_response().id == str(n), "answers in order")
    client.async_stream_infer("nobody", [speech(0.4)])
    check("nobody" in str(answers.get(timeout=60)[1]), "an error does not end the stream")
    client.async_stream_infer(model, [speech(1)], model_version="2", enable_empty_final_response=True)
    pieces = []
    while True:
        result, error = answers.get(timeout=60)
        check(error is None, str(error))
        response = result.get_response()
        if response.parameters["triton_final_response"].bool_param:
            check(not response.outputs, "the last response is empty")
            break
        pieces.append(result.as_numpy("FRAMES"))
    client.stop_stream()
    check(len(pieces) == 4, "four pieces of at most eight frames")
    check(list(numpy.concatenate(pieces)) == list(frames), "the pieces are the frames of one call")


def repository(client: triton.InferenceServerClient, model: str) -> None:
    stats = client.get_inference_statistics(model).model_stats[0]
    check(stats.inference_count >= 25 and stats.inference_stats.success.count >= 3, "statistics")
    check(stats.inference_stats.compute_infer.ns > 0, "time in the network")
    check(len(client.get_inference_statistics().model_stats) >= 1, "statistics of all")
    client.unload_model(model)
    states = {m.state for m in client.get_model_repository_index().models if m.name == model}
    check(states == {"UNAVAILABLE"}, "unloaded")
    client.load_model(model)
    states = {m.state for m in client.get_model_repository_index().models if m.name == model}
    check(states == {"READY"}, "loaded")
    refused(lambda: client.load_model(model, config="{}"), "UNIMPLEMENTED", "without parameters")
    refused(lambda: client.load_model("nobody"), "NOT_FOUND", "nobody")


def main() -> None:
    address, model = sys.argv[1:3]
    client = triton.InferenceServerClient(address)
    client.load_model(model)
    describe(client, model)
    frames = infer(client, model)
    stream(client, model, frames)
    repository(client, model)
    print(f"tritonclient: {N_CHECKS} checks passed")


if __name__ == "__main__":
    main()
