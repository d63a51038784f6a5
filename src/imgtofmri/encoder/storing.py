"""Predictions as the rows of a store, and what a store holds besides them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.encoder.regions import BOTH, RoiMasks, RoiMeans, roi_mask, roi_names, roi_places
from imgtofmri.outputs import BOUNDS
from imgtofmri.outputs.store import Constant, Store
from imgtofmri.outputs.store_plan import (
    ACCURACY,
    AFFINE,
    COVERAGE,
    DIGEST,
    GROUP,
    HEMI,
    HEMIS,
    MASK,
    MEANS,
    ONSET,
    RESIDUAL,
    ROI,
    ROI_VOXELS,
    SUBJECT,
    SUBJECTS,
    StoreDtype,
    StorePlan,
)

if TYPE_CHECKING:
    from imgtofmri.encoder.prediction import Prediction
    from imgtofmri.encoder.spatial import SpatialModel

STORE = "predictions.zarr"
"""The store in the folder of a run."""

PLACES = "places"
"""Which attribute of the ROIs' voxels says which sides an ROI tells apart."""


def plan_store(
    of: SpatialModel | Prediction,
    n_rows: int,
    *,
    unit: str,
    subjects: bool = False,
    interval: float | None = None,
    onsets: bool = False,
    dtype: StoreDtype = "float32",
    rois_only: bool = False,
) -> StorePlan:
    """Return the plan of a store of so many stimuli.

    Parameters
    ----------
    of : SpatialModel or Prediction
        The voxels, the ROIs and the people.
    n_rows : int
        Stimuli, each frame of a movie being one.
    unit : str
        Of the group's maps.
    subjects, interval
        What is kept besides the group's maps, as for `Prediction.maps`.
    onsets : bool
        Whether there are movies.
    dtype : {"float32", "float16"}
        Of maps.
    rois_only : bool
        Keep no maps, only the means of ROIs.
    """
    return StorePlan(
        n_rows=n_rows,
        n_voxels=int(of.mask.sum()),
        people=of.subject_names,
        rois=roi_names(of.roi_masks),
        maps=() if rois_only else (GROUP, *(BOUNDS if interval is not None else ())),
        subject_maps=subjects and not rois_only,
        onsets=onsets,
        dtype=dtype,
        unit=unit,
    )


def store_constants(
    of: SpatialModel | Prediction, affine: npt.NDArray[np.float64], plan: StorePlan
) -> dict[str, Constant]:
    """Return what a store holds once."""
    found = {
        SUBJECT: Constant(plan.people, (SUBJECT,)),
        HEMI: Constant(HEMIS, (HEMI,)),
        ROI: Constant(plan.rois, (ROI,)),
        ROI_VOXELS: _roi_voxels(of.roi_masks, plan),
        MASK: Constant(np.asarray(of.mask, dtype=bool), ("x", "y", "z")),
        AFFINE: Constant(np.asarray(affine, dtype=np.float64), ("row", "column")),
        COVERAGE: Constant(np.asarray(of.coverage, dtype=np.float32), (SUBJECT, "voxel")),
    }
    if of.accuracy is not None:
        found[ACCURACY] = Constant(np.asarray(of.accuracy, dtype=np.float32), ("voxel",))
    if of.residual_variance is not None:
        variance = np.asarray(of.residual_variance, dtype=np.float64)
        found[RESIDUAL] = Constant(variance, ("voxel",))
    return found


def _roi_voxels(masks: RoiMasks, plan: StorePlan) -> Constant:
    """Return which voxels an ROI has on each side; the places say which sides it tells apart."""
    voxels = np.zeros((len(plan.rois), len(HEMIS), plan.n_voxels), dtype=bool)
    for number, roi in enumerate(plan.rois):
        for side, hemi in enumerate(HEMIS):
            if hemi == BOTH or (roi, hemi) in masks:
                voxels[number, side] = roi_mask(masks, roi, hemi)
    attributes = {PLACES: [list(place) for place in masks]}
    return Constant(voxels, (ROI, HEMI, "voxel"), attributes)


def roi_masks_of(
    voxels: npt.NDArray[np.bool_], rois: Sequence[str], places: Sequence[Sequence[str]]
) -> RoiMasks:
    """Return the masks that `store_constants` made an array of.

    Raises
    ------
    ValueError
        If a place is none.
    """
    sides = {"L": 0, "R": 1, "B": 2}
    found = {}
    for roi, hemi in places:
        if roi not in rois or hemi not in sides:
            message = f"there is no place {roi} {hemi}"
            raise ValueError(message)
        found[roi, hemi] = voxels[list(rois).index(roi), sides[hemi]]
    return found


def store_rows(
    part: Prediction, plan: StorePlan, interval: float | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return predictions as the values of a store's rows."""
    rows: dict[str, npt.NDArray[Any]] = {
        MEANS: _means(part, plan),
        DIGEST: np.array([digest_row(sha256) for sha256 in part.sha256], dtype=np.uint8),
    }
    if plan.onsets:
        nothing = np.full(len(part), np.nan)
        rows[ONSET] = nothing if part.onsets_s is None else np.asarray(part.onsets_s, np.float64)
    if plan.subject_maps:
        rows[SUBJECTS] = part.subjects
    if plan.maps:
        maps = part.maps(interval=interval)
        rows |= {bound or GROUP: values for (_, bound), values in maps.items()}
    return rows


def digest_row(sha256: str | None) -> npt.NDArray[np.uint8]:
    """Return a digest as bytes, zeros where there is none."""
    return np.frombuffer(bytes(32) if sha256 is None else bytes.fromhex(sha256), np.uint8)


def digest_text(row: npt.NDArray[np.uint8]) -> str | None:
    """Return what `digest_row` made bytes of."""
    return row.tobytes().hex() if row.any() else None


def _means(part: Prediction, plan: StorePlan) -> npt.NDArray[np.float64]:
    """Return ROI means of shape (n_stimuli, n_people, n_hemis, n_rois)."""
    means = part.roi_means()
    values = np.full((len(part), len(plan.people), len(HEMIS), len(plan.rois)), np.nan)
    for (roi, hemi), of_place in zip(means.places, means.values, strict=True):
        values[:, :, HEMIS.index(hemi), plan.rois.index(roi)] = of_place.T
    return values


def means_of(values: npt.NDArray[np.float64], plan: StorePlan, masks: RoiMasks) -> RoiMeans:
    """Return the ROI means that `store_rows` made rows of."""
    places = tuple((roi, hemi) for roi, hemi, _ in roi_places(masks))
    chosen = [values[:, :, HEMIS.index(hemi), plan.rois.index(roi)].T for roi, hemi in places]
    shape = (0, len(plan.people), len(values))
    return RoiMeans(places, plan.people, np.stack(chosen) if chosen else np.empty(shape))


def describe_store(store: Store) -> dict[str, Any]:
    """Return what a record says of a store, its errors of rounding included."""
    plan = store.plan
    rounding = {
        name: {"greatest_error": error, "greatest_relative_error": relative}
        for name, (error, relative) in store.rounding().items()
    }
    return {
        "path": STORE,
        "stimuli": plan.n_rows,
        "shards": plan.n_shards,
        "shard_rows": plan.shard_rows,
        "arrays": list(plan.row_arrays()),
        "dtype": plan.dtype,
        **({"rounding": rounding} if rounding else {}),
    }
