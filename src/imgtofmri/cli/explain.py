"""``imgtofmri explain``: where in pictures predicted responses come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgtofmri.encoder import Attribution, Settings

MOST_ON_PAGE = 60
"""Figures that a page is made of unasked: each is about half a megabyte."""


@options.takes_settings(average="mean")
def explain(
    *,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Image files, movies, folders or globs, mixed."),
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
    rate_hz: options.RateHz = 2.0,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    report: options.Report = True,
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

    imgtofmri explain film.mp4 -o out/ --rois PPA --rate-hz 1
    """
    from imgtofmri.analyses.explain import save_attribution
    from imgtofmri.analyses.explain.files import COMMAND, RECORD
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.progress import track
    from imgtofmri.stimuli import check_rate, find_sources

    check_rate(rate_hz)
    folder = OutputFolder.of(output, COMMAND, RECORD, overwrite=overwrite)
    sources, failures = find_sources(inputs)
    if not sources:
        return report_failures(failures, 0)
    attributor = load_encoder(encoder, progress=not quiet).attributor(settings, at=at)
    done = 0
    with track("Explaining", None, "pictures", enabled=not quiet) as advance:

        def parts() -> Iterator[Attribution]:
            nonlocal done
            for part in attributor.stream_sources(sources, failures.append, rate_hz):
                yield part
                done += len(part)
                advance(len(part))

        save_attribution(parts(), folder, figures=figures, failures=failures)
    say(f"{done} picture{'s' * (done != 1)} explained by {attributor.method}: {output}", err=True)
    code = report_failures(failures, done)
    n_figures = figures * done * len(attributor.targets)
    if report and n_figures > MOST_ON_PAGE:
        note = f"no page of so many figures ({n_figures}); imgtofmri report {output} makes one"
        say(f"imgtofmri: note: {note}", err=True)
    make_page(output, report and bool(done) and n_figures <= MOST_ON_PAGE)
    return code
