"""Inference on RDM comparisons: noise ceiling, permuted conditions, resampled subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.rsa.compare import (
    checked_pair,
    checked_stack,
    compare_rdms,
    dense_ranks,
    tau_a,
    unit_vectors,
)
from imgtofmri.rsa.rdm import n_conditions_of, to_square
from imgtofmri.stats import bootstrap_counts
from imgtofmri.stats.permutation import check_count

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
        scaled = np.asarray(rankdata(values, axis=1), dtype=np.float64)
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


def chance_similarity(
    models: ArrayLike, subjects: ArrayLike, method: str = "spearman"
) -> NDArray[np.float64]:
    """Give the mean similarity over all relabellings of a model's conditions, exactly.

    It is 0 for correlations. The cosine of two matrices of positive entries is well above 0
    whatever their conditions, and this is how far.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    subjects : array of shape (n_subjects, n_pairs)
    method : {"spearman", "kendall", "pearson", "cosine"}

    Returns
    -------
    chance : array of shape (n_models, n_subjects), float64

    Raises
    ------
    OptionError, ShapeError, DataError
        As `compare_rdms`.

    Examples
    --------
    >>> chance_similarity([1.0, 1.0, 2.0], [1.0, 1.0, 1.0], "cosine").round(3)
    array([[0.943]])
    """
    x, y = checked_pair(models, subjects, method)
    if method != "cosine":
        return np.zeros((len(x), len(y)))
    # Over all relabellings each entry visits all places alike, so a vector averages to its mean.
    means = [unit_vectors(values, method).mean(axis=1) for values in (x, y)]
    return np.asarray(np.outer(means[0], means[1]) * x.shape[1])


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


def bootstrap_subjects(
    similarity: ArrayLike, n_bootstraps: int = 1000, seed: int | None = 0
) -> NDArray[np.float64]:
    """Resample subjects with replacement and average what each sample's subjects gave.

    Parameters
    ----------
    similarity : array of shape (n_models, n_subjects)
        One number for each model and subject, as `compare_rdms` gives.
    n_bootstraps : int
        How many samples of ``n_subjects`` subjects to draw.
    seed : int or None
        The same seed gives the same samples; None draws fresh ones. All models see the same
        samples, so that differences between models can be taken sample by sample.

    Returns
    -------
    means : array of shape (n_bootstraps, n_models), float64

    Raises
    ------
    ShapeError
        If ``similarity`` does not have two axes with at least 2 subjects.
    OptionError
        If ``n_bootstraps`` is below 1.
    DataError
        If a similarity is NaN.

    Examples
    --------
    >>> bootstrap_subjects([[0.2, 0.2, 0.2]], n_bootstraps=2).round(6).tolist()
    [[0.2], [0.2]]
    """
    values = np.asarray(similarity, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        message = (
            "similarity must have shape (n_models, n_subjects) with at least "
            f"2 subjects; got {values.shape}. One subject cannot be resampled."
        )
        raise ShapeError(message)
    check_count("n_bootstraps", n_bootstraps)
    if np.isnan(values).any():
        model, subject = np.argwhere(np.isnan(values))[0]
        message = (
            f"similarity must not be NaN; model number {model} has NaN for "
            f"subject number {subject}. Leave that subject out."
        )
        raise DataError(message)
    counts = bootstrap_counts(values.shape[1], n_bootstraps, seed)
    return np.asarray(counts @ values.T / values.shape[1])
