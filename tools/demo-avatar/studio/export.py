"""Fold the batch norms and write both ONNX files, checked against torch.

    python -m studio.export mira
"""
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .characters import by_name
from .nets import Encoder, Generator
from .paths import WORK, avatar_folder, work_folder

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


def write(net, path, inputs, names, output):
    axes = {n: {0: "batch"} for n in (*names, output)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, inputs, str(path), opset_version=OPSET, dynamo=False, input_names=list(names),
                          output_names=[output], dynamic_axes=axes, do_constant_folding=True)
    model = tidy(onnx.load(str(path)))
    onnx.save(model, str(path))
    onnx.checker.check_model(model)
    ops = sorted({n.op_type for n in model.graph.node})
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want = net(*inputs).numpy()
    got = session.run(None, {n: x.numpy() for n, x in zip(names, inputs)})[0]
    print(path.name, f"{path.stat().st_size / 1e6:.2f} MB, operators {ops}, max difference {np.abs(got - want).max():.2e}")


def main():
    torch.manual_seed(0)
    who = by_name(sys.argv[1])
    folder = avatar_folder(who.name)
    encoder, generator = Encoder().eval(), Generator(who.channels, who.region).eval()
    encoder.load_state_dict(torch.load(WORK / "audio.pt", weights_only=True)["encoder"])
    generator.load_state_dict(torch.load(work_folder(who.name) / "generator.pt", weights_only=True)["mean"])
    write(fold(encoder), folder / "audio_encoder.onnx", (torch.rand(3, 1, 80, 16),), ("mel",), "features")
    write(fold(generator), folder / "generator.onnx",
          (torch.rand(2, 6, who.region, who.region), torch.rand(2, 32, 16, 16)), ("picture", "audio"), "mouth")


if __name__ == "__main__":
    main()
