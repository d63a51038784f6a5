"""Files of a plan: tables that explain themselves, a figure, a paragraph, and the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imgtofmri.analyses.power.analysis import MAX_PEOPLE, Plan
from imgtofmri.analyses.power.glm import modelled_rows
from imgtofmri.figures.style import save_figure
from imgtofmri.files import write_whole
from imgtofmri.outputs import OutputFolder
from imgtofmri.tables import write_described

COMMAND = "power"

_ROI = "the region; its response is the mean over the voxels of a person's own"
_RUNS = "runs of each person, whose estimates are averaged with equal weights"
_LEVEL = "two-sided, at the level that the record has as alpha"

COLUMNS: dict[str, dict[str, str]] = {
    "people": {
        "roi": _ROI,
        "subject": "one of the encoder's people",
        "n_voxels": "voxels of the person's own region, in native space",
        "roi_tsnr": "temporal signal-to-noise ratio of the region's mean: that of a voxel, divided "
        "by the root of the voxels' mean noise correlation",
        "n_runs": _RUNS,
        "effect": "the contrast as the model finds it in the region's signal, for stimuli that "
        "stay on, in percent of the baseline; proportional to the scale",
        "se": "standard error of its estimate, from one experiment of this person to the next, in "
        "percent of the baseline",
        "t": "expected t as nilearn reports it: the mean over experiments",
        "dof": "degrees of freedom of t as nilearn reports them",
        "inflation": "the standard error, over the one that the model reports on average: above 1 "
        "the reported t is too large, as the noise is not the model's; below 1 it is too small, as "
        "stimuli of a condition differ",
        "power": "share of experiments of this person that find the contrast with its predicted "
        f"sign, {_LEVEL}",
    },
    "group": {
        "roi": _ROI,
        "n_runs": _RUNS,
        "n_people": "people who are scanned",
        "effect": "the mean of the encoder's people's effects, in percent of the baseline",
        "between_sd": "standard deviation of the true effect between people, in percent: of the "
        "encoder's, who are few, or as given; n/a where fewer than two have the region",
        "within_sd": "standard deviation of an estimate about the person's true effect, in percent",
        "stimulus_sd": "standard deviation of the mean over people, were other stimuli of the same "
        "kinds shown, in percent; 0 where stimuli are fixed",
        "se": "standard error of the mean over people, in percent",
        "t": "effect over its standard error",
        "dof": "degrees of freedom of the t over people",
        "power": f"share of experiments that find the contrast with its predicted sign, {_LEVEL}",
        "power_low": "the same, were the mean effect that of the encoder's weakest person",
        "power_high": "the same, were the mean effect that of the encoder's strongest person",
    },
    "needed": {
        "roi": _ROI,
        "n_runs": _RUNS,
        "n_people": "the least number of people with the power that the record has as target; n/a "
        f"where {MAX_PEOPLE} are too few, or where it is unknown how people differ",
        "power": "the power with so many people",
    },
}
"""What each column of each table means, which the sidecars say."""


def save_plan(
    plan: Plan, folder: OutputFolder | str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Write a plan's tables with sidecars, its figure, a paragraph for a methods section, a record.

    Parameters
    ----------
    plan : Plan
    folder : OutputFolder, str or Path
    overwrite : bool
        Replace what an earlier run wrote there.

    Returns
    -------
    list of Path
        The files, without the record, ``power.json``.

    Raises
    ------
    OptionError
        If the folder holds results of an earlier run.
    OutputError
        If the folder cannot be written to.
    """
    out = OutputFolder.of(folder, COMMAND, overwrite=overwrite)
    with out.begin(_settings(plan), plan.provenance.to_dict()):
        shown = (*plan.tables, *plan.stimuli)
        out.used(
            [each.name for each in shown],
            [each.sha256 for each in shown],
            [each.path for each in shown],
        )
        files: list[Path] = []
        for name, columns in COLUMNS.items():
            table = getattr(plan, name)[list(columns)]
            files += write_described(table, out.path / f"{name}.tsv", columns)
        files += save_figure(plan.plot(), out.path / "plan", note=plan.provenance.note)
        files.append(out.path / "methods.md")
        write_whole(files[-1], methods(plan).encode("utf-8"))
        out.wrote(*files)
    return files


def methods(plan: Plan) -> str:
    """Return a paragraph for a methods section, which says all that the plan depends on."""
    scan, asked, noise = plan.scan, plan.settings, plan.scan.noise
    assert noise is not None
    lengths = sorted({run.n_volumes for run in plan.runs})
    volumes = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    response = f"the {scan.hrf} response" if isinstance(scan.hrf, str) else "a response of our own"
    trials = "No variability from trial to trial was added."
    if asked.trial_sd:
        trials = f"Responses varied from trial to trial by {asked.trial_sd:g} % (SD)."
    if asked.between_sd is None:
        spread = "taken from the people whom the encoding model was fitted on, who are few"
    else:
        spread = f"taken to be {asked.between_sd:g} % (SD)"
    stimuli = "fixed: the conclusion holds for the stimuli that are shown"
    if asked.random_stimuli:
        stimuli = "a random factor, with Satterthwaite's degrees of freedom"
    network = plan.provenance.network
    note = f" Note: {network.note}." if network and network.note else ""
    sentences = [
        f"The contrast {plan.contrast} was planned with the encoding model "
        f"{plan.provenance.encoder or 'at hand'} (imgtofmri), which predicted the mean response of "
        f"each person's own regions to each stimulus.{note}",
        f"Signals were scaled so that {_scale(plan)}.",
        f"{_shown(plan)}.",
        f"Runs of {volumes} volumes (TR {scan.tr_s:g} s) were modelled with {response}, cosines "
        f"slower than 1/{noise.drift_cutoff_s:g} Hz, a constant and AR(1) prewhitening.",
        f"Noise had a temporal signal-to-noise ratio of {noise.tsnr:g} in a voxel and a smoothness "
        f"of {noise.fwhm_mm:g} mm (FWHM): {noise.ar1_share:.0%} of its variance AR(1) with "
        f"coefficient {noise.ar1:g}, {noise.drift_share:.0%} slow drift, the rest white.",
        trials,
        f"Differences between people were {spread}.",
        f"Stimuli were {stimuli}.",
        "The expected t and the power follow from the design by the general linear model (Mumford "
        "and Nichols 2008, doi:10.1016/j.neuroimage.2007.07.061).",
    ]
    results = [_result(plan, roi) for roi in plan.rois]
    return "\n".join([*sentences, *results]) + "\n"


def _shown(plan: Plan) -> str:
    """Say what a run shows."""
    runs = [modelled_rows(run) for run in plan.runs]
    kinds = [[row["trial_type"] for row in rows] for rows in runs]
    said = [
        f"{_span([shown.count(kind) for shown in kinds])} of {kind}"
        for kind in sorted({name for shown in kinds for name in shown})
    ]
    lasted = [float(row["duration"]) for rows in runs for row in rows]
    gap = f", with gaps of {plan.layout['gap_s']:g} s" if plan.layout else ""
    return f"A run had {', '.join(said)} events, of {_span(lasted)} s{gap}"


def _span(numbers: Sequence[float]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _scale(plan: Plan) -> str:
    """Say the scale in a sentence."""
    unit = f"a response of 1 in the model's units is {plan.percent_per_unit:.4g} %"
    return f"{plan.scale} ({unit})" if plan.scale.contrast else unit


def _result(plan: Plan, roi: str) -> str:
    """Say what is expected of one region."""
    asked = plan.settings
    people = plan.people.query("roi == @roi and n_runs == @asked.n_runs")
    t, effect, dof = people["t"], people["effect"], people["dof"].iloc[0]
    text = (
        f"{roi}: with {_count(asked.n_runs, 'run')} the expected effect is {effect.mean():.2g} % "
        f"({effect.min():.2g} to {effect.max():.2g} over {len(people)} people), t({dof:.0f}) = "
        f"{t.mean():.1f} in one person ({t.min():.1f} to {t.max():.1f})"
    )
    level = f"a power of {asked.target:.0%} at a two-sided level of {asked.alpha:g}, uncorrected"
    number = plan.people_needed(roi)
    if number is None:
        return f"{text}; no number of people up to {MAX_PEOPLE} is known to have {level}."
    return f"{text}; {number} people have {level}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _settings(plan: Plan) -> dict[str, Any]:
    """Return what the record says besides what predicted the responses."""
    scan, noise = plan.scan, plan.scan.noise
    assert noise is not None
    return {
        "contrast": plan.contrast,
        "scale": str(plan.scale),
        "percent_per_unit": plan.percent_per_unit,
        "n_volumes": [run.n_volumes for run in plan.runs],
        "tr_s": scan.tr_s,
        "hrf": scan.hrf_said,
        "slice_time_ref": scan.slice_time_ref,
        "noise": asdict(noise),
        "layout": dict(plan.layout) or None,
        "rate_hz": plan.rate_hz,
        **asdict(plan.settings),
    }
