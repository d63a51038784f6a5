"""Where a run's responses come from: an array, or an encoder and its features.

A run is a design ``(n_volumes, n_stimuli)`` times responses ``(n_stimuli, n_voxels)``. An encoder
is affine in its features, so the design can be applied to them instead, which are a few
kilobytes a stimulus: the responses to every frame of a long movie never need to exist at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.experiments.noise import stream

if TYPE_CHECKING:
    import scipy.sparse

FloatArray: TypeAlias = NDArray[np.floating[Any]]
Maps: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# Runs have keys of three numbers and single runs of one, so that no noise shares this stream.
_SUBJECTS_KEY = (0, 0)


class Responses(Protocol):
    """The responses of one subject."""

    @property
    def n_stimuli(self) -> int:
        """How many stimuli there are responses to."""
        ...

    @property
    def n_voxels(self) -> int:
        """How many voxels respond."""
        ...

    def signal(self, design: scipy.sparse.csr_array) -> FloatArray:
        """Return a design times the responses.

        Parameters
        ----------
        design : sparse array of shape (n_volumes, n_stimuli)

        Returns
        -------
        array of shape (n_volumes, n_voxels)
        """
        ...


@dataclass(frozen=True, eq=False)
class ArrayResponses:
    """Responses that are at hand.

    Attributes
    ----------
    values : array of shape (n_stimuli, n_voxels)
    """

    values: FloatArray

    @property
    def n_stimuli(self) -> int:
        """How many stimuli there are responses to."""
        return len(self.values)

    @property
    def n_voxels(self) -> int:
        """How many voxels respond."""
        return int(self.values.shape[1])

    def signal(self, design: scipy.sparse.csr_array) -> FloatArray:
        """Return a design times the responses, shape (n_volumes, n_voxels)."""
        product: FloatArray = design @ self.values
        return product


@dataclass(frozen=True, eq=False)
class EncodedResponses:
    """Responses of a weighted sum of an encoder's subjects, predicted as they are needed.

    Attributes
    ----------
    features : array of shape (n_stimuli, n_features), float32
        Of the encoder's own network.
    maps : sequence of callable
        One for each of the encoder's subjects: features ``(n, n_features)`` to responses
        ``(n, n_voxels)``, an affine function.
    weights : array of shape (n_given_subjects,)
        How much each of them counts.
    n_voxels : int
    """

    features: NDArray[np.float32]
    maps: Sequence[Maps]
    weights: NDArray[np.float64]
    n_voxels: int

    @property
    def n_stimuli(self) -> int:
        """How many stimuli there are responses to."""
        return len(self.features)

    def signal(self, design: scipy.sparse.csr_array) -> FloatArray:
        """Return a design times the responses, shape (n_volumes, n_voxels)."""
        mixed = (design @ self.features).astype(np.float32)
        # The last row, features of 0, tells the constant, which counts as often as stimuli do.
        rows = np.concatenate([mixed, np.zeros((1, mixed.shape[1]), dtype=np.float32)])
        surplus = np.asarray(design.sum(axis=1)).reshape(-1, 1) - 1.0
        signal = np.zeros((len(mixed), self.n_voxels), dtype=np.float32)
        for weight, maps in zip(self.weights, self.maps, strict=True):
            if weight != 0.0:
                predicted = maps(rows)
                constant = surplus.astype(np.float32) * predicted[-1]
                signal += np.float32(weight) * (predicted[:-1] + constant)
        return signal


def subject_weights(
    names: Sequence[str], subjects: str | int = "each", *, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Say which subjects to simulate, as weighted sums of an encoder's subjects.

    Parameters
    ----------
    names : sequence of str
        The encoder's subjects.
    subjects : "each", "group" or int
        "each" simulates the encoder's own subjects. "group" simulates one subject that responds as
        their mean. A number draws that many new ones that differ as the encoder's do: each is a
        draw from the normal distribution that has the mean and the covariance of the encoder's
        subjects, over all stimuli and voxels together.
    seed : int
        Seed of the draw; a subject does not depend on how many are drawn.

    Returns
    -------
    weights : dict of str to array of shape (n_given_subjects,)
        The name of each subject, and how much each of the encoder's counts.

    Raises
    ------
    OptionError
        If ``subjects`` is none of these.
    DataError
        If subjects are to be drawn and fewer than 2 are given.

    Notes
    -----
    Drawn subjects are the mean plus each given subject's deviation from it times a random weight;
    they vary in ``n_given - 1`` directions only, and no number of draws adds another.

    Examples
    --------
    >>> subject_weights(["a", "b"], "group")
    {'group': array([0.5, 0.5])}
    """
    check_subjects(subjects)
    n_given = len(names)
    if subjects == "each":
        return dict(zip(names, np.eye(n_given), strict=True))
    if subjects == "group":
        return {"group": np.full(n_given, 1.0 / n_given)}
    n_drawn = int(subjects)
    if n_given < 2:
        message = (
            f"drawing subjects takes an encoder with 2 or more; got {n_given}. "
            "Simulate 'each' subject or the 'group'."
        )
        raise DataError(message)
    draws = stream(seed, *_SUBJECTS_KEY).standard_normal((n_drawn, n_given))
    deviations = draws - draws.mean(axis=1, keepdims=True)
    weights = 1.0 / n_given + deviations / math.sqrt(n_given - 1)
    width = len(str(n_drawn))
    return {f"sim{number + 1:0{width}d}": row for number, row in enumerate(weights)}


def check_subjects(subjects: str | int) -> None:
    """Refuse what `subject_weights` does not take.

    Raises
    ------
    OptionError
        If ``subjects`` is neither "each", "group" nor a number, 1 or more.
    """
    if subjects in ("each", "group"):
        return
    if not isinstance(subjects, int) or subjects < 1:
        message = (
            "subjects must be 'each', 'group' or a number, 1 or more; "
            f"got {subjects!r}. Give a number to draw new subjects."
        )
        raise OptionError(message, "subjects")


def combine(
    subjects: ArrayLike, weights: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float32]]:
    """Apply weights of `subject_weights` to responses that are at hand.

    Parameters
    ----------
    subjects : array of shape (n_given_subjects, n_stimuli, n_voxels)
        As ``Prediction.subjects``.
    weights : mapping of str to array of shape (n_given_subjects,)

    Returns
    -------
    dict of str to array of shape (n_stimuli, n_voxels), float32

    Examples
    --------
    >>> maps = np.arange(4.0).reshape(2, 1, 2)
    >>> combine(maps, subject_weights(["a", "b"], "group"))["group"].tolist()
    [[1.0, 2.0]]
    """
    given = np.asarray(subjects)
    # Not a product of matrices, whose last bits would depend on how many stimuli there are.
    return {
        name: np.asarray(sum(map(np.multiply, row, given)), np.float32)
        for name, row in weights.items()
    }


def check_responses(responses: ArrayLike | Responses, n_shown: int) -> Responses:
    """Return responses in a form that has ``signal``, or say what is wrong with them.

    Parameters
    ----------
    responses : array of shape (n_stimuli, n_voxels), or Responses
    n_shown : int
        How many stimuli the events need.

    Raises
    ------
    ShapeError
        If they are not 2-D, or lack a stimulus that is shown.
    DataError
        If one is not finite.
    """
    if isinstance(responses, EncodedResponses | ArrayResponses):
        values: FloatArray | None = None
        shape: tuple[int, ...] = (responses.n_stimuli, responses.n_voxels)
        checked: Responses = responses
    else:
        array = np.asarray(responses)
        values = array if array.dtype == np.float32 else array.astype(np.float64)
        shape, checked = values.shape, ArrayResponses(values)
    if len(shape) != 2 or shape[0] < n_shown:
        message = (
            "responses must have shape (n_stimuli, n_voxels) with a row for each of the "
            f"{n_shown} stimuli that the events show; got {shape}. Predict every stimulus."
        )
        raise ShapeError(message)
    if values is not None:
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            shown = ", ".join(map(str, bad[:5]))
            message = (
                f"responses must be finite; got NaN or infinity in {bad.size} stimuli, "
                f"rows {shown}{' ...' if bad.size > 5 else ''}. Leave out those stimuli or voxels."
            )
            raise DataError(message)
    return checked
