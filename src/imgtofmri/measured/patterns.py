"""Patterns of responses to named images, and how predicted and measured ones are paired."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice, choice_message
from imgtofmri.measured.images import check_same_grid
from imgtofmri.measured.labels import check_counted_alike
from imgtofmri.stats.checks import whole_mask
from imgtofmri.stimuli import IMAGE_SUFFIXES, MOVIE_SUFFIXES
from imgtofmri.text import Brief

if TYPE_CHECKING:
    from imgtofmri.encoder.prediction import Prediction

Missing = Literal["error", "drop"]
# Longer endings before those that they end in.
_SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh", *IMAGE_SUFFIXES, *MOVIE_SUFFIXES)


@dataclass(frozen=True, eq=False, repr=False)
class Patterns(Brief):
    """Responses to named images.

    Attributes
    ----------
    names : tuple of str
        One for each image.
    values : array of shape (n_images, n_voxels)
        Responses, in any unit; voxels in C order of the mask.
    mask : array of shape (X, Y, Z), bool, or None
        Where the voxels lie; None if it is not known.
    affine : array of shape (4, 4) or None
        Voxel indices of the mask's grid to millimetres, RAS+.
    """

    names: tuple[str, ...]
    values: NDArray[np.floating[Any]]
    mask: NDArray[np.bool_] | None = None
    affine: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            object.__setattr__(self, "mask", whole_mask(self.mask, "mask"))
        n_expected = None if self.mask is None else int(np.count_nonzero(self.mask))
        if self.values.ndim != 2 or n_expected not in (None, self.values.shape[1]):
            n_voxels = "n_voxels" if n_expected is None else n_expected
            message = (
                f"values must have shape (n_images, {n_voxels}), a column for each voxel "
                f"of the mask; got {self.values.shape}. Read them with the mask they belong to."
            )
            raise ShapeError(message)
        if len(self.names) != len(self.values):
            message = (
                f"names must hold one name for each of the {len(self.values)} images; "
                f"got {len(self.names)}. Name every image."
            )
            raise ShapeError(message)
        twice = _repeated(self.names)
        if twice is not None:
            message = (
                f"every image needs a name of its own; {twice!r} comes more than once. "
                "Average repeats first, or give them as separate sets of patterns."
            )
            raise DataError(message)

    @property
    def n_images(self) -> int:
        """How many images there are."""
        return len(self.names)

    @property
    def n_voxels(self) -> int:
        """How many voxels there are."""
        return int(self.values.shape[1])

    def at(self, rows: Sequence[int]) -> Patterns:
        """Return the patterns in these rows, in this order."""
        index = np.asarray(rows, dtype=np.intp)
        return replace(
            self, names=tuple(self.names[row] for row in rows), values=self.values[index]
        )

    def of(self, names: Collection[str]) -> Patterns:
        """Return the patterns of these images as far as they are here, in the order they are in."""
        return self.at(sorted(matching_rows([*names], self.names)[1]))

    def within(self, voxels: NDArray[np.bool_]) -> Patterns:
        """Return the patterns in some of the voxels, given as a mask of shape (n_voxels,)."""
        voxels = whole_mask(voxels, "voxels")
        mask = None
        if self.mask is not None:
            mask = np.zeros_like(self.mask)
            mask[self.mask] = voxels
        return replace(self, values=self.values[:, voxels], mask=mask)

    @classmethod
    def from_prediction(cls, prediction: Prediction, subject: str | None = None) -> Patterns:
        """Take the group maps of a prediction, or one subject's, as patterns."""
        values = prediction.group if subject is None else prediction.subject(subject)
        return cls(prediction.names, values, prediction.mask, prediction.affine)


def mean_patterns(patterns: Sequence[Patterns], where: str = "patterns") -> Patterns:
    """Average several sets of patterns of the same images: participants, or repeats.

    Parameters
    ----------
    patterns : sequence of Patterns
        Of the same images (in any order) in the same voxels.
    where : str
        What messages begin with.

    Returns
    -------
    Patterns
        In the order of the first.

    Raises
    ------
    DataError
        If there are none, or an image is missing from one.
    ShapeError
        If their voxels differ.
    """
    if not patterns:
        message = f"{where}: expected one or more sets of patterns to average; got none. Give some."
        raise DataError(message)
    first = patterns[0]
    total = np.zeros(first.values.shape)
    for number, other in enumerate(patterns):
        rows = {name: row for row, name in enumerate(other.names)}
        absent = [name for name in first.names if name not in rows]
        if absent or other.n_images != first.n_images:
            culprit = absent[0] if absent else next(n for n in other.names if n not in first.names)
            message = (
                f"{where}: every set must hold the same images; {culprit!r} is not in all of them "
                f"(set {number} differs from set 0). Leave it out of all."
            )
            raise DataError(message)
        check_same_voxels(where, first, other)
        total += other.values[[rows[name] for name in first.names]]
    return replace(first, values=total / len(patterns))


def pair(
    predicted: Patterns,
    measured: Patterns,
    leave_out: Collection[str] = (),
    unmatched: Missing = "error",
) -> tuple[Patterns, Patterns]:
    """Bring predicted and measured patterns to the same images in the same order, by name.

    Names are compared whole first. If they do not all agree, endings such as .jpg and .nii.gz are
    ignored, and then folders, as long as the names stay different without them.

    Parameters
    ----------
    predicted, measured : Patterns
        In the same voxels.
    leave_out : collection of str
        Names of images to leave out, with or without their endings. Each must exist.
    unmatched : {"error", "drop"}
        What to do with an image that only one side has.

    Returns
    -------
    predicted, measured : Patterns
        Of the same images, in the order of ``predicted``.

    Raises
    ------
    DataError
        If an image has no partner, none is left, an image to leave out does not exist, or one side
        numbers the images from 0 and the other from 1.
    ShapeError
        If the voxels differ.
    """
    check_same_voxels("predicted and measured patterns", predicted, measured)
    rows, other_rows = pair_names(predicted.names, measured.names, leave_out, unmatched)
    return predicted.at(rows), measured.at(other_rows)


def pair_names(
    predicted: Sequence[str],
    measured: Sequence[str],
    leave_out: Collection[str] = (),
    unmatched: Missing = "error",
) -> tuple[list[int], list[int]]:
    """Find the rows of the same images in two lists of names, as `pair` does.

    Returns
    -------
    rows, other_rows : list of int
        Rows of ``predicted``, in order, and of ``measured``.

    Raises
    ------
    DataError, OptionError
        As `pair`.

    Warns
    -----
    UserWarning
        If images without a partner are dropped: how many.
    """
    check_choice("unmatched", unmatched, get_args(Missing))
    left_keys, right_keys = _common_form(predicted, measured)
    check_counted_alike(*([*map(_without_folders, keys)] for keys in (left_keys, right_keys)))
    left_out = _find_left_out(leave_out, [*left_keys, *right_keys])
    left = {key: row for row, key in enumerate(left_keys) if key not in left_out}
    right = {key: row for row, key in enumerate(right_keys) if key not in left_out}
    common = [key for key in left if key in right]
    if unmatched == "error" and not len(common) == len(left) == len(right):
        lone_left = [predicted[row] for key, row in left.items() if key not in right]
        lone_right = [measured[row] for key, row in right.items() if key not in left]
        said = [
            f"{len(lone)} only {side} ({', '.join(lone[:3])}{', ...' if len(lone) > 3 else ''})"
            for side, lone in (("predicted", lone_left), ("measured", lone_right))
            if lone
        ]
        message = (
            f"every image must be predicted and measured, under the same name; got "
            f"{' and '.join(said)}. Rename them, leave them out by name, or drop what has no "
            "partner: set `unmatched` to drop."
        )
        raise DataError(message)
    if not common:
        message = (
            f"no image is left to compare, of {len(predicted)} predicted and "
            f"{len(measured)} measured. Look whether the names agree: the first are "
            f"{predicted[0] if predicted else '(none)'!r} and "
            f"{measured[0] if measured else '(none)'!r}."
        )
        raise DataError(message)
    lost = len(left) - len(common), len(right) - len(common)
    if any(lost):
        message = (
            f"{lost[0]} of {len(left)} images are only predicted and {lost[1]} of {len(right)} "
            "only measured: they are left out."
        )
        warnings.warn(message, stacklevel=2)
    return [left[key] for key in common], [right[key] for key in common]


def matching_rows(predicted: Sequence[str], measured: Sequence[str]) -> tuple[list[int], list[int]]:
    """Find the rows of the names that two lists share, in `pair_names`'s sense; none may be."""
    left_keys, right_keys = _common_form(predicted, measured)
    right = {key: row for row, key in enumerate(right_keys)}
    rows = [row for row, key in enumerate(left_keys) if key in right]
    return rows, [right[left_keys[row]] for row in rows]


def _common_form(predicted: Sequence[str], measured: Sequence[str]) -> tuple[list[str], list[str]]:
    """Bring two lists of names to the form in which most agree, the fullest such form."""
    best = [*predicted], [*measured]
    for form in (bare_name, _without_folders):
        forms = [form(name) for name in predicted], [form(name) for name in measured]
        distinct = _repeated(forms[0]) is None and _repeated(forms[1]) is None
        if distinct and len({*forms[0]} & {*forms[1]}) > len({*best[0]} & {*best[1]}):
            best = forms
    return best


def _without_folders(name: str) -> str:
    return bare_name(name.replace("\\", "/").rsplit("/", 1)[-1])


def _find_left_out(leave_out: Collection[str], keys: Sequence[str]) -> set[str]:
    if not leave_out:
        return set()
    whole = set(keys)
    known: dict[str, list[str]] = {}
    for key in sorted(whole):
        known.setdefault(bare_name(key), []).append(key)
    found = set()
    for name in [leave_out] if isinstance(leave_out, str) else leave_out:
        meant = [name] if name in whole else known.get(bare_name(name), [])
        if len(meant) > 1:
            message = (
                f"leave_out must name one image each time; {name!r} may be {' or '.join(meant)}. "
                "Write its ending, too; to leave out all of them, name each."
            )
            raise OptionError(message, "leave_out")
        if meant:
            found.add(meant[0])
        else:
            message = choice_message("", "leave_out", name, dict.fromkeys(keys))
            raise OptionError(message, "leave_out")
    return found


def usable_voxels(sets: Mapping[str, Patterns], missing: Missing = "error") -> NDArray[np.bool_]:
    """Find the voxels that have data in every set: finite, and not constant at 0 over images.

    Responses are written as NaN or 0 where a scan did not reach, and the scans of several people
    reach differently far.

    Parameters
    ----------
    sets : mapping of str to Patterns
        By what each is called in messages.
    missing : {"error", "drop"}
        Whether a voxel without data is refused or dropped.

    Returns
    -------
    usable : array of shape (n_voxels,), bool

    Raises
    ------
    DataError
        If a voxel has no data and ``missing`` is "error", none has, or an image is 0 in all voxels.
    """
    check_choice("missing", missing, get_args(Missing))
    usable: NDArray[np.bool_] | None = None
    for name, patterns in sets.items():
        _check_images(name, patterns)
        finite = np.isfinite(patterns.values).all(axis=0)
        with_data = finite & (patterns.values != 0).any(axis=0)
        if missing == "error" and not with_data.all():
            lost = int(np.count_nonzero(~with_data))
            image = ""
            if not finite.all():
                rows = np.flatnonzero(~np.isfinite(patterns.values).all(axis=1))
                image = f"; the first image with NaN or infinity is {patterns.names[rows[0]]!r}"
            message = (
                f"every voxel of the mask must have data in {name}; {lost} of "
                f"{patterns.n_voxels} do not{image}. Use a smaller mask, or drop such voxels from "
                "all sets: set `missing` to drop."
            )
            raise DataError(message)
        usable = with_data if usable is None else usable & with_data
    if usable is None or not usable.any():
        message = (
            f"no voxel has data in all of {', '.join(sets) or 'no sets'}. "
            "Look whether they lie on the same grid and the mask covers the brain."
        )
        raise DataError(message)
    return usable


def _check_images(name: str, patterns: Patterns) -> None:
    """Refuse images that are 0 everywhere, as of trials that could not be estimated."""
    empty = ~(patterns.values != 0).any(axis=1)
    if empty.any() and not empty.all():
        message = (
            f"every image must have data in {name}; {int(empty.sum())} of {len(empty)} are 0 in "
            f"all voxels, the first is {patterns.names[int(np.flatnonzero(empty)[0])]!r}. Leave "
            "them out: name them with `leave_out`."
        )
        raise DataError(message)


def check_same_voxels(where: str, first: Patterns, second: Patterns) -> None:
    """Refuse two sets of patterns that are not of the same voxels."""
    if first.n_voxels != second.n_voxels:
        message = (
            f"{where}: both sets must have the same voxels; got {first.n_voxels} and "
            f"{second.n_voxels}. Read both with the same mask."
        )
        raise ShapeError(message)
    if first.mask is None or second.mask is None:
        return
    check_same_grid(where, first.mask.shape, first.affine, second.mask.shape, second.affine)
    if not np.array_equal(first.mask, second.mask):
        message = (
            f"{where}: both sets must have the same voxels; their masks have as many but differ. "
            "Read both with the same mask."
        )
        raise ShapeError(message)


def bare_name(name: str) -> str:
    """Remove endings that say how a file is stored: ``a.jpg.nii.gz`` and ``a.jpg`` become ``a``.

    Letters with accents become one sign each, which macOS parts from their accents.

    Examples
    --------
    >>> bare_name("house_01.jpg.nii.gz"), bare_name("v1.5")
    ('house_01', 'v1.5')
    """
    name, shortened = unicodedata.normalize("NFC", name), True
    while shortened:
        shortened = False
        for suffix in _SUFFIXES:
            if name.lower().endswith(suffix) and len(name) > len(suffix):
                name, shortened = name[: -len(suffix)], True
    return name


def _repeated(names: Sequence[str]) -> str | None:
    """Return the first name that comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
