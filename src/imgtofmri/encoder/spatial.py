"""One sparse matrix per subject, from native responses to the smoothed template map.

Merging overlapping ROIs, moving to the template, smoothing and masking are all linear and none of
them depends on the stimulus, so their product is worked out once for each choice of ROIs, smoothing
and mask, and applied to whole batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse

from imgtofmri import spaces
from imgtofmri.bundle import HEMIS, Bundle, RoiModel, SubjectModel
from imgtofmri.encoder.native import NativeSpace
from imgtofmri.encoder.regions import OwnRois, RoiMasks
from imgtofmri.encoder.settings import AverageName, MaskName
from imgtofmri.exceptions import OptionError
from imgtofmri.processors import one_blas_thread
from imgtofmri.products import row_products
from imgtofmri.spaces import FloatArray
from imgtofmri.text import Brief

Native = npt.NDArray[np.float32]

BLOCK = 32
"""How many stimuli are predicted together: enough to be fast, few enough for memory."""

LEAST_COVERAGE = 0.5
"""How many people must stand behind a voxel for a mean over people: less is NaN.

Half a person: from here on most of what is averaged is a response, and not the edge of one that
smoothing spread.
"""

ACCURACY = "cv_r"
"""The extra of a model's voxels that says how well they are predicted."""

RESIDUAL = "residual_variance"
"""The extra of a model's voxels from which prediction intervals are made."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SubjectOperator(Brief):
    """From one subject's native responses to the template map.

    Attributes
    ----------
    models : tuple of RoiModel
        The models whose outputs, one after another, the matrix takes.
    matrix : sparse array of shape (n_voxels, n_outputs), float32
        One row for each voxel of the group mask, in C order.
    name : str
        The subject's.
    own_rois : dict of (roi, hemi) to array of int
        Which outputs are the subject's own ROI; hemi is "L", "R" or "B".
    space : NativeSpace
        Where the outputs lie.
    """

    models: tuple[RoiModel, ...]
    matrix: scipy.sparse.csr_array
    name: str
    own_rois: OwnRois
    space: NativeSpace

    @property
    def coverage(self) -> npt.NDArray[np.float32]:
        """The share of each voxel's map that the subject's own voxels make, shape (n_voxels,).

        A subject who responds with 1 everywhere has this map: 1 well inside the ROIs, 0 far away.
        """
        return np.asarray(self.matrix.sum(axis=1, dtype=np.float64), dtype=np.float32).ravel()

    def native(self, features: FloatArray) -> npt.NDArray[np.float32]:
        """Predict the models' outputs, one after another.

        Parameters
        ----------
        features : array of shape (n_stimuli, n_features), float32

        Returns
        -------
        array of shape (n_stimuli, n_outputs), float32
            In Fortran order. Each stimulus' numbers are the same bits whatever the others are.
        """
        return np.concatenate([native_responses(model, features) for model in self.models], axis=1)

    def apply(self, native: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn native responses into smoothed maps.

        Each stimulus is summed in the same order whatever others are in the batch, so the result
        does not depend on them by a single bit.

        Parameters
        ----------
        native : array of shape (n_stimuli, n_outputs), float32

        Returns
        -------
        array of shape (n_stimuli, n_voxels), float32
            In Fortran order.
        """
        maps: npt.NDArray[np.float32] = self.matrix @ np.ascontiguousarray(native.T)
        return maps.T


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SpatialModel(Brief):
    """What a choice of ROIs, smoothing and mask comes to on the template grid.

    Attributes
    ----------
    mask : array of shape ``template.shape``, bool
    roi_masks : dict of (roi, hemi) to array of shape (n_voxels,), bool
        Which of the mask's voxels belong to an ROI in any subject; hemi is "L", "R" or "B" (where
        the bundle does not tell the hemispheres apart).
    subjects : tuple of SubjectOperator
        In the bundle's order of subjects.
    coverage : array of shape (n_subjects, n_voxels), float32
        How far each subject stands behind each voxel, from 0 to 1; see `SubjectOperator.coverage`.
    residual_variance : array of shape (n_voxels,), float64, or None
        Of a measured response about its prediction, as cross-validation found it: the mean over
        subjects, each by their coverage; None where the bundle does not record it. Residuals of
        neighbouring voxels are taken to move together when smoothing mixes them, which gives an
        upper limit.
    accuracy : array of shape (n_voxels,), float32, or None
        The cross-validated r of the models behind each voxel, each with its share of the voxel's
        map, over all people; None where the bundle does not record it.
    """

    mask: spaces.BoolArray
    roi_masks: RoiMasks
    subjects: tuple[SubjectOperator, ...]
    coverage: npt.NDArray[np.float32]
    residual_variance: npt.NDArray[np.float64] | None = None
    accuracy: npt.NDArray[np.float32] | None = None

    @property
    def subject_names(self) -> tuple[str, ...]:
        """Names of the subjects that have one of the ROIs."""
        return tuple(subject.name for subject in self.subjects)

    def predict(
        self, features: FloatArray, average: AverageName
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], tuple[Native, ...]]:
        """Predict group maps, subjects' maps and their native responses from features.

        Parameters
        ----------
        features : array of shape (n_stimuli, n_features), float32
        average : {"zscore", "mean"}
            See `group_maps`.

        Returns
        -------
        group : array of shape (n_stimuli, n_voxels), float32
        subjects : array of shape (n_subjects, n_stimuli, n_voxels), float32
        native : tuple of array of shape (n_stimuli, n_outputs), float32
            One for each subject, whose number of outputs is its own.
        """
        n_stimuli, n_voxels = len(features), int(self.mask.sum())
        subjects = np.empty((len(self.subjects), n_stimuli, n_voxels), dtype=np.float32)
        group = np.empty((n_stimuli, n_voxels), dtype=np.float32)
        native = tuple(
            np.empty((n_stimuli, subject.matrix.shape[1]), np.float32) for subject in self.subjects
        )
        with one_blas_thread():
            for start in range(0, n_stimuli, BLOCK):
                here = slice(start, start + BLOCK)
                for number, subject in enumerate(self.subjects):
                    native[number][here] = subject.native(features[here])
                    subjects[number, here] = subject.apply(native[number][here])
                group[here] = group_maps(subjects[:, here], average, self.coverage)
        return group, subjects, native


def native_responses(model: RoiModel, features: FloatArray) -> npt.NDArray[np.float32]:
    """Predict the responses of a model's voxels from features, each stimulus from its own alone.

    Parameters
    ----------
    model : RoiModel
    features : array of shape (n_stimuli, n_features), float32
        All of the encoder's; the model takes its own.

    Returns
    -------
    array of shape (n_stimuli, n_voxels), float32
    """
    used = features[:, model.first_feature : model.first_feature + model.n_features]
    return row_products(used, model.weights) + model.intercept


def group_maps(
    subjects: npt.NDArray[np.float32], average: AverageName, coverage: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Average subjects' maps into group maps.

    Parameters
    ----------
    subjects : array of shape (n_subjects, n_stimuli, n_voxels)
    average : {"zscore", "mean"}
        "zscore": each subject's map is z-scored over voxels, the sum over subjects is z-scored
        again (the published model). "mean": the mean over the subjects who stand behind a voxel,
        each by their coverage, which keeps amplitude.
    coverage : array of shape (n_subjects, n_voxels)

    Returns
    -------
    array of shape (n_stimuli, n_voxels), float32
        A mean is NaN where the subjects' coverage comes to less than `LEAST_COVERAGE`.
    """
    if average == "mean":
        people = coverage.sum(axis=0, dtype=np.float64)
        weight = np.where(people < LEAST_COVERAGE, np.nan, people)
        group: FloatArray = subjects.sum(axis=0, dtype=np.float64) / weight
    else:
        group, scratch = np.zeros(subjects.shape[1:]), np.empty(subjects.shape[1:])
        for maps in subjects:
            group += zscore(maps, scratch)
        group = zscore(group)
    return np.asarray(group, dtype=np.float32)


def zscore(maps: FloatArray, out: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.float64]:
    """Standardise over the last axis with the population's standard deviation.

    A constant map becomes 0. ``out`` is an array of the maps' shape to write to.
    """
    centred: npt.NDArray[np.float64]
    centred = np.subtract(maps, maps.mean(axis=-1, keepdims=True, dtype=np.float64), out=out)
    squares = np.einsum("...i,...i->...", centred, centred)[..., None]
    deviation = np.sqrt(squares / maps.shape[-1])
    centred *= 1 / np.where(deviation > 0, deviation, 1)
    return centred


def build_spatial_model(
    bundle: Bundle, rois: Sequence[str], sigma_mm: float, mask: MaskName
) -> SpatialModel:
    """Work out the group mask and each subject's matrix.

    Parameters
    ----------
    bundle : Bundle
    rois : sequence of str
        In the order in which overlapping models are merged.
    sigma_mm, mask
        As `imgtofmri.Settings` has them.

    Raises
    ------
    OptionError
        If the ROIs do not reach the template.
    """
    subjects = [subject for subject in bundle.subjects if any(roi in subject.rois for roi in rois)]
    full = [_subject_operator(subject, bundle, rois, sigma_mm) for subject in subjects]
    roi_masks = _roi_masks(bundle, rois)
    if mask == "overlap":
        inside = np.any(list(roi_masks.values()), axis=0)
    else:
        inside = np.any([np.diff(operator.matrix.indptr) > 0 for operator in full], axis=0)
    if not inside.any():
        message = f"rois {', '.join(rois)} do not reach the template. Choose others."
        raise OptionError(message, "rois")
    kept = np.flatnonzero(inside)
    operators = tuple(
        replace(operator, matrix=operator.matrix[kept].astype(np.float32)) for operator in full
    )
    return SpatialModel(
        inside.reshape(bundle.template.shape),
        {key: roi_mask[kept] for key, roi_mask in roi_masks.items()},
        operators,
        np.stack([operator.coverage for operator in operators]),
        _residual_variance(operators),
        _accuracy(operators),
    )


def _residual_variance(
    subjects: Sequence[SubjectOperator],
) -> npt.NDArray[np.float64] | None:
    total, people = np.zeros((2, subjects[0].matrix.shape[0]))
    for operator in subjects:
        if any(RESIDUAL not in model.extras for model in operator.models):
            return None
        variances = [model.extras[RESIDUAL] for model in operator.models]
        deviation = abs(operator.matrix) @ np.sqrt(np.concatenate(variances))
        coverage = operator.coverage.astype(np.float64)
        # Of responses and not of maps: a map is the responses times the coverage.
        total += np.divide(deviation**2, coverage, out=np.zeros_like(total), where=coverage > 0)
        people += coverage
    return np.divide(total, people, out=np.full_like(total, np.nan), where=people > 0)


def _accuracy(subjects: Sequence[SubjectOperator]) -> npt.NDArray[np.float32] | None:
    """Return the mean accuracy of what each voxel's map is made of."""
    total, weight = np.zeros((2, subjects[0].matrix.shape[0]))
    for operator in subjects:
        if any(ACCURACY not in model.extras for model in operator.models):
            return None
        r = np.concatenate([model.extras[ACCURACY] for model in operator.models])
        total += operator.matrix @ r.astype(np.float64)
        weight += operator.coverage
    mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return mean.astype(np.float32)


def _subject_operator(
    subject: SubjectModel, bundle: Bundle, rois: Sequence[str], sigma_mm: float
) -> SubjectOperator:
    """Return the operator onto every voxel of the template."""
    named = {roi: subject.rois[roi] for roi in rois if roi in subject.rois}
    models = tuple(named.values())
    voxels, merge = spaces.merge_matrix(
        [model.voxels[model.hemi == hemi] for model in models for hemi in _hemis(model)]
    )
    # Within a model the hemispheres are written in turn; bring its voxels into that order.
    order = np.concatenate(
        [
            start + np.flatnonzero(model.hemi == hemi)
            for model, start in zip(models, _starts(models), strict=True)
            for hemi in _hemis(model)
        ]
    )
    reached, move = spaces.map_matrix(subject.to_template, voxels)
    smooth = spaces.smoothing_matrix(reached, bundle.template, sigma_mm)
    matrix = (smooth @ (move @ merge)).tocsr()
    matrix = matrix[:, np.argsort(order)]
    matrix.sort_indices()
    space = NativeSpace(subject.native, voxels, merge[:, np.argsort(order)].astype(np.float32))
    own_rois = {
        (roi, HEMIS[code]): start + np.flatnonzero(model.hemi == code)
        for (roi, model), start in zip(named.items(), _starts(models), strict=True)
        for code in _hemis(model)
    }
    return SubjectOperator(models, matrix, subject.name, own_rois, space)


def _hemis(model: RoiModel) -> list[int]:
    return [int(code) for code in np.unique(model.hemi)]


def _starts(models: Sequence[RoiModel]) -> list[int]:
    ends = np.cumsum([model.n_voxels for model in models]).tolist()
    return [0, *ends[:-1]]


def _roi_masks(bundle: Bundle, rois: Sequence[str]) -> dict[tuple[str, str], spaces.BoolArray]:
    masks: dict[tuple[str, str], spaces.BoolArray] = {}
    for key, moved in moved_masks(bundle, rois):
        overlap = spaces.roi_overlap(moved, bundle.template)
        masks[key] = masks[key] | overlap if key in masks else overlap
    return masks


def moved_masks(
    bundle: Bundle, rois: Sequence[str]
) -> Iterator[tuple[tuple[str, str], npt.NDArray[np.float64]]]:
    """Move each subject's mask of each ROI and hemisphere to the template.

    Yields
    ------
    key : (roi, hemi)
    mask : array of shape (template.n_voxels,)
    """
    for roi in rois:
        for subject in bundle.subjects:
            if roi not in subject.rois:
                continue
            model = subject.rois[roi]
            for code in _hemis(model):
                voxels = model.voxels[model.hemi == code]
                yield (roi, HEMIS[code]), _moved_mask(subject, voxels, bundle.template)


def _moved_mask(
    subject: SubjectModel, voxels: spaces.IntArray, template: spaces.Grid
) -> npt.NDArray[np.float64]:
    """Return an ROI mask on the template grid, shape (template.n_voxels,)."""
    reached, move = spaces.map_matrix(subject.to_template, np.sort(voxels))
    mask = np.zeros(template.n_voxels)
    mask[reached] = move.sum(axis=1)
    return mask
