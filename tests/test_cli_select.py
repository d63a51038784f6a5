"""The command select, as a person uses it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgtofmri.analyses.select.columns import SELECTION
from imgtofmri.cli import main

Run = Callable[..., int]

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")


@pytest.fixture
def folders(dark_and_bright: Callable[[int], tuple[Path, Path]]) -> tuple[Path, Path]:
    """Return two folders of four noisy pictures each."""
    return dark_and_bright(4)


@pytest.fixture
def run(small_encoder: Path, random_weights: Path, tmp_path: Path) -> Run:
    """Return a function that runs the command with a small encoder and gives its exit code."""

    def call(*arguments: object, weights: object = random_weights) -> int:
        common = (
            "--encoder",
            small_encoder,
            "--weights",
            weights,
            "--quiet",
            "-o",
            tmp_path / "out",
        )
        return main([str(word) for word in ("select", *arguments, *common)])

    return call


def test_select_writes_sets_checks_and_events(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The events name files that exist below the folder that the record names."""
    (folders[0] / "broken.png").write_bytes(b"not a picture")
    goals = ("-g", "high PPA", "-g", "LOC over PPA")
    assert run(*folders, *goals, "-n", 1, "--repeats", 2, "--no-reference") == 3
    printed = capsys.readouterr()
    assert "broken.png" in printed.err
    assert [line.split()[0] for line in printed.out.splitlines()] == ["PPA_high", "LOC_over_PPA"]
    out = tmp_path / "out"
    names = {"selection.tsv", "checks.tsv", "matching.tsv", "events.tsv", "selection.json"}
    names |= {"contact-sheet.png", "checks.png", "checks.svg", "report.html"}
    assert {path.name for path in out.iterdir()} == names
    events = pd.read_csv(out / "events.tsv", sep="\t")
    record = json.loads((out / "selection.json").read_text("utf-8"))
    folder = Path(record["settings"]["stimulus_folder"])
    assert folder == tmp_path
    assert all((folder / name).is_file() for name in events["stim_file"])
    assert set(events["trial_type"]) == {"PPA_high", "LOC_over_PPA"}
    assert len(events) == 4
    checks = pd.read_csv(out / "checks.tsv", sep="\t")
    assert set(checks["tested_on"]) == {"all", "S1", "S2"}
    assert record["state"] == "partial"
    assert len(record["inputs"]) == 8
    selected = pd.read_csv(out / "selection.tsv", sep="\t")
    paths = {path.name: path for folder in folders for path in folder.iterdir()}
    pixels = []
    for name in selected["stimulus"]:
        with Image.open(paths[name]) as picture:
            pixels.append(math.prod(picture.size))
    np.testing.assert_allclose(10 ** selected["size"], pixels, rtol=1e-5)
    assert "logarithm" in SELECTION["size"]


@pytest.mark.slow
def test_select_control_of_an_untrained_encoder_is_the_encoder(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its rows of the checks are the encoder's own; luminance and contrast have theirs."""
    controls = ("--control", "untrained", "--control", "luminance")
    code = run(
        *folders, "-g", "high PPA", "-n", 1, "--no-reference", *controls, weights="untrained"
    )
    assert code == 0
    table = pd.read_csv(tmp_path / "out" / "checks.tsv", sep="\t")
    assert list(dict.fromkeys(table["model"])) == ["encoder", "untrained", "luminance", "contrast"]
    own, untrained = (
        table[table["model"] == name].drop(columns="model").reset_index(drop=True)
        for name in ("encoder", "untrained")
    )
    pd.testing.assert_frame_equal(untrained, own)
    record = json.loads((tmp_path / "out" / "selection.json").read_text("utf-8"))
    assert set(record["controls"]) == {"untrained", "luminance"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-g", "high PAP"], "--goal's ROI must be one of LOC, PPA; got 'PAP'. Did you mean PPA?"),
        (["-g", "loud PPA"], "--goal must be 'high ROI'"),
        (["-g", "high PPA", "--match", "hue"], "--match must be one of luminance, contrast, size"),
        (["-g", "high PPA", "--tolerance", "0.01"], "--tolerance goes with --match; got none"),
        (["-g", "alike LOC apart PPA"], "--n must be at least 2; got 1"),
    ],
)
def test_select_bad_option_is_named(
    arguments: list[str], message: str, run: Run, folders: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Bad usage ends with exit code 2, names the option as it was typed, and writes nothing."""
    assert run(*folders, *arguments, "-n", "1") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_select_too_small_a_pool_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number of images tells it: no network is needed, not even an encoder."""
    for number in range(5):
        (tmp_path / f"{number}.jpg").touch()
    arguments = ["select", str(tmp_path), "-g", "high PPA", "-n", "2", "-o", str(tmp_path / "out")]
    assert main([*arguments, "--encoder", str(tmp_path / "none.safetensors")]) == 1
    assert "at least 8 images; got 5" in capsys.readouterr().err


def test_select_command_refuses_controls_that_are_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Energy and silhouette give no number for an image; nothing is read before that is said."""
    for name in ("energy", "silhouette"):
        assert (
            main(["select", "a/", "-g", "high PPA", "-o", str(tmp_path / "out"), "--control", name])
            == 2
        )
        said = capsys.readouterr().err
        assert (
            f"--control must give one number for each image here, as luminance does; got {name}"
            in said
        )
    assert not (tmp_path / "out").exists()
