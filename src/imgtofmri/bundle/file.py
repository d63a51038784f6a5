"""The encoder's file format: one safetensors file, arrays plus a JSON card, no code.

``docs/reference/bundle.md`` specifies it byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.bundle.checks import check_bundle
from imgtofmri.bundle.content import MAP_ARRAYS, MODEL_ARRAYS, arrays_of, digest_of, whole_card
from imgtofmri.bundle.models import Bundle, Card, RoiModel, SubjectModel
from imgtofmri.documents import parse_json
from imgtofmri.exceptions import BundleError, OutputError
from imgtofmri.files import at_home, atomic_path, check_room, is_file, is_there
from imgtofmri.spaces import Grid, VoxelMap

FORMAT = "imgtofmri-bundle"
"""The entry of a safetensors file's metadata that makes it a bundle."""

FORMAT_VERSION = 1
"""The version of the format that is written, and the only one that is read."""


def write_bundle(bundle: Bundle, path: Path | str) -> None:
    """Write a bundle, whole or not at all.

    Parameters
    ----------
    bundle : Bundle
    path : path
        Where to; ``.safetensors`` by custom.

    Raises
    ------
    BundleError
        If the parts do not fit each other.
    OutputError
        If the file cannot be written there.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = at_home(path)
    check_bundle(bundle, str(path))
    arrays = arrays_of(bundle)
    check_room(path, sum(array.nbytes for array in arrays.values()))
    card = whole_card(bundle)
    # One entry only: safetensors writes several in random order, and a bundle's bytes shall depend
    # on its content alone.
    label = {"version": FORMAT_VERSION, "sha256": digest_of(card, arrays), "card": card}
    metadata = {FORMAT: json.dumps(label, ensure_ascii=False)}
    with atomic_path(path) as temporary:
        try:
            save_file(arrays, temporary, metadata)
        except SafetensorError as error:  # Among them what the disk says.
            message = f"cannot write {path}: {error}. Make room or choose another folder."
            raise OutputError(message) from error


def read_bundle(path: Path | str) -> Bundle:
    """Read and verify a bundle.

    Parameters
    ----------
    path : path
        A file that `write_bundle` wrote, or another of the same format.

    Returns
    -------
    Bundle

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
    if label.get("sha256") != digest_of(label.get("card"), arrays):
        message = (
            f"{path}: the content does not match the checksum that the file carries; it was "
            "damaged or edited. Write or fetch the bundle again."
        )
        raise BundleError(message)
    try:
        bundle = _assemble(label["card"], arrays)
    except Exception as error:  # whatever is not as it should be
        message = (
            f"{path}: the bundle is incomplete ({type(error).__name__}: {error}). "
            "Write or fetch it again."
        )
        raise BundleError(message) from error
    check_bundle(bundle, str(path))
    object.__setattr__(bundle, "_sha256", label["sha256"])  # As was just found.
    return bundle


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return what the file says of itself, and its arrays."""
    from safetensors import safe_open

    if not is_file(path):
        kind = "a folder" if is_there(path) else "nothing"
        message = (
            f"{path}: expected a bundle file, found {kind} there. Give the path of a .safetensors "
            "file, or the id of a published encoder."
        )
        raise BundleError(message)
    try:
        with safe_open(path, framework="numpy") as file:
            label = parse_json((file.metadata() or {}).get(FORMAT, "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # of the library, of JSON, and of NumPy for types that it lacks
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
                first_feature=_whole(settings["first_feature"], "first_feature"),
                extras={
                    key.removeprefix(extras_prefix): array
                    for key, array in arrays.items()
                    if key.startswith(extras_prefix)
                },
            )
        voxel_map = VoxelMap(*(arrays[f"{name}/to_template/{key}"] for key in MAP_ARRAYS))
        subjects.append(SubjectModel(name, _grid_from_json(entry["native"]), voxel_map, rois))
    return Bundle(card, _grid_from_json(card["template"]), tuple(subjects))


def _grid_from_json(entry: Mapping[str, Any]) -> Grid:
    x, y, z = (_whole(size, "a grid's shape") for size in entry["shape"])
    return Grid((x, y, z), np.array(entry["affine"], dtype=float).reshape(4, 4))


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        message = f"{what} is of whole numbers; got {value!r:.200}"
        raise TypeError(message)
    return value
