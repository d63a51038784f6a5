"""Representational similarity, contrasts and selection against the obvious loops, in one run.

    python benchmarks/rsa.py

Each pair gives the same numbers (checked) and is timed in turn; loops that would take minutes are
run on a part and their time scaled, which the line then says. With rsatoolbox installed, its
functions are timed as well.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr, ttest_ind

from imgtofmri import rsa
from imgtofmri.analyses.contrast import permute_welch_t
from imgtofmri.analyses.select.solver import choose_by_pairs
from imgtofmri.stats import permutations

N_CONDITIONS, N_VOXELS, N_SUBJECTS, N_PERMUTATIONS = 156, 1600, 15, 1000


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(N_SUBJECTS, N_CONDITIONS, N_VOXELS))
    print(f"{N_CONDITIONS} conditions, {N_VOXELS} voxels, {N_SUBJECTS} subjects")
    print(f"{'':44s}{'ours':>10s}{'loop':>10s}{'ratio':>8s}")
    _matrices(patterns)
    rdms = rsa.calculate_rdm(patterns)
    _crossnobis(rng)
    _null(rdms)
    _contrast(rng)
    _pairs(rng)
    if importlib.util.find_spec("rsatoolbox"):
        _toolbox(patterns, rdms)


def _matrices(patterns: Any) -> None:
    def loop() -> Any:
        centred = patterns[0] - patterns[0].mean(axis=0)
        return [1 - np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(centred, 2)]

    expected, seconds = _timed(loop)
    got, ours = _timed(lambda: rsa.calculate_rdm(patterns), repeat=3)
    np.testing.assert_allclose(got[0], expected, atol=1e-10)
    _print("correlation matrices, all subjects", ours, seconds * N_SUBJECTS, "1 subject scaled")


def _crossnobis(rng: np.random.Generator) -> None:
    repeats = rng.normal(size=(6, 60, 500))

    def loop() -> Any:
        rows = []
        for i, j in itertools.combinations(range(60), 2):
            differences = repeats[:, i] - repeats[:, j]
            products = [a @ b for a, b in itertools.permutations(differences, 2)]
            rows.append(np.mean(products) / 500)
        return np.array(rows)

    expected, seconds = _timed(loop)
    got, ours = _timed(lambda: rsa.calculate_crossnobis(repeats), repeat=3)
    np.testing.assert_allclose(got, expected, atol=1e-10)
    _print("crossnobis, 6 repeats of 60 conditions", ours, seconds)


def _null(rdms: Any) -> None:
    models = rdms[:5]
    orders = next(permutations(N_CONDITIONS, N_PERMUTATIONS, seed=0))
    rows, columns = np.triu_indices(N_CONDITIONS, 1)

    def loop(some: Any, statistic: Callable[[Any, Any], Any]) -> Any:
        null = []
        for order in some:
            moved = [
                square[np.ix_(order, order)][rows, columns] for square in rsa.to_square(models)
            ]
            null.append([np.mean([statistic(m, s) for s in rdms]) for m in moved])
        return np.array(null)

    def spearman(a: Any, b: Any) -> Any:
        return spearmanr(a, b).statistic

    def tau(a: Any, b: Any) -> Any:
        return kendalltau(a, b).statistic

    for method, statistic, n_loop, n_ours in (
        ("spearman", spearman, 4, N_PERMUTATIONS),
        ("kendall", tau, 4, 20),
    ):
        expected, seconds = _timed(lambda: loop(orders[:n_loop], statistic))  # noqa: B023
        got, ours = _timed(
            lambda: rsa.permute_conditions(models, rdms, orders[:n_ours], method)  # noqa: B023
        )
        np.testing.assert_allclose(got[:n_loop], expected, atol=1e-10)
        note = f"{n_loop} scaled" + (f", ours {n_ours}" if n_ours < N_PERMUTATIONS else "")
        scaled = ours * N_PERMUTATIONS / n_ours, seconds * N_PERMUTATIONS / n_loop
        _print(f"1,000 relabellings, 5 models, {method}", *scaled, note)


def _contrast(rng: np.random.Generator) -> None:
    values, labels = rng.normal(size=(100, 9641)), np.repeat([0, 1], 50)
    orders = next(permutations(100, N_PERMUTATIONS, seed=0))

    def loop() -> Any:
        null = []
        for order in orders[:50]:
            moved = labels[order]
            null.append(
                ttest_ind(values[moved == 0], values[moved == 1], equal_var=False).statistic
            )
        return np.array(null)

    def ours() -> Any:
        chunks = permute_welch_t(values, labels, [1.0, -1.0], orders)
        return np.concatenate([chunk[:, :50] for chunk in chunks])

    expected, seconds = _timed(loop)
    got, mine = _timed(ours)
    np.testing.assert_allclose(got[:50], expected[:, :50], rtol=1e-8, atol=1e-10)
    _print("Welch t, 1,000 exchanges of 100 images", mine, seconds * 20, "scipy's t, 50 scaled")


def _pairs(rng: np.random.Generator) -> None:
    affinities = rng.normal(size=(300, 300))
    affinities = affinities + affinities.T
    np.fill_diagonal(affinities, 0.0)
    free, none = np.ones(300, dtype=bool), np.zeros((300, 0))

    def loop() -> Any:
        best = -np.inf
        starts = np.random.default_rng(0)
        for _ in range(8):
            members = starts.choice(300, 10, replace=False).tolist()
            value, improved = affinities[np.ix_(members, members)].sum(), True
            while improved:
                improved, choice = False, members
                for place in range(10):
                    for other in sorted(set(range(300)) - set(members)):
                        tried = [*members[:place], other, *members[place + 1 :]]
                        total = affinities[np.ix_(tried, tried)].sum()
                        if total > value + 1e-9:
                            value, choice, improved = total, tried, True
                members = choice
            best = max(best, value)
        return best

    expected, seconds = _timed(loop)
    got, ours = _timed(lambda: choose_by_pairs(affinities, 10, free, none, 0.1, 0), repeat=3)
    assert affinities[np.ix_(got, got)].sum() >= expected - 1e-9
    _print("10 of 300 images by pairs, 8 searches", ours, seconds)


def _toolbox(patterns: Any, rdms: Any) -> None:
    import rsatoolbox

    warnings.simplefilter("ignore")
    data = [rsatoolbox.data.Dataset(p - p.mean(axis=0)) for p in patterns]
    theirs, seconds = _timed(lambda: rsatoolbox.rdm.calc_rdm(data, method="correlation"))
    _, ours = _timed(lambda: rsa.calculate_rdm(patterns), repeat=3)
    _print("correlation matrices", ours, seconds, "rsatoolbox")
    for method, name in (("spearman", "spearman"), ("kendall", "tau-a")):
        expected, seconds = _timed(lambda: rsatoolbox.rdm.compare(theirs, theirs, name))  # noqa: B023
        got, ours = _timed(lambda: rsa.compare_rdms(rdms, rdms, method), repeat=3)  # noqa: B023
        np.testing.assert_allclose(got, expected, atol=1e-10)
        _print(f"15 x 15 comparisons, {method}", ours, seconds, "rsatoolbox")
    ceiling = rsatoolbox.inference.noise_ceiling.boot_noise_ceiling
    _, seconds = _timed(lambda: ceiling(theirs, "spearman"))
    _, ours = _timed(lambda: rsa.rdm_ceiling(rdms, "spearman"), repeat=3)
    _print("noise ceiling, spearman", ours, seconds, "rsatoolbox")


def _timed(work: Callable[[], Any], repeat: int = 1) -> tuple[Any, float]:
    """Return what the work gives and its shortest time in seconds."""
    best = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return result, best


def _print(what: str, ours: float, loop: float, note: str = "") -> None:
    print(f"{what:44s}{ours * 1e3:8.1f}ms{loop * 1e3:8.0f}ms{loop / ours:7.0f}x  {note}")


if __name__ == "__main__":
    main()
