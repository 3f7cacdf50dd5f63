"""Times a network in PyTorch on a GPU: fp16, channels-last; eager, in a CUDA graph, and compiled.

Usage: peer.py FILE.onnx [--batches 1,8,16,64] [--ways eager,graph,compiled] [--seconds S]
       peer.py FILE.onnx --cpu            the same on the CPU in f32, to try the program
       peer.py FILE.onnx --check          compares it with ONNX Runtime on the CPU, in f32

Needs PyTorch and numpy; `compiled` also a C compiler, and --check ONNX Runtime. Exit code 1 where a way gave no figure.

Prints a JSON object a line, each as soon as it is known. What is timed favours the peer: inputs lie on the device
in fp16, and the output stays there. Our engine takes bytes from the host and gives bytes back.
"""

import argparse
import json
import sys
import time

try:
    import torch

    from torch_network import Network
except ImportError as error:
    sys.exit(f"the peer needs PyTorch and numpy: {error}")

# Runs before anything is timed; compiling happens in the first.
N_WARM_UPS = 10


def inputs_of(network, n_frames, **options):
    generator = torch.Generator().manual_seed(n_frames)
    return [torch.rand((n_frames, *dims), generator=generator).to(**options) for dims in network.input_dims]


def check(path):
    """The worst relative L2 distance from ONNX Runtime's output, over batches of 1 and 3."""
    import numpy as np
    import onnxruntime

    # Of one thread each: threads of two libraries that wait for each other by spinning take many minutes on a
    # machine that has other things to do.
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    network = Network(path).eval()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
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
    # The inputs were made on the other stream.
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            network(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(*inputs)

    def replay(kept_alive=(network, inputs)):
        # The graph knows addresses only.
        graph.replay()

    return replay


def compiled(network, inputs):
    # For each batch anew: a program for any batch would be slower. This mode captures CUDA graphs of what it
    # compiled, too, where there is a GPU.
    torch.compiler.reset()
    program = torch.compile(network, mode="max-autotune", dynamic=False)
    return lambda: program(*inputs)


WAYS = {
    "eager": lambda network, inputs: lambda: network(*inputs),
    "graph": in_graph,
    "compiled": compiled,
}


def on_gpu(n_runs, run):
    """Milliseconds of a run by the device's own clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(n_runs):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / n_runs


def on_cpu(n_runs, run):
    start = time.perf_counter()
    for _ in range(n_runs):
        run()
    return 1000 * (time.perf_counter() - start) / n_runs


def time_of(run, seconds, clock):
    """Milliseconds of a run, the median of several measurements."""
    first = clock(1, run)
    n_warm_ups = min(N_WARM_UPS, int(1 + 1000 * seconds / first))
    once = clock(n_warm_ups, run)
    n_runs = max(1, int(seconds * 1000 / 7 / max(once, 1e-3)))
    return sorted(clock(n_runs, run) for _ in range(7))[3]


def measure(args):
    """Prints a row for each way and batch; whether each way that this device has gave a figure."""
    options = {"dtype": torch.float16, "device": "cuda", "memory_format": torch.channels_last}
    if args.cpu:
        options.update(dtype=torch.float32, device="cpu")
    torch.backends.cudnn.benchmark = True
    device = "CPU" if args.cpu else torch.cuda.get_device_name()
    about = {"network": args.file, "device": device, "torch": torch.__version__}
    print(json.dumps({"part": "torch", **about}), flush=True)
    network = Network(args.file).eval().to(**options)
    clock = on_cpu if args.cpu else on_gpu
    ways = args.ways.split(",")
    # The CPU has no CUDA graphs.
    worked = {"graph"} if args.cpu else set()
    for way in ways:
        for n_frames in map(int, args.batches.split(",")):
            row = {"part": "peer", "network": args.file, "way": way, "batch": n_frames}
            try:
                if args.cpu and way == "graph":
                    raise RuntimeError("the CPU has no CUDA graphs")
                with torch.inference_mode():
                    row["ms"] = time_of(WAYS[way](network, inputs_of(network, n_frames, **options)), args.seconds, clock)
                row["frames_per_second"] = 1000 * n_frames / row["ms"]
                worked.add(way)
            except Exception as error:  # One way that fails must not hide the others.
                row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(json.dumps(row), flush=True)
    return worked.issuperset(ways)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--batches", default="1,8,16,64")
    parser.add_argument("--ways", default="eager,graph,compiled")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        worst = check(args.file)
        print(f"{args.file}: relative L2 from ONNX Runtime {worst:.1e}")
        return 0 if worst <= 1e-5 else 1
    if not args.cpu and not torch.cuda.is_available():
        print("PyTorch sees no CUDA device: nothing was measured.", file=sys.stderr)
        return 3
    return 0 if measure(args) else 1


if __name__ == "__main__":
    sys.exit(main())
