"""Bootstrap over images."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from imgtofmri.events import limits_of_samples
from imgtofmri.exceptions import OptionError
from imgtofmri.stats import bootstrap_counts, bootstrap_interval


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


def test_bootstrap_errors_name_what_is_wrong(rng: np.random.Generator) -> None:
    """A level in percent is refused by name."""
    with pytest.raises(OptionError, match=r"level must lie between 0 and 1; got 95"):
        bootstrap_interval(rng.standard_normal((5, 4)), 95)


@pytest.mark.parametrize(("level", "least"), [(0.95, 39), (0.9, 19), (0.5, 3)])
def test_bootstrap_interval_of_too_few_draws_is_none(
    level: float, least: int, rng: np.random.Generator
) -> None:
    """The range of n draws holds another one in (n - 1) / (n + 1) of cases; NaN do not count."""
    assert (least - 1) / (least + 1) == pytest.approx(level)
    draws = rng.standard_normal((least, 2))
    draws = np.concatenate([draws, np.full((3, 2), np.nan)])
    assert np.isfinite(bootstrap_interval(draws, level)).all()
    draws[0, 1] = np.nan
    for lower, upper in (bootstrap_interval(draws, level), limits_of_samples(draws, level)):
        assert np.isfinite([lower[0], upper[0]]).all()
        assert np.isnan([lower[1], upper[1]]).all()
