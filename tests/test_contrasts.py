"""Contrasts of predicted responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, kstest, nct, ttest_ind
from scipy.stats import t as student_t

from imgtofmri.analyses.contrast import (
    Contrast,
    compute_contrast,
    compute_contrasts,
    contrast_properties,
    contrast_weights,
    parse_contrast,
    permute_welch_t,
    save_contrast,
    welch_test,
)
from imgtofmri.analyses.contrast.welch import permuted_tests, permuted_together
from imgtofmri.bundle import Bundle
from imgtofmri.encoder import Control, Encoder, Prediction, Settings
from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError
from imgtofmri.files import sha256_of
from imgtofmri.stats import NullSummary, permutations
from imgtofmri.stimuli import Failure, Source, image_properties

Make = Callable[..., Prediction]


@pytest.fixture
def make_maps(make_prediction: Make, rng: np.random.Generator) -> Make:
    """Return what makes noise in three subjects; half of the stimuli drives PPA, when asked to."""

    def make(effect: float = 0.0, **sizes: int) -> Prediction:
        maps = make_prediction(rng, **sizes)
        subjects = maps.subjects.copy()
        subjects[:, : len(maps) // 2, :10] += effect
        return with_subjects(maps, subjects)

    return make


def with_subjects(maps: Prediction, subjects: Any) -> Prediction:
    """Return a prediction of other responses."""
    return replace(maps, subjects=subjects, native=tuple(subjects), group=subjects.mean(axis=0))


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


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_relabellings_that_change_nothing_count_however_large_t_is(
    noise: float, rng: np.random.Generator
) -> None:
    """Of two images a kind, a third of the relabellings gives the same t; p came to a sixth."""
    responses = np.array([[1.0], [1.0], [0.0], [0.0]]) + noise * rng.standard_normal((4, 1))
    labels, weights = np.array([0, 0, 1, 1]), np.array([1.0, -1.0])
    ((test, null),) = permuted_tests([responses], labels, weights, 3000, 0)
    assert abs(test.t[0]) > 0.1 / noise
    assert null.p[0] == pytest.approx(1 / 3, abs=0.03)
    assert null.p_max[0] == null.p[0]
    designs = [(np.arange(4), labels, weights)] * 2
    (joint,) = permuted_together([responses], designs, 3000, 0)
    assert joint == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.slow
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


def test_compute_contrast_planted_region_is_found(make_maps: Make) -> None:
    """The driven voxels and ROI survive every correction, the others do not, subjects agree."""
    maps = make_maps(effect=3.0)
    result = compute_contrast(maps, TWO, "house - face", n_permutations=499)
    assert (result.p_max[:10] <= 0.01).all()
    assert (result.conjunction[:10] == 1).all()
    assert (result.p_max[10:] > 0.01).all()
    rows = result.roi_table.set_index(["roi", "hemi", "subject"])
    assert rows.loc[("PPA", "both", "group"), "p_max"] == 1 / 500
    assert rows.loc[("PPA", "both", "group"), "n_agree"] == 3
    assert rows.loc[("LOC", "L", "group"), "p_max"] > 0.05
    assert result.counts == {"house": 12, "face": 12}


def test_compute_contrast_maps_equal_direct_computation(make_maps: Make) -> None:
    """Maps and tables hold what scipy gives on the same arrays."""
    maps = make_maps(effect=1.0)
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


def test_compute_contrast_roi_rows_are_of_each_persons_own_roi(
    small_bundle: Bundle, rng: np.random.Generator
) -> None:
    """Rows equal a computation from the bundle in native space; the group's is the mean of people.

    One person lacks an ROI: there are no rows of it, and the group is the other person.
    """
    first, second = small_bundle.subjects
    second = replace(second, rois={"LOC": second.rois["LOC"]})
    encoder = Encoder(replace(small_bundle, subjects=(first, second)))
    features = rng.normal(size=(24, 6))
    maps = encoder.predict_features(features, average="mean")
    rows = compute_contrast(maps, TWO, "house - face", 20).roi_table
    rows = rows.set_index(["roi", "hemi", "subject"])
    for roi, people in (("LOC", [first, second]), ("PPA", [first])):
        for hemi, code in (("L", 0), ("R", 1), ("both", None)):
            means = []
            for subject in people:
                model = subject.rois[roi]
                own = model.hemi == code if code is not None else np.ones(model.n_voxels, bool)
                responses = encoder.predict_native(features, roi, subject.name)
                means.append(responses[:, own].mean(axis=1, dtype=float))
                row = rows.loc[roi, hemi, subject.name]
                expected = ttest_ind(means[-1][:12], means[-1][12:], equal_var=False)
                assert row["t"] == pytest.approx(expected.statistic, rel=1e-6)
                assert (row["n_voxels"], row["n_subjects"]) == (own.sum(), len(people))
            group = np.mean(means, axis=0)
            row = rows.loc[roi, hemi, "group"]
            expected = ttest_ind(group[:12], group[12:], equal_var=False)
            assert row["t"] == pytest.approx(expected.statistic, rel=1e-6)
            assert row["difference"] == pytest.approx(group[:12].mean() - group[12:].mean())
    assert ("PPA", "both", second.name) not in rows.index


def test_compute_contrast_maps_are_of_people_who_cover_a_voxel(make_maps: Make) -> None:
    """Where too few people stand behind a voxel nothing is tested; zeros are no responses."""
    maps = make_maps(effect=1.0)
    coverage = np.ones((3, 30), np.float32)
    coverage[:, 3], coverage[0, 4], coverage[1:, 4] = 0.1, 0.5, 0.0
    subjects = maps.subjects * coverage[:, None]
    group = (subjects.sum(axis=0) / coverage.sum(axis=0)).astype(np.float32)
    group[:, 3] = np.nan
    maps = replace(maps, subjects=subjects, group=group, coverage=coverage)
    result = compute_contrast(maps, TWO, "house - face", 50)
    assert np.isnan([result.test.t[3], result.p_fdr[3], result.p_max[3]]).all()
    assert np.isfinite(np.delete(result.test.t, 3)).all()
    one = maps.subjects[0, :, 4] / 0.5
    theirs = ttest_ind(one[:12], one[12:], equal_var=False)
    assert result.subject_differences[0, 4] == pytest.approx(one[:12].mean() - one[12:].mean())
    assert result.subject_t[0, 4] == pytest.approx(theirs.statistic, rel=1e-5)
    assert np.isnan(result.subject_t[1:, 4]).all()
    assert result.conjunction[4] == 0
    rest = np.delete(np.arange(30), 3)
    shorter = compute_contrast(
        replace(
            maps,
            group=group[:, rest],
            subjects=subjects[..., rest],
            coverage=coverage[:, rest],
            roi_masks={place: inside[rest] for place, inside in maps.roi_masks.items()},
        ),
        TWO,
        "house - face",
        50,
    )
    np.testing.assert_array_equal(shorter.p_max, result.p_max[rest])


def test_compute_contrast_agreement_by_chance_equals_a_loop(make_maps: Make) -> None:
    """p_agree counts the exchanges in which as many subjects agree; n_agree those who do."""
    maps = make_maps(effect=0.3)
    table = compute_contrast(maps, TWO, "house - face", 99, seed=4).roi_table
    row = table.set_index(["roi", "hemi", "subject"]).loc["PPA", "both", "group"]
    means = [subject[:, :10].mean(axis=1, dtype=float) for subject in maps.subjects]
    (orders,) = permutations(24, 99, seed=4)
    counts = []
    for order in (np.arange(24), *orders):
        house = np.array(TWO)[order] == "house"
        signs = [np.sign(mean[house].mean() - mean[~house].mean()) for mean in means]
        counts.append(sum(sign == np.sign(np.mean(
            [mean[house].mean() - mean[~house].mean() for mean in means]
        )) for sign in signs))  # fmt: skip
    assert row["n_agree"] == counts[0]
    assert row["p_agree"] == np.mean(np.array(counts) >= counts[0])


def test_compute_contrast_subjects_who_are_one_always_agree(make_maps: Make) -> None:
    """Three copies of one subject agree under every exchange, which then says nothing."""
    maps = make_maps()
    copies = with_subjects(maps, np.repeat(maps.subjects[:1], 3, axis=0))
    group = compute_contrast(copies, TWO, "house - face", 50).roi_table.query("subject == 'group'")
    assert (group["n_agree"] == 3).all()
    assert (group["p_agree"] == 1).all()


THREE = ["house"] * 8 + ["face"] * 8 + ["tool"] * 8


def test_compute_contrasts_correct_over_contrasts_as_a_loop_does(make_maps: Make) -> None:
    """The largest |t| over ROIs and contrasts, images having one random number for all of them."""
    maps = make_maps(effect=0.8)
    texts = ["house - face", "house > face + tool"]
    results = compute_contrasts(maps, THREE, texts, 99, seed=2)
    alone = compute_contrast(maps, THREE, texts[1], 99, seed=2)
    np.testing.assert_array_equal(results[1].p_max, alone.p_max)
    means = maps.roi_means().group.T
    means = means[:, ~np.isnan(means[0])]  # nobody has a right LOC
    kinds = np.array(THREE)

    def t_of(labels: Any, number: int) -> Any:
        if number == 0:
            return ttest_ind(
                means[labels == "house"], means[labels == "face"], equal_var=False
            ).statistic
        codes = np.select([labels == "house", labels == "face"], [0, 1], 2)
        return welch_test(means, codes, [1.0, -0.5, -0.5]).t

    (numbers,) = permutations(24, 99, seed=2)
    largest = []
    for keys in numbers:
        found = []
        for number, chosen in enumerate((np.arange(16), np.arange(24))):
            labels = np.full(24, "none", dtype=kinds.dtype)
            labels[chosen[np.argsort(keys[chosen])]] = kinds[chosen]
            found.append(np.abs(t_of(labels, number)).max())
        largest.append(max(found))
    for number, result in enumerate(results):
        group = result.roi_table.query("subject == 'group'")
        counts = [np.sum(np.array(largest) >= abs(t) - 1e-9) for t in t_of(kinds, number)]
        expected = np.maximum((np.array(counts) + 1) / 100, group["p_max"])
        np.testing.assert_allclose(group["p_max_contrasts"], expected)
        assert (result.roi_table["p_max_contrasts"] >= result.roi_table["p_max"]).all()
    np.testing.assert_array_equal(alone.roi_table["p_max_contrasts"], alone.roi_table["p_max"])


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_permuted_together_holds_its_level(shift: float) -> None:
    """Of null contrasts at most one in twenty is found, also where another condition differs."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], 6)
    weights = [np.array(row, float) for row in ([1, -1, 0], [1, 0, -1], [0, 1, -1])]
    chosen = [np.flatnonzero(row[labels]) for row in weights]
    designs = [(at, labels[at], row) for at, row in zip(chosen, weights, strict=True)]
    hits = 0
    for data_set in range(150):
        values = 0.7 * rng.normal(size=(18, 4)) + rng.normal(size=(18, 1))
        values[labels == 2] += shift
        (p,) = permuted_together([values], designs, 99, data_set)
        hits += (p[:1] if shift else p).min() <= 0.05
    # The binomial's 99.9th percentile.
    assert hits <= 17


def test_compute_contrast_empty_hemisphere_has_no_row(make_maps: Make) -> None:
    """An ROI without voxels in one hemisphere gets no row for it."""
    table = compute_contrast(make_maps(), TWO, "house - face", n_permutations=5).roi_table
    assert set(table.query("roi == 'LOC'")["hemi"]) == {"L", "both"}


def test_compute_contrast_conjunction_needs_every_subject(make_maps: Make) -> None:
    """An effect in two subjects of three is not consistent."""
    maps = make_maps(effect=4.0)
    subjects = maps.subjects.copy()
    subjects[2, :12, :10] -= 4.0
    result = compute_contrast(with_subjects(maps, subjects), TWO, "house - face", 20)
    lone = result.subject_t[2, :10]
    assert (result.conjunction[:10][np.abs(lone) < 1.0] == 0).all()
    assert np.abs(lone).min() < 1.0
    agree = np.sign(result.subject_t).sum(axis=0)
    assert (result.p_conjunction[np.abs(agree) < 3] == 1.0).all()


def test_compute_contrast_ignores_conditions_without_weight(make_maps: Make) -> None:
    """Images of a condition that weighs 0 change nothing."""
    maps = make_maps(effect=1.0)
    three = ["house"] * 8 + ["face"] * 8 + ["tool"] * 8
    whole = compute_contrast(maps, three, "house - face", 50)
    alone = compute_contrast(maps[:16], three[:16], "house - face", 50)
    np.testing.assert_array_equal(whole.p_max, alone.p_max)
    np.testing.assert_allclose(whole.test.t, alone.test.t)


def test_compute_contrast_same_seed_same_answer(make_maps: Make) -> None:
    """The seed fixes the answer; the sign of the contrast turns the maps and keeps p."""
    maps = make_maps(effect=0.7)
    first = compute_contrast(maps, TWO, "house - face", 99, seed=3)
    again = compute_contrast(maps, TWO, "house - face", 99, seed=3)
    turned = compute_contrast(maps, TWO, "face - house", 99, seed=3)
    np.testing.assert_array_equal(first.p_max, again.p_max)
    np.testing.assert_array_equal(first.p_max, turned.p_max)
    np.testing.assert_array_equal(first.conjunction, -turned.conjunction)


def test_compute_contrast_thread_count_does_not_matter(make_maps: Make) -> None:
    """Permutation p values are the same with one thread of linear algebra and with several."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="comes with scikit-learn")
    maps = make_maps(0.5, n_stimuli=60, n_voxels=70)
    conditions = ["house"] * 30 + ["face"] * 30
    found = []
    for n_threads in (1, 2):
        with threadpoolctl.threadpool_limits(n_threads):
            found.append(compute_contrast(maps, conditions, "house - face", 300, seed=8))
    np.testing.assert_array_equal(found[0].p_max, found[1].p_max)
    np.testing.assert_array_equal(found[0].roi_table["p_max"], found[1].roi_table["p_max"])


def test_to_img_puts_values_where_the_mask_is(make_maps: Make) -> None:
    """A map's voxels are the mask's in C order; p is 1 and t is 0 elsewhere."""
    maps = make_maps()
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


@pytest.mark.slow
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


def _with(maps: Prediction, where: Any, value: float) -> Prediction:
    """Return a prediction with some responses replaced."""
    subjects = maps.subjects.copy()
    subjects[where] = value
    return with_subjects(maps, subjects)


def _zscored(maps: Prediction) -> Prediction:
    return replace(maps, provenance=replace(maps.provenance, settings=Settings()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda maps: compute_contrast(_with(maps, (1, 4, 2), np.nan), TWO, "house - face"),
            DataError,
            "'image04.png' has NaN",
        ),
        (
            lambda maps: compute_contrast(_with(maps, np.s_[:, 5], 0.0), TWO, "house - face"),
            DataError,
            "'image05.png' has 0",
        ),
        (
            lambda maps: compute_contrast(_with(maps, np.s_[1, :, :10], 2.0), TWO, "house - face"),
            DataError,
            "PPA (L) of CSI2 responds to all 24 alike. Leave the ROI out",
        ),
        (
            lambda maps: compute_contrasts(maps, TWO, []),
            OptionError,
            "contrasts must be one or more; got none",
        ),
        (
            lambda maps: compute_contrast(maps, ["one"] + ["two"] * 23, "one - two"),
            DataError,
            "condition 'one' has 1",
        ),
        (
            lambda maps: compute_contrast(maps, TWO, "house - fase"),
            OptionError,
            "got 'fase'. Did you mean face?",
        ),
        (
            lambda maps: compute_contrast(maps, TWO, ["house - face"]),
            OptionError,
            "got ['house - face'] with neither text nor weights by condition",
        ),
        (
            lambda maps: compute_contrast(maps, TWO, controls="luminance"),
            OptionError,
            "controls must be what `encoder.controls(...).predict(images)` returns; got 'lumin",
        ),
        (
            lambda maps: compute_contrast(maps, TWO[:-1], "house - face"),
            ShapeError,
            "conditions must label each of the 24 images; got 23",
        ),
        (
            lambda maps: compute_contrast(maps, {"image00.png": "house"}, "house - face"),
            ShapeError,
            "label each of the 24 images; got 1",
        ),
        (
            lambda maps: compute_contrast(_zscored(maps), TWO, "house - face"),
            OptionError,
            "amplitude; got 'zscore'",
        ),
        (
            lambda maps: compute_contrast(maps, TWO, "house - face", alpha=0),
            OptionError,
            "alpha must lie",
        ),
        (
            lambda maps: compute_contrast(
                replace(maps, roi_masks={}, own_rois=({},) * 3), TWO, "house - face"
            ),
            DataError,
            "at least one ROI",
        ),
        (
            lambda maps: compute_contrast(maps, ["a", "b", "c"] * 8),
            OptionError,
            "which of 3 conditions to compare (a, b, c); got none. Write one such as 'a - c'",
        ),
        (
            lambda maps: compute_contrast(maps, TWO, "house - face", 2).to_img("z"),
            OptionError,
            "what must be one of difference, t,",
        ),
        (
            lambda maps: compute_contrast(
                maps, TWO, controls=[Control("untrained", maps[:20], (), False)]
            ),
            ShapeError,
            "control untrained must be of the prediction's stimuli, in their order; got 20",
        ),
        (lambda _: contrast_weights("house", ["house", "face"]), OptionError, "sum to 0; got 1"),
        (lambda _: contrast_weights({"house": 0}, ["house"]), OptionError, "not all 0"),
        (
            lambda _: contrast_weights({"a": float("nan"), "b": -1}, ["a", "b", "c"]),
            OptionError,
            "contrast must have finite weights",
        ),
        (lambda _: parse_contrast("a > b > c"), OptionError, "more than one '>'"),
        (lambda _: parse_contrast("a > b - c"), OptionError, "a minus beside '>'"),
        (lambda _: parse_contrast("2*a - b > c"), OptionError, "a minus beside '>'"),
        (lambda _: parse_contrast("a - a"), OptionError, "'a' twice"),
        (lambda _: parse_contrast(""), OptionError, "where a condition should be"),
        (lambda _: parse_contrast("a > "), OptionError, "where a condition should be"),
        (lambda _: welch_test([[1.0], [2.0]], [0, 1], [1, -1]), DataError, "at least 2 stimuli"),
        (lambda _: welch_test([[1.0], [2.0]], [0], [1, -1]), ShapeError, "n_stimuli, n_tests"),
    ],
)
def test_contrast_bad_input_names_the_item(
    call: Any, error: type[Exception], message: str, make_maps: Make
) -> None:
    """Each refusal says what was expected and which item is at fault."""
    with pytest.raises(error, match=re.escape(message)):
        call(make_maps())


def test_compute_contrast_region_of_one_voxel_that_responds_alike_is_refused(
    make_maps: Make,
) -> None:
    """A region of one voxel is a region, too: its test would divide by a spread of 0."""
    maps = make_maps(rois={("PPA", "L"): 1, ("LOC", "L"): 10})
    flat = _with(maps, np.s_[1, :, 0], 2.0)
    with pytest.raises(DataError, match=r"PPA \(L\) of CSI2 responds to all 24 alike"):
        compute_contrast(flat, TWO, "house - face")


def test_compute_contrast_conditions_by_name_equal_those_in_order(make_maps: Make) -> None:
    """A mapping from images to conditions, in any order and with more, says the same."""
    maps = make_maps(effect=1.0)
    of_name = {"gone.png": "face", **dict(zip(maps.names[::-1], TWO[::-1], strict=True))}
    by_name = compute_contrast(maps, of_name, "house - face", 20)
    pd.testing.assert_frame_equal(
        by_name.roi_table, compute_contrast(maps, TWO, "house - face", 20).roi_table
    )


def test_compute_contrast_series_is_labelled_by_its_index(make_maps: Make) -> None:
    """A Series by name says the same in any order; one whose index only counts is in order."""
    maps = make_maps(effect=1.0)
    by_name = pd.Series(TWO, index=maps.names)
    expected = compute_contrast(maps, TWO, "house - face", 2).test.t
    for conditions in (by_name, by_name[::-1], pd.Series(TWO, index=range(24)[::-1])):
        found = compute_contrast(maps, conditions, "house - face", 2)
        np.testing.assert_array_equal(found.test.t, expected)
    with pytest.raises(ShapeError, match="label each of the 24 images; got 0"):
        compute_contrast(maps, by_name.add_prefix("photos/"), "house - face", 2)


def test_compute_contrast_conditions_may_be_numbers(make_maps: Make) -> None:
    """Codes and truth values are conditions, by the text that writes them."""
    maps = make_maps(effect=1.0)
    codes = [int(kind == "face") for kind in TWO]
    expected = compute_contrast(maps, TWO, "house - face", 2).test.t
    for contrast in (None, "0 - 1", {0: 1, 1: -1}):
        found = compute_contrast(maps, np.array(codes), contrast, 2)
        np.testing.assert_array_equal(found.test.t, expected)


def test_compute_contrast_light_of_other_images_is_refused(make_maps: Make, tmp_path: Path) -> None:
    """A control of pictures must be of the prediction's images, in their order, too."""
    maps = make_maps()
    files = tuple(Source(tmp_path / name, name, "image") for name in maps.names[::-1])
    controls = [Control("luminance", None, files, center_crop=False)]
    with pytest.raises(ShapeError, match="control luminance must be of the prediction's stimuli"):
        compute_contrast(maps, TWO, n_permutations=2, controls=controls)


def test_compute_contrast_default_is_the_first_of_two_minus_the_second(make_maps: Make) -> None:
    """Without a contrast, two conditions are compared in the order in which they come."""
    result = compute_contrast(make_maps(), TWO, n_permutations=2)
    assert result.name == "house - face"
    assert result.weights == {"house": 1.0, "face": -1.0}


def test_compute_contrast_controls_are_the_same_contrast(
    make_maps: Make, make_prediction: Make, rng: np.random.Generator
) -> None:
    """Controls are what their predictions give alone, and change nothing of the encoder's."""
    maps, other = make_maps(effect=1.0), make_prediction(rng)
    pictures = tuple(rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8))
    controls = [
        Control("untrained", other, pictures, center_crop=False),
        Control("luminance", None, pictures, center_crop=False),
    ]
    result = compute_contrast(maps, TWO, "house - face", 50, 3, controls=controls)
    plain = compute_contrast(maps, TWO, "house - face", 50, 3)
    np.testing.assert_array_equal(result.p_max, plain.p_max)
    assert list(result.models) == ["encoder", "untrained"]
    alone = compute_contrast(other, TWO, "house - face", 50, 3)
    pd.testing.assert_frame_equal(result.of_controls["untrained"].roi_table, alone.roi_table)
    light = image_properties(pictures).drop(columns="size")
    expected = contrast_properties(light, TWO, "house - face", 50, 3)
    pd.testing.assert_frame_equal(result.of_images, expected)
    assert expected["property"].tolist() == ["luminance", "contrast"]


@pytest.fixture
def saved(make_prediction: Make, rng: np.random.Generator, tmp_path: Path) -> Contrast:
    """Return a contrast with both kinds of control, written to the folder ``out``."""
    (tmp_path / "photos").mkdir()
    maps = make_prediction(rng, n_stimuli=8, folder=tmp_path / "photos")
    controls = [
        Control("untrained:1", make_prediction(rng, n_stimuli=8), maps.sources, False),
        Control("luminance", None, maps.sources, False),
    ]
    conditions = ["house"] * 4 + ["face"] * 4
    result = compute_contrast(maps, conditions, "house > face", 9, controls=controls)
    failure = Failure("bad.png", StimulusError("bad.png: no picture"))
    save_contrast(result, tmp_path / "out", threshold="none", failures=[failure])
    return result


@pytest.mark.slow
@pytest.mark.parametrize("model", ["encoder", "untrained:1"])
def test_save_contrast_maps_are_the_results(saved: Contrast, model: str, tmp_path: Path) -> None:
    """Each map, and each map of a control, holds the result's values in the mask, 0 elsewhere.

    Intents, degrees of freedom, limits and descriptions are in the headers.
    """
    result = saved.models[model]
    stem = "house-gt-face" + ("" if model == "encoder" else "_untrained-1")
    mask = result.prediction.mask
    for name, values in {
        "difference": result.test.difference,
        "t": result.test.t,
        "fdr1p": 1 - result.p_fdr,
        "maxt1p": 1 - result.p_max,
        "conjunction": result.conjunction,
    }.items():
        image = nib.load(tmp_path / "out" / f"{stem}_{name}.nii.gz")
        np.testing.assert_array_equal(image.get_fdata()[mask], values.astype(np.float32))
        assert (image.get_fdata()[~mask] == 0).all()
        np.testing.assert_array_equal(image.affine, result.prediction.affine)
        code, said = {
            "difference": (1001, "difference, model units: house > face"),
            "t": (3, "Welch t over images, dof "),
            "fdr1p": (1001, "1 - p, FDR over voxels: house > face"),
            "maxt1p": (1001, "1 - p, max t over voxels: house > face"),
            "conjunction": (1001, "sign where each of 3 p < 0.05 uncorrected: house > face"),
        }[name]
        assert int(image.header["intent_code"]) == code
        assert bytes(image.header["descrip"]).decode().startswith(said)
        assert float(image.header["cal_max"]) > float(image.header["cal_min"])
    header = result.to_img("t").header
    assert header.get_intent()[1] == pytest.approx((np.median(result.test.dof),))
    assert float(header["cal_max"]) == pytest.approx(np.percentile(np.abs(result.test.t), 99))
    assert result.to_img("p_max").header.get_intent()[0] == "p value"


def test_save_contrast_tables_are_the_results(saved: Contrast, tmp_path: Path) -> None:
    """Tables have each model's rows, and that of images has luminance and contrast."""
    for kind, of in (("rois", "roi_table"), ("conditions", "condition_table")):
        table = pd.read_csv(tmp_path / "out" / f"house-gt-face_{kind}.tsv", sep="\t")
        assert list(dict.fromkeys(table["model"])) == ["encoder", "untrained:1"]
        for model, result in saved.models.items():
            rows = table[table["model"] == model].drop(columns="model").reset_index(drop=True)
            pd.testing.assert_frame_equal(
                rows, getattr(result, of), check_dtype=False, rtol=1e-5, atol=1e-12
            )
    images = pd.read_csv(tmp_path / "out" / "house-gt-face_luminance.tsv", sep="\t")
    pd.testing.assert_frame_equal(images, saved.of_images, rtol=1e-5)


@pytest.mark.slow
def test_save_contrast_record_tells_all_that_was_written(saved: Contrast, tmp_path: Path) -> None:
    """Every file is in the record with its digest, every image, what failed, and each control."""
    out = tmp_path / "out"
    record = json.loads((out / "contrast.json").read_text("utf-8"))
    listed = {entry["file"]: entry["sha256"] for entry in record["outputs"]}
    files = [path for path in out.iterdir() if path.name != "contrast.json"]
    assert listed == {path.name: sha256_of(path) for path in files}
    figures = {f"house-gt-face{of}.{kind}" for of in ("", "_untrained-1", "_controls")
               for kind in ("png", "svg")}  # fmt: skip
    assert figures <= set(listed)
    assert [entry["sha256"] for entry in record["inputs"]] == list(saved.prediction.sha256)
    assert record["failures"] == [{"name": "bad.png", "reason": "bad.png: no picture"}]
    assert record["state"] == "partial"
    assert set(record["controls"]) == {"untrained:1", "luminance"}
    assert record["settings"] == {
        "contrasts": ["house > face"],
        "conditions": {"house": 4, "face": 4},
        "n_permutations": 9,
        "alpha": 0.05,
        "threshold": "none",
        "seed": 0,
    }


@pytest.mark.slow
def test_save_contrast_several_share_a_folder_and_a_record(make_maps: Make, tmp_path: Path) -> None:
    """Two contrasts of one prediction have files and lines of their own; else they are refused."""
    maps = make_maps()
    both = [compute_contrast(maps, TWO, text, 3) for text in ("house - face", "face - house")]
    save_contrast(both, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "contrast.json").read_text("utf-8"))
    assert record["settings"]["contrasts"] == ["house - face", "face - house"]
    assert record["state"] == "complete"
    names = {entry["file"].partition("_")[0].partition(".")[0] for entry in record["outputs"]}
    assert names == {"house-minus-face", "face-minus-house"}
    with pytest.raises(OptionError, match="it holds contrast.json"):
        save_contrast(both, tmp_path / "out")
    other = compute_contrast(maps, TWO, "house - face", 4)
    with pytest.raises(DataError, match="of one prediction, .*; got 2 kinds"):
        save_contrast([both[0], other], tmp_path / "other")
    with pytest.raises(OptionError, match="threshold must be one of .*'p'"):
        save_contrast(both, tmp_path / "other", threshold="p")
    assert not (tmp_path / "other").exists()


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
    with pytest.raises(ShapeError, match="label each of the 24 images; got 3"):
        contrast_properties(properties, TWO[:3], "house - face")
    with pytest.raises(DataError, match="condition 'one' has 1"):
        contrast_properties(properties, [*TWO[:23], "one"], "house - one")
    properties.loc[7, "luminance"] = np.nan
    with pytest.raises(DataError, match="image 'image07' has nan for luminance"):
        contrast_properties(properties, TWO, "house - face")
