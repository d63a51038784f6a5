"""How stimuli of a prediction are chosen in brackets."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import OptionError

Chosen = int | str | slice | Sequence[int] | Sequence[str] | npt.NDArray[Any]
"""What chooses stimuli: a number, a name, a slice, several of these, or booleans."""


def rows_of(chosen: Any, n: int, named: Callable[[str], Sequence[int]]) -> Sequence[int]:
    """Return the numbers of the stimuli that are chosen, of ``n``.

    Parameters
    ----------
    chosen : int, str, slice, list of int or str, or array of shape (n,), bool
    n : int
    named : callable
        Returns the numbers of a name, or raises.

    Raises
    ------
    OptionError
        If it chooses in no such way.
    IndexError
        If there is no such number.
    """
    if isinstance(chosen, slice):
        return range(n)[chosen]
    if isinstance(chosen, str):
        return named(chosen)
    several = not isinstance(chosen, tuple | bytes | Mapping) and np.ndim(chosen) == 1
    if several and np.asarray(chosen).dtype == bool and len(chosen) == n:
        return np.flatnonzero(chosen).tolist()
    if several:
        return [row for one in chosen for row in rows_of(one, n, named)]
    try:
        number = operator.index(chosen)
    except TypeError:
        number = None
    if number is None or isinstance(chosen, bool | np.bool_):
        message = (
            "stimuli are chosen by a number, a name, a slice, a list of numbers or names, or "
            f"booleans, one for each of the {n}; got {reprlib.repr(chosen)}."
        )
        raise OptionError(message)
    if not -n <= number < n:
        message = f"a stimulus must be one of {n}; got number {number}."
        raise IndexError(message)
    return range(number % n, number % n + 1)
