"""Read patterns from files: NIfTI folders and 4-D files, arrays, tables of paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.files import natural_key
from imgtofmri.measured.patterns import Patterns, check_same_grid
from imgtofmri.measured.tables import read_pattern_files
from imgtofmri.spaces import read_image


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels to read: a mask and where its grid lies.

    Attributes
    ----------
    mask : array of shape (X, Y, Z), bool
        The voxels, in C order.
    affine : array of shape (4, 4)
        Voxel indices to millimetres, RAS+.
    """

    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]


def read_grid(path: str | Path) -> Grid:
    """Read a mask image: its voxels are those above 0.

    Raises
    ------
    DataError
        If the file is missing, is not a 3-D image, or is 0 everywhere.
    """
    values, affine = _load(Path(path), "read_grid")
    if values.ndim != 3 or not (values > 0).any():
        got = f"shape {values.shape}" if values.ndim != 3 else "0 everywhere"
        message = (
            f"read_grid: {path} must be a 3-D mask image with voxels above 0; got {got}. "
            "Give a mask on the grid of the patterns."
        )
        raise DataError(message)
    return Grid(values > 0, affine)


def read_region(path: str | Path, grid: Grid, resample: bool = False) -> NDArray[np.bool_]:
    """Read a region's mask image as a mask over the voxels of a grid.

    Parameters
    ----------
    path : path
        A 3-D image; the region is where it is above 0 (above 0.5 after resampling).
    grid : Grid
        The voxels.
    resample : bool
        Whether to resample an image on another grid.

    Returns
    -------
    region : array of shape (n_voxels,), bool

    Raises
    ------
    DataError
        If the file cannot be read, or has no voxel inside the grid's mask.
    ShapeError
        If it lies on another grid and may not be resampled.
    """
    region = read_grid(path)
    values = _voxels(region.mask.astype(np.float32), region.affine, grid, path, resample)
    inside = values > (0.5 if resample else 0)
    if not inside.any():
        message = (
            f"read_region: {path} must share voxels with the mask; it shares none of "
            f"{np.count_nonzero(grid.mask)}. Look whether both are in the same space."
        )
        raise DataError(message)
    return np.asarray(inside)


def read_patterns(
    source: str | Path | Sequence[Path],
    grid: Grid | None = None,
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
          unless given, ``names``, and if there are any ``mask`` and ``affine``;
        * several 3-D NIfTI files.
    grid : Grid, optional
        The voxels to read. By default those that are neither NaN nor 0 in every image of the
        source. An array without a mask of its own must have a column for each voxel of the grid.
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
        return _read_volumes([Path(path) for path in source], grid, names, resample)
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if _is_nifti(p) and not p.name.startswith(".")]
        if not found:
            message = (
                f"read_patterns: expected NIfTI files (.nii, .nii.gz) in {path}; found none. "
                "Give the folder that holds one file for each image."
            )
            raise DataError(message)
        found.sort(key=lambda p: natural_key(p.name))
        return _read_volumes(found, grid, names, resample)
    if not path.exists():
        message = (
            f"read_patterns: expected patterns at {path}; there is no such file or folder. "
            "Check the path."
        )
        raise DataError(message)
    suffix = path.suffix.lower()
    if suffix in (".tsv", ".csv"):
        rows = read_pattern_files(path)
        if names is None:
            names = [row.name for row in rows]
        return _read_volumes([row.file for row in rows], grid, names, resample)
    if suffix in (".npy", ".npz"):
        return _read_array(path, grid, names)
    if _is_nifti(path):
        return _read_series(path, grid, names, resample)
    message = (
        f"read_patterns: {path} must be a folder, a NIfTI file, a table (.tsv, .csv) or an array "
        f"(.npy, .npz); got a file ending in {suffix!r}. Convert it to one of these."
    )
    raise DataError(message)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _load(path: Path, where: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read an image's values and affine, or say which file is at fault."""
    values, grid = read_image(path, where, np.float32)
    return values, grid.affine


def _voxels(
    volume: NDArray[np.float32],
    affine: NDArray[np.float64],
    grid: Grid,
    path: str | Path,
    resample: bool,
) -> NDArray[np.float32]:
    """Take a volume's values at the grid's voxels."""
    same = volume.shape == grid.mask.shape and np.allclose(affine, grid.affine, atol=1e-3)
    if same:
        return np.asarray(volume[grid.mask])
    if not resample:
        where = f"read_patterns: {path}, against the mask"
        check_same_grid(where, volume.shape, affine, grid.mask.shape, grid.affine)
    from scipy import ndimage

    to_source = np.linalg.inv(affine) @ grid.affine
    points = to_source[:3, :3] @ np.array(np.nonzero(grid.mask)) + to_source[:3, 3:]
    values = ndimage.map_coordinates(volume, points, order=1, cval=np.nan)
    return np.asarray(values, dtype=np.float32)


def _read_volumes(
    paths: Sequence[Path], grid: Grid | None, names: Sequence[str] | None, resample: bool
) -> Patterns:
    if names is not None and len(names) != len(paths):
        message = (
            f"read_patterns: names must hold one name for each of the {len(paths)} files; got "
            f"{len(names)}. Name every file, in order."
        )
        raise ShapeError(message)
    if not paths:
        message = "read_patterns: expected one or more NIfTI files; got none. Give some."
        raise DataError(message)
    if grid is None:
        grid = _shared_grid(paths)
    values = np.empty((len(paths), int(np.count_nonzero(grid.mask))), dtype=np.float32)
    for row, path in enumerate(paths):
        volume, affine = _load(path, "read_patterns")
        if volume.ndim == 4 and volume.shape[3] == 1:
            volume = volume[..., 0]
        if volume.ndim != 3:
            message = (
                f"read_patterns: {path} must be a 3-D image, one for each stimulus; got shape "
                f"{volume.shape}. Give a 4-D file by itself, with names for its volumes."
            )
            raise ShapeError(message)
        values[row] = _voxels(volume, affine, grid, path, resample)
    return Patterns(tuple(names or [p.name for p in paths]), values, grid.mask, grid.affine)


def _shared_grid(paths: Sequence[Path]) -> Grid:
    """Find the voxels that are finite in every volume and not 0 in all of them."""
    finite: NDArray[np.bool_] | None = None
    for path in paths:
        volume, affine = _load(path, "read_patterns")
        volume = volume[..., 0] if volume.ndim == 4 and volume.shape[3] == 1 else volume
        if finite is None:
            finite, varies, first_affine = np.ones(volume.shape, bool), volume != 0, affine
        check_same_grid(
            f"read_patterns: {path}, against {paths[0].name}",
            volume.shape,
            affine,
            finite.shape,
            first_affine,
        )
        finite &= np.isfinite(volume)
        varies |= volume != 0
    assert finite is not None
    return _not_empty(finite & varies, first_affine, paths[0].parent)


def _not_empty(mask: NDArray[np.bool_], affine: NDArray[np.float64], path: Path) -> Grid:
    if not mask.any():
        message = (
            f"read_patterns: expected voxels with data in every image of {path}; got none. "
            "Give a mask of the voxels to compare."
        )
        raise DataError(message)
    return Grid(mask, affine)


def _read_series(
    path: Path, grid: Grid | None, names: Sequence[str] | None, resample: bool
) -> Patterns:
    series, affine = _load(path, "read_patterns")
    if series.ndim == 3:
        series = series[..., None]
        names = [path.name] if names is None else names
    if series.ndim != 4:
        message = (
            f"read_patterns: {path} must be a 3-D or 4-D image; got shape {series.shape}. "
            "Give one volume for each image."
        )
        raise ShapeError(message)
    names = _need_names(path, names, series.shape[3], "volumes")
    if grid is None:
        with_data = np.isfinite(series).all(axis=3) & (series != 0).any(axis=3)
        grid = _not_empty(with_data, affine, path)
    values = np.stack(
        [_voxels(series[..., at], affine, grid, path, resample) for at in range(series.shape[3])]
    )
    return Patterns(tuple(names), values, grid.mask, grid.affine)


def _read_array(path: Path, grid: Grid | None, names: Sequence[str] | None) -> Patterns:
    stored: dict[str, NDArray[Any]]
    try:
        loaded = np.load(path, allow_pickle=False)
        stored = {"patterns": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError) as error:
        message = (
            f"read_patterns: expected an array of numbers in {path}; got: {error}. "
            "Save it with numpy.save or numpy.savez."
        )
        raise DataError(message) from error
    if "patterns" not in stored or stored["patterns"].ndim != 2:
        got = ", ".join(f"{key} {array.shape}" for key, array in stored.items()) or "nothing"
        message = (
            f"read_patterns: {path} must hold 'patterns' of shape (n_images, n_voxels); got "
            f"{got}. Save them under that name."
        )
        raise ShapeError(message)
    values = np.asarray(stored["patterns"], dtype=np.float32)
    if names is None and "names" in stored:
        names = [str(name) for name in stored["names"]]
    names = _need_names(path, names, len(values), "rows")
    mask = stored.get("mask")
    affine = stored.get("affine")
    if mask is None or grid is None:
        if grid is not None and values.shape[1] == np.count_nonzero(grid.mask):
            return Patterns(tuple(names), values, grid.mask, grid.affine)
        if grid is not None:
            message = (
                f"read_patterns: {path} must have a column for each of the mask's "
                f"{np.count_nonzero(grid.mask)} voxels; got {values.shape[1]}. "
                "Save the mask with it, under 'mask'."
            )
            raise ShapeError(message)
        own = None if mask is None else mask.astype(bool)
        return Patterns(tuple(names), values, own, affine)
    own = mask.astype(bool)
    patterns = Patterns(tuple(names), values, own, affine)
    check_same_grid(
        f"read_patterns: {path}, against the mask", own.shape, affine, grid.mask.shape, grid.affine
    )
    if np.any(grid.mask & ~own):
        message = (
            f"read_patterns: {path} must hold every voxel of the mask; it lacks "
            f"{np.count_nonzero(grid.mask & ~own)}. Use a mask inside its own."
        )
        raise ShapeError(message)
    return patterns.within(grid.mask[own])


def _need_names(path: Path, names: Sequence[str] | None, n: int, what: str) -> Sequence[str]:
    if names is None:
        message = (
            f"read_patterns: {path} holds {n} {what} without names, and images are paired by name; "
            "got no names. Give them in order (names=, --names FILE)."
        )
        raise DataError(message)
    if len(names) != n:
        message = (
            f"read_patterns: names must hold one name for each of the {n} {what} of {path}; got "
            f"{len(names)}. Name every one, in order."
        )
        raise ShapeError(message)
    return names
