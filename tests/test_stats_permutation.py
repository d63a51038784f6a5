"""Permutations in bulk and p values from them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations as all_orders

import numpy as np
import pytest
from scipy.stats import chisquare, false_discovery_control, kstest

from imgtofmri.exceptions import OptionError, ShapeError
from imgtofmri.stats import (
    NullSummary,
    PermutationTest,
    bootstrap_counts,
    diagonal_test,
    max_statistic_p,
    permutation_p,
    permutations,
    sign_flips,
)


def drawn(*args: object, **kwargs: object) -> np.ndarray:
    """Join the chunks."""
    return np.concatenate(list(permutations(*args, **kwargs)))  # type: ignore[arg-type]


def test_permutations_of_four_items_are_uniform_over_all_orders() -> None:
    """Each of the 24 orders comes equally often."""
    chunk = drawn(4, 24_000, seed=3)
    codes = chunk @ np.array([64, 16, 4, 1])
    expected = [np.dot(order, [64, 16, 4, 1]) for order in all_orders(range(4))]
    counts = [np.count_nonzero(codes == code) for code in expected]
    assert sum(counts) == 24_000
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("groups", [None, list("abcab" * 60)])
def test_permutations_chunk_size_changes_nothing(groups: list[str] | None) -> None:
    """What is drawn depends on the seed alone, not on how it is cut into chunks."""
    whole = drawn(300, 50, seed=7, groups=groups, chunk_size=50)
    np.testing.assert_array_equal(whole, drawn(300, 50, seed=7, groups=groups, chunk_size=7))
    assert not np.array_equal(whole, drawn(300, 50, seed=8, groups=groups))


def test_permutations_groups_exchange_only_within() -> None:
    """Under every permutation each position holds an item of its own label, and items move."""
    groups = np.array(["face", "house", "face", "house", "face", "tool"])
    chunk = drawn(6, 500, seed=1, groups=groups)
    np.testing.assert_array_equal(groups[chunk], np.broadcast_to(groups, (500, 6)))
    np.testing.assert_array_equal(np.sort(chunk, axis=1), np.broadcast_to(np.arange(6), (500, 6)))
    assert {tuple(row) for row in chunk[:, [0, 2, 4]].tolist()} == set(all_orders([0, 2, 4]))


def test_permutations_label_missing_names_counts() -> None:
    """A label too few is refused with both counts."""
    with pytest.raises(
        ShapeError, match="groups must hold one label for each of the 3 items; got 2"
    ):
        next(permutations(3, 5, groups=["a", "b"]))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 5), "n_items"), ((5, 0), "n_permutations"), ((5, 5, 0, None, 0), "chunk_size")],
)
def test_permutations_count_below_one_is_named(arguments: tuple[int, ...], name: str) -> None:
    """A count of none is refused by name."""
    with pytest.raises(OptionError, match=f"{name} must be at least 1; got 0"):
        next(permutations(*arguments))  # type: ignore[arg-type]


def test_sign_flips_same_seed_same_signs_in_balance() -> None:
    """Signs are repeatable, -1 or 1, and balanced."""
    signs = sign_flips(40, 1000, seed=5)
    np.testing.assert_array_equal(signs, sign_flips(40, 1000, seed=5))
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 4 / np.sqrt(signs.size)


@pytest.mark.parametrize(("arguments", "name"), [((0, 5), "n_items"), ((5, 0), "n_permutations")])
def test_sign_flips_count_below_one_is_named(arguments: tuple[int, int], name: str) -> None:
    """As of permutations."""
    with pytest.raises(OptionError, match=f"{name} must be at least 1; got 0"):
        sign_flips(*arguments)


@pytest.mark.parametrize("n", [2**63, 10**9 + 1])
@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda n: next(permutations(5, n)), "n_permutations"),
        (lambda n: sign_flips(5, n), "n_permutations"),
        (lambda n: bootstrap_counts(5, n), "n_bootstraps"),
        (lambda n: diagonal_test(np.eye(5), n), "n_permutations"),
    ],
)
def test_more_draws_than_arrays_can_have_are_refused(
    draw: Callable[[int], object], name: str, n: int
) -> None:
    """NumPy's own words ended a command with a traceback."""
    with pytest.raises(OptionError, match=f"^{name} must be at most 1,000,000,000; got {n:,}"):
        draw(n)


@pytest.mark.parametrize("tail", ["greater", "less", "two-sided"])
def test_permutation_p_equals_written_out_loop(rng: np.random.Generator, tail: str) -> None:
    """P equals a loop over relabellings for arrays of any shape."""
    observed, null = rng.standard_normal((2, 3)), rng.standard_normal((50, 2, 3))
    turn = {"greater": lambda v: v, "less": lambda v: -v, "two-sided": abs}[tail]
    expected = np.empty((2, 3))
    for at in np.ndindex(2, 3):
        expected[at] = (sum(turn(draw[at]) >= turn(observed[at]) for draw in null) + 1) / 51
    np.testing.assert_allclose(permutation_p(observed, null, tail), expected)


def test_permutation_p_true_null_is_uniform(rng: np.random.Generator) -> None:
    """Exchangeable draws give p values that are uniform on 1/200 ... 1."""
    draws = rng.standard_normal((200, 3000))
    p = permutation_p(draws[0], draws[1:])
    assert kstest(p - 0.5 / 200, "uniform").pvalue > 1e-3


def test_permutation_p_tie_by_rounding_counts() -> None:
    """A relabelling that equals the data but for the order of addition counts as reached."""
    assert permutation_p(0.1 + 0.2 + 0.3, [0.3 + 0.2 + 0.1]) == 1.0


def test_permutation_p_nan_stays_nan() -> None:
    """A statistic that could not be computed has no p value."""
    assert np.isnan(permutation_p(np.nan, [1.0, 2.0]))


def test_permutation_p_wrong_shape_names_both() -> None:
    """Shapes that do not belong together are both named."""
    with pytest.raises(ShapeError, match=r".* got null \(5, 3\) and observed \(4,\)"):
        permutation_p(np.zeros(4), np.zeros((5, 3)))


def test_permutation_p_no_permutations_is_refused() -> None:
    """An empty null gives no p value."""
    with pytest.raises(OptionError, match="number of permutations must be at least 1; got 0"):
        permutation_p(np.zeros(4), np.zeros((0, 4)))


@pytest.mark.parametrize("tail", ["greater", "less", "two-sided"])
def test_null_summary_in_chunks_equals_the_whole(rng: np.random.Generator, tail: str) -> None:
    """Counting chunk by chunk gives the p values, mean and sd of the whole null at once."""
    observed, null = rng.normal(100, 1, 30), rng.normal(100, 1, (200, 30))
    observed[4] = np.nan
    null[:, 4] = np.nan
    summary = NullSummary(observed, tail)  # type: ignore[arg-type]
    for start in range(0, 200, 33):
        summary.update(null[start : start + 33])
    np.testing.assert_array_equal(summary.p, permutation_p(observed, null, tail))  # type: ignore[arg-type]
    np.testing.assert_array_equal(summary.p_max, max_statistic_p(observed, null, tail))  # type: ignore[arg-type]
    np.testing.assert_allclose(summary.mean, null.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(summary.sd, null.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("tail", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("n_null", [3, 4, 5, 50])
def test_null_summary_keeps_each_test_s_most_extreme(
    rng: np.random.Generator, tail: str, n_null: int
) -> None:
    """However they come in chunks: those of a sort of all, and all where there are no more."""
    null = rng.normal(size=(n_null, 6))
    summary = NullSummary(np.zeros(6), tail, n_kept=4)  # type: ignore[arg-type]
    for start in range(0, n_null, 3):
        summary.update(null[start : start + 3])
    extremes = {"greater": null, "less": -null, "two-sided": np.abs(null)}[tail]
    np.testing.assert_array_equal(np.sort(summary.extremes, axis=0), np.sort(extremes, axis=0)[-4:])
    assert not len(NullSummary(np.zeros(6)).extremes)


def test_null_summary_wrong_shape_names_it() -> None:
    """A chunk of another number of tests is refused."""
    with pytest.raises(ShapeError, match=r".* \(n_relabellings, 3\); got \(2, 4\)"):
        NullSummary(np.zeros(3)).update(np.zeros((2, 4)))


@pytest.mark.parametrize("standardise", [True, False])
def test_permutation_test_columns_equal_their_definitions(
    rng: np.random.Generator, standardise: bool
) -> None:
    """Moments are the null's, p values those of the functions; z is NaN where nothing varies."""
    observed, null = rng.normal(1, 1, 4), rng.standard_normal((50, 4)) * [1, 2, 3, 1]
    null[:, 3] = 0.5
    columns = PermutationTest(observed, null, standardise).columns()
    assert list(columns) == ["null_mean", "null_sd", "z", "p", "p_fdr", "p_max"]
    mean, sd = null.mean(axis=0), null[:, :3].std(axis=0)
    np.testing.assert_allclose(columns["null_mean"], mean)
    np.testing.assert_allclose(columns["null_sd"], [*sd, 0.0])
    np.testing.assert_allclose(columns["z"][:3], (observed - mean)[:3] / sd)
    assert np.isnan(columns["z"][3])
    counts = [(np.sum(null[:, test] >= observed[test]) + 1) / 51 for test in range(4)]
    np.testing.assert_allclose(columns["p"], counts)
    np.testing.assert_allclose(columns["p_fdr"], false_discovery_control(counts))
    expected = max_statistic_p(observed, null, standardise=standardise)
    np.testing.assert_array_equal(columns["p_max"], expected)
