"""``imgtofmri validate`` and the comparisons that it reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgtofmri.analyses.validate import (
    Comparison,
    encoding_accuracy,
    matched_patterns,
    read_comparison,
    save_validation,
    twinset_comparison,
)
from imgtofmri.analyses.validate.lines import describe_validation
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.datasets.twinset import Twinset
from imgtofmri.encoder import Encoder, Prediction, reference
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.files import sha256_of
from imgtofmri.measured.sources import read_patterns

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
NAMES = [f"image{at:02d}.jpg" for at in range(12)]

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")


def run(*arguments: object) -> int:
    """Run the command and return its exit code."""
    return main(["validate", *map(str, arguments), "--quiet"])


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write predictions, a group, two participants (also as a table), an ROI and categories."""
    true = rng.standard_normal((12, 4, 4, 3))
    for who, noise in {"predicted": 0.0, "group": 0.5, "s1": 1.0, "s2": 1.0}.items():
        (tmp_path / who).mkdir()
        for name, volume in zip(NAMES, true, strict=True):
            values = (volume + noise * rng.standard_normal(volume.shape)).astype(np.float32)
            nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / who / f"{name}.nii.gz")
    roi = np.zeros((4, 4, 3), np.uint8)
    roi[:2] = 1
    nib.save(nib.Nifti1Image(roi, AFFINE), tmp_path / "front.nii.gz")
    lines = ["name\tfile\tparticipant\tcategory"]
    for who in ("group", "s1", "s2"):
        lines += [
            f"{name}\t{who}/{name}.nii.gz\t{who}\t{('face', 'house')[at % 2]}"
            for at, name in enumerate(NAMES)
        ]
    (tmp_path / "measured.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("mask", "roi", "fits"),
    [
        ("space-MNI152NLin6Asym_mask", "sub-1_space-T1w_roi", False),
        ("space-fsnative_mask", "sub-1_space-T1w_roi", False),
        ("space-MNI152NLin6Asym_mask", "space-MNI152NLin2009cAsym_roi", True),
    ],
)
def test_validate_images_of_another_space_are_refused(
    folder: Path, mask: str, roi: str, fits: bool
) -> None:
    """Resampling brings an image to another grid, and not from one space to another."""
    whole = np.ones((4, 4, 3), np.uint8)
    nib.save(nib.Nifti1Image(whole, AFFINE), folder / f"{mask}.nii.gz")
    shutil.copy(folder / "front.nii.gz", folder / f"{roi}.nii.gz")

    def compare() -> Comparison:
        return read_comparison(
            folder / "predicted",
            folder / "group",
            rois={"front": folder / f"{roi}.nii.gz"},
            mask=folder / f"{mask}.nii.gz",
            resample=True,
            progress=False,
        )

    if fits:
        assert list(compare().rois) == ["front"]
    else:
        with pytest.raises(DataError, match=r"_roi.nii.gz must lie in .*got T1w, by its name"):
            compare()


def test_measured_table_of_two_categories_for_an_image_is_refused(folder: Path) -> None:
    """The last one does not win."""
    text = (folder / "measured.tsv").read_text().rstrip()
    assert text.endswith("house")
    (folder / "measured.tsv").write_text(text.removesuffix("house") + "face\n")
    with pytest.raises(DataError, match=r"one category for each image; got 'house' and 'face' for"):
        read_comparison(folder / "predicted", folder / "measured.tsv", progress=False)


@pytest.mark.parametrize("given", [True, False])
def test_validate_names_serve_archives_without_names(folder: Path, given: bool) -> None:
    """What the message tells to give is used."""
    volumes = [nib.load(folder / "group" / f"{name}.nii.gz").get_fdata() for name in NAMES]
    np.savez(
        folder / "group.npz",
        patterns=np.stack(volumes).reshape(12, -1).astype(np.float32),
        names=np.arange(12),
        mask=np.ones((4, 4, 3), bool),
        affine=AFFINE,
    )
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    more = ("--names", folder / "names.txt") if given else ()
    code = run(
        "--predicted", folder / "predicted", "--measured", folder / "group.npz", *more,
        "--permutations", 50, "--no-report", "-o", folder / "out",
    )  # fmt: skip
    assert code == (0 if given else 1)


def test_validate_writes_table_figures_correlations_and_record(folder: Path) -> None:
    """All results are written, and they are those that Python gives and writes."""
    out = folder / "out"
    code = run(
        "--predicted", folder / "predicted", "--measured", folder / "measured.tsv",
        "--roi-mask", f"front={folder / 'front.nii.gz'}", "--leave-out", "image03.jpg",
        "--permutations", 200, "--accuracy", "-o", out,
    )  # fmt: skip
    assert code == 0
    table = pd.read_csv(out / "matched_patterns.tsv", sep="\t")
    comparison = read_comparison(
        folder / "predicted",
        folder / "measured.tsv",
        rois={"front": folder / "front.nii.gz"},
        leave_out=["image03.jpg"],
        progress=False,
    )
    assert comparison.categories is not None
    assert sorted(comparison.participants) == ["s1", "s2"]
    predicted = read_patterns(folder / "predicted")
    np.testing.assert_array_equal(comparison.predicted.values, predicted.values)
    matched = matched_patterns(comparison, n_permutations=200)
    assert table["name"].tolist() == ["group", "front", "face", "house", "s1", "s2"]
    numbers = ["statistic", "lower", "upper", "null_sd", "z", "p", "p_fdr", "p_max", "n_images"]
    np.testing.assert_allclose(table[numbers], matched.table[numbers], rtol=1e-5)
    assert np.load(out / "correlations.npz")["correlations"].shape == (11, 11)
    for name in ("matched_patterns.png", "matched_patterns.svg", "correlations.png"):
        assert (out / name).stat().st_size > 1000
    accuracy = pd.read_csv(out / "accuracy.tsv", sep="\t")
    assert accuracy["roi"].tolist() == ["all", "front"]
    r = nib.load(out / "accuracy_r.nii.gz")
    np.testing.assert_array_equal(r.affine, AFFINE)
    assert np.nanmean(r.get_fdata()) == pytest.approx(accuracy["mean_r"][0], abs=1e-5)
    scored = encoding_accuracy(comparison, n_permutations=200)
    files = save_validation(matched, folder / "python", scored)
    written = {path.name for path in files} | {"report.html"}
    assert written == {path.name for path in out.iterdir()}
    for path in files:
        # The record holds the time, and an archive that of its members.
        if path.suffix in (".tsv", ".gz", ".svg", ".png"):
            assert path.read_bytes() == (out / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_validate_records_what_was_compared_and_how(folder: Path) -> None:
    """Digests tell every file that was read and written; settings, versions and time are there."""
    out = folder / "out"
    front = folder / "front.nii.gz"
    run(
        "--predicted", folder / "predicted", "--measured", folder / "measured.tsv",
        "--roi-mask", f"front={front}", "--brain-mask", front, "--leave-out", "image03.jpg",
        "--permutations", 9, "--seed", 3, "--exchange", "all", "-o", out,
    )  # fmt: skip
    record = json.loads((out / "validation.json").read_text())
    assert (record["command"], record["state"]) == ("validate", "complete")
    assert {"numpy", "scipy"} <= set(record["versions"])
    assert record["written"] >= record["started"]
    settings = record["settings"]
    assert settings["left_out"] == ["image03.jpg"]
    assert settings["participants"] == ["s1", "s2"]
    assert settings["rois"] == ["front"]
    assert len(settings["images"]) == 11
    assert settings["matched_patterns"]["n_permutations"] == 9
    assert settings["matched_patterns"]["seed"] == 3
    assert settings["matched_patterns"]["exchange"] == "all"
    assert "encoding_accuracy" not in settings
    measured = {Path(entry["path"]): entry["sha256"] for entry in record["measured"]}
    volumes = [path for who in ("group", "s1", "s2") for path in (folder / who).iterdir()]
    assert measured == {p: sha256_of(p) for p in [front, folder / "measured.tsv", *volumes]}
    predicted = {Path(entry["path"]): entry["sha256"] for entry in record["inputs"]}
    assert predicted == {path: sha256_of(path) for path in (folder / "predicted").iterdir()}
    for entry in record["outputs"]:
        assert entry["sha256"] == sha256_of(out / entry["file"])
    named = {"validation.json", "report.html", *(entry["file"] for entry in record["outputs"])}
    assert {path.name for path in out.iterdir()} == named


@pytest.mark.slow
def test_validate_refuses_to_overwrite_and_counts_what_was_compared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Earlier results stay unless --overwrite is given; images left out are not counted."""
    out = folder / "out"
    command = (
        "--predicted", folder / "predicted", "--measured", folder / "group",
        "--leave-out", NAMES[0], "--permutations", 9, "-o", out,
    )  # fmt: skip
    assert run(*command) == 0
    assert "validated 11 images" in capsys.readouterr().err
    record = (out / "validation.json").read_bytes()
    assert run(*command) == 2
    assert "it holds validation.json. Use --overwrite" in capsys.readouterr().err
    assert (out / "validation.json").read_bytes() == record
    assert run(*command, "--overwrite") == 0


@pytest.mark.slow
def test_validate_folders_and_repeats_agree_with_the_table(folder: Path) -> None:
    """Participants by name=folder and repeats give the same participants and a noise ceiling."""
    out = folder / "out"
    code = run(
        "--predicted", folder / "predicted", "--participant", f"s1={folder / 's1'}",
        "--participant", f"s2={folder / 's2'}", "--repeat", folder / "s1",
        "--repeat", folder / "s2", "--permutations", 50, "-o", out,
    )  # fmt: skip
    assert code == 0
    table = pd.read_csv(out / "matched_patterns.tsv", sep="\t")
    assert table["level"].tolist() == ["group", "participant", "participant"]
    assert "explained" in pd.read_csv(out / "accuracy.tsv", sep="\t")
    assert (out / "accuracy_r_normalised.nii.gz").exists()


@pytest.mark.slow
def test_validate_prints_its_result_and_explains_every_column(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row of each table is a line, and each column of each table has its meaning beside it."""
    out = folder / "out"
    code = run(
        "--predicted", folder / "predicted", "--measured", folder / "measured.tsv",
        "--roi-mask", f"front={folder / 'front.nii.gz'}", "--repeat", folder / "s1",
        "--repeat", folder / "s2", "--permutations", 200, "--roi-means", "-o", out,
    )  # fmt: skip
    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["matched_patterns", "roi_means", "roi_means_images", "accuracy", "accuracy_voxels"]
    tables = {name: pd.read_csv(out / f"{name}.tsv", sep="\t") for name in names}
    for name, table in tables.items():
        said = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        assert list(said) == list(table.columns), name
        assert all(len(each["Description"]) > 5 for each in said.values())
    accuracy = tables["accuracy"]
    matched, means = tables["matched_patterns"]["statistic"], tables["roi_means"]["r"]
    shown = [*matched, *means, *accuracy["mean_r"]]
    rows = [line for line in lines if line.startswith("  ")]
    assert len(rows) == len(shown) == 6 + 1 + 2
    for row, value in zip(rows, shown, strict=True):
        assert f" {value:+.3f} (" in row
    titles = [line.split(",")[0] for line in lines if not line.startswith("  ")]
    assert titles == ["matched patterns", "ROI means", "voxels"]
    assert f"explains {accuracy['explained'][0]:.0%} (" in rows[-2]
    # What is predicted is what was measured, but for noise.
    assert accuracy["explained"].tolist() == pytest.approx([1, 1], abs=0.1)
    assert (accuracy["explained_lower"] < 1).all()
    assert (accuracy["explained_upper"] > 1).all()
    assert (out / "roi_means.png").stat().st_size > 1000
    record = json.loads((out / "validation.json").read_text())
    assert record["settings"]["roi_means"]["n_permutations"] == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--measured", "m"], "one of --stimuli, --predicted and --twinset; got 0"),
        (["--predicted", "p", "--stimuli", "s"], "--twinset; got 2"),
        (["--predicted", "p"], "--participant or --repeat) or --twinset; got none"),
        (
            ["--twinset", "t", "--measured", "m"],
            "--participant or --repeat) or --twinset; got both",
        ),
        (
            ["--predicted", "p", "--measured", "m", "--control", "luminance"],
            "--control luminance needs the images; got --predicted. Give --stimuli",
        ),
        (
            ["--predicted", "p", "--measured", "m", "--average", "mean"],
            "--average says how images are predicted; got predictions in files (--predicted)",
        ),
        (["--predicted", "p", "--measured", "m", "--rois", "PPA"], "--rois says how images are"),
        (["--predicted", "p", "--measured", "m", "--encoder", "e"], "--encoder says how images"),
        (["--stimuli", "s", "--measured", "m", "--control", "noise"], "--control must be one of"),
        (["--exchange", "rows"], "--exchange must be one of category, all; got 'rows'"),
        (["--ceiling", "split"], "--ceiling must be one of signal-power"),
        (["--ceiling", "split-half"], "--ceiling split-half needs repeated measurements; got none"),
        (["--predicted", "p", "--repeat", "r"], "--repeat must be given twice or more; got one"),
        (["--missing", "skip"], "--missing must be one of error, drop; got 'skip'"),
        (["--unmatched", "skip"], "--unmatched must be one of error, drop; got 'skip'"),
        (["--predicted", "p", "--participant", "s1"], "--participant must be NAME=PATH"),
        (["--predicted", "p", "-m", "m", "--roi-mask", "a"], "--roi-mask must be NAME=PATH"),
        (
            ["--twinset", "t", "--roi-mask", "a=b"],
            "brings its own images, categories and ROIs; got",
        ),
        (["--twinset", "t", "--categories", "c"], "got --categories, too"),
        (["--predicted", "p", "--measured", "m", "--names", "gone"], "--names must be a text file"),
    ],
)
def test_validate_bad_usage_is_named_before_anything_is_read(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each contradiction in the options is one clear line and exit code 2; nothing is written."""
    assert run(*arguments, "-o", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--leave-out", "image"], 2, "must be one of image00.jpg"),
        (["--measured", "{folder}/empty"], 1, "found none"),
        (["--measured", "{folder}/other.nii.gz"], 1, "other.nii.gz"),
        (["--brain-mask", "{folder}/measured.tsv"], 1, "measured.tsv"),
        (["--roi-mask", "front={folder}/other.nii.gz"], 1, "other.nii.gz"),
        (["--permutations", "0"], 2, "--permutations"),
    ],
)
def test_validate_tells_bad_usage_from_bad_data(
    folder: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that is none ends with 2, data that cannot be used with 1; no record is left."""
    (folder / "empty").mkdir()
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), AFFINE), folder / "other.nii.gz")
    common = ["--predicted", folder / "predicted", "--repeat", folder / "s1"]
    common += ["--repeat", folder / "s2"]
    changes = [word.format(folder=folder) for word in arguments]
    assert run(*common, *changes, "-o", folder / "out") == code
    assert said in capsys.readouterr().err
    assert not (folder / "out" / "validation.json").exists()


def test_validate_missing_measurements_are_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt path is named, not an encoder or a network that is not there either."""
    missing = tmp_path / "betas"
    arguments = ["--stimuli", tmp_path, "-o", tmp_path / "out"]
    arguments += ["--encoder", tmp_path / "none.safetensors"]
    for option in (["--measured", missing], ["--participant", f"one={missing}"]):
        assert run(*arguments, *option) == 1
        assert f"{missing}: expected a file or folder; there is none" in capsys.readouterr().err


def test_read_comparison_names_are_for_sources_without_their_own(folder: Path) -> None:
    """Names given go to 4-D files, and folders keep theirs."""
    files = sorted((folder / "group").iterdir())
    series = np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in files], axis=-1)
    nib.save(nib.Nifti1Image(series, AFFINE), folder / "group.nii.gz")
    predicted = folder / "predicted"
    read = read_comparison(predicted, folder / "group.nii.gz", names=NAMES, progress=False)
    same = read_comparison(predicted, folder / "group", progress=False)
    assert read.measured is not None
    assert same.measured is not None
    np.testing.assert_array_equal(read.measured.values, same.measured.values)
    assert read.measured_files == (folder / "group.nii.gz",)
    assert set(same.measured_files) == set(files)


def test_read_comparison_errors_name_the_source(folder: Path) -> None:
    """No measurement, one participant from two sources, and ROIs without a place are refused."""
    with pytest.raises(DataError, match=r"^expected measured patterns .*; got none"):
        read_comparison(folder / "predicted", progress=False)
    with pytest.raises(DataError, match=r"^participant s1 must come from one source"):
        read_comparison(folder / "predicted", folder / "measured.tsv", {"s1": folder / "s1"})
    np.savez(folder / "p.npz", patterns=np.random.default_rng(0).random((12, 5)), names=NAMES)
    with pytest.raises(DataError, match=r"^ROI images need a mask"):
        read_comparison(
            folder / "p.npz",
            folder / "p.npz",
            rois={"front": folder / "front.nii.gz"},
            progress=False,
        )


@pytest.mark.slow
def test_save_validation_says_the_coverage_of_its_intervals(folder: Path) -> None:
    """Intervals of 80 % are not called such of 95 %, in sidecars and in lines."""
    comparison = read_comparison(folder / "predicted", folder / "group", progress=False)
    matched = matched_patterns(comparison, n_permutations=20, level=0.8)
    scored = encoding_accuracy(comparison, n_permutations=20, level=0.8)
    files = save_validation(matched, folder / "out", scored)
    said = [path.read_text("utf-8") for path in files if path.suffix == ".json"]
    assert sum("80 %" in text for text in said) == 2
    lines = "\n".join(describe_validation(matched, scored))
    assert lines.count("80 % over images") == 2
    assert "95 %" not in "".join(said) + lines


@pytest.mark.slow
def test_save_validation_refuses_an_earlier_run(folder: Path) -> None:
    """From Python, too, results stay unless it is said to replace them."""
    comparison = read_comparison(folder / "predicted", folder / "group", progress=False)
    matched = matched_patterns(comparison, n_permutations=9, n_bootstraps=9)
    save_validation(matched, folder / "out")
    with pytest.raises(OptionError, match=r"it holds validation.json. Use `overwrite`"):
        save_validation(matched, folder / "out")
    save_validation(matched, folder / "out", overwrite=True)


def miniature(rng: np.random.Generator, folder: Path) -> tuple[Twinset, Prediction]:
    """Make the twinset's files with two participants, and a prediction that knows the images."""
    mask = np.zeros((4, 4, 3), bool)
    mask[1:3] = True
    true = rng.standard_normal((156, int(mask.sum()))).astype(np.float32)
    files = {}
    for who, noise in {"avgs": 0.5, "subj01": 1.0, "subj02": 1.0}.items():
        (folder / who).mkdir(parents=True)
        paths = []
        for number, row in enumerate(true, 1):
            volume = np.zeros(mask.shape, np.float32)
            volume[mask] = row + noise * rng.standard_normal(row.size)
            paths.append(folder / who / f"beta_{number:04d}.nii")
            nib.save(nib.Nifti1Image(volume, AFFINE), paths[-1])
        files[who] = tuple(paths)
    stimuli = tuple(folder / f"image{number}.jpg" for number in range(1, 157))
    twinset = Twinset(stimuli, files.pop("avgs"), files)
    halves = np.arange(int(mask.sum())) < 10
    prediction = Prediction(
        group=true,
        subjects=true[None],
        mask=mask,
        affine=AFFINE,
        names=twinset.names,
        roi_masks={("LOC", "L"): halves, ("LOC", "R"): ~halves, ("PPA", "L"): halves},
        subject_names=("CSI1",),
        native=(true,),
        own_rois=({("LOC", "L"): np.flatnonzero(halves)},),
        coverage=np.ones((1, true.shape[1]), np.float32),
    )
    return twinset, prediction


@pytest.mark.slow
def test_twinset_comparison_runs_the_published_analysis(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    """All four levels are tested without the training duplicate, hemispheres joined."""
    twinset, prediction = miniature(rng, tmp_path)
    comparison = twinset_comparison(twinset, prediction, progress=False)
    result = matched_patterns(comparison, n_permutations=99, n_bootstraps=20)
    table = result.table.set_index("name")
    assert len(result.names) == 155
    assert "image20.jpg" not in result.names
    categories = ["animals", "objects", "scenes", "people", "faces"]
    assert list(table.index) == ["group", "LOC", "PPA", *categories, "subj01", "subj02"]
    assert table.loc["animals", "n_images"] == 27
    assert table.loc["LOC", "n_voxels"] == prediction.mask.sum()
    assert (table["p"] == 0.01).all()
    assert len(comparison.measured_files) == 3 * 156
    fewer = twinset_comparison(twinset, prediction, ["image7.jpg"], progress=False)
    assert fewer.leave_out == ("image20.jpg", "image7.jpg")


def test_twinset_comparison_other_grid_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    """Responses on another grid are named, unless resampling is asked for."""
    twinset, prediction = miniature(rng, tmp_path)
    volume = np.ones((4, 4, 3), np.float32)
    nib.save(nib.Nifti1Image(volume, 1.5 * AFFINE), twinset.group[5])
    with pytest.raises(ShapeError, match=r"beta_0006.nii, .*affines differ"):
        twinset_comparison(twinset, prediction, progress=False)


@pytest.fixture
def untrained(
    rng: np.random.Generator, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> list[Any]:
    """Return options for an encoder of an untrained network, pictures and noisy measurements."""
    small = make_bundle(rng)
    weights = {"name": "untrained (seed 0)", "seed": 0, "verified": False}
    bundle = replace(
        small, card=small.card | {"features": small.card["features"] | {"weights": weights}}
    )
    write_bundle(bundle, tmp_path / "untrained.safetensors")
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        pixels = rng.integers(0, 100 + 20 * number, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    prediction = Encoder(bundle).predict(tmp_path / "pictures", progress=False)
    np.savez(
        tmp_path / "m.npz",
        patterns=prediction.group + rng.normal(size=prediction.group.shape),
        names=prediction.names,
        mask=prediction.mask,
        affine=prediction.affine,
    )
    options = ["--encoder", tmp_path / "untrained.safetensors", "--measured", tmp_path / "m.npz"]
    return ["--stimuli", tmp_path / "pictures", *options]


@pytest.mark.slow
def test_validate_control_of_an_untrained_encoder_is_the_encoder(
    untrained: list[Any], tmp_path: Path
) -> None:
    """Both tables repeat the encoder's rows, and --permutations counts for every test."""
    out = tmp_path / "out"
    names = ["untrained", "untrained:1", "luminance", "energy"]
    controls = [part for name in names for part in ("--control", name)]
    assert run(*untrained, *controls, "--accuracy", "--permutations", 30, "-o", out) == 0
    for kind in ("matched_patterns", "accuracy"):
        table = pd.read_csv(out / f"{kind}.tsv", sep="\t")
        tables = {
            model: rows.drop(columns="model").reset_index(drop=True)
            for model, rows in table.groupby("model", sort=False)
        }
        assert list(tables) == ["encoder", *names]
        pd.testing.assert_frame_equal(tables["untrained"], tables["encoder"])
        assert not tables["untrained:1"].equals(tables["encoder"])
        counts = table["p"].dropna() * 31
        np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
        assert not tables["energy"].equals(tables["luminance"])
    assert tables["luminance"]["p"].isna().all()
    record = json.loads((out / "validation.json").read_text("utf-8"))
    for analysis in ("matched_patterns", "encoding_accuracy"):
        assert record["settings"][analysis]["n_permutations"] == 30
    assert record["controls"]["untrained"]["weights"] == "untrained (seed 0)"
    assert list(record["controls"]) == names
    assert record["prediction"]["weights"] == "untrained (seed 0)"
    pictures = {Path(entry["path"]): entry["sha256"] for entry in record["inputs"]}
    assert pictures == {path: sha256_of(path) for path in (tmp_path / "pictures").iterdir()}


@pytest.mark.slow
@pytest.mark.network
def test_validate_real_encoder_finds_its_own_noisy_predictions_and_controls_do_worse(
    published_bundle: Bundle,
    test_data: Path,
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Measured = predicted + noise is found; the untrained network is far below."""
    monkeypatch.setattr(reference, "reference_bundle", lambda _: published_bundle)
    photos = sorted((test_data / "photos").glob("*_000?.jpg"))[:20]
    weights = test_data / "standin" / "resnet18_standin.safetensors"
    prediction = Encoder(published_bundle).predict(photos, weights=weights, progress=False)
    noisy = prediction.group + rng.standard_normal(prediction.group.shape)
    np.savez(
        tmp_path / "m.npz",
        patterns=noisy,
        names=prediction.names,
        mask=prediction.mask,
        affine=prediction.affine,
    )
    arguments = [part for photo in photos for part in ("--stimuli", photo)]
    code = run(
        *arguments, "--measured", tmp_path / "m.npz", "--control", "untrained",
        "--control", "luminance", "--weights", weights, "--permutations", 500,
        "--accuracy", "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0
    table = pd.read_csv(tmp_path / "out" / "matched_patterns.tsv", sep="\t")
    group = table[table["level"] == "group"].set_index("model")
    assert group.loc["encoder", "p"] == pytest.approx(1 / 501, rel=1e-3)
    assert group.loc["untrained", "statistic"] < group.loc["encoder", "statistic"] / 2
    assert set(table["model"]) == {"encoder", "untrained", "luminance"}
    accuracy = pd.read_csv(tmp_path / "out" / "accuracy.tsv", sep="\t")
    mean_r = accuracy[accuracy["roi"] == "all"].set_index("model")["mean_r"]
    assert list(mean_r.index) == ["encoder", "untrained", "luminance"]
    assert mean_r["encoder"] > mean_r[["untrained", "luminance"]].max() + 0.2
    rois = table[(table["level"] == "roi") & (table["model"] == "encoder")]["name"].tolist()
    assert rois == ["EarlyVis", "OPA", "LOC", "RSC", "PPA"]
