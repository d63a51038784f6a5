"""The luminance of pictures: of each pixel, and on a coarse grid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli.images import ImageInput, read_images
from imgtofmri.stimuli.items import FRAME_SIZE, Failure


def luminance(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Give the relative luminance of 8-bit sRGB pixels, shape (..., 3) to (...), between 0 and 1.

    That of linear light, as a photometer sees a calibrated screen: mid-grey, 128, is 0.22.

    References
    ----------
    IEC 61966-2-1 (sRGB) for the transfer curve; ITU-R BT.709 for the weights.
    """
    codes = np.arange(256) / 255
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear[pixels] @ np.array([0.2126, 0.7152, 0.0722]))


def luminance_features(
    images: Iterable[ImageInput], size: int = 16, center_crop: bool = False
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Reduce each image to its luminance on a coarse grid, which is what a control knows of it.

    Parameters
    ----------
    images : iterable of Source, path, PIL image or array
        The images.
    size : int
        Blocks along each side; must divide 224.
    center_crop : bool
        Whether the network sees a central crop, not the whole image squeezed on to a square.

    Returns
    -------
    names : tuple of str
        The images' names.
    features : array of shape (n_images, size * size), float64
        Each block's mean luminance in linear light (`luminance`), between 0 and 1.

    Raises
    ------
    OptionError
        If ``size`` does not divide 224.
    StimulusError
        If an image cannot be read.
    """
    side = FRAME_SIZE
    if size < 1 or side % size:
        message = (
            f"luminance_features: size must divide {side}; got {size}. Take 1, 2, 4, 7, 8 or 16."
        )
        raise OptionError(message)
    names: list[str] = []
    rows: list[NDArray[Any]] = []
    step = side // size
    for frame in read_images(images, size=side, center_crop=center_crop):
        if isinstance(frame, Failure):
            raise frame.error
        blocks = luminance(frame.pixels).reshape(size, step, size, step)
        rows.append(blocks.mean(axis=(1, 3)).ravel())
        names.append(frame.name)
    return tuple(names), np.array(rows)
