"""False discovery rate and the maximum statistic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import fdr, max_statistic_p


@pytest.mark.parametrize("method", ["bh", "by"])
def test_fdr_random_p_values_equals_definition(rng: np.random.Generator, method: str) -> None:
    """Each adjusted value is the smallest rate at which its own or a larger p value is found."""
    p = np.round(rng.random(500) ** 2, 3)
    penalty = {"bh": 1.0, "by": sum(1 / rank for rank in range(1, 501))}[method]
    rates = np.array([value * penalty * p.size / np.sum(p <= value) for value in p])
    expected = [min(1.0, rates[p >= value].min()) for value in p]
    np.testing.assert_allclose(fdr(p, method), expected, rtol=1e-14)  # type: ignore[arg-type]


def test_fdr_nan_is_left_out_of_the_family() -> None:
    """A test that could not be made stays NaN and does not make the others' correction harder."""
    with_nan = fdr([[0.01, np.nan], [0.04, 0.2]])
    np.testing.assert_array_equal(np.isnan(with_nan), [[False, True], [False, False]])
    np.testing.assert_allclose(with_nan[~np.isnan(with_nan)], fdr([0.01, 0.04, 0.2]))


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_fdr_any_p_values_keeps_order_and_never_shrinks(p: np.ndarray) -> None:
    """Adjusted values keep the order of the p values, are at least them, and at most 1."""
    adjusted = fdr(p)
    assert np.all(adjusted >= p - 1e-15)
    assert np.all(adjusted <= 1)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


@pytest.mark.slow
def test_fdr_mixture_of_true_and_false_nulls_holds_its_rate(rng: np.random.Generator) -> None:
    """Over 2,000 families with 80 true nulls of 100, the mean false share is q times 0.8."""
    from scipy.stats import norm

    shares = np.empty(2000)
    for family in range(shares.size):
        z = rng.standard_normal(100)
        z[80:] += 3.0
        found = fdr(norm.sf(z)) <= 0.1
        shares[family] = found[:80].sum() / max(found.sum(), 1)
    standard_error = shares.std() / np.sqrt(shares.size)
    assert abs(shares.mean() - 0.1 * 0.8) < 4 * standard_error


@pytest.mark.parametrize("bad", [-0.1, 1.5])
def test_fdr_value_outside_unit_interval_names_it(bad: float) -> None:
    """A number that is no p value is refused by value and position."""
    with pytest.raises(DataError, match=rf"p_values .* got {bad:g} at position 1"):
        fdr([0.5, bad])


def test_fdr_unknown_method_lists_choices() -> None:
    """The valid methods are listed."""
    with pytest.raises(OptionError, match="method must be one of bh, by; got 'bf'"):
        fdr([0.5], "bf")  # type: ignore[arg-type]


@pytest.mark.parametrize("tail", ["greater", "less", "two-sided"])
def test_max_statistic_p_equals_written_out_loop(rng: np.random.Generator, tail: str) -> None:
    """The corrected p equals a loop over tests and relabellings."""
    observed, null = rng.normal(1, 2, 6), rng.standard_normal((99, 6))
    turn = {"greater": lambda v: v, "less": lambda v: -v, "two-sided": abs}[tail]
    expected = []
    for value in observed:
        count = sum(max(turn(v) for v in row) >= turn(value) for row in null)
        expected.append((count + 1) / 100)
    np.testing.assert_allclose(max_statistic_p(observed, null, tail), expected)


def test_max_statistic_p_standardised_ignores_the_units(rng: np.random.Generator) -> None:
    """With standardise, a test's scale and offset change no p value."""
    observed, null = rng.normal(1, 1, 4), rng.standard_normal((200, 4))
    scale, offset = np.array([1.0, 1000.0, 0.01, 7.0]), np.array([0.0, 5.0, -3.0, 1.0])
    np.testing.assert_array_equal(
        max_statistic_p(observed, null, standardise=True),
        max_statistic_p(observed * scale + offset, null * scale + offset, standardise=True),
    )


def test_max_statistic_p_standardised_test_that_never_varies_is_none(
    rng: np.random.Generator,
) -> None:
    """A region of one value under all relabellings says nothing, and spoils no other's p."""
    observed, null = rng.normal(2, 1, 3), rng.standard_normal((200, 3))
    without = max_statistic_p(observed[:2], null[:, :2], standardise=True)
    observed[2], null[:, 2] = 4.0, 4.0
    p = max_statistic_p(observed, null, standardise=True)
    np.testing.assert_array_equal(p[:2], without)
    assert p[2] > 0.05


@pytest.mark.parametrize("standardise", [False, True])
def test_max_statistic_p_true_null_holds_family_wise_error(
    rng: np.random.Generator, standardise: bool
) -> None:
    """Over 2,000 true-null families of correlated tests, one in twenty has any p <= 0.05."""
    mixing = rng.standard_normal((8, 8))
    found = np.empty(2000, dtype=bool)
    for family in range(found.size):
        draws = rng.standard_normal((200, 8)) @ mixing
        found[family] = max_statistic_p(draws[0], draws[1:], standardise=standardise).min() <= 0.05
    standard_error = np.sqrt(0.05 * 0.95 / found.size)
    assert abs(found.mean() - 0.05) < 4 * standard_error


def test_max_statistic_p_nan_test_stays_nan() -> None:
    """A test that could not be made stays NaN and does not spoil the others."""
    null = np.array([[0.0, np.nan], [1.0, np.nan]])
    np.testing.assert_allclose(max_statistic_p([2.0, np.nan], null), [1 / 3, np.nan])


def test_max_statistic_p_wrong_shape_names_both() -> None:
    """Shapes that do not belong together are both named."""
    with pytest.raises(ShapeError, match=r".* got null \(5, 3\) and observed \(4,\)"):
        max_statistic_p(np.zeros(4), np.zeros((5, 3)))


def test_max_statistic_p_unknown_tail_lists_choices() -> None:
    """The valid tails are listed."""
    with pytest.raises(OptionError, match="tail must be one of greater, less, two-sided; got 'up'"):
        max_statistic_p(np.zeros(2), np.zeros((5, 2)), "up")  # type: ignore[arg-type]
