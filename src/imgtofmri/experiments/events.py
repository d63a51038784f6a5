"""What is shown when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, init=False, eq=False)
class Events:
    """Stimuli on the time line of a run; events may overlap, their responses add.

    Parameters
    ----------
    onsets_s : array of shape (n_events,)
        Seconds from the start of the first volume.
    durations_s : array of shape (n_events,)
        Seconds, 0 or more. An event of 0 s is an impulse of unit area: it moves the response as
        much as one second of stimulation does, all at once.
    stimuli : array of shape (n_events,), int
        Which stimulus each event shows: a row of the responses.
    amplitudes : array of shape (n_events,), optional
        Factors on the responses; 1 by default.

    Raises
    ------
    ShapeError
        If the arrays differ in length.
    DataError
        If a number is not finite, a duration or a stimulus is negative, or there are no events.

    Examples
    --------
    >>> Events([0.0, 4.0], [2.0, 2.0], [0, 1]).end_s
    6.0
    """

    onsets_s: FloatArray
    durations_s: FloatArray
    stimuli: NDArray[np.int64]
    amplitudes: FloatArray

    def __init__(
        self,
        onsets_s: ArrayLike,
        durations_s: ArrayLike,
        stimuli: ArrayLike,
        amplitudes: ArrayLike | None = None,
    ) -> None:
        onsets = np.array(onsets_s, dtype=np.float64)
        durations = np.array(durations_s, dtype=np.float64)
        indices = np.array(stimuli, dtype=np.int64)
        factors = np.ones(onsets.shape) if amplitudes is None else np.array(amplitudes, np.float64)
        arrays = (onsets, durations, indices, factors)
        if onsets.ndim != 1 or len({array.shape for array in arrays}) != 1:
            shapes = ", ".join(str(array.shape) for array in arrays)
            message = (
                "onsets_s, durations_s, stimuli and amplitudes must have one shape "
                f"(n_events,); got {shapes}. Give one of each for every event."
            )
            raise ShapeError(message)
        finite = all(np.isfinite(array).all() for array in arrays)
        if not (onsets.size and finite and (durations >= 0).all() and (indices >= 0).all()):
            message = (
                "there must be an event, all numbers finite, durations_s and stimuli 0 or "
                f"more; got {onsets.size} events"
                f"{'' if finite else ', some not finite'}"
                f"{', some duration negative' if (durations < 0).any() else ''}"
                f"{', some stimulus negative' if (indices < 0).any() else ''}. Correct the events."
            )
            raise DataError(message)
        for name, array in zip(
            ("onsets_s", "durations_s", "stimuli", "amplitudes"), arrays, strict=True
        ):
            object.__setattr__(self, name, array)

    @property
    def end_s(self) -> float:
        """When the last event ends, in seconds."""
        return float((self.onsets_s + self.durations_s).max())

    @property
    def n_stimuli(self) -> int:
        """How many stimuli there must be responses to."""
        return int(self.stimuli.max()) + 1


def movie_events(onsets_s: ArrayLike, *, end_s: float | None = None) -> Events:
    """Return a movie's frames as events, each lasting until the next.

    Parameters
    ----------
    onsets_s : array of shape (n_frames,)
        When each frame is shown, rising; row k of the responses belongs to frame k.
    end_s : float, optional
        When the movie ends; by default the last frame lasts as long as the one before.

    Returns
    -------
    Events
        One event a frame.

    Raises
    ------
    DataError
        If there are fewer than 2 frames, or times do not rise to ``end_s``.

    Examples
    --------
    >>> movie_events([0.0, 0.5, 1.0]).durations_s.tolist()
    [0.5, 0.5, 0.5]
    """
    onsets = np.asarray(onsets_s, dtype=np.float64)
    if onsets.ndim != 1 or len(onsets) < 2:
        message = (
            "onsets_s must hold 2 frames or more; got an array of shape "
            f"{onsets.shape}. Use a longer movie or a higher rate."
        )
        raise DataError(message)
    end = 2 * onsets[-1] - onsets[-2] if end_s is None else end_s
    durations = np.diff(onsets, append=end)
    if not (np.isfinite(durations).all() and (durations > 0).all()):
        message = (
            "frames must follow each other and end before end_s; got times that do "
            f"not rise up to {end:g} s. Sort the frames and check the movie's end."
        )
        raise DataError(message)
    return Events(onsets, durations, np.arange(len(onsets)))


@dataclass(frozen=True, eq=False)
class Frames:
    """A movie's frames among the stimuli.

    Attributes
    ----------
    first : int
        The row of the responses that belongs to the first of them; the others follow.
    onsets_s : array of shape (n_frames,)
        When each is shown, from the movie's beginning.
    end_s : float
        When the movie ends.
    """

    first: int
    onsets_s: FloatArray
    end_s: float

    def shown(self, onset_s: float, duration_s: float) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return what is on the screen where the movie begins at a time and is shown for a time.

        Returns
        -------
        onsets_s, durations_s : arrays of shape (n_shown,), float64
            Each frame lasts until the next, the last one until the movie or its showing ends.
        rows : array of shape (n_shown,), int
            The row of each frame.
        """
        begun = np.flatnonzero(self.onsets_s < duration_s)
        starts_s = self.onsets_s[begun]
        end_s = min(self.end_s, duration_s)
        ends_s = np.minimum(np.append(self.onsets_s, self.end_s)[begun + 1], end_s)
        return onset_s + starts_s, ends_s - starts_s, self.first + begun


def check_within_run(
    events: Events, run_s: float, *, name: str = "events", lines: Sequence[int] | None = None
) -> None:
    """Refuse events that a run does not hold, even in part.

    Parameters
    ----------
    events : Events
        What is shown.
    run_s : float
        Length of the run, in seconds.
    name : str
        What to call them in the message.
    lines : sequence of int, optional
        Where each event stands in its file, for the message.

    Raises
    ------
    OptionError
        If an event begins when the run is over, or is over when it begins.
    """
    ends_s = events.onsets_s + events.durations_s
    late = np.flatnonzero(events.onsets_s >= run_s)
    early = np.flatnonzero((ends_s <= 0) & (events.onsets_s < 0))
    if late.size or early.size:
        first = int(min([*late, *early]))
        place = "" if lines is None else f" (line {lines[first]})"
        message = (
            f"{name}: every event must lie within the run, 0 to {run_s:g} s; {late.size} begin "
            f"after it and {early.size} end before it, first one at {events.onsets_s[first]:g} s"
            f"{place}. Ask for more volumes or correct the onsets."
        )
        raise OptionError(message)
