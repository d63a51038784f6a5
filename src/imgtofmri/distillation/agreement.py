"""How well group maps of estimated features agree with those of the teacher's own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgtofmri.encoder import Encoder
from imgtofmri.encoder.regions import roi_mask


def held_out_agreement(
    encoder: Encoder, estimated: NDArray[np.float32], own: NDArray[np.float32]
) -> dict[str, float]:
    """Return how well the maps of held-out images agree, in all and by ROI, for a head's card.

    Parameters
    ----------
    encoder : Encoder
    estimated, own : arrays of shape (n_images, n_features)
        Features by the head, and the teacher's own.
    """
    spatial = encoder.spatial_model()
    maps = [spatial.predict(features, "zscore")[0] for features in (estimated, own)]
    fidelity = summarise_agreement("held_out", correlate_maps(*maps))
    for roi in encoder.rois:
        voxels = roi_mask(spatial.roi_masks, roi)
        if voxels.sum() > 1:
            r = correlate_maps(*(rows[:, voxels] for rows in maps))
            fidelity[f"held_out_mean_r_{roi}"] = round(float(r.mean()), 3)
    return fidelity


def correlate_maps(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return Pearson's r over voxels, map by map.

    Parameters
    ----------
    left, right : arrays of shape (n_images, n_voxels)

    Returns
    -------
    array of shape (n_images,), float64
    """
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean(axis=1, keepdims=True)
    products = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    return np.asarray(
        products / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)), dtype=np.float64
    )


def summarise_agreement(name: str, r: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean, the median and the 5th percentile of correlations, for a card."""
    return {
        f"{name}_mean_r": round(float(r.mean()), 3),
        f"{name}_median_r": round(float(np.median(r)), 3),
        f"{name}_5th_percentile_r": round(float(np.quantile(r, 0.05)), 3),
    }
