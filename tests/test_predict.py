"""Predictions to files in Python: a `Prediction` saved, and all that the command does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgtofmri.analyses.predict import RunSummary, predict_images, predict_into
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder, Prediction
from imgtofmri.exceptions import OptionError
from imgtofmri.files import sha256_of
from imgtofmri.outputs import FORMATS, FormatName, NiftiLayout, OutputFolder
from imgtofmri.progress import Step, heard_by
from imgtofmri.stimuli import Source, find_sources

WEIGHTS = "untrained:0"


@pytest.fixture
def encoder(make_bundle: Callable[..., Bundle], rng: np.random.Generator) -> Encoder:
    """Return a small encoder of a ResNet-18's features."""
    return Encoder(make_bundle(rng))


@pytest.fixture
def prediction(small_bundle: Bundle, rng: np.random.Generator) -> Prediction:
    """Return a prediction of three stimuli."""
    features = rng.normal(size=(3, 6))
    return Encoder(small_bundle).predict_features(features, names=["a.jpg", "b.jpg", "ü c.png"])


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a folder of three pictures and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png", "c.png"):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "bad.png").write_text("no picture")
    return folder


def record_of(folder: Path) -> dict[str, Any]:
    """Return a folder's record without what depends on when it was made."""
    record: dict[str, Any] = json.loads((folder / "predictions.json").read_text("utf-8"))
    return {key: record[key] for key in record if key not in ("started", "written")}


def test_save_writes_maps_table_and_record(tmp_path: Path, prediction: Prediction) -> None:
    """Each volume holds its stimulus' map, the table is roi_table's, and the record lists both."""
    out = tmp_path / "out"
    files = prediction.save(out, subjects=True)
    assert sorted(files) == sorted(path for path in out.rglob("*") if path.is_file())
    for index, name in enumerate(prediction.names):
        maps = {f"{name}.nii.gz": prediction.group[index]}
        maps |= {f"{name}_sub-{s}.nii.gz": prediction.subject(s)[index] for s in ("S1", "S2")}
        for file, values in maps.items():
            data = np.asarray(nib.load(out / file).dataobj)
            np.testing.assert_array_equal(data[prediction.mask], values)
    table = pd.read_csv(out / "rois.tsv", sep="\t")
    expected = prediction.roi_table()
    assert list(table.columns) == list(expected.columns)
    assert set(table["unit"]) == {"model units"}
    np.testing.assert_allclose(table["mean"], expected["mean"], rtol=1e-5)
    record = record_of(out)
    assert record["state"] == "complete"
    assert record["prediction"] == prediction.provenance.to_dict()
    assert [entry["name"] for entry in record["inputs"]] == list(prediction.names)
    assert record["outputs"] == [
        {"file": file, "sha256": sha256_of(out / file)}
        for file in ("evidence/coverage.nii.gz", "rois.tsv")
    ]
    header = nib.load(out / "evidence" / "coverage.nii.gz").header
    assert header.get_intent()[0] == "estimate"
    assert float(header["cal_max"]) == len(prediction.subject_names)
    coverage = np.asarray(nib.load(out / "evidence" / "coverage.nii.gz").dataobj)
    np.testing.assert_array_equal(coverage[prediction.mask], prediction.coverage.sum(axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["nifti", "bids"])
def test_agreement_of_a_run_does_not_depend_on_its_interruption(
    tmp_path: Path, encoder: Encoder, rng: np.random.Generator, format: FormatName
) -> None:
    """Of 20 images or more it is `Prediction.agreement`, also where half were predicted before."""
    for number in range(21):
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    pictures = [tmp_path / f"{number}.png" for number in range(21)]
    chosen: dict[str, Any] = {"format": format, "weights": WEIGHTS, "progress": False}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    predict_into(whole, encoder, pictures, **chosen)
    predict_into(resumed, encoder, pictures[5:12], **chosen)
    assert not [path for path in resumed.rglob("*agreement*")]
    summary = predict_into(resumed, encoder, pictures, resume=True, **chosen)
    assert (len(summary.done), len(summary.kept)) == (14, 7)
    (file,) = whole.rglob("*agreement*.nii.gz")
    assert file.read_bytes() == (resumed / file.relative_to(whole)).read_bytes()
    prediction = encoder.predict(pictures, weights=WEIGHTS, progress=False)
    values = np.asarray(nib.load(file).dataobj)[prediction.mask]
    np.testing.assert_array_equal(values, prediction.agreement())
    again = predict_into(resumed, encoder, pictures, resume=True, **chosen)
    assert (len(again.done), len(again.kept)) == (0, 21)
    assert file.read_bytes() == (resumed / file.relative_to(whole)).read_bytes()
    assert [output["file"] for output in record_of(resumed)["outputs"]] == [
        output["file"] for output in record_of(whole)["outputs"]
    ]


def test_save_does_not_replace_unasked_and_bids_is_a_dataset(
    tmp_path: Path, prediction: Prediction
) -> None:
    """An earlier run stays unless it is to be replaced; BIDS tools pass over what is not BIDS'."""
    out = tmp_path / "out"
    prediction.save(out, "bids")
    ignored = ["predictions.json", "rois.tsv", "report.html", "evidence", "*_timeseries.tsv"]
    assert (out / ".bidsignore").read_text("utf-8").splitlines() == ignored
    assert len(list((out / "sub-group" / "func").iterdir())) == 3
    with pytest.raises(OptionError, match=r"it holds predictions\.json. Use `overwrite`"):
        prediction.save(out, "bids")
    prediction[:1].save(out, "bids", overwrite=True)
    assert [entry["name"] for entry in record_of(out)["inputs"]] == ["a.jpg"]
    with pytest.raises(OptionError, match=f"must be one of {', '.join(FORMATS)}; got 'nift'"):
        prediction.save(tmp_path / "other", "nift")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    [["../a", "b", "c"], ["a/b", "b", "c"], ["", "b", "c"], ["a", "A", "c"], ["..", "b", "c"]],
)
def test_save_names_that_no_file_can_have_are_refused(
    tmp_path: Path, small_bundle: Bundle, names: list[str]
) -> None:
    """Names cannot lead out of the folder, and no two stimuli share a file."""
    made = Encoder(small_bundle).predict_features(np.zeros((3, 6)), names=names)
    with pytest.raises(OptionError, match="expected stimuli with names of their own"):
        made.save(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_predict_into_is_what_the_command_does(
    tmp_path: Path, encoder: Encoder, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One call writes the command's files, byte for byte, and returns what it prints."""
    path = tmp_path / "encoder.safetensors"
    write_bundle(encoder.bundle, path)
    options = ["--encoder", str(path), "--weights", WEIGHTS, "--quiet", "--subjects"]
    command, python = tmp_path / "command", tmp_path / "python"
    assert main(["predict", str(photos), "-o", str(command), *options]) == 3
    assert "bad.png" in capsys.readouterr().err
    chosen: dict[str, Any] = {"weights": WEIGHTS, "progress": False}
    summary = predict_into(python, encoder, photos, subjects=True, report=True, **chosen)
    assert summary.done == ["a.jpg", "b.png", "c.png"]
    assert [failure.name for failure in summary.failures] == ["bad.png"]
    assert record_of(command)["command_line"].startswith("imgtofmri predict ")
    assert record_of(python)["command_line"] is None
    assert record_of(python) | {"command_line": 0} == record_of(command) | {"command_line": 0}
    names = sorted(path.relative_to(command) for path in command.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(python) for path in python.rglob("*") if path.is_file())
    for name in names:
        if name.name not in ("predictions.json", "report.html"):
            assert (python / name).read_bytes() == (command / name).read_bytes()
    saved = encoder.predict([photos / "a.jpg"], weights=WEIGHTS, progress=False)
    saved.save(tmp_path / "saved", subjects=True)
    for name in ("a.jpg.nii.gz", "a.jpg_sub-S1.nii.gz"):
        assert (tmp_path / "saved" / name).read_bytes() == (python / name).read_bytes()


@pytest.mark.parametrize(("format", "bad"), [("zarr", "bad.png"), ("bids", "bad.mp4")])
def test_predict_resumed_past_what_is_bad_in_every_format(
    tmp_path: Path, encoder: Encoder, photos: Path, format: str, bad: str
) -> None:
    """A store, and a film that is none, end as files and pictures do."""
    (photos / "bad.png").rename(photos / bad)
    path = tmp_path / "encoder.safetensors"
    write_bundle(encoder.bundle, path)
    arguments = ["predict", str(photos), "-o", str(tmp_path / "out"), "--encoder", str(path)]
    arguments += ["--weights", WEIGHTS, "--quiet", "--no-report", "--format", format]
    assert [main(arguments), main([*arguments, "--resume"])] == [3, 3]


@pytest.mark.parametrize("more", [[], ["--format", "bids"], ["--format", "zarr"]])
def test_predict_is_not_resumed_with_another_encoder_of_that_id(
    tmp_path: Path,
    encoder: Encoder,
    photos: Path,
    more: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A study that is fitted anew keeps its id; its maps do not join those of the first fit."""
    path, out = tmp_path / "encoder.safetensors", tmp_path / "out"
    (photos / "bad.png").unlink()
    write_bundle(encoder.bundle, path)
    arguments = ["predict", str(photos / "a.jpg"), "-o", str(out), "--encoder", str(path)]
    arguments += ["--weights", WEIGHTS, "--quiet", "--no-report", *more]
    assert main(arguments) == 0
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    (first, *others) = encoder.bundle.subjects
    models = {roi: replace(model, weights=-model.weights) for roi, model in first.rois.items()}
    write_bundle(replace(encoder.bundle, subjects=(replace(first, rois=models), *others)), path)
    capsys.readouterr()
    assert main([*arguments, str(photos / "b.png"), "--resume"]) == 2
    assert "but encoder_sha256 was" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_predict_resumed_past_a_bad_file_ends_as_it_first_did(
    tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """The state and the exit code say the same of the same inputs, resumed or not."""
    path, out = tmp_path / "encoder.safetensors", tmp_path / "out"
    write_bundle(encoder.bundle, path)
    arguments = ["predict", str(photos), "-o", str(out), "--encoder", str(path), "--quiet"]
    arguments += ["--weights", WEIGHTS]
    codes, states = [main(arguments)], [record_of(out)["state"]]
    for _ in range(2):
        codes.append(main([*arguments, "--resume"]))
        states.append(record_of(out)["state"])
    assert (codes, states) == ([3, 3, 3], ["partial"] * 3)
    assert [failure["name"] for failure in record_of(out)["failures"]] == ["bad.png"]
    Image.new("RGB", (9, 9)).save(photos / "bad.png")
    assert main([*arguments, "--resume"]) == 0
    assert (record_of(out)["state"], record_of(out)["failures"]) == ("complete", [])


def test_predict_into_nothing_usable_writes_nothing(tmp_path: Path, encoder: Encoder) -> None:
    """Inputs that are not there are failures, and no folder is made for them."""
    out = tmp_path / "out"
    summary = predict_into(out, encoder, [tmp_path / "none.jpg"], weights=WEIGHTS, progress=False)
    assert (summary.done, len(summary.failures)) == ([], 1)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"format": "gifti"}, "format must be one of nifti, bids"),
        ({"share_of_ceiling": True}, "share_of_ceiling needs `min_accuracy`"),
        ({"rate_hz": 0.0}, "rate_hz must be above 0"),
        ({"interval": 0.9}, 'average must be "mean" for an interval'),
        ({"rois": ["FFA"]}, "rois must be one of LOC, PPA; got 'FFA'"),
    ],
)
def test_predict_into_bad_option_writes_nothing(
    tmp_path: Path, encoder: Encoder, photos: Path, options: dict[str, Any], match: str
) -> None:
    """Each is refused before anything is written."""
    with pytest.raises(OptionError, match=match):
        predict_into(tmp_path / "out", encoder, photos, weights=WEIGHTS, **options)
    assert not (tmp_path / "out").exists()


class _Slow(OutputFolder):
    """A folder in which nothing can be verified before something was added."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "predict", "predictions.json")
        self.n_verified = 0
        self._added = threading.Event()

    def is_done(self, name: str, sha256: str | None) -> bool:
        self.n_verified += 1
        assert self._added.wait(60)
        return super().is_done(name, sha256)

    def add(self, name: str, *rest: Any, **more: Any) -> None:
        super().add(name, *rest, **more)
        self._added.set()


@pytest.mark.slow
@pytest.mark.parametrize("before", FORMATS)
@pytest.mark.parametrize("now", FORMATS)
def test_overwriting_leaves_nothing_of_an_earlier_run(
    tmp_path: Path, encoder: Encoder, photos: Path, before: FormatName, now: FormatName
) -> None:
    """Maps of other settings would be taken for results of the run that the record tells of."""
    how: dict[str, Any] = {"weights": WEIGHTS, "progress": False}
    out = tmp_path / "out"
    predict_into(out, encoder, photos, format=before, subjects=True, sigma_mm=4, **how)
    (out / "notes.txt").write_text("mine")
    predict_into(out, encoder, photos / "a.jpg", format=now, overwrite=True, **how)
    predict_into(tmp_path / "alone", encoder, photos / "a.jpg", format=now, **how)
    found, expected = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        for folder in (out, tmp_path / "alone")
    )
    assert found == {*expected, "notes.txt"}


def test_resuming_without_points_leaves_no_table_of_them(
    tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """A table that the run was not asked for is none of its results, and lacks the new stimuli."""
    how: dict[str, Any] = {"weights": WEIGHTS, "progress": False, "report": True}
    out, at = tmp_path / "out", pd.DataFrame({"x": [0.0], "y": [0.0], "z": [0.0]})
    predict_into(out, encoder, photos / "a.jpg", at=at, **how)
    assert (out / "points.tsv").exists()
    predict_into(out, encoder, photos, resume=True, **how)
    predict_into(tmp_path / "alone", encoder, photos, **how)
    found, expected = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        for folder in (out, tmp_path / "alone")
    )
    assert found == expected


def test_resuming_leaves_what_somebody_changed(
    tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """A table that is no longer what the run wrote is no longer the run's to remove."""
    how: dict[str, Any] = {"weights": WEIGHTS, "progress": False}
    out, at = tmp_path / "out", pd.DataFrame({"x": [0.0], "y": [0.0], "z": [0.0]})
    predict_into(out, encoder, photos / "a.jpg", at=at, **how)
    (out / "points.tsv").write_text("my own notes", "utf-8")
    predict_into(out, encoder, photos, resume=True, **how)
    assert (out / "points.tsv").read_text("utf-8") == "my own notes"
    assert not (out / "points.json").exists()


def test_a_tilde_is_the_home_as_a_shell_has_it(
    tmp_path: Path, small_bundle: Bundle, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder called ~ was made where Python happened to be, and results seemed to be gone."""
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert home / "out" / "rois.tsv" in prediction.save("~/out")
    assert prediction.report("~/page.html") == home / "page.html"
    write_bundle(small_bundle, "~/small.safetensors")
    assert {path.name for path in home.iterdir()} >= {"out", "page.html", "small.safetensors"}
    assert not [*here.iterdir()]


def test_save_that_is_refused_leaves_the_folder_free(
    tmp_path: Path, prediction: Prediction
) -> None:
    """An interval that cannot be is found before the folder is taken."""
    for _ in range(2):
        with pytest.raises(OptionError, match='average must be "mean" for an interval'):
            prediction.save(tmp_path / "out", interval=0.95)
    prediction.save(tmp_path / "out")


@pytest.mark.slow
def test_resuming_predicts_while_it_verifies_and_ends_as_a_whole_run(
    tmp_path: Path, encoder: Encoder, rng: np.random.Generator
) -> None:
    """New results do not wait for old ones to be verified; damaged ones are made again."""
    for number in range(150):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    sources, _ = find_sources([tmp_path])
    predictor = encoder.predictor(weights=WEIGHTS)

    def run(folder: OutputFolder, some: list[Source]) -> RunSummary:
        folder.claim(resume=True)
        steps: list[Step] = []
        with folder.begin({}), heard_by(steps.append):
            summary = predict_images(predictor, some, folder, NiftiLayout())
        assert steps[-1].done == len(some)
        return summary

    run(OutputFolder(tmp_path / "whole", "predict", "predictions.json"), sources)
    run(_Slow(tmp_path / "out"), sources[100:])
    (tmp_path / "out" / "120.png.nii.gz").write_bytes(b"damaged")
    (tmp_path / "out" / "121.png.nii.gz").unlink()
    folder = _Slow(tmp_path / "out")
    summary = run(folder, sources)
    assert sorted(summary.done) == sorted(f"{n}.png" for n in (*range(100), 120, 121))
    assert summary.kept == [s.name for s in sources if s.name not in summary.done]
    assert folder.n_verified == 50
    for path in (tmp_path / "whole").glob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    tables = [(tmp_path / name / "rois.tsv").read_bytes() for name in ("whole", "out")]
    assert tables[0] == tables[1]
    again = run(OutputFolder(tmp_path / "out", "predict", "predictions.json"), sources)
    assert (again.done, len(again.kept)) == ([], 150)


@pytest.mark.parametrize("n_first", [0, 1, 3])
def test_page_of_a_resumed_run_is_that_of_one_run(
    tmp_path: Path, encoder: Encoder, photos: Path, n_first: int
) -> None:
    """However many pictures the run that was broken off had seen: thumbnails are the same."""
    (photos / "bad.png").unlink()
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    paths = sorted(photos.iterdir())
    chosen: dict[str, Any] = {"weights": WEIGHTS, "report": True, "progress": False}
    predict_into(whole, encoder, paths, **chosen)
    if n_first:
        predict_into(resumed, encoder, paths[:n_first], **chosen)
        (resumed / "report.html").unlink()
    predict_into(resumed, encoder, paths, resume=True, **chosen)
    pages = [(folder / "report.html").read_text("utf-8") for folder in (whole, resumed)]
    one, two = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "", page) for page in pages)
    assert one.count('"thumb":"/9j/') == 3  # As base64 has the beginning of a JPEG.
    assert one == two
