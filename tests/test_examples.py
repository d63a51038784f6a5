"""Every example that a command's help shows is carried out, on small files of the names it uses."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import av
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.main import get_command

from imgtofmri import assets
from imgtofmri.backbones import Untrained, load, weights
from imgtofmri.cli import main
from imgtofmri.cli.app import app
from imgtofmri.datasets import twinset
from imgtofmri.spaces import MNI152_2MM

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "_ext"))
from table_columns import TABLES, Table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.timeout(1200),
    # People whose bodies are noise agree on nothing, and runs are short: both are remarked upon.
    pytest.mark.filterwarnings("default::UserWarning"),
]

N_PHOTOS = {"select": 160, "distill": 20, "explain": 6}
"""Photographs by command; 12 where nothing is said."""

FILM_S = {"render": 3, "explain": 4}
"""Length of the film by command, in seconds; 40 where nothing is said."""

FIRST = {
    "predict photos/ -o out/ --resume": ["predict photos/ -o out/"],
    "predict new/ -o out/ --backbone head.safetensors": ["distill photos/ -o head.safetensors"],
    "validate --predicted out/ --measured betas.tsv --accuracy -o validation/": [
        "predict photos/ -o out/ --average mean"
    ],
    "merge out/": [
        f"predict --from-file list.txt -o out/ --format zarr --shard {part}/2" for part in (1, 2)
    ],
    "export out/ -o volumes/": ["predict photos/ -o out/ --format zarr"],
    "export out/ -o bids/ --to bids": ["predict photos/ -o out/ --format zarr"],
    "export out/predictions.zarr -o surfaces/ --to gifti --stimulus house.jpg": [
        "predict house.jpg photos/ -o out/ --format zarr"
    ],
    "report out/": ["predict photos/ -o out/"],
    "report out/contrast.json -o contrast.html": ["contrast house/ face/ -o out/"],
}
"""What has to be there before an example: what other examples leave."""

AS = {"demo": "predict", "export": "predict"}
"""Commands that write the tables of another."""

BRIGHT = "dog"
"""Which pictures are bright: places are to drive an untrained network's PPA more than others."""

INSTEAD = {"fetch": "twinset-archive"}
"""What stands for 3.5 GB, after ``--twinset``."""


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not getattr(command, "commands", None):
        yield words, command
        return
    for name, each in command.commands.items():
        yield from _commands(each, (*words, name))


def _examples() -> list[str]:
    """Return the command lines of every command's help, without the program's name."""
    found = []
    for words, command in _commands(get_command(app)):
        shown = inspect.cleandoc(command.help or "").partition("**Example")[2].split("\n\n")[1:]
        lines = [" ".join(line.split()) for line in shown if "imgtofmri " in line]
        assert lines, f"{' '.join(words)} has no example in its help"
        found += [line.removeprefix("imgtofmri ") for line in lines]
    return found


def _photo(path: Path, rng: np.random.Generator, bright: bool = True) -> None:
    """Write a picture of coarse noise, which random networks tell from a dark one."""
    coarse = rng.integers(0, 256, (6, 8, 3)) * rng.uniform(0.8, 1.0) * (1.0 if bright else 0.2)
    Image.fromarray(coarse.astype(np.uint8)).resize((64, 48)).save(path)


def _film(path: Path, length_s: float, rng: np.random.Generator) -> None:
    """Write a film that shows a new picture every four seconds."""
    with av.open(path, "w") as film:
        stream = film.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 64
        for number in range(int(4 * length_s)):
            if number % 16 == 0:
                shown = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        film.mux(stream.encode())


def _save(path: Path, values: np.ndarray[Any, Any], affine: Any, tr_s: float = 0.0) -> None:
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    if tr_s:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    nib.save(image, path)


class Desk:
    """A folder with the files that examples speak of."""

    def __init__(self, folder: Path, n_photos: int, film_s: float) -> None:
        self.folder, self.rng = folder, np.random.default_rng(11)
        self.photos = [f"{number}.jpg" for number in range(n_photos)]
        few = ("house", "face", "place", "dog", "a", "b", "new")
        for name in ("photos", *few):
            (folder / name).mkdir()
            photos = [f"{name}{k}.jpg" for k in range(4)] if name in few else self.photos
            for number, photo in enumerate(photos):
                bright = name == BRIGHT if name in few else number % 2 == (BRIGHT == "dog")
                _photo(folder / name / photo, self.rng, bright)
        _photo(folder / "house.jpg", self.rng)
        _film(folder / "film.mp4", film_s, self.rng)

    def tables(self) -> None:
        """Write tables of stimuli, events and points."""
        kinds = 4 * ("scene", "face", "object")
        named = zip(self.photos, kinds, strict=False)
        rows = [f"photos/{name}\t{kind}" for name, kind in named]
        self._write("stimuli.tsv", "stim_file\tcondition", *rows)
        for number, name in enumerate(("events.tsv", "run1.tsv", "run2.tsv")):
            kinds = ("place", "object") * 3
            rows = [
                f"{2 + 14 * k}\t2\t{kind}\t{(k + 2 * number) % 6}.jpg"
                for k, kind in enumerate(kinds)
            ]
            self._write(name, "onset\tduration\ttrial_type\tstim_file", *rows)
        self._write("list.txt", *(f"photos/{name}" for name in self.photos))
        self._write("points.tsv", "name\tx\ty\tz", "PPA\t26\t-44\t-10", "nowhere\t0\t60\t0")

    def measured(self) -> None:
        """Write measured runs, responses and dissimilarities of people whose bodies are noise."""
        coarse = np.diag([-8.0, 8, 8, 1])
        coarse[:3, 3] = 90, -126, -72
        for number in (1, 2, 3):
            run = self.rng.random((23, 28, 23, 20)).astype(np.float32)
            _save(self.folder / f"sub-{number:02d}_bold.nii.gz", run, coarse, 2.0)
        (self.folder / "bold.json").write_text('{"StartTime": 0.0}', encoding="utf-8")
        for folder in ("betas", "run-1", "run-2"):
            (self.folder / folder).mkdir()
            for name in self.photos:
                beta = self.rng.integers(1, 100, MNI152_2MM.shape, dtype=np.uint8)
                _save(self.folder / folder / f"{name}.nii", beta, MNI152_2MM.affine)
        rows = [f"{name}\tbetas/{name}.nii" for name in self.photos]
        self._write("betas.tsv", "name\tfile", *rows)
        n_pairs = len(self.photos) * (len(self.photos) - 1) // 2
        matrices = self.rng.random((5, n_pairs))
        np.savez(self.folder / "subjects.npz", rdms=matrices, conditions=self.photos)
        from rsatoolbox.rdm import RDMs

        for name in ("ppa.h5", "loc.h5"):
            named = {"conditions": self.photos}
            RDMs(self.rng.random((5, n_pairs)), pattern_descriptors=named).save(
                str(self.folder / name), file_type="hdf5"
            )

    def study(self) -> None:
        """Write a study of one person, and the same with a download that is there already."""
        names = [*self.photos, *self.photos]
        self._write("stimuli-of-study.tsv", "stimulus", *names)
        mask = np.zeros((12, 13, 11), np.uint8)
        mask.flat[600:630] = 1
        _save(self.folder / "PPA.nii.gz", mask, np.diag([2.0, 2, 2, 1]))
        signal = np.tile(self.rng.standard_normal((len(self.photos), 30)), (2, 1))
        noise = 0.1 * self.rng.standard_normal(signal.shape)
        np.save(self.folder / "PPA.npy", signal + noise)
        text = """
id = "my-encoder"
title = "One person's responses to a few pictures"
licence = "CC0"
stimuli = { table = "stimuli-of-study.tsv", folder = "photos" }
template = { grid = "PPA.nii.gz", space = "MNI152NLin6Asym" }
backbone = { name = "resnet18", layers = ["avgpool"], weights = "untrained:0" }
fit = { alphas = [1.0, 10.0, 100.0], folds = 3 }
[[subjects]]
name = "sub-01"
transform = { kind = "same" }
rois.PPA = { mask = "PPA.nii.gz", responses = "PPA.npy" }
"""
        (self.folder / "study.toml").write_text(text, encoding="utf-8")
        download = '[[downloads]]\nurl = "https://example.org/there.txt"\nfile = "there.txt"\n'
        text = text.replace("[[subjects]]", f"{download}[[subjects]]")
        (self.folder / "bold5000.toml").write_text(text, encoding="utf-8")

    def network(self) -> None:
        """Write a network of two layers as an ONNX file."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        kernel = self.rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["conv"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["conv"], ["y"]),
        ]
        shapes = [["n", 3, 32, 32], ["n", 4, 32, 32]]
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip("xy", shapes, strict=True)
        ]
        graph = helper.make_graph(
            nodes, "small", ends[:1], ends[1:], [numpy_helper.from_array(kernel, "w")]
        )
        opset = [helper.make_opsetid("", 13)]
        onnx.save(
            helper.make_model(graph, opset_imports=opset, ir_version=8), self.folder / "model.onnx"
        )

    def twinset(self) -> None:
        """Write the archive of the published validation in its own layout, with two people."""
        data = self.folder / INSTEAD["fetch"] / "data" / "twinset"
        kinds = {"avgs": "avg", "subj01": "r_m_s", "subj02": "r_m_s"}
        for folder in (twinset.STIMULUS_FOLDER, *kinds):
            (data / folder).mkdir(parents=True)
        coarse = np.diag([-4.0, 4, 4, 1])
        coarse[:3, 3] = 90, -126, -72
        for number in range(1, 157):
            _photo(data / twinset.STIMULUS_FOLDER / f"image{number}.jpg", self.rng)
            for folder, kind in kinds.items():
                beta = self.rng.integers(1, 100, MNI152_2MM.shape, dtype=np.uint8)
                path = data / folder / f"{kind}_beta_{number:04d}.nii"
                _save(path, beta, MNI152_2MM.affine)

    def partly_cloudy(self) -> None:
        """Write what nilearn stores of the public data set, of the occipital lobe alone."""
        folder = self.folder / "nilearn" / "development_fmri"
        folder.mkdir(parents=True)
        names = [f"sub-pixar{number:03d}" for number in range(123, 156)]
        people = {"participant_id": names, "Age": 25.0, "AgeGroup": "Adult"}
        people |= {"Child_Adult": "adult", "Gender": "F", "Handedness": "R"}
        pd.DataFrame(people).to_csv(folder / "participants.tsv", sep="\t", index=False)
        columns = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
        columns += [f"a_comp_cor_{number:02d}" for number in range(6)]
        columns += ["framewise_displacement", "csf", "white_matter"]
        affine = np.diag([4.0, 4, 4, 1])
        affine[:3, 3] = -50, -106, -24
        space = "space-MNI152NLin2009cAsym"
        for name in names:
            run = self.rng.integers(50, 150, (26, 19, 10, 168), dtype=np.int16)
            path = folder / f"{name}_task-pixar_{space}_desc-preproc_bold.nii.gz"
            _save(path, run, affine, 2.0)
            confounds = pd.DataFrame(self.rng.standard_normal((168, len(columns))), columns=columns)
            path = folder / f"{name}_task-pixar_desc-confounds_regressors.tsv"
            confounds.to_csv(path, sep="\t", index=False)
        _film(self.folder / "partly_cloudy.mp4", 336, self.rng)

    def _write(self, name: str, *lines: str) -> None:
        (self.folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8")


def _stand_in(architecture: Any, *, progress: bool = True) -> Any:
    """Return random weights of ResNet-18 as if they were in the cache."""
    if architecture.id == "resnet18":
        return load.untrained_weights(architecture, Untrained(0))
    return _published(architecture, progress=progress)


_published = weights.load_published


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with the files that an example speaks of."""
    line: str = request.getfixturevalue("line")
    command = line.rpartition("| imgtofmri ")[2].split()[0]
    made = Desk(tmp_path, N_PHOTOS.get(command, 12), FILM_S.get(command, 40))
    made.tables()
    if command in ("fit", "layers", "describe", "predict", "serve"):
        made.study()
    if command in ("dynamics", "validate", "rsa"):
        made.measured()
    if "model.onnx" in line:
        made.network()
    if "--twinset" in line:
        made.twinset()
    if "partly-cloudy" in line:
        made.partly_cloudy()
        monkeypatch.setenv("NILEARN_DATA", str(tmp_path / "nilearn"))
    if "--fetch" in line:
        # The example's download, as if it had been fetched.
        there = assets.cache_dir() / "studies" / "there.txt"
        there.parent.mkdir(parents=True, exist_ok=True)
        there.touch()
    monkeypatch.chdir(tmp_path)
    # The published weights change none of an example's steps.
    monkeypatch.setattr(load, "load_published", _stand_in)
    monkeypatch.setattr(weights, "load_published", _stand_in)
    return tmp_path


def _carry_out(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command line; what stands before it and a pipe is run by a shell."""
    before, pipe, after = line.rpartition("| imgtofmri ")
    if pipe:
        shown = subprocess.run(["sh", "-c", before], capture_output=True, check=True).stdout
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(shown)))
    words = shlex.split(after)
    if "--twinset" in words:
        at = words.index("--twinset") + 1
        words[at] = INSTEAD[words[at]]
    return main(words)


def _tables(folder: Path) -> dict[Path, list[str]]:
    """Return the columns of every table below a folder."""
    return {
        path: path.read_text("utf-8").partition("\n")[0].split("\t")
        for path in sorted(folder.rglob("*.tsv"))
        if "nilearn" not in path.parts
    }


def _check_columns(command: str, path: Path, columns: list[str]) -> None:
    """See that the reference has a table, with its columns and no others, as its sidecar has."""
    command = AS.get(command, command)
    known = [each for each in TABLES if each.command == command and each.is_called(path.name)]
    assert known, f"{command} writes {path.name}, which the reference does not describe"
    # The most particular name: events.tsv is not NAME_events.tsv.
    table: Table = min(known, key=lambda each: len(re.findall("[A-Z]{2,}", each.file)))
    assert table.unknown(columns) == [], f"{path.name}: columns without a meaning"
    assert table.absent(columns) == [], f"{path.name}: meanings of columns that are not there"
    sidecar = path.with_suffix(".json")
    said = json.loads(sidecar.read_text("utf-8")) if sidecar.is_file() else {}
    if "GeneratedBy" not in said:  # Not a record of the same name.
        for column in set(said) & set(table.columns):
            assert said[column] == {"Description": table.columns[column]}


def _params() -> list[Any]:
    """Return the examples but those of `serve`, marked with what they need."""
    # Six minutes of film, as the responses to it ask for; each participant, with two controls.
    marks = {
        "--engine torch": pytest.mark.torch,
        "partly-cloudy": pytest.mark.long,
        "twinset": pytest.mark.long,
    }
    return [
        pytest.param(line, marks=[mark for word, mark in marks.items() if word in line], id=line)
        for line in _examples()
        if not line.startswith("serve")
    ]


@pytest.mark.usefixtures("published_wheel")
@pytest.mark.parametrize("line", _params())
def test_example_of_help_does_what_it_says(
    line: str, desk: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with code 0, and writes tables of which the reference describes every column."""
    if "--engine torch" in line:
        torch = pytest.importorskip("torch", reason="needs the extra [torch]")
        if not torch.cuda.is_available():
            line = line.replace("cuda", "cpu")
    for earlier in FIRST.get(line, []):
        assert _carry_out(earlier, monkeypatch) == 0, capfd.readouterr().err
    if "my-encoder.safetensors" in line and not line.startswith("fit"):
        assert _carry_out("fit study.toml -o my-encoder.safetensors", monkeypatch) == 0
    before = _tables(desk)
    code = _carry_out(line, monkeypatch)
    said = capfd.readouterr()
    assert code == 0, said.err
    assert "Traceback" not in said.err
    command = line.rpartition("| imgtofmri ")[2].split()[0]
    for path, columns in _tables(desk).items():
        if path not in before:
            _check_columns(command, path, columns)


_SERVER = """
import sys
from imgtofmri.backbones import Untrained, load
from imgtofmri.backbones.untrained import untrained_weights
from imgtofmri.cli import main
published = load.load_published
load.load_published = lambda net, **how: (
    untrained_weights(net, Untrained(0)) if net.id == "resnet18" else published(net, **how)
)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("published_wheel")
@pytest.mark.parametrize("line", [line for line in _examples() if line.startswith("serve")])
def test_example_of_serve_answers_until_it_is_interrupted(
    line: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says its address, answers there, and ends when it is told to."""
    pytest.importorskip("starlette", reason="needs the extra [serve]")
    if "my-encoder.safetensors" in line:
        assert _carry_out("fit study.toml -o my-encoder.safetensors", monkeypatch) == 0
    words = shlex.split(line)
    # The usual port may be another's here.
    words += [] if "--port" in words else ["--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, *words],
        stderr=subprocess.PIPE,
        text=True,
        cwd=desk,
        env=os.environ | {"BROWSER": shutil.which("true") or "true"},
    )
    assert process.stderr is not None
    try:
        address, end, said = None, time.monotonic() + 120, ""
        while address is None and time.monotonic() < end and process.poll() is None:
            said += process.stderr.readline()
            address = re.search(r"http://127\.0\.0\.1:[0-9]+/", said)
        assert address, said
        with urlopen(f"{address[0]}server", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_every_example_that_needs_another_is_one() -> None:
    """What is prepared is prepared for examples that are there."""
    assert set(FIRST) <= set(_examples())
