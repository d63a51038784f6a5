"""All that a bundle holds as one card and named arrays, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.spaces import Grid

if TYPE_CHECKING:
    from imgtofmri.bundle.models import Bundle, Card

MODEL_ARRAYS = ("voxels", "hemi", "weights", "intercept")
MAP_ARRAYS = ("template", "native", "weight")


def whole_card(bundle: Bundle) -> Card:
    """Return the card with what is no array: the grids, and where each model's features begin."""
    return {
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


def arrays_of(bundle: Bundle) -> dict[str, npt.NDArray[Any]]:
    """Return all arrays by their names in the file."""
    return dict(_arrays(bundle))


def _arrays(bundle: Bundle) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for subject in bundle.subjects:
        for name in MAP_ARRAYS:
            array = getattr(subject.to_template, name)
            yield f"{subject.name}/to_template/{name}", np.ascontiguousarray(array)
        for roi, model in subject.rois.items():
            for name in MODEL_ARRAYS:
                yield f"{subject.name}/{roi}/{name}", np.ascontiguousarray(getattr(model, name))
            for name, extra in model.extras.items():
                yield f"{subject.name}/{roi}/extras/{name}", np.ascontiguousarray(extra)


def _grid_to_json(grid: Grid) -> Card:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def digest_of(card: Card | None, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of the card and of every array with its name, in order of the names."""
    text = json.dumps(card, ensure_ascii=False, sort_keys=True)
    # A lone surrogate has no UTF-8; as "?" it fails the comparison instead of raising here.
    digest = hashlib.sha256(text.encode(errors="replace"))
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
