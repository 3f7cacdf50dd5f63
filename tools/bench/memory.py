"""Resident memory of a server under mixed load, and what is left when its models are unloaded.

    python tools/bench/memory.py --minutes 30 [--server target/release/lipsync-server]

Starts the server with the demo avatars. Some clients then ask for everything at once: short and long PCM, large
uploads of windows, pictures in all formats, live sessions with interruptions, and now and then a model that is
unloaded and loaded again. Prints resident memory over time, its slope over the second half of the run, and what
remains after all models are unloaded. Needs grpcio and protobuf.
"""

import argparse
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients/python/src"))

import grpc  # noqa: E402
from lipsync_client.v1 import lipsync_pb2 as pb  # noqa: E402
from lipsync_client.v1 import lipsync_pb2_grpc as rpc  # noqa: E402

MODELS = ("mira", "tomo")
RATE = 16_000
FORMATS = (pb.OUTPUT_FORMAT_JPEG, pb.OUTPUT_FORMAT_PNG, pb.OUTPUT_FORMAT_RGB, pb.OUTPUT_FORMAT_I420)
# grpc.max_receive_message_length
LARGE = [("grpc.max_receive_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1)]


class Load:
    """Clients in threads, each with a channel of its own."""

    def __init__(self, port, seed):
        self.port, self.seed = port, seed
        self.is_over = threading.Event()
        self.done, self.failed = 0, {}
        self.lock = threading.Lock()

    def run(self, what, number):
        """Does one kind of thing until the end."""
        chance = random.Random(f"{self.seed}-{what.__name__}-{number}")
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=LARGE)
        while not self.is_over.is_set():
            try:
                what(channel, chance)
                outcome = None
            except grpc.RpcError as error:
                outcome = error.code().name
            with self.lock:
                self.done += outcome is None
                if outcome:
                    self.failed[outcome] = self.failed.get(outcome, 0) + 1
            self.is_over.wait(chance.uniform(0, 0.2))


def speech(chance, seconds):
    """Noise that is loud enough not to be taken for silence."""
    return chance.randbytes(int(seconds * RATE) * 2)


def batch(channel, chance):
    """A few frames of a clip of some length."""
    n_frames = chance.randint(1, 32)
    pcm = pb.Pcm(samples=speech(chance, n_frames / 25 + chance.uniform(0.1, 8)), sample_rate_hz=RATE)
    output = pb.OutputOptions(format=chance.choice(FORMATS[:2]), region_only=chance.random() < 0.5)
    rpc.LipSyncStub(channel).InferBatchComposite(
        pb.InferBatchCompositeRequest(
            model_id=chance.choice(MODELS), pcm=pcm, frame_count=n_frames, output=output
        ),
        timeout=60,
    )


def upload(channel, chance):
    """An upload of megabytes, of which little is wanted."""
    pcm = pb.Pcm(samples=bytes(chance.randint(1, 12) << 20), sample_rate_hz=RATE)
    rpc.LipSyncStub(channel).InferBatchComposite(
        pb.InferBatchCompositeRequest(model_id="mira", pcm=pcm, frame_count=2), timeout=60
    )


def backgrounds(channel, chance):
    """Pictures of any format."""
    indices = [chance.randrange(60) for _ in range(chance.randint(1, 8))]
    rpc.LipSyncStub(channel).GetBackground(
        pb.GetBackgroundRequest(
            model_id=chance.choice(MODELS),
            background_indices=indices,
            output=pb.OutputOptions(format=chance.choice(FORMATS)),
        ),
        timeout=60,
    )


def session(channel, chance):
    """A conversation of some utterances, some of them interrupted."""

    def says():
        yield pb.StreamCompositeRequest(
            open=pb.OpenSession(model_id=chance.choice(MODELS), sample_rate_hz=RATE)
        )
        for segment in range(1, chance.randint(2, 6)):
            for _ in range(chance.randint(1, 8)):
                chunk = pb.AudioChunk(segment_id=segment, pcm=speech(chance, 0.2))
                yield pb.StreamCompositeRequest(audio=chunk)
                time.sleep(0.05)
            if chance.random() < 0.3:
                yield pb.StreamCompositeRequest(clear=pb.Clear(segment_id=segment))
            else:
                yield pb.StreamCompositeRequest(end_segment=pb.EndSegment(segment_id=segment))

    for _ in rpc.LipSyncStub(channel).StreamComposite(says(), timeout=120):
        pass


def reload(channel, chance):
    """A model that goes and comes back."""
    time.sleep(chance.uniform(5, 15))
    model = pb.UnloadModelRequest(model_id="tomo")
    rpc.ModelAdminStub(channel).UnloadModel(model, timeout=60)


def resident_mb(pid):
    """RSS of a process, MB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def slope(rows):
    """MB an hour by least squares."""
    n = len(rows)
    mean_t, mean_m = sum(t for t, _ in rows) / n, sum(m for _, m in rows) / n
    above = sum((t - mean_t) * (m - mean_m) for t, m in rows)
    return 3600 * above / sum((t - mean_t) ** 2 for t, _ in rows)


def measure(args, folder):
    """Runs the load and prints what it did to the server's memory."""
    config = folder / "config.yaml"
    config.write_text(
        f'server: {{port: "127.0.0.1:{args.port}"}}\noperations: {{enabled: false}}\n'
        f"capacity: {{bake: off}}\nmodels_root: {ROOT}/assets/avatars\n"
        "models: {mira: {path: mira, preload: true}, tomo: {path: tomo, preload: true}}\n"
    )
    log = (folder / "log").open("w")
    server = subprocess.Popen([args.server, "--config", config], stderr=log, stdout=log)
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{args.port}")
        grpc.channel_ready_future(channel).result(30)
        time.sleep(2)
        print(f"at start {resident_mb(server.pid):.0f} MB", flush=True)
        load = Load(args.port, args.seed)
        whats = [batch, batch, upload, backgrounds, session, session, reload]
        threads = [
            threading.Thread(target=load.run, args=(what, n), daemon=True) for n, what in enumerate(whats)
        ]
        for thread in threads:
            thread.start()
        begun, rows = time.monotonic(), []
        while (now := time.monotonic() - begun) < args.minutes * 60:
            rows.append((now, resident_mb(server.pid)))
            if len(rows) % 30 == 1:
                print(f"{now / 60:5.1f} min {rows[-1][1]:6.0f} MB", flush=True)
            time.sleep(2)
        load.is_over.set()
        for thread in threads:
            thread.join(120)
        half = [row for row in rows if row[0] >= args.minutes * 30]
        print(f"calls {load.done}, failed {load.failed or 0}")
        print(f"second half: {min(m for _, m in half):.0f} to {max(m for _, m in half):.0f} MB, "
              f"slope {slope(half):+.0f} MB/h")
        for model in MODELS:
            request = pb.UnloadModelRequest(model_id=model)
            rpc.ModelAdminStub(channel).UnloadModel(request, timeout=30)
        for wait in (0, 10, 60):
            time.sleep(wait)
            print(f"{wait} s after all models are unloaded: {resident_mb(server.pid):.0f} MB", flush=True)
    finally:
        server.terminate()
        server.wait(60)
        log.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default=ROOT / "target/release/lipsync-server")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--port", type=int, default=51300)
    parser.add_argument("--seed", type=int, default=1)
    with tempfile.TemporaryDirectory() as folder:
        measure(parser.parse_args(), pathlib.Path(folder))


if __name__ == "__main__":
    main()
