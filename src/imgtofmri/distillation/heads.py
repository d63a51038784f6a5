"""Distil a head, with which a student network estimates a teacher's features.

Where a published network's weights cannot be had, a network that can be may stand in for it: a
linear map from its activations, pooled over space at many depths, to the other's features.
`fit_head` fits that map by ridge regression to what both made of any images, since the teacher
labels them; no brain data take part.

References
----------
Hinton, Vinyals & Dean (2015), Distilling the knowledge in a neural network, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones import Backbone, BackboneSpec, Head
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.progress import track


def observe(
    student: Backbone,
    teacher: Backbone,
    images: Iterable[NDArray[np.uint8]],
    *,
    progress: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Let student and teacher look at the same images.

    Parameters
    ----------
    student : Backbone
        Loaded with the layers to use: ``load_backbone("efficientnet-lite0", layers=[...])``. Means
        and standard deviations over space of many layers do better than the last layer alone.
    teacher : Backbone
        The network whose features are to be estimated.
    images : iterable of uint8 arrays of shape (n, size, size, 3)
        Batches of images; `random_views` makes several of each photograph.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    activations : array of shape (n_images, n_student)
    features : array of shape (n_images, n_features)

    Raises
    ------
    ShapeError
        If student and teacher take images of different sizes.
    DataError
        If there are too few images to fit anything.
    """
    sizes = student.spec.preprocessing.size, teacher.spec.preprocessing.size
    if sizes[0] != sizes[1]:
        message = (
            f"student and teacher must take images of one size; {student.spec.id} takes "
            f"{sizes[0]} px, {teacher.spec.id} {sizes[1]} px. Choose networks of the same size."
        )
        raise ShapeError(message)
    activations, features = [], []
    with track("Distilling", unit="images", enabled=progress) as advance:
        for batch in images:
            activations.append(student(batch))
            features.append(teacher(batch))
            advance(len(batch))
    if sum(map(len, features)) < 2:
        message = (
            f"images must hold at least 2 images; got {sum(map(len, features))}. "
            "Give photographs, more than the teacher has features if possible."
        )
        raise DataError(message)
    return np.concatenate(activations), np.concatenate(features)


def fit_head(
    student: BackboneSpec,
    teacher: BackboneSpec,
    activations: NDArray[np.float32],
    features: NDArray[np.float32],
    *,
    penalty: float | NDArray[np.float64] = 20_000.0,
    rank: int | None = None,
    note: str = "",
    card: Mapping[str, Any] | None = None,
) -> Head:
    """Fit a head to what student and teacher made of the same images; see `observe`.

    Parameters
    ----------
    student, teacher : BackboneSpec
    activations : array of shape (n_images, n_student)
        Overwritten: they may fill much of the memory.
    features : array of shape (n_images, n_features)
    penalty : float or array of shape (n_student,)
        Ridge penalty for standardised activations; one for each where some, such as deviations
        beside means, shall count for less.
    rank : int, optional
        Number of components between activations and features. Fewer make a smaller file; the
        components are those that carry most of the estimates' variance. Default: all.
    note : str
        One line for the records of predictions made with the head: its fidelity and licence.
    card : mapping, optional
        What else the head's card shall say.

    Returns
    -------
    Head
        To be written with `imgtofmri.backbones.write_head` and used with
        ``load_backbone(name, head=path)``. Where none of the teacher's features is ever negative,
        as after rectification and averaging, its estimates are rectified too.

    Raises
    ------
    OptionError
        If the penalty is not positive, or the rank is not between 1 and the number of features.
    """
    if rank is not None and not 1 <= rank <= features.shape[1]:
        message = (
            f"rank must be between 1 and {features.shape[1]}, the number of the teacher's "
            f"features; got {rank}. Leave it out to keep every component."
        )
        raise OptionError(message, "rank")
    center, scale, weights, intercept = standardised_ridge(activations, features, penalty)
    weights, mixing = reduce_rank(activations, weights, rank or features.shape[1])
    return Head(
        {
            **(card or {}),
            "student": student.id,
            "student_weights_sha256": student.weights_sha256,
            "student_weights_verified": student.weights_verified,
            "layers": list(student.layers),
            "features_id": teacher.features_id,
            "teacher_weights_sha256": teacher.weights_sha256,
            "teacher_weights_verified": teacher.weights_verified,
            "n_images": len(features),
            "penalties": sorted({float(value) for value in np.ravel(penalty)}),
            "rank": len(mixing),
            "rectified": bool((features >= 0).all()),
            "note": note,
        },
        center,
        scale,
        weights,
        mixing,
        intercept,
    )


def standardised_ridge(
    activations: NDArray[np.float32],
    features: NDArray[np.float32],
    penalty: float | NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Regress features on standardised activations.

    Parameters
    ----------
    activations : array of shape (n_images, n_student)
        Overwritten by their standardised values: they may fill much of the memory.
    features : array of shape (n_images, n_features)
    penalty : float or array of shape (n_student,)

    Returns
    -------
    center, scale : arrays of shape (n_student,)
        Mean and standard deviation; 1 where an activation never varies.
    weights : array of shape (n_student, n_features)
    intercept : array of shape (n_features,)
        The features' mean.

    Raises
    ------
    OptionError
        If a penalty is not positive, or there are not as many as activations.

    Notes
    -----
    With the penalties on the diagonal of D, solves ``(X'X + D) W = X'Y`` by Cholesky decomposition,
    or its dual form ``W = D^-1 X'(X D^-1 X' + I)^-1 Y`` where there are fewer images than
    activations.
    """
    import scipy.linalg

    n_student = activations.shape[1]
    penalties = np.asarray(penalty, dtype=np.float64)
    if penalties.shape not in ((), (n_student,)) or not (penalties > 0).all():
        message = (
            f"penalty must be a positive number, or {n_student} of them; got {penalty}. "
            "20000 is a good start."
        )
        raise OptionError(message, "penalty")
    penalties = np.broadcast_to(penalties, n_student)
    center = activations.mean(axis=0, dtype=np.float64).astype(np.float32)
    activations -= center
    scale = np.sqrt(np.mean(np.square(activations), axis=0, dtype=np.float64)).astype(np.float32)
    # A unit that never fires has no scale, and rounding must not be blown up into one.
    scale[scale <= 1e-6 * np.maximum(np.abs(center), 1e-6)] = 1.0
    activations /= scale
    intercept = features.mean(axis=0, dtype=np.float64)
    residual = features - intercept
    x = activations
    dual = len(x) < n_student
    scaled = x / penalties.astype(np.float32) if dual else x
    gram = (scaled @ x.T if dual else x.T @ x).astype(np.float64)
    gram[np.diag_indices_from(gram)] += 1.0 if dual else penalties
    factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    weights = (
        scaled.T @ scipy.linalg.cho_solve(factor, residual, check_finite=False)
        if dual
        else scipy.linalg.cho_solve(factor, x.T @ residual, check_finite=False)
    )
    return center, scale, weights.astype(np.float32), intercept.astype(np.float32)


def reduce_rank(
    standardised: NDArray[np.float32], weights: NDArray[np.float32], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factor weights into thin matrices that change the estimates least.

    Parameters
    ----------
    standardised : array of shape (n_images, n_student)
    weights : array of shape (n_student, n_features)
    rank : int

    Returns
    -------
    first : array of shape (n_student, rank)
    second : array of shape (rank, n_features)

    Notes
    -----
    Reduced-rank regression: the weights are projected on the leading right singular vectors of the
    estimates ``standardised @ weights`` (Izenman 1975, doi:10.1016/0047-259X(75)90042-1).
    """
    estimates = (standardised @ weights).astype(np.float64)
    _, vectors = np.linalg.eigh(estimates.T @ estimates)
    leading = vectors[:, ::-1][:, :rank].astype(np.float32)
    return weights @ leading, np.ascontiguousarray(leading.T)
