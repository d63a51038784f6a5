"""What is regressed out of a run: confounds, slow drifts and the mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, ShapeError, choice_message
from imgtofmri.tables import TextTable, read_table

FloatArray = npt.NDArray[np.float64]

# NumPy sums along columns pairwise, and so more exactly, where they lie in one piece.
_ORDER: Literal["F"] = "F"


def read_confounds(
    path: Path,
    n_volumes: int,
    patterns: Sequence[str] = ("*",),
    missing: Literal["zero", "mean"] = "zero",
) -> FloatArray:
    """Read confounds from a table with a row for each volume, as fMRIPrep writes them.

    Parameters
    ----------
    path : Path
        The table.
    n_volumes : int
        The run's.
    patterns : sequence of str
        Names of columns, or shell patterns such as ``"motion_*"``, which may match none.
    missing : {"zero", "mean"}
        What stands for a first value that is n/a. "zero": 0, in columns of differences between
        volumes alone, which have none for the first (derivatives, framewise displacement, DVARS),
        as in fMRIPrep's own models. "mean": the column's mean, in any column.

    Returns
    -------
    array of shape (n_volumes, n_confounds)
        Columns in the order of the patterns, then of the table.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column that is named, holds what is no number, or lacks
        other values than those.
    ShapeError
        If it has not a row for each volume.
    """
    if not patterns:
        return np.empty((n_volumes, 0))
    table = read_table(path, f"confounds {path}")
    names: dict[str, None] = {}
    for pattern in patterns:
        matched = [name for name in table.columns if fnmatchcase(name, pattern)]
        if not matched and not any(mark in pattern for mark in "*?["):
            raise DataError(choice_message(str(path), "the confound", pattern, table.columns))
        names.update(dict.fromkeys(matched))
    if len(table) != n_volumes:
        message = (
            f"{table.where}: must have one row for each of {n_volumes} volumes; got {len(table)}. "
            "Give the table that belongs to the run."
        )
        raise ShapeError(message)
    remedy = "Correct it, or leave the column out."
    values = np.empty((n_volumes, len(names)), order=_ORDER)
    for column, name in enumerate(names):
        cells = table.numbers(name, missing=True, remedy=remedy)
        n_first = 1 if missing == "mean" else _n_without(name)
        lost = np.isnan(cells)
        if lost[n_first:].any() or lost.all():
            raise _lacking(table, name, lost, n_first)
        cells[lost] = 0.0 if missing == "zero" else cells[~lost].mean()
        values[:, column] = cells
    return values


def _n_without(name: str) -> int:
    """Return how many first values a confound lacks by its nature."""
    folded = name.lower()
    if order := re.search(r"derivative(\d*)", folded):
        return int(order[1] or 1)
    return int(any(word in folded for word in ("framewise", "dvars", "rmsd")))


def _lacking(table: TextTable, name: str, lost: npt.NDArray[np.bool_], n_first: int) -> DataError:
    lines = [table.lines[row] for row in np.flatnonzero(lost)]
    shown = ", ".join(map(str, lines[:3])) + (", ..." if len(lines) > 3 else "")
    after = " after the first row" if n_first == 1 else f" after {n_first} rows" if n_first else ""
    return DataError(
        f"{table.where}: {name} must be finite{after}; got {int(lost[n_first:].sum())} values that "
        f"are not, of {len(lost)} (line {shown}). Leave out the column, or fill it in."
    )


def nuisance(confounds: FloatArray, drifts: FloatArray | None) -> FloatArray:
    """Return the regressors of a run that are not of stimuli.

    Parameters
    ----------
    confounds : array of shape (n_volumes, n_confounds)
        As `read_confounds` returns them; may have no column.
    drifts : array of shape (n_volumes, n_cosines) or None
        Slow cosines.

    Returns
    -------
    array of shape (n_volumes, n_regressors)
        The confounds, the drifts, and a constant.
    """
    constant = np.ones((len(confounds), 1))
    parts = [confounds, constant] if drifts is None else [confounds, drifts, constant]
    return np.asarray(np.hstack(parts), order=_ORDER)
