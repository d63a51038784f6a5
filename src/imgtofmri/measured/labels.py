"""What arrays in files call rows: names, and numbers that name nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imgtofmri.exceptions import DataError

# Whole numbers up to here are exact as floats.
_MOST = 2**53


def labels_of(values: ArrayLike) -> list[str] | None:
    """Return the names that an array holds.

    Parameters
    ----------
    values : array
        One axis longer than 1 at most: texts, or whole numbers, which MATLAB keeps as floats.

    Returns
    -------
    list of str or None
        None where it is no list of names, or where it numbers its rows, from 0 or 1.

    Examples
    --------
    >>> labels_of([46003.0, 73.0]), labels_of([b"a ", b"b"]), labels_of([1, 2, 3])
    (['46003', '73'], ['a', 'b'], None)
    """
    array = np.asarray(values)
    if not array.size or max(array.shape, default=0) != array.size:
        return None
    flat: Any = array.ravel()
    if flat.dtype.kind == "f" and (np.abs(flat) < _MOST).all() and (flat == np.rint(flat)).all():
        flat = flat.astype(np.int64)
    if flat.dtype.kind in "iu" and _numbering(flat.tolist()) is not None:
        return None
    if flat.dtype.kind not in "USiu":
        return None
    return [
        item.decode("utf-8", "replace").rstrip() if isinstance(item, bytes) else str(item).rstrip()
        for item in flat.tolist()
    ]


def _numbering(numbers: Sequence[int]) -> int | None:
    """Return where numbers count their rows from, 0 or 1; None where they do not."""
    return next(
        (first for first in (0, 1) if [*numbers] == [*range(first, first + len(numbers))]), None
    )


def counts_from(names: Sequence[str]) -> int | None:
    """Return where names count from, 0 or 1, in whatever order; None where they do not.

    Examples
    --------
    >>> counts_from(["2", "0", "1"]), counts_from(["001", "002"]), counts_from(["1", "3"])
    (0, 1, None)
    """
    if not names or not all(name.isascii() and name.isdecimal() for name in names):
        return None
    return None if max(map(len, names)) > 18 else _numbering(sorted(map(int, names)))


def check_counted_alike(predicted: Sequence[str], measured: Sequence[str]) -> None:
    """Refuse two lists of numbers of which one counts from 0 and the other from 1.

    Raises
    ------
    DataError
        As each would be paired with its neighbour.
    """
    begun = counts_from(predicted), counts_from(measured)
    if None in begun or begun[0] == begun[1]:
        return
    message = (
        "images must be numbered alike to be paired by name; got predicted ones that count from "
        f"{begun[0]} and measured ones from {begun[1]}, so that each would be paired with its "
        "neighbour. Number one side anew, or name both after the images."
    )
    raise DataError(message)
