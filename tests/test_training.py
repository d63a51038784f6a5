"""Studies with planted truth, from files to a bundle that predicts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import typer
import zarr
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from typer.testing import CliRunner

from imgtofmri.backbones import UnverifiedWeightsWarning
from imgtofmri.bundle import Bundle, RoiModel, SubjectModel, read_bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.cli.fit import fit as fit_command
from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.encoder.description import accuracy_lines, card_lines
from imgtofmri.exceptions import AssetError, DataError, OptionError, OutputError, ShapeError
from imgtofmri.spaces import MNI152_2MM, affine_map, map_to_template
from imgtofmri.training import check_files, fetch_downloads, fit_study, layer_search
from imgtofmri.training.study import read_study
from imgtofmri.training.subjects import template_grid

N_FEATURES = 12
FNIRT = '"fnirt", anatomical = "LOC_left.nii.gz"'
MNI = "MNI152NLin6Asym"
SHAPE = (12, 14, 10)
AFFINE = np.array([[-3.0, 0, 0, 18], [0, 3, 0, -21], [0, 0, 3, -12], [0, 0, 0, 1]])


def save_mask(path: Path, voxels: npt.ArrayLike, shape: tuple[int, ...] = SHAPE) -> None:
    """Write a mask of flat voxel indices."""
    mask = np.zeros(np.prod(shape), np.uint8)
    mask[np.asarray(voxels)] = 1
    nib.save(nib.Nifti1Image(mask.reshape(shape), AFFINE), path)


class Planted:
    """A study on disk whose weights, noise and repeats are known."""

    def __init__(
        self,
        folder: Path,
        *,
        n_stimuli: int = 400,
        n_repeats: int = 3,
        n_subjects: int = 2,
        noise_variance: float = 8.0,
        seed: int = 5,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.folder = folder
        self.n_repeats = n_repeats
        self.noise_variance = noise_variance
        self.voxels = {
            "LOC": (np.arange(300, 340), np.arange(500, 530)),
            "PPA": (np.arange(700, 720), np.arange(820, 850)),
        }
        for roi, hemis in self.voxels.items():
            for hemi, voxels in zip(("left", "right"), hemis, strict=True):
                save_mask(folder / f"{roi}_{hemi}.nii.gz", voxels)
        self.features = rng.standard_normal((n_stimuli, N_FEATURES)).astype(np.float32)
        np.save(folder / "features.npy", self.features)
        shown = np.repeat(np.arange(n_stimuli), n_repeats)
        self.shown = rng.permutation(shown) if n_repeats > 1 else shown
        # Features of a file follow the order of first appearance.
        first = self.shown[np.sort(np.unique(self.shown, return_index=True)[1])]
        self.order = first
        np.save(folder / "features.npy", self.features[first])
        lines = ["stimulus", *(f"image{number:04d}" for number in self.shown)]
        (folder / "stimuli.tsv").write_text("\n".join(lines) + "\n")
        self.weights: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
        self.responses: dict[tuple[str, str], npt.NDArray[np.float32]] = {}
        self.names = [f"S{number + 1}" for number in range(n_subjects)]
        for name in self.names:
            for roi, hemis in self.voxels.items():
                n_voxels = sum(map(len, hemis))
                weights = rng.standard_normal((N_FEATURES, n_voxels))
                noise = noise_variance**0.5 * rng.standard_normal((len(shown), n_voxels))
                values = (self.features[self.shown] @ weights + 2.0 + noise).astype(np.float32)
                self.weights[name, roi] = weights
                self.responses[name, roi] = values
                np.save(folder / f"{name}_{roi}.npy", values)
        self.study = folder / "study.toml"
        self.study.write_text(self.text())

    def text(self, fit: str = "", extra: str = "") -> str:
        """Return the study file."""
        subjects = "".join(f'\n[[subjects]]\nname = "{name}"\n' for name in self.names)
        rois = "".join(
            f'[subject.rois.{roi}]\nleft = "{roi}_left.nii.gz"\nright = "{roi}_right.nii.gz"\n'
            f'responses = "{{name}}_{roi}.npy"\n'
            for roi in self.voxels
        )
        return f"""
id = "planted"
title = "A study with known answers"
licence = "CC0"
citation = ["Nobody (2020)"]
[template]
grid = "LOC_left.nii.gz"
space = "MNI152NLin2009cAsym"
[stimuli]
table = "stimuli.tsv"
features = "features.npy"
[backbone]
name = "mynet"
layers = ["pool"]
[fit]
alphas = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
{fit}
[subject]
transform = {{ kind = "same" }}
{rois}
{extra}
{subjects}
"""

    def write(self, fit: str = "", extra: str = "", **changes: str) -> Path:
        """Write the study file with other settings."""
        text = self.text(fit, extra)
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        self.study.write_text(text)
        return self.study


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Return a study of two subjects, 400 stimuli shown three times each."""
    return Planted(tmp_path_factory.mktemp("planted"))


def test_fit_study_recovers_planted_weights_and_ceiling(planted: Planted) -> None:
    """Weights, intercept, penalty, noise ceiling and accuracy are those that were planted."""
    bundle = fit_study(planted.write(), progress=False)
    mean_noise = planted.noise_variance / planted.n_repeats
    for subject in bundle.subjects:
        for roi, model in subject.rois.items():
            truth = planted.weights[subject.name, roi]
            # Weights of independent unit features have standard error sqrt(noise / n).
            error = model.weights - truth
            assert np.sqrt(np.mean(error**2)) < 1.15 * np.sqrt(mean_noise / 400)
            assert np.abs(model.intercept - 2.0).mean() < 2 * np.sqrt(mean_noise / 400)
            signal = (truth**2).sum(axis=0)
            ceiling = np.sqrt(signal / (signal + mean_noise))
            np.testing.assert_allclose(model.extras["noise_ceiling"], ceiling, atol=0.05)
            assert abs(np.mean(model.extras["noise_ceiling"] - ceiling)) < 0.005
            np.testing.assert_allclose(model.extras["cv_r"], ceiling, atol=0.09)
            assert abs(np.mean(model.extras["cv_r"] - ceiling)) < 0.01
            variance = model.extras["residual_variance"]
            assert np.mean(variance) == pytest.approx(mean_noise, rel=0.08)
            # The best penalty is noise variance over weight variance: 8 / 3; 1 and 10 are nearest.
            assert set(model.extras["alpha"].tolist()) <= {1.0, 10.0}
            assert model.voxels.tolist() == [*planted.voxels[roi][0], *planted.voxels[roi][1]]
            assert np.bincount(model.hemi).tolist() == [len(part) for part in planted.voxels[roi]]


def test_fit_study_separate_repeats_scores_single_presentations(planted: Planted) -> None:
    """Fitted on single presentations, accuracy and ceiling are those of single presentations."""
    bundle = fit_study(planted.write('repeats = "separate"\nseed = 3'), progress=False)
    model = bundle.subjects[0].rois["LOC"]
    signal = (planted.weights["S1", "LOC"] ** 2).sum(axis=0)
    ceiling = np.sqrt(signal / (signal + planted.noise_variance))
    assert abs(np.mean(model.extras["noise_ceiling"] - ceiling)) < 0.01
    assert abs(np.mean(model.extras["cv_r"] - ceiling)) < 0.015
    assert np.mean(model.extras["residual_variance"]) == pytest.approx(8.0, rel=0.08)


def test_fit_study_random_features_score_zero(planted: Planted, tmp_path: Path) -> None:
    """Features that know nothing of the stimuli score 0, whatever the noise ceiling."""
    study = planted.write(
        **{'features = "features.npy"': f'features = "{tmp_path / "random.npy"}"'}
    )
    rng = np.random.default_rng(0)
    np.save(tmp_path / "random.npy", rng.standard_normal((400, N_FEATURES)))
    bundle = fit_study(study, progress=False)
    r = np.concatenate([m.extras["cv_r"] for s in bundle.subjects for m in s.rois.values()])
    # 240 correlations of standard error 0.05 that share 400 rows.
    assert abs(r.mean()) < 0.02
    assert bundle.subjects[0].rois["LOC"].extras["noise_ceiling"].mean() > 0.8


def test_fit_study_bundle_predicts_after_a_round_trip(planted: Planted, tmp_path: Path) -> None:
    """A written bundle predicts what the planted weights give, on the study's own grid."""
    write_bundle(fit_study(planted.write(), progress=False), tmp_path / "b.safetensors")
    encoder = load_encoder(tmp_path / "b.safetensors")
    assert encoder.bundle.space == "MNI152NLin2009cAsym"
    assert encoder.subjects == ("S1", "S2")
    prediction = encoder.predict_features(planted.features[:5], sigma_mm=2.0, average="mean")
    assert prediction.mask.shape == SHAPE
    assert prediction.group.shape == (5, int(prediction.mask.sum()))
    native = encoder.predict_native(planted.features, "PPA", "S2")
    truth = planted.features @ planted.weights["S2", "PPA"] + 2.0
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(native.T, truth.T, strict=True)]) > 0.99
    card = json.loads(json.dumps(encoder.card))
    assert card["fit"]["data"]["S1"]["n_stimuli"] == 400
    assert card["fit"]["data"]["S1"]["folds"] == [80] * 5
    assert card["fit"]["settings"]["alpha"] == "shared"
    assert set(card["fit"]["versions"]) == {"imgtofmri", "numpy", "python", "scipy"}
    assert len(card["fit"]["files"]["S1_LOC.npy"]) == 64
    assert card["fit"]["models"]["S2"]["PPA"]["n_voxels"] == 50


@pytest.mark.parametrize("n_subjects", [1, 10])
def test_fit_study_any_number_of_subjects_predicts(tmp_path: Path, n_subjects: int) -> None:
    """One subject or ten make an encoder alike."""
    planted = Planted(tmp_path, n_stimuli=60, n_repeats=1, n_subjects=n_subjects)
    encoder = Encoder(fit_study(planted.study, progress=False))
    prediction = encoder.predict_features(planted.features[:3])
    assert prediction.subjects.shape[:2] == (n_subjects, 3)
    np.testing.assert_allclose(prediction.group.std(axis=1), 1.0, rtol=1e-4)
    assert "noise_ceiling" not in encoder.bundle.subjects[0].rois["LOC"].extras


@pytest.mark.parametrize(
    ("space", "shape", "voxel_mm", "origin"),
    [
        ("MNI152NLin6Asym", (91, 109, 91), 2.0, (-90, -126, -72)),
        ("MNI152NLin6Asym", (61, 73, 61), 3.0, (-90, -126, -72)),
        ("MNI152NLin2009cAsym", (97, 115, 97), 2.0, (-96, -132, -78)),
    ],
)
def test_fit_study_any_template_grid_predicts_and_describes(
    tmp_path: Path,
    space: str,
    shape: tuple[int, int, int],
    voxel_mm: float,
    origin: tuple[int, int, int],
) -> None:
    """Encoders on other grids and in other spaces predict on them and say so."""
    planted = Planted(tmp_path, n_stimuli=40, n_repeats=1, n_subjects=1)
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = origin
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), affine), tmp_path / "grid.nii.gz")
    study = planted.write(
        **{'grid = "LOC_left.nii.gz"': 'grid = "grid.nii.gz"', "MNI152NLin2009cAsym": space}
    )
    bundle = fit_study(study, progress=False)
    write_bundle(bundle, tmp_path / "b.safetensors")
    encoder = load_encoder(tmp_path / "b.safetensors")
    image = encoder.predict_features(planted.features[:2]).to_img()
    assert image.shape[:3] == shape
    np.testing.assert_array_equal(image.affine, affine)
    described = "\n".join(card_lines(encoder.bundle))
    assert space in described
    assert " x ".join(map(str, shape)) in described
    assert "held-out stimuli" in described


def test_fit_study_per_voxel_penalties_equal_grid_search(planted: Planted) -> None:
    """With alpha = per_voxel a voxel's weights are those of its own grid search."""
    study = planted.write('alpha = "per_voxel"\nrepeats = "separate"\nnested = false')
    bundle = fit_study(study, progress=False)
    means = np.array(
        [
            planted.responses["S1", "LOC"][planted.shown == stimulus].mean(axis=0)
            for stimulus in planted.order
        ]
    )
    averaged = fit_study(planted.write('alpha = "per_voxel"\nnested = false'), progress=False)
    alphas = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    for voxel in (0, 41, 69):
        search = GridSearchCV(Ridge(), {"alpha": alphas})
        search.fit(planted.features[planted.order], means[:, voxel])
        model = averaged.subjects[0].rois["LOC"]
        assert model.extras["alpha"][voxel] == np.float32(search.best_params_["alpha"])
        np.testing.assert_allclose(model.weights[:, voxel], search.best_estimator_.coef_, atol=1e-4)
    assert bundle.subjects[0].rois["LOC"].n_voxels == 70


def test_fit_study_layers_by_roi_use_their_features_alone(planted: Planted) -> None:
    """A ROI with layers of its own has weights for these, in their place among the features."""
    study = planted.write(
        **{
            'layers = ["pool"]': 'layers = ["early", "late"]\nlayer_widths = [5, 7]',
            'left = "PPA_left.nii.gz"': 'layers = ["late"]\nleft = "PPA_left.nii.gz"',
        }
    )
    bundle = fit_study(study, progress=False)
    models = bundle.subjects[0].rois
    assert (models["LOC"].first_feature, models["LOC"].n_features) == (0, 12)
    assert (models["PPA"].first_feature, models["PPA"].n_features) == (5, 7)
    assert models["PPA"].extras["cv_r"].mean() < models["LOC"].extras["cv_r"].mean()
    assert bundle.features_id == "mynet/early+late"
    Encoder(bundle).predict_features(planted.features[:2])


def test_fit_study_banded_tells_the_useful_layer(planted: Planted, tmp_path: Path) -> None:
    """Banded ridge does better than plain ridge where one layer is noise."""
    rng = np.random.default_rng(1)
    noise = 3.0 * rng.standard_normal((400, 60))
    np.save(tmp_path / "both.npy", np.hstack([planted.features[planted.order], noise]))
    both = {
        'features = "features.npy"': f'features = "{tmp_path / "both.npy"}"',
        'layers = ["pool"]': 'layers = ["good", "noise"]\nlayer_widths = [12, 60]',
    }
    plain = fit_study(planted.write(**both), progress=False)
    banded = fit_study(
        planted.write('banded = true\nband_candidates = 8\nalpha = "per_voxel"', **both),
        progress=False,
    )
    r = [b.subjects[0].rois["LOC"].extras["cv_r"].mean() for b in (plain, banded)]
    assert r[1] > r[0]
    assert "banded" in banded.card["model"]


def test_fit_study_responses_in_image_mask_array_and_rows_agree(
    planted: Planted, tmp_path: Path
) -> None:
    """A 4-D image, an array over a mask, and arrays by ROI give the same models."""
    everywhere = np.sort(np.concatenate([np.concatenate(v) for v in planted.voxels.values()]))
    image = np.zeros((len(planted.shown), np.prod(SHAPE)), np.float32)
    for roi, hemis in planted.voxels.items():
        image[:, np.concatenate(hemis)] = planted.responses["S1", roi]
    nib.save(
        nib.Nifti1Image(image.T.reshape(*SHAPE, -1), AFFINE), planted.folder / "S1_betas.nii.gz"
    )
    save_mask(planted.folder / "brain.nii.gz", everywhere)
    np.savez(planted.folder / "S1_all.npz", betas=image[:, everywhere].T)
    no_rows = {f'responses = "{{name}}_{roi}.npy"\n': "" for roi in planted.voxels}
    only_one = {'\n[[subjects]]\nname = "S2"\n': ""}
    transform = 'transform = { kind = "same" }\n'
    expected = fit_study(planted.write(**only_one), progress=False).subjects[0].rois["PPA"]
    for line in (
        'responses = "{name}_betas.nii.gz"\n',
        'mask = "brain.nii.gz"\n'
        'responses = { file = "{name}_all.npz", key = "betas", transposed = true }\n',
    ):
        study = planted.write(**no_rows, **only_one, **{transform: transform + line})
        model = fit_study(study, progress=False).subjects[0].rois["PPA"]
        np.testing.assert_allclose(model.weights, expected.weights, atol=1e-6)
        assert model.voxels.tolist() == expected.voxels.tolist()


def test_fit_study_geometry_of_a_bundle_replaces_masks(planted: Planted, tmp_path: Path) -> None:
    """ROIs, grid and transform can be taken from an existing bundle."""
    first = fit_study(planted.write(), progress=False)
    write_bundle(first, planted.folder / "first.safetensors")
    masks = {
        f'left = "{roi}_left.nii.gz"\nright = "{roi}_right.nii.gz"\n': "" for roi in planted.voxels
    }
    transform = 'transform = { kind = "same" }'
    geometry = f'geometry = "{planted.folder / "first.safetensors"}"'
    second = fit_study(planted.write(**masks, **{transform: geometry}), progress=False)
    for one, two in zip(first.subjects, second.subjects, strict=True):
        np.testing.assert_array_equal(one.to_template.template, two.to_template.template)
        np.testing.assert_array_equal(one.rois["LOC"].weights, two.rois["LOC"].weights)
    renamed = tuple(replace(subject, name=f"X{subject.name}") for subject in first.subjects)
    write_bundle(replace(first, subjects=renamed), planted.folder / "first.safetensors")
    with pytest.raises(OptionError, match=r"the subject must be one of XS1, XS2; got 'S1'"):
        fit_study(planted.study, progress=False)


def test_fit_study_bad_voxels_are_named_or_dropped(planted: Planted) -> None:
    """NaN and constant voxels are named with subject and ROI; drop leaves them out."""
    broken = planted.responses["S2", "PPA"].copy()
    broken[7, 3] = np.nan
    broken[:, 30] = 1.5
    np.save(planted.folder / "S2_PPA.npy", broken)
    try:
        with pytest.raises(DataError, match=r"S2 PPA: .*1 of 50 are not finite \(voxels 3\)"):
            fit_study(planted.write(), progress=False)
        study = planted.write('invalid_voxels = "drop"')
        model = fit_study(study, progress=False).subjects[1].rois["PPA"]
    finally:
        np.save(planted.folder / "S2_PPA.npy", planted.responses["S2", "PPA"])
    voxels = np.concatenate(planted.voxels["PPA"])
    assert model.voxels.tolist() == np.delete(voxels, [3, 30]).tolist()
    assert np.isfinite(model.weights).all()


def test_fit_study_rows_of_0_everywhere_are_refused(planted: Planted) -> None:
    """Trials that were censored, which AFNI writes as 0, are no responses."""
    try:
        for roi in planted.voxels:
            values = planted.responses["S2", roi].copy()
            values[5] = 0
            if roi == "LOC":
                values[[2, 9]] = 0
            np.save(planted.folder / f"S2_{roi}.npy", values)
        name = f"image{planted.shown[5]:04d}"
        with pytest.raises(DataError, match=rf"0 in all voxels in 1 of 1200, .* row 5 \({name}\)"):
            fit_study(planted.write(), progress=False)
    finally:
        for roi in planted.voxels:
            np.save(planted.folder / f"S2_{roi}.npy", planted.responses["S2", roi])


def test_fit_study_wrong_shapes_say_what_to_do(planted: Planted) -> None:
    """Rows or voxels that do not match are refused with the line and a remedy."""
    np.save(planted.folder / "turned.npy", planted.responses["S1", "LOC"].T)
    np.save(planted.folder / "few.npy", planted.features[:7])
    with pytest.raises(
        DataError,
        match=r"study.toml, line \d+: .*LOC must have .*\(1200, 70\); got \(70, 1200\). Set transp",
    ):
        fit_study(planted.write(**{'"{name}_LOC.npy"': '"turned.npy"'}), progress=False)
    with pytest.raises(DataError, match=r"got \(1200, 50\). Check the stimuli table"):
        fit_study(planted.write(**{'"{name}_LOC.npy"': '"{name}_PPA.npy"'}), progress=False)
    with pytest.raises(
        ShapeError, match=r"each of the 1200 rows .* its 400 stimuli .*got \(7, 12\)"
    ):
        fit_study(planted.write(**{'"features.npy"': '"few.npy"'}), progress=False)
    with pytest.raises(
        ShapeError, match=r"layer_widths must give the features of each of 2 layers"
    ):
        fit_study(planted.write(**{'["pool"]': '["a", "b"]'}), progress=False)


def test_fit_study_too_few_images_are_counted(tmp_path: Path) -> None:
    """Fewer than two stimuli for each fold are refused."""
    planted = Planted(tmp_path, n_stimuli=9, n_repeats=2)
    with pytest.raises(DataError, match=r"5 folds need at least 10 different stimuli; got 9 in 18"):
        fit_study(planted.study, progress=False)


def test_fit_study_duplicates_across_folds_are_named(tmp_path: Path) -> None:
    """A stimulus in two of the table's folds is named, even under another name."""
    planted = Planted(tmp_path, n_stimuli=40, n_repeats=1)
    rows = [f"image{number:04d}\t{number // 8}" for number in range(40)]
    (tmp_path / "stimuli.tsv").write_text("\n".join(["stimulus\tfold", *rows]))
    table = {'table = "stimuli.tsv"': 'table = "stimuli.tsv"\nfold_column = "fold"'}
    bundle = fit_study(planted.write(**table), progress=False)
    assert bundle.card["fit"]["data"]["S1"]["folds"] == [8] * 5
    planted.features[39] = planted.features[0]
    np.save(tmp_path / "features.npy", planted.features)
    with pytest.raises(DataError, match=r"S1, S2: .*'image0000' lies in '0' and '4'"):
        fit_study(planted.write(**table), progress=False)


def test_fit_study_card_tells_of_the_folds_of_a_table(tmp_path: Path) -> None:
    """The card counts folds that a table gives, and says so; the default number is none of them."""
    planted = Planted(tmp_path, n_stimuli=9, n_repeats=1, n_subjects=1)
    rows = [f"image{number:04d}\t{number // 3}" for number in range(9)]
    (tmp_path / "stimuli.tsv").write_text("\n".join(["stimulus\trun", *rows]))
    table = {'table = "stimuli.tsv"': 'table = "stimuli.tsv"\nfold_column = "run"'}
    bundle = fit_study(planted.write(**table), progress=False)
    assert bundle.card["accuracy"].endswith("over 3 folds)")
    said = bundle.card["fit"]["settings"]
    assert (said["folds"], said["fold_column"]) == (None, "run")
    lines = list(card_lines(bundle))
    assert "folds       those of the column run of the stimuli" in lines
    assert not any(line.startswith("seed") for line in lines)


def test_fit_study_folds_may_be_those_of_the_subjects_own_tables(tmp_path: Path) -> None:
    """A column of folds is one of each subject's table where these have one; else it is refused."""
    planted = Planted(tmp_path, n_stimuli=9, n_repeats=1, n_subjects=2)
    for name, step in (("S1", 3), ("S2", 2)):
        rows = [f"image{number:04d}\t{min(number // step, 3)}" for number in range(9)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["stimulus\trun", *rows]))
    own = {'table = "stimuli.tsv"': 'fold_column = "run"'}
    own["[subject]\n"] = '[subject]\ntable = "{name}.tsv"\n'
    data = fit_study(planted.write(**own), progress=False).card["fit"]["data"]
    assert (data["S1"]["folds"], data["S2"]["folds"]) == ([3, 3, 3], [2, 2, 2, 3])
    del own["[subject]\n"]
    with pytest.raises(OptionError, match=r"fold_column needs a table of every subject's rows\."):
        read_study(planted.write(**own))


@pytest.mark.parametrize("key", ["folds", "seed"])
def test_read_study_folds_to_make_beside_folds_of_a_table_are_refused(
    tmp_path: Path, key: str
) -> None:
    """What says how folds are made has no effect where a table gives them."""
    planted = Planted(tmp_path, n_stimuli=9, n_repeats=1, n_subjects=1)
    table = {'table = "stimuli.tsv"': 'table = "stimuli.tsv"\nfold_column = "run"'}
    with pytest.raises(
        OptionError, match=rf"fit\.{key} is of folds that are made; .* those of 'run'\. Leave one"
    ):
        read_study(planted.write(f"{key} = 4", **table))


def test_fit_command_writes_a_bundle_and_a_table(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command checks, fits, prints accuracy, writes, and does not overwrite unasked."""
    target = tmp_path / "out" / "encoder.safetensors"
    fit_command(planted.write(), output=target, check=True)
    assert "a valid study of 2 subjects (S1, S2)" in capsys.readouterr().out
    assert not target.exists()
    fit_command(planted.study, output=target, quiet=True)
    out = capsys.readouterr()
    assert out.err == ""
    lines = out.out.splitlines()
    assert lines[0].split() == ["subject", "roi", "voxels", "cv", "r", "ceiling", "r", "penalty"]
    assert lines[1].split()[:3] == ["S1", "LOC", "70"]
    assert lines[:-1] == accuracy_lines(read_bundle(target))
    with pytest.raises(
        OptionError, match=r"expected no file of that name.*use `overwrite` to replace"
    ):
        fit_command(planted.study, output=target, quiet=True)
    # Where it cannot be written, that is said before the data are loaded.
    broken = planted.write(**{'"features.npy"': '"LOC_left.nii.gz"'})
    with pytest.raises(OutputError, match=r"cannot write .*Choose a folder"):
        fit_command(broken, output=target / "inside" / "b.safetensors", quiet=True)


@pytest.mark.torch
def test_fit_study_engine_torch_is_on_the_card(
    torch: Any, planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A study fitted on PyTorch has the same penalties and weights, and the card says where."""
    target = tmp_path / "encoder.safetensors"
    fit_command(planted.write('engine = "torch"\ndevice = "cpu"'), output=target, quiet=True)
    bundle, plain = read_bundle(target), fit_study(planted.write(), progress=False)
    said = bundle.card["fit"]
    assert (said["settings"]["engine"], said["device"]) == ("torch", "cpu")
    assert said["versions"]["torch"] == torch.__version__
    assert "device      cpu" in list(card_lines(bundle))
    for subject, other in zip(plain.subjects, bundle.subjects, strict=True):
        for roi, model in subject.rois.items():
            fitted = other.rois[roi]
            np.testing.assert_array_equal(fitted.extras["alpha"], model.extras["alpha"])
            np.testing.assert_allclose(fitted.weights, model.weights, atol=1e-4)
    again = tmp_path / "again.safetensors"
    fit_command(planted.study, output=again, engine="torch", device="cpu", quiet=True)
    assert read_bundle(again).card["fit"]["settings"]["engine"] == "torch"
    np.testing.assert_array_equal(
        read_bundle(again).subjects[0].rois["LOC"].weights, bundle.subjects[0].rois["LOC"].weights
    )


def test_fit_command_engine_overrides_the_study(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options win over the study's engine and device, and are checked like them."""
    study = planted.write('engine = "torch"\ndevice = "cuda"')
    fit_command(study, engine="numpy", check=True)
    with pytest.raises(OptionError, match=r"^device must be left out with the engine numpy"):
        fit_command(study, engine="numpy", device="cuda", check=True)
    with pytest.raises(OptionError, match=r"^engine must be one of numpy, torch; got 'jax'"):
        fit_command(study, engine="jax", check=True)
    with pytest.raises(OptionError, match=r"^device must be left out .*got 'cpu'"):
        fit_command(planted.write(), device="cpu", check=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--network-engine", "opnvino"], "--network-engine must be one of auto, onnxruntime"),
        (
            ["--network-precision", "bf16"],
            "--network-precision of the engine onnxruntime must be one of fp32; got 'bf16'. Leave "
            "it out, or take another --network-engine: openvino.",
        ),
    ],
)
def test_fit_names_the_networks_engine_as_its_own_option(
    planted: Planted, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--engine`` of ``fit`` is what fits: no message about the network's names it."""
    assert main(["fit", str(planted.write()), *options]) == 2
    assert said in capsys.readouterr().err


def test_check_files_says_what_the_command_prints(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Python a study's file is enough, and each report is a line of ``fit --check``."""
    study = planted.write()
    fit_command(study, check=True)
    printed = capsys.readouterr().out.splitlines()[1:]
    reports = list(check_files(study))
    assert not any(report.problem for report in reports)
    assert list(dict.fromkeys(f"  {each.what}: {each.found}" for each in reports)) == printed
    broken = planted.write(**{'"features.npy"': '"LOC_left.nii.gz"'})
    assert any("LOC_left.nii.gz" in report.problem for report in check_files(broken))


def test_fit_command_is_a_typer_command_with_help(planted: Planted) -> None:
    """Options arrive where they belong, and help shows the examples."""
    app = typer.Typer(rich_markup_mode="markdown")
    app.command()(fit_command)
    runner = CliRunner()
    result = runner.invoke(app, [str(planted.write()), "--check"])
    assert result.exit_code == 0, result.output
    assert "a valid study" in result.output
    assert "imgtofmri fit study.toml --check" in runner.invoke(app, ["--help"]).output


def miniature_bold5000(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Write responses and geometry of the published layout: an object array [subject][ROI]."""
    rois, n_images = ("EarlyVis", "LOC"), 50
    features = rng.standard_normal((n_images, 8)).astype(np.float32)
    responses = np.empty((2, len(rois)), dtype=object)
    subjects = []
    for index, name in enumerate(("CSI1", "CSI2")):
        models = {}
        for column, roi in enumerate(rois):
            voxels = 400_000 + 100 * column + np.arange(6 + index + column)
            values = features @ rng.standard_normal((8, len(voxels)))
            values += 3 * rng.standard_normal(values.shape)
            values = (values - values.mean(axis=0)) / values.std(axis=0)
            responses[index, column] = [row.copy() for row in values.T.astype(np.float32)]
            models[roi] = RoiModel(
                voxels.astype(np.int32),
                np.zeros(len(voxels), np.uint8),
                np.zeros((8, len(voxels)), np.float32),
                np.zeros(len(voxels), np.float32),
            )
        to_template = affine_map(MNI152_2MM, MNI152_2MM, np.eye(4))
        subjects.append(SubjectModel(name, MNI152_2MM, to_template, models))
    card = {"id": "g", "title": "g", "licence": "g", "citation": "g", "template": {"space": MNI}}
    card["features"] = {
        "id": "resnet18/avgpool",
        "backbone": "resnet18",
        "layers": ["avgpool"],
        "n_features": 8,
    }
    write_bundle(Bundle(card, MNI152_2MM, tuple(subjects)), folder / "geometry.safetensors")
    np.save(folder / "reordered.npy", responses, allow_pickle=True)
    np.save(folder / "features.npy", features)
    names = [f"COCO/{number:03d}.jpg" for number in range(n_images)]
    (folder / "stimuli.csv").write_text("\n".join(["stimulus", *names]))
    return {"features": features, "responses": responses}


def test_fit_study_bold5000_layout_equals_grid_search(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """The layout of the published data, in small, gives what GridSearchCV(Ridge()) gives."""
    made = miniature_bold5000(tmp_path, rng)
    (tmp_path / "study.toml").write_text(
        """
id = "miniature"
title = "BOLD5000 in small"
licence = "CC0"
stimuli = { table = "stimuli.csv", features = "features.npy" }
backbone = { name = "resnet18", layers = ["avgpool"] }
fit = { alphas = { from = 10, to = 100000, count = 10 }, nested = false }
[subject]
geometry = "GEOMETRY"
[subject.rois]
EarlyVis.responses = { file = "reordered.npy", key = "{index}/0", transposed = true }
LOC.responses = { file = "reordered.npy", key = "{index}/1", transposed = true }
[[subjects]]
name = "CSI1"
[[subjects]]
name = "CSI2"
""".replace("GEOMETRY", str(tmp_path / "geometry.safetensors"))
    )
    bundle = fit_study(tmp_path / "study.toml", progress=False)
    for index, subject in enumerate(bundle.subjects):
        for column, model in enumerate(subject.rois.values()):
            responses = np.array(list(made["responses"][index, column])).T
            search = GridSearchCV(Ridge(), {"alpha": np.logspace(1, 5, 10)})
            search.fit(made["features"], responses)
            np.testing.assert_allclose(
                model.extras["alpha"], search.best_params_["alpha"], rtol=1e-6
            )
            np.testing.assert_allclose(model.weights, search.best_estimator_.coef_.T, atol=1e-4)


def test_fetch_downloads_unpacks_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Planted
) -> None:
    """A download that is in the cache is verified and unpacked once; nothing leaves its folder."""
    monkeypatch.setenv("IMGTOFMRI_CACHE", str(tmp_path))
    monkeypatch.setenv("IMGTOFMRI_OFFLINE", "1")
    archive = tmp_path / "studies" / "mini" / "stimuli.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("presented/a.jpg", b"abc")
    entry = f"""
[[downloads]]
url = "https://example.org/stimuli.zip"
file = "mini/stimuli.zip"
size = {archive.stat().st_size}
unpack = true
"""
    study = read_study(planted.write(extra=entry))
    for _ in range(2):
        assert fetch_downloads(study, progress=False) == [archive.with_suffix("")]
    assert (tmp_path / "studies/mini/stimuli/presented/a.jpg").read_bytes() == b"abc"
    archive.unlink()
    with pytest.raises(AssetError, match=r"mini/stimuli.zip of planted"):
        fetch_downloads(study, progress=False)


def test_fit_study_ceilings_of_few_repeats_are_told(tmp_path: Path) -> None:
    """One copy of a picture is a repeat, from which no noise ceiling can be had."""
    planted = Planted(tmp_path, n_stimuli=40, n_repeats=1, n_subjects=1)
    planted.features[39] = planted.features[0]
    np.save(tmp_path / "features.npy", planted.features)
    with pytest.warns(UserWarning, match=r"S1: noise ceilings need 10 repeats or more.*; got 1\."):
        fit_study(planted.study, progress=False)


def test_fit_study_given_features_keep_the_weights_they_are_of(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Predictions use the weights that the study names for its features, not the published ones."""
    planted = Planted(tmp_path, n_stimuli=20, n_repeats=1, n_subjects=1)
    network = {
        'name = "mynet"': 'name = "resnet18"\nweights = "untrained:3"',
        'layers = ["pool"]': 'layers = ["avgpool"]',
    }
    with pytest.raises(ShapeError, match=r"be those of resnet18/avgpool, \[512\] for .*got \[12\]"):
        fit_study(planted.write(**network), progress=False)
    np.save(tmp_path / "features.npy", rng.standard_normal((20, 512)))
    bundle = fit_study(planted.write(**network), progress=False)
    assert bundle.card["features"]["weights"]["seed"] == 3
    assert Encoder(bundle).extractor().network.spec.weights_seed == 3


def test_layer_search_scores_the_given_features_of_the_layers_asked_for(tmp_path: Path) -> None:
    """Of features out of a file the layers that are named are scored, and no others."""
    planted = Planted(tmp_path, n_stimuli=30, n_repeats=1, n_subjects=1)
    layers = {'layers = ["pool"]': 'layers = ["a", "b", "c"]\nlayer_widths = [2, 4, 6]'}
    study = planted.write(**layers)
    table = layer_search(study, ["c", "a"], progress=False)
    assert dict(zip(table["layer"], table["n_features"], strict=True)) == {"c": 6, "a": 2}
    with pytest.raises(OptionError, match=r"layers must be one of a, b, c; got 'pool'"):
        layer_search(study, ["a", "pool"], progress=False)


def test_fit_study_from_images_predicts_images(
    random_weights: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Pictures through a network to a bundle, and pictures through the bundle to maps."""
    folder, weights = tmp_path / "pictures", random_weights
    folder.mkdir()
    photos = [f"{number:04d}.png" for number in range(20)]
    for name in photos:
        pixels = rng.integers(0, 256, size=(9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    save_mask(tmp_path / "V1.nii.gz", range(200, 230))
    np.save(tmp_path / "S1.npy", rng.standard_normal((40, 30)))
    (tmp_path / "stimuli.tsv").write_text("\n".join(["stimulus", *photos, *photos]))
    (tmp_path / "study.toml").write_text(f"""
id = "pictures"
title = "Twenty pictures, shown twice"
licence = "CC0"
[template]
grid = "V1.nii.gz"
[stimuli]
table = "stimuli.tsv"
folder = "pictures"
[backbone]
name = "resnet18"
layers = ["layer3", "avgpool"]
weights = "{weights}"
[[subjects]]
name = "S1"
transform = {{ kind = "same" }}
[subjects.rois.V1]
mask = "V1.nii.gz"
layers = ["avgpool"]
responses = "S1.npy"
""")
    with pytest.warns(UnverifiedWeightsWarning):
        bundle = fit_study(tmp_path / "study.toml", progress=False)
    assert bundle.features_id == "resnet18/layer3+avgpool"
    model = bundle.subjects[0].rois["V1"]
    assert (model.first_feature, model.n_features) == (256, 512)
    encoder = Encoder(bundle)
    images = [folder / name for name in photos[:3]]
    with pytest.warns(UnverifiedWeightsWarning):
        prediction = encoder.predict(images, weights=weights, progress=False)
    with pytest.warns(UnverifiedWeightsWarning):
        features = encoder.features(images, weights=weights)
    np.testing.assert_allclose(
        encoder.predict_features(features).group, prediction.group, atol=1e-5
    )
    by_hand = features[:, 256:] @ model.weights + model.intercept
    np.testing.assert_allclose(encoder.predict_native(features, "V1", "S1"), by_hand, atol=1e-5)
    (tmp_path / "stimuli.tsv").write_text("\n".join(["stimulus", *photos, "gone.jpg"]))
    np.save(tmp_path / "S1.npy", rng.standard_normal((21, 30)))
    with (
        pytest.raises(DataError, match=r"1 of 21 are not there, the first is gone.jpg"),
        pytest.warns(UnverifiedWeightsWarning),
    ):
        fit_study(tmp_path / "study.toml", progress=False)


@pytest.mark.network
def test_map_to_template_fnirt_equals_the_published_encoder(
    published_wheel: Path, published_bundle: Bundle, tmp_path: Path
) -> None:
    """The transform of a study, given the published files, is the published encoder's."""
    with zipfile.ZipFile(published_wheel) as archive:
        for name in archive.namelist():
            if "/derivatives/T1/sub-CSI1" in name or "/sub1.anat/" in name:
                (tmp_path / Path(name).name).write_bytes(archive.read(name))
    subject = published_bundle.subjects[0]
    found = map_to_template(
        "fnirt",
        [tmp_path / "T1_to_MNI_nonlin_coeff.nii.gz"],
        subject.native,
        published_bundle.template,
        anatomical=next(tmp_path.glob("*T1w.nii.gz")),
        cropped=tmp_path / "T1_nonroi2roi.mat",
    )
    voxels = np.concatenate([model.voxels for model in subject.rois.values()])
    kept = found.restrict(voxels)
    np.testing.assert_array_equal(kept.template, subject.to_template.template)
    np.testing.assert_array_equal(kept.native, subject.to_template.native)


def test_studies_of_the_package_are_valid() -> None:
    """Every study file that the project ships can be read."""
    found = sorted((Path(__file__).parent.parent / "studies").iterdir())
    assert [read_study(path).id for path in found] == ["bold5000-resnet18-refit"]
    study = read_study(found[0])
    assert [roi.name for roi in study.subjects[0].rois] == ["EarlyVis", "OPA", "LOC", "RSC", "PPA"]
    assert study.fit.alphas == pytest.approx(np.logspace(1, 5, 10))


@pytest.mark.parametrize(
    ("space", "other", "shape", "voxel_mm", "origin"),
    [
        ("MNI152NLin6Asym", "MNI152NLin2009cAsym", (97, 115, 97), 2.0, (-96, -132, -78)),
        ("MNI152NLin6Asym", "MNI152NLin2009cAsym", (193, 229, 193), 1.0, (-96, -132, -78)),
        ("MNI152NLin2009cAsym", "MNI152NLin6Asym", (91, 109, 91), -2.0, (90, -126, -72)),
        ("MNI152NLin2009cAsym", "MNI152NLin6Asym", (61, 73, 61), 3.0, (-90, -126, -72)),
    ],
)
def test_template_grid_of_another_space_is_warned_of(
    planted: Planted,
    space: str,
    other: str,
    shape: tuple[int, int, int],
    voxel_mm: float,
    origin: tuple[int, int, int],
) -> None:
    """A grid with the size and place of the other usual template is probably mislabelled."""
    affine = np.diag([voxel_mm, abs(voxel_mm), abs(voxel_mm), 1.0])
    affine[:3, 3] = origin
    data = np.broadcast_to(np.zeros(1, np.uint8), shape)
    nib.save(nib.Nifti1Image(data, affine), planted.folder / "grid.nii.gz")
    names = {'grid = "LOC_left.nii.gz"': 'grid = "grid.nii.gz"'}
    right = read_study(planted.write(**names, MNI152NLin2009cAsym=other))
    assert template_grid(right).shape == shape
    wrong = read_study(planted.write(**names, MNI152NLin2009cAsym=space))
    with pytest.warns(UserWarning, match=rf"and place of {other}, but template.space says {space}"):
        template_grid(wrong)


def test_fit_command_that_is_interrupted_leaves_nothing(planted: Planted, tmp_path: Path) -> None:
    """Control-C in the middle of a fit ends it with 130, one line, and no file."""
    study = planted.write(
        "banded = true\nband_candidates = 100000",
        **{'layers = ["pool"]': 'layers = ["a", "b"]\nlayer_widths = [6, 6]'},
    )
    program = "import sys; from imgtofmri.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "fit", str(study), "-o", str(tmp_path / "b.st")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            next(line for line in process.stderr if line.startswith("Fitting"))
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert rest.strip().splitlines()[-1] == "imgtofmri: interrupted; what was written is whole"
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3", r"expected 4 x 4 numbers; got \(3,\)"),
        ("0 0 0 0\n" * 4, "can be inverted and whose last row is 0 0 0 1"),
        ("nan 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1", "can be inverted and whose last row is 0 0 0 1"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n1 0 0 1", "can be inverted and whose last row is 0 0 0 1"),
        ("1 0 0 900\n0 1 0 0\n0 0 1 0\n0 0 0 1", "no template voxel falls inside"),
    ],
)
def test_fit_study_affine_that_is_none_is_refused(planted: Planted, text: str, said: str) -> None:
    """A matrix that is not an affine, or leads past the template, is named before the fit."""
    (planted.folder / "affine.txt").write_text(text)
    affine = {'kind = "same"': 'kind = "affine", file = "affine.txt"'}
    with pytest.raises(DataError, match=said):
        fit_study(planted.write(**affine), progress=False)


@pytest.mark.parametrize(
    ("kind", "parts", "said"),
    [
        (FNIRT, 1, "warp.nii.gz must hold FNIRT's coefficients; it cannot be"),
        (FNIRT, 2, "warp.nii.gz must be a NIfTI image; got one that cannot be read"),
        ('"itk"', 2, "warp.nii.gz must be a NIfTI image; got one that cannot be read"),
    ],
)
def test_fit_study_warp_that_is_none_is_refused(
    planted: Planted, kind: str, parts: int, said: str
) -> None:
    """A file that is not a warp, or half a file, is named, whatever the library behind it says."""
    whole = (planted.folder / "LOC_left.nii.gz").read_bytes()
    (planted.folder / "warp.nii.gz").write_bytes(whole[: len(whole) // parts])
    warp = {'kind = "same"': f'kind = {kind}, file = "warp.nii.gz"'}
    with pytest.raises(DataError, match=said):
        fit_study(planted.write(**warp), progress=False)


def test_fit_study_subjects_may_have_tables_of_their_own(planted: Planted) -> None:
    """Who saw the stimuli in another order has the same models, given another table."""
    expected = fit_study(planted.write(), progress=False)
    order = np.random.default_rng(9).permutation(len(planted.shown))
    names = [f"image{planted.shown[row]:04d}" for row in order]
    (planted.folder / "other.tsv").write_text("\n".join(["stimulus", *names]))
    for roi in planted.voxels:
        np.save(planted.folder / f"X_{roi}.npy", planted.responses["S2", roi][order])
    own = {
        '\n[[subjects]]\nname = "S2"\n': '\n[[subjects]]\nname = "X"\ntable = "other.tsv"\n',
    }
    # Folds follow the order of stimuli, so only what is fitted on all rows is the same.
    found = fit_study(planted.write(**own), progress=False)
    for roi in planted.voxels:
        one, two = expected.subjects[1].rois[roi], found.subjects[1].rois[roi]
        np.testing.assert_allclose(two.weights, one.weights, atol=1e-3)
        np.testing.assert_allclose(two.extras["noise_ceiling"], one.extras["noise_ceiling"], 1e-3)
        one, two = expected.subjects[0].rois[roi], found.subjects[0].rois[roi]
        np.testing.assert_allclose(two.weights, one.weights, atol=1e-5)


@pytest.mark.slow
def test_fit_study_takes_zarr_and_records_its_digest(planted: Planted) -> None:
    """A folder of chunks is data like a file: fitted alike, its digest follows its content."""
    expected = fit_study(planted.write(), progress=False)
    zarrs = {'"{name}_LOC.npy"': '"{name}_LOC.zarr"'}
    digests = []
    for scale in (1.0, 2.0):
        for name in planted.names:
            values = scale * planted.responses[name, "LOC"]
            target = str(planted.folder / f"{name}_LOC.zarr")
            zarr.create_array(target, data=values, overwrite=True)
        found = fit_study(planted.write(**zarrs), progress=False)
        digests.append(found.card["fit"]["files"]["S1_LOC.zarr"])
        np.testing.assert_allclose(
            found.subjects[0].rois["LOC"].weights,
            scale * expected.subjects[0].rois["LOC"].weights,
            atol=1e-4,
        )
    assert len(set(digests)) == 2
