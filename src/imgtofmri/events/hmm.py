"""Events as the stable states of a hidden Markov model that only moves forward.

A movie's response is taken to be a sequence of ``n_events`` states, each with a pattern of its own,
visited once each and in order. Where one state gives way to the next is an event boundary. Patterns
and segmentation are found by turns (expectation-maximisation) while the variance that the model
allows shrinks, so that boundaries start soft and end sharp.

References
----------
Baldassano C. et al. (2017). Discovering event structure in continuous narrative perception and
memory. Neuron 95, 709-721. doi:10.1016/j.neuron.2017.06.041
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.events.expectation import (
    Rows,
    emission,
    maximise,
    mean_patterns,
    posterior,
    scaled,
    split_and_merge,
)
from imgtofmri.events.separation import check_run
from imgtofmri.exceptions import OptionError, ShapeError
from imgtofmri.stats.scaling import centred

__all__ = ["EventModel", "annealed_variance", "find_events", "fit_events"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EventModel:
    """A fitted sequence of events.

    Attributes
    ----------
    patterns : array of shape (n_events, n_voxels)
        The mean pattern of each event, each voxel z-scored over its run.
    segments : tuple of arrays of shape (n_timepoints, n_events)
        For each run, the probability that a volume belongs to an event; rows sum to 1.
    log_likelihood : float
        Of the data under the model, averaged over runs, in units per voxel (see Notes of
        `fit_events`).
    variance : float
        The variance at which the model was kept.
    n_steps : int
        Steps of expectation-maximisation that improved the model.
    """

    patterns: Array
    segments: tuple[Array, ...]
    log_likelihood: float
    variance: float
    n_steps: int

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.patterns.shape[0])

    @property
    def labels(self) -> NDArray[np.intp]:
        """The most probable event of each volume of the first run, shape (n_timepoints,)."""
        labels: NDArray[np.intp] = np.argmax(self.segments[0], axis=1)
        return labels

    @property
    def boundaries(self) -> NDArray[np.intp]:
        """Volumes of the first run at which a new event begins; the start is not one of them."""
        return np.flatnonzero(np.diff(self.labels)) + 1


def annealed_variance(step: int) -> float:
    """Return the variance of a step of fitting: 4 at the first, 2 % less at each one after.

    Parameters
    ----------
    step : int
        Counted from 1.

    Returns
    -------
    float
        In units of a volume's variance over voxels.

    Examples
    --------
    >>> round(annealed_variance(35), 3)
    2.013
    """
    return float(4.0 * 0.98 ** (step - 1))


def fit_events(
    data: ArrayLike | Sequence[ArrayLike],
    n_events: int,
    *,
    variance: Callable[[int], float] = annealed_variance,
    max_steps: int = 500,
    split_merge: bool = False,
) -> EventModel:
    """Find ``n_events`` stable events in one or several time courses.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels), or a sequence or stack of such arrays
        One run, or several runs of the same movie that share the events' patterns. Lengths may
        differ, voxels may not.
    n_events : int
        How many events there are; `choose_n_events` compares several numbers.
    variance : callable, default `annealed_variance`
        Variance allowed at each step, counted from 1.
    max_steps : int, default 500
        Fitting ends sooner, when a step lowers the likelihood.
    split_merge : bool, default False
        After fitting, try to merge the two neighbours most alike and to split the event least of
        one piece, and keep what raises the likelihood, until nothing does. Helps where events are
        of very different lengths, at a few times the cost.

    Returns
    -------
    EventModel
        The model of the last step that raised the likelihood.

    Raises
    ------
    DataError
        If the data hold values that are not finite, or fewer than 3 volumes.
    OptionError
        If ``n_events`` is not between 2 and the number of volumes.

    Notes
    -----
    Each voxel is z-scored over its run, then each volume and each pattern over voxels. The
    log-likelihood of volume ``t`` in event ``k`` is
    ``-|z(x_t) - z(m_k)|² / (2 v n_voxels) - log(2 π v) / 2``, so it is an average over voxels, not
    a sum, and the sharpness of the result does not grow with their number. The prior of a path
    follows from a chance of ``(n_events - 1) / n_timepoints`` to climb at each volume. Several runs
    weigh the same whatever their length.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> states = np.repeat(rng.standard_normal((3, 50)), [5, 9, 6], axis=0)
    >>> fit_events(states + 0.1 * rng.standard_normal((20, 50)), 3).boundaries
    array([ 5, 14])
    """
    runs = _as_runs(data)
    shortest = min(len(run) for run in runs)
    if not 2 <= n_events <= shortest:
        message = (
            f"n_events must be between 2 and the number of volumes, {shortest}; "
            f"got {n_events}. Ask for fewer events, or join short runs."
        )
        raise OptionError(message)
    if max_steps < 1:
        message = f"max_steps must be at least 1; got {max_steps}. Leave it at 500."
        raise OptionError(message)
    schedule = [float(variance(step)) for step in range(1, max_steps + 1)]
    if not all(0 < value < np.inf for value in schedule):
        message = (
            "variance must give a positive number for each step; got "
            f"{next(v for v in schedule if not 0 < v < np.inf)}. Use annealed_variance."
        )
        raise OptionError(message)
    rows = Rows.of(runs)
    prior = tuple(posterior(np.zeros((len(run), n_events)))[0] for run in runs)
    fit = maximise(rows, prior, schedule)
    if split_merge:
        fit = split_and_merge(rows, fit, schedule)
    return EventModel(
        patterns=mean_patterns(runs, fit.weights),
        segments=fit.segments,
        log_likelihood=fit.log_likelihood,
        variance=fit.variance,
        n_steps=fit.n_steps,
    )


def find_events(data: ArrayLike, patterns: ArrayLike, variance: float) -> tuple[Array, float]:
    """Find known events, in their order, in a new time course.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels)
        One run.
    patterns : array of shape (n_events, n_voxels)
        The events' patterns, for example `EventModel.patterns` of other subjects.
    variance : float
        As in `EventModel.variance`.

    Returns
    -------
    segments : array of shape (n_timepoints, n_events)
        The probability that a volume belongs to an event; rows sum to 1. Each voxel is z-scored
        over the run first, as in `fit_events`.
    log_likelihood : float
        Of the data under the patterns: a measure of how well a segmentation carries over.

    Raises
    ------
    DataError
        If the data hold values that are not finite, or fewer than 3 volumes.
    ShapeError
        If voxels differ between data and patterns.
    OptionError
        If ``variance`` is not positive, or there are more events than volumes.
    """
    run = _as_runs(data)[0]
    means = np.asarray(patterns, dtype=np.float64)
    if means.ndim != 2 or means.shape[1] != run.shape[1]:
        message = (
            f"patterns must have shape (n_events, {run.shape[1]}), the data's voxels; "
            f"got {means.shape}. Use patterns fitted on the same voxels."
        )
        raise ShapeError(message)
    if not 1 <= len(means) <= len(run):
        message = (
            f"there must be between 1 event and {len(run)}, one per volume; got "
            f"{len(means)}. Use a longer run or fewer patterns."
        )
        raise OptionError(message)
    if not 0 < variance < np.inf:
        message = (
            f"variance must be a positive number; got {variance}. "
            "Use the variance of the fitted model."
        )
        raise OptionError(message)
    n_voxels = run.shape[1]
    volumes, events = scaled(centred(run), n_voxels), scaled(centred(means), n_voxels)
    return posterior(emission(volumes, events, n_voxels, variance))


def _as_runs(data: ArrayLike | Sequence[ArrayLike]) -> tuple[Array, ...]:
    """Return the data as checked runs with the same voxels."""
    stacked = isinstance(data, np.ndarray) and data.ndim == 3
    listed = isinstance(data, list | tuple) and all(np.ndim(run) == 2 for run in data)
    several = stacked or listed
    given: Sequence[ArrayLike] = data if several else [data]  # type: ignore[assignment,list-item]
    runs = tuple(check_run(run) for run in given)
    widths = sorted({run.shape[1] for run in runs})
    if len(widths) != 1:
        message = (
            f"all runs must have the same voxels; got {len(runs)} runs with {widths} "
            "voxels. Restrict them to the voxels they share."
        )
        raise ShapeError(message)
    # Each voxel is z-scored over its run.
    return tuple(scaled(centred(run.T), len(run)).T for run in runs)
