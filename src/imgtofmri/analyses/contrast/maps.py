"""What each map of a contrast is: the values, and what a file's header says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.outputs import Statistic

if TYPE_CHECKING:
    from imgtofmri.analyses.contrast.analysis import Contrast

OUTSIDE = {
    "difference": 0.0,
    "t": 0.0,
    "p": 1.0,
    "p_fdr": 1.0,
    "p_max": 1.0,
    "conjunction": 0.0,
    "p_conjunction": 1.0,
}
"""The maps of a contrast, and the value of each outside the mask."""

FILES = ("difference", "t", "fdr1p", "maxt1p", "conjunction")
"""The maps that are written; ``fdr1p`` and ``maxt1p`` are 1 - p, as viewers show what is high."""

_P, _ONE_MINUS_P = (0.0, 1.0), (0.95, 1.0)


def values_of(contrast: Contrast, name: str) -> NDArray[np.float64]:
    """Return a map's values, shape (n_voxels,)."""
    if name in ("fdr1p", "maxt1p"):
        return 1.0 - (contrast.p_fdr if name == "fdr1p" else contrast.p_max)
    of = contrast.test if name in ("difference", "t", "p") else contrast
    return np.asarray(getattr(of, name), dtype=np.float64)


def statistic_of(contrast: Contrast, name: str) -> Statistic:
    """Return what a map is, for a header."""
    written, people = contrast.name, len(contrast.prediction.subject_names)
    if name == "t":
        dof = contrast.test.dof[~np.isnan(contrast.test.dof)]
        low, middle, high = np.quantile(dof, [0, 0.5, 1]) if dof.size else (1.0, 1.0, 1.0)
        return Statistic(
            "t test", f"Welch t over images, dof {low:.1f} to {high:.1f}: {written}", (middle,)
        )
    known = {
        "difference": Statistic("estimate", f"difference, model units: {written}"),
        "p": Statistic("p value", f"p uncorrected: {written}", limits=_P),
        "p_fdr": Statistic("p value", f"p, FDR over voxels: {written}", limits=_P),
        "p_max": Statistic("p value", f"p, max t over voxels: {written}", limits=_P),
        "fdr1p": Statistic(
            "estimate", f"1 - p, FDR over voxels: {written}", name="1 - p", limits=_ONE_MINUS_P
        ),
        "maxt1p": Statistic(
            "estimate", f"1 - p, max t over voxels: {written}", name="1 - p", limits=_ONE_MINUS_P
        ),
        "conjunction": Statistic(
            "estimate",
            f"sign where each of {people} p < {contrast.alpha:g} uncorrected: {written}",
            name="conjunction",
            limits=(-1.0, 1.0),
        ),
        "p_conjunction": Statistic(
            "p value", f"largest of {people} p, uncorrected: {written}", limits=_P
        ),
    }
    return known[name]
