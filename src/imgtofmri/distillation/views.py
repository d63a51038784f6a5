"""Several views of one photograph, so that few photographs teach more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_CROP_AREA = 0.35
MAX_LOG_ASPECT = np.log(4 / 3)


def random_views(
    image: Image, size: int, n_views: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut several views out of one photograph.

    Parameters
    ----------
    image : PIL image in mode RGB
    size : int
        Side of a view, in pixels.
    n_views : int
        The first is the whole image, the second the whole image mirrored; the others are random
        parts of at least 35 % of its area, stretched by up to 4/3, half of them mirrored.
    rng : numpy.random.Generator

    Returns
    -------
    uint8 array of shape (n_views, size, size, 3)
    """
    views = []
    for index in range(n_views):
        if index > 1:
            views.append(random_part(image, size, rng))
        else:
            view = _resize(image, size, (0.0, 0.0, image.width, image.height))
            views.append(view[:, ::-1] if index == 1 else view)
    return np.stack(views) if views else np.zeros((0, size, size, 3), np.uint8)


def random_part(image: Image, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random part of an image, mirrored every other time."""
    part = _resize(image, size, _random_box(image.width, image.height, rng))
    return part[:, ::-1] if rng.random() < 0.5 else part


def _resize(image: Image, size: int, box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    from PIL.Image import Resampling

    return np.asarray(image.resize((size, size), Resampling.BILINEAR, box=box))


def _random_box(
    width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Draw a part of an image: left, upper, right, lower."""
    area = rng.uniform(MIN_CROP_AREA, 1.0)
    stretch = np.exp(rng.uniform(-MAX_LOG_ASPECT, MAX_LOG_ASPECT))
    box_width = min(1.0, float(np.sqrt(area * stretch))) * width
    box_height = min(1.0, float(np.sqrt(area / stretch))) * height
    left = rng.uniform(0, width - box_width)
    upper = rng.uniform(0, height - box_height)
    return left, upper, min(left + box_width, width), min(upper + box_height, height)
