"""How responses become BOLD: the scan, and each stimulus's time course at its volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgtofmri.exceptions import OptionError, check_choice
from imgtofmri.experiments.events import Events, check_within_run
from imgtofmri.experiments.noise import Noise, check_positive, drift_basis
from imgtofmri.timeseries import DEFAULT_HRF, HRF_NAMES, HrfLike, hrf, volume_times

if TYPE_CHECKING:
    import scipy.sparse

# Repetition times that scanners have, in seconds.
_TR_S = (0.05, 30.0)


@dataclass(frozen=True)
class Scan:
    """How responses become BOLD and are sampled.

    Parameters
    ----------
    tr_s : float
        Repetition time, in seconds, from 0.05 to 30.
    hrf : str, array of shape (n_samples,) or callable
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
    hrf: HrfLike = DEFAULT_HRF
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

    @property
    def hrf_said(self) -> str | dict[str, Any]:
        """The name of the haemodynamic response, or its samples where it has none, for records."""
        if isinstance(self.hrf, str):
            return self.hrf
        samples = hrf(self.hrf, self.hrf_step_s).tolist()
        return {"StepSeconds": self.hrf_step_s, "Samples": samples}


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
