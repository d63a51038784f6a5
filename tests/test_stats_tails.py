"""Small p values from a fitted tail."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from imgtofmri.stats import fdr, pearson_r, permutation_pearson
from imgtofmri.stats.tails import exponential_tail_p, n_exceedances


def test_exponential_tail_is_scipys_fit(rng: np.random.Generator) -> None:
    """The tail is the generalised Pareto distribution of shape 0 that SciPy fits."""
    null = rng.standard_normal((1000, 3))
    k = n_exceedances(1000)
    largest = np.sort(null, axis=0)[-k - 1 :]
    observed = np.array([3.5, 5.0, 2.9])
    counted = np.array([1, 1, 1]) / 1001
    p = exponential_tail_p(observed, largest, 1000, counted)
    for at in range(3):
        threshold = largest[0, at]
        shape = scipy.stats.expon(*scipy.stats.expon.fit(largest[1:, at], floc=threshold))
        assert p[at] == pytest.approx(min(0.1 * shape.sf(observed[at]), 10 / 1001))


def test_fitted_p_lies_by_the_parametric_p_under_a_known_null(rng: np.random.Generator) -> None:
    """With normal responses p follows Student's, never far below it, down to one in a million."""
    n, shift = 40, rng.random(400)
    measured = rng.standard_normal((n, 400))
    predicted = shift * measured + rng.standard_normal((n, 400))
    test = permutation_pearson(predicted, measured, 1000)
    r = pearson_r(predicted, measured)
    student = scipy.stats.t.sf(r * np.sqrt((n - 2) / (1 - r**2)), n - 2)
    small = (student < 5e-3) & (student > 1e-6)
    ratio = np.log10(test.p[small] / student[small])
    assert small.sum() > 100
    assert np.quantile(ratio, 0.02) > -0.4
    assert ratio.max() < 2.5
    assert 0 < np.median(ratio) < 0.8


@pytest.mark.parametrize("groups", [None, list("abbbbb")])
def test_fitted_p_of_few_images_is_not_below_that_of_all_their_orders(
    rng: np.random.Generator, groups: list[str] | None
) -> None:
    """Six images have 720 orders, 120 within two groups; a tail gave p of one in a million."""
    predicted = rng.standard_normal((6, 30))
    measured = predicted + 0.001 * rng.standard_normal((6, 30))
    orders = np.array(
        [
            order
            for order in itertools.permutations(range(6))
            if groups is None or all(groups[i] == groups[j] for i, j in enumerate(order))
        ]
    )
    null = np.array([pearson_r(predicted[order], measured) for order in orders])
    reached = np.count_nonzero(null >= pearson_r(predicted, measured) - 1e-12, axis=0)
    assert reached.min() == 1
    test = permutation_pearson(predicted, measured, 1000, groups=groups)
    assert test.p.min() >= (1 - 1e-12) / len(orders)


@pytest.mark.parametrize("log_normal", [False, True])
def test_null_finds_small_p_no_more_often_than_it_should(
    rng: np.random.Generator, log_normal: bool
) -> None:
    """In 10,000 unrelated voxels, p <= .01 and .001 come in no more than these shares."""
    predicted, measured = rng.standard_normal((2, 20, 10_000))
    if log_normal:
        predicted, measured = np.exp(0.8 * predicted), np.exp(0.8 * measured)
    test = permutation_pearson(predicted, measured, 400)
    assert np.mean(test.p <= 0.05) == pytest.approx(0.05, abs=0.01)
    assert 0.004 < np.mean(test.p <= 0.01) < 0.012
    assert np.mean(test.p <= 0.001) < 0.0015
    assert np.nanmin(test.p_fdr) > 0.05


@pytest.mark.parametrize("n_true", [5, 50])
def test_few_true_voxels_among_many_survive_the_false_discovery_rate(
    rng: np.random.Generator, n_true: int
) -> None:
    """Voxels of r about .9 are found among 3,000 at 500 permutations; counting finds none."""
    predicted, measured = rng.standard_normal((2, 30, 3000))
    measured[:, :n_true] = predicted[:, :n_true] + 0.4 * rng.standard_normal((30, n_true))
    test = permutation_pearson(predicted, measured, 500)
    found = test.p_fdr <= 0.05
    assert found[:n_true].all()
    assert found[n_true:].sum() <= 0.2 * n_true
    assert (test.p > 0).all()
    counted = np.maximum(test.p, 1 / 501)
    assert (fdr(counted) <= 0.05).sum() == 0


def test_few_permutations_are_counted(rng: np.random.Generator) -> None:
    """With fewer than 200 permutations no tail is fitted; with more, common p stay counts."""
    predicted = rng.standard_normal((12, 50))
    few = permutation_pearson(predicted, predicted, 199)
    np.testing.assert_array_equal(few.p, 1 / 200)
    many = permutation_pearson(predicted, rng.standard_normal((12, 50)), 300)
    common = many.p > 10 / 301
    np.testing.assert_allclose(many.p[common] * 301, np.round(many.p[common] * 301))
