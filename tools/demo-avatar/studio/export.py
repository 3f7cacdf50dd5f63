"""Fold the batch norms and write both ONNX files, checked against torch.

    python -m studio.export mira [--kind wenet]

An avatar of another kind than AVE is a folder of its own in WORK/avatars, with the frames of the shipped one.
"""
import argparse
import shutil
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .characters import by_name
from .conformer import Streaming, example
from .kinds import KINDS, add_argument
from .nets import Generator
from .paths import avatar_folder
from .train_encoder import weights_file
from .train_generator import weights

OPSET = 13


def fold(module):
    """Replace every Conv2d + BatchNorm2d pair of every Sequential by one Conv2d."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential):
            layers = []
            for layer in child:
                if isinstance(layer, nn.BatchNorm2d):
                    layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
                else:
                    layers.append(layer)
            child = nn.Sequential(*layers)
            setattr(module, name, child)
        fold(child)
    return module


def tidy(model):
    """Constants become initializers and identities vanish: fewer operators to support."""
    graph, alias, keep = model.graph, {}, []
    for node in graph.node:
        if node.op_type == "Constant":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        elif node.op_type == "Identity":
            alias[node.output[0]] = node.input[0]
        else:
            keep.append(node)
    for node in keep:
        for i, name in enumerate(node.input):
            while name in alias:
                name = alias[name]
            node.input[i] = name
    del graph.node[:]
    graph.node.extend(keep)
    return model


def write(net, path, inputs, names, outputs, is_batched=True):
    axes = {n: {0: "batch"} for n in (*names, *outputs)} if is_batched else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, inputs, str(path), opset_version=OPSET, dynamo=False, input_names=list(names),
                          output_names=list(outputs), dynamic_axes=axes, do_constant_folding=True)
    model = tidy(onnx.load(str(path)))
    onnx.save(model, str(path))
    onnx.checker.check_model(model)
    ops = sorted({n.op_type for n in model.graph.node})
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want = net(*inputs)
    want = (want[0] if isinstance(want, tuple) else want).numpy()
    got = session.run(None, {n: x.numpy() for n, x in zip(names, inputs)})[0]
    print(path.name, f"{path.stat().st_size / 1e6:.2f} MB, operators {ops}, max difference {np.abs(got - want).max():.2e}")


def adopt(who, kind, folder):
    """Frames, rectangles and avatar.yaml of the shipped avatar, for one of another kind."""
    shipped = avatar_folder(who.name)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(shipped / "frames", folder / "frames", dirs_exist_ok=True)
    shutil.copy2(shipped / "crop_rectangles.json", folder)
    manifest = (shipped / "avatar.yaml").read_text().replace("audio_kind: ave", f"audio_kind: {kind.name}")
    (folder / "avatar.yaml").write_text(manifest.replace("fps: 25", f"fps: {kind.fps}"))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("avatar")
    add_argument(ap)
    args = ap.parse_args()
    torch.manual_seed(0)
    who, kind = by_name(args.avatar), KINDS[args.kind]
    folder = avatar_folder(who.name, kind.suffix)
    if kind.suffix:
        adopt(who, kind, folder)
    encoder, generator = kind.encoder().eval(), Generator(who.channels, who.region, kind.branch).eval()
    encoder.load_state_dict(torch.load(weights_file(kind), weights_only=True)["encoder"])
    generator.load_state_dict(torch.load(weights(who, kind), weights_only=True)["mean"])
    if kind.name == "wenet":
        write(Streaming(encoder), folder / "audio_encoder.onnx", example(), ("chunk", "offset", "att_cache", "cnn_cache"),
              ("output", "r_att_cache", "r_cnn_cache"), is_batched=False)
    else:
        write(fold(encoder), folder / "audio_encoder.onnx", (torch.rand(3, *kind.patch_shape),), ("mel",), ("features",))
    write(fold(generator), folder / "generator.onnx",
          (torch.rand(2, 6, who.region, who.region), torch.rand(2, *kind.window)), ("picture", "audio"), ("mouth",))


if __name__ == "__main__":
    main()
