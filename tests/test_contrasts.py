"""Contrasts of predicted responses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, kstest, nct, ttest_ind
from scipy.stats import t as student_t

from imgtofmri.analyses.contrast import (
    Contrast,
    compute_contrast,
    contrast_properties,
    contrast_weights,
    parse_contrast,
    permute_welch_t,
    welch_test,
)
from imgtofmri.bundle import Bundle
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import NullSummary, permutations


@dataclass(frozen=True)
class Maps:
    """Predicted responses on a small grid, made in the test."""

    subjects: Any
    mask: Any
    names: tuple[str, ...]
    roi_masks: Any
    affine: Any = field(default_factory=lambda: np.diag([2.0, 2.0, 2.0, 1.0]))
    subject_names: tuple[str, ...] = ("CSI1", "CSI2", "CSI3")
    average: str = "mean"

    @property
    def group(self) -> Any:
        """Mean over subjects."""
        return self.subjects.mean(axis=0)


def make_maps(
    rng: np.random.Generator, n_stimuli: int = 24, n_voxels: int = 30, effect: float = 0.0
) -> Maps:
    """Return noise in three subjects; the first half of the stimuli drives the first 10 voxels."""
    shared = rng.normal(size=(n_stimuli, n_voxels))
    subjects = shared + 0.5 * rng.normal(size=(3, n_stimuli, n_voxels))
    subjects[:, : n_stimuli // 2, :10] += effect
    mask = np.zeros((4, 5, 4), dtype=bool)
    mask.ravel()[np.sort(rng.choice(80, n_voxels, replace=False))] = True
    index = np.arange(n_voxels)
    rois = {
        ("PPA", "L"): index < 5,
        ("PPA", "R"): (index >= 5) & (index < 10),
        ("LOC", "L"): (index >= 10) & (index < 20),
        ("LOC", "R"): np.zeros(n_voxels, dtype=bool),
    }
    names = tuple(f"image{number:02d}" for number in range(n_stimuli))
    return Maps(subjects.astype(np.float32), mask, names, rois)


TWO = ["house"] * 12 + ["face"] * 12


def test_welch_test_two_conditions_equals_scipy(rng: np.random.Generator) -> None:
    """With weights 1 and -1 this is scipy's t test of unequal variances."""
    values = rng.normal(size=(17, 5)) * np.repeat([1.0, 4.0], [7, 10])[:, None]
    labels = np.repeat([0, 1], [7, 10])
    ours = welch_test(values, labels, [1.0, -1.0])
    theirs = ttest_ind(values[:7], values[7:], equal_var=False)
    np.testing.assert_allclose(ours.t, theirs.statistic, rtol=1e-12)
    np.testing.assert_allclose(ours.p, theirs.pvalue, rtol=1e-12)
    np.testing.assert_allclose(ours.dof, theirs.df, rtol=1e-12)


def test_welch_test_three_conditions_equals_formula(rng: np.random.Generator) -> None:
    """Any weights give the sum of weighted means over the root of the summed variances."""
    values = rng.normal(size=(12, 1))
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    weights = [1.0, -0.25, -0.75]
    parts = [values[labels == code, 0] for code in range(3)]
    difference = sum(w * part.mean() for w, part in zip(weights, parts, strict=True))
    shares = [w**2 * part.var(ddof=1) / part.size for w, part in zip(weights, parts, strict=True)]
    dof = sum(shares) ** 2 / sum(
        share**2 / (part.size - 1) for share, part in zip(shares, parts, strict=True)
    )
    test = welch_test(values, labels, weights)
    assert test.difference[0] == pytest.approx(difference)
    assert test.t[0] == pytest.approx(difference / np.sqrt(sum(shares)))
    assert test.dof[0] == pytest.approx(dof)
    assert test.p[0] == pytest.approx(2 * student_t.sf(abs(test.t[0]), dof))


@pytest.mark.parametrize("weights", [[1.0, -1.0, 0.0], [1.0, -0.5, -0.5]])
def test_permute_welch_t_equals_loop(weights: list[float], rng: np.random.Generator) -> None:
    """The matrix products equal testing each relabelling by itself."""
    values = rng.normal(size=(15, 6)) + 100.0
    labels = np.repeat([0, 1, 2], 5)
    if weights[2] == 0:
        values, labels = values[:10], labels[:10]
    orders = rng.permuted(np.tile(np.arange(len(labels)), (20, 1)), axis=1)
    null = np.concatenate(list(permute_welch_t(values, labels, weights, orders)))
    expected = np.stack([welch_test(values, labels[order], weights).t for order in orders])
    np.testing.assert_allclose(null, expected, rtol=1e-9, atol=1e-12)


def test_permute_welch_t_chunks_do_not_matter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory bound changes no number."""
    values, labels = rng.normal(size=(10, 4)), np.repeat([0, 1], 5)
    orders = rng.permuted(np.tile(np.arange(10), (30, 1)), axis=1)
    whole = np.concatenate(list(permute_welch_t(values, labels, [1, -1], orders)))
    monkeypatch.setattr("imgtofmri.analyses.contrast.welch.CHUNK_ENTRIES", 20)
    parts = np.concatenate(list(permute_welch_t(values, labels, [1, -1], orders)))
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_permute_welch_t_constant_column_is_zero(rng: np.random.Generator) -> None:
    """Where nothing varies no relabelling looks extreme."""
    values = np.column_stack([rng.normal(size=8), np.full(8, 0.1)])
    labels = np.repeat([0, 1], 4)
    assert np.isnan(welch_test(values, labels, [1, -1]).t[1])
    null = next(permute_welch_t(values, labels, [1, -1], [[0, 4, 1, 5, 2, 6, 3, 7]]))
    assert null[0, 1] == 0.0


def test_welch_null_p_is_uniform_at_every_level() -> None:
    """Over 1,000 null data sets p and p_max (smallest of 20 tests) are uniform."""
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], [8, 10, 6])
    weights = [1.0, -0.5, -0.5]
    p, p_permuted, p_max = np.empty(1000), np.empty(1000), np.empty(1000)
    for data_set in range(1000):
        values = rng.normal(size=(24, 20)) + rng.normal(size=(24, 1))
        test = welch_test(values, labels, weights)
        null = NullSummary(test.t, tail="two-sided")
        for orders in permutations(24, 199, seed=data_set):
            for t in permute_welch_t(values, labels, weights, orders):
                null.update(t)
        p[data_set], p_permuted[data_set] = test.p[3], null.p[3]
        p_max[data_set] = null.p_max.min()
    jitter = rng.random((2, 1000)) / 200
    assert kstest(p, "uniform").pvalue > 0.01
    assert kstest(p_permuted - jitter[0], "uniform").pvalue > 0.01
    assert kstest(p_max - jitter[1], "uniform").pvalue > 0.01


def test_welch_planted_effect_has_predicted_power() -> None:
    """An effect of 0.8 standard deviations is found as often as the noncentral t says."""
    rng = np.random.default_rng(11)
    n_images, effect = 20, 0.8
    values = rng.normal(size=(2 * n_images, 20_000))
    values[:n_images] += effect
    found = welch_test(values, np.repeat([0, 1], n_images), [1, -1]).p < 0.05
    dof = 2 * n_images - 2
    critical = student_t.ppf(0.975, dof)
    shift = effect * np.sqrt(n_images / 2)
    power = nct.sf(critical, dof, shift) + nct.cdf(-critical, dof, shift)
    assert found.mean() == pytest.approx(power, abs=0.012)


def test_compute_contrast_planted_region_is_found(rng: np.random.Generator) -> None:
    """The driven voxels and ROI survive every correction, the others do not, subjects agree."""
    maps = make_maps(rng, effect=3.0)
    result = compute_contrast(maps, TWO, "house - face", n_permutations=499)
    assert (result.p_max[:10] <= 0.01).all()
    assert (result.conjunction[:10] == 1).all()
    assert (result.p_max[10:] > 0.01).all()
    rows = result.roi_table.set_index(["roi", "hemi", "subject"])
    assert rows.loc[("PPA", "both", "group"), "p_max"] == 1 / 500
    assert rows.loc[("PPA", "both", "group"), "n_agree"] == 3
    assert rows.loc[("LOC", "L", "group"), "p_max"] > 0.05
    assert result.counts == {"house": 12, "face": 12}


def test_compute_contrast_maps_equal_direct_computation(rng: np.random.Generator) -> None:
    """Maps and tables hold what scipy gives on the same arrays."""
    maps = make_maps(rng, effect=1.0)
    result = compute_contrast(maps, TWO, {"house": 1, "face": -1}, n_permutations=20)
    expected = ttest_ind(
        maps.group[:12].astype(float), maps.group[12:].astype(float), equal_var=False
    )
    np.testing.assert_allclose(result.test.t, expected.statistic, rtol=1e-9)
    np.testing.assert_allclose(result.p_fdr, false_discovery_control(expected.pvalue), rtol=1e-9)
    one = ttest_ind(
        maps.subjects[1, :12, :10].astype(float).mean(axis=1),
        maps.subjects[1, 12:, :10].astype(float).mean(axis=1),
        equal_var=False,
    )
    row = result.roi_table.query("roi == 'PPA' and hemi == 'both' and subject == 'CSI2'").iloc[0]
    interval = one.confidence_interval()
    assert row["t"] == pytest.approx(one.statistic)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))
    assert row["n_voxels"] == 10
    means = result.condition_table.query("roi == 'PPA' and hemi == 'both' and subject == 'group'")
    assert means.set_index("condition").loc["house", "mean"] - means.set_index("condition").loc[
        "face", "mean"
    ] == pytest.approx(
        result.roi_table.query("roi == 'PPA' and hemi == 'both' and subject == 'group'")[
            "difference"
        ].item()
    )


def test_compute_contrast_empty_hemisphere_has_no_row(rng: np.random.Generator) -> None:
    """An ROI without voxels in one hemisphere gets no row for it."""
    table = compute_contrast(make_maps(rng), TWO, "house - face", n_permutations=5).roi_table
    assert set(table.query("roi == 'LOC'")["hemi"]) == {"L", "both"}


def test_compute_contrast_conjunction_needs_every_subject(rng: np.random.Generator) -> None:
    """An effect in two subjects of three is not consistent."""
    maps = make_maps(rng, effect=4.0)
    subjects = maps.subjects.copy()
    subjects[2, :12, :10] -= 4.0
    result = compute_contrast(replace(maps, subjects=subjects), TWO, "house - face", 20)
    lone = result.subject_t[2, :10]
    assert (result.conjunction[:10][np.abs(lone) < 1.0] == 0).all()
    assert np.abs(lone).min() < 1.0
    agree = np.sign(result.subject_t).sum(axis=0)
    assert (result.p_conjunction[np.abs(agree) < 3] == 1.0).all()


def test_compute_contrast_ignores_conditions_without_weight(rng: np.random.Generator) -> None:
    """Images of a condition that weighs 0 change nothing."""
    maps = make_maps(rng, effect=1.0)
    three = ["house"] * 8 + ["face"] * 8 + ["tool"] * 8
    whole = compute_contrast(maps, three, "house - face", 50)
    part = replace(maps, subjects=maps.subjects[:, :16], names=maps.names[:16])
    alone = compute_contrast(part, three[:16], "house - face", 50)
    np.testing.assert_array_equal(whole.p_max, alone.p_max)
    np.testing.assert_allclose(whole.test.t, alone.test.t)


def test_compute_contrast_same_seed_same_answer(rng: np.random.Generator) -> None:
    """The seed fixes the answer; the sign of the contrast turns the maps and keeps p."""
    maps = make_maps(rng, effect=0.7)
    first = compute_contrast(maps, TWO, "house - face", 99, seed=3)
    again = compute_contrast(maps, TWO, "house - face", 99, seed=3)
    turned = compute_contrast(maps, TWO, "face - house", 99, seed=3)
    np.testing.assert_array_equal(first.p_max, again.p_max)
    np.testing.assert_array_equal(first.p_max, turned.p_max)
    np.testing.assert_array_equal(first.conjunction, -turned.conjunction)


def test_compute_contrast_thread_count_does_not_matter(rng: np.random.Generator) -> None:
    """Permutation p values are the same with one thread of linear algebra and with several."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="comes with scikit-learn")
    maps = make_maps(rng, n_stimuli=60, n_voxels=70, effect=0.5)
    conditions = ["house"] * 30 + ["face"] * 30
    found = []
    for n_threads in (1, 2):
        with threadpoolctl.threadpool_limits(n_threads):
            found.append(compute_contrast(maps, conditions, "house - face", 300, seed=8))
    np.testing.assert_array_equal(found[0].p_max, found[1].p_max)
    np.testing.assert_array_equal(found[0].roi_table["p_max"], found[1].roi_table["p_max"])


def test_to_img_puts_values_where_the_mask_is(rng: np.random.Generator) -> None:
    """A map's voxels are the mask's in C order; p is 1 and t is 0 elsewhere."""
    maps = make_maps(rng)
    result: Contrast = compute_contrast(maps, TWO, "house - face", 5)
    t, p = result.to_img("t"), result.to_img("p_max")
    np.testing.assert_allclose(t.get_fdata()[maps.mask], result.test.t, rtol=1e-6)
    assert (t.get_fdata()[~maps.mask] == 0).all()
    assert (p.get_fdata()[~maps.mask] == 1).all()
    assert int(t.header["sform_code"]) == 4
    np.testing.assert_array_equal(t.affine, maps.affine)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("house - face", {"house": 1, "face": -1}),
        ("house > face", {"house": 1, "face": -1}),
        ("a + b > c", {"a": 0.5, "b": 0.5, "c": -1}),
        ("2*a + b > c", {"a": 2 / 3, "b": 1 / 3, "c": -1}),
        ("- a + b", {"a": -1, "b": 1}),
        ("indoor-scene - 1/3*face", {"indoor-scene": 1, "face": -1 / 3}),
        ("living room - face", {"living room": 1, "face": -1}),
    ],
)
def test_parse_contrast_reads_weights(text: str, weights: dict[str, float]) -> None:
    """Each way to write a contrast gives its weights; hyphens and blanks stay in names."""
    assert parse_contrast(text) == pytest.approx(weights)


#: Photographs of buildings and rooms, and of dogs, by their numbers.
PLACES = (
    "0423 0439 0446 0450 0479 0493 0494 0528 0534 0555 "
    "0576 0619 0655 0660 0663 0691 0699 0755 0823 0849"
).split()
DOGS = [f"{number:04d}" for number in range(152, 192, 2)]


@pytest.mark.network
@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_compute_contrast_places_against_dogs_is_the_textbook_one(
    published_bundle: Bundle, test_data: Path
) -> None:
    """Scene regions prefer buildings and rooms to dogs, the object region dogs, in every subject.

    As house against face in a localiser (Epstein and Kanwisher 1998, doi:10.1038/33402).
    """
    images = [test_data / "photos" / f"object_{number}.jpg" for number in (*PLACES, *DOGS)]
    maps = Encoder(published_bundle).predict(
        images,
        average="mean",
        weights=test_data / "standin" / "resnet18_standin.safetensors",
        progress=False,
    )
    conditions = ["place"] * len(PLACES) + ["dog"] * len(DOGS)
    table = compute_contrast(maps, conditions, "place - dog", 499).roi_table
    rows = table[table["subject"] == "group"].set_index(["roi", "hemi"])
    for roi in ("PPA", "OPA", "RSC"):
        for hemi in ("L", "R"):
            assert rows.loc[(roi, hemi), "t"] > 4
            assert rows.loc[(roi, hemi), "p_max"] < 0.01
            assert rows.loc[(roi, hemi), "n_agree"] == 3
    assert rows.loc[("LOC", "both"), "t"] < -4


def _nan_maps() -> Maps:
    maps = make_maps(np.random.default_rng(0))
    maps.subjects[1, 4, 2] = np.nan
    return maps


def _flat_maps() -> Maps:
    maps = make_maps(np.random.default_rng(0))
    maps.subjects[:, 5] = 0.0
    return maps


def _plain() -> Maps:
    return make_maps(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: compute_contrast(_nan_maps(), TWO, "house - face"),
            DataError,
            "'image04' has NaN",
        ),
        (lambda: compute_contrast(_flat_maps(), TWO, "house - face"), DataError, "'image05' has 0"),
        (
            lambda: compute_contrast(_plain(), ["one"] + ["two"] * 23, "one - two"),
            DataError,
            "condition 'one' has 1",
        ),
        (
            lambda: compute_contrast(_plain(), TWO, "house - fase"),
            OptionError,
            "got 'fase'. Did you mean face?",
        ),
        (lambda: compute_contrast(_plain(), TWO[:-1], "house - face"), ShapeError, "24 stimuli"),
        (
            lambda: compute_contrast(replace(_plain(), average="zscore"), TWO, "house - face"),
            OptionError,
            "average='zscore'",
        ),
        (lambda: compute_contrast(_plain(), TWO, "house - face", alpha=0), OptionError, "alpha"),
        (
            lambda: compute_contrast(replace(_plain(), roi_masks={}), TWO, "house - face"),
            DataError,
            "at least one ROI",
        ),
        (lambda: contrast_weights("house", ["house", "face"]), OptionError, "must sum to 0; got 1"),
        (lambda: contrast_weights({"house": 0}, ["house"]), OptionError, "not all 0"),
        (lambda: parse_contrast("a > b > c"), OptionError, "more than one '>'"),
        (lambda: parse_contrast("a > b - c"), OptionError, "a minus beside '>'"),
        (lambda: parse_contrast("a - a"), OptionError, "'a' twice"),
        (lambda: parse_contrast(""), OptionError, "where a condition should be"),
        (lambda: parse_contrast("a > "), OptionError, "where a condition should be"),
        (lambda: welch_test([[1.0], [2.0]], [0, 1], [1, -1]), DataError, "at least 2 stimuli"),
        (lambda: welch_test([[1.0], [2.0]], [0], [1, -1]), ShapeError, "n_stimuli, n_tests"),
        (lambda: compute_contrast(_plain(), TWO, "house - face", 2).to_img("z"), OptionError, "z"),
    ],
)
def test_contrast_bad_input_names_the_item(call: Any, error: type[Exception], message: str) -> None:
    """Each refusal says what was expected and which item is at fault."""
    with pytest.raises(error, match=re.escape(message)):
        call()


def make_properties(rng: np.random.Generator) -> pd.DataFrame:
    """Return luminance, contrast and a constant of 24 images; the first half is brighter."""
    luminance = rng.random(24) + np.repeat([0.5, 0.0], 12)
    columns = {"luminance": luminance, "contrast": rng.random(24), "same": np.ones(24)}
    names = [f"image{number:02d}" for number in range(24)]
    return pd.DataFrame({"stimulus": names, **columns})


def test_contrast_properties_equal_scipy_and_a_written_loop(rng: np.random.Generator) -> None:
    """Difference, t and p are scipy's, p_max counts exchanges, and d is in pooled deviations."""
    properties = make_properties(rng)
    table = contrast_properties(properties, TWO, "house - face", 99, seed=5).set_index("property")
    values = properties[["luminance", "contrast"]].to_numpy()
    theirs = ttest_ind(values[:12], values[12:], equal_var=False)
    ours = table.loc[["luminance", "contrast"]]
    np.testing.assert_allclose(ours["difference"], values[:12].mean(0) - values[12:].mean(0))
    np.testing.assert_allclose(ours["t"], theirs.statistic)
    np.testing.assert_allclose(ours["p"], theirs.pvalue)
    interval = theirs.confidence_interval()
    np.testing.assert_allclose(ours[["ci_low", "ci_high"]].T, [interval.low, interval.high])
    pooled = np.sqrt((values[:12].var(0, ddof=1) + values[12:].var(0, ddof=1)) / 2)
    np.testing.assert_allclose(ours["d"], ours["difference"] / pooled)
    (orders,) = permutations(24, 99, seed=5)
    largest = []
    for order in orders:
        house = np.array(TWO)[order] == "house"
        t = ttest_ind(values[house], values[~house], equal_var=False).statistic
        largest.append(np.abs(t).max())
    counts = [np.sum(np.array(largest) >= abs(t) - 1e-9) for t in theirs.statistic]
    np.testing.assert_allclose(ours["p_max"], (np.array(counts) + 1) / 100)
    assert table.loc["same", ["t", "p", "d", "p_max"]].isna().all()
    assert (table["contrast"] == "house - face").all()


def test_contrast_properties_leave_out_conditions_without_weight(rng: np.random.Generator) -> None:
    """Images of other conditions change nothing."""
    properties = make_properties(rng)
    more = pd.concat([properties, properties.iloc[:4] * 1]).assign(stimulus=None)
    more.iloc[24:, 1:] = 99.0
    both = contrast_properties(more, [*TWO, *["tool"] * 4], {"house": 1.0, "face": -1.0}, 20)
    alone = contrast_properties(properties, TWO, {"house": 1.0, "face": -1.0}, 20)
    pd.testing.assert_frame_equal(both, alone)


def test_contrast_properties_name_the_image_without_a_value(rng: np.random.Generator) -> None:
    """A missing value, a short list of conditions and a single image are refused."""
    properties = make_properties(rng)
    with pytest.raises(ShapeError, match="label each of the 24 stimuli; got 3"):
        contrast_properties(properties, TWO[:3], "house - face")
    with pytest.raises(DataError, match="condition 'one' has 1"):
        contrast_properties(properties, [*TWO[:23], "one"], "house - one")
    properties.loc[7, "luminance"] = np.nan
    with pytest.raises(DataError, match="image 'image07' has nan for luminance"):
        contrast_properties(properties, TWO, "house - face")
