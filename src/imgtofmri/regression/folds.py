"""Cross-validation folds that keep every repeat of a stimulus on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, OptionError, ShapeError

Labels = Sequence[Any] | npt.NDArray[Any]


def grouped_folds(
    groups: Labels, n_folds: int = 5, seed: int | None = None
) -> npt.NDArray[np.intp]:
    """Assign each row to a fold, whole groups at a time.

    Without a seed the folds are consecutive runs of groups in their order of first appearance,
    their sizes as equal as they can be; with one row per group that is scikit-learn's
    ``KFold(n_folds)``.

    Parameters
    ----------
    groups : sequence of length n_rows
        What must not be split, e.g. the stimulus shown in each row.
    n_folds : int
        How many folds, at least 2.
    seed : int, optional
        Shuffles the groups before they are dealt out.

    Returns
    -------
    array of shape (n_rows,), int
        The fold of each row, 0 to ``n_folds - 1``.

    Raises
    ------
    OptionError
        If there are fewer than 2 folds.
    DataError
        If there are fewer groups than folds.

    Examples
    --------
    >>> grouped_folds(["cat", "dog", "cat", "cup", "car"], n_folds=2)
    array([0, 0, 0, 1, 1])
    """
    if n_folds < 2:
        message = f"n_folds must be at least 2; got {n_folds}. Use 5, for example."
        raise OptionError(message)
    code, n_groups = group_codes(groups)
    if n_groups < n_folds:
        message = (
            f"{n_folds} folds need at least {n_folds} different stimuli; "
            f"got {n_groups}. Use fewer folds or more stimuli."
        )
        raise DataError(message)
    rank = np.arange(n_groups)
    if seed is not None:
        rank = np.random.default_rng(seed).permutation(n_groups)
    sizes = np.full(n_folds, n_groups // n_folds)
    sizes[: n_groups % n_folds] += 1
    return np.repeat(np.arange(n_folds), sizes)[rank][code]


def check_folds(folds: npt.ArrayLike, groups: Labels) -> npt.NDArray[np.intp]:
    """Check that given folds split no group, and number them from 0.

    Parameters
    ----------
    folds : array-like of shape (n_rows,)
        The fold of each row: numbers or words.
    groups : sequence of length n_rows
        The stimulus of each row.

    Returns
    -------
    array of shape (n_rows,), int
        The folds, numbered in sorted order.

    Raises
    ------
    ShapeError
        If the two differ in length.
    DataError
        If a group lies in several folds, or there is one fold only.
    """
    labels = np.asarray(folds)
    if labels.shape != (len(groups),):
        message = (
            f"folds must name one fold for each of the {len(groups)} rows; "
            f"got shape {labels.shape}. Give one value per row of the stimuli table."
        )
        raise ShapeError(message)
    names, number = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        message = f"at least 2 folds are needed; got 1 ({str(names[0])!r}). Name more."
        raise DataError(message)
    code, n_groups = group_codes(groups)
    first = np.full(n_groups, -1)
    first[code[::-1]] = number[::-1]
    astray = np.flatnonzero(number != first[code])
    if astray.size:
        row = int(astray[0])
        others = len(np.unique(code[astray])) - 1
        more = f" (and {others} more)" if others else ""
        message = (
            f"every repeat of a stimulus must lie in one fold; {groups[row]!r}{more} "
            f"lies in {str(names[first[code[row]]])!r} and {str(names[number[row]])!r}. "
            "Put its rows into one fold, or leave folds out and they are made from the stimuli."
        )
        raise DataError(message)
    return number.reshape(-1)


def merge_duplicates(features: npt.NDArray[Any], groups: Labels) -> npt.NDArray[np.intp]:
    """Group rows that show the same stimulus, whether by name or by identical features.

    The same picture under two names has the same features to the last bit; left apart it could lie
    on both sides of a split and flatter the accuracy.

    Parameters
    ----------
    features : array of shape (n_rows, n_features)
        Features of each row's stimulus.
    groups : sequence of length n_rows
        The name of each row's stimulus.

    Returns
    -------
    array of shape (n_rows,), int
        Group numbers, in order of first appearance.

    Examples
    --------
    >>> import numpy as np
    >>> merge_duplicates(np.array([[1.0], [2.0], [1.0]]), ["a.jpg", "b.jpg", "copy-of-a.jpg"])
    array([0, 1, 0])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    by_name, n_names = group_codes(groups)
    rows = np.ascontiguousarray(features)
    width = rows.dtype.itemsize * rows.shape[1]
    seen: dict[bytes, int] = {}
    by_value = np.array(
        [
            seen.setdefault(row.tobytes(), len(seen))
            for row in rows.view(np.uint8).reshape(-1, width)
        ]
    )
    size = n_names + len(seen)
    link = coo_array((np.ones(len(rows)), (by_name, n_names + by_value)), shape=(size, size))
    _, component = connected_components(link, directed=False)
    return group_codes(component[by_name])[0]


def group_codes(groups: Labels) -> tuple[npt.NDArray[np.intp], int]:
    """Return each row's group, numbered by first appearance, and how many groups there are."""
    seen: dict[Any, int] = {}
    code = np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.intp)
    return code, len(seen)
