"""An encoder that `fit` wrote goes through the other commands; a bad one goes through none."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import save

from imgtofmri.bundle import Bundle, read_bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import load_encoder

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

N_PICTURES = 24
SHAPE = (12, 13, 11)
VOXELS = {"V1": np.arange(600, 630), "LOC": np.arange(900, 925)}


class FittedStudy:
    """A study of one subject: pictures, responses with planted weights, and its encoder."""

    def __init__(self, folder: Path, weights: Path, size_mm: float) -> None:
        rng = np.random.default_rng(3)
        self.folder, self.pictures, self.weights = folder, folder / "pictures", weights
        self.pictures.mkdir()
        names = [f"{number:02d}.png" for number in range(N_PICTURES)]
        for name in names:
            pixels = rng.integers(0, 256, size=(24, 36, 3), dtype=np.uint8)
            pixels[:, : rng.integers(1, 36)] //= 4
            Image.fromarray(pixels).save(self.pictures / name)
        self.affine = np.diag([size_mm, size_mm, size_mm, 1.0])
        rois = ""
        for roi, voxels in VOXELS.items():
            mask = np.zeros(SHAPE, np.uint8)
            mask.flat[voxels] = 1
            nib.save(nib.Nifti1Image(mask, self.affine), folder / f"{roi}.nii.gz")
            signal = rng.standard_normal((N_PICTURES, len(voxels)))
            noise = 0.5 * rng.standard_normal((2 * N_PICTURES, len(voxels)))
            np.save(folder / f"{roi}.npy", np.tile(signal, (2, 1)) + noise)
            rois += f'[subjects.rois.{roi}]\nmask = "{roi}.nii.gz"\nresponses = "{roi}.npy"\n'
        (folder / "stimuli.tsv").write_text("\n".join(["stimulus", *names, *names]) + "\n")
        self.study = folder / "study.toml"
        self.study.write_text(f"""
id = "mine"
title = "One person's responses to {N_PICTURES} pictures"
licence = "CC0"
citation = ["Nobody (2026)"]
[template]
grid = "V1.nii.gz"
space = "MNI152NLin2009cAsym"
[stimuli]
table = "stimuli.tsv"
folder = "pictures"
[backbone]
name = "resnet18"
layers = ["avgpool"]
weights = "{weights}"
center_crop = true
[fit]
alphas = [1.0, 10.0, 100.0]
[[subjects]]
name = "S1"
transform = {{ kind = "same" }}
{rois}""")
        self.encoder = folder / "mine.safetensors"
        assert main(["fit", str(self.study), "-o", str(self.encoder), "--quiet"]) == 0

    def options(self) -> list[str]:
        """Return what every command that predicts is given."""
        return ["--encoder", str(self.encoder), "--weights", str(self.weights), "--quiet"]


@pytest.fixture(
    scope="module",
    params=[pytest.param(2.0, id="2mm"), pytest.param(3.0, id="3mm", marks=pytest.mark.slow)],
)
def fitted(
    request: pytest.FixtureRequest, random_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> FittedStudy:
    """Return a fitted study on a grid of 2 and of 3 mm."""
    return FittedStudy(tmp_path_factory.mktemp("fitted"), random_weights, request.param)


def load(path: Path) -> npt.NDArray[Any]:
    """Return a volume's values."""
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def test_predict_with_a_fitted_encoder_uses_its_card(fitted: FittedStudy, tmp_path: Path) -> None:
    """Volumes lie on the study's grid; pictures are cropped as for the fit, unless told not to."""
    pictures = [str(path) for path in sorted(fitted.pictures.iterdir())[:3]]
    assert main(["predict", *pictures, "-o", str(tmp_path / "a"), *fitted.options()]) == 0
    image = nib.Nifti1Image.from_filename(tmp_path / "a" / "00.png.nii.gz")
    assert image.shape == SHAPE
    np.testing.assert_array_equal(image.affine, fitted.affine)
    said = json.loads((tmp_path / "a" / "predictions.json").read_text())["prediction"]
    assert (said["center_crop"], said["space"]) == (True, "MNI152NLin2009cAsym")
    squeezed = [*fitted.options(), "--no-center-crop"]
    assert main(["predict", *pictures, "-o", str(tmp_path / "b"), *squeezed]) == 0
    said = json.loads((tmp_path / "b" / "predictions.json").read_text())["prediction"]
    assert said["center_crop"] is False
    assert not np.array_equal(load(tmp_path / "b" / "00.png.nii.gz"), image.dataobj)


def test_predict_weights_of_the_fit_are_found_beside_the_bundle(
    fitted: FittedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other weights than the published ones lie beside the bundle, or the message names them."""
    picture = str(next(fitted.pictures.iterdir()))
    encoder = tmp_path / "mine.safetensors"
    encoder.write_bytes(fitted.encoder.read_bytes())
    arguments = ["predict", picture, "--encoder", str(encoder), "--quiet", "-o"]
    assert main([*arguments, str(tmp_path / "a")]) == 1
    said = capsys.readouterr().err
    assert "was fitted with random.safetensors (SHA-256 " in said
    assert "looked for beside the bundle; it is not there. Put it there" in said
    weights = tmp_path / fitted.weights.name
    weights.write_bytes(b"something else")
    assert main([*arguments, str(tmp_path / "a")]) == 1
    assert f"{weights} has another content" in capsys.readouterr().err
    weights.write_bytes(fitted.weights.read_bytes())
    assert main([*arguments, str(tmp_path / "a")]) == 0


@pytest.mark.slow
def test_predict_interval_and_minimum_of_accuracy(
    fitted: FittedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bounds enclose the map; voxels below the minimum are left out; the record says both."""
    picture = str(sorted(fitted.pictures.iterdir())[0])
    mean = [*fitted.options(), "--average", "mean"]
    out = tmp_path / "interval"
    assert main(["predict", picture, "-o", str(out), *mean, "--interval", "0.9"]) == 0
    lower, middle, upper = (
        load(out / f"00.png{bound}.nii.gz") for bound in ("_lower", "", "_upper")
    )
    inside = np.isfinite(upper) & (upper != lower)  # NaN where one person alone stands there.
    assert inside.any()
    assert (lower[inside] < middle[inside]).all()
    assert (middle[inside] < upper[inside]).all()
    record = json.loads((out / "predictions.json").read_text())
    assert record["settings"]["interval"] == 0.9
    assert len(record["inputs"][0]["outputs"]) == 3
    bids = ["--format", "bids", "--interval", "0.9"]
    assert main(["predict", picture, "-o", str(tmp_path / "bids"), *mean, *bids]) == 0
    files = {path.name for path in (tmp_path / "bids" / "sub-group" / "func").iterdir()}
    start = "sub-group_task-images_space-MNI152NLin2009cAsym_desc-00+2epng"
    assert files == {f"{start}{end}_bold.nii.gz" for end in ("", "+lower", "+upper")}
    assert "desc-00+2epng+upper\t" in (tmp_path / "bids" / "descriptions.tsv").read_text()
    for options, limit in (([], 0.2), (["--share-of-ceiling"], 0.3)):
        out = tmp_path / f"minimum{limit}"
        chosen = ["--min-accuracy", str(limit), *options, "--mask", "support"]
        assert main(["predict", picture, "-o", str(out), *mean, *chosen]) == 0
        n_kept = 0
        for model in read_bundle(fitted.encoder).subjects[0].rois.values():
            share = model.extras["noise_ceiling"] if options else 1.0
            n_kept += int((model.extras["cv_r"] >= limit * share).sum())
        said = json.loads((out / "predictions.json").read_text())["prediction"]["restricted"]
        assert said.endswith(f">= {limit:g}: {n_kept} of 55 voxels")
        assert 0 < n_kept < 55
    capsys.readouterr()
    for options, expected in (
        (["--interval", "0.9"], 'average must be "mean"'),
        (["--interval", "9", "--average", "mean"], "level must be between 0 and 1; got 9"),
        (["--min-accuracy", "1.5"], "must reach cv_r >= 1.5; none of 55 does"),
        (["--share-of-ceiling"], "needs --min-accuracy"),
    ):
        assert main(["predict", picture, "-o", str(tmp_path / "x"), *fitted.options(), *options])
        assert expected in capsys.readouterr().err


def test_predict_interval_of_a_movie_is_as_long_as_the_movie(
    fitted: FittedStudy, tmp_path: Path
) -> None:
    """Bounds of each frame are 4-D volumes that equal those of the same prediction in Python."""
    rng = np.random.default_rng(4)
    movie = tmp_path / "film.mp4"
    with av.open(str(movie), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    options = [*fitted.options(), "--average", "mean", "--interval", "0.8"]
    assert main(["predict", str(movie), "-o", str(tmp_path / "out"), *options]) == 0
    encoder = load_encoder(fitted.encoder)
    prediction = encoder.predict_movie(
        movie, average="mean", weights=fitted.weights, progress=False
    )
    for name, expected in zip(("lower", "upper"), prediction.interval(0.8), strict=True):
        got = load(tmp_path / "out" / f"film.mp4_{name}.nii.gz")
        assert got.shape == (*SHAPE, 4)
        np.testing.assert_allclose(got[prediction.mask].T, expected, rtol=1e-5, atol=1e-6)


def test_predict_extras_that_a_bundle_lacks_are_asked_for_in_vain(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle that records nothing of its voxels has no accuracy to select by."""
    write_bundle(small_bundle, tmp_path / "small.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    arguments += ["--encoder", str(tmp_path / "small.safetensors"), "--quiet"]
    assert main([*arguments, "--min-accuracy", "0.1"]) == 2
    assert "cv_r must be known of each voxel" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_describe_shows_a_fit(fitted: FittedStudy, capsys: pytest.CaptureFixture[str]) -> None:
    """Accuracy by subject and ROI, data, splits, penalties, seed, versions and files."""
    assert main(["describe", str(fitted.encoder)]) == 0
    said = capsys.readouterr().out
    model = read_bundle(fitted.encoder).subjects[0].rois["LOC"]
    row = next(line for line in said.splitlines() if line.startswith("S1       LOC"))
    assert row.split()[2:5] == [
        "25",
        f"{np.median(model.extras['cv_r']):.3f}",
        f"{np.median(model.extras['noise_ceiling']):.3f}",
    ]
    assert "S1: 48 rows of 24 stimuli, folds of 5, 5, 5, 5, 4" in said
    assert "penalties   3, 1 to 100" in said
    assert "seed        none" in said
    assert "versions    imgtofmri " in said
    assert "  study.toml" in said


def test_describe_writes_a_table_of_voxels(fitted: FittedStudy, tmp_path: Path) -> None:
    """The table has a row for each voxel and what the fit found out about it."""
    target = tmp_path / "out" / "voxels.tsv"
    assert main(["describe", str(fitted.encoder), "--voxels", str(target)]) == 0
    header, *rows = target.read_text().splitlines()
    names = ["subject", "roi", "hemi", "i", "j", "k", "x_mm", "y_mm", "z_mm"]
    assert header.split("\t")[:9] == names
    assert {"cv_r", "alpha", "noise_ceiling", "residual_variance"} <= set(header.split("\t"))
    assert len(rows) == sum(map(len, VOXELS.values()))


@pytest.mark.slow
def test_simulate_and_validate_take_a_fitted_encoder(fitted: FittedStudy, tmp_path: Path) -> None:
    """A simulated run lies on the study's grid; measured maps are compared there."""
    events = ["onset\tduration\ttrial_type\tstim_file"]
    events += [f"{2 + 6 * number}\t2\tpicture\t{number:02d}.png" for number in range(4)]
    (tmp_path / "events.tsv").write_text("\n".join(events) + "\n")
    run = ["simulate", str(tmp_path / "events.tsv"), "-o", str(tmp_path / "sim"), "--tr-s", "2"]
    run += ["--stimuli", str(fitted.pictures)]
    assert main([*run, *fitted.options()]) == 0
    bold = next((tmp_path / "sim").rglob("*bold.nii.gz"))
    assert nib.Nifti1Image.from_filename(bold).shape[:3] == SHAPE
    pictures = [str(path) for path in sorted(fitted.pictures.iterdir())[:8]]
    measured = tmp_path / "measured"
    assert main(["predict", *pictures, "-o", str(measured), *fitted.options()]) == 0
    (measured / "predictions.json").unlink()
    command = ["validate", "--measured", str(measured), "--permutations", "200"]
    for picture in pictures:
        command += ["--stimuli", picture]
    assert main([*command, "-o", str(tmp_path / "v"), *fitted.options()]) == 0
    table = (tmp_path / "v" / "matched_patterns.tsv").read_text().splitlines()
    row = dict(zip(table[0].split("\t"), table[1].split("\t"), strict=True))
    assert (row["level"], row["n_images"]) == ("group", "8")
    correlations = np.load(tmp_path / "v" / "correlations.npz")
    # Predicted patterns compared with themselves match perfectly.
    np.testing.assert_allclose(np.diag(correlations["correlations"]), 1, atol=1e-6)


class Loud:
    """What an unpickler would run."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def _truncate(good: bytes) -> bytes:
    return good[: len(good) // 2]


def _damage(good: bytes) -> bytes:
    return good[:-1] + bytes([good[-1] ^ 1])


def _make_newer(good: bytes) -> bytes:
    size = struct.unpack("<Q", good[:8])[0]
    header = good[8 : 8 + size].replace(rb"\"version\": 1", rb"\"version\": 9")
    return struct.pack("<Q", len(header)) + header + good[8 + size :]


def _pickle(good: bytes) -> bytes:
    return pickle.dumps(Loud())


def _npz(good: bytes) -> bytes:
    hostile = np.empty(1, dtype=object)
    hostile[0] = Loud()
    buffer = io.BytesIO()
    np.savez(buffer, weights=hostile)
    return buffer.getvalue()


def _foreign(good: bytes) -> bytes:
    return save({"weight": np.zeros(3, np.float32)})


@pytest.mark.parametrize("command", ["predict", "describe", "simulate", "validate"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_truncate, "damaged, truncated or of another kind"),
        (_damage, "does not match the checksum"),
        (_make_newer, "expected bundle format 1, got 9. Upgrade imgtofmri"),
        (_pickle, "damaged, truncated or of another kind"),
        (_npz, "damaged, truncated or of another kind"),
        (_foreign, "does not say that it is one"),
    ],
)
def test_a_bad_bundle_is_refused_by_every_command(
    small_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    spoil: Callable[[bytes], bytes],
    said: str,
) -> None:
    """One line says what is wrong with the file, nothing is written, nothing in it is run."""
    monkeypatch.chdir(tmp_path)
    write_bundle(small_bundle, Path("good.safetensors"))
    Path("bad.safetensors").write_bytes(spoil(Path("good.safetensors").read_bytes()))
    Image.new("RGB", (8, 8)).save("a.png")
    Path("events.tsv").write_text("onset\tduration\tstim_file\n0\t1\ta.png\n")
    arguments = {
        "predict": ["a.png", "-o", "out", "--encoder"],
        "describe": [],
        "simulate": ["events.tsv", "--stimuli", ".", "--tr-s", "2", "-o", "out", "--encoder"],
        "validate": ["--stimuli", "a.png", "--measured", ".", "-o", "out", "--encoder"],
    }[command]
    assert main([command, *arguments, "bad.safetensors"]) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("imgtofmri: bad.safetensors: ")
    assert said in errors[0]
    assert not Path("out").exists()
    assert not Path("executed").exists()
