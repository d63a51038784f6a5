"""Time the statistics against the obvious loops, in the same run, and print ratios.

Run it with ``python benchmarks/stats.py``. Each pair computes the same numbers, which is checked.
The loops do part of the work where all of it would take minutes; their time is scaled up, and the
line says so.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import pearsonr

from imgtofmri.stats import (
    correlation_matrix,
    diagonal_test,
    fdr,
    noise_ceiling,
    pearson_interval,
    pearson_r,
    permutation_pearson,
    permutations,
)

N_IMAGES, N_VOXELS = 155, 9641


def best(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the shortest of some times in seconds, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def report(what: str, ours: float, loop: float, share: float = 1.0) -> None:
    """Print one line."""
    scaled = "" if share == 1 else f"  (loop: {share:.2%} of the work, scaled)"
    whole = loop / share
    print(f"{what:<58} {ours * 1e3:9.1f} ms {whole * 1e3:11.1f} ms {whole / ours:8.0f} x{scaled}")


def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Make predicted and measured responses."""
    shared = rng.standard_normal((N_IMAGES, N_VOXELS))
    return shared + rng.standard_normal(shared.shape), shared + rng.standard_normal(shared.shape)


def time_correlations(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Correlate every pair of patterns."""
    ours, matrix = best(lambda: correlation_matrix(predicted, measured))
    n_rows = 3

    def loop() -> np.ndarray:
        return np.array([[pearsonr(a, b).statistic for b in measured] for a in predicted[:n_rows]])

    took, expected = best(loop, 1)
    np.testing.assert_allclose(matrix[:n_rows], expected, atol=1e-12)
    report(f"correlations, {N_IMAGES} x {N_IMAGES} patterns", ours, took, n_rows / N_IMAGES)
    return matrix


def time_diagonal(matrix: np.ndarray) -> None:
    """Permute the rows of a correlation matrix: NumPy rows, and a data frame's as once was done."""
    n, part = 10_000, 200
    ours, result = best(lambda: diagonal_test(matrix, n, seed=0))
    orders = next(permutations(N_IMAGES, n, seed=0))[:part]
    off = ~np.eye(N_IMAGES, dtype=bool)

    def loop() -> np.ndarray:
        null = []
        for order in orders:
            shuffled = matrix[order]
            null.append(np.diag(shuffled).mean() - shuffled[off].mean())
        return np.array(null)

    took, expected = best(loop, 1)
    np.testing.assert_allclose(result.null[:part, 0], expected, atol=1e-12)
    report(f"{n} shuffles of it, one test", ours, took, part / n)

    frame = pd.DataFrame(matrix)

    def frames() -> None:
        for seed in range(part):
            shuffled = frame.sample(frac=1, random_state=seed).to_numpy()
            _ = np.diag(shuffled).mean() - shuffled[off].mean()

    took, _ = best(frames, 1)
    report(f"{n} shuffles of it, data frames in the loop", ours, took, part / n)

    stack = np.array([matrix] * 20)
    ours, _ = best(lambda: diagonal_test(stack, n, seed=0))

    def tests() -> None:
        for one in stack:
            for order in orders[: part // 10]:
                shuffled = one[order]
                _ = np.diag(shuffled).mean() - shuffled[off].mean()

    took, _ = best(tests, 1)
    report(f"{n} shuffles of it, 20 tests", ours, took, part / 10 / n)


def time_voxels(predicted: np.ndarray, measured: np.ndarray) -> None:
    """Correlate, permute and bootstrap each voxel."""
    part = 200
    ours, r = best(lambda: pearson_r(predicted, measured))
    took, expected = best(
        lambda: [pearsonr(predicted[:, v], measured[:, v]).statistic for v in range(part)], 1
    )
    np.testing.assert_allclose(r[:part], expected, atol=1e-12)
    report(f"r in {N_VOXELS} voxels", ours, took, part / N_VOXELS)

    n = 1000
    ours, _ = best(lambda: permutation_pearson(predicted, measured, n, seed=0), 1)
    orders = next(permutations(N_IMAGES, n, seed=0))

    def shuffles() -> None:
        for order in orders[:5]:
            _ = [np.corrcoef(predicted[order, v], measured[:, v])[0, 1] for v in range(part)]

    took, _ = best(shuffles, 1)
    share = 5 / n * part / N_VOXELS
    report(f"p in {N_VOXELS} voxels, {n} shuffles, voxels in the loop", ours, took, share)

    def maps() -> None:
        z_measured = (measured - measured.mean(0)) / measured.std(0)
        z_predicted = (predicted - predicted.mean(0)) / predicted.std(0)
        for order in orders[:20]:
            _ = (z_predicted[order] * z_measured).mean(axis=0)

    took, _ = best(maps, 1)
    report(f"p in {N_VOXELS} voxels, {n} shuffles, maps in the loop", ours, took, 20 / n)

    ours, _ = best(lambda: pearson_interval(predicted, measured), 1)

    def leave_out() -> None:
        for at in range(5):
            x, y = np.delete(predicted, at, axis=0), np.delete(measured, at, axis=0)
            _ = [np.corrcoef(x[:, v], y[:, v])[0, 1] for v in range(part)]

    took, _ = best(leave_out, 1)
    share = 5 / N_IMAGES * part / N_VOXELS
    report(f"intervals in {N_VOXELS} voxels, {N_IMAGES} images left out", ours, took, share)


def time_fdr(rng: np.random.Generator) -> None:
    """Adjust p values."""
    p = rng.random(N_VOXELS)

    def loop() -> np.ndarray:
        ranks = {at: rank for rank, at in enumerate(np.argsort(p), 1)}
        adjusted, smallest = np.empty_like(p), 1.0
        for at in np.argsort(p)[::-1]:
            smallest = min(smallest, p[at] * p.size / ranks[at])
            adjusted[at] = smallest
        return adjusted

    ours, adjusted = best(lambda: fdr(p))
    took, expected = best(loop)
    np.testing.assert_allclose(adjusted, expected)
    report(f"false discovery rate of {N_VOXELS} tests", ours, took)


def time_ceiling(rng: np.random.Generator) -> None:
    """Estimate noise ceilings."""
    repeats = rng.standard_normal((4, N_IMAGES, N_VOXELS))
    part = 500

    def loop() -> list[float]:
        shares = []
        for voxel in range(part):
            trials = repeats[:, :, voxel]
            each = [np.var(trial) for trial in trials]
            signal = (np.var(trials.sum(axis=0)) - sum(each)) / (4 * 3)
            shares.append(signal / np.mean(each))
        return shares

    ours, ceiling = best(lambda: noise_ceiling(repeats))
    took, expected = best(loop, 1)
    np.testing.assert_allclose(ceiling.explainable[:part], expected, atol=1e-12)
    report(f"noise ceiling in {N_VOXELS} voxels, 4 repeats", ours, took, part / N_VOXELS)


def main() -> None:
    """Time everything and print a table."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, ", end="")
    print(f"{threads} BLAS threads, NumPy {np.__version__}")
    print(f"{'':<58} {'imgtofmri':>12} {'the loop':>14} {'ratio':>10}")
    rng = np.random.default_rng(0)
    predicted, measured = data(rng)
    matrix = time_correlations(predicted, measured)
    time_diagonal(matrix)
    time_voxels(predicted, measured)
    time_fdr(rng)
    time_ceiling(rng)


if __name__ == "__main__":
    main()
