"""Encoding accuracy: how well responses to images are predicted in each voxel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.measured.patterns import Missing, Patterns, mean_patterns, pair, usable_voxels
from imgtofmri.stats import (
    bootstrap_pearson,
    ceiling_normalised,
    fdr,
    noise_ceiling,
    permutation_pearson,
    r_squared,
)
from imgtofmri.stats.ceiling import CeilingMethod

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd


@dataclass(frozen=True, eq=False)
class EncodingAccuracy:
    """Accuracy of a prediction in each voxel and ROI.

    Attributes
    ----------
    maps : mapping of str to array of shape (n_voxels,)
        r, r2, lower and upper (bootstrap interval of r over images), p, p_fdr and p_max
        (permutation); with repeats also explainable (share of one repeat's variance that is
        signal), r_max (noise ceiling of r) and r_normalised (r / r_max). NaN in voxels without
        data.
    table : pandas.DataFrame
        One row for all voxels and one for each ROI, with columns model, roi, n_voxels (with an r),
        n_significant (p_fdr <= 0.05), mean_r, lower, upper (bootstrap interval of mean_r over
        images), p (of mean_r, by permutation), p_fdr (adjusted over the ROIs; the row of
        all voxels stands alone), mean_r2, and with repeats mean_r_max and median_r_normalised.
    regions : mapping of str to array of shape (n_voxels,), bool
        The voxels of each row of the table.
    names : tuple of str
        The images.
    ceiling_method : str or None
        How the noise ceiling was estimated.
    mask : array of shape (X, Y, Z), bool, or None
        Where the voxels lie.
    affine : array of shape (4, 4) or None
        Voxel indices to millimetres.
    """

    maps: Mapping[str, NDArray[np.float64]]
    table: pd.DataFrame
    regions: Mapping[str, NDArray[np.bool_]]
    names: tuple[str, ...]
    ceiling_method: CeilingMethod | None
    mask: NDArray[np.bool_] | None
    affine: NDArray[np.float64] | None

    def to_img(self, name: str) -> nib.Nifti1Image:
        """Return one map as a NIfTI image, NaN outside the mask and where there is no value.

        Raises
        ------
        ShapeError
            If the patterns came without a mask, so that no one knows where the voxels lie.
        """
        if self.mask is None or self.affine is None:
            message = (
                "EncodingAccuracy.to_img: needs the mask and affine of the patterns; they came "
                "without. Read the patterns with a mask."
            )
            raise ShapeError(message)
        import nibabel as nib

        volume = np.full(self.mask.shape, np.nan, dtype=np.float32)
        volume[self.mask] = self.maps[name]
        return nib.Nifti1Image(volume, self.affine)


def encoding_accuracy(
    predicted: Patterns,
    measured: Patterns | None = None,
    repeats: Sequence[Patterns] = (),
    rois: Mapping[str, NDArray[np.bool_]] | None = None,
    leave_out: Collection[str] = (),
    *,
    ceiling_method: CeilingMethod = "signal-power",
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    level: float = 0.95,
    seed: int | None = 0,
    missing: Missing = "error",
    unmatched: Missing = "error",
    model: str = "encoder",
) -> EncodingAccuracy:
    """Compare predicted and measured responses over images, in each voxel.

    Exchanged under the null: which image a prediction belongs to, over all images, the same way in
    all voxels. Resampled for intervals: images.

    Parameters
    ----------
    predicted : Patterns
        One pattern for each image. For r any unit will do; R² is 1 - SS_residual / SS_total in
        the units given, so it means something only where predicted and measured have the same.
    measured : Patterns, optional
        The measured patterns; by default the mean of ``repeats``.
    repeats : sequence of Patterns, optional
        Repeated measurements of the same images, two or more, for the noise ceiling. Where
        ``measured`` is given, the ceiling is taken to be that of the mean of these repeats.
    rois : mapping of str to array of shape (n_voxels,), bool, optional
        Each ROI's voxels.
    leave_out, seed, missing, unmatched, level, model
        As for :func:`matched_patterns`.
    ceiling_method : {"signal-power", "explainable-variance", "split-half"}
        As for :func:`imgtofmri.stats.noise_ceiling`.
    n_permutations, n_bootstraps : int
        How many permutations for p values and resamples of images for intervals.

    Returns
    -------
    EncodingAccuracy
        Maps and ROI summaries.

    Raises
    ------
    DataError
        If images have no partner, there are fewer than three, or values are missing.
    ShapeError
        If voxels differ.
    """
    if measured is None:
        measured = mean_patterns(list(repeats), "encoding_accuracy (repeats)")
    own, other = pair(predicted, measured, leave_out, unmatched)
    again = [pair(own, part.of(own.names))[1] for part in repeats]
    sets = {"the predictions": own, "the measured patterns": other}
    sets |= {f"repeat {number}": part for number, part in enumerate(again)}
    usable = usable_voxels(sets, missing)
    regions = _regions(rois or {}, usable)

    x = own.values[:, usable].astype(np.float64)
    y = other.values[:, usable].astype(np.float64)
    inside = np.array([region[usable] for region in regions.values()])
    test = permutation_pearson(x, y, n_permutations, seed, regions=inside)
    lower, upper = bootstrap_pearson(x, y, n_bootstraps, level, seed)
    found = {
        "r": test.r,
        "r2": r_squared(x, y),
        "lower": lower,
        "upper": upper,
        "p": test.p,
        "p_fdr": test.p_fdr,
        "p_max": test.p_max,
    }
    if again:
        stack = np.stack([part.values[:, usable] for part in again])
        ceiling = noise_ceiling(stack, ceiling_method, seed=seed)
        found |= {
            "explainable": ceiling.explainable,
            "r_max": ceiling.r_max(),
            "r_normalised": ceiling_normalised(test.r, ceiling),
        }
    varying = ~np.isnan(test.r)
    for name, region in zip(regions, inside, strict=True):
        if not (region & varying).any():
            message = (
                f"encoding_accuracy: the ROI {name} must have a voxel that varies over images; it "
                "has none. Leave the ROI out."
            )
            raise DataError(message)
    bounds = bootstrap_pearson(x, y, n_bootstraps, level, seed, regions=inside)
    assert test.regions is not None
    table = _table(tuple(regions), inside, found, bounds, test.regions.p, model)
    maps = {name: _spread(values, usable) for name, values in found.items()}
    method = ceiling_method if again else None
    return EncodingAccuracy(maps, table, regions, own.names, method, own.mask, own.affine)


def _regions(
    rois: Mapping[str, NDArray[np.bool_]], usable: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    for name, region in rois.items():
        if region.shape != usable.shape:
            message = (
                f"encoding_accuracy: the ROI {name} must be a mask over the {usable.size} voxels; "
                f"got shape {region.shape}. Read it with the same grid."
            )
            raise ShapeError(message)
    return {"all": np.ones(usable.size, dtype=bool), **rois}


def _spread(values: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    spread = np.full(usable.size, np.nan)
    spread[usable] = values
    return spread


def _table(
    names: tuple[str, ...],
    inside: NDArray[np.bool_],
    found: Mapping[str, NDArray[np.float64]],
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    p: NDArray[np.float64],
    model: str,
) -> pd.DataFrame:
    import pandas as pd

    # All voxels together are no member of the ROIs' family.
    p_fdr = np.concatenate([p[:1], fdr(p[1:])])
    rows = []
    for at, (name, region) in enumerate(zip(names, inside, strict=True)):
        taken = region & ~np.isnan(found["r"])
        row = {
            "model": model,
            "roi": name,
            "n_voxels": int(np.count_nonzero(taken)),
            "n_significant": int(np.count_nonzero(found["p_fdr"][taken] <= 0.05)),
            "mean_r": float(found["r"][taken].mean()),
            "lower": float(bounds[0][at]),
            "upper": float(bounds[1][at]),
            "p": float(p[at]),
            "p_fdr": float(p_fdr[at]),
            "mean_r2": float(found["r2"][taken].mean()),
        }
        if "r_max" in found:
            normalised = found["r_normalised"][taken]
            usable = normalised[~np.isnan(normalised)]
            row["mean_r_max"] = float(found["r_max"][taken].mean())
            row["median_r_normalised"] = float(np.median(usable)) if usable.size else np.nan
        rows.append(row)
    return pd.DataFrame(rows)
