"""Event boundaries as they are given: volumes, a file of them, or how to find them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.datasets.partly_cloudy import PARTLY_CLOUDY_BOUNDARIES
from imgtofmri.documents import read_text
from imgtofmri.events import (
    check_boundaries,
    choose_n_events,
    fit_events,
    greedy_states,
    optimal_states,
)
from imgtofmri.exceptions import OptionError, check_choice
from imgtofmri.files import is_file

PARTLY_CLOUDY = "partly-cloudy"
"""What the public data set and its boundaries are called."""

METHODS = ("hmm", "gsbs", "optimal")


class Search(NamedTuple):
    """How boundaries are to be found: a method, and a number of events where it is known."""

    method: str
    n_events: int | None


def read_boundaries(given: ArrayLike | str | Path | Search | None) -> ArrayLike | Search | None:
    """Read boundaries as the command line gives them; what is no text is as it is.

    Parameters
    ----------
    given : text, path, sequence of int, or None
        ``"12,26,44"``; a text file of such numbers; ``"partly-cloudy"``; ``"hmm"``, ``"gsbs:14"``.

    Raises
    ------
    OptionError
        If it is none of these.
    """
    if not isinstance(given, str | Path):
        return given
    text = str(given)
    if text == PARTLY_CLOUDY:
        return PARTLY_CLOUDY_BOUNDARIES
    method, _, number = text.partition(":")
    if method in METHODS:
        if number and not (number.isdecimal() and len(number) < 20):
            message = (
                f"boundaries {method}:N need a number of events; got {number!r}. Give for example "
                f"{method}:14."
            )
            raise OptionError(message, "boundaries")
        return Search(method, int(number) if number else None)
    path = Path(text)
    is_list = all(_is_whole(part.strip()) for part in text.split(","))
    if not is_list and not is_file(path):
        message = (
            "boundaries must be volumes separated by commas, a file of them, "
            f"{PARTLY_CLOUDY}, or {', '.join(METHODS)}; got {text!r}, which is none of these. "
            "See that the file is there."
        )
        raise OptionError(message, "boundaries")
    try:
        content = text if is_list else read_text(path, errors="replace")
    except OSError as error:
        message = (
            f"boundaries must be a file that can be read; got {text}: {error.strerror}. Check its "
            "permissions, and that it is a text."
        )
        raise OptionError(message, "boundaries") from error
    parts = content.replace(",", " ").split()
    if not all(map(_is_whole, parts)):
        message = (
            f"{text} must hold volumes, whole numbers separated by commas or lines; got "
            f"{next(part for part in parts if not _is_whole(part))!r}. "
            "Divide times in seconds by the TR and round them."
        )
        raise OptionError(message)
    return [int(part) for part in parts]


def _is_whole(text: str) -> bool:
    """Return whether a text is a whole number, of a volume and not of any length."""
    return text.removeprefix("-").isdecimal() and len(text) < 20


def place_boundaries(
    given: ArrayLike | Search | None, group: NDArray[np.floating]
) -> NDArray[np.intp] | None:
    """Return boundaries that fit a group's time courses, finding them there where asked to.

    Raises
    ------
    DataError
        If they are not volumes of the run, rising, each once.
    """
    if given is None:
        return None
    if isinstance(given, Search):
        return find_boundaries(group, given.method, n_events=given.n_events)
    return check_boundaries(given, len(group))


def find_boundaries(
    data: ArrayLike, method: str = "hmm", *, n_events: int | None = None
) -> NDArray[np.intp]:
    """Find event boundaries in a group's time courses.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels)
        Mean over subjects.
    method : {"hmm", "gsbs", "optimal"}, default "hmm"
        Hidden Markov model with splits and mergers, greedy state boundary search, or the best of
        all placements of events of 3 volumes or more by the greedy search's score.
    n_events : int, optional
        How many events. Default: chosen by t-distance, for "hmm" among 2 to a quarter of the
        volumes (40 at most); "optimal" needs it.

    Returns
    -------
    boundaries : array of int, shape (n_events - 1,)
        Volumes at which events begin.

    Raises
    ------
    OptionError
        If the method is not known or lacks ``n_events``.
    DataError
        If the data are not finite, or fewer than 3 volumes.

    Notes
    -----
    Boundaries found in a measurement are not independent of it: what happens around them in the
    same measurement is to be read with that in mind.
    """
    check_choice("method", method, METHODS)
    if method == "optimal":
        if n_events is None:
            message = (
                "method 'optimal' needs n_events; got none. Give it, as in 'optimal:14', or use "
                "'gsbs', which chooses the number."
            )
            raise OptionError(message)
        return optimal_states(data, n_events, min_length=3)
    if method == "gsbs":
        if n_events is None:
            return greedy_states(data).boundaries
        # Adding one boundary at a time is what reaches every number exactly.
        return greedy_states(data, n_events, statewise=False).steps[-1]
    if n_events is not None:
        return fit_events(data, n_events, split_merge=True).boundaries
    largest = max(2, min(40, len(np.asarray(data)) // 4))
    return choose_n_events(data, range(2, largest + 1), split_merge=True).best.boundaries
