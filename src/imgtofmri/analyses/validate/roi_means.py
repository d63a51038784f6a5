"""Mean responses of ROIs: measured against predicted, image by image.

Voxels of the group's maps are a mosaic of people; an ROI's mean is not, and it is where the encoder
is specific to regions. So it is what to compare first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.validate.comparison import Comparison
from imgtofmri.analyses.validate.features import leave_one_out_map
from imgtofmri.analyses.validate.levels import in_order
from imgtofmri.analyses.validate.people import over_people
from imgtofmri.encoder.controls import ENCODER
from imgtofmri.encoder.regions import BOTH
from imgtofmri.exceptions import DataError
from imgtofmri.measured.patterns import Missing, Patterns, matching_rows, pair
from imgtofmri.stats import (
    explained_variance,
    pearson_interval,
    pearson_r,
    permutation_pearson,
)
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.encoder import Control, Prediction

OWN, MAP = "own ROIs", "map"


@dataclass(frozen=True, eq=False, repr=False)
class RoiMeansAccuracy(Brief):
    """How well mean responses of ROIs are predicted.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each ROI, of the encoder and then of each control; `columns.ROI_MEANS` says what
        its columns mean.
    images : pandas.DataFrame
        The means themselves: roi, image, source ("predicted", "measured", or a participant), mean.
    names : tuple of str
        The images.
    comparison : Comparison
        What was compared.
    settings : mapping of str to Any
        How it was compared; JSON values.
    """

    table: pd.DataFrame
    images: pd.DataFrame
    names: tuple[str, ...]
    comparison: Comparison
    settings: Mapping[str, Any] = field(default_factory=dict)


def roi_means_accuracy(
    comparison: Comparison,
    controls: Sequence[Control] = (),
    *,
    n_permutations: int = 10_000,
    level: float = 0.95,
    seed: int | None = 0,
    missing: Missing = "error",
    unmatched: Missing = "error",
) -> RoiMeansAccuracy:
    """Compare predicted and measured mean responses of each ROI over images.

    The measured mean is over the ROI's voxels in the measured patterns. The predicted one is the
    mean over people of each one's own ROI where the encoder has an ROI of that name, else that of
    the predicted group map, with amplitude, over the same voxels.

    Exchanged under the null: which image a prediction belongs to, over all images, the same way in
    all ROIs. Intervals of r are about other images; those of r_people, the mean of each
    participant's r, about other people.

    Parameters
    ----------
    comparison : Comparison
        Its ROIs are compared; repeats, two or more, give what can be explained.
    controls : sequence of Control
        What the same is made of besides. Luminance is mapped to the measured means by ridge
        regression, each image from a map fitted on all others: it has r alone.
    n_permutations : int
        How many permutations.
    level, seed, missing, unmatched
        As for `matched_patterns`.

    Returns
    -------
    RoiMeansAccuracy

    Raises
    ------
    DataError
        If there is no ROI, images have no partner, there are fewer than four, values are missing,
        or an ROI's mean is the same for all images.
    ShapeError
        If voxels differ.
    """
    import pandas as pd

    if not comparison.rois:
        message = (
            "ROI means need ROIs; the comparison has none. Give masks (`roi_mask`), or predict the "
            "images with an encoder."
        )
        raise DataError(message)
    shared: dict[str, Any] = {"missing": missing, "unmatched": unmatched}
    chosen: dict[str, Any] = {"n_permutations": n_permutations, "level": level, "seed": seed}
    amplitudes = comparison.amplitudes
    measured = _measured(amplitudes, **shared)

    def of(prediction: Prediction | None, predicted: Patterns, model: str) -> pd.DataFrame:
        means, origins = _predicted(measured, prediction, predicted)
        return _compare(model, means, origins, measured, **chosen)

    tables = [of(amplitudes.prediction, amplitudes.predicted, ENCODER)]
    for control in comparison.amplitude_controls(controls):
        if control.prediction is None:
            tables.append(_of_luminance(control, measured))
        else:
            patterns = amplitudes.patterns_of(control.prediction)
            tables.append(of(control.prediction, patterns, control.name))
    own, _ = _predicted(measured, amplitudes.prediction, amplitudes.predicted)
    sources = {"predicted": own, "measured": measured.group, **measured.people}
    images = pd.DataFrame(
        [
            {"roi": roi, "image": name, "source": source, "mean": float(value)}
            for at, roi in enumerate(measured.rois)
            for source, means in sources.items()
            for name, value in zip(measured.names, means[:, at], strict=True)
        ]
    )
    table = pd.concat(tables, ignore_index=True)
    return RoiMeansAccuracy(table, images, measured.names, comparison, chosen | shared)


@dataclass(frozen=True, eq=False)
class _Measured:
    """Measured means of ROIs, arrays of shape (n_images, n_rois), in the images' order."""

    names: tuple[str, ...]
    rois: dict[str, NDArray[np.bool_]]
    group: NDArray[np.float64]
    people: dict[str, NDArray[np.float64]]
    repeats: tuple[NDArray[np.float64], ...]

    @property
    def n_voxels(self) -> list[int]:
        return [int(region.sum()) for region in self.rois.values()]


def _measured(comparison: Comparison, missing: Missing, unmatched: Missing) -> _Measured:
    """Average measured patterns over each ROI's voxels with data."""
    own, group = pair(comparison.predicted, comparison.group, comparison.leave_out, unmatched)
    people = in_order(own, comparison.participants)
    again = [pair(own, part.of(own.names))[1] for part in comparison.repeats]
    sets = {"the measured patterns": group, **people}
    sets |= {f"repeat {number}": part for number, part in enumerate(again)}
    usable = comparison.usable(sets, missing)
    rois = {name: region & usable for name, region in comparison.rois.items()}
    for name, region in rois.items():
        if not region.any():
            message = f"the ROI {name} must have voxels with data; it has none. Leave the ROI out."
            raise DataError(message)

    def means(patterns: Patterns, whose: str) -> NDArray[np.float64]:
        values = _means(patterns.values, rois)
        _check_varies(values, rois, whose)
        return values

    return _Measured(
        own.names,
        rois,
        means(group, "measured"),
        {name: means(part, f"{name}'s") for name, part in people.items()},
        tuple(means(part, f"repeat {number}'s") for number, part in enumerate(again)),
    )


def _means(
    values: NDArray[np.floating[Any]], rois: Mapping[str, NDArray[np.bool_]]
) -> NDArray[np.float64]:
    columns = [values[:, region].mean(axis=1, dtype=np.float64) for region in rois.values()]
    return np.stack(columns, axis=1)


def _check_varies(
    means: NDArray[np.float64], rois: Mapping[str, NDArray[np.bool_]], whose: str
) -> None:
    """Refuse an ROI whose mean is the same for all images."""
    spread = means.std(axis=0) <= 1e-12 * np.abs(means).max(axis=0)
    for name, constant in zip(rois, spread, strict=True):
        if constant:
            message = (
                f"the ROI {name}: its {whose} mean must differ between images; it is the same for "
                "all. Look whether the right files were read, or leave the ROI out."
            )
            raise DataError(message)


def _predicted(
    measured: _Measured, prediction: Prediction | None, predicted: Patterns
) -> tuple[NDArray[np.float64], list[str]]:
    """Return predicted means, (n_images, n_rois), and where each ROI's come from."""
    _, rows = matching_rows(measured.names, predicted.names)
    means = _means(predicted.at(rows).values, measured.rois)
    origins = [MAP] * len(measured.rois)
    if prediction is not None:
        own = prediction.roi_means()
        for at, roi in enumerate(measured.rois):
            if (roi, BOTH) in own.places:
                means[:, at] = own.group[own.places.index((roi, BOTH)), rows]
                origins[at] = OWN
    _check_varies(means, measured.rois, "predicted")
    return means, origins


def _compare(
    model: str,
    means: NDArray[np.float64],
    origins: list[str],
    measured: _Measured,
    *,
    n_permutations: int,
    level: float,
    seed: int | None,
) -> pd.DataFrame:
    """Make a model's rows of the table."""
    import pandas as pd

    test = permutation_pearson(means, measured.group, n_permutations, seed)
    lower, upper = pearson_interval(means, measured.group, level)
    columns: dict[str, Any] = {
        **_head(model, origins, measured),
        "r": test.r,
        "lower": lower,
        "upper": upper,
        "p": test.p,
        "p_fdr": test.p_fdr,
        "p_max": test.p_max,
    }
    if measured.people:
        each = np.array([pearson_r(means, values) for values in measured.people.values()])
        columns |= {"n_people": len(each), **over_people(each, level)}
    if measured.repeats:
        each_roi = np.eye(len(measured.rois), dtype=bool)
        found = explained_variance(means, np.stack(measured.repeats), each_roi, level)
        columns |= found.columns()
    return pd.DataFrame(columns)


def _head(model: str, origins: list[str], measured: _Measured) -> dict[str, Any]:
    return {
        "model": model,
        "roi": list(measured.rois),
        "predicted_from": origins,
        "n_images": len(measured.names),
        "n_voxels": measured.n_voxels,
    }


def _of_luminance(control: Control, measured: _Measured) -> pd.DataFrame:
    """Correlate measured means with what luminance predicts of them from the other images'."""
    import pandas as pd

    names, features = control.features()
    _, rows = matching_rows(measured.names, names)
    fitted = leave_one_out_map(features[rows]) @ measured.group
    origins = [control.name] * len(measured.rois)
    return pd.DataFrame(
        {**_head(control.name, origins, measured), "r": pearson_r(fitted, measured.group)}
    )
