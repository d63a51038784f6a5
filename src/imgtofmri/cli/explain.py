"""``imgtofmri explain``: where in pictures predicted responses come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures

if TYPE_CHECKING:
    from imgtofmri.encoder import Settings


@options.takes_settings(average="mean")
def explain(
    *,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Image files, folders or globs, mixed.")
    ],
    output: options.Output,
    at: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            "--at",
            metavar="X Y Z",
            help="Explain the voxel at this point, in millimetres of the template, not ROIs.",
        ),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw each picture and ROI.")
    ] = True,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Say where in each picture the predicted response of each ROI, or of a voxel, comes from.

    Features that are means over the places of a map split exactly: what the 7 x 7 places of
    ResNet-18's last map contribute, and the intercept, sum to the response. Of any other network
    each place is covered with grey in turn (occlusion); tables and figures say which it was.

    Writes contributions.tsv and responses.tsv, with what their columns mean, and
    figures/IMAGE_ROI.png: the picture, with the group and each person laid over it.

    **Examples**

    imgtofmri explain photos/ -o out/ --rois PPA LOC

    imgtofmri explain house.jpg -o out/ --at 26 -44 -10

    imgtofmri explain photos/ -o out/ --no-figures
    """
    from imgtofmri.analyses.explain import save_attribution
    from imgtofmri.analyses.explain.files import COMMAND, RECORD
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.stimuli import find_images

    folder = OutputFolder.of(output, COMMAND, RECORD, overwrite=overwrite)
    images, failures = find_images(inputs)
    found = load_encoder(encoder, progress=not quiet).attribution(
        images, settings=settings, at=at, on_failure=failures.append, progress=not quiet
    )
    save_attribution(found, folder, figures=figures, failures=failures)
    typer.echo(f"{len(found)} pictures explained by {found.method}: {output}", err=True)
    return report_failures(failures, len(found))
