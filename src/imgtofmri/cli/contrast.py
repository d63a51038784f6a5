"""``imgtofmri contrast``: an experiment in silico, like a localiser scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.analyses.contrast import Contrast
    from imgtofmri.encoder import Settings


@options.takes_settings(average="mean")
def contrast(
    *,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER|TABLE",
            help="One folder for each condition, or a TSV or CSV with stim_file and condition.",
        ),
    ],
    output: options.Output,
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            "--contrast",
            "-c",
            metavar="CONTRAST",
            help="Such as 'house - face' or 'house > face + tool'; repeat for several. "
            "By default the first of two conditions minus the second.",
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Exchanges of images for max-t.")
    ] = 1000,
    alpha: Annotated[
        float, typer.Option("--alpha", min=0.0, max=1.0, help="Level of marks and conjunction.")
    ] = 0.05,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold", metavar="p_fdr|p_max|conjunction|none", help="Voxels in the figure."
        ),
    ] = "p_fdr",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the exchanges.")] = 0,
    control: options.Control = None,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Contrast predicted responses between kinds of images, as a localiser scan does.

    Images are the random factor. Each contrast gives maps (difference, t, 1 - p corrected, and
    where all subjects agree, uncorrected), tables for each subject's own ROIs and a figure;
    contrast.json records what made them. With several contrasts, ROIs are corrected over them, too.
    --control says whether an untrained network, or the images' luminance, would show it, too.

    **Examples**

    imgtofmri contrast house/ face/ -o out/

    imgtofmri contrast stimuli.tsv -o out/ -c "scene > face + object" -c "face - object"

    imgtofmri contrast house/ face/ -o out/ --control untrained --control luminance
    """
    from imgtofmri.analyses.contrast import (
        compute_contrasts,
        contrast_weights,
        default_contrast,
        find_conditions,
        save_contrast,
    )
    from imgtofmri.analyses.contrast.figures import THRESHOLDS
    from imgtofmri.analyses.contrast.files import check_distinct_files
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import check_controls
    from imgtofmri.exceptions import check_choice
    from imgtofmri.outputs import OutputFolder

    check_choice("threshold", threshold, THRESHOLDS)
    check_controls(control, of_numbers=True)
    folder = OutputFolder.of(output, "contrast", overwrite=overwrite)
    images, conditions, failures = find_conditions(inputs)
    kinds = list(dict.fromkeys(conditions.values()))
    wanted = contrast or [default_contrast(kinds)]
    for text in wanted:
        contrast_weights(text, kinds)
    check_distinct_files(wanted)
    loaded = load_encoder(encoder, progress=not quiet)
    controls = loaded.controls(control or (), settings)
    own = loaded.predict(images, settings, on_failure=failures.append, progress=not quiet)
    shown = [image for image in images if image.name in own.names]
    beside = controls.predict(shown, progress=not quiet)
    results = compute_contrasts(own, conditions, wanted, permutations, seed, alpha, beside)
    save_contrast(results, folder, threshold=threshold, failures=failures)
    for result in results:
        _report(result, len(results))
    contrasts = f"{len(results)} contrast{'s' * (len(results) != 1)}"
    say(f"{contrasts} of {len(own)} images: {output}", err=True)
    code = report_failures(failures, len(own))
    make_page(output, report)
    return code


def _report(result: Contrast, n_contrasts: int) -> None:
    """Print one line for each ROI, for the encoder and then for each control."""
    from imgtofmri.encoder.controls import ENCODER

    counts = ", ".join(f"{name} {count}" for name, count in result.counts.items())
    say(f"{result.name}  (images: {counts})")
    for model, one in result.models.items():
        if model != ENCODER:
            say(f"  control {model}")
        rows = one.roi_table.query("subject == 'group' and hemi == 'both'")
        for row in rows.to_dict("records"):
            over = ""
            if n_contrasts > 1:
                over = f" ({row['p_max_contrasts']:.4f} over {n_contrasts} contrasts)"
            say(
                f"  {row['roi']:<10} difference {row['difference']:+.4f}  t({row['dof']:.1f}) = "
                f"{row['t']:+.2f}  p_max = {row['p_max']:.4f}{over}  {row['n_agree']} of "
                f"{row['n_subjects']} subjects agree (by chance {row['p_agree']:.0%})"
            )
    if result.of_images is not None:
        say("  control luminance")
        for row in result.of_images.to_dict("records"):
            say(
                f"  {row['property']:<10} difference {row['difference']:+.4f}  t({row['dof']:.1f})"
                f" = {row['t']:+.2f}  p_max = {row['p_max']:.4f}  d = {row['d']:+.2f}"
            )
