"""ROIs and their hemispheres: of a group mask, and each person's own in native space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import OptionError, ShapeError, check_choice, choice_message
from imgtofmri.spaces import BoolArray, Grid, nearest_voxels, transform
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

RoiMasks = Mapping[tuple[str, str], BoolArray]
"""(roi, hemi) to a choice of voxels; hemi is "L", "R", or "B" where they are not told apart."""

OwnRois = Mapping[tuple[str, str], npt.NDArray[np.intp]]
"""(roi, hemi) to the columns of a person's native responses that are that person's own ROI."""

BOTH = "both"

GROUP = "group"
"""What tables call the group, among the subjects."""

MODEL_UNIT = "model units"
"""The unit of subjects' maps, and of a group's that keeps amplitude."""


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


def own_columns(own: OwnRois, roi: str, hemi: str = BOTH) -> npt.NDArray[np.intp]:
    """Return the columns of a person's own ROI, none where the person lacks it."""
    sides = [columns for (name, side), columns in own.items() if name == roi]
    if hemi != BOTH:
        sides = [own[roi, hemi]] if (roi, hemi) in own else []
    return np.concatenate(sides) if sides else np.empty(0, np.intp)


def columns_at(
    points_mm: npt.ArrayLike, mask: BoolArray, affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Return which of a mask's voxels points lie in, -1 outside the mask.

    Parameters
    ----------
    points_mm : array of shape (3,) or (n_points, 3)
        Millimetres of the mask's space, RAS+.
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
        Voxel indices to millimetres.

    Returns
    -------
    array of shape (n_points,), int

    Raises
    ------
    ShapeError
        If the points have another shape, or are not finite.
    """
    points = np.asarray(points_mm, dtype=np.float64)
    if points.ndim not in (1, 2) or points.shape[-1] != 3 or not np.isfinite(points).all():
        message = (
            "points_mm must be finite, of shape (3,) or (n_points, 3), in millimetres; got "
            f"shape {points.shape}{'' if np.isfinite(points).all() else ' with NaN'}. Give x, "
            "y and z of each."
        )
        raise ShapeError(message)
    grid = Grid(mask.shape, affine)
    voxel = nearest_voxels(transform(np.linalg.inv(affine), np.atleast_2d(points)), grid)
    column_of = np.full(grid.n_voxels + 1, -1)  # The last is where points outside lead.
    column_of[np.flatnonzero(mask)] = np.arange(mask.sum())
    found: npt.NDArray[np.intp] = column_of[voxel]
    return found


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RoiMeans(Brief):
    """The mean response of each person's own ROIs to each stimulus.

    Attributes
    ----------
    places : tuple of (roi, hemi)
        Each ROI in its left and right hemisphere, then in "both".
    subjects : tuple of str
    values : array of shape (n_places, n_subjects, n_stimuli), float64
        In the models' units, over the voxels of the person's native space, none of them smoothed;
        NaN where a person lacks the ROI.
    """

    places: tuple[tuple[str, str], ...]
    subjects: tuple[str, ...]
    values: npt.NDArray[np.float64]

    def __getitem__(self, chosen: slice | Sequence[int]) -> RoiMeans:
        """Return the means of some stimuli."""
        return RoiMeans(self.places, self.subjects, self.values[:, :, chosen])

    @property
    def group(self) -> npt.NDArray[np.float64]:
        """The mean over the people who have the ROI, shape (n_places, n_stimuli)."""
        known = ~np.isnan(self.values)
        total, n = np.where(known, self.values, 0).sum(axis=1), known.sum(axis=1)
        return np.asarray(np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0))


def roi_means(
    native: Sequence[npt.NDArray[np.floating[Any]]],
    own_rois: Sequence[OwnRois],
    places: Sequence[tuple[str, str]],
    subjects: Sequence[str],
) -> RoiMeans:
    """Average native responses over each person's own ROIs.

    Parameters
    ----------
    native : sequence of array of shape (n_stimuli, n_outputs)
        Each person's responses.
    own_rois : sequence of OwnRois
        Each person's.
    places : sequence of (roi, hemi)
    subjects : sequence of str

    Returns
    -------
    RoiMeans
    """
    values = np.full((len(places), len(native), len(native[0])), np.nan)
    for number, (roi, hemi) in enumerate(places):
        for person, (responses, own) in enumerate(zip(native, own_rois, strict=True)):
            columns = own_columns(own, roi, hemi)
            if len(columns):
                # Rows in one piece are summed alike, however many there are.
                inside = np.ascontiguousarray(responses[:, columns])
                values[number, person] = inside.mean(axis=1, dtype=np.float64)
    return RoiMeans(tuple(places), tuple(subjects), values)


def means_table(
    means: RoiMeans, names: Sequence[str], onsets_s: npt.NDArray[np.float64] | None
) -> pd.DataFrame:
    """Return ROI means as a tidy table; see `Prediction.roi_table`.

    Parameters
    ----------
    means : RoiMeans
    names : sequence of str
        Of the stimuli.
    onsets_s : array of shape (n_stimuli,), optional
        In seconds, where stimuli are a movie's frames.
    """
    import pandas as pd

    owners = (GROUP, *means.subjects)
    # Stimulus by stimulus, as files are written.
    values = np.concatenate([means.group[:, None], means.values], axis=1).transpose(2, 0, 1)
    n_stimuli, n_rows = len(names), len(means.places) * len(owners)
    columns: dict[str, Any] = {"stimulus": np.repeat(names, n_rows)}
    if onsets_s is not None:
        columns["onset"] = np.repeat(onsets_s, n_rows)
    rois, hemis = zip(*means.places, strict=True)
    return pd.DataFrame(
        columns
        | {
            "roi": np.tile(np.repeat(rois, len(owners)), n_stimuli),
            "hemi": np.tile(np.repeat(hemis, len(owners)), n_stimuli),
            "subject": np.tile(owners, n_stimuli * len(means.places)),
            "mean": values.ravel().astype(np.float32),
            "unit": MODEL_UNIT,
        }
    )
