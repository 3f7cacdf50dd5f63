"""Times our engine and ONNX Runtime on a full-size network of each family, taking turns, on one thread.

Usage: families.py [--only NAME,...] [--rounds N] [--frames N] [--json FILE]

The networks are those of tools/export-zoo with the channels of the published ones and seeded weights, exported by
PyTorch (opset 17). Both contestants stay loaded. In each round each of them runs a few frames, one after the other, so
that a busy machine touches both alike. Tensors are f32 for both; ours runs in `--precision` (f32).

Needs `pip install -r tools/export-zoo/requirements.txt` and cargo.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import warnings

import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

import bench
from engine_vs_peers import Engine, OnnxRuntime

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "export-zoo"))

import networks  # noqa: E402

PUBLISHED = (32, 64, 128, 256, 512)
HALF = (16, 32, 64, 128, 256)


class Separable(nn.Module):
    """A MobileOne block as it is deployed: its branches merged."""

    def __init__(self, c_in, c_out, stride=1, shortcut=None):
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in)
        self.pointwise = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x):
        return F.relu(self.pointwise(F.relu(self.depthwise(x))))


FAMILIES = {
    "328 AVE": lambda: networks.UNet(320, "ave", channels=PUBLISHED),
    "328 HuBERT": lambda: networks.UNet(320, "hubert", channels=PUBLISHED),
    "160 AVE": lambda: networks.UNet(160, "ave", channels=PUBLISHED),
    "160 HuBERT": lambda: networks.UNet(160, "hubert", channels=PUBLISHED),
    "160 wenet": lambda: networks.UNet(160, "wenet", channels=PUBLISHED),
    "160 HuBERT, half the channels": lambda: networks.UNet(160, "hubert", channels=HALF),
    "160 MobileOne, merged": lambda: networks.UNet(160, "hubert", Separable, PUBLISHED),
    "160 MobileOne, as trained": lambda: networks.UNet(160, "hubert", networks.OneBlock, PUBLISHED),
}


def export(net, path):
    inputs = net.inputs()
    names = {"input_names": ["face", "audio"], "output_names": ["output"]}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, inputs, str(path), opset_version=17, dynamo=False, **names)


def measure(path, program, arguments):
    """Milliseconds of each frame, ours and ONNX Runtime's."""
    runners = [Engine(program, path, "auto", arguments.precision, "tensors"), OnnxRuntime(path)]
    times = [[], []]
    for _ in range(arguments.rounds):
        for runner, found in zip(runners, times):
            found.extend(runner.measure(arguments.frames, 1))
    runners[0].process.stdin.close()
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="only families whose name holds one of these")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=5, help="frames of each turn")
    parser.add_argument("--precision", default="f32", help="f32, bf16 or int16")
    parser.add_argument("--json", type=pathlib.Path, help="also write everything to this file")
    bench.add_load_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    program = bench.build("lipsync-engine", "example", "bench_network")
    wanted = arguments.only.split(",") if arguments.only else [""]
    families = {name: make for name, make in FAMILIES.items() if any(w in name for w in wanted)}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(pathlib.Path(folder) / f"{n}.onnx") for n, name in enumerate(families)}
        for name, make in families.items():
            export(networks.seeded(make(), 1), paths[name])
        load = bench.wait_for_quiet(arguments.wait, arguments.busy)
        for name, path in paths.items():
            ours, theirs = measure(path, program, arguments)
            rows[name] = {"ours_ms": ours, "onnxruntime_ms": theirs}
    context = bench.context(load)
    versions = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
    bench.print_context(context, versions)
    print(f"one thread, {arguments.precision}, {arguments.rounds * arguments.frames} frames each\n")
    print(f"{'':<32}{'ours, ms':>20}{'ONNX Runtime, ms':>20}{'times faster':>18}")
    print(f"{'':<32}{'median':>12}{'min':>8}{'median':>12}{'min':>8}{'medians':>10}{'minima':>8}")
    for name, row in rows.items():
        (a, low_a), (b, low_b) = [(statistics.median(t), min(t)) for t in row.values()]
        row["medians"], row["minima"] = b / a, low_b / low_a
        print(f"{name:<32}{a:>12.2f}{low_a:>8.2f}{b:>12.2f}{low_b:>8.2f}{b / a:>9.2f}x{low_b / low_a:>7.2f}x")
    if arguments.json:
        arguments.json.write_text(json.dumps({"context": context, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
