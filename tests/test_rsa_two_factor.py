"""The bootstrap over people and images, against rsatoolbox and written-out loops."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from imgtofmri import rsa
from imgtofmri.rsa.two_factor import Draws, TwoFactorBootstrap, two_factor_variance, weighted_ranks

N_IMAGES, N_PEOPLE = 11, 5
TOOLBOX_NAMES = {"kendall": "tau-a", "pearson": "corr"}


@pytest.fixture
def data(rng: np.random.Generator) -> tuple[Any, Any]:
    """Return three models and the matrices of five people who carry the first, with ties."""
    patterns = rng.normal(size=(N_IMAGES, 20))
    people = rsa.calculate_rdm(patterns + rng.normal(size=(N_PEOPLE, N_IMAGES, 20)))
    models = np.stack([rsa.calculate_rdm(patterns), *rng.random((2, people.shape[1]))])
    models[1] = np.round(models[1], 1)
    return models, np.round(people, 2)


def _drawn(counts: Any) -> Any:
    """Return the items of each resample, in order."""
    return [np.repeat(np.arange(counts.shape[1]), row.astype(int)) for row in counts]


@pytest.mark.parametrize("method", rsa.COMPARISONS)
def test_two_factor_bootstrap_equals_rsatoolbox_on_the_same_resamples(
    method: str, data: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores in each resample, and variances of models, pairs and the ceiling, are rsatoolbox's."""
    import rsatoolbox as toolbox

    models, people = data
    n_bootstraps = 12
    bootstrap = TwoFactorBootstrap(people, n_bootstraps, method, seed=3)
    draws = list(zip(_drawn(bootstrap.people), _drawn(bootstrap.images), strict=True))
    handed: Iterator[Any] = itertools.chain.from_iterable(draws)
    monkeypatch.setattr(np.random, "randint", lambda low, high, size: next(handed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = toolbox.inference.eval_dual_bootstrap(
            [toolbox.model.ModelFixed(str(k), model) for k, model in enumerate(models)],
            toolbox.rdm.RDMs(people),
            method=TOOLBOX_NAMES.get(method, method),
            N=n_bootstraps,
        )
    scores, ceiling = bootstrap.scores(models), bootstrap.ceiling()
    theirs = np.moveaxis(result.evaluations[:, :, 0, 0], -1, 0)
    np.testing.assert_allclose(scores.values, theirs, atol=1e-12)
    lower = np.moveaxis(result.noise_ceiling[0, :, 0], -1, 0)
    np.testing.assert_allclose(ceiling.values[..., 0], lower, atol=1e-12)
    np.testing.assert_allclose(scores.standard_error**2, result.model_var, rtol=1e-9)
    pairs = scores.combined([[1, -1, 0], [1, 0, -1], [0, 1, -1]])
    np.testing.assert_allclose(pairs.standard_error**2, result.diff_var, rtol=1e-9)
    short = scores.beside(ceiling).combined(np.c_[np.eye(3), -np.ones(3)])
    np.testing.assert_allclose(short.standard_error**2, result.noise_ceil_var[:, 0], rtol=1e-9)
    assert scores.dof == result.dof == N_PEOPLE - 1
    # Its tests are around the mean of resamples, ours around the data.
    centred = Draws(theirs.mean(axis=(0, 1)), scores.values, N_PEOPLE, N_IMAGES)
    np.testing.assert_allclose(centred.p(two_sided=False), result.test_zero(), atol=1e-12)
    pairwise = result.test_pairwise()[np.triu_indices(3, 1)]
    differences = centred.combined([[1, -1, 0], [1, 0, -1], [0, 1, -1]])
    np.testing.assert_allclose(differences.p(two_sided=True), pairwise, atol=1e-12)


@pytest.mark.parametrize("method", rsa.COMPARISONS)
def test_two_factor_bootstrap_estimates_are_those_of_the_data(
    method: str, data: tuple[Any, Any]
) -> None:
    """Without resampling, scores are mean similarities and the ceiling is its lower bound."""
    models, people = data
    bootstrap = TwoFactorBootstrap(people, 2, method)
    expected = rsa.compare_rdms(models, people, method).mean(axis=1)
    np.testing.assert_allclose(bootstrap.scores(models).estimate, expected, atol=1e-12)
    ceiling = rsa.rdm_ceiling(people, method)
    assert bootstrap.ceiling().estimate[0] == pytest.approx(ceiling.lower, abs=1e-12)


@pytest.mark.parametrize("method", rsa.COMPARISONS)
def test_scores_above_chance_average_to_0_over_all_relabellings(
    method: str, rng: np.random.Generator
) -> None:
    """Over every one of the 120 orders of 5 images a model is as good as chance, exactly."""
    people = rng.random((3, 10))
    squares = rsa.to_square(np.stack([rng.random(10), np.round(rng.random(10))]))
    bootstrap = TwoFactorBootstrap(people, 1, method)
    upper = np.triu_indices(5, 1)
    total = np.zeros(2)
    for order in itertools.permutations(range(5)):
        moved = squares[:, order][:, :, order][:, upper[0], upper[1]]
        total += bootstrap.scores(moved, above_chance=True).estimate
    np.testing.assert_allclose(total / 120, 0.0, atol=1e-12)


def test_weighted_ranks_are_those_of_repeated_entries(rng: np.random.Generator) -> None:
    """Ranking entries that count several times is ranking them written out."""
    codes, weights = rng.integers(0, 9, (4, 30)), rng.integers(1, 4, 30)
    ranks = weighted_ranks(codes, weights.astype(float))
    for row, found in zip(codes, ranks, strict=True):
        np.testing.assert_array_equal(
            np.repeat(found, weights), 2 * rankdata(np.repeat(row, weights))
        )


def test_two_factor_variance_is_unbiased_for_a_sum_of_effects() -> None:
    """For the mean of a table of people and images, the combination is the true variance.

    The three bootstraps' variances of a mean are known in closed form, so that nothing is drawn.
    """
    rng = np.random.default_rng(5)
    n_people, n_images = 6, 9
    found = []
    for _ in range(4000):
        table = rng.normal(size=(n_people, 1)) + 0.7 * rng.normal(size=n_images)
        table = table + 1.5 * rng.normal(size=(n_people, n_images))
        people, images = table.mean(axis=1).var() / n_people, table.mean(axis=0).var() / n_images
        rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
        both = people + images + (rest**2).mean() / (n_people * n_images)
        unlimited = [both, people, images]
        found.append(two_factor_variance(unlimited, n_people, n_images))
    truth = 1 / n_people + 0.49 / n_images + 2.25 / (n_people * n_images)
    assert np.mean(found) == pytest.approx(truth, rel=0.03)


def test_draws_of_one_person_are_over_images(data: tuple[Any, Any]) -> None:
    """With one person the error is that of the bootstrap over images; p says nothing."""
    models, people = data
    scores = TwoFactorBootstrap(people[:1], 200).scores(models)
    expected = scores.values[2].std(axis=0, ddof=1) * np.sqrt(N_IMAGES / (N_IMAGES - 1))
    np.testing.assert_allclose(scores.standard_error, expected)
    assert np.isnan(scores.p(two_sided=True)).all()
    assert scores.dof == N_IMAGES - 1
    low, high = scores.interval()
    np.testing.assert_allclose((low + high) / 2, scores.estimate)


def test_two_factor_bootstrap_passes_over_resamples_without_a_geometry(
    rng: np.random.Generator,
) -> None:
    """With 4 images and 3 people some resamples have nothing to compare; the rest still count."""
    bootstrap = TwoFactorBootstrap(rng.random((3, 6)), 200)
    scores, ceiling = bootstrap.scores(rng.random((1, 6))), bootstrap.ceiling()
    n_images = np.count_nonzero(bootstrap.images, axis=1)
    assert np.isnan(scores.values[0, n_images < 3]).all()
    alone = np.count_nonzero(bootstrap.people, axis=1) < 2
    assert alone.any()
    assert np.isnan(ceiling.values[1, alone]).all()
    assert np.isfinite(scores.standard_error).all()
    assert np.isfinite(ceiling.standard_error).all()


def test_two_factor_bootstrap_same_seed_same_answer(data: tuple[Any, Any]) -> None:
    """The seed fixes every number, and models in another stack see the same resamples."""
    models, people = data
    values = [TwoFactorBootstrap(people, 20, seed=seed).scores(models).values for seed in (1, 1, 2)]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])
    alone = TwoFactorBootstrap(people, 20, seed=1).scores(models[1]).values
    np.testing.assert_array_equal(alone[..., 0], values[0][..., 1])


@pytest.mark.parametrize("n_people", [1, 3])
def test_two_factor_of_three_images_says_nothing_of_others(
    n_people: int, rng: np.random.Generator
) -> None:
    """Resamples of three images that hold three are the images themselves: no spread, but no 0.

    Intervals were without width, and p of models that know nothing below .05 in a sixth of cases.
    """
    bootstrap = TwoFactorBootstrap(rng.random((n_people, 3)), 100)
    for found in (bootstrap.scores(rng.random((2, 3))), bootstrap.ceiling()):
        assert np.isnan(found.standard_error).all()
        assert np.isnan(found.interval()).all()
        assert np.isnan(found.p(two_sided=False)).all()
    four = TwoFactorBootstrap(rng.random((n_people, 6)), 100).scores(rng.random((2, 6)))
    assert (four.standard_error > 0).all()


@pytest.mark.slow
def test_two_factor_p_of_unrelated_models_is_small_in_at_most_7_percent() -> None:
    """Two models that are equally unrelated to people who share a geometry seldom look different.

    80 data sets of 16 images and 8 people, 100 resamples each.
    """
    rng = np.random.default_rng(11)
    p_zero, p_pair = [], []
    for data_set in range(80):
        shared = rng.normal(size=(16, 20))
        people = rsa.calculate_rdm(shared + rng.normal(size=(8, 16, 20)))
        models = rsa.calculate_rdm(rng.normal(size=(2, 16, 20)))
        scores = TwoFactorBootstrap(people, 100, seed=data_set).scores(models)
        p_zero.extend(scores.p(two_sided=False))
        p_pair.extend(scores.combined([[1, -1]]).p(two_sided=True))
    assert np.mean(np.array(p_zero) <= 0.05) <= 0.07
    assert np.mean(np.array(p_pair) <= 0.05) <= 0.07


def test_two_factor_p_finds_a_planted_model(rng: np.random.Generator) -> None:
    """A model that people carry is told from chance and from one that they do not."""
    patterns = rng.normal(size=(20, 30))
    people = rsa.calculate_rdm(patterns + rng.normal(size=(8, 20, 30)))
    models = rsa.calculate_rdm(np.stack([patterns, rng.normal(size=(20, 30))]))
    scores = TwoFactorBootstrap(people, 300).scores(models)
    planted, other = scores.p(two_sided=False)
    assert planted < 1e-4 < 0.05 < other
    assert scores.combined([[1, -1]]).p(two_sided=True)[0] < 0.01
