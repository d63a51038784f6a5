"""Dissimilarity matrices from files: NumPy, MATLAB and rsatoolbox's HDF5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.apart import read_apart
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.hdf5 import dataset_names, item, open_hdf5, values
from imgtofmri.measured.labels import labels_of
from imgtofmri.numpy_files import load_npy, load_npz
from imgtofmri.rsa import RDMs, to_vector
from imgtofmri.rsa.rdm import n_conditions_of

#: Suffixes that `load_rdms` reads.
SUFFIXES = (".npy", ".npz", ".mat", ".h5", ".hdf5")

# What counts as 0 on a diagonal, as a share of the largest dissimilarity.
_ZERO = 1e-6

_MATRIX_KEYS = ("dissimilarities", "rdms", "RDMs", "rdm", "RDM")
_CONDITION_KEYS = ("conditions", "stimuli", "images", "condition", "stimulus", "image", "name")
# What matrices are called: people, one for each matrix, or else something.
_PEOPLE_KEYS = ("names", "subjects", "participants", "subject", "participant", "subj", "sub")
_NAME_KEYS = (*_PEOPLE_KEYS, "name", "session")


def load_rdms(
    path: str | Path,
    conditions: Sequence[str] | None = None,
    key: str | None = None,
    pattern_descriptor: str | None = None,
) -> RDMs:
    """Read a stack of measured dissimilarity matrices, one for each subject.

    Parameters
    ----------
    path : str or Path
        ``.npy``: one array. ``.npz``: an array (``dissimilarities``, ``rdms`` or the only one) and,
        if there, ``conditions`` and ``names`` or ``subjects``. ``.mat``: the same, versions 5 and
        7.3, or the MATLAB toolbox's struct array with fields ``RDM`` and ``name``, one element for
        each subject. ``.h5`` and ``.hdf5``: what rsatoolbox saves. Arrays are full matrices,
        (n_subjects, n, n), (n, n, n_subjects) or (n, n), or upper triangles, (n_subjects, n_pairs).
    conditions : sequence of str, optional
        Names of the rows, where the file has none; they replace the file's otherwise.
    key : str, optional
        Which variable of an ``.npz`` or ``.mat`` file holds the matrices.
    pattern_descriptor : str, optional
        Which of an rsatoolbox file's pattern descriptors names the conditions. By default the
        first of conditions, stimuli, images (or singular), name; else ``index``.

    Returns
    -------
    RDMs
        Conditions that nothing names are called ``0``, ``1``, ..., and not ``named``: row numbers,
        counted from 0 or 1, count as none. Subjects without names are ``rdm-1``, ...

    Raises
    ------
    DataError
        If the file is missing or cannot be read, no variable or several could be the matrices,
        they are not dissimilarity matrices, or several are of one subject by the names.
    OptionError
        If the suffix, ``key`` or ``pattern_descriptor`` is unknown.
    MissingDependencyError
        If an HDF5 file is to be read and h5py is not installed.

    Notes
    -----
    Nothing is unpickled: files of Python objects are refused.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        message = (
            f"{path.name} must end in {', '.join(SUFFIXES)}; got {path.suffix!r}. Save "
            "the matrices in one of these formats."
        )
        raise OptionError(message)
    if not path.is_file():
        message = f"{path} must be a file; there is none. Check its spelling."
        raise DataError(message)
    if suffix in (".h5", ".hdf5"):
        found = _read_rsatoolbox(path, pattern_descriptor)
    else:
        found = _gather(path, _read_variables(path), key)
    matrices, own_conditions, names, measure = found
    vectors = _as_vectors(path, matrices)
    n_conditions = n_conditions_of(vectors.shape[1])
    labels = list(conditions) if conditions is not None else own_conditions
    named = labels is not None
    if labels is None:
        labels = [str(number) for number in range(n_conditions)]
    if len(labels) != n_conditions:
        message = (
            f"{path.name} holds matrices of {n_conditions} conditions; got "
            f"{len(labels)} names for them. Give one for each row."
        )
        raise DataError(message)
    if names is None or len(names) != len(vectors) or len(set(names)) != len(names):
        names = [f"rdm-{number}" for number in range(1, len(vectors) + 1)]
    return RDMs(vectors, tuple(labels), tuple(names), measure, path, named)


# What is added to the name of a variable to call that of its matrices' names.
_NAMES = " names"

_Found = tuple[NDArray[Any], list[str] | None, list[str] | None, str]


def _read_variables(path: Path) -> dict[str, NDArray[Any]]:
    """Return the variables of a NumPy or MATLAB file."""
    if path.suffix.lower() == ".mat":
        return read_apart(_matlab_variables, path, kind="a MATLAB file of plain arrays")
    try:
        return {"rdms": load_npy(path)} if path.suffix.lower() == ".npy" else load_npz(path)
    except DataError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        message = (
            f"{path.name} must be a whole {path.suffix} file of plain arrays; it cannot "
            f"be read ({error}). Save it again, without Python objects."
        )
        raise DataError(message) from error


def _matlab_variables(path: Path) -> dict[str, NDArray[Any]]:
    """Return the variables of a .mat file; version 7.3 is HDF5 with the axes turned round."""
    from scipy.io import loadmat

    with path.open("rb") as file:
        is_hdf5 = b"MATLAB 7.3" in file.read(128)
    if is_hdf5:
        with open_hdf5(path) as opened:
            top = [name for name in dataset_names(opened) if "/" not in name]
            found = {name: _of_version_7_3(opened, name) for name in top}
        return {name: value for name, value in found.items() if value.dtype.kind in "fiuU"}
    variables: dict[str, NDArray[Any]] = {}
    for name, value in loadmat(path, squeeze_me=False, struct_as_record=True).items():
        if getattr(value, "dtype", None) is not None and "RDM" in (value.dtype.names or ()):
            variables |= _structures(path, name, value)
        elif not name.startswith("__"):
            variables |= _plain(name, value)
    return variables


def _of_version_7_3(file: Any, name: str) -> NDArray[Any]:
    """Return a variable with its axes as MATLAB has them, texts and cells of texts as texts."""
    found, value = item(file, name), values(file, name)
    if found.attrs.get("MATLAB_class") == b"char":
        rows = np.atleast_2d(value.T)
        return np.array(["".join(map(chr, row)) if value.dtype.kind == "u" else "" for row in rows])
    if value.dtype != object:
        return value.T
    cells = [_of_version_7_3(file, str(file[cell].name)) for cell in value.T.ravel() if cell]
    are_texts = bool(cells) and all(cell.dtype.kind == "U" and cell.size == 1 for cell in cells)
    return np.array([cell.item() for cell in cells]) if are_texts else np.empty(0)


def _structures(path: Path, name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the matrices of the MATLAB toolbox's struct array, and their names."""
    cells = array.ravel()
    if max(array.shape, default=0) != cells.size:
        message = (
            f"{path.name}: {name} must hold one matrix for each subject; got a struct array of "
            f"{' x '.join(map(str, array.shape))}, as of regions, subjects and sessions. Keep one "
            f"region, and average sessions: {name} = {name}(1, :) is the first region of all "
            "subjects."
        )
        raise DataError(message)
    squares = [np.atleast_2d(np.asarray(cell["RDM"], dtype=np.float64)) for cell in cells]
    if len({square.shape for square in squares}) != 1:
        message = (
            f"{path.name} must hold matrices of one size; got "
            f"{sorted({square.shape for square in squares})}. Keep those of one size."
        )
        raise DataError(message)
    found = {name: np.stack([np.squeeze(square) for square in squares])}
    if "name" in (cells.dtype.names or ()):
        found[f"{name}{_NAMES}"] = np.array([str(np.squeeze(cell["name"])) for cell in cells])
    return found


def _plain(name: str, value: Any) -> dict[str, NDArray[Any]]:
    """Return a variable as numbers or texts; nothing where it is neither."""
    array = np.asarray(value)
    if array.dtype == object:
        # A MATLAB cell array of texts, or texts of any length in HDF5.
        items = [np.squeeze(item).item() if np.size(item) == 1 else "" for item in array.ravel()]
        texts = [
            item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
            for item in items
        ]
        array = np.array(texts, dtype=str)
    return {name: array} if array.dtype.kind in "fiubUS" else {}


def _gather(path: Path, variables: dict[str, Any], key: str | None) -> _Found:
    """Find the matrices, the conditions' names and the subjects' among a file's variables."""
    numeric = [name for name, value in variables.items() if _could_be_rdms(value)]
    if key is not None and key not in variables:
        message = (
            f"key must be a variable of {path.name} ({', '.join(variables)}); got "
            f"{key!r}. Name one of these."
        )
        raise OptionError(message, "key")
    known = [name for name in _MATRIX_KEYS if name in numeric]
    candidates = [key] if key is not None else (known[:1] or numeric)
    if len(candidates) != 1:
        message = (
            f"{path.name} must hold one array of matrices; got "
            f"{', '.join(candidates) or 'none'} among {', '.join(variables) or 'no variables'}. "
            "Say which with `key`."
        )
        raise DataError(message)
    matrices = variables[candidates[0]]
    names = _names(path, {key: variables[key] for key in variables if key != candidates[0]})
    if f"{candidates[0]}{_NAMES}" in variables:
        names = variables[f"{candidates[0]}{_NAMES}"].tolist()
    return np.asarray(matrices), _strings(variables, _CONDITION_KEYS), names, "unknown"


def _read_rsatoolbox(path: Path, descriptor: str | None) -> _Found:
    """Read the layout of ``rsatoolbox.rdm.RDMs.save(..., file_type='hdf5')``."""
    found = read_apart(_rsatoolbox_variables, path, kind="a whole HDF5 file of rsatoolbox")
    patterns, subjects = (
        {name.removeprefix(group): found[name] for name in found if name.startswith(group)}
        for group in _DESCRIPTORS
    )
    if descriptor is not None and descriptor not in patterns:
        message = (
            f"pattern_descriptor must be one of {', '.join(patterns) or 'none'} in "
            f"{path.name}; got {descriptor!r}. Name one of these."
        )
        raise OptionError(message, "pattern_descriptor")
    wanted = (descriptor,) if descriptor is not None else _CONDITION_KEYS
    measure = str(found["measure"].item()) if "measure" in found else "unknown"
    matrices = found["dissimilarities"]
    return matrices, _strings(patterns, wanted), _names(path, subjects), measure


_DESCRIPTORS = ("pattern_descriptors/", "rdm_descriptors/")


def _rsatoolbox_variables(path: Path) -> dict[str, NDArray[Any]]:
    """Return the matrices, the descriptors by their groups, and the measure."""
    with open_hdf5(path) as file:
        if "dissimilarities" not in file:
            message = (
                f"{path.name} must be a file of rsatoolbox, with a data set "
                f"'dissimilarities'; got {', '.join(file) or 'nothing'}. Save it with "
                "RDMs.save(..., file_type='hdf5')."
            )
            raise DataError(message)
        found = {"dissimilarities": np.asarray(values(file, "dissimilarities"), dtype=np.float64)}
        for group in _DESCRIPTORS:
            if group[:-1] in file:
                held = item(file, group[:-1])
                arrays = [(name, values(held, name)) for name in dataset_names(held)]
                for name, array in (*arrays, *held.attrs.items()):
                    found |= _plain(f"{group}{name}", array) if np.ndim(array) else {}
        found |= _plain("measure", file.attrs.get("dissimilarity_measure", "unknown"))
    return found


def _could_be_rdms(value: Any) -> bool:
    """Tell whether a variable may hold dissimilarities."""
    array = np.asarray(value)
    return array.dtype.kind in "fiu" and array.ndim in (1, 2, 3) and array.size >= 3


def _strings(variables: dict[str, Any], keys: Sequence[str]) -> list[str] | None:
    """Return the first of some variables that is a list of texts (or of whole numbers)."""
    for key in keys:
        labels = labels_of(variables.get(key, np.empty(0)))
        if labels is not None:
            return labels
    return None


def _names(path: Path, variables: dict[str, Any]) -> list[str] | None:
    """Return what matrices are called, refusing several of one person, who would count as many."""
    people = _strings(variables, _PEOPLE_KEYS) or []
    twice = next((name for name in people if people.count(name) > 1), None)
    if twice is not None:
        message = (
            f"{path.name} must hold one matrix for each subject; got {people.count(twice)} of "
            f"{twice!r}, as of several regions or sessions. Keep those of one region, and average "
            "a subject's sessions."
        )
        raise DataError(message)
    return people or _strings(variables, _NAME_KEYS)


def _as_vectors(path: Path, matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Bring any of the known shapes to upper triangles, shape (n_subjects, n_pairs)."""
    values = np.asarray(matrices, dtype=np.float64)
    last_two = values.ndim >= 2 and values.shape[-1] == values.shape[-2]
    first_two = values.ndim == 3 and values.shape[0] == values.shape[1]
    if first_two and (not last_two or not _is_symmetric(values)):
        values, last_two = np.moveaxis(values, 2, 0), True
    square = last_two and (values.ndim == 3 or _is_symmetric(values))
    if square:
        stack = values if values.ndim == 3 else values[None]
        try:
            vectors = to_vector(stack)
        except DataError as error:
            message = f"{path.name} does not hold dissimilarity matrices. {error}"
            raise DataError(message) from error
        _check_diagonal(path, stack)
        return vectors
    if values.ndim in (1, 2) and n_conditions_of(values.shape[-1]) >= 3:
        return np.atleast_2d(values)
    message = (
        f"{path.name} must hold (n_subjects, n, n), (n, n, n_subjects), (n, n) or upper "
        f"triangles (n_subjects, n * (n - 1) / 2); got shape {values.shape}. Save it as one of "
        "these."
    )
    raise DataError(message)


def _check_diagonal(path: Path, squares: NDArray[np.float64]) -> None:
    """Refuse matrices that say that a condition differs from itself, as similarities seem to."""
    diagonal = np.diagonal(squares, axis1=-2, axis2=-1)
    if np.isinf(diagonal).any():
        message = (
            f"{path.name} must hold dissimilarities, 0 between a condition and itself; got an "
            "infinite diagonal, as of Fisher's z of correlations. Give 1 - correlation."
        )
        raise DataError(message)
    size = np.nanmax(np.abs(squares), initial=0.0)
    odd = diagonal[np.isfinite(diagonal) & (np.abs(diagonal) > _ZERO * size)]
    if not odd.size:
        return
    alike = np.ptp(odd) <= _ZERO * size and odd[0] > 0
    kind = "they seem to be similarities: give 1 - similarity" if alike else "set it to 0 if that"
    remedy = f"{kind}." if alike else f"{kind} is meant, or give distances."
    message = (
        f"{path.name} must hold dissimilarities, 0 between a condition and itself; got a diagonal "
        f"of {odd.min():g} to {odd.max():g}. {remedy[0].upper()}{remedy[1:]}"
    )
    raise DataError(message)


def _is_symmetric(values: NDArray[np.float64]) -> bool:
    """Tell whether matrices on the last two axes equal their mirror images."""
    return bool(np.allclose(values, np.swapaxes(values, -1, -2), rtol=1e-6, equal_nan=True))
