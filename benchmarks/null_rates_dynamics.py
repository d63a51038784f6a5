"""How often `dynamics` calls unrelated models related, and how often it finds related ones.

    python benchmarks/null_rates_dynamics.py [--runs 300] [--case events] [--unrelated | --related]

Each run draws a film of 200 s at 2 Hz for a brain, and models that know nothing of it. The film's
series are of one of these kinds, all seen through haemodynamics, a TR of 2 s and a cutoff of 128 s:

- smooth: noise with an autocorrelation of 4 s
- events: patterns that hold for 16 s on average and change at once, in noise
- few: events of three patterns only, mixed into all voxels

Printed for each pair of kinds: how often p is .05 or less for a model, for the difference of two
unrelated models, and for the difference of two models that know the film equally well; the same
with near volumes left out; how often any of the lags around boundaries has p_max of .05 or less,
with boundaries where the brain's film changes and where the model's does; the share of intervals
over people that hold the agreement with other people; and how often a model is found that is the
film under noise of the model's kind, by the ratio of their standard deviations. ``--unrelated``
leaves out all that takes models which know something, and near volumes: a seventh of the time.
``--related`` counts only how often models are found that know something.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.dynamics import (
    Agreement,
    ModelSeries,
    RunSettings,
    boundary_effects,
    compare_dynamics,
    volume_operator,
)

TR_S, N_FRAMES, N_VOXELS = 2.0, 400, 60
N_SUBJECTS, N_SURROGATES = 12, 199
NOISES = (0.25, 0.5, 1.0, 1.5)
"""The noise's standard deviation over the film's, in models that know the film."""
ONSETS_S = np.arange(N_FRAMES) / 2
OPERATOR = volume_operator(ONSETS_S, TR_S, RunSettings(skip_volumes=3))
KINDS = ("smooth", "events", "few")

Array = NDArray[np.float64]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="films of each pair (default 300)")
    parser.add_argument("--case", choices=KINDS, action="append", help="kinds of the brain's film")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--unrelated", action="store_true", help="models that know nothing alone")
    only.add_argument("--related", action="store_true", help="models that know something alone")
    arguments = parser.parse_args()
    for brain in arguments.case or KINDS:
        for model in KINDS:
            found: dict[str, list[bool]] = defaultdict(list)
            for run in range(arguments.runs):
                rng = np.random.default_rng([run, 0])
                if arguments.related:
                    _related(brain, model, rng, found)
                else:
                    _one(brain, model, rng, found, arguments.unrelated)
            rates = ", ".join(f"{name} {np.mean(hits):.3f}" for name, hits in found.items())
            print(f"brain {brain}, model {model}, {arguments.runs} films: {rates}", flush=True)


def film(kind: str, rng: np.random.Generator) -> tuple[Array, NDArray[np.intp]]:
    """Return series of frames about means of their own, and the frames at which events begin."""
    lengths = np.maximum(rng.gamma(3, 16 / 3, N_FRAMES) * 2, 2).astype(int)
    starts = np.cumsum(lengths)
    starts = starts[starts < N_FRAMES]
    label = np.searchsorted(starts, np.arange(N_FRAMES), side="right")
    if kind == "smooth":
        series = rng.standard_normal((N_FRAMES + 100, N_VOXELS))
        for now in range(1, len(series)):
            series[now] += np.exp(-0.5 / 4) * series[now - 1]
        series = series[100:] / 2
    elif kind == "events":
        series = rng.standard_normal((label.max() + 1, N_VOXELS))[label]
        series = series + 0.7 * rng.standard_normal(series.shape)
    else:
        few = rng.standard_normal((label.max() + 1, 3))[label]
        series = few @ rng.standard_normal((3, N_VOXELS))
        series = series + 0.3 * rng.standard_normal(series.shape)
    return series + 2 * rng.standard_normal(N_VOXELS), starts


def people(shared: Array, rng: np.random.Generator, n_people: int, noise: float = 1.0) -> Array:
    """Return people who have a series in common, and slow noise of their own."""
    own = rng.standard_normal((n_people, len(shared), N_VOXELS))
    for now in range(1, len(shared)):
        own[:, now] += 0.4 * own[:, now - 1]
    scale = noise * shared.std(axis=0).mean() * 2
    return shared + scale * own / own.std()


def volumes_of(starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the volumes at which events begin that begin at these frames."""
    bounds = np.unique(np.round(starts / 2 / TR_S).astype(np.intp)) - 3
    return bounds[(bounds > 0) & (bounds < len(OPERATOR))]


def _one(
    brain: str, kind: str, rng: np.random.Generator, found: dict[str, list[bool]], unrelated: bool
) -> None:
    """Run all tests on one film."""
    frames, starts = film(brain, rng)
    shared = OPERATOR @ frames
    measured = people(shared, rng, N_SUBJECTS)
    one, own_starts = film(kind, rng)
    other, _ = film(KINDS[int(rng.integers(3))], rng)
    models = {"one": ModelSeries(one, OPERATOR), "other": ModelSeries(other, OPERATOR)}
    options = {"n_surrogates": N_SURROGATES, "n_brains": 1 if unrelated else 100}
    region = compare_dynamics(models, measured, **options)
    found["model"].append(region.mean_p[0] <= 0.05)
    found["difference"].append(region.mean_p[2] <= 0.05)
    for name, bounds in (("brain's", volumes_of(starts)), ("model's", volumes_of(own_starts))):
        effects = boundary_effects(region, bounds)
        found[f"any lag, {name} boundaries"].append(np.nanmin(effects.p_max[0]) <= 0.05)
        found[f"any lag, difference, {name} boundaries"].append(np.nanmin(effects.p_max[2]) <= 0.05)
    if unrelated:
        return
    knows = [frames + 1.5 * film(kind, rng)[0] for _ in range(2)]
    far = compare_dynamics(models, measured, compared=Agreement(min_lag=6), **options)
    found["model, 12 s left out"].append(far.mean_p[0] <= 0.05)
    both = {name: ModelSeries(x, OPERATOR) for name, x in zip("ab", knows, strict=True)}
    alike = compare_dynamics(both, measured, **options)
    found["difference of equals"].append(alike.mean_p[2] <= 0.05)
    found["relation found"].append(alike.mean_p[0] <= 0.05)
    low, high = alike.mean_limits()
    others = [
        compare_dynamics(both, people(shared, rng, N_SUBJECTS), n_surrogates=19) for _ in range(5)
    ]
    truth = np.mean([each.mean_agreement for each in others], axis=0)
    found["interval holds"].append(low[0] <= truth[0] <= high[0])
    found["interval of difference holds"].append(low[2] <= truth[2] <= high[2])


def _related(brain: str, kind: str, rng: np.random.Generator, found: dict[str, list[bool]]) -> None:
    """Test models that are a film under noise."""
    frames, _ = film(brain, rng)
    measured = people(OPERATOR @ frames, rng, N_SUBJECTS)
    noise, _ = film(kind, rng)
    noise *= frames.std(axis=0).mean() / noise.std(axis=0).mean()
    models = {f"noise {scale:g}": ModelSeries(frames + scale * noise, OPERATOR) for scale in NOISES}
    region = compare_dynamics(models, measured, n_surrogates=N_SURROGATES, n_brains=1)
    for name, p in zip(models, region.mean_p, strict=False):
        found[name].append(p <= 0.05)


if __name__ == "__main__":
    main()
