"""The bundle's file format."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from imgtofmri.bundle import Bundle, read_bundle, write_bundle
from imgtofmri.exceptions import BundleError


@pytest.fixture
def file(small_bundle: Bundle, tmp_path: Path) -> Path:
    """Return a bundle's file."""
    path = tmp_path / "small.safetensors"
    write_bundle(small_bundle, path)
    return path


def _relabel(path: Path, **changes: Any) -> None:
    """Change what a bundle says of itself: JSON in the header behind an eight-byte length."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    label = json.loads(header["__metadata__"]["imgtofmri-bundle"])
    header["__metadata__"]["imgtofmri-bundle"] = json.dumps({**label, **changes})
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_write_then_read_gives_the_same_bundle(small_bundle: Bundle, file: Path) -> None:
    """Everything survives: card, grids, maps, models and what is known of each voxel."""
    got = read_bundle(file)
    assert got.template == small_bundle.template
    assert (got.rois, got.n_features, got.space) == (("LOC", "PPA"), 6, "MNI152NLin6Asym")
    assert got.card["title"] == small_bundle.card["title"]
    for subject, expected in zip(got.subjects, small_bundle.subjects, strict=True):
        assert (subject.name, subject.native) == (expected.name, expected.native)
        np.testing.assert_array_equal(subject.to_template.native, expected.to_template.native)
        for roi, model in subject.rois.items():
            np.testing.assert_array_equal(model.weights, expected.rois[roi].weights)
            np.testing.assert_array_equal(model.voxels, expected.rois[roi].voxels)
            np.testing.assert_array_equal(model.hemi, expected.rois[roi].hemi)


def test_extras_and_first_feature_survive(small_bundle: Bundle, tmp_path: Path) -> None:
    """A model may use a part of the features, and say more about its voxels."""
    subject = small_bundle.subjects[0]
    model = dataclasses.replace(
        subject.rois["LOC"],
        weights=subject.rois["LOC"].weights[:4],
        first_feature=2,
        extras={"cv_r": np.linspace(0, 1, 30, dtype=np.float32)},
    )
    changed = dataclasses.replace(subject, rois={"LOC": model})
    write_bundle(dataclasses.replace(small_bundle, subjects=(changed,)), tmp_path / "b.safetensors")
    got = read_bundle(tmp_path / "b.safetensors").subjects[0].rois["LOC"]
    assert (got.first_feature, got.n_features, got.n_voxels) == (2, 4, 30)
    np.testing.assert_array_equal(got.extras["cv_r"], model.extras["cv_r"])


def test_writing_twice_gives_the_same_bytes(small_bundle: Bundle, file: Path) -> None:
    """A bundle's digest identifies it."""
    first = file.read_bytes()
    write_bundle(small_bundle, file)
    assert file.read_bytes() == first


@pytest.mark.parametrize("n_bytes", [0, 7, 100, -1])
def test_truncated_file_is_refused(file: Path, n_bytes: int) -> None:
    """Wherever it was cut."""
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(BundleError, match="expected a safetensors file that can be read"):
        read_bundle(file)


def test_a_changed_number_is_refused(file: Path) -> None:
    """The file carries a checksum of its content."""
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match="does not match the checksum"):
        read_bundle(file)


def test_an_edited_card_is_refused(file: Path) -> None:
    """The checksum covers the card, too."""
    _relabel(file, card={"id": "another"})
    with pytest.raises(BundleError, match="does not match the checksum"):
        read_bundle(file)


def test_a_newer_format_says_to_upgrade(file: Path) -> None:
    """A bundle of a later version is not read as if it were of this one."""
    _relabel(file, version=2)
    with pytest.raises(BundleError, match="expected bundle format 1, got 2. Upgrade imgtofmri"):
        read_bundle(file)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    """Weights of a network are not a bundle."""
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(BundleError, match="does not say that it is one"):
        read_bundle(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("make", "found"), [("folder", "a folder"), ("none", "nothing")])
def test_no_file_says_what_is_there(tmp_path: Path, make: str, found: str) -> None:
    """A folder, or nothing at all."""
    path = tmp_path / "b.safetensors"
    if make == "folder":
        path.mkdir()
    with pytest.raises(BundleError, match=f"found {found} there"):
        read_bundle(path)


BAD_MODELS: list[tuple[dict[str, Any], str]] = [
    ({"weights": np.zeros((6, 29), np.float32)}, "voxels of length 29"),
    ({"weights": np.zeros(6, np.float32)}, "expected weights .n_features, n_voxels."),
    ({"weights": np.full((6, 30), np.nan, np.float32)}, "expected finite weights"),
    ({"voxels": np.full(30, 3, np.int32)}, "expected distinct voxels within the native grid"),
    ({"voxels": np.arange(500, 530, dtype=np.int32)}, "expected distinct voxels within"),
    ({"hemi": np.full(30, 9, np.uint8)}, "expected hemispheres coded 0 to 2, got 9"),
    ({"first_feature": 1}, "features 1 to 7 are not among the bundle's 6"),
    ({"extras": {"cv_r": np.zeros(2)}}, "expected cv_r of length 30"),
]


@pytest.mark.parametrize(("changes", "said"), BAD_MODELS)
def test_parts_that_do_not_fit_are_refused(
    small_bundle: Bundle, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """A bundle that could not be used is never written; subject and ROI are named."""
    subject = small_bundle.subjects[1]
    model = dataclasses.replace(subject.rois["PPA"], **changes)
    broken = dataclasses.replace(subject, rois={**subject.rois, "PPA": model})
    bundle = dataclasses.replace(small_bundle, subjects=(small_bundle.subjects[0], broken))
    with pytest.raises(BundleError, match=f"subject S2, ROI PPA: .*{said}"):
        write_bundle(bundle, tmp_path / "b.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_card_without_licence_is_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    """The card must say what the encoder is and on which terms it may be used."""
    card = {key: value for key, value in small_bundle.card.items() if key != "licence"}
    with pytest.raises(BundleError, match="it lacks .'licence'."):
        write_bundle(dataclasses.replace(small_bundle, card=card), tmp_path / "b.safetensors")


def test_subjects_of_one_name_are_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    """Arrays are filed under the subject's name."""
    twice = (small_bundle.subjects[0], small_bundle.subjects[0])
    with pytest.raises(BundleError, match="subjects of distinct names"):
        write_bundle(dataclasses.replace(small_bundle, subjects=twice), tmp_path / "b.safetensors")


BAD_FEATURES: list[tuple[dict[str, Any], str]] = [
    ({"backbone": None}, "to say id, backbone, layers and n_features; got"),
    ({"layer_widths": [5]}, r"a width for each of \['avgpool'\], 6 in all; got \[5\]"),
    ({"networks": "resnet18"}, "each network's, to say id, backbone, layers"),
    ({"networks": [{"id": "a/b", "layers": []}]}, "each network's, to say id, backbone, layers"),
    (
        {"networks": [{"id": "a/b", "backbone": "a", "layers": ["b"], "n_features": 4}]},
        r"expected networks of 6 features in all; got \[4\]",
    ),
]


@pytest.mark.parametrize(("changes", "said"), BAD_FEATURES)
def test_a_card_whose_features_do_not_fit_is_refused(
    small_bundle: Bundle, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """What the card says of networks and layers must add up before anything is loaded."""
    card = {**small_bundle.card, "features": {**small_bundle.card["features"], **changes}}
    with pytest.raises(BundleError, match=said):
        write_bundle(dataclasses.replace(small_bundle, card=card), tmp_path / "b.safetensors")
