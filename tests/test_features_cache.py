"""The features cache: a real network whose calls are counted, concurrent runs, damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from safetensors.numpy import save_file

from imgtofmri.backbones import (
    Backbone,
    BackboneSpec,
    CachedBackbone,
    cached_backbone,
    features_folder,
    load_backbone,
)
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.backbones.names import Untrained
from imgtofmri.backbones.untrained import untrained_weights
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import OutputError, ShapeError
from imgtofmri.stimuli import Frame, read_images
from imgtofmri.training import fit_study

LAYERS = ("layer1", "layer1/max")


class Counting:
    """A real network that counts the pictures that it is given."""

    def __init__(self, network: Backbone) -> None:
        self.network, self.n_seen = network, 0

    @property
    def spec(self) -> BackboneSpec:
        """What the network is."""
        return self.network.spec

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features."""
        self.n_seen += len(pixels)
        return self.network(pixels)


@pytest.fixture(scope="module")
def network() -> Backbone:
    """Return ResNet-18 with random weights."""
    return load_backbone("resnet18", weights="untrained", layers=LAYERS)


@pytest.fixture
def counting(network: Backbone) -> Counting:
    """Return the network with a counter at 0."""
    return Counting(network)


@pytest.fixture
def squares(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return four pictures."""
    return rng.integers(0, 256, (4, 224, 224, 3), np.uint8)


def open_cache(network: Backbone, folder: Path) -> CachedBackbone:
    """Return a cached network of a new process, as it were."""
    found = cached_backbone(network, folder)
    assert isinstance(found, CachedBackbone)
    return found


def test_cached_backbone_asks_only_about_new_pictures(
    counting: Counting, squares: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Old, new and repeated pictures in one batch: each is computed once, rows stay in order."""
    want = counting.network(squares)
    first = open_cache(counting, tmp_path)
    np.testing.assert_allclose(first(squares[:2]), want[:2], rtol=1e-5, atol=1e-6)
    assert counting.n_seen == 2
    again = open_cache(counting, tmp_path)
    mixed = [3, 0, 3, 1, 2]
    np.testing.assert_allclose(again(squares[mixed]), want[mixed], rtol=1e-5, atol=1e-6)
    assert counting.n_seen == 4
    assert again(squares).tobytes() == first(squares).tobytes()
    assert again(squares[:0]).shape == (0, 128)
    assert counting.n_seen == 4
    assert again.spec == counting.spec
    assert [path.suffix for path in tmp_path.iterdir()] == [".sqlite"]


def test_cached_backbone_knows_layers_weights_and_preprocessing_apart(
    counting: Counting, squares: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Other weights are not mixed up; a layer that is known is known in any combination."""
    open_cache(counting, tmp_path)(squares)
    single = Counting(load_backbone("resnet18", weights="untrained", layers=["layer1/max"]))
    np.testing.assert_allclose(
        open_cache(single, tmp_path)(squares), counting.network(squares)[:, 64:], rtol=1e-5
    )
    assert single.n_seen == 0
    other = Counting(load_backbone("resnet18", weights="untrained:1", layers=LAYERS))
    np.testing.assert_allclose(
        open_cache(other, tmp_path)(squares), other.network(squares), rtol=1e-5, atol=1e-6
    )
    assert other.n_seen == 4


@pytest.mark.parametrize("damage", ["row", "width", "text", "file", "cut", "name"])
def test_cached_backbone_damaged_entries_are_computed_again(
    damage: str, counting: Counting, squares: NDArray[np.uint8], tmp_path: Path
) -> None:
    """A flipped bit, a short row, a foreign and a truncated file cost time and nothing else.

    Nor does text where a row was, or a name of a table that is no text.
    """
    cache = open_cache(counting, tmp_path)
    want = cache(squares)
    if damage in ("row", "width", "text"):
        with sqlite3.connect(cache.path) as database:
            found = database.execute("SELECT layer, pixels, row FROM features LIMIT 1").fetchone()
            layer, key, row = found
            worse: bytes | str = bytes([row[0] ^ 1]) + row[1:] if damage == "row" else row[:-4]
            worse = "x" * len(row) if damage == "text" else worse
            database.execute(
                "UPDATE features SET row = ? WHERE layer = ? AND pixels = ?", (worse, layer, key)
            )
        database.close()
    else:
        data = cache.path.read_bytes()
        worse = data[:5000] if damage == "cut" else b"something else" * 100
        if damage == "name":
            worse = data.replace(b"tablefeatures", b"tablef\x85atures")
            assert worse != data
        cache.path.write_bytes(worse)
    counting.n_seen = 0
    np.testing.assert_allclose(open_cache(counting, tmp_path)(squares), want, rtol=1e-5, atol=1e-6)
    assert counting.n_seen == (1 if damage in ("row", "width", "text") else 4)
    open_cache(counting, tmp_path)(squares)
    assert counting.n_seen == (1 if damage in ("row", "width", "text") else 4)


def fill(folder: Path, seed: int, n_pictures: int) -> None:
    """Fill a cache in a process of its own, one picture at a time."""
    network = load_backbone("resnet18", weights="untrained", layers=LAYERS, n_threads=1)
    cache = cached_backbone(network, folder)
    for picture in pictures(n_pictures)[np.random.default_rng(seed).permutation(n_pictures)]:
        cache(picture[None])


def pictures(n_pictures: int) -> NDArray[np.uint8]:
    """Return the same random pictures in every process."""
    return np.random.default_rng(9).integers(0, 256, (n_pictures, 224, 224, 3), np.uint8)


@pytest.mark.slow
def test_cached_backbone_concurrent_runs_lose_nothing(counting: Counting, tmp_path: Path) -> None:
    """Three processes write the same pictures in different orders; all are there and right."""
    # Each process runs this file as a program, so that nothing has to be importable by name.
    runs = [
        subprocess.Popen([sys.executable, __file__, str(tmp_path), str(seed)]) for seed in range(3)
    ]
    assert [run.wait(120) for run in runs] == [0, 0, 0]
    got = open_cache(counting, tmp_path)(pictures(12))
    assert counting.n_seen == 0
    np.testing.assert_allclose(got, counting.network(pictures(12)), rtol=1e-4, atol=1e-5)


def test_cached_backbone_without_an_identity_is_left_alone(network: Backbone) -> None:
    """A network that emulates another, or has no digest, is not cached."""

    class Named(Counting):
        changes: dict[str, Any]

        @property
        def spec(self) -> BackboneSpec:
            return replace(self.network.spec, **self.changes)

    for changes in ({"emulated": True}, {"weights_sha256": ""}, {"layer_widths": ()}):
        named = Named(network)
        named.changes = changes
        assert cached_backbone(named) is named


def test_cached_backbone_bad_folder_or_pixels_is_named(
    counting: Counting,
    squares: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file in place of the folder, and pixels of another size, have an error each."""
    monkeypatch.setenv("IMGTOFMRI_CACHE", str(tmp_path / "cache"))
    assert features_folder() == tmp_path / "cache" / "features"
    assert open_cache(counting, features_folder()).path.parent == features_folder()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected a features cache that can be read and written"):
        open_cache(counting, tmp_path / "file")(squares)
    with pytest.raises(ShapeError, match="resnet18: pixels must be uint8"):
        open_cache(counting, tmp_path)(squares[:, :9])


@pytest.fixture
def study_file(rng: np.random.Generator, tmp_path: Path) -> Path:
    """Write a study of twelve pictures, two ROIs and one subject in template space."""
    import nibabel as nib

    for number in range(12):
        picture = rng.integers(0, 256, (16, 20, 3), np.uint8)
        Image.fromarray(picture).resize((60, 48)).save(tmp_path / f"p{number:02d}.png")
    for roi, first in (("LOC", 100), ("PPA", 300)):
        mask = np.zeros(512, np.uint8)
        mask[first : first + 7] = 1
        image = nib.Nifti1Image(mask.reshape(8, 8, 8), np.diag([3.0, 3, 3, 1]))
        nib.save(image, tmp_path / f"{roi}.nii.gz")
        np.save(tmp_path / f"{roi}.npy", rng.normal(size=(12, 7)).astype(np.float32))
    (tmp_path / "study.toml").write_text("""
id = "small"
title = "Twelve pictures"
licence = "CC0"
[template]
grid = "LOC.nii.gz"
[stimuli]
folder = "."
[backbone]
name = "resnet18"
weights = "untrained"
layers = ["layer1", "layer1/max"]
[fit]
alphas = [1.0, 100.0]
folds = 3
[subject]
transform = { kind = "same" }
rois.LOC = { mask = "LOC.nii.gz", responses = "LOC.npy" }
rois.PPA = { mask = "PPA.nii.gz", responses = "PPA.npy" }
[[subjects]]
name = "S1"
""")
    return tmp_path / "study.toml"


def test_fit_study_a_second_fit_asks_the_network_nothing(
    study_file: Path, counting: Counting, tmp_path: Path
) -> None:
    """With a cache the second fit computes no feature and gives the same weights."""
    cache = tmp_path / "cache"
    first = fit_study(study_file, progress=False, backbone=counting, cache=cache)
    assert counting.n_seen == 12
    second = fit_study(study_file, progress=False, backbone=counting, cache=cache)
    assert counting.n_seen == 12
    plain = fit_study(study_file, progress=False)
    for roi, model in first.subjects[0].rois.items():
        other = second.subjects[0].rois[roi]
        assert model.weights.tobytes() == other.weights.tobytes()
        np.testing.assert_allclose(plain.subjects[0].rois[roi].weights, model.weights, atol=1e-5)
    assert first.card["features"] == plain.card["features"]
    assert first.card["features"]["weights"]["name"] == "untrained (seed 0)"


def test_fit_study_rois_name_layers_as_the_study_does(study_file: Path) -> None:
    """Names that have a shorter form, such as LAYER/avg, are found by what the study calls them."""
    text = study_file.read_text()
    plain = fit_study(study_file, progress=False)
    text = text.replace('["layer1", "layer1/max"]', '["layer1/avg", "layer1/max"]')
    text = text.replace('responses = "PPA.npy"', 'responses = "PPA.npy", layers = ["layer1/avg"]')
    study_file.write_text(text)
    named = fit_study(study_file, progress=False)
    assert named.card["features"]["id"] == plain.card["features"]["id"]
    loc, ppa = (named.subjects[0].rois[roi] for roi in ("LOC", "PPA"))
    np.testing.assert_allclose(loc.weights, plain.subjects[0].rois["LOC"].weights, rtol=1e-4)
    assert (loc.weights.shape, ppa.weights.shape) == ((128, 7), (64, 7))


def test_encoder_takes_a_loaded_backbone(
    study_file: Path, counting: Counting, tmp_path: Path
) -> None:
    """An encoder fitted on a network object predicts with it, cached or not, and no other."""
    encoder = Encoder(fit_study(study_file, progress=False, backbone=counting, cache=tmp_path))
    pictures = sorted(tmp_path.glob("*.png"))
    cached = cached_backbone(counting, tmp_path)
    options: dict[str, Any] = {"average": "mean", "progress": False}
    got = encoder.predict(pictures, backbone=cached, **options)
    assert counting.n_seen == 12
    named = encoder.predict(pictures, weights="untrained", **options)
    np.testing.assert_allclose(got.group, named.group, rtol=1e-3, atol=1e-4)
    other = load_backbone("resnet18", weights="untrained", layers=["layer2"])
    with pytest.raises(ShapeError, match=r"fitted on resnet18/layer1\+layer1/max; the backbone"):
        encoder.features(pictures, backbone=other)


def test_encoder_keeps_the_preprocessing_of_an_onnx_file(study_file: Path, tmp_path: Path) -> None:
    """Fitted on a file with a recipe of one's own, an encoder predicts with that recipe."""
    node = helper.make_node("Identity", ["images"], ["same"])
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])
    same = helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 3, 8, 8])
    graph = helper.make_graph([node], "g", [images], [same])
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    recipe = "{ size = 8, mean = [0.5, 0.5, 0.5], std = [0.1, 0.2, 0.4] }"
    text = study_file.read_text().replace('weights = "untrained"', f"preprocessing = {recipe}")
    text = text.replace('"resnet18"', '"net.onnx"')
    study_file.write_text(text.replace('["layer1", "layer1/max"]', '["same/max"]'))
    encoder = Encoder(fit_study(study_file, progress=False))
    (picture,) = encoder.features(tmp_path / "p00.png", backbone=path)
    (frame,) = read_images(tmp_path / "p00.png", size=8)
    assert isinstance(frame, Frame)
    want = (frame.pixels.max(axis=(0, 1)) / 255 - 0.5) / [0.1, 0.2, 0.4]
    np.testing.assert_allclose(picture, want, rtol=1e-5)
    with pytest.raises(ShapeError, match=r"was fitted with Preprocessing\(size=8, mean=\(0\.5.*"):
        encoder.features(tmp_path / "p00.png", backbone=load_backbone(path, layers=["same/max"]))


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_encoder_fitted_through_a_head_predicts_through_it(
    study_file: Path, tmp_path: Path
) -> None:
    """A study of a network with a head gives a bundle that finds network and head again."""
    weights = untrained_weights(ARCHITECTURES["efficientnet-lite0"], Untrained()).tensors
    save_file(dict(weights), tmp_path / "student.safetensors")
    text = study_file.read_text().replace('"untrained"', '"student.safetensors"')
    text = text.replace('"resnet18"', '"efficientnet-lite0"')
    study_file.write_text(text.replace('layers = ["layer1", "layer1/max"]\n', ""))
    cache = tmp_path / "cache"
    encoder = Encoder(fit_study(study_file, progress=False, cache=cache))
    assert encoder.card["features"]["id"] == "resnet18/avgpool"
    got = encoder.features(tmp_path / "p03.png", weights=tmp_path / "student.safetensors")
    network = load_backbone("efficientnet-lite0", weights=tmp_path / "student.safetensors")
    (frame,) = read_images(tmp_path / "p03.png")
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(got, network(frame.pixels[None]))
    assert not cache.exists()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]), 12)
