"""Encoding accuracy: how well responses to images are predicted in each voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.validate.comparison import Comparison
from imgtofmri.analyses.validate.features import fitted_responses
from imgtofmri.analyses.validate.levels import in_order
from imgtofmri.analyses.validate.maps import statistic_of
from imgtofmri.analyses.validate.people import over_people
from imgtofmri.encoder.controls import ENCODER
from imgtofmri.exceptions import DataError, ShapeError, check_choice
from imgtofmri.measured.patterns import Missing, Patterns, pair
from imgtofmri.outputs import to_img
from imgtofmri.stats import (
    ceiling_normalised,
    explained_variance,
    fdr,
    noise_ceiling,
    pearson_interval,
    pearson_r,
    permutation_pearson,
    r_squared,
)
from imgtofmri.stats.ceiling import CeilingMethod
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd

    from imgtofmri.encoder import Control


@dataclass(frozen=True, eq=False, repr=False)
class EncodingAccuracy(Brief):
    """Accuracy of a prediction in each voxel and ROI.

    Attributes
    ----------
    maps : mapping of str to array of shape (n_voxels,)
        Of the encoder: r, lower and upper (interval of r over images), p, p_fdr and p_max
        (permutation; p with a fitted tail); where predictions were read from files also r2; with
        repeats also explainable (share of one repeat's variance that is signal, not clipped), r_max
        (noise ceiling of the repeats' mean) and r_normalised (the r with that mean / r_max). NaN in
        voxels without data.
    table : pandas.DataFrame
        For the encoder and then for each control, one row for all voxels and one for each ROI. Its
        columns are in `COLUMNS`, with what each means.
    names : tuple of str
        The images.
    ceiling_method : str or None
        How the noise ceiling was estimated.
    comparison : Comparison
        What was compared.
    controls : tuple of Control
        What stands beside the encoder.
    settings : mapping of str to Any
        How it was compared; JSON values.
    """

    maps: Mapping[str, NDArray[np.float64]]
    table: pd.DataFrame
    names: tuple[str, ...]
    ceiling_method: CeilingMethod | None
    comparison: Comparison
    controls: tuple[Control, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def regions(self) -> dict[str, NDArray[np.bool_]]:
        """The voxels of each of a model's rows of the table, shape (n_voxels,)."""
        return _regions(self.comparison)

    def to_img(self, name: str) -> nib.Nifti1Image:
        """Return one map as a NIfTI image, NaN outside the mask and where there is no value.

        Raises
        ------
        ShapeError
            If the patterns came without a mask, so that no one knows where the voxels lie.
        """
        predicted = self.comparison.predicted
        if predicted.mask is None or predicted.affine is None:
            message = (
                "a map as an image needs the mask and affine of the predicted patterns; they came "
                "without. Read the patterns with a mask."
            )
            raise ShapeError(message)
        return to_img(
            self.maps[name][None],
            predicted.mask,
            predicted.affine,
            outside=np.nan,
            statistic=statistic_of(name, len(self.names)),
        )


def encoding_accuracy(
    comparison: Comparison,
    controls: Sequence[Control] = (),
    *,
    ceiling_method: CeilingMethod = "signal-power",
    n_permutations: int = 1000,
    level: float = 0.95,
    seed: int | None = 0,
    missing: Missing = "error",
    unmatched: Missing = "error",
) -> EncodingAccuracy:
    """Compare predicted and measured responses over images, in each voxel.

    A prediction's group maps are averaged so that they keep amplitude, whatever they were
    (`Comparison.amplitudes`). Exchanged under the null: which image a prediction belongs to, over
    all images, the same way in all voxels. Intervals are about other images.

    Parameters
    ----------
    comparison : Comparison
        Repeats, two or more, give the noise ceiling: that of their mean. R² is computed of
        predictions from files only, which may be in the units that were measured.
    controls : sequence of Control
        What the same analysis is made of besides, from ``encoder.controls([...]).predict(images)``.
        Luminance is mapped to voxels by ridge regression, each image from a map fitted on all
        others: it has no test, and knowing nothing it comes out a little below 0.
    ceiling_method : {"signal-power", "explainable-variance", "split-half"}
        Of the maps explainable, r_max and r_normalised; as for
        `imgtofmri.stats.noise_ceiling`. The table's columns explainable and explained are of
        `imgtofmri.stats.explained_variance`.
    n_permutations : int
        How many permutations.
    level, seed, missing, unmatched
        As for `matched_patterns`.

    Returns
    -------
    EncodingAccuracy
        Maps and ROI summaries.

    Raises
    ------
    DataError
        If images have no partner, there are fewer than four, or values are missing.
    ShapeError
        If voxels differ.
    OptionError
        If ``ceiling_method``, ``missing`` or ``unmatched`` is not known.
    """
    check_choice("ceiling_method", ceiling_method, get_args(CeilingMethod))
    shared: dict[str, Any] = {"missing": missing, "unmatched": unmatched}
    chosen: dict[str, Any] = {
        "ceiling_method": ceiling_method,
        "n_permutations": n_permutations,
        "level": level,
        "seed": seed,
    }

    amplitudes = comparison.amplitudes

    def of(predicted: Patterns, model: str) -> EncodingAccuracy:
        return _of_model(amplitudes, predicted, model, **chosen, **shared)

    own = of(amplitudes.predicted, ENCODER)
    table = amplitudes.beside_controls(
        own.table,
        comparison.amplitude_controls(controls),
        lambda patterns, name: of(patterns, name).table,
        lambda control: _of_luminance(amplitudes, control, **shared),
    )
    settings = shared | chosen | {"ceiling_method": own.ceiling_method}
    if amplitudes.prediction is not None:
        settings["average"] = amplitudes.prediction.average
    return replace(own, table=table, controls=tuple(controls), settings=settings)


def _of_model(
    comparison: Comparison,
    predicted: Patterns,
    model: str,
    *,
    ceiling_method: CeilingMethod,
    n_permutations: int,
    level: float,
    seed: int | None,
    missing: Missing,
    unmatched: Missing,
) -> EncodingAccuracy:
    own, other = pair(predicted, comparison.group, comparison.leave_out, unmatched)
    again = [pair(own, part.of(own.names))[1] for part in comparison.repeats]
    people = in_order(own, comparison.participants)
    sets = {"the predictions": own, "the measured patterns": other}
    sets |= {f"repeat {number}": part for number, part in enumerate(again)}
    usable = comparison.usable(sets | people, missing)
    regions = _regions(comparison)
    inside = np.array([region[usable] for region in regions.values()])

    x = own.values[:, usable].astype(np.float64)
    y = other.values[:, usable].astype(np.float64)
    test = permutation_pearson(x, y, n_permutations, seed, regions=inside)
    varying = ~np.isnan(test.r)
    for name, region in zip(regions, inside, strict=True):
        if not (region & varying).any():
            message = (
                f"the ROI {name} must have a voxel that varies over images; it has none. Leave the "
                "ROI out."
            )
            raise DataError(message)
    lower, upper = pearson_interval(x, y, level)
    found = {"r": test.r, "lower": lower, "upper": upper, "p": test.p, "p_fdr": test.p_fdr}
    found["p_max"] = test.p_max
    if comparison.prediction is None:
        found["r2"] = r_squared(x, y)
    assert test.regions is not None
    p = test.regions.p
    lower, upper = pearson_interval(x, y, level, regions=inside)
    of_regions = {
        "lower": lower,
        "upper": upper,
        "p": p,
        # All voxels together are no member of the ROIs' family.
        "p_fdr": np.concatenate([p[:1], fdr(p[1:])]),
    }
    if people:
        each = [_mean_r(x, part.values[:, usable], inside) for part in people.values()]
        of_regions |= over_people(np.array(each), level)
    if again:
        stack = np.stack([part.values[:, usable] for part in again])
        ceiling = noise_ceiling(stack, ceiling_method, seed=seed)
        found |= {
            "explainable": ceiling.explainable,
            "r_max": ceiling.r_max(),
            # The ceiling is that of the repeats' mean, which need not be what was measured.
            "r_normalised": ceiling_normalised(pearson_r(x, stack.mean(axis=0)), ceiling),
        }
        of_regions |= explained_variance(x, stack, inside & varying, level).columns()
    counts = {
        "n_uncovered": [int((region & ~comparison.covered).sum()) for region in regions.values()]
    }
    table = _table(model, tuple(regions), inside, found, of_regions, counts)
    maps = {name: _spread(values, usable) for name, values in found.items()}
    method = ceiling_method if again else None
    return EncodingAccuracy(maps, table, own.names, method, comparison)


def _mean_r(
    predicted: NDArray[np.float64], measured: NDArray[np.floating[Any]], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean r over each region's voxels that vary, shape (n_regions,)."""
    r = pearson_r(predicted, measured)
    return np.array([_mean(r[region & ~np.isnan(r)]) for region in inside])


def _of_luminance(
    comparison: Comparison, control: Control, missing: Missing, unmatched: Missing
) -> pd.DataFrame:
    names, features = control.features()
    fitted, responses, usable = fitted_responses(comparison, names, features, missing, unmatched)
    regions = _regions(comparison)
    inside = np.array([region[usable] for region in regions.values()])
    return _table(control.name, tuple(regions), inside, {"r": pearson_r(fitted, responses)}, {}, {})


def _regions(comparison: Comparison) -> dict[str, NDArray[np.bool_]]:
    return {"all": np.ones(comparison.predicted.n_voxels, dtype=bool), **comparison.rois}


def _spread(values: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    spread = np.full(usable.size, np.nan)
    spread[usable] = values
    return spread


def _table(
    model: str,
    names: Sequence[str],
    inside: NDArray[np.bool_],
    maps: Mapping[str, NDArray[np.float64]],
    of_regions: Mapping[str, NDArray[np.float64]],
    counts: Mapping[str, Sequence[int]],
) -> pd.DataFrame:
    """Summarise maps in each region, beside what is known of a region as a whole."""
    import pandas as pd

    rows = []
    for at, (name, region) in enumerate(zip(names, inside, strict=True)):
        taken = region & ~np.isnan(maps["r"])
        within = {key: values[taken] for key, values in maps.items()}
        row: dict[str, Any] = {"model": model, "roi": name, "n_voxels": int(taken.sum())}
        row |= {column: values[at] for column, values in counts.items()}
        if "p_fdr" in within:
            row["n_significant"] = int(np.count_nonzero(within["p_fdr"] <= 0.05))
        row["mean_r"] = _mean(within["r"])
        row |= {column: float(values[at]) for column, values in of_regions.items()}
        if "r2" in within:
            row["mean_r2"] = _mean(within["r2"])
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else np.nan
