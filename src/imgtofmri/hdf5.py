"""HDF5 files that hold all they say: nothing of another file is read through them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, MissingDependencyError


@contextmanager
def open_hdf5(path: Path, where: str = "") -> Iterator[Any]:
    """Open a file for reading.

    Parameters
    ----------
    path : Path
        The file.
    where : str
        What messages begin with. Default: the path.

    Yields
    ------
    h5py.File

    Raises
    ------
    MissingDependencyError
        If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        message = (
            f"{where or path}: reading {path} needs h5py. Install it with pip install "
            "'imgtofmri[train]'."
        )
        raise MissingDependencyError(message) from error
    with h5py.File(path, "r") as file:
        yield file


def item(group: Any, name: str) -> Any:
    """Return what lies in a group by a name, which may be a path.

    Raises
    ------
    DataError
        If it is a link, or its values are kept in another file.
    KeyError
        If it is not there.
    """
    import h5py

    found = group
    for part in filter(None, name.split("/")):
        link = found.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _elsewhere(group, name, f"a link to {link.filename!r:.200}")
        if isinstance(link, h5py.SoftLink):
            raise _elsewhere(group, name, f"a link to {link.path!r:.200}")
        found = found[part]
    if isinstance(found, h5py.Dataset):
        if found.external:
            raise _elsewhere(group, name, f"values in {found.external[0][0]!r:.200}")
        if found.is_virtual:
            raise _elsewhere(group, name, "a virtual data set, of values in other files")
    return found


def values(group: Any, name: str) -> npt.NDArray[Any]:
    """Return the values of a data set.

    Raises
    ------
    DataError, KeyError
        As `item`.
    """
    return np.asarray(item(group, name)[()])


def dataset_names(file: Any) -> list[str]:
    """Return the paths of all data sets; links are not followed."""
    import h5py

    names: list[str] = []
    file.visititems(
        lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None
    )
    return names


def _elsewhere(group: Any, name: str, what: str) -> DataError:
    return DataError(
        f"{group.file.filename}: expected {name!r:.200} to lie in the file itself; got {what}, "
        "which is not opened. Copy its values into the file (h5repack, or h5py)."
    )
