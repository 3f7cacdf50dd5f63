"""Times our engine and ONNX Runtime on a full-size network of each family, taking turns, on one thread.

Usage: families.py [--only NAME,...] [--rounds N] [--frames N] [--folder DIR] [--json FILE]

The networks are those of tools/export-zoo with the channels of the published ones and seeded weights, exported by
PyTorch (opset 17). Both contestants stay loaded. In each round each of them runs a few frames, one after the other, so
that a busy machine touches both alike. Tensors are f32 for both; ours runs in `--precision` (f32).

Needs `pip install -r tools/export-zoo/requirements.txt` and cargo.
"""

import argparse
import contextlib
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
    "Wav2Lip 96": lambda: networks.Wav2Lip(96),
    "Wav2Lip 256": lambda: networks.Wav2Lip(256),
    "Wav2Lip 288": lambda: networks.Wav2Lip(288),
    "Wav2Lip 384": lambda: networks.Wav2Lip(384),
}


def export(net, path):
    inputs = net.inputs()
    ends = ["face", "audio"]
    if isinstance(net, networks.Wav2Lip):
        ends.reverse()
    names = {"input_names": ends, "output_names": ["output"]}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, inputs, str(path), opset_version=17, dynamo=False, **names)


def take_turns(ours, theirs, arguments):
    """Milliseconds of each frame, ours and ONNX Runtime's."""
    times = [[], []]
    for _ in range(arguments.rounds):
        for runner, found in zip((ours, theirs), times):
            found.extend(runner.measure(arguments.frames, 1))
    ours.process.stdin.close()
    return {"ours_ms": times[0], "onnxruntime_ms": times[1]}


def add_arguments(parser):
    parser.add_argument("--only", help="only rows whose name holds one of these")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=5, help="frames of each turn")
    parser.add_argument("--json", type=pathlib.Path, help="also write everything to this file")
    parser.add_argument("--isa", default="auto", help="of ours, as in engine.cpu_isa")
    parser.add_argument("--folder", type=pathlib.Path, help="keep the networks there, and use those that are there")
    bench.add_load_arguments(parser)


@contextlib.contextmanager
def folder_of(arguments):
    """Where the networks are."""
    if arguments.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder)
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        yield arguments.folder


def chosen(table, arguments):
    """The rows of a table that `--only` names."""
    wanted = arguments.only.split(",") if arguments.only else [""]
    return {name: row for name, row in table.items() if any(w in name for w in wanted)}


def report(rows, load, what, arguments):
    """Prints the table of `take_turns` by name, and writes it where `--json` says."""
    context = bench.context(load)
    versions = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
    bench.print_context(context, versions)
    print(f"one thread, kernels: {arguments.isa}, {what}, {arguments.rounds * arguments.frames} of each\n")
    print(f"{'':<32}{'ours, ms':>20}{'ONNX Runtime, ms':>20}{'times faster':>18}")
    print(f"{'':<32}{'median':>12}{'min':>8}{'median':>12}{'min':>8}{'medians':>10}{'minima':>8}")
    for name, row in rows.items():
        (a, low_a), (b, low_b) = [(statistics.median(t), min(t)) for t in row.values()]
        row["medians"], row["minima"] = b / a, low_b / low_a
        print(f"{name:<32}{a:>12.2f}{low_a:>8.2f}{b:>12.2f}{low_b:>8.2f}{b / a:>9.2f}x{low_b / low_a:>7.2f}x")
    if arguments.json:
        arguments.json.write_text(json.dumps({"context": context, "rows": rows}, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--precision", default="f32", help="f32, bf16 or int16")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    program = bench.build("lipsync-engine", "example", "bench_network")
    families = chosen(FAMILIES, arguments)
    rows = {}
    with folder_of(arguments) as folder:
        paths = {name: folder / f"{name}.onnx" for name in families}
        for name, make in families.items():
            if not paths[name].exists():
                export(networks.seeded(make(), 1), paths[name])
        load = bench.wait_for_quiet(arguments.wait, arguments.busy)
        for name, path in paths.items():
            ours = Engine(program, str(path), arguments.isa, arguments.precision, "tensors")
            rows[name] = take_turns(ours, OnnxRuntime(str(path)), arguments)
    report(rows, load, f"{arguments.precision}, frames", arguments)


if __name__ == "__main__":
    main()
