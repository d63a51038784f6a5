"""Whether the images of a contrast differ before any brain sees them: a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgtofmri.analyses.contrast.design import contrast_design, written_contrast
from imgtofmri.analyses.contrast.welch import permuted_tests
from imgtofmri.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd


def contrast_properties(
    properties: pd.DataFrame,
    conditions: Sequence[str],
    contrast: str | Mapping[str, float],
    n_permutations: int = 1000,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Contrast what is measured on the images themselves, such as luminance, as responses are.

    The same test as in :func:`compute_contrast`, with the same exchanges for the same seed: Welch's
    t over images, and under the null hypothesis images are exchanged between the conditions that
    have a weight.

    Parameters
    ----------
    properties : pandas.DataFrame
        One row for each image and one column of numbers for each property; a column ``stimulus``
        names the images.
    conditions : sequence of str
        The condition of each image.
    contrast : str or mapping of str to float
        As for :func:`compute_contrast`.
    n_permutations, seed
        As for :func:`compute_contrast`.

    Returns
    -------
    pandas.DataFrame
        One row for each property: contrast, property, difference, ci_low, ci_high (95 %),
        d (difference in standard deviations of the images within conditions), t, dof, p, p_fdr,
        p_max (corrected over the properties). NaN where a property does not vary.

    Raises
    ------
    OptionError, ShapeError
        As :func:`compute_contrast`.
    DataError
        If a condition has fewer than 2 images, or a property is missing for an image.
    """
    import pandas as pd

    measured = properties.drop(columns="stimulus", errors="ignore")
    labels, weights, _ = contrast_design(len(properties), conditions, contrast)
    chosen = np.flatnonzero(weights[labels])
    labels = labels[chosen]
    values = measured.to_numpy(dtype=np.float64)[chosen]
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        row, column = int(chosen[bad[0, 0]]), int(bad[0, 1])
        name = properties["stimulus"].iloc[row] if "stimulus" in properties else row
        message = (
            f"contrast: properties must be finite; image {name!r} has {values[tuple(bad[0])]} for "
            f"{measured.columns[column]}. Measure it again or leave it out."
        )
        raise DataError(message)
    ((test, null),) = permuted_tests([values], labels, weights, n_permutations, seed)
    used = np.flatnonzero(weights)
    within = np.mean([values[labels == code].var(axis=0, ddof=1) for code in used], axis=0)
    tested = ~np.isnan(test.t)
    d = np.full(len(within), np.nan)
    d[tested] = test.difference[tested] / np.sqrt(within[tested])
    table = pd.DataFrame(
        {
            "contrast": contrast if isinstance(contrast, str) else written_contrast(contrast),
            "property": list(measured.columns),
            **test.columns(null),
        }
    )
    table.insert(list(table).index("t"), "d", d)
    return table
