"""Every reader of the package, with good files to begin from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

import numpy as np

from fuzzing import folders, seeds
from imgtofmri import apart

Seeds = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes
    ----------
    read : callable
        Takes a path. Whatever it raises but the package's own errors is a bug.
    seeds : callable
        Returns good files, as suffix and content; is given a folder to make them in.
    kinds : tuple of str
        How they are changed, see `fuzzing.mutations.KINDS`.
    share : float
        How many of all inputs it gets, relative to the others.
    """

    read: Callable[[Path], object]
    seeds: Callable[[Path], Seeds]
    kinds: tuple[str, ...] = ("bytes",)
    share: float = 1.0


def _texts(suffix: str, *contents: str) -> Callable[[Path], Seeds]:
    return lambda _: [(suffix, content.encode()) for content in contents]


def _word(path: Path) -> str:
    """Return what the shell would give to a command: bytes that are no text become surrogates."""
    return os.fsdecode(path.read_bytes().replace(b"\0", b""))


# Stimuli.


def _picture(path: Path) -> None:
    from imgtofmri.stimuli import read_images
    from imgtofmri.stimuli.images import open_image

    for frame in read_images([path], n_workers=1, size=16):
        if error := getattr(frame, "error", None):
            raise error
    open_image(path)


def _movie(path: Path) -> None:
    from imgtofmri.stimuli import Movie

    movie = Movie(path)
    for _ in zip(movie.frames(5.0, size=16), range(100), strict=False):
        pass
    movie.expected_frames()


# Tables and texts.


def _table(path: Path) -> None:
    from imgtofmri.exceptions import DataError
    from imgtofmri.measured import read_categories, read_pattern_files, read_stimulus_rows
    from imgtofmri.tables import read_table

    table = read_table(path)
    for name in table.columns[:5]:
        for read in (table.names, table.numbers):
            try:
                read(name)
            except DataError:
                continue
    for one in (read_stimulus_rows, read_categories, read_pattern_files):
        try:
            one(path)
        except DataError:
            continue


def _events(path: Path) -> None:
    from imgtofmri.experiments.tables import find_stimuli, read_events

    find_stimuli([read_events(path)], path.parent / "pictures")


def _kernel(path: Path) -> None:
    from imgtofmri.experiments.tables import read_kernel

    read_kernel(path, 0.1)


def _confounds(path: Path) -> None:
    from imgtofmri.measured.confounds import read_confounds

    read_confounds(path, 4)
    read_confounds(path, 4, ("trans_*", "csf"), missing="mean")


def _sidecar(path: Path) -> None:
    import nibabel as nib

    from imgtofmri.measured.timing import read_sidecars, volume_times

    image = nib.Nifti1Image(np.zeros((2, 2, 2, 4), np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.0
    volume_times("run", image, read_sidecars([path]))
    volume_times("run", image, {}, raw=read_sidecars([path]), slice_time_ref=0.5)


def _boundaries(path: Path) -> None:
    from imgtofmri.analyses.dynamics.boundaries import read_boundaries

    read_boundaries(path)


def _names(path: Path) -> None:
    from imgtofmri.analyses.validate.comparison import read_names

    read_names(path)


def _study(path: Path) -> None:
    from imgtofmri.training.study import read_study

    read_study(path)


# Words that people type.


def _contrast(path: Path) -> None:
    from imgtofmri.stats.contrasts import contrast_weights

    contrast_weights(_word(path), ["a", "b", "c-d", "face"])


def _goal(path: Path) -> None:
    from imgtofmri.analyses.select.goals import parse_goal

    parse_goal(_word(path), ["LOC", "PPA"])


def _layer(path: Path) -> None:
    from imgtofmri.backbones.architectures import ARCHITECTURES
    from imgtofmri.backbones.pooling import parse_layer

    str(parse_layer(_word(path), ARCHITECTURES["resnet18"].layers))


def _network(path: Path) -> None:
    from imgtofmri.backbones.names import NetworkName, parse_weights

    word = _word(path)
    parse_weights(word)
    NetworkName.parse(word).architecture()


def _bids_name(path: Path) -> None:
    from imgtofmri.measured.bids import agree
    from imgtofmri.spaces.names import entities

    agree(entities(_word(path)), {"sub": "01", "run": "1"})


# Arrays, weights and models.


def _array(path: Path) -> None:
    from imgtofmri.measured import read_array

    if path.suffix in (".h5", ".mat"):
        read_array(path, {".h5": "group/a", ".mat": "rdms"}[path.suffix])
        return
    try:
        read_array(path, "a" if path.suffix == ".npz" else None)
    except ValueError:
        read_array(path)
        read_array(path, "0/1")


def _rdms(path: Path) -> None:
    from imgtofmri.measured.rdms import load_rdms

    load_rdms(path)


def _patterns(path: Path) -> None:
    from imgtofmri.measured import read_patterns

    read_patterns(path)


def _measured(path: Path) -> None:
    from imgtofmri.measured import read_measured

    read_measured(path)


def _pickle(path: Path) -> None:
    from imgtofmri.unpickle import load_arrays_pickle

    data = path.read_bytes()
    repr(load_arrays_pickle(data, nested=len(data) % 2 == 0))


def _checkpoint(path: Path) -> None:
    from imgtofmri.backbones.architectures import ARCHITECTURES, fold_weights
    from imgtofmri.backbones.weights import read_tensors
    from imgtofmri.exceptions import WeightsError

    tensors = read_tensors(path)
    for tensor in tensors.values():
        np.asarray(tensor, np.float32).sum()
    with suppress(WeightsError):
        fold_weights(ARCHITECTURES["resnet18"], tensors, str(path))


def _bundle(path: Path) -> None:
    from imgtofmri.bundle import read_bundle

    read_bundle(path)


def _signed_bundle(path: Path) -> None:
    """Read a bundle that carries the checksum of what it holds, whatever that is."""
    import json

    from imgtofmri.bundle import file
    from imgtofmri.bundle.content import digest_of

    # The card as it stands, with the digest that it should have.
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    try:
        label, arrays = file._read_file(path)
        label["sha256"] = digest_of(label.get("card"), arrays)
        header = json.loads(data[8 : 8 + size])
        header["__metadata__"] = {file.FORMAT: json.dumps(label)}
        text = json.dumps(header).encode("utf-8", "surrogatepass")
    except ValueError:
        pass
    else:
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    file.read_bundle(path)


def _head(path: Path) -> None:
    from imgtofmri.backbones.head import read_head

    head = read_head(path)
    head(np.ones((2, 3), np.float32))


def _onnx(path: Path) -> None:
    from imgtofmri.backbones.runtime import OnnxFileBackbone

    backbone = OnnxFileBackbone(path, n_threads=1)
    side = backbone.spec.preprocessing.size
    backbone(np.zeros((2, side, side, 3), np.uint8))


# Images and transforms.


def _image(path: Path) -> None:
    from imgtofmri.exceptions import ImgToFmriError
    from imgtofmri.measured import read_image_rows, read_mask, read_patterns
    from imgtofmri.spaces import open_image, read_image

    _, grid = read_image(path)
    readers: list[Callable[[], object]] = [
        lambda: read_mask(path),
        lambda: read_mask(path, 1),
        lambda: read_mask(path, threshold=0.5),
        lambda: read_image_rows(path, np.arange(3), grid),
        lambda: read_patterns(path),
        lambda: read_patterns([path, path]),
        lambda: open_image(path),
    ]
    for read in readers:
        with suppress(ImgToFmriError):
            read()


def _transform(path: Path) -> None:
    from imgtofmri.spaces.itk import apply_all, read_itk

    apply_all(read_itk([path]), np.ones((2, 3)))


# What only C libraries read.


def _forked(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Have the other process forked: it then need not import anything, and reads at once."""

    def run(_: object, *, input: bytes, timeout: float, **__: object) -> CompletedProcess[bytes]:
        child = os.fork()
        if not child:
            apart.answer(json.loads(input))
            os._exit(0)
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return CompletedProcess([], os.waitstatus_to_exitcode(status))
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise subprocess.TimeoutExpired([], timeout)

    def read_forked(path: Path) -> None:
        with mock.patch.object(apart.subprocess, "run", run):
            read(path)

    return read_forked


# What the package wrote.


def _record(path: Path) -> None:
    from imgtofmri.outputs.folder import OutputFolder

    home = path.parent / "results"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / "a.nii.gz").write_bytes(b"1")
    good = seeds.records()[0][1]
    journal = path.suffix == ".jsonl"
    (home / "predict.json").write_bytes(good if journal else path.read_bytes())
    if journal:
        (home / "predict.jsonl").write_bytes(path.read_bytes())
    folder = OutputFolder(home, "predict")
    folder.claim(resume=True, resumable=True)
    with folder.begin({"a": 1}, {"b": [1, 2]}):
        for name in folder.names:
            folder.is_done(name, "0" * 64)
        assert folder.files
        folder.keep("b.tsv")


def _manifest(path: Path) -> None:
    from imgtofmri.outputs.folder import OutputFolder

    home = path.parent / "whole"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / "a.nii.gz").write_bytes(b"1")
    shutil.copyfile(path, home / "simulate.json")
    folder = OutputFolder(home, "simulate", whole=True)
    folder.claim(overwrite=True)
    with folder.begin({"a": 1}):
        (folder.path / "new.tsv").write_bytes(b"2")


def _store(path: Path) -> None:
    """Read a store of which one file is the input, whatever can be asked of it."""
    from imgtofmri import Prediction
    from imgtofmri.exceptions import ImgToFmriError

    home = path.parent / "store.zarr"
    shutil.rmtree(home, ignore_errors=True)
    changed = seeds.STORE_FILES[path.suffix]
    for name, content in seeds.store().items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(path.read_bytes() if name == changed else content)
    stored = Prediction.open(home, unfinished=True)
    asked: list[Callable[[], object]] = [
        lambda: [stored.store.verify(shard) for shard in range(min(stored.store.plan.n_shards, 9))],
        lambda: stored[:2].to_img("A", "LOC"),
        lambda: stored["b"].roi_table(),
        lambda: stored.group[:, :2],
        lambda: [*stored.parts(2)],
        lambda: (stored.roi_table(), stored.failures, repr(stored), stored.spans()),
        lambda: (stored.accuracy, stored.residual_variance, stored.rois, stored.movies),
    ]
    for ask in asked:
        with suppress(ImgToFmriError, IndexError):
            ask()


def _page(path: Path) -> None:
    from imgtofmri.report.build import write_report

    home = path.parent / "run"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for name, content in seeds.run()[1].items():
        (home / name).write_bytes(content)
    shutil.copyfile(path, home / "contrast.json")
    write_report(home)


def _archive(path: Path) -> None:
    from imgtofmri.assets.archives import extract_archive

    home = path.parent / "unpacked"
    shutil.rmtree(home, ignore_errors=True)
    extract_archive(path, home, progress=False)


_CONTRASTS = ("a - b", "a > b + c-d", "a - 0.5*b - 1/2*face", "face > a", "- a + 2 * b - 1*c-d")
_GOALS = ("high PPA", "low LOC", "PPA over LOC", "alike PPA, apart LOC")
_LAYERS = ("avgpool", "layer3/flatten", "layer3/flatten:64", "layer3/flatten:64:3", "layer2/max")
_NETWORKS = (
    "resnet18",
    "a/b.onnx",
    "timm:resnet50",
    "untrained:3",
    "head.safetensors",
    "untrained",
)
_BIDS = (
    "sub-01_task-view_run-1_bold.nii.gz",
    "sub-01_ses-2_run-01_space-T1w_desc-preproc_bold.nii.gz",
)

# The shares are such that most inputs go where they cost least.
TARGETS: dict[str, Target] = {
    "picture": Target(_picture, lambda _: seeds.pictures(), share=1.5),
    "movie": Target(_movie, seeds.movies, share=0.15),
    "table": Target(
        _table,
        _texts(".tsv", seeds.EVENTS, seeds.PATTERNS.replace(",", "\t"), "stimulus\tfold\na\t1\n"),
        ("table", "text"),
        8,
    ),
    "table of commas": Target(_table, _texts(".csv", seeds.PATTERNS), ("table", "text"), 6),
    "events": Target(_events, _texts(".tsv", seeds.EVENTS), ("table", "text"), 10),
    "response": Target(_kernel, _texts(".txt", "# s y\n0 0\n1, 0.5\n2.5 0\n"), ("text",), 6),
    "confounds": Target(_confounds, _texts(".tsv", seeds.CONFOUNDS), ("table", "text"), 8),
    "sidecar": Target(
        _sidecar,
        lambda _: [
            (".json", json.dumps(seeds.SIDECAR).encode()),
            (".json", b'{"VolumeTiming": [0, 2.0, 4, 6], "StartTime": 0.5}'),
        ],
        ("json", "text"),
        5,
    ),
    "boundaries": Target(_boundaries, _texts(".txt", "12,26,44\n", "3\n5\n"), ("text",), 6),
    "names": Target(_names, _texts(".txt", "a.png\nb.png\n"), ("text",), 6),
    "study": Target(_study, _texts(".toml", seeds.STUDY), ("toml", "toml", "text"), 2),
    "contrast": Target(_contrast, _texts(".txt", *_CONTRASTS), ("text",), 12),
    "goal": Target(_goal, _texts(".txt", *_GOALS), ("text",), 12),
    "layer": Target(_layer, _texts(".txt", *_LAYERS), ("text",), 12),
    "network": Target(_network, _texts(".txt", *_NETWORKS), ("text",), 12),
    "BIDS name": Target(_bids_name, _texts(".txt", *_BIDS), ("text",), 12),
    "array": Target(_array, lambda _: seeds.arrays(), ("npy", "zip", "bytes"), 4),
    "pickle": Target(_pickle, lambda _: seeds.pickles(), ("pickle", "pickle", "bytes"), 6),
    "checkpoint": Target(
        _checkpoint, lambda _: seeds.checkpoints(), ("zip", "safetensors", "pickle", "bytes"), 4
    ),
    "matrices": Target(_rdms, lambda _: seeds.matrices(), ("npy", "zip", "bytes"), 4),
    "patterns": Target(_patterns, lambda _: seeds.patterns(), ("zip", "bytes"), 3),
    "time courses": Target(_measured, lambda _: seeds.measured(), ("zip", "bytes"), 3),
    "bundle": Target(_bundle, seeds.bundles, ("safetensors", "bytes"), 2),
    "signed bundle": Target(
        _signed_bundle, seeds.bundles, ("safetensors", "safetensors", "bytes"), 2
    ),
    "head": Target(_head, lambda _: seeds.heads(), ("safetensors", "bytes"), 4),
    "image": Target(_image, lambda _: seeds.images(), ("gzip", "bytes"), 1.5),
    "transform": Target(
        _transform, lambda folder: seeds.transforms(folder)[:3], ("text", "bytes"), 4
    ),
    "record": Target(_record, lambda _: seeds.records(), ("json", "json lines", "text"), 2),
    "manifest": Target(_manifest, lambda _: seeds.records()[:1], ("json", "text"), 1),
    "page of a run": Target(_page, lambda _: [(".json", seeds.run()[0])], ("json", "text"), 0.3),
    "store": Target(_store, lambda _: seeds.store_files()[:1], ("json", "json", "text"), 1),
    "file of a store": Target(_store, lambda _: seeds.store_files()[1:], share=1),
    "archive": Target(_archive, lambda _: seeds.archives(), ("zip", "gzip", "bytes"), 1),
    "run": Target(folders.read_run, lambda _: folders.runs(), ("gzip", "bytes"), 0.7),
    "file of a run": Target(
        folders.read_derivatives,
        lambda _: folders.as_inputs(folders.derivatives()),
        ("table", "json", "gzip", "text"),
        0.7,
    ),
    "file of a study": Target(
        folders.read_study_files,
        lambda _: folders.as_inputs(folders.study_files()),
        ("toml", "table", "gzip", "npy", "text"),
        0.7,
    ),
    "warp": Target(folders.read_warp, lambda _: folders.warps(), ("gzip", "text", "bytes"), 1),
    "template's description": Target(
        folders.read_description, lambda _: folders.descriptions(), ("json", "text"), 4
    ),
    "points": Target(
        folders.read_points, _texts(".tsv", "x\ty\tz\tname\n1\t-2\t3.5\ta\n"), ("table", "text"), 4
    ),
    "list of files": Target(
        folders.read_list, _texts(".txt", "a/b.png\nc.jpg\n./a/b.png\nfilm.mp4\n"), ("text",), 4
    ),
    "features": Target(folders.read_features, lambda _: folders.features(), share=1),
    "plan of an exchange": Target(folders.read_plan, lambda _: folders.plans(), ("json",), 1),
    "record of tasks": Target(
        folders.read_task_record, lambda _: folders.task_records(), ("json", "text"), 0.4
    ),
    "table of a page": Target(folders.read_means, lambda _: folders.means(), ("table", "text"), 4),
    "form": Target(folders.read_form, lambda _: folders.forms(), ("text", "bytes"), 1),
    "transform in a child": Target(
        _forked(_transform), lambda folder: seeds.transforms(folder)[3:], share=0.4
    ),
    "array in a child": Target(
        _forked(_array), lambda folder: [*seeds.matlab(folder), *seeds.hdf5(folder)], share=0.6
    ),
    "matrices in a child": Target(
        _forked(_rdms), lambda folder: [*seeds.matlab(folder), *seeds.hdf5(folder)], share=0.6
    ),
    "zarr in a child": Target(
        _forked(folders.read_zarr), lambda _: folders.zarrs(), ("json", "bytes"), 0.4
    ),
    "network in ONNX": Target(_forked(_onnx), lambda _: seeds.networks(), share=0.4),
}


@cache
def _furniture() -> dict[str, bytes]:
    picture, images = seeds.pictures()[0][1], seeds.images()
    return {
        "pictures/a.png": picture,
        "pictures/b.png": picture,
        "rows.tsv": b"stimulus\tfold\na.png\t1\nb.png\t2\n",
        "affine.txt": seeds.AFFINE.encode(),
        "mask.nii.gz": images[4][1],
        "volume.nii": images[1][1],
        "responses.npz": seeds.arrays()[-2][1],
    }


def furnish(folder: Path) -> None:
    """Put beside the inputs what they name: a study's files, a table's pictures."""
    (folder / "pictures").mkdir()
    for name, content in _furniture().items():
        (folder / name).write_bytes(content)
