"""Values at the points of a table: coordinates in, a tidy table out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError
from imgtofmri.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

AXES = ("x", "y", "z")

# No brain is so small that all points of a table lie so near to the origin.
_LEAST_MM = 1.0

COLUMNS = {
    "stimulus": "the stimulus' name",
    "onset": "of a movie's frame, in seconds",
    "x": "the point, in millimetres of the predictions' space, to the right",
    "y": "the point, in millimetres, to the front",
    "z": "the point, in millimetres, upwards",
    "subject": "whose map; group is that of all",
    "value": "of the voxel in which the point lies; n/a where the model has none",
    "unit": "of the value",
    "inside": "whether the point lies in a voxel for which the model has a value",
}
"""What the columns of the table are; columns of one's own keep their place and name."""


def read_points(points: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Read a table of coordinates.

    Parameters
    ----------
    points : pandas.DataFrame or path
        With columns x, y and z, in millimetres; others are kept.

    Returns
    -------
    pandas.DataFrame
        One row or more; x, y and z are finite numbers.

    Raises
    ------
    DataError
        If a column is missing or named as one of the results, a coordinate is no number, or all are
        too small to be millimetres.
    """
    import pandas as pd

    if isinstance(points, str | Path):
        text = read_table(Path(points))
        table = pd.DataFrame({name: text.column(name) for name in text.columns})
        # What is no number, or missing, is said with its line.
        numbers = {axis: text.numbers(axis) for axis in AXES}
        where = str(points)
    else:
        table, where = points.reset_index(drop=True), "points"
        lacking = [axis for axis in AXES if axis not in table]
        if lacking:
            message = (
                f"{where}: expected columns x, y and z, in millimetres; got "
                f"{', '.join(map(str, table.columns)) or 'none'}. Name them so."
            )
            raise DataError(message)
        numbers = {axis: _numbers(table[axis].tolist(), axis) for axis in AXES}
    taken = [name for name in table.columns if name in COLUMNS and name not in AXES]
    if taken or not len(table):
        got = f"a column called {taken[0]}" if taken else "no rows"
        message = (
            f"{where}: expected a row for each point, with other columns than those of the result; "
            f"got {got}. {'Rename it' if taken else 'Add points'}."
        )
        raise DataError(message)
    furthest = max(float(np.abs(numbers[axis]).max()) for axis in AXES)
    if 0 < furthest < _LEAST_MM:
        message = (
            f"{where}: x, y and z must be in millimetres; got none beyond {furthest:g}, as of "
            "metres. Multiply them by 1000."
        )
        raise DataError(message)
    return table.assign(**numbers)


def points_table(
    points: pd.DataFrame,
    values: npt.NDArray[np.float32],
    stimuli: Mapping[str, Any],
    subject: str,
    unit: str,
) -> pd.DataFrame:
    """Return a row for each stimulus and point.

    Parameters
    ----------
    points : pandas.DataFrame
        Of `read_points`.
    values : array of shape (n_stimuli, n_points)
        NaN where there is none.
    stimuli : mapping of str to sequence
        Columns that name the stimuli.
    subject, unit : str
    """
    import pandas as pd

    named = pd.DataFrame(dict(stimuli))
    table = named.merge(points, how="cross")
    flat = values.ravel()
    return table.assign(subject=subject, value=flat, unit=unit, inside=np.isfinite(flat))


def _numbers(cells: list[Any], axis: str) -> npt.NDArray[np.float64]:
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            found[row] = float(cell)
        except (TypeError, ValueError):
            found[row] = np.nan
        if not np.isfinite(found[row]):
            message = (
                f"points, row {row}: {axis} must be a number of millimetres; got {cell!r}. Correct "
                "it."
            )
            raise DataError(message)
    return found
