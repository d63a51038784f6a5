"""Compare plans with simulated experiments that nilearn fits.

Run ``python benchmarks/power_check.py FOLDER FOLDER``; the folders hold images of two kinds. For
each of the encoder's people and two regions, 200 experiments of two runs are simulated voxel by
voxel in native space, with smooth AR(1) noise and drift, averaged over the region and fitted by
nilearn's first level; once more with a trial-to-trial variability on top. The same noise is fitted
without the signal, too: its t is 0 on average, as noise has no sign, so that what follows from it
is subtracted, and the mean over experiments has a small standard error. A line gives t as planned
and as found, the difference in percent with that standard error, and how often the contrast is
found at a level of 0.05, as planned and as found.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.glm.first_level import FirstLevelModel
from scipy import stats

from imgtofmri import load_encoder
from imgtofmri.analyses.power import Plan, PowerSettings, lay_out_experiment, plan_scan
from imgtofmri.analyses.simulate import Events, Noise, Scan, simulate_bold
from imgtofmri.bundle import SubjectModel
from imgtofmri.experiments import Experiment

ROIS = ("PPA", "LOC")
N_RUNS = 2


def region(subject: SubjectModel, roi: str, hemi: int, room: int = 5) -> tuple[np.ndarray, ...]:
    """Return a mask of one hemisphere's region, with room around it, and its voxels in the model.

    The voxels are in the order of the mask.
    """
    model = subject.rois[roi]
    which = np.flatnonzero(model.hemi == hemi)
    places = np.array(np.unravel_index(model.voxels[which], subject.native.shape))
    places += room - places.min(axis=1, keepdims=True)
    mask = np.zeros(places.max(axis=1) + room + 1, dtype=bool)
    mask[tuple(places)] = True
    return mask, which[np.argsort(np.ravel_multi_index(tuple(places), mask.shape))]


def simulated(plan: Plan, subject: SubjectModel, roi: str, native: np.ndarray, n: int) -> list:
    """Return each run's mean over the region in each experiment, shape (n_volumes, n)."""
    hemis = [region(subject, roi, hemi) for hemi in np.unique(subject.rois[roi].hemi)]
    series = []
    for number, run in enumerate(plan.runs):
        total = np.zeros((run.n_volumes, n))
        for side, (mask, voxels) in enumerate(hemis):
            for experiment in range(n):
                total[:, experiment] += simulate_bold(
                    native[:, voxels], run.events, plan.scan.tr_s, run.n_volumes,
                    noise=plan.scan.noise, percent_per_unit=plan.percent_per_unit,
                    seed=(number * len(hemis) + side) * n + experiment,
                    mask=mask, affine=subject.native.affine,
                ).sum(axis=1, dtype=np.float64)  # fmt: skip
        series.append(total / native.shape[1])
    return series


def without_signal(series: list, plan: Plan, native: np.ndarray) -> list:
    """Return the series less what each run's region answers on average: the noise alone."""
    found = []
    for run, total in zip(plan.runs, series, strict=True):
        signal = simulate_bold(
            native, run.events, plan.scan.tr_s, run.n_volumes,
            percent_per_unit=plan.percent_per_unit,
        ).mean(axis=1, dtype=np.float64)  # fmt: skip
        found.append(total - signal[:, None] + 100.0)
    return found


def with_trials(series: list, plan: Plan, trial_sd: float) -> list:
    """Add a response of random size to each trial."""
    rng, found = np.random.default_rng(1), []
    for run, total in zip(plan.runs, series, strict=True):
        events = run.events
        n_trials = len(events.onsets_s)
        trials = Events(events.onsets_s, events.durations_s, np.arange(n_trials))
        drawn = trial_sd * rng.normal(size=(n_trials, total.shape[1]))
        found.append(total + simulate_bold(drawn, trials, plan.scan.tr_s, run.n_volumes) - 100.0)
    return found


def fitted(
    series: list[np.ndarray], plan: Plan, experiment: Experiment
) -> tuple[np.ndarray, float]:
    """Fit experiments with nilearn, each as a voxel, half of them without signal.

    Returns t of both halves and its degrees of freedom.
    """
    images = [nib.Nifti1Image(run.T[None, None], np.eye(4)) for run in series]
    tables = []
    for table in experiment.events:
        frame = pd.DataFrame(table.rows, columns=table.columns)
        times = frame[["onset", "duration"]].astype(float)
        tables.append(times.assign(trial_type=frame["trial_type"]))
    mask = nib.Nifti1Image(np.ones((1, 1, series[0].shape[1]), np.uint8), np.eye(4))
    model = FirstLevelModel(
        t_r=plan.scan.tr_s, hrf_model="glover", high_pass=1 / 128, noise_model="ar1",
        signal_scaling=False, mask_img=mask,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(images, tables)
        image = model.compute_contrast(plan.contrast, stat_type="t", output_type="stat")
    dof = sum(
        len(run) - design.shape[1]
        for run, design in zip(series, model.design_matrices_, strict=True)
    )
    return np.asarray(image.get_fdata()).reshape(2, -1), float(dof)


def main() -> None:
    """Print a line for each person, region and trial-to-trial variability."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs=2)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--scale", default="15")
    parser.add_argument("--subject", action="append", help="one of the people, not all")
    parser.add_argument("--backbone", help="the network, where the encoder's own is not there")
    arguments = parser.parse_args()
    encoder = load_encoder()
    scan = Scan(2.0, noise=Noise(60.0, fwhm_mm=6.0))
    experiment = lay_out_experiment(arguments.folders, scan, 12, n_runs=N_RUNS)
    settings = {"rois": ROIS, "backbone": arguments.backbone, "progress": False}
    paths = [path for _, path in experiment.stimuli]
    predicted = encoder.predict(paths, average="mean", **settings)
    asked = PowerSettings(n_runs=N_RUNS)
    plans = {
        trial_sd: plan_scan(
            experiment,
            encoder,
            scale=arguments.scale,
            power=replace(asked, trial_sd=trial_sd),
            **settings,
        )
        for trial_sd in (0.0, 0.4)
    }
    worst = 0.0
    print(f"{'':<26} {'t planned':>9} {'found':>7}  difference (SE)   power planned, found")
    people = encoder.bundle.subjects
    for subject in (one for one in people if one.name in (arguments.subject or [one.name])):
        for roi in ROIS:
            native = predicted.roi_responses(roi, subject.name)
            series = simulated(plans[0.0], subject, roi, native, arguments.experiments)
            for trial_sd, plan in plans.items():
                noise = without_signal(series, plan, native)
                both = [
                    np.concatenate(pair, axis=1)
                    for pair in zip(
                        with_trials(series, plan, trial_sd),
                        with_trials(noise, plan, trial_sd),
                        strict=True,
                    )
                ]
                (t, alone), dof = fitted(both, plan, experiment)
                own = t - np.cov(t, alone)[0, 1] / alone.var(ddof=1) * alone
                rows = plan.people.query("roi == @roi and subject == @subject.name")
                row = rows[rows["n_runs"] == N_RUNS].iloc[0]
                off = 100.0 * (own.mean() / row["t"] - 1.0)
                error = 100.0 * own.std(ddof=1) / len(own) ** 0.5 / abs(row["t"])
                worst = max(worst, abs(off))
                share = (np.sign(row["t"]) * t > stats.t.isf(0.025, dof)).mean()
                print(
                    f"{subject.name} {roi:<5} trial SD {trial_sd:g} % ".ljust(26)
                    + f" {row['t']:9.2f} {own.mean():7.2f} {off:+7.1f} % ({error:.1f})"
                    f"     {row['power']:.3f}, {share:.3f}",
                    flush=True,
                )
    print(f"largest difference: {worst:.1f} %")


if __name__ == "__main__":
    main()
