"""`Settings`: what a prediction depends on besides the encoder and the stimuli."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from imgtofmri.backbones import Backbone, Weights
from imgtofmri.backbones.engines import check_engine
from imgtofmri.exceptions import OptionError, check_choice, choice_message

MaskName = Literal["overlap", "support"]
MASKS: tuple[MaskName, ...] = ("overlap", "support")

AverageName = Literal["zscore", "mean"]
AVERAGES: tuple[AverageName, ...] = ("zscore", "mean")

MAX_SIGMA_MM = 6.0
"""From here on a smoothing would need more memory than most computers have: 6 GB at 6 mm."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How stimuli are predicted; every way of predicting takes these.

    Parameters
    ----------
    rois : sequence of str, optional
        Which ROIs, kept as a tuple; None is all of the encoder's. Where three or more share a
        voxel, later ones weigh more, as in the published model.
    sigma_mm : float
        Standard deviation of the Gaussian smoothing in millimetres, FWHM / 2.355; at most 6.
    mask : {"overlap", "support"}
        "overlap" (img2fmri 1.0): where any subject's ROI mask, smoothed by 1 mm whatever
        ``sigma_mm``, exceeds 0.15 of its maximum. "support" (img2fmri 0.2): wherever any subject's
        smoothed map can differ from zero.
    average : {"zscore", "mean"}
        "zscore" is the published model: each subject's map is z-scored over the mask, the sum of
        the maps is z-scored again. "mean" keeps amplitude: the mean over the people who stand
        behind a voxel, NaN where fewer than half a person does.
    center_crop : bool, optional
        Resize the short side and crop the centre, instead of squeezing the whole picture. None is
        as for the pictures that the models were fitted on; the published model's were squeezed.
    backbone : str, Path or Backbone, optional
        A network's name or file, or one that is loaded already; None is the one that the models
        were fitted on.
    weights : str, Path or Untrained, optional
        A file of weights to use instead of the published ones, ``"untrained[:SEED]"``, or
        ``"published"``. None is the weights that the models were fitted on: those that the encoder
        records, else those that ``IMGTOFMRI_WEIGHTS`` names, else the published ones.
    engine : {"onnxruntime", "openvino", "cuda", "coreml", "auto"}
        What the network runs on. Any but ONNX Runtime is used only if its group maps of test
        pictures agree with ONNX Runtime's; ``"auto"`` is the fastest of those.
    precision : {"fp32", "bf16", "fp16"}, optional
        Of the engine. None is fp32, or with ``"auto"`` any that this machine has of its own.

    Raises
    ------
    OptionError
        If a setting is not valid for any encoder.

    Examples
    --------
    >>> Settings(rois="PPA", sigma_mm=2.0).rois
    ('PPA',)
    """

    rois: Sequence[str] | None = None
    sigma_mm: float = 1.0
    mask: MaskName = "overlap"
    average: AverageName = "zscore"
    center_crop: bool | None = None
    backbone: str | Path | Backbone | None = None
    weights: Weights | None = None
    engine: str = "onnxruntime"
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.rois is not None:
            names = [self.rois] if isinstance(self.rois, str) else self.rois
            if isinstance(names, set | frozenset) or not isinstance(names, Iterable):
                message = (
                    "rois must be a name or a list of names, whose order counts where they "
                    f"overlap; got {names!r}. Give a list."
                )
                raise OptionError(message, "rois")
            object.__setattr__(self, "rois", tuple(dict.fromkeys(map(str, names))))
        if self.rois == ():
            message = "rois is empty; name one or more, or leave it out for all."
            raise OptionError(message, "rois")
        try:
            sigma_mm = math.nan if isinstance(self.sigma_mm, str | bool) else float(self.sigma_mm)
        except (TypeError, ValueError):
            sigma_mm = math.nan
        if not 0 < sigma_mm <= MAX_SIGMA_MM:
            message = (
                f"sigma_mm must be a positive number of millimetres, at most {MAX_SIGMA_MM:g}; got "
                f"{self.sigma_mm!r}. It is a standard deviation, FWHM / 2.355; the published model "
                "uses 1.0."
            )
            raise OptionError(message, "sigma_mm")
        object.__setattr__(self, "sigma_mm", sigma_mm)
        if self.center_crop not in (None, True, False):
            message = (
                f"center_crop must be True or False; got {self.center_crop!r}. Leave it out for "
                "the encoder's own."
            )
            raise OptionError(message, "center_crop")
        if self.center_crop is not None:
            object.__setattr__(self, "center_crop", bool(self.center_crop))
        for name, valid in (("mask", MASKS), ("average", AVERAGES)):
            check_choice(name, getattr(self, name), valid)
        check_engine(self.engine, self.precision)

    @classmethod
    def of(cls, settings: Settings | None = None, **changes: Any) -> Settings:
        """Return settings with some of them changed; the defaults' where there are none.

        Parameters
        ----------
        settings : Settings, optional
        **changes
            Settings by their names.

        Returns
        -------
        Settings

        Raises
        ------
        OptionError
            If there is no setting of a name, or one is not valid.
        """
        start: object = cls() if settings is None else settings
        if not isinstance(start, Settings):
            message = (
                f"settings must be a Settings; got {type(start).__name__}. Give one setting by its "
                "name, such as rois=['LOC']."
            )
            raise OptionError(message)
        known = [field.name for field in fields(cls)]
        for name in changes:
            if name not in known:
                raise OptionError(choice_message("", "a setting", name, known))
        return replace(start, **changes)

    def resolved(self, rois: Collection[str], center_crop: bool) -> Settings:
        """Return what the settings come to for an encoder, nothing being left to it.

        Parameters
        ----------
        rois : collection of str
            The encoder's ROIs.
        center_crop : bool
            Whether the encoder's models were fitted on cropped pictures.

        Returns
        -------
        Settings

        Raises
        ------
        OptionError
            If the encoder has not one of the ROIs.
        """
        for roi in self.rois or ():
            check_choice("rois", roi, rois)
        crop = center_crop if self.center_crop is None else self.center_crop
        return replace(self, rois=self.rois or tuple(rois), center_crop=crop)
