"""A contrast of predicted responses: maps, ROI tables, and whether the subjects agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.contrast.design import contrast_design, written_contrast
from imgtofmri.analyses.contrast.welch import WelchTest, permuted_tests, welch_test
from imgtofmri.encoder import Prediction
from imgtofmri.encoder.regions import RoiPlace, roi_places
from imgtofmri.exceptions import DataError, OptionError, choice_message
from imgtofmri.outputs import to_img
from imgtofmri.stats import NullSummary, fdr

if TYPE_CHECKING:
    import pandas as pd

#: Maps that `Contrast.to_img` can make, with the value outside the mask and where untested.
_MAPS = {
    "difference": 0.0,
    "t": 0.0,
    "p": 1.0,
    "p_fdr": 1.0,
    "p_max": 1.0,
    "conjunction": 0.0,
    "p_conjunction": 1.0,
}


@dataclass(frozen=True)
class Contrast:
    """A contrast's maps and tables.

    Parameters
    ----------
    name : str
        The contrast as written.
    weights : dict of str to float
        Conditions with a weight.
    counts : dict of str to int
        Images in each of them.
    test : WelchTest
        The group map's difference, standard error, t, dof and two-sided p, each (n_voxels,).
    p_fdr : array of shape (n_voxels,)
        ``test.p`` adjusted over voxels for the false discovery rate (Benjamini and Hochberg).
    p_max : array of shape (n_voxels,)
        Corrected over voxels by the largest absolute t under images exchanged over conditions.
    subject_differences, subject_t : arrays of shape (n_subjects, n_voxels)
    conjunction : array of shape (n_voxels,), int8
        1 or -1 where every subject's t has that sign and p below ``alpha``, else 0.
    p_conjunction : array of shape (n_voxels,)
        The largest of the subjects' p values where their signs agree, else 1: the test of "in
        every one of these subjects" (minimum statistic, Nichols et al. 2005).
    roi_table : pandas.DataFrame
        contrast, roi, hemi ("L", "R", "both"), subject ("group" or a name), n_voxels, difference,
        ci_low, ci_high (95 %), t, dof, p, p_fdr, p_max, n_agree (subjects with the sign of this
        row's difference). Families of the corrections are the rows of one subject.
    condition_table : pandas.DataFrame
        roi, hemi, subject, condition, n, mean, sem.
    mask : array of bool
    affine : array of shape (4, 4)
    subject_names : tuple of str
    n_permutations : int
    seed : int or None
    alpha : float
    """

    name: str
    weights: dict[str, float]
    counts: dict[str, int]
    test: WelchTest
    p_fdr: NDArray[np.float64]
    p_max: NDArray[np.float64]
    subject_differences: NDArray[np.float64]
    subject_t: NDArray[np.float64]
    conjunction: NDArray[np.int8]
    p_conjunction: NDArray[np.float64]
    roi_table: pd.DataFrame
    condition_table: pd.DataFrame
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    subject_names: tuple[str, ...]
    n_permutations: int
    seed: int | None
    alpha: float

    def to_img(self, what: str = "t") -> Any:
        """Return one map as a NIfTI image on the template's grid.

        Parameters
        ----------
        what : {"difference", "t", "p", "p_fdr", "p_max", "conjunction", "p_conjunction"}
            Outside the mask and where nothing could be tested p is 1 and the rest 0.

        Raises
        ------
        OptionError
            If there is no such map.
        """
        if what not in _MAPS:
            raise OptionError(choice_message("Contrast.to_img", "what", what, _MAPS))
        values = getattr(self.test if what in ("difference", "t", "p") else self, what)
        shown = np.where(np.isnan(values), _MAPS[what], values)
        return to_img(shown[None], self.mask, self.affine, outside=_MAPS[what])


def compute_contrast(
    maps: Prediction,
    conditions: Sequence[str],
    contrast: str | Mapping[str, float],
    n_permutations: int = 1000,
    seed: int | None = 0,
    alpha: float = 0.05,
) -> Contrast:
    """Contrast predicted responses between conditions, images being the random factor.

    Each place is tested with Welch's t over images. Under the null hypothesis images are exchanged
    between the conditions that have a weight; all voxels, ROIs and subjects see the same exchange.
    Other images play no part. Predictions carry no measurement noise: p says how surely the
    difference would be found with other images of the same kinds, not with other people.

    Parameters
    ----------
    maps : Prediction
        Predicted with ``average="mean"``; the z-scores of the published model discard amplitude.
    conditions : sequence of str, length n_stimuli
        The condition of each stimulus.
    contrast : str or mapping of str to float
        ``"house - face"``, ``"scene > face + object"``, or one weight for each condition.
    n_permutations : int
        Exchanges for ``p_max``.
    seed : int or None
        The same seed gives the same exchanges and the same answer, whatever the thread count.
    alpha : float
        Level of each subject's test in the conjunction.

    Returns
    -------
    Contrast

    Raises
    ------
    OptionError
        If the contrast is none, names an unknown condition, or the maps lack amplitude.
    ShapeError
        If there is not one condition for each stimulus.
    DataError
        If a condition has fewer than 2 images, or an image's responses are NaN or all the same.

    References
    ----------
    Westfall PH, Young SS (1993), Resampling-Based Multiple Testing, Wiley.
    Nichols T et al. (2005), doi:10.1016/j.neuroimage.2004.12.005 (conjunction).
    """
    if not 0 < alpha < 1:
        message = f"contrast: alpha must lie between 0 and 1; got {alpha}. Use 0.05."
        raise OptionError(message)
    if maps.average != "mean":
        message = (
            "contrast: predictions must keep their amplitude, average='mean'; got "
            f"average={maps.average!r}. Predict again with average='mean'."
        )
        raise OptionError(message)
    labels, weights, names = contrast_design(len(maps.names), conditions, contrast)
    chosen = np.flatnonzero(weights[labels])
    labels = labels[chosen]
    group = np.asarray(maps.group, dtype=np.float64)[chosen]
    subjects = [np.asarray(subject, dtype=np.float64)[chosen] for subject in maps.subjects]
    _check_responses(group, [maps.names[index] for index in chosen])
    places = _places_with_voxels(maps)
    averaging = np.stack([voxels / voxels.sum() for *_, voxels in places], axis=1)
    rois = [values @ averaging for values in (group, *subjects)]

    (test, null), *roi_tests = permuted_tests([group, *rois], labels, weights, n_permutations, seed)
    subject_tests = [welch_test(values, labels, weights) for values in subjects]
    name = contrast if isinstance(contrast, str) else written_contrast(contrast)
    used = [(int(index), names[index]) for index in np.flatnonzero(weights)]
    subject_t = np.stack([result.t for result in subject_tests])
    subject_p = np.stack([result.p for result in subject_tests])
    conjunction, p_conjunction = _conjunction(subject_t, subject_p, alpha)
    return Contrast(
        name=name,
        weights={condition: float(weights[index]) for index, condition in used},
        counts={condition: int(np.sum(labels == index)) for index, condition in used},
        test=test,
        p_fdr=fdr(test.p),
        p_max=null.p_max,
        subject_differences=np.stack([result.difference for result in subject_tests]),
        subject_t=subject_t,
        conjunction=conjunction,
        p_conjunction=p_conjunction,
        roi_table=_roi_table(name, places, ("group", *maps.subject_names), roi_tests),
        condition_table=_condition_table(
            places, ("group", *maps.subject_names), rois, labels, used
        ),
        mask=np.asarray(maps.mask, dtype=bool),
        affine=np.asarray(maps.affine, dtype=np.float64),
        subject_names=tuple(maps.subject_names),
        n_permutations=n_permutations,
        seed=seed,
        alpha=alpha,
    )


def _check_responses(responses: NDArray[np.float64], names: Sequence[str]) -> None:
    """Refuse NaN and images whose response is the same everywhere."""
    bad = np.flatnonzero(~np.isfinite(responses).all(axis=1))
    if bad.size:
        message = (
            f"contrast: responses must be finite; image {names[bad[0]]!r} has NaN or infinite "
            "voxels. Predict it again or leave it out."
        )
        raise DataError(message)
    flat = np.flatnonzero(np.ptp(responses, axis=1) == 0)
    if responses.shape[1] > 1 and flat.size:
        message = (
            f"contrast: a response must vary over voxels; image {names[flat[0]]!r} has "
            f"{responses[flat[0], 0]:g} in all {responses.shape[1]}. Leave it out."
        )
        raise DataError(message)


def _places_with_voxels(prediction: Prediction) -> list[RoiPlace]:
    places = [place for place in roi_places(prediction.roi_masks) if place.voxels.any()]
    if not places:
        message = (
            "contrast: at least one ROI must have voxels in the mask; got none. Predict with the "
            "ROIs of interest."
        )
        raise DataError(message)
    return places


def _conjunction(
    t: NDArray[np.float64], p: NDArray[np.float64], alpha: float
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Find where all subjects agree in sign, and how sure the least sure of them is."""
    direction = np.where((t > 0).all(axis=0), 1, np.where((t < 0).all(axis=0), -1, 0))
    largest = np.where(direction != 0, np.nan_to_num(p, nan=1.0).max(axis=0), 1.0)
    return np.where(largest < alpha, direction, 0).astype(np.int8), largest


def _roi_table(
    name: str,
    places: Sequence[RoiPlace],
    subjects: Sequence[str],
    tests: Sequence[tuple[WelchTest, NullSummary]],
) -> pd.DataFrame:
    """Make the tidy table of ROI tests; the group comes first."""
    import pandas as pd

    signs = np.sign(np.stack([test.difference for test, _ in tests[1:]]))
    parts = []
    for subject, (test, null) in zip(subjects, tests, strict=True):
        columns = {
            "contrast": name,
            "roi": [roi for roi, *_ in places],
            "hemi": [hemi for _, hemi, _ in places],
            "subject": subject,
            "n_voxels": [int(voxels.sum()) for *_, voxels in places],
            **test.columns(null),
            "n_agree": (signs == np.sign(test.difference)).sum(axis=0),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _condition_table(
    places: Sequence[RoiPlace],
    subjects: Sequence[str],
    rois: Sequence[NDArray[np.float64]],
    labels: NDArray[np.intp],
    used: Sequence[tuple[int, str]],
) -> pd.DataFrame:
    """Make the tidy table of condition means in ROIs."""
    import pandas as pd

    parts = []
    for subject, values in zip(subjects, rois, strict=True):
        for index, condition in used:
            members = values[labels == index]
            columns = {
                "roi": [roi for roi, *_ in places],
                "hemi": [hemi for _, hemi, _ in places],
                "subject": subject,
                "condition": condition,
                "n": len(members),
                "mean": members.mean(axis=0),
                "sem": members.std(axis=0, ddof=1) / np.sqrt(len(members)),
            }
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)
