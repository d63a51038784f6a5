"""Distillation: the ridge against least squares, heads through files, views of photographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from imgtofmri import backbones
from imgtofmri.assets import is_offline
from imgtofmri.backbones import (
    Backbone,
    BackboneSpec,
    DistilledBackbone,
    FeatureExtractor,
    Head,
    Preprocessing,
    read_head,
    write_head,
)
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.backbones.head import packaged_head
from imgtofmri.bundle import Bundle
from imgtofmri.distillation import distil_head, fit_head, observe, random_views
from imgtofmri.distillation.heads import reduce_rank, standardised_ridge
from imgtofmri.encoder import Encoder
from imgtofmri.encoder.reference import extract_samples
from imgtofmri.exceptions import DataError, OptionError, ShapeError, WeightsError
from imgtofmri.stimuli import Movie, StimulusWarning, prepare_image


class Projection:
    """A network small enough to know all of: fixed random projections of 8 x 8 images."""

    def __init__(self, name: str, n_features: int, seed: int, size: int = 8) -> None:
        rng = np.random.default_rng(seed)
        self.matrix = rng.normal(size=(size * size * 3, n_features)).astype(np.float32) / 1000
        self.spec = BackboneSpec(
            name, ("last",), n_features, Preprocessing(size=size), f"{name}/last", note="small"
        )

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Project."""
        return pixels.reshape(len(pixels), -1).astype(np.float32) @ self.matrix


def images(rng: np.random.Generator, n_images: int, size: int = 8) -> NDArray[np.uint8]:
    """Draw images."""
    return rng.integers(0, 256, (n_images, size, size, 3), np.uint8)


def distil(
    student: Backbone, teacher: Backbone, batches: list[NDArray[np.uint8]], **options: Any
) -> Head:
    """Fit a head to what both networks make of some images."""
    return fit_head(student.spec, teacher.spec, *observe(student, teacher, batches), **options)


@pytest.mark.parametrize("n_images", [40, 12], ids=["primal", "dual"])
@pytest.mark.parametrize("penalty", [7.0, np.linspace(1, 20, 20)], ids=["one", "each"])
def test_standardised_ridge_equals_least_squares_with_penalty_rows(
    n_images: int, penalty: float | NDArray[np.float64], rng: np.random.Generator
) -> None:
    """The fit equals ordinary least squares with the penalties appended as rows, in either form."""
    x = rng.normal(3, 2, (n_images, 20)).astype(np.float32)
    y = rng.normal(size=(n_images, 5)).astype(np.float32)
    standardised = (x - x.mean(axis=0)) / x.std(axis=0)
    rows = np.concatenate([standardised, np.sqrt(penalty) * np.eye(20)])
    targets = np.concatenate([y - y.mean(axis=0), np.zeros((20, 5))])
    want = np.linalg.lstsq(rows, targets, rcond=None)[0]
    center, scale, weights, intercept = standardised_ridge(x.copy(), y, penalty)
    np.testing.assert_allclose(center, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale, x.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(weights, want, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(intercept, y.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_standardised_ridge_constant_activation_gets_no_weight(rng: np.random.Generator) -> None:
    """A unit that never varies has scale 1 and weight 0, rather than a division by rounding."""
    x = rng.normal(size=(30, 4)).astype(np.float32)
    x[:, 1], x[:, 2] = 0.0, 0.1
    _, scale, weights, _ = standardised_ridge(x, rng.normal(size=(30, 3)).astype(np.float32), 1.0)
    assert (scale[1:3] == 1.0).all()
    np.testing.assert_allclose(weights[1:3], 0, atol=1e-5)


def test_reduce_rank_full_rank_changes_nothing_and_less_is_best(rng: np.random.Generator) -> None:
    """All components give the weights back; fewer give the best estimates of that rank."""
    x = rng.normal(size=(50, 10)).astype(np.float32)
    weights = rng.normal(size=(10, 6)).astype(np.float32)
    first, second = reduce_rank(x, weights, 6)
    np.testing.assert_allclose(first @ second, weights, atol=1e-5)
    first, second = reduce_rank(x, weights, 2)
    assert first.shape == (10, 2)
    estimates = x @ weights
    u, s, v = np.linalg.svd(estimates, full_matrices=False)
    np.testing.assert_allclose(x @ first @ second, u[:, :2] * s[:2] @ v[:2], atol=1e-3)


def test_fit_head_student_that_knows_the_teacher_recovers_it(rng: np.random.Generator) -> None:
    """A student whose activations span the teacher's features emulates it on new images."""
    student, teacher = Projection("student", 400, 1), Projection("teacher", 7, 2)
    head = distil(student, teacher, [images(rng, 500), images(rng, 300)], penalty=1e-3)
    emulation = DistilledBackbone(student, head)
    unseen = images(rng, 20)
    np.testing.assert_allclose(emulation(unseen), teacher(unseen), rtol=0.02, atol=0.02)
    assert not head.card["rectified"]
    assert (head.card["n_images"], head.card["penalties"], head.card["rank"]) == (800, [1e-3], 7)


def test_packaged_head_does_not_depend_on_the_company(rng: np.random.Generator) -> None:
    """An image's estimates are the same bits alone, in another order and among others."""
    head = packaged_head("efficientnet-lite0")
    assert head is not None
    activations = np.abs(rng.normal(size=(37, len(head.center)))).astype(np.float32)
    together = head(activations)
    for rows in ([0], [36], list(range(5, 22)), rng.permutation(37)):
        np.testing.assert_array_equal(head(activations[rows]), together[rows])


def test_fit_head_teacher_that_is_never_negative_is_rectified(rng: np.random.Generator) -> None:
    """Where no feature of the teacher is negative, no estimate is."""
    student, teacher = Projection("student", 5, 1), Projection("teacher", 7, 2)
    teacher.matrix = np.abs(teacher.matrix)
    teacher.matrix[:, 0] = 0.0
    head = distil(student, teacher, [images(rng, 100)], penalty=1.0)
    assert head.card["rectified"]
    assert (DistilledBackbone(student, head)(images(rng, 50)) >= 0).all()


def test_distil_head_learns_from_no_copy_of_what_is_held_out(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agreement on held-out images is that of images never seen, under other names neither."""

    def agreement(_: Any, estimated: NDArray[Any], own: NDArray[Any]) -> dict[str, float]:
        left, right = (part - part.mean(axis=0) for part in (estimated, own))
        r = float(np.corrcoef(left.ravel(), right.ravel())[0, 1])
        return {"held_out_mean_r": r, "held_out_median_r": r}

    monkeypatch.setattr("imgtofmri.distillation.emulate.held_out_agreement", agreement)
    for number, pixels in enumerate(images(rng, 20)):
        for copy in ("a", "b"):
            Image.fromarray(pixels).save(tmp_path / f"{number:02d}{copy}.png")
    teacher = Projection("teacher", 5, 2)
    encoder: Any = SimpleNamespace(
        card={"id": "e"}, extractor=lambda **_: FeatureExtractor(teacher)
    )
    with pytest.warns(StimulusWarning, match=r"\d of 32 images to learn from are copies of images"):
        head = distil_head(
            encoder, Projection("student", 400, 1), tmp_path, n_views=1, penalty=1e-3
        )
    assert head.card["n_images"] < 32
    # From images that are noise nothing is learned of others.
    assert head.card["fidelity"]["held_out_mean_r"] < 0.6


def test_distil_head_agreement_is_of_pictures_cropped_as_the_encoder_crops_them(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held out is seen as `predict` shows it to the encoder's own network."""
    seen: list[NDArray[Any]] = []

    def agreement(_: Any, estimated: NDArray[Any], own: NDArray[Any]) -> dict[str, float]:
        seen.append(own)
        return {"held_out_mean_r": 0.0, "held_out_median_r": 0.0}

    monkeypatch.setattr("imgtofmri.distillation.emulate.held_out_agreement", agreement)
    for number in range(12):
        pixels = rng.integers(0, 256, (9, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    extractor = FeatureExtractor(Projection("teacher", 5, 2), center_crop=True)
    encoder: Any = SimpleNamespace(card={"id": "e"}, extractor=lambda **_: extractor)
    distil_head(encoder, Projection("student", 40, 1), tmp_path, n_views=1)
    whole = extractor.features(tmp_path).features
    assert all(any(np.allclose(row, one) for one in whole) for row in seen[0])


def test_distilled_backbone_spec_bears_the_teacher_s_features_id(rng: np.random.Generator) -> None:
    """The backbone is the student's, its features bear the teacher's id, and it says so."""
    student, teacher = Projection("student", 5, 1), Projection("teacher", 7, 2)
    head = distil(student, teacher, [images(rng, 20)], note="an estimate", card={"by": "us"})
    backbone = DistilledBackbone(student, head)
    assert isinstance(backbone, Backbone)
    assert backbone.spec.id == "student"
    assert backbone.spec.features_id == "teacher/last"
    assert backbone.spec.emulated
    assert backbone.spec.n_features == 7
    assert backbone.spec.note == "an estimate; small"
    assert head.card["by"] == "us"


def test_write_head_read_head_round_trip_to_half_precision(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    """A head comes back from its file with its card whole and its numbers to half precision."""
    head = distil(
        Projection("student", 30, 1), Projection("teacher", 9, 2), [images(rng, 80)], rank=4
    )
    path = tmp_path / "head.safetensors"
    write_head(head, path)
    again = read_head(path)
    assert again.card == head.card
    assert again.weights.shape == (30, 4)
    activations = rng.normal(size=(5, 30)).astype(np.float32)
    np.testing.assert_allclose(again(activations), head(activations), rtol=5e-3, atol=5e-3)
    write_head(again, tmp_path / "second.safetensors")
    assert (tmp_path / "second.safetensors").read_bytes() == path.read_bytes()


def test_read_head_other_files_are_refused(tmp_path: Path) -> None:
    """A missing file, weights of a network, and a cut file are each refused by name."""
    head = distil(
        Projection("student", 6, 1), Projection("teacher", 3, 2), [np.zeros((3, 8, 8, 3), np.uint8)]
    )
    other, cut = tmp_path / "other.safetensors", tmp_path / "cut.safetensors"
    save_file({"weights": np.zeros((2, 2), np.float32)}, other)
    write_head(head, cut)
    cut.write_bytes(cut.read_bytes()[:-5])
    for path in (other, cut, tmp_path / "missing.safetensors"):
        with pytest.raises(WeightsError, match=rf"{path.name}: expected a head"):
            read_head(path)


def test_read_head_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """A head whose arrays disagree is refused before it can compute anything."""
    card = {"student": "s", "layers": ["a"], "features_id": "t/b", "rectified": True, "note": ""}
    ones = np.ones
    path = tmp_path / "head.safetensors"
    f32 = np.float32
    write_head(Head(card, ones(3, f32), ones(3, f32), ones((3, 2), f32), ones((4, 5), f32), ones(5, f32)), path)  # fmt: skip  # noqa: E501
    with pytest.raises(WeightsError, match=r"weights of shape \(3, 2\) with mixing \(4, 5\)"):
        read_head(path)


def test_head_wrong_width_names_the_layers(rng: np.random.Generator) -> None:
    """Activations of other layers are refused."""
    head = distil(Projection("student", 6, 1), Projection("teacher", 3, 2), [images(rng, 9)])
    with pytest.raises(ShapeError, match=r"\(n_stimuli, 6\), the layers last side by side"):
        head(np.zeros((2, 5), np.float32))


def test_distilled_backbone_other_student_is_refused(rng: np.random.Generator) -> None:
    """A head on a student that it was not fitted on is refused."""
    head = distil(Projection("student", 6, 1), Projection("teacher", 3, 2), [images(rng, 9)])
    with pytest.raises(ShapeError, match="student must be student with .*; got another"):
        DistilledBackbone(Projection("another", 6, 1), head)


def test_distilled_backbone_other_weights_of_the_student_are_refused(
    rng: np.random.Generator,
) -> None:
    """A head fitted on somebody's own weights is for these; published ones lie in several files."""
    student, teacher = Projection("student", 6, 1), Projection("teacher", 3, 2)

    def with_weights(digest: str, verified: bool) -> Projection:
        spec = replace(student.spec, weights_sha256=digest, weights_verified=verified)
        found = Projection("student", 6, 1)
        found.spec = spec
        return found

    own, others = with_weights("a" * 64, False), with_weights("b" * 64, False)
    published, same = with_weights("c" * 64, True), with_weights("d" * 64, True)
    head = distil(own, teacher, [images(rng, 9)])
    DistilledBackbone(own, head)
    for wrong in (others, published):
        with pytest.raises(ShapeError, match=r"weights that the head was fitted on, .* aaaaaaaa"):
            DistilledBackbone(wrong, head)
    DistilledBackbone(same, distil(published, teacher, [images(rng, 9)]))


@pytest.mark.parametrize(
    ("options", "n_images", "error", "match"),
    [
        ({"penalty": 0.0}, 9, OptionError, "penalty must be a positive number.*got 0.0"),
        ({"penalty": float("nan")}, 9, OptionError, "penalty must be a positive.*got nan"),
        ({"penalty": np.ones(5)}, 9, OptionError, "positive number, or 6 of them"),
        ({"rank": 4}, 9, OptionError, "rank must be between 1 and 3"),
        ({}, 1, DataError, "at least 2 images; got 1"),
        ({}, 0, DataError, "at least 2 images; got 0"),
    ],
)
def test_fit_head_settings_that_cannot_work_are_refused(
    options: dict[str, Any],
    n_images: int,
    error: type[Exception],
    match: str,
    rng: np.random.Generator,
) -> None:
    """A penalty or rank without sense, and too few images, are refused."""
    student, teacher = Projection("student", 6, 1), Projection("teacher", 3, 2)
    with pytest.raises(error, match=match):
        distil(student, teacher, [images(rng, n_images)] if n_images else [], **options)


def test_fit_head_networks_of_different_sizes_are_refused() -> None:
    """Student and teacher must see the same pixels."""
    student, teacher = Projection("student", 6, 1), Projection("teacher", 3, 2, size=9)
    with pytest.raises(ShapeError, match="student takes 8 px, teacher 9 px"):
        distil(student, teacher, [])


def test_random_views_first_is_the_whole_and_second_its_mirror(rng: np.random.Generator) -> None:
    """The first view is what the encoder sees, the second its mirror; a seed repeats them all."""
    image = Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8))
    views = random_views(image, 32, 5, np.random.default_rng(3))
    whole = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(views[0], whole)
    np.testing.assert_array_equal(views[1], whole[:, ::-1])
    again = random_views(image, 32, 5, np.random.default_rng(3))
    np.testing.assert_array_equal(views, again)
    assert not np.array_equal(views[2], views[3])
    assert random_views(image, 32, 0, rng).shape == (0, 32, 32, 3)


def test_random_views_parts_keep_at_least_a_third_of_the_area() -> None:
    """On an image whose pixels are coordinates, each part spans 35 % of it or more."""
    y, x = np.mgrid[:200, :200]
    image = Image.fromarray(np.stack([x, y, x], 2).astype(np.uint8))
    for view in random_views(image, 100, 40, np.random.default_rng(0))[2:]:
        # Two pixels at the rim see less than a whole step of the coordinate.
        spans = [float(np.ptp(view[..., channel])) + 4 for channel in (0, 1)]
        assert spans[0] * spans[1] / 200**2 > 0.34


def test_packaged_head_says_what_it_is_and_is_small() -> None:
    """The package's head is at most 5 MB; its card has fidelity, licence and a line to pass on."""
    head = packaged_head("efficientnet-lite0")
    assert head is not None
    files = list((Path(backbones.__file__).parent / "heads").glob("*.safetensors"))
    assert len(files) == 1
    assert files[0].stat().st_size <= 5_000_000
    told = " ".join(files[0].with_suffix(".md").read_text("utf-8").split())
    assert head.card["licence"] in told
    assert f"| held out mean r | {head.card['fidelity']['held_out_mean_r']} |" in told
    assert head.card["features_id"] == "resnet18/avgpool"
    assert head.card["fidelity"]["held_out_mean_r"] > 0.9
    for word in ("estimated", "held-out", "non-commercial", "CC BY-NC 4.0"):
        assert word in head.card["note"]
    assert packaged_head("resnet18") is None


def test_load_backbone_efficientnet_gives_estimates_of_resnet_features(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    """By its name alone the network comes with its head; with layers named it comes without."""
    network = ARCHITECTURES["efficientnet-lite0"]
    weights = {
        f"{conv.name}.weight": (
            rng.normal(size=conv.shape) / np.sqrt(np.prod(conv.shape[1:]))
        ).astype(np.float32)
        for conv in network.convolutions
    }
    weights |= {f"{c.name}.bias": np.zeros(c.shape[0], np.float32) for c in network.convolutions}
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    pixels = images(rng, 2, 224)
    with pytest.warns(backbones.UnverifiedWeightsWarning):
        backbone = backbones.load_backbone("efficientnet-lite0", weights=path)
    assert backbone.spec.emulated
    assert backbone.spec.features_id == "resnet18/avgpool"
    assert (backbone.spec.n_features, backbone(pixels).shape) == (512, (2, 512))
    head = packaged_head("efficientnet-lite0")
    assert head is not None
    with pytest.warns(backbones.UnverifiedWeightsWarning):
        plain = backbones.load_backbone("efficientnet-lite0", weights=path, layers=head.layers)
    assert not plain.spec.emulated
    np.testing.assert_allclose(head(plain(pixels)), backbone(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.network
@pytest.mark.skipif(is_offline(), reason="IMGTOFMRI_OFFLINE is set: no package index")
def test_packaged_head_agrees_with_published_outputs(
    test_data: Path, published_bundle: Bundle, published_wheel: Path, tmp_path: Path
) -> None:
    """With the head, the published photographs and frames come out near the published maps."""
    backbone = backbones.load_backbone("efficientnet-lite0")
    assert backbone.spec.weights_verified
    samples = extract_samples(published_wheel, tmp_path)
    encoder = Encoder(published_bundle)
    published = np.load(test_data / "reference" / "published_images.npz")
    stills = []
    for name in published["names"]:
        with Image.open(tmp_path / f"{name}.jpg") as still:
            stills.append(prepare_image(still))
    pixels = np.stack(stills)
    rois = ["EarlyVis", "OPA", "LOC", "RSC"]
    got = encoder.predict_features(backbone(pixels), rois=rois, sigma_mm=1.25, mask="support").group
    for row, want, least in zip(got, published["responses"], (0.97, 0.9), strict=True):
        assert np.corrcoef(row, want)[0, 1] > least
    published = np.load(test_data / "reference" / "published_movie.npz")
    frames = [frame.pixels for frame in Movie(samples[-1]).frames()]
    features = backbone(np.stack(frames[: len(published["responses"])]))
    got = encoder.predict_features(features, rois=["LOC", "RSC", "PPA"], mask="support").group
    for row, want in zip(got, published["responses"], strict=True):
        assert np.corrcoef(row, want)[0, 1] > 0.95
