"""What each map of encoding accuracy says in its header that it is."""

from __future__ import annotations

from imgtofmri.outputs import Statistic

_P = (0.0, 1.0)


def statistic_of(name: str, n_images: int) -> Statistic:
    """Return what a map of `EncodingAccuracy` holds.

    Parameters
    ----------
    name : str
        Its key among the maps.
    n_images : int
        Over which correlations were taken.
    """
    r = f"r of prediction and measurement over {n_images} images"
    known = {
        "r": Statistic("correlation", r, (float(n_images - 2),)),
        "r2": Statistic("estimate", f"R2 of predictions over {n_images} images"),
        "lower": Statistic("estimate", "lower bound of r, interval over images"),
        "upper": Statistic("estimate", "upper bound of r, interval over images"),
        "p": Statistic("p value", "p of r, images permuted, not corrected", limits=_P),
        "p_fdr": Statistic("p value", "p of r, FDR over voxels", limits=_P),
        "p_max": Statistic("p value", "p of r, corrected by max r over voxels", limits=_P),
        "explainable": Statistic("estimate", "share of a repeat's variance that is signal"),
        "r_max": Statistic("estimate", "noise ceiling: highest r with the repeats' mean"),
        "r_normalised": Statistic("estimate", "r with the repeats' mean over its noise ceiling"),
    }
    return known.get(name) or Statistic("estimate", f"{name} over {n_images} images")
