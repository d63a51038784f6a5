"""The jackknife over images, and the intervals of correlations that it gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import jackknife_interval, pearson_interval


def skewed(z: np.ndarray) -> np.ndarray:
    """Return values with a long tail above, of variance 1 if z has it."""
    return (np.exp(0.6 * z) - np.exp(0.18)) / np.sqrt(np.exp(0.72) - np.exp(0.36))


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_jackknife_interval_of_a_mean_is_students(rng: np.random.Generator, level: float) -> None:
    """Of a mean, Tukey's interval is that of Student's t, as SciPy has it."""
    values = rng.exponential(size=(12, 3))
    left_out = np.array([np.delete(values, at, axis=0).mean(axis=0) for at in range(12)])
    lower, upper = jackknife_interval(values.mean(axis=0), left_out, level)
    for at in range(3):
        expected = scipy.stats.ttest_1samp(values[:, at], 0).confidence_interval(level)
        np.testing.assert_allclose([lower[at], upper[at]], expected)


@pytest.mark.slow
def test_pearson_interval_equals_written_out_loops(rng: np.random.Generator) -> None:
    """A voxel's and a region's interval is the jackknife of Fisher's z, across blocks."""
    predicted, measured = rng.standard_normal((9, 700)) + 5, rng.standard_normal((9, 700))
    measured[:, 3] = 1.0
    regions = np.zeros((2, 700), dtype=bool)
    regions[0, :10] = regions[1, 400:650] = True
    r, left_out = np.full(700, np.nan), np.full((9, 700), np.nan)
    for voxel in set(range(700)) - {3}:
        x, y = predicted[:, voxel], measured[:, voxel]
        r[voxel] = scipy.stats.pearsonr(x, y).statistic
        for at in range(9):
            left_out[at, voxel] = np.corrcoef(np.delete(x, at), np.delete(y, at))[0, 1]

    def interval(r: float, left_out: np.ndarray) -> tuple[float, float]:
        pseudo = 9 * np.arctanh(r) - 8 * np.arctanh(left_out)
        half = scipy.stats.t.ppf(0.975, 8) * scipy.stats.sem(pseudo)
        return np.tanh(pseudo.mean() - half), np.tanh(pseudo.mean() + half)

    lower, upper = pearson_interval(predicted, measured)
    assert np.isnan([lower[3], upper[3]]).all()
    for voxel in (0, 511, 512, 699):
        expected = interval(r[voxel], left_out[:, voxel])
        np.testing.assert_allclose([lower[voxel], upper[voxel]], expected, atol=1e-9)
    lower, upper = pearson_interval(predicted, measured, regions=regions)
    for at, region in enumerate(regions):
        expected = interval(np.nanmean(r[region]), np.nanmean(left_out[:, region], axis=1))
        np.testing.assert_allclose([lower[at], upper[at]], expected, atol=1e-9)


@pytest.mark.parametrize("true", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("skew", [False, True])
def test_pearson_interval_covers_at_ten_images(
    rng: np.random.Generator, true: float, skew: bool
) -> None:
    """At 10 images 93 to 97 % of 20,000 intervals hold the true r, whether normal or skewed."""
    first, noise = rng.standard_normal((2, 10, 20_000))
    second = true * first + np.sqrt(1 - true**2) * noise
    if skew:
        first, second = skewed(first), skewed(second)
        true = (np.exp(0.36 * true) - 1) / (np.exp(0.36) - 1)
    lower, upper = pearson_interval(first, second)
    assert 0.93 < np.mean((lower <= true) & (true <= upper)) < 0.97


def test_pearson_interval_of_a_region_covers_at_ten_images(rng: np.random.Generator) -> None:
    """The mean over voxels that share part of their signal, true r 0.8, is covered too."""
    held = []
    for _ in range(1000):
        shared, own = rng.standard_normal((2, 10, 1)), rng.standard_normal((2, 10, 20))
        first, noise = np.sqrt(0.4) * shared + np.sqrt(0.6) * own
        second = 0.8 * first + 0.6 * noise
        lower, upper = pearson_interval(first, second, regions=np.ones((1, 20), bool))
        held.append(lower[0] <= 0.8 <= upper[0])
    assert 0.925 < np.mean(held) < 0.975


def test_pearson_interval_of_perfect_and_lone_variation_is_finite() -> None:
    """A prediction equal to the response has r 1 for certain; one image alone tells little."""
    ramp = np.arange(8.0)[:, None]
    np.testing.assert_allclose(pearson_interval(ramp, 2 * ramp), [[1], [1]])
    spike = np.eye(8)[:, :1]
    lower, upper = pearson_interval(spike, ramp)
    assert -1 < lower[0] < 0 < upper[0] < 1


def test_pearson_interval_errors_name_what_is_wrong(rng: np.random.Generator) -> None:
    """Levels, shapes, empty regions and too few images are refused by name."""
    data = rng.standard_normal((5, 4))
    with pytest.raises(OptionError, match=r"level must lie between 0 and 1; got 95"):
        pearson_interval(data, data, 95)
    with pytest.raises(ShapeError, match=r"regions must have shape \(n_regions, 4\); got \(1, 3\)"):
        pearson_interval(data, data, regions=np.ones((1, 3), dtype=bool))
    with pytest.raises(DataError, match=r"every region needs a voxel .* region 1 has none"):
        pearson_interval(data, data, regions=np.array([[True] * 4, [False] * 4]))
    with pytest.raises(DataError, match=r"needs at least 4 images; got 3"):
        pearson_interval(data[:3], data[:3])
