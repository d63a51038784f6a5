"""Arrays out of .npy, .npz, .h5, .mat and .zarr files; no pickle is executed."""

from __future__ import annotations

import warnings
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.apart import read_apart
from imgtofmri.exceptions import DataError, ImgToFmriError, MissingDependencyError, choice_message
from imgtofmri.files import is_there
from imgtofmri.hdf5 import dataset_names, item, open_hdf5, values
from imgtofmri.numpy_files import load_npy, load_npz, read_header
from imgtofmri.spaces import Grid
from imgtofmri.spaces.images import IMAGE_SUFFIXES
from imgtofmri.unpickle import load_arrays_pickle

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".mat", ".zarr")

# How many names of what a file holds a message lists.
_N_NAMED = 10


def read_array(path: Path, key: str | None = None, where: str = "array") -> npt.NDArray[Any]:
    """Read one array of numbers from a file.

    Parameters
    ----------
    path : Path
        A ``.npy``, ``.npz``, ``.h5``, ``.mat`` (all versions) file or a ``.zarr`` folder.
    key : str, optional
        The array's name where the file holds several; may be left out where it holds one. For a
        ``.npy`` file of nested arrays, indices: ``"0/2"`` is item 2 of item 0; for one of a
        dictionary, as GLMsingle writes it, its keys: ``"betasmd"``; for MATLAB's structures and
        cells, the way there: ``"results/modelmd"``, ``"models/3/modelmd"``.
    where : str
        What a message begins with.

    Returns
    -------
    array of any shape
        As stored, integers and floats alike. MATLAB's version 7.3 files store arrays transposed;
        here they come out as MATLAB shows them.

    Raises
    ------
    DataError
        If the file is missing, damaged, of another kind, or holds no such array.
    MissingDependencyError
        If h5py or zarr is needed and not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "responses.npz"
    ...     np.savez(file, LOC=np.zeros((3, 2)))
    ...     read_array(file, "LOC").shape
    (3, 2)
    """
    return read_arrays([(path, key, where)])[0]


def read_arrays(sources: Iterable[tuple[Path, str | None, str]]) -> list[npt.NDArray[Any]]:
    """Read several arrays; a file of nested arrays that holds many of them is read once.

    Parameters
    ----------
    sources : iterable of (path, key, where)
        As `read_array` takes them.

    Returns
    -------
    list of array of any shape
        In the order of the sources.

    Raises
    ------
    DataError, MissingDependencyError
        As `read_array`.
    """
    nested: dict[Path, Any] = {}
    return [_read(path, key, where, nested) for path, key, where in sources]


def _read(path: Path, key: str | None, where: str, nested: dict[Path, Any]) -> npt.NDArray[Any]:
    suffix = path.suffix.lower()
    if not is_there(path):
        message = (
            f"{where}: there is no file {path}. Correct the path, or fetch the study's downloads."
        )
        raise DataError(message)
    if suffix not in SUFFIXES:
        message = (
            f"{where}: an array file ends in {', '.join(SUFFIXES)}, and an image of voxels in "
            f"{', '.join(IMAGE_SUFFIXES)}; got {path}. Convert it."
        )
        raise DataError(message)
    try:
        if suffix == ".npy":
            array = _read_npy(path, key, where, nested)
        elif suffix == ".npz":
            (array,) = load_npz(path, lambda names: [_pick(names, key, path, where)]).values()
        else:
            reader, kind = _READERS[suffix]
            found = read_apart(reader, path, key, where, kind=kind, where=where)
            array = found["array"]
            if "chunks" in found:
                _warn_of_chunks(found, path, where)
    except ImgToFmriError:
        raise
    except Exception as error:  # each reader has errors of its own for a damaged file
        message = (
            f"{where}: {path} cannot be read as {suffix} ({error}). "
            "Write it again, or copy it from its source."
        )
        raise DataError(message) from error
    if array.dtype.kind not in "fiub":
        message = f"{where}: {path} must hold numbers; got {array.dtype}. Convert it."
        raise DataError(message)
    return array


def _read_npy(path: Path, key: str | None, where: str, nested: dict[Path, Any]) -> npt.NDArray[Any]:
    if path in nested:
        return _item(nested[path], key, path, where)
    with path.open("rb") as file:
        _, dtype = read_header(file)
        if dtype.hasobject:
            nested[path] = load_arrays_pickle(file.read(), nested=True, what=str(path))
            return _item(nested[path], key, path, where)
    if key is not None:
        message = f"{where}: {path} holds one array and takes no key; got {key!r}. Leave it out."
        raise DataError(message)
    return load_npy(path)


def _item(nested: Any, key: str | None, path: Path, where: str) -> npt.NDArray[Any]:
    """Return the array of numbers at ``"0/2"`` in arrays or lists of arrays, or by a dict's key."""
    item = _opened(nested)
    if key is None:
        what = f"{len(item)} arrays" if hasattr(item, "__len__") else "no array"
        hint = '"0" or, where arrays hold arrays, key = "0/0"'
        if isinstance(item, dict):
            what, hint = f"{what} ({', '.join(map(str, item))})", "the name of one"
        message = f"{where}: {path} holds {what}. Say which one with key = {hint}."
        raise DataError(message)
    for part in key.split("/"):
        if isinstance(item, dict):
            if part not in item:
                raise DataError(choice_message(f"{where}: {path}", "key", part, item))
            item = _opened(item[part])
            continue
        length = len(item) if isinstance(item, list | tuple | np.ndarray) else 0
        if not (part.isdecimal() and len(part) < 19 and int(part) < length):
            message = (
                f"{where}: key {key!r} of {path} must be whole numbers below {length} here; "
                f"got {part!r}. Count from 0, subject first."
            )
            raise DataError(message)
        item = _opened(item[int(part)])
    if isinstance(item, np.ndarray) and item.dtype.kind in "fiub" and item.ndim:
        return item
    parts = item if isinstance(item, list | tuple | np.ndarray) and np.ndim(item) else []
    rows = [np.asarray(row) for row in parts]
    lengths = {row.shape for row in rows}
    if len(lengths) != 1 or rows[0].dtype.kind == "O":
        message = (
            f"{where}: item {key!r} of {path} must be one array of numbers; its {len(rows)} parts "
            f"have shapes {sorted(lengths)[:3]}. Give a longer key."
        )
        raise DataError(message)
    return np.stack(rows)


def _opened(item: Any) -> Any:
    """Return what a 0-dimensional array of an object holds, as where a dictionary was saved."""
    is_box = isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.hasobject
    return item[()] if is_box else item


LAYOUTS = ("xyzn", "nzyx", "nxyz")
"""How volumes may lie in arrays, n counting them; MATLAB's axes come reversed out of HDF5."""


def volume_rows(
    array: npt.NDArray[Any],
    grid: Grid,
    voxels: npt.NDArray[np.intp],
    axes: str | None = None,
    where: str = "array",
) -> npt.NDArray[Any]:
    """Return some voxels of the volumes that an array of four axes holds.

    Parameters
    ----------
    array : array of shape (n_volumes, nx, ny, nz), or another order of these
        Volumes on a grid, in one of ``LAYOUTS``.
    grid : Grid
        The grid.
    voxels : array of shape (n_voxels,), int
        Flat indices, C order.
    axes : str, optional
        The array's axes, such as ``"xyzn"``. Default: the one of ``LAYOUTS`` that the grid's shape
        tells.
    where : str
        What a message begins with.

    Returns
    -------
    array of shape (n_volumes, n_voxels)

    Raises
    ------
    DataError
        If the shape is not the grid's, or more than one layout fits.
    """
    told = [axes] if axes else list(LAYOUTS)
    fits = [one for one in told if tuple(array.shape[one.index(a)] for a in "xyz") == grid.shape]
    if len(fits) != 1:
        wanted = " or ".join(told)
        problem = f"fits {' and '.join(fits)}" if fits else "fits none"
        message = (
            f"{where}: an array of volumes must have axes {wanted}, of the masks' grid "
            f"{grid.shape}; {array.shape} {problem}. Say which with axes, such as "
            f'axes = "{(fits or told)[0]}", or give the masks that go with it.'
        )
        raise DataError(message)
    turned = array.transpose([fits[0].index(a) for a in "nxyz"])
    x, y, z = np.unravel_index(voxels, grid.shape)
    return np.asarray(turned[:, x, y, z])


def _read_mat(path: Path, key: str | None, where: str) -> dict[str, npt.NDArray[Any]]:
    from scipy.io import loadmat, whosmat

    with path.open("rb") as file:
        is_hdf5 = b"MATLAB 7.3" in file.read(128)
    if is_hdf5:
        return {"array": _read_hdf5(path, key, where)["array"].T}
    names = [name for name, _, _ in whosmat(path)]
    # A name is whole, or begins the way into a structure.
    top, _, rest = (key or "").partition("/")
    name = _pick(names, key if key is None or key in names else top, path, where)
    found = loadmat(path, variable_names=[name])[name]
    parts = rest.split("/") if rest and name != key else []
    return {"array": _inside(found, parts, path, name, where)}


def _inside(found: Any, parts: list[str], path: Path, name: str, where: str) -> npt.NDArray[Any]:
    """Return the array inside MATLAB's structures, by fields, and cells, by indices from 0."""
    way = [str(path), name]
    while found.dtype.names or found.dtype.hasobject:
        fields = found.dtype.names if found.size == 1 else None
        known = list(fields or map(str, range(found.size)))
        here = f"{where}: {'/'.join(way)}"
        if not parts:
            message = (
                f"{here} holds no array, but {len(known)} {'fields' if fields else 'cells'} "
                f"({', '.join(known[:_N_NAMED])}). Say which with key, as in "
                f'"{"/".join([*way[1:], known[0] if known else "..."])}".'
            )
            raise DataError(message)
        part, *parts = parts
        if part not in known:
            raise DataError(choice_message(here, "key", part, known))
        way.append(part)
        found = found[part] if fields else found.ravel()[int(part) : int(part) + 1]
        while found.dtype.hasobject and not found.dtype.names and found.size == 1:
            found = np.asarray(found.item())
    if parts:
        message = (
            f"{where}: {'/'.join(way)} is an array and holds no {'/'.join(parts)!r}. Leave it out."
        )
        raise DataError(message)
    return np.asarray(found)


def _read_hdf5(path: Path, key: str | None, where: str) -> dict[str, npt.NDArray[Any]]:
    with open_hdf5(path, where) as file:
        name = _pick(dataset_names(file), key, path, where)
        array = values(file, name)
        _check_packed(array, item(file, name).attrs, path, where)
        return {"array": array}


def _read_zarr(path: Path, key: str | None, where: str) -> dict[str, npt.NDArray[Any]]:
    try:
        import zarr
        from numcodecs import registry
    except ImportError as error:
        message = f"{where}: reading {path} needs zarr. Install it with pip install zarr."
        raise MissingDependencyError(message) from error
    # A store may name Python's pickles as its codec, and not every release refuses to run them.
    registry.codec_registry.pop("pickle", None)
    store = zarr.open(str(path), mode="r")
    chosen: Any = store
    if not isinstance(store, zarr.Array):
        names = list(store.array_keys()) if key is None else [key]
        chosen = store[_pick(names, key, path, where)]
    n_missing = chosen.nchunks - chosen.nchunks_initialized
    counts = np.array([n_missing, chosen.nchunks])
    array, said = np.asarray(chosen[...]), dict(chosen.attrs)
    if "_ARRAY_DIMENSIONS" in said and chosen.fill_value:
        # In format 2 xarray keeps its missing value here.
        said.setdefault("_FillValue", chosen.fill_value)
    _check_packed(array, said, path, where)
    fill = np.nan if chosen.fill_value is None else chosen.fill_value
    return {"array": array, "chunks": counts, "fill": np.array(fill)}


def _check_packed(array: npt.NDArray[Any], said: Mapping[str, Any], path: Path, where: str) -> None:
    """Refuse values that attributes say are not those that were measured, as netCDF packs them.

    References
    ----------
    The CF conventions, "Missing data" and "Packed data".
    """
    packed = [name for name in ("scale_factor", "add_offset") if name in said]
    for name in [name for name in ("_FillValue", "missing_value") if name in said]:
        missing = said[name]
        if isinstance(missing, str):
            # In format 3 of zarr xarray writes a float as the letters that stand for its bytes.
            missing = np.frombuffer(b64decode(missing), dtype="<f8")
        if np.isin(array, missing).any():
            packed.append(name)
    if packed:
        message = (
            f"{where}: {path} must hold the values themselves; got packed ones, or a number for "
            f"missing ones, by the attributes {', '.join(packed)}. Write it from xarray as "
            "floating-point numbers, with NaN where a value is missing."
        )
        raise DataError(message)


_READERS: dict[str, tuple[Callable[..., dict[str, npt.NDArray[Any]]], str]] = {
    ".mat": (_read_mat, "a MATLAB file"),
    ".h5": (_read_hdf5, "an HDF5 file"),
    ".hdf5": (_read_hdf5, "an HDF5 file"),
    ".zarr": (_read_zarr, "a zarr folder"),
}
"""What only C libraries can read, and damage or malice may crash: read in another process."""


def _warn_of_chunks(found: Mapping[str, npt.NDArray[Any]], path: Path, where: str) -> None:
    """Say where a zarr folder lacks some of its chunks."""
    n_missing, n_chunks = found["chunks"]
    if n_missing:
        message = (
            f"{where}: {n_missing} of {n_chunks} chunks of {path} are not there and count as "
            f"{found['fill']}. That is so where all values are the same; else copy it again."
        )
        warnings.warn(message, stacklevel=4)


def _pick(names: Iterable[str], key: str | None, path: Path, where: str) -> str:
    """Return the array's name: the key, or the only one there is."""
    known = list(names)
    if key is None and len(known) == 1:
        return known[0]
    if key is None:
        message = (
            f"{where}: {path} must hold one array, or a key must say which; it holds "
            f"{', '.join(known) or 'none'}. Give it as {{ file, key }}."
        )
        raise DataError(message)
    if key not in known:
        message = choice_message(f"{where}: {path}", "key", key, known or ["(no arrays)"])
        raise DataError(message)
    return key
