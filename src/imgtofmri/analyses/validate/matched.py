"""Matched-pattern validation at the four levels of the published work.

The published model was validated by asking whether the pattern predicted for an image resembles the
pattern measured for it more than those measured for other images (Bennett and Baldassano 2023,
doi:10.52294/001c.87545): in each ROI, in the group, within each category of images, and in each
participant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, choice_message
from imgtofmri.measured.patterns import (
    Missing,
    Patterns,
    bare_name,
    mean_patterns,
    pair,
    usable_voxels,
)
from imgtofmri.stats import (
    PermutationTest,
    bootstrap_counts,
    bootstrap_diagonal,
    bootstrap_interval,
    correlation_matrix,
    diagonal_test,
)

if TYPE_CHECKING:
    import pandas as pd

Exchange = Literal["category", "all"]
LEVELS = ("group", "roi", "category", "participant")


@dataclass(frozen=True, eq=False)
class MatchedPatterns:
    """Results of a matched-pattern validation.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each test, with columns model, level ("group", "roi", "category",
        "participant"), name, statistic (mean matched minus mean mismatched correlation), lower and
        upper (bootstrap interval over images), null_mean, null_sd, z, p, p_fdr and p_max (both
        corrected over the tests of the level), n_images, n_voxels.
    null : array of shape (n_permutations, n_tests)
        Each test's statistics under permutation; columns in the order of the table's rows.
    correlations : array of shape (n_images, n_images)
        The group's correlations, predicted along rows and measured along columns.
    names : tuple of str
        The images, in the order of ``correlations``.
    """

    table: pd.DataFrame
    null: NDArray[np.float64]
    correlations: NDArray[np.float64]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Family:
    """The tests of one level: their matrices, and what takes part and is exchanged in them."""

    level: str
    names: tuple[str, ...]
    matrices: NDArray[np.float64]
    n_voxels: tuple[int, ...]
    members: tuple[NDArray[np.bool_], ...]
    groups: NDArray[np.str_] | None = None
    cells: NDArray[np.bool_] | None = None


def matched_patterns(
    predicted: Patterns,
    measured: Patterns | None,
    participants: Mapping[str, Patterns] | None = None,
    rois: Mapping[str, NDArray[np.bool_]] | None = None,
    categories: Mapping[str, str] | None = None,
    leave_out: Collection[str] = (),
    *,
    exchange: Exchange = "category",
    n_permutations: int = 10_000,
    n_bootstraps: int = 1000,
    level: float = 0.95,
    seed: int | None = 0,
    missing: Missing = "error",
    unmatched: Missing = "error",
    model: str = "encoder",
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
    predicted : Patterns
        One pattern for each image.
    measured : Patterns or None
        The group's patterns in the same voxels; None averages the participants'.
    participants : mapping of str to Patterns, optional
        Each participant's patterns in the same voxels.
    rois : mapping of str to array of shape (n_voxels,), bool, optional
        Each ROI's voxels.
    categories : mapping of str to str, optional
        Each image's category, by the image's name.
    leave_out : collection of str
        Names of images to leave out, such as those the encoder was trained on.
    exchange : {"category", "all"}
        What is exchanged in the level category.
    n_permutations, n_bootstraps : int
        How many permutations for p values and resamples of images for intervals.
    level : float
        Coverage of the intervals.
    seed : int or None
        The same seed gives the same result.
    missing : {"error", "drop"}
        Whether voxels without data in any set are refused or dropped from all sets.
    unmatched : {"error", "drop"}
        What to do with images that are only predicted or only measured.
    model : str
        What the table's column model says, to tell the encoder from controls.

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
    if exchange not in ("category", "all"):
        raise OptionError(
            choice_message("matched_patterns", "exchange", exchange, ("category", "all"))
        )
    people = dict(participants or {})
    if measured is None:
        measured = mean_patterns(list(people.values()), "matched_patterns")
    own, group = pair(predicted, measured, leave_out, unmatched)
    # `own` holds fewer images than `predicted`, so what was left out must not be asked for again.
    people = {name: in_order(own, other, name) for name, other in people.items()}
    usable = usable_voxels(
        {"the predictions": own, "the measured patterns": group, **people}, missing
    )
    own, group = own.within(usable), group.within(usable)
    people = {name: other.within(usable) for name, other in people.items()}
    whole = correlation_matrix(own.values, group.values, own.names)
    families = [_of_group(own, whole)]
    if rois:
        families.append(_of_rois(own, group, regions_inside(rois, usable)))
    if categories is not None:
        families.append(_of_categories(own, whole, categories, exchange))
    if people:
        families.append(_of_participants(own, people))

    counts = bootstrap_counts(own.n_images, n_bootstraps, seed)
    tables, nulls = [], []
    for family in families:
        test = diagonal_test(family.matrices, n_permutations, seed, family.groups, family.cells)
        within = exchange if family.level == "category" else "all"
        draws = [
            _draws(matrix, member, within, counts, seed)
            for matrix, member in zip(family.matrices, family.members, strict=True)
        ]
        bounds = bootstrap_interval(np.array(draws).T, level)
        tables.append(level_table(family, test, bounds, model))
        nulls.append(test.null)
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    return MatchedPatterns(table, np.hstack(nulls), whole, own.names)


def in_order(own: Patterns, other: Patterns, participant: str) -> Patterns:
    """Bring a participant's patterns to the images that are compared."""
    try:
        return pair(own, other.of(own.names))[1]
    except (DataError, ShapeError) as error:
        message = f"participant {participant}: {error}"
        raise type(error)(message) from error


def _of_group(own: Patterns, whole: NDArray[np.float64]) -> Family:
    everyone = np.ones(own.n_images, dtype=bool)
    return Family("group", ("group",), whole[None], (own.n_voxels,), (everyone,))


def regions_inside(
    rois: Mapping[str, NDArray[np.bool_]], usable: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Restrict ROIs to the usable voxels, and refuse one that is left with fewer than two."""
    regions = {}
    for name, region in rois.items():
        if region.shape != usable.shape:
            message = (
                f"matched_patterns: the ROI {name} must be a mask over the {usable.size} voxels; "
                f"got shape {region.shape}. Read it with the same grid."
            )
            raise ShapeError(message)
        inside = np.asarray(region, dtype=bool)[usable]
        if np.count_nonzero(inside) < 2:
            message = (
                f"matched_patterns: the ROI {name} must have two voxels with data or more; it has "
                f"{np.count_nonzero(inside)}. Leave the ROI out."
            )
            raise DataError(message)
        regions[name] = inside
    return regions


def _of_rois(own: Patterns, group: Patterns, regions: Mapping[str, NDArray[np.bool_]]) -> Family:
    matrices = []
    for name, inside in regions.items():
        try:
            matrix = correlation_matrix(own.values[:, inside], group.values[:, inside], own.names)
        except DataError as error:
            message = f"ROI {name}: {error}"
            raise DataError(message) from error
        matrices.append(matrix)
    everyone = np.ones(own.n_images, dtype=bool)
    sizes = tuple(int(np.count_nonzero(inside)) for inside in regions.values())
    members = (everyone,) * len(matrices)
    return Family("roi", tuple(regions), np.array(matrices), sizes, members)


def _of_categories(
    own: Patterns,
    whole: NDArray[np.float64],
    categories: Mapping[str, str],
    exchange: Exchange,
) -> Family:
    names, members, groups, cells = category_cells(own.names, categories, exchange)
    matrices = np.broadcast_to(whole, (len(names), *whole.shape))
    n_voxels = (own.n_voxels,) * len(names)
    return Family("category", names, matrices, n_voxels, members, groups, cells)


def category_cells(
    images: tuple[str, ...], categories: Mapping[str, str], exchange: Exchange
) -> tuple[
    tuple[str, ...],
    tuple[NDArray[np.bool_], ...],
    NDArray[np.str_] | None,
    NDArray[np.bool_],
]:
    """Find each category's images, what is exchanged, and which correlations take part.

    Returns
    -------
    names : tuple of str
        The categories.
    members : tuple of array of shape (n_images,), bool
        Each category's images.
    groups : array of shape (n_images,) or None
        Labels within which images are exchanged.
    cells : array of shape (n_categories, n_images, n_images), bool
        The correlations that take part.
    """
    bare = {bare_name(name): category for name, category in categories.items()}
    labels = []
    for image in images:
        category = categories.get(image, bare.get(bare_name(image)))
        if category is None:
            message = (
                f"matched_patterns: every image must have a category; {image!r} has none. Add it "
                "to the table of categories, or leave the image out."
            )
            raise DataError(message)
        labels.append(category)
    names = tuple(dict.fromkeys(labels))
    groups = np.array(labels)
    members = tuple(groups == name for name in names)
    for name, member in zip(names, members, strict=True):
        if np.count_nonzero(member) < 2:
            message = (
                f"matched_patterns: every category must have two images or more; {name!r} has "
                "one. Leave the image out, or join the category with another."
            )
            raise DataError(message)
    if exchange == "category":
        return names, members, groups, np.array([np.outer(m, m) for m in members])
    everyone = np.ones(len(images), dtype=bool)
    return names, members, None, np.array([np.outer(everyone, m) for m in members])


def _of_participants(own: Patterns, people: Mapping[str, Patterns]) -> Family:
    matrices = []
    for name, patterns in people.items():
        try:
            matrices.append(correlation_matrix(own.values, patterns.values, own.names))
        except DataError as error:
            message = f"participant {name}: {error}"
            raise DataError(message) from error
    everyone = np.ones(own.n_images, dtype=bool)
    return Family(
        "participant",
        tuple(people),
        np.array(matrices),
        (own.n_voxels,) * len(people),
        (everyone,) * len(people),
    )


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


def level_table(
    family: Family, test: PermutationTest, bounds: tuple[ArrayLike, ArrayLike], model: str
) -> pd.DataFrame:
    """Make the table of one level's tests."""
    import pandas as pd

    return pd.DataFrame(
        {
            "model": model,
            "level": family.level,
            "name": family.names,
            "statistic": test.statistic,
            "lower": bounds[0],
            "upper": bounds[1],
            **test.columns(),
            "n_images": [int(np.count_nonzero(member)) for member in family.members],
            "n_voxels": family.n_voxels,
        }
    )
