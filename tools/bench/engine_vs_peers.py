"""Times our engine, ONNX Runtime and OpenVINO on one network, taking turns.

Usage: engine_vs_peers.py [FILE.onnx] [--rounds N] [--frames N] [--only NAME,...] [--json FILE]

Without a file it is the full-size 328 network with seeded weights. All contestants stay loaded; in
each round each of them runs a few frames, one after the other, so that a busy or throttled machine
touches all alike. A round has a turn of one thread (ms a frame) and a turn of two (two frames at a time,
frames/s). The tensors are f32 for everybody. The rows named `faces` run the same network as the server
does, from and to bytes; `faces-cached` is the best case of the visual cache, all hits. `machine` is no network but
a product of small matrices that stays in the first-level cache: its two/one says what a second core adds on this
machine where neither memory nor an engine is to blame.

At the end it compares a few random frames in fewer bits with the same engine's frames in f32, over bytes. Nobody was
calibrated on them. Our int8 is in every step that can take it; `lipsync-server compare-precision` leaves steps out
where that is not good enough. `--mix` times what it left, as `engine mix`, whose decibels are in the verdict.

Fairness: every peer has one intra-op thread per frame, because that is what serves most frames a second;
for two threads it has two streams (OpenVINO) or two callers of one session (ONNX Runtime), as our engine
has two workers. Peers get the network as exported, with all their graph optimisations.

Needs `pip install -r tools/bench/requirements.txt` and cargo.
"""

import argparse
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

import bench

N_THREADS = 2


class Unavailable(Exception):
    """A contestant that this machine or build cannot run."""


class Engine:
    """Our engine, as the program `bench_network`."""

    def __init__(self, program, path, isa, precision, run):
        command = [program, path, "serve", isa, precision, run]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.measure(1, 1)

    def measure(self, n_frames, n_threads):
        print(n_frames, n_threads, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline().split()
        if not line:
            raise Unavailable("bench_network ended")
        return [float(ms) for ms in line]


class Peer:
    """Runs `infer(thread)`, which makes one frame, on threads of ours."""

    def measure(self, n_frames, n_threads):
        if n_threads == 1:
            return [self.timed(lambda: self.infer(0)) for _ in range(n_frames)]

        def frames(thread):
            for _ in range(n_frames):
                self.infer(thread)

        def all_threads():
            threads = [threading.Thread(target=frames, args=(i,)) for i in range(n_threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return [self.timed(all_threads) / (n_frames * n_threads)]

    @staticmethod
    def timed(work):
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1e3


def random_inputs(inputs):
    random = np.random.default_rng(7)
    return {name: random.random(shape, dtype=np.float32) for name, shape in inputs}


class OnnxRuntime(Peer):
    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        size = lambda d: d if isinstance(d, int) else 1
        self.feeds = random_inputs(
            (t.name, [size(d) for d in t.shape]) for t in self.session.get_inputs()
        )
        self.measure(2, 1)

    def infer(self, _thread):
        self.session.run(None, self.feeds)

    def picture(self, feeds):
        return self.session.run(None, feeds)[0]


@functools.cache
def quantised(path):
    """The file in int8 as ONNX Runtime's own tools make it: static, QDQ, per channel, calibrated on inputs like
    those that are measured."""
    from onnxruntime import quantization

    class Inputs(quantization.CalibrationDataReader):
        def __init__(self):
            random = np.random.default_rng(8)
            shapes = OnnxRuntime(path).feeds.items()
            self.frames = iter(
                [
                    {name: random.random(feed.shape, dtype=np.float32) for name, feed in shapes}
                    for _ in range(8)
                ]
            )

        def get_next(self):
            return next(self.frames, None)

    prepared, result = path + ".prepared.onnx", path + ".int8.onnx"
    quantization.shape_inference.quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        result,
        Inputs(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    return result


class OpenVino(Peer):
    def __init__(self, path, precision):
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        shapes = {
            port: [1, *(d.get_length() for d in list(port.partial_shape)[1:])]
            for port in model.inputs
        }
        model.reshape(shapes)
        self.requests = {}
        for n_streams in (1, N_THREADS):
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": n_streams,
                    "NUM_STREAMS": n_streams,
                    "INFERENCE_PRECISION_HINT": precision,
                },
            )
            self.requests[n_streams] = [compiled.create_infer_request() for _ in range(n_streams)]
        feeds = random_inputs((port.any_name, port.shape) for port in model.inputs)
        for requests in self.requests.values():
            for request in requests:
                for name, value in feeds.items():
                    request.set_tensor(name, openvino.Tensor(value))
        self.active = self.requests[1]
        self.measure(2, 1)

    def measure(self, n_frames, n_threads):
        self.active = self.requests[n_threads]
        return super().measure(n_frames, n_threads)

    def infer(self, thread):
        self.active[thread].infer()

    def picture(self, feeds):
        import openvino

        request = self.requests[1][0]
        for name, value in feeds.items():
            request.set_tensor(name, openvino.Tensor(value))
        request.infer()
        return request.get_output_tensor(0).data.copy()


def contestants(path, arguments):
    """Name to a function that loads it, in the order in which they take turns."""
    program = arguments.program or bench.build("lipsync-engine", "example", "bench_network")
    engine = lambda *options: lambda: Engine(program, path, arguments.isa, *options)
    every = {}
    for precision in ("f32", "bf16", "int16", "int8"):
        every[f"engine {precision}"] = engine(precision, "tensors")
        every[f"engine {precision} faces"] = engine(precision, "faces")
        every[f"engine {precision} faces-cached"] = engine(precision, "faces-cached")
    if arguments.mix:
        every["engine mix"] = engine(mix(arguments.mix), "tensors")
        every["engine mix faces"] = engine(mix(arguments.mix), "faces")
        every["engine mix faces-cached"] = engine(mix(arguments.mix), "faces-cached")
    every["machine"] = engine("f32", "product")
    every["onnxruntime f32"] = lambda: OnnxRuntime(path)
    every["onnxruntime int8"] = lambda: OnnxRuntime(quantised(path))
    every["openvino f32"] = lambda: OpenVino(path, "f32")
    every["openvino bf16"] = lambda: OpenVino(path, "bf16")
    every["openvino int8"] = lambda: OpenVino(quantised(path), "f32")
    if arguments.only:
        wanted = arguments.only.split(",")
        return {name: load for name, load in every.items() if any(w in name for w in wanted)}
    return every


def mix(verdict):
    """The precision of a verdict file's kind of int8: FILE:KEY, as `compare-precision` wrote it."""
    file, _, key = verdict.rpartition(":")
    steps = json.loads(pathlib.Path(file).read_text())[key]["steps"]
    return "int8:" + ",".join(map(str, steps))


def psnr_db(exact, other, path, n_frames):
    """PSNR of each of some random frames, over the bytes of pictures whose numbers are 0 to 1."""
    random = np.random.default_rng(9)
    shapes = [(name, feed.shape) for name, feed in OnnxRuntime(path).feeds.items()]
    found = []
    for _ in range(n_frames):
        feeds = {name: random.random(shape, dtype=np.float32) for name, shape in shapes}
        levels = [np.round(peer.picture(feeds) * 255) for peer in (exact, other)]
        mean = np.mean((levels[0] - levels[1]) ** 2)
        found.append(float(10 * np.log10(255**2 / max(mean, 1e-10))))
    return found


def quality(runners, path, isa, n_frames=4):
    """How far frames in fewer bits are from their own f32."""
    program = bench.build("lipsync-engine", "example", "bench_network")
    found = {}
    for name in runners:
        family, precision, *_ = [*name.split(), ""]
        if precision in ("", "f32", "mix") or "faces" in name:
            continue
        if family == "engine":
            command = [program, path, str(n_frames), isa, precision, "psnr"]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[name] = [float(db) for db in out.split()]
        elif f"{family} f32" in runners:
            found[name] = psnr_db(runners[f"{family} f32"], runners[name], path, n_frames)
    print("\nPSNR against f32, dB            mean    worst")
    for name, db in found.items():
        print(f"{name:<26}{statistics.mean(db):>10.1f}{min(db):>9.1f}")
    return found


def versions():
    import onnxruntime
    import openvino

    return {"onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__.split("-")[0]}


def table(results):
    rows = {}
    print(f"{'':<26}{'one thread, ms a frame':>26}{'two threads, frames/s':>28}{'two/one':>9}")
    print(f"{'':<26}{'median':>15}{'minimum':>11}{'median':>17}{'best':>11}{'':>9}")
    for name, (one, two) in results.items():
        row = {
            "one_thread_ms": {"median": statistics.median(one), "minimum": min(one)},
            "two_threads_fps": {"median": 1e3 / statistics.median(two), "best": 1e3 / min(two)},
        }
        row["two_over_one"] = (
            row["two_threads_fps"]["median"] * row["one_thread_ms"]["median"] / 1e3
        )
        rows[name] = row
        print(
            f"{name:<26}{row['one_thread_ms']['median']:>15.2f}{min(one):>11.2f}"
            f"{row['two_threads_fps']['median']:>17.1f}{1e3 / min(two):>11.1f}"
            f"{row['two_over_one']:>8.2f}x"
        )
    return rows


# How many times faster the first is than the second, and what is aimed at.
RATIOS = [
    ("engine f32", "onnxruntime f32", 1.6),
    ("engine f32", "openvino f32", 1.4),
    ("engine bf16", "openvino bf16", 1.2),
    ("engine f32 faces-cached", "engine f32 faces", 1.25),
    ("engine bf16 faces-cached", "engine bf16 faces", 1.25),
    ("engine int16", "engine f32", 1.3),
    ("engine int16", "onnxruntime f32", 1.5),
    ("engine int16", "onnxruntime int8", 1.0),
    ("engine int16", "openvino int8", 1.0),
    ("engine int16 faces-cached", "engine int16 faces", 1.25),
    ("engine int8", "engine f32", 1.6),
    ("engine int8", "onnxruntime f32", 1.7),
    ("engine int8", "onnxruntime int8", 1.0),
    ("engine int8", "openvino int8", 1.0),
    ("engine int8 faces-cached", "engine int8 faces", 1.25),
    ("engine mix", "engine f32", 1.6),
    ("engine mix", "onnxruntime f32", 1.7),
    ("engine mix", "onnxruntime int8", 1.0),
    ("engine mix", "openvino int8", 1.0),
]


def ratios(rows):
    found = []
    print("\none thread: times faster       medians   minima    target")
    for ours, theirs, target in RATIOS:
        if ours not in rows or theirs not in rows:
            continue
        a, b = rows[ours]["one_thread_ms"], rows[theirs]["one_thread_ms"]
        median, minimum = b["median"] / a["median"], b["minimum"] / a["minimum"]
        found.append({"ours": ours, "theirs": theirs, "medians": median, "minima": minimum})
        print(f"{ours} : {theirs}\n{'':<29}{median:>8.2f}x{minimum:>8.2f}x{target:>9.2f}x")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--frames", type=int, default=5, help="frames of each turn and thread")
    parser.add_argument("--isa", default="auto", help="as in engine.cpu_isa")
    parser.add_argument("--only", help="only contestants whose name holds one of these")
    parser.add_argument("--mix", metavar="FILE:KEY", help="also int8 in the steps of this verdict, int8_bf16 for example")
    parser.add_argument("--program", help="a bench_network that was built before")
    parser.add_argument("--json", type=pathlib.Path, help="also write everything to this file")
    bench.add_load_arguments(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file
        if path is None:
            writer = bench.build("lipsync-engine", "example", "write_network")
            subprocess.run([writer, folder, "328-ave"], check=True)
            path = str(pathlib.Path(folder) / "328-ave.onnx")
        measure(path, arguments)


def measure(path, arguments):
    loaders = contestants(path, arguments)
    load = bench.wait_for_quiet(arguments.wait, arguments.busy)
    runners = {}
    for name, load_contestant in loaders.items():
        try:
            runners[name] = load_contestant()
        except Unavailable as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
    times = {name: ([], []) for name in runners}
    for _ in range(arguments.rounds):
        for name, runner in runners.items():
            times[name][0].extend(runner.measure(arguments.frames, 1))
        for name, runner in runners.items():
            times[name][1].extend(runner.measure(arguments.frames, N_THREADS))
    context = bench.context(load)
    bench.print_context(context, versions())
    n_frames = arguments.rounds * arguments.frames
    print(f"{pathlib.Path(path).name}, {n_frames} frames each, kernels: {arguments.isa}\n")
    rows = table(times)
    found, db = ratios(rows), quality(runners, path, arguments.isa)
    if arguments.json:
        document = {"context": context, "versions": versions(), "rows": rows, "ratios": found}
        document["psnr_db"] = db
        document["times_ms"] = {name: {"one": a, "two": b} for name, (a, b) in times.items()}
        arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
