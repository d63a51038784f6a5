"""The noise ceiling of measured matrices, and models under permuted conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import ShapeError
from imgtofmri.rsa.compare import (
    checked_pair,
    checked_stack,
    compare_rdms,
    dense_ranks,
    mean_ranks,
    tau_a,
    unit_vectors,
)
from imgtofmri.rsa.rdm import n_conditions_of, to_square

#: Relabelled matrices held at once, in entries; bounds memory, never changes a result.
CHUNK_ENTRIES = 1 << 21


@dataclass(frozen=True)
class RdmCeiling:
    """How well the best possible model could do, given how much the subjects differ.

    Parameters
    ----------
    lower_by_subject : array of shape (n_subjects,)
        Each subject compared with the pooled matrix of the others.
    upper_by_subject : array of shape (n_subjects,)
        Each subject compared with the pooled matrix of all, itself among them.
    """

    lower_by_subject: NDArray[np.float64]
    upper_by_subject: NDArray[np.float64]

    @property
    def lower(self) -> float:
        """Mean over subjects: what the subjects themselves reach; underestimates the ceiling."""
        return float(self.lower_by_subject.mean())

    @property
    def upper(self) -> float:
        """Mean over subjects: what no model can exceed on average; overestimates the ceiling."""
        return float(self.upper_by_subject.mean())


def rdm_ceiling(subjects: ArrayLike, method: str = "spearman") -> RdmCeiling:
    """Bound the similarity that any model can reach with these subjects' matrices.

    Parameters
    ----------
    subjects : array of shape (n_subjects, n_pairs)
        Measured dissimilarities, at least 2 subjects.
    method : {"spearman", "kendall", "pearson", "cosine"}
        The comparison that models are judged by. The pooled matrix is the mean of the ranks
        ("spearman", "kendall"), z-scores ("pearson") or unit vectors ("cosine"): the best possible
        model for all but "kendall", for which it is the usual approximation.

    Returns
    -------
    RdmCeiling

    Raises
    ------
    OptionError, DataError
        As `compare_rdms`.
    ShapeError
        If there are fewer than 2 subjects.

    References
    ----------
    Nili H et al. (2014), doi:10.1371/journal.pcbi.1003553.

    Examples
    --------
    >>> ceiling = rdm_ceiling([[1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [2.0, 1.0, 3.0]])
    >>> round(ceiling.lower, 3), round(ceiling.upper, 3)
    (0.744, 0.833)
    """
    values, _ = checked_pair(subjects, subjects, method)
    n_subjects = values.shape[0]
    if n_subjects < 2:
        message = (
            f"at least 2 subjects are needed; got {n_subjects}. With one subject "
            "there is nothing to compare it with."
        )
        raise ShapeError(message)
    if method in ("spearman", "kendall"):
        scaled = mean_ranks(values)
    else:
        # Unit vectors are z-scores but for a factor that all subjects share.
        scaled = unit_vectors(values, method)
    pooled = scaled.sum(axis=0)
    others = pooled - scaled
    # The mean of ranks may be constant although no subject's matrix is; then it predicts nothing.
    checked_stack(others, method)
    if method == "kendall":
        upper = compare_rdms(pooled, values, method)[0]
        lower = np.array(
            [compare_rdms(others[s], values[s], method)[0, 0] for s in range(n_subjects)]
        )
    else:
        units = unit_vectors(values, method)
        upper = units @ unit_vectors(pooled[None], method)[0]
        lower = np.einsum("sp,sp->s", units, unit_vectors(others, method))
    return RdmCeiling(lower, upper)


def permute_conditions(
    models: ArrayLike, subjects: ArrayLike, permutations: ArrayLike, method: str = "spearman"
) -> NDArray[np.float64]:
    """Give the mean similarity over subjects after relabelling the models' conditions.

    Under the null hypothesis the labels of the measured conditions say nothing about a model's
    geometry: the rows and columns of the model matrix are exchanged together, all subjects and all
    models under the same relabelling (so that the maximum over models can be taken). Subjects are
    not exchanged: the conclusion holds for these subjects and conditions drawn like these.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    subjects : array of shape (n_subjects, n_pairs)
    permutations : array of shape (n_permutations, n_conditions), integers
        Each row an order of the conditions, as `imgtofmri.stats.permutations` draws them. The
        identity gives the observed statistic.
    method : {"spearman", "kendall", "pearson", "cosine"}

    Returns
    -------
    null : array of shape (n_permutations, n_models), float64

    Raises
    ------
    OptionError, DataError
        As `compare_rdms`.
    ShapeError
        If the permutations are not over the conditions of the matrices.

    Examples
    --------
    >>> rdm = [1.0, 2.0, 3.0]
    >>> permute_conditions(rdm, rdm, [[0, 1, 2], [2, 1, 0]]).round(6).tolist()
    [[1.0], [-1.0]]
    """
    x, y = checked_pair(models, subjects, method)
    orders = np.atleast_2d(np.asarray(permutations)).astype(np.intp, copy=False)
    n_conditions = n_conditions_of(x.shape[1])
    identity = np.arange(n_conditions)
    if orders.shape[1:] != (n_conditions,) or not (np.sort(orders, axis=1) == identity).all():
        message = (
            "each row of permutations must order the conditions 0 to "
            f"{n_conditions - 1} of the matrices ({x.shape[1]} pairs); got shape {orders.shape}. "
            "Draw them for that many conditions."
        )
        raise ShapeError(message)
    if method == "kendall":
        return _permuted_taus(x, y, orders)
    rows, columns = np.triu_indices(n_conditions, 1)
    # The mean over subjects of inner products is the inner product with their mean.
    target = unit_vectors(y, method).mean(axis=0)
    sources = to_square(unit_vectors(x, method)).reshape(x.shape[0], -1)
    null = np.empty((orders.shape[0], x.shape[0]))
    step = max(1, CHUNK_ENTRIES // x.shape[1])
    for start in range(0, orders.shape[0], step):
        part = orders[start : start + step]
        flat = part[:, rows] * n_conditions + part[:, columns]
        for model, source in enumerate(sources):
            null[start : start + step, model] = source[flat] @ target
    return null


def _permuted_taus(
    models: NDArray[np.float64], subjects: NDArray[np.float64], orders: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Give mean tau-a over subjects: there is no mean subject, so every one is visited."""
    rows, columns = np.triu_indices(orders.shape[1], 1)
    ranks, measured = dense_ranks(models), dense_ranks(subjects)
    squares = to_square(ranks).astype(ranks.dtype)
    null = [
        sum(tau_a(measured, squares[:, order[rows], order[columns]])) / len(subjects)
        for order in orders
    ]
    return np.array(null)
