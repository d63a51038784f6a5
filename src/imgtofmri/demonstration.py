"""The published samples, predicted and shown on a page: what ``imgtofmri demo`` makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imgtofmri.analyses.predict import predict_into
from imgtofmri.backbones import load_backbone
from imgtofmri.encoder import load_encoder
from imgtofmri.encoder.reference import extract_samples, reference_wheel
from imgtofmri.encoder.saving import COMMAND, RECORD
from imgtofmri.exceptions import OptionError, WeightsUnavailableError
from imgtofmri.outputs import OutputFolder
from imgtofmri.report import PAGE

STIMULI = "stimuli"
"""The folder of the samples, which stands beside the results of a demonstration."""

DEFAULT_BACKBONE, OFFLINE_BACKBONE = "resnet18", "efficientnet-lite0"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a demonstration made.

    Attributes
    ----------
    page : Path
        The HTML page.
    n_stimuli : int
        Photographs and films.
    """

    page: Path
    n_stimuli: int


def make_demonstration(
    folder: Path,
    backbone: str | None = None,
    weights: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = True,
    *,
    engine: str = "onnxruntime",
    precision: str | None = None,
) -> Demonstration:
    """Predict the sample photographs and the film of the published wheel, and show them.

    Parameters
    ----------
    folder : Path
        Where to write; what an earlier demonstration left there is replaced.
    backbone, weights : optional
        As for `Encoder.predict`. By default ResNet-18 if its weights can be had, else the network
        that works offline, which is said.
    say : callable
        Called with lines for the user.
    progress : bool
        Whether to report progress on standard error.
    engine, precision : optional
        As for `Encoder.predict`.

    Returns
    -------
    Demonstration

    Raises
    ------
    OptionError
        If the folder holds the results of another run.
    """
    stimuli = folder / STIMULI
    if (folder / RECORD).exists() and not stimuli.is_dir():
        message = (
            f"{folder}: expected a new folder, or that of an earlier demonstration, which is "
            f"replaced; it holds the {RECORD} of another run. Choose another folder."
        )
        raise OptionError(message)
    # Before anything is fetched for it; predicting then opens it.
    OutputFolder(folder, COMMAND, RECORD).claim(overwrite=True)
    encoder = load_encoder(progress=progress)
    if backbone is None and weights is None:
        backbone = _reachable_backbone(say, progress)
    samples = extract_samples(reference_wheel(progress), stimuli)
    made = predict_into(
        folder,
        encoder,
        samples,
        backbone=backbone,
        weights=weights,
        engine=engine,
        precision=precision,
        overwrite=True,
        report=True,
        progress=progress,
    )
    return Demonstration(folder / PAGE, len(made.done))


def _reachable_backbone(say: Callable[[str], None], progress: bool) -> str:
    try:
        load_backbone(DEFAULT_BACKBONE, progress=progress)
    except WeightsUnavailableError:
        say(
            "the weights of ResNet-18 cannot be had from here; using EfficientNet-Lite0, whose "
            "features estimate ResNet-18's: the predictions are approximate"
        )
        return OFFLINE_BACKBONE
    return DEFAULT_BACKBONE
