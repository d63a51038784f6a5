"""``imgtofmri select``: choose stimuli for a scan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.analysis import (
    ENCODER,
    claim_output,
    find_images,
    predict_pool,
    read_controls,
    write_record,
)

if TYPE_CHECKING:
    from imgtofmri.cli.analysis import Pool
    from imgtofmri.selection import StimulusSelection

RECORD = "selection.json"


def select(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="The pool: image files, folders or globs, mixed."),
    ],
    output: options.Output,
    goals: Annotated[
        list[str],
        typer.Option(
            "--goal",
            "-g",
            metavar="GOAL",
            help="'high ROI', 'low ROI', 'ROI over ROI', 'alike ROI apart ROI'; one set for each.",
        ),
    ],
    n_per_set: Annotated[int, typer.Option("--n", "-n", min=1, help="Images in each set.")] = 20,
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match", metavar="luminance|contrast|size", help="Match sets on it; repeat for more."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Of matching, in standard deviations of the pool.")
    ] = 0.1,
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Add a random set to compare with.")
    ] = True,
    duration_s: Annotated[float, typer.Option("--duration-s", help="Of each event.")] = 2.0,
    gap_s: Annotated[float, typer.Option("--gap-s", help="Blank between events.")] = 4.0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Times each is shown.")] = 1,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of halves, random sets and order.")
    ] = 0,
    control: options.Control = None,
    rois: options.Rois = None,
    sigma_mm: options.SigmaMm = 1.0,
    mask: options.Mask = "overlap",
    center_crop: options.CenterCrop = None,
    backbone: options.BackboneName = None,
    weights: options.Weights = None,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Choose the images of a pool that drive, suppress or pull apart regions, by prediction.

    Writes the sets, a contact sheet, events.tsv for `simulate` (files relative to the pool's
    folder), how well sets are matched, and checks on subjects that took no part in the choice;
    with --control also what an untrained network, or luminance and contrast, make of the same sets.

    **Examples**

    imgtofmri select photos/ -o out/ -g "high PPA" -g "low PPA" -n 20 --match luminance

    imgtofmri select photos/ -o out/ -g "PPA over LOC" -g "LOC over PPA" -g "alike LOC apart PPA"

    imgtofmri select photos/ -o out/ -g "high PPA" --control untrained --control luminance
    """
    from imgtofmri.encoder import load_encoder
    from imgtofmri.exceptions import OptionError, choice_message
    from imgtofmri.outputs import run_settings
    from imgtofmri.selection import parse_goal, select_stimuli
    from imgtofmri.selection.analysis import check_pool_size
    from imgtofmri.stimuli import PROPERTIES, image_properties

    controls = read_controls(control, "select")
    claim_output(output, RECORD, overwrite)
    for name in match or ():
        if name not in PROPERTIES:
            raise OptionError(choice_message("select", "--match", name, PROPERTIES))
    sources, unusable = find_images(inputs)
    check_pool_size(len(sources), len(goals) + reference, n_per_set)
    loaded = load_encoder(encoder, progress=not quiet)
    parsed = [parse_goal(goal, rois or loaded.rois) for goal in goals]
    settings = options.run_settings(rois, sigma_mm, mask, center_crop, backbone, weights)
    recorded = run_settings(loaded, settings, False, "selection")
    described = controls.load(loaded, settings["rois"])
    pool = predict_pool(loaded, sources, unusable, settings, not quiet)
    properties = image_properties(
        [source.path for source in pool.sources], loaded.center_crop(center_crop)
    )
    result = select_stimuli(
        pool.prediction,
        parsed,
        n_per_set,
        properties,
        tuple(match or ()),
        tolerance,
        reference,
        seed=seed,
        controls=controls.predict(loaded, pool.sources, settings, not quiet),
        control_properties=("luminance", "contrast") if controls.luminance else (),
    )
    write_selection(result, pool, output, (duration_s, gap_s, repeats), seed)
    details = {
        "goals": [goal.name for goal in parsed],
        "n_per_set": n_per_set,
        "match": list(match or ()),
        "tolerance": tolerance,
        "n_pool": result.n_pool,
        "stimulus_folder": str(_common_folder(pool)),
        "seed": seed,
        "controls": described,
    }
    write_record(output / RECORD, pool, recorded, details)
    _report(result)
    typer.echo(f"{len(result.sets)} sets out of {result.n_pool} images: {output}", err=True)
    return pool.report()


def write_selection(
    result: StimulusSelection,
    pool: Pool,
    folder: Path,
    timing: tuple[float, float, int],
    seed: int,
) -> None:
    """Write tables, events, the contact sheet and the figure of checks."""
    from imgtofmri.plotting.selection import plot_checks, plot_contact_sheet
    from imgtofmri.plotting.style import save_figure, save_table
    from imgtofmri.selection import events_table
    from imgtofmri.stimuli import Frame, read_images

    common = _common_folder(pool)
    of_name = {source.name: source for source in pool.sources}
    files = {
        name: tuple(Path(os.path.relpath(of_name[item].path, common)).as_posix() for item in items)
        for name, items in result.sets.items()
    }
    duration_s, gap_s, repeats = timing
    events = events_table(files, duration_s, gap_s, repeats, seed=seed)
    save_table(events, folder / "events.tsv")
    save_table(result.table, folder / "selection.tsv")
    save_table(result.checks, folder / "checks.tsv")
    save_table(result.matching, folder / "matching.tsv")
    chosen = [of_name[item] for items in result.sets.values() for item in items]
    pictures = {
        frame.name: frame.pixels for frame in read_images(chosen) if isinstance(frame, Frame)
    }
    save_figure(plot_contact_sheet(result, pictures), folder / "contact-sheet", ("png",), dpi=150)
    save_figure(plot_checks(result), folder / "checks")


def _common_folder(pool: Pool) -> Path:
    """Return the deepest folder that holds all images."""
    parents = [str(source.path.absolute().parent) for source in pool.sources]
    return Path(os.path.commonpath(parents))


def _report(result: StimulusSelection) -> None:
    """Print for each set what subjects held out say, and what controls say of the same sets."""
    held_out = result.checks.query("check == 'other subject'")
    of_all = result.checks.query("check == 'in-sample'")
    in_sample = dict(
        zip(zip(of_all["set"], of_all["model"], strict=True), of_all["effect"], strict=True)
    )
    for (name, model), rows in held_out.groupby(["set", "model"], sort=False):
        effects = ", ".join(f"{effect:+.2f}" for effect in rows["effect"])
        label = name if model == ENCODER else f"  control {model}"
        typer.echo(
            f"{label:<24} in-sample {in_sample[name, model]:+.2f}; subjects held out {effects} "
            f"(largest p {rows['p'].max():.4f})"
        )
