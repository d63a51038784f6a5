"""Controls: models of the same stimuli that no training, or no network, went into.

What an untrained network of the same architecture predicts, and what is in the pictures themselves
(light, edges, an outline), say how much of a result owes to what the network learned.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import BackboneSpec, Untrained
from imgtofmri.encoder.prediction import Prediction, concatenate, counted
from imgtofmri.encoder.predictor import Predictor
from imgtofmri.exceptions import OptionError, ShapeError, choice_message
from imgtofmri.progress import track
from imgtofmri.stimuli import (
    Source,
    energy_features,
    expand_images,
    image_properties,
    luminance_features,
    silhouette_features,
)
from imgtofmri.stimuli.images import name_of
from imgtofmri.text import Brief

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

ENCODER = "encoder"
"""What tables call the model itself, beside its controls."""

LUMINANCE = "luminance"
PICTURES = {
    LUMINANCE: (luminance_features, "relative luminance in linear light on a grid"),
    "energy": (energy_features, "Gabor energy on a grid"),
    "silhouette": (silhouette_features, "figure against a plain background, on a grid"),
}
"""Controls that are in the pictures themselves: their features, and what those are."""

CONTROLS = ("untrained", "untrained:SEED", *PICTURES)
"""What a control may be called; tables call it what the user called it."""


@dataclass(frozen=True, eq=False, repr=False)
class Control(Brief):
    """What a control makes of some images.

    Attributes
    ----------
    name : str
        What the user called it.
    prediction : Prediction or None
        Of an untrained network; None for `PICTURES`, which have no map to voxels of their own.
    images : tuple
        The images.
    center_crop : bool
        How pictures are cropped for the encoder.
    """

    name: str
    prediction: Prediction | None
    images: tuple[Any, ...]
    center_crop: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names."""
        return tuple(name_of(image, index) for index, image in enumerate(self.images))

    def features(self) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
        """Return the images' names, and for one of `PICTURES` its features: (n_images, n)."""
        features_of, _ = PICTURES[self.name]
        return features_of(self.images, center_crop=self.center_crop)

    @cached_property
    def properties(self) -> pd.DataFrame:
        """The images' luminance, contrast and size, as `image_properties` measures them.

        Raises
        ------
        OptionError
            If the control is not luminance, but one that has no single number for an image.
        """
        check_controls([self.name], of_numbers=True)
        return image_properties(self.images, self.center_crop)


class Controls:
    """The controls that were asked for, each once, with their networks loaded.

    `Encoder.controls` makes them, before anything is computed.

    Parameters
    ----------
    predictors : dict of str to Predictor or None
        By what each control is called; None for `PICTURES`.
    center_crop : bool
        How pictures are cropped for the encoder.
    """

    def __init__(self, predictors: dict[str, Predictor | None], center_crop: bool) -> None:
        self._predictors = predictors
        self._center_crop = center_crop

    def __repr__(self) -> str:
        return f"Controls({', '.join(self._predictors)})"

    def __iter__(self) -> Iterator[str]:
        return iter(self._predictors)

    def __len__(self) -> int:
        return len(self._predictors)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Say what each control is, for a record."""
        return {
            name: _said(name, None if predictor is None else predictor.extractor.network.spec)
            for name, predictor in self._predictors.items()
        }

    def predict(self, images: Any, progress: bool = True) -> tuple[Control, ...]:
        """Put images through the controls, all else being as for the encoder.

        Parameters
        ----------
        images
            As for `Encoder.predict`; images that can be read.
        progress : bool
            Whether to report progress on standard error.

        Returns
        -------
        tuple of Control
            In the order in which they were asked for.
        """
        items = tuple(expand_images(images)) if self._predictors else ()
        found = []
        for name, predictor in self._predictors.items():
            prediction = None
            if predictor is not None:
                what, total = f"Predicting {name}", len(items)
                with track(what, total, "images", enabled=progress) as advance:
                    prediction = concatenate(counted(predictor.stream(items), advance))
            found.append(Control(name, prediction, items, self._center_crop))
        return tuple(found)


def control_predictions(
    controls: Iterable[Control], prediction: Prediction
) -> dict[str, Prediction]:
    """Return what controls predict for the stimuli of a prediction, each by its name.

    `PICTURES`, which predict nothing, are left out.

    Raises
    ------
    ShapeError
        If one is of other stimuli, subjects or ROIs.
    OptionError
        If one is no `Control`.
    """
    check_made(controls)
    found = {}
    for control in controls:
        other = control.prediction
        pairs = []
        if other is not None:
            found[control.name] = other
            pairs = [
                ("stimuli", prediction.names, other.names),
                ("subjects", prediction.subject_names, other.subject_names),
                ("ROIs", prediction.rois, other.rois),
            ]
        elif any(isinstance(image, Source) for image in control.images):
            # Pictures in memory have no names of their own.
            pairs = [("stimuli", prediction.names, control.names)]
        for what, own, its in pairs:
            if own != its:
                message = (
                    f"the control {control.name} must be of the prediction's {what}, in their "
                    f"order; got {len(its)} where the prediction has {len(own)}, or others. "
                    "Predict the same images with it."
                )
                raise ShapeError(message)
    return found


def check_made(controls: object) -> None:
    """Refuse what an analysis cannot take for controls: their names, or what did not predict."""
    made = isinstance(controls, Sequence) and all(isinstance(one, Control) for one in controls)
    if not made:
        message = (
            "controls must be what `encoder.controls(...).predict(images)` returns; got "
            f"{reprlib.repr(controls)}. Predict the images with them."
        )
        raise OptionError(message, "controls")


def check_controls(
    names: Sequence[str] | str | None, *, of_numbers: bool = False
) -> tuple[str, ...]:
    """Return the names of controls, each once, or refuse them, before anything is loaded.

    Parameters
    ----------
    names : str or sequence of str, optional
    of_numbers : bool
        Whether an analysis compares single numbers of images, which maps of a picture do not give.

    Raises
    ------
    OptionError
        If one is no control, or none of such an analysis.
    """
    names = [names] if isinstance(names, str) else names or ()
    for name in names:
        if name not in PICTURES and Untrained.parse(name) is None:
            raise OptionError(choice_message("", "control", name, CONTROLS), "control")
        if of_numbers and name in PICTURES and name != LUMINANCE:
            message = (
                f"`control` must give one number for each image here, as luminance does; got "
                f"{name}, which is a map of each picture. Use it with rsa or validate."
            )
            raise OptionError(message, "control")
    return tuple(dict.fromkeys(names))


def describe_controls(controls: Iterable[Control]) -> dict[str, dict[str, str]]:
    """Say what each control is, for a record."""
    return {
        control.name: _said(
            control.name,
            None if control.prediction is None else control.prediction.provenance.network,
        )
        for control in controls
    }


def _said(name: str, network: BackboneSpec | None) -> dict[str, str]:
    if name in PICTURES:
        return {"features": PICTURES[name][1]}
    if network is None:
        return {"features": "not recorded"}
    return {
        "features": network.features_id,
        "weights": network.weights_name,
        "sha256": network.weights_sha256,
    }
