"""How often prediction intervals of 95 % cover a new person's measurements, by simulation.

Run it with ``python benchmarks/intervals.py``. First with responses and residual variances that are
known, for each share that people's own effects can have in what is predicted; then with encoders
that ridge regression fitted to simulated measurements of each person.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import t as student_t

from imgtofmri.encoder.intervals import half_widths
from imgtofmri.regression import fit_ridge

LEVEL = 0.95
R2 = (0.05, 0.2, 0.4, 0.6, 0.8, 0.9)
N_DRAWS = 100_000
N_IMAGES, N_FEATURES, N_VOXELS, N_POPULATIONS = 400, 20, 200, 8
ALPHAS, FOLDS = 10.0 ** np.arange(-1, 5), np.arange(N_IMAGES) % 5

Widths = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


def satterthwaite(
    subjects: np.ndarray, coverage: np.ndarray, residual: np.ndarray, level: float
) -> np.ndarray:
    """Return half widths with Satterthwaite's own degrees of freedom, people weighing alike."""
    n = len(subjects)
    between = subjects.var(axis=0, ddof=1) * (1 + 1 / n)
    variance = between + residual
    freedom = (n - 1) * (variance / between) ** 2
    return student_t.ppf((1 + level) / 2, freedom) * np.sqrt(variance)


def known(
    rng: np.random.Generator, n_people: int, r2: float, own: float, widths: Widths
) -> tuple[float, float]:
    """Return coverage and mean half width where the true residual variance is known.

    ``r2`` of the variance of a measurement is predicted, and of that the share ``own`` is one
    person's alone. A measurement has variance 1.
    """
    common = rng.standard_normal(N_DRAWS) * np.sqrt(r2 * (1 - own))
    people = common + rng.standard_normal((n_people + 1, N_DRAWS)) * np.sqrt(r2 * own)
    measured = people[-1] + rng.standard_normal(N_DRAWS) * np.sqrt(1 - r2)
    residual = np.full(N_DRAWS, 1 - r2)
    maps = people[:-1, None]
    half = widths(maps, np.ones((n_people, N_DRAWS)), residual, LEVEL)[0]
    inside = np.abs(measured - people[:-1].mean(axis=0)) <= half
    return float(inside.mean()), float(half.mean())


def fitted(rng: np.random.Generator, n_people: int, r2: float, own: float) -> float:
    """Return coverage where each person's weights and residual variances are fitted."""
    inside = []
    for _ in range(N_POPULATIONS):
        scale = np.sqrt(r2 / N_FEATURES)
        common = rng.standard_normal((N_FEATURES, N_VOXELS)) * np.sqrt(1 - own) * scale
        shape = (n_people + 1, N_FEATURES, N_VOXELS)
        weights = common + rng.standard_normal(shape) * np.sqrt(own) * scale
        train = rng.standard_normal((N_IMAGES, N_FEATURES))
        new = rng.standard_normal((50, N_FEATURES))
        maps, residual = [], []
        for one in weights[:-1]:
            noise = rng.standard_normal((N_IMAGES, N_VOXELS)) * np.sqrt(1 - r2)
            fit = fit_ridge(train, train @ one + noise, alphas=ALPHAS, folds=FOLDS)
            maps.append(new @ fit.weights + fit.intercept)
            residual.append(fit.residual_variance)
        subjects = np.stack(maps)
        coverage = np.ones((n_people, N_VOXELS))
        half = half_widths(subjects, coverage, np.mean(residual, axis=0, dtype=float), LEVEL)
        noise = rng.standard_normal((50, N_VOXELS)) * np.sqrt(1 - r2)
        measured = new @ weights[-1] + noise
        inside.append(np.abs(measured - subjects.mean(axis=0)) <= half)
    return float(np.mean(inside))


def main() -> None:
    """Print the tables."""
    rng = np.random.default_rng(0)
    print("true R2".ljust(44), *(f"{r2:>6}" for r2 in R2))
    for n_people in (2, 3, 8):
        for own in (0.1, 0.3, 0.5, 0.75, 1.0):
            label = f"{n_people} people, {own:.0%} of it one person's own"
            for name, widths in (("", half_widths), ("  Satterthwaite's own", satterthwaite)):
                found = [known(rng, n_people, r2, own, widths) for r2 in R2]
                print((name or label).ljust(44), *(f"{inside:6.3f}" for inside, _ in found))
            print("  half width, SD of a measurement".ljust(44), end=" ")
            found = [known(rng, n_people, r2, own, half_widths) for r2 in R2]
            print(*(f"{half:6.2f}" for _, half in found))
    for n_people in (3, 8):
        for own in (0.3, 0.75):
            label = f"fitted, {n_people} people, {own:.0%} one person's own"
            print(label.ljust(44), *(f"{fitted(rng, n_people, r2, own):6.3f}" for r2 in R2))


if __name__ == "__main__":
    main()
