"""``imgtofmri simulate``: an events table or a movie to simulated BOLD runs, as a BIDS dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from imgtofmri.cli import options
from imgtofmri.exceptions import OptionError

if TYPE_CHECKING:
    from imgtofmri.analyses.simulate.analysis import VoxelsName
    from imgtofmri.encoder import Settings
    from imgtofmri.outputs.series import DtypeName

# The step at which a haemodynamic response from a file is sampled, in seconds.
KERNEL_STEP_S = 0.05


@options.takes_settings(average="mean")
def simulate(
    *,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Events tables (one a run), or one movie."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new dataset.")],
    tr_s: Annotated[float, typer.Option("--tr-s", help="Repetition time, in seconds.")],
    stimuli: Annotated[
        Path | None,
        typer.Option("--stimuli", metavar="FOLDER", help="Where the tables' stim_file starts."),
    ] = None,
    n_volumes: Annotated[
        int | None,
        typer.Option("--n-volumes", help="Length of a run; by default to 16 s after its events."),
    ] = None,
    subjects: Annotated[
        str,
        typer.Option(
            metavar="each|group|N",
            help="The encoder's subjects, their mean, or N new ones that differ as they do.",
        ),
    ] = "each",
    runs: Annotated[int, typer.Option("--runs", help="Repeat each run, with noise anew.")] = 1,
    hrf: Annotated[
        str,
        typer.Option(
            "--hrf",
            metavar="gam|glover|spm|FILE",
            help="Haemodynamic response; a file holds seconds and response in two columns.",
        ),
    ] = "glover",
    slice_time_ref: Annotated[
        float,
        typer.Option(
            "--slice-time-ref", help="Where in its TR a volume samples: 0 start, 0.5 middle."
        ),
    ] = 0.0,
    tsnr: Annotated[
        float | None,
        typer.Option("--tsnr", help="Add noise of this temporal SNR (mean / standard deviation)."),
    ] = None,
    ar1: Annotated[
        float, typer.Option("--ar1", help="Lag-1 autocorrelation of the AR(1) noise.")
    ] = 0.4,
    ar1_share: Annotated[
        float, typer.Option("--ar1-share", help="AR(1)'s share of the noise variance.")
    ] = 0.5,
    drift_share: Annotated[
        float, typer.Option("--drift-share", help="Slow drift's share of it; the rest is white.")
    ] = 0.1,
    drift_cutoff_s: Annotated[
        float, typer.Option("--drift-cutoff-s", help="Shortest period of the drift, in seconds.")
    ] = 128.0,
    noise_fwhm_mm: Annotated[
        float,
        typer.Option(
            "--noise-fwhm-mm", help="Smoothness of the noise in space; 0: voxels are independent."
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of noise and of drawn subjects.")] = 0,
    baseline: Annotated[
        float, typer.Option("--baseline", help="Value of a voxel at rest.")
    ] = 100.0,
    peak_percent: Annotated[
        float,
        typer.Option(
            "--peak-percent", help="Scale signals so that the strong ones reach this, in percent."
        ),
    ] = 2.0,
    percent_per_unit: Annotated[
        float | None,
        typer.Option(
            "--percent-per-unit",
            help="Instead: percent of signal change for a response of 1 in the models' units.",
        ),
    ] = None,
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
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Simulate the BOLD runs of an experiment, as a BIDS dataset in the encoder's space.

    An events table is BIDS's: tab-separated, with the columns onset, duration (seconds) and
    stim_file, and amplitude or modulation if responses shall be scaled. Each table is a run.
    Nothing is at OUTPUT until all is written; nilearn's first_level_from_bids takes it as it is.

    **Examples**

    imgtofmri simulate events.tsv --stimuli photos/ --tr-s 2 --tsnr 60 -o sim/

    imgtofmri simulate run1.tsv run2.tsv --stimuli photos/ --tr-s 1.5 --subjects 20 -o sim/

    imgtofmri simulate film.mp4 --tr-s 2 --hrf gam --voxels predicted -o sim/
    """
    from imgtofmri.analyses.simulate import (
        Noise,
        Scan,
        check_storage,
        dataset_folder,
        read_experiment,
        read_kernel,
        save_simulation,
        simulate_experiment,
    )
    from imgtofmri.timeseries import HRF_NAMES

    check_storage(task, dtype)
    if noise_fwhm_mm and tsnr is None:
        message = (
            "noise_fwhm_mm goes with `tsnr`, which adds the noise; got it alone. Give for example "
            "`tsnr` 60."
        )
        raise OptionError(message, "noise_fwhm_mm")
    noise = None
    if tsnr is not None:
        noise = Noise(tsnr, ar1, ar1_share, drift_share, drift_cutoff_s, noise_fwhm_mm)
    is_file = hrf not in HRF_NAMES and Path(hrf).is_file()
    scan = Scan(
        tr_s,
        hrf=read_kernel(hrf, KERNEL_STEP_S) if is_file else hrf,
        hrf_step_s=KERNEL_STEP_S,
        slice_time_ref=slice_time_ref,
        baseline=baseline,
        percent_per_unit=1.0 if percent_per_unit is None else percent_per_unit,
        noise=noise,
    )
    folder = dataset_folder(output, overwrite=overwrite)
    simulation = simulate_experiment(
        read_experiment(inputs, scan, stimuli, n_volumes=n_volumes, rate_hz=rate_hz),
        encoder,
        settings,
        subjects=int(subjects) if subjects.isdecimal() else subjects,
        runs=runs,
        seed=seed,
        peak_percent=peak_percent if percent_per_unit is None else None,
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
    typer.echo(f"simulated ({counts}): {output}", err=True)
    return 0
