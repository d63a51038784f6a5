"""``imgtofmri select``: choose stimuli for a scan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures

if TYPE_CHECKING:
    from imgtofmri.analyses.select import StimulusSelection
    from imgtofmri.encoder import Settings
    from imgtofmri.stimuli import Source


@options.takes_settings(average="mean")
def select(
    *,
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
    settings: Settings,
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
    from imgtofmri.analyses.select import parse_goal, select_stimuli
    from imgtofmri.analyses.select.analysis import check_pool_size
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import LUMINANCE, check_controls
    from imgtofmri.exceptions import OptionError, choice_message
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.stimuli import PROPERTIES, find_images, image_properties

    check_controls(control)
    folder = OutputFolder(output, "select", "selection.json")
    folder.claim(overwrite=overwrite)
    for name in match or ():
        if name not in PROPERTIES:
            raise OptionError(choice_message("select", "--match", name, PROPERTIES))
    sources, unusable = find_images(inputs)
    check_pool_size(len(sources), len(goals) + reference, n_per_set)
    loaded = load_encoder(encoder, progress=not quiet)
    parsed = [parse_goal(goal, settings.rois or loaded.rois) for goal in goals]
    controls = loaded.controls(control or (), settings)
    failures = list(unusable)
    own = loaded.predict(sources, settings, on_failure=failures.append, progress=not quiet)
    shown = [source for source in sources if source.name in own.names]
    crop = bool(own.settings.center_crop)
    properties = image_properties([source.path for source in shown], crop)
    others = {one.name: one.prediction for one in controls.predict(shown, progress=not quiet)}
    result = select_stimuli(
        own,
        parsed,
        n_per_set,
        properties,
        tuple(match or ()),
        tolerance,
        reference,
        seed=seed,
        controls={name: found for name, found in others.items() if found is not None},
        control_properties=("luminance", "contrast") if LUMINANCE in others else (),
    )
    write_selection(result, shown, output, (duration_s, gap_s, repeats), seed)
    details = {
        "goals": [goal.name for goal in parsed],
        "n_per_set": n_per_set,
        "match": list(match or ()),
        "tolerance": tolerance,
        "n_pool": result.n_pool,
        "stimulus_folder": str(_common_folder(shown)),
        "seed": seed,
    }
    folder.begin(details, own.provenance.to_dict(), controls.to_dict())
    folder.used(own.names, own.sha256, own.sources)
    for failure in failures:
        folder.fail(failure.name, str(failure.error))
    folder.close()
    _report(result)
    typer.echo(f"{len(result.sets)} sets out of {result.n_pool} images: {output}", err=True)
    return report_failures(failures, len(own))


def write_selection(
    result: StimulusSelection,
    sources: Sequence[Source],
    folder: Path,
    timing: tuple[float, float, int],
    seed: int,
) -> None:
    """Write tables, events, the contact sheet and the figure of checks."""
    from imgtofmri.analyses.select import events_table
    from imgtofmri.analyses.select.figures import plot_checks, plot_contact_sheet
    from imgtofmri.figures.style import save_figure
    from imgtofmri.stimuli import Frame, read_images
    from imgtofmri.tables import write_table

    common = _common_folder(sources)
    of_name = {source.name: source for source in sources}
    files = {
        name: tuple(Path(os.path.relpath(of_name[item].path, common)).as_posix() for item in items)
        for name, items in result.sets.items()
    }
    duration_s, gap_s, repeats = timing
    events = events_table(files, duration_s, gap_s, repeats, seed=seed)
    write_table(events, folder / "events.tsv")
    write_table(result.table, folder / "selection.tsv")
    write_table(result.checks, folder / "checks.tsv")
    write_table(result.matching, folder / "matching.tsv")
    chosen = [of_name[item] for items in result.sets.values() for item in items]
    pictures = {
        frame.name: frame.pixels for frame in read_images(chosen) if isinstance(frame, Frame)
    }
    save_figure(plot_contact_sheet(result, pictures), folder / "contact-sheet", ("png",), dpi=150)
    save_figure(plot_checks(result), folder / "checks")


def _common_folder(sources: Sequence[Source]) -> Path:
    """Return the deepest folder that holds all images."""
    parents = [str(source.path.absolute().parent) for source in sources]
    return Path(os.path.commonpath(parents))


def _report(result: StimulusSelection) -> None:
    """Print for each set what subjects held out say, and what controls say of the same sets."""
    from imgtofmri.encoder.controls import ENCODER

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
