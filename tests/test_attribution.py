"""Where in a picture a predicted response comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imgtofmri.backbones import load_backbone, mean_grid
from imgtofmri.backbones.joined import JoinedBackbone, JoinedPart
from imgtofmri.bundle import Bundle, read_bundle
from imgtofmri.encoder import Attribution, Encoder
from imgtofmri.encoder.attribution import join_attributions
from imgtofmri.exceptions import OptionError, ShapeError

Pixels = npt.NDArray[np.uint8]

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")


@pytest.fixture
def encoder(small_encoder: Path) -> Encoder:
    """Return a small encoder of ResNet-18's features."""
    return Encoder(read_bundle(small_encoder))


@pytest.fixture
def pictures(rng: np.random.Generator) -> list[Pixels]:
    """Return three pictures, of which the last is dark but for its upper right corner."""
    found = [rng.integers(0, 256, (50, 60, 3), dtype=np.uint8) for _ in range(3)]
    found[2][25:, :] = 0
    found[2][:, :30] = 0
    return found


def places_and_intercept(attribution: Attribution) -> npt.NDArray[np.float64]:
    """Return the sum of what was split."""
    total: npt.NDArray[np.float64] = attribution.contributions.sum(axis=(3, 4))
    return total + attribution.intercepts[..., None]


def test_places_sum_to_the_response_of_each_roi(
    encoder: Encoder, pictures: list[Pixels], random_weights: Path
) -> None:
    """With the intercept, 49 places make `Prediction.roi_means`, of each person and the group."""
    found = encoder.attribution(pictures, weights=random_weights, progress=False)
    assert found.method == "split"
    assert found.contributions.shape == (2, 3, 3, 7, 7)
    assert found.owners == ("group", "S1", "S2")
    means = encoder.predict(
        pictures, weights=random_weights, average="mean", progress=False
    ).roi_means()
    both = [number for number, (_, hemi) in enumerate(means.places) if hemi == "both"]
    expected = np.concatenate([means.group[both][:, None], means.values[both]], axis=1)
    scale = abs(expected).max()
    np.testing.assert_allclose(places_and_intercept(found), expected, atol=1e-5 * scale)
    np.testing.assert_allclose(found.responses, expected, atol=1e-5 * scale)


def test_places_sum_to_the_value_of_a_voxel(
    encoder: Encoder, pictures: list[Pixels], random_weights: Path
) -> None:
    """At a point they make what `Prediction.at` says of the group's mean and of each person."""
    prediction = encoder.predict(pictures, weights=random_weights, average="mean", progress=False)
    voxel = np.argwhere(prediction.mask)[np.flatnonzero(prediction.covered)[-1]]
    point = voxel @ prediction.affine[:3, :3] + prediction.affine[:3, 3]
    found = encoder.attribution(pictures, at=point, weights=random_weights, progress=False)
    owners = (None, "S1", "S2")
    expected = np.stack([prediction.at(point, subject=owner) for owner in owners])[None]
    scale = abs(expected).max()
    np.testing.assert_allclose(places_and_intercept(found), expected, atol=1e-5 * scale)


def test_attributions_are_joined_in_order(
    encoder: Encoder, pictures: list[Pixels], random_weights: Path
) -> None:
    """What is explained part by part is what is explained at once."""
    options: dict[str, Any] = {"weights": random_weights, "progress": False}
    whole = encoder.attribution(pictures, **options)
    parts = [encoder.attribution(some, **options) for some in (pictures[:1], pictures[1:])]
    joined = join_attributions(parts)
    np.testing.assert_allclose(joined.contributions, whole.contributions, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(joined.responses, whole.responses, rtol=1e-5)
    np.testing.assert_array_equal(joined.pictures, whole.pictures)
    assert joined.names == parts[0].names + parts[1].names
    assert len(joined.sha256) == len(joined.sources) == len(joined.names) == 3


def test_places_are_the_last_maps_weighted_by_the_models(
    encoder: Encoder, pictures: list[Pixels], random_weights: Path
) -> None:
    """Each contribution is the written-out sum over channels of map and weight, by 49."""
    found = encoder.attribution(pictures, "PPA", weights=random_weights, progress=False)
    network = load_backbone("resnet18", weights=random_weights, layers=["avgpool@7x7"])
    maps = network(found.pictures).reshape(3, 512, 7, 7)
    weights = encoder.bundle.subjects[0].rois["PPA"].weights.mean(axis=1)
    expected = sum(weights[c] * maps[1, c].astype(float) for c in range(512)) / 49
    got = found.of("image-0001", "PPA", "S1")
    np.testing.assert_allclose(got, expected, atol=1e-5 * abs(expected).max())


def test_a_person_without_the_roi_does_not_count(
    encoder: Encoder, pictures: list[Pixels], random_weights: Path
) -> None:
    """Their places are NaN, and the group's are those of the people who have it."""
    first, second = encoder.bundle.subjects
    without = replace(second, rois={"LOC": second.rois["LOC"]})
    fewer = Encoder(replace(encoder.bundle, subjects=(first, without)))
    found = fewer.attribution(pictures, "PPA", weights=random_weights, progress=False)
    assert np.isnan(found.contributions[0, 2]).all()
    np.testing.assert_array_equal(found.contributions[0, 0], found.contributions[0, 1])


def test_layers_of_other_sides_split_on_the_coarsest(
    make_bundle: Callable[..., Bundle],
    rng: np.random.Generator,
    pictures: list[Pixels],
    random_weights: Path,
) -> None:
    """Means over maps of 28 x 28 and 7 x 7 are both means over 49 places."""
    bundle = make_bundle(rng, n_features=640)
    features = {"id": "resnet18/layer2+avgpool", "backbone": "resnet18", "n_features": 640}
    card = bundle.card | {"features": features | {"layers": ["layer2", "avgpool"]}}
    encoder = Encoder(replace(bundle, card=card))
    found = encoder.attribution(pictures, weights=random_weights, progress=False)
    assert (found.method, found.contributions.shape[-2:]) == ("split", (7, 7))
    scale = abs(found.responses).max()
    np.testing.assert_allclose(places_and_intercept(found), found.responses, atol=1e-5 * scale)


@pytest.mark.slow
def test_networks_side_by_side_split_in_their_columns(
    pictures: list[Pixels], random_weights: Path
) -> None:
    """The mean over places is the joined features, columns that nobody asked for being 0."""
    late = load_backbone("resnet18", weights=random_weights)
    early = load_backbone("resnet18", weights=random_weights, layers=["layer1"])
    parts = [JoinedPart(late, np.arange(100, 612)), JoinedPart(early, np.arange(64))]
    joined = JoinedBackbone(parts, 612, "both")
    assert mean_grid(joined) == (7, 7)
    square = np.stack([np.resize(picture, (224, 224, 3)) for picture in pictures])
    on_grid = joined.on_grid((7, 7))(square).reshape(3, 612, 49)
    np.testing.assert_allclose(on_grid.mean(axis=2), joined(square), rtol=1e-5, atol=1e-5)
    assert not on_grid[:, 64:100].any()


@pytest.mark.parametrize("layer", ["avgpool/sd", "layer3/max", "avgpool/flatten:512"])
def test_what_is_no_mean_has_no_grid(layer: str, random_weights: Path) -> None:
    """Deviations, maxima and projections do not split into places."""
    assert mean_grid(load_backbone("resnet18", weights=random_weights, layers=[layer])) is None


class Brightness:
    """A network of the user's own, whose features are squares of blocks' brightness."""

    def __init__(self, encoder: Encoder) -> None:
        from imgtofmri.backbones import BackboneSpec, Preprocessing

        self.spec = BackboneSpec("own", ("x",), 512, Preprocessing(size=14), "resnet18/avgpool")

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Compute features."""
        features = np.zeros((len(pixels), 512), np.float32)
        features[:, :196] = (pixels.mean(axis=3).reshape(len(pixels), -1) / 255) ** 2
        return features


def test_occlusion_is_the_difference_that_grey_makes(
    encoder: Encoder, pictures: list[Pixels]
) -> None:
    """Any other network is asked again with each place covered; written out for one place."""
    network = Brightness(encoder)
    found = encoder.attribution(pictures, "LOC", backbone=network, progress=False)
    assert (found.method, found.contributions.shape[-2:]) == ("occlusion", (7, 7))
    covered = found.pictures[2].copy()
    covered[2:4, 10:12] = np.round(np.array([0.485, 0.456, 0.406]) * 255)
    pair = np.stack([found.pictures[2], covered])
    before, after = encoder.predict_native(network(pair), "LOC", "S2").mean(axis=1)
    got = found.of("image-0002", "LOC", "S2")
    np.testing.assert_allclose(got[1, 5], before - after, atol=1e-5)
    assert abs(got[1, 5]) > 1e-3


def test_tables_say_what_each_number_is(
    encoder: Encoder, pictures: list[Pixels], random_weights: Path
) -> None:
    """A row for each place; responses are the intercept and the places' sum."""
    found = encoder.attribution(pictures, weights=random_weights, progress=False)
    table = found.table()
    columns = ["image", "roi", "subject", "row", "column", "contribution", "unit", "method"]
    assert list(table.columns) == columns
    assert len(table) == 3 * 2 * 3 * 49
    row = table.query("image == 'image-0001' and roi == 'PPA' and subject == 'S1'").iloc[8]
    assert (row["row"], row["column"]) == (1, 1)
    assert row["contribution"] == found.of("image-0001", "PPA", "S1")[1, 1]
    assert set(table["method"]) == {"split"}
    responses = found.responses_table()
    total = responses["intercept"] + responses["places"]
    np.testing.assert_allclose(responses["response"], total, rtol=1e-4)


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        ({"roi": "FFA"}, OptionError, "roi must be one of LOC, PPA; got 'FFA'"),
        ({"roi": "PPA", "at": (0, 0, 0)}, OptionError, "`roi` or `at` must be given"),
        ({"at": (900, 0, 0)}, OptionError, r"got \(900, 0, 0\), outside the mask. Choose"),
        ({"at": (1, 2)}, ShapeError, r"at must be one point.*got shape \(2,\)"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    encoder: Encoder, random_weights: Path, asked: dict[str, Any], error: type, match: str
) -> None:
    """Before any picture is read."""
    with pytest.raises(error, match=match):
        encoder.attribution(["missing.png"], weights=random_weights, **asked)


def test_a_picture_that_cannot_be_read_is_handed_over(
    encoder: Encoder, tmp_path: Path, random_weights: Path
) -> None:
    """The rest is explained, in order."""
    Image.new("RGB", (20, 20), "red").save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"no picture")
    failures: list[Any] = []
    found = encoder.attribution(
        tmp_path, weights=random_weights, on_failure=failures.append, progress=False
    )
    assert found.names == ("b.png",)
    assert [failure.name for failure in failures] == ["a.png"]
    assert found.sources == (tmp_path / "b.png",)
