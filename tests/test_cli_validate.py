"""``imgtofmri validate`` and the studies that it reads."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer

from imgtofmri.analyses.validate import matched_patterns, read_patterns, read_study, twinset_study
from imgtofmri.bundle import Bundle
from imgtofmri.cli import main
from imgtofmri.cli.validate import validate
from imgtofmri.datasets.twinset import Twinset
from imgtofmri.encoder import Encoder, reference
from imgtofmri.encoder.prediction import Prediction
from imgtofmri.exceptions import DataError, OptionError, ShapeError

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
NAMES = [f"image{at:02d}.jpg" for at in range(12)]


def run(*arguments: object) -> object:
    """Run the command as the command line does, errors raised."""
    app = typer.Typer()
    app.command()(validate)
    return app([str(argument) for argument in arguments], standalone_mode=False)


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


def test_validate_writes_table_figures_correlations_and_record(folder: Path) -> None:
    """All results are written, and the table holds what the analysis itself gives."""
    out = folder / "out"
    code = run(
        "--predicted", folder / "predicted", "--measured", folder / "measured.tsv",
        "--roi", f"front={folder / 'front.nii.gz'}", "--leave-out", "image03.jpg",
        "--permutations", 200, "--accuracy", "-o", out, "-q",
    )  # fmt: skip
    assert code == 0
    table = pd.read_csv(out / "matched_patterns.tsv", sep="\t")
    predicted = read_patterns(folder / "predicted")
    study = read_study(
        folder / "predicted",
        folder / "measured.tsv",
        rois={"front": folder / "front.nii.gz"},
        leave_out=["image03.jpg"],
        progress=False,
    )
    assert study.categories is not None
    assert sorted(study.participants) == ["s1", "s2"]
    np.testing.assert_array_equal(study.predicted.values, predicted.values)
    expected = matched_patterns(
        study.predicted,
        study.measured,
        study.participants,
        study.rois,
        study.categories,
        study.leave_out,
        n_permutations=200,
    ).table
    assert table["name"].tolist() == ["group", "front", "face", "house", "s1", "s2"]
    numbers = ["statistic", "lower", "upper", "null_sd", "z", "p", "p_fdr", "p_max", "n_images"]
    np.testing.assert_allclose(table[numbers], expected[numbers], rtol=1e-5)
    record = json.loads((out / "validation.json").read_text())
    assert record["left_out"] == ["image03.jpg"]
    assert record["analysis"]["seed"] == 0
    assert np.load(out / "correlations.npz")["correlations"].shape == (11, 11)
    for name in ("matched_patterns.png", "matched_patterns.svg", "correlations.png"):
        assert (out / name).stat().st_size > 1000
    accuracy = pd.read_csv(out / "accuracy.tsv", sep="\t")
    assert accuracy["roi"].tolist() == ["all", "front"]
    r = nib.load(out / "accuracy_r.nii.gz")
    np.testing.assert_array_equal(r.affine, AFFINE)
    assert np.nanmean(r.get_fdata()) == pytest.approx(accuracy["mean_r"][0], abs=1e-5)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_validate_refuses_to_overwrite_and_counts_what_was_compared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Earlier results stay unless --overwrite is given; images left out are not counted."""
    out = folder / "out"
    command = (
        "--predicted", folder / "predicted", "--measured", folder / "group",
        "--leave-out", NAMES[0], "--permutations", 9, "-o", out, "-q",
    )  # fmt: skip
    run(*command)
    assert "validated 11 images" in capsys.readouterr().err
    record = (out / "validation.json").read_bytes()
    with pytest.raises(OptionError, match=r"it holds validation.json. Use --overwrite"):
        run(*command)
    assert (out / "validation.json").read_bytes() == record
    run(*command, "--overwrite")


def test_validate_folders_and_repeats_agree_with_the_table(folder: Path) -> None:
    """Participants by name=folder and repeats give the same participants and a noise ceiling."""
    out = folder / "out"
    run(
        "--predicted", folder / "predicted", "--participant", f"s1={folder / 's1'}",
        "--participant", f"s2={folder / 's2'}", "--repeat", folder / "s1",
        "--repeat", folder / "s2", "--permutations", 50, "-o", out, "-q",
    )  # fmt: skip
    table = pd.read_csv(out / "matched_patterns.tsv", sep="\t")
    assert table["level"].tolist() == ["group", "participant", "participant"]
    assert "mean_r_max" in pd.read_csv(out / "accuracy.tsv", sep="\t")
    assert (out / "accuracy_r_normalised.nii.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--measured", "m"], r"one of --stimuli, --predicted and --twinset; got 0"),
        (["--predicted", "p", "--stimuli", "s"], r"--twinset; got 2"),
        (["--predicted", "p"], r"expected measured patterns .*; got none"),
        (["--twinset", "t", "--measured", "m"], r"expected measured patterns .*; got both"),
        (["--predicted", "p", "--measured", "m", "--control", "luminance"], r"needs the images"),
        (["--stimuli", "s", "--measured", "m", "--control", "noise"], r"control must be one of"),
        (["--predicted", "p", "--participant", "s1"], r"--participant must be NAME=PATH.*'s1'"),
        (["--twinset", "t", "--categories", "c"], r"brings its own .*; got --categories"),
        (
            ["--predicted", "p", "--measured", "m", "--names", "gone"],
            r"--names must be a text file",
        ),
    ],
)
def test_validate_bad_usage_is_named_before_anything_is_read(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Each contradiction in the options is one clear error, and nothing is written."""
    with pytest.raises(OptionError, match=said):
        run(*arguments, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_read_study_names_are_for_sources_without_their_own(folder: Path) -> None:
    """Names given go to 4-D files, and folders keep theirs."""
    files = sorted((folder / "group").iterdir())
    series = np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in files], axis=-1)
    nib.save(nib.Nifti1Image(series, AFFINE), folder / "group.nii.gz")
    study = read_study(folder / "predicted", folder / "group.nii.gz", names=NAMES, progress=False)
    same = read_study(folder / "predicted", folder / "group", progress=False)
    assert study.measured is not None
    assert same.measured is not None
    np.testing.assert_array_equal(study.measured.values, same.measured.values)


def test_read_study_errors_name_the_source(folder: Path) -> None:
    """No measurement, one participant from two sources, and ROIs without a place are refused."""
    with pytest.raises(DataError, match=r"needs measured patterns to compare with; got none"):
        read_study(folder / "predicted", progress=False)
    with pytest.raises(DataError, match=r"participant s1 must come from one source"):
        read_study(folder / "predicted", folder / "measured.tsv", {"s1": folder / "s1"})
    np.savez(folder / "p.npz", patterns=np.random.default_rng(0).random((12, 5)), names=NAMES)
    with pytest.raises(DataError, match=r"ROI images need a mask"):
        read_study(
            folder / "p.npz",
            folder / "p.npz",
            rois={"front": folder / "front.nii.gz"},
            progress=False,
        )


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
    )
    return twinset, prediction


def test_twinset_study_runs_the_published_analysis(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    """All four levels are tested without the training duplicate, hemispheres joined."""
    twinset, prediction = miniature(rng, tmp_path)
    study = twinset_study(twinset, prediction, progress=False)
    result = matched_patterns(
        study.predicted,
        study.measured,
        study.participants,
        study.rois,
        study.categories,
        study.leave_out,
        n_permutations=99,
        n_bootstraps=20,
    )
    table = result.table.set_index("name")
    assert len(result.names) == 155
    assert "image20.jpg" not in result.names
    categories = ["animals", "objects", "scenes", "people", "faces"]
    assert list(table.index) == ["group", "LOC", "PPA", *categories, "subj01", "subj02"]
    assert table.loc["animals", "n_images"] == 27
    assert table.loc["LOC", "n_voxels"] == prediction.mask.sum()
    assert (table["p"] == 0.01).all()


def test_twinset_study_other_grid_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    """Responses on another grid are named, unless resampling is asked for."""
    twinset, prediction = miniature(rng, tmp_path)
    volume = np.ones((4, 4, 3), np.float32)
    nib.save(nib.Nifti1Image(volume, 1.5 * AFFINE), twinset.group[5])
    with pytest.raises(ShapeError, match=r"beta_0006.nii, .*affines differ"):
        twinset_study(twinset, prediction, progress=False)


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prediction = Encoder(published_bundle).predict(photos, weights=weights, progress=False)
        noisy = prediction.group + rng.standard_normal(prediction.group.shape)
        np.savez(
            tmp_path / "m.npz",
            patterns=noisy,
            names=prediction.names,
            mask=prediction.mask,
            affine=prediction.affine,
        )
        arguments = [part for photo in photos for part in ("--stimuli", str(photo))]
        run(
            *arguments, "--measured", tmp_path / "m.npz", "--control", "untrained",
            "--control", "luminance", "--weights", weights, "--permutations", 500,
            "--accuracy", "-o", tmp_path / "out", "-q",
        )  # fmt: skip
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


def test_validate_missing_measurements_are_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt path is named, not an encoder or a network that is not there either."""
    missing = tmp_path / "betas"
    arguments = ["validate", "--stimuli", str(tmp_path), "-o", str(tmp_path / "out")]
    arguments += ["--encoder", str(tmp_path / "none.safetensors")]
    for option in (["--measured", str(missing)], ["--participant", f"one={missing}"]):
        assert main([*arguments, *option]) == 1
        assert f"at {missing}; there is none" in capsys.readouterr().err
