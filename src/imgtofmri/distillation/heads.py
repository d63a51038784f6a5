"""Fit a head with which one network estimates another's features.

Where a published network's weights cannot be had, a network that can be may stand in for it: a
linear map from its activations, pooled over space at many depths, to the other's features.
`distill` fits that map by ridge regression on any images, since the teacher labels them; no brain
data take part.

References
----------
Hinton, Vinyals & Dean (2015), Distilling the knowledge in a neural network, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones import Backbone, BackboneSpec, Head
from imgtofmri.encoder.spatial import SpatialModel
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.progress import track

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_CROP_AREA = 0.35
MAX_LOG_ASPECT = np.log(4 / 3)


def distill(
    student: Backbone,
    teacher: Backbone,
    images: Iterable[NDArray[np.uint8]],
    *,
    penalty: float | NDArray[np.float64] = 20_000.0,
    rank: int | None = None,
    note: str = "",
    card: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Head:
    """Fit a head that turns a student's activations into a teacher's features.

    Parameters
    ----------
    student : Backbone
        Loaded with the layers to use: ``load_backbone("efficientnet-lite0", layers=[...])``. Means
        and standard deviations over space of many layers do better than the last layer alone.
    teacher : Backbone
        The network whose features are to be estimated.
    images : iterable of uint8 arrays of shape (n, size, size, 3)
        Batches of images; `random_views` makes several of each photograph. The activations of all
        of them are held in memory, 4 bytes each.
    penalty : float or array of shape (n_student,)
        Ridge penalty for standardised activations; one for each where some, such as deviations
        beside means, shall count for less.
    rank : int, optional
        Number of components between activations and features. Fewer make a smaller file; the
        components are those that carry most of the estimates' variance. Default: all.
    note : str
        One line for the sidecars of predictions made with the head: its fidelity and licence.
    card : mapping, optional
        What else the head's card shall say.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Head
        To be written with `imgtofmri.backbones.write_head` and used with
        ``load_backbone(name, head=path)``.

    Raises
    ------
    ShapeError
        If student and teacher take images of different sizes.
    DataError
        If there are too few images to fit anything.
    OptionError
        If the penalty is not positive, or the rank is not between 1 and the number of features.

    Notes
    -----
    Where none of the teacher's features is ever negative, as after rectification and averaging,
    the head's estimates are rectified too.
    """
    activations, features = observe(student, teacher, images, progress=progress)
    return fit_head(
        student.spec,
        teacher.spec,
        activations,
        features,
        penalty=penalty,
        rank=rank,
        note=note,
        card=card,
    )


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
    student, teacher, images, progress
        As for `distill`.

    Returns
    -------
    activations : array of shape (n_images, n_student)
    features : array of shape (n_images, n_features)

    Raises
    ------
    ShapeError, DataError
        As `distill` does.
    """
    sizes = student.spec.preprocessing.size, teacher.spec.preprocessing.size
    if sizes[0] != sizes[1]:
        message = (
            f"distill: student and teacher must take images of one size; {student.spec.id} takes "
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
            f"distill: images must hold at least 2 images; got {sum(map(len, features))}. "
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
    """Fit a head to what student and teacher said of the same images; see `distill`.

    Parameters
    ----------
    student, teacher : BackboneSpec
    activations : array of shape (n_images, n_student)
        Overwritten: they may fill much of the memory.
    features : array of shape (n_images, n_features)
    penalty, rank, note, card
        As for `distill`.

    Returns
    -------
    Head
    """
    if rank is not None and not 1 <= rank <= features.shape[1]:
        message = (
            f"distill: rank must be between 1 and {features.shape[1]}, the number of the teacher's "
            f"features; got {rank}. Leave it out to keep every component."
        )
        raise OptionError(message)
    center, scale, weights, intercept = fit_ridge(activations, features, penalty)
    weights, mixing = reduce_rank(activations, weights, rank or features.shape[1])
    return Head(
        {
            **(card or {}),
            "student": student.id,
            "student_weights_sha256": student.weights_sha256,
            "layers": list(student.layers),
            "features_id": teacher.features_id,
            "teacher_weights_sha256": teacher.weights_sha256,
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


def map_agreement(
    spatial: SpatialModel,
    estimated: NDArray[np.float32],
    features: NDArray[np.float32],
    voxels: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Correlate the group maps of estimated features with those of the teacher's own.

    Parameters
    ----------
    spatial : SpatialModel
        Of the encoder that the features are for.
    estimated, features : arrays of shape (n_images, n_features)
    voxels : array of shape (n_voxels,), bool, optional
        The voxels to compare; all of the mask by default.

    Returns
    -------
    array of shape (n_images,), float64
        Pearson's r over voxels, image by image.
    """
    left, right = (
        spatial.predict(rows, "zscore")[0][:, slice(None) if voxels is None else voxels]
        for rows in (estimated, features)
    )
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean(axis=1, keepdims=True)
    products = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    return np.asarray(
        products / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)), dtype=np.float64
    )


def summarise_agreement(name: str, r: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean, the median and the 5th percentile of correlations, for a card."""
    return {
        f"{name}_mean_r": round(float(r.mean()), 3),
        f"{name}_median_r": round(float(np.median(r)), 3),
        f"{name}_5th_percentile_r": round(float(np.quantile(r, 0.05)), 3),
    }


def fit_ridge(
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
            f"distill: penalty must be a positive number, or {n_student} of them; got {penalty}. "
            "20000 is a good start."
        )
        raise OptionError(message)
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


def random_views(
    image: Image, size: int, n_views: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut several views out of one photograph, so that few photographs teach more.

    Parameters
    ----------
    image : PIL image in mode RGB
    size : int
        Side of a view, in pixels.
    n_views : int
        The first is the whole image, the second the whole image mirrored; the others are random
        parts of at least 35 % of its area, stretched by up to 4/3, half of them mirrored.
    rng : numpy.random.Generator

    Returns
    -------
    uint8 array of shape (n_views, size, size, 3)
    """
    views = []
    for index in range(n_views):
        if index > 1:
            views.append(_random_part(image, size, rng))
        else:
            view = _resize(image, size, (0.0, 0.0, image.width, image.height))
            views.append(view[:, ::-1] if index == 1 else view)
    return np.stack(views) if views else np.zeros((0, size, size, 3), np.uint8)


def altered_views(
    image: Image, other: Image, size: int, n_views: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Make pictures that nobody took: the teacher labels them as it does photographs.

    In turn: random parts of both photographs blended into one another, parts of both side by side,
    and a part of the first with its brightness, contrast and saturation changed.

    Parameters
    ----------
    image, other : PIL images in mode RGB
    size : int
        Side of a view, in pixels.
    n_views : int
    rng : numpy.random.Generator

    Returns
    -------
    uint8 array of shape (n_views, size, size, 3)

    References
    ----------
    Zhang et al. (2018), mixup, arXiv:1710.09412. Yun et al. (2019), CutMix, arXiv:1905.04899.
    """
    views = np.zeros((n_views, size, size, 3), np.uint8)
    for index, view in enumerate(views):
        first = _random_part(image, size, rng)
        if index % 3 == 2:
            view[:] = _recolour(first, rng)
            continue
        second = _random_part(other, size, rng)
        if index % 3 == 0:
            share = rng.uniform(0.3, 0.7)
            view[:] = np.rint(share * first + (1 - share) * second)
        else:
            edge = int(rng.integers(size // 5, size - size // 5))
            beside = bool(rng.random() < 0.5)
            view[:] = first
            if beside:
                view[:, edge:] = second[:, edge:]
            else:
                view[edge:] = second[edge:]
    return views


def _recolour(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
    """Change brightness, contrast about the mean, and saturation, each by up to a factor of 1.6."""
    brightness, contrast, saturation = np.exp(rng.uniform(-0.5, 0.5, 3))
    values = pixels * brightness
    grey = values.mean(axis=2, keepdims=True)
    values = grey + saturation * (values - grey)
    values = values.mean() + contrast * (values - values.mean())
    clipped: NDArray[np.float64] = np.rint(np.clip(values, 0, 255))
    return clipped


def _random_part(image: Image, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random part of an image, mirrored every other time."""
    part = _resize(image, size, _random_box(image.width, image.height, rng))
    return part[:, ::-1] if rng.random() < 0.5 else part


def _resize(image: Image, size: int, box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    from PIL.Image import Resampling

    return np.asarray(image.resize((size, size), Resampling.BILINEAR, box=box))


def _random_box(
    width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Draw a part of an image: left, upper, right, lower."""
    area = rng.uniform(MIN_CROP_AREA, 1.0)
    stretch = np.exp(rng.uniform(-MAX_LOG_ASPECT, MAX_LOG_ASPECT))
    box_width = min(1.0, float(np.sqrt(area * stretch))) * width
    box_height = min(1.0, float(np.sqrt(area / stretch))) * height
    left = rng.uniform(0, width - box_width)
    upper = rng.uniform(0, height - box_height)
    return left, upper, min(left + box_width, width), min(upper + box_height, height)
