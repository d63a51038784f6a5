"""Weights with which a run's volumes are summed to the response to each presentation.

Both estimates are linear in the data, so a run's design comes to one matrix, whatever the number of
voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError

FloatArray = npt.NDArray[np.float64]

ESTIMATORS = ("lsa", "lss")
"""How responses to single trials can be estimated: in one model, or in a model each."""

HRFS = tuple(
    f"{name}{more}"
    for name in ("glover", "spm")
    for more in ("", " + derivative", " + derivative + dispersion")
)
"""Responses that trials can be modelled with, alone or with derivatives."""

# Presentations that last so many times longer than until the next one begins are in milliseconds.
_MOST_AT_ONCE = 5.0

# nilearn's steps of a response from one volume to the next, and the longest that is taken.
_STEPS, _LONGEST_STEP_S = 50, 0.05

# Less of a response than this share of the usual one (in squares) cannot be measured.
_LEAST_SHARE = 0.01


def check_shown(onsets_s: npt.ArrayLike, durations_s: npt.ArrayLike, where: str) -> None:
    """Refuse durations that cannot be in the unit of the onsets.

    Parameters
    ----------
    onsets_s, durations_s : arrays of shape (n_trials,)
        Of each presentation.
    where : str
        What the message begins with.

    Raises
    ------
    DataError
        If most presentations would last until several more had begun.
    """
    gaps_s = np.diff(np.unique(np.asarray(onsets_s, dtype=np.float64)))
    if not gaps_s.size:
        return
    lasting_s = np.asarray(durations_s, dtype=np.float64)
    usual_s, gap_s = float(np.median(lasting_s)), float(np.median(gaps_s))
    if usual_s > _MOST_AT_ONCE * gap_s:
        message = (
            f"{where}: presentations must not outlast the next ones; got one every {gap_s:g} s "
            f"that lasts {usual_s:g} s (medians). Write onsets and durations in seconds."
        )
        raise DataError(message)


def trial_regressors(
    onsets_s: npt.ArrayLike, durations_s: npt.ArrayLike, frame_times_s: FloatArray, hrf: str
) -> FloatArray:
    """Return the regressors of each presentation alone.

    Parameters
    ----------
    onsets_s, durations_s : arrays of shape (n_trials,)
        Of each presentation, in seconds. One of 0 s is an impulse of unit area: it moves the
        response as much as a second of stimulation.
    frame_times_s : array of shape (n_volumes,)
        When each volume was measured, in even gaps or not.
    hrf : str
        One of ``HRFS``.

    Returns
    -------
    array of shape (n_trials, n_volumes, n_functions)
        The response, then its derivatives if ``hrf`` has any; not orthogonalised.

    Notes
    -----
    nilearn's responses, through their integrals. Its own regressors take onsets and durations in
    whole steps, a fiftieth of a repetition time: of 0.1 s at 2 s some are 2 steps and others 3.
    """
    from nilearn.glm import first_level

    shape, *more = hrf.split(" + ")
    names = [f"{shape}_hrf", *(f"{shape}_{_DERIVATIVES[name]}" for name in more)]
    step_s = min(float(np.diff(frame_times_s).min()) / _STEPS, _LONGEST_STEP_S)
    onsets, durations = (np.asarray(each, np.float64)[:, None] for each in (onsets_s, durations_s))
    since_s = frame_times_s - onsets
    found = np.empty((*since_s.shape, len(names)))
    for column, name in enumerate(names):
        kernel = getattr(first_level, name)(step_s, oversampling=1)
        lags_s = step_s * np.arange(-1, len(kernel))
        held = np.concatenate([[0.0], np.cumsum(kernel)])
        ended = np.interp(since_s - durations, lags_s, held)
        impulse = np.interp(since_s, lags_s[1:], kernel / step_s, left=0.0, right=0.0)
        found[..., column] = np.where(
            durations > 0, np.interp(since_s, lags_s, held) - ended, impulse
        )
    return found


_DERIVATIVES = {"derivative": "time_derivative", "dispersion": "dispersion_derivative"}


def estimator_weights(
    trials: FloatArray, nuisance: FloatArray, estimator: str, where: str = ""
) -> FloatArray:
    """Return the matrix that turns a run's volumes into responses to its presentations.

    Parameters
    ----------
    trials : array of shape (n_trials, n_volumes, n_functions)
        As `trial_regressors` returns them.
    nuisance : array of shape (n_volumes, n_nuisance)
        Constant, drifts and confounds; columns may depend on each other.
    estimator : {"lsa", "lss"}
        "lsa": all presentations in one model. "lss": a model for each presentation, in which all
        others share one regressor (for each function of the haemodynamic response).
    where : str
        What a message begins with.

    Returns
    -------
    array of shape (n_trials, n_volumes)
        ``weights @ series`` are the ordinary least squares estimates.

    Raises
    ------
    DataError
        If there are more regressors than volumes, a response lies outside the run, or
        presentations cannot be told apart.

    Notes
    -----
    Derivatives are orthogonalised to the response of their presentation, as in nilearn.

    References
    ----------
    Mumford et al. (2012). Deconvolving BOLD activation in event-related designs for multivoxel
    pattern classification analyses. NeuroImage. doi:10.1016/j.neuroimage.2011.08.076
    """
    place = f"{where}: " if where else ""
    n_trials, n_volumes, n_functions = trials.shape
    basis = _orthonormal(nuisance)
    n_models = 1 if estimator == "lss" else n_trials
    n_regressors = n_functions * (n_models + (estimator == "lss")) + basis.shape[1]
    if n_regressors >= n_volumes:
        message = (
            f"{place}{n_regressors} regressors need more than {n_regressors} volumes; got "
            f"{n_volumes}. Leave out confounds, set estimator = lss, or estimate responses with "
            "another method."
        )
        raise DataError(message)
    others = trials.sum(axis=0) - trials
    own = _without(_orthogonal(trials), basis)
    _check_measured(trials, own, place)
    if estimator == "lss":
        designs = np.concatenate([own, _without(others, basis)], axis=2)
        separate: FloatArray = np.linalg.pinv(designs)[:, 0]
        return separate
    design = own.transpose(1, 0, 2).reshape(n_volumes, -1)
    rank = int(np.linalg.matrix_rank(design))
    if rank < design.shape[1]:
        message = (
            f"{place}the {n_trials} presentations must be told apart; their "
            f"{design.shape[1]} regressors have rank {rank}, as where two begin at once or one is "
            "a confound's double. Correct the events, or regress out less."
        )
        raise DataError(message)
    return np.asarray(np.linalg.pinv(design)[::n_functions], dtype=np.float64)


def _check_measured(trials: FloatArray, own: FloatArray, place: str) -> None:
    """Refuse presentations whose response is hardly in the run, or all in the confounds."""
    energies = (own[..., 0] ** 2).sum(axis=1)
    usual = np.median((trials[..., 0] ** 2).sum(axis=1))
    bad = np.flatnonzero(energies <= _LEAST_SHARE * usual)
    if bad.size or not usual > 0:
        numbers = ", ".join(str(trial + 1) for trial in bad[:5]) + (", ..." * (bad.size > 5))
        message = (
            f"{place}the response to each presentation must lie within the run; that to "
            f"{bad.size} of {len(own)} does not, or is one with confounds or slow drifts (in order "
            f"of onset: {numbers}). Correct the onsets, in seconds, regress out less, or leave "
            "these events out."
        )
        raise DataError(message)


def _orthonormal(columns: FloatArray) -> FloatArray:
    """Return an orthonormal basis of what columns span."""
    scale = np.sqrt((columns**2).sum(axis=0))
    left, sizes, _ = np.linalg.svd(columns / np.where(scale > 0, scale, 1), full_matrices=False)
    kept: FloatArray = left[:, sizes > sizes.max() * 1e-10]
    return kept


def _without(regressors: FloatArray, basis: FloatArray) -> FloatArray:
    """Take out of regressors, shape (..., n_volumes, n), what a basis spans."""
    left: FloatArray = regressors - basis @ (basis.T @ regressors)
    return left


def _orthogonal(trials: FloatArray) -> FloatArray:
    """Orthogonalise each presentation's functions, each one to those before it."""
    found: Any = trials.copy()
    for column in range(1, trials.shape[2]):
        before = found[..., :column]
        share = np.linalg.pinv(before) @ found[..., column, None]
        found[..., column] -= (before @ share)[..., 0]
    return found  # type: ignore[no-any-return]
