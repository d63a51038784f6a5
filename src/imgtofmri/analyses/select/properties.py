"""What an image is like before any brain sees it: luminance, contrast, size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgtofmri.stimuli import luminance, prepare_image
from imgtofmri.stimuli.images import decode, read_bytes

if TYPE_CHECKING:
    import pandas as pd

#: What sets of stimuli can be matched on.
PROPERTIES = ("luminance", "contrast", "size")


def image_properties(paths: Iterable[str | Path], center_crop: bool = False) -> pd.DataFrame:
    """Measure images as the network sees them.

    Parameters
    ----------
    paths : iterable of str or Path
        Image files.
    center_crop : bool
        Whether predictions see a central crop.

    Returns
    -------
    properties : pandas.DataFrame
        One row for each path, in order: stimulus (the path as given), luminance (mean over the
        224 x 224 frame of relative luminance in linear light, 0 to 1; see
        `imgtofmri.stimuli.luminance`), contrast (its standard deviation over pixels, "RMS
        contrast"), size (decimal logarithm of the file's number of pixels).

    Raises
    ------
    StimulusError
        If a file is not a usable image; the message names it.
    """
    import pandas as pd

    rows = []
    for path in paths:
        picture = decode(read_bytes(Path(path)), str(path))
        size = float(np.log10(picture.width * picture.height))
        light = luminance(prepare_image(picture, center_crop=center_crop))
        rows.append((str(path), float(light.mean()), float(light.std()), size))
    return pd.DataFrame(rows, columns=["stimulus", *PROPERTIES])
