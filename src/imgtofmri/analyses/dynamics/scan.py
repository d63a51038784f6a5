"""From a movie's frames to the volumes of a run: haemodynamics, sampling, drift, trimming."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice
from imgtofmri.timeseries import (
    DEFAULT_HRF,
    HRF_NAMES,
    RESAMPLINGS,
    HrfLike,
    Resampling,
    convolve,
    held_hrf,
    hrf,
    remove_drift,
    remove_mean,
    sample_to_volumes,
    trim,
)
from imgtofmri.timeseries.checks import time_courses

FloatArray = NDArray[np.floating[Any]]

DEFAULT_CUTOFF_S = 128.0

ORIGINAL = "original"
"""What the published analysis is called, among the ways of sampling."""

ORIGINAL_HRF = "gam"
ORIGINAL_HRF_S = 15.0
ORIGINAL_CUTOFF_S = 120.0
ORIGINAL_SKIP = 10
"""Volumes of a measured run that the published analysis drops from its start."""

ORIGINAL_TRIM = (2, 8)
"""Volumes of a predicted run that it drops from start and end: as many, at other places."""


@dataclass(frozen=True)
class RunSettings:
    """How a run is sampled and filtered, the same for what is predicted and what was measured.

    Attributes
    ----------
    hrf : {"gam", "glover", "spm"}, array of shape (n_samples,) or callable, or None
        As in `imgtofmri.timeseries.held_hrf`; None is `imgtofmri.timeseries.DEFAULT_HRF`.
    resample : {"interp", "nearest", "original"}
        As in `imgtofmri.timeseries.sample_to_volumes`. "original" is the whole published analysis:
        ``gam`` at the frames, 15 s long, the film stretched over the volumes, a cutoff of 120 s;
        the first two and the last eight volumes of the prediction dropped and the first ten of the
        measurement, each subject's and then their mean's voxels z-scored over time; luminance
        of values as the network gets them, neither centred nor filtered. It leaves no other choice
        of these.
    slice_time_ref : float or None
        Where within a volume the response is sampled, from 0 (its start) to 1. None is where the
        measured responses say, and the start where there are none. The published analysis took no
        account of it.
    movie_start_s : float
        When the movie starts, in seconds from the start of the first volume.
    cutoff_s : float or None
        Periods longer than this are regressed out; 0 removes the mean alone. None is 128 s.
    n_volumes : int or None
        Volumes of the run that are used, from its start; None is all of them.
    skip_volumes : int or None
        Volumes dropped from the start, after filtering; None is as many as were when the measured
        data were published, for most none.

    Raises
    ------
    OptionError
        If a setting is out of range, or "original" fixes it at another value.
    """

    hrf: HrfLike | None = None
    resample: Resampling = "interp"
    slice_time_ref: float | None = None
    movie_start_s: float = 0.0
    cutoff_s: float | None = None
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
        fixed: dict[str, Any] = {
            "hrf": ORIGINAL_HRF,
            "cutoff_s": ORIGINAL_CUTOFF_S,
            "skip_volumes": ORIGINAL_SKIP,
            "movie_start_s": 0.0,
        }
        usual: dict[str, Any] = {"hrf": DEFAULT_HRF, "cutoff_s": DEFAULT_CUTOFF_S}
        for name, value in (fixed if self.is_original else usual).items():
            given = getattr(self, name)
            if given is None:
                object.__setattr__(self, name, value)
            elif self.is_original and not (np.ndim(given) == 0 and given == value):
                message = (
                    f"{name} must be {value} where `resample` is original, which is the published "
                    f"analysis; got {given}. Leave it out, or use resample interp."
                )
                raise OptionError(message, name)

    @property
    def is_original(self) -> bool:
        """Whether it is the published analysis."""
        return self.resample == ORIGINAL

    @property
    def response(self) -> HrfLike:
        """The haemodynamic response."""
        assert self.hrf is not None
        return self.hrf


def to_volumes(
    responses: ArrayLike,
    onsets_s: ArrayLike,
    tr_s: float,
    run: RunSettings,
    *,
    n_run: int | None = None,
    filtered: bool = True,
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
    n_run : int, optional
        Volumes of the measured run, which "original" stretches the film over; by default
        ``run.n_volumes``. Otherwise the film's own length tells.
    filtered : bool
        Whether mean and slow cosines are removed.

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
    if run.is_original:
        kernel = hrf(run.response, step_s, duration_s=ORIGINAL_HRF_S)
        n_run = run.n_volumes if n_run is None else n_run
        convolved = convolve(values, kernel)
        volumes = sample_to_volumes(convolved, onsets, tr_s, n_volumes=n_run, resample=run.resample)
        return _filter(volumes, tr_s, run, "the movie", filtered, ORIGINAL_TRIM)
    times = onsets + run.movie_start_s
    n_before = int(np.ceil(times[0] / step_s - 1e-9))
    if n_before > 0:
        values = np.concatenate([np.zeros((n_before, values.shape[1]), values.dtype), values])
        times = np.concatenate([times[0] - step_s * np.arange(n_before, 0, -1), times])
    convolved = convolve(values, held_hrf(run.response, step_s))
    volumes = sample_to_volumes(
        convolved, times, tr_s, resample=run.resample, slice_time_ref=run.slice_time_ref or 0.0
    )
    return _filter(volumes, tr_s, run, "the movie", filtered, (run.skip_volumes or 0, 0))


def volume_operator(
    onsets_s: ArrayLike,
    tr_s: float,
    run: RunSettings,
    *,
    n_run: int | None = None,
    filtered: bool = True,
) -> NDArray[np.float64]:
    """Return the matrix that `to_volumes` multiplies responses to frames by.

    Parameters
    ----------
    onsets_s, tr_s, run, n_run, filtered
        As in `to_volumes`.

    Returns
    -------
    array of shape (n_volumes, n_frames), float64
    """
    n_frames = len(np.asarray(onsets_s))
    each = np.eye(n_frames)
    operator = to_volumes(each, onsets_s, tr_s, run, n_run=n_run, filtered=filtered)
    return operator.astype(np.float64, copy=False)


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
    if run.is_original:
        # The film is stretched over the run, however long the two are.
        return
    whole = replace(run, n_volumes=None, skip_volumes=None, cutoff_s=0.0)
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
        Of "original", each voxel is z-scored over time first, and nothing is trimmed yet: what is
        trimmed is the mean over subjects, by `group_course`.

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
    n_start = run.skip_volumes or 0
    if run.is_original:
        values, n_start = standardised(values[:, : run.n_volumes]), 0
    stacked: FloatArray = np.stack(
        [_filter(each, tr_s, run, "the run", True, (n_start, 0)) for each in values]
    )
    return stacked


def group_course(volumes: FloatArray, run: RunSettings) -> FloatArray:
    """Return the mean over subjects of what `filter_measured` gives, trimmed.

    Parameters
    ----------
    volumes : array of shape (n_subjects, n_volumes, n_voxels)
    run : RunSettings

    Returns
    -------
    array of shape (n_volumes, n_voxels)
        Of "original" z-scored over time before it is trimmed.
    """
    mean: FloatArray = volumes.mean(axis=0)
    return standardised(mean)[run.skip_volumes :] if run.is_original else mean


def standardised(courses: NDArray[Any]) -> NDArray[Any]:
    """Z-score each voxel over time (last axis but one), in the courses' precision.

    A voxel that holds still becomes 0.
    """
    centred = courses - courses.mean(axis=-2, keepdims=True)
    spread = centred.std(axis=-2, keepdims=True)
    scaled: NDArray[Any] = centred / np.where(spread > 0, spread, 1)
    return scaled


def check_least(name: str, value: int | None, least: int) -> None:
    """Refuse a number that is too small."""
    if value is not None and value < least:
        message = f"{name} must be {least} or more; got {value}. Leave it out."
        raise OptionError(message, name)


def _filter(
    volumes: FloatArray,
    tr_s: float,
    run: RunSettings,
    what: str,
    filtered: bool,
    trimmed: tuple[int, int],
) -> FloatArray:
    """Cut, remove mean and slow cosines, drop volumes at both ends."""
    if run.n_volumes is not None:
        if run.n_volumes > len(volumes):
            message = (
                f"n_volumes must be no more than the {len(volumes)} volumes of {what}; got "
                f"{run.n_volumes}. Ask for fewer."
            )
            raise OptionError(message, "n_volumes")
        volumes = volumes[: run.n_volumes]
    n_left = len(volumes) - sum(trimmed)
    if n_left < 3:
        message = (
            f"{what} must leave at least 3 time points after skipping {sum(trimmed)}; got "
            f"{max(n_left, 0)}. Use a longer run or skip less."
        )
        raise DataError(message)
    if filtered:
        volumes = (
            remove_drift(volumes, tr_s, cutoff_s=run.cutoff_s)
            if run.cutoff_s
            else remove_mean(volumes)
        )
    return trim(volumes, n_start=trimmed[0], n_end=trimmed[1])
