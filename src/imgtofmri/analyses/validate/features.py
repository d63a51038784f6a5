"""The control of features without a map to voxels: fitted, and tested by permuting the features.

Beside every score belongs what less than the encoder would reach. Features such as the images'
luminance have no map to voxels, so one is fitted on the measured data themselves, which favours the
control.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.validate.matched import (
    Exchange,
    Family,
    category_cells,
    in_order,
    level_table,
    regions_inside,
)
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.patterns import Missing, Patterns, pair_names, usable_voxels
from imgtofmri.stats import (
    PermutationTest,
    correlation_matrix,
    diagonal_statistic,
    pearson_r,
    permutations,
    r_squared,
)

if TYPE_CHECKING:
    import pandas as pd


def feature_control(
    names: Sequence[str],
    features: NDArray[np.floating[Any]],
    measured: Patterns,
    participants: Mapping[str, Patterns] | None = None,
    rois: Mapping[str, NDArray[np.bool_]] | None = None,
    categories: Mapping[str, str] | None = None,
    leave_out: Collection[str] = (),
    *,
    exchange: Exchange = "category",
    penalty: float = 1.0,
    n_permutations: int = 1000,
    seed: int | None = 0,
    missing: Missing = "error",
    unmatched: Missing = "error",
    model: str = "luminance",
) -> pd.DataFrame:
    """Run the matched-pattern analysis on features that come without a map to voxels.

    Ridge regression maps features to voxels and predicts each image from a map fitted on all
    *other* images (leave one out, in closed form). As the map is fitted on the measured data, the
    control is favoured over an encoder that was fitted on other people.

    Exchanged under the null: which image a row of features belongs to, as in
    :func:`matched_patterns` at each level, *before* the map is fitted. (Permuting the fitted
    predictions instead would be wrong: the prediction of an image is the only one that does not
    know that image's data, so predictions are not exchangeable.)

    Parameters
    ----------
    names : sequence of str
        The images' names.
    features : array of shape (n_images, n_features)
        Such as from `imgtofmri.stimuli.luminance_features`.
    measured, participants, rois, categories, leave_out, exchange, seed, missing, unmatched, model
        As for :func:`matched_patterns`.
    penalty : float
        Ridge penalty, as a multiple of the mean variance along the features' principal
        components. It is not tuned on the data, which would spoil the exchange.
    n_permutations : int
        How many permutations. Each costs a product of two (n_images, n_images) matrices for every
        test.

    Returns
    -------
    table : pandas.DataFrame
        As the table of :func:`matched_patterns`, but with lower and upper NaN: in a resample of
        the images, a left-out image's copies would have been fitted on.

    Raises
    ------
    DataError, ShapeError, OptionError
        As :func:`matched_patterns`, and if features are not finite or all the same.
    """
    values = _checked_features(names, features, penalty)
    rows, other_rows = pair_names(names, measured.names, leave_out, unmatched)
    group = measured.at(other_rows)
    people = {name: in_order(group, part, name) for name, part in (participants or {}).items()}
    usable = usable_voxels({"the measured patterns": group, **people}, missing)
    inside = regions_inside(rois or {}, usable)
    everything = group.values[:, usable]
    whole = _gram(everything, group.names)
    n_voxels = everything.shape[1]

    map_to_others = leave_one_out_map(values[rows], penalty)
    everyone = np.ones(len(rows), dtype=bool)
    families = [Family("group", ("group",), whole[None], (n_voxels,), (everyone,))]
    if inside:
        grams = np.array([_gram(everything[:, voxels], group.names) for voxels in inside.values()])
        sizes = tuple(int(np.count_nonzero(voxels)) for voxels in inside.values())
        families.append(Family("roi", tuple(inside), grams, sizes, (everyone,) * len(inside)))
    if categories is not None:
        labels, members, groups, cells = category_cells(group.names, categories, exchange)
        sizes = (n_voxels,) * len(labels)
        families.append(Family("category", labels, whole[None], sizes, members, groups, cells))
    if people:
        grams = np.array([_gram(part.values[:, usable], part.names) for part in people.values()])
        sizes, members = (n_voxels,) * len(people), (everyone,) * len(people)
        families.append(Family("participant", tuple(people), grams, sizes, members))
    unknown = (np.nan, np.nan)
    tables = [
        level_table(family, _test(family, map_to_others, n_permutations, seed), unknown, model)
        for family in families
    ]
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


def control_accuracy(
    names: Sequence[str],
    features: NDArray[np.floating[Any]],
    measured: Patterns,
    rois: Mapping[str, NDArray[np.bool_]] | None = None,
    leave_out: Collection[str] = (),
    *,
    penalty: float = 1.0,
    missing: Missing = "error",
    unmatched: Missing = "error",
    model: str = "luminance",
) -> pd.DataFrame:
    """Summarise how well features without a map to voxels predict each voxel over images.

    Predictions are those of :func:`feature_control`, each from a map fitted on all other images.
    Features that know nothing come out a little below 0, not at 0: a voxel's mean over the other
    images is low where its own response is high.

    Parameters
    ----------
    names, features, measured, rois, leave_out, penalty, missing, unmatched, model
        As for :func:`feature_control`.

    Returns
    -------
    table : pandas.DataFrame
        The columns model, roi, n_voxels, mean_r and mean_r2 of :func:`encoding_accuracy`'s table.

    Raises
    ------
    DataError, ShapeError, OptionError
        As :func:`feature_control`.
    """
    import pandas as pd

    values = _checked_features(names, features, penalty)
    rows, other_rows = pair_names(names, measured.names, leave_out, unmatched)
    group = measured.at(other_rows)
    usable = usable_voxels({"the measured patterns": group}, missing)
    responses = group.values[:, usable].astype(np.float64)
    fitted = leave_one_out_map(values[rows], penalty) @ responses
    r, r2 = pearson_r(fitted, responses), r_squared(fitted, responses)
    regions = {"all": np.ones(responses.shape[1], dtype=bool), **regions_inside(rois or {}, usable)}
    found = []
    for name, region in regions.items():
        taken = region & ~np.isnan(r)
        mean_r = float(r[taken].mean()) if taken.any() else np.nan
        mean_r2 = float(r2[taken].mean()) if taken.any() else np.nan
        found.append(
            {
                "model": model,
                "roi": name,
                "n_voxels": int(np.count_nonzero(taken)),
                "mean_r": mean_r,
                "mean_r2": mean_r2,
            }
        )
    return pd.DataFrame(found)


def _checked_features(
    names: Sequence[str], features: NDArray[np.floating[Any]], penalty: float
) -> NDArray[np.float64]:
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(names) or not np.isfinite(values).all():
        message = (
            f"feature_control: features must be finite, of shape ({len(names)}, n_features), a row "
            f"for each name; got shape {values.shape}. Look whether every image could be read."
        )
        raise ShapeError(message)
    if penalty <= 0:
        message = f"feature_control: penalty must be above 0; got {penalty}. Take 1."
        raise OptionError(message)
    return values


def leave_one_out_map(features: NDArray[np.float64], penalty: float = 1.0) -> NDArray[np.float64]:
    """Give the matrix that predicts each image's responses from all other images' responses.

    Parameters
    ----------
    features : array of shape (n_images, n_features)
        What ridge regression with an intercept predicts from.
    penalty : float
        As a multiple of the mean variance along the features' principal components.

    Returns
    -------
    matrix : array of shape (n_images, n_images)
        ``matrix @ responses`` are the predictions; its diagonal is 0.

    Raises
    ------
    DataError
        If the features are the same for all images.

    Notes
    -----
    With the hat matrix H of the fit on all images, the fit without image i predicts
    ``(H y - h_ii y_i) / (1 - h_ii)`` for it: ridge regression's leave-one-out identity.
    """
    n_images = len(features)
    centred = features - features.mean(axis=0)
    kernel = centred @ centred.T
    scale = np.trace(kernel) / n_images
    if scale <= 1e-24 * np.mean(features**2):
        message = (
            "feature_control: features must differ between images; all are the same. "
            "Look whether the right images were read."
        )
        raise DataError(message)
    shrunk = np.linalg.solve(kernel + penalty * scale * np.eye(n_images), kernel)
    hat = shrunk.T + 1 / n_images
    own = np.diagonal(hat)
    others = hat - np.diag(own)
    return np.asarray(others / (1 - own)[:, None])


def _gram(values: NDArray[np.floating[Any]], names: Sequence[str]) -> NDArray[np.float64]:
    """Give the products of patterns over voxels, each pattern without its mean."""
    patterns = np.asarray(values, dtype=np.float64)
    # For its checks: a constant or missing pattern is named.
    correlation_matrix(patterns, patterns, names)
    centred = patterns - patterns.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T)


def _test(
    family: Family, map_to_others: NDArray[np.float64], n_permutations: int, seed: int | None
) -> PermutationTest:
    """Test one level, whose matrices are of products of patterns, by permuting the features."""
    n_images = len(map_to_others)
    drawn = permutations(n_images, n_permutations, seed, family.groups)
    statistics = []
    for chunk in [np.arange(n_images)[None], *drawn]:
        for order in chunk:
            # Permuting the features is permuting the responses the other way.
            moved = family.matrices[:, order[:, None], order[None, :]]
            products = map_to_others @ moved
            lengths = np.sqrt(np.einsum("tij,ij->ti", products, map_to_others))
            own_lengths = np.sqrt(np.einsum("tii->ti", moved))
            correlations = products / lengths[:, :, None] / own_lengths[:, None, :]
            if family.cells is not None:
                correlations = np.broadcast_to(correlations, family.cells.shape)
            statistics.append(diagonal_statistic(correlations, family.cells))
    return PermutationTest(statistics[0], np.array(statistics[1:]))
