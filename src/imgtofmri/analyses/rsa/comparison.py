"""Model matrices compared with those of measured subjects, with inference.

How alike they are is set beside what the subjects' own agreement allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.rsa import (
    RdmCeiling,
    RDMs,
    bootstrap_subjects,
    chance_similarity,
    compare_rdms,
    permute_conditions,
    rdm_ceiling,
)
from imgtofmri.stats import PermutationTest, fdr, permutation_p, permutations, sign_flips

if TYPE_CHECKING:
    import pandas as pd


_PAIR_COLUMNS = ["model_a", "model_b", "difference", "ci_low", "ci_high", "p"]


@dataclass(frozen=True)
class ModelComparison:
    """Model matrices compared with those of measured subjects.

    Parameters
    ----------
    similarity : array of shape (n_models, n_subjects)
    models, subjects : tuple of str
    ceiling : RdmCeiling or None
        None with a single subject.
    table : pandas.DataFrame
        One row for each model: model, method, n_conditions, n_subjects, mean (over subjects),
        null_mean, null_sd, p, p_fdr, p_max (conditions permuted, greater than 0), sem, ci_low,
        ci_high (subject bootstrap),
        p_subjects, p_subjects_fdr (signs of subjects flipped, greater than chance), ceiling_lower,
        ceiling_upper, p_ceiling (signs flipped, below the lower bound).
    pairs : pandas.DataFrame
        One row for each pair of models: model_a, model_b, difference, ci_low, ci_high, p, p_fdr
        (signs of subjects flipped, two-sided).
    method : str
    n_permutations, n_bootstraps : int
    seed : int or None
    confidence : float
        Of the intervals.
    """

    similarity: NDArray[np.float64]
    models: tuple[str, ...]
    subjects: tuple[str, ...]
    ceiling: RdmCeiling | None
    table: pd.DataFrame
    pairs: pd.DataFrame
    method: str
    n_permutations: int
    n_bootstraps: int
    seed: int | None
    confidence: float


def compare_models(
    models: RDMs,
    measured: RDMs,
    method: str = "spearman",
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int | None = 0,
) -> ModelComparison:
    """Compare models with measured subjects and test what can be tested.

    Three questions have three tests. *Does the model explain these subjects' geometry, over images
    like these?* ``p``: the model's conditions are relabelled, rows and columns together, the same
    for all models and subjects. *Would it explain other people's?* ``p_subjects``: under the null
    a subject's similarity is symmetric about chance (0 but for "cosine"), and the sign of its
    difference from chance is flipped. *Does it fall short of
    what the subjects allow?* ``p_ceiling``: the sign of each subject's difference between the
    leave-one-out ceiling and the model is flipped. Intervals resample subjects with replacement;
    with few subjects they are too narrow, and the tests are the better guide.

    Parameters
    ----------
    models, measured : RDMs
        Over the same conditions in the same order; see `match_conditions`.
    method : {"spearman", "kendall", "pearson", "cosine"}
    n_permutations : int
        Relabellings, and sign flips.
    n_bootstraps : int
        Resamplings of subjects.
    confidence : float
        Of the intervals.
    seed : int or None
        The same seed gives the same answer, whatever the thread count.

    Returns
    -------
    ModelComparison
        What needs several subjects is NaN with one.

    Raises
    ------
    DataError
        If the conditions differ, or a matrix is constant.
    OptionError
        If the method is unknown or a number out of range.
    ShapeError
        If there are fewer than 3 conditions.

    References
    ----------
    Nili H et al. (2014), doi:10.1371/journal.pcbi.1003553.
    """
    if models.conditions != measured.conditions:
        message = (
            "models and measured must be over the same conditions in the same order; got "
            f"{len(models.conditions)} and {len(measured.conditions)}, or another order. Pass both "
            "through match_conditions."
        )
        raise DataError(message)
    if not 0 < confidence < 1:
        message = f"confidence must lie between 0 and 1; got {confidence}. Use 0.95."
        raise OptionError(message, "confidence")
    similarity = compare_rdms(
        models.dissimilarities, measured.dissimilarities, method, models.names, measured.names
    )
    null = np.concatenate(
        [
            permute_conditions(models.dissimilarities, measured.dissimilarities, orders, method)
            for orders in permutations(len(models.conditions), n_permutations, seed)
        ]
    )
    several = len(measured.names) > 1
    ceiling = rdm_ceiling(measured.dissimilarities, method) if several else None
    subjects = _SubjectTests(similarity, n_permutations, n_bootstraps, confidence, seed)
    test = PermutationTest(similarity.mean(axis=1), null, standardise=False)
    chance = chance_similarity(models.dissimilarities, measured.dissimilarities, method)
    table = _table(models, similarity, method, test, chance, ceiling, subjects)
    return ModelComparison(
        similarity=similarity,
        models=models.names,
        subjects=measured.names,
        ceiling=ceiling,
        table=table,
        pairs=_pairs(models.names, subjects),
        method=method,
        n_permutations=n_permutations,
        n_bootstraps=n_bootstraps,
        seed=seed,
        confidence=confidence,
    )


def control_pairs(result: ModelComparison, control: ModelComparison) -> pd.DataFrame:
    """Compare each model with its control, subject by subject.

    Parameters
    ----------
    result : ModelComparison
        Of the models.
    control : ModelComparison
        Of the controls with the same measured subjects: one of each model's name, or a single one
        that all models are compared with.

    Returns
    -------
    pandas.DataFrame
        One row for each model, with the columns of ``result.pairs``: the difference is the model's
        mean similarity minus its control's; p flips the signs of subjects' differences, two-sided,
        and ``p_fdr`` is adjusted over these rows. What needs several subjects is NaN with one.

    Raises
    ------
    DataError
        If the subjects differ, or a model has no control.
    """
    import pandas as pd

    single = len(control.models) == 1
    absent = [] if single else [name for name in result.models if name not in control.models]
    if result.subjects != control.subjects or absent:
        got = f"none for {absent[0]}" if absent else "other subjects"
        message = (
            "controls must be compared with the same measured subjects, one for each model or one "
            f"for all; got {got}. Compare both with the same matrices."
        )
        raise DataError(message)
    partners = [control.models[0] if single else name for name in result.models]
    rows = [control.models.index(partner) for partner in partners]
    # Models and controls as one stack, so that both see the same resampled subjects.
    stack = np.concatenate([result.similarity, control.similarity[rows]])
    tests = _SubjectTests(
        stack, result.n_permutations, result.n_bootstraps, result.confidence, result.seed
    )
    identity = np.eye(len(stack))
    found = []
    for first, (model, partner) in enumerate(zip(result.models, partners, strict=True)):
        second = first + len(result.models)
        differences = stack[first] - stack[second]
        low, high = tests.interval(identity[first] - identity[second])
        p = tests.p(differences, two_sided=True)
        found.append((model, partner, differences.mean(), low, high, p))
    table = pd.DataFrame(found, columns=_PAIR_COLUMNS)
    return table.assign(p_fdr=fdr(table["p"]))


class _SubjectTests:
    """Bootstrap and sign flips over subjects, drawn once; NaN with one subject."""

    def __init__(
        self,
        similarity: NDArray[np.float64],
        n_permutations: int,
        n_bootstraps: int,
        confidence: float,
        seed: int | None,
    ) -> None:
        self.similarity = similarity
        self._several = similarity.shape[1] > 1
        self._limits = ((1 - confidence) / 2, (1 + confidence) / 2)
        if self._several:
            self._means = bootstrap_subjects(similarity, n_bootstraps, seed)
            self._signs = sign_flips(similarity.shape[1], n_permutations, seed).astype(np.float64)

    def interval(self, weights: NDArray[np.float64]) -> tuple[float, float]:
        """Return the percentile interval of a weighted sum of models' means."""
        if not self._several:
            return (float("nan"), float("nan"))
        low, high = np.quantile(self._means @ weights, self._limits)
        return (float(low), float(high))

    def p(self, differences: NDArray[np.float64], two_sided: bool = False) -> float:
        """Test whether subjects' differences, shape (n_subjects,), are above 0."""
        if not self._several:
            return float("nan")
        null = (self._signs @ differences / differences.size)[:, None]
        observed = differences.mean(keepdims=True)
        return float(permutation_p(observed, null, "two-sided" if two_sided else "greater")[0])


def _table(
    models: RDMs,
    similarity: NDArray[np.float64],
    method: str,
    test: PermutationTest,
    chance: NDArray[np.float64],
    ceiling: RdmCeiling | None,
    subjects: _SubjectTests,
) -> pd.DataFrame:
    """Make the table of models."""
    import pandas as pd

    n_models, n_subjects = similarity.shape
    nan = float("nan")
    spread = similarity.std(axis=1, ddof=1) if n_subjects > 1 else np.full(n_models, nan)
    intervals = [subjects.interval(weights) for weights in np.eye(n_models)]
    p_subjects = [subjects.p(row) for row in similarity - chance]
    of_null = test.columns()
    del of_null["z"]
    return pd.DataFrame(
        {
            "model": models.names,
            "method": method,
            "n_conditions": len(models.conditions),
            "n_subjects": n_subjects,
            "mean": test.statistic,
            **of_null,
            "sem": spread / np.sqrt(n_subjects),
            "ci_low": [low for low, _ in intervals],
            "ci_high": [high for _, high in intervals],
            "p_subjects": p_subjects,
            "p_subjects_fdr": fdr(p_subjects),
            "ceiling_lower": ceiling.lower if ceiling else nan,
            "ceiling_upper": ceiling.upper if ceiling else nan,
            "p_ceiling": [
                subjects.p(ceiling.lower_by_subject - row) if ceiling else nan for row in similarity
            ],
        }
    )


def _pairs(models: Sequence[str], subjects: _SubjectTests) -> pd.DataFrame:
    """Make the table of differences between models."""
    import pandas as pd

    rows = []
    for first in range(len(models)):
        for second in range(first + 1, len(models)):
            differences = subjects.similarity[first] - subjects.similarity[second]
            weights = np.zeros(len(models))
            weights[first], weights[second] = 1.0, -1.0
            low, high = subjects.interval(weights)
            p = subjects.p(differences, two_sided=True)
            rows.append((models[first], models[second], differences.mean(), low, high, p))
    table = pd.DataFrame(rows, columns=_PAIR_COLUMNS)
    return table.assign(p_fdr=fdr(table["p"]) if rows else table["p"])
