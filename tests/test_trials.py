"""Responses to single presentations, against written-out fits of nilearn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from nilearn.glm.first_level import (
    FirstLevelModel,
    glover_hrf,
    make_first_level_design_matrix,
)
from nilearn.image import resample_img

from imgtofmri.encoder.description import card_lines
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.measured import BoldRun, estimate_responses, find_runs
from imgtofmri.spaces import Grid
from imgtofmri.timeseries import estimator_weights, trial_regressors
from imgtofmri.training import fit_study

TR_S, START_S, N_VOLUMES = 1.5, 0.75, 160
AFFINE = np.array([[-3.0, 0, 0, 12], [0, 3, 0, -9], [0, 0, 3, -6], [0, 0, 0, 1]])
SHAPE = (6, 6, 5)
N_VOXELS = 180
# A beginning of nilearn's time line from which its steps are a fiftieth of a repetition time.
STEP_S = TR_S / 50
MIN_ONSET_S = (START_S + TR_S * (N_VOLUMES - 1)) * N_VOLUMES / (N_VOLUMES - 1) - START_S - 264.0
MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]


def write_run(
    folder: Path,
    rng: np.random.Generator,
    onsets: npt.NDArray[Any],
    run: int = 1,
    duration_s: float = 1.0,
) -> BoldRun:
    """Write one run of noise as fMRIPrep names it, with events, motion and one spike."""
    func = folder / "fmriprep" / "sub-01" / "func"
    raw = folder / "raw" / "sub-01" / "func"
    func.mkdir(parents=True, exist_ok=True)
    raw.mkdir(parents=True, exist_ok=True)
    stem = f"sub-01_task-view_run-{run}"
    series = 900 + 30 * rng.standard_normal((*SHAPE, N_VOLUMES))
    image = nib.Nifti1Image(series.astype(np.float32), AFFINE)
    image.header.set_zooms((3, 3, 3, TR_S))
    nib.save(image, func / f"{stem}_space-T1w_desc-preproc_bold.nii.gz")
    sidecar = {"RepetitionTime": TR_S, "StartTime": START_S}
    (func / f"{stem}_space-T1w_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    table = pd.DataFrame(rng.standard_normal((N_VOLUMES, 6)), columns=MOTION)
    table["non_steady_state_outlier00"] = np.eye(N_VOLUMES)[0]
    table.to_csv(func / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False)
    names = [f"image{run}{number:02d}.png" for number in range(len(onsets))]
    events = pd.DataFrame({"onset": onsets, "duration": duration_s, "stim_file": names})
    events.to_csv(raw / f"{stem}_events.tsv", sep="\t", index=False)
    return find_runs(folder / "fmriprep", folder / "raw", "01", "view", "T1w")[-1]


def fit_with_nilearn(run: BoldRun, hrf: str, labels: npt.NDArray[Any], wanted: str) -> Any:
    """Fit one model of a run with nilearn, and return an effect in percent of the mean."""
    times = START_S + TR_S * np.arange(N_VOLUMES)
    events = pd.read_csv(run.events, sep="\t").drop(columns="stim_file")
    confounds = pd.read_csv(run.confounds, sep="\t")
    design = make_first_level_design_matrix(
        times,
        events.assign(trial_type=labels),
        hrf_model=hrf,
        drift_model="cosine",
        high_pass=0.01,
        add_regs=confounds,
        min_onset=MIN_ONSET_S,
    )
    mask = nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
    model = FirstLevelModel(
        mask_img=mask, noise_model="ols", signal_scaling=False, minimize_memory=True
    )
    model.fit(str(run.bold), design_matrices=design)
    effect = model.compute_contrast(
        np.array(design.columns == wanted, dtype=float), output_type="effect_size"
    )
    mean = nib.Nifti1Image.from_filename(run.bold).get_fdata().mean(axis=3)
    return (100 * effect.get_fdata() / mean).reshape(-1)


@pytest.mark.filterwarnings("ignore:.*Generation of a mask:RuntimeWarning")
@pytest.mark.parametrize("hrf", ["glover", "spm + derivative + dispersion"])
@pytest.mark.parametrize("estimator", ["lsa", "lss"])
def test_estimate_responses_equals_a_loop_of_nilearn_fits(
    tmp_path: Path, rng: np.random.Generator, hrf: str, estimator: str
) -> None:
    """Both estimates are those of FirstLevelModel, fitted once, or once for each presentation.

    Presentations begin and end at its steps, to which it rounds others.
    """
    steps = 800 + 295 * np.arange(24) + rng.integers(250, size=24)
    onsets = START_S + MIN_ONSET_S + STEP_S * steps - 1e-6
    run = write_run(tmp_path, rng, onsets, duration_s=30 * STEP_S)
    names, responses = estimate_responses(
        [run],
        np.arange(N_VOXELS),
        Grid(SHAPE, AFFINE),
        hrf=hrf,
        estimator=estimator,
        confounds=[*MOTION, "non_steady_state_outlier*", "motion_outlier*"],
    )
    assert names[3] == "image103.png"
    every = np.array([f"t{number:02d}" for number in range(len(onsets))])
    for trial in (0, 7, 23):
        alone = np.where(np.arange(len(onsets)) == trial, "this", "others")
        labels, wanted = (every, every[trial]) if estimator == "lsa" else (alone, "this")
        expected = fit_with_nilearn(run, hrf, labels, wanted)
        np.testing.assert_allclose(responses[trial], expected, rtol=1e-4, atol=1e-4)


def test_estimator_weights_separate_is_steadier_in_rapid_designs(rng: np.random.Generator) -> None:
    """Presentations 3 s apart under noise: estimates one at a time lie closer to the truth."""
    times = 2.0 * np.arange(150)
    onsets = np.arange(4, 280, 3.0)
    trials = trial_regressors(onsets, np.ones_like(onsets), times, "glover")
    nuisance = np.ones((len(times), 1))
    truth = rng.normal(1.0, 0.5, size=(len(onsets), 200))
    series = trials[..., 0].T @ truth + 0.5 * rng.standard_normal((len(times), 200))
    r = {}
    for estimator in ("lsa", "lss"):
        found = estimator_weights(trials, nuisance, estimator) @ series
        pairs = zip(found.T, truth.T, strict=True)
        r[estimator] = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert r["lss"] > r["lsa"] + 0.05


def test_estimator_weights_are_exact_without_noise(rng: np.random.Generator) -> None:
    """Where presentations do not overlap, both recover what was planted under drift."""
    times = np.arange(200.0)
    onsets = np.arange(5, 170, 40.0)
    trials = trial_regressors(onsets, np.full(5, 2.0), times, "spm")
    nuisance = np.column_stack([np.ones(200), times, times, np.zeros(200)])
    truth = rng.normal(size=(5, 3))
    series = trials[..., 0].T @ truth + nuisance @ rng.normal(size=(4, 3))
    np.testing.assert_allclose(estimator_weights(trials, nuisance, "lsa") @ series, truth)
    alone = estimator_weights(trials[:1], nuisance, "lss")
    np.testing.assert_allclose(alone @ (trials[:1, :, 0].T @ truth[:1]), truth[:1])


@pytest.mark.parametrize(("n_lost", "said"), [(5, r"4, 6, 8, 10\)"), (6, r"8, 10, \.\.\.\)")])
def test_estimator_weights_name_the_presentations_that_are_not_in_the_run(
    n_lost: int, said: str
) -> None:
    """By their place in the order of onsets, the first five of them; one at its end is in it."""
    times_s = START_S + TR_S * np.arange(N_VOLUMES)
    onsets_s = np.linspace(5.0, 215.0, 14)
    durations_s = np.ones(14)
    weights = estimator_weights(
        trial_regressors(onsets_s, durations_s, times_s, "glover"), np.ones((N_VOLUMES, 1)), "lsa"
    )
    assert weights.shape == (14, N_VOLUMES)
    trials = trial_regressors(onsets_s, durations_s, times_s, "glover")
    trials[1 : 2 * n_lost : 2] *= 0.05
    with pytest.raises(
        DataError, match=rf"^run: .* that to {n_lost} of 14 does not.*: 2, .*{said}"
    ):
        estimator_weights(trials, np.ones((N_VOLUMES, 1)), "lsa", "run")


def integrated(onset_s: float, duration_s: float, times_s: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integrate Glover's response over a presentation, in steps of a millisecond."""
    step_s = 0.001
    kernel = glover_hrf(step_s, oversampling=1) / step_s
    lags_s = step_s * np.arange(len(kernel))
    if duration_s == 0:
        return np.interp(times_s - onset_s, lags_s, kernel, left=0, right=0)
    total = np.concatenate([[0.0], np.cumsum(kernel) * step_s])
    at_s = step_s * np.arange(len(total))
    since_s = times_s - onset_s
    return np.interp(since_s, at_s, total) - np.interp(since_s - duration_s, at_s, total)


@pytest.mark.parametrize(("tr_s", "duration_s"), [(2.0, 0.1), (2.0, 0.03), (0.8, 0.1), (10.0, 0.5)])
@pytest.mark.parametrize("function", ["glover", "spm + derivative + dispersion"])
def test_trial_regressors_do_not_depend_on_where_steps_lie(
    tr_s: float, duration_s: float, function: str
) -> None:
    """Short presentations of one duration have one response, whenever they begin."""
    times_s = tr_s * np.arange(round(400 / tr_s))
    onsets_s = 20.0 + np.arange(24) * tr_s * 1.017
    seen = trial_regressors(onsets_s, np.full(24, duration_s), times_s, function)
    for onset_s, each in zip(onsets_s, seen, strict=True):
        at_s = times_s - onset_s + 20.0
        (same,) = trial_regressors([20.0], [duration_s], at_s, function)
        np.testing.assert_allclose(each, same, atol=1e-12)
        if function == "glover":
            expected = integrated(onset_s, duration_s, times_s)
            # A twentieth of the peak, which is a fifth of the duration.
            np.testing.assert_allclose(each[:, 0], expected, atol=0.01 * duration_s)


@pytest.mark.parametrize("tr_s", [1.0, 2.0, 3.0])
def test_trial_regressors_of_no_duration_move_as_much_as_a_second(tr_s: float) -> None:
    """An impulse has unit area, whatever the repetition time; nilearn's shrinks with it."""
    times_s = 0.5 + tr_s * np.arange(60)
    (found,) = trial_regressors([20.0], [0.0], times_s, "glover")[..., 0]
    expected = integrated(20.0, 0.0, times_s)
    np.testing.assert_allclose(found, expected, atol=0.04 * expected.max())
    (second,) = trial_regressors([19.5], [1.0], times_s, "glover")[..., 0]
    np.testing.assert_allclose(found, second, atol=0.05 * expected.max())


@pytest.mark.parametrize("duration_s", [0.0, 2.0])
def test_trial_regressors_of_uneven_volumes_are_not_stretched(duration_s: float) -> None:
    """Volumes at uneven times see the response that even ones see; nilearn's peaks at 12 s here."""
    times_s = np.concatenate([[0.0], np.cumsum(np.tile([2.0, 6.0], 40))])
    (found,) = trial_regressors([100.0], [duration_s], times_s, "glover")[..., 0]
    expected = integrated(100.0, duration_s, times_s)
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.max())
    assert times_s[found.argmax()] == 106.0


def test_estimate_responses_of_voxels_that_a_run_does_not_reach_are_missing(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Outside of a run's field of view, where fMRIPrep writes 0, there is no response of 0."""
    onsets = np.arange(10, 200, 20.0)
    runs = [write_run(tmp_path, rng, onsets, run) for run in (1, 2)]
    image: Any = nib.load(runs[1].bold)
    values = image.get_fdata(dtype=np.float32)
    values[0] = 0
    nib.save(nib.Nifti1Image(values, AFFINE, image.header), runs[1].bold)
    _, found = estimate_responses(runs, np.arange(N_VOXELS), Grid(SHAPE, AFFINE))
    outside = np.zeros(SHAPE, bool)
    outside[0] = True
    lost = np.isnan(found)
    assert not lost[: len(onsets)].any()
    np.testing.assert_array_equal(lost[len(onsets) :], [outside.reshape(-1)] * len(onsets))


def test_estimate_responses_of_a_row_with_blanks_for_tabs_is_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A row of events whose cells are not apart names no stimulus, and must not vanish."""
    run = write_run(tmp_path, rng, np.array([10.0, 50.0, 90.0]))
    lines = run.events.read_text().splitlines()
    lines[2] = lines[2].replace("\t", "  ")
    run.events.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"line 3: onset must be a number; got '50.0  1.0  image"):
        estimate_responses([run], np.arange(N_VOXELS), Grid(SHAPE, AFFINE))


def test_estimator_weights_leave_a_volume_over(rng: np.random.Generator) -> None:
    """As many regressors as volumes are refused; one fewer is the most that there can be."""
    trials = trial_regressors(
        np.array([5.0, 40.0]), np.ones(2), START_S + TR_S * np.arange(60), "glover"
    )
    for n_others, estimator in ((58, "lsa"), (58, "lss")):
        with pytest.raises(DataError, match="60 regressors need more than 60 volumes; got 60"):
            estimator_weights(trials, rng.normal(size=(60, n_others)), estimator)
        fewer = estimator_weights(trials, rng.normal(size=(60, n_others - 1)), estimator)
        assert fewer.shape == (2, 60)


def test_estimator_weights_presentations_at_once_are_refused() -> None:
    """Two regressors that are one cannot be told apart in one model."""
    trials = trial_regressors([10.0, 50.0, 50.0], np.ones(3), 2.0 * np.arange(60), "glover")
    with pytest.raises(DataError, match=r"3 presentations must be told apart; .* have rank 2"):
        estimator_weights(trials, np.ones((60, 1)), "lsa")


def test_estimate_responses_of_mistaken_events_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Events outside the run, at one time, without a number, or too many are named."""
    grid, voxels = Grid(SHAPE, AFFINE), np.arange(N_VOXELS)

    def refuse(onsets: list[Any], message: str, **settings: Any) -> None:
        run = write_run(tmp_path, rng, np.array(onsets))
        with pytest.raises(DataError, match=message):
            estimate_responses([run], voxels, grid, **settings)

    refuse([10, 50, 900], r"must end with the run, at 239 s; got one that ends at 901 s")
    refuse([10, 50, 298.5], r"must end with the run, at 239 s; got one that ends at 300 s")
    refuse([10, 50, 297.5], r"within the run; that to 1 of 3 does not.*order of onset: 3\)")
    refuse([10, 50, 270], r"within the run; that to 1 of 3 does not.*order of onset: 3\)")
    for estimator in ("lsa", "lss"):
        message = r"line 4: .* a time of its own; got 'image102.png' at 50 s, as 'image101.png' on"
        refuse([10, 50, 50], message, estimator=estimator)
    refuse(list(range(0, 160)), r"\d+ regressors need more than \d+ volumes; got 160.*estimator")
    refuse(
        [10, "soon", 50],
        r"events.tsv, line 3: onset must be a number; got 'soon'",
    )
    run = write_run(tmp_path, rng, np.array([10.0, 50.0]))
    table = pd.read_csv(run.events, sep="\t").assign(word="n/a")
    table.to_csv(run.events, sep="\t", index=False)
    with pytest.raises(DataError, match=r"no event of 1 runs names a stimulus"):
        estimate_responses([run], voxels, grid, stimulus_column="word")
    for settings in ({"hrf": "fir"}, {"estimator": "all"}):
        with pytest.raises(OptionError, match=rf"{next(iter(settings))} must be one of"):
            estimate_responses([run], voxels, grid, **settings)  # type: ignore[arg-type]


def test_fit_study_takes_derivatives_in_t1w_space_to_the_template(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Images in T1w space reach the template through fMRIPrep's composite transform."""
    for run in range(1, 3):
        write_run(tmp_path, rng, np.sort(rng.uniform(0, 215, size=15)), run)
    anat = tmp_path / "fmriprep" / "sub-01" / "anat"
    anat.mkdir()
    # A field that is the same everywhere makes the composite an affine, which others can apply.
    shift_lps, turn = np.array([2.3, -1.4, 0.7]), 0.12
    matrix = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.03]]
    )
    translation = np.array([1.1, 0.4, -0.6])
    with h5py.File(anat / "sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5", "w") as file:
        for number, (kind, parameters, fixed) in enumerate(
            [
                ("CompositeTransform_double_3_3", None, None),
                ("AffineTransform_double_3_3", np.r_[matrix.ravel(), translation], np.zeros(3)),
                (
                    "DisplacementFieldTransform_float_3_3",
                    np.tile(shift_lps, 9**3),
                    np.r_[[9.0] * 3, [-60.0] * 3, [15.0] * 3, np.eye(3).ravel()],
                ),
            ]
        ):
            part = file.create_group(f"TransformGroup/{number}")
            part.create_dataset("TransformType", data=[kind.encode()])
            if parameters is not None:
                part.create_dataset("TransformParameters", data=parameters)
                part.create_dataset("TransformFixedParameters", data=fixed)
    roi = np.zeros(SHAPE, np.uint8)
    roi[1:5, 1:4, 1:4] = 1
    nib.save(nib.Nifti1Image(roi, AFFINE), tmp_path / "roi.nii.gz")
    template = np.diag([2.0, 2.0, 2.0, 1.0])
    template[:3, 3] = (-14, -14, -12)
    grid = nib.Nifti1Image(np.zeros((15, 14, 12), np.uint8), template)
    nib.save(grid, tmp_path / "grid.nii.gz")
    np.save(tmp_path / "features.npy", rng.standard_normal((30, 4)))
    (tmp_path / "study.toml").write_text("""
id = "t1w"
title = "Two runs in T1w space"
licence = "CC0"
[template]
grid = "grid.nii.gz"
space = "MNI152NLin2009cAsym"
[stimuli]
features = "features.npy"
[backbone]
name = "net"
layers = ["pool"]
[[subjects]]
name = "01"
rois = { V1 = "roi.nii.gz" }
[subjects.transform]
kind = "itk"
file = "fmriprep/sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5"
[subjects.derivatives]
folder = "fmriprep"
raw = "raw"
subject = "01"
task = "view"
estimator = "lss"
""")
    bundle = fit_study(tmp_path / "study.toml", progress=False)
    # The composite takes template points to T1w, its last part first: shift, then turn.
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = matrix, matrix @ shift_lps + translation
    flip = np.diag([-1.0, -1, 1, 1])
    to_t1w = flip @ lps @ flip
    numbers = np.arange(1, 1 + roi.size, dtype=np.float32).reshape(SHAPE) * roi
    expected = resample_img(
        nib.Nifti1Image(numbers, np.linalg.inv(to_t1w) @ AFFINE),
        target_affine=template,
        target_shape=grid.shape,
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    found = np.zeros(grid.shape, np.float32)
    subject = bundle.subjects[0]
    found.flat[subject.to_template.template] = numbers.flat[subject.to_template.native]
    np.testing.assert_array_equal(found, np.asarray(expected.dataobj))
    assert np.count_nonzero(found) > 20
    said = bundle.card["fit"]
    assert said["estimates"]["01"]["estimator"] == "lss"
    described = "\n".join(card_lines(bundle))
    assert "estimates   01: lss, glover; beside 6 confounds, drifts below 0.01 Hz" in described
    assert said["estimates"]["01"]["confounds"] == MOTION
    assert bundle.card["units"] == "percent of the voxel's mean in the run"
    assert any(name.endswith("run-2_events.tsv") for name in said["files"])
    assert any(name.endswith("_xfm.h5") for name in said["files"])


def test_estimate_responses_of_a_rapid_design_warns_unless_separate(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Presentations 3 s apart are better estimated separately, and whoever does not is told."""
    run = write_run(tmp_path, rng, np.arange(5.0, 200.0, 3.0))
    with pytest.warns(UserWarning, match=r"after 3.0 s; estimates of all .* Consider .*lss"):
        estimate_responses([run], np.arange(N_VOXELS), Grid(SHAPE, AFFINE))
    names, _ = estimate_responses([run], np.arange(3), Grid(SHAPE, AFFINE), estimator="lss")
    assert len(names) == 65
