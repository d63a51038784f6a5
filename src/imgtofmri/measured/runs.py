"""Runs of several subjects from files: read, cleaned, with ROIs brought to their grid."""

from __future__ import annotations

import gzip
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.bids import (
    agree,
    check_once,
    inherited,
    plain_parts,
)
from imgtofmri.measured.confounds import check_left, nuisance, read_confounds
from imgtofmri.measured.images import check_volumes
from imgtofmri.measured.movie import MeasuredMovie
from imgtofmri.measured.timing import read_sidecars, volume_times
from imgtofmri.progress import track
from imgtofmri.spaces import Grid, grid_of, open_series, reading_values, resample_mask
from imgtofmri.spaces.names import check_space, entities
from imgtofmri.stats.checks import whole_mask
from imgtofmri.timeseries import cosine_basis, regress_out

__all__ = ["read_runs"]

BoolArray = NDArray[np.bool_]

_CHUNK_BYTES = 1 << 20

# Times that differ by less are one, in seconds.
_SAME_S = 0.002


def read_runs(
    images: Sequence[str | Path],
    roi_masks: Mapping[str, ArrayLike],
    roi_affine: ArrayLike,
    *,
    confounds: Sequence[str | Path] | None = None,
    tr_s: float | None = None,
    slice_time_ref: float | None = None,
    cutoff_s: float | None = 128.0,
    subject_names: Sequence[str] | None = None,
    space: str | None = None,
    progress: bool = True,
) -> MeasuredMovie:
    """Read one run of each subject, clean it and keep the voxels of the ROIs.

    Cleaning is one regression on the mean, the slow cosines and the confounds together.

    Parameters
    ----------
    images : sequence of path
        One 4-D image of voxels for each subject, all on one grid in template space. What their JSON
        sidecars say of times is read, by BIDS's inheritance.
    roi_masks : dict of str to array of shape (x, y, z)
        Masks on a grid of their own, for example of a `Prediction`.
    roi_affine : array of shape (4, 4)
        Of that grid.
    confounds : sequence of path, optional
        One TSV file for each subject, one row for each volume, as fMRIPrep writes them; every
        column is regressed out. A first row that is n/a, as for framewise displacement, takes the
        column's mean.
    tr_s : float, optional
        Repetition time in seconds, where sidecars and headers do not say it or contradict each
        other.
    slice_time_ref : float, optional
        When within a volume its values are of, as a share of the repetition time. Needed where no
        sidecar says ``StartTime``, or that slices were not corrected; what it says must agree.
    cutoff_s : float, optional
        Periods longer than this are regressed out; None leaves them.
    subject_names : sequence of str, optional
        Default: the file names up to the first underscore or dot.
    space : str, optional
        The template space of the masks. Images that lie in another by their names are refused.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    MeasuredMovie
        Voxels that belong to at least one ROI and vary in every subject.

    Raises
    ------
    ShapeError
        If files differ in grid or length, or confounds have not a row for each volume.
    DataError
        If a file cannot be read as a 4-D image, lies in another space, comes twice (in two
        resolutions, say), has confounds of another run by their names, masks hold other values than
        0 and 1, times are not known, uneven or at odds, values are not finite or all 0 in a volume,
        there are fewer than 3 volumes, what is regressed out leaves less than a tenth
        of a run, or an ROI has no voxel on the grid.
    OptionError
        If there is no file.

    Warns
    -----
    UserWarning
        If what is regressed out leaves less than half of a run, or several runs are of one person.

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
    check_once(paths, "Give one of them: each file counts as a person.")
    _tell_of_repeats(paths)
    tables = None if confounds is None else [Path(path) for path in confounds]
    if tables is not None and len(tables) != len(paths):
        message = (
            f"confounds must be one file for each of {len(paths)} images; got "
            f"{len(tables)}. Give both in the same order."
        )
        raise ShapeError(message)
    check_space(paths, space)
    for path, file in zip(paths, tables or (), strict=tables is not None):
        _check_one_run(path, file)
    names = _subject_names(paths, subject_names)
    first = open_series(paths[0])
    grid = grid_of(first)
    n_timepoints = int(first.shape[3])
    step_s, start_s = _timing(paths, n_timepoints, tr_s, slice_time_ref)
    source = np.asarray(roi_affine, dtype=np.float64)
    volumes = {
        roi: resample_mask(whole_mask(mask, f"roi_masks of {roi}"), source, grid)
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
            runs.append(_clean(run, table, step_s, cutoff_s, str(path)))
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
    reference = start_s / step_s
    return MeasuredMovie(data, names, step_s, kept, grid.affine, rois, sources, reference)


def _tell_of_repeats(paths: Sequence[Path]) -> None:
    """Warn of several runs of one person, which count as people."""
    people = Counter(entities(path.name).get("sub", path.name) for path in paths)
    (who, n_files), *_ = people.most_common(1)
    if n_files > 1:
        message = (
            f"{n_files} of {len(paths)} files are of sub-{who}: each counts as a person, so that "
            "people seem to agree more than they do. Give one run of each person, or average a "
            "person's runs first."
        )
        warnings.warn(message, stacklevel=3)


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


def _check_one_run(image: Path, table: Path) -> None:
    """Refuse confounds that are of another run by their name."""
    ours, theirs = entities(image.name), entities(table.name)
    shared = {key: ours[key] for key in ours.keys() & theirs.keys() - {"space", "desc", "res"}}
    if not agree(theirs, shared):
        message = (
            f"{table} must hold the confounds of {image.name}; got those of another run by their "
            "name. Give confounds in the order of the images."
        )
        raise DataError(message)


def _timing(
    paths: Sequence[Path], n_volumes: int, tr_s: float | None, slice_time_ref: float | None
) -> tuple[float, float]:
    """Return the runs' one repetition time, and when within a volume their values are of."""
    found: dict[Path, tuple[float, float]] = {}
    for path in paths:
        image, folder = open_series(path), path.absolute().parent
        suffix = path.name.partition(".")[0].rpartition("_")[2]
        plain = plain_parts(path.name)
        named = entities(path.name)
        sidecars = inherited(named, folder, _dataset(folder), suffix, ".json", plain)
        times_s = volume_times(
            str(path),
            image,
            read_sidecars(sidecars),
            tr_s=tr_s,
            slice_time_ref=slice_time_ref,
        )
        steps_s = np.diff(times_s)
        if len(steps_s) and np.ptp(steps_s) > _SAME_S:
            message = (
                f"{path} must have evenly spaced volumes to be compared with a movie; got gaps "
                f"from {steps_s.min():g} to {steps_s.max():g} s (VolumeTiming). Resample it to "
                "even times."
            )
            raise DataError(message)
        if len(times_s) != n_volumes or not len(steps_s):
            continue  # Another length is refused where the values are read.
        found[path] = float(np.median(steps_s)), float(times_s[0])
    if not found:
        message = f"{paths[0]} must have 3 volumes or more; got {n_volumes}. Give a whole run."
        raise DataError(message)
    first, times = next(iter(found.items()))
    for path, others in found.items():
        if np.abs(np.subtract(times, others)).max() > _SAME_S:
            message = (
                f"{path} must be timed as {first.name} is; got volumes every {others[0]:g} s from "
                f"{others[1]:g} s on, and every {times[0]:g} s from {times[1]:g} s on. Correct the "
                "sidecar or header that is wrong, or compare the subjects apart."
            )
            raise DataError(message)
    return times


def _dataset(folder: Path) -> Path:
    """Return the BIDS data set that a folder lies in; where there is none, the folder."""
    above = (folder, *folder.parents)
    return next((each for each in above if (each / "dataset_description.json").is_file()), folder)


def _read_run(path: Path, grid: Grid, n_timepoints: int, mask: BoolArray) -> NDArray[np.float32]:
    """Read the masked time courses of one subject."""
    image = open_series(path)
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
    check_volumes(run, str(path))
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
    where: str,
) -> NDArray[np.float32]:
    """Regress mean, slow cosines and confounds out of one subject's time courses at once."""
    drifts = None if cutoff_s is None else cosine_basis(len(run), tr_s, cutoff_s=cutoff_s)
    regressors = nuisance(confounds, drifts)
    if regressors.shape[1] == 1:  # The constant.
        centred: NDArray[np.float32] = run - run.mean(axis=0)
        return centred
    n_cosines = 0 if drifts is None else drifts.shape[1]
    check_left(where, regressors, confounds.shape[1], n_cosines)
    return regress_out(run, regressors).astype(np.float32)
