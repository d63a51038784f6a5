"""Plans of scans: the expected t against experiments that nilearn fits, and what is refused."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.glm import compute_contrast
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm
from scipy import stats

from imgtofmri.analyses import power
from imgtofmri.analyses.power import (
    Expected,
    Plan,
    PowerSettings,
    combine_runs,
    expect_run,
    lay_out_experiment,
    mean_noise_share,
    noise_covariance,
    parse_trials,
    plan_scan,
    run_design,
)
from imgtofmri.analyses.power.analysis import _Over
from imgtofmri.analyses.power.files import COLUMNS, methods
from imgtofmri.analyses.power.glm import t_power
from imgtofmri.analyses.simulate import simulate_bold
from imgtofmri.bundle import Bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import DataError, ImgToFmriError, OptionError
from imgtofmri.experiments import (
    Events,
    Experiment,
    Noise,
    Run,
    Scale,
    Scan,
    SmoothField,
    conditions_of,
    read_events,
    read_experiment,
    run_of_table,
)
from imgtofmri.stimuli import Movie

pytestmark = pytest.mark.filterwarnings(
    "ignore::imgtofmri.backbones.UnverifiedWeightsWarning",
    # nilearn remarks that it takes the mask that it was given.
    "ignore:.*Generation of a mask has been requested:RuntimeWarning",
)

Folders = tuple[Path, Path]


@pytest.mark.parametrize("name", [info.name for info in pkgutil.iter_modules(power.__path__)])
def test_examples_in_docstrings_hold(name: str) -> None:
    """What the docstrings show is what the functions return."""
    result = doctest.testmod(importlib.import_module(f"imgtofmri.analyses.power.{name}"))
    assert result.failed == 0


@pytest.fixture
def folders(dark_and_bright: Callable[[int], Folders]) -> Folders:
    """Return two folders of four pictures each."""
    return dark_and_bright(4)


@pytest.fixture
def encoder(make_bundle: Callable[..., Bundle], rng: np.random.Generator) -> Encoder:
    """Return the small encoder of two people."""
    return Encoder(make_bundle(rng))


@pytest.fixture
def plan(
    folders: Folders, encoder: Encoder, random_weights: Path
) -> Callable[..., tuple[Plan, Experiment]]:
    """Return what plans a scan of the two folders by the small encoder."""

    def make(
        scale: str = "",
        noise: Noise = Noise(60.0, fwhm_mm=5.0),  # noqa: B008
        n_laid_out: int = 2,
        **asked: Any,
    ) -> tuple[Plan, Experiment]:
        scan = Scan(2.0, noise=noise)
        experiment = lay_out_experiment(folders, scan, 8, n_runs=n_laid_out)
        chosen = scale or f"0.4:{_upward(encoder, folders, random_weights)}:LOC"
        settings = PowerSettings(**({"n_runs": 2, "n_people": 4} | asked))
        found = plan_scan(
            experiment, encoder, scale=chosen, power=settings, weights=random_weights,
            progress=False,
        )  # fmt: skip
        return found, experiment

    return make


def _upward(encoder: Encoder, folders: Folders, weights: Path) -> str:
    """Return the contrast of the two folders that is above 0 in LOC."""
    means = [
        encoder.predict(folder, average="mean", weights=weights, progress=False).roi_means()
        for folder in folders
    ]
    place = means[0].places.index(("LOC", "both"))
    dark, bright = (each.group[place].mean() for each in means)
    return "dark - bright" if dark > bright else "bright - dark"


# One run


def spaced_run(rng: np.random.Generator, n_trials: int = 24) -> tuple[Run, np.ndarray]:
    """Return a run of two conditions in random order, and each trial's response."""
    kinds = rng.permutation(np.repeat(["A", "B"], n_trials // 2))
    onsets = 5.0 * np.arange(n_trials) + rng.uniform(0, 1, n_trials)
    rows = tuple(
        (f"{onset:.6f}", "2", kind, f"{number}.png")
        for number, (onset, kind) in enumerate(zip(onsets, kinds, strict=True))
    )
    events = Events([float(row[0]) for row in rows], np.full(n_trials, 2.0), range(n_trials))
    run = Run(events, 70, ("onset", "duration", "trial_type", "stim_file"), rows)
    return run, np.where(kinds == "A", 0.6, 0.1) + 0.2 * rng.normal(size=n_trials)


def drawn(covariance: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return courses of a covariance, shape (n_volumes, n)."""
    return np.linalg.cholesky(covariance) @ rng.normal(size=(len(covariance), n))


@pytest.mark.parametrize(
    ("noise", "trial_sd"),
    [
        (Noise(ar1_share=0.0, drift_share=0.0), 0.0),
        (Noise(ar1=0.5, ar1_share=1.0, drift_share=0.0), 0.0),
        (Noise(), 0.0),
        (Noise(ar1=0.8, ar1_share=0.6), 0.5),
    ],
)
def test_expect_run_is_what_nilearn_finds_on_average(
    noise: Noise, trial_sd: float, rng: np.random.Generator
) -> None:
    """Effect, its variance, the reported variance, t and power, over 1500 noisy runs."""
    run, responses = spaced_run(rng)
    scan = Scan(2.0, noise=noise)
    design = run_design(run, scan, {"A": 1.0, "B": -1.0}, len(responses), 128.0, "run")
    covariance = 0.3**2 * noise_covariance(noise, 70)
    covariance += trial_sd**2 * design.trials @ design.trials.T
    expected, weights = expect_run(design, design.signal @ responses, covariance)
    assert weights @ (design.signal @ responses) == pytest.approx(expected.effect, rel=1e-9)
    table = pd.DataFrame(
        [(float(row[0]), 2.0, row[2]) for row in run.rows],
        columns=["onset", "duration", "trial_type"],
    )
    matrix = make_first_level_design_matrix(np.arange(70) * 2.0, table, high_pass=1 / 128)
    data = (design.signal @ responses)[:, None] + drawn(covariance, 1500, rng)
    labels, results = run_glm(data, matrix.to_numpy(), noise_model="ar1")
    vector = np.zeros(matrix.shape[1])
    vector[[list(matrix).index("A"), list(matrix).index("B")]] = 1, -1
    found = compute_contrast(labels, results, vector, stat_type="t")
    effects, t = found.effect_size(), found.stat()
    assert effects.mean() == pytest.approx(expected.estimate, rel=0.02)
    assert expected.effect == pytest.approx(expected.estimate, rel=0.05)
    assert effects.var() == pytest.approx(expected.variance, rel=0.12)
    assert found.effect_variance().mean() == pytest.approx(expected.reported, rel=0.05)
    assert t.mean() == pytest.approx(expected.t, rel=0.03)
    assert found.dof == expected.dof
    for alpha in (0.05, 1e-3, 1e-6):
        found_share = (t > stats.t.isf(alpha / 2, found.dof)).mean()
        assert found_share == pytest.approx(expected.power(alpha), abs=0.05)


def test_combine_runs_adds_as_fixed_effects_do() -> None:
    """Runs that are alike keep the effect, and t grows with the root of their number."""
    one = Expected(0.5, 0.5, 0.04, 0.03, 100.0, 80.0)
    four = combine_runs([one] * 4)
    assert (four.effect, four.dof, four.dof_effective) == (0.5, 400.0, pytest.approx(320.0))
    assert four.variance == pytest.approx(0.01)
    assert four.inflation == pytest.approx(one.inflation)
    assert four.t == pytest.approx(2 * one.t, rel=0.02)


@pytest.mark.parametrize("fwhm_mm", [0.0, 4.0, 9.0])
def test_mean_noise_share_is_the_variance_of_a_smooth_fields_mean(
    fwhm_mm: float, rng: np.random.Generator
) -> None:
    """The mean over a region of smooth noise varies as its voxels' correlations say."""
    mask = np.zeros((18, 18, 18), dtype=bool)
    mask[6:12, 7:11, 6:11] = rng.random((6, 4, 5)) < 0.7
    affine = np.diag([2.0, 2.0, 2.5, 1.0])
    inside = np.argwhere(mask) * np.array([2.0, 2.0, 2.5])
    if fwhm_mm:
        field = SmoothField(mask, affine, fwhm_mm)
        maps = field(rng.normal(size=(1500, field.n_draws)).astype(np.float32))
    else:
        maps = rng.normal(size=(1500, len(inside)))
    assert maps.mean(axis=1).var() == pytest.approx(mean_noise_share(inside, fwhm_mm), rel=0.12)


@pytest.mark.parametrize(("shift", "dof"), [(0.0, 5.0), (2.5, 3.0), (40.0, 7.0), (300.0, 900.0)])
def test_t_power_is_the_noncentral_ts(shift: float, dof: float, rng: np.random.Generator) -> None:
    """How often a normal over the root of a chi-square exceeds a limit."""
    draws = (rng.normal(size=100_000) + shift) / np.sqrt(rng.chisquare(dof, 100_000) / dof)
    for limit in (1.0, 3.0, 12.0):
        assert t_power(shift, dof, limit) == pytest.approx((draws > limit).mean(), abs=0.006)


# Plans


def experiments_of_a_person(
    encoder: Encoder,
    experiment: Experiment,
    plan: Plan,
    subject: str,
    roi: str,
    weights: Path,
    n: int,
) -> list[np.ndarray]:
    """Simulate a person's ROI voxel by voxel; return each run's means, (n_volumes, n)."""
    (model,) = (each for each in encoder.bundle.subjects if each.name == subject)
    predicted = encoder.predict(
        [path for _, path in experiment.stimuli], average="mean", weights=weights, progress=False
    )
    responses = predicted.roi_responses(roi, subject)
    # Room around the region, so that no edge of the grid is near.
    room = 5
    mask = np.zeros(np.array(model.native.shape) + 2 * room, dtype=bool)
    where = np.unravel_index(model.rois[roi].voxels, model.native.shape)
    mask[tuple(axis + room for axis in where)] = True
    scan, series = experiment.scan, []
    for number, run in enumerate(plan.runs):
        means = [
            simulate_bold(
                responses, run.events, scan.tr_s, run.n_volumes, noise=scan.noise, mask=mask,
                affine=model.native.affine, percent_per_unit=plan.percent_per_unit,
                seed=1000 * number + seed,
            ).mean(axis=1, dtype=np.float64)
            for seed in range(n)
        ]  # fmt: skip
        series.append(np.stack(means, axis=1))
    return series


def fitted_t(series: list[np.ndarray], plan: Plan, experiment: Experiment) -> np.ndarray:
    """Fit many experiments with nilearn, each as a voxel, and return the contrast's t."""
    images = [nib.Nifti1Image(run.T[None, None], np.eye(4)) for run in series]
    tables = []
    for table in experiment.events:
        frame = pd.DataFrame(table.rows, columns=table.columns)
        times = frame[["onset", "duration"]].astype(float)
        tables.append(times.assign(trial_type=frame["trial_type"]))
    model = FirstLevelModel(
        t_r=experiment.scan.tr_s, hrf_model="glover", drift_model="cosine", high_pass=1 / 128,
        noise_model="ar1", signal_scaling=False, standardize=False,
        mask_img=nib.Nifti1Image(np.ones((1, 1, series[0].shape[1]), np.uint8), np.eye(4)),
    ).fit(images, tables)  # fmt: skip
    same = [plan.contrast] * len(series)
    image = model.compute_contrast(same, stat_type="t", output_type="stat")
    return np.asarray(image.get_fdata()).ravel()


@pytest.mark.slow
def test_plan_scan_expects_the_t_that_nilearn_finds_in_simulated_experiments(
    plan: Callable[..., tuple[Plan, Experiment]], encoder: Encoder, random_weights: Path
) -> None:
    """Voxels with smooth noise, two runs, averaged over the ROI and fitted: the mean t is met."""
    planned, experiment = plan()
    rows = planned.people.query("n_runs == 2")
    row = rows.loc[rows["t"].abs().idxmax()]
    series = experiments_of_a_person(
        encoder, experiment, planned, row["subject"], row["roi"], random_weights, 60
    )
    t = fitted_t(series, planned, experiment)
    assert abs(row["t"]) > 3
    assert t.mean() == pytest.approx(row["t"], rel=0.05)
    spread = np.concatenate([run - run.mean(axis=1, keepdims=True) for run in series])
    assert 100.0 / spread.std() == pytest.approx(row["roi_tsnr"], rel=0.06)


def test_plan_scan_halving_the_scale_halves_the_effect(
    plan: Callable[..., tuple[Plan, Experiment]],
) -> None:
    """Effects are proportional to the scale; noise and trial variability are not."""
    whole, _ = plan("2", trial_sd=0.1)
    half, _ = plan("1", trial_sd=0.1)
    for table in ("people", "group"):
        both = [getattr(each, table) for each in (whole, half)]
        np.testing.assert_allclose(both[0]["effect"], 2 * both[1]["effect"], rtol=1e-9)
    assert (half.people["se"] > 0.9 * whole.people["se"]).all()
    assert (abs(half.people["t"]) < abs(whole.people["t"])).all()
    assert half.percent_per_unit == 0.5 * whole.percent_per_unit


def test_plan_scan_effect_is_the_scales_where_kinds_are_one_picture_each(
    dark_and_bright: Callable[[int], Folders], encoder: Encoder, random_weights: Path
) -> None:
    """The reference contrast comes out as its percent, the mean over people, exactly."""
    folders = dark_and_bright(1)
    reference = _upward(encoder, folders, random_weights)
    experiment = lay_out_experiment(folders, Scan(2.0, noise=Noise(60.0)), 8)
    planned = plan_scan(
        experiment, encoder, scale=f"0.7:{reference}:LOC", contrast=reference,
        power=PowerSettings(n_runs=1), weights=random_weights, progress=False,
    )  # fmt: skip
    rows = planned.people.query("roi == 'LOC'")
    assert rows["effect"].mean() == pytest.approx(0.7, rel=1e-6)
    assert planned.rois == ["LOC", "PPA"]


def test_plan_scan_power_over_people_is_that_of_a_t_test_over_them(
    plan: Callable[..., tuple[Plan, Experiment]], rng: np.random.Generator
) -> None:
    """People drawn with the table's spreads are found by scipy's t test as often as it says."""
    planned, _ = plan(n_people=8, between_sd=0.3)
    for row in planned.group.query("roi == 'LOC' and n_people in (2, 5, 8)").to_dict("records"):
        spread = np.hypot(row["between_sd"], row["within_sd"])
        people = row["effect"] + spread * rng.normal(size=(20_000, row["n_people"]))
        found = stats.ttest_1samp(people, 0.0, axis=1)
        right = (found.pvalue < 0.05) & (np.sign(found.statistic) == np.sign(row["effect"]))
        assert right.mean() == pytest.approx(row["power"], abs=0.012)
        assert row["power_low"] <= row["power"] <= row["power_high"]


def test_plan_scan_spread_over_people_is_the_encoders(
    plan: Callable[..., tuple[Plan, Experiment]],
) -> None:
    """Without a number, people differ as the encoder's do; mean and variance are theirs."""
    planned, _ = plan()
    for place, people in planned.people.groupby(["roi", "n_runs"]):
        rows = planned.group.set_index(["roi", "n_runs"]).loc[place]
        np.testing.assert_allclose(rows["effect"], people["effect"].mean())
        np.testing.assert_allclose(rows["between_sd"], people["effect"].std(ddof=1))
        np.testing.assert_allclose(rows["within_sd"], np.sqrt((people["se"] ** 2).mean()))


@pytest.mark.slow
def test_plan_scan_people_needed_is_the_least_number(
    plan: Callable[..., tuple[Plan, Experiment]],
) -> None:
    """One person fewer has less power than is wanted."""
    planned, _ = plan(n_people=60, between_sd=0.4)
    assert planned.needed["n_people"].notna().any()
    for row in planned.needed.dropna().to_dict("records"):
        rows = planned.group.query(f"roi == {row['roi']!r} and n_runs == {row['n_runs']}")
        enough = rows.loc[rows["power"] >= 0.8, "n_people"]
        if row["n_people"] <= 60:
            assert row["n_people"] == enough.min()
    hopeless, _ = plan(between_sd=1e6)
    assert hopeless.people_needed("LOC") is None
    assert "no number of people up to 1000 is known to have a power of 80%" in methods(hopeless)


def test_people_needed_is_the_least_number_though_power_falls_again() -> None:
    """Of two random stimuli a kind, many people leave the stimuli's degrees of freedom alone."""
    stimulus = ((0.05, 1), (0.05, 1))
    over = _Over("PPA", 1, np.array([2.0, 2.1]), 1.0, 0.0, stimulus)
    n = np.arange(2, 1001)
    total = 1 / n + 0.1
    dof = total**2 / ((1 / n) ** 2 / (n - 1) + 2 * 0.05**2)
    power = stats.nct.sf(stats.t.isf(0.025, dof), dof, 2.05 / np.sqrt(total))
    assert power.max() > 0.95 > 0.9 > power[-1]
    asked = PowerSettings(random_stimuli=True, target=0.9)
    needed = over.needed(asked)
    assert needed["n_people"] == n[np.flatnonzero(power >= 0.9)[0]]
    assert needed["power"] == pytest.approx(over.row(needed["n_people"], asked)["power"])
    out_of_reach = over.needed(PowerSettings(random_stimuli=True, target=0.99))
    assert out_of_reach["n_people"] is None


def test_plan_plot_shows_its_tables(plan: Callable[..., tuple[Plan, Experiment]]) -> None:
    """Power over people is that of the table, region by region."""
    made, _ = plan()
    right = made.plot().axes[1]
    for line, roi in zip(right.lines, made.rois, strict=False):
        rows = made.group[(made.group["roi"] == roi) & (made.group["n_runs"] == 2)]
        np.testing.assert_array_equal(line.get_ydata(), rows["power"])


def test_plan_scan_random_stimuli_add_what_other_stimuli_would(
    folders: Folders, encoder: Encoder, random_weights: Path
) -> None:
    """Spaced trials, each picture equally often: the variance of two means over pictures."""
    scan = Scan(2.0, noise=Noise(60.0, fwhm_mm=5.0))
    experiment = lay_out_experiment(folders, scan, 8, gap_s=24.0)
    planned = plan_scan(
        experiment, encoder, scale="1", power=PowerSettings(1, 6, random_stimuli=True),
        weights=random_weights, progress=False,
    )  # fmt: skip
    means = encoder.predict(
        [path for _, path in experiment.stimuli], average="mean", weights=random_weights,
        progress=False,
    ).roi_means()  # fmt: skip
    group = means.group[means.places.index(("LOC", "both"))]
    halves = group.reshape(2, 4).var(axis=1, ddof=1) / 4
    rows = planned.group.query("roi == 'LOC'")
    np.testing.assert_allclose(rows["stimulus_sd"], np.sqrt(halves.sum()), rtol=0.05)
    fixed = plan_scan(
        experiment, encoder, scale="1", power=PowerSettings(1, 6), weights=random_weights,
        progress=False,
    )  # fmt: skip
    assert (fixed.group["stimulus_sd"] == 0).all()
    total = np.hypot(fixed.group["se"], planned.group["stimulus_sd"])
    assert (planned.group["se"] >= total).all()
    assert (planned.group["dof"] >= fixed.group["dof"]).all()


def test_lay_out_experiment_shows_every_image_before_any_comes_again(folders: Folders) -> None:
    """Numbers of trials are kept, trials are evenly spaced, and each run has its own order."""
    scan = Scan(2.0)
    laid = lay_out_experiment(folders, scan, {"dark": 6, "bright": 2}, n_runs=3, gap_s=3.0, seed=5)
    tables = [pd.DataFrame(table.rows, columns=table.columns) for table in laid.events]
    for table in tables:
        assert table["trial_type"].value_counts().to_dict() == {"dark": 6, "bright": 2}
        assert np.diff(table["onset"].astype(float)).tolist() == [5.0] * 7
    shown = pd.concat(tables)["stim_file"].value_counts()
    assert shown[[f"dark/dark{k}.png" for k in range(4)]].between(4, 5).all()
    assert shown[[f"bright/bright{k}.png" for k in range(4)]].between(1, 2).all()
    assert tables[0]["stim_file"].tolist() != tables[1]["stim_file"].tolist()
    again = lay_out_experiment(folders, scan, {"dark": 6, "bright": 2}, n_runs=3, gap_s=3.0, seed=5)
    assert [each.rows for each in again.events] == [each.rows for each in laid.events]


def test_conditions_are_in_the_order_of_their_first_events(
    folders: Folders, tmp_path: Path
) -> None:
    """However long a condition goes on, what comes first stands first."""
    rows = ["onset\tduration\ttrial_type\tstim_file"]
    rows += ["0\t3\tbright\tbright/bright0.png", "10\t3\tdark\tdark/dark0.png"]
    rows += ["20\t3\tbright\tbright/bright1.png"]
    (tmp_path / "run.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    experiment = read_experiment(tmp_path / "run.tsv", Scan(2.0), tmp_path)
    assert conditions_of(experiment) == ["bright", "dark"]


def test_plan_scan_takes_tables_with_rows_that_show_nothing(
    folders: Folders, encoder: Encoder, random_weights: Path, tmp_path: Path
) -> None:
    """A table with key presses is read, and their regressor costs no effect."""
    rows = ["onset\tduration\ttrial_type\tstim_file"]
    for number in range(8):
        kind = ("dark", "bright")[number % 2]
        rows.append(f"{10 * number}\t3\t{kind}\t{kind}/{kind}{number // 2}.png")
        rows.append(f"{10 * number + 4}\t0\tkey\tn/a")
    (tmp_path / "run.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    scan = Scan(2.0, noise=Noise(60.0))
    experiment = read_experiment(tmp_path / "run.tsv", scan, tmp_path)
    planned = plan_scan(
        experiment, encoder, scale="1", power=PowerSettings(3, 3), weights=random_weights,
        progress=False,
    )  # fmt: skip
    assert planned.contrast == "dark - bright"
    # One run is shown over again: the effect stays, and its variance falls with their number.
    person = planned.people.query("roi == 'LOC' and subject == 'S1'")
    np.testing.assert_allclose(person["effect"], person["effect"].iloc[0])
    np.testing.assert_allclose(person["se"] * np.sqrt([1, 2, 3]), person["se"].iloc[0])


def test_methods_tell_of_the_events_that_the_model_has(
    folders: Folders, encoder: Encoder, random_weights: Path, tmp_path: Path
) -> None:
    """A key press without a duration, however that is written, is none of them."""
    rows = ["onset\tduration\ttrial_type\tstim_file"]
    for number in range(8):
        kind = ("dark", "bright")[number % 2]
        rows.append(f"{10 * number}\t3\t{kind}\t{kind}/{kind}{number // 2}.png")
    rows += [f"{10 * k + 4}\t{cell}\tkey\tn/a" for k, cell in enumerate(("", "NA", "n/a", "0"))]
    (tmp_path / "run.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    experiment = read_experiment(tmp_path / "run.tsv", Scan(2.0, noise=Noise(60.0)), tmp_path)
    planned = plan_scan(
        experiment, encoder, scale="1", power=PowerSettings(1, 3), weights=random_weights,
        progress=False,
    )  # fmt: skip
    assert "A run had 4 of bright, 4 of dark, 1 of key events, of 0 to 3 s." in methods(planned)


@pytest.mark.parametrize(
    ("onset", "duration", "modulation"),
    [("", "", "1"), ("NaN", "0", "1"), ("4", "", "1"), ("4", "0", ""), ("4", "0", "nan")],
)
def test_run_design_takes_empty_cells_of_rows_that_show_nothing_for_missing(
    tmp_path: Path, onset: str, duration: str, modulation: str
) -> None:
    """As pandas writes a table: a row without a time is no regressor, one without a factor is 1."""
    lines = ["onset\tduration\ttrial_type\tstim_file\tmodulation"]
    lines += [f"{10 * k}\t3\tshown\ta.png\t1" for k in range(4)]
    table = tmp_path / "run.tsv"
    designs = []
    for cells in ((onset, duration, modulation), ("4", "0", "1")):
        times = f"{cells[0]}\t{cells[1]}\tkey\tn/a\t{cells[2]}"
        table.write_text("\n".join([*lines, times]) + "\n", "utf-8")
        run = run_of_table(read_events(table), {"a.png": 0}, 2.0)
        designs.append(run_design(run, Scan(2.0), {"shown": 1.0}, 1, 128.0, "run 1").matrix)
    given, whole = designs
    if duration == "0" and onset == "4":
        np.testing.assert_array_equal(given, whole)
    else:
        np.testing.assert_array_equal(given, np.delete(whole, 1, axis=1))


def test_run_design_names_a_cell_that_is_no_number(tmp_path: Path) -> None:
    """What shows nothing is not checked when a table is read, but has a regressor."""
    table = tmp_path / "run.tsv"
    rows = ["onset\tduration\ttrial_type\tstim_file", "0\t3\tshown\ta.png", "4 s\t0\tkey\tn/a"]
    table.write_text("\n".join(rows) + "\n", "utf-8")
    run = run_of_table(read_events(table), {"a.png": 0}, 2.0)
    with pytest.raises(DataError, match=r"run 1: onset .* got '4 s' \(key\)"):
        run_design(run, Scan(2.0), {"shown": 1.0}, 1, 128.0, "run 1")


@pytest.mark.slow
def test_plan_scan_takes_movies_in_tables(
    encoder: Encoder, random_weights: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Clips are conditions as pictures are; their frames are no sample of stimuli."""
    rows = ["onset\tduration\ttrial_type\tstim_file"]
    for kind, offset in (("dark", 0), ("bright", 155)):
        with av.open(str(tmp_path / f"{kind}.mp4"), "w") as film:
            stream = film.add_stream("mpeg4", rate=2)
            stream.width = stream.height = 32
            for _ in range(8):
                noise = rng.integers(offset, offset + 100, (32, 32, 3), dtype=np.uint8)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            film.mux(stream.encode())
    for number in range(8):
        kind = ("dark", "bright")[number % 2]
        rows.append(f"{8 * number}\t4\t{kind}\t{kind}.mp4")
    (tmp_path / "run.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    experiment = read_experiment(tmp_path / "run.tsv", Scan(2.0, noise=Noise(60.0)), tmp_path)
    chosen = {"weights": random_weights, "progress": False}
    asked = PowerSettings(1, 3)
    planned = plan_scan(experiment, encoder, scale="1", power=asked, **chosen)
    movies = [encoder.predict_movie(path, average="mean", **chosen) for path in
              (tmp_path / "dark.mp4", tmp_path / "bright.mp4")]  # fmt: skip
    means = [movie.roi_means() for movie in movies]
    place = means[0].places.index(("LOC", "both"))
    difference = np.subtract(*(each.values[place].mean(axis=1) for each in means))
    effects = planned.people.query("roi == 'LOC'")["effect"]
    np.testing.assert_allclose(effects, difference, atol=0.15 * np.abs(difference).max())
    with pytest.raises(OptionError, match="random_stimuli must be of images"):
        asked = PowerSettings(random_stimuli=True)
        plan_scan(experiment, encoder, scale="1", power=asked, **chosen)


# What is refused


def test_plan_scan_region_that_responds_alike_to_all_is_refused(
    folders: Folders, encoder: Encoder, random_weights: Path
) -> None:
    """A region without any difference cannot be planned, and is named."""
    for subject in encoder.bundle.subjects:
        subject.rois["PPA"].weights[:] = 0
    experiment = lay_out_experiment(folders, Scan(2.0, noise=Noise(60.0)), 8)
    chosen = {"scale": "1", "weights": random_weights, "progress": False}
    with pytest.raises(DataError, match="PPA of S1 must respond to some stimuli more .* to all 8"):
        plan_scan(experiment, encoder, **chosen)
    left = plan_scan(experiment, encoder, rois=["LOC"], power=PowerSettings(1, 2), **chosen)
    assert left.rois == ["LOC"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--scale", 0], "--scale must be above 0 percent; got 0"),
        (["--scale", "1:dark - grey:LOC"], "condition of --scale must be one of dark, bright"),
        (["--scale", "1:dark - bright:V9"], "the ROI of --scale must be one of LOC, PPA"),
        (["--runs", 0], "--runs must be 1 or more; got 0"),
        (["--people", 1], "--people must be 2 or more; got 1. The t over people takes two"),
        (["--trial-sd", -1], "--trial-sd must be 0 percent or more; got -1"),
        (["--between-sd", "nan"], "--between-sd must be 0 percent or more; got nan"),
        (["--alpha", 1], "--alpha must lie between 0 and 1; got 1"),
        (["--target", 0], "--target must lie between 0 and 1; got 0"),
        (["--tsnr", 0], "--tsnr must be a positive number"),
        (["-c", "dark - grey"], "condition of --contrast must be one of dark, bright"),
        (["-c", "dark"], "--contrast must have weights that sum to 0"),
        (["--trials", "x"], "--trials must be a whole number for all conditions, or"),
        (["--trials", 0], "--trials must be 1 or more for each condition; got 0 of dark"),
        (["--trials", "dark=8"], "--trials must be 1 or more .*; got 0 of bright"),
        (["--trials", "grey=8"], "--trials must be one of dark, bright; got 'grey'"),
        (["--gap-s", -1], "--gap-s must be 0 seconds or more; got -1"),
        (["--n-volumes", 3], "within the run, 0 to 6 s"),
        (["--stimuli", "dark"], "--stimuli goes with events tables; got folders"),
    ],
)
def test_power_bad_option_is_one_error_and_no_file(
    folders: Folders,
    small_encoder: Path,
    random_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[object],
    match: str,
) -> None:
    """Each bad option is refused at the prompt, with what would do, and nothing is written."""
    given = {
        "--tr-s": "2", "--tsnr": "60", "--scale": "1", "--trials": "8",
        **dict(zip(map(str, options[::2]), map(str, options[1::2]), strict=True)),
    }  # fmt: skip
    words = [word for pair in given.items() for word in pair]
    common = ["--encoder", small_encoder, "--weights", random_weights, "-o", tmp_path / "out", "-q"]
    code = main([*map(str, ("power", *folders)), *words, *map(str, common)])
    assert code in (1, 2)
    assert re.search(match, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--gap-s", "--duration-s", "--trials"])
def test_power_options_of_folders_are_refused_with_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """Tables say themselves when trials come and how long they last."""
    given = ["--tr-s", "2", "--tsnr", "60", "--scale", "1", "-o", str(tmp_path / "out"), option]
    assert main(["power", "events.tsv", *given, "9"]) == 2
    assert f"{option} goes with folders of images; got events tables" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (["0\t2\tdark\tdark/dark0.png", "30\t2\tn/a\tbright/bright0.png"], "1 of 2 have none"),
        (["0\t2\tNA\tdark/dark0.png", "30\t2\tnan\tbright/bright0.png"], "2 of 2 have none"),
        (["0\t2\tdark\tdark/dark0.png"], "contrast must say which of 1 conditions"),
    ],
)
def test_plan_scan_events_without_conditions_are_refused(
    folders: Folders, encoder: Encoder, tmp_path: Path, rows: list[str], match: str
) -> None:
    """Each event that shows something has a condition, and there are two to compare."""
    head = "onset\tduration\ttrial_type\tstim_file"
    (tmp_path / "run.tsv").write_text("\n".join([head, *rows]) + "\n", "utf-8")
    scan = Scan(2.0, noise=Noise(60.0, drift_share=0.0))
    experiment = read_experiment(tmp_path / "run.tsv", scan, tmp_path)
    with pytest.raises(ImgToFmriError, match=match):
        plan_scan(experiment, encoder, scale="1", progress=False)


def test_plan_scan_run_without_a_condition_or_too_short_is_refused(
    folders: Folders, encoder: Encoder, random_weights: Path, tmp_path: Path
) -> None:
    """Every run must hold all conditions and more volumes than its model has columns."""
    scan = Scan(2.0, noise=Noise(60.0, drift_share=0.0))
    head = "onset\tduration\ttrial_type\tstim_file\n"
    one, two = tmp_path / "1.tsv", tmp_path / "2.tsv"
    both = "0\t2\tdark\tdark/dark0.png\n4\t2\tbright\tbright/bright0.png\n"
    one.write_text(head + both, "utf-8")
    two.write_text(head + "0\t2\tdark\tdark/dark1.png\n", "utf-8")
    chosen = {"scale": "1", "weights": random_weights, "progress": False}
    with pytest.raises(DataError, match="run 2: each condition of the contrast .* got no bright"):
        plan_scan(read_experiment([one, two], scan, tmp_path), encoder, **chosen)
    short = read_experiment(one, scan, tmp_path, n_volumes=4)
    with pytest.raises(DataError, match="run 1: a run must have more volumes .* got 4"):
        plan_scan(short, encoder, **chosen)


def test_plan_scan_needs_noise_and_people(
    folders: Folders, make_bundle: Callable[..., Bundle], rng: np.random.Generator,
    random_weights: Path,
) -> None:  # fmt: skip
    """Without noise there is no t, and one person does not tell how people differ."""
    bundle = make_bundle(rng)
    lone = Encoder(dataclasses.replace(bundle, subjects=bundle.subjects[:1]))
    chosen = {"scale": "1", "weights": random_weights, "progress": False}
    with pytest.raises(OptionError, match="tsnr must say how strong the noise is"):
        plan_scan(lay_out_experiment(folders, Scan(2.0), 8), lone, **chosen)
    experiment = lay_out_experiment(folders, Scan(2.0, noise=Noise(60.0)), 8)
    with pytest.raises(DataError, match="`between_sd` must say how people differ"):
        plan_scan(experiment, lone, **chosen)
    told = plan_scan(experiment, lone, power=PowerSettings(2, 5, between_sd=0.4), **chosen)
    assert np.isfinite(told.group["power"]).all()


def test_plan_scan_of_one_movie_alone_is_refused(encoder: Encoder) -> None:
    """A movie by itself has no conditions to compare."""
    scan, film = Scan(2.0, noise=Noise(60.0)), Path("film.mp4")
    alone = Experiment(scan, (("film.mp4", film),), movies={"film.mp4": Movie(film)})
    with pytest.raises(OptionError, match="got one movie alone, which has nothing to be compared"):
        plan_scan(alone, encoder, scale="1", progress=False)


def test_plan_scan_random_stimuli_are_two_or_more(
    dark_and_bright: Callable[[int], Folders], encoder: Encoder, random_weights: Path
) -> None:
    """One picture of a kind does not tell how pictures differ."""
    experiment = lay_out_experiment(dark_and_bright(1), Scan(2.0, noise=Noise(60.0)), 8)
    with pytest.raises(OptionError, match="random_stimuli must have two stimuli or more"):
        plan_scan(
            experiment, encoder, scale="1", power=PowerSettings(random_stimuli=True),
            weights=random_weights, progress=False,
        )  # fmt: skip


def test_parse_trials_other_words_are_refused() -> None:
    """A number, or names with numbers."""
    for words in (["many"], ["a=b"], ["3", "4"]):
        with pytest.raises(OptionError, match="trials must be a whole number"):
            parse_trials(words)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0", "must be above 0 percent; got 0"),
        ("-1:a - b:PPA", "must be above 0 percent; got -1"),
        ("inf", "must be above 0 percent; got inf"),
        ("one", "PERCENT:CONTRAST:ROI"),
        ("1:a - b", "PERCENT:CONTRAST:ROI"),
        ("1::PPA", "PERCENT:CONTRAST:ROI"),
        ("1:a - b:", "PERCENT:CONTRAST:ROI"),
    ],
)
def test_scale_bad_text_is_refused(text: str, match: str) -> None:
    """A scale has a percent above 0 and, if it has a contrast, an ROI."""
    with pytest.raises(OptionError, match=match):
        Scale.parse(text)
    with pytest.raises(OptionError, match="both a contrast and its ROI, or neither"):
        Scale(1.0, "a - b")


# Files


def test_power_writes_tables_that_explain_themselves(
    folders: Folders,
    small_encoder: Path,
    random_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each column is told of in a sidecar, each region has its line, and the record its scale."""
    out = tmp_path / "out"
    words = ["--tr-s", 2, "--tsnr", 60, "--scale", 2, "--trials", 8, "--runs", 1, "--people", 3]
    common = ["--encoder", small_encoder, "--weights", random_weights, "-o", out, "-q"]
    assert main([str(word) for word in ("power", *folders, *words, *common)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("dark - bright  (scale: 2 % per model unit; 2 % per unit)")
    assert [line.split()[0] for line in printed[1:]] == ["LOC", "PPA"]
    for name in COLUMNS:
        table = pd.read_csv(out / f"{name}.tsv", sep="\t")
        described = json.loads((out / f"{name}.json").read_text("utf-8"))
        assert list(described) == list(table)
        assert all(each["Description"] for each in described.values())
    said = json.loads((out / "power.json").read_text("utf-8"))["settings"]
    assert (said["scale"], said["percent_per_unit"]) == ("2 % per model unit", 2.0)
    assert (said["hrf"], said["n_runs"], said["between_sd"]) == ("glover", 1, None)
    trials = {"dark": 8, "bright": 8}
    laid_out = {"trials": trials, "duration_s": 2.0, "gap_s": 4.0, "seed": 0}
    assert (said["layout"], said["rate_hz"]) == (laid_out, None)
    text = (out / "methods.md").read_text("utf-8")
    for words in (
        "2 % per",
        "glover response",
        "60 in a voxel",
        "A run had 8 of bright, 8 of dark events, of 2 s, with gaps of 4 s.",
        "Stimuli were fixed",
        "LOC:",
        "PPA:",
    ):
        assert words in text or words == "2 % per"
    assert "a response of 1 in the model's units is 2 %" in text
    assert {path.suffix for path in out.iterdir()} == {
        *(".tsv", ".json", ".png", ".svg", ".md", ".html")
    }
    page = (out / "report.html").read_text("utf-8")
    assert "own regions were read there, and nothing was smoothed" in page
    assert "Surfaces: " not in page
