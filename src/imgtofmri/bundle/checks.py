"""What a bundle must be, checked before it is written and after it was read.

A file of the right format may come from anywhere. Whatever is used of it later is checked here, so
that a mistake is named once, with the file, instead of showing as an error deep in a computation.
Names of subjects and spaces become parts of file names and must not lead out of a folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.bundle.content import MAP_ARRAYS
from imgtofmri.bundle.models import HEMIS, Bundle, RoiModel, SubjectModel
from imgtofmri.exceptions import BundleError
from imgtofmri.limits import limit, variable
from imgtofmri.spaces import Grid

REQUIRED_CARD_KEYS = ("id", "title", "licence", "citation", "features", "template")
_KINDS = {"f": "floating-point numbers", "iu": "integers", "fiub": "numbers"}
_BAD_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f]|^\.+$|^$")
_SPACE = re.compile(r"[A-Za-z0-9+]+")


def check_bundle(bundle: Bundle, where: str) -> None:
    """Refuse a bundle whose parts do not fit each other.

    Raises
    ------
    BundleError
        The message begins with ``where`` and names subject and ROI.
    """
    for problem in _problems(bundle):
        message = (
            f"{where}: {problem}. The bundle does not fit together; correct what wrote it and "
            "write it again."
        )
        raise BundleError(message)


def _problems(bundle: Bundle) -> Iterable[str]:
    """Yield what is wrong, the most basic first."""
    yield from _card_problems(bundle.card)
    names = [subject.name for subject in bundle.subjects]
    if not names or len(set(names)) < len(names):
        yield f"expected one or more subjects of distinct names, got {names}"
    yield from _grid_problems(bundle.template, "the template")
    for subject in bundle.subjects:
        yield from _name_problems(subject.name, "a subject")
        yield from _grid_problems(subject.native, f"subject {subject.name}")
        if not subject.rois:
            yield f"subject {subject.name} has no ROI models"
        yield from _map_problems(subject, bundle.template)
        for roi, model in subject.rois.items():
            yield from _name_problems(roi, "an ROI")
            for problem in _model_problems(model, subject.native, bundle.n_features):
                yield f"subject {subject.name}, ROI {roi}: {problem}"


def _card_problems(card: Mapping[str, Any]) -> Iterable[str]:
    missing = [key for key in REQUIRED_CARD_KEYS if key not in card]
    if missing:
        yield f"expected the card to say {', '.join(REQUIRED_CARD_KEYS)}; it lacks {missing}"
    for key in ("id", "title", "licence"):
        if not isinstance(card[key], str):
            yield f"expected the card's {key} to be a text; got {card[key]!r:.200}"
    citation = card["citation"]
    if not isinstance(citation, str) and not _is_list(citation, str):
        yield f"expected the card's citation to be a text or a list of texts; got {citation!r:.200}"
    yield from _features_problems(card["features"])
    template = card["template"]
    space = template.get("space") if isinstance(template, dict) else None
    if not isinstance(space, str) or not _SPACE.fullmatch(space):
        yield (
            "expected the card's template to name its space in letters and digits, such as "
            f"MNI152NLin6Asym; got {space!r:.200}"
        )


def _features_problems(features: Any) -> Iterable[str]:
    """Yield what is wrong with the card's account of features."""
    entries = [features]
    if isinstance(features, dict) and "networks" in features:
        entries += features["networks"] if isinstance(features["networks"], list) else [None]
    for entry in entries:
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("id"), str)
            and isinstance(entry.get("backbone"), str)
            and _is_list(entry.get("layers"), str)
            and _is_count(entry.get("n_features"))
        ):
            yield (
                "expected the card's features, and each network's, to say id, backbone, layers and "
                f"n_features; got {entry!r:.200}"
            )
        widths = entry.get("layer_widths")
        if widths is not None and not (
            isinstance(widths, list | tuple)
            and all(map(_is_count, widths))
            and len(widths) == len(entry["layers"])
            and sum(widths) == entry["n_features"]
        ):
            yield (
                f"expected a width for each of {entry['layers']}, {entry['n_features']} in all; "
                f"got {widths!r:.200}"
            )
        yield from _input_problems(entry)
    parts = [entry["n_features"] for entry in entries[1:]]
    if parts and sum(parts) != features["n_features"]:
        yield f"expected networks of {features['n_features']} features in all; got {parts}"
    if not all(isinstance(entry.get("label"), str) for entry in entries[1:]):
        yield "expected each network of the card's features to have a label"
    rois = features.get("rois", {})
    if not isinstance(rois, dict) or not all(_is_list(layers, str) for layers in rois.values()):
        yield f"expected the card's features to list layers by ROI under rois; got {rois!r:.200}"


def _input_problems(entry: Mapping[str, Any]) -> Iterable[str]:
    """Yield what is wrong with what a card says of a network's input and weights."""
    recipe = entry.get("preprocessing")
    if recipe is not None and not (
        isinstance(recipe, dict)
        and _is_count(recipe.get("size"))
        and recipe["size"] ** 2 <= limit("pixels")
        and all(_is_list(recipe.get(key), float | int) for key in ("mean", "std"))
        and len(recipe["mean"]) == len(recipe["std"]) == 3
        and all(abs(value) < 1e6 for value in (*recipe["mean"], *recipe["std"]))
        and all(recipe["std"])
    ):
        yield (
            "expected preprocessing to be a size, and a mean and a std of three numbers each, for "
            f"squares of at most {limit('pixels'):,} pixels; got {recipe!r:.200}"
        )
    weights = entry.get("weights")
    if weights is not None and not (
        isinstance(weights, dict)
        and all(isinstance(weights.get(key), str | None) for key in ("name", "sha256"))
        and not re.search(r"[/\\\x00]", weights.get("name") or "")
        and _is_count(weights.get("seed", 0), least=0)
    ):
        yield (
            "expected weights to be a file's name, without a folder, and its sha256, or a seed; "
            f"got {weights!r:.200}"
        )


def _name_problems(name: Any, what: str) -> Iterable[str]:
    if not isinstance(name, str) or _BAD_IN_NAMES.search(name):
        yield f"expected the name of {what} to be a text without slashes; got {name!r:.200}"


def _grid_problems(grid: Grid, where: str) -> Iterable[str]:
    # Voxels are counted in 32 bits.
    most = min(limit("voxels"), 2**31 - 1)
    if min(grid.shape) < 1 or math.prod(grid.shape) > most:
        yield (
            f"expected the grid of {where} to have 1 to {most:,} voxels, as {variable('voxels')} "
            f"says; got shape {grid.shape}"
        )
    if grid.fault:
        yield f"expected the affine of {where} to {grid.fault}; got {grid.affine.tolist()}"


def _map_problems(subject: SubjectModel, template: Grid) -> Iterable[str]:
    voxel_map, where = subject.to_template, f"subject {subject.name}"
    for name in MAP_ARRAYS:
        kind = "f" if name == "weight" else "iu"
        for problem in _array_problems(getattr(voxel_map, name), name, kind):
            yield f"{where}, to_template: {problem}"
    lengths = {len(getattr(voxel_map, name)) for name in MAP_ARRAYS}
    if len(lengths) != 1:
        yield f"{where}: the arrays of to_template differ in length: {lengths}"
    if not _within(voxel_map.template, template) or not _within(voxel_map.native, subject.native):
        yield f"{where}: to_template names voxels outside the grids"
    if not np.isfinite(voxel_map.weight).all():
        yield f"{where}: to_template holds a weight that is not a finite number"


def _model_problems(model: RoiModel, native: Grid, n_features: int) -> Iterable[str]:
    if model.weights.ndim != 2 or 0 in model.weights.shape:
        yield f"expected weights (n_features, n_voxels), got shape {model.weights.shape}"
    if model.weights.dtype.kind != "f":
        yield f"expected weights of floating-point numbers; got {model.weights.dtype}"
    n_voxels = model.weights.shape[1]
    arrays: dict[str, tuple[npt.NDArray[Any], str]] = {
        "voxels": (model.voxels, "iu"),
        "hemi": (model.hemi, "iu"),
        "intercept": (model.intercept, "f"),
        **{name: (extra, "fiub") for name, extra in model.extras.items()},
    }
    for name, (array, kind) in arrays.items():
        yield from _array_problems(array, name, kind)
        if len(array) != n_voxels:
            yield f"expected {name} of length {n_voxels} as the weights have, got {len(array)}"
    if not 0 <= model.first_feature <= n_features - model.n_features:
        stop = model.first_feature + model.n_features
        yield f"features {model.first_feature} to {stop} are not among the bundle's {n_features}"
    if not _within(model.voxels, native) or len(np.unique(model.voxels)) < len(model.voxels):
        yield f"expected distinct voxels within the native grid {native.shape}"
    if not 0 <= model.hemi.min() <= model.hemi.max() < len(HEMIS):
        yield f"expected hemispheres coded 0 to {len(HEMIS) - 1}, got {model.hemi.max()}"
    if not (np.isfinite(model.weights).all() and np.isfinite(model.intercept).all()):
        yield "expected finite weights and intercepts, got NaN or infinity"


def _array_problems(array: npt.NDArray[Any], name: str, kind: str) -> Iterable[str]:
    if array.ndim != 1:
        yield f"expected {name} to have one axis; got shape {array.shape}"
    if array.dtype.kind not in kind:
        yield f"expected {name} to hold {_KINDS[kind]}; got {array.dtype}"


def _within(voxels: npt.NDArray[Any], grid: Grid) -> bool:
    return not len(voxels) or (voxels.min() >= 0 and voxels.max() < grid.n_voxels)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_list(value: Any, kind: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, kind) for item in value)
