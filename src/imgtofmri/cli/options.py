"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from imgtofmri.encoder.settings import AverageName

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")]
Rois = Annotated[
    list[str] | None,
    typer.Option("--rois", metavar="ROI...", help="ROIs, such as LOC PPA. All by default."),
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
        metavar="FILE|untrained[:SEED]|published",
        help="The network's weights, from a file of yours; or random ones, as a control. By "
        "default those that IMGTOFMRI_WEIGHTS names, else the published ones.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="onnxruntime|openvino|cuda|coreml|auto",
        help="What the network runs on; all but the first only after a trial. auto: the fastest.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision", metavar="fp32|bf16|fp16", help="Of the engine; by default fp32 or auto's."
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
        metavar="untrained[:SEED]|luminance|energy|silhouette",
        help="Also the same with an untrained network of the same architecture, or with the "
        "images' luminance, Gabor energy or outline (the last two for rsa and validate); "
        "repeatable.",
    ),
]
RateHz = Annotated[
    float, typer.Option("--rate-hz", help="Frames a second that are taken of a movie.")
]
Unmatched = Annotated[
    str, typer.Option(metavar="error|drop", help="Images only predicted or only measured.")
]
StudyEngine = Annotated[
    str | None,
    typer.Option(
        metavar="onnxruntime|openvino|cuda|coreml|auto",
        help="What the network runs on. Default: the study's.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Report no progress.")]

Report = Annotated[
    bool, typer.Option("--report/--no-report", help="Write report.html, the page of the results.")
]

ENCODER_ID = "bold5000-resnet18"

SETTINGS: dict[str, tuple[Any, Any]] = {
    "rois": (Rois, None),
    "sigma_mm": (SigmaMm, 1.0),
    "mask": (Mask, "overlap"),
    "average": (Average, "zscore"),
    "center_crop": (CenterCrop, None),
    "backbone": (BackboneName, None),
    "weights": (Weights, None),
    "engine": (Engine, "onnxruntime"),
    "precision": (Precision, None),
}

Command = Callable[..., int | None]

_BY_NAME = inspect.Parameter.KEYWORD_ONLY


def refuse_idle(command: Command, given: Mapping[str, object], why: str) -> None:
    """Refuse options that what else is given leaves without any effect.

    Parameters
    ----------
    command : callable
        Whose options they are. One that has its default says nothing, and is none.
    given : mapping of str to object
        The options' values by the names of their parameters.
    why : str
        What the message says after the name of the first of them.

    Raises
    ------
    OptionError
    """
    from imgtofmri.exceptions import OptionError

    known = inspect.signature(command).parameters
    for name, value in given.items():
        # Typer gives an option that may be repeated as an empty list.
        if value != [] and value != known[name].default:
            message = f"{name} {why}"
            raise OptionError(message, name)


def takes_settings(
    average: AverageName | None = None, *, default_average: AverageName = "zscore"
) -> Callable[[Command], Command]:
    """Give a command the options of `imgtofmri.Settings`; it takes them as one ``settings``.

    Parameters
    ----------
    average : {"zscore", "mean"}, optional
        How subjects are averaged, without an option to choose it. By default there is one.
    default_average : {"zscore", "mean"}
        What that option's default is.
    """
    shared = {name: pair for name, pair in SETTINGS.items() if average is None or name != "average"}
    if average is None:
        shared["average"] = (Average, default_average)

    fixed: dict[str, Any] = {} if average is None else {"average": average}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**options: Any) -> int | None:
            from imgtofmri.encoder.settings import Settings

            chosen = {name: options.pop(name) for name in shared} | fixed
            chosen["rois"] = chosen["rois"] or None
            return command(**options, settings=Settings(**chosen))

        # What a command says of its options is text, and Typer wants it as it is.
        hints = get_type_hints(command, localns={"Settings": object}, include_extras=True)
        parameters = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name != "settings":
                said = {"kind": _BY_NAME, "annotation": hints[parameter.name]}
                parameters.append(parameter.replace(**said))
                continue
            parameters += [
                inspect.Parameter(name, _BY_NAME, default=default, annotation=annotation)
                for name, (annotation, default) in shared.items()
            ]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate
