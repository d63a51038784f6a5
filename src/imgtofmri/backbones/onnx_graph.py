"""What is inside an encoded ONNX model: its tensors, read and declared without the onnx package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imgtofmri.exceptions import WeightsError

# Field numbers of ModelProto, GraphProto, NodeProto and ValueInfoProto in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_OUTPUT = 1, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP = 1, 2, 4
_VALUE_NAME = 1


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
    view = memoryview(model)
    try:
        return [
            _node(content)
            for graph in _fields(view, _MODEL_GRAPH)
            for content in _fields(graph, _GRAPH_NODE)
        ]
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        message = (
            f"expected an encoded ONNX model; got something else ({error}). Export the "
            "network again."
        )
        raise WeightsError(message) from error


def tensors_of_image(nodes: Iterable[Node], image: str) -> dict[str, str]:
    """Return the tensors that depend on the image, each with the operation that makes it."""
    found: dict[str, str] = {}
    for node in nodes:
        if any(name == image or name in found for name in node.inputs):
            found |= {name: node.op for name in node.outputs if name}
    return found


def declare_outputs(names: Iterable[str]) -> bytes:
    """Encode a model that has nothing but these outputs.

    Appended to an encoded model it adds the outputs to that model's graph, because protocol buffers
    merge messages that are joined end to end.
    """
    outputs = b"".join(_field(_GRAPH_OUTPUT, _field(_VALUE_NAME, name.encode())) for name in names)
    return _field(_MODEL_GRAPH, outputs)


def _node(content: memoryview) -> Node:
    def texts(number: int) -> tuple[str, ...]:
        return tuple(str(part, "utf-8") for part in _fields(content, number))

    return Node("".join(texts(_NODE_OP)), texts(_NODE_INPUT), texts(_NODE_OUTPUT))


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the length-delimited fields of one number, passing over all others."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                reason = "a field is longer than the file"
                raise ValueError(reason)
            if key >> 3 == wanted:
                yield message[at : at + length]
            at += length
        else:
            reason = f"a field of kind {kind}"
            raise ValueError(reason)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _field(number: int, content: bytes) -> bytes:
    """Encode one length-delimited field of a protocol buffer."""
    length, head = len(content), [number << 3 | 2]
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + content
