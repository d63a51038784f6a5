"""Model matrices compared with those of measured people, with inference.

How alike they are is set beside what the people's own agreement allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.rsa import (
    Draws,
    RdmCeiling,
    RDMs,
    TwoFactorBootstrap,
    compare_rdms,
    permute_conditions,
    rdm_ceiling,
)
from imgtofmri.stats import PermutationTest, fdr, permutations
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

RELIABLE, UNRELIABLE = "reliable", "unreliable"
"""What a ceiling is: whether the interval of its lower bound lies above chance."""

PEOPLE_AND_IMAGES, IMAGES = "people and images", "images"
"""What an interval is over; with one person it is over images alone."""

_PAIR_COLUMNS = ["model_a", "model_b", "difference", "ci_low", "ci_high", "p_people_and_images"]


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison(Brief):
    """Model matrices compared with those of measured people.

    Attributes
    ----------
    similarity : array of shape (n_models, n_subjects)
    models, subjects : tuple of str
    ceiling : RdmCeiling or None
        None with a single person.
    table : pandas.DataFrame
        One row for each model: model, method, n_conditions, n_subjects; score (mean similarity over
        people) with ci_low, ci_high and se over interval_over ("people and images", or "images"
        with one person); p_people_and_images and p_people_and_images_fdr (greater than chance);
        null_mean, null_sd, p_same_people, p_same_people_fdr, p_same_people_max (conditions
        permuted, for these people); ceiling_lower with ceiling_ci_low and ceiling_ci_high,
        ceiling_upper, ceiling ("reliable" or "unreliable"); and where it is reliable
        share_of_ceiling and p_below_ceiling. What needs several people is missing with one.
    pairs : pandas.DataFrame
        One row for each pair of models: model_a, model_b, difference, ci_low, ci_high,
        p_people_and_images, p_people_and_images_fdr (two-sided).
    scores : Draws
        The models' scores in the resamples of ``bootstrap``.
    bootstrap : TwoFactorBootstrap
        Of the measured matrices.
    method : str
    n_permutations : int
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
    scores: Draws
    bootstrap: TwoFactorBootstrap
    method: str
    n_permutations: int
    seed: int | None
    confidence: float

    @property
    def ceiling_is_reliable(self) -> bool:
        """Whether there is a ceiling whose lower bound is above chance, its interval included."""
        return bool((self.table["ceiling"] == RELIABLE).any())


def compare_models(
    models: RDMs,
    measured: RDMs,
    method: str = "spearman",
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int | None = 0,
    *,
    bootstrap: TwoFactorBootstrap | None = None,
) -> ModelComparison:
    """Compare models with measured people and test what can be tested.

    Three questions have three tests. *Would other people's geometry, of other images, be
    explained?* ``p_people_and_images``, of a bootstrap over both. *Is the geometry of these people
    explained, over images like these?* ``p_same_people``: the model's conditions are relabelled,
    rows and columns together, the same for all models and people. *Does the model fall short of
    what people allow?* ``p_below_ceiling``, of the difference to the lower noise ceiling in the
    bootstrap over both. Intervals and the p of the bootstrap are Student's.

    Parameters
    ----------
    models, measured : RDMs
        Over the same conditions in the same order; see `match_conditions`.
    method : {"spearman", "kendall", "pearson", "cosine"}
    n_permutations : int
        Relabellings.
    n_bootstraps : int
        Resamples of people and images.
    confidence : float
        Of the intervals.
    seed : int or None
        The same seed gives the same answer, whatever the thread count.
    bootstrap : TwoFactorBootstrap, optional
        Of these measured matrices, where several families of models are to be compared with each
        other; it spares their ceiling being resampled again.

    Returns
    -------
    ModelComparison
        With one person p says nothing of other people, and intervals are over images.

    Raises
    ------
    DataError
        If there are two people, the conditions differ, or a matrix is constant.
    OptionError
        If the method is unknown, a number out of range, or ``bootstrap`` of another method or of
        other matrices.
    ShapeError
        If there are fewer than 3 conditions.

    References
    ----------
    Nili H et al. (2014), doi:10.1371/journal.pcbi.1003553 (ceiling, relabelling).
    Schütt HH et al. (2023), doi:10.7554/eLife.82566 (bootstrap).
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
    if len(measured.names) == 2:
        message = (
            "measured matrices must be of one person, or of 3 and more; got 2 "
            f"({', '.join(measured.names)}), who cannot show how far people differ. Give more "
            "people, or each one's matrix as a set of its own."
        )
        raise DataError(message)
    similarity = compare_rdms(
        models.dissimilarities, measured.dissimilarities, method, models.names, measured.names
    )
    if bootstrap is None:
        bootstrap = TwoFactorBootstrap(measured.dissimilarities, n_bootstraps, method, seed)
    elif not _is_of(bootstrap, measured.dissimilarities, method):
        message = (
            f"bootstrap must be of these measured matrices, by {method}; got one by "
            f"{bootstrap.method}, or of others. Leave it out, or make it of the same."
        )
        raise OptionError(message, "bootstrap")
    scores = bootstrap.scores(models.dissimilarities)
    null = np.concatenate(
        [
            permute_conditions(models.dissimilarities, measured.dissimilarities, orders, method)
            for orders in permutations(len(models.conditions), n_permutations, seed)
        ]
    )
    test = PermutationTest(similarity.mean(axis=1), null, standardise=False)
    several = len(measured.names) > 1
    ceiling = rdm_ceiling(measured.dissimilarities, method) if several else None
    return ModelComparison(
        similarity=similarity,
        models=models.names,
        subjects=measured.names,
        ceiling=ceiling,
        table=_table(models, method, test, scores, ceiling, bootstrap, confidence),
        pairs=_pairs(models.names, scores, confidence),
        scores=scores,
        bootstrap=bootstrap,
        method=method,
        n_permutations=n_permutations,
        seed=seed,
        confidence=confidence,
    )


def control_pairs(result: ModelComparison, control: ModelComparison) -> pd.DataFrame:
    """Compare each model with its control, or with another family's models, resample by resample.

    Parameters
    ----------
    result : ModelComparison
        Of the models.
    control : ModelComparison
        Of the controls in the same resamples: one of each model's name, or a single one that all
        models are compared with.

    Returns
    -------
    pandas.DataFrame
        One row for each model, with the columns of ``result.pairs``: the difference is the model's
        score minus its control's; p is two-sided, and adjusted over these rows.

    Raises
    ------
    DataError
        If the method or the resamples differ, or a model has no control.
    """
    single = len(control.models) == 1
    absent = [] if single else [name for name in result.models if name not in control.models]
    if not _same_resamples(result, control) or absent:
        got = f"none for {absent[0]}" if absent else "other people or resamples"
        if result.method != control.method:
            got = f"{control.method}, where the models have {result.method}"
        message = (
            "controls must be compared with the same measured people, by the same method, in the "
            f"same resamples, one for each model or one for all; got {got}. Compare both with the "
            "same matrices."
        )
        raise DataError(message)
    partners = [control.models[0] if single else name for name in result.models]
    columns = [len(result.models) + control.models.index(partner) for partner in partners]
    pairs = [(row, column) for row, column in enumerate(columns)]
    names = list(zip(result.models, partners, strict=True))
    return _differences(names, pairs, result.scores.beside(control.scores), result.confidence)


def best_controls(result: ModelComparison, against: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Find for each model the control that does best.

    Parameters
    ----------
    result : ModelComparison
    against : mapping of str to pandas.DataFrame
        For each control, `control_pairs` of the same models.

    Returns
    -------
    pandas.DataFrame
        One row for each model: best_control, best_control_score and p_best_control, that of the
        difference; missing without controls.
    """
    import pandas as pd

    rows: list[tuple[str | None, float, float]] = []
    for number, score in enumerate(result.table["score"]):
        of_controls = [
            (score - pairs["difference"].iloc[number], name) for name, pairs in against.items()
        ]
        if not of_controls:
            rows.append((None, np.nan, np.nan))
            continue
        best, name = max(of_controls)
        rows.append((name, best, against[name]["p_people_and_images"].iloc[number]))
    return pd.DataFrame(rows, columns=["best_control", "best_control_score", "p_best_control"])


def _is_of(bootstrap: TwoFactorBootstrap, matrices: NDArray[np.float64], method: str) -> bool:
    """Tell whether a bootstrap is of some people's matrices, compared by a method."""
    return bootstrap.method == method and np.array_equal(bootstrap.subjects, matrices)


def _same_resamples(first: ModelComparison, second: ModelComparison) -> bool:
    one, other = first.bootstrap, second.bootstrap
    return one is other or (
        first.subjects == second.subjects
        and _is_of(one, other.subjects, other.method)
        and np.array_equal(one.people, other.people)
        and np.array_equal(one.images, other.images)
    )


def _table(
    models: RDMs,
    method: str,
    test: PermutationTest,
    scores: Draws,
    ceiling: RdmCeiling | None,
    bootstrap: TwoFactorBootstrap,
    confidence: float,
) -> pd.DataFrame:
    """Make the table of models."""
    import pandas as pd

    low, high = scores.interval(confidence)
    # Chance is 0 but for the cosine.
    by_cosine = method == "cosine"
    excess = bootstrap.scores(models.dissimilarities, above_chance=True) if by_cosine else scores
    p = excess.p(two_sided=False)
    columns = {
        "model": models.names,
        "method": method,
        "n_conditions": len(models.conditions),
        "n_subjects": scores.n_people,
        "score": test.statistic,
        "ci_low": low,
        "ci_high": high,
        "interval_over": PEOPLE_AND_IMAGES if scores.n_people > 1 else IMAGES,
        "se": scores.standard_error,
        "p_people_and_images": p,
        "p_people_and_images_fdr": fdr(p),
        "null_mean": test.null_mean,
        "null_sd": test.null_sd,
        "p_same_people": test.p,
        "p_same_people_fdr": fdr(test.p),
        "p_same_people_max": test.p_max,
    }
    return pd.DataFrame(columns | _beside_ceiling(excess, ceiling, bootstrap, confidence))


def _beside_ceiling(
    excess: Draws, ceiling: RdmCeiling | None, bootstrap: TwoFactorBootstrap, confidence: float
) -> dict[str, object]:
    """Set scores above chance beside the ceiling, where it is one."""
    nothing = np.full(excess.estimate.shape, np.nan)
    found: dict[str, object] = dict.fromkeys(
        ("ceiling_lower", "ceiling_ci_low", "ceiling_ci_high", "ceiling_upper"), np.nan
    )
    found |= {"ceiling": None, "share_of_ceiling": nothing, "p_below_ceiling": nothing}
    if ceiling is None:
        return found
    low, high = (float(bound[0]) for bound in bootstrap.ceiling().interval(confidence))
    above = bootstrap.ceiling(above_chance=bootstrap.method == "cosine")
    reliable = bool(above.interval(confidence)[0][0] > 0)
    found |= {
        "ceiling_lower": ceiling.lower,
        "ceiling_ci_low": low,
        "ceiling_ci_high": high,
        "ceiling_upper": ceiling.upper,
        "ceiling": RELIABLE if reliable else UNRELIABLE,
    }
    if reliable:
        n_models = excess.estimate.size
        short = above.beside(excess).combined(np.c_[np.ones(n_models), -np.eye(n_models)])
        found["share_of_ceiling"] = excess.estimate / above.estimate
        found["p_below_ceiling"] = short.p(two_sided=False)
    return found


def _pairs(models: Sequence[str], scores: Draws, confidence: float) -> pd.DataFrame:
    """Make the table of differences between models."""
    rows, columns = np.triu_indices(len(models), 1)
    pairs = [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]
    names = [(models[row], models[column]) for row, column in pairs]
    return _differences(names, pairs, scores, confidence)


def _differences(
    names: Sequence[tuple[str, str]],
    pairs: Sequence[tuple[int, int]],
    scores: Draws,
    confidence: float,
) -> pd.DataFrame:
    """Make a table of differences between scores, p adjusted over its rows."""
    import pandas as pd

    identity = np.eye(scores.estimate.size)
    weights = np.array([identity[first] - identity[second] for first, second in pairs])
    differences = scores.combined(weights.reshape(-1, scores.estimate.size))
    low, high = differences.interval(confidence)
    p = differences.p(two_sided=True)
    first, second = zip(*names, strict=True) if names else ((), ())
    columns = zip(_PAIR_COLUMNS, (first, second, differences.estimate, low, high, p), strict=True)
    return pd.DataFrame(dict(columns)).assign(p_people_and_images_fdr=fdr(p) if len(p) else p)
