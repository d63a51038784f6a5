"""What an image is like before any brain sees it: luminance, contrast, size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgtofmri.stimuli.images import ImageInput, decode, read_bytes
from imgtofmri.stimuli.items import Source
from imgtofmri.stimuli.pixels import prepare_image

if TYPE_CHECKING:
    import pandas as pd

PROPERTIES = ("luminance", "contrast", "size")
"""What sets of stimuli can be matched on."""


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


def image_properties(images: Iterable[ImageInput], center_crop: bool = False) -> pd.DataFrame:
    """Measure images as the network sees them.

    Parameters
    ----------
    images : iterable of Source, path, PIL image or uint8 array
        Arrays have shape (height, width, 3) or (height, width).
    center_crop : bool
        Whether predictions see a central crop.

    Returns
    -------
    properties : pandas.DataFrame
        One row for each image, in order: stimulus (the file's path as given, or a number),
        luminance (mean over the 224 x 224 frame of relative luminance in linear light, 0 to 1; see
        `luminance`), contrast (its standard deviation over pixels, "RMS contrast"), size (decimal
        logarithm of the picture's number of pixels).

    Raises
    ------
    StimulusError
        If a file is not a usable image; the message names it.
    """
    import pandas as pd

    rows = []
    for number, image in enumerate(images):
        picture: Image.Image | NDArray[np.uint8]
        if isinstance(image, Source | Path | str):
            name = str(image.path if isinstance(image, Source) else image)
            picture = decode(read_bytes(Path(name)), name)
        else:
            name, picture = f"image-{number:04d}", image
        light = luminance(prepare_image(picture, center_crop=center_crop))
        width, height = picture.shape[1::-1] if isinstance(picture, np.ndarray) else picture.size
        size = float(np.log10(width * height))
        rows.append((name, float(light.mean()), float(light.std()), size))
    return pd.DataFrame(rows, columns=["stimulus", *PROPERTIES])
