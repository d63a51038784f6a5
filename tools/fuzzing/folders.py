"""Readers of files that lie among others: one of them is damaged, the others are good.

Which one an input stands for, its suffix says.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from fuzzing import seeds

Files = list[tuple[str, bytes]]


def _lay(home: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder that is new."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return home


def _changed(files: dict[str, tuple[str, bytes]], path: Path) -> dict[str, bytes]:
    """Return files by name, of which the one with the input's suffix is the input."""
    return {
        name: path.read_bytes() if suffix == path.suffix else content
        for suffix, (name, content) in files.items()
    }


def as_inputs(files: dict[str, tuple[str, bytes]]) -> Files:
    """Return the good content of each file, under the suffix that stands for it."""
    return [(suffix, content) for suffix, (_, content) in files.items()]


# Measured runs.


@cache
def _series(n_volumes: int) -> bytes:
    import nibabel as nib

    values = np.random.default_rng(6).normal(100, 1, size=(4, 5, 6, n_volumes))
    image = nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.0
    return bytes(image.to_bytes())


def runs() -> Files:
    """Return runs of nine volumes."""
    run = _series(9)
    return [(".nii", run), (".gz", gzip.compress(run, 1, mtime=0))]


def read_run(path: Path) -> None:
    """Read one subject's run, of times that are given, and that it says."""
    from imgtofmri.exceptions import ImgToFmriError
    from imgtofmri.measured import read_runs

    home = path.parent
    file = home / ("run_bold.nii.gz" if path.suffix == ".gz" else "run_bold.nii")
    shutil.copyfile(path, file)
    masks, affine = {"LOC": np.ones((2, 2, 2))}, np.diag([4.0, 4, 4, 1])
    for times in ({"tr_s": 2.0, "slice_time_ref": 0.5}, {"slice_time_ref": 0.5}):
        with suppress(ImgToFmriError):
            read_runs([file], masks, affine, progress=False, **times)


_DERIVED = "sub-1_task-view_run-1_space-T1w_desc-preproc_bold"


@cache
def derivatives() -> dict[str, tuple[str, bytes]]:
    """Return a run as fMRIPrep writes it, with what it was made from."""
    rows = (f"{8 * trial}\t1\t{'ab'[trial % 2]}.png" for trial in range(3))
    events = "\n".join(["onset\tduration\tstim_file", *rows]) + "\n"
    confounds = "\n".join(["csf\ttrans_x", *(f"{v % 3}\t{v % 5}" for v in range(16))]) + "\n"
    said = {"RepetitionTime": 2.0, "StartTime": 1.0, "SliceTimingCorrected": True}
    raw = {"RepetitionTime": 2.0, "TaskName": "view", "SliceTiming": [0.0, 1.0]}
    func = "prep/sub-1/func"
    return {
        ".gz": (f"{func}/{_DERIVED}.nii.gz", gzip.compress(_series(16), 1, mtime=0)),
        ".json": (f"{func}/{_DERIVED}.json", json.dumps(said).encode()),
        ".tsv": (
            f"{func}/sub-1_task-view_run-1_desc-confounds_timeseries.tsv",
            confounds.encode(),
        ),
        ".events": ("raw/sub-1/func/sub-1_task-view_run-1_events.tsv", events.encode()),
        ".raw": ("raw/task-view_bold.json", json.dumps(raw).encode()),
    }


def read_derivatives(path: Path) -> None:
    """Estimate the responses to the presentations of a run."""
    from imgtofmri.measured import estimate_responses, find_runs
    from imgtofmri.spaces import Grid

    home = _lay(path.parent / "study", _changed(derivatives(), path))
    found = find_runs(home / "prep", home / "raw", "1", "view", "T1w")
    grid = Grid((4, 5, 6), np.diag([2.0, 2, 2, 1]))
    estimate_responses(found, np.arange(5), grid, confounds=("csf", "trans_*"))


# What a study names.


@cache
def study_files() -> dict[str, tuple[str, bytes]]:
    """Return a study of one person, and its files."""
    mask = seeds.images()[4][1]
    n_inside = int((np.random.default_rng(2).random((4, 5, 6)) > 0.5).sum())
    rows = np.random.default_rng(7).normal(size=(2, n_inside)).astype(np.float32)
    study = """
id = "mine"
title = "One person's responses"
licence = "CC0"
citation = ["Nobody (2026)"]
[template]
grid = "template.nii.gz"
space = "MNI152NLin2009cAsym"
[stimuli]
table = "rows.tsv"
features = "features.npy"
[backbone]
name = "a"
layers = ["b"]
[[subjects]]
name = "S1"
transform = { kind = "affine", file = "affine.txt" }
[subjects.rois.V1]
mask = "mask.nii.gz"
responses = "V1.npy"
"""
    npy = lambda array: seeds._bytes(lambda raw: np.save(raw, array))  # noqa: E731
    return {
        ".toml": ("study.toml", study.encode()),
        ".tsv": ("rows.tsv", b"stimulus\na.png\nb.png\n"),
        ".gz": ("mask.nii.gz", mask),
        ".grid": ("template.nii.gz", mask),
        ".txt": ("affine.txt", b"1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"),
        ".npy": ("V1.npy", npy(rows)),
        ".features": ("features.npy", npy(rows[:, :3])),
    }


def read_study_files(path: Path) -> None:
    """Open all that a study names, as for a fit."""
    from imgtofmri.training import check_files

    home = _lay(path.parent / "mine", _changed(study_files(), path))
    for _ in check_files(home / "study.toml"):
        pass


def warps() -> Files:
    """Return a field of FNIRT's coefficients, and FLIRT's matrix that goes before it."""
    import nibabel as nib

    knots = np.random.default_rng(8).normal(size=(6, 7, 8, 3)).astype(np.float32)
    field = nib.Nifti1Image(knots, np.diag([2.0, 2, 2, 1]))
    field.header["intent_code"] = 2007
    for axis in (1, 2, 3):
        field.header[f"intent_p{axis}"] = 2.0
    matrix = b"1 0 0 0.5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    return [
        (".gz", gzip.compress(field.to_bytes(), 1, mtime=0)),
        (".nii", field.to_bytes()),
        (".txt", matrix),
    ]


def read_warp(path: Path) -> None:
    """Find which native voxel each template voxel takes its value from."""
    from imgtofmri.exceptions import ImgToFmriError
    from imgtofmri.spaces import Grid, map_to_template

    home = path.parent
    template = Grid((6, 7, 8), np.diag([2.0, 2, 2, 1]))
    if path.suffix == ".txt":
        with suppress(ImgToFmriError):
            map_to_template("affine", [path], template, template)
        field, cropped = home / "warp.nii", path
        if not field.exists():
            field.write_bytes(warps()[1][1])
    else:
        field, cropped = home / f"field.nii{path.suffix.replace('.nii', '')}", None
        shutil.copyfile(path, field)
    whole = home / "mask.nii.gz"
    map_to_template("fnirt", [field], template, template, anatomical=whole, cropped=cropped)


_DESCRIPTION = {"res": {"02": {"origin": [-96, -132, -78], "shape": [9, 8, 7], "zooms": [2, 2, 2]}}}


def descriptions() -> Files:
    """Return TemplateFlow's description of a template."""
    return [(".json", json.dumps(_DESCRIPTION).encode())]


def read_description(path: Path) -> None:
    """Read a template's grid."""
    from imgtofmri.spaces.templates import HOME_VARIABLE, template_grid

    home = path.parent / "templates"
    (home / "tpl-X").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, home / "tpl-X" / "template_description.json")
    with mock.patch.dict(os.environ, {HOME_VARIABLE: str(home)}):
        template_grid("X")


# Arrays in folders.


@cache
def _zarr(version: int) -> dict[str, bytes]:
    import zarr

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "a.zarr"
        values = np.arange(12, dtype=np.float32).reshape(3, 4)
        made = zarr.create_array(
            str(home), shape=(3, 4), chunks=(2, 4), dtype="f4", zarr_format=version
        )
        made[...] = values
        files = (path for path in sorted(home.rglob("*")) if path.is_file())
        return {path.relative_to(home).as_posix(): path.read_bytes() for path in files}


def zarrs() -> Files:
    """Return the files of an array in each of zarr's formats."""
    return [
        (f".{version}-{number}", content)
        for version in (2, 3)
        for number, content in enumerate(_zarr(version).values())
    ]


def read_zarr(path: Path) -> None:
    """Read an array of which one file is the input."""
    from imgtofmri.measured import read_array

    version, number = map(int, path.suffix[1:].split("-"))
    files = _zarr(version)
    name = list(files)[number]
    read_array(_lay(path.parent / "a.zarr", {**files, name: path.read_bytes()}))


# What the package wrote.


class _Network:
    """A network whose features are the pictures' means."""

    def __init__(self) -> None:
        from imgtofmri.backbones import BackboneSpec
        from imgtofmri.backbones.base import Preprocessing

        self.spec = BackboneSpec(
            id="small",
            layers=("a",),
            n_features=3,
            features_id="small/a",
            preprocessing=Preprocessing(size=4),
            weights_sha256="0" * 64,
            layer_widths=(3,),
        )

    def __call__(self, pixels: Any) -> Any:
        return np.asarray(pixels, np.float32).mean(axis=(1, 2))


_PIXELS = np.random.default_rng(9).integers(0, 256, (3, 4, 4, 3), np.uint8)


def features() -> Files:
    """Return a database of features."""
    from imgtofmri.backbones import CachedBackbone

    with tempfile.TemporaryDirectory() as folder:
        kept = CachedBackbone(_Network(), Path(folder))
        kept(_PIXELS[:2])
        return [(".sqlite", kept.path.read_bytes())]


def read_features(path: Path) -> None:
    """Ask for features, some of which the database has: they are right whatever it holds."""
    from imgtofmri.backbones import CachedBackbone

    network = _Network()
    kept = CachedBackbone(network, _lay(path.parent / "features", {"x": b""}))
    shutil.copyfile(path, kept.path)
    if not np.array_equal(kept(_PIXELS), network(_PIXELS)):
        message = "features of a damaged database differ from the network's"
        raise AssertionError(message)


def plans() -> Files:
    """Return the plan by which files take the place of others."""
    plan = {"target": "data", "replaced": ["a", "b/c"], "new": ["b/c", "simulate.json"]}
    return [(".json", json.dumps(plan).encode())]


def read_plan(path: Path) -> None:
    """Finish what a process that is gone began."""
    from imgtofmri.outputs.staging import complete
    from imgtofmri.owners import new_part

    home = path.parent / "exchange"
    # A number that no process of Linux has.
    stage = re.sub(r"-\d+-", "-99999999-", new_part(home).name)
    _lay(
        home,
        {
            **{f"data/{name}": b"old" for name in ("a", "b/c", "own", "simulate.json")},
            **{f"{stage}/files/{name}": b"new" for name in ("b/c", "simulate.json")},
            f"{stage}/exchange.json": path.read_bytes(),
        },
    )
    complete(home / "data")
    if (home / "data" / "own").read_bytes() != b"old":
        message = "an exchange changed a file that its plan does not name"
        raise AssertionError(message)


def task_records() -> Files:
    """Return the record that tasks share before they are merged."""
    from imgtofmri.encoder.provenance import Provenance
    from imgtofmri.outputs.store import Store

    with tempfile.TemporaryDirectory() as folder:
        said = Store.open(_lay(Path(folder) / "a.zarr", seeds.store())).settings
    record = json.loads(seeds.records()[0][1])
    record |= {"command_line": "imgtofmri predict a --shard 1/2 -o out", "tasks": 2, "inputs": []}
    record |= {"failures": [{"name": "c", "reason": "because"}], "outputs": []}
    record |= {"settings": said["settings"]}
    record |= {"prediction": Provenance.of_stored(said["prediction"]).to_dict()}
    return [(".json", json.dumps(record).encode())]


def read_task_record(path: Path) -> None:
    """Merge what tasks wrote, once all is there and once where a part is missing."""
    from imgtofmri.analyses.predict.shards import merge_shards
    from imgtofmri.exceptions import ImgToFmriError

    for lacking in ("", "done/c.0"):
        files = {f"predictions.zarr/{name}": content for name, content in seeds.store().items()}
        files.pop(f"predictions.zarr/{lacking}", None)
        home = _lay(path.parent / "tasks", {**files, "predictions.json": path.read_bytes()})
        with suppress(ImgToFmriError):
            merge_shards(home, progress=False)


_MEANS = (
    "stimulus\troi\themi\tsubject\tmean\tunit\na\tLOC\tL\tgroup\t0.5\tz\nb\tLOC\tL\tA\tn/a\tz\n"
)
_COURSES = "onset\tgroup_LOC_L\tA_LOC_L\n0.0\t1\t2\n0.5\tn/a\t3\n"


def means() -> Files:
    """Return tables of ROI means as pages read them."""
    return [(".means", _MEANS.encode()), (".courses", _COURSES.encode())]


def read_means(path: Path) -> None:
    """Read a table for a page."""
    from imgtofmri.report.rois import read_rois, read_timeseries

    if path.suffix == ".means":
        read_rois(path, ["a", "b"])
    else:
        read_timeseries(path, "z", 1000)


# What comes over the network.


def forms() -> Files:
    """Return a form with two files and a field."""
    parts = [
        b'name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n1234',
        b'name="rois"\r\n\r\nLOC',
        b'name="files"; filename="b.mp4"\r\n\r\n' + bytes(range(64)),
    ]
    heads = [b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts]
    return [(".form", b"".join(heads) + b"--b--\r\n")]


def read_form(path: Path) -> None:
    """Take a request's body in two pieces, at a place that depends on it."""
    from imgtofmri.serve import Limits
    from imgtofmri.serve.refusal import Refusal
    from imgtofmri.serve.uploads import ClientLeftError, receive_upload

    body = path.read_bytes()
    cut = int.from_bytes(hashlib.sha256(body).digest()[:4], "little") % (len(body) + 1)
    pieces = iter([(body[:cut], True), (body[cut:], False)])

    async def receive() -> dict[str, Any]:
        piece, more = next(pieces)
        return {"type": "http.request", "body": piece, "more_body": more}

    home = _lay(path.parent / "sent", {})
    with suppress(Refusal, ClientLeftError):
        kind = "multipart/form-data; boundary=b"
        asyncio.run(receive_upload(kind, receive, home, Limits(max_mb=1)))


def read_points(path: Path) -> None:
    """Read a table of coordinates."""
    from imgtofmri.encoder.points import read_points

    read_points(path)


def read_list(path: Path) -> None:
    """Read a list of files, a line or a zero byte after each."""
    from imgtofmri.exceptions import ImgToFmriError
    from imgtofmri.stimuli.listed import read_list

    readers: list[Callable[[], object]] = [
        lambda: list(read_list(path)),
        lambda: list(read_list(path, null=True)),
    ]
    for read in readers:
        with suppress(ImgToFmriError):
            read()
