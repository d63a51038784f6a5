"""ROIs of a group mask: which voxels belong to each, and to each of its hemispheres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from imgtofmri.exceptions import OptionError, check_choice, choice_message
from imgtofmri.spaces import BoolArray

RoiMasks = Mapping[tuple[str, str], BoolArray]
"""(roi, hemi) to a choice of voxels; hemi is "L", "R", or "B" where they are not told apart."""

BOTH = "both"


class RoiPlace(NamedTuple):
    """An ROI in one hemisphere, or in both.

    Attributes
    ----------
    roi : str
    hemi : {"L", "R", "both"}
    voxels : array of shape (n_voxels,), bool
    """

    roi: str
    hemi: str
    voxels: BoolArray


def roi_names(masks: RoiMasks) -> tuple[str, ...]:
    """Return the names of the ROIs."""
    return tuple(dict.fromkeys(roi for roi, _ in masks))


def roi_mask(masks: RoiMasks, roi: str, hemi: str = BOTH) -> BoolArray:
    """Return which voxels belong to an ROI, shape (n_voxels,).

    Raises
    ------
    OptionError
        If there is no such ROI or hemisphere.
    """
    sides = {side: mask for (name, side), mask in masks.items() if name == roi}
    if not sides:
        raise OptionError(choice_message("", "roi", roi, roi_names(masks)), "roi")
    if hemi == BOTH:
        both: BoolArray = np.any(list(sides.values()), axis=0)
        return both
    check_choice("hemi", hemi, [BOTH, *sides])
    return sides[hemi]


def roi_places(masks: RoiMasks) -> tuple[RoiPlace, ...]:
    """Walk over the ROIs: each in its left and right hemisphere, then in both.

    An ROI whose hemispheres are not told apart is in both only. A place can be without voxels.
    """
    return tuple(
        RoiPlace(roi, hemi, roi_mask(masks, roi, hemi))
        for roi in roi_names(masks)
        for hemi in ("L", "R", BOTH)
        if hemi == BOTH or (roi, hemi) in masks
    )
