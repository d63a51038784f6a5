"""Events as the stable states of a hidden Markov model that only moves forward.

A movie's response is taken to be a sequence of ``n_events`` states, each with a pattern of its own,
visited once each and in order. Where one state gives way to the next is an event boundary. Patterns
and segmentation are found by turns (expectation-maximisation) while the variance that the model
allows shrinks, so that boundaries start soft and end sharp.

The states form a staircase: from one volume to the next the model stays or climbs one step. Every
path from the first to the last state has the same number of stays and of climbs, hence the same
prior probability, and the forward pass read backwards (in time and in states) is the backward
pass: one recursion over time does both.

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

from imgtofmri.events.checks import check_time_courses
from imgtofmri.exceptions import DataError, OptionError, ShapeError

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
    data : array of shape (n_timepoints, n_voxels), or a sequence of such arrays
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

    Notes ----- Each voxel is z-scored over its run, then each volume and each pattern over voxels.
    The log-likelihood of volume ``t`` in event ``k`` is ``-|z(x_t) - z(m_k)|² / (2 v n_voxels) -
    log(2 π v) / 2``, so it is an average over voxels, not a sum, and the sharpness of the result
    does not grow with their number. The prior of a path follows from a chance of ``(n_events - 1)
    / n_timepoints`` to climb at each volume. Several runs weigh the same whatever their length.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> states = np.repeat(rng.standard_normal((3, 50)), [5, 9, 6], axis=0)
    >>> fit_events(states + 0.1 * rng.standard_normal((20, 50)), 3).boundaries
    array([ 5, 14])
    """
    runs = _as_runs(data, "fit_events")
    shortest = min(len(run) for run in runs)
    if not 2 <= n_events <= shortest:
        message = (
            f"fit_events: n_events must be between 2 and the number of volumes, {shortest}; "
            f"got {n_events}. Ask for fewer events, or join short runs."
        )
        raise OptionError(message)
    if max_steps < 1:
        message = f"fit_events: max_steps must be at least 1; got {max_steps}. Leave it at 500."
        raise OptionError(message)
    schedule = [float(variance(step)) for step in range(1, max_steps + 1)]
    if not all(0 < value < np.inf for value in schedule):
        message = (
            "fit_events: variance must give a positive number for each step; got "
            f"{next(v for v in schedule if not 0 < v < np.inf)}. Use annealed_variance."
        )
        raise OptionError(message)
    prior = tuple(_posterior(np.zeros((len(run), n_events)))[0] for run in runs)
    model = _maximise(runs, prior, schedule)
    return _split_and_merge(runs, model, schedule) if split_merge else model


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
    run = _as_runs(data, "find_events")[0]
    means = np.asarray(patterns, dtype=np.float64)
    if means.ndim != 2 or means.shape[1] != run.shape[1]:
        message = (
            f"find_events: patterns must have shape (n_events, {run.shape[1]}), the data's voxels; "
            f"got {means.shape}. Use patterns fitted on the same voxels."
        )
        raise ShapeError(message)
    if not 1 <= len(means) <= len(run):
        message = (
            f"find_events: there must be between 1 event and {len(run)}, one per volume; got "
            f"{len(means)}. Use a longer run or fewer patterns."
        )
        raise OptionError(message)
    if not 0 < variance < np.inf:
        message = (
            f"find_events: variance must be a positive number; got {variance}. "
            "Use the variance of the fitted model."
        )
        raise OptionError(message)
    return _posterior(_emission(_zscore_rows(run), means, variance))


def _zscore_columns(run: Array) -> Array:
    """Z-score each voxel over its run; a constant voxel becomes zeros."""
    return _zscore_rows(run.T).T


def _as_runs(data: ArrayLike | Sequence[ArrayLike], where: str) -> tuple[Array, ...]:
    """Return the data as checked runs with the same voxels."""
    several = isinstance(data, list | tuple) and all(np.ndim(run) == 2 for run in data)
    given: Sequence[ArrayLike] = data if several else [data]  # type: ignore[assignment,list-item]
    runs = tuple(check_time_courses(run, where) for run in given)
    widths = sorted({run.shape[1] for run in runs})
    if len(widths) != 1:
        message = (
            f"{where}: all runs must have the same voxels; got {len(runs)} runs with {widths} "
            "voxels. Restrict them to the voxels they share."
        )
        raise ShapeError(message)
    return tuple(_zscore_columns(run) for run in runs)


def _zscore_rows(rows: Array) -> Array:
    """Z-score each row over its voxels; a constant row becomes zeros."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.sum(centred**2, axis=1, keepdims=True) / max(rows.shape[1] - 1, 1))
    result: Array = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
    return result


def _emission(volumes: Array, patterns: Array, variance: float) -> Array:
    """Return the log-likelihood of each (z-scored) volume in each event."""
    means = _zscore_rows(patterns)
    n_voxels = volumes.shape[1]
    squares = np.sum(volumes**2, axis=1)[:, None] + np.sum(means**2, axis=1)
    distance = (squares - 2 * volumes @ means.T) / n_voxels
    result: Array = -0.5 * np.log(2 * np.pi * variance) - 0.5 * distance / variance
    return result


def _posterior(emission: Array) -> tuple[Array, float]:
    """Run forward and backward passes together; return segment probabilities and likelihood."""
    n_timepoints, n_events = emission.shape
    both = np.stack([emission, emission[::-1, ::-1]], axis=1)
    passes = np.full((n_timepoints, 2, n_events), -np.inf)
    passes[0, :, 0] = both[0, :, 0]
    climb = np.full((2, n_events), -np.inf)
    for now in range(1, n_timepoints):
        before = passes[now - 1]
        climb[:, 1:] = before[:, :-1]
        np.logaddexp(before, climb, out=passes[now])
        passes[now] += both[now]
    total = passes[-1, 0, -1]
    segments = np.exp(passes[:, 0] + passes[::-1, 1, ::-1] - emission - total)
    # Rounding only: rows sum to 1 by construction.
    segments /= segments.sum(axis=1, keepdims=True)
    chance = (n_events - 1) / n_timepoints
    prior = 0.0
    if n_events > 1:
        prior += (n_events - 1) * np.log(chance)
    if n_timepoints > n_events:
        prior += (n_timepoints - n_events) * np.log1p(-chance)
    return segments, float(total + prior)


def _mean_patterns(runs: tuple[Array, ...], segments: tuple[Array, ...]) -> Array:
    """Average each run's volumes by event, then the runs."""
    each = [
        weights.T @ run / weights.sum(axis=0)[:, None]
        for run, weights in zip(runs, segments, strict=True)
    ]
    result: Array = np.mean(each, axis=0)
    return result


def _maximise(
    runs: tuple[Array, ...],
    segments: tuple[Array, ...],
    schedule: Sequence[float],
    first: int = 1,
) -> EventModel:
    """Improve patterns and segments by turns until a step lowers the likelihood."""
    volumes = [_zscore_rows(run) for run in runs]
    best: EventModel | None = None
    for step, variance in enumerate(schedule, start=first):
        patterns = _mean_patterns(runs, segments)
        found = [_posterior(_emission(run, patterns, variance)) for run in volumes]
        segments = tuple(item[0] for item in found)
        likelihood = float(np.mean([item[1] for item in found]))
        if not np.isfinite(likelihood):
            break
        if best is not None and likelihood < best.log_likelihood:
            break
        best = EventModel(patterns, segments, likelihood, variance, step)
    if best is None:
        message = (
            "fit_events: the first step must give a finite likelihood; got none. The data are "
            "probably constant over voxels: look at them, and use other voxels."
        )
        raise DataError(message)
    return best


def _split_and_merge(
    runs: tuple[Array, ...], model: EventModel, schedule: Sequence[float], n_proposals: int = 2
) -> EventModel:
    """Move one boundary at a time to where it explains more, while the likelihood rises.

    Merging two events and splitting a third keeps their number. The likeliest mergers are
    neighbours whose patterns correlate most, the likeliest splits those that lower the scatter
    within most.
    """
    improved = model.n_events > 2
    while improved:
        improved = False
        for merged, split in _proposals(runs, model, n_proposals):
            starts = tuple(
                _moved(np.argmax(segments, axis=1), volumes, merged, split)
                for segments, volumes in zip(model.segments, runs, strict=True)
            )
            if any(len(np.unique(labels)) < model.n_events for labels in starts):
                continue
            hard = tuple(np.eye(model.n_events)[labels] for labels in starts)
            # From the variance reached: a soft start would forget the proposal.
            tried = _maximise(runs, hard, schedule[model.n_steps - 1 :], first=model.n_steps)
            if tried.log_likelihood > model.log_likelihood:
                model, improved = tried, True
                break
    return model


def _proposals(
    runs: tuple[Array, ...], model: EventModel, n_proposals: int
) -> list[tuple[int, int]]:
    """List (first of two events to merge, event to split), the most promising first."""
    means = _zscore_rows(model.patterns)
    alike = np.sum(means[1:] * means[:-1], axis=1)
    gains = np.zeros(model.n_events)
    for segments, volumes in zip(model.segments, runs, strict=True):
        labels = np.argmax(segments, axis=1)
        for event in range(model.n_events):
            gains[event] += _best_split(volumes[labels == event])[1]
    merges = np.argsort(-alike, kind="stable")[:n_proposals]
    splits = np.argsort(-gains, kind="stable")[: n_proposals + 2]
    pairs = [(int(m), int(s)) for m in merges for s in splits if s not in (m, m + 1)]
    return pairs[: n_proposals**2]


def _best_split(volumes: Array) -> tuple[int, float]:
    """Return where two means explain an event best, and the scatter they take away."""
    if len(volumes) < 2:
        return 0, 0.0
    sums = _zscore_rows(volumes).cumsum(axis=0)
    before = np.arange(1, len(volumes))
    after = len(volumes) - before
    explained = np.sum(sums[:-1] ** 2, axis=1) / before
    explained += np.sum((sums[-1] - sums[:-1]) ** 2, axis=1) / after
    place = int(np.argmax(explained))
    return place + 1, float(explained[place] - np.sum(sums[-1] ** 2) / len(volumes))


def _moved(labels: NDArray[np.intp], volumes: Array, merged: int, split: int) -> NDArray[np.intp]:
    """Return labels after a merger and a split, numbered in order."""
    inside = np.flatnonzero(labels == split)
    starts = np.diff(labels, prepend=labels[:1]) > 0
    starts[np.flatnonzero(labels == merged + 1)[:1]] = False
    if len(inside):
        starts[inside[0] + _best_split(volumes[inside])[0]] = True
    result: NDArray[np.intp] = np.cumsum(starts)
    return result
