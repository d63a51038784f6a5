"""Representational similarity on arrays."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kstest, pearsonr, spearmanr

from imgtofmri import rsa
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import permutation_p, permutations

GOLDEN = Path(__file__).parent / "golden" / "rsatoolbox.json"


def golden_patterns() -> Any:
    """Return the patterns of tools/make_rsa_golden.py: (subjects, repeats, conditions, voxels)."""
    index = np.arange(5 * 3 * 8 * 12, dtype=np.float64)
    return (np.sin(index * 0.7391) * np.cos(index**2 * 0.0137)).reshape(5, 3, 8, 12)


@pytest.fixture(scope="module")
def golden() -> Any:
    """Return what rsatoolbox 0.3.2 gave on those patterns."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def our_rdms() -> dict[str, Any]:
    """Return the same five stacks of matrices from this package."""
    patterns = golden_patterns()
    means = patterns.mean(axis=1)
    precision = np.diag(np.linspace(0.5, 2.0, 12)) + 0.05
    return {
        "correlation": rsa.calculate_rdm(means, "correlation", remove_voxel_mean=False),
        "correlation_centred": rsa.calculate_rdm(means, "correlation"),
        "euclidean": rsa.calculate_rdm(means, "euclidean"),
        "crossnobis": rsa.calculate_crossnobis(patterns),
        "crossnobis_precision": rsa.calculate_crossnobis(patterns, precision),
    }


@pytest.mark.parametrize(
    "name",
    ["correlation", "correlation_centred", "euclidean", "crossnobis", "crossnobis_precision"],
)
def test_calculate_rdm_equals_rsatoolbox(golden: Any, name: str) -> None:
    """Every dissimilarity equals rsatoolbox's to 1e-10."""
    expected = np.array(golden["dissimilarities"][name])
    np.testing.assert_allclose(our_rdms()[name], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", rsa.COMPARISONS)
def test_compare_rdms_equals_rsatoolbox(golden: Any, method: str) -> None:
    """Every comparison equals rsatoolbox's to 1e-10, with ties in one matrix too."""
    rdms = our_rdms()
    measured = rdms["correlation_centred"]
    plain = rsa.compare_rdms(rdms["euclidean"], measured, method)
    tied = rsa.compare_rdms(np.round(measured, 1), measured, method)
    expected = golden["comparisons"][method]
    np.testing.assert_allclose(plain, expected["plain"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(tied, expected["tied"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", rsa.COMPARISONS)
def test_rdm_ceiling_equals_rsatoolbox(golden: Any, method: str) -> None:
    """Both bounds equal rsatoolbox's leave-one-out ceiling to 1e-10."""
    ceiling = rsa.rdm_ceiling(our_rdms()["correlation_centred"], method)
    np.testing.assert_allclose(
        (ceiling.lower, ceiling.upper), golden["ceilings"][method], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("method", rsa.COMPARISONS)
def test_rsa_equals_installed_rsatoolbox(method: str, rng: np.random.Generator) -> None:
    """On fresh random patterns the chain equals the rsatoolbox that is installed."""
    import rsatoolbox as toolbox

    patterns = rng.normal(size=(4, 9, 30))
    ours = rsa.calculate_rdm(patterns, "correlation")
    theirs = toolbox.rdm.calc_rdm(
        [toolbox.data.Dataset(p - p.mean(axis=0)) for p in patterns], method="correlation"
    )
    np.testing.assert_allclose(ours, theirs.get_vectors(), rtol=0, atol=1e-10)
    name = {"kendall": "tau-a", "pearson": "corr"}.get(method, method)
    np.testing.assert_allclose(
        rsa.compare_rdms(ours, ours[::-1], method),
        toolbox.rdm.compare(theirs, theirs[[3, 2, 1, 0]], name),
        rtol=0,
        atol=1e-10,
    )


def test_calculate_rdm_equals_scipy_pdist(rng: np.random.Generator) -> None:
    """Scipy's pdist gives the same distances for one subject."""
    patterns = rng.normal(size=(7, 20)) + 5.0
    centred = patterns - patterns.mean(axis=0)
    np.testing.assert_allclose(
        rsa.calculate_rdm(patterns, "correlation"), pdist(centred, "correlation"), atol=1e-12
    )
    np.testing.assert_allclose(
        rsa.calculate_rdm(patterns, "euclidean"), pdist(patterns, "sqeuclidean") / 20, atol=1e-12
    )


def test_calculate_rdm_stack_equals_each(rng: np.random.Generator) -> None:
    """A stack of subjects gives what each subject alone gives."""
    patterns = rng.normal(size=(2, 3, 6, 10))
    stack = rsa.calculate_rdm(patterns)
    assert stack.shape == (2, 3, 15)
    np.testing.assert_allclose(stack[1, 2], rsa.calculate_rdm(patterns[1, 2]), atol=1e-13)


def test_calculate_crossnobis_equals_loop_over_pairs_of_repeats(rng: np.random.Generator) -> None:
    """The two products equal the mean over all ordered pairs of different repeats."""
    patterns = rng.normal(size=(4, 5, 6))
    precision = np.linspace(0.5, 1.5, 6)
    loop = np.zeros((5, 5))
    for first in range(4):
        for second in range(4):
            if first != second:
                for i in range(5):
                    for j in range(5):
                        a = patterns[first, i] - patterns[first, j]
                        b = patterns[second, i] - patterns[second, j]
                        loop[i, j] += (a * precision) @ b / (4 * 3 * 6)
    got = rsa.calculate_crossnobis(patterns, precision)
    np.testing.assert_allclose(rsa.to_square(got), loop, atol=1e-12)


def test_calculate_crossnobis_of_noise_is_zero_on_average(rng: np.random.Generator) -> None:
    """Where conditions do not differ, the estimate is unbiased and the plain distance is not."""
    patterns = rng.normal(size=(4000, 3, 2, 10))
    crossed = rsa.calculate_crossnobis(patterns)[:, 0]
    plain = rsa.calculate_rdm(patterns.mean(axis=1), "euclidean")[:, 0]
    assert abs(crossed.mean()) < 5 * crossed.std() / np.sqrt(4000)
    assert plain.mean() > 0.5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 300),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_compare_rdms_kendall_equals_signs_of_all_pairs(n: int, decimals: int, seed: int) -> None:
    """Tau-a is exactly the mean product of signs over all pairs, with ties or without."""
    rng = np.random.default_rng(seed)
    x, y = np.round(rng.normal(size=(2, 3, n)), decimals)
    # A constant row is refused.
    x[:, 0], y[:, 0] = 9.0, -9.0
    upper = np.triu_indices(n, 1)
    signs_x = np.sign(x[:, :, None] - x[:, None])[:, upper[0], upper[1]]
    signs_y = np.sign(y[:, :, None] - y[:, None])[:, upper[0], upper[1]]
    expected = signs_x @ signs_y.T / (n * (n - 1) / 2)
    np.testing.assert_array_equal(rsa.compare_rdms(x, y, "kendall"), expected)


def test_compare_rdms_kendall_of_many_conditions_is_exact() -> None:
    """Where counts of pairs outgrow 32 bits, one swapped pair still changes tau-a by that pair."""
    rising = np.arange(79_800.0)  # 400 conditions
    swapped = rising.copy()
    swapped[[0, 1]] = 1.0, 0.0
    n_pairs = 79_800 * 79_799 // 2
    assert rsa.compare_rdms(rising, swapped, "kendall")[0, 0] == (n_pairs - 2) / n_pairs


@pytest.mark.parametrize("method", ["spearman", "kendall"])
@pytest.mark.parametrize("measure", ["euclidean", "correlation"])
def test_rank_comparisons_take_what_rounding_parts_for_ties(
    method: str, measure: str, rng: np.random.Generator
) -> None:
    """A model of categories has few dissimilarities, whatever the last bits of each are."""
    categories = np.repeat(np.eye(3), [5, 7, 4], axis=0)
    model = rsa.calculate_rdm(categories, measure)
    rounded = model.round(10)
    assert len(np.unique(model)) > len(np.unique(rounded))
    measured = rounded + rng.standard_normal((4, model.size))
    expected = rsa.compare_rdms(rounded, measured, method)
    np.testing.assert_array_equal(rsa.compare_rdms(model, measured, method), expected)
    orders = next(permutations(16, 20))
    np.testing.assert_array_equal(
        rsa.permute_conditions(model, measured, orders, method),
        rsa.permute_conditions(rounded, measured, orders, method),
    )
    people = np.stack([model, np.roll(model, 16), np.roll(model, 50)])
    for bound in ("lower", "upper"):
        of_rounded = getattr(rsa.rdm_ceiling(people.round(10), method), bound)
        assert getattr(rsa.rdm_ceiling(people, method), bound) == of_rounded
    bootstrap = rsa.TwoFactorBootstrap(measured, 20, method)
    of_model, of_rounded = bootstrap.scores(model), bootstrap.scores(rounded)
    np.testing.assert_array_equal(of_model.values, of_rounded.values)


def test_compare_rdms_equals_scipy(rng: np.random.Generator) -> None:
    """Spearman and Pearson equal scipy's, with ties."""
    x, y = np.round(rng.normal(size=(2, 45)), 1)
    assert rsa.compare_rdms(x, y, "spearman")[0, 0] == pytest.approx(spearmanr(x, y).statistic)
    assert rsa.compare_rdms(x, y, "pearson")[0, 0] == pytest.approx(pearsonr(x, y).statistic)


@pytest.mark.parametrize("method", rsa.COMPARISONS)
def test_permute_conditions_equals_loop(method: str, rng: np.random.Generator) -> None:
    """Relabelling inside equals permuting rows and columns and comparing, one by one."""
    models, subjects = rng.normal(size=(2, 15)), rng.normal(size=(4, 15))
    models[1] = np.round(models[1])
    orders = np.stack([np.arange(6), *rng.permuted(np.tile(np.arange(6), (7, 1)), axis=1)])
    null = rsa.permute_conditions(models, subjects, orders, method)
    for row, order in zip(null, orders, strict=True):
        moved = np.stack([squareform(squareform(m)[np.ix_(order, order)]) for m in models])
        expected = rsa.compare_rdms(moved, subjects, method).mean(axis=1)
        np.testing.assert_allclose(row, expected, atol=1e-12)
    observed = rsa.compare_rdms(models, subjects, method).mean(axis=1)
    np.testing.assert_allclose(null[0], observed, atol=1e-12)


def test_permute_conditions_chunks_do_not_matter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory bound changes no number."""
    models, subjects = rng.normal(size=(2, 15)), rng.normal(size=(3, 15))
    orders = rng.permuted(np.tile(np.arange(6), (20, 1)), axis=1)
    whole = rsa.permute_conditions(models, subjects, orders)
    monkeypatch.setattr("imgtofmri.rsa.inference.CHUNK_ENTRIES", 30)
    parts = rsa.permute_conditions(models, subjects, orders)
    np.testing.assert_allclose(parts, whole, atol=1e-15)


@pytest.mark.slow
def test_permute_conditions_null_p_is_uniform() -> None:
    """Over 1,000 data sets without a relation, p values are uniform (Kolmogorov-Smirnov)."""
    rng = np.random.default_rng(7)
    p_values = np.empty(1000)
    for data_set in range(1000):
        model = rsa.calculate_rdm(rng.normal(size=(12, 6)))
        # Subjects share structure with each other, not with the model.
        shared = rng.normal(size=(12, 6))
        subjects = rsa.calculate_rdm(shared + rng.normal(size=(5, 12, 6)))
        orders = next(permutations(12, 199, seed=data_set))
        observed = rsa.compare_rdms(model, subjects).mean(axis=1)
        null = rsa.permute_conditions(model, subjects, orders)
        p_values[data_set] = permutation_p(observed, null)[0]
    # p is uniform on 1/200 ... 1: jitter within its step before the continuous test.
    jittered = p_values - rng.random(1000) / 200
    assert kstest(jittered, "uniform").pvalue > 0.01


def test_permute_conditions_planted_relation_is_found(rng: np.random.Generator) -> None:
    """Subjects that carry the model's geometry reach the smallest p there is."""
    patterns = rng.normal(size=(15, 40))
    subjects = rsa.calculate_rdm(patterns + 0.5 * rng.normal(size=(4, 15, 40)))
    model = rsa.calculate_rdm(patterns)
    orders = next(permutations(15, 999, seed=0))
    observed = rsa.compare_rdms(model, subjects).mean(axis=1)
    p = permutation_p(observed, rsa.permute_conditions(model, subjects, orders))
    assert p[0] == 1 / 1000


@pytest.mark.parametrize("method", ["spearman", "pearson", "cosine"])
def test_rdm_ceiling_upper_bounds_random_models(method: str, rng: np.random.Generator) -> None:
    """No model exceeds the upper bound on average over subjects, the pooled matrix attains it."""
    subjects = np.abs(rng.normal(size=(6, 28)) + rng.normal(size=28))
    ceiling = rsa.rdm_ceiling(subjects, method)
    models = np.vstack([subjects, np.abs(rng.normal(size=(200, 28)))])
    reached = rsa.compare_rdms(models, subjects, method).mean(axis=1)
    assert reached.max() <= ceiling.upper + 1e-12
    assert ceiling.lower < ceiling.upper


def test_embed_rdm_recovers_points_in_a_plane(rng: np.random.Generator) -> None:
    """Distances between points of a plane are reproduced exactly."""
    points = rng.normal(size=(12, 2))
    found, stress = rsa.embed_rdm(pdist(points))
    np.testing.assert_allclose(pdist(found), pdist(points), atol=1e-6)
    assert stress < 1e-7


def test_embed_rdm_misfits_less_than_classical_scaling(rng: np.random.Generator) -> None:
    """The stress told is that of the points, below that of the principal axes; no draw decides."""
    rdm = rsa.calculate_rdm(rng.normal(size=(15, 30)))
    points, stress = rsa.embed_rdm(rdm)
    assert stress == pytest.approx(np.linalg.norm(pdist(points) - rdm) / np.linalg.norm(rdm))
    centring = np.eye(15) - 1 / 15
    values, vectors = np.linalg.eigh(-0.5 * centring @ squareform(rdm) ** 2 @ centring)
    axes = vectors[:, -2:] * np.sqrt(values[-2:])
    assert stress < np.linalg.norm(pdist(axes) - rdm) / np.linalg.norm(rdm)
    np.testing.assert_array_equal(points, rsa.embed_rdm(rdm)[0])


def test_embed_rdm_places_equal_and_negative_dissimilarities(rng: np.random.Generator) -> None:
    """Conditions that do not differ fall together, and below 0 counts as 0."""
    points = rng.normal(size=(7, 2))
    points[0] = points[1]
    vector = pdist(points)
    vector[0] = -0.3
    found, stress = rsa.embed_rdm(vector)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert stress < 1e-6


def test_to_square_to_vector_round_trip(rng: np.random.Generator) -> None:
    """Both directions undo each other, over leading axes."""
    vectors = rng.normal(size=(2, 3, 10))
    np.testing.assert_array_equal(rsa.to_vector(rsa.to_square(vectors)), vectors)


def test_rdms_select_reorders(rng: np.random.Generator) -> None:
    """Selected conditions come in the order asked for."""
    square = squareform(rng.random(10))
    rdms = rsa.RDMs(rsa.to_vector(square)[None], tuple("abcde"), ("one",))
    chosen = rdms.select(["d", "a", "c"])
    np.testing.assert_array_equal(chosen.squares[0], square[np.ix_([3, 0, 2], [3, 0, 2])])
    assert chosen.conditions == ("d", "a", "c")


def _with_nan() -> Any:
    patterns = np.random.default_rng(0).normal(size=(4, 6))
    patterns[2, 1] = np.nan
    return patterns


def _with_constant() -> Any:
    patterns = np.random.default_rng(0).normal(size=(4, 6))
    patterns[1] = 3.0
    return patterns


NAMES = ("cat", "dog", "cow", "pig")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rsa.calculate_rdm(_with_nan(), conditions=NAMES), DataError, "'cow' has NaN"),
        (
            lambda: rsa.calculate_rdm(_with_constant(), remove_voxel_mean=False, conditions=NAMES),
            DataError,
            "'dog' is constant",
        ),
        (lambda: rsa.calculate_rdm(np.ones((4, 6))), DataError, "condition number 0 is constant"),
        (lambda: rsa.calculate_rdm(np.ones((1, 6))), ShapeError, "at least 2 conditions"),
        (lambda: rsa.calculate_rdm(np.eye(3)[:, :1]), ShapeError, "at least 2 voxels"),
        (lambda: rsa.calculate_rdm(np.eye(3), "manhattan"), OptionError, "must be one of"),
        (lambda: rsa.calculate_rdm(np.eye(3), conditions=("a",)), ShapeError, "1 names"),
        (lambda: rsa.calculate_crossnobis(np.ones((1, 3, 4))), ShapeError, "at least 2 repeats"),
        (
            lambda: rsa.calculate_crossnobis(np.ones((2, 3, 4)), np.ones(3)),
            ShapeError,
            "noise_precision must have shape (4,)",
        ),
        (lambda: rsa.compare_rdms([1, 2, 3], [1, 2, 3, 4]), ShapeError, "3 and 4 pairs"),
        (lambda: rsa.compare_rdms([1, 2, 3], [1, 2, 3], "tau"), OptionError, "must be one of"),
        (
            lambda: rsa.compare_rdms([1, 1, 1], [1, 2, 3], first_names=["flat"]),
            DataError,
            "'flat' is constant",
        ),
        (
            lambda: rsa.compare_rdms([1, 2, 3], [1, np.nan, 3], second_names=["sub-01"]),
            DataError,
            "'sub-01' has NaN",
        ),
        (lambda: rsa.compare_rdms([1.0], [1.0]), ShapeError, "at least 3 pairs"),
        (lambda: rsa.rdm_ceiling([1, 2, 3]), ShapeError, "at least 2 subjects"),
        (
            lambda: rsa.permute_conditions([1, 2, 3], [1, 2, 4], [[0, 1, 1]]),
            ShapeError,
            "must order the conditions 0 to 2",
        ),
        (lambda: rsa.embed_rdm([[1.0]]), ShapeError, "one upper triangle"),
        (lambda: rsa.embed_rdm([0.0, 0.0, 0.0]), DataError, "some above 0"),
        (lambda: rsa.embed_rdm([1.0, 1.0, 1.0], 3), OptionError, "between 1 and 2"),
        (lambda: rsa.to_square([1.0, 2.0]), ShapeError, "1, 3, 6, 10"),
        (lambda: rsa.to_vector(np.ones((2, 3))), ShapeError, "must be square"),
        (lambda: rsa.to_vector([[0, 1], [2, 0]]), DataError, "must be symmetric"),
        (
            lambda: rsa.RDMs(np.ones((1, 3)), ("a", "b", "a"), ("s",)),
            DataError,
            "got 'a' 2 times",
        ),
        (lambda: rsa.RDMs(np.ones((1, 4)), ("a", "b", "c"), ("s",)), ShapeError, "(1, 3)"),
        (
            lambda: rsa.RDMs(np.array([[1, np.nan, 2]]), ("a", "b", "c"), ("s1",)),
            DataError,
            "'s1' has nan between 'a' and 'c'",
        ),
        (
            lambda: rsa.RDMs(np.ones((1, 3)), ("a", "b", "c"), ("s1",)).select(["d"]),
            DataError,
            "must be one of a, b, c; got 'd'",
        ),
    ],
)
def test_rsa_bad_input_names_the_item(call: Any, error: type[Exception], message: str) -> None:
    """Each refusal says what was expected and which item is at fault."""
    with pytest.raises(error, match=re.escape(message)):
        call()
