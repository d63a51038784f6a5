"""What a bundle knows about each of its voxels: a table of it, and selection by it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.bundle import HEMIS, Bundle, RoiModel, SubjectModel
from imgtofmri.exceptions import DataError, OptionError, choice_message
from imgtofmri.spaces import transform
from imgtofmri.stats.ceiling import LEAST_R_MAX

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.floating[Any]]


def restrict_voxels(
    bundle: Bundle, minimum: float, by: str = "cv_r", share_of_ceiling: bool = False
) -> Bundle:
    """Keep the voxels that are predicted well enough.

    Parameters
    ----------
    bundle : Bundle
        A bundle that `imgtofmri.training` made, or any with the measure among its extras.
    minimum : float
        What a voxel must reach.
    by : str
        The measure, such as ``"cv_r"``, ``"cv_r2"`` or ``"noise_ceiling"``.
    share_of_ceiling : bool
        Divide the measure by the voxel's noise ceiling first. Voxels whose ceiling is below
        ``LEAST_R_MAX`` (0.1) are left out: their share is of almost nothing, and noise.

    Returns
    -------
    Bundle
        The same encoder with fewer voxels, to be given to `imgtofmri.encoder.Encoder`. ROIs and
        subjects without a voxel are left out; the card says what was done.

    Raises
    ------
    OptionError
        If a model does not have the measure.
    DataError
        If no voxel is left.
    """
    subjects, n_before, n_after = [], 0, 0
    for subject in bundle.subjects:
        rois = {}
        for name, model in subject.rois.items():
            kept = _measure(model, f"{subject.name} {name}", by, share_of_ceiling) >= minimum
            n_before += len(kept)
            n_after += int(kept.sum())
            if kept.any():
                rois[name] = _take(model, kept)
        if rois:
            voxels = np.unique(np.concatenate([model.voxels for model in rois.values()]))
            to_template = subject.to_template.restrict(voxels)
            subjects.append(SubjectModel(subject.name, subject.native, to_template, rois))
    what = by
    if share_of_ceiling:
        what = f"{by} / noise_ceiling (of {LEAST_R_MAX:g} or more)"
    if not subjects:
        message = (
            f"at least one voxel must reach {what} >= {minimum:g}; none of "
            f"{n_before} does. Lower the minimum."
        )
        raise DataError(message)
    done = f"{what} >= {minimum:g}: {n_after} of {n_before} voxels"
    before = bundle.card.get("restricted")
    card = bundle.card | {"restricted": f"{before}; {done}" if before else done}
    return replace(bundle, card=card, subjects=tuple(subjects))


def voxel_table(bundle: Bundle) -> pd.DataFrame:
    """Return a row for each voxel of each model, with what the bundle knows about it.

    Parameters
    ----------
    bundle : Bundle

    Returns
    -------
    pandas.DataFrame
        Columns subject, roi, hemi ("L", "R", or "B" where they are not told apart), i, j, k
        (indices into the subject's native grid), x_mm, y_mm, z_mm (the native space's millimetres)
        and the measures, such as cv_r, noise_ceiling and alpha; NaN where a model lacks one.
    """
    import pandas as pd

    parts = []
    for subject in bundle.subjects:
        for roi, model in subject.rois.items():
            indices = np.stack(np.unravel_index(model.voxels, subject.native.shape), axis=1)
            places = transform(subject.native.affine, indices.astype(float))
            columns: dict[str, Any] = {
                "subject": subject.name,
                "roi": roi,
                "hemi": np.array(HEMIS)[model.hemi],
                **dict(zip("ijk", indices.T, strict=True)),
                **dict(zip(("x_mm", "y_mm", "z_mm"), places.T, strict=True)),
            }
            parts.append(pd.DataFrame(columns | dict(model.extras)))
    return pd.concat(parts, ignore_index=True)


def _require(model: RoiModel, where: str, name: str) -> None:
    """Refuse a model whose voxels do not have a measure."""
    if name in model.extras:
        return
    if model.extras:
        raise OptionError(choice_message(where, "the measure", name, model.extras))
    message = (
        f"{where}: {name} must be known of each voxel; this encoder records nothing of its "
        "voxels, as the published one. Use one that `imgtofmri fit` made, or leave the option out."
    )
    raise OptionError(message)


def _measure(model: RoiModel, where: str, by: str, share_of_ceiling: bool) -> FloatArray:
    """Return a measure of each voxel of a model."""
    _require(model, where, by)
    if share_of_ceiling and "noise_ceiling" not in model.extras:
        message = (
            f"{where}: the noise ceiling must be known of each voxel; this encoder has none, as no "
            "stimulus was repeated in its study. Leave `share_of_ceiling` out."
        )
        raise OptionError(message, "share_of_ceiling")
    values = np.asarray(model.extras[by], dtype=np.float64)
    if not share_of_ceiling:
        return values
    ceiling = np.asarray(model.extras["noise_ceiling"], dtype=np.float64)
    usable = ceiling >= LEAST_R_MAX
    return np.divide(values, ceiling, out=np.full_like(values, -np.inf), where=usable)


def _take(model: RoiModel, kept: npt.NDArray[np.bool_]) -> RoiModel:
    return RoiModel(
        voxels=model.voxels[kept],
        hemi=model.hemi[kept],
        weights=np.ascontiguousarray(model.weights[:, kept]),
        intercept=model.intercept[kept],
        first_feature=model.first_feature,
        extras={name: np.asarray(values)[kept] for name, values in model.extras.items()},
    )
