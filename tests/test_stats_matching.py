"""The matched-pattern statistic and its permutation test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, kstest, norm

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import (
    bootstrap_counts,
    bootstrap_diagonal,
    correlation_matrix,
    diagonal_statistic,
    diagonal_test,
    permutations,
)


def written_out_statistic(correlations: np.ndarray, cells: np.ndarray | None = None) -> float:
    """Average matched and mismatched entries in two loops."""
    matched, mismatched = [], []
    for row in range(len(correlations)):
        for column in range(len(correlations)):
            if cells is None or cells[row, column]:
                (matched if row == column else mismatched).append(correlations[row, column])
    return float(np.mean(matched) - np.mean(mismatched))


def test_correlation_matrix_equals_corrcoef_of_each_pair(rng: np.random.Generator) -> None:
    """Every entry is NumPy's correlation of that predicted with that measured pattern."""
    predicted, measured = rng.normal(5, 3, (7, 50)), rng.normal(-2, 9, (7, 50))
    expected = np.corrcoef(predicted, measured)[:7, 7:]
    np.testing.assert_allclose(correlation_matrix(predicted, measured), expected, atol=1e-13)


def test_diagonal_statistic_equals_written_out_loop(rng: np.random.Generator) -> None:
    """For any shape of stack and any cells, the statistic is the difference of two plain means."""
    stack = rng.standard_normal((2, 3, 6, 6))
    cells = rng.random(stack.shape) < 0.6
    cells[..., 0, 0] = cells[..., 0, 1] = True
    for at in np.ndindex(2, 3):
        assert diagonal_statistic(stack)[at] == pytest.approx(written_out_statistic(stack[at]))
        expected = written_out_statistic(stack[at], cells[at])
        assert diagonal_statistic(stack, cells)[at] == pytest.approx(expected)


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 1, 1, 2, 2, 2])])
def test_diagonal_test_null_equals_statistics_of_permuted_matrices(
    rng: np.random.Generator, groups: np.ndarray | None
) -> None:
    """Each null value is the written-out statistic of the matrix with its rows permuted."""
    stack = rng.standard_normal((3, 8, 8))
    result = diagonal_test(stack, 40, seed=4, groups=groups)
    orders = np.concatenate(list(permutations(8, 40, seed=4, groups=groups)))
    for draw, order in enumerate(orders):
        for test in range(3):
            expected = written_out_statistic(stack[test][order])
            assert result.null[draw, test] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(result.statistic, [written_out_statistic(m) for m in stack])
    counts = [(result.null[:, t] >= result.statistic[t]).sum() for t in range(3)]
    np.testing.assert_allclose(result.p, (np.array(counts) + 1) / 41)


def test_diagonal_test_blocks_equal_tests_of_the_submatrices(rng: np.random.Generator) -> None:
    """A block as cells, permuted within the block, has the null of the submatrix by itself."""
    matrix = rng.standard_normal((8, 8))
    groups = np.array([0, 1, 0, 1, 1, 0, 1, 1])
    inside = groups == 1
    cells = np.outer(inside, inside)
    result = diagonal_test(matrix, 60, seed=2, groups=groups, cells=cells)
    orders = np.concatenate(list(permutations(8, 60, seed=2, groups=groups)))
    for draw, order in enumerate(orders):
        expected = written_out_statistic(matrix[order][np.ix_(inside, inside)])
        assert result.null[draw, 0] == pytest.approx(expected, abs=1e-12)


def test_diagonal_test_identity_permutations_count_as_reached() -> None:
    """With two images, half of all permutations are the identity: p is near one half."""
    result = diagonal_test(np.array([[0.3, 0.1], [0.2, 0.7]]), 2000, seed=0)
    assert binomtest(round(result.p[0] * 2001) - 1, 2000, 0.5).pvalue > 1e-3


def test_diagonal_test_same_seed_same_result(rng: np.random.Generator) -> None:
    """The seed fixes the result, and a test's result does not depend on which others are made."""
    stack = rng.standard_normal((3, 12, 12))
    first, again = diagonal_test(stack, 500, seed=9), diagonal_test(stack, 500, seed=9)
    np.testing.assert_array_equal(first.null, again.null)
    np.testing.assert_allclose(first.null[:, [1]], diagonal_test(stack[1], 500, seed=9).null)
    assert not np.array_equal(first.null, diagonal_test(stack, 500, seed=10).null)


def test_diagonal_test_draws_ten_thousand_unless_told(rng: np.random.Generator) -> None:
    """So that p goes down to a ten thousandth."""
    assert diagonal_test(rng.standard_normal((4, 4))).null.shape == (10_000, 1)


@pytest.mark.slow
def test_diagonal_test_true_null_gives_uniform_p(rng: np.random.Generator) -> None:
    """Over 1,000 data sets of unrelated smooth patterns, p is uniform."""
    p = np.empty(1000)
    for data_set in range(p.size):
        # Cumulative sums: neighbouring voxels are alike, which must not matter.
        predicted = np.cumsum(rng.standard_normal((20, 60)), axis=1)
        measured = np.cumsum(rng.standard_normal((20, 60)), axis=1)
        correlations = correlation_matrix(predicted, measured)
        p[data_set] = diagonal_test(correlations, 199, seed=data_set).p[0]
    assert kstest(p - 0.5 / 200, "uniform").pvalue > 0.01


def test_diagonal_test_category_structure_alone_is_no_finding_within_categories(
    rng: np.random.Generator,
) -> None:
    """Patterns that know the category and nothing else: found over all images, not within."""
    groups = np.repeat(np.arange(4), 8)
    p_within, p_all = np.empty(300), np.empty(300)
    for data_set in range(300):
        of_category = rng.standard_normal((4, 80))[groups]
        predicted = of_category + rng.standard_normal((32, 80))
        measured = of_category + rng.standard_normal((32, 80))
        correlations = correlation_matrix(predicted, measured)
        p_all[data_set] = diagonal_test(correlations, 199, seed=data_set).p[0]
        p_within[data_set] = diagonal_test(correlations, 199, seed=data_set, groups=groups).p[0]
    assert p_all.max() < 0.05
    assert kstest(p_within - 0.5 / 200, "uniform").pvalue > 0.01


def test_diagonal_test_planted_effect_is_found_at_the_predicted_power(
    rng: np.random.Generator,
) -> None:
    """With independent normal correlations the power follows from the normal distribution.

    The mean of n matched minus that of n(n-1) mismatched entries of unit variance has variance
    1/n + 1/(n(n-1)); a shift of the diagonal is found at level 0.05 with the power of a z test.
    """
    n_images, shift, n_sets = 25, 0.4, 1000
    found = 0
    for data_set in range(n_sets):
        matrix = rng.standard_normal((n_images, n_images)) + shift * np.eye(n_images)
        found += diagonal_test(matrix, 399, seed=data_set).p[0] <= 0.05
    sd = np.sqrt(1 / n_images + 1 / (n_images * (n_images - 1)))
    power = norm.sf(norm.isf(0.05) - shift / sd)
    assert 0.4 < power < 0.8
    # Four standard errors, and 0.02 for the permutation null's estimating the variance.
    assert abs(found / n_sets - power) < 4 * np.sqrt(power * (1 - power) / n_sets) + 0.02


def test_correlation_matrix_constant_pattern_names_the_image(rng: np.random.Generator) -> None:
    """A pattern without variation has no correlation and is named."""
    patterns = rng.standard_normal((3, 10))
    flat = patterns.copy()
    flat[1] = 0.1
    with pytest.raises(DataError, match=r"measured image 'b.png' is constant over all 10 "):
        correlation_matrix(patterns, flat, names=["a.png", "b.png", "c.png"])
    with pytest.raises(DataError, match=r"predicted image in row 1 is constant"):
        correlation_matrix(flat, patterns)


def test_correlation_matrix_nan_names_image_and_voxel(rng: np.random.Generator) -> None:
    """A missing value is named by image and voxel."""
    patterns = rng.standard_normal((3, 10))
    holed = patterns.copy()
    holed[2, 7] = np.nan
    with pytest.raises(DataError, match=r"image 'c' holds nan at voxel 7, and 1 of 30 values"):
        correlation_matrix(patterns, holed, names=["a", "b", "c"])


def test_correlation_matrix_single_image_is_refused(rng: np.random.Generator) -> None:
    """One image has no mismatch."""
    with pytest.raises(DataError, match=r"needs at least 2 images; got 1"):
        correlation_matrix(rng.random((1, 5)), rng.random((1, 5)))


def test_correlation_matrix_mismatched_shapes_are_both_named(rng: np.random.Generator) -> None:
    """Different numbers of voxels are refused with both shapes."""
    with pytest.raises(ShapeError, match=r"got \(3, 5\) and \(3, 6\)"):
        correlation_matrix(rng.random((3, 5)), rng.random((3, 6)))
    with pytest.raises(
        ShapeError, match=r"names must hold one name for each of the 3 images; got 2"
    ):
        correlation_matrix(rng.random((3, 5)), rng.random((3, 5)), names=["a", "b"])


def test_diagonal_test_cells_that_a_permutation_leaves_are_refused(
    rng: np.random.Generator,
) -> None:
    """A block without matching groups has no constant sum, so it is refused by entry."""
    inside = np.array([True, True, False])
    with pytest.raises(OptionError, match=r"cells of test 0 must hold entry \(2, 0\)"):
        diagonal_test(rng.random((3, 3)), 10, cells=np.outer(inside, inside))


@pytest.mark.parametrize(
    ("matrix", "kind", "said"),
    [
        (np.ones((2, 3)), ShapeError, r"must have shape \(..., n_images, n_images\); got"),
        (np.ones((2, 2, 3, 3)), ShapeError, r"shape \(n_tests, n_images, n_images\); got"),
        (np.ones((1, 1)), DataError, r"test 0 has 1 on and 0 off it"),
        (np.array([[1, np.nan], [0, 1]]), DataError, r"test 0 holds nan at \(0, 1\)"),
    ],
)
def test_diagonal_test_unusable_correlations_say_what_is_wrong(
    matrix: np.ndarray, kind: type[Exception], said: str
) -> None:
    """Every kind of unusable input is named."""
    with pytest.raises(kind, match=said):
        diagonal_test(matrix, 10)


def test_diagonal_statistic_needs_both_kinds_of_entries() -> None:
    """One match and its mismatches will do; none on the diagonal, or none off it, will not."""
    cells = np.ones((3, 3), dtype=bool)
    cells[[1, 2], [1, 2]] = False
    assert diagonal_statistic(np.eye(3), cells) == 1.0 - 0.0
    cells[0, 0] = False
    with pytest.raises(DataError, match=r"test 0 has 0 on and 6 off it"):
        diagonal_statistic(np.eye(3), cells)
    with pytest.raises(DataError, match=r"test 0 has 3 on and 0 off it"):
        diagonal_statistic(np.eye(3), np.eye(3, dtype=bool))


def test_diagonal_statistic_cells_of_another_shape_are_refused() -> None:
    """Cells belong to matrices one to one."""
    with pytest.raises(ShapeError, match=r"cells must have the shape of correlations, \(3, 3\)"):
        diagonal_statistic(np.eye(3), np.ones((2, 2), dtype=bool))


def test_bootstrap_diagonal_equals_loop_over_resampled_pairs(rng: np.random.Generator) -> None:
    """A resample's statistic is that of its images, an image and its copy being no mismatch."""
    matrix = rng.standard_normal((6, 6))
    counts = bootstrap_counts(6, 30, seed=3)
    draws = bootstrap_diagonal(matrix, counts)
    for count, draw in zip(counts, draws, strict=True):
        images = np.repeat(np.arange(6), count.astype(int))
        matched = [matrix[i, i] for i in images]
        mismatched = [matrix[i, j] for i in images for j in images if i != j]
        assert draw == pytest.approx(np.mean(matched) - np.mean(mismatched))
    assert np.isnan(bootstrap_diagonal(matrix, np.array([[6.0, 0, 0, 0, 0, 0]])))[0]
