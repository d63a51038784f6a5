"""The commands contrast, select and rsa, as a person uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from scipy.stats import spearmanr

from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.cli.contrast import contrast, find_conditions, read_conditions, slug
from imgtofmri.cli.rsa import load_measured, rsa
from imgtofmri.cli.select import select
from imgtofmri.cli.validate import validate
from imgtofmri.encoder import reference
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.rsa import calculate_rdm
from imgtofmri.stimuli import luminance, luminance_features

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
    """One broken file gives exit code 3 and one line; the contrast is of the others."""
    (folders[0] / "broken.png").write_bytes(b"not a picture")
    out = tmp_path / "out"
    assert run("contrast", *folders, "-o", out, "--permutations", 5) == 3
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
    with pytest.raises(OptionError, match="--overwrite"):
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
def test_contrast_control_of_an_untrained_encoder_is_the_encoder(
    untrained_run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its rows and maps are the encoder's own; another seed's are not; luminance stands beside."""
    out = tmp_path / "out"
    controls = ("--control", "untrained", "--control", "untrained:1", "--control", "luminance")
    untrained_run("contrast", *folders, "-o", out, "--permutations", 19, *controls)
    stem = "dark-minus-bright"
    for kind in ("rois", "conditions"):
        tables = _split(pd.read_csv(out / f"{stem}_{kind}.tsv", sep="\t"))
        assert list(tables) == ["encoder", "untrained", "untrained:1"]
        pd.testing.assert_frame_equal(tables["untrained"], tables["encoder"])
        assert not tables["untrained:1"].equals(tables["encoder"])
    for name in ("difference", "t", "fdr1p", "maxt1p", "conjunction"):
        volumes = [
            nib.load(out / f"{stem}{model}_{name}.nii.gz").get_fdata()
            for model in ("", "_untrained", "_untrained-1")
        ]
        np.testing.assert_array_equal(volumes[1], volumes[0])
        assert name == "conjunction" or not np.array_equal(volumes[2], volumes[0])
    images = pd.read_csv(out / f"{stem}_luminance.tsv", sep="\t").set_index("property")
    means = [
        np.mean([luminance(np.asarray(Image.open(path))).mean() for path in folder.iterdir()])
        for folder in folders
    ]
    # The network's frame is resized in 8 bits, which moves a mean a little.
    assert images.loc["luminance", "difference"] == pytest.approx(means[0] - means[1], abs=0.01)
    record = json.loads((out / "contrast.json").read_text("utf-8"))
    assert record["controls"]["untrained:1"]["weights"] == "untrained (seed 1)"
    assert set(record["controls"]) == {"untrained", "untrained:1", "luminance"}
    assert (out / f"{stem}_controls.png").exists()


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
def test_select_control_of_an_untrained_encoder_is_the_encoder(
    untrained_run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its rows of the checks are the encoder's own; luminance and contrast have theirs."""
    out = tmp_path / "out"
    code = untrained_run(
        "select", *folders, "-o", out, "-g", "high PPA", "-n", 1, "--no-reference",
        "--control", "untrained", "--control", "luminance",
    )  # fmt: skip
    assert code == 0
    tables = _split(pd.read_csv(out / "checks.tsv", sep="\t"))
    assert list(tables) == ["encoder", "untrained", "luminance", "contrast"]
    pd.testing.assert_frame_equal(tables["untrained"], tables["encoder"])
    record = json.loads((out / "selection.json").read_text("utf-8"))
    assert set(record["controls"]) == {"untrained", "luminance"}


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


def test_select_too_small_a_pool_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number of images tells it: no network is needed, not even an encoder."""
    for number in range(5):
        (tmp_path / f"{number}.jpg").touch()
    arguments = ["select", str(tmp_path), "-g", "high PPA", "-n", "2", "-o", str(tmp_path / "out")]
    assert main([*arguments, "--encoder", str(tmp_path / "none.safetensors")]) == 1
    assert "at least 8 images; got 5" in capsys.readouterr().err


def test_contrast_of_folders_names_what_is_no_image(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A film and a broken link in a condition's folder are failures, not silence."""
    for folder in ("house", "face"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    (tmp_path / "face" / "film.mp4").touch()
    (tmp_path / "face" / "gone.jpg").symlink_to("nowhere")
    sources, labels, failures = find_conditions([str(tmp_path / n) for n in ("house", "face")])
    assert [source.name for source in sources] == ["house__a.jpg", "face__a.jpg"]
    assert labels == ["house", "face"]
    said = " ".join(str(failure.error) for failure in failures)
    assert "gone.jpg', a link" in said
    assert "film.mp4', a movie" in said
