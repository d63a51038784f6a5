"""The four levels of matched patterns: what each of their tests compares and exchanges.

The same for the encoder, whose patterns are correlated with measured ones, and for features, whose
map to voxels is fitted on products of measured patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.measured.patterns import Patterns, bare_name, pair
from imgtofmri.stats import PermutationTest

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.analyses.validate.comparison import Comparison

Exchange = Literal["category", "all"]

Product = Callable[[NDArray[np.floating[Any]], "NDArray[np.bool_] | slice"], NDArray[np.float64]]
"""From measured patterns in some of the voxels, and which voxels these are, to a matrix."""


@dataclass(frozen=True, eq=False)
class Level:
    """The tests of one level: their matrices, and what takes part and is exchanged in them.

    Attributes
    ----------
    level : {"group", "roi", "category", "participant"}
    names : tuple of str
        What each test is called.
    matrices : array of shape (1 or n_tests, n_images, n_images)
        One for each test, or one for all.
    n_voxels : tuple of int
    members : tuple of array of shape (n_images,), bool
        The images that each test is about.
    groups : array of shape (n_images,) or None
        Labels within which images are exchanged.
    cells : array of shape (n_tests, n_images, n_images), bool, or None
        The entries that take part; None for all.
    """

    level: str
    names: tuple[str, ...]
    matrices: NDArray[np.float64]
    n_voxels: tuple[int, ...]
    members: tuple[NDArray[np.bool_], ...]
    groups: NDArray[np.str_] | None = None
    cells: NDArray[np.bool_] | None = None

    def table(
        self, test: PermutationTest, bounds: tuple[ArrayLike, ArrayLike], model: str
    ) -> pd.DataFrame:
        """Make the table of the level's tests."""
        import pandas as pd

        return pd.DataFrame(
            {
                "model": model,
                "level": self.level,
                "name": self.names,
                "statistic": test.statistic,
                "lower": bounds[0],
                "upper": bounds[1],
                **test.columns(),
                "n_images": [int(np.count_nonzero(member)) for member in self.members],
                "n_voxels": self.n_voxels,
            }
        )


def find_levels(
    comparison: Comparison,
    names: tuple[str, ...],
    group: Patterns,
    people: Mapping[str, Patterns],
    usable: NDArray[np.bool_],
    exchange: Exchange,
    product: Product,
) -> list[Level]:
    """Find the levels of a comparison and compute the matrices of their tests.

    Parameters
    ----------
    comparison : Comparison
        For its ROIs and categories.
    names : tuple of str
        The images that are compared.
    group : Patterns
        The group's measured patterns of these images, in their order.
    people : mapping of str to Patterns
        Each participant's.
    usable : array of shape (n_voxels,), bool
        The voxels that are compared.
    exchange : {"category", "all"}
        What is exchanged in the level category.
    product : callable
        Makes a test's matrix, of shape (n_images, n_images).

    Raises
    ------
    DataError
        If an image has no category, or a category, an ROI or a participant cannot be compared.
    """
    everyone = np.ones(group.n_images, dtype=bool)
    every_voxel = slice(None)
    values = group.values[:, usable]
    n_voxels = values.shape[1]
    whole = product(values, every_voxel)[None]
    levels = [Level("group", ("group",), whole, (n_voxels,), (everyone,))]
    if comparison.rois:
        regions = _regions_inside(comparison.rois, usable)
        matrices = [
            _of(f"ROI {name}", product, values[:, inside], inside)
            for name, inside in regions.items()
        ]
        sizes = tuple(int(np.count_nonzero(inside)) for inside in regions.values())
        members = (everyone,) * len(regions)
        levels.append(Level("roi", tuple(regions), np.array(matrices), sizes, members))
    if comparison.categories is not None:
        labels = image_categories(names, comparison.categories)
        levels.append(_of_categories(labels, whole, n_voxels, exchange))
    if people:
        matrices = [
            _of(f"participant {name}", product, part.values[:, usable], every_voxel)
            for name, part in people.items()
        ]
        sizes, members = (n_voxels,) * len(people), (everyone,) * len(people)
        levels.append(Level("participant", tuple(people), np.array(matrices), sizes, members))
    return levels


def _of(
    whose: str,
    product: Product,
    values: NDArray[np.floating[Any]],
    voxels: NDArray[np.bool_] | slice,
) -> NDArray[np.float64]:
    try:
        return product(values, voxels)
    except DataError as error:
        message = f"{whose}: {error}"
        raise DataError(message) from error


def in_order(shown: Patterns, people: Mapping[str, Patterns]) -> dict[str, Patterns]:
    """Bring participants' patterns to the images that are compared, and to their order."""
    found = {}
    for name, patterns in people.items():
        try:
            # What was left out must not be asked for again.
            found[name] = pair(shown, patterns.of(shown.names))[1]
        except (DataError, ShapeError) as error:
            message = f"participant {name}: {error}"
            raise type(error)(message) from error
    return found


def _regions_inside(
    rois: Mapping[str, NDArray[np.bool_]], usable: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Restrict ROIs to the usable voxels, and refuse one that is left with fewer than two."""
    regions = {}
    for name, region in rois.items():
        inside = np.asarray(region, dtype=bool)[usable]
        if np.count_nonzero(inside) < 2:
            message = (
                f"the ROI {name} must have two voxels with data or more; it has "
                f"{np.count_nonzero(inside)}. Leave the ROI out."
            )
            raise DataError(message)
        regions[name] = inside
    return regions


def _of_categories(
    labels: Sequence[str], whole: NDArray[np.float64], n_voxels: int, exchange: Exchange
) -> Level:
    names = tuple(dict.fromkeys(labels))
    of_image = np.array(labels)
    members = tuple(of_image == name for name in names)
    for name, member in zip(names, members, strict=True):
        if np.count_nonzero(member) < 2:
            message = (
                f"every category must have two images or more; {name!r} has one. Leave the image "
                "out, or join the category with another."
            )
            raise DataError(message)
    groups = of_image if exchange == "category" else None
    everyone = np.ones(len(labels), dtype=bool)
    cells = np.array([np.outer(everyone if groups is None else m, m) for m in members])
    return Level("category", names, whole, (n_voxels,) * len(names), members, groups, cells)


def image_categories(images: Sequence[str], categories: Mapping[str, str]) -> list[str]:
    """Return each image's category, names being compared whole first, then without endings.

    Raises
    ------
    DataError
        If an image has none, or several.
    """
    bare: dict[str, set[str]] = {}
    for name, category in categories.items():
        bare.setdefault(bare_name(name), set()).add(category)
    labels: list[str] = []
    for image in images:
        found = {categories[image]} if image in categories else bare.get(bare_name(image), set())
        if len(found) != 1:
            said = " and ".join(sorted(found)) or "none"
            message = (
                f"every image must have one category; {image!r} has {said}. Add it to the table "
                "of categories under its whole name, or leave the image out."
            )
            raise DataError(message)
        labels += found
    return labels
