"""The control of features without a map to voxels: fitted, and tested by permuting the features.

Beside every score belongs what less than the encoder would reach. Features such as the images'
luminance have no map to voxels, so one is fitted on the measured data themselves, which favours the
control over an encoder that was fitted on other people: ridge regression predicts each image from a
map fitted on all *other* images (leave one out, in closed form).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.validate.levels import Exchange, Level, find_levels, in_order
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.measured.patterns import Missing, pair, pair_names
from imgtofmri.stats import (
    PermutationTest,
    correlation_matrix,
    diagonal_statistic,
    permutations,
)

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.analyses.validate.comparison import Comparison


def matched_features(
    comparison: Comparison,
    names: Sequence[str],
    features: NDArray[np.float64],
    model: str,
    *,
    exchange: Exchange,
    n_permutations: int,
    seed: int | None,
    missing: Missing,
    unmatched: Missing,
) -> pd.DataFrame:
    """Run the matched-pattern analysis on features that come without a map to voxels.

    Exchanged under the null: which image a row of features belongs to, as in `matched_patterns` at
    each level, *before* the map is fitted. (Permuting the fitted predictions instead would be
    wrong: the prediction of an image is the only one that does not know that image's data, so
    predictions are not exchangeable.)

    Parameters
    ----------
    comparison : Comparison
        Its predicted patterns take no part.
    names : sequence of str
        The images' names.
    features : array of shape (n_images, n_features)
        Finite.
    model : str
        What the table's column model says.
    exchange, seed, missing, unmatched
        As for `matched_patterns`.
    n_permutations : int
        How many permutations. Each costs a product of two (n_images, n_images) matrices for every
        test.

    Returns
    -------
    table : pandas.DataFrame
        As the table of `matched_patterns`, but with lower and upper NaN: in a resample of the
        images, a left-out image's copies would have been fitted on.

    Raises
    ------
    DataError, ShapeError, OptionError
        As `matched_patterns`, and if the features are all the same.
    """
    rows, other_rows = pair_names(names, comparison.group.names, comparison.leave_out, unmatched)
    group = comparison.group.at(other_rows)
    people = in_order(group, comparison.participants)
    usable = comparison.usable({"the measured patterns": group, **people}, missing)
    map_to_others = leave_one_out_map(features[rows])

    def products(
        measured: NDArray[np.floating[Any]], _: NDArray[np.bool_] | slice
    ) -> NDArray[np.float64]:
        return _products(measured, group.names)

    levels = find_levels(comparison, group.names, group, people, usable, exchange, products)
    unknown = (np.nan, np.nan)
    tables = [
        level.table(_test(level, map_to_others, n_permutations, seed), unknown, model)
        for level in levels
    ]
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


def fitted_responses(
    comparison: Comparison,
    names: Sequence[str],
    features: NDArray[np.float64],
    missing: Missing,
    unmatched: Missing,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Predict the group's responses from features, each image from a map fitted on all others.

    Features that know nothing come out a little below 0 in correlations over images, not at 0: a
    voxel's mean over the other images is low where its own response is high.

    Parameters
    ----------
    comparison, names, features, missing, unmatched
        As for `matched_features`.

    Returns
    -------
    fitted, responses : arrays of shape (n_images, n_usable)
    usable : array of shape (n_voxels,), bool
        The voxels with data.

    Raises
    ------
    DataError, ShapeError, OptionError
        As `matched_features`.
    """
    rows, other_rows = pair_names(names, comparison.group.names, comparison.leave_out, unmatched)
    group = comparison.group.at(other_rows)
    # The voxels that the encoder is judged in: with data in all that was measured.
    again = [pair(group, part.of(group.names))[1] for part in comparison.repeats]
    sets = {"the measured patterns": group, **in_order(group, comparison.participants)}
    sets |= {f"repeat {number}": part for number, part in enumerate(again)}
    usable = comparison.usable(sets, missing)
    responses = group.values[:, usable].astype(np.float64)
    return leave_one_out_map(features[rows]) @ responses, responses, usable


def leave_one_out_map(features: NDArray[np.float64], penalty: float = 1.0) -> NDArray[np.float64]:
    """Give the matrix that predicts each image's responses from all other images' responses.

    Parameters
    ----------
    features : array of shape (n_images, n_features)
        What ridge regression with an intercept predicts from.
    penalty : float
        As a multiple of the mean variance along the features' principal components. It is not
        tuned on the data, which would spoil the exchange of images in a permutation test.

    Returns
    -------
    matrix : array of shape (n_images, n_images)
        ``matrix @ responses`` are the predictions; its diagonal is 0.

    Raises
    ------
    DataError
        If the features are the same for all images.
    OptionError
        If the penalty is not above 0.

    Notes
    -----
    With the hat matrix H of the fit on all images, the fit without image i predicts
    ``(H y - h_ii y_i) / (1 - h_ii)`` for it: ridge regression's leave-one-out identity.
    """
    if penalty <= 0:
        message = f"penalty must be above 0; got {penalty}. Take 1."
        raise OptionError(message, "penalty")
    n_images = len(features)
    centred = features - features.mean(axis=0)
    kernel = centred @ centred.T
    scale = np.trace(kernel) / n_images
    if scale <= 1e-24 * np.mean(features**2):
        message = (
            "a control's features must differ between images; all are the same. Look whether the "
            "right images were read."
        )
        raise DataError(message)
    shrunk = np.linalg.solve(kernel + penalty * scale * np.eye(n_images), kernel)
    hat = shrunk.T + 1 / n_images
    own = np.diagonal(hat)
    others = hat - np.diag(own)
    return np.asarray(others / (1 - own)[:, None])


def _products(values: NDArray[np.floating[Any]], names: Sequence[str]) -> NDArray[np.float64]:
    """Give the products of patterns over voxels, each pattern without its mean."""
    patterns = np.asarray(values, dtype=np.float64)
    # For its checks: a constant or missing pattern is named.
    correlation_matrix(patterns, patterns, names)
    centred = patterns - patterns.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T)


def _test(
    level: Level, map_to_others: NDArray[np.float64], n_permutations: int, seed: int | None
) -> PermutationTest:
    """Test one level, whose matrices are of products of patterns, by permuting the features."""
    n_images = len(map_to_others)
    drawn = permutations(n_images, n_permutations, seed, level.groups)
    statistics = []
    for chunk in [np.arange(n_images)[None], *drawn]:
        for order in chunk:
            # Permuting the features is permuting the responses the other way.
            moved = level.matrices[:, order[:, None], order[None, :]]
            products = map_to_others @ moved
            lengths = np.sqrt(np.einsum("tij,ij->ti", products, map_to_others))
            own_lengths = np.sqrt(np.einsum("tii->ti", moved))
            correlations = products / lengths[:, :, None] / own_lengths[:, None, :]
            cells = level.cells
            if cells is not None:
                # What takes part is told by the measured images, which keep their categories.
                cells = cells[:, order[:, None], order[None, :]]
                correlations = np.broadcast_to(correlations, cells.shape)
            statistics.append(diagonal_statistic(correlations, cells))
    return PermutationTest(statistics[0], np.array(statistics[1:]))
