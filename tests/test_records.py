"""The record of each command: one schema, with digests of what went in and what came out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from imgtofmri.cli import main
from imgtofmri.cli.app import app
from imgtofmri.files import sha256_of
from imgtofmri.report.build import TITLES
from imgtofmri.report.methods import DID, OF_OTHERS

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

FIELDS = (
    "GeneratedBy RecordVersion command command_line state started written versions settings "
    "prediction controls measured inputs outputs failures"
).split()

COMMANDS = {
    "predict": ("dark bright", "predictions.json"),
    "contrast": ("dark bright --permutations 5 --control untrained", "contrast.json"),
    "select": ("dark bright -g high_PPA -n 2 --no-reference", "selection.json"),
    "explain": ("dark bright --rois PPA", "explanation.json"),
    "rsa": ("dark bright -m subjects.npz --permutations 5 --bootstraps 5", "rsa.json"),
    "validate": ("--stimuli dark --stimuli bright -m betas --permutations 5", "validation.json"),
    "power": ("dark bright --trials 6 --tr-s 2 --tsnr 50 --scale 1", "power.json"),
    "simulate": ("run.tsv --stimuli dark --tr-s 2 --voxels predicted", "simulate.json"),
}


ELSEWHERE = {"dynamics"}
"""Commands whose records other tests look at."""


def test_every_command_that_makes_a_page_is_tried_and_has_words_for_it() -> None:
    """Left out, its record would be held to nothing, and its page would have no words."""
    makes = {
        name
        for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
        if any("--report" in parameter.opts for parameter in command.params)
    }
    assert makes == {*COMMANDS} | ELSEWHERE
    assert makes <= {*TITLES}
    assert makes <= {*DID}


@pytest.fixture
def desk(
    tmp_path: Path,
    rng: np.random.Generator,
    small_encoder: Path,
    dark_and_bright: Callable[[int], tuple[Path, Path]],
    random_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Lay out pictures, measurements and an encoder; return the options that name the encoder."""
    dark_and_bright(4)
    names = [f"{kind}{number}.png" for kind in ("dark", "bright") for number in range(4)]
    np.savez(tmp_path / "subjects.npz", rdms=rng.random((3, 28)), conditions=names)
    (tmp_path / "run.tsv").write_text("onset\tduration\tstim_file\n2\t2\tdark0.png\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    options = ["--encoder", small_encoder.name, "--weights", str(random_weights), "--quiet"]
    assert main(["predict", "dark", "bright", "-o", "betas", *options]) == 0
    (tmp_path / "betas" / "predictions.json").rename(tmp_path / "made.json")
    return options


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_keeps_one_record_of_what_went_in_and_came_out(
    command: str, desk: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fields are the same for all; each digest is that of the file; each file written is listed.

    The page, which is made of them, is not; the last line says to open it.
    """
    arguments, record = COMMANDS[command]
    words = [word.replace("_", " ") for word in arguments.split()]
    assert main([command, *words, "-o", "out", *desk]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"open {Path('out', 'report.html')}"
    page = Path("out", "report.html").read_text("utf-8")
    assert f"imgtofmri {command}" in page
    assert bool(re.search(r" [0-9]+ inputs", page)) == (command in OF_OTHERS)
    said = json.loads(Path("out", record).read_text("utf-8"))
    assert list(said) == FIELDS
    assert (said["command"], said["state"], said["failures"]) == (command, "complete", [])
    assert said["prediction"]["units"] in ("standard deviations over the mask", "the models' own")
    stimuli = [entry for entry in said["inputs"] if entry["path"].endswith(".png")]
    assert len(stimuli) == (1 if command == "simulate" else 8)
    for entry in [*said["inputs"], *said["measured"]]:
        assert entry["sha256"] == sha256_of(Path(entry["path"]))
    assert bool(said["measured"]) == (command in ("rsa", "validate"))
    listed = {
        file["file"]: file["sha256"]
        for entry in [said, *said["inputs"]]
        for file in entry["outputs"]
    }
    there = {
        path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()
    }
    assert set(listed) == there - {record, "report.html"}
    assert all(sha256_of(Path("out", file)) == digest for file, digest in listed.items())
