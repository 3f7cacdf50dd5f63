"""Times our engine and ONNX Runtime on one network, one thread each, taking turns.

Usage: engine_vs_onnxruntime.py [FILE.onnx] [--pairs N] [--frames N] [--isa ISA]

Without a file it is the full-size 328 network with seeded weights. Both programs stay loaded; in
each pair one runs a few frames, then the other, so that a busy or throttled machine touches both
alike. Needs `pip install numpy onnxruntime` and cargo.
"""

import argparse
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def example(name):
    command = ["cargo", "build", "--release", "--quiet", "-p", "lipsync-engine", "--example", name]
    subprocess.run(command, cwd=ROOT, check=True)
    return str(TARGET / "release" / "examples" / name)


class OnnxRuntime:
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        random = np.random.default_rng(7)
        shapes = {
            t.name: [d if isinstance(d, int) else 1 for d in t.shape]
            for t in self.session.get_inputs()
        }
        self.feeds = {k: random.random(s, dtype=np.float32) for k, s in shapes.items()}
        self.measure(2)

    def measure(self, n_frames):
        times = []
        for _ in range(n_frames):
            start = time.perf_counter()
            self.session.run(None, self.feeds)
            times.append((time.perf_counter() - start) * 1e3)
        return times


class Engine:
    def __init__(self, path, isa):
        command = [example("bench_network"), path, "serve", isa]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.measure(1)

    def measure(self, n_frames):
        print(n_frames, file=self.process.stdin, flush=True)
        return [float(ms) for ms in self.process.stdout.readline().split()]


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--frames", type=int, default=5, help="frames of each turn")
    parser.add_argument("--isa", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file
        if path is None:
            subprocess.run([example("write_network"), folder, "328-ave"], check=True)
            path = str(pathlib.Path(folder) / "328-ave.onnx")
        runners = {"engine": Engine(path, arguments.isa), "onnxruntime": OnnxRuntime(path)}
    load_before = os.getloadavg()[0]
    times = {name: [] for name in runners}
    for _ in range(arguments.pairs):
        for name, runner in runners.items():
            times[name] += runner.measure(arguments.frames)
    commit = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(commit, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    print(f"machine      {cpu_name()}, {os.cpu_count()} CPUs, one thread each")
    print(f"load         {load_before:.2f} before, {os.getloadavg()[0]:.2f} after")
    print(f"versions     commit {commit}, onnxruntime {onnxruntime.__version__}")
    print(f"network      {pathlib.Path(path).name}, {len(times['engine'])} frames each")
    for name, ms in times.items():
        print(f"{name:<12} median {statistics.median(ms):7.2f} ms   minimum {min(ms):7.2f} ms")
    ratio = [f(times["engine"]) / f(times["onnxruntime"]) for f in (statistics.median, min)]
    print(f"engine / onnxruntime: {ratio[0]:.2f} of medians, {ratio[1]:.2f} of minima")


if __name__ == "__main__":
    main()
