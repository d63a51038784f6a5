"""How often `rsa` calls differences that are none: false positives of its p values, by simulation.

    python benchmarks/rsa_inference.py [N_RUNS]

People share a geometry, so that on any fixed images two models that have nothing to do with it
differ for all of them alike. Counted is how often p is .05 or less: for two models unrelated to
people (greater than 0, and different from each other), and for two that are related equally much
(then the first is power). Beside it the test that holds images fixed, a t test over people.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.stats import ttest_1samp

from imgtofmri.rsa import TwoFactorBootstrap, calculate_rdm, compare_rdms

N_FEATURES, N_BOOTSTRAPS, NOISE = 20, 300, 0.7
SIZES = ((12, 8), (20, 5), (20, 15), (92, 15))


def main(n_runs: int = 400) -> None:
    """Measure and print."""
    print(f"{n_runs} runs, {N_BOOTSTRAPS} resamples; share of p <= .05")
    print(f"{'images people  models':32s}{'above 0':>10s}{'differ':>10s}{'(same images)':>15s}")
    for n_images, n_people in SIZES:
        for label, share in (("unrelated", 0.0), ("equally related", 1.0)):
            rates = _rates(n_images, n_people, share, n_runs)
            cells = "".join(f"{rate:10.3f}" for rate in rates[:2])
            print(f"{n_images:6d} {n_people:6d}  {label:16s}{cells}{rates[2]:15.3f}", flush=True)


def _rates(n_images: int, n_people: int, share: float, n_runs: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    above, differ, fixed = [], [], []
    for run in range(n_runs):
        shared = rng.normal(size=(n_images, N_FEATURES))
        people = calculate_rdm(shared + NOISE * rng.normal(size=(n_people, n_images, N_FEATURES)))
        models = calculate_rdm(share * shared + rng.normal(size=(2, n_images, N_FEATURES)))
        scores = TwoFactorBootstrap(people, N_BOOTSTRAPS, seed=run).scores(models)
        above.extend(scores.p(two_sided=False))
        differ.extend(scores.combined([[1, -1]]).p(two_sided=True))
        first, second = compare_rdms(models, people)
        fixed.append(ttest_1samp(first - second, 0).pvalue)
    return tuple(float(np.mean(np.array(p) <= 0.05)) for p in (above, differ, fixed))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
