"""Which image belongs to which condition, and what each condition weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.contrast.expression import contrast_weights
from imgtofmri.exceptions import DataError, ShapeError


def contrast_design(
    n_stimuli: int, conditions: Sequence[str], contrast: str | Mapping[str, float]
) -> tuple[NDArray[np.intp], NDArray[np.float64], list[str]]:
    """Return each stimulus's condition code, each condition's weight, and the conditions.

    Raises
    ------
    OptionError
        If the contrast is none, or names an unknown condition.
    ShapeError
        If there is not one condition for each stimulus.
    DataError
        If a condition with a weight has fewer than 2 stimuli.
    """
    if len(conditions) != n_stimuli:
        message = (
            f"contrast: conditions must label each of the {n_stimuli} stimuli; got "
            f"{len(conditions)}. Give one condition for each."
        )
        raise ShapeError(message)
    names = list(dict.fromkeys(conditions))
    weights = contrast_weights(contrast, names)
    code = {name: index for index, name in enumerate(names)}
    labels = np.array([code[condition] for condition in conditions], dtype=np.intp)
    for index in np.flatnonzero(weights):
        count = int(np.sum(labels == index))
        if count < 2:
            message = (
                "contrast: each condition needs at least 2 images, as images are the random "
                f"factor; condition {names[index]!r} has {count}. Add images."
            )
            raise DataError(message)
    return labels, weights, names


def written_contrast(weights: Mapping[str, float]) -> str:
    """Write weights as `parse_contrast` reads them."""
    terms = [
        f"{'-' if value < 0 else '+'} {abs(value):g}*{name}" for name, value in weights.items()
    ]
    return " ".join(terms).removeprefix("+ ")
