"""Predicted and measured geometry compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest, spearmanr

from imgtofmri.analyses.rsa import compare_geometry, control_pairs, match_conditions, model_rdms
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.rsa import COMPARISONS, RDMs, calculate_rdm, to_square
from imgtofmri.stats import permutations, sign_flips

CONDITIONS = tuple(f"image{number:02d}.jpg" for number in range(12))


@dataclass(frozen=True)
class Maps:
    """Predicted responses, made in the test."""

    group: Any
    names: tuple[str, ...]
    roi_masks: Any


def make_measured(rng: np.random.Generator, patterns: Any, n_subjects: int = 6) -> RDMs:
    """Return noisy matrices of subjects who carry some patterns."""
    noisy = patterns + rng.normal(size=(n_subjects, *patterns.shape))
    names = tuple(f"sub-{number:02d}" for number in range(n_subjects))
    return RDMs(calculate_rdm(noisy), CONDITIONS, names, "correlation")


def make_models(rng: np.random.Generator, patterns: Any) -> RDMs:
    """Return the true model and one that has nothing to do with the patterns."""
    vectors = np.stack([calculate_rdm(patterns), calculate_rdm(rng.normal(size=patterns.shape))])
    return RDMs(vectors, CONDITIONS, ("true", "other"), "correlation")


def test_model_rdms_equal_direct_computation(rng: np.random.Generator) -> None:
    """An ROI's matrix is that of its voxels of both hemispheres."""
    index = np.arange(20)
    masks = {("PPA", "L"): index < 5, ("PPA", "R"): index > 15, ("LOC", "L"): index == 7}
    maps = Maps(rng.normal(size=(12, 20)), CONDITIONS, masks)
    rdms = model_rdms(maps, ["PPA"])
    voxels = (index < 5) | (index > 15)
    np.testing.assert_allclose(rdms.dissimilarities[0], calculate_rdm(maps.group[:, voxels]))
    assert (rdms.names, rdms.conditions) == (("PPA",), CONDITIONS)
    assert model_rdms(maps, method="euclidean").names == ("PPA", "LOC")


def test_model_rdms_unknown_roi_is_named(rng: np.random.Generator) -> None:
    """An unknown ROI is refused with those there are."""
    maps = Maps(rng.normal(size=(12, 4)), CONDITIONS, {("PPA", "L"): np.ones(4, bool)})
    with pytest.raises(OptionError, match="Did you mean PPA"):
        model_rdms(maps, ["PPPA"])


@pytest.mark.parametrize("method", COMPARISONS)
def test_compare_geometry_true_model_wins(method: str, rng: np.random.Generator) -> None:
    """The model that subjects carry is found, beats the other and lies below the upper bound."""
    patterns = rng.normal(size=(12, 30))
    result = compare_geometry(
        make_models(rng, patterns), make_measured(rng, patterns), method, n_permutations=199
    )
    true, other = result.table.set_index("model").loc[["true", "other"]].to_dict("records")
    assert true["p"] == true["p_max"] == 1 / 200
    assert true["p_subjects"] < 0.05 < other["p"]
    assert true["ci_low"] <= true["mean"] <= true["ci_high"]
    assert true["mean"] <= true["ceiling_upper"]
    assert other["p_ceiling"] < 0.05
    assert other["p_ceiling"] <= true["p_ceiling"]
    assert result.pairs["p"].item() < 0.05


def test_compare_geometry_table_equals_scipy(rng: np.random.Generator) -> None:
    """Means, standard errors and adjusted p are those of scipy on the same numbers."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    result = compare_geometry(models, measured, n_permutations=99)
    expected = [
        [spearmanr(m, s).statistic for s in measured.dissimilarities]
        for m in models.dissimilarities
    ]
    np.testing.assert_allclose(result.similarity, expected)
    np.testing.assert_allclose(result.table["mean"], np.mean(expected, axis=1))
    sem = np.std(expected, axis=1, ddof=1) / np.sqrt(6)
    np.testing.assert_allclose(result.table["sem"], sem)
    np.testing.assert_allclose(result.table["p_fdr"], false_discovery_control(result.table["p"]))


def test_compare_geometry_one_subject_leaves_out_what_needs_more(rng: np.random.Generator) -> None:
    """With one subject conditions can be permuted; subjects cannot, nor has it a ceiling."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns, 1)
    result = compare_geometry(models, measured, n_permutations=99)
    assert result.ceiling is None
    assert (
        result.table[["ci_low", "p_subjects", "ceiling_lower", "p_ceiling"]].isna().all(axis=None)
    )
    assert result.table["p"].notna().all()


def test_compare_geometry_p_is_a_count_of_relabellings(rng: np.random.Generator) -> None:
    """P is (count + 1) / (n + 1) of the relabellings that reach the data, written out."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns, 1)
    result = compare_geometry(models, measured, n_permutations=99)
    (orders,) = permutations(12, 99, seed=0)
    subject = measured.dissimilarities[0]
    upper = np.triu_indices(12, 1)
    for vector, p in zip(models.dissimilarities, result.table["p"], strict=True):
        observed = spearmanr(vector, subject).statistic
        count = 0
        for order in orders:
            relabelled = to_square(vector)[np.ix_(order, order)][upper]
            count += spearmanr(relabelled, subject).statistic >= observed - 1e-12
        assert p == (count + 1) / 100
    # A subject who is the model: no relabelling is as good, but for one that changes nothing.
    own = RDMs(models.dissimilarities[:1], CONDITIONS, ("same",))
    assert compare_geometry(own, own, n_permutations=99).table["p"].tolist() == [0.01]


def test_control_pairs_equal_written_out_sign_flips(rng: np.random.Generator) -> None:
    """Differences are the subjects' own, p counts flipped signs, whichever control is compared."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    result = compare_geometry(models, measured, n_permutations=199)
    swapped = RDMs(models.dissimilarities[::-1], CONDITIONS, ("true", "other"))
    control = compare_geometry(swapped, measured, n_permutations=199)
    pairs = control_pairs(result, control)
    assert pairs[["model_a", "model_b"]].to_numpy().tolist() == [["true"] * 2, ["other"] * 2]
    signs = sign_flips(6, 199, seed=0)
    similarity = np.array(
        [
            [spearmanr(model, subject).statistic for subject in measured.dissimilarities]
            for model in models.dissimilarities
        ]
    )
    expected = (similarity[0] - similarity[1], similarity[1] - similarity[0])
    for row, differences in zip(pairs.to_dict("records"), expected, strict=True):
        assert row["difference"] == pytest.approx(differences.mean())
        count = sum(abs((s * differences).mean()) >= abs(differences.mean()) - 1e-12 for s in signs)
        assert row["p"] == (count + 1) / 200
    np.testing.assert_allclose(pairs["p_fdr"], false_discovery_control(pairs["p"]))
    single = compare_geometry(
        RDMs(models.dissimilarities[1:], CONDITIONS, ("luminance",)), measured, n_permutations=199
    )
    against = control_pairs(result, single)
    assert against["model_b"].tolist() == ["luminance"] * 2
    assert against["difference"][0] == pytest.approx(pairs["difference"][0])
    same = against[["difference", "ci_low", "ci_high"]].iloc[1]
    np.testing.assert_allclose(same.tolist(), 0.0, atol=1e-12)
    assert against["p"][1] == 1.0


def test_control_pairs_need_the_same_subjects_and_models(rng: np.random.Generator) -> None:
    """Other subjects, or a model without a control, are refused; one subject gives no p."""
    patterns = rng.normal(size=(12, 30))
    models = make_models(rng, patterns)
    result = compare_geometry(models, make_measured(rng, patterns), n_permutations=9)
    alone = compare_geometry(models, make_measured(rng, patterns, 1), n_permutations=9)
    with pytest.raises(DataError, match="same measured subjects.*got other subjects"):
        control_pairs(result, alone)
    renamed = RDMs(models.dissimilarities, CONDITIONS, ("true", "third"))
    control = compare_geometry(renamed, make_measured(rng, patterns), n_permutations=9)
    with pytest.raises(DataError, match="got none for other"):
        control_pairs(result, control)
    assert control_pairs(alone, alone)[["ci_low", "p", "p_fdr"]].isna().all(axis=None)


def test_compare_geometry_same_seed_same_answer(rng: np.random.Generator) -> None:
    """The seed fixes every number, and another seed gives another null."""
    patterns = rng.normal(size=(12, 5))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    first, again, other = (
        compare_geometry(models, measured, n_permutations=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first.table.equals(again.table)
    assert first.pairs.equals(again.pairs)
    assert not first.table["null_mean"].equals(other.table["null_mean"])


@pytest.mark.parametrize("method", COMPARISONS)
def test_compare_geometry_thread_count_does_not_matter(
    method: str, rng: np.random.Generator
) -> None:
    """P values are the same with one thread of linear algebra and with several."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="comes with scikit-learn")
    patterns = rng.normal(size=(12, 400))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    found = []
    for n_threads in (1, 2):
        with threadpoolctl.threadpool_limits(n_threads):
            found.append(compare_geometry(models, measured, method, n_permutations=200).table)
    columns = ["p", "p_max", "p_subjects", "p_ceiling"]
    np.testing.assert_array_equal(found[0][columns], found[1][columns])


def test_compare_geometry_null_p_is_uniform() -> None:
    """Over 1,000 data sets with nothing shared, the smallest p_max and p_subjects are uniform."""
    rng = np.random.default_rng(4)
    p_max, p_subjects = np.empty(1000), np.empty(1000)
    for data_set in range(1000):
        models = RDMs(calculate_rdm(rng.normal(size=(2, 12, 8))), CONDITIONS, ("a", "b"))
        measured = RDMs(calculate_rdm(rng.normal(size=(8, 12, 8))), CONDITIONS, tuple("abcdefgh"))
        table = compare_geometry(
            models, measured, n_permutations=99, n_bootstraps=1, seed=data_set
        ).table
        p_max[data_set], p_subjects[data_set] = table["p_max"].min(), table["p_subjects"].iloc[0]
    jitter = rng.random((2, 1000)) / 100
    assert kstest(p_max - jitter[0], "uniform").pvalue > 0.01
    assert kstest(p_subjects - jitter[1], "uniform").pvalue > 0.01


def test_match_conditions_orders_measured_after_models(rng: np.random.Generator) -> None:
    """Measured rows are put into the images' order, by name or by stem; extra ones are dropped."""
    vector = rng.random(6)
    models = RDMs(vector, ("set/cow.jpg", "set/dog.jpg", "set/pig.jpg", "set/cat.jpg"), ("m",))
    measured = RDMs(rng.random(10), ("pig", "hen", "cow", "cat", "dog"), ("s",))
    ours, theirs = match_conditions(models, measured)
    order = [2, 4, 0, 3]
    np.testing.assert_array_equal(theirs.squares[0], measured.squares[0][np.ix_(order, order)])
    assert ours.conditions == theirs.conditions == models.conditions


def _rdms(*conditions: str) -> RDMs:
    n_pairs = len(conditions) * (len(conditions) - 1) // 2
    return RDMs(np.arange(n_pairs, dtype=float), conditions, ("x",))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: match_conditions(_rdms("a", "b", "c"), _rdms("d", "e", "f")), DataError, "got 0"),
        (
            lambda: match_conditions(_rdms("a.jpg", "a.png", "b.jpg"), _rdms("a", "b", "c")),
            DataError,
            "are both 'a'",
        ),
        (
            lambda: compare_geometry(_rdms("a", "b", "c"), _rdms("a", "c", "b")),
            DataError,
            "match_conditions",
        ),
        (
            lambda: compare_geometry(_rdms("a", "b", "c"), _rdms("a", "b", "c"), confidence=95),
            OptionError,
            "confidence must lie between 0 and 1",
        ),
    ],
)
def test_geometry_bad_input_names_the_item(call: Any, error: type[Exception], message: str) -> None:
    """Each refusal says what was expected and what came."""
    with pytest.raises(error, match=re.escape(message)):
        call()
