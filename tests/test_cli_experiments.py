"""The commands contrast, select and rsa, as a person uses them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from scipy.stats import spearmanr

from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli.contrast import contrast
from imgtofmri.cli.rsa import load_measured, rsa
from imgtofmri.cli.select import select
from imgtofmri.cli.validate import validate
from imgtofmri.encoder import reference
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.rsa import calculate_rdm
from imgtofmri.stimuli import luminance_features

Run = Callable[..., int]


@pytest.fixture
def folders(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Return folders of four dark and four bright noisy pictures."""
    pair = (tmp_path / "dark", tmp_path / "bright")
    for folder, offset in zip(pair, (0, 128), strict=True):
        folder.mkdir()
        for number in range(4):
            pixels = rng.integers(offset, offset + 100, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{folder.name}{number}.png")
    return pair


@pytest.fixture
def run(published_bundle: Bundle, random_weights: Path, tmp_path: Path) -> Run:
    """Return a function that runs a command on an encoder that can be had anywhere."""
    encoder = tmp_path / "encoder.safetensors"
    write_bundle(published_bundle, encoder)
    app = typer.Typer()
    for command in (contrast, select, rsa, validate):
        app.command()(command)

    def call(*arguments: object) -> int:
        common = ["--encoder", str(encoder), "--weights", str(random_weights), "--quiet"]
        result = app([*map(str, arguments), *common], standalone_mode=False)
        return int(result or 0)

    return call


pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")


@pytest.mark.network
def test_rsa_models_match_themselves(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Measured matrices that are one ROI's model, but for noise, are won by that ROI."""
    models_out, out = tmp_path / "models", tmp_path / "out"
    assert run("rsa", *folders, "-o", models_out) == 0
    with np.load(models_out / "models.npz") as archive:
        names, conditions = archive["names"].tolist(), archive["conditions"]
        vector = archive["dissimilarities"][names.index("PPA")]
    noise = 1e-6 * vector.std() * np.random.default_rng(0).normal(size=(4, vector.size))
    stems = [str(name).removesuffix(".png") for name in conditions]
    np.savez(tmp_path / "m.npz", rdms=vector + noise, conditions=stems)
    measured = f"PPA={tmp_path / 'm.npz'}"
    assert run("rsa", *folders, "-o", out, "-m", measured, "--permutations", 99) == 0
    table = pd.read_csv(out / "rsa.tsv", sep="\t").set_index("roi")
    assert table["mean"].idxmax() == "PPA"
    assert table.loc["PPA", "mean"] > 0.99
    assert table.loc["PPA", "p_max"] == pytest.approx(0.01)
    assert len(pd.read_csv(out / "subjects.tsv", sep="\t")) == 4 * len(reference.ROIS)
    assert (out / "comparison_PPA.svg").exists()
    code = run("rsa", *folders, "-o", tmp_path / "third", "-m", measured, "--in-order")
    assert code == 0


@pytest.mark.network
def test_rsa_of_two_images_is_refused(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Two images have one distance, which says nothing about a geometry."""
    pair = sorted(folders[0].iterdir())[:2]
    with pytest.raises(DataError, match="a geometry needs at least 3 images; got dark0.png, d"):
        run("rsa", *pair, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda p: load_measured([f"A={p / 'm.npy'}", f"A={p / 'm.npy'}"]),
            OptionError,
            "'A' twice",
        ),
    ],
)
def test_experiments_bad_input_names_the_item(
    call: Callable[[Path], Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    """Each refusal says what was expected and which item is at fault."""
    np.save(tmp_path / "m.npy", np.ones((1, 3)))
    with pytest.raises(error, match=re.escape(message)):
        call(tmp_path)


@pytest.fixture
def untrained_run(published_bundle: Bundle, tmp_path: Path) -> Run:
    """Return a function that runs a command on an encoder whose own network is untrained."""
    features = published_bundle.card["features"]
    weights = {"name": "untrained (seed 0)", "verified": False}
    card = {**published_bundle.card, "features": {**features, "weights": weights}}
    encoder = tmp_path / "untrained.safetensors"
    write_bundle(replace(published_bundle, card=card), encoder)
    app = typer.Typer()
    for command in (contrast, select, rsa, validate):
        app.command()(command)

    def call(*arguments: object) -> int:
        common = ["--encoder", str(encoder), "--quiet"]
        return int(app([*map(str, arguments), *common], standalone_mode=False) or 0)

    return call


def _split(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each model's rows of a table."""
    return {
        str(model): rows.drop(columns="model").reset_index(drop=True)
        for model, rows in table.groupby("model", sort=False)
    }


@pytest.mark.network
def test_rsa_control_of_an_untrained_encoder_is_the_encoder(
    untrained_run: Run, folders: tuple[Path, Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    """Rows are the encoder's own and differ from it by 0; luminance is one model, by hand."""
    out = tmp_path / "out"
    frames = [luminance_features([path])[1][0] for folder in folders
              for path in sorted(folder.iterdir())]  # fmt: skip
    stems = [path.stem for folder in folders for path in sorted(folder.iterdir())]
    np.savez(tmp_path / "m.npz", rdms=rng.random((4, 28)), conditions=stems)
    controls = ("--control", "untrained", "--control", "luminance")
    common = ("-m", tmp_path / "m.npz", "--permutations", 99, *controls)
    assert untrained_run("rsa", *folders, "-o", out, *common) == 0
    tables = _split(pd.read_csv(out / "rsa.tsv", sep="\t"))
    assert list(tables) == ["encoder", "untrained", "luminance"]
    pd.testing.assert_frame_equal(tables["untrained"], tables["encoder"])
    assert tables["luminance"]["roi"].isna().tolist() == [True]
    with np.load(tmp_path / "m.npz") as archive:
        subjects = archive["rdms"]
    own = calculate_rdm(np.array(frames))
    expected = np.mean([spearmanr(own, subject).statistic for subject in subjects])
    assert tables["luminance"]["mean"][0] == pytest.approx(expected, abs=1e-5)
    pairs = pd.read_csv(out / "pairs.tsv", sep="\t")
    against = pairs[pairs["model_b"] == "untrained"]
    assert (against["roi_a"] == against["roi_b"]).all()
    np.testing.assert_allclose(against["difference"], 0.0, atol=1e-12)
    assert (pairs["model_b"] == "luminance").sum() == len(reference.ROIS)
    assert len(pd.read_csv(out / "subjects.tsv", sep="\t")) == 4 * (2 * len(reference.ROIS) + 1)
    with np.load(out / "models.npz") as archive:
        assert archive["names"].tolist()[-2:] == ["PPA untrained", "luminance"]
        np.testing.assert_allclose(archive["dissimilarities"][-1], own)


@pytest.mark.network
@pytest.mark.parametrize("command", ["contrast", "select", "rsa", "validate"])
def test_controls_unknown_are_refused_before_anything_is_read(command: str, tmp_path: Path) -> None:
    """A control that is none is named with those there are, and nothing is written."""
    app = typer.Typer()
    for one in (contrast, select, rsa, validate):
        app.command()(one)
    inputs = ["--stimuli", "a", "--measured", "b"] if command == "validate" else ["a", "b"]
    goal = ["-g", "high PPA"] if command == "select" else []
    common = [command, *inputs, *goal, "-o", str(tmp_path / "out")]
    with pytest.raises(OptionError, match=r"control must be one of untrained, .*'no"):
        app([*common, "--control", "noise"], standalone_mode=False)
    with pytest.raises(OptionError, match="'untrained:SEED', with a whole number; got 'untrained:"):
        app([*common, "--control", "untrained:one"], standalone_mode=False)
    assert not (tmp_path / "out").exists()
