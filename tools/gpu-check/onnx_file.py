"""Reads what an ONNX file says, with nothing but numpy.

A machine that has PyTorch need not have the `onnx` package. An ONNX file is a protobuf message; the few fields
that networks of this family use are read here, by their numbers in onnx.proto.
"""

import dataclasses
import struct

import numpy as np

# TensorProto.data_type
TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


@dataclasses.dataclass
class Node:
    """One operator: its type, the names that it reads and writes, its attributes."""

    op: str
    name: str
    inputs: list
    outputs: list
    attributes: dict


@dataclasses.dataclass
class Graph:
    """A network: its nodes in order, its constants, its inputs with their dims (0 = open), its outputs."""

    nodes: list
    constants: dict
    inputs: list
    outputs: list


def fields(message):
    """Yields (number, value) of a message: integers, 4 or 8 bytes, or the bytes of what is nested."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(message, at)
        elif wire == 1:
            value, at = message[at : at + 8], at + 8
        elif wire == 2:
            length, at = varint(message, at)
            value, at = message[at : at + length], at + length
        elif wire == 5:
            value, at = message[at : at + 4], at + 4
        else:
            raise ValueError(f"not protobuf: wire type {wire}")
        yield number, value


def varint(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def integers(value):
    """A repeated integer field comes one by one, or packed into bytes."""
    if isinstance(value, int):
        return [signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(signed(number))
    return found


def floats(value):
    return [number for (number,) in struct.iter_unpack("<f", value)]


def text(value):
    return bytes(value).decode()


def tensor(message):
    """Name and array of a TensorProto."""
    name, dims, kind, raw, values = "", [], 1, None, []
    for number, value in fields(message):
        if number == 1:
            dims += integers(value)
        elif number == 2:
            kind = value
        elif number == 4:
            values += floats(value)
        elif number in (5, 7):
            values += integers(value)
        elif number == 8:
            name = text(value)
        elif number == 9:
            raw = value
        elif number in (13, 14):
            raise ValueError("weights outside the file are not supported")
    kind = TYPES[kind]
    array = np.frombuffer(raw, kind) if raw is not None else np.array(values, kind)
    return name, array.reshape(dims)


def attribute(message):
    """Name and value of an AttributeProto."""
    name, value, several = "", None, []
    for number, field in fields(message):
        if number == 1:
            name = text(field)
        elif number == 2:
            (value,) = struct.unpack("<f", field)
        elif number == 3:
            value = signed(field)
        elif number == 4:
            value = text(field)
        elif number == 5:
            value = tensor(field)[1]
        elif number == 7:
            several += floats(field)
        elif number == 8:
            several += integers(field)
    return name, several if value is None else value


def node(message):
    made = Node("", "", [], [], {})
    for number, value in fields(message):
        if number == 1:
            made.inputs.append(text(value))
        elif number == 2:
            made.outputs.append(text(value))
        elif number == 3:
            made.name = text(value)
        elif number == 4:
            made.op = text(value)
        elif number == 5:
            name, content = attribute(value)
            made.attributes[name] = content
    return made


def ends(message):
    """Name and dims of a ValueInfoProto; 0 where a dim is open."""
    name, dims = "", []
    for number, value in fields(message):
        if number == 1:
            name = text(value)
        elif number == 2:
            for number, tensor_type in fields(value):
                for number, shape in fields(tensor_type) if number == 1 else ():
                    for number, dim in fields(shape) if number == 2 else ():
                        dims.append(next((size for number, size in fields(dim) if number == 1), 0))
    return name, dims


def read(path):
    """The graph of an ONNX file."""
    with open(path, "rb") as file:
        model = memoryview(file.read())
    graph = Graph([], {}, [], [])
    for number, content in fields(next(value for number, value in fields(model) if number == 7)):
        if number == 1:
            graph.nodes.append(node(content))
        elif number == 5:
            name, array = tensor(content)
            graph.constants[name] = array
        elif number == 11:
            graph.inputs.append(ends(content))
        elif number == 12:
            graph.outputs.append(ends(content)[0])
    graph.inputs = [(name, dims) for name, dims in graph.inputs if name not in graph.constants]
    return graph
