"""Files: whole, readable by others, recorded, resumable."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from typer.main import get_command

from imgtofmri.analyses.predict import predict_into
from imgtofmri.cli.app import app
from imgtofmri.encoder import Prediction
from imgtofmri.exceptions import OptionError, OutputError
from imgtofmri.files import sha256_of
from imgtofmri.outputs import (
    BOUNDS,
    FORMATS,
    BidsLayout,
    NiftiLayout,
    OutputFolder,
    Statistic,
    VolumeWriter,
    check_distinct,
    find_layout,
    to_img,
)
from imgtofmri.outputs.folder import INTERRUPTED
from imgtofmri.outputs.layouts import bids_label
from imgtofmri.spaces import MNI152_2MM

Mask = npt.NDArray[np.bool_]


@pytest.fixture
def mask(rng: np.random.Generator) -> Mask:
    """Return a mask on the MNI152 2 mm grid."""
    mask = np.zeros(MNI152_2MM.shape, dtype=bool)
    mask[20:60, 5:40, 30:50] = rng.random((40, 35, 20)) < 0.3
    return mask


def test_volume_writer_gives_what_nibabel_reads(
    mask: Mask, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Every value in its voxel; float32; MNI152 codes; millimetres; no scaling."""
    writer = VolumeWriter(mask, MNI152_2MM.affine)
    for number in range(2):  # a writer is used again and again
        values = rng.normal(size=mask.sum()).astype(np.float32)
        path = tmp_path / f"{number}.nii.gz"
        writer.write(path, values)
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        np.testing.assert_array_equal(data[mask], values)
        assert not data[~mask].any()
        assert data.dtype == np.float32
        np.testing.assert_array_equal(image.affine, MNI152_2MM.affine)
        header = image.header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (4, 4)
        assert header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_allclose(header.get_qform(), MNI152_2MM.affine)


def test_volume_writer_same_values_same_bytes(mask: Mask, tmp_path: Path) -> None:
    """No time stamp, so a digest identifies the content; it is the file's own."""
    values = np.linspace(-1, 1, mask.sum())
    first = VolumeWriter(mask, MNI152_2MM.affine).write(tmp_path / "a.nii.gz", values)
    second = VolumeWriter(mask, MNI152_2MM.affine).write(tmp_path / "b.nii.gz", values)
    assert first == second
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_volume_writer_outside_of_the_mask_is_what_was_asked_for(
    mask: Mask, tmp_path: Path
) -> None:
    """With NaN outside, the file holds what `to_img` holds, header included."""
    values = np.arange(mask.sum(), dtype=np.float32)
    VolumeWriter(mask, MNI152_2MM.affine, outside=np.nan).write(tmp_path / "a.nii.gz", values)
    written = nib.load(tmp_path / "a.nii.gz")
    image = to_img(values[None], mask, MNI152_2MM.affine, outside=np.nan)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(image.dataobj))
    assert np.isnan(np.asarray(written.dataobj)[~mask]).all()
    for field in ("qform_code", "sform_code", "xyzt_units"):
        assert written.header[field] == image.header[field]


@pytest.mark.parametrize(
    ("statistic", "code", "parameters", "limits"),
    [
        (Statistic("t test", "Welch's t", (11.0,)), 3, (11.0,), None),
        (Statistic("p value", "p, corrected", name="p_max", limits=(0.0, 1.0)), 22, (), (0, 1)),
        (Statistic("estimate", "a line that is too long for a header " * 4), 1001, (), None),
    ],
)
def test_volume_writer_says_what_a_statistic_is(
    mask: Mask,
    tmp_path: Path,
    rng: np.random.Generator,
    statistic: Statistic,
    code: int,
    parameters: tuple[float, ...],
    limits: tuple[float, float] | None,
) -> None:
    """Intent, limits of colours and description are in the header, as `to_img` has them."""
    values = rng.normal(size=mask.sum()).astype(np.float32)
    writer = VolumeWriter(mask, MNI152_2MM.affine)
    writer.write(tmp_path / "a.nii.gz", values, statistic)
    written = nib.load(tmp_path / "a.nii.gz")
    image = to_img(values[None], mask, MNI152_2MM.affine, statistic=statistic)
    np.testing.assert_array_equal(written.get_fdata(), image.get_fdata())
    end = np.percentile(np.abs(values), 99)
    for header in (written.header, image.header):
        assert header.get_intent("code") == (code, parameters, statistic.name)
        assert bytes(header["descrip"]).rstrip(b"\0").decode() == statistic.description[:79]
        found = (float(header["cal_min"]), float(header["cal_max"]))
        assert found == pytest.approx(limits or (-end, end))
    member = zlib.decompressobj(wbits=31)
    member.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert (member.eof, member.unused_data) == (True, b"")
    writer.write(tmp_path / "b.nii.gz", values)  # and the next map without one is as ever
    assert nib.load(tmp_path / "b.nii.gz").header.get_intent("code") == (0, (), "")


@pytest.mark.parametrize("ends", [False, True])
def test_volume_writer_gives_one_whole_gzip_member(
    mask: Mask, tmp_path: Path, rng: np.random.Generator, ends: bool
) -> None:
    """Checksum and length are right, which nibabel does not look at, also at the grid's corners."""
    mask[[0, -1], [0, -1], [0, -1]] = ends
    values = rng.normal(size=mask.sum()).astype(np.float32)
    VolumeWriter(mask, MNI152_2MM.affine).write(tmp_path / "a.nii.gz", values)
    member = zlib.decompressobj(wbits=31)
    content = member.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert (member.eof, member.unused_data) == (True, b"")
    volume = np.frombuffer(content[352:], np.float32).reshape(mask.shape, order="F")
    np.testing.assert_array_equal(volume[mask], values)
    assert not volume[~mask].any()


def test_volume_writer_name_too_long_is_one_error(mask: Mask, tmp_path: Path) -> None:
    """The file system's refusal is told as ours, and nothing is left behind."""
    writer = VolumeWriter(mask, MNI152_2MM.affine)
    with pytest.raises(OutputError, match="cannot write .*name too long"):
        writer.write(tmp_path / ("x" * 300), np.zeros(mask.sum()))
    assert list(tmp_path.iterdir()) == []


RECORD_NAME = "predictions.json"


def _record(
    path: Path, *, resume: bool = False, overwrite: bool = False, sigma_mm: float = 1.0
) -> OutputFolder:
    folder = OutputFolder(path, "predict", RECORD_NAME)
    folder.claim(resume=resume, overwrite=overwrite, resumable=True)
    folder.begin({}, {"sigma_mm": sigma_mm, "rois": ("LOC",)})
    return folder


def test_record_knows_what_is_done(tmp_path: Path) -> None:
    """Done means: same input, files there, files unchanged."""
    record = _record(tmp_path)
    (tmp_path / "a.nii.gz").write_bytes(b"content")
    digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    record.add("a.jpg", "input digest", {"a.nii.gz": digest})
    record.close(INTERRUPTED)

    again = _record(tmp_path, resume=True)
    assert again.is_done("a.jpg", "input digest")
    assert not again.is_done("a.jpg", "another digest")
    assert not again.is_done("b.jpg", "input digest")
    (tmp_path / "a.nii.gz").write_bytes(b"changed")
    assert not again.is_done("a.jpg", "input digest")
    (tmp_path / "a.nii.gz").unlink()
    assert not again.is_done("a.jpg", "input digest")


def test_record_of_an_earlier_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    """The message names both ways on."""
    _record(tmp_path).close()
    with pytest.raises(OptionError, match="`resume` .* `overwrite`"):
        _record(tmp_path)
    _record(tmp_path, overwrite=True)


def test_record_resumed_with_other_settings_says_which(tmp_path: Path) -> None:
    """Results of different settings do not mix in one folder."""
    _record(tmp_path).close(INTERRUPTED)
    with pytest.raises(OptionError, match=r"sigma_mm was 1.0 and is now 2.0"):
        _record(tmp_path, resume=True, sigma_mm=2.0)


ELSEWHERE = ("/max", "../x.nii", "a/../../x.nii", "", "a\0.nii")


def _naming(where: str, file: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record that calls a file its own which is not below its folder, or can be none."""
    output = {"file": file, "sha256": "digest"}
    entry = {**record["inputs"][0], "outputs": [output]} if where == "inputs" else output
    return record | {where: [entry]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: None,
        lambda record: record | {"settings": None},
        lambda record: record | {"GeneratedBy": []},
        lambda record: record | {"inputs": [{"name": "a.jpg"}]},
        lambda record: record | {"inputs": [{**record["inputs"][0], "outputs": "x"}]},
        lambda record: record | {"inputs": [{**record["inputs"][0], "outputs": []}]},
        lambda record: record | {"inputs": [{**record["inputs"][0], "outputs": [{"file": "y"}]}]},
        lambda record: record | {"inputs": [{**record["inputs"][0], "name": 5}]},
        lambda record: record | {"inputs": [{**record["inputs"][0], "sha256": 5}]},
        lambda record: record | {"outputs": [{"file": 1e308, "sha256": "digest"}]},
        *(partial(_naming, where, file) for where in ("inputs", "outputs") for file in ELSEWHERE),
    ],
)
def test_record_damaged_says_so(tmp_path: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    """Valid JSON that is no record is refused like what is no JSON, and the remedies are named."""
    record = _record(tmp_path)
    record.add("a.jpg", "input digest", {"a.nii.gz": "digest"})
    record.close()
    path = tmp_path / RECORD_NAME
    assert _record(tmp_path, resume=True).knows("a.jpg")
    whole = path.read_text("utf-8")
    for content in (json.dumps(damage(json.loads(whole))), whole[:-20], ""):
        path.write_text(content, "utf-8")
        with pytest.raises(OutputError, match="damaged or of another kind .* Use `overwrite`"):
            _record(tmp_path, resume=True)


def test_record_of_an_earlier_schema_or_a_stranger_is_left_alone(tmp_path: Path) -> None:
    """What another release or program wrote is neither resumed nor replaced unasked."""
    path = tmp_path / RECORD_NAME
    for content in ({"GeneratedBy": [{"Version": "0.1.0"}], "inputs": []}, {"RecordVersion": 99}):
        path.write_text(json.dumps(content), "utf-8")
        before = path.read_bytes()
        with pytest.raises(OutputError, match=r"expected a record of version 1; got .* Use `over"):
            _record(tmp_path, resume=True)
        with pytest.raises(OptionError, match="without earlier results"):
            _record(tmp_path)
        assert path.read_bytes() == before


def test_record_appends_what_is_done_and_survives_a_kill(tmp_path: Path) -> None:
    """Inputs go to a journal, whose last line may be torn; the record itself is not rewritten."""
    record = _record(tmp_path)
    written = (tmp_path / RECORD_NAME).read_bytes()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        record.add(name, "input digest", {f"{name}.nii.gz": "digest"})
    record.fail("b.jpg", "gone")
    assert (tmp_path / RECORD_NAME).read_bytes() == written
    journal = tmp_path / "predictions.jsonl"
    journal.write_text(journal.read_text("utf-8") + '{"name": "d.jp', "utf-8")
    del record  # With a process that is killed, its lock goes.
    again = _record(tmp_path, resume=True)
    assert again.names == ["a.jpg", "c.jpg"]
    again.close()
    assert not journal.exists()
    assert json.loads((tmp_path / RECORD_NAME).read_text("utf-8"))["state"] == "complete"


def test_record_has_a_line_for_each_input_and_is_json(tmp_path: Path) -> None:
    """Whoever looks for an input, with any tool, finds it in one line; earlier layouts still do."""
    folder = OutputFolder(tmp_path, "predict")
    folder.claim()
    with folder.begin({"format": "nifti"}):
        for name in ("a.jpg", "b\n.jpg", "\udcff.jpg"):
            (tmp_path / "map").write_bytes(name.encode("utf-8", "replace"))
            folder.add(name, "1" * 64, {"map": sha256_of(tmp_path / "map")})
    text = folder.record.read_text("utf-8")
    said = json.loads(text)
    assert [entry["name"] for entry in said["inputs"]] == ["a.jpg", "b\n.jpg", "\udcff.jpg"]
    lines = [line.strip().removesuffix(",") for line in text.splitlines()]
    assert all(json.dumps(entry) in lines for entry in said["inputs"][:2])
    folder.record.write_text(json.dumps(said, indent=1), "utf-8")
    again = OutputFolder(tmp_path, "predict")
    again.claim(resume=True)
    with again.begin({"format": "nifti"}):
        assert again.names == ["a.jpg", "b\n.jpg", "\udcff.jpg"]
        assert again.is_done("\udcff.jpg", "1" * 64)
    assert json.loads(again.record.read_text("utf-8"))["inputs"] == said["inputs"]


def test_folder_named_like_a_file_says_that_a_folder_is_wanted(tmp_path: Path) -> None:
    """Where people expect to name the volume itself."""
    with pytest.raises(OptionError, match=r"x.nii.gz: expected a folder .* name the folder"):
        _record(tmp_path / "x.nii.gz")
    (tmp_path / "y").write_text("mine")
    with pytest.raises(OutputError, match="expected a folder to write to; it is a file"):
        _record(tmp_path / "y")


def test_record_of_another_version_is_not_resumed(tmp_path: Path) -> None:
    """A record names one version; results of two do not belong into it."""
    _record(tmp_path).close(INTERRUPTED)
    path = tmp_path / RECORD_NAME
    content = json.loads(path.read_text("utf-8"))
    content["GeneratedBy"][0]["Version"] = "0.0.9"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(OptionError, match=r"the version of imgtofmri was 0\.0\.9 and is now"):
        _record(tmp_path, resume=True)


def test_record_resume_and_overwrite_contradict_each_other(tmp_path: Path) -> None:
    """One keeps, the other replaces: asking for both does neither."""
    _record(tmp_path).close()
    before = (tmp_path / RECORD_NAME).read_bytes()
    with pytest.raises(OptionError, match=r"expected `resume`, which keeps .* got both"):
        _record(tmp_path, resume=True, overwrite=True)
    assert (tmp_path / RECORD_NAME).read_bytes() == before


def test_record_lists_failures_until_they_are_mended(tmp_path: Path) -> None:
    """A stimulus is either done or failed."""
    record = _record(tmp_path)
    record.fail("a.jpg", "truncated")
    record.close()
    content = json.loads((tmp_path / RECORD_NAME).read_text())
    assert content["state"] == "partial"
    assert content["failures"] == [{"name": "a.jpg", "reason": "truncated"}]
    record.add("a.jpg", None, {})
    record.close()
    content = json.loads((tmp_path / RECORD_NAME).read_text())
    assert content["failures"] == []
    assert content["state"] == "complete"
    assert content["inputs"][0]["name"] == "a.jpg"


def test_folder_written_whole_is_there_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    """Files are collected beside it; an interruption leaves neither it nor them."""
    target = tmp_path / "out"

    def write(text: str, end: type[BaseException] | None = None) -> None:
        folder = OutputFolder.of(target, "simulate", overwrite=target.exists(), whole=True)
        with folder.begin({}):
            assert folder.path != target
            (folder.path / text).write_text(text)
            if end is not None:
                raise end

    with pytest.raises(KeyboardInterrupt):
        write("a", KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []
    write("a")
    (target / "mine").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        write("b", KeyboardInterrupt)
    assert sorted(path.name for path in target.iterdir()) == ["a", "mine", "simulate.json"]
    write("b")
    assert sorted(path.name for path in target.iterdir()) == ["b", "mine", "simulate.json"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "zarr"])
def test_layout_names_each_file_once(format: str) -> None:
    """Whatever a stimulus is called, its maps, bounds and tables have files of their own."""
    layout = find_layout(format, "MNI152NLin6Asym", bounded=True)
    names = ["a.jpg", "a.png", "a b.jpg", "a_b.jpg", "a-b.jpg", "a+b.jpg", "ü.jpg", "u.jpg", "1"]
    names += ["film.mp4", "日本.jpg", "-o", "x" * 60 + ".jpg", "x" * 61 + ".jpg"]
    check_distinct(layout, names, ["S1", "S2"], bounded=True)
    owners = [(None, ""), ("S1", ""), ("S2", ""), *((None, bound) for bound in BOUNDS)]
    maps = [
        layout.volume(name, *owner, movie=name == "film.mp4") for name in names for owner in owners
    ]
    files = [*maps, *map(layout.evidence, ("coverage", "agreement", "accuracy"))]
    assert all(file.endswith(".nii.gz") for file in files)
    files += [layout.timeseries("film.mp4"), layout.sidecar("film.mp4")]
    assert len({file.casefold() for file in files}) == len(files)
    assert not any(Path(file).is_absolute() or ".." in Path(file).parts for file in files)
    # Where a page looks for it.
    assert "coverage" in re.split(r"[/_.-]", layout.evidence("coverage"))
    with pytest.raises(OptionError, match=r"'a\.jpg' and 'A\.JPG' would share"):
        check_distinct(layout, [*names, "A.JPG"])


def test_formats_are_named_wherever_one_is_chosen() -> None:
    """Help and docstrings list them all."""
    command = get_command(app).commands["predict"]  # type: ignore[attr-defined]
    (metavar,) = (each.metavar for each in command.params if each.name == "format")
    assert metavar == "|".join(FORMATS)
    said = ", ".join(f'"{name}"' for name in FORMATS)
    for function in (predict_into, Prediction.save):
        assert f"format : {{{said}}}" in (function.__doc__ or "")


def test_nifti_layout_keeps_the_whole_name() -> None:
    """a.jpg and a.png do not collide."""
    layout = NiftiLayout()
    assert layout.volume("a.jpg") == "a.jpg.nii.gz"
    assert layout.volume("a.png", "CSI1") == "a.png_sub-CSI1.nii.gz"


def test_bids_layout_describes_the_dataset(tmp_path: Path) -> None:
    """The dataset says what made it, and what each description label stands for."""
    layout = BidsLayout()
    layout.describe(tmp_path, ["a b.jpg"], ["predictions.json"])
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    label = bids_label("a b.jpg")
    assert f"desc-{label}\tstimulus a b.jpg" in (tmp_path / "descriptions.tsv").read_text()
    assert layout.volume("a b.jpg", "CSI1") == (
        f"sub-CSI1/func/sub-CSI1_task-images_space-MNI152NLin6Asym_desc-{label}_bold.nii.gz"
    )


def test_runs_that_replace_leave_no_page_of_an_earlier_one(tmp_path: Path) -> None:
    """Whether they overwrite or resume, written whole or not; a page of others' is left alone."""
    for whole in (False, True):
        out = tmp_path / str(whole)
        for again in ({}, {"overwrite": True}, {"resume": True}):
            folder = OutputFolder(out, "simulate", whole=whole)
            folder.claim(**again)
            with folder.begin({}):
                pass
            assert not (out / "report.html").exists()
            (out / "report.html").write_text('<meta name="generator" content="imgtofmri 1">')
    (tmp_path / "False" / "report.html").write_text("mine")
    with OutputFolder.of(tmp_path / "False", "simulate", overwrite=True).begin({}):
        assert (tmp_path / "False" / "report.html").read_text() == "mine"


def test_overwriting_removes_what_the_record_lists_and_nothing_else(tmp_path: Path) -> None:
    """Not what is measured now, nor what lies outside or below a link, whatever a record says."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for folder in (out / "figures", elsewhere):
        folder.mkdir(parents=True)
    (out / "linked").symlink_to(elsewhere)
    own = ["a.tsv", "figures/b.png", "used.npz"]
    names = [*own, "linked/c.tsv", "../d.tsv", "mine.txt"]
    for name in names:
        (out / name).write_text(name)
    before = OutputFolder.of(out, "rsa")
    with before.begin({}):
        before.wrote(*(out / name for name in own))
    record = json.loads((out / "rsa.json").read_text("utf-8"))
    record["outputs"] += [{"file": file} for file in ("linked/c.tsv", "../d.tsv", "gone.tsv", 3)]
    (out / "rsa.json").write_text(json.dumps(record))
    with OutputFolder.of(out, "rsa", overwrite=True).begin({}, measured=[out / "used.npz"]):
        there = [name for name in names if (out / name).exists()]
    assert there == ["used.npz", "linked/c.tsv", "../d.tsv", "mine.txt"]
    assert not (out / "figures").exists()
