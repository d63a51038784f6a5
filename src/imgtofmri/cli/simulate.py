"""``imgtofmri simulate``: an events table or a movie to simulated BOLD runs, as a BIDS dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from imgtofmri.cli import options, scanning
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.analyses.simulate.analysis import VoxelsName
    from imgtofmri.encoder import Settings
    from imgtofmri.outputs.series import DtypeName


@options.takes_settings(average="mean")
def simulate(
    *,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Events tables (one a run), or one movie."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new dataset.")],
    tr_s: scanning.TrS,
    stimuli: scanning.Stimuli = None,
    n_volumes: scanning.NVolumes = None,
    subjects: Annotated[
        str,
        typer.Option(
            metavar="each|group|N",
            help="The encoder's subjects, their mean, or N new ones that differ as they do.",
        ),
    ] = "each",
    runs: Annotated[int, typer.Option("--runs", help="Repeat each run, with noise anew.")] = 1,
    hrf: scanning.Hrf = "glover",
    slice_time_ref: scanning.SliceTimeRef = 0.0,
    tsnr: Annotated[
        float | None,
        typer.Option("--tsnr", help="Add noise of this temporal SNR (mean / standard deviation)."),
    ] = None,
    ar1: scanning.Ar1 = 0.4,
    ar1_share: scanning.Ar1Share = 0.5,
    drift_share: scanning.DriftShare = 0.1,
    drift_cutoff_s: scanning.DriftCutoffS = 128.0,
    noise_fwhm_mm: scanning.NoiseFwhmMm = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of noise and of drawn subjects.")] = 0,
    baseline: Annotated[
        float, typer.Option("--baseline", help="Value of a voxel at rest.")
    ] = 100.0,
    scale: scanning.Scale = "1",
    voxels: Annotated[
        str,
        typer.Option(
            "--voxels", metavar="brain|predicted", help="Which voxels have a baseline and noise."
        ),
    ] = "brain",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="float32|int16", help="How volumes are stored.")
    ] = "float32",
    task: Annotated[
        str, typer.Option("--task", help="The task's label: letters and digits.")
    ] = "simulation",
    copy_stimuli: Annotated[
        bool, typer.Option(help="Copy the stimuli into the dataset, as BIDS wants it.")
    ] = True,
    rate_hz: options.RateHz = 2.0,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Simulate the BOLD runs of an experiment, as a BIDS dataset in the encoder's space.

    An events table is BIDS's: tab-separated, with the columns onset, duration (seconds) and
    stim_file (images and movies), and amplitude or modulation if responses shall be scaled. Each
    table is a run.
    Nothing is at OUTPUT until all is written; nilearn's first_level_from_bids takes it as it is.

    **Examples**

    imgtofmri simulate events.tsv --stimuli photos/ --tr-s 2 --tsnr 60 -o sim/

    imgtofmri simulate run1.tsv run2.tsv --stimuli photos/ --tr-s 1.5 --subjects 20 -o sim/

    imgtofmri simulate events.tsv --stimuli photos/ --tr-s 2 --scale "1:place - object:PPA" -o sim/

    imgtofmri simulate film.mp4 --tr-s 2 --hrf gam --voxels predicted -o sim/
    """
    from imgtofmri.analyses.simulate import (
        Noise,
        Scale,
        check_storage,
        dataset_folder,
        read_experiment,
        save_simulation,
        simulate_experiment,
    )

    size = Scale.parse(scale)
    check_storage(task, dtype)
    if tsnr is None:
        of_noise = {
            "ar1": ar1,
            "ar1_share": ar1_share,
            "drift_share": drift_share,
            "drift_cutoff_s": drift_cutoff_s,
            "noise_fwhm_mm": noise_fwhm_mm,
        }
        why = (
            "goes with `tsnr`, which adds the noise; got it alone. Give for example `tsnr` 60, or "
            "leave it out."
        )
        options.refuse_idle(simulate, of_noise, why)
    shares = (ar1, ar1_share, drift_share, drift_cutoff_s, noise_fwhm_mm)
    noise = None if tsnr is None else Noise(tsnr, *shares)
    scan = scanning.scan_of(tr_s, hrf, slice_time_ref, noise, baseline)
    folder = dataset_folder(output, overwrite=overwrite)
    simulation = simulate_experiment(
        read_experiment(inputs, scan, stimuli, n_volumes=n_volumes, rate_hz=rate_hz),
        encoder,
        settings,
        subjects=int(subjects) if subjects.isdecimal() and len(subjects) < 20 else subjects,
        runs=runs,
        seed=seed,
        scale=size,
        voxels=cast("VoxelsName", voxels),
        progress=not quiet,
    )
    save_simulation(
        simulation,
        folder,
        task=task,
        dtype=cast("DtypeName", dtype),
        copy_stimuli=copy_stimuli,
        progress=not quiet,
    )
    n_subjects = len(simulation.subjects)
    counts = f"runs: {len(simulation.runs) * n_subjects}, subjects: {n_subjects}"
    unit = simulation.scan.percent_per_unit
    say(f"scale: {size}; a response of 1 in model units: {unit:.4g} %", err=True)
    say(f"simulated ({counts}): {output}", err=True)
    make_page(output, report)
    return 0
