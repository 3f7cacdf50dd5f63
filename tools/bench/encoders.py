"""Times our engine and ONNX Runtime on audio encoders of the real sizes, on one thread, in turns.

Usage: encoders.py [--only NAME,...] [--rounds N] [--frames N] [--folder DIR]

AVE is the encoder of tools/export, wenet and HuBERT are those of tools/speech-goldens, all with
seeded weights, exported by PyTorch (opset 17). A turn is a few patches, one after the other. Of AVE
and wenet a patch is one step, of HuBERT 2 s of sound, of which 0.8 s become steps. Ours reads
HuBERT's weights in f16, since it takes files of 1 GiB at most, and computes in f32. ONNX Runtime
gets them in f32.

Needs `pip install -r tools/speech-goldens/requirements.txt` and cargo.
"""

import argparse
import pathlib
import sys
import warnings

import numpy as np
import onnxruntime
import torch

import bench
from engine_vs_peers import Engine, Peer
from families import add_arguments, chosen, folder_of, report, take_turns

TOOLS = pathlib.Path(__file__).resolve().parents[1]
# Of speech-goldens, whose `networks` is another module than that of the same name in export-zoo.
sys.modules.pop("networks", None)
sys.path[:0] = [str(TOOLS / "speech-goldens"), str(TOOLS / "export")]

import networks  # noqa: E402
from export import Encoder  # noqa: E402

HUBERT_SAMPLES = 50 * 640 + 80


class OnnxRuntime(Peer):
    """ONNX Runtime with the inputs that are given."""

    def __init__(self, path, feeds):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.feeds = feeds
        self.measure(2, 1)

    def infer(self, _thread):
        self.session.run(None, self.feeds)


def write(net, feeds, path, **options):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            tuple(torch.from_numpy(x) for x in feeds.values()),
            str(path),
            input_names=list(feeds),
            opset_version=17,
            dynamo=False,
            **options,
        )


def ave(path):
    """Writes the file, unless there is one. Returns a patch's inputs, and the file for the peer."""
    feeds = {"mel": np.zeros((1, 1, 80, 16), np.float32)}
    if not path.exists():
        torch.manual_seed(1)
        write(Encoder().eval(), feeds, path, dynamic_axes={"mel": {0: "batch"}})
    return feeds, path


def wenet(path):
    net = networks.Wenet(networks.WENET_FULL)
    att_cache, cnn_cache = (cache.numpy() for cache in net.caches())
    feeds = {
        "chunk": np.zeros((1, 1, 67, 80), np.float32),
        "offset": np.array([networks.WENET_OFFSET]),
        "att_cache": att_cache,
        "cnn_cache": cnn_cache,
    }
    if not path.exists():
        write(networks.seeded(net, 1), feeds, path)
    return feeds, path


def hubert(path):
    feeds = {"input": np.zeros((1, HUBERT_SAMPLES), np.float32)}
    whole = path.with_suffix(".f32.onnx")
    if not path.exists():
        net = networks.seeded(networks.Hubert(False), 2)
        axes = {"input": {1: "size"}}
        write(net, feeds, whole, dynamic_axes=axes)
        half = {"input": feeds["input"].astype(np.float16)}
        write(net.half(), half, path, dynamic_axes=axes)
    return feeds, whole


ENCODERS = {"AVE": ave, "wenet": wenet, "HuBERT": hubert}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    program = bench.build("lipsync-engine", "example", "bench_network")
    random = np.random.default_rng(7)
    with folder_of(arguments) as folder:
        made = {}
        for name, make in chosen(ENCODERS, arguments).items():
            path = folder / f"{name} encoder.onnx"
            made[name] = (path, *make(path))
        load, rows = bench.wait_for_quiet(arguments.wait, arguments.busy), {}
        for name, (path, feeds, whole) in made.items():
            sound = next(iter(feeds))
            feeds[sound] = random.random(feeds[sound].shape, np.float32)
            ours = Engine(program, str(path), arguments.isa, "f32", "patches")
            rows[name] = take_turns(ours, OnnxRuntime(str(whole), feeds), arguments)
    report(rows, load, "f32, patches", arguments)


if __name__ == "__main__":
    main()
