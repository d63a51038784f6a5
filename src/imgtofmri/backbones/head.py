"""A distilled head: one network's features estimated from another's.

A head is a linear map from a student network's pooled activations to a teacher's features, kept as
the product of two thin matrices, followed by rectification where the teacher's features cannot be
negative. Its file is a ``.safetensors`` with a card, a JSON text in the metadata, which says how
the head was made and how faithful it is.
`imgtofmri.distillation` fits heads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.base import Backbone, BackboneSpec
from imgtofmri.backbones.names import NetworkName
from imgtofmri.documents import parse_json
from imgtofmri.exceptions import ShapeError, WeightsError
from imgtofmri.files import atomic_path
from imgtofmri.products import row_products

# The only entry of the file's metadata: several would be written in no certain order.
CARD_KEY = "imgtofmri-head-1"

# Heads in the package, by the student's name.
PACKAGED = {"efficientnet-lite0": "efficientnet-lite0_resnet18-avgpool"}


@dataclass(frozen=True, slots=True)
class Head:
    """A linear map from a student's activations to a teacher's features.

    Attributes
    ----------
    card : dict
        ``student``, ``layers``, ``features_id`` (the teacher's), ``rectified`` and ``note``, which
        loading needs; and how the head was made, for people.
    center, scale : arrays of shape (n_student,), float32
        Standardise the student's activations.
    weights : array of shape (n_student, rank), float32
        From standardised activations to components; float16 in the file.
    mixing : array of shape (rank, n_features), float32
        From components to features; float16 in the file.
    intercept : array of shape (n_features,), float32
    """

    card: dict[str, Any]
    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: NDArray[np.float32]
    mixing: NDArray[np.float32]
    intercept: NDArray[np.float32]

    @property
    def layers(self) -> tuple[str, ...]:
        """The student's layers that the head needs, in order."""
        return tuple(self.card["layers"])

    def __call__(self, activations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Estimate features.

        Parameters
        ----------
        activations : float32 array of shape (n_stimuli, n_student)
            The student's layers side by side.

        Returns
        -------
        features : float32 array of shape (n_stimuli, n_features)

        Raises
        ------
        ShapeError
            If there are more or fewer activations than the head was fitted on.
        """
        if activations.ndim != 2 or activations.shape[1] != len(self.center):
            message = (
                f"activations must have shape (n_stimuli, {len(self.center)}), the layers "
                f"{', '.join(self.layers)} side by side; got {activations.shape}. Load the student "
                "with the head's layers."
            )
            raise ShapeError(message)
        components = row_products((activations - self.center) / self.scale, self.weights)
        features = row_products(components, self.mixing) + self.intercept
        if self.card["rectified"]:
            np.maximum(features, 0, out=features)
        return np.ascontiguousarray(features)


class DistilledBackbone:
    """A student network with a head: a backbone that emulates the teacher.

    Parameters
    ----------
    student : Backbone
        Loaded with the head's layers.
    head : Head
        Fitted on that student.

    Raises
    ------
    ShapeError
        If the head was fitted on another student, or on other weights of it.
    """

    def __init__(self, student: Backbone, head: Head) -> None:
        spec = student.spec
        if (spec.id, spec.layers) != (head.card["student"], head.layers):
            message = (
                f"student must be {head.card['student']} with the layers {', '.join(head.layers)}, "
                f"which the head was fitted on; got {spec.id} with {', '.join(spec.layers)}. Load "
                "that one with those layers."
            )
            raise ShapeError(message)
        fitted_on = str(head.card.get("student_weights_sha256"))
        # Of published weights there are several files.
        its_own = head.card.get("student_weights_verified") is False
        if its_own and spec.weights_sha256 != fitted_on:
            message = (
                f"student must have the weights that the head was fitted on, of SHA-256 "
                f"{fitted_on[:12]}..., which are not the published ones; got {spec.weights_name}, "
                f"{spec.weights_sha256[:12]}... Name their file with `weights`."
            )
            raise ShapeError(message)
        self._student, self._head = student, head
        note = "; ".join(text for text in (str(head.card["note"]), spec.note) if text)
        self._spec = replace(
            spec,
            n_features=len(head.intercept),
            features_id=str(head.card["features_id"]),
            emulated=True,
            note=note,
            layer_widths=(),
        )

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._spec

    @property
    def card(self) -> dict[str, Any]:
        """The head's card."""
        return self._head.card

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features; see `Backbone`."""
        return self._head(self._student(pixels))


def packaged_head(student: str) -> Head | None:
    """Return the package's head for a network, or None where it has none."""
    if student not in PACKAGED:
        return None
    return read_head(resources.files(__package__) / "heads" / f"{PACKAGED[student]}.safetensors")


def read_head(path: Path | Traversable) -> Head:
    """Read a head from its file.

    Raises
    ------
    WeightsError
        If the file is not a whole head.
    """
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        card = _card(data)
        arrays = load(data)
        head = Head(card, **{name: arrays[name].astype(np.float32) for name in _ARRAYS})
        _check(head)
    except Exception as error:  # of the library, of JSON, and of NumPy
        message = (
            f"{path}: expected a head, as imgtofmri.distillation writes; got something else "
            f"({error}). Give a head's .safetensors file, or fit one again."
        )
        raise WeightsError(message) from error
    return head


_CARD = {"student": str, "layers": list, "features_id": str, "rectified": bool, "note": str}
_ARRAYS = {
    "center": np.float32,
    "scale": np.float32,
    "weights": np.float16,
    "mixing": np.float16,
    "intercept": np.float32,
}


def _card(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length].decode())
    card: dict[str, Any] = parse_json(header["__metadata__"][CARD_KEY])
    return card


def _check(head: Head) -> None:
    n_student, rank = head.weights.shape
    wrong = [name for name, kind in _CARD.items() if not isinstance(head.card.get(name), kind)]
    if wrong or not all(isinstance(layer, str) for layer in head.layers):
        message = f"a card without {', '.join(wrong or ['names of layers'])}"
        raise ValueError(message)
    # What it names is loaded: a network, and no file of whoever wrote the head.
    if NetworkName.parse(head.card["student"]).is_file:
        message = f"a student that is a file, {head.card['student']!r:.200}"
        raise ValueError(message)
    if not all(np.isfinite(getattr(head, name)).all() for name in _ARRAYS) or not head.scale.all():
        message = "numbers that are not finite, or a scale of 0"
        raise ValueError(message)
    if head.center.shape != (n_student,) or head.scale.shape != (n_student,):
        message = f"weights of shape {head.weights.shape} with center {head.center.shape}"
        raise ValueError(message)
    if head.mixing.shape != (rank, len(head.intercept)):
        message = f"weights of shape {head.weights.shape} with mixing {head.mixing.shape}"
        raise ValueError(message)


def write_head(head: Head, path: Path) -> None:
    """Write a head to a file, whole or not at all; both matrices become float16.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {name: getattr(head, name).astype(dtype) for name, dtype in _ARRAYS.items()}
    card = json.dumps(head.card, sort_keys=True, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(arrays, metadata={CARD_KEY: card}))
