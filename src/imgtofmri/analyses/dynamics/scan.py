"""From a movie's frames to the volumes of a run: haemodynamics, sampling, drift, trimming."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice
from imgtofmri.timeseries import (
    HRF_NAMES,
    RESAMPLINGS,
    HrfLike,
    Resampling,
    convolve,
    hrf,
    remove_drift,
    remove_mean,
    sample_to_volumes,
    trim,
)
from imgtofmri.timeseries.checks import time_courses

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RunSettings:
    """How a run is sampled and filtered, the same for what is predicted and what was measured.

    Attributes
    ----------
    hrf : {"gam", "glover", "spm"}, array or callable
        As in `imgtofmri.timeseries.hrf`.
    resample : {"interp", "nearest", "original"}
        As in `imgtofmri.timeseries.sample_to_volumes`.
    slice_time_ref : float or None
        Where within a volume the response is sampled, from 0 (its start) to 1. None is where the
        measured runs' sidecars say; else the start.
    movie_start_s : float
        When the movie starts, in seconds from the start of the first volume.
    cutoff_s : float or None
        Periods longer than this are regressed out; None removes the mean alone.
    n_volumes : int or None
        Volumes of the run that are used, from its start; None is all of them.
    skip_volumes : int or None
        Volumes dropped from the start, after filtering; None is as many as were when the measured
        data were published, for most none.

    Raises
    ------
    OptionError
        If a setting is out of range.
    """

    hrf: HrfLike = "gam"
    resample: Resampling = "interp"
    slice_time_ref: float | None = None
    movie_start_s: float = 0.0
    cutoff_s: float | None = 128.0
    n_volumes: int | None = None
    skip_volumes: int | None = None

    def __post_init__(self) -> None:
        for name, valid in (("hrf", HRF_NAMES), ("resample", RESAMPLINGS)):
            value = getattr(self, name)
            if isinstance(value, str):
                check_choice(name, value, valid)
        if not 0 <= self.movie_start_s < np.inf:
            message = (
                f"movie_start_s must be 0 or more seconds; got {self.movie_start_s}. Cut the "
                "volumes before the run if the movie came first."
            )
            raise OptionError(message, "movie_start_s")
        if self.slice_time_ref is not None and not 0 <= self.slice_time_ref <= 1:
            message = (
                "slice_time_ref must be a fraction of the TR from 0 to 1; got "
                f"{self.slice_time_ref}. Use 0 for the start of a volume, 0.5 for its middle."
            )
            raise OptionError(message, "slice_time_ref")
        for name, least in (("skip_volumes", 0), ("n_volumes", 1)):
            check_least(name, getattr(self, name), least)


def to_volumes(
    responses: ArrayLike, onsets_s: ArrayLike, tr_s: float, run: RunSettings
) -> FloatArray:
    """Bring responses to a movie's frames to the volumes of a run.

    Convolution with the haemodynamic response, sampling at the volumes, removal of mean and slow
    cosines, trimming.

    Parameters
    ----------
    responses : array of shape (n_frames, n_voxels)
        Predicted responses, or any features of the frames.
    onsets_s : array of shape (n_frames,)
        When each frame is shown, evenly spaced, in seconds from the movie's start.
    tr_s : float
        Repetition time in seconds.
    run : RunSettings
        Before the movie starts, the response is taken to be 0.

    Returns
    -------
    volumes : array of shape (n_volumes, n_voxels)

    Raises
    ------
    ShapeError
        If there is not one onset for each frame.
    DataError
        If frames are not evenly spaced, fewer than 3 volumes are left, or values are not finite.
    OptionError
        If a setting is out of range, or the movie is shorter than ``n_volumes``.
    """
    values = np.asarray(responses)
    onsets = np.asarray(onsets_s, dtype=np.float64)
    if values.ndim != 2 or onsets.shape != values.shape[:1]:
        message = (
            "responses must have shape (n_frames, n_voxels) and onsets_s (n_frames,); "
            f"got {values.shape} and {onsets.shape}. Give the onset of each row."
        )
        raise ShapeError(message)
    steps = np.diff(onsets)
    step_s = float(np.median(steps)) if len(steps) else 0.0
    if not step_s > 0 or not np.allclose(steps, step_s, rtol=0, atol=0.01 * step_s):
        message = (
            "onsets_s must rise by one step, as the convolution needs even spacing; got "
            f"{len(onsets)} onsets with steps from {steps.min(initial=np.inf):g} to "
            f"{steps.max(initial=-np.inf):g} s. Predict the movie at a fixed rate."
        )
        raise DataError(message)
    times = onsets + run.movie_start_s
    n_before = int(np.ceil(times[0] / step_s - 1e-9))
    if n_before > 0:
        values = np.concatenate([np.zeros((n_before, values.shape[1]), values.dtype), values])
        times = np.concatenate([times[0] - step_s * np.arange(n_before, 0, -1), times])
    convolved = convolve(values, hrf(run.hrf, step_s))
    volumes = sample_to_volumes(
        convolved, times, tr_s, resample=run.resample, slice_time_ref=run.slice_time_ref or 0.0
    )
    return _filter(volumes, tr_s, run, "the movie")


def check_movie_length(
    n_frames: int, rate_hz: float, n_measured: int, tr_s: float, run: RunSettings
) -> None:
    """Refuse a movie that is not as long as the run, before its frames are predicted.

    Parameters
    ----------
    n_frames : int
        The movie's frames, as `Movie.n_frames` counts them.
    rate_hz : float
        Frames a second.
    n_measured : int
        Volumes that were measured, before trimming.
    tr_s, run
        As in `to_volumes`.

    Raises
    ------
    ShapeError
        If the run's volumes are not those of the movie.
    DataError, OptionError
        As `to_volumes`, of the settings.
    """
    whole = replace(run, n_volumes=None, skip_volumes=None, cutoff_s=None)
    onsets_s = np.arange(n_frames) / rate_hz
    n_movie = len(to_volumes(np.zeros((n_frames, 1)), onsets_s, tr_s, whole))
    n_used = n_measured if run.n_volumes is None else run.n_volumes
    if n_movie < n_used or (n_movie > n_used and run.n_volumes is None):
        message = (
            f"the movie must have the {n_used} volumes that were measured; got {n_movie}, as it "
            f"begins at {run.movie_start_s:g} s and takes {n_frames / rate_hz:.1f} s at a TR of "
            f"{tr_s:g} s. Check movie, start and TR, or cut both to the same volumes with "
            "`n_volumes`."
        )
        raise ShapeError(message)


def filter_measured(measured: ArrayLike, tr_s: float, run: RunSettings) -> FloatArray:
    """Remove mean and slow cosines from measured runs, and trim them as the predicted one.

    Parameters
    ----------
    measured : array of shape (n_subjects, n_timepoints, n_voxels)
        Time courses; a single subject may leave out the first axis.
    tr_s : float
        Repetition time in seconds.
    run : RunSettings

    Returns
    -------
    array of shape (n_subjects, n_volumes, n_voxels)

    Raises
    ------
    ShapeError
        If it has not three axes.
    DataError
        If fewer than 3 volumes are left, or values are not finite.
    """
    values = np.asarray(measured)
    values = values[None] if values.ndim == 2 else values
    values = time_courses(values, name="measured", axes=(3,), min_voxels=1)
    stacked: FloatArray = np.stack([_filter(each, tr_s, run, "the run") for each in values])
    return stacked


def check_least(name: str, value: int | None, least: int) -> None:
    """Refuse a number that is too small."""
    if value is not None and value < least:
        message = f"{name} must be {least} or more; got {value}. Leave it out."
        raise OptionError(message, name)


def _filter(volumes: FloatArray, tr_s: float, run: RunSettings, what: str) -> FloatArray:
    """Cut, remove mean and slow cosines, drop the first volumes."""
    n_skipped = run.skip_volumes or 0
    if run.n_volumes is not None:
        if run.n_volumes > len(volumes):
            message = (
                f"n_volumes must be no more than the {len(volumes)} volumes of {what}; got "
                f"{run.n_volumes}. Ask for fewer."
            )
            raise OptionError(message, "n_volumes")
        volumes = volumes[: run.n_volumes]
    if len(volumes) - n_skipped < 3:
        message = (
            f"{what} must leave at least 3 time points after skipping {n_skipped}; got "
            f"{max(len(volumes) - n_skipped, 0)}. Use a longer run or skip less."
        )
        raise DataError(message)
    if run.cutoff_s is None:
        filtered = remove_mean(volumes)
    else:
        filtered = remove_drift(volumes, tr_s, cutoff_s=run.cutoff_s)
    return trim(filtered, n_start=n_skipped)
