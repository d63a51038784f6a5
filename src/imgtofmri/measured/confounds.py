"""What is regressed out of a run: confounds, slow drifts and the mean."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, ShapeError, choice_message
from imgtofmri.tables import read_table

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
        What stands for a value that is n/a: 0; or its column's mean, in the first row only, as for
        framewise displacement.

    Returns
    -------
    array of shape (n_volumes, n_confounds)
        Columns in the order of the patterns, then of the table.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column that is named, or holds what is no number.
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
        values[:, column] = table.numbers(name, missing=True, remedy=remedy)
    lost = np.isnan(values)
    if missing == "zero":
        values[lost] = 0.0
        return values
    if lost[1:].any():
        message = (
            f"{table.where}: must be finite after the first row; got {int(lost[1:].sum())} values "
            "that are not. Leave out those columns."
        )
        raise DataError(message)
    values[0] = np.where(lost[0], values[1:].mean(axis=0), values[0])
    return values


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
