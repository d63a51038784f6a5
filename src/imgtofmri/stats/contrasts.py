"""Contrasts as people write them: ``"house > face"``, ``"scene - 0.5*face - 0.5*object"``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import OptionError, choice_message

#: A sign that stands alone, or the start; names may hold hyphens, so the blanks matter.
_TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?)\s*\*\s*)?(.+?)\s*$")
_SPLIT = re.compile(r"\s(?=[+-]\s)")


def parse_contrast(text: str) -> dict[str, float]:
    """Read a contrast into one weight for each condition it names.

    Parameters
    ----------
    text : str
        Conditions with signs between blanks and optional factors, which may be fractions:
        ``"a - b"``, ``"a - 1/2*b - 1/2*c"``. With ``>`` each side is averaged first:
        ``"a > b + c"`` weighs ``b`` and ``c`` by -1/2.

    Returns
    -------
    weights : dict of str to float
        In the order of first appearance.

    Raises
    ------
    OptionError
        If the text is not a contrast or names a condition twice.

    Examples
    --------
    >>> parse_contrast("house > face + tool")
    {'house': 1.0, 'face': -0.5, 'tool': -0.5}
    >>> parse_contrast("scene - 0.5*face - 1/2*object")
    {'scene': 1.0, 'face': -0.5, 'object': -0.5}
    """
    sides = re.split(r"\s*>\s*", text.strip())
    if len(sides) > 2:
        raise _not_a_contrast(text, "more than one '>'")
    weights: dict[str, float] = {}
    for sign, side in zip((1.0, -1.0), sides, strict=False):
        terms = _terms(side, text)
        total = sum(weight for _, weight in terms)
        if len(sides) == 2 and (total <= 0 or any(weight < 0 for _, weight in terms)):
            raise _not_a_contrast(text, "a minus beside '>'")
        for name, weight in terms:
            if name in weights:
                raise _not_a_contrast(text, f"{name!r} twice")
            weights[name] = sign * weight / total if len(sides) == 2 else weight
    return weights


def contrast_weights(
    contrast: str | Mapping[str, float], conditions: Sequence[str]
) -> NDArray[np.float64]:
    """Bring a contrast to one weight for each condition, and refuse what is none.

    Parameters
    ----------
    contrast : str or mapping of str to float
        As `parse_contrast` reads, or the weights themselves. Conditions that are not named weigh 0.
    conditions : sequence of str
        The conditions that there are.

    Returns
    -------
    weights : array of shape (n_conditions,), float64

    Raises
    ------
    OptionError
        If a condition is unknown, no weight differs from 0, a weight is not finite, or the weights
        do not sum to 0.

    Examples
    --------
    >>> contrast_weights("b - a", ["a", "b", "c"]).tolist()
    [-1.0, 1.0, 0.0]
    """
    if not isinstance(contrast, str | Mapping):
        raise _not_a_contrast(contrast, "neither text nor weights by condition")
    named = parse_contrast(contrast) if isinstance(contrast, str) else dict(contrast)
    for name in named:
        if name not in conditions:
            of_what = "a condition of `contrast`"
            raise OptionError(choice_message("", of_what, name, conditions))
    weights = np.array([float(named.get(name, 0.0)) for name in conditions])
    if not np.isfinite(weights).all() or not weights.any():
        message = (
            f"contrast must have finite weights that are not all 0; got {dict(named)}. Name two "
            "conditions or more, as in 'house - face'."
        )
        raise OptionError(message, "contrast")
    if abs(weights.sum()) > 1e-6 * np.abs(weights).sum():
        message = (
            f"contrast must have weights that sum to 0; got {weights.sum():g} from {dict(named)}. "
            "A prediction has no rest condition to be compared with: write a difference, or "
            "'a > b + c' to have each side averaged."
        )
        raise OptionError(message, "contrast")
    return weights


def default_contrast(conditions: Sequence[str]) -> str:
    """Write the first of two conditions minus the second.

    Parameters
    ----------
    conditions : sequence of str
        The conditions that there are.

    Raises
    ------
    OptionError
        If there are not two.
    """
    if len(conditions) != 2:
        message = (
            f"contrast must say which of {len(conditions)} conditions to compare "
            f"({', '.join(conditions)}); got none. Write one such as "
            f"'{conditions[0]} - {conditions[-1]}'."
        )
        raise OptionError(message, "contrast")
    return f"{conditions[0]} - {conditions[1]}"


def written_contrast(contrast: str | Mapping[str, float]) -> str:
    """Write weights as `parse_contrast` reads them; what is written already stays as it is.

    Examples
    --------
    >>> written_contrast({"house": 1, "face": -0.5, "tool": -0.5})
    '1*house - 0.5*face - 0.5*tool'
    """
    if isinstance(contrast, str):
        return contrast
    terms = [
        f"{'-' if value < 0 else '+'} {abs(value):g}*{name}" for name, value in contrast.items()
    ]
    return " ".join(terms).removeprefix("+ ")


def _terms(side: str, text: str) -> list[tuple[str, float]]:
    """Split one side into (name, weight)."""
    terms = []
    for part in _SPLIT.split(side.strip()):
        match = _TERM.match(part)
        if not match or match.group(3) in ("+", "-", "*"):
            raise _not_a_contrast(text, f"{part!r} where a condition should be")
        sign, factor, name = match.groups()
        weight = 1.0
        if factor:
            numerator, _, denominator = factor.partition("/")
            weight = float(numerator) / (float(denominator) or np.inf if denominator else 1.0)
        terms.append((name, -weight if sign == "-" else weight))
    return terms


def _not_a_contrast(text: object, problem: str) -> OptionError:
    """Say what a contrast looks like."""
    message = (
        "contrast must be conditions with signs between blanks, such as 'house - face' or "
        f"'scene > face + object'; got {text!r} with {problem}. Write it like that."
    )
    return OptionError(message, "contrast")
