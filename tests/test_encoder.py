"""Features to group maps: the published numbers, invariants, and errors."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.ndimage
import scipy.stats
from PIL import Image

from imgtofmri.analyses.rsa import compare_geometry, model_rdms
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder, Settings, load_encoder
from imgtofmri.encoder.agreement import Agreement
from imgtofmri.encoder.controls import describe_controls
from imgtofmri.encoder.prediction import Prediction, concatenate, counted
from imgtofmri.encoder.spatial import group_maps, zscore
from imgtofmri.exceptions import (
    BundleError,
    OptionError,
    ShapeError,
    StimulusError,
)
from imgtofmri.spaces import gaussian_kernel
from imgtofmri.stimuli import Failure, expand_images

Features = npt.NDArray[np.float32]

PUBLISHED = [
    ("published_images.npz", ["EarlyVis", "OPA", "LOC", "RSC"], 1.25, 41515),
    ("published_movie.npz", ["LOC", "RSC", "PPA"], 1.0, 24762),
]


@pytest.fixture(scope="session")
def published_encoder(published_bundle: Bundle) -> Encoder:
    """Return the published encoder."""
    return Encoder(published_bundle)


@pytest.fixture
def encoder(small_bundle: Bundle) -> Encoder:
    """Return a small encoder."""
    return Encoder(small_bundle)


@pytest.fixture
def features(rng: np.random.Generator) -> Features:
    """Return features of 37 stimuli, which is no multiple of a block."""
    return rng.normal(size=(37, 6)).astype(np.float32)


@pytest.mark.network
@pytest.mark.parametrize(("file", "rois", "sigma_mm", "n_voxels"), PUBLISHED)
def test_predict_features_gives_the_published_responses(
    published_encoder: Encoder,
    test_data: Path,
    file: str,
    rois: list[str],
    sigma_mm: float,
    n_voxels: int,
) -> None:
    """From the published features come the published maps, voxel for voxel."""
    published = np.load(test_data / "reference" / file)
    got = published_encoder.predict_features(
        published["features"], rois=rois, sigma_mm=sigma_mm, mask="support"
    )
    np.testing.assert_array_equal(got.mask, published["support_mask"])
    assert got.group.shape == (len(published["features"]), n_voxels)
    np.testing.assert_allclose(got.affine, published["affine"])
    for map_, expected in zip(got.group, published["responses"], strict=True):
        assert np.corrcoef(map_, expected)[0, 1] > 1 - 1e-9
        assert np.sqrt(np.mean((map_ - expected) ** 2)) < 1e-6


@pytest.mark.slow
@pytest.mark.network
def test_overlap_mask_has_the_published_size(published_encoder: Encoder) -> None:
    """Release 1.0's mask of all five ROIs has 9,641 voxels, whatever the smoothing."""
    for sigma_mm in (1.0, 2.5):
        assert published_encoder.spatial_model(sigma_mm=sigma_mm).mask.sum() == 9641


@pytest.mark.network
def test_roi_masks_lie_in_their_hemispheres(published_encoder: Encoder) -> None:
    """Left ROIs lie left of the midline, right ones right of it, but for a few voxels near it."""
    spatial = published_encoder.spatial_model()
    x_mm = 90 - 2 * np.nonzero(spatial.mask)[0]
    for (_, hemi), inside in spatial.roi_masks.items():
        right = x_mm[inside] > 0
        assert right.mean() > 0.9 if hemi == "R" else right.mean() < 0.1


def test_group_map_equals_a_written_out_computation(encoder: Encoder, features: Features) -> None:
    """One volume at a time: write, average overlaps, move, smooth, z-score."""
    got = encoder.predict_features(features[:3], sigma_mm=1.5)
    template = encoder.bundle.template
    for index, row in enumerate(features[:3].astype(float)):
        total = np.zeros(int(got.mask.sum()))
        for number, subject in enumerate(encoder.bundle.subjects):
            native: dict[int, float] = {}
            for model in subject.rois.values():
                for voxel, value in zip(
                    model.voxels.tolist(), row @ model.weights + model.intercept, strict=True
                ):
                    native[voxel] = (native[voxel] + value) / 2 if voxel in native else value
            volume = np.zeros(template.n_voxels)
            moves = subject.to_template
            for target, source in zip(moves.template.tolist(), moves.native.tolist(), strict=True):
                volume[target] = native[source]
            smooth = volume.reshape(template.shape)
            for axis in range(3):
                kernel = gaussian_kernel(1.5, 2.0)
                smooth = scipy.ndimage.correlate1d(smooth, kernel, axis, mode="constant")
            map_ = smooth[got.mask]
            np.testing.assert_allclose(got.subjects[number, index], map_, atol=1e-5)
            total += (map_ - map_.mean()) / map_.std()
        expected = (total - total.mean()) / total.std()
        np.testing.assert_allclose(got.group[index], expected, atol=1e-5)


def test_numbers_do_not_depend_on_the_company(encoder: Encoder, features: Features) -> None:
    """Alone, in another order or in other batches, each stimulus gives the same bits."""
    together = encoder.predict_features(features)
    order = np.random.default_rng(1).permutation(len(features))
    shuffled = encoder.predict_features(features[order])
    np.testing.assert_array_equal(shuffled.group, together.group[order])
    for index in (0, 15, 31, 32, 36):
        alone = encoder.predict_features(features[index : index + 1])
        np.testing.assert_array_equal(alone.group[0], together.group[index])
        np.testing.assert_array_equal(alone.subjects[:, 0], together.subjects[:, index])


@pytest.mark.network
def test_published_encoder_numbers_do_not_depend_on_the_company(
    published_encoder: Encoder, rng: np.random.Generator
) -> None:
    """The same at full size, where the matrix products go through the fast paths."""
    features = np.abs(rng.normal(size=(35, 512))).astype(np.float32)
    together = published_encoder.predict_features(features)
    order = rng.permutation(35)
    shuffled = published_encoder.predict_features(features[order])
    np.testing.assert_array_equal(shuffled.subjects, together.subjects[:, order])
    np.testing.assert_array_equal(shuffled.group, together.group[order])
    for part in (slice(0, 1), slice(5, 22), slice(34, 35)):
        alone = published_encoder.predict_features(features[part])
        np.testing.assert_array_equal(alone.subjects, together.subjects[:, part])
        np.testing.assert_array_equal(alone.group, together.group[part])
        np.testing.assert_array_equal(
            alone.roi_means().values, together.roi_means().values[..., part]
        )


@pytest.mark.network
def test_published_encoder_native_numbers_do_not_depend_on_the_company(
    published_encoder: Encoder, rng: np.random.Generator
) -> None:
    """On a subject's own grid a stimulus' numbers are its own as well."""
    features = np.abs(rng.normal(size=(35, 512))).astype(np.float32)
    together = published_encoder.predict_native(features, "LOC", "CSI1")
    for part in (slice(0, 1), slice(5, 22), slice(34, 35)):
        alone = published_encoder.predict_native(features[part], "LOC", "CSI1")
        np.testing.assert_array_equal(alone, together[part])


def test_roi_table_does_not_depend_on_the_company(encoder: Encoder, features: Features) -> None:
    """The mean of an ROI's voxels is the same bits alone and among others."""
    together = encoder.predict_features(features).roi_table()
    for index in (0, 15, 36):
        alone = encoder.predict_features(features[index : index + 1]).roi_table()
        mine = together[together["stimulus"] == f"stimulus-{index:04d}"]
        np.testing.assert_array_equal(alone["mean"], mine["mean"])


def test_average_mean_keeps_amplitude(encoder: Encoder, features: Features) -> None:
    """The mean is over those who stand behind a voxel; z-scores have mean 0 and deviation 1."""
    mean = encoder.predict_features(features, average="mean")
    people = mean.coverage.sum(axis=0, dtype=np.float64)
    assert 0 < mean.covered.sum() < len(people)
    np.testing.assert_array_equal(mean.covered, people >= 0.5)
    assert np.isnan(mean.group[:, ~mean.covered]).all()
    total = mean.subjects.sum(axis=0, dtype=np.float64)
    expected = (total / people)[:, mean.covered]
    np.testing.assert_allclose(mean.group[:, mean.covered], expected, rtol=1e-6)
    scored = encoder.predict_features(features)
    np.testing.assert_allclose(scored.group.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(scored.group.std(axis=1), 1, atol=1e-6)


def test_prediction_is_linear_up_to_the_zscores(encoder: Encoder, features: Features) -> None:
    """The response to the mean of two feature vectors is the mean of the responses."""
    pair = features[:2]
    ends = encoder.predict_features(pair, average="mean")
    middle = encoder.predict_features(pair.mean(axis=0, keepdims=True), average="mean").group
    np.testing.assert_allclose(middle[0], ends.group.mean(axis=0), atol=1e-5)


def test_zscore_is_scipy_s_at_any_scale(rng: np.random.Generator) -> None:
    """Maps in a model's units, whose deviation is .02, and in others."""
    maps = rng.standard_normal((3, 40)) * [[0.02], [1.0], [300.0]] + 5
    np.testing.assert_allclose(zscore(maps), scipy.stats.zscore(maps, axis=-1), rtol=1e-9)


def test_settings_take_what_is_left_open_from_the_encoder() -> None:
    """ROIs and how pictures are cropped; what was said stays."""
    for crop in (False, True):
        assert Settings().resolved(["LOC", "PPA"], crop).center_crop is crop
        assert Settings(center_crop=not crop).resolved(["LOC"], crop).center_crop is not crop
    assert Settings().resolved(["LOC", "PPA"], True).rois == ("LOC", "PPA")
    assert Settings(rois="PPA").resolved(["LOC", "PPA"], True).rois == ("PPA",)


@pytest.mark.parametrize("sigma_mm", [0, -1, 1e9, float("nan")])
def test_settings_refuse_widths_at_once(sigma_mm: float) -> None:
    """Not only where they are used."""
    with pytest.raises(OptionError, match="sigma_mm must be a positive number of millimetres"):
        Settings(sigma_mm=sigma_mm)


def test_zscore_of_a_constant_map_is_zero() -> None:
    """There is no deviation to divide by."""
    assert not zscore(np.full((2, 5), 3.0, np.float32)).any()
    everywhere = np.ones((3, 5), np.float32)
    assert not group_maps(np.full((3, 2, 5), 3.0, np.float32), "zscore", everywhere).any()


def test_predict_native_is_the_linear_model(encoder: Encoder, features: Features) -> None:
    """Features times weights plus intercept, voxel by voxel."""
    model = encoder.bundle.subjects[1].rois["PPA"]
    got = encoder.predict_native(features, roi="PPA", subject="S2")
    np.testing.assert_allclose(got, features @ model.weights + model.intercept, atol=1e-5)


def test_a_model_may_use_a_part_of_the_features(small_bundle: Bundle, features: Features) -> None:
    """Features before and after its own do not matter to it."""
    subjects = tuple(
        dataclasses.replace(
            subject,
            rois={
                roi: dataclasses.replace(model, weights=model.weights[2:5], first_feature=2)
                for roi, model in subject.rois.items()
            },
        )
        for subject in small_bundle.subjects
    )
    encoder = Encoder(dataclasses.replace(small_bundle, subjects=subjects))
    changed = features.copy()
    changed[:, [0, 1, 5]] += 10
    np.testing.assert_array_equal(
        encoder.predict_features(features).group, encoder.predict_features(changed).group
    )


def test_order_of_rois_does_not_matter_for_two(encoder: Encoder, features: Features) -> None:
    """A mean of two values is the same in either order."""
    one = encoder.predict_features(features, rois=["LOC", "PPA"])
    other = encoder.predict_features(features, rois=["PPA", "LOC", "PPA"])
    np.testing.assert_allclose(one.group, other.group, atol=1e-5)


def test_roi_means_are_of_each_persons_own_roi(encoder: Encoder, features: Features) -> None:
    """Rows equal the models' own voxels in native space; the group's, the mean over people."""
    got = encoder.predict_features(features[:2], names=["a", "b"])
    table = got.roi_table().set_index(["stimulus", "roi", "hemi", "subject"])["mean"]
    assert len(table) == 2 * 2 * 3 * 3  # stimuli, ROIs, hemispheres and both, subjects and group
    assert set(got.roi_table()["unit"]) == {"model units"}
    for roi in ("LOC", "PPA"):
        for hemi, codes in {"L": [0], "R": [1], "both": [0, 1]}.items():
            means = {}
            for subject in encoder.bundle.subjects:
                model = subject.rois[roi]
                own = np.isin(model.hemi, codes)
                responses = features[1].astype(float) @ model.weights[:, own] + model.intercept[own]
                means[subject.name] = responses.mean()
                found = got.roi_responses(roi, subject.name, hemi)[1]
                np.testing.assert_allclose(found, responses, rtol=1e-5, atol=1e-5)
            means["group"] = np.mean(list(means.values()))
            for subject_name, mean in means.items():
                row = table["b", roi, hemi, subject_name]
                np.testing.assert_allclose(row, mean, rtol=1e-5, atol=1e-6)


def test_a_person_without_an_roi_has_no_mean_of_it(
    small_bundle: Bundle, features: Features
) -> None:
    """The row is NaN, the group is the other person's, and voxels are refused with who has it."""
    one, two = small_bundle.subjects
    lacking = dataclasses.replace(one, rois={"PPA": one.rois["PPA"]})
    got = Encoder(dataclasses.replace(small_bundle, subjects=(lacking, two))).predict_features(
        features[:2]
    )
    means = got.roi_means()
    place = means.places.index(("LOC", "both"))
    assert np.isnan(means.values[place, 0]).all()
    np.testing.assert_array_equal(means.group[place], means.values[place, 1])
    with pytest.raises(OptionError, match="must be one who has LOC; got S1, who has not. .*: S2"):
        got.roi_responses("LOC", "S1")


def test_coverage_is_the_map_of_a_person_who_responds_with_one_everywhere(
    small_bundle: Bundle, features: Features
) -> None:
    """Its sum over people says how many stand behind a voxel."""
    ones = tuple(
        dataclasses.replace(
            subject,
            rois={
                roi: dataclasses.replace(
                    model, weights=0 * model.weights, intercept=np.ones_like(model.intercept)
                )
                for roi, model in subject.rois.items()
            },
        )
        for subject in small_bundle.subjects
    )
    got = Encoder(dataclasses.replace(small_bundle, subjects=ones)).predict_features(
        features[:1], average="mean"
    )
    np.testing.assert_allclose(got.coverage, got.subjects[:, 0], atol=1e-6)
    np.testing.assert_allclose(got.group[0, got.covered], 1, atol=1e-6)


def test_agreement_is_the_correlation_over_stimuli(encoder: Encoder, features: Features) -> None:
    """Of two people, in voxels of which each makes half of the map; NumPy is the oracle."""
    got = encoder.predict_features(features)
    agreement = got.agreement()
    both = (got.coverage >= 0.5).all(axis=0)
    assert 0 < both.sum() < len(both)
    np.testing.assert_array_equal(np.isnan(agreement), ~both)
    for voxel in np.flatnonzero(both):
        expected = np.corrcoef(got.subjects[0, :, voxel], got.subjects[1, :, voxel])[0, 1]
        np.testing.assert_allclose(agreement[voxel], expected, atol=1e-5)
    with pytest.raises(OptionError, match="needs at least 20 stimuli, .* got 19"):
        got[:19].agreement()


def test_agreement_where_a_map_does_not_change_is_not_known() -> None:
    """Rounding of squares of large constants is no variance: there is nothing to correlate."""
    maps = np.random.default_rng(3).standard_normal((2, 30, 3)).astype(np.float32)
    maps[0, :, 1] = 1e4 / 3
    agreement = Agreement.of(maps, np.ones((2, 3), np.float32)).values()
    np.testing.assert_array_equal(np.isnan(agreement), [False, True, False])


@pytest.mark.parametrize("given", [{"names": ["a", "b"]}, {"onsets_s": np.arange(2.0)}])
def test_predict_features_names_and_onsets_are_one_for_each(
    encoder: Encoder, features: Features, given: dict[str, Any]
) -> None:
    """Fewer are not taken for those of the first ones."""
    with pytest.raises(ShapeError, match="must be as many as the 3 rows of features; got"):
        encoder.predict_features(features[:3], **given)


def test_counted_reports_how_many_stimuli_are_done(encoder: Encoder, features: Features) -> None:
    """What progress shows is stimuli, not parts."""
    parts = [encoder.predict_features(features[:3]), encoder.predict_features(features[3:4])]
    told: list[float] = []
    assert list(counted(parts, told.append)) == parts
    assert told == [3, 1]


def test_maps_are_the_group_s_alone_unless_more_is_asked_for(
    encoder: Encoder, features: Features
) -> None:
    """Each person's map is one of several as large as the group's."""
    got = encoder.predict_features(features[:2])
    assert list(got.maps()) == [(None, "")]
    assert list(got.maps(subjects=True)) == [(None, ""), ("S1", ""), ("S2", "")]


def test_to_img_puts_each_value_in_its_voxel(encoder: Encoder, features: Features) -> None:
    """3-D for one stimulus, 4-D for several; MNI152 codes; zero outside the mask."""
    got = encoder.predict_features(features[:3], onsets_s=np.array([0.0, 0.5, 1.0]))
    image = got.to_img()
    data = np.asarray(image.dataobj)
    assert data.shape == (12, 10, 9, 3)
    assert data.dtype == np.float32
    np.testing.assert_array_equal(data[got.mask].T, got.group)
    assert not data[~got.mask].any()
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (4, 4)
    np.testing.assert_allclose(image.header.get_zooms(), (2, 2, 2, 0.5))
    assert encoder.predict_features(features[:1]).to_img("S2").shape == (12, 10, 9)


@pytest.mark.parametrize(
    ("onsets_s", "step_s"),
    [([0, 0.5, 1], 0.5), ([1, 0.5, 0], 1), ([2.5, 0, 0.5], 1), ([0, 0.5, 0], 1), ([0, 3], 3)],
)
def test_to_img_has_a_time_step_where_there_is_one(
    encoder: Encoder, features: Features, onsets_s: list[float], step_s: float
) -> None:
    """Frames backwards, or of the end of one movie and the beginning of the next, have none."""
    n = len(onsets_s)
    header = encoder.predict_features(features[:n], onsets_s=np.array(onsets_s)).to_img().header
    assert header["pixdim"][4] == step_s  # 1 is the header's own.


@pytest.mark.parametrize("roi", [None, "LOC", "PPA"])
def test_to_native_img_puts_each_value_in_the_persons_own_voxel(
    encoder: Encoder, features: Features, roi: str | None
) -> None:
    """One ROI is its model's outputs; of all, overlaps are written in turn and averaged."""
    got = encoder.predict_features(features[:3], onsets_s=np.array([0.0, 0.5, 1.0]))
    for subject in encoder.bundle.subjects:
        expected = np.zeros((3, subject.native.n_voxels), np.float32)
        written: set[int] = set()
        for name, model in subject.rois.items():
            if roi in (None, name):
                values = encoder.predict_native(features[:3], name, subject.name)
                for voxel, column in zip(model.voxels.tolist(), values.T, strict=True):
                    mean = (expected[:, voxel] + column) / 2
                    expected[:, voxel] = mean if voxel in written else column
                    written.add(voxel)
        image = got.to_native_img(subject.name, roi)
        data = np.moveaxis(np.asarray(image.dataobj), -1, 0).reshape(3, -1)
        np.testing.assert_allclose(data, expected, atol=1e-6)
        np.testing.assert_array_equal(image.affine, subject.native.affine)
        assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (2, 2)
        np.testing.assert_allclose(image.header.get_zooms(), (*subject.native.voxel_mm, 0.5))


def test_to_native_img_refuses_whom_it_does_not_know(
    encoder: Encoder,
    features: Features,
    make_prediction: Callable[..., Prediction],
    rng: np.random.Generator,
) -> None:
    """Unknown people and ROIs are named, and so is a prediction that no encoder made."""
    got = encoder.predict_features(features[:3])
    with pytest.raises(OptionError, match="subject must be one of S1, S2; got 'S9'"):
        got.to_native_img("S9")
    with pytest.raises(OptionError, match="roi must be one of .* got 'V1'"):
        got.to_native_img("S1", "V1")
    with pytest.raises(OptionError, match="needs the grid of each person"):
        make_prediction(rng).to_native_img("CSI1")


def test_describe_is_what_the_command_prints(
    encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card in Python is the card at the prompt."""
    write_bundle(encoder.bundle, tmp_path / "small.safetensors")
    assert main(["describe", str(tmp_path / "small.safetensors")]) == 0
    assert capsys.readouterr().out.strip() == encoder.describe().strip()


def test_concatenate_refuses_different_masks(encoder: Encoder, features: Features) -> None:
    """Predictions of different voxels do not go side by side."""
    one = encoder.predict_features(features[:1])
    other = encoder.predict_features(features[:1], rois="LOC")
    with pytest.raises(ShapeError, match="expected predictions of the same voxels"):
        concatenate([one, other])
    with pytest.raises(ShapeError, match="expected one or more predictions"):
        concatenate([])


def test_concatenate_refuses_what_was_made_otherwise(encoder: Encoder, features: Features) -> None:
    """Amplitudes and z-scores, or maps of two encoders of one id, are not one prediction."""
    one = encoder.predict_features(features[:1])
    zscored = concatenate([one, encoder.predict_features(features[1:2])])
    assert len(zscored) == 2
    means = encoder.predict_features(features[:1], average="mean")
    with pytest.raises(OptionError, match="got average 'zscore' and 'mean'. Predict them alike"):
        concatenate([one, means])
    subjects = encoder.bundle.subjects
    other = dataclasses.replace(encoder.bundle, subjects=subjects[::-1])
    with pytest.raises(OptionError, match="got encoder_sha256"):
        concatenate([one, Encoder(other).predict_features(features[:1])])


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"rois": ["PAP"]}, "rois must be one of LOC, PPA; got 'PAP'. Did you mean PPA?"),
    ({"rois": []}, "rois is empty; name one or more, or leave it out for all"),
    ({"sigma_mm": 0}, "sigma_mm must be a positive number"),
    ({"sigma_mm": float("nan")}, "sigma_mm must be a positive number"),
    ({"sigma_mm": "1"}, "sigma_mm must be a positive number of millimetres, at most 6; got '1'"),
    ({"sigma_mm": None}, "sigma_mm must be a positive number"),
    ({"sigma_mm": [1, 2]}, "sigma_mm must be a positive number"),
    ({"center_crop": "false"}, "center_crop must be True or False; got 'false'"),
    ({"rois": {"LOC", "PPA"}}, "rois must be a name or a list of names, whose order counts"),
    ({"rois": 3}, "rois must be a name or a list of names, whose order counts"),
    ({"mask": "all"}, "mask must be one of overlap, support"),
    ({"average": "median"}, "average must be one of zscore, mean"),
]


@pytest.mark.parametrize(("settings", "said"), BAD_SETTINGS)
def test_wrong_settings_say_what_is_valid(
    encoder: Encoder,
    features: Features,
    settings: dict[str, Any],
    said: str,
) -> None:
    """Each setting is checked before anything is computed."""
    with pytest.raises(OptionError, match=said.replace("?", r"\?")):
        encoder.predict_features(features, **settings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((2, 7)), r"of shape \(n_stimuli, 6\), .* got shape \(2, 7\)"),
        (np.zeros(6), r"got shape \(6,\)"),
        (np.zeros((0, 6)), r"got shape \(0, 6\)"),
        (np.array([[0.0] * 6, [np.nan] * 6]), "got NaN or infinity in row 1"),
    ],
)
def test_wrong_features_say_what_was_expected(encoder: Encoder, wrong: Any, said: str) -> None:
    """The message gives the shape and the network that the encoder was fitted on."""
    with pytest.raises(ShapeError, match=said):
        encoder.predict_features(wrong)


def test_stimuli_are_chosen_one_by_one_or_several_together(
    encoder: Encoder, features: Features
) -> None:
    """By numbers, names, slices, lists and booleans, as NumPy chooses, from the end, too."""
    got = encoder.predict_features(features, names=[f"{n}.jpg" for n in range(37)])
    some = np.arange(37) % 5 == 0
    choices = [
        (np.int64(3), [3]),
        (-37, [0]),
        (slice(9, 2, -3), [9, 6, 3]),
        ("7.jpg", [7]),
        (["7.jpg", "2.jpg"], [7, 2]),
        ([4, -1, 4], [4, 36, 4]),
        (np.array([4, 5]), [4, 5]),
        (some, np.flatnonzero(some)),
        (some.tolist(), np.flatnonzero(some)),
        ([], []),
    ]
    for chosen, rows in choices:
        part = got[chosen]
        assert part.names == tuple(f"{row}.jpg" for row in rows)
        for own, whole in ((part.group, got.group), (part.native[0], got.native[0])):
            np.testing.assert_array_equal(own, whole[np.array(rows, int)])
        np.testing.assert_array_equal(part.subjects, got.subjects[:, np.array(rows, int)])
        assert len(part.sha256) == len(part.sources) == len(rows)
    with pytest.raises(OptionError, match="must be one of s0, s1, .* and 150 more; got 's'\\."):
        encoder.predict_features(np.ones((200, 6)), names=[f"s{n}" for n in range(200)])["s"]
    assert "7.jpg" in got
    assert "37.jpg" not in got
    for chosen in (True, 1.0, None, (0, 1), some[1:], np.True_, {3}):
        with pytest.raises(OptionError, match="stimuli are chosen by a number, a name, a slice"):
            got[chosen]  # type: ignore[index]
    for number in (37, -38):
        with pytest.raises(IndexError, match=f"must be one of 37; got number {number}"):
            got[number]


def test_names_of_several_stimuli_choose_none(encoder: Encoder, features: Features) -> None:
    """The first one was taken; numbers tell them apart."""
    got = encoder.predict_features(features, names=["a", *map(str, range(35)), "a"])
    with pytest.raises(OptionError, match=r"got 'a', which 2 have: numbers 0, 36\."):
        got["a"]


def test_names_are_text_whatever_they_were(encoder: Encoder, features: Features) -> None:
    """Numbers and paths name stimuli by the text that writes them."""
    got = encoder.predict_features(features[:2], names=[Path("a"), 10])  # type: ignore[list-item]
    assert got.names == ("a", "10")
    assert got["10"].names == ("10",)


def test_what_predictions_share_cannot_be_changed(encoder: Encoder, features: Features) -> None:
    """A mask changed in place would be that of the encoder, and of all its other predictions."""
    got = encoder.predict_features(features)
    shared = [got.mask, got.affine, got.coverage, got.roi_mask("LOC", "L"), got[3].mask]
    for array in [*shared, *got.roi_masks.values()]:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    got.roi_masks.clear()  # type: ignore[attr-defined]
    assert encoder.predict_features(features).rois == ("LOC", "PPA")
    mask = got.mask.copy()
    mine = dataclasses.replace(got, mask=mask)
    mask[...] = True
    assert mine.mask.all()


def test_names_must_be_as_many_as_features(encoder: Encoder, features: Features) -> None:
    """One name for each row."""
    with pytest.raises(ShapeError, match="as many as the 37 rows of features; got 1 names"):
        encoder.predict_features(features, names=["one"])


def test_unknown_subject_or_roi_lists_what_is_there(encoder: Encoder, features: Features) -> None:
    """In predict_native, and in the prediction's own look-ups."""
    with pytest.raises(OptionError, match="subject must be one of S1, S2; got 'S3'"):
        encoder.predict_native(features, roi="LOC", subject="S3")
    with pytest.raises(OptionError, match="roi must be one of LOC, PPA; got 'V1'"):
        encoder.predict_native(features, roi="V1", subject="S1")
    got: Prediction = encoder.predict_features(features)
    with pytest.raises(OptionError, match="subject must be one of S1, S2"):
        got.subject("S3")
    with pytest.raises(OptionError, match="hemi must be one of both, L, R; got 'X'"):
        got.roi_mask("LOC", "X")


def test_load_encoder_reads_a_bundle_and_names_what_exists(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    """A path is a bundle; a word is a published encoder's id."""
    path = tmp_path / "small.safetensors"
    write_bundle(small_bundle, path)
    assert load_encoder(path).subjects == ("S1", "S2")
    with pytest.raises(
        OptionError,
        match="encoder must be one of bold5000-resnet18, the path of a bundle .*; got 'bold'",
    ):
        load_encoder("bold")
    with pytest.raises(BundleError, match="found nothing there"):
        load_encoder(tmp_path / "missing.safetensors")


def test_a_movie_among_images_says_which_method_takes_it(encoder: Encoder, tmp_path: Path) -> None:
    """`predict` is for images."""
    movie = tmp_path / "film.mp4"
    movie.touch()
    with pytest.raises(StimulusError, match=r"film.mp4. Predict it with Encoder.predict_movie"):
        encoder.predict(movie, progress=False)


def test_images_are_taken_as_notebooks_hold_them(tmp_path: Path) -> None:
    """Columns of tables, arrays of paths; bytes and open files are one thing each, and refused."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("b.png", "a.png")]
    for images in (np.array(paths), np.array(paths, object), pd.Series(paths, index=[7, 3])):
        assert [source.name for source in expand_images(images)] == ["b.png", "a.png"]
    with (tmp_path / "a.png").open("rb") as file:
        for images in (b"a.png", io.BytesIO(b"a\nb"), file):
            assert expand_images(images) == [images]


def test_whatever_reads_images_hands_over_paths_that_are_none(
    small_encoder: Path, tmp_path: Path
) -> None:
    """A missing file raised from a network's features and from streams, `on_failure` or not."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    paths = [tmp_path / "gone.png", tmp_path / "a.png"]
    encoder = load_encoder(small_encoder)
    extractor = encoder.extractor(weights="untrained")
    reads: list[Callable[[Any], Any]] = [
        lambda hand: extractor.features(paths, hand),
        lambda hand: next(extractor.stream(paths, hand)),
        lambda hand: next(encoder.stream(paths, weights="untrained", on_failure=hand)),
    ]
    for read in reads:
        failures: list[Failure] = []
        assert read(failures.append).names == ("a.png",)
        assert [Path(failure.name).name for failure in failures] == ["gone.png"]
        with pytest.raises(StimulusError, match=r"gone\.png', which does not exist"):
            read(None)


def test_nothing_but_missing_paths_says_what_is_missing(small_encoder: Path) -> None:
    """The reason came to be that no images were given."""
    encoder = load_encoder(small_encoder)
    for call, what in ((encoder.predict, "predicted"), (encoder.attribution, "explained")):
        failures: list[Failure] = []
        with pytest.raises(
            StimulusError, match=f"that can be {what}; got none: .*gone.png', which"
        ):
            call("gone.png", on_failure=failures.append, weights="untrained", progress=False)
        assert len(failures) == 1
    batch = encoder.extractor(weights="untrained").features("gone.png", [].append)
    assert batch.features.shape == (0, 512)


def test_no_images_is_an_error(encoder: Encoder) -> None:
    """An empty list is not an empty prediction, nor is a stack of no pictures."""
    for nothing in ([], np.empty((0, 8, 8, 3), np.uint8)):
        for on_failure in (None, [].append):
            with pytest.raises(StimulusError, match="got none"):
                encoder.predict(nothing, on_failure=on_failure, progress=False)


def test_controls_are_made_by_the_encoder(encoder: Encoder, rng: np.random.Generator) -> None:
    """Luminance needs no network: the images go through as they are."""
    controls = encoder.controls(["luminance", "luminance"])
    assert repr(controls) == "Controls(luminance)"
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    (control,) = controls.predict(images, progress=False)
    assert control.name == "luminance"
    assert control.prediction is None
    with pytest.raises(OptionError, match="untrained"):
        encoder.controls(["untrainde"])


def test_controls_of_pictures_are_maps_and_luminance_alone_is_a_number(
    encoder: Encoder, rng: np.random.Generator
) -> None:
    """Each gives its features, is described, and says where it is no control of a number."""
    images = np.full((3, 16, 16, 3), 128, np.uint8)
    images[:, 4:9, 4:9] = rng.integers(0, 100, (3, 5, 5, 3))
    controls = encoder.controls(["luminance", "energy", "silhouette"]).predict(images)
    widths = [control.features()[1].shape for control in controls]
    assert widths == [(3, 256), (3, 16 * 256), (3, 256)]
    said = describe_controls(controls)
    assert said["energy"] == {"features": "Gabor energy on a grid"}
    assert len(controls[0].properties) == 3
    for control in controls[1:]:
        message = f"`control` must give one number for each image here.*got {control.name}"
        with pytest.raises(OptionError, match=message):
            _ = control.properties


def test_encoder_that_predicted_can_be_copied_and_pickled(
    small_bundle: Bundle, rng: np.random.Generator
) -> None:
    """Workers of joblib get encoders by pickle; copies predict the same, bit for bit."""
    encoder = Encoder(small_bundle)
    encoder._networks["of a process"] = lambda pixels: pixels  # type: ignore[assignment]
    features = rng.normal(size=(3, 6)).astype(np.float32)
    expected = encoder.predict_features(features)
    for again in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        own = again(encoder).predict_features(features)
        np.testing.assert_array_equal(own.group, expected.group)
        np.testing.assert_array_equal(again(expected).subjects, expected.subjects)


def test_prediction_shows_itself_in_one_line(small_bundle: Bundle) -> None:
    """A notebook shows sizes and names, no arrays."""
    shown = repr(Encoder(small_bundle).predict_features(np.ones((2, 6), np.float32)))
    assert shown.startswith("Prediction(2 stimuli x ")
    assert "subjects=('S1', 'S2')" in shown
    assert "\n" not in shown


def test_what_holds_arrays_shows_how_large_they_are(encoder: Encoder, features: Features) -> None:
    """In one line: a bundle's weights filled a notebook's cell with 150 kB."""
    prediction = encoder.predict_features(features)
    rdms = model_rdms(prediction)
    subject = encoder.bundle.subjects[0]
    model = subject.rois["LOC"]
    shown = [encoder.bundle, subject, model, encoder.spatial_model(), prediction.roi_means(), rdms]
    for one in [*shown, compare_geometry(prediction)]:
        assert len(repr(one)) < 400
        assert repr(one).startswith(f"{type(one).__name__}(")
        assert "\n" not in repr(one)
        assert copy.copy(one) != one
        assert hash(one)
    assert f"weights=<ndarray {model.weights.shape}>" in repr(model)
    assert "measure='correlation'" in repr(rdms)


def test_plot_of_several_stimuli_is_refused(encoder: Encoder, features: Features) -> None:
    """A map is drawn of one stimulus."""
    prediction = encoder.predict_features(features)
    with pytest.raises(OptionError, match=r"stimulus must be one of the stimuli; got \[0, 1\]"):
        prediction.plot("slices", [0, 1])  # type: ignore[arg-type]
