"""Bootstrap over images."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import bootstrap_counts, bootstrap_interval, bootstrap_pearson, pearson_r
from imgtofmri.stats.bootstrap import weighted_pearson


def test_bootstrap_counts_follow_the_multinomial_distribution() -> None:
    """Counts have the multinomial's mean, variance and covariance."""
    counts = bootstrap_counts(10, 40_000, seed=2)
    np.testing.assert_array_equal(counts.sum(axis=1), 10)
    covariance = np.cov(counts.T)
    expected = np.eye(10) - 0.1
    np.testing.assert_allclose(covariance, expected, atol=0.04)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_bootstrap_interval_equals_scipy(rng: np.random.Generator, level: float) -> None:
    """On the same draws of a skewed sample's mean, bounds equal SciPy's; NaN is passed over."""
    sample = rng.exponential(size=25)
    expected = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=3000, confidence_level=level, method="percentile", rng=rng
    )
    draws = [*expected.bootstrap_distribution, np.nan]
    np.testing.assert_allclose(bootstrap_interval(draws, level), expected.confidence_interval)


def test_weighted_pearson_equals_correlation_of_repeated_images(rng: np.random.Generator) -> None:
    """Weights are repeats: r equals that of the images written out as often as drawn."""
    predicted, measured = rng.standard_normal((12, 5)), rng.standard_normal((12, 5))
    counts = bootstrap_counts(12, 20, seed=1)
    r = weighted_pearson(counts, predicted, measured)
    for count, got in zip(counts.astype(int), r, strict=True):
        rows = np.repeat(np.arange(12), count)
        np.testing.assert_allclose(got, pearson_r(predicted[rows], measured[rows]), atol=1e-12)


def test_bootstrap_pearson_covers_the_true_correlation(rng: np.random.Generator) -> None:
    """Of 1,000 voxels with true r 0.6, about 95 percent of the intervals hold it."""
    shared = rng.standard_normal((120, 1000))
    noisy = 0.6 * shared + 0.8 * rng.standard_normal(shared.shape)
    lower, upper = bootstrap_pearson(shared, noisy, 800, seed=3)
    coverage = np.mean((lower <= 0.6) & (upper >= 0.6))
    # Percentile intervals are a little too narrow at 120 images.
    assert 0.92 < coverage < 0.965


def test_bootstrap_pearson_regions_equal_interval_of_mean_r(rng: np.random.Generator) -> None:
    """A region's interval is that of its voxels' mean r in each resample, constant voxels apart."""
    predicted, measured = rng.standard_normal((20, 700)), rng.standard_normal((20, 700))
    measured[:, 3] = 1.0
    regions = np.zeros((2, 700), dtype=bool)
    regions[0, :10] = regions[1, 400:650] = True
    lower, upper = bootstrap_pearson(predicted, measured, 50, seed=4, regions=regions)
    counts = bootstrap_counts(20, 50, seed=4).astype(int)
    for region, low, high in zip(regions, lower, upper, strict=True):
        means = []
        for count in counts:
            rows = np.repeat(np.arange(20), count)
            means.append(np.nanmean(pearson_r(predicted[rows], measured[rows])[region]))
        np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975]), atol=1e-12)


def test_bootstrap_pearson_same_seed_same_interval(rng: np.random.Generator) -> None:
    """The seed fixes the interval, and a constant voxel's is NaN."""
    predicted, measured = rng.standard_normal((10, 4)), rng.standard_normal((10, 4))
    measured[:, 2] = 5.0
    first = bootstrap_pearson(predicted, measured, 60, seed=1)
    np.testing.assert_array_equal(first, bootstrap_pearson(predicted, measured, 60, seed=1))
    np.testing.assert_array_equal(np.isnan(first[0]), [False, False, True, False])


def test_bootstrap_errors_name_what_is_wrong(rng: np.random.Generator) -> None:
    """Levels, shapes and empty regions are refused by name."""
    data = rng.standard_normal((5, 4))
    with pytest.raises(OptionError, match=r"level must lie between 0 and 1; got 95"):
        bootstrap_interval(data, 95)
    with pytest.raises(ShapeError, match=r"regions must have shape \(n_regions, 4\); got \(1, 3\)"):
        bootstrap_pearson(data, data, regions=np.ones((1, 3), dtype=bool))
    with pytest.raises(DataError, match=r"every region needs a voxel .* region 1 has none"):
        bootstrap_pearson(data, data, 10, regions=np.array([[True] * 4, [False] * 4]))
    with pytest.raises(DataError, match=r"needs at least 3 images; got 2"):
        bootstrap_pearson(data[:2], data[:2])
