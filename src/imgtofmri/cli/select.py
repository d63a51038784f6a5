"""``imgtofmri select``: choose stimuli for a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.analyses.select import StimulusSelection
    from imgtofmri.encoder import Settings


@options.takes_settings(average="mean")
def select(
    *,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="The pool: image files, folders or globs, mixed."),
    ],
    output: options.Output,
    goal: Annotated[
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
    report: options.Report = True,
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
    from imgtofmri.analyses.select import (
        check_pool_size,
        parse_goal,
        save_selection,
        select_stimuli,
    )
    from imgtofmri.analyses.select.files import RECORD
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import check_controls
    from imgtofmri.exceptions import check_choice
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.stimuli import PROPERTIES, find_images

    check_controls(control, of_numbers=True)
    folder = OutputFolder.of(output, "select", RECORD, overwrite=overwrite)
    for name in match or ():
        check_choice("match", name, PROPERTIES)
    if not match:
        why = "goes with `match`; got none. Say what sets are to be matched on, or leave it out."
        options.refuse_idle(select, {"tolerance": tolerance}, why)
    images, failures = find_images(inputs)
    check_pool_size(len(images), len(goal) + reference, n_per_set)
    loaded = load_encoder(encoder, progress=not quiet)
    goals = [parse_goal(text, settings.rois or loaded.rois) for text in goal]
    controls = loaded.controls(control or (), settings)
    own = loaded.predict(images, settings, on_failure=failures.append, progress=not quiet)
    shown = [image for image in images if image.name in own.names]
    result = select_stimuli(
        own,
        goals,
        n_per_set,
        match=match or (),
        tolerance=tolerance,
        reference=reference,
        seed=seed,
        controls=controls.predict(shown, progress=not quiet),
    )
    save_selection(
        result,
        folder,
        duration_s=duration_s,
        gap_s=gap_s,
        n_repeats=repeats,
        failures=failures,
    )
    _report(result)
    say(f"{len(result.sets)} sets out of {len(own)} images: {output}", err=True)
    code = report_failures(failures, len(own))
    make_page(output, report)
    return code


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
        say(
            f"{label:<24} in-sample {in_sample[name, model]:+.2f}; subjects held out {effects} "
            f"(largest p {rows['p'].max():.4f})"
        )
