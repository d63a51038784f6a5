"""``imgtofmri power``: the t and the power that a scan is expected to have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options, scanning
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say
from imgtofmri.exceptions import OptionError

if TYPE_CHECKING:
    from imgtofmri.analyses.power import Plan
    from imgtofmri.encoder import Settings
    from imgtofmri.experiments import Experiment, Scan


@options.takes_settings(average="mean")
def power(
    *,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE|FOLDER",
            help="Events tables (one a run), or one folder a condition.",
        ),
    ],
    output: options.Output,
    tr_s: scanning.TrS,
    scale: scanning.Scale,
    tsnr: Annotated[
        float,
        typer.Option("--tsnr", help="Temporal SNR of a voxel (mean / standard deviation)."),
    ],
    contrast: Annotated[
        str | None,
        typer.Option(
            "--contrast",
            "-c",
            metavar="CONTRAST",
            help="Of conditions, such as 'place - object'. By default the first of two minus the "
            "second.",
        ),
    ] = None,
    stimuli: scanning.Stimuli = None,
    trials: Annotated[
        list[str] | None,
        typer.Option(
            "--trials",
            metavar="N|CONDITION=N",
            help="With folders: trials in a run, of all conditions or of each.",
        ),
    ] = None,
    duration_s: Annotated[
        float, typer.Option("--duration-s", help="With folders: how long each image is shown.")
    ] = 2.0,
    gap_s: Annotated[
        float, typer.Option("--gap-s", help="With folders: from an image's end to the next.")
    ] = 4.0,
    n_volumes: scanning.NVolumes = None,
    n_runs: Annotated[int, typer.Option("--runs", help="Up to how many runs a person.")] = 6,
    n_people: Annotated[int, typer.Option("--people", help="Up to how many people.")] = 30,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Two-sided level of each test, uncorrected.")
    ] = 0.05,
    target: Annotated[float, typer.Option("--target", help="The power that is wanted.")] = 0.8,
    trial_sd: Annotated[
        float,
        typer.Option("--trial-sd", help="Variability from trial to trial (SD), in percent."),
    ] = 0.0,
    between_sd: Annotated[
        float | None,
        typer.Option(
            "--between-sd",
            help="Variability of the effect between people, in percent. By default that of the "
            "encoder's people, who are few.",
        ),
    ] = None,
    random_stimuli: Annotated[
        bool,
        typer.Option(
            "--random-stimuli", help="Generalise to other stimuli of the same kinds, too."
        ),
    ] = False,
    hrf: scanning.Hrf = "glover",
    slice_time_ref: scanning.SliceTimeRef = 0.0,
    ar1: scanning.Ar1 = 0.4,
    ar1_share: scanning.Ar1Share = 0.5,
    drift_share: scanning.DriftShare = 0.1,
    drift_cutoff_s: scanning.DriftCutoffS = 128.0,
    noise_fwhm_mm: scanning.NoiseFwhmMm = 6.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With folders: of the order.")] = 0,
    rate_hz: options.RateHz = 2.0,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Plan a scan: the expected t of a contrast and its power, over runs and people.

    The encoder predicts how each of its people's regions respond to the stimuli; --scale says once
    how large that is, in percent; the design and the noise say what a general linear model will
    find. Nothing is simulated. Writes tables (people, group, needed), each with a sidecar that
    explains its columns, a figure, and a paragraph for a methods section.

    **Examples**

    imgtofmri power place/ dog/ --trials 20 --tr-s 2 --tsnr 60 --scale "1:place - dog:PPA" -o out/

    imgtofmri power run1.tsv run2.tsv --stimuli photos/ --tr-s 1.5 --tsnr 50 --scale 4 -o out/

    imgtofmri power a/ b/ --trials a=30 --trials b=10 --tr-s 2 --tsnr 60 --scale 4 -o out/
    """
    from imgtofmri.analyses.power import PowerSettings, plan_scan, save_plan
    from imgtofmri.experiments import Noise, Scale
    from imgtofmri.outputs import OutputFolder

    size = Scale.parse(scale)
    asked = PowerSettings(n_runs, n_people, trial_sd, between_sd, random_stimuli, alpha, target)
    noise = Noise(tsnr, ar1, ar1_share, drift_share, drift_cutoff_s, noise_fwhm_mm)
    scan = scanning.scan_of(tr_s, hrf, slice_time_ref, noise)
    folder = OutputFolder.of(output, "power", overwrite=overwrite)
    if inputs and all(path.is_dir() for path in inputs):
        experiment = _laid_out(
            inputs, scan, trials, stimuli, duration_s, gap_s, n_runs, n_volumes, seed
        )
    else:
        why = (
            "goes with folders of images; got events tables, which say what is shown when. Leave "
            "it out."
        )
        laid_out = {"trials": trials, "duration_s": duration_s, "gap_s": gap_s}
        options.refuse_idle(power, laid_out, why)
        experiment = _read(inputs, scan, stimuli, n_volumes, rate_hz)
    plan = plan_scan(
        experiment,
        encoder,
        settings,
        scale=size,
        contrast=contrast,
        power=asked,
        progress=not quiet,
    )
    save_plan(plan, folder)
    _report(plan)
    say(f"planned: {output}", err=True)
    make_page(output, report)
    return 0


def _laid_out(
    inputs: list[Path],
    scan: Scan,
    trials: list[str] | None,
    stimuli: Path | None,
    duration_s: float,
    gap_s: float,
    n_runs: int,
    n_volumes: int | None,
    seed: int,
) -> Experiment:
    """Lay out trials of the images in folders."""
    from imgtofmri.analyses.power import lay_out_experiment, parse_trials

    if stimuli is not None:
        message = (
            "stimuli goes with events tables; got folders of images, which name conditions. Leave "
            "it out."
        )
        raise OptionError(message, "stimuli")
    if not trials:
        message = (
            "trials must say how many trials of each condition a run has; got none. Give for "
            "example 20."
        )
        raise OptionError(message, "trials")
    return lay_out_experiment(
        inputs,
        scan,
        parse_trials(trials),
        duration_s=duration_s,
        gap_s=gap_s,
        n_runs=n_runs,
        n_volumes=n_volumes,
        seed=seed,
    )


def _read(
    inputs: list[Path],
    scan: Scan,
    stimuli: Path | None,
    n_volumes: int | None,
    rate_hz: float,
) -> Experiment:
    """Read events tables."""
    from imgtofmri.experiments import read_experiment

    return read_experiment(inputs, scan, stimuli, n_volumes=n_volumes, rate_hz=rate_hz)


def _report(plan: Plan) -> None:
    """Print the scale, and a line for each region."""
    asked = plan.settings
    say(f"{plan.contrast}  (scale: {plan.scale}; {plan.percent_per_unit:.4g} % per unit)")
    for roi in plan.rois:
        rows = plan.people.query("roi == @roi and n_runs == @asked.n_runs")
        effect, t = rows["effect"], rows["t"]
        needed = plan.people_needed(roi)
        say(
            f"  {roi:<10} runs {asked.n_runs}  effect {effect.mean():+.3f} % "
            f"({effect.min():+.3f} to {effect.max():+.3f})  t {t.mean():+.2f} ({t.min():+.2f} to "
            f"{t.max():+.2f})  people for {asked.target:.0%} power: {needed or 'n/a'}"
        )
