"""Puts one load on our server and on a well-written Python server in turns.

Usage: end_to_end_vs_python.py [--rounds N] [--duration SECONDS] [--isa ISA] [--only NAME,...] [--json FILE]

The load: 4 clients, each asking for 8 frames of the full-size 328 network again as soon as it has the last
8 (`lipsync-load-test --profile saturate`), 1280x720 JPEG of quality 85, feature windows as input, since the
peer has no audio encoder. All servers are up all the time; in each round each gets the load for a while.
The client runs on the same cores. Before that, all are asked for the same frames, which must be alike. What the peer does to be fast is written in python_server.py; both
sides have two workers on two cores and all background frames in memory, the peer decoded, ours baked.

Needs `pip install -r tools/bench/requirements.txt` and cargo.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import grpc
import numpy as np

import bench
import wire

FRAMES = 200
VARIANTS = {
    # name: (whether there is a visual cache, what the model's entry says of precision)
    "f32": (False, "f32"),
    "f32 + visual cache": (True, "f32"),
    "bf16": (False, "bf16"),
    "bf16 + visual cache": (True, "bf16"),
    "int16": (False, "int16"),
    "int16 + visual cache": (True, "int16"),
    # What the verdict of compare-precision allows on this processor.
    "auto": (False, "auto"),
    "auto + visual cache": (True, "auto"),
}
# Times faster than the peer that are aimed at, on a processor with AVX-512 and bf16.
TARGETS = {"f32": 1.6, "f32 + visual cache": 1.8, "bf16 + visual cache": 3.5}

# Shape of an audio window, and messages that hold a batch.
WINDOW = (32, 16, 16)
LARGE = [("grpc.max_receive_message_length", 64 << 20)]
# Two encoders, two resizes and bf16 differ by less, other faces by more.
ALIKE_DB = 30

CONFIG = """\
server: {{port: "127.0.0.1:{port}", worker_count: 2}}
operations: {{enabled: false}}
capacity: {{background_cache_frames: {frames}, preload_frames: {frames}, bake: "off"}}
engine: {{visual_cache_mb: {cache_mb}, cpu_isa: {isa}}}
output: {{jpeg_quality: 85}}
logging: {{level: warn}}
models_root: {root}
models: {{full: {{path: {avatar}, preload: true, precision: {precision}}}}}
"""


class Unavailable(Exception):
    """A variant that this machine or build does not serve."""


class Server:
    """A process that serves on a port of this machine."""

    def __init__(self, port, command, ready):
        self.port, self.rates = port, []
        self.rss_mb = 0
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ready(self)

    def rss(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1e3

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def serves(server):
    """Waits until the server answers ListModels for a model that is ready."""
    end = time.monotonic() + 120
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/lipsync.v1.ModelAdmin/ListModels")
        while time.monotonic() < end:
            if server.process.poll() is not None:
                raise Unavailable(f"its server ended with {server.process.returncode}")
            try:
                call(b"", timeout=2)
                return
            except grpc.RpcError:
                time.sleep(0.2)
    sys.exit("a server did not come up")


def prints_a_line(server):
    server.setting = server.process.stdout.readline().strip()
    serves(server)


def start_all(arguments, folder, avatar, servers):
    server_program = bench.build("lipsync-server", "bin", "lipsync-server")
    wanted = arguments.only.split(",") if arguments.only else None
    chosen = lambda name: wanted is None or any(w in name for w in wanted)
    port = arguments.port
    for name, (cached, precision) in VARIANTS.items():
        if not chosen(name):
            continue
        config = pathlib.Path(folder) / f"{port}.yaml"
        text = CONFIG.format(
            port=port,
            frames=FRAMES,
            cache_mb=arguments.visual_cache_mb if cached else 0,
            root=avatar.parent,
            avatar=avatar.name,
            isa=arguments.isa,
            precision=precision,
        )
        config.write_text(text)
        command = [server_program, "--config", str(config)]
        if not servers:
            # Frames are baked beforehand, as in production, and not while something is measured.
            subprocess.run([*command, "bake"], check=True, stdout=subprocess.DEVNULL)
        if precision == "auto" and not (avatar / "generator.precision.json").exists():
            subprocess.run([*command, "compare-precision"], check=True)
        try:
            servers[name] = Server(port, command, serves)
        except Unavailable as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
        port += 1
    peer = [sys.executable, str(bench.ROOT / "tools/bench/python_server.py"), str(avatar)]
    peer += ["--port", str(port), "--cores", "2"]
    if arguments.setting:
        peer += ["--setting", arguments.setting]
    servers["python"] = Server(port, peer, prints_a_line)


def load(program, server, arguments, folder):
    """One turn; frames per second."""
    report = pathlib.Path(folder) / "report.json"
    command = [program, "--addr", f"127.0.0.1:{server.port}", "--model", "full", "--users", "4"]
    command += ["--profile", "saturate", "--batch", "8", "--input", "windows", "--quiet"]
    command += ["--duration", f"{arguments.duration}s", "--warm-up", "2s", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"the load test ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    server.rates.append(json.loads(report.read_text())["run"]["frames_per_second"])
    server.rss_mb = server.rss()


def frames(pb, server):
    """The faces of a batch with the same audio for everybody, u8."""
    windows = np.random.default_rng(7).standard_normal((8, *WINDOW), dtype=np.float32)
    request = pb.InferBatchCompositeRequest(model_id="full")
    request.windows.data = windows.tobytes()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=LARGE) as channel:
        call = channel.unary_unary(
            "/lipsync.v1.LipSync/InferBatchComposite",
            request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=pb.InferBatchCompositeResponse.FromString,
        )
        answer = call(request, timeout=120)
    for frame in answer.frames:
        picture = cv2.imdecode(np.frombuffer(frame.data, np.uint8), cv2.IMREAD_COLOR)
        x, y, r = frame.region.x, frame.region.y, frame.region
        yield picture[y : y + r.height, x : x + r.width]


def compare_frames(pb, servers):
    """Ends the run where a server's faces are not the peer's."""
    peer = list(frames(pb, servers["python"]))
    for name, server in servers.items():
        if name == "python":
            continue
        pairs = zip(frames(pb, server), peer, strict=True)
        worst = min(cv2.PSNR(ours, theirs) for ours, theirs in pairs)
        print(f"{name}: faces within {worst:.1f} dB of the peer's")
        if worst < ALIKE_DB:
            sys.exit(f"{name}: not the peer's frames: {worst:.1f} dB")


def visual_cache(pb, server):
    """Budget and contents of the visual cache, MB, and its hit rate."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(
            "/lipsync.v1.ServerAdmin/GetServerStats",
            request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=pb.GetServerStatsResponse.FromString,
        )
        stats = call(pb.GetServerStatsRequest()).visual_cache
    asked = stats.hits + stats.misses
    return {
        "budget_mb": stats.capacity_bytes / 1e6,
        "resident_mb": stats.resident_bytes / 1e6,
        "hit_rate": stats.hits / asked if asked else 0,
    }


def table(servers, pb):
    peer = statistics.median(servers["python"].rates)
    rows = {}
    heads = ["median", "best", "x python", "target", "RSS MB", "cache MB", "budget MB", "hits"]
    print(f"{'frames/s':<22}" + "".join(f"{head:>11}" for head in heads))
    for name, server in servers.items():
        median = statistics.median(server.rates)
        row = {
            "frames_per_second": {"median": median, "best": max(server.rates)},
            "times_python": median / peer,
            "rss_mb": server.rss_mb,
            "rates": server.rates,
        }
        cells = [f"{median:.1f}", f"{max(server.rates):.1f}", f"{median / peer:.2f}"]
        cells += [f"{TARGETS[name]:.1f}" if name in TARGETS else "", f"{server.rss_mb:.0f}"]
        if name != "python":
            row["visual_cache"] = cache = visual_cache(pb, server)
            cells += [f"{cache['resident_mb']:.0f}", f"{cache['budget_mb']:.0f}"]
            cells += [f"{100 * cache['hit_rate']:.0f} %"]
        else:
            row["setting"] = server.setting
        rows[name] = row
        print(f"{name:<22}" + "".join(f"{cell:>11}" for cell in cells))
    setting = servers["python"].setting
    print(f"\npython: callers x threads x frames of a call = {setting}, the fastest that it tried")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=int, default=8, help="seconds of each turn (8)")
    parser.add_argument("--isa", default="auto", help="of ours, as in engine.cpu_isa")
    parser.add_argument("--avatar", type=pathlib.Path, default=bench.ROOT / "out/full")
    parser.add_argument("--visual-cache-mb", type=int, default=2048)
    parser.add_argument("--port", type=int, default=50151)
    parser.add_argument("--setting", help="of the Python server, instead of trying them")
    parser.add_argument("--only", help="only variants of ours whose name holds one of these")
    parser.add_argument("--json", type=pathlib.Path, help="also write everything to this file")
    bench.add_load_arguments(parser)
    arguments = parser.parse_args()
    avatar = arguments.avatar.resolve()
    if not (avatar / "generator.onnx").exists():
        subprocess.run([bench.ROOT / "tools/bench/full_size_avatar.sh", avatar], check=True)
    program = bench.build("lipsync-load-test", "bin", "lipsync-load-test")
    bench.build("lipsync-server", "bin", "lipsync-server")
    load_before = bench.wait_for_quiet(arguments.wait, arguments.busy)
    servers = {}
    with tempfile.TemporaryDirectory() as folder:
        pb = wire.messages(folder)
        try:
            start_all(arguments, folder, avatar, servers)
            compare_frames(pb, servers)
            for _ in range(arguments.rounds):
                for server in servers.values():
                    load(program, server, arguments, folder)
            context = bench.context(load_before)
            bench.print_context(context, {})
            rows = table(servers, pb)
        finally:
            for server in servers.values():
                server.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps({"context": context, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
