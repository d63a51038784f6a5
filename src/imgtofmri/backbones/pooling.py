"""From a layer's activations to one row of features for each image.

A layer is written ``NAME``, ``NAME/max``, ``NAME/sd``, ``NAME/tokens``, ``NAME@HxW`` or
``NAME/flatten[:WIDTH[:SEED]]``, alike for the package's networks, ONNX files and PyTorch modules.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones.base import common_grid
from imgtofmri.exceptions import OptionError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FLATTEN_WIDTH = 2048
"""Features of ``NAME/flatten`` where no width is given."""

_GRID = re.compile(r"(.+)@([0-9]{1,9})x([0-9]{1,9})")
_SUFFIX = re.compile(r"(.+)/(avg|max|sd|tokens|flatten)(?::([0-9]{1,9}))?(?::([0-9]{1,18}))?")
# Random words that are drawn at once: bounds the memory of the largest projections.
_DRAWS = 1 << 18
# How far a layer's features of one image, at one place, may differ from call to call, of its
# largest: more than sums differ that threads share, less than what a neighbour's range changes.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Layer:
    """A tensor of a network, and how its activations become features.

    Attributes
    ----------
    name : str
        The tensor's or module's name.
    pooling : {"avg", "max", "sd", "tokens", "grid", "flatten"}
        Mean, maximum or standard deviation over height and width; mean over all axes but the last,
        where channels come last; mean over each block of a grid, which keeps where something is; or
        all values through a random projection.
    width, seed : int
        Of the projection; 0 for the other poolings.
    grid : tuple of int
        Rows and columns of the grid; (0, 0) for the other poolings.
    """

    name: str
    pooling: str = "avg"
    width: int = 0
    seed: int = 0
    grid: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        if self.pooling == "avg":
            return self.name
        if self.pooling == "grid":
            return f"{self.name}@{self.grid[0]}x{self.grid[1]}"
        if self.pooling != "flatten":
            return f"{self.name}/{self.pooling}"
        seed = f":{self.seed}" if self.seed else ""
        return f"{self.name}/flatten:{self.width}{seed}"

    def n_features(self, n_channels: int) -> int:
        """Return how many features it makes of so many channels."""
        return self.width or n_channels * max(1, self.grid[0] * self.grid[1])


def parse_layer(text: str, names: Container[str] = ()) -> Layer:
    """Read a layer as a user writes it.

    Parameters
    ----------
    text : str
        ``NAME``, ``NAME/POOLING`` or ``NAME@HxW``.
    names : container of str
        Names that stand for themselves, even where they end like a pooling.

    Returns
    -------
    Layer

    Raises
    ------
    OptionError
        If a width or seed is given to another pooling than flatten, or a width or a side is 0.

    Examples
    --------
    >>> str(parse_layer("layer3/flatten")), str(parse_layer("layer3/avg"))
    ('layer3/flatten:2048', 'layer3')
    """
    gridded = None if text in names else _GRID.fullmatch(text)
    if gridded is not None:
        name, rows, columns = gridded[1], int(gridded[2]), int(gridded[3])
        if not (rows and columns):
            message = (
                f"the grid of {name} must have a row and a column or more; got {text}. Write "
                f"{name}@7x7, for example."
            )
            raise OptionError(message, "layers")
        return Layer(name, "grid", grid=(rows, columns))
    found = None if text in names else _SUFFIX.fullmatch(text)
    if found is None:
        return Layer(text)
    name, pooling, width, seed = found.groups()
    if pooling != "flatten":
        if width is not None:
            message = (
                f"only flatten takes a width, as in {name}/flatten:{width}; got "
                f"{text}. Leave ':{width}' out."
            )
            raise OptionError(message)
        return Layer(name, pooling)
    n_features = FLATTEN_WIDTH if width is None else int(width)
    if n_features < 1:
        message = (
            f"the width of {name}/flatten must be 1 or more; got {text}. Leave it "
            f"out for {FLATTEN_WIDTH}."
        )
        raise OptionError(message)
    return Layer(name, pooling, n_features, int(seed or 0))


def on_grid(layers: Iterable[str], grid: tuple[int, int]) -> list[str]:
    """Return how layers are written of which each place of a grid is a feature.

    Examples
    --------
    >>> on_grid(["layer3", "avgpool"], (7, 7))
    ['layer3@7x7', 'avgpool@7x7']
    """
    return [str(Layer(layer, "grid", grid=grid)) for layer in layers]


def check_rows(
    layers: Iterable[Layer], activations: Iterable[npt.NDArray[Any]], n_images: int
) -> None:
    """Refuse activations that have no row for each image.

    Raises
    ------
    OptionError
        If a layer's first axis is that of tokens, for one, or of images and tokens together.
    """
    for layer, values in zip(layers, activations, strict=True):
        if values.shape[:1] != (n_images,):
            n_rows = values.shape[0] if values.ndim else "none"
            message = (
                f"layer {layer.name} must have a row for each image, along its first axis; got "
                f"{n_rows} for {n_images}, shape {values.shape}. Name another layer, before or "
                "after the one that moves the axis of images."
            )
            raise OptionError(message, "layers")


def companies(size: int, n_images: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], int]:
    """Return one picture in two calls, among others and among its like, and its place in both.

    Parameters
    ----------
    size : int
    n_images : int
        In a call; the picture is between others where there are three.

    Returns
    -------
    mixed, alike : uint8 arrays of shape (n_images, size, size, 3)
        The others have a wider range, which changes what a call quantises by.
    place : int
    """
    rng = np.random.default_rng(0)
    one, other = (rng.integers(*ends, (size, size, 3), np.uint8) for ends in ((80, 112), (0, 256)))
    place = min(1, n_images - 1)
    alike, mixed = (np.stack([picture] * n_images) for picture in (one, other))
    mixed[place] = one
    return mixed, alike, place


def check_company(
    layers: Iterable[Layer],
    mixed: Iterable[npt.NDArray[np.float32]],
    alike: Iterable[npt.NDArray[np.float32]],
    place: int,
) -> None:
    """Refuse layers whose features of an image are others in another call.

    Parameters
    ----------
    layers : iterable of Layer
    mixed, alike : iterable of arrays of shape (n_images, width)
        Features of both calls of `companies`, layer by layer.
    place : int

    Raises
    ------
    OptionError
        If a layer gives something random, or what depends on the other images of a call.
    """
    for layer, one, other in zip(layers, mixed, alike, strict=True):
        found, again = one[place], other[place]
        slack = _ROUNDING * np.abs(found[np.isfinite(found)]).max(initial=0.0)
        if not np.allclose(found, again, rtol=_ROUNDING, atol=slack, equal_nan=True):
            message = (
                f"layer {layer} must give the same features for an image in every call, whatever "
                "images go with it; got others in a second call, as dropout gives that is at "
                "work, or values that are normalised or quantised over the images of a call. Bring "
                "the network into evaluation mode, throughout; export a file again, for one image "
                "a call if it is quantised as it runs; or name a layer before."
            )
            raise OptionError(message, "layers")


class Pool:
    """Turns the activations of several layers into features, side by side.

    Parameters
    ----------
    layers : sequence of Layer
        In the order of the features.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        self._projections: dict[tuple[int, int, int], csr_array] = {}

    def __call__(self, activations: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """Pool each layer's activations.

        Parameters
        ----------
        activations : sequence of arrays of shape (n_stimuli, ...)
            One for each layer.

        Returns
        -------
        list of float32 arrays of shape (n_stimuli, width)

        Raises
        ------
        OptionError
            If a layer's activations have not the axes that its pooling needs, or channels last
            where they must come first.
        """
        return [
            self._pool(layer, _summable(values)).astype(np.float32, copy=False)
            for layer, values in zip(self.layers, activations, strict=True)
        ]

    def grid(self, activations: Sequence[npt.NDArray[Any]]) -> tuple[int, int] | None:
        """Return the finest grid over which all layers are even means; None where one is not.

        Parameters
        ----------
        activations : sequence of arrays of shape (n_stimuli, ...)
            As they are pooled.
        """
        found = common_grid(
            values.shape[2:] if layer.pooling == "avg" and values.ndim == 4 else None
            for layer, values in zip(self.layers, activations, strict=True)
        )
        return None if found == (1, 1) else found

    def _pool(self, layer: Layer, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if layer.pooling == "flatten" and values.ndim >= 2:
            return self._project(layer, values.reshape(len(values), -1))
        if layer.pooling == "tokens" and values.ndim in (3, 4):
            return np.asarray(values.mean(axis=tuple(range(1, values.ndim - 1))))
        if layer.pooling == "avg" and values.ndim == 2:
            return values
        if layer.pooling in ("avg", "max", "sd", "grid") and values.ndim == 4:
            _check_channels_first(layer, values.shape)
        if layer.pooling == "grid" and values.ndim == 4:
            return _on_grid(layer, values)
        if layer.pooling in ("avg", "max", "sd") and values.ndim == 4:
            if layer.pooling == "max":
                return np.asarray(values.max(axis=(2, 3)))
            over_space = values.mean if layer.pooling == "avg" else values.std
            return np.asarray(over_space(axis=(2, 3)))
        needed = {
            "avg": "(n, channels) or (n, channels, height, width)",
            "tokens": "(n, tokens, channels) or (n, height, width, channels)",
            "flatten": "(n, ...)",
        }.get(layer.pooling, "(n, channels, height, width)")
        message = (
            f"layer {layer} must have shape {needed}; got {values.ndim} dimensions, "
            f"{values.shape}. Name another layer, or use {layer.name}/tokens where channels come "
            f"last, for the mean over the axes between, or {layer.name}/flatten for all values."
        )
        raise OptionError(message)

    def _project(self, layer: Layer, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        key = (values.shape[1], layer.width, layer.seed)
        if key not in self._projections:
            self._projections[key] = sparse_projection(*key)
        return np.ascontiguousarray((self._projections[key] @ values.T).T)


def _summable(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return half precision as single: its sums over a map are beyond its range, or rounded."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _check_channels_first(layer: Layer, shape: tuple[int, ...]) -> None:
    """Refuse maps whose channels come last: of square pictures, two equal sides stand before."""
    if 1 < shape[1] == shape[2] != shape[3]:
        message = (
            f"layer {layer} must have shape (n, channels, height, width); got {shape}, where "
            f"channels seem to come last: pictures are squares. Write {layer.name}/tokens for the "
            f"mean over space, or {layer.name}/flatten for all values."
        )
        raise OptionError(message, "layers")


def _on_grid(layer: Layer, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Average (n, channels, height, width) over the blocks of a grid; (n, channels * blocks).

    Blocks of a side that does not divide the map's overlap by one line at most, as in PyTorch's
    ``AdaptiveAvgPool2d``.
    """
    sides = values.shape[2:]
    if any(n > side for n, side in zip(layer.grid, sides, strict=True)):
        message = (
            f"the grid of {layer} must not be finer than the layer's map; got a map of "
            f"{sides[0]} x {sides[1]}. Write {layer.name}@{sides[0]}x{sides[1]}, or coarser."
        )
        raise OptionError(message, "layers")
    for axis, n in zip((2, 3), layer.grid, strict=True):
        side = values.shape[axis]
        blocks = [slice(k * side // n, -(-(k + 1) * side // n)) for k in range(n)]
        parts = [
            values[(slice(None),) * axis + (block,)].mean(axis=axis, keepdims=True)
            for block in blocks
        ]
        values = np.concatenate(parts, axis=axis)
    return values.reshape(len(values), -1)


def sparse_projection(n_inputs: int, width: int, seed: int = 0) -> csr_array:
    """Draw a very sparse random projection, which keeps distances in expectation.

    Each entry is 0 but with probability ``1 / sqrt(n_inputs)``; the others are
    ``+-sqrt(sqrt(n_inputs) / width)``, both signs alike. It is made from the generator's raw words,
    which stay the same over versions of NumPy, so that a layer's name says all that is needed to
    draw it again.

    Parameters
    ----------
    n_inputs : int
        Values that go in.
    width : int
        Features that come out.
    seed : int
        Which projection.

    Returns
    -------
    sparse array of shape (width, n_inputs), float32

    References
    ----------
    Achlioptas (2003). Database-friendly random projections. doi:10.1016/S0022-0000(03)00025-4
    Li, Hastie & Church (2006). Very sparse random projections. doi:10.1145/1150402.1150436
    """
    from scipy.sparse import csr_array

    density = 1.0 / np.sqrt(n_inputs)
    words = np.random.PCG64(seed)
    total = n_inputs * width
    parts, last = [], -1
    # Gaps between successive entries of independent trials follow the geometric distribution.
    while last < total:
        uniform = (words.random_raw(_DRAWS) >> np.uint64(11)).astype(np.float64) + 0.5
        uniform *= 2.0**-53
        if density < 1:
            gaps = 1 + np.floor(np.log(uniform) / np.log1p(-density)).astype(np.int64)
        else:
            gaps = np.ones(_DRAWS, np.int64)
        parts.append(last + np.cumsum(gaps))
        last = int(parts[-1][-1])
    places = np.concatenate(parts)
    places = places[: np.searchsorted(places, total)]
    n_words = -(-len(places) // 64)
    bits = np.unpackbits(words.random_raw(n_words).astype("<u8").view(np.uint8))[: len(places)]
    size = np.float32(np.sqrt(1.0 / (density * width)))
    values = np.where(bits, size, -size).astype(np.float32)
    starts = np.searchsorted(places, np.arange(width + 1, dtype=np.int64) * n_inputs)
    return csr_array((values, places % n_inputs, starts), shape=(width, n_inputs))
