"""Arrays out of NumPy's files: nothing is unpickled, and nothing reserved that the file lacks."""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.limits import check_limit


def load_npy(path: Path) -> npt.NDArray[Any]:
    """Read an array of a .npy file.

    Raises
    ------
    DataError
        If it is larger than the limit.
    Exception
        Of many kinds, if the file is damaged or holds Python objects: the caller knows what it
        should be.
    """
    with path.open("rb") as file:
        return _read(file, path.stat().st_size, str(path))


def load_npz(
    path: Path, choose: Callable[[list[str]], Iterable[str]] = list
) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of an .npz file, by name.

    Parameters
    ----------
    path : Path
        The file.
    choose : callable
        Given the names of all, returns those to be read. Default: all.

    Raises
    ------
    DataError, Exception
        As `load_npy`.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive:
        members = {
            member.filename.removesuffix(".npy"): member
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }
        for name in choose(list(members)):
            # No more comes out of a member than it says.
            with archive.open(members[name]) as file:
                arrays[name] = _read(file, members[name].file_size, f"{path}, {name}")
    return arrays


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the shape and the type that a .npy file begins with."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(file)
    return shape, dtype


def _read(file: IO[bytes], n_bytes: int, where: str) -> npt.NDArray[Any]:
    shape, dtype = read_header(file)
    if dtype.hasobject or dtype.kind == "V":
        what = "Python objects" if dtype.hasobject else f"fields ({dtype})"
        reason = f"it holds {what}, which are not read"
        raise ValueError(reason)
    wanted = math.prod(shape) * dtype.itemsize
    left = n_bytes - file.tell()
    if min(shape, default=0) < 0 or wanted > left:
        reason = f"an array of shape {shape} and type {dtype} does not fit into {left} bytes"
        raise ValueError(reason)
    check_limit("array_gb", wanted / 1e9, where, "GB in one array")
    file.seek(0)
    array = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    if dtype.kind == "U" and wanted:
        letters = np.dtype(np.uint32).newbyteorder(dtype.byteorder)
        if np.ascontiguousarray(array).reshape(-1).view(letters).max() > sys.maxunicode:
            reason = "it holds letters that do not exist"
            raise ValueError(reason)
    return array
