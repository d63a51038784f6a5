"""Ridge regression over penalties, folds and voxels at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import OptionError
from imgtofmri.regression.checks import check_bands, check_penalties, check_responses, units_of
from imgtofmri.regression.design import (
    Axes,
    Design,
    FloatArray,
    MemoryPlan,
    plan_memory,
    prepare_design,
)
from imgtofmri.regression.engine import open_engine
from imgtofmri.regression.folds import Labels
from imgtofmri.regression.scores import (
    Batch,
    Rotated,
    as_slice,
    measure_accuracy,
    rotate_held_out,
    rotate_train,
    score_penalties,
    shrink_axes,
    sum_batch,
)

Float32Array = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.floating[Any]]
IndexArray = npt.NDArray[np.intp]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """A fitted ridge regression and how well it does on rows that it has not seen.

    Attributes
    ----------
    weights : array of shape (n_features, n_voxels), float32
        ``features @ weights + intercept`` predicts the responses.
    intercept : array of shape (n_voxels,), float32
        In the responses' units.
    alpha : array of shape (n_voxels,)
        The penalty that each voxel's weights were fitted with.
    cv_r : array of shape (n_voxels,), float32
        Correlation of predicted and measured responses within each held-out fold, averaged.
    cv_r2 : array of shape (n_voxels,), float32
        Coefficient of determination of the held-out folds, averaged over folds.
    residual_variance : array of shape (n_voxels,), float32
        Mean squared error on held-out rows, in squared units of the responses.
    scores : array of shape (n_alphas, n_units)
        Mean R2 that each penalty reached in choosing the final one; a unit is a voxel, or the
        voxels that share a penalty.
    units : tuple
        What each column of ``scores`` stands for: labels of ``share``, or voxel numbers.
    band_scales : array of shape (n_units, n_bands) or None
        The relative scale chosen for each band of features.
    nested : bool
        Whether the accuracy was measured with penalties chosen without the held-out fold.
    """

    weights: Float32Array
    intercept: Float32Array
    alpha: FloatArray
    cv_r: Float32Array
    cv_r2: Float32Array
    residual_variance: Float32Array
    scores: FloatArray
    units: tuple[Any, ...]
    band_scales: FloatArray | None
    nested: bool


def fit_ridge(
    features: npt.NDArray[Any],
    responses: npt.NDArray[Any],
    *,
    alphas: npt.ArrayLike,
    folds: npt.NDArray[np.intp],
    share: Labels | None = None,
    nested: bool = True,
    bands: Labels | None = None,
    band_scales: npt.ArrayLike | None = None,
    max_bytes: int = 1_500_000_000,
    progress: Progress | None = None,
    engine: str = "numpy",
    device: str | None = None,
) -> RidgeFit:
    """Fit responses to features by ridge regression, penalties chosen by cross-validation.

    A penalty is chosen by its mean over folds of R2 (for voxels that share one, R2 is first
    averaged over them), as scikit-learn's ``GridSearchCV(Ridge())`` does; the weights are then
    fitted on all rows. With ``nested=True`` the accuracy of a fold is measured with penalties
    chosen on the other folds alone; ``nested=False`` uses the final penalties, which is a little
    optimistic.

    Parameters
    ----------
    features : array of shape (n_rows, n_features)
        Features of the stimulus of each row.
    responses : array of shape (n_rows, n_voxels)
        Measured responses.
    alphas : array-like of shape (n_alphas,)
        Penalties to choose from, all above 0: ``|responses - features @ w|**2 + alpha * |w|**2``.
    folds : array of shape (n_rows,), int
        Fold of each row, as `grouped_folds` makes it.
    share : sequence of length n_voxels, optional
        Voxels of the same label share one penalty, e.g. their ROI. Default: each voxel has its own.
    nested : bool
        Choose penalties anew for each held-out fold. Needs 3 folds.
    bands : sequence of length n_features, optional
        The band of each feature, e.g. its layer, for banded ridge.
    band_scales : array-like of shape (n_candidates, n_bands), optional
        Candidate scales: features of band b are multiplied by ``sqrt(band_scales[i, b])``. Bands
        are in order of first appearance. See `sample_band_scales`.
    max_bytes : int
        Memory to stay below, beyond the arguments; voxels are worked on in batches that fit.
    progress : callable, optional
        Called with the steps done and the steps in all.
    engine : {"numpy", "torch"}
        What does the arithmetic. PyTorch needs the extra ``[torch]``.
    device : str, optional
        For PyTorch: ``"cpu"``, ``"cuda"``, ``"cuda:1"``. Default: the first CUDA device, or the CPU
        where there is none. ``max_bytes`` is then the device's memory.

    Returns
    -------
    RidgeFit
        Weights, penalties and accuracy.

    Raises
    ------
    ShapeError
        If the arrays do not belong together.
    OptionError
        If penalties or band scales are not valid, memory does not suffice, or there is no such
        engine or device.
    MissingDependencyError
        If PyTorch is asked for and not installed.
    DataError
        If there are too few rows, or responses that are not finite or do not vary.

    Notes
    -----
    With training features X = U S V', all penalties share the eigenvectors V of the Gram matrix
    X'X. For voxels that share a penalty, the sum over voxels of SSE / SST depends on their weights
    only through one matrix of n_features x n_features, so that a penalty costs nothing more.

    References
    ----------
    Hoerl & Kennard (1970). Ridge regression. Technometrics. doi:10.1080/00401706.1970.10488634
    Nunez-Elizalde, Huth & Gallant (2019). Voxelwise encoding models with non-spherical multivariate
    normal priors. NeuroImage. doi:10.1016/j.neuroimage.2019.04.012

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((60, 4))
    >>> responses = features @ rng.standard_normal((4, 3))
    >>> folds = np.arange(60) // 12
    >>> fit = fit_ridge(features, responses, alphas=[0.01, 1.0], folds=folds)
    >>> fit.weights.shape, bool((fit.cv_r > 0.99).all())
    ((4, 3), True)
    """
    chosen_engine = open_engine(engine, device)
    measured = np.asarray(responses)
    n_features = int(np.shape(features)[-1])
    penalties = check_penalties(alphas)
    check_responses(measured, len(folds))
    scalings, candidates = check_bands(bands, band_scales, n_features)
    n_folds = int(np.max(folds)) + 1
    if nested and n_folds < 3:
        message = (
            f"nested cross-validation needs at least 3 folds; got {n_folds}. "
            "Use more folds, or nested=False."
        )
        raise OptionError(message)
    n_voxels = measured.shape[1]
    # As in scikit-learn, single precision throughout where both sides have no more.
    both_single = np.result_type(np.asarray(features), measured) == np.float32
    dtype = "float32" if both_single else "float64"
    unit, units = units_of(share, n_voxels)
    plan = plan_memory(
        len(measured),
        n_features,
        n_voxels,
        n_alphas=len(penalties),
        n_folds=n_folds,
        nested=nested,
        max_bytes=max_bytes,
    )
    # Voxels of a unit side by side, so that a unit is a slice of its batch.
    columns = np.argsort(unit, kind="stable")
    batches = np.array_split(columns, -(-n_voxels // plan.n_voxels_batch))
    work = _Work(measured, batches, penalties, unit, share is not None, nested, plan)

    n_steps = 2 * len(scalings) * len(batches)
    best = _Best(1 + n_folds * nested, len(penalties), len(units))
    for number, scaling in enumerate(scalings):
        design = prepare_design(features, folds, scaling, dtype, chosen_engine)
        for done, (batch, voxels) in enumerate(work.sums(design), start=1):
            best.add(work.scores(design, batch, voxels))
            if progress is not None:
                progress(number * len(batches) + done, n_steps)
        best.close(number, np.bincount(unit))

    result = _Result.empty(n_features, n_voxels)
    for number, scaling in enumerate(scalings):
        if len(scalings) > 1:
            design = prepare_design(features, folds, scaling, dtype, chosen_engine)
        for done, (batch, voxels) in enumerate(work.sums(design), start=1):
            work.refit(design, batch, voxels, number, best, result)
            if progress is not None:
                progress((len(scalings) + number) * len(batches) + done, n_steps)
    return RidgeFit(
        weights=result.weights,
        intercept=result.intercept.astype(np.float32),
        alpha=penalties[best.penalty[0]][unit],
        cv_r=result.r.astype(np.float32),
        cv_r2=result.r2.astype(np.float32),
        residual_variance=(result.squared_error / len(measured)).astype(np.float32),
        scores=best.table,
        units=units,
        band_scales=None if candidates is None else candidates[best.candidate[0]],
        nested=nested,
    )


def sample_band_scales(
    n_bands: int, n_candidates: int = 20, seed: int = 0, concentration: float = 1.0
) -> FloatArray:
    """Draw candidate scales for banded ridge from a Dirichlet distribution.

    Parameters
    ----------
    n_bands : int
        How many bands of features there are.
    n_candidates : int
        How many candidates to draw; the first gives all bands the same scale.
    seed : int
        Of the draw.
    concentration : float
        Below 1 favours candidates in which few bands dominate.

    Returns
    -------
    array of shape (n_candidates, n_bands)
        Rows sum to 1.

    Raises
    ------
    OptionError
        If there is no band or no candidate.

    Examples
    --------
    >>> sample_band_scales(2, n_candidates=1)
    array([[0.5, 0.5]])
    """
    if n_bands < 1 or n_candidates < 1:
        message = (
            "at least 1 band and 1 candidate are needed; got "
            f"{n_bands} and {n_candidates}. Use 20 candidates, for example."
        )
        raise OptionError(message)
    rng = np.random.default_rng(seed)
    scales = rng.dirichlet(np.full(n_bands, concentration), size=n_candidates)
    scales[0] = 1.0 / n_bands
    return scales


@dataclass(frozen=True, slots=True)
class _Work:
    """What every pass over the voxels needs."""

    responses: npt.NDArray[Any]
    batches: list[IndexArray]
    alphas: FloatArray
    unit: IndexArray
    shared: bool
    nested: bool
    plan: MemoryPlan
    _last: list[tuple[Design, Batch]] = field(default_factory=list)
    _rotations: dict[int, tuple[Axes, Rotated]] = field(default_factory=dict)

    def sums(self, design: Design) -> Iterator[tuple[Batch, IndexArray]]:
        """Yield each batch's sums and the voxels in it; a single batch is summed once a design."""
        for voxels in self.batches:
            if self._last and self._last[0][0] is design:
                batch = self._last[0][1]
            else:
                self._last.clear()
                self._rotations.clear()
                batch = sum_batch(design, self.responses, voxels)
                if len(self.batches) == 1:
                    self._last.append((design, batch))
            yield batch, voxels

    def rotations(self, design: Design, batch: Batch, fold: int) -> tuple[Axes, Rotated]:
        """Return the axes without a fold and the batch on them, kept for the next pass if planned.

        A plan keeps them only where one batch holds all voxels.
        """
        if fold in self._rotations:
            return self._rotations[fold]
        left_out = frozenset({fold})
        axes = design.axes(left_out, self.plan.keep_axes)
        train = rotate_train(design, batch, axes, left_out)
        rotated = rotate_held_out(design, batch, axes, train, fold)
        if self.plan.keep_rotations:
            self._rotations[fold] = (axes, rotated)
        return axes, rotated

    def scores(self, design: Design, batch: Batch, voxels: IndexArray) -> FloatArray:
        """Return R2 summed over voxels: (1 or 1 + n_folds choices, n_alphas, n_units).

        The first choice uses all folds; choice 1 + f leaves fold f out altogether.
        """
        present, starts = np.unique(self.unit[voxels], return_index=True)
        n_folds, n_units = design.n_folds, int(self.unit.max()) + 1
        table = np.zeros((1 + n_folds * self.nested, len(self.alphas), n_units))

        def add(choice: int, fold: int, n_scored: int) -> None:
            scores = score_penalties(
                design, batch, axes, rotated, fold, self.alphas, starts if self.shared else None
            )
            table[choice][:, present] += scores / n_scored

        for fold in range(n_folds):
            axes, rotated = self.rotations(design, batch, fold)
            add(0, fold, n_folds)
        # One training set serves two choices: without a and b, b is scored for a and a for b.
        for a, b in combinations(range(n_folds) if self.nested else (), 2):
            left_out = frozenset({a, b})
            axes = design.axes(left_out, self.plan.keep_axes)
            train = rotate_train(design, batch, axes, left_out)
            rotated = rotate_held_out(design, batch, axes, train, b)
            add(1 + a, b, n_folds - 1)
            rotated = rotate_held_out(design, batch, axes, train, a)
            add(1 + b, a, n_folds - 1)
        return table

    def refit(
        self,
        design: Design,
        batch: Batch,
        voxels: IndexArray,
        number: int,
        best: _Best,
        result: _Result,
    ) -> None:
        """Fit all rows, and measure each fold, for the voxels that chose this candidate."""
        unit = self.unit[voxels]
        for fold in range(-1, design.n_folds):
            choice = 1 + fold if self.nested else 0
            chosen = best.candidate[choice][unit] == number
            if not chosen.any():
                continue
            mine, part = voxels[chosen], batch.take(chosen)
            alpha = self.alphas[best.penalty[choice][unit[chosen]]]
            if fold >= 0:
                axes, rotated = self.rotations(design, batch, fold)
                mine_rotated = rotated.take(chosen)
                accuracy = measure_accuracy(design, part, axes, mine_rotated, fold, alpha)
                result.r[mine] += accuracy.r / design.n_folds
                result.r2[mine] += accuracy.r2 / design.n_folds
                result.squared_error[mine] += accuracy.squared_error
                continue
            axes = design.axes(frozenset(), self.plan.keep_axes)
            rotated = rotate_train(design, part, axes, frozenset())
            weights = _weights(design, axes, rotated, alpha)
            result.weights[:, as_slice(mine)] = weights
            mean = design.engine.host(part.mean + rotated.mean)
            result.intercept[mine] = mean - design.feature_mean @ weights


def _weights(design: Design, axes: Axes, rotated: Rotated, alpha: FloatArray) -> RealArray:
    """Return the weights on the features, of shape (n_features, n_voxels)."""
    engine, xp = design.engine, design.engine.xp
    shrunk = shrink_axes(engine, axes, rotated, alpha)
    weights = xp.asarray(axes.vectors, dtype=shrunk.dtype) @ shrunk
    if design.basis is not None:
        weights = design.basis @ xp.asarray(weights, dtype=design.basis.dtype)
    return engine.host(weights)


class _Best:
    """The best candidate and penalty so far: for all rows, and for each fold without its rows."""

    def __init__(self, n_choices: int, n_alphas: int, n_units: int) -> None:
        self.candidate = np.zeros((n_choices, n_units), dtype=np.intp)
        self.penalty = np.zeros((n_choices, n_units), dtype=np.intp)
        self.table = np.full((n_alphas, n_units), -np.inf)
        self._score = np.full((n_choices, n_units), -np.inf)
        self._sums = np.zeros((n_choices, n_alphas, n_units))

    def add(self, sums: FloatArray) -> None:
        """Add one batch's scores, summed over its voxels."""
        self._sums += sums

    def close(self, number: int, unit_sizes: IndexArray) -> None:
        """Take over whatever this candidate does better than those before it."""
        table = self._sums / unit_sizes
        score = table.max(axis=1)
        better = score > self._score
        self._score[better] = score[better]
        self.candidate[better] = number
        self.penalty[better] = table.argmax(axis=1)[better]
        self.table[:, better[0]] = table[0][:, better[0]]
        self._sums[:] = 0.0


@dataclass(frozen=True, slots=True)
class _Result:
    """Arrays that the passes fill in."""

    weights: Float32Array
    intercept: FloatArray
    r: FloatArray
    r2: FloatArray
    squared_error: FloatArray

    @classmethod
    def empty(cls, n_features: int, n_voxels: int) -> _Result:
        weights = np.zeros((n_features, n_voxels), dtype=np.float32)
        return cls(weights, *(np.zeros(n_voxels) for _ in range(4)))
