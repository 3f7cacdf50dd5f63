"""An ONNX network as a PyTorch module: the peer that our engine is measured against.

Only the operators of this family are there. Constants become buffers, so that `.half()`, channels-last, CUDA
graphs and torch.compile treat the module like any that was written by hand. BatchNorm is folded into the
convolution before it, as an exporter does; that helps the peer.
"""

import numpy as np
import torch
import torch.nn.functional as F

import onnx_file


class Network(torch.nn.Module):
    """`forward(picture, audio)`, in the file's own order of inputs, each `[n, c, h, w]`."""

    def __init__(self, path):
        super().__init__()
        graph = fold_batch_norms(onnx_file.read(path))
        self.input_dims = [dims[1:] for _, dims in graph.inputs]
        self.inputs = [name for name, _ in graph.inputs]
        self.outputs = graph.outputs
        self.small = {}
        slots = {}
        for name, array in graph.constants.items():
            # Shapes and scales are read by Python; everything else is weights.
            if array.ndim <= 1 and (array.dtype != np.float32 or array.size <= 8):
                # As numbers of Python: torch.compile does not look into numpy.
                self.small[name] = array.reshape(-1).tolist()
            if array.dtype == np.float32:
                slots[name] = f"weight_{len(slots)}"
                self.register_buffer(slots[name], torch.from_numpy(np.array(array)))
        self.slots = slots
        dead = last_reads(graph)
        self.nodes = [(OPERATORS[checked(node)], node, dead.get(at, ())) for at, node in enumerate(graph.nodes)]

    def forward(self, *inputs):
        values = dict(zip(self.inputs, inputs))
        for run, node, dead in self.nodes:
            values[node.outputs[0]] = run(self, node, values)
            for name in dead:
                del values[name]
        outputs = [values[name] for name in self.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    def tensor(self, node, place, values):
        """The `place`th input of a node, or None."""
        if place >= len(node.inputs) or not node.inputs[place]:
            return None
        name = node.inputs[place]
        return values[name] if name in values else getattr(self, self.slots[name])

    def constant(self, node, place):
        """The same as numbers that are known beforehand, or None."""
        if place >= len(node.inputs) or not node.inputs[place]:
            return None
        return self.small[node.inputs[place]]


def last_reads(graph):
    """By the place of a node, the values that nobody reads after it.

    Kept to the end, all of them would take 0.4 GB a frame of the 328 network in f32, and eager PyTorch would
    take fresh memory for each instead of what it has just given back.
    """
    last = {name: at for at, node in enumerate(graph.nodes) for name in [*node.inputs, node.outputs[0]]}
    dead = {}
    for name, at in last.items():
        if name and name not in graph.constants and name not in graph.outputs:
            dead.setdefault(at, []).append(name)
    return dead


def checked(node):
    if node.op not in OPERATORS:
        raise ValueError(f"node {node.name}: operator {node.op} is not supported by the peer")
    return node.op


def fold_batch_norms(graph):
    """Scales and shifts convolutions instead of their results, where nothing else reads these."""
    written = {output: node for node in graph.nodes for output in node.outputs}
    n_readers = {}
    for name in [name for node in graph.nodes for name in node.inputs] + graph.outputs:
        n_readers[name] = n_readers.get(name, 0) + 1
    kept = []
    for node in graph.nodes:
        before = written.get(node.inputs[0]) if node.inputs else None
        folds = (
            node.op == "BatchNormalization"
            and before is not None
            and before.op == "Conv"
            and n_readers[node.inputs[0]] == 1
        )
        if not folds:
            kept.append(node)
            continue
        gamma, beta, mean, variance = (graph.constants[name] for name in node.inputs[1:5])
        scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        weight = graph.constants[before.inputs[1]]
        bias = graph.constants[before.inputs[2]] if len(before.inputs) > 2 else np.zeros_like(mean)
        # New names: others may share the old constants.
        names = [f"{node.outputs[0]}/weight", f"{node.outputs[0]}/bias"]
        graph.constants[names[0]] = (weight * scale[:, None, None, None]).astype(np.float32)
        graph.constants[names[1]] = ((bias - mean) * scale + beta).astype(np.float32)
        before.inputs = [before.inputs[0], *names]
        before.outputs = [node.outputs[0]]
        written[node.outputs[0]] = before
    graph.nodes = kept
    return graph


def symmetric_pads(node, x):
    """Padding as PyTorch's own argument where both sides are equal; otherwise x is padded."""
    top, left, bottom, right = node.attributes.get("pads", [0, 0, 0, 0])
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)


def conv(net, node, values):
    x, pads = symmetric_pads(node, net.tensor(node, 0, values))
    weight, bias = net.tensor(node, 1, values), net.tensor(node, 2, values)
    stride = node.attributes.get("strides", [1, 1])
    dilation = node.attributes.get("dilations", [1, 1])
    return F.conv2d(x, weight, bias, stride, pads, dilation, node.attributes.get("group", 1))


def batch_norm(net, node, values):
    x, gamma, beta, mean, variance = (net.tensor(node, place, values) for place in range(5))
    return F.batch_norm(x, mean, variance, gamma, beta, eps=node.attributes.get("epsilon", 1e-5))


def resize(net, node, values):
    x = net.tensor(node, 0, values)
    sizes, scales = net.constant(node, 3), net.constant(node, 2)
    size = sizes[2:] if sizes else [int(side * scale) for side, scale in zip(x.shape[2:], scales[2:])]
    size = [int(side) for side in size]
    if node.attributes.get("mode", "nearest") == "nearest":
        return F.interpolate(x, size=size, mode="nearest")
    corners = node.attributes.get("coordinate_transformation_mode") == "align_corners"
    return F.interpolate(x, size=size, mode="bilinear", align_corners=corners)


def pool(function):
    def run(net, node, values):
        x, pads = symmetric_pads(node, net.tensor(node, 0, values))
        kernel = node.attributes["kernel_shape"]
        stride = node.attributes.get("strides", [1, 1])
        return function(x, kernel, stride, pads)

    return run


def pad(net, node, values):
    pads = net.constant(node, 1) or node.attributes["pads"]
    top, left, bottom, right = (int(n) for n in (pads[2], pads[3], pads[6], pads[7]))
    return F.pad(net.tensor(node, 0, values), (left, right, top, bottom))


def of_one(function):
    return lambda net, node, values: function(net.tensor(node, 0, values))


def of_two(function):
    def run(net, node, values):
        return function(net.tensor(node, 0, values), net.tensor(node, 1, values))

    return run


def concat(net, node, values):
    parts = [net.tensor(node, place, values) for place in range(len(node.inputs))]
    return torch.cat(parts, dim=node.attributes["axis"])


def reshape(net, node, values):
    return net.tensor(node, 0, values).reshape([int(n) for n in net.constant(node, 1)])


def clip(net, node, values):
    low, high = net.constant(node, 1), net.constant(node, 2)
    limits = (low and low[0], high and high[0])
    limits = (node.attributes.get("min", limits[0]), node.attributes.get("max", limits[1]))
    return torch.clamp(net.tensor(node, 0, values), *limits)


def leaky_relu(net, node, values):
    return F.leaky_relu(net.tensor(node, 0, values), node.attributes.get("alpha", 0.01))


OPERATORS = {
    "Add": of_two(torch.add),
    "AveragePool": pool(lambda x, *shape: F.avg_pool2d(x, *shape, count_include_pad=False)),
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "Div": of_two(torch.div),
    "Dropout": of_one(lambda x: x),
    "Flatten": of_one(lambda x: x.flatten(1)),
    "GlobalAveragePool": of_one(lambda x: x.mean((2, 3), keepdim=True)),
    "Identity": of_one(lambda x: x),
    "LeakyRelu": leaky_relu,
    "MaxPool": pool(F.max_pool2d),
    "Mul": of_two(torch.mul),
    "Pad": pad,
    "Relu": of_one(torch.relu),
    "Reshape": reshape,
    "Resize": resize,
    "Sigmoid": of_one(torch.sigmoid),
    "Sub": of_two(torch.sub),
}
