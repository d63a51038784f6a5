"""Multidimensional scaling: conditions as points whose distances follow the dissimilarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.rsa.rdm import to_square


def embed_rdm(
    dissimilarities: ArrayLike, n_dimensions: int = 2
) -> tuple[NDArray[np.float64], float]:
    """Place conditions in a plane so that distances follow the dissimilarities.

    Classical scaling gives a start that depends on no seed; scikit-learn's majorisation (SMACOF)
    then lowers the metric stress until it no longer falls. Axes have no meaning of their own.

    Parameters
    ----------
    dissimilarities : array of shape (n_pairs,)
        One upper triangle. Negative entries, which cross-validated distances may have, count as 0.
    n_dimensions : int
        2 for a plane.

    Returns
    -------
    points : array of shape (n_conditions, n_dimensions), float64
        Centred on the origin.
    stress : float
        Kruskal's stress-1: root of the summed squared misfit over the summed squared distances.
        0 is a perfect picture; above 0.2 the picture should be read with care.

    Raises
    ------
    ShapeError
        If this is not one upper triangle.
    OptionError
        If ``n_dimensions`` is below 1 or not below the number of conditions.
    DataError
        If an entry is NaN, or none is above 0.

    References
    ----------
    Borg I, Groenen PJF (2005), doi:10.1007/0-387-28981-X.

    Examples
    --------
    >>> points, stress = embed_rdm([3.0, 5.0, 4.0])
    >>> points.shape, round(stress, 6)
    ((3, 2), 0.0)
    """
    from scipy.spatial.distance import pdist
    from sklearn.manifold import smacof

    values = np.asarray(dissimilarities, dtype=np.float64)
    if values.ndim != 1:
        message = (
            "dissimilarities must be one upper triangle, shape (n_pairs,); got "
            f"{values.shape}. Embed one matrix at a time."
        )
        raise ShapeError(message)
    if not np.isfinite(values).all() or values.max(initial=0.0) <= 0:
        message = (
            "dissimilarities must be finite and some above 0; got "
            f"{np.count_nonzero(~np.isfinite(values))} that are not finite, the largest "
            f"{values.max(initial=0.0):g}. Leave such conditions out."
        )
        raise DataError(message)
    wanted = np.maximum(values, 0.0)
    target = to_square(wanted)
    n_conditions = len(target)
    if not 1 <= n_dimensions < n_conditions:
        message = (
            f"n_dimensions must be between 1 and {n_conditions - 1} for "
            f"{n_conditions} conditions; got {n_dimensions}. Use 2 for a plane."
        )
        raise OptionError(message)
    start = _classical_scaling(target, n_dimensions)
    points, _ = smacof(target, init=start, n_init=1, max_iter=300, eps=1e-9)
    misfit = np.sum((pdist(points) - wanted) ** 2) / np.sum(wanted**2)
    # A sign that does not depend on the linear algebra library.
    largest = points[np.abs(points).argmax(axis=0), np.arange(n_dimensions)]
    return np.asarray(points * np.where(largest < 0, -1.0, 1.0)), float(np.sqrt(misfit))


def _classical_scaling(target: NDArray[np.float64], n_dimensions: int) -> NDArray[np.float64]:
    """Return Torgerson's solution: the leading axes of the doubly centred squared distances."""
    squared = target**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-0.5 * centred)
    leading = slice(-1, -n_dimensions - 1, -1)
    return np.asarray(vectors[:, leading] * np.sqrt(np.maximum(values[leading], 0.0)))
