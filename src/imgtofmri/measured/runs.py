"""Runs of several subjects from files: read, cleaned, with ROIs brought to their grid."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.confounds import nuisance, read_confounds
from imgtofmri.measured.movie import MeasuredMovie
from imgtofmri.progress import track
from imgtofmri.spaces import Grid, grid_of, open_image, reading_values, resample_mask
from imgtofmri.timeseries import cosine_basis, regress_out

__all__ = ["read_runs"]

BoolArray = NDArray[np.bool_]

_CHUNK_BYTES = 1 << 20


def read_runs(
    images: Sequence[str | Path],
    roi_masks: Mapping[str, ArrayLike],
    roi_affine: ArrayLike,
    *,
    confounds: Sequence[str | Path] | None = None,
    tr_s: float | None = None,
    cutoff_s: float | None = 128.0,
    subject_names: Sequence[str] | None = None,
    progress: bool = True,
) -> MeasuredMovie:
    """Read one run of each subject, clean it and keep the voxels of the ROIs.

    Cleaning is one regression on the mean, the slow cosines and the confounds together.

    Parameters
    ----------
    images : sequence of path
        One 4-D NIfTI file for each subject, all on one grid in template space.
    roi_masks : dict of str to array of shape (x, y, z)
        Masks on a grid of their own, for example of a `Prediction`.
    roi_affine : array of shape (4, 4)
        Of that grid.
    confounds : sequence of path, optional
        One TSV file for each subject, one row for each volume, as fMRIPrep writes them; every
        column is regressed out. A first row that is n/a, as for framewise displacement, takes the
        column's mean.
    tr_s : float, optional
        Repetition time in seconds; default: the first file's header.
    cutoff_s : float, optional
        Periods longer than this are regressed out; None leaves them.
    subject_names : sequence of str, optional
        Default: the file names up to the first underscore or dot.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    MeasuredMovie
        Voxels that belong to at least one ROI and vary in every subject.

    Raises
    ------
    ShapeError
        If files differ in grid or length, or confounds do not match.
    DataError
        If a file cannot be read as a 4-D image, values are not finite, there are fewer than 3
        volumes, or an ROI has no voxel on the grid.
    OptionError
        If there is no file, or no repetition time.

    Notes
    -----
    Voxels of the measured grid belong to an ROI where at least half of their volume does. Template
    spaces that differ by little (MNI152NLin2009cAsym and MNI152NLin6Asym) are taken as one: their
    difference is below the size of a voxel of 4 mm, but not below one of 2 mm.
    """
    paths = [Path(path) for path in images]
    if not paths:
        message = "images must name one file or more; got none. Give one per subject."
        raise OptionError(message, "images")
    twice = [path for path in dict.fromkeys(paths) if paths.count(path) > 1]
    if twice:
        message = (
            f"images must be one file for each subject; got {twice[0]} "
            f"{paths.count(twice[0])} times. Name each subject's file once."
        )
        raise OptionError(message, "images")
    tables = None if confounds is None else [Path(path) for path in confounds]
    if tables is not None and len(tables) != len(paths):
        message = (
            f"confounds must be one file for each of {len(paths)} images; got "
            f"{len(tables)}. Give both in the same order."
        )
        raise ShapeError(message)
    names = _subject_names(paths, subject_names)
    first = _open(paths[0])
    grid = grid_of(first)
    n_timepoints = int(first.shape[3])
    step_s = _repetition_time(first, tr_s, paths[0])
    source = np.asarray(roi_affine, dtype=np.float64)
    volumes = {
        roi: resample_mask(np.asarray(mask).astype(bool), source, grid)
        for roi, mask in roi_masks.items()
    }
    for roi, volume in volumes.items():
        if not volume.any():
            message = (
                f"ROI {roi} must cover at least one voxel of the measured grid; got none. "
                f"See that {paths[0].name} is in template space and covers the ROI."
            )
            raise DataError(message)
    mask = np.any(list(volumes.values()), axis=0)
    runs = []
    with track("Reading measured responses", len(paths), "subjects", progress) as advance:
        for index, path in enumerate(paths):
            run = _read_run(path, grid, n_timepoints, mask)
            table = np.empty((n_timepoints, 0))
            if tables is not None:
                table = read_confounds(tables[index], n_timepoints, missing="mean")
            runs.append(_clean(run, table, step_s, cutoff_s))
            advance(1)
    data = np.stack(runs)
    # A voxel outside a subject's brain holds one value throughout, and has no pattern to give.
    alive = (np.ptp(data, axis=1) > 0).all(axis=0)
    kept = mask.copy()
    kept[mask] = alive
    rois = {roi: volume[kept] for roi, volume in volumes.items()}
    for roi, voxels in rois.items():
        if not voxels.any():
            message = (
                f"ROI {roi} must hold voxels that vary in every subject; got none. Leave "
                "out subjects whose brain mask does not reach it, or the ROI."
            )
            raise DataError(message)
    sources = (*paths, *(tables or ()))
    data = np.ascontiguousarray(data[:, :, alive])
    return MeasuredMovie(data, names, step_s, kept, grid.affine, rois, sources)


def _subject_names(paths: list[Path], given: Sequence[str] | None) -> tuple[str, ...]:
    """Return one name for each file."""
    if given is None:
        names = tuple(path.name.split("_")[0].split(".")[0] for path in paths)
        # Files named alike up to the underscore are told apart by their whole names.
        return names if len(set(names)) == len(names) else tuple(path.name for path in paths)
    if len(given) != len(paths):
        message = (
            f"subject_names must be one for each of {len(paths)} images; got "
            f"{len(given)}. Give both in the same order."
        )
        raise ShapeError(message)
    return tuple(given)


def _open(path: Path) -> Any:
    """Open a 4-D image without reading its values."""
    image = open_image(path)
    if len(image.shape) != 4:
        message = (
            f"{path} must be a 4-D image; got shape {image.shape}. Give a whole run, not a single "
            "volume."
        )
        raise DataError(message)
    return image


def _repetition_time(image: Any, tr_s: float | None, path: Path) -> float:
    """Return the repetition time as given, else as the header has it, in seconds."""
    unit = image.header.get_xyzt_units()[1]
    scale = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    found = float(image.header.get_zooms()[3]) * scale if tr_s is None else float(tr_s)
    if not 0.05 <= found <= 30:
        message = (
            f"the repetition time must be between 0.05 and 30 s; got {found:g} s "
            f"{f'from the header of {path.name}' if tr_s is None else ''}. Give `tr_s` in seconds."
        )
        raise OptionError(message)
    return found


def _read_run(path: Path, grid: Grid, n_timepoints: int, mask: BoolArray) -> NDArray[np.float32]:
    """Read the masked time courses of one subject."""
    image = _open(path)
    here = grid_of(image)
    if here != grid or image.shape[3] != n_timepoints:
        message = (
            f"{path} must have the first file's grid {grid.shape} and "
            f"{n_timepoints} volumes; got {here.shape} and {image.shape[3]}"
            f"{'' if here.shape != grid.shape else ', or another affine'}. Resample it to the "
            "first file's grid, and trim all runs alike."
        )
        raise ShapeError(message)
    with reading_values(path):
        run: NDArray[np.float32] = np.asarray(image.dataobj, dtype=np.float32)[mask].T
        _read_through(path)
    bad = ~np.isfinite(run)
    if bad.any():
        volumes = np.flatnonzero(bad.any(axis=1))
        message = (
            f"{path} must be finite inside the ROIs; got {int(bad.sum())} values "
            f"that are NaN or infinite, first in volume {volumes[0]}. Mend the data, or leave "
            "the subject out."
        )
        raise DataError(message)
    return run


def _read_through(path: Path) -> None:
    """Read a compressed file to its end, where the checksum is, which nibabel does not reach."""
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            while stream.read(_CHUNK_BYTES):
                pass


def _clean(
    run: NDArray[np.float32],
    confounds: NDArray[np.float64],
    tr_s: float,
    cutoff_s: float | None,
) -> NDArray[np.float32]:
    """Regress mean, slow cosines and confounds out of one subject's time courses at once."""
    drifts = None if cutoff_s is None else cosine_basis(len(run), tr_s, cutoff_s=cutoff_s)
    regressors = nuisance(confounds, drifts)
    if regressors.shape[1] == 1:  # The constant.
        centred: NDArray[np.float32] = run - run.mean(axis=0)
        return centred
    return regress_out(run, regressors).astype(np.float32)
