"""What is regressed out of a run: confounds, slow drifts and the mean."""

from __future__ import annotations

import re
import warnings
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

# What must be left of a run, as a share of its volumes, and what usually is.
_LEAST_LEFT, _HALF = 0.1, 0.5


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
        If the file cannot be read, lacks a column that is named, has columns without names, holds
        what is no number, or lacks other values than those.
    ShapeError
        If it has not a row for each volume.
    """
    if not patterns:
        return np.empty((n_volumes, 0))
    table = read_table(path, f"confounds {path}")
    _check_columns(table)
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


def _check_columns(table: TextTable) -> None:
    """Refuse a first line that does not name columns, and a column of the rows' numbers."""
    counted = [*map(str, range(len(table.columns)))]  # As pandas names columns without names.
    numbers = all(_is_number(part) for name in table.columns for part in name.split())
    if numbers and (len(counted) == 1 or [*table.columns] != counted):
        message = (
            f"{table.where}, line 1: columns must have names; got numbers, as in files of SPM, FSL "
            f"and AFNI: {', '.join(table.columns)[:60]!r}. Put a line of names before them, and "
            "tabs between the columns."
        )
        raise DataError(message)
    if len(table.columns) == 1 and re.search(r"[;,\s]", table.columns[0]):
        message = (
            f"{table.where}, line 1: columns must be separated by tabs, or by commas in a .csv "
            f"file; got one column, {table.columns[0][:60]!r}. Save it so."
        )
        raise DataError(message)
    for name in table.columns:
        if re.fullmatch(r"(Unnamed: \d+(_level_\d+)?)?", name):
            message = (
                f"{table.where}, line 1: each column must be a confound; got one without a name "
                f"({name!r}), as pandas writes rows' numbers. Remove it: write the table with "
                "index=False."
            )
            raise DataError(message)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _n_without(name: str) -> int:
    """Return how many first values a confound lacks by its nature."""
    folded = name.lower()
    if order := re.search(r"derivative([0-9]{0,4})", folded):
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


def check_left(where: str, regressors: FloatArray, n_confounds: int, n_cosines: int) -> None:
    """Refuse confounds and drifts that leave next to nothing of a run, and warn of many.

    Parameters
    ----------
    where : str
        What messages begin with.
    regressors : array of shape (n_volumes, n_regressors)
        As `nuisance` returns them.
    n_confounds, n_cosines : int
        How many of them are which.

    Raises
    ------
    DataError
        If less than a tenth of the volumes is left.

    Warns
    -----
    UserWarning
        If less than half is.
    """
    n_volumes = len(regressors)
    size = np.linalg.norm(regressors, axis=0)
    rank = int(np.linalg.matrix_rank(regressors / np.where(size > 0, size, 1.0)))
    left = n_volumes - rank
    if left >= _HALF * n_volumes:
        return
    said = (
        f"{n_volumes} volumes less {rank} independent regressors ({n_confounds} confounds, "
        f"{n_cosines} slow cosines, the mean)"
    )
    remedy = "Give a table of fewer columns, such as six of motion and a few of tissue"
    if left < max(3, _LEAST_LEFT * n_volumes):
        message = (
            f"{where}: something of the run must be left when confounds and slow drifts are "
            f"regressed out, a tenth of it or more; got {said}. {remedy}, or leave in what is slow."
        )
        raise DataError(message)
    warnings.warn(f"{where}: less than half of the run is left: {said}. {remedy}.", stacklevel=4)
