"""Makes encoders of speech as they are exported for wenet and HuBERT avatars, and what ONNX Runtime answers. See README.md.

Usage: make.py FOLDER [--full wenet|hubert]
"""

import argparse
import json
import pathlib
import warnings

import numpy as np
import onnx
import onnxruntime
import torch

from networks import WENET_FULL, WENET_OFFSET, WENET_SMALL, Hubert, Wenet, seeded

STEP = 37
STEP_HUBERT = 257
N_PATCHES = 2
ROUTES = {
    "legacy-14": dict(dynamo=False, opset_version=14),
    "legacy-17": dict(dynamo=False, opset_version=17),
    "torch-default": dict(dynamo=True, external_data=False),
}
# Small files that are kept: normalisation taken apart, and whole.
KEPT = ("legacy-14", "torch-default")


def random_floats(seed, n, low, high):
    """SplitMix64, as `lipsync_core::SplitMix64::floats` makes them."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    even = (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return np.float32(low) + np.float32(high - low) * even


def slim(path):
    """Shortens names and drops what no reader needs, so that the committed files are small."""
    model = onnx.load(path)
    graph = model.graph
    kept = {end.name for end in [*graph.input, *graph.output]}
    names = {}

    def short(name):
        return name if not name or name in kept else names.setdefault(name, f"t{len(names)}")

    for node in graph.node:
        node.name, node.doc_string = "", ""
        node.ClearField("metadata_props")
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for field in ("value_info", "metadata_props", "quantization_annotation"):
        graph.ClearField(field)
    for field in ("metadata_props", "functions", "doc_string"):
        model.ClearField(field)
    path.write_bytes(model.SerializeToString())


def wenet(folder, size, route, is_small):
    net = seeded(Wenet(size), 1)
    path = folder / f"wenet-{'small' if is_small else 'full'}-{route}.onnx"
    low, high = 4.0, 20.0
    n = 67 * 80
    patches = random_floats(7, N_PATCHES * n, low, high).reshape(N_PATCHES, 1, 1, 67, 80)
    caches = net.caches()
    args = (torch.from_numpy(patches[0]), torch.tensor([WENET_OFFSET]), *caches)
    names = ["chunk", "offset", "att_cache", "cnn_cache"]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, args, path, input_names=names,
                          output_names=["output", "r_att_cache", "r_cnn_cache"], **ROUTES[route])
    if is_small:
        slim(path)
    session = onnxruntime.InferenceSession(path)
    rest = {"offset": np.array([WENET_OFFSET]), "att_cache": caches[0].numpy(), "cnn_cache": caches[1].numpy()}
    steps = [session.run(None, {"chunk": patch, **rest})[0].reshape(-1) for patch in patches]
    expected = np.concatenate(steps)[::STEP]
    return dict(file=path.name, seed=7, low=low, high=high, n=int(patches.size), step=STEP,
                expected=[float(f"{x:.7g}") for x in expected])


# Samples of a patch, and the features of it that are its steps.
HUBERT_SAMPLES = 50 * 640 + 80
HUBERT_STEPS = slice(40, 80)


def hubert(folder, route, is_small):
    """The full network is stored in f16: in f32 it is larger than any file that the server reads (1 GiB)."""
    net = seeded(Hubert(is_small), 2)
    path = folder / f"hubert-{'small' if is_small else 'full-f16'}-{route}.onnx"
    low, high = -2.0, 2.0
    n_patches = N_PATCHES if is_small else 1
    patches = random_floats(8, n_patches * HUBERT_SAMPLES, low, high).reshape(n_patches, 1, -1)
    sample = torch.from_numpy(patches[0])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        stored, sample = (net, sample) if is_small else (net.half(), sample.half())
        torch.onnx.export(stored, (sample,), path, input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": {1: "size"}}, **ROUTES[route])
        # With the weights as they are stored.
        net = net.float()
        features = [net(torch.from_numpy(patch)).numpy()[0] for patch in patches]
    if is_small:
        slim(path)
        session = onnxruntime.InferenceSession(path)
        for patch, feature in zip(patches, features):
            difference = np.abs(session.run(None, {"input": patch})[0][0] - feature).max()
            print(f"{path.name}: ONNX Runtime is at most {difference:.1e} from transformers")
            assert difference < 1e-3
    # What transformers computes, not what ONNX Runtime makes of the file.
    expected = np.concatenate([feature[HUBERT_STEPS].reshape(-1) for feature in features])[::STEP_HUBERT]
    return dict(file=path.name, seed=8, low=low, high=high, n=int(patches.size), step=STEP_HUBERT,
                expected=[float(f"{x:.7g}") for x in expected])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--full", choices=("wenet", "hubert"), help="networks of the real sizes, by all routes")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    is_small, routes = options.full is None, ROUTES if options.full else KEPT
    size = WENET_SMALL if is_small else WENET_FULL
    cases = []
    if options.full != "hubert":
        cases += [wenet(options.folder, size, route, is_small) for route in routes]
    if options.full != "wenet":
        cases += [hubert(options.folder, route, is_small) for route in routes]
    (options.folder / "speech.json").write_text(json.dumps(cases, indent=0) + "\n")


if __name__ == "__main__":
    main()
