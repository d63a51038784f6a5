"""The commands contrast, select and rsa, as a person uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image

from imgtofmri import reference
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli.contrast import contrast, find_conditions, read_conditions, slug
from imgtofmri.cli.rsa import load_measured, rsa
from imgtofmri.cli.select import select
from imgtofmri.cli.validate import validate
from imgtofmri.exceptions import DataError, OptionError, OutputError

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
def test_contrast_writes_maps_tables_figure_and_record(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Each file is there, maps agree with each other, and the record says what was contrasted."""
    out = tmp_path / "out"
    assert run("contrast", *folders, "-o", out, "--permutations", 19) == 0
    stem = "dark-minus-bright"
    maps = ("difference", "t", "fdr1p", "maxt1p", "conjunction")
    expected = {"contrast.json", f"{stem}.png", f"{stem}.svg", f"{stem}_rois.tsv"}
    expected |= {f"{stem}_conditions.tsv", *(f"{stem}_{name}.nii.gz" for name in maps)}
    assert {path.name for path in out.iterdir()} == expected
    volumes = {name: nib.load(out / f"{stem}_{name}.nii.gz").get_fdata() for name in maps}
    assert volumes["t"].shape == (91, 109, 91)
    np.testing.assert_array_equal(np.sign(volumes["t"]), np.sign(volumes["difference"]))
    assert ((volumes["maxt1p"] >= 0) & (volumes["maxt1p"] < 1)).all()
    table = pd.read_csv(out / f"{stem}_rois.tsv", sep="\t")
    assert set(table["roi"]) == set(reference.ROIS)
    record = json.loads((out / "contrast.json").read_text("utf-8"))
    assert record["conditions"] == {"dark": 4, "bright": 4}
    assert record["settings"]["average"] == "mean"
    assert len(record["inputs"]) == 8
    assert all(entry["sha256"] for entry in record["inputs"])


@pytest.mark.network
def test_contrast_bad_image_is_named_and_the_rest_is_done(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One broken file gives exit code 1 and one line; the contrast is of the others."""
    (folders[0] / "broken.png").write_bytes(b"not a picture")
    out = tmp_path / "out"
    assert run("contrast", *folders, "-o", out, "--permutations", 5) == 1
    assert "broken.png" in capsys.readouterr().err
    record = json.loads((out / "contrast.json").read_text("utf-8"))
    assert record["conditions"] == {"dark": 4, "bright": 4}
    assert record["failed"][0]["name"] == "broken.png"


@pytest.mark.network
def test_contrast_refuses_to_overwrite(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Earlier results stay unless --overwrite is given."""
    out = tmp_path / "out"
    assert run("contrast", *folders, "-o", out, "--permutations", 5) == 0
    with pytest.raises(OutputError, match="--overwrite"):
        run("contrast", *folders, "-o", out, "--permutations", 5)
    assert run("contrast", *folders, "-o", out, "--permutations", 5, "--overwrite") == 0


@pytest.mark.network
def test_select_writes_sets_checks_and_events(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """The events name files that exist below the folder that the record names."""
    out = tmp_path / "out"
    goals = ("-g", "high PPA", "-g", "LOC over PPA")
    code = run("select", *folders, "-o", out, *goals, "-n", 1, "--repeats", 2, "--no-reference")
    assert code == 0
    names = {"selection.tsv", "checks.tsv", "matching.tsv", "events.tsv", "selection.json"}
    assert {path.name for path in out.iterdir()} == names | {
        "contact-sheet.png",
        "checks.png",
        "checks.svg",
    }
    events = pd.read_csv(out / "events.tsv", sep="\t")
    record = json.loads((out / "selection.json").read_text("utf-8"))
    folder = Path(record["stimulus_folder"])
    assert all((folder / name).is_file() for name in events["stim_file"])
    assert set(events["trial_type"]) == {"PPA-high", "LOC-over-PPA"}
    assert len(events) == 4
    checks = pd.read_csv(out / "checks.tsv", sep="\t")
    assert set(checks["tested_on"]) == {"all", *reference.SUBJECTS}


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
    table = pd.read_csv(out / "rsa.tsv", sep="\t").set_index("model")
    assert table["mean"].idxmax() == "PPA"
    assert table.loc["PPA", "mean"] > 0.99
    assert table.loc["PPA", "p_max"] == pytest.approx(0.01)
    assert len(pd.read_csv(out / "subjects.tsv", sep="\t")) == 4 * len(reference.ROIS)
    assert (out / "comparison_PPA.svg").exists()
    code = run("rsa", *folders, "-o", tmp_path / "third", "-m", measured, "--in-order")
    assert code == 0
    stimuli = [word for folder in folders for word in ("--stimuli", folder)]
    assert run("validate", *stimuli, "--rsa", measured, "-o", tmp_path / "validation") == 0
    again = pd.read_csv(tmp_path / "validation" / "rsa" / "rsa.tsv", sep="\t").set_index("model")
    pd.testing.assert_series_equal(again["mean"], table["mean"])


def test_find_conditions_table_equals_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A table with the same conditions gives the same images and conditions as folders."""
    sources, conditions, _ = find_conditions([str(folder) for folder in folders])
    table = pd.DataFrame(
        {
            "stim_file": [str(source.path.relative_to(tmp_path)) for source in sources],
            "condition": conditions,
        }
    )
    table.to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    again, same, failures = find_conditions([str(tmp_path / "stimuli.tsv")])
    assert [source.path for source in again] == [source.path for source in sources]
    assert (same, failures) == (conditions, [])


def test_slug_keeps_contrasts_apart() -> None:
    """Different contrasts of the same conditions get different file names."""
    texts = ("a - b", "b - a", "a > b", "a > b + c", "a - 0.5*b - 0.5*c")
    assert len({slug(text) for text in texts}) == len(texts)
    assert all(re.fullmatch(r"[\w.-]+", slug(text)) for text in texts)


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stimuli.tsv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: find_conditions([str(p)]), OptionError, "two folders or more"),
        (lambda p: find_conditions([str(p / "a"), str(p / "b" / "a")]), OptionError, "'a' twice"),
        (
            lambda p: read_conditions(_table(p, "stim_file\tkind\na.png\tx\n")),
            DataError,
            "Name the column condition",
        ),
        (
            lambda p: read_conditions(_table(p, "stim_file\tcondition\na.png\tx\nb.png\t\n")),
            DataError,
            "row 3 has none",
        ),
        (
            lambda p: read_conditions(_table(p, "stim_file\tcondition\na.png\tx\na.png\ty\n")),
            DataError,
            "'a.png' twice",
        ),
        (lambda p: read_conditions(p / "none.tsv"), DataError, "none.tsv must be a table"),
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
    for name in ("a", "b/a"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "one.png")
    np.save(tmp_path / "m.npy", np.ones((1, 3)))
    with pytest.raises(error, match=re.escape(message)):
        call(tmp_path)
