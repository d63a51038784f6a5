"""From responses and events to BOLD: the signal, the noise and their scale.

The signal of a voxel is its response to each stimulus times that stimulus's time course, so a run
is one product of a sparse design ``(n_volumes, n_stimuli)`` and the responses
``(n_stimuli, n_voxels)``; it is made a block of volumes at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.simulate.events import Events, check_within_run
from imgtofmri.analyses.simulate.noise import Noise, check_positive, drift_basis, noise_blocks
from imgtofmri.analyses.simulate.responses import Responses, check_responses
from imgtofmri.analyses.simulate.smoothness import SmoothField
from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice
from imgtofmri.timeseries import HRF_NAMES, HrfLike, hrf, volume_times

if TYPE_CHECKING:
    import scipy.sparse

Float32Array: TypeAlias = NDArray[np.float32]

# Repetition times that scanners have, in seconds.
_TR_S = (0.05, 30.0)

# Values in a block of volumes: 16 MB in float32.
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True)
class Scan:
    """How responses become BOLD and are sampled.

    Parameters
    ----------
    tr_s : float
        Repetition time, in seconds, from 0.05 to 30.
    hrf : str, array or callable
        A haemodynamic response, as `imgtofmri.timeseries.hrf` takes it; it is scaled to sum 1, so
        that a stimulus held on settles at its response.
    hrf_step_s : float
        Step at which the haemodynamic response is tabulated, in seconds; an array must be sampled
        at it. Onsets and durations are not rounded to it.
    slice_time_ref : float
        Where within a volume the response is sampled, from 0 (its start) to below 1.
    baseline : float
        Value of a voxel at rest.
    percent_per_unit : float
        Percent of the baseline by which a response of 1 raises the signal.
    noise : Noise, optional
        None simulates the signal alone.

    Raises
    ------
    OptionError
        If a number is outside what is valid or the haemodynamic response is unknown.
    """

    tr_s: float
    hrf: HrfLike = "glover"
    hrf_step_s: float = 0.05
    slice_time_ref: float = 0.0
    baseline: float = 100.0
    percent_per_unit: float = 1.0
    noise: Noise | None = None

    def __post_init__(self) -> None:
        for name in ("tr_s", "hrf_step_s", "baseline"):
            check_positive(name, getattr(self, name))
        if not _TR_S[0] <= self.tr_s <= _TR_S[1]:
            message = (
                f"tr_s must be from {_TR_S[0]:g} to {_TR_S[1]:g} seconds; got "
                f"{self.tr_s:g}. Give seconds, not milliseconds."
            )
            raise OptionError(message, "tr_s")
        if not 0.0 <= self.slice_time_ref < 1.0:
            message = (
                "slice_time_ref must be a fraction of the TR from 0 to below 1; "
                f"got {self.slice_time_ref}. Use 0 for the start of a volume, 0.5 for its middle."
            )
            raise OptionError(message, "slice_time_ref")
        if not math.isfinite(self.percent_per_unit):
            message = (
                f"percent_per_unit must be finite; got {self.percent_per_unit}. "
                "1 makes a response of 1 a signal change of 1 percent."
            )
            raise OptionError(message, "percent_per_unit")
        if isinstance(self.hrf, str):
            check_choice("hrf", self.hrf, HRF_NAMES)
        hrf(self.hrf, self.hrf_step_s, scale="sum")


def simulate_bold(
    responses: ArrayLike | Responses,
    events: Events,
    tr_s: float,
    n_volumes: int,
    *,
    hrf: HrfLike = "glover",
    hrf_step_s: float = 0.05,
    slice_time_ref: float = 0.0,
    baseline: float = 100.0,
    percent_per_unit: float = 1.0,
    noise: Noise | None = None,
    seed: int = 0,
    mask: ArrayLike | None = None,
    affine: ArrayLike | None = None,
) -> Float32Array:
    """Simulate a run.

    Parameters
    ----------
    responses : array of shape (n_stimuli, n_voxels), or Responses
        Response of each voxel to each stimulus, amplitude kept: ``Prediction.subjects[i]``, or
        ``Prediction.group`` of ``average="mean"``.
    events : Events
        What is shown when.
    tr_s, hrf, hrf_step_s, slice_time_ref, baseline, percent_per_unit, noise
        As in `Scan`.
    n_volumes : int
        Length of the run.
    seed : int
        Seed of the noise, 0 or more; the same seed gives the same noise.
    mask : array of shape (X, Y, Z), bool, optional
        Where the voxels are, in C order; ``Prediction.mask``. Needed for noise with ``fwhm_mm``.
    affine : array of shape (4, 4), optional
        Voxel indices of the mask to millimetres; ``Prediction.affine``.

    Returns
    -------
    bold : array of shape (n_volumes, n_voxels), float32
        ``baseline * (1 + percent_per_unit / 100 * signal) + noise``.

    Raises
    ------
    OptionError
        If an option is not valid or an event lies outside the run.
    ShapeError, DataError
        If the responses are not 2-D and finite, lack a stimulus that the events show, or do not
        fit the mask.

    Notes
    -----
    The neural time course of a stimulus is its amplitude while it is shown and 0 otherwise; its
    convolution with the haemodynamic response h is evaluated through the integral of h, so that
    onsets and durations need not lie on any grid. Where events overlap, they add.

    Examples
    --------
    >>> events = Events([0.0, 20.0], [4.0, 4.0], [0, 1])
    >>> simulate_bold(np.eye(2), events, tr_s=2.0, n_volumes=20).shape
    (20, 2)
    """
    scan = Scan(tr_s, hrf, hrf_step_s, slice_time_ref, baseline, percent_per_unit, noise)
    checked = check_responses(responses, events.n_stimuli)
    field = None
    if mask is not None and affine is not None:
        inside = np.asarray(mask, dtype=bool)
        if inside.sum() != checked.n_voxels:
            message = (
                f"mask must hold the {checked.n_voxels} voxels of the responses; got "
                f"{inside.sum()}. Give the mask that they were predicted with."
            )
            raise ShapeError(message)
        field = noise_field(scan, inside, affine)
    blocks = simulate_blocks(checked, events, scan, n_volumes, seed=seed, field=field)
    return np.concatenate(list(blocks))


def noise_field(scan: Scan, mask: ArrayLike, affine: ArrayLike) -> SmoothField | None:
    """Return what makes a scan's noise smooth in the voxels of a mask; None if it is not."""
    if scan.noise is None or scan.noise.fwhm_mm == 0:
        return None
    return SmoothField(mask, affine, scan.noise.fwhm_mm)


def simulate_blocks(
    responses: Responses,
    events: Events,
    scan: Scan,
    n_volumes: int,
    *,
    seed: int,
    key: tuple[int, ...] = (),
    n_voxels: int | None = None,
    columns: NDArray[np.intp] | None = None,
    field: SmoothField | None = None,
) -> Iterator[Float32Array]:
    """Simulate a run a block of volumes at a time, in order.

    Parameters
    ----------
    responses : Responses
        Of ``n_responding`` voxels.
    events, scan, n_volumes
        As in `simulate_bold`.
    seed : int
        Seed of the noise.
    key : tuple of int
        Which of the runs with that seed it is: the subject's number and the run's.
    n_voxels : int, optional
        Number of voxels of the run, where more than those of ``responses`` have noise.
    columns : array of shape (n_responding,), int, optional
        Which of the ``n_voxels`` each column of the responses is.
    field : SmoothField, optional
        From `noise_field`, of all ``n_voxels``.

    Yields
    ------
    block : array of shape (n_block, n_voxels), float32
        The next volumes; how many does not change the numbers.
    """
    n_total = responses.n_voxels if n_voxels is None else n_voxels
    design = stimulus_design(events, responses.n_stimuli, scan, n_volumes)
    n_block = max(1, _BLOCK_VALUES // max(1, n_total))
    quiet = _baseline_blocks(scan, n_volumes, n_total, n_block, seed, key, field)
    gain = scan.baseline * scan.percent_per_unit / 100.0
    for start in range(0, n_volumes, n_block):
        rows = slice(start, min(start + n_block, n_volumes))
        block = next(quiet)
        signal = responses.signal(design[rows]) * gain
        block[:, slice(None) if columns is None else columns] += signal.astype(np.float32)
        yield block


def percent_per_unit_for(
    peak_percent: float,
    subjects: Iterable[Responses],
    runs: Iterable[tuple[Events, int]],
    scan: Scan,
) -> float:
    """Return the scale at which the strongest signals have a given size.

    Encoding models have units of their own; this gives their runs a signal change that is usual
    for a scanner, one scale for all subjects and runs.

    Parameters
    ----------
    peak_percent : float
        Percent of the baseline that the strong voxels shall reach: the 99th percentile, over voxels
        and subjects, of a voxel's largest absolute signal in any run.
    subjects : iterable of Responses
        Who sees the runs.
    runs : iterable of (Events, int)
        What is shown, and the number of volumes.
    scan : Scan
        Its ``percent_per_unit`` does not count.

    Returns
    -------
    percent_per_unit : float

    Raises
    ------
    OptionError
        If ``peak_percent`` is not positive.
    DataError
        If there is no signal to scale.
    """
    check_positive("peak_percent", peak_percent)
    planned = list(runs)
    peaks = []
    for responses in subjects:
        peak = np.zeros(responses.n_voxels)
        for events, n_volumes in planned:
            design = stimulus_design(events, responses.n_stimuli, scan, n_volumes)
            n_block = max(1, _BLOCK_VALUES // max(1, responses.n_voxels))
            for start in range(0, n_volumes, n_block):
                signal = np.abs(responses.signal(design[start : start + n_block]))
                np.maximum(peak, signal.max(axis=0), out=peak)
        peaks.append(peak)
    strong = float(np.percentile(np.concatenate(peaks), 99)) if peaks else 0.0
    if strong == 0.0:
        message = (
            "some response must differ from 0 to be scaled to peak_percent; got no "
            "signal at all. Check the amplitudes, or give `percent_per_unit` instead."
        )
        raise DataError(message)
    return peak_percent / strong


def check_run(
    events: Events,
    scan: Scan,
    n_volumes: int,
    *,
    name: str = "events",
    lines: Sequence[int] | None = None,
) -> None:
    """Refuse a run that cannot be simulated, before anything is computed for it.

    Parameters
    ----------
    events, scan, n_volumes
        As in `stimulus_design`.
    name, lines
        As in `check_within_run`.

    Raises
    ------
    OptionError
        If an event lies outside the run, ``n_volumes`` is less than 1, or the run is too short for
        the drift that is asked for.
    """
    volume_times(n_volumes, scan.tr_s)
    check_within_run(events, n_volumes * scan.tr_s, name=name, lines=lines)
    if scan.noise is not None and scan.noise.drift_share > 0:
        drift_basis(scan.noise, scan.tr_s, n_volumes)


def stimulus_design(
    events: Events, n_stimuli: int, scan: Scan, n_volumes: int
) -> scipy.sparse.csr_array:
    """Return each stimulus's time course, convolved and sampled at the volumes.

    Parameters
    ----------
    events : Events
        What is shown.
    n_stimuli : int
        Number of stimuli, shown or not.
    scan : Scan
        Its TR, haemodynamic response and slice timing reference count.
    n_volumes : int
        Length of the run.

    Returns
    -------
    design : sparse array of shape (n_volumes, n_stimuli), float64
        A stimulus held on at amplitude 1 settles at 1.

    Raises
    ------
    OptionError
        If an event lies outside the run or ``n_volumes`` is less than 1.
    """
    import scipy.sparse

    check_run(events, scan, n_volumes)
    times_s = volume_times(n_volumes, scan.tr_s, slice_time_ref=scan.slice_time_ref)
    step_s = scan.hrf_step_s
    kernel = hrf(scan.hrf, step_s, scale="sum")
    lags_s = np.arange(len(kernel)) * step_s
    # Each tap stands for the step around its lag, so the integral is exact half-way between lags.
    knots_s = np.concatenate([[0.0], lags_s + step_s / 2])
    integral = np.concatenate([[0.0], np.cumsum(kernel)])

    # Every pair of an event and a volume within its response.
    reach_s = events.durations_s + knots_s[-1]
    first = np.searchsorted(times_s, events.onsets_s)
    last = np.searchsorted(times_s, events.onsets_s + reach_s, side="right")
    counts = last - first
    event = np.repeat(np.arange(len(counts)), counts)
    volume = np.arange(len(event)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    since_s = times_s[volume] - events.onsets_s[event]
    duration_s = events.durations_s[event]
    rise = np.interp(since_s, knots_s, integral)
    fall = np.interp(since_s - duration_s, knots_s, integral)
    impulse = np.interp(since_s, lags_s, kernel / step_s, right=0.0)
    weight = np.where(duration_s > 0, rise - fall, impulse) * events.amplitudes[event]
    pairs = (weight, (volume, events.stimuli[event]))
    return scipy.sparse.coo_array(pairs, shape=(n_volumes, n_stimuli)).tocsr()


def _baseline_blocks(
    scan: Scan,
    n_volumes: int,
    n_voxels: int,
    n_block: int,
    seed: int,
    key: tuple[int, ...],
    field: SmoothField | None,
) -> Iterator[Float32Array]:
    """Yield what a run without a signal holds, a block of volumes at a time."""
    if scan.noise is not None:
        yield from noise_blocks(
            scan.noise,
            baseline=scan.baseline,
            tr_s=scan.tr_s,
            n_volumes=n_volumes,
            n_voxels=n_voxels,
            n_block=n_block,
            seed=seed,
            key=key,
            field=field,
        )
        return
    for start in range(0, n_volumes, n_block):
        shape = (min(n_block, n_volumes - start), n_voxels)
        yield np.full(shape, scan.baseline, dtype=np.float32)
