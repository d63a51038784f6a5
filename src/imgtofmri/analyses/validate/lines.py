"""The result of a validation in lines that a reader understands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imgtofmri.analyses.validate.columns import percent
from imgtofmri.encoder.controls import ENCODER

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.analyses.validate.accuracy import EncodingAccuracy
    from imgtofmri.analyses.validate.matched import MatchedPatterns
    from imgtofmri.analyses.validate.roi_means import RoiMeansAccuracy

Row = Mapping[str, Any]


def describe_validation(
    matched: MatchedPatterns,
    accuracy: EncodingAccuracy | None = None,
    roi_means: RoiMeansAccuracy | None = None,
) -> Iterator[str]:
    """Say what came out, a line for each test, controls beside the encoder.

    Yields
    ------
    str
        Numbers in brackets are intervals.
    """
    yield (
        f"matched patterns, {len(matched.names)} images: r with the image's own measured pattern, "
        f"minus r with others' ({_coverage(matched)} over images)"
    )
    yield from _by_model(matched.table, _matched)
    if roi_means is not None:
        yield (
            f"ROI means, {len(roi_means.names)} images: r of predicted with measured mean response "
            f"over images ({_coverage(roi_means)} over images)"
        )
        yield from _by_model(roi_means.table, _roi_mean)
    if accuracy is not None:
        yield (
            f"voxels, {len(accuracy.names)} images: mean over voxels of r over images "
            f"({_coverage(accuracy)} over images)"
        )
        yield from _by_model(accuracy.table, _accuracy)
    signal = [result for result in (roi_means, accuracy) if result is not None]
    if signal and not signal[0].comparison.repeats:
        yield "no repeats: what noise allows at most is not known; --repeat tells"


def _coverage(result: MatchedPatterns | EncodingAccuracy | RoiMeansAccuracy) -> str:
    return percent(result.settings.get("level", 0.95))


def _by_model(table: pd.DataFrame, said: Any) -> Iterator[str]:
    """Say each row of a table, the controls' under their names."""
    for model, rows in table.groupby("model", sort=False):
        if model != ENCODER:
            yield f"  control {model}"
        for row in rows.to_dict("records"):
            yield f"  {'' if model == ENCODER else '  '}{said(row)}"


def _matched(row: Row) -> str:
    name = row["name"] if row["name"] == row["level"] else f"{row['level']} {row['name']}"
    return _joined(
        f"{name:<22} {row['statistic']:+.3f}{_interval(row, 'lower', 'upper')}",
        f"p = {row['p']:.2g}",
        f"p_max = {row['p_max']:.2g} among its level",
    )


def _accuracy(row: Row) -> str:
    parts = [f"{row['roi']:<10} {row['mean_r']:+.3f}{_interval(row, 'lower', 'upper')}"]
    if np.isfinite(row.get("p", np.nan)):
        share = row["n_significant"] / max(row["n_voxels"], 1)
        parts += [
            f"p_fdr = {row['p_fdr']:.2g}",
            f"{row['n_significant']:.0f} of {row['n_voxels']} voxels ({share:.0%}) at p_fdr <= .05",
        ]
    if row.get("n_uncovered", 0) > 0:
        parts.append(f"{row['n_uncovered']:.0f} voxels left out, as too few people's ROIs reach")
    return _joined(*parts, *_signal(row))


def _roi_mean(row: Row) -> str:
    parts = [f"{row['roi']:<10} {row['r']:+.3f}{_interval(row, 'lower', 'upper')}"]
    if np.isfinite(row.get("p", np.nan)):
        parts.append(f"p_fdr = {row['p_fdr']:.2g}")
    if np.isfinite(row.get("r_people", np.nan)):
        over = _interval(row, "lower_people", "upper_people")
        people = f"mean of {row['n_people']:.0f} people's r {row['r_people']:+.3f}"
        parts.append(people + (f"{over} over people" if over else ", too few for an interval"))
    return _joined(*parts, *_signal(row))


def _signal(row: Row) -> Iterable[str]:
    """Say what can be explained, and how much of it is; nothing without repeats."""
    if not np.isfinite(row.get("explainable", np.nan)):
        return
    of_share = _interval(row, "explainable_lower", "explainable_upper", share=True)
    share = f"{row['explainable']:.0%}{of_share}"
    if np.isnan(row["explained"]):
        yield f"signal is {share} of the variance, no different from none"
        return
    bounds = _interval(row, "explained_lower", "explained_upper", share=True)
    yield f"explains {row['explained']:.0%}{bounds} of the signal, which is {share} of the variance"


def _interval(row: Row, lower: str, upper: str, *, share: bool = False) -> str:
    """Say an interval in brackets; nothing where there is none."""
    low, high = row.get(lower, np.nan), row.get(upper, np.nan)
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    return f" ({low:.0%} to {high:.0%})" if share else f" ({low:+.3f} to {high:+.3f})"


def _joined(*parts: str) -> str:
    return "; ".join(parts)
