"""Makes files of small networks by every route that people export them. See README.md.

Usage: make.py FOLDER [--golden] [--only NAME]
"""

import argparse
import contextlib
import io
import json
import logging
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime import quantization

from networks import CHANNELS, WAV2LIP, Bytes, Encoder, OneBlock, UNet, Wav2Lip, WithFeatures, seeded

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "engine-goldens"))
from make import splitmix64  # noqa: E402

GENERATOR_NAMES = (["input", "audio"], ["output"])
WAV2LIP_NAMES = (["mel", "face"], ["output"])
STEP = 97
GOLDEN_CHANNELS = (1, 2, 2, 2, 3)
GOLDEN_PART = 128
# The files that are kept in tests/golden/zoo.
GOLDEN = {
    "u160-hubert.torch-default", "u160-hubert.all-dynamic", "u160-hubert.batch8", "u160-hubert.f16",
    "u160-hubert.no-folding", "u160-hubert.byte-ends", "u160-hubert.ort-extended", "u160-hubert.qdq",
    "u160-hubert.qoperator", "u160-hubert.dynamic-int8",
    "mobileone160.train-branches", "u160-hubert.two-outputs", "wav2lip96.legacy-17",
}


class Zoo:
    def __init__(self, folder, only):
        self.folder, self.only, self.cases = folder, only, []

    def wants(self, name):
        return self.only is None or name in self.only

    def add(self, name, write, expected=None, tolerance=1e-5, refused=None):
        """Writes one file by `write(path)`. `expected` is the output that it should have."""
        if not self.wants(name):
            return
        path = self.folder / f"{name}.onnx"
        try:
            with quiet():
                write(path)
                if self.only is not None:
                    slim(path)
        except Exception as error:  # noqa: BLE001 - a route that an exporter does not have is reported
            print(f"{name}: not made: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            return
        case = {"file": path.name, "tolerance": tolerance}
        if refused:
            case["refused"] = refused
        else:
            kept = self.folder / f"{expected.name}.f32"
            expected.output.astype("<f4").ravel()[::STEP].tofile(kept)
            case |= {"expected": kept.name, "seed": expected.seed, "low": expected.low,
                     "n_floats": int(expected.output.size), "step": STEP}
        self.cases.append(case)


@contextlib.contextmanager
def quiet():
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def slim(path):
    """Shortens names and drops what no reader needs, so that the committed files are small."""
    model = onnx.load(path, load_external_data=False)
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


class Expected:
    """What ONNX Runtime answers on the plain export of a network."""

    def __init__(self, name, path, seed, low):
        self.name, self.seed, self.low = name, seed, low
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds, start = {}, 0
        for tensor in session.get_inputs():
            shape = [d if isinstance(d, int) else 1 for d in tensor.shape]
            n = int(np.prod(shape))
            unit = splitmix64(seed, start, n)
            feeds[tensor.name] = (np.float32(low) + (np.float32(1) - np.float32(low)) * unit).reshape(shape)
            start += n
        self.output = session.run(None, feeds)[0]
        self.feeds = feeds


def legacy(net, path, opset=17, batch=1, dynamic="batch", names=GENERATOR_NAMES, **options):
    inputs, outputs = names
    axes = {name: {0: "batch"} for name in inputs + outputs}
    if dynamic == "all":
        axes = {name: {i: f"{name}{i}" for i in range(4)} for name in inputs + outputs}
    torch.onnx.export(net, net.inputs(batch), str(path), input_names=inputs, output_names=outputs, opset_version=opset,
                      dynamic_axes=None if dynamic is None else axes, dynamo=False, **options)


def dynamo(net, path, names=GENERATOR_NAMES, **options):
    torch.onnx.export(net, net.inputs(), str(path), input_names=names[0], output_names=names[1], dynamo=True, **options)


def stored(model, data_type, ends=False):
    """All f32 weights in another float type, with a Cast after each where the ends stay f32."""
    model = onnx.load_model_from_string(model.SerializeToString())
    to_numpy = {TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
    names = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if data_type == TensorProto.BFLOAT16:
            bits = (values.view(np.uint32) + 0x7FFF + (values.view(np.uint32) >> 16 & 1)) >> 16
            tensor.raw_data = bits.astype("<u2").tobytes()
        else:
            tensor.raw_data = values.astype(to_numpy[data_type]).tobytes()
        del tensor.float_data[:]
        tensor.data_type = data_type
        names.append(tensor.name)
    if ends:
        for end in [*model.graph.input, *model.graph.output]:
            end.type.tensor_type.elem_type = data_type
        return model
    casts = []
    for name in names:
        casts.append(onnx.helper.make_node("Cast", [name], [f"{name}/f32"], to=TensorProto.FLOAT))
    renamed = {name: f"{name}/f32" for name in names}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    nodes = casts + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def optimised(base, path, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(str(base), options, providers=["CPUExecutionProvider"])


class Reader(quantization.CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter([feeds])

    def get_next(self):
        return next(self.feeds, None)


def quantized(base, path, expected, form, **options):
    quantization.quantize_static(str(base), str(path), Reader(expected.feeds), quant_format=form, **options)


def generator(zoo, name, net, seed, work, names=GENERATOR_NAMES):
    """All routes of one generator."""
    net = seeded(net, seed)
    base = work / f"{name}.onnx"

    def export(net, path, opset=17, names=names, **options):
        legacy(net, path, opset, names=names, **options)

    def export_new(net, path, **options):
        dynamo(net, path, names, **options)

    with quiet():
        export(net, base)
    expected = Expected(name, base, seed, 0.0)
    model = onnx.load(base)
    add = lambda route, write, **more: zoo.add(f"{name}.{route}", write, expected, **more)  # noqa: E731
    for opset in (11, 12, 13, 15, 17, 18, 20):
        add(f"legacy-{opset}", lambda path: export(net, path, opset))
    add("fixed-1", lambda path: export(net, path, dynamic=None))
    add("batch8", lambda path: export(net, path, batch=8, dynamic=None))
    add("all-dynamic", lambda path: export(net, path, dynamic="all"))
    add("no-folding", lambda path: export(net, path, 13, dynamic="all", do_constant_folding=False,
                                          training=torch.onnx.TrainingMode.PRESERVE))
    add("torch-default", lambda path: export_new(net, path))
    add("torch-inside", lambda path: export_new(net, path, external_data=False))
    add("torch-unoptimised", lambda path: export_new(net, path, optimize=False))
    for opset in (22, 24, 25):
        add(f"opset{opset}", lambda path: onnx.save(onnx.version_converter.convert_version(model, opset), path))
    add("saved-apart", lambda path: onnx.save(
        onnx.load(base), path, save_as_external_data=True, all_tensors_to_one_file=True, location=f"{path.name}.bin", size_threshold=0))
    add("f16", lambda path: onnx.save(stored(model, TensorProto.FLOAT16), path), tolerance=1e-3)
    add("f16-ends", lambda path: onnx.save(stored(model, TensorProto.FLOAT16, True), path), tolerance=1e-3)
    add("bf16", lambda path: onnx.save(stored(model, TensorProto.BFLOAT16), path), tolerance=1e-2)
    add("f64", lambda path: onnx.save(stored(model, TensorProto.DOUBLE, True), path))
    levels = onnxruntime.GraphOptimizationLevel
    add("ort-basic", lambda path: optimised(base, path, levels.ORT_ENABLE_BASIC))
    add("ort-extended", lambda path: optimised(base, path, levels.ORT_ENABLE_EXTENDED))
    add("ort-all", lambda path: optimised(base, path, levels.ORT_ENABLE_ALL), refused="ORT_ENABLE_BASIC")
    forms = quantization.QuantFormat
    add("qdq", lambda path: quantized(base, path, expected, forms.QDQ), tolerance=5e-2)
    add("qdq-by-channel", lambda path: quantized(base, path, expected, forms.QDQ, per_channel=True), tolerance=5e-2)
    add("qoperator", lambda path: quantized(base, path, expected, forms.QOperator), tolerance=5e-2)
    add("dynamic-int8", lambda path: quantization.quantize_dynamic(
        str(base), str(path), op_types_to_quantize=["Conv"]), tolerance=5e-2)
    if names is GENERATOR_NAMES:
        add("byte-ends", lambda path: export(Bytes(net), path))
        add("byte-planes", lambda path: export(Bytes(net, rows=False), path))
        add("float-255", lambda path: export(Bytes(net, rows=False, as_bytes=False), path))
        add("float-rows", lambda path: export(Bytes(net, as_bytes=False), path))
        add("two-outputs", lambda path: export(WithFeatures(net), path, names=(names[0], ["output", "features"])))
    # The last one: it changes the statistics.
    add("training", lambda path: export(net, path, 13, training=torch.onnx.TrainingMode.TRAINING,
                                        do_constant_folding=False), refused="net.eval()")


def others(zoo, work):
    """What is no generator, or none that is served."""
    net = seeded(Encoder(), 71)
    names = (["mel"], ["step"])
    base = work / "encoder.onnx"
    with quiet():
        legacy(net, base, names=names)
    expected = Expected("encoder", base, 71, -4.0)
    for opset in (11, 13, 17):
        zoo.add(f"encoder.legacy-{opset}", lambda path: legacy(net, path, opset, names=names), expected)
    zoo.add("encoder.torch-default", lambda path: dynamo(net, path, names), expected)
    zoo.add("encoder.batch8", lambda path: legacy(net, path, batch=8, dynamic=None, names=names), expected)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--golden", action="store_true", help="only the files that are kept in tests/golden/zoo")
    parser.add_argument("--only", default="", help="networks whose names begin with this")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    zoo = Zoo(args.folder, GOLDEN if args.golden else None)
    channels = GOLDEN_CHANNELS if args.golden else CHANNELS
    families = {
        "u160-hubert": lambda: UNet(160, "hubert16", channels=channels),
        "mobileone160": lambda: UNet(160, "hubert16", OneBlock, channels=channels),
    }
    if not args.golden:
        families |= {
            "s328-ave": lambda: UNet(320, "ave"),
            "s328-hubert": lambda: UNet(320, "hubert"),
            "u160-wenet": lambda: UNet(160, "wenet128"),
        }
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for seed, (name, make) in enumerate(families.items(), start=51):
            if not name.startswith(args.only):
                continue
            generator(zoo, name, make(), seed, work)
            if name == "mobileone160":
                net = seeded(make(), seed)
                base = work / "branches.onnx"
                with quiet():
                    legacy(net, base)
                zoo.add("mobileone160.train-branches", lambda path: legacy(
                    net, path, 17, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE),
                    Expected("mobileone160", base, seed, 0.0))
        part = GOLDEN_PART if args.golden else 32
        for seed, side in enumerate((96,) if args.golden else WAV2LIP, start=72):
            name = f"wav2lip{side}"
            if name.startswith(args.only):
                # Those of 288 pixels are trained with a slope.
                generator(zoo, name, Wav2Lip(side, part, prelu=side == 288), seed, work, WAV2LIP_NAMES)
        if not args.only:
            others(zoo, work)
    text = json.dumps(zoo.cases, indent=1)
    (args.folder / "zoo.json").write_text(text + "\n")
    size = sum(file.stat().st_size for file in args.folder.iterdir())
    print(f"{len(zoo.cases)} files, {size // 1024} KiB with their data and expected outputs")


if __name__ == "__main__":
    main()
