"""Read patterns from files: NIfTI folders and 4-D files, arrays, tables of paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.files import is_there, natural_key
from imgtofmri.measured.images import Mask, check_same_grid
from imgtofmri.measured.labels import labels_of
from imgtofmri.measured.patterns import Patterns
from imgtofmri.measured.tables import read_pattern_files
from imgtofmri.numpy_files import load_npy, load_npz
from imgtofmri.spaces import Grid, is_image, read_image


def read_patterns(
    source: str | Path | Sequence[Path],
    mask: Mask | None = None,
    names: Sequence[str] | None = None,
    resample: bool = False,
) -> Patterns:
    """Read patterns of responses, one for each image.

    Parameters
    ----------
    source : path, or sequence of paths
        * a folder of 3-D NIfTI files, one for each image, named after it;
        * a 4-D NIfTI file, with ``names`` for its volumes;
        * a table (.tsv, .csv) with columns ``name`` (or ``stim_file``) and ``file``, the paths of
          3-D NIfTI files relative to the table;
        * an array file: .npy (n_images, n_voxels) with ``names``, or .npz with ``patterns`` and,
          unless given, ``names`` (numbers of the rows count as none), and if there are any ``mask``
          and ``affine``;
        * several 3-D NIfTI files.
    mask : Mask, optional
        The voxels to read. By default those that are neither NaN nor 0 in every image of the
        source. An array without a mask of its own must have a column for each voxel of the mask.
    names : sequence of str, optional
        The images' names, in the source's order. By default as told above, or file names.
    resample : bool
        Whether to resample NIfTI files on another grid (linearly, NaN outside); otherwise they are
        refused.

    Returns
    -------
    Patterns
        float32, in the source's order (files of a folder by name, numbers in numerical order).

    Raises
    ------
    DataError
        If a file is missing or cannot be read, or names are missing.
    ShapeError
        If grids differ and may not be resampled.
    """
    if not isinstance(source, str | Path):
        check_files(source)
        return _read_volumes([Path(path) for path in source], mask, names, resample)
    path = Path(source)
    if is_there(path) and path.is_dir():
        found = [p for p in path.iterdir() if is_image(p) and not p.name.startswith(".")]
        if not found:
            message = (
                f"{path}: expected NIfTI files (.nii, .nii.gz) or MGH files in it; found none. "
                "Give the folder that holds one file for each image."
            )
            raise DataError(message)
        found.sort(key=lambda p: natural_key(p.name))
        return _read_volumes(found, mask, names, resample)
    if not is_there(path):
        message = f"{path}: expected patterns; there is no such file or folder. Check the path."
        raise DataError(message)
    suffix = path.suffix.lower()
    if suffix in (".tsv", ".csv"):
        rows = read_pattern_files(path)
        if names is None:
            names = [row.name for row in rows]
        return _read_volumes([row.file for row in rows], mask, names, resample)
    if suffix in (".npy", ".npz"):
        return _read_array(path, mask, names)
    if is_image(path):
        return _read_series(path, mask, names, resample)
    message = (
        f"{path} must be a folder, a NIfTI file, a table (.tsv, .csv) or an array "
        f"(.npy, .npz); got a file ending in {suffix!r}. Convert it to one of these."
    )
    raise DataError(message)


def check_files(source: object) -> None:
    """Refuse what is no path and no sequence of paths.

    Raises
    ------
    DataError
    """
    several = isinstance(source, Sequence) and all(isinstance(one, str | Path) for one in source)
    if not (several or isinstance(source, str | Path)):
        message = (
            "patterns are read from a folder, a file, or a list of files; got a "
            f"{type(source).__name__}. Save an array as .npz with patterns and names, and images "
            "as NIfTI."
        )
        raise DataError(message)


def _read_volumes(
    paths: Sequence[Path], mask: Mask | None, names: Sequence[str] | None, resample: bool
) -> Patterns:
    if names is not None and len(names) != len(paths):
        message = (
            f"names must hold one name for each of the {len(paths)} files; got "
            f"{len(names)}. Name every file, in order."
        )
        raise ShapeError(message)
    if not paths:
        message = "source must be one or more NIfTI files; got none. Give some."
        raise DataError(message)
    if mask is None:
        mask = _shared_mask(paths)
    values = np.empty((len(paths), mask.n_voxels), dtype=np.float32)
    for row, path in enumerate(paths):
        volume, grid = _read_volume(path)
        values[row] = mask.take(volume, grid, path, resample=resample)
    return Patterns(tuple(names or [p.name for p in paths]), values, mask.inside, mask.affine)


def _read_volume(path: Path) -> tuple[NDArray[np.float32], Grid]:
    volume, grid = read_image(path, dtype=np.float32)
    if volume.ndim == 4 and volume.shape[3] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        message = (
            f"{path} must be a 3-D image, one for each stimulus; got shape {volume.shape}. Give a "
            "4-D file by itself, with names for its volumes."
        )
        raise ShapeError(message)
    return volume, grid


def _shared_mask(paths: Sequence[Path]) -> Mask:
    """Find the voxels that are finite in every volume and not 0 in all of them."""
    first, grid = _read_volume(paths[0])
    finite, varies = np.isfinite(first), first != 0
    for path in paths[1:]:
        volume, other = _read_volume(path)
        where = f"{path}, against {paths[0].name}"
        check_same_grid(where, volume.shape, other.affine, first.shape, grid.affine)
        finite &= np.isfinite(volume)
        varies |= volume != 0
    return _with_data(finite & varies, grid, paths[0].parent)


def _with_data(inside: NDArray[np.bool_], grid: Grid, path: Path) -> Mask:
    if not inside.any():
        message = (
            f"{path}: expected voxels with data in every image; got none. Give a mask of the "
            "voxels to compare."
        )
        raise DataError(message)
    return Mask(inside, grid.affine)


def _read_series(
    path: Path, mask: Mask | None, names: Sequence[str] | None, resample: bool
) -> Patterns:
    series, grid = read_image(path, dtype=np.float32)
    if series.ndim == 3:
        series = series[..., None]
        names = [path.name] if names is None else names
    if series.ndim != 4:
        message = (
            f"{path} must be a 3-D or 4-D image; got shape {series.shape}. "
            "Give one volume for each image."
        )
        raise ShapeError(message)
    names = _need_names(path, names, series.shape[3], "volumes")
    if mask is None:
        inside = np.isfinite(series).all(axis=3) & (series != 0).any(axis=3)
        mask = _with_data(inside, grid, path)
    volumes = (series[..., at] for at in range(series.shape[3]))
    values = np.stack([mask.take(volume, grid, path, resample=resample) for volume in volumes])
    return Patterns(tuple(names), values, mask.inside, mask.affine)


def has_names(path: Path) -> bool:
    """Tell whether an .npz file of patterns names its images; False where it cannot be read."""
    try:
        stored = load_npz(path)
    except Exception:  # What is wrong is said where it is read.
        return False
    return labels_of(stored.get("names", ())) is not None


def _read_array(path: Path, mask: Mask | None, names: Sequence[str] | None) -> Patterns:
    stored: dict[str, NDArray[Any]]
    try:
        is_one = path.suffix.lower() == ".npy"
        stored = {"patterns": load_npy(path)} if is_one else load_npz(path)
    except DataError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        message = (
            f"{path}: expected an array of numbers; got: {error}. "
            "Save it with numpy.save or numpy.savez."
        )
        raise DataError(message) from error
    if "patterns" not in stored or stored["patterns"].ndim != 2:
        got = ", ".join(f"{key} {array.shape}" for key, array in stored.items()) or "nothing"
        message = (
            f"{path} must hold 'patterns' of shape (n_images, n_voxels); got "
            f"{got}. Save them under that name."
        )
        raise ShapeError(message)
    values = np.asarray(stored["patterns"], dtype=np.float32)
    if names is None and "names" in stored:
        names = labels_of(stored["names"])
    names = _need_names(path, names, len(values), "rows")
    own, affine = stored.get("mask"), stored.get("affine")
    if own is not None:
        if not np.isin(own, (0, 1)).all():
            odd = np.unique(own[~np.isin(own, (0, 1))])[:3].tolist()
            message = f"{path}: 'mask' must hold 0 and 1; got {odd}, too. Save it as booleans."
            raise DataError(message)
        own = own.astype(bool)
    if mask is None:
        return Patterns(tuple(names), values, own, affine)
    if own is None:
        if values.shape[1] != mask.n_voxels:
            message = (
                f"{path} must have a column for each of the mask's {mask.n_voxels} voxels; got "
                f"{values.shape[1]}. Save the mask with it, under 'mask'."
            )
            raise ShapeError(message)
        return Patterns(tuple(names), values, mask.inside, mask.affine)
    patterns = Patterns(tuple(names), values, own, affine)
    where = f"{path}, against the mask"
    check_same_grid(where, own.shape, affine, mask.inside.shape, mask.affine)
    lacking = np.count_nonzero(mask.inside & ~own)
    if lacking:
        message = (
            f"{path} must hold every voxel of the mask; it lacks {lacking}. Use a mask inside its "
            "own."
        )
        raise ShapeError(message)
    return patterns.within(mask.inside[own])


def _need_names(path: Path, names: Sequence[str] | None, n: int, what: str) -> Sequence[str]:
    if names is None:
        message = (
            f"{path} holds {n} {what} without names, and images are paired by name; "
            "got no names. Give them in order with `names`."
        )
        raise DataError(message)
    if len(names) != n:
        message = (
            f"names must hold one name for each of the {n} {what} of {path}; got "
            f"{len(names)}. Name every one, in order."
        )
        raise ShapeError(message)
    return names
