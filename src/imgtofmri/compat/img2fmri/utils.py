"""The published package's ``utils``: group masks, a movie's frames, preprocessing of time courses.

Time runs along the last axis, as it did there; `imgtofmri.timeseries` has it first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.compat.img2fmri.frames import RATE_HZ, write_frames
from imgtofmri.compat.img2fmri.model import ALL_ROIS, chosen_rois, published_encoder
from imgtofmri.encoder.spatial import moved_masks
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.files import natural_key
from imgtofmri.limits import check_limit
from imgtofmri.progress import track
from imgtofmri.spaces import is_image, read_grid, read_image, roi_overlap
from imgtofmri.spaces.smoothing import OVERLAP_FRACTION
from imgtofmri.stimuli import Movie
from imgtofmri.timeseries import (
    convolve,
    cosine_basis,
    hrf,
    regress_out,
    remove_drift,
    remove_mean,
    sample_to_volumes,
)

__all__ = [
    "conv_hrf_and_downsample",
    "extract_frames",
    "get_subj_overlap",
    "get_subj_overlap_nonsmoothed",
    "load_frames",
    "remove_DCT",
    "remove_average_activity",
]

TR_S = 2.0
"""Between volumes, in seconds: the only repetition time that the published code knew."""

HRF, HRF_S = "gam", 15.0
"""The haemodynamic response that it convolved with, and how long it was."""


class UnusedArgumentWarning(UserWarning):
    """An argument that the published code took has no effect, as it had none there."""


def get_subj_overlap(
    roi_list: Sequence[str] | None = ALL_ROIS, threshold: float = OVERLAP_FRACTION
) -> NDArray[np.bool_]:
    """Return the group mask of some ROIs: where any person's mask, smoothed by 1 mm, is high.

    Parameters
    ----------
    roi_list : sequence of str
        Which ROIs, of the five.
    threshold : float
        The share of each smoothed mask's maximum that a voxel must exceed, 0 or more, below 1.

    Returns
    -------
    mask : array of shape (91, 109, 91), bool

    Raises
    ------
    OptionError
        If there is no such ROI, or the threshold is not valid.
    """
    _check_threshold(threshold)
    grid = published_encoder().bundle.template
    masks = moved_masks(published_encoder().bundle, chosen_rois(roi_list))
    inside = np.zeros(grid.n_voxels, dtype=bool)
    for _, mask in masks:
        inside |= roi_overlap(mask, grid, threshold)
    return inside.reshape(grid.shape)


def get_subj_overlap_nonsmoothed(
    roi_list: Sequence[str] | None = ALL_ROIS, threshold: float = OVERLAP_FRACTION
) -> NDArray[np.bool_]:
    """Return where any person's mask of some ROIs lies, without smoothing.

    Parameters
    ----------
    roi_list, threshold
        As in `get_subj_overlap`; moved masks are 0 or 1, so that every valid threshold gives the
        same.

    Returns
    -------
    mask : array of shape (91, 109, 91), bool

    Raises
    ------
    OptionError
        As `get_subj_overlap`.
    """
    _check_threshold(threshold)
    bundle = published_encoder().bundle
    inside = np.zeros(bundle.template.n_voxels, dtype=bool)
    for _, mask in moved_masks(bundle, chosen_rois(roi_list)):
        inside |= mask > threshold * mask.max()
    return inside.reshape(bundle.template.shape)


def extract_frames(input_file: str | Path, output_dir: str | Path) -> None:
    """Write two frames of each second of a movie as JPEGs: frame1.jpg, frame31.jpg, frame61.jpg ...

    Parameters
    ----------
    input_file : path
        The movie.
    output_dir : path
        Made where it is missing; frames of the same names are replaced.

    Raises
    ------
    StimulusError
        If the movie is missing or cannot be read to its end.
    OptionError
        If the folder then holds frames of another movie, too.
    OutputError
        If frames cannot be written.
    """
    write_frames(Movie(input_file), Path(output_dir))


def load_frames(input_dir: str | Path) -> NDArray[np.float64]:
    """Join the volumes of a folder, in the natural order of their names, into one 4-D array.

    Parameters
    ----------
    input_dir : path
        A folder of 3-D images on one grid.

    Returns
    -------
    volumes : array of shape (X, Y, Z, n_frames), float64

    Raises
    ------
    DataError
        If there is no image, or one cannot be read.
    ShapeError
        If they do not lie on one grid.
    """
    folder = Path(input_dir)
    files = [path for path in folder.iterdir() if is_image(path)] if folder.is_dir() else []
    paths = sorted(files, key=lambda path: natural_key(path.name))
    if not paths:
        message = (
            f"input_dir must be a folder of NIfTI volumes; got '{folder}', which "
            f"{'holds none' if folder.is_dir() else 'is no folder'}. Name the folder that holds "
            "one for each frame."
        )
        raise DataError(message)
    first = read_grid(paths[0])
    shape = (*first.shape, len(paths))
    check_limit("array_gb", 8 * math.prod(shape) / 1e9, str(folder), "GB in one array")
    joined = np.empty(shape)
    with track("Loading movie frames", len(paths), "volumes") as advance:
        for number, path in enumerate(paths):
            volume, grid = read_image(path, dtype=np.float64)
            if volume.ndim != 3 or grid != first:
                message = (
                    f"{path} must be a 3-D image on the grid of {paths[0].name}, {first.shape}; "
                    f"got shape {volume.shape}, or another affine. Leave it out."
                )
                raise ShapeError(message)
            joined[..., number] = volume
            advance(1)
    return joined


def remove_average_activity(input_brain: ArrayLike) -> NDArray[np.float64]:
    """Subtract each voxel's mean over time.

    Parameters
    ----------
    input_brain : array of shape (..., n_time)
        Voxels x time, or a 4-D volume.

    Returns
    -------
    array of the same shape, float64

    Raises
    ------
    ShapeError, DataError
        If there is no axis of time, or a value is not finite.
    """
    courses, shape = _time_first(input_brain)
    return np.asarray(remove_mean(courses).T.reshape(shape))


def remove_DCT(
    input_brain: ArrayLike, period_cut: float = 120, *, as_nipype: bool = False
) -> NDArray[np.float64]:
    """Regress slow cosines and a constant out of each voxel's time course.

    Parameters
    ----------
    input_brain : array of shape (..., n_time)
        Volumes 2 s apart: voxels x time, or a 4-D volume.
    period_cut : float
        In seconds; cosines of this period or longer are removed.
    as_nipype : bool
        Leave the fastest of these cosines in. The published package's basis is nipype's, which has
        one cosine fewer than nilearn's.

    Returns
    -------
    array of the same shape, float64

    Raises
    ------
    OptionError
        If the period is not longer than two volumes.
    ShapeError, DataError
        If there are fewer than 3 volumes, or a value is not finite.
    """
    courses, shape = _time_first(input_brain)
    if as_nipype:
        fewer = cosine_basis(len(courses), TR_S, cutoff_s=period_cut)[:, :-1]
        return np.asarray(regress_out(courses, fewer).T.reshape(shape))
    return np.asarray(remove_drift(courses, TR_S, cutoff_s=period_cut).T.reshape(shape))


def conv_hrf_and_downsample(
    input_brain: ArrayLike, num_TR: int, TR: float = 2
) -> NDArray[np.float64]:
    """Convolve responses to frames with a haemodynamic response and bring them to volumes.

    Parameters
    ----------
    input_brain : array of shape (..., n_frames)
        Responses to two frames of each second: voxels x frames, or a 4-D volume.
    num_TR : int
        How many volumes, 2 or more.
    TR : float
        Has no effect: the film is stretched over the volumes, however far apart these are.

    Returns
    -------
    array of shape (..., num_TR), float64

    Raises
    ------
    OptionError
        If there are too few volumes.
    ShapeError, DataError
        If there are too few frames, or a value is not finite.

    Warns
    -----
    UnusedArgumentWarning
        If ``TR`` is another than 2.

    Notes
    -----
    AFNI's gamma function, sampled at 0, 0.5 ... 14.5 s, peak 1. Volume k is taken at frame
    ``k * n_frames / (num_TR - 1)``, by linear interpolation, so that the last lies past the last
    frame and holds its value. `imgtofmri.timeseries.sample_to_volumes` does it right.
    """
    if TR != TR_S:
        message = (
            f"TR has no effect, and had none in the published code; got {TR}. num_TR says how many "
            "volumes the film is stretched over."
        )
        warnings.warn(message, UnusedArgumentWarning, stacklevel=2)
    courses, shape = _time_first(input_brain)
    convolved = convolve(courses, hrf(HRF, 1 / RATE_HZ, duration_s=HRF_S))
    onsets_s = np.arange(len(courses)) / RATE_HZ
    volumes = sample_to_volumes(convolved, onsets_s, TR_S, n_volumes=num_TR, resample="original")
    return np.asarray(volumes.T.reshape(*shape[:-1], num_TR))


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold < 1:
        message = (
            "threshold must be 0 or more and below 1, a share of a mask's maximum; got "
            f"{threshold}. The published masks are at {OVERLAP_FRACTION}."
        )
        raise OptionError(message, "threshold")


def _time_first(brain: ArrayLike) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Return time courses of shape (n_time, n_voxels), and the shape that they came in."""
    values = np.asarray(brain, dtype=np.float64)
    if values.ndim == 0:
        message = (
            "input_brain must have time on its last axis; got a single number. Give voxels x time, "
            "or a 4-D volume."
        )
        raise ShapeError(message)
    return values.reshape(-1, values.shape[-1]).T, values.shape
