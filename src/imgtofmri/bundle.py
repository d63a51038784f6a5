"""The encoder's file format: one safetensors file, arrays plus a JSON card, no code.

``docs/reference/bundle.md`` specifies it byte by byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.assets import atomic_path
from imgtofmri.exceptions import BundleError
from imgtofmri.spaces import Grid, VoxelMap

FORMAT = "imgtofmri-bundle"
FORMAT_VERSION = 1
HEMIS = ("L", "R", "B")
"""Hemispheres by their code in the file; B is a mask that was not split by hemisphere."""
REQUIRED_CARD_KEYS = ("id", "title", "licence", "citation", "features", "template")
MODEL_ARRAYS = ("voxels", "hemi", "weights", "intercept")
MAP_ARRAYS = ("template", "native", "weight")

Card = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RoiModel:
    """One subject's linear model of one ROI.

    Attributes
    ----------
    voxels : array of shape (n_voxels,), int32
        Flat indices (C order) into the subject's native grid.
    hemi : array of shape (n_voxels,), uint8
        Index into ``HEMIS``.
    weights : array of shape (n_features, n_voxels), float32
    intercept : array of shape (n_voxels,), float32
    first_feature : int
        Where the model's features begin among the bundle's, which are several networks' or layers'
        features side by side where an encoder uses more than one.
    extras : dict of str to array of shape (n_voxels,)
        What is known about each voxel, such as ``cv_r``, ``noise_ceiling``, ``alpha``.
    """

    voxels: npt.NDArray[np.int32]
    hemi: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float32]
    first_feature: int = 0
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """Number of features that the model uses."""
        return len(self.weights)

    @property
    def n_voxels(self) -> int:
        """Number of voxels that the model predicts."""
        return len(self.voxels)


@dataclass(frozen=True, slots=True)
class SubjectModel:
    """One subject's models, and the way from the native grid to the template.

    Attributes
    ----------
    name : str
    native : Grid
    to_template : VoxelMap
        Restricted to the voxels that some model predicts.
    rois : dict of str to RoiModel
        In the bundle's order of ROIs.
    """

    name: str
    native: Grid
    to_template: VoxelMap
    rois: Mapping[str, RoiModel]


@dataclass(frozen=True, slots=True)
class Bundle:
    """An encoder as data: the card, the template grid, and each subject's models.

    Attributes
    ----------
    card : dict
        What the encoder is: id, title, licence, citation, features, template, subjects and more.
    template : Grid
    subjects : tuple of SubjectModel
    """

    card: Card
    template: Grid
    subjects: tuple[SubjectModel, ...]

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the ROIs, in the order in which overlapping models are merged."""
        names: dict[str, None] = {}
        for subject in self.subjects:
            names.update(dict.fromkeys(subject.rois))
        return tuple(names)

    @property
    def n_features(self) -> int:
        """Width of the feature matrix."""
        return int(self.card["features"]["n_features"])

    @property
    def features_id(self) -> str:
        """Which features the models were fitted on, such as ``"resnet18/avgpool"``."""
        return str(self.card["features"]["id"])

    @property
    def space(self) -> str:
        """Name of the template space, such as ``"MNI152NLin6Asym"``."""
        return str(self.card["template"]["space"])


def write_bundle(bundle: Bundle, path: Path | str) -> None:
    """Write a bundle, whole or not at all.

    Raises
    ------
    BundleError
        If the parts do not fit each other.
    OutputError
        If the file cannot be written there.
    """
    from safetensors.numpy import save_file

    _check(bundle, str(path))
    arrays = dict(_arrays(bundle))
    card = {
        **bundle.card,
        "template": {**bundle.card["template"], **_grid_to_json(bundle.template)},
        "subjects": [
            {
                "name": subject.name,
                "native": _grid_to_json(subject.native),
                "rois": {
                    roi: {"first_feature": m.first_feature} for roi, m in subject.rois.items()
                },
            }
            for subject in bundle.subjects
        ],
    }
    # One entry only: safetensors writes several in random order, and a bundle's bytes shall depend
    # on its content alone.
    label = {"version": FORMAT_VERSION, "sha256": _digest(card, arrays), "card": card}
    metadata = {FORMAT: json.dumps(label, ensure_ascii=False)}
    with atomic_path(Path(path)) as temporary:
        save_file(arrays, temporary, metadata)


def read_bundle(path: Path | str) -> Bundle:
    """Read and verify a bundle.

    Raises
    ------
    BundleError
        If the file is missing, damaged, not a bundle, or of a newer format.
    """
    label, arrays = _read_file(Path(path))
    version = label.get("version")
    if version != FORMAT_VERSION:
        message = (
            f"{path}: expected bundle format {FORMAT_VERSION}, got {version!r}. "
            "Upgrade imgtofmri to read a newer bundle."
        )
        raise BundleError(message)
    if label.get("sha256") != _digest(label.get("card"), arrays):
        message = (
            f"{path}: the content does not match the checksum that the file carries; it was "
            "damaged or edited. Write or fetch the bundle again."
        )
        raise BundleError(message)
    try:
        bundle = _assemble(label["card"], arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        message = (
            f"{path}: the bundle is incomplete ({type(error).__name__}: {error}). "
            "Write or fetch it again."
        )
        raise BundleError(message) from error
    _check(bundle, str(path))
    return bundle


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return what the file says of itself, and its arrays."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        kind = "a folder" if path.is_dir() else "nothing"
        message = (
            f"{path}: expected a bundle file, found {kind} there. Give the path of a .safetensors "
            "file, or the id of a published encoder."
        )
        raise BundleError(message)
    try:
        with safe_open(path, framework="numpy") as file:
            label = json.loads((file.metadata() or {}).get(FORMAT, "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        message = (
            f"{path}: expected a safetensors file that can be read; {error}. It is damaged, "
            "truncated or of another kind; write or fetch it again."
        )
        raise BundleError(message) from error
    if not isinstance(label, dict):
        message = (
            f"{path}: expected an imgtofmri bundle; this safetensors file does not say that it is "
            "one. Give a file that `imgtofmri fit` or `imgtofmri fetch` wrote."
        )
        raise BundleError(message)
    return label, arrays


def _arrays(bundle: Bundle) -> Iterable[tuple[str, npt.NDArray[Any]]]:
    for subject in bundle.subjects:
        for name in MAP_ARRAYS:
            array = getattr(subject.to_template, name)
            yield f"{subject.name}/to_template/{name}", np.ascontiguousarray(array)
        for roi, model in subject.rois.items():
            for name in MODEL_ARRAYS:
                yield f"{subject.name}/{roi}/{name}", np.ascontiguousarray(getattr(model, name))
            for name, extra in model.extras.items():
                yield f"{subject.name}/{roi}/extras/{name}", np.ascontiguousarray(extra)


def _assemble(card: Card, arrays: Mapping[str, npt.NDArray[Any]]) -> Bundle:
    subjects = []
    for entry in card["subjects"]:
        name = entry["name"]
        rois = {}
        for roi, settings in entry["rois"].items():
            prefix = f"{name}/{roi}/"
            extras_prefix = f"{prefix}extras/"
            voxels, hemi, weights, intercept = (arrays[prefix + key] for key in MODEL_ARRAYS)
            rois[roi] = RoiModel(
                voxels,
                hemi,
                weights,
                intercept,
                first_feature=int(settings["first_feature"]),
                extras={
                    key.removeprefix(extras_prefix): array
                    for key, array in arrays.items()
                    if key.startswith(extras_prefix)
                },
            )
        voxel_map = VoxelMap(*(arrays[f"{name}/to_template/{key}"] for key in MAP_ARRAYS))
        subjects.append(SubjectModel(name, _grid_from_json(entry["native"]), voxel_map, rois))
    return Bundle(card, _grid_from_json(card["template"]), tuple(subjects))


def _check(bundle: Bundle, where: str) -> None:
    """Refuse a bundle whose parts do not fit each other."""
    for problem in _problems(bundle):
        message = (
            f"{where}: {problem}. The bundle does not fit together; correct what wrote it and "
            "write it again."
        )
        raise BundleError(message)


def _problems(bundle: Bundle) -> Iterable[str]:
    missing = [key for key in REQUIRED_CARD_KEYS if key not in bundle.card]
    if missing:
        yield f"expected the card to say {', '.join(REQUIRED_CARD_KEYS)}; it lacks {missing}"
        return
    problem = _features_problem(bundle.card["features"])
    if problem:
        yield problem
        return
    names = [subject.name for subject in bundle.subjects]
    if not names or len(set(names)) < len(names):
        yield f"expected one or more subjects of distinct names, got {names}"
    for subject in bundle.subjects:
        if not subject.rois:
            yield f"subject {subject.name} has no ROI models"
        yield from _map_problems(subject, bundle.template)
        for roi, model in subject.rois.items():
            for problem in _model_problems(model, subject.native, bundle.n_features):
                yield f"subject {subject.name}, ROI {roi}: {problem}"


def _features_problem(features: Any) -> str:
    """Return what is wrong with the card's account of features, if anything."""
    entries = [features]
    if isinstance(features, dict) and "networks" in features:
        entries += features["networks"] if isinstance(features["networks"], list) else [None]
    for entry in entries:
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("id"), str)
            and isinstance(entry.get("backbone"), str)
            and isinstance(entry.get("layers"), list | tuple)
            and isinstance(entry.get("n_features"), int)
        ):
            return (
                "expected the card's features, and each network's, to say id, backbone, layers and "
                f"n_features; got {entry!r:.200}"
            )
        widths = entry.get("layer_widths")
        if widths is not None and (
            len(widths) != len(entry["layers"]) or sum(widths) != entry["n_features"]
        ):
            return (
                f"expected a width for each of {entry['layers']}, {entry['n_features']} in all; "
                f"got {widths!r:.200}"
            )
    parts = [entry["n_features"] for entry in entries[1:]]
    if parts and sum(parts) != features["n_features"]:
        return f"expected networks of {features['n_features']} features in all; got {parts}"
    return ""


def _map_problems(subject: SubjectModel, template: Grid) -> Iterable[str]:
    voxel_map = subject.to_template
    lengths = {len(getattr(voxel_map, name)) for name in MAP_ARRAYS}
    if len(lengths) != 1:
        yield f"subject {subject.name}: the arrays of to_template differ in length: {lengths}"
    elif not _within(voxel_map.template, template) or not _within(voxel_map.native, subject.native):
        yield f"subject {subject.name}: to_template names voxels outside the grids"
    elif not np.isfinite(voxel_map.weight).all():
        yield f"subject {subject.name}: to_template holds a weight that is not a finite number"


def _model_problems(model: RoiModel, native: Grid, n_features: int) -> Iterable[str]:
    if model.weights.ndim != 2 or 0 in model.weights.shape:
        yield f"expected weights (n_features, n_voxels), got shape {model.weights.shape}"
        return
    n_voxels = model.weights.shape[1]
    lengths = {
        "voxels": len(model.voxels),
        "hemi": len(model.hemi),
        "intercept": len(model.intercept),
        **{name: len(extra) for name, extra in model.extras.items()},
    }
    for name, length in lengths.items():
        if length != n_voxels:
            yield f"expected {name} of length {n_voxels} as the weights have, got {length}"
    if not 0 <= model.first_feature <= n_features - model.n_features:
        stop = model.first_feature + model.n_features
        yield f"features {model.first_feature} to {stop} are not among the bundle's {n_features}"
    if not _within(model.voxels, native) or len(np.unique(model.voxels)) < len(model.voxels):
        yield f"expected distinct voxels within the native grid {native.shape}"
    if len(model.hemi) and model.hemi.max() >= len(HEMIS):
        yield f"expected hemispheres coded 0 to {len(HEMIS) - 1}, got {model.hemi.max()}"
    if not (np.isfinite(model.weights).all() and np.isfinite(model.intercept).all()):
        yield "expected finite weights and intercepts, got NaN or infinity"


def _within(voxels: npt.NDArray[np.int32], grid: Grid) -> bool:
    return not len(voxels) or (voxels.min() >= 0 and voxels.max() < grid.n_voxels)


def _grid_to_json(grid: Grid) -> Card:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid_from_json(entry: Mapping[str, Any]) -> Grid:
    x, y, z = (int(size) for size in entry["shape"])
    return Grid((x, y, z), np.array(entry["affine"], dtype=float).reshape(4, 4))


def _digest(card: Card | None, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of the card and of every array with its name, in order of the names."""
    text = json.dumps(card, ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
