"""What is inside an encoded ONNX model: its tensors, read and declared without the onnx package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import WeightsError

# Field numbers of the messages of onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 12, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TRAINING_GRAPHS = (1, 2)
_FUNCTION_NODE = 7
_TENSOR_DIMENSION, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_FLOAT = 1
_VALUE_NAME = 1

_DEEPEST = 16
"""How many graphs may lie in one another: loops and branches hold a few, a bomb any number."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a graph.

    Attributes
    ----------
    op : str
        Its kind: ``"Conv"``.
    inputs, outputs : tuple of str
        Names of tensors; empty where an optional one is left out.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_nodes(model: bytes) -> list[Node]:
    """Return the operations of an encoded model's graph, in order.

    Raises
    ------
    WeightsError
        If the bytes are no encoded model.
    """
    with _decoding():
        return [
            _node(content)
            for graph in _fields(memoryview(model), _MODEL_GRAPH)
            for content in _fields(graph, _GRAPH_NODE)
        ]


def has_outside_data(model: bytes) -> bool:
    """Return whether a model names other files that hold values of its tensors.

    ONNX Runtime would open them, wherever they are: beside a model that came as bytes it looks in
    the current folder.

    Raises
    ------
    WeightsError
        As `read_nodes`.
    """
    with _decoding():
        return any(
            next(_fields(tensor, _TENSOR_EXTERNAL), None) is not None
            or any(_numbers(tensor, _TENSOR_LOCATION))
            for tensor in _tensors_of_model(memoryview(model))
        )


@contextmanager
def _decoding() -> Iterator[None]:
    """Say of what cannot be decoded that it is no model."""
    try:
        yield
    except (IndexError, ValueError) as error:
        message = (
            f"expected an encoded ONNX model; got something else ({error}). Export the "
            "network again."
        )
        raise WeightsError(message) from error


def _tensors_of_model(model: memoryview) -> Iterator[memoryview]:
    for graph in _fields(model, _MODEL_GRAPH):
        yield from _tensors_of_graph(graph, _DEEPEST)
    for training in _fields(model, _MODEL_TRAINING):
        for number in _TRAINING_GRAPHS:
            for graph in _fields(training, number):
                yield from _tensors_of_graph(graph, _DEEPEST)
    for function in _fields(model, _MODEL_FUNCTION):
        for node in _fields(function, _FUNCTION_NODE):
            yield from _tensors_of_node(node, _DEEPEST)


def _tensors_of_graph(graph: memoryview, depth: int) -> Iterator[memoryview]:
    if not depth:
        reason = f"graphs that lie in one another more than {_DEEPEST} deep"
        raise ValueError(reason)
    yield from _fields(graph, _GRAPH_INITIALIZER)
    for sparse in _fields(graph, _GRAPH_SPARSE):
        yield from _tensors_of_sparse(sparse)
    for node in _fields(graph, _GRAPH_NODE):
        yield from _tensors_of_node(node, depth)


def _tensors_of_node(node: memoryview, depth: int) -> Iterator[memoryview]:
    for attribute in _fields(node, _NODE_ATTRIBUTE):
        for number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            yield from _fields(attribute, number)
        for number in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            for sparse in _fields(attribute, number):
                yield from _tensors_of_sparse(sparse)
        for number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            for graph in _fields(attribute, number):
                yield from _tensors_of_graph(graph, depth - 1)


def _tensors_of_sparse(sparse: memoryview) -> Iterator[memoryview]:
    for number in (_SPARSE_VALUES, _SPARSE_INDICES):
        yield from _fields(sparse, number)


def tensors_of_image(nodes: Iterable[Node], image: str) -> dict[str, str]:
    """Return the tensors that depend on the image, each with the operation that makes it."""
    found: dict[str, str] = {}
    for node in nodes:
        if any(name == image or name in found for name in node.inputs):
            found |= {name: node.op for name in node.outputs if name}
    return found


def averaged_map(nodes: Iterable[Node], name: str) -> str | None:
    """Return the tensor that another seems to be the mean of over space, None where it is none.

    Over which axes a ``ReduceMean`` goes is not looked at.
    """
    made_by = {output: node for node in nodes for output in node.outputs}
    while name in made_by:
        node = made_by[name]
        if node.op in ("GlobalAveragePool", "ReduceMean"):
            return node.inputs[0]
        if node.op not in ("Flatten", "Reshape", "Squeeze", "Identity"):
            return None
        name = node.inputs[0]
    return None


def declare_outputs(names: Iterable[str]) -> bytes:
    """Encode a model that has nothing but these outputs.

    Appended to an encoded model it adds the outputs to that model's graph, because protocol buffers
    merge messages that are joined end to end.
    """
    outputs = b"".join(_field(_GRAPH_OUTPUT, _field(_VALUE_NAME, name.encode())) for name in names)
    return _field(_MODEL_GRAPH, outputs)


def with_values(model: bytes, values: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Return an encoded model with the values of these tensors inside, instead of in other files.

    Parameters
    ----------
    model : bytes
        Whose graph has initial values of these names.
    values : mapping of str to float32 array
    """
    tensors = b"".join(
        _field(_GRAPH_INITIALIZER, _tensor(name, value)) for name, value in values.items()
    )
    parts = []
    for number, value, raw in _walk(memoryview(model)):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            kept = b"".join(
                part
                for inner, field, part in _walk(value)
                if not (
                    inner == _GRAPH_INITIALIZER
                    and isinstance(field, memoryview)
                    and _name_of(field) in values
                )
            )
            parts.append(_field(_MODEL_GRAPH, kept))
        else:
            parts.append(bytes(raw))
    # As in `declare_outputs`: parts of one graph may be told one after the other.
    return b"".join([*parts, _field(_MODEL_GRAPH, tensors)])


def _name_of(tensor: memoryview) -> str:
    return "".join(str(part, "utf-8") for part in _fields(tensor, _TENSOR_NAME))


def _tensor(name: str, value: NDArray[np.float32]) -> bytes:
    dimensions = b"".join(_number(_TENSOR_DIMENSION, length) for length in value.shape)
    said = dimensions + _number(_TENSOR_TYPE, _FLOAT) + _field(_TENSOR_NAME, name.encode())
    return said + _field(_TENSOR_RAW, np.ascontiguousarray(value, "<f4").tobytes())


def _node(content: memoryview) -> Node:
    def texts(number: int) -> tuple[str, ...]:
        return tuple(str(part, "utf-8") for part in _fields(content, number))

    return Node("".join(texts(_NODE_OP)), texts(_NODE_INPUT), texts(_NODE_OUTPUT))


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the length-delimited fields of one number, passing over all others."""
    for number, value, _ in _walk(message):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _numbers(message: memoryview, wanted: int) -> Iterator[int]:
    """Yield the whole numbers of one field."""
    for number, value, _ in _walk(message):
        if number == wanted and isinstance(value, int):
            yield value


def _walk(message: memoryview) -> Iterator[tuple[int, memoryview | int | None, memoryview]]:
    """Yield each field: number, value if that is a whole number or has a length, and all bytes."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind = key & 7
        value: memoryview | int | None = None
        if kind == 0:
            value, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                reason = "a field is longer than the file"
                raise ValueError(reason)
            value = message[at : at + length]
            at += length
        else:
            reason = f"a field of kind {kind}"
            raise ValueError(reason)
        yield key >> 3, value, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift >= 70:
            reason = "a number without end"
            raise ValueError(reason)


def _field(number: int, content: bytes) -> bytes:
    """Encode one length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2]) + _as_varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """Encode one field of a whole number."""
    return bytes([number << 3]) + _as_varint(value)


def _as_varint(value: int) -> bytes:
    encoded = []
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
