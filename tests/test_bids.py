"""What is written as BIDS: names that cannot collide, sidecars by inheritance, the validator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from itertools import product
from pathlib import Path
from urllib.parse import unquote_to_bytes

import av
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgtofmri import Encoder, load_encoder
from imgtofmri.analyses.predict import predict_into
from imgtofmri.bundle import Bundle
from imgtofmri.cli import main
from imgtofmri.exceptions import OptionError
from imgtofmri.outputs import BidsLayout, NiftiLayout, VolumeWriter, check_distinct
from imgtofmri.outputs.layouts import bids_label

NAMES = ["a.jpg", "わべふふ.jpg", "ぅちあか.jpg", "my horse_01-b.png", "ajpg", "a+b.jpg", "x" * 150]


@given(st.text(max_size=60), st.text(max_size=60))
def test_bids_label_can_be_read_back(name: str, other: str) -> None:
    """A label says which name it is of, so that no two names have one; it is a label of BIDS."""
    name = name.encode("utf-8", "replace").decode()
    label = bids_label(name)
    assert label.replace("+", "").isalnum() or not name
    assert label.isascii()
    if "++" not in label:
        assert unquote_to_bytes(label.replace("+", "%")) == name.encode()
    other = other.encode("utf-8", "replace").decode()
    assert (label == bids_label(other)) == (name == other)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("わべふふ.jpg", "ぅちあか.jpg"),
        ("aa.png", "a.apng"),
        ("ajpg", "a.jpg"),
        ("a_b.jpg", "a-b.jpg"),
        ("写真1.jpg", "写眞1.jpg"),
        ("é.jpg", "e\u0301.jpg"),
        ("あ" * 60, "あ" * 59 + "い"),
        ("い" + "あ" * 59, "あ" * 60),
        ("x.jpg", "x.jpg+lower"),
    ],
)
def test_bids_files_of_two_names_are_two(first: str, second: str) -> None:
    """Two stimuli never share a file, whatever signs their names are made of."""
    layout = BidsLayout(bounds=("lower", "upper"))
    owners = [(None, ""), (None, "lower"), (None, "upper"), ("CSI1", "")]
    files = [layout.volume(name, *owner) for name, owner in product((first, second), owners)]
    assert len({file.casefold() for file in files}) == len(files)
    assert all(len(Path(file).name.encode()) <= 255 for file in files)


def test_check_distinct_refuses_what_would_share_a_file() -> None:
    """A subject called as the group is, and a stimulus called as another's bound."""
    check_distinct(BidsLayout(), NAMES, ("S1", "S2"), bounded=True)
    with pytest.raises(OptionError, match=r"files of its own.*would share sub-group.*Rename"):
        check_distinct(BidsLayout(), ["a.jpg"], ("group",))
    with pytest.raises(OptionError, match=r"'a' and 'a_lower' would share a_lower\.nii\.gz"):
        check_distinct(NiftiLayout(), ["a", "a_lower"], bounded=True)
    check_distinct(NiftiLayout(), ["a", "a_lower"])


def test_save_bids_keeps_every_stimulus(
    tmp_path: Path, small_bundle: Bundle, rng: np.random.Generator
) -> None:
    """Each map is in the file that `descriptions.tsv` names, a series of one volume at 0 s."""
    features = rng.normal(size=(len(NAMES), 6))
    prediction = Encoder(small_bundle).predict_features(features, names=NAMES)
    prediction.save(tmp_path / "out", "bids", subjects=True)
    rows = (tmp_path / "out" / "descriptions.tsv").read_text("utf-8").splitlines()[1:]
    assert len(rows) == len(prediction)
    for row, expected in zip(rows, prediction.group, strict=True):
        label, said = row.split("\t")
        (file,) = (tmp_path / "out" / "sub-group").rglob(f"*_{label}_bold.nii.gz")
        image = nib.load(file)
        assert said.removeprefix("stimulus ") in prediction.names
        assert image.shape == (*prediction.mask.shape, 1)
        np.testing.assert_array_equal(image.get_fdata()[prediction.mask, 0], expected)
    sidecar = json.loads((tmp_path / "out" / "task-images_bold.json").read_text())
    assert (sidecar["TaskName"], sidecar["VolumeTiming"]) == ("images", [0.0])
    assert sidecar["SpatialReference"] == prediction.space
    assert not (tmp_path / "out" / "task-movies_bold.json").exists()


def write_film(path: Path) -> Path:
    """Write three seconds of noise at 4 Hz."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(12):
            noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def findings(folder: Path) -> list[str]:
    """Return the errors that the BIDS validator finds in a dataset, or skip with the reason."""
    paths = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    validator = shutil.which("bids-validator-deno", path=paths)
    if validator is None:
        pytest.skip("needs the BIDS validator: pip install bids-validator-deno")
    done = subprocess.run(
        [validator, folder, "--format", "json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [str(issue) for issue in issues if issue["severity"] == "error"]


@pytest.mark.bids
@pytest.mark.filterwarnings("ignore:.*not the published weights")
def test_predicted_dataset_passes_the_bids_validator(
    tmp_path: Path, small_encoder: Path, random_weights: Path, rng: np.random.Generator
) -> None:
    """Pictures and a film, group and subjects, in any template space: not one error."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in NAMES:
        name = name if "." in name else f"{name}.png"
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / name)
    out, film = tmp_path / "out", write_film(tmp_path / "film 1.mp4")
    encoder = load_encoder(small_encoder)
    inputs, shared = [pictures, film], {"weights": random_weights, "mask": "support"}
    summary = predict_into(
        out, encoder, inputs, format="bids", subjects=True, progress=False, **shared
    )
    assert len(summary.done) == len(NAMES) + 1
    assert findings(out) == []
    # An encoder's template may be one that BIDS does not know, and bounds are written beside maps.
    layout = BidsLayout("MyTemplate", ("lower", "upper"))
    mask = np.ones((3, 3, 3), bool)
    writer = VolumeWriter(mask, np.eye(4), as_series=layout.as_series)
    for bound in ("", "lower", "upper"):
        writer.write(tmp_path / "own" / layout.volume("a.jpg", bound=bound), np.arange(27.0))
    layout.describe(tmp_path / "own", ["a.jpg"], ["predictions.json"])
    assert findings(tmp_path / "own") == []


@pytest.mark.bids
def test_bids_validator_sees_what_is_wrong(tmp_path: Path) -> None:
    """A picture's map without a time axis, or without its sidecar, is an error to it."""
    layout = BidsLayout()
    writer = VolumeWriter(np.ones((3, 3, 3), bool), np.eye(4))
    writer.write(tmp_path / layout.volume("a.jpg"), np.arange(27.0))
    layout.describe(tmp_path, ["a.jpg"], [])
    assert any("BOLD_NOT_4D" in finding for finding in findings(tmp_path))
    (tmp_path / "task-images_bold.json").unlink()
    assert any("SkullStripped" in finding for finding in findings(tmp_path))


@pytest.mark.bids
@pytest.mark.filterwarnings("ignore:.*not the published weights")
def test_simulated_dataset_passes_the_bids_validator(
    tmp_path: Path, small_encoder: Path, random_weights: Path, rng: np.random.Generator
) -> None:
    """Runs of two subjects: not one error."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rows = ["onset\tduration\ttrial_type\tstim_file"]
    for number, name in enumerate(("a.png", "b 1.png", "ü.png")):
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / name)
        rows.append(f"{6 * number}\t2\tx\t{name}")
    (tmp_path / "events.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    command = ["simulate", str(tmp_path / "events.tsv"), "--stimuli", str(pictures), "--tr-s", "2"]
    command += ["--encoder", str(small_encoder), "--weights", str(random_weights)]
    command += ["--mask", "support", "-o", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 0
    assert findings(tmp_path / "out") == []


@pytest.mark.bids
@pytest.mark.filterwarnings("ignore:.*not the published weights")
def test_simulated_film_passes_the_bids_validator(
    tmp_path: Path, small_encoder: Path, random_weights: Path
) -> None:
    """A film alone: not one error."""
    film = write_film(tmp_path / "film 1.mp4")
    command = ["simulate", str(film), "--tr-s", "2", "-o", str(tmp_path / "alone"), "--no-report"]
    command += ["--encoder", str(small_encoder), "--weights", str(random_weights)]
    assert main([*command, "--mask", "support", "--quiet"]) == 0
    assert findings(tmp_path / "alone") == []
