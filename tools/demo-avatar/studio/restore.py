"""A trainable generator out of a shipped avatar.

Exporting folds every batch norm into the convolution before it. Here each one
is made anew from what flows through it, so that the network computes what the
file says, in training as well as in inference. Audio branches that were trained
apart hold the mouth in different codes; both codes are linear, so the weights
that read the old one are multiplied with the least-squares map from the new.
"""
import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import nn

from .windows import unfold

INNER = slice(1, 9)  # the outermost ring of an audio map sees mostly padding


def _folded(path):
    """Weight and bias of every convolution, in the order in which they run."""
    graph = onnx.load(path).graph
    stored = {i.name: numpy_helper.to_array(i).copy() for i in graph.initializer}
    return [tuple(torch.from_numpy(stored[name]) for name in node.input[1:]) for node in graph.node if node.op_type == "Conv"]


def _unfold_norms(net, path, visual, audio):
    """Loads the file's weights into the generator; visual and audio are typical inputs."""
    weights, pending, hooks = iter(_folded(path)), [], []

    def before_convolution(m, _):
        weight, bias = next(weights)
        if weight.shape != m.weight.shape:
            raise ValueError(f"{path} is another network: {tuple(weight.shape)} where {tuple(m.weight.shape)} is expected")
        m.weight.data.copy_(weight)
        if m.bias is None:
            pending.append(bias)
        else:
            m.bias.data.copy_(bias)

    def before_norm(m, inputs):
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        m.running_mean.copy_(mean)
        m.running_var.copy_(var)
        m.weight.data.copy_((var + m.eps).sqrt())
        m.bias.data.copy_(mean + pending.pop())

    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            hooks.append(m.register_forward_pre_hook(before_convolution))
        elif isinstance(m, nn.BatchNorm2d):
            hooks.append(m.register_forward_pre_hook(before_norm))
    net.eval()
    net(visual, audio)
    for hook in hooks:
        hook.remove()


def _old_audio(folder, steps, mask):
    """The old encoder's features of the windows, [N, 32, 16, 16]."""
    session = ort.InferenceSession(str(folder / "audio_encoder.onnx"), providers=["CPUExecutionProvider"])
    n = len(steps)
    features = session.run(None, {session.get_inputs()[0].name: steps.reshape(-1, 1, 80, 16)})[0].reshape(n, 16, 512)
    return unfold(torch.from_numpy(features * mask[..., None]), 1, 1)


def restore(net, folder, visual, stretches, maps):
    """Loads an avatar's networks into the generator, whose audio branch is another one.

    visual: some inputs [n, 6, H, W]; stretches: encoder steps [N, 16, 80, 16] and mask [N, 16] of N >= n
    targets, the first n those of visual; maps: the new audio branch's output for them [N, 128, 10, 10].
    """
    with torch.no_grad():
        audio = _old_audio(folder, *stretches)
        _unfold_norms(net, folder / "generator.onnx", visual, audio[:len(visual)])
        old = torch.cat([net.audio(part) for part in audio.split(64)])
        rows = [m[:, :, INNER, INNER].permute(0, 2, 3, 1).reshape(-1, m.shape[1]).double() for m in (maps, old)]
        new = torch.cat([rows[0], torch.ones(len(rows[0]), 1)], 1)
        # A little of the identity, so that directions that are hardly used are not blown up.
        gram = new.T @ new + 1e-3 * len(new) * torch.eye(new.shape[1])
        code = torch.linalg.solve(gram, new.T @ rows[1])
        explained = 1 - ((new @ code - rows[1]) ** 2).sum() / ((rows[1] - rows[1].mean(0)) ** 2).sum()
        print(f"{explained:.0%} of the old audio code is in the new one")
        first, norm = net.fuse[0][0].conv[:2]
        reads = first.weight[:, -maps.shape[1]:, 0, 0].double()
        first.weight[:, -maps.shape[1]:, 0, 0] = (reads @ code[:-1].T).float()
        norm.running_mean -= (reads @ code[-1]).float()
