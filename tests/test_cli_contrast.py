"""The command contrast, as a person uses it."""

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
from PIL import Image

from imgtofmri.analyses.contrast import find_conditions, read_conditions
from imgtofmri.analyses.contrast.files import check_distinct_files, slug
from imgtofmri.cli import main
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.stimuli import luminance

Run = Callable[..., int]

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

STEM = "dark-minus-bright"
MAPS = ("difference", "t", "fdr1p", "maxt1p", "conjunction")


@pytest.fixture
def folders(dark_and_bright: Callable[[int], tuple[Path, Path]]) -> tuple[Path, Path]:
    """Return two folders of three noisy pictures each."""
    return dark_and_bright(3)


@pytest.fixture
def run(small_encoder: Path, random_weights: Path) -> Run:
    """Return a function that runs the command with a small encoder and gives its exit code."""

    def call(*arguments: object, weights: object = random_weights) -> int:
        common = ("--encoder", small_encoder, "--weights", weights, "--quiet", "--permutations", 9)
        return main([str(word) for word in ("contrast", *arguments, *common)])

    return call


def test_contrast_writes_maps_tables_figure_and_record(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file is there, one line tells each ROI, and the record says what was contrasted."""
    out = tmp_path / "out"
    assert run(*folders, "-o", out, "--rois", "PPA") == 0
    expected = {"contrast.json", "report.html", f"{STEM}.png", f"{STEM}.svg", f"{STEM}_rois.tsv"}
    expected |= {f"{STEM}_conditions.tsv", *(f"{STEM}_{name}.nii.gz" for name in MAPS)}
    assert {path.name for path in out.iterdir()} == expected
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "dark - bright  (images: dark 3, bright 3)"
    assert printed[1].startswith("  PPA        difference ")
    record = json.loads((out / "contrast.json").read_text("utf-8"))
    assert record["settings"]["conditions"] == {"dark": 3, "bright": 3}
    assert record["prediction"]["average"] == "mean"
    assert record["prediction"]["rois"] == ["PPA"]
    assert record["state"] == "complete"
    assert len(record["inputs"]) == 6
    assert all(entry["sha256"] for entry in record["inputs"])


@pytest.mark.slow
def test_contrast_bad_image_is_named_and_the_rest_is_done(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One broken file gives exit code 3 and one line; the contrast is of the others."""
    (folders[0] / "broken.png").write_bytes(b"not a picture")
    out = tmp_path / "out"
    assert run(*folders, "-o", out, "--control", "luminance") == 3
    assert "broken.png" in capsys.readouterr().err
    record = json.loads((out / "contrast.json").read_text("utf-8"))
    assert record["settings"]["conditions"] == {"dark": 3, "bright": 3}
    assert record["failures"][0]["name"] == "broken.png"
    assert record["state"] == "partial"


@pytest.mark.slow
def test_contrast_of_an_earlier_run_stays_without_overwrite(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results that are there are refused with exit code 2, and replaced with --overwrite."""
    (tmp_path / "out").mkdir()
    record = tmp_path / "out" / "contrast.json"
    record.write_text("{}")
    assert run(*folders, "-o", tmp_path / "out") == 2
    assert "Use --overwrite to do all again" in capsys.readouterr().err
    assert record.read_text() == "{}"
    assert run(*folders, "-o", tmp_path / "out", "--overwrite") == 0
    assert "complete" in record.read_text("utf-8")


@pytest.mark.slow
def test_contrast_control_of_an_untrained_encoder_is_the_encoder(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its rows and maps are the encoder's own; another seed's are not; luminance stands beside."""
    out = tmp_path / "out"
    controls = ("--control", "untrained", "--control", "untrained:1", "--control", "luminance")
    assert run(*folders, "-o", out, *controls, weights="untrained") == 0
    for kind in ("rois", "conditions"):
        table = pd.read_csv(out / f"{STEM}_{kind}.tsv", sep="\t")
        assert list(dict.fromkeys(table["model"])) == ["encoder", "untrained", "untrained:1"]
        tables = {
            name: rows.drop(columns="model").reset_index(drop=True)
            for name, rows in table.groupby("model")
        }
        pd.testing.assert_frame_equal(tables["untrained"], tables["encoder"])
        assert not tables["untrained:1"].equals(tables["encoder"])
    for name in MAPS:
        volumes = [
            nib.load(out / f"{STEM}{model}_{name}.nii.gz").get_fdata()
            for model in ("", "_untrained", "_untrained-1")
        ]
        np.testing.assert_array_equal(volumes[1], volumes[0])
        assert name == "conjunction" or not np.array_equal(volumes[2], volumes[0])
    images = pd.read_csv(out / f"{STEM}_luminance.tsv", sep="\t").set_index("property")
    means = [
        np.mean([luminance(np.asarray(Image.open(path))).mean() for path in folder.iterdir()])
        for folder in folders
    ]
    # The network's frame is resized in 8 bits, which moves a mean a little.
    assert images.loc["luminance", "difference"] == pytest.approx(means[0] - means[1], abs=0.01)
    record = json.loads((out / "contrast.json").read_text("utf-8"))
    assert record["controls"]["untrained:1"]["weights"] == "untrained (seed 1)"
    assert set(record["controls"]) == {"untrained", "untrained:1", "luminance"}
    assert (out / f"{STEM}_controls.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "dark"], "--contrast must have weights that sum to 0; got 1"),
        (["-c", "dark - day"], "a condition of --contrast must be one of dark, bright; got 'day'"),
        (["--threshold", "p"], "--threshold must be one of p_max, p_fdr, conjunction, none; got"),
        (["--control", "noise"], "--control must be one of untrained, "),
    ],
)
def test_contrast_bad_option_is_named_before_anything_is_loaded(
    arguments: list[str], message: str, folders: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Bad usage ends with exit code 2 and names the option; not even an encoder is needed."""
    common = ["-o", str(tmp_path / "out"), "--encoder", str(tmp_path / "none.safetensors")]
    assert main(["contrast", *map(str, folders), *arguments, *common]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_find_conditions_table_equals_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A table with the same conditions gives the same images and conditions as folders."""
    images, conditions, _ = find_conditions(folders)
    table = pd.DataFrame(
        {
            "stim_file": [str(image.path.relative_to(tmp_path)) for image in images],
            "condition": [conditions[image.name] for image in images],
        }
    )
    table.to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    again, same, failures = find_conditions([tmp_path / "stimuli.tsv"])
    assert [image.path for image in again] == [image.path for image in images]
    assert (same, failures) == (conditions, [])
    assert conditions == {
        f"{of}{number}.png": of for of in ("dark", "bright") for number in (0, 1, 2)
    }


def test_find_conditions_names_what_is_no_image(tmp_path: Path) -> None:
    """A film and a broken link in a condition's folder are failures, not silence."""
    for folder in ("house", "face"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    (tmp_path / "face" / "film.mp4").touch()
    (tmp_path / "face" / "gone.jpg").symlink_to("nowhere")
    images, conditions, failures = find_conditions([tmp_path / name for name in ("house", "face")])
    assert [image.name for image in images] == ["house__a.jpg", "face__a.jpg"]
    assert conditions == {"house__a.jpg": "house", "face__a.jpg": "face"}
    said = " ".join(str(failure.error) for failure in failures)
    assert "gone.jpg', a link" in said
    assert "film.mp4', a movie" in said


def test_slug_keeps_contrasts_apart() -> None:
    """Different contrasts of the same conditions get different file names."""
    texts = ("a - b", "b - a", "a > b", "a > b + c", "a - 0.5*b - 0.5*c")
    assert len({slug(text) for text in texts}) == len(texts)
    assert all(re.fullmatch(r"[\w.-]+", slug(text)) for text in texts)


def _table(folder: Path, *rows: str) -> Path:
    path = folder / "stimuli.tsv"
    path.write_text("\n".join(["stim_file\tcondition", *rows, ""]))
    return path


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: find_conditions([p]), OptionError, "expected two folders or more"),
        (lambda p: find_conditions([p / "a", p / "b" / "a"]), OptionError, "got 'a' twice"),
        (
            lambda p: find_conditions([_table(p, "a/one.png\tx", "b/a\ty")]),
            DataError,
            "one image in each row; got a folder or pattern that",
        ),
        (
            lambda p: read_conditions(_table(p, "a.png\tx", "b.png\t")),
            DataError,
            "line 3: expected",
        ),
        (
            lambda p: read_conditions(_table(p, "a.png\tx", "a.png\ty")),
            DataError,
            "'a.png' twice",
        ),
        (
            lambda p: read_conditions(_table(p, "a/one.png\tx", "./a/one.png\ty")),
            DataError,
            "got './a/one.png' twice, the first time as 'a/one.png'",
        ),
        (
            lambda p: find_conditions([p / "a", p / "linked"]),
            DataError,
            "expected an image of one condition; got one of 'a' and of 'linked'",
        ),
        (
            lambda p: check_distinct_files(["a b - c", "c - d", "a-b - c"]),
            OptionError,
            "'a b - c' and 'a-b - c' would share a-b-minus-c_t.nii.gz",
        ),
        (lambda p: check_distinct_files(["a - b", "a - b"]), OptionError, "files of their own"),
        (lambda p: read_conditions(p / "none.tsv"), DataError, "none.tsv: "),
        (lambda p: read_conditions(p / "kind.tsv"), DataError, "must have a column condition"),
    ],
)
def test_conditions_bad_input_names_the_item(
    call: Callable[[Path], Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    """Each refusal says what was expected and which item is at fault."""
    for name in ("a", "b/a"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "one.png")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "two.png").symlink_to(tmp_path / "a" / "one.png")
    (tmp_path / "kind.tsv").write_text("stim_file\tkind\na.png\tx\n")
    with pytest.raises(error, match=re.escape(message)):
        call(tmp_path)


def test_contrast_command_refuses_controls_that_are_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Energy and silhouette give no number for an image; nothing is read before that is said."""
    for name in ("energy", "silhouette"):
        assert main(["contrast", "a/", "b/", "-o", str(tmp_path / "out"), "--control", name]) == 2
        said = capsys.readouterr().err
        assert (
            f"--control must give one number for each image here, as luminance does; got {name}"
            in said
        )
    assert not (tmp_path / "out").exists()
