"""Times a network in PyTorch on a GPU: fp16, channels-last; eager, in a CUDA graph, and compiled.

Usage: peer.py FILE.onnx [--batches 1,8,16,64] [--seconds S] [--json FILE]
       peer.py FILE.onnx --check          compares it with ONNX Runtime on the CPU, in f32

What is timed favours the peer: inputs lie on the device in fp16, and the output stays there. Our engine takes
bytes from the host and gives bytes back.
"""

import argparse
import json
import sys

import numpy as np
import torch

from torch_network import Network

# Runs before anything is timed; compiling happens in the first.
N_WARM_UPS = 10


def inputs_of(network, n_frames, **options):
    generator = torch.Generator().manual_seed(n_frames)
    return [torch.rand((n_frames, *dims), generator=generator).to(**options) for dims in network.input_dims]


def check(path):
    """The worst relative L2 distance from ONNX Runtime's output, over batches of 1 and 3."""
    import onnxruntime

    network = Network(path).eval()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n_frames in (1, 3):
        inputs = inputs_of(network, n_frames)
        with torch.inference_mode():
            ours = network(*inputs).numpy()
        feeds = {name: array.numpy() for name, array in zip(network.inputs, inputs)}
        theirs = session.run(None, feeds)[0]
        worst = max(worst, float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)))
    return worst


def in_graph(network, inputs):
    """A function that replays one captured run."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            network(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(*inputs)
    return graph.replay


def ways(network, inputs):
    yield "eager", lambda: (lambda: network(*inputs))
    yield "cuda graph", lambda: in_graph(network, inputs)
    # This mode captures CUDA graphs of what it compiled, too. For each batch anew: a program for any batch
    # would be slower.
    torch.compiler.reset()
    compiled = torch.compile(network, mode="max-autotune", dynamic=False)
    yield "compiled", lambda: (lambda: compiled(*inputs))


def time_of(run, seconds):
    """Milliseconds of a run, the median of several measurements by the device's own clock."""
    for _ in range(N_WARM_UPS):
        run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def measure(n_runs):
        start.record()
        for _ in range(n_runs):
            run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / n_runs

    n_runs = max(1, int(seconds * 1000 / 7 / max(measure(3), 1e-3)))
    return sorted(measure(n_runs) for _ in range(7))[3]


def measure(path, batches, seconds):
    torch.backends.cudnn.benchmark = True
    network = Network(path).eval().half().cuda().to(memory_format=torch.channels_last)
    rows = []
    for n_frames in batches:
        options = {"device": "cuda", "dtype": torch.float16, "memory_format": torch.channels_last}
        inputs = inputs_of(network, n_frames, **options)
        for name, make in ways(network, inputs):
            row = {"way": name, "batch": n_frames}
            try:
                with torch.inference_mode():
                    row["ms"] = time_of(make(), seconds)
                row["frames_per_s"] = 1000 * n_frames / row["ms"]
            except Exception as error:  # One way that fails must not hide the others.
                row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--batches", default="1,8,16,64")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        worst = check(args.file)
        print(f"{args.file}: relative L2 from ONNX Runtime {worst:.1e}")
        return 0 if worst <= 1e-5 else 1
    if not torch.cuda.is_available():
        print("PyTorch sees no CUDA device: nothing was measured.", file=sys.stderr)
        return 3
    result = measure(args.file, [int(n) for n in args.batches.split(",")], args.seconds)
    text = json.dumps(result, indent=2)
    if args.json:
        with open(args.json, "w") as file:
            file.write(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
