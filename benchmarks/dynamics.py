"""A bootstrap of movie dynamics, and event segmentation, each against the obvious loop.

    python benchmarks/dynamics.py

A movie of 166 volumes, 33 subjects, 1,200 voxels, two models, 13 boundaries: 100 samples of
subjects, 10 samples of boundaries for each. Loops and arrays are run in turn in the same process,
and their results compared.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.dynamics import bootstrap_similarity
from imgtofmri.events import (
    average_around_boundaries,
    event_labels,
    fit_events,
    greedy_states,
)
from imgtofmri.stats import bootstrap_counts
from imgtofmri.timeseries import row_agreement

N_SUBJECTS, N_VOLUMES, N_VOXELS = 33, 166, 1200
N_BRAINS, N_RESAMPLES = 100, 10
BOUNDARIES = np.array([12, 26, 44, 56, 71, 81, 92, 104, 119, 123, 136, 143, 151])
FIRST, LAST, NEAR = -5, 10, 2

Array = NDArray[np.float64]
T = TypeVar("T")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of the arrays (default 5)")
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    events = rng.standard_normal((14, N_VOXELS))[event_labels(BOUNDARIES, N_VOLUMES)]
    noise = rng.standard_normal((N_SUBJECTS, N_VOLUMES, N_VOXELS))
    measured = (events + 3 * noise).astype(np.float32)
    models = np.stack(
        [
            np.corrcoef(events + rng.standard_normal(events.shape)),
            np.corrcoef(rng.standard_normal(events.shape)),
        ]
    )
    counts = bootstrap_counts(N_SUBJECTS, N_BRAINS, seed=1).astype(int)
    brains, seconds = _timed(
        lambda: np.concatenate(list(bootstrap_similarity(measured, counts))), repeats
    )
    looped, loop_s = _timed(lambda: _loop_similarity(measured, counts), 1)
    _report("similarity matrices of 100 samples of subjects", loop_s, seconds)
    print(f"    largest difference {np.abs(brains - looped).max():.1e}")

    draws = bootstrap_counts(len(BOUNDARIES), N_BRAINS * N_RESAMPLES, seed=2).astype(int)
    fast, seconds = _timed(lambda: _bootstrap(models, brains), repeats)
    slow, loop_s = _timed(lambda: _loop_bootstrap(models, brains, draws), 1)
    _report("100 x 10 bootstrap once the matrices exist (goal: under 1 s)", loop_s, seconds)
    print(f"    largest difference {np.nanmax(np.abs(fast - slow)):.1e}")

    mean = measured.mean(axis=0)
    model, seconds = _timed(lambda: fit_events(mean, 14), repeats)
    emission = rng.standard_normal((N_VOLUMES, 14))
    _, loop_s = _timed(lambda: [_loop_posterior(emission) for _ in range(model.n_steps)], 1)
    _report(
        f"hidden Markov model, 14 events, {model.n_steps} steps (loop: posterior only)",
        loop_s,
        seconds,
    )
    found, seconds = _timed(lambda: greedy_states(mean, 20, statewise=False, finetune=0), repeats)
    slow_bounds, loop_s = _timed(lambda: _loop_greedy(mean, 5), 1)
    same = np.array_equal(found.steps[3], slow_bounds)
    _report("greedy boundaries, 19 steps (loop: 4 steps)", loop_s, seconds)
    print(f"    the same first four boundaries: {same}")


def _bootstrap(models: Array, brains: Array) -> Array:
    """Compute agreement and its averages around boundaries as the package does."""
    agreement = row_agreement(models[:, None], brains)
    average = average_around_boundaries(
        agreement.mean(axis=1),
        BOUNDARIES,
        brains=agreement,
        window=(FIRST, LAST),
        exclusion=NEAR,
        n_resamples=N_RESAMPLES,
        seed=2,
    )
    return average.samples


def _loop_similarity(measured: NDArray[np.float32], counts: NDArray[np.intp]) -> Array:
    """Correlate each sample's mean by itself."""
    matrices = []
    for count in counts:
        drawn = [measured[index] for index in range(N_SUBJECTS) for _ in range(count[index])]
        matrices.append(np.corrcoef(np.mean(drawn, axis=0)))
    return np.stack(matrices)


def _loop_bootstrap(models: Array, brains: Array, draws: NDArray[np.intp]) -> Array:
    """Correlate row by row, then average boundary by boundary and lag by lag."""
    samples = np.full((len(models), len(draws), LAST - FIRST + 1), np.nan)
    for number, model in enumerate(models):
        for brain, matrix in enumerate(brains):
            agreement = np.empty(N_VOLUMES)
            for row in range(N_VOLUMES):
                others = np.arange(N_VOLUMES) != row
                agreement[row] = np.corrcoef(model[row, others], matrix[row, others])[0, 1]
            for resample in range(N_RESAMPLES):
                sample = resample * len(brains) + brain
                for lag in range(FIRST, LAST + 1):
                    values = []
                    for bound, count in zip(BOUNDARIES, draws[sample], strict=True):
                        volume = bound + lag
                        others = BOUNDARIES[bound != BOUNDARIES]
                        clear = np.abs(others - volume).min() > NEAR
                        if 0 <= volume < N_VOLUMES and clear:
                            values += [agreement[volume]] * count
                    if values:
                        samples[number, sample, lag - FIRST] = np.mean(values)
    return samples


def _loop_posterior(emission: Array) -> Array:
    """Run the forward and the backward pass state by state."""
    n_volumes, n_events = emission.shape
    forward = np.full((n_volumes, n_events), -np.inf)
    backward = np.full((n_volumes, n_events), -np.inf)
    forward[0, 0] = emission[0, 0]
    backward[-1, -1] = 0.0
    for now in range(1, n_volumes):
        for event in range(n_events):
            before = forward[now - 1, event]
            if event:
                before = np.logaddexp(before, forward[now - 1, event - 1])
            forward[now, event] = before + emission[now, event]
    for now in range(n_volumes - 2, -1, -1):
        for event in range(n_events):
            after = backward[now + 1, event] + emission[now + 1, event]
            if event + 1 < n_events:
                climb = backward[now + 1, event + 1] + emission[now + 1, event + 1]
                after = np.logaddexp(after, climb)
            backward[now, event] = after
    return np.exp(forward + backward - forward[-1, -1])


def _loop_greedy(run: NDArray[np.float32], n_events: int) -> list[int]:
    """Try every volume as the next boundary and correlate all volumes with their state's mean."""
    bounds: list[int] = []
    for _ in range(n_events - 1):
        scores = {}
        for place in set(range(1, N_VOLUMES)) - set(bounds):
            total = 0.0
            edges = [0, *sorted([*bounds, place]), N_VOLUMES]
            for start, stop in itertools.pairwise(edges):
                state = run[start:stop] - run[start:stop].mean(axis=1, keepdims=True)
                mean = state.mean(axis=0)
                lengths = np.linalg.norm(state, axis=1) * np.linalg.norm(mean)
                total += float(np.sum(state @ mean / lengths))
            scores[place] = total
        bounds = sorted([*bounds, max(scores, key=lambda place: scores[place])])
    return bounds


def _timed(function: Callable[[], T], repeats: int) -> tuple[T, float]:
    """Return a function's result and the median of its seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, statistics.median(times)


def _report(what: str, loop_s: float, seconds: float) -> None:
    print(f"{what}: {seconds:.3f} s, loop {loop_s:.2f} s, {loop_s / seconds:.0f} times faster")


if __name__ == "__main__":
    main()
