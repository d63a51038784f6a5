"""Selecting voxels by their accuracy, and intervals that cover what they claim."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from imgtofmri.bundle import Bundle, RoiModel, SubjectModel
from imgtofmri.encoder import Encoder, Settings
from imgtofmri.encoder.intervals import half_widths
from imgtofmri.encoder.voxelwise import restrict_voxels, voxel_table
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.spaces import Grid, affine_map


def make_bundle(rng: np.random.Generator, n_subjects: int, **changes: Any) -> Bundle:
    """Return a bundle whose subjects' weights scatter about common ones, with known residuals."""
    grid = Grid((6, 6, 6), np.diag([2.0, 2, 2, 1]))
    voxels = np.arange(80, 120)
    common = rng.normal(size=(4, 40))
    subjects = []
    for number in range(n_subjects):
        extras = {
            "cv_r": np.linspace(0, 0.78, 40, dtype=np.float32),
            "noise_ceiling": np.full(40, 0.5, np.float32),
            "residual_variance": np.linspace(1, 3, 40, dtype=np.float32),
        }
        model = RoiModel(
            voxels.astype(np.int32),
            np.repeat(np.array([0, 1], np.uint8), 20),
            (common + rng.normal(size=common.shape)).astype(np.float32),
            np.zeros(40, np.float32),
            extras=extras | changes,
        )
        to_template = affine_map(grid, grid, np.eye(4)).restrict(voxels)
        subjects.append(SubjectModel(f"S{number}", grid, to_template, {"LOC": model}))
    card = {"id": "b", "title": "b", "licence": "b", "citation": "b", "template": {"space": "T"}}
    features = {"id": "net/pool", "backbone": "net", "layers": ["pool"], "n_features": 4}
    return Bundle(card | {"features": features}, grid, tuple(subjects))


def test_restrict_voxels_keeps_what_reaches_the_minimum(rng: np.random.Generator) -> None:
    """The voxels left, their weights and extras are those at or above the minimum."""
    bundle = make_bundle(rng, 2)
    model = restrict_voxels(bundle, 0.4).subjects[1].rois["LOC"]
    kept = bundle.subjects[1].rois["LOC"].extras["cv_r"] >= 0.4
    assert 0 < kept.sum() < 40
    original = bundle.subjects[1].rois["LOC"]
    np.testing.assert_array_equal(model.voxels, original.voxels[kept])
    np.testing.assert_array_equal(model.weights, original.weights[:, kept])
    np.testing.assert_array_equal(model.extras["cv_r"], original.extras["cv_r"][kept])
    by_share = restrict_voxels(bundle, 0.8, share_of_ceiling=True)
    np.testing.assert_array_equal(by_share.subjects[1].rois["LOC"].voxels, model.voxels)
    said = "cv_r / noise_ceiling (of 0.1 or more) >= 0.8: 40 of 80 voxels"
    assert by_share.card["restricted"] == said
    features = rng.normal(size=(3, 4))
    few, all_voxels = (Encoder(b).predict_native(features, "LOC", "S1") for b in (by_share, bundle))
    np.testing.assert_allclose(few, all_voxels[:, kept], rtol=1e-5)


def test_restrict_voxels_twice_says_both(rng: np.random.Generator) -> None:
    """A laxer minimum after a stricter one does not pass for the only one."""
    bundle = restrict_voxels(restrict_voxels(make_bundle(rng, 2), 0.4), 0.1)
    assert bundle.card["restricted"] == "cv_r >= 0.4: 40 of 80 voxels; cv_r >= 0.1: 40 of 40 voxels"


def test_restrict_voxels_share_of_almost_no_ceiling_does_not_count(
    rng: np.random.Generator,
) -> None:
    """A ceiling below 0.1 lets no voxel in, however large its share of it."""
    ceiling = np.repeat(np.array([0.0, 0.0999, 0.1, 0.5], np.float32), 10)
    bundle = make_bundle(rng, 1, cv_r=np.full(40, 0.4, np.float32), noise_ceiling=ceiling)
    kept = restrict_voxels(bundle, 0.5, share_of_ceiling=True).subjects[0].rois["LOC"]
    np.testing.assert_array_equal(kept.voxels, bundle.subjects[0].rois["LOC"].voxels[20:])


def test_restrict_voxels_without_measure_or_voxel_is_refused(rng: np.random.Generator) -> None:
    """An unknown measure lists the known ones; a minimum that nothing reaches is refused."""
    bundle = make_bundle(rng, 1)
    with pytest.raises(OptionError, match=r"must be one of cv_r, noise_ceiling, .*got 'cv_rr'"):
        restrict_voxels(bundle, 0.1, by="cv_rr")
    with pytest.raises(DataError, match=r"cv_r >= 0.99; none of 40 does. Lower the minimum"):
        restrict_voxels(bundle, 0.99)


def test_restrict_voxels_share_of_a_ceiling_that_is_unknown_is_refused(
    rng: np.random.Generator,
) -> None:
    """Without repeats there is no ceiling, and the message says why and what to leave out."""
    bundle = make_bundle(rng, 1)
    del cast("dict[str, Any]", bundle.subjects[0].rois["LOC"].extras)["noise_ceiling"]
    with pytest.raises(OptionError, match=r"no stimulus was repeated .*Leave `share_of_ceiling`"):
        restrict_voxels(bundle, 0.5, share_of_ceiling=True)


@pytest.mark.slow
@pytest.mark.parametrize("n_subjects", [3, 8])
@pytest.mark.parametrize("r2", [0.05, 0.5, 0.9])
def test_prediction_interval_covers_a_new_persons_measurements(
    rng: np.random.Generator, n_subjects: int, r2: float
) -> None:
    """Of measurements of new people 93 to 97 % fall into intervals of 95 %, for any true R2."""
    inside = []
    for _ in range(60):
        # A prediction of four features, of which common and own weights share the variance, is 8.
        noise = 8 * (1 - r2) / r2
        variance = np.full(40, noise, np.float32)
        bundle = make_bundle(rng, n_subjects + 1, residual_variance=variance)
        newcomer = bundle.subjects[-1].rois["LOC"]
        encoder = Encoder(replace(bundle, subjects=bundle.subjects[:-1]))
        features = rng.normal(size=(12, 4))
        # A kernel this narrow leaves each voxel to itself, so the interval is exact.
        settings = {"sigma_mm": 0.1, "mask": "support"}
        prediction = encoder.predict_features(features, average="mean", **settings)
        lower, upper = prediction.interval(0.95)
        assert prediction.group.shape == lower.shape
        mine = np.isin(np.flatnonzero(prediction.mask), newcomer.voxels)
        measured = features @ newcomer.weights + rng.normal(size=(12, 40)) * np.sqrt(noise)
        inside.append(np.mean((lower[:, mine] <= measured) & (measured <= upper[:, mine])))
    # 60 people and 28,800 measurements: the standard error is below .004.
    assert 0.93 < np.mean(inside) < 0.97


def test_half_widths_equal_a_loop(rng: np.random.Generator) -> None:
    """People's weighted variance, its degrees of freedom and the quantile, voxel by voxel."""
    coverage = np.array([[1.0, 1.0, 0.9], [1.0, 0.5, 0.0], [1.0, 0.2, 0.4]])
    responses = rng.normal(size=(3, 2, 3))
    residual = np.array([0.5, 1.0, 2.0])
    found = half_widths(responses * coverage[:, None], coverage, residual, 0.9)
    for voxel in range(3):
        w = coverage[coverage[:, voxel] > 0, voxel]
        centre = np.diag(w) - np.outer(w, w) / w.sum()  # the quadratic form of the spread
        freedom = np.trace(centre) ** 2 / np.trace(centre @ centre)
        for image in range(2):
            x = responses[coverage[:, voxel] > 0, image, voxel]
            new = (x @ centre @ x) / np.trace(centre) * (1 + np.sum(w**2) / w.sum() ** 2)
            total = new + residual[voxel]
            expected = stats.t.ppf(0.95, freedom * total / new) * np.sqrt(total)
            assert found[image, voxel] == pytest.approx(expected)
    spread = responses[:, :, 0].var(axis=0, ddof=1) * (4 / 3)
    quantile = stats.t.ppf(0.95, 2 * (spread + 0.5) / spread)
    np.testing.assert_allclose(found[:, 0], quantile * np.sqrt(spread + 0.5))


def test_half_widths_need_two_people_who_cover_a_voxel(rng: np.random.Generator) -> None:
    """Where one person alone covers a voxel how people differ is unknown; zeros are no people."""
    maps = rng.normal(size=(3, 2, 2))
    coverage = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    found = half_widths(maps * coverage[:, None], coverage, np.ones(2), 0.95)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1]).all()
    same = half_widths(np.repeat(maps[:1], 3, axis=0), np.ones((3, 2)), np.ones(2), 0.95)
    np.testing.assert_allclose(same, 1.959964, rtol=1e-6)


@pytest.mark.parametrize(
    ("repeats", "n_rows", "expected"),
    [
        ("separate", 300, "a single presentation"),
        ("average", 100, "a single presentation"),
        ("average", 250, "the mean over a stimulus' presentations, .* fitted on 2.5 on average"),
    ],
)
def test_prediction_says_what_a_measurement_is(
    rng: np.random.Generator, repeats: str, n_rows: int, expected: str
) -> None:
    """An interval covers what the study's rows were, and the record says what that is."""
    bundle = make_bundle(rng, 2)
    features = rng.normal(size=(1, 4))
    said = Encoder(bundle).predict_features(features, average="mean").provenance
    assert "measurement" not in said.to_dict()
    fit = {"settings": {"repeats": repeats}, "data": {"S0": {"n_rows": n_rows, "n_stimuli": 100}}}
    known = replace(bundle, card=bundle.card | {"fit": fit})
    said = Encoder(known).predict_features(features, average="mean").provenance
    assert re.fullmatch(expected, said.to_dict()["measurement"])


def test_prediction_interval_smoothing_gives_an_upper_limit(rng: np.random.Generator) -> None:
    """Standard deviations are smoothed as responses are, and divided by the person's coverage."""
    variance = rng.uniform(1, 4, 40).astype(np.float32)
    encoder = Encoder(make_bundle(rng, 1, residual_variance=variance))
    prediction = encoder.predict_features(rng.normal(size=(2, 4)), average="mean", mask="support")
    matrix = encoder.spatial_model(mask="support").subjects[0].matrix.toarray()
    covered = prediction.covered
    lower, upper = prediction.interval(0.95)
    deviation = (matrix @ np.sqrt(variance))[covered] / matrix.sum(axis=1)[covered]
    np.testing.assert_allclose((upper - lower)[0, covered], 2 * 1.959964 * deviation, rtol=1e-4)
    middle = ((upper + lower) / 2)[:, covered]
    np.testing.assert_allclose(middle, prediction.group[:, covered], atol=1e-5)
    assert not covered.all()
    assert np.isnan(lower[:, ~covered]).all()


def test_prediction_interval_takes_residuals_of_those_who_cover_a_voxel(
    rng: np.random.Generator,
) -> None:
    """At each voxel the mean over people, by coverage, of variances of responses, not of maps."""
    bundle = make_bundle(rng, 2)
    few = restrict_voxels(replace(bundle, subjects=bundle.subjects[1:]), 0.4).subjects
    model = Encoder(replace(bundle, subjects=(bundle.subjects[0], *few))).spatial_model()
    assert model.residual_variance is not None
    parts = []
    for subject in model.subjects:
        deviations = np.sqrt(subject.models[0].extras["residual_variance"])
        weights = subject.matrix.toarray().astype(float)
        parts.append((weights.sum(axis=1), weights @ deviations))
    for voxel, found in enumerate(model.residual_variance):
        there = [(w[voxel], d[voxel]) for w, d in parts if w[voxel] > 0]
        expected = sum(w * (d / w) ** 2 for w, d in there) / sum(w for w, _ in there)
        assert found == pytest.approx(expected, rel=1e-4)


def test_prediction_interval_refuses_what_has_no_units(rng: np.random.Generator) -> None:
    """Z-scores, impossible levels and bundles without residual variances are refused."""
    bundle = make_bundle(rng, 2)
    encoder = Encoder(bundle)
    features = rng.normal(size=(2, 4))
    with pytest.raises(OptionError, match=r'average must be "mean" .*; got \'zscore\''):
        encoder.predict_features(features).interval()
    mean = encoder.predict_features(features, average="mean")
    with pytest.raises(OptionError, match=r"level must be between 0 and 1; got 95"):
        mean.interval(95)
    for subject in bundle.subjects:
        for model in subject.rois.values():
            assert isinstance(model.extras, dict)
            del model.extras["residual_variance"]
    silent = Encoder(bundle).predict_features(features, average="mean")
    with pytest.raises(OptionError, match=r"does not record it, .* leave the interval out"):
        silent.interval()


def test_prediction_interval_knows_its_predictions_settings(rng: np.random.Generator) -> None:
    """An interval is of the smoothing, the ROIs and the mask that the prediction was made with."""
    encoder = Encoder(make_bundle(rng, 1))
    deviations = np.sqrt(encoder.bundle.subjects[0].rois["LOC"].extras["residual_variance"])
    features = rng.normal(size=(1, 4))
    for sigma_mm in (0.5, 3.0):
        settings = Settings(sigma_mm=sigma_mm, average="mean")
        prediction = encoder.predict_features(features, settings)
        lower, upper = prediction.interval(0.95)
        matrix = encoder.spatial_model(settings).subjects[0].matrix.toarray()[prediction.covered]
        expected = 2 * 1.959964 * (matrix @ deviations) / matrix.sum(axis=1)
        width = (upper - lower)[0, prediction.covered]
        np.testing.assert_allclose(width, expected, rtol=1e-4)


def test_voxel_table_says_place_and_measures(rng: np.random.Generator) -> None:
    """A row for each voxel, in the models' order; places lead back to the voxels."""
    bundle = make_bundle(rng, 2)
    table = voxel_table(bundle)
    assert len(table) == 80
    mine = table[table["subject"] == "S1"]
    model = bundle.subjects[1].rois["LOC"]
    indices = mine[["i", "j", "k"]].to_numpy()
    assert np.ravel_multi_index(tuple(indices.T), (6, 6, 6)).tolist() == model.voxels.tolist()
    np.testing.assert_array_equal(mine[["x_mm", "y_mm", "z_mm"]], indices * 2.0)
    assert "".join(mine["hemi"]) == "L" * 20 + "R" * 20
    for name, values in model.extras.items():
        np.testing.assert_array_equal(mine[name], values)


def test_accuracy_of_a_voxel_is_what_a_response_of_r_would_be_mapped_to(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    """Models that answer with their own r predict, as mean over people, the map of accuracy."""
    bundle = make_bundle(rng, 2)
    for subject in bundle.subjects:
        model = subject.rois["LOC"]
        model.weights[:] = 0
        model.intercept[:] = model.extras["cv_r"]
    encoder = Encoder(bundle)
    prediction = encoder.predict_features(np.zeros((1, 4)), names=["a"], average="mean")
    assert prediction.accuracy is not None
    expected = np.where(prediction.covered, prediction.accuracy, np.nan)
    np.testing.assert_allclose(prediction.group[0], expected, rtol=1e-4, atol=1e-6)
    prediction.save(tmp_path / "out")
    saved = nib.load(tmp_path / "out" / "evidence" / "accuracy.nii.gz").get_fdata()
    np.testing.assert_allclose(saved[prediction.mask], prediction.accuracy, rtol=1e-6)
    restricted = make_bundle(rng, 2)
    del restricted.subjects[1].rois["LOC"].extras["cv_r"]  # type: ignore[attr-defined]
    silent = Encoder(restricted).predict_features(np.zeros((1, 4)), names=["a"])
    assert silent.accuracy is None
