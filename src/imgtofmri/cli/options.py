"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from imgtofmri.encoder.pipeline import RunSettings

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")]
Rois = Annotated[
    list[str] | None,
    typer.Option("--rois", metavar="ROI", help="An ROI; repeat for several. All by default."),
]
SigmaMm = Annotated[
    float, typer.Option("--sigma-mm", help="Smoothing: standard deviation in millimetres.")
]
Mask = Annotated[
    str,
    typer.Option(
        "--mask", metavar="overlap|support", help="Group mask: of img2fmri 1.0, or of 0.2."
    ),
]
Average = Annotated[
    str,
    typer.Option(
        "--average",
        metavar="zscore|mean",
        help="zscore is the published model; mean keeps amplitude.",
    ),
]
CenterCrop = Annotated[
    bool | None,
    typer.Option(
        "--center-crop/--no-center-crop",
        help="Crop the centre instead of squeezing the image; by default as for the fit.",
    ),
]
BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="NAME|FILE",
        help="The network; by default the one that the encoder was fitted on.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE|untrained[:SEED]",
        help="The network's weights, from a file of yours; or random ones, as a control.",
    ),
]
EncoderId = Annotated[
    str,
    typer.Option(
        "--encoder", metavar="ID|FILE", help="The encoder: a published one's id, or a bundle file."
    ),
]
Control = Annotated[
    list[str] | None,
    typer.Option(
        "--control",
        metavar="untrained[:SEED]|luminance",
        help="Also the same with an untrained network of the same architecture, or with the "
        "images' luminance; repeatable.",
    ),
]
RateHz = Annotated[
    float, typer.Option("--rate-hz", help="Frames a second that are taken of a movie.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Report no progress.")]


def run_settings(
    rois: list[str] | None,
    sigma_mm: float,
    mask: str,
    center_crop: bool | None,
    backbone: str | None,
    weights: str | None,
    average: str = "mean",
) -> RunSettings:
    """Return these options as keyword arguments of `Encoder.predict`.

    Amplitude is kept unless something else is said: it is what analyses of predictions are about.
    """
    return {
        "rois": rois or None,
        "sigma_mm": sigma_mm,
        "mask": mask,
        "average": average,
        "center_crop": center_crop,
        "backbone": backbone,
        "weights": weights,
    }
