"""Tensors out of PyTorch checkpoints, without PyTorch and without executing their pickles.

A checkpoint is a pickle that describes tensors as views of numbered storages, and the storages'
raw bytes. Since version 1.6 all lie in an uncompressed zip archive; before, they followed one
another in one file. Both are read here into NumPy arrays that are views of the bytes.

References
----------
PyTorch's notes on serialization semantics describe both layouts.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import WeightsError
from imgtofmri.unpickle import read_pickle

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

STORAGE_TYPES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


# Tuples, because a pickle can give an object a state: a tuple has no place to put one.
class _Storage(NamedTuple):
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StateDict(dict[object, object]):
    """Stands in for the `collections.OrderedDict` of a state dict."""

    def __setstate__(self, state: object) -> None:
        """Drop ``_metadata``, which is of no use here."""


def read_torch(path: Path) -> dict[str, NDArray[Any]]:
    """Read a checkpoint that holds a mapping of names to tensors.

    Parameters
    ----------
    path : Path
        A file that ``torch.save(module.state_dict(), path)`` wrote, in either format.

    Returns
    -------
    dict of str to array
        The tensors, read-only, in the file's order.

    Raises
    ------
    WeightsError
        If the file is damaged, names anything but tensors, or holds something else.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == ZIP_MAGIC
        return _read_zip(path) if is_zip else _read_legacy(path)
    except WeightsError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        message = (
            f"{path}: expected a whole PyTorch checkpoint; it is damaged ({error}). "
            "Get the file again, and compare its size and SHA-256 with the source's."
        )
        raise WeightsError(message) from error


def _read_zip(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        tops = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(tops) != 1:
            message = (
                f"{path}: expected a PyTorch checkpoint with one data.pkl; got a zip archive of "
                f"{len(members)} other files. Give the file of weights itself."
            )
            raise WeightsError(message)
        (top,) = tops

        def read_member(name: str) -> bytes:
            member = members[top + name]
            # torch stores members as they are; a compressed one could unpack to any size.
            if member.compress_type != zipfile.ZIP_STORED:
                message = f"{member.filename} is compressed"
                raise ValueError(message)
            return archive.read(member)

        order = read_member("byteorder").decode() if f"{top}byteorder" in members else "little"
        described = _read_description(io.BytesIO(read_member("data.pkl")), path)
        blobs: dict[str, bytes] = {}

        def storage_bytes(storage: _Storage) -> bytes:
            if storage.key not in blobs:
                blobs[storage.key] = read_member(f"data/{storage.key}")
            return blobs[storage.key]

        return _arrays(described, storage_bytes, order)


def _read_legacy(path: Path) -> dict[str, NDArray[Any]]:
    stream = io.BytesIO(path.read_bytes())
    what = str(path)
    magic, protocol, system = (read_pickle(stream, {}, what=what) for _ in range(3))
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
        message = (
            f"{path}: expected a PyTorch checkpoint; it begins as a pickle of something else. "
            "Give a checkpoint that torch.save wrote, or a .safetensors file."
        )
        raise WeightsError(message)
    described = _read_description(stream, path)
    keys = cast("list[object]", read_pickle(stream, {}, what=what))
    item_sizes = {
        tensor.storage.key: np.dtype(tensor.storage.dtype).itemsize for tensor in described.values()
    }
    order = "<" if system.get("little_endian", True) else ">"
    blobs: dict[str, bytes] = {}
    for key in keys:
        (n_elements,) = struct.unpack(f"{order}q", stream.read(8))
        n_bytes = n_elements * item_sizes[str(key)]
        blobs[str(key)] = stream.read(n_bytes)
        if n_elements < 0 or len(blobs[str(key)]) != n_bytes:
            message = f"storage {key} is cut short"
            raise ValueError(message)
    return _arrays(
        described, lambda storage: blobs[storage.key], "little" if order == "<" else "big"
    )


def _read_description(stream: io.BytesIO, path: Path) -> dict[str, _Tensor]:
    """Read the pickle that says which tensor is what view of which storage."""
    value = read_pickle(stream, STAND_INS, persistent=_storage, what=str(path))
    if not isinstance(value, dict) or not all(isinstance(item, _Tensor) for item in value.values()):
        message = (
            f"{path}: expected names and their tensors; got a {type(value).__name__} of other "
            "things. Save module.state_dict() alone."
        )
        raise WeightsError(message)
    return {str(name): item for name, item in value.items()}


def _storage(key: object) -> _Storage:
    kind, dtype, name, *_ = cast("tuple[object, ...]", key)
    if kind != "storage" or dtype not in STORAGE_TYPES.values() or not isinstance(name, str):
        message = "a persistent id of something other than a storage"
        raise ValueError(message)
    return _Storage(name, str(dtype))


def _tensor(
    storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    """Stand in for torch's `_rebuild_tensor_v2`."""
    if not isinstance(storage, _Storage) or not all(
        isinstance(number, int) and number >= 0 for number in (offset, *shape, *strides)
    ):
        message = "a tensor without storage, or with a negative size"
        raise ValueError(message)
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: object, *_: object) -> _Tensor:
    """Stand in for torch's `_rebuild_parameter`, which wraps a tensor."""
    if not isinstance(tensor, _Tensor):
        message = "a parameter without a tensor"
        raise ValueError(message)
    return tensor


def _state_dict() -> _StateDict:
    """Stand in for `collections.OrderedDict`; pickles fill it afterwards."""
    return _StateDict()


STAND_INS: Mapping[str, object] = {
    "collections.OrderedDict": _state_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **STORAGE_TYPES,
}


def _arrays(
    described: Mapping[str, _Tensor], storage_bytes: Callable[[_Storage], bytes], order: str
) -> dict[str, NDArray[Any]]:
    """Make the views, each checked to lie within its storage."""
    prefix = "<" if order == "little" else ">"
    arrays = {}
    for name, tensor in described.items():
        dtype = np.dtype(prefix + tensor.storage.dtype)
        flat = np.frombuffer(storage_bytes(tensor.storage), dtype)
        arrays[name] = _view(name, flat, tensor)
    return arrays


def _view(name: str, flat: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > 8:
        message = f"tensor {name} has shape {tensor.shape} and strides {tensor.strides}"
        raise ValueError(message)
    n_elements = math.prod(tensor.shape)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if n_elements and (n_elements > flat.size or last >= flat.size):
        message = f"tensor {name} reaches beyond its storage of {flat.size} elements"
        raise ValueError(message)
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :] if n_elements else flat[:0],
        tensor.shape,
        tuple(stride * flat.itemsize for stride in tensor.strides),
        writeable=False,
    )
