"""Encoding accuracy for each voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, pearsonr
from sklearn.metrics import r2_score

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.stats import fdr, pearson_r, permutation_pearson, permutations, r_squared


def responses(rng: np.random.Generator, n_images: int, n_voxels: int) -> tuple[np.ndarray, ...]:
    """Make predicted and measured responses that share something."""
    shared = rng.standard_normal((n_images, n_voxels))
    first = 3 * shared + rng.standard_normal((n_images, n_voxels)) + 40
    return first, shared + rng.standard_normal((n_images, n_voxels)) - 7


def test_pearson_r_equals_scipy(rng: np.random.Generator) -> None:
    """Each voxel's r is SciPy's."""
    predicted, measured = responses(rng, 30, 12)
    expected = [pearsonr(predicted[:, v], measured[:, v]).statistic for v in range(12)]
    np.testing.assert_allclose(pearson_r(predicted, measured), expected, atol=1e-13)


def test_r_squared_equals_scikit_learn(rng: np.random.Generator) -> None:
    """Each voxel's R² is scikit-learn's, negative ones included."""
    predicted, measured = responses(rng, 30, 12)
    expected = r2_score(measured, predicted, multioutput="raw_values")
    np.testing.assert_allclose(r_squared(predicted, measured), expected, rtol=1e-12)
    assert expected.min() < 0


def test_accuracy_constant_voxel_is_nan(rng: np.random.Generator) -> None:
    """A voxel that never varies has no accuracy, and only that one."""
    predicted, measured = responses(rng, 10, 3)
    measured[:, 1] = 0.1
    for values in (pearson_r(predicted, measured), r_squared(predicted, measured)):
        np.testing.assert_array_equal(np.isnan(values), [False, True, False])
    test = permutation_pearson(predicted, measured, 20)
    for values in (test.r, test.p, test.p_fdr, test.p_max):
        np.testing.assert_array_equal(np.isnan(values), [False, True, False])


@pytest.mark.parametrize("groups", [None, np.repeat([0, 1, 2], 5)])
def test_permutation_pearson_equals_written_out_loop(
    rng: np.random.Generator, groups: np.ndarray | None
) -> None:
    """P, corrected p and moments equal a loop over permutations and voxels, across blocks."""
    predicted, measured = responses(rng, 15, 300)
    test = permutation_pearson(predicted, measured, 40, seed=6, groups=groups)
    orders = np.concatenate(list(permutations(15, 40, seed=6, groups=groups)))
    null = np.array([pearson_r(predicted[order], measured) for order in orders])
    r = pearson_r(predicted, measured)
    np.testing.assert_allclose(test.r, r)
    np.testing.assert_allclose(test.p, ((null >= r).sum(axis=0) + 1) / 41)
    np.testing.assert_allclose(test.p_fdr, fdr(test.p))
    reached = (null.max(axis=1)[:, None] >= r).sum(axis=0)
    np.testing.assert_allclose(test.p_max, (reached + 1) / 41)
    np.testing.assert_allclose(test.null_mean, null.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(test.null_sd, null.std(axis=0), rtol=1e-9)


def test_permutation_pearson_true_null_gives_uniform_p(rng: np.random.Generator) -> None:
    """In 1,000 voxels with unrelated predictions p is uniform, and in 1,000 regions of three."""
    predicted, measured = rng.standard_normal((30, 3000)), rng.standard_normal((30, 3000))
    regions = np.repeat(np.eye(1000, dtype=bool), 3, axis=1)
    test = permutation_pearson(predicted, measured, 199, regions=regions)
    assert test.regions is not None
    assert kstest(test.p[::3] - 0.5 / 200, "uniform").pvalue > 0.01
    assert kstest(test.regions.p - 0.5 / 200, "uniform").pvalue > 0.01


def test_permutation_pearson_voxels_subset_keeps_its_p(rng: np.random.Generator) -> None:
    """A voxel's p does not depend on which other voxels are tested, nor on how they are blocked."""
    predicted, measured = responses(rng, 20, 400)
    whole = permutation_pearson(predicted, measured, 50, seed=1)
    part = permutation_pearson(predicted[:, 100:390], measured[:, 100:390], 50, seed=1)
    np.testing.assert_array_equal(whole.p[100:390], part.p)


def test_accuracy_errors_name_what_is_wrong(rng: np.random.Generator) -> None:
    """Shapes, missing values and too few images are refused by name."""
    good = rng.random((4, 3))
    bad = good.copy()
    bad[3, 2] = np.inf
    with pytest.raises(ShapeError, match=r".* got \(4, 3\) and \(4, 2\)"):
        r_squared(good, good[:, :2])
    with pytest.raises(DataError, match=r"measured .* row 3 holds inf at voxel 2"):
        pearson_r(good, bad)
    bad[0, 0] = -np.inf
    with pytest.raises(DataError, match=r"row 0 holds -inf at voxel 0, and 2 of 12 values"):
        r_squared(bad, good)
    with pytest.raises(DataError, match=r"needs at least 2 images; got 1"):
        permutation_pearson(good[:1], good[:1])
    with pytest.raises(ShapeError, match="groups must hold one group for each of the 4"):
        permutation_pearson(good, good, 10, groups=["a"])


def test_permutation_pearson_regions_equal_a_written_loop(rng: np.random.Generator) -> None:
    """A region's p counts permutations of its mean r over voxels that vary, written out."""
    x = rng.standard_normal((12, 6))
    y = 0.6 * x + rng.standard_normal((12, 6))
    y[:, 2] = 3.0
    regions = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 0]], bool)
    test = permutation_pearson(x, y, 99, seed=3, regions=regions)
    assert test.regions is not None
    (orders,) = permutations(12, 99, seed=3)
    for region, voxels in enumerate(([0, 1], [3, 4, 5])):

        def mean_r(rows: np.ndarray, voxels: list[int] = voxels) -> float:
            return float(np.mean([np.corrcoef(rows[:, v], y[:, v])[0, 1] for v in voxels]))

        observed = mean_r(x)
        count = sum(mean_r(x[order]) >= observed - 1e-12 for order in orders)
        assert test.regions.r[region] == pytest.approx(observed)
        assert test.regions.p[region] == (count + 1) / 100
    assert np.isnan([test.regions.r[2], test.regions.p[2]]).all()
    np.testing.assert_array_equal(test.p, permutation_pearson(x, y, 99, seed=3).p)
    with pytest.raises(ShapeError, match=r"regions must have shape \(n_regions, 6\)"):
        permutation_pearson(x, y, 9, regions=regions[:, :3])
