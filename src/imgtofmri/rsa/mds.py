"""Multidimensional scaling: conditions as points whose distances follow the dissimilarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.rsa.rdm import to_square


def embed_rdm(
    dissimilarities: ArrayLike, n_dimensions: int = 2, max_iterations: int = 300
) -> tuple[NDArray[np.float64], float]:
    """Place conditions in a plane so that distances follow the dissimilarities.

    Classical scaling gives a start that depends on no seed; majorisation (SMACOF) then lowers the
    metric stress until it no longer falls. Axes have no meaning of their own: they are turned so
    that the first carries most of the spread.

    Parameters
    ----------
    dissimilarities : array of shape (n_pairs,)
        One upper triangle. Negative entries, which cross-validated distances may have, count as 0.
    n_dimensions : int
        2 for a plane.
    max_iterations : int
        Steps of majorisation at most.

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
    values = np.asarray(dissimilarities, dtype=np.float64)
    if values.ndim != 1:
        message = (
            "embed_rdm: dissimilarities must be one upper triangle, shape (n_pairs,); got "
            f"{values.shape}. Embed one matrix at a time."
        )
        raise ShapeError(message)
    if not np.isfinite(values).all() or values.max(initial=0.0) <= 0:
        message = (
            "embed_rdm: dissimilarities must be finite and some above 0; got "
            f"{np.count_nonzero(~np.isfinite(values))} that are not finite, the largest "
            f"{values.max(initial=0.0):g}. Leave such conditions out."
        )
        raise DataError(message)
    target = to_square(np.maximum(values, 0.0))
    n_conditions = target.shape[0]
    if not 1 <= n_dimensions < n_conditions:
        message = (
            f"embed_rdm: n_dimensions must be between 1 and {n_conditions - 1} for "
            f"{n_conditions} conditions; got {n_dimensions}. Use 2 for a plane."
        )
        raise OptionError(message)
    points = _classical_scaling(target, n_dimensions)
    stress = _stress(points, target)
    for _ in range(max_iterations):
        distances = _distances(points)
        ratio = np.divide(target, distances, out=np.zeros_like(target), where=distances > 0)
        points = (ratio.sum(axis=1)[:, None] * points - ratio @ points) / n_conditions
        previous, stress = stress, _stress(points, target)
        if previous - stress <= 1e-9:
            break
    centred = points - points.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    points = left * scale
    # A sign that does not depend on the linear algebra library.
    largest = points[np.abs(points).argmax(axis=0), np.arange(n_dimensions)]
    return points * np.where(largest < 0, -1.0, 1.0), stress


def _classical_scaling(target: NDArray[np.float64], n_dimensions: int) -> NDArray[np.float64]:
    """Return Torgerson's solution: the leading axes of the doubly centred squared distances."""
    squared = target**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-0.5 * centred)
    leading = slice(-1, -n_dimensions - 1, -1)
    return np.asarray(vectors[:, leading] * np.sqrt(np.maximum(values[leading], 0.0)))


def _distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all distances between points, shape (n, n)."""
    differences = points[:, None] - points[None]
    return np.asarray(np.sqrt(np.einsum("ijk,ijk->ij", differences, differences)))


def _stress(points: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return Kruskal's stress-1."""
    return float(np.sqrt(((_distances(points) - target) ** 2).sum() / (target**2).sum()))
