"""Expectation-maximisation for states that are visited once each, in order.

The states form a staircase: from one volume to the next the model stays or climbs one step. Every
path from the first to the last state has the same number of stays and of climbs, hence the same
prior probability, and the forward pass read backwards (in time and in states) is the backward
pass: one recursion over time does both.

Nothing but inner products of volumes and of their averages is ever needed. Where there are more
voxels than volumes, the volumes are therefore expressed in a basis of their own (a QR
decomposition, once), which keeps all inner products and takes the number of voxels out of the cost
of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError
from imgtofmri.stats.scaling import centred, unit_length

Array = NDArray[np.float64]
Labels = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Rows:
    """Runs ready for fitting: volumes centred over voxels, in a basis of their own.

    Attributes
    ----------
    centred : tuple of arrays of shape (n_timepoints, n_dimensions)
        One for each run.
    scaled : tuple of arrays of shape (n_timepoints, n_dimensions)
        The same, z-scored over voxels.
    n_voxels : int
        Voxels of the data.
    """

    centred: tuple[Array, ...]
    scaled: tuple[Array, ...]
    n_voxels: int

    @classmethod
    def of(cls, runs: Sequence[Array]) -> Self:
        """Make rows of runs, whose voxels are the same."""
        stacked = centred(np.concatenate(runs))
        n_rows, n_voxels = stacked.shape
        if n_voxels > n_rows:
            basis: Array = np.asarray(np.linalg.qr(stacked.T, mode="r"))
            stacked = basis.T
        parts = tuple(np.split(stacked, np.cumsum([len(run) for run in runs])[:-1]))
        return cls(parts, tuple(scaled(part, n_voxels) for part in parts), n_voxels)


@dataclass(frozen=True, eq=False)
class Fit:
    """One state of a fit: the segments, and the weights that the patterns were averaged with."""

    segments: tuple[Array, ...]
    weights: tuple[Array, ...]
    patterns: Array
    log_likelihood: float
    variance: float
    n_steps: int

    @property
    def labels(self) -> tuple[Labels, ...]:
        """The most probable state of each volume of each run."""
        return tuple(np.argmax(segments, axis=1) for segments in self.segments)


def scaled(rows: Array, n_voxels: int) -> Array:
    """Scale centred rows to unit (sample) variance over voxels; a row of zeros stays."""
    unit = unit_length(rows)
    unit *= np.sqrt(max(n_voxels - 1, 1))
    return unit


def emission(volumes: Array, patterns: Array, n_voxels: int, variance: float) -> Array:
    """Return the log-likelihood of each volume in each state; both z-scored over voxels."""
    squares = np.sum(volumes**2, axis=1)[:, None] + np.sum(patterns**2, axis=1)
    distance = (squares - 2 * volumes @ patterns.T) / n_voxels
    result: Array = -0.5 * np.log(2 * np.pi * variance) - 0.5 * distance / variance
    return result


def posterior(emission: Array) -> tuple[Array, float]:
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


def mean_patterns(runs: Sequence[Array], weights: Sequence[Array]) -> Array:
    """Average each run's volumes by state, then the runs."""
    each = [
        weight.T @ run / weight.sum(axis=0)[:, None]
        for run, weight in zip(runs, weights, strict=True)
    ]
    result: Array = np.mean(each, axis=0)
    return result


def maximise(
    rows: Rows, segments: tuple[Array, ...], schedule: Sequence[float], first: int = 1
) -> Fit:
    """Improve patterns and segments by turns until a step lowers the likelihood."""
    best: Fit | None = None
    for step, variance in enumerate(schedule, start=first):
        weights = segments
        patterns = scaled(mean_patterns(rows.centred, weights), rows.n_voxels)
        found = [
            posterior(emission(volumes, patterns, rows.n_voxels, variance))
            for volumes in rows.scaled
        ]
        segments = tuple(item[0] for item in found)
        likelihood = float(np.mean([item[1] for item in found]))
        if not np.isfinite(likelihood) or (best and likelihood < best.log_likelihood):
            break
        best = Fit(segments, weights, patterns, likelihood, variance, step)
    if best is None:
        message = (
            "the first step must give a finite likelihood; got none. The variance is "
            "too small for these data: use annealed_variance."
        )
        raise DataError(message)
    return best


def split_and_merge(rows: Rows, fit: Fit, schedule: Sequence[float], n_proposals: int = 2) -> Fit:
    """Move one boundary at a time to where it explains more, while the likelihood rises.

    Merging two states and splitting a third keeps their number. The likeliest mergers are
    neighbours whose patterns correlate most, the likeliest splits those that lower the scatter
    within most.
    """
    n_events = len(fit.patterns)
    improved = n_events > 2
    while improved:
        improved = False
        for merged, split in _proposals(rows, fit, n_proposals):
            moved = [
                _moved(labels, volumes, merged, split)
                for labels, volumes in zip(fit.labels, rows.scaled, strict=True)
            ]
            if any(len(np.unique(labels)) < n_events for labels in moved):
                continue
            hard = tuple(np.eye(n_events)[labels] for labels in moved)
            # From the variance reached: a soft start would forget the proposal.
            tried = maximise(rows, hard, schedule[fit.n_steps - 1 :], first=fit.n_steps)
            if tried.log_likelihood > fit.log_likelihood:
                fit, improved = tried, True
                break
    return fit


def _proposals(rows: Rows, fit: Fit, n_proposals: int) -> list[tuple[int, int]]:
    """List (first of two states to merge, state to split), the most promising first."""
    n_events = len(fit.patterns)
    alike = np.sum(fit.patterns[1:] * fit.patterns[:-1], axis=1)
    gains = np.zeros(n_events)
    for labels, volumes in zip(fit.labels, rows.scaled, strict=True):
        for event in range(n_events):
            gains[event] += _best_split(volumes[labels == event])[1]
    merges = np.argsort(-alike, kind="stable")[:n_proposals]
    splits = np.argsort(-gains, kind="stable")[: n_proposals + 2]
    pairs = [(int(m), int(s)) for m in merges for s in splits if s not in (m, m + 1)]
    return pairs[: n_proposals**2]


def _best_split(volumes: Array) -> tuple[int, float]:
    """Return where two means explain a state best, and the scatter they take away."""
    if len(volumes) < 2:
        return 0, 0.0
    sums = volumes.cumsum(axis=0)
    before = np.arange(1, len(volumes))
    after = len(volumes) - before
    explained = np.sum(sums[:-1] ** 2, axis=1) / before
    explained += np.sum((sums[-1] - sums[:-1]) ** 2, axis=1) / after
    place = int(np.argmax(explained))
    return place + 1, float(explained[place] - np.sum(sums[-1] ** 2) / len(volumes))


def _moved(labels: Labels, volumes: Array, merged: int, split: int) -> Labels:
    """Return labels after a merger and a split, numbered in order."""
    inside = np.flatnonzero(labels == split)
    starts = np.diff(labels, prepend=labels[:1]) > 0
    starts[np.flatnonzero(labels == merged + 1)[:1]] = False
    if len(inside):
        starts[inside[0] + _best_split(volumes[inside])[0]] = True
    result: Labels = np.cumsum(starts)
    return result
