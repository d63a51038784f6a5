"""Text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgtofmri.bundle import Bundle


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of text as lines whose columns stand under each other.

    Examples
    --------
    >>> table_lines([("roi", "voxels"), ("EarlyVis", "7")])
    ['roi       voxels', 'EarlyVis  7']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def accuracy_lines(bundle: Bundle) -> list[str]:
    """Return the accuracy of a bundle's models by subject and ROI as lines of text.

    Parameters
    ----------
    bundle : Bundle
        As `imgtofmri.training.fit_study` returns it.

    Returns
    -------
    list of str
        A table of voxels, median cross-validated r, median noise ceiling and penalty; empty for a
        bundle that does not record them.
    """
    rows = []
    for subject in bundle.subjects:
        for roi, model in subject.rois.items():
            extras = model.extras
            if "cv_r" in extras:
                medians = [_median(extras, name) for name in ("cv_r", "noise_ceiling")]
                penalty = _range(extras["alpha"]) if "alpha" in extras else "-"
                rows.append((subject.name, roi, str(model.n_voxels), *medians, penalty))
    header = ("subject", "roi", "voxels", "cv r", "ceiling r", "penalty")
    return table_lines([header, *rows]) if rows else []


def _median(extras: Mapping[str, Any], name: str) -> str:
    import numpy as np

    return f"{np.median(extras[name]):.3f}" if name in extras else "-"


def _range(values: Any) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
