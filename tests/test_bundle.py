"""The bundle's file format."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from imgtofmri.bundle import Bundle, read_bundle, write_bundle
from imgtofmri.encoder import Encoder
from imgtofmri.encoder.description import card_lines
from imgtofmri.exceptions import BundleError, ImgToFmriError


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


def test_digest_is_of_the_content_as_the_file_carries_it(small_bundle: Bundle, file: Path) -> None:
    """A copy has the digest of what was written; another model under the same id has another."""
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    carried = json.loads(header["__metadata__"]["imgtofmri-bundle"])["sha256"]
    got = read_bundle(file)
    assert carried == got.sha256 == small_bundle.sha256
    assert dataclasses.replace(got).sha256 == carried  # Computed anew.
    fewer = dataclasses.replace(got, subjects=got.subjects[:1])
    assert fewer.card["id"] == got.card["id"]
    assert len(fewer.sha256) == 64
    assert fewer.sha256 != carried


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


def one_of(shape: tuple[int, ...], value: float) -> npt.NDArray[np.float32]:
    """Return zeros but for one value, the last."""
    values = np.zeros(shape, np.float32)
    values.flat[-1] = value
    return values


BAD_MODELS: list[tuple[dict[str, Any], str]] = [
    ({"weights": np.zeros((6, 29), np.float32)}, "voxels of length 29"),
    ({"weights": np.zeros(6, np.float32)}, "expected weights .n_features, n_voxels."),
    ({"weights": np.full((6, 30), np.nan, np.float32)}, "expected finite weights"),
    ({"weights": one_of((6, 30), np.inf)}, "expected finite weights"),
    ({"intercept": one_of((30,), np.nan)}, "expected finite weights and intercepts"),
    ({"hemi": one_of((30,), 3).astype(np.uint8)}, "expected hemispheres coded 0 to 2, got 3"),
    ({"voxels": np.arange(30) - 1}, "expected distinct voxels within"),
    ({"voxels": np.arange(30).clip(1)}, "expected distinct voxels within"),
    ({"first_feature": -1}, "features -1 to 5 are not among the bundle's 6"),
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"native": 8 * 8 * 8}, "to_template names voxels outside the grids"),
        ({"template": 12 * 10 * 9}, "to_template names voxels outside the grids"),
        ({"template": -1}, "to_template names voxels outside the grids"),
        ({"weight": np.nan}, "to_template holds a weight that is not a finite number"),
    ],
)
def test_a_map_that_leaves_the_grids_is_refused(
    small_bundle: Bundle, tmp_path: Path, changes: dict[str, float], said: str
) -> None:
    """One voxel or one weight is enough, on either side."""
    subject = small_bundle.subjects[1]
    arrays = {name: getattr(subject.to_template, name).copy() for name in changes}
    for name, value in changes.items():
        arrays[name][-1] = value
    broken = dataclasses.replace(
        subject, to_template=dataclasses.replace(subject.to_template, **arrays)
    )
    bundle = dataclasses.replace(small_bundle, subjects=(small_bundle.subjects[0], broken))
    with pytest.raises(BundleError, match=f"subject S2: {said}"):
        write_bundle(bundle, tmp_path / "b.safetensors")


def test_a_grid_without_voxels_is_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    """One axis without length is enough."""
    grid = dataclasses.replace(small_bundle.template, shape=(12, 0, 9))
    with pytest.raises(BundleError, match=r"the grid of the template to have 1 to .* \(12, 0, 9\)"):
        write_bundle(dataclasses.replace(small_bundle, template=grid), tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", ["a/b", "..", "", 7])
def test_a_subject_s_name_that_no_array_can_be_filed_under_is_refused(
    small_bundle: Bundle, tmp_path: Path, name: Any
) -> None:
    """Names are parts of arrays' names, and of files'."""
    subjects = (dataclasses.replace(small_bundle.subjects[0], name=name),)
    bundle = dataclasses.replace(small_bundle, subjects=subjects)
    with pytest.raises(BundleError, match="the name of a subject to be a text without slashes"):
        write_bundle(bundle, tmp_path / "b.safetensors")


def test_an_encoder_of_one_feature_is_an_encoder(
    make_bundle: Callable[..., Bundle], rng: np.random.Generator, tmp_path: Path
) -> None:
    """The least there can be of features is one."""
    write_bundle(make_bundle(rng, n_features=1), tmp_path / "b.safetensors")
    assert read_bundle(tmp_path / "b.safetensors").n_features == 1


def test_a_card_of_many_files_is_cut_short_and_says_so(small_bundle: Bundle) -> None:
    """A dozen files are shown; of more, the first ones and how many are left."""
    for n_files, n_shown in ((12, 12), (80, 11)):
        files = {f"sub-{number:02d}_bold.nii.gz": "0123456789abcdef" for number in range(n_files)}
        subject = small_bundle.subjects[0]
        known = {"cv_r": np.zeros(1, np.float32)}
        rois = {name: dataclasses.replace(m, extras=known) for name, m in subject.rois.items()}
        fitted = dataclasses.replace(
            small_bundle,
            card=small_bundle.card | {"fit": {"files": files}},
            subjects=(dataclasses.replace(subject, rois=rois),),
        )
        lines = list(card_lines(fitted))
        assert sum("_bold.nii.gz" in line for line in lines) == n_shown
        assert (f"{'':<12}and 69 more, which the card has (--json)" in lines) == (n_files == 80)


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
    ({"layers": ["avgpool", 3]}, "to say id, backbone, layers and n_features; got"),
    ({"n_features": True}, "to say id, backbone, layers and n_features; got"),
    ({"n_features": 6.0}, "to say id, backbone, layers and n_features; got"),
    ({"layers": ["a", "b"], "layer_widths": [7, -1]}, r"a width for each of .*got \[7, -1\]"),
    ({"layers": ["a", "b"], "layer_widths": [6.0, 0]}, r"a width for each of .*got \[6\.0, 0\]"),
    ({"preprocessing": {"size": 8, "mean": [0, 0, 0], "std": [1, 1]}}, "preprocessing to be"),
    ({"preprocessing": {"size": 10001, "mean": [0] * 3, "std": [1] * 3}}, "100,000,000 pixels"),
    ({"preprocessing": {"size": 8, "mean": list("abc"), "std": [1, 1, 1]}}, "preprocessing to be"),
    ({"preprocessing": {"size": 8, "mean": [0, 0, 0], "std": [1, 0, 1]}}, "preprocessing to be"),
    ({"preprocessing": {"size": 8, "mean": [0, 1e6, 0], "std": [1, 1, 1]}}, "preprocessing to be"),
    ({"weights": {"name": "../w.bin"}}, "a file's name, without a folder"),
    ({"weights": {"name": "w.bin", "sha256": 7}}, "a file's name, without a folder"),
    ({"weights": {"seed": -1}}, "or a seed"),
    ({"weights": {"seed": False}}, "or a seed"),
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


def test_any_byte_that_changes_is_noticed(file: Path) -> None:
    """Flipped, cut or added bytes are refused, or do not matter at all."""
    rng = np.random.default_rng(11)
    good = file.read_bytes()
    expected = read_bundle(file)
    n_refused = 0
    for number in range(200):
        data = bytearray(good)
        place = int(rng.integers(len(good)))
        if number % 3 == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif number % 3 == 1:
            del data[place:]
        else:
            data[place:place] = rng.bytes(int(rng.integers(1, 9)))
        file.write_bytes(data)
        try:
            got = read_bundle(file)
        except BundleError:
            n_refused += 1
        else:
            assert got.card == expected.card
            for one, two in zip(got.subjects, expected.subjects, strict=True):
                np.testing.assert_array_equal(one.rois["LOC"].weights, two.rois["LOC"].weights)
    assert n_refused > 190


ODD_VALUES: list[Any] = [None, True, -1, 1e9, 2**70, float("nan"), float("inf"), "x", "../../x", ""]
ODD_VALUES += [[], {}, [1], [None], {"a": 1}, [1, 2, 3], [[1, 2], [3, 4]], "\ud800"]


def _places(value: Any, key: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the key of everything in nested tables and lists."""
    items: list[Any] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [key, *(place for part, item in items for place in _places(item, (*key, part)))]


def _reseal(path: Path, card: Any, arrays: dict[str, Any]) -> None:
    """Write a file with a checksum that is right, as other software might."""
    text = json.dumps(card, ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode(errors="replace"))
    for name in sorted(arrays):
        array = arrays[name] = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    label = {"version": 1, "sha256": digest.hexdigest(), "card": card}
    save_file(arrays, path, {"imgtofmri-bundle": json.dumps(label)})


@pytest.mark.slow
def test_a_foreign_bundle_with_odd_content_is_refused_or_usable(file: Path) -> None:
    """Whatever stands in a file whose checksum is right, it is refused as a whole or predicts."""
    rng = np.random.default_rng(5)
    label = json.loads(_metadata(file))
    arrays = load_file(file)
    places = _places(label["card"])[1:]
    names = sorted(arrays)
    outcomes = {"refused": 0, "used": 0}
    for _ in range(400):
        card, changed = copy.deepcopy(label["card"]), dict(arrays)
        if rng.random() < 0.6:
            *above, last = places[rng.integers(len(places))]
            target = card
            for part in above:
                target = target[part]
            target[last] = ODD_VALUES[rng.integers(len(ODD_VALUES))]
        else:
            name = names[rng.integers(len(names))]
            kind = ["f2", "f8", "i1", "i8", "?", "u4"][rng.integers(6)]
            odd = [arrays[name].astype(kind), arrays[name][..., None], arrays[name][:-1]]
            changed[name] = odd[rng.integers(3)]
        _reseal(file, card, changed)
        try:
            bundle = read_bundle(file)
            list(card_lines(bundle))
            Encoder(bundle).predict_features(np.zeros((1, bundle.n_features), np.float32))
            outcomes["used"] += 1
        except ImgToFmriError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("subjects", 0, "name", "../../S1"),
            "expected the name of a subject to be a text",
        ),
        (("template", "space", "../MNI"), "to name its space in letters and digits"),
        (("template", "shape", [9, 9.5, 9]), "a grid's shape is of whole numbers"),
        (("template", "affine", [[0] * 4] * 4), "the affine of the template to be invertible"),
        (("citation", 3), "citation to be a text or a list of texts; got 3"),
        (("features", "weights", {"name": "../w.pth"}), "weights to be a file's name, without"),
        (("features", "preprocessing", {"size": 0}), "preprocessing to be a size, and a mean"),
        (("features", "layer_widths", ["6"]), "expected a width for each of"),
    ],
)
def test_a_foreign_card_is_refused_by_what_is_wrong(
    file: Path, change: tuple[Any, ...], said: str
) -> None:
    """Names that lead out of a folder, and values of another kind, are named."""
    card = json.loads(_metadata(file))["card"]
    arrays = load_file(file)
    *above, last, value = change
    target = card
    for part in above:
        target = target[part]
    target[last] = value
    if last == "name":
        arrays = {name.replace("S1/", f"{value}/", 1): array for name, array in arrays.items()}
    _reseal(file, card, arrays)
    with pytest.raises(BundleError, match=said):
        read_bundle(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("S1/LOC/voxels", np.float32), "S1, ROI LOC: expected voxels to hold integers"),
        (("S1/LOC/weights", np.int32), "S1, ROI LOC: expected weights of floating-point numbers"),
        (("S2/to_template/weight", np.int32), "S2, to_template: expected weight to hold floating"),
        (
            ("S2/PPA/hemi", None),
            r"S2, ROI PPA: expected hemi to have one axis; got shape",
        ),
    ],
)
def test_foreign_arrays_of_another_kind_are_refused(
    file: Path, change: tuple[str, Any], said: str
) -> None:
    """Types and axes of arrays are those of the specification."""
    name, kind = change
    arrays = load_file(file)
    arrays[name] = arrays[name][:, None] if kind is None else arrays[name].astype(kind)
    _reseal(file, json.loads(_metadata(file))["card"], arrays)
    with pytest.raises(BundleError, match=said):
        read_bundle(file)


def _metadata(path: Path) -> str:
    with safe_open(path, framework="numpy") as file:
        return str(file.metadata()["imgtofmri-bundle"])
