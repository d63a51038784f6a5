"""Matched-pattern validation at the four levels of the published work.

The published model was validated by asking whether the pattern predicted for an image resembles the
pattern measured for it more than those measured for other images (Bennett and Baldassano 2023,
doi:10.52294/001c.87545): in each ROI, in the group, within each category of images, and in each
participant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.validate.comparison import Comparison
from imgtofmri.analyses.validate.features import matched_features
from imgtofmri.analyses.validate.levels import Exchange, find_levels, in_order
from imgtofmri.encoder.controls import ENCODER
from imgtofmri.exceptions import check_choice
from imgtofmri.measured.patterns import Missing, Patterns, pair
from imgtofmri.stats import (
    bootstrap_counts,
    bootstrap_diagonal,
    bootstrap_interval,
    correlation_matrix,
    diagonal_test,
)
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.encoder import Control

LEAST_IMAGES = 4
"""An interval of two images would have no width, and one of three holds the truth in 65 to 73 %."""

N_PERMUTATIONS = 10_000
N_PERMUTATIONS_FITTED = 1000
"""Of a test that fits a map in each permutation, unless the user says how many: it costs more."""


@dataclass(frozen=True, eq=False, repr=False)
class MatchedPatterns(Brief):
    """Results of a matched-pattern validation.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each test of the encoder, then of each control, with columns model ("encoder",
        or the control's name), level ("group", "roi", "category", "participant"), name, statistic
        (mean matched minus mean mismatched correlation), lower and upper (bootstrap interval over
        images, NaN of fewer than four), null_mean, null_sd, z, p, p_fdr and p_max (both corrected
        over the tests of the level), n_images, n_voxels.
    null : array of shape (n_permutations, n_tests)
        The statistics of the encoder's tests under permutation; columns in the order of its rows.
    correlations : array of shape (n_images, n_images)
        The group's correlations, predicted along rows and measured along columns.
    names : tuple of str
        The images, in the order of ``correlations``.
    comparison : Comparison
        What was compared.
    controls : tuple of Control
        What stands beside the encoder.
    settings : mapping of str to Any
        How it was compared; JSON values.
    """

    table: pd.DataFrame
    null: NDArray[np.float64]
    correlations: NDArray[np.float64]
    names: tuple[str, ...]
    comparison: Comparison
    controls: tuple[Control, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def matched_patterns(
    comparison: Comparison,
    controls: Sequence[Control] = (),
    *,
    exchange: Exchange = "category",
    n_permutations: int | None = None,
    n_bootstraps: int = 1000,
    level: float = 0.95,
    seed: int | None = 0,
    missing: Missing = "error",
    unmatched: Missing = "error",
) -> MatchedPatterns:
    """Test whether predicted patterns resemble their own images' measured patterns.

    Every test correlates the patterns of all images over voxels and takes the mean correlation of
    matched (diagonal) minus mismatched (off the diagonal) pairs. Its levels:

    group
        The group's measured patterns in all voxels.
    roi
        The group's measured patterns in each ROI's voxels.
    category
        The group's measured patterns in all voxels, for the images of each category.
    participant
        Each participant's measured patterns in all voxels.

    Exchanged under the null: which image a predicted pattern belongs to. In the levels group, roi
    and participant over all images, the same permutation for all tests of a level. Their null
    hypothesis is that predictions know nothing of the image, so knowing its category alone is
    enough to reject it. In the level category, with ``exchange="category"``, over the images of
    the same category, and mismatched pairs are those of the same category: predictions that know
    the category and no more do not reject. With ``exchange="all"``, over all images, and mismatched
    pairs are an image of the category with a prediction for any other image.

    Parameters
    ----------
    comparison : Comparison
        Predicted and measured patterns, ROIs and categories.
    controls : sequence of Control
        What the same analysis is made of besides, from ``encoder.controls([...]).predict(images)``.
        Patterns of an untrained network take the encoder's place. Luminance is mapped to voxels by
        ridge regression on the measured data, which favours it; see
        `imgtofmri.analyses.validate.features`.
    exchange : {"category", "all"}
        What is exchanged in the level category.
    n_permutations : int, optional
        How many permutations for p values; 10,000 by default, and 1000 of luminance.
    n_bootstraps : int
        How many resamples of images for intervals.
    level : float
        Coverage of the intervals.
    seed : int or None
        The same seed gives the same result.
    missing : {"error", "drop"}
        Whether voxels without data in any set are refused or dropped from all sets.
    unmatched : {"error", "drop"}
        What to do with images that are only predicted or only measured.

    Returns
    -------
    MatchedPatterns
        Table, null distributions and the group's correlations.

    Raises
    ------
    DataError
        If images have no partner or category, a pattern is constant, values are missing, or there
        are fewer than two images in all or in a category.
    ShapeError
        If voxels differ.
    OptionError
        If an option is not valid, or an image to leave out does not exist.

    References
    ----------
    Bennett M, Baldassano C (2023), doi:10.52294/001c.87545.
    """
    check_choice("exchange", exchange, get_args(Exchange))
    many = N_PERMUTATIONS if n_permutations is None else n_permutations
    few = N_PERMUTATIONS_FITTED if n_permutations is None else n_permutations
    shared: dict[str, Any] = {
        "exchange": exchange,
        "seed": seed,
        "missing": missing,
        "unmatched": unmatched,
    }
    resampled: dict[str, Any] = {"n_bootstraps": n_bootstraps, "level": level}

    def of(predicted: Patterns, model: str) -> MatchedPatterns:
        return _of_model(comparison, predicted, model, n_permutations=many, **resampled, **shared)

    def of_luminance(control: Control) -> pd.DataFrame:
        names, features = control.features()
        return matched_features(
            comparison, names, features, control.name, n_permutations=few, **shared
        )

    own = of(comparison.predicted, ENCODER)
    table = comparison.beside_controls(
        own.table, controls, lambda patterns, name: of(patterns, name).table, of_luminance
    )
    settings = shared | resampled | {"n_permutations": many, "n_permutations_luminance": few}
    return replace(own, table=table, controls=tuple(controls), settings=settings)


def _of_model(
    comparison: Comparison,
    predicted: Patterns,
    model: str,
    *,
    exchange: Exchange,
    n_permutations: int,
    n_bootstraps: int,
    level: float,
    seed: int | None,
    missing: Missing,
    unmatched: Missing,
) -> MatchedPatterns:
    own, group = pair(predicted, comparison.group, comparison.leave_out, unmatched)
    people = in_order(own, comparison.participants)
    usable = comparison.usable(
        {"the predictions": own, "the measured patterns": group, **people}, missing
    )
    patterns = own.values[:, usable]

    def correlated(
        measured: NDArray[np.floating[Any]], voxels: NDArray[np.bool_] | slice
    ) -> NDArray[np.float64]:
        return correlation_matrix(patterns[:, voxels], measured, own.names)

    levels = find_levels(comparison, own.names, group, people, usable, exchange, correlated)
    counts = bootstrap_counts(own.n_images, n_bootstraps, seed)
    tables, nulls = [], []
    for each in levels:
        matrices = np.broadcast_to(each.matrices, (len(each.names), *each.matrices.shape[1:]))
        test = diagonal_test(matrices, n_permutations, seed, each.groups, each.cells)
        within = exchange if each.level == "category" else "all"
        draws = [
            _draws(matrix, member, within, counts, seed)
            for matrix, member in zip(matrices, each.members, strict=True)
        ]
        lower, upper = bootstrap_interval(np.array(draws).T, level)
        few = np.array([np.count_nonzero(member) < LEAST_IMAGES for member in each.members])
        bounds = np.where(few, np.nan, lower), np.where(few, np.nan, upper)
        tables.append(each.table(test, bounds, model))
        nulls.append(test.null)
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    correlations = levels[0].matrices[0]
    return MatchedPatterns(table, np.hstack(nulls), correlations, own.names, comparison)


def _draws(
    matrix: NDArray[np.float64],
    member: NDArray[np.bool_],
    exchange: Exchange,
    counts: NDArray[np.float64],
    seed: int | None,
) -> NDArray[np.float64]:
    """Compute a statistic in resamples of the images that it is about."""
    if exchange == "all" and member.all():
        return bootstrap_diagonal(matrix, counts)
    if exchange == "all":
        return _column_draws(matrix, member, counts)
    inside = matrix[np.ix_(member, member)]
    return bootstrap_diagonal(inside, bootstrap_counts(len(inside), len(counts), seed))


def _column_draws(
    matrix: NDArray[np.float64], member: NDArray[np.bool_], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Resample a category's statistic against predictions for all images."""
    inside = counts * member
    diagonal = np.diagonal(matrix)
    n_inside = inside.sum(axis=1)
    pairs = counts.sum(axis=1) * n_inside - (counts * inside).sum(axis=1)
    off = np.einsum("bi,bi->b", counts @ matrix, inside) - (counts * inside) @ diagonal
    draws = np.full(len(counts), np.nan)
    valid = (n_inside > 0) & (pairs > 0)
    draws[valid] = (inside @ diagonal)[valid] / n_inside[valid] - off[valid] / pairs[valid]
    return draws
