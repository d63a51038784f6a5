"""What a feature extractor is: the protocol, its specification, its preprocessing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.engines import Engine, Trial
from imgtofmri.exceptions import OptionError, ShapeError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def wrong_scale(mean: Sequence[float], std: Sequence[float]) -> str:
    """Say why a mean and a deviation cannot be those of values in [0, 1]; empty where they can."""
    remedy = "Divide numbers for values up to 255 by 255."
    if not all(abs(value) <= 1 for value in mean):
        return f"mean must be that of values from 0 to 1; got {list(mean)}. {remedy}"
    if not all(0 < value <= 1 for value in std):
        return f"std must be above 0, of values from 0 to 1; got {list(std)}. {remedy}"
    return ""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes a network's input; plain data, kept on bundle cards.

    The whole image is resized to a square with an antialiased bilinear filter, scaled to [0, 1],
    centred by ``mean`` and divided by ``std``. Whether to crop instead is an option of a run.

    Attributes
    ----------
    size : int
        Side of the square, in pixels.
    mean, std : tuple of 3 floats
        One value for each of red, green and blue, for values in [0, 1].

    Raises
    ------
    OptionError
        If the size is below 1, or mean and deviation cannot be those of values in [0, 1].
    """

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        problem = wrong_scale(self.mean, self.std)
        if self.size < 1:
            problem = f"size must be 1 or more; got {self.size}. Correct it."
        if problem:
            message = f"preprocessing.{problem}"
            raise OptionError(message, "preprocessing")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, for a card."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, recipe: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_dict` wrote.

        Examples
        --------
        >>> Preprocessing.from_dict(Preprocessing().to_dict()) == Preprocessing()
        True
        """
        red, green, blue = (float(value) for value in recipe["mean"])
        scale_red, scale_green, scale_blue = (float(value) for value in recipe["std"])
        return cls(int(recipe["size"]), (red, green, blue), (scale_red, scale_green, scale_blue))


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What a backbone is and which file it came from; what sidecars record.

    Attributes
    ----------
    id : str
        Name of the network: ``"resnet18"``.
    layers : tuple of str
        The layers whose activations are the features, in order.
    n_features : int
        Length of one image's features.
    preprocessing : Preprocessing
        What the pixels must have gone through.
    features_id : str
        What the features mean, which a bundle is fitted on: ``"resnet18/avgpool"``. An emulating
        backbone bears the id of what it emulates.
    emulated : bool
        Whether the features are another network's, estimated from this one's.
    weights_name : str
        File name of the weights.
    weights_sha256 : str
        The file's digest.
    weights_verified : bool
        Whether the weights are known to be the published ones.
    weights_seed : int or None
        Of random weights; None where they come from a file.
    note : str
        One line for sidecars, empty when there is nothing to say.
    layer_widths : tuple of int
        The number of features of each layer; empty where features are not layers side by side.
    parallel_calls : int
        How many calls may run at the same time, from threads of one process.
    images_per_call : int
        How many images a call takes best. Where calls run at the same time, a few: threads then
        have enough to do from the first images on, and end together.
    engine : Engine or None
        What the network runs on; None where it is no graph of ONNX.
    trial : Trial or None
        What came of the engine's trial; None of the reference, which needs none.
    """

    id: str
    layers: tuple[str, ...]
    n_features: int
    preprocessing: Preprocessing
    features_id: str
    emulated: bool = False
    weights_name: str = ""
    weights_sha256: str = ""
    weights_verified: bool = False
    weights_seed: int | None = None
    note: str = ""
    layer_widths: tuple[int, ...] = ()
    parallel_calls: int = 1
    images_per_call: int = 32
    engine: Engine | None = None
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What can be a layer of a network.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Without the axis of images.
    made_by : str
        The operation that makes it.
    """

    name: str
    shape: tuple[int, ...]
    made_by: str


@runtime_checkable
class Backbone(Protocol):
    """A frozen network that turns images into features."""

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features.

        Parameters
        ----------
        pixels : uint8 array of shape (n_stimuli, size, size, 3)
            RGB images, already of the preprocessing's size.

        Returns
        -------
        features : float32 array of shape (n_stimuli, n_features)
            Each row depends on its own image alone.

        Raises
        ------
        ShapeError
            If the pixels have another shape or type.
        """


@runtime_checkable
class MeanOverPlaces(Protocol):
    """A backbone that knows whether its features are means over the places of a map."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the finest grid over which every feature is an even mean.

        None where a feature is something else than a mean over height and width.
        """

    def on_grid(self, grid: tuple[int, int]) -> Backbone:
        """Return the network with its features at each place of a grid.

        Parameters
        ----------
        grid : tuple of int
            Whose sides divide those of `grid`.

        Returns
        -------
        Backbone
            Of n_features * rows * columns features: those of all places for the first feature, then
            for the second, and so on. Their mean over places is the feature.
        """


def mean_grid(backbone: Backbone) -> tuple[int, int] | None:
    """Return the grid of a backbone whose features are means over places, None of any other."""
    return backbone.grid if isinstance(backbone, MeanOverPlaces) else None


def common_grid(grids: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    """Return the finest grid that divides others evenly; None where one of them is None.

    Examples
    --------
    >>> common_grid([(14, 14), (7, 21)])
    (7, 7)
    """
    found = list(grids)
    sides = [grid for grid in found if grid is not None]
    if not sides or len(sides) < len(found):
        return None
    rows, columns = zip(*sides, strict=True)
    return math.gcd(*rows), math.gcd(*columns)


def check_pixels(pixels: NDArray[Any], spec: BackboneSpec) -> NDArray[np.uint8]:
    """Return the pixels, or say in which way they are not what the backbone takes."""
    size = spec.preprocessing.size
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        message = (
            f"{spec.id}: pixels must be uint8 of shape (n_stimuli, {size}, {size}, 3), channels "
            f"last; got {pixels.dtype} of shape {pixels.shape}. Read images with "
            "imgtofmri.stimuli, which resizes them."
        )
        raise ShapeError(message)
    return np.ascontiguousarray(pixels)
