"""P values where null statistics are not independent of each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from imgtofmri.stats import n_effective, shrunk_z


def test_n_effective_of_independent_values_is_about_their_number(
    rng: np.random.Generator,
) -> None:
    """All lags but none add as much as none does: of white noise it is about one half."""
    found = n_effective(rng.standard_normal((400, 50)))
    assert found.shape == (50,)
    assert np.median(found) == pytest.approx(200, rel=0.1)


def test_n_effective_predicts_how_variances_vary() -> None:
    """The variance of circular noise is as uncertain as that of so many values, or of some more.

    Autocorrelations that are estimated are never 0, so that their squares add up to too much.
    """
    rng = np.random.default_rng(5)
    gain = np.exp(-0.5 * (np.minimum(np.arange(200), 200 - np.arange(200)) / 8) ** 2)
    spectrum = np.fft.fft(rng.standard_normal((200, 4000)), axis=0)
    series = np.fft.ifft(spectrum * np.abs(np.fft.fft(gain))[:, None], axis=0).real
    # The mean is known here: what is taken out with it is not what this is about.
    variances = np.mean(series**2, axis=0)
    n_true = 2 * variances.mean() ** 2 / variances.var()
    assert 0.6 * n_true < np.median(n_effective(series)) < n_true


def test_n_effective_does_not_depend_on_repeats_or_scale(rng: np.random.Generator) -> None:
    """Each value twice tells nothing more, and units are none of its business."""
    series = np.cumsum(rng.standard_normal(64))
    series -= np.linspace(0, series[-1], 64)
    once = n_effective(series)
    np.testing.assert_allclose(n_effective(np.repeat(7 * series + 3, 4)), once, rtol=0.1)


def test_n_effective_of_what_does_not_vary_is_the_least() -> None:
    """A constant counts as the fewest, a missing statistic stays missing."""
    found = n_effective(np.column_stack([np.ones(20), np.full(20, np.nan)]))
    np.testing.assert_array_equal(found, [2.0, np.nan])


@pytest.mark.parametrize("n", [4, 12])
def test_shrunk_z_is_normal_where_mean_and_spread_are_estimated(n: int) -> None:
    """By a normal null of few values it is standard normal, as far out as one looks; z is not."""
    rng = np.random.default_rng(0)
    null = rng.standard_normal((n, 100_000))
    z = (rng.standard_normal(100_000) - null.mean(axis=0)) / null.std(axis=0, ddof=1)
    shrunk = shrunk_z(z, n)
    for level in (0.5, 0.1, 0.05, 0.01):
        threshold = stats.norm.isf(level)
        assert np.mean(shrunk >= threshold) == pytest.approx(level, rel=0.06)
    assert np.mean(z >= stats.norm.isf(0.01)) > 0.017


def test_shrunk_z_keeps_sign_order_and_what_is_missing() -> None:
    """It is odd and rises; infinitely many values change nothing."""
    z = np.array([-30.0, -2.0, 0.0, 2.0, 30.0])
    shrunk = shrunk_z(z, 8)
    np.testing.assert_allclose(shrunk, -shrunk[::-1])
    assert (np.diff(shrunk) > 0).all()
    assert (np.abs(shrunk) <= np.abs(z)).all()
    np.testing.assert_allclose(shrunk_z(z[1:4], 1e9), z[1:4], atol=1e-6)
    assert np.isnan(shrunk_z(np.nan, 8))
