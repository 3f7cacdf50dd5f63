"""Gives two builds of the server one trace of calls and compares all that they answer, bit for bit.

    python tools/bench/same_answers.py OLD NEW [--full FOLDER]

OLD and NEW are `lipsync-server` programs, for example of the commit before a refactoring and after it. The trace,
one call after the other: every kind of speech, format and option for the demo avatars and, with `--full`, for the
avatar that `full_size_avatar.sh` made; backgrounds; lists; sessions with interruptions, idle frames and echo; and
calls that are refused. Compared are frames and their fields, warnings, status codes with their texts and details,
and what the server counted afterwards. Not compared is what a clock says. Exit code 0: all alike.

Needs grpcio, protobuf and numpy.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients/python/src"))

import grpc  # noqa: E402
import numpy as np  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from lipsync_client.v1 import lipsync_pb2 as pb  # noqa: E402
from lipsync_client.v1 import lipsync_pb2_grpc as rpc  # noqa: E402

RATE = 16_000
FORMATS = (pb.OUTPUT_FORMAT_JPEG, pb.OUTPUT_FORMAT_PNG, pb.OUTPUT_FORMAT_RGB, pb.OUTPUT_FORMAT_I420)
# What a clock says, what depends on how fast the machine is, or what is one build's own: which worker was free, in
# how many pieces audio came and was run.
CLOCKS = {"timings", "uptimeUs", "totalUs", "busyUs", "lastUsedUnixMs", "totalInferenceUs", "meanLoadUs"}
CLOCKS |= {"lastPtsUs", "lastAudioTimeUs", "version", "workers", "runs", "hits", "misses", "prepared", "loadedUnixMs", "meanLoadUs", "loadUs"}
# Metadata of an answer that differs from call to call.
OWN_METADATA = {"date", "x-request-id", "retry-pushback-ms"}


def speech(seed, seconds, channels=1):
    """Noise whose loudness goes up and down, s16 LE."""
    random = np.random.default_rng(seed)
    n = int(seconds * RATE)
    loudness = 0.2 * (1 + np.sin(np.arange(n) / RATE * 2 * np.pi * 1.7))
    samples = random.normal(size=(n, channels)) * loudness[:, None] * 8000
    return samples.clip(-32768, 32767).astype("<i2").tobytes()


def plain(message):
    """A message without what a clock says; bytes become their hash."""

    def cleaned(value):
        if isinstance(value, dict):
            return {key: cleaned(inner) for key, inner in value.items() if key not in CLOCKS}
        if isinstance(value, list):
            return [cleaned(inner) for inner in value]
        if isinstance(value, str) and len(value) > 200:
            return f"{len(value)} characters, {hashlib.sha256(value.encode()).hexdigest()[:16]}"
        return value

    return cleaned(json_format.MessageToDict(message))


def outcome(call):
    """What a call gives: answers, or its status with text and details."""
    try:
        return call()
    except grpc.RpcError as error:
        details = {
            key: (value if isinstance(value, str) else hashlib.sha256(value).hexdigest()[:16])
            for key, value in error.trailing_metadata() or ()
            if key not in OWN_METADATA
        }
        return {"code": error.code().name, "text": error.details()[:500], "metadata": details}


def unary(channel, model):
    """Calls of every kind for a model, and some that are refused."""
    lip_sync = rpc.LipSyncStub(channel)

    def infer(name, **fields):
        request = pb.InferBatchCompositeRequest(model_id=model, **fields)
        yield name, lambda: plain(lip_sync.InferBatchComposite(request, timeout=60))

    stereo = pb.Pcm(samples=speech(2, 1.5, 2), sample_rate_hz=RATE, channels=2)
    floats = (np.frombuffer(speech(3, 1), "<i2") / 32768).astype("<f4").tobytes()
    steps = np.random.default_rng(4).normal(size=(40, 512)).astype("<f4").tobytes()
    windows = np.random.default_rng(5).normal(size=(3, 32, 16, 16)).astype("<f4").tobytes()
    mono = pb.Pcm(samples=speech(1, 2), sample_rate_hz=RATE)
    for form in FORMATS:
        for region in (False, True):
            output = pb.OutputOptions(format=form, region_only=region)
            yield from infer(f"format {form} region {region}", pcm=mono, frame_count=4, output=output)
    yield from infer("all frames", pcm=mono)
    yield from infer("later start", pcm=mono, start_frame_index=1000, frame_count=9)
    yield from infer("stereo", pcm=stereo)
    part = pb.Pcm(samples=speech(1, 2), sample_rate_hz=RATE, first_frame=10, end_of_utterance=False)
    yield from infer("part", pcm=part)
    yield from infer("48 kHz", pcm=pb.Pcm(samples=speech(6, 3), sample_rate_hz=48_000))
    for encoding in (pb.PCM_ENCODING_MULAW, pb.PCM_ENCODING_ALAW):
        law = pb.Pcm(samples=speech(7, 0.5), sample_rate_hz=8000, encoding=encoding)
        yield from infer(f"encoding {encoding}", pcm=law)
    yield from infer("floats", pcm=pb.Pcm(samples=floats, sample_rate_hz=RATE, encoding=pb.PCM_ENCODING_F32LE))
    yield from infer("steps", steps=pb.FeatureSteps(data=steps))
    yield from infer("windows", windows=pb.FeatureWindows(data=windows))
    low = pb.OutputOptions(format=pb.OUTPUT_FORMAT_JPEG, quality=30)
    yield from infer("low quality", pcm=mono, frame_count=3, output=low, priority=pb.PRIORITY_HIGH)
    # Refused.
    yield from infer("no audio")
    yield from infer("odd samples", pcm=pb.Pcm(samples=b"abc", sample_rate_hz=RATE))
    yield from infer("rate", pcm=pb.Pcm(samples=bytes(100), sample_rate_hz=100))
    yield from infer("too many frames", pcm=mono, frame_count=5000)
    yield from infer("more than there is", pcm=mono, frame_count=60)
    yield from infer("wrong windows", windows=pb.FeatureWindows(data=bytes(10)))
    yield from infer("not finite", steps=pb.FeatureSteps(data=np.full((4, 512), np.nan, "<f4").tobytes()))
    yield from infer("quality", pcm=mono, output=pb.OutputOptions(quality=101))
    yield from infer("a file", pcm=pb.Pcm(samples=b"ID3" + bytes(997), sample_rate_hz=RATE))
    for indices in ([0], [3, 1, 2], [], [10**6]):
        request = pb.GetBackgroundRequest(model_id=model, background_indices=indices)
        yield f"backgrounds {indices}", lambda request=request: plain(lip_sync.GetBackground(request, timeout=60))


def says(model, n_segments, clear, **opening):
    """What a client of a session sends."""
    open_ = pb.OpenSession(model_id=model, sample_rate_hz=RATE, pacing=pb.PACING_ASAP, **opening)
    yield pb.StreamCompositeRequest(open=open_)
    for segment in range(1, n_segments + 1):
        sound = speech(segment, 1.3) + bytes(RATE) + speech(segment + 50, 0.4)
        for start in range(0, len(sound), 3334):
            chunk = pb.AudioChunk(segment_id=segment, pcm=sound[start : start + 3334])
            yield pb.StreamCompositeRequest(audio=chunk)
        if segment == clear:
            # Before anything else of it can have been made: there is no other moment that all builds share.
            yield pb.StreamCompositeRequest(clear=pb.Clear(segment_id=segment + 1))
        yield pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=segment))


def sessions(channel, model):
    """Sessions of several kinds."""
    lip_sync = rpc.LipSyncStub(channel)

    def session(name, messages):
        def call():
            seen = []
            try:
                for answer in lip_sync.StreamComposite(iter(messages), timeout=120):
                    seen.append(plain(answer))
            except grpc.RpcError as error:
                seen.append({"code": error.code().name, "text": error.details()})
            # What is said beside the frames comes when it comes; a session that fails at once may be told so first.
            frames = [answer for answer in seen if "frame" in answer]
            return frames + [answer for answer in seen if "frame" not in answer and "opened" not in answer]

        yield name, call

    raw = pb.OutputOptions(format=pb.OUTPUT_FORMAT_RGB, region_only=True)
    yield from session("session", list(says(model, 3, 0)))
    yield from session("session, idle, echo", list(says(model, 2, 0, idle_frames=True, audio_echo=True)))
    yield from session("session, raw regions", list(says(model, 2, 0, output=raw)))
    yield from session("session, cleared", list(says(model, 1, 1)))
    yield from session("session, nothing", [])
    yield from session("session, no open", list(says(model, 1, 0))[1:])
    yield from session("session, opened twice", list(says(model, 1, 0))[:1] * 2)
    bad = pb.StreamCompositeRequest(open=pb.OpenSession(model_id=model, sample_rate_hz=1))
    yield from session("session, bad rate", [bad])


def admin(channel, models):
    """Lists, unloading, loading, and names that do not exist."""
    lip_sync, models_admin = rpc.LipSyncStub(channel), rpc.ModelAdminStub(channel)
    for model in ("nobody", "", "a/b", "x" * 500, "\x1b[1m"):
        request = pb.InferBatchCompositeRequest(model_id=model)
        yield f"model {model[:9]!r}", lambda request=request: plain(lip_sync.InferBatchComposite(request, timeout=9))
        load = pb.LoadModelRequest(model_id=model)
        yield f"load {model[:9]!r}", lambda load=load: plain(models_admin.LoadModel(load, timeout=9))
    for model in models:
        unload, load = pb.UnloadModelRequest(model_id=model), pb.LoadModelRequest(model_id=model)
        yield f"unload {model}", lambda unload=unload: plain(models_admin.UnloadModel(unload, timeout=9))
        yield f"load {model}", lambda load=load: plain(models_admin.LoadModel(load, timeout=60))
        stats = pb.GetModelStatsRequest(model_id=model)
        yield f"stats of {model}", lambda stats=stats: plain(models_admin.GetModelStats(stats, timeout=9))
    yield "list", lambda: plain(models_admin.ListModels(pb.ListModelsRequest(), timeout=9))
    # Once all has settled: a session that is over is counted when its last message has gone.
    yield "statistics", lambda: plain(rpc.ServerAdminStub(channel).GetServerStats(pb.GetServerStatsRequest(), timeout=9))


def answers(server, port, folder, full):
    """Starts a server, goes through the trace, and returns what came, by name."""
    root = ROOT / "assets/avatars"
    models = {"mira": root / "mira", "tomo": root / "tomo"} | ({"full": full} if full else {})
    config = folder / "config.yaml"
    config.write_text(
        f'server: {{port: "127.0.0.1:{port}", worker_count: 2}}\noperations: {{enabled: false}}\n'
        f"capacity: {{bake: off}}\nmodels_root: {root}\nmodels:\n"
        + "".join(f"  {name}: {{path: {path}}}\n" for name, path in models.items())
    )
    log = (folder / "log").open("w")
    process = subprocess.Popen([server, "--config", config], stdout=log, stderr=log)
    found = {}
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", 256 << 20)])
        grpc.channel_ready_future(channel).result(60)
        trace = [(f"{model}: {name}", call) for model in models for name, call in unary(channel, model)]
        trace += [(f"{model}: {name}", call) for model in models for name, call in sessions(channel, model)]
        trace += list(admin(channel, models))
        for name, call in trace:
            assert name not in found, name
            found[name] = outcome(call)
    finally:
        process.terminate()
        process.wait(60)
        log.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("--full", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--port", type=int, default=51320)
    args = parser.parse_args()
    both = []
    for server in (args.old, args.new):
        with tempfile.TemporaryDirectory() as folder:
            both.append(answers(server, args.port, pathlib.Path(folder), args.full))
    differing = [name for name in both[0] if both[0][name] != both[1][name]]
    for name in differing:
        print(f"{name}:\n  old {str(both[0][name])[:600]}\n  new {str(both[1][name])[:600]}")
    n_frames = sum(
        len(found) if isinstance(found, list) else len(found.get("frames", ())) for found in both[0].values()
    )
    n_refused = sum(isinstance(found, dict) and "code" in found for found in both[0].values())
    print(f"{len(both[0])} calls, {n_refused} of them refused, {n_frames} frames and messages; {len(differing)} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
