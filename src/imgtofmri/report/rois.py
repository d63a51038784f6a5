"""The means of ROIs as an array, out of the tables that a run wrote."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError
from imgtofmri.limits import check_limit

_GROUP = "group_"

COLUMNS = ("stimulus", "roi", "hemi", "subject", "mean", "unit")


@dataclass(frozen=True, slots=True, eq=False)
class RoiValues:
    """The mean of each ROI, by stimulus and by whose ROI it is.

    Attributes
    ----------
    places : list of (roi, hemi)
    owners : list of str
        The group and people.
    values : array of shape (n_stimuli, n_places, n_owners), float32
        NaN where there is none.
    unit : str
    """

    places: list[tuple[str, str]]
    owners: list[str]
    values: npt.NDArray[np.float32]
    unit: str


def read_rois(path: Path, names: Sequence[str]) -> RoiValues:
    """Read the rows of some stimuli out of a tidy table of ROI means.

    Parameters
    ----------
    path : Path
        ``rois.tsv``, with the columns `COLUMNS`.
    names : sequence of str
        The stimuli.

    Raises
    ------
    DataError
        If it is no such table.
    """
    index = {name: number for number, name in enumerate(names)}
    places: dict[tuple[str, str], int] = {}
    owners: dict[str, int] = {}
    found: list[tuple[int, int, int, float]] = []
    unit = ""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            header = next(rows)
            stimulus, roi, hemi, subject, mean, units = map(header.index, COLUMNS)
            for row in rows:
                number = index.get(row[stimulus])
                if number is None:
                    continue
                place = places.setdefault((row[roi], row[hemi]), len(places))
                owner = owners.setdefault(row[subject], len(owners))
                value = float("nan") if row[mean] == "n/a" else float(row[mean])
                found.append((number, place, owner, value))
                unit = row[units]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, IndexError, StopIteration) as error:
        message = (
            f"{path}: expected a table with the columns {', '.join(COLUMNS)}; it cannot be read "
            f"({type(error).__name__}: {error}). Run the command again with `overwrite`."
        )
        raise DataError(message) from error
    values = _unknown(path, len(names), len(places), len(owners))
    for number, place, owner, value in found:
        values[number, place, owner] = value
    return RoiValues(list(places), list(owners), values, unit)


def read_courses(path: Path, unit: str, n_volumes: int) -> RoiValues:
    """Read the ROIs' predicted time courses that `dynamics` writes: a row for each volume.

    Parameters
    ----------
    path : Path
        With the columns ``roi``, ``hemi``, ``subject``, ``volume`` and ``response``.
    unit : str
    n_volumes : int

    Raises
    ------
    DataError
        If it is no such table.
    """
    columns = ("roi", "hemi", "subject", "volume", "response")
    places: dict[tuple[str, str], int] = {}
    owners: dict[str, int] = {}
    found: list[tuple[int, int, int, float]] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            header = next(rows)
            roi, hemi, subject, volume, response = map(header.index, columns)
            for row in rows:
                place = places.setdefault((row[roi], row[hemi]), len(places))
                owner = owners.setdefault(row[subject], len(owners))
                found.append((int(row[volume]), place, owner, float(row[response])))
        values = np.full((n_volumes, len(places), len(owners)), np.nan, np.float32)
        for number, place, owner, value in found:
            values[number, place, owner] = value
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, IndexError, StopIteration) as error:
        message = (
            f"{path}: expected a table with the columns {', '.join(columns)}; it cannot be read "
            f"({type(error).__name__}: {error}). Run the command again with `overwrite`."
        )
        raise DataError(message) from error
    return RoiValues(list(places), list(owners), values, unit)


def read_timeseries(path: Path, unit: str, most: int) -> tuple[npt.NDArray[np.float64], RoiValues]:
    """Read a film's table of ROI means: its onsets in seconds, and the means.

    Parameters
    ----------
    path : Path
        With a column ``onset``, and others named OWNER_ROI_HEMI.
    unit : str
    most : int
        How many rows are read at most.

    Raises
    ------
    DataError
        If it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            header = next(rows)
            cells = [row for row, _ in zip(rows, range(most), strict=False)]
        table = np.array([[np.nan if c == "n/a" else float(c) for c in row] for row in cells])
        table = table.reshape(len(cells), len(header))
        onset = header.index("onset")
        owners, places = _owners_and_places([name for name in header if name != "onset"])
        columns = np.delete(table, onset, axis=1).reshape(-1, len(owners), len(places))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, StopIteration) as error:
        message = (
            f"{path}: expected a table of ROI means over time; it cannot be read "
            f"({type(error).__name__}: {error}). Run the command again with `overwrite`."
        )
        raise DataError(message) from error
    values = columns.swapaxes(1, 2).astype(np.float32)
    return table[:, onset], RoiValues(places, owners, values, unit)


def _owners_and_places(columns: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return whose and of which places columns are that are named OWNER_ROI_HEMI.

    The group's are the first, and each person's follow in the order of its places: names of people
    and of regions may themselves hold what parts them.

    Raises
    ------
    ValueError
        If they are not.
    """
    n_places = len(list(takewhile(lambda name: name.startswith(_GROUP), columns)))
    endings = [name.removeprefix(_GROUP) for name in columns[:n_places]]
    firsts = columns[::n_places] if n_places else []
    owners = [name.removesuffix(f"_{endings[0]}") for name in firsts]
    if [f"{owner}_{ending}" for owner in owners for ending in endings] != list(columns):
        message = f"its columns are {', '.join(columns)}"
        raise ValueError(message)
    places = [(roi, hemi) for roi, _, hemi in (ending.rpartition("_") for ending in endings)]
    return owners, places


def _unknown(path: Path, *shape: int) -> npt.NDArray[np.float32]:
    """Return an array of NaN, unless a table of few rows asks for more than is held."""
    check_limit("array_gb", 4 * math.prod(shape) / 1e9, str(path), "GB of means in one array")
    return np.full(shape, np.nan, np.float32)
