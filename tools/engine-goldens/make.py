"""Runs ONNX Runtime on networks of the family and keeps (part of) what they answer.

Usage: make.py FOLDER_OF_WRITTEN_NETWORKS. See README.md.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "golden" / "engine"
AVATAR = "assets/avatars/mira"

# name, network, low and high of the inputs, step
CASES = [
    ("328-ave", "328-ave", 0.0, 1.0, 13),
    ("160-hubert", "160-hubert", 0.0, 1.0, 5),
    ("160-wenet", "160-wenet", 0.0, 1.0, 5),
    ("ave-encoder", "ave-encoder", -4.0, 4.0, 1),
    ("small-328-plumbing", "small-328-plumbing", 0.0, 1.0, 31),
    *((f"small-opset{n}", f"small-opset{n}", 0.0, 1.0, 17) for n in range(11, 18)),
    ("mira-generator", f"{AVATAR}/generator.onnx", 0.0, 1.0, 29),
    ("mira-encoder", f"{AVATAR}/audio_encoder.onnx", -4.0, 4.0, 1),
]


def splitmix64(seed, start, n):
    """Floats `start..start + n` of the stream, even over 0..1: the upper 24 bits over 2^24."""
    with np.errstate(over="ignore"):
        steps = np.arange(start + 1, start + n + 1, dtype=np.uint64)
        z = np.uint64(seed) + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def with_logits(model):
    """Adds what a final sigmoid reads to the outputs; the kinds of the outputs."""
    output = model.graph.output[0].name
    for node in model.graph.node:
        if node.op_type == "Sigmoid" and node.output[0] == output:
            logits = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
            model.graph.output.append(logits)
            return ["output", "logits"]
    return ["output"]


def run(path, seed, low, high):
    model = onnx.load(path)
    kinds = with_logits(model)
    options = onnxruntime.SessionOptions()
    # Plain kernels in the graph's own order: the oracle should not rearrange sums.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds, start = {}, 0
    for tensor in session.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in tensor.shape]
        n = int(np.prod(shape))
        unit = splitmix64(seed, start, n)
        values = np.float32(low) + (np.float32(high) - np.float32(low)) * unit
        feeds[tensor.name] = values.reshape(shape)
        start += n
    return dict(zip(kinds, session.run(None, feeds)))


def main():
    written = pathlib.Path(sys.argv[1])
    GOLDENS.mkdir(parents=True, exist_ok=True)
    cases = []
    for seed, (name, network, low, high, step) in enumerate(CASES, start=100):
        path = ROOT / network if "/" in network else written / f"{network}.onnx"
        if not path.exists():
            print(f"{name}: {path} is missing, left out")
            continue
        files = {}
        for kind, values in run(path, seed, low, high).items():
            file = f"{name}.{kind}.f32"
            values.ravel()[::step].astype("<f4").tofile(GOLDENS / file)
            files[kind] = {"file": file, "n_floats": int(values.size)}
            print(f"{name} {kind}: {values.min():.3f}..{values.max():.3f}, std {values.std():.3f}")
        case = {"name": name, "network": network, "seed": seed, "low": low, "high": high}
        cases.append({**case, "step": step, "files": files})
    (GOLDENS / "goldens.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
