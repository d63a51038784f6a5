"""What a general linear model of a run is expected to find, worked out from the design.

The model is nilearn's first level: a regressor for each condition, cosines for the drift, a
constant, and prewhitening by the AR(1) coefficient of the ordinary residuals. Noise need not be of
that kind: the variance that the model reports and the variance that its estimate has are kept
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.experiments import Events, Noise, Run, Scan, stimulus_design
from imgtofmri.tables import MISSING, is_missing
from imgtofmri.timeseries import cosine_basis

FloatArray: TypeAlias = NDArray[np.float64]

# nilearn keeps two digits of an AR(1) coefficient, which cuts off half a step on average.
_HALF_STEP = 0.005

_TIMES = ("onset", "duration")


@dataclass(frozen=True, eq=False)
class RunDesign:
    """A run as its model sees it.

    Attributes
    ----------
    matrix : array of shape (n_volumes, n_columns)
        Conditions, events that show nothing and have a ``trial_type``, cosines, constant.
    contrast : array of shape (n_columns,)
        The weight of each column.
    signal : array of shape (n_volumes, n_rows)
        The time course of each stimulus; times responses it is the signal.
    trials : array of shape (n_volumes, n_trials)
        The time course of each event that shows a stimulus, at amplitude 1.
    """

    matrix: FloatArray
    contrast: FloatArray
    signal: FloatArray
    trials: FloatArray


@dataclass(frozen=True)
class Expected:
    """What a model is expected to find in one run or in several.

    Attributes
    ----------
    effect : float
        The contrast in the signal, with the weights that the model has for the noise alone:
        proportional to the signal.
    estimate : float
        The expected estimate; its weights depend a little on what of the signal the model misses.
    variance : float
        The variance that the estimate has, from one experiment to the next.
    reported : float
        The variance that the model is expected to report.
    dof : float
        Degrees of freedom that it reports.
    dof_effective : float
        Those that its variance has, by Satterthwaite's approximation.
    """

    effect: float
    estimate: float
    variance: float
    reported: float
    dof: float
    dof_effective: float

    @property
    def t(self) -> float:
        """The expected t, the mean over experiments."""
        from scipy.special import gammaln

        half = self.dof_effective / 2.0
        # The mean of 1 / s over samples lies above 1 / sigma.
        bias = np.sqrt(half) * np.exp(gammaln(half - 0.5) - gammaln(half)) if half > 0.5 else np.nan
        return float(self.estimate / np.sqrt(self.reported) * bias)

    @property
    def inflation(self) -> float:
        """By how much the reported t is too large: 1 where the model knows its noise."""
        return float(np.sqrt(self.variance / self.reported))

    def power(self, alpha: float) -> float:
        """Return how often the contrast is found, two-sided at a level, with its own sign."""
        from scipy import stats

        limit = stats.t.isf(alpha / 2.0, self.dof) / self.inflation
        size = abs(self.estimate) / np.sqrt(self.variance)
        return float(t_power(size, self.dof_effective, limit))


def t_power(noncentrality: ArrayLike, dof: ArrayLike, limit: ArrayLike) -> FloatArray:
    """Return how often a noncentral t exceeds a limit; arguments broadcast."""
    from scipy import stats

    size, known, least = (np.asarray(each, np.float64) for each in (noncentrality, dof, limit))
    # Far out the noncentral t is not computed, and nothing is left to compute.
    far = size - least > 12.0 + least / np.sqrt(2.0 * known) * 12.0
    return np.where(far, 1.0, stats.nct.sf(least, known, np.where(far, 0.0, size)))


def run_design(
    run: Run, scan: Scan, contrast: dict[str, float], n_rows: int, cutoff_s: float, where: str
) -> RunDesign:
    """Return a run's design.

    Parameters
    ----------
    run : Run
    scan : Scan
    contrast : dict of str to float
        The weight of each condition; those that are not named weigh 0.
    n_rows : int
        How many responses there are.
    cutoff_s : float
        Shortest period that counts as drift.
    where : str
        What messages call the run.

    Raises
    ------
    DataError
        If a condition of the contrast is not in the run, or the run is too short for the model.
    """
    timed = modelled_rows(run)
    onsets_s, durations_s = ([_number(row, name, where) for row in timed] for name in _TIMES)
    events = Events(onsets_s, durations_s, np.arange(len(timed)))
    courses = stimulus_design(events, len(timed), scan, run.n_volumes).toarray()
    # nilearn weighs events by the column modulation, and by no other.
    factors = np.array(
        [_number(row, "modulation", where) if _modulated(row) else 1.0 for row in timed]
    )
    names = list(dict.fromkeys(row["trial_type"] for row in timed))
    missing = [name for name, weight in contrast.items() if weight and name not in names]
    if missing:
        message = (
            f"{where}: each condition of the contrast must occur in each run; got no "
            f"{', '.join(missing)}. Give runs of all conditions, or another contrast."
        )
        raise DataError(message)
    kinds = np.array([row["trial_type"] for row in timed])
    columns = [
        (courses[:, kinds == name] * np.array(factors)[kinds == name]).sum(1) for name in names
    ]
    n_columns = len(names) + 1
    if run.n_volumes > n_columns + 1:
        drift = cosine_basis(run.n_volumes, scan.tr_s, cutoff_s=cutoff_s)
        matrix = np.column_stack([*columns, drift, np.ones(run.n_volumes)])
        n_columns = matrix.shape[1]
    if run.n_volumes <= n_columns + 1:
        message = (
            f"{where}: a run must have more volumes than its model has columns, {n_columns} and "
            f"two; got {run.n_volumes}. Plan longer runs."
        )
        raise DataError(message)
    weights = np.zeros(n_columns)
    weights[: len(names)] = [contrast.get(name, 0.0) for name in names]
    shown = np.array([row["stim_file"] != MISSING for row in timed])
    signal = stimulus_design(run.events, n_rows, scan, run.n_volumes).toarray()
    return RunDesign(matrix, weights, signal, courses[:, shown])


def noise_covariance(noise: Noise, n_volumes: int) -> FloatArray:
    """Return the covariance over time of noise of variance 1, without its drift.

    The model's cosines are those of the drift and take it out whole.
    """
    lags = np.abs(np.subtract.outer(np.arange(n_volumes), np.arange(n_volumes)))
    white = max(0.0, 1.0 - noise.ar1_share - noise.drift_share)
    covariance: FloatArray = white * (lags == 0) + noise.ar1_share * noise.ar1**lags
    return covariance


def expect_run(
    design: RunDesign, signal: FloatArray, covariance: FloatArray
) -> tuple[Expected, FloatArray]:
    """Return what a run's model is expected to find.

    Parameters
    ----------
    design : RunDesign
    signal : array of shape (n_volumes,)
        The signal without noise.
    covariance : array of shape (n_volumes, n_volumes)
        Of all that varies from one experiment to the next.

    Returns
    -------
    expected : Expected
    weights : array of shape (n_volumes,)
        The effect is their product with the signal.

    Notes
    -----
    What of the signal no regressor holds, as where stimuli of a condition differ, is part of the
    residuals. The AR(1) coefficient is taken at its expectation; that it is estimated makes the
    reported variance less certain, which lowers its degrees of freedom.
    """
    memory, doubt = _autocorrelation(design.matrix, signal, covariance)
    fit = _Whitened.of(design, signal, covariance, memory)
    step = 0.02
    beside = [_Whitened.of(design, signal, covariance, memory + side) for side in (step, -step)]
    slope = np.log(beside[0].reported / beside[1].reported) / (2.0 * step)
    plain, _ = _autocorrelation(design.matrix, np.zeros_like(signal), covariance)
    row = design.contrast @ np.linalg.pinv(_whiten(design.matrix, plain))
    weights = _whiten(row[::-1], plain)[::-1]
    expected = Expected(
        effect=float(weights @ signal),
        estimate=fit.estimate,
        variance=fit.variance,
        reported=fit.reported,
        dof=float(len(signal) - design.matrix.shape[1]),
        dof_effective=1.0 / (1.0 / fit.dof + slope**2 * doubt / 2.0),
    )
    return expected, weights


def combine_runs(runs: Sequence[Expected]) -> Expected:
    """Return what runs together are expected to give: the mean of their estimates."""
    n = len(runs)
    reported = np.array([run.reported for run in runs])
    each = np.array([run.dof_effective for run in runs])
    return Expected(
        effect=sum(run.effect for run in runs) / n,
        estimate=sum(run.estimate for run in runs) / n,
        variance=sum(run.variance for run in runs) / n**2,
        reported=float(reported.sum()) / n**2,
        dof=sum(run.dof for run in runs),
        dof_effective=float(reported.sum() ** 2 / (reported**2 / each).sum()),
    )


def mean_noise_share(positions_mm: FloatArray, fwhm_mm: float) -> float:
    """Return the variance that the mean of voxels has of noise that has a variance of 1 in each.

    Parameters
    ----------
    positions_mm : array of shape (n_voxels, 3)
    fwhm_mm : float
        Smoothness of the noise. Voxels a distance d apart correlate with
        ``exp(-d**2 / (4 * sd**2))``, as `imgtofmri.experiments.SmoothField` makes them; 0 leaves
        them independent, which divides the variance by their number.

    Examples
    --------
    >>> mean_noise_share(np.zeros((4, 3)), 6.0), mean_noise_share(np.zeros((4, 3)), 0.0)
    (1.0, 0.25)
    """
    from scipy.spatial.distance import cdist

    n_voxels = len(positions_mm)
    if fwhm_mm == 0:
        return 1.0 / n_voxels
    variance = fwhm_mm**2 / (8.0 * np.log(2.0))
    total = 0.0
    for start in range(0, n_voxels, 1000):
        squares = cdist(positions_mm[start : start + 1000], positions_mm, "sqeuclidean")
        total += float(np.exp(-squares / (4.0 * variance)).sum())
    return total / n_voxels**2


def check_level(name: str, value: float) -> None:
    """Refuse what is not between 0 and 1.

    Raises
    ------
    OptionError
    """
    if not 0.0 < value < 1.0:
        message = f"{name} must lie between 0 and 1; got {value:g}. Leave it out for the usual one."
        raise OptionError(message, name)


def modelled_rows(run: Run) -> list[dict[str, str]]:
    """Return the rows of a run's table that a model takes: of a condition, and with their times."""
    needed = ("trial_type", *_TIMES)
    return [
        row for row in run.cells if not any(is_missing(row.get(name, MISSING)) for name in needed)
    ]


def _modulated(row: dict[str, str]) -> bool:
    return not is_missing(row.get("modulation", MISSING))


def _number(row: dict[str, str], name: str, where: str) -> float:
    """Return a number of an event, which was not checked if the event shows nothing."""
    try:
        return float(row[name])
    except ValueError:
        message = (
            f"{where}: {name} of an event that has a trial_type must be a number or {MISSING}; got "
            f"{row[name]!r} ({row['trial_type']}). Correct it, or write {MISSING}."
        )
        raise DataError(message) from None


@dataclass(frozen=True, eq=False)
class _Whitened:
    """A run's model with one AR(1) coefficient."""

    estimate: float
    variance: float
    reported: float
    dof: float

    @classmethod
    def of(
        cls, design: RunDesign, signal: FloatArray, covariance: FloatArray, memory: float
    ) -> _Whitened:
        """Prewhiten design, signal and covariance, and work out what least squares gives."""
        matrix, course = _whiten(design.matrix, memory), _whiten(signal, memory)
        spread = _whiten(_whiten(covariance, memory).T, memory)
        row = design.contrast @ np.linalg.pinv(matrix)
        basis = _basis(matrix)
        residual = _without(_without(spread, basis).T, basis)
        misfit = _without(course, basis)
        size = float(np.trace(residual))
        scale = (size + float(misfit @ misfit)) / (len(matrix) - matrix.shape[1])
        return cls(
            estimate=float(row @ course),
            variance=float(row @ spread @ row),
            reported=scale * float(row @ row),
            dof=size**2 / float((residual**2).sum()),
        )


def _autocorrelation(
    matrix: FloatArray, signal: FloatArray, covariance: FloatArray
) -> tuple[float, float]:
    """Return the AR(1) coefficient that nilearn is expected to find, and its variance.

    It is the lag-1 autocorrelation of the ordinary residuals, in steps of 0.01 towards 0.
    """
    basis = _basis(matrix)
    residual = _without(_without(covariance, basis).T, basis)
    misfit = _without(signal, basis)
    n = len(misfit)
    power = (float(np.trace(residual)) + float(misfit @ misfit)) / n
    lagged = (float(np.trace(residual, offset=1)) + float(misfit[1:] @ misfit[:-1])) / (n - 1)
    found = lagged / power
    # A ratio of quadratic forms varies as their difference does, where that is 0 on average.
    form = -found * residual / n
    form[1:] += residual[:-1] / (2.0 * (n - 1))
    form[:-1] += residual[1:] / (2.0 * (n - 1))
    variance = 2.0 * float((form * form.T).sum()) / power**2
    return found - _HALF_STEP * np.sign(found), variance


def _whiten(columns: FloatArray, memory: float) -> FloatArray:
    """Take out of each value what the one before it foretells, as nilearn does."""
    found = columns.copy()
    found[1:] -= memory * columns[:-1]
    return found


def _basis(matrix: FloatArray) -> FloatArray:
    """Return an orthonormal basis of what columns span."""
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    kept: FloatArray = left[:, sizes > sizes.max() * 1e-10]
    return kept


def _without(columns: FloatArray, basis: FloatArray) -> FloatArray:
    """Take out of columns what a basis spans."""
    left: FloatArray = columns - basis @ (basis.T @ columns)
    return left
