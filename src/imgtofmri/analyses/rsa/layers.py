"""Further models: layers of networks, on a grid that keeps where in a picture something is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones import (
    FeatureExtractor,
    Untrained,
    Weights,
    load_backbone,
)
from imgtofmri.backbones.base import BackboneSpec
from imgtofmri.backbones.names import PUBLISHED, NetworkName
from imgtofmri.backbones.pooling import parse_layer
from imgtofmri.exceptions import OptionError
from imgtofmri.rsa import RDMs, calculate_rdm

_NAME = re.compile(r"(.+\.onnx|[^/]+)/(.+)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LayerModel:
    """What a layer of a network makes of some images.

    Attributes
    ----------
    name : str
        As it was asked for: ``"resnet18/layer2@7x7"``.
    control : str
        Empty for the network's trained weights; otherwise the control whose weights it has,
        ``"untrained"``.
    names : tuple of str
        The images'.
    features : array of shape (n_images, n_features), float32
    network : BackboneSpec
    """

    name: str
    control: str
    names: tuple[str, ...]
    features: NDArray[np.float32]
    network: BackboneSpec

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.control} {self.name}".lstrip()

    @property
    def control_of(self) -> str | None:
        """The model that it is a control of."""
        return self.name if self.control else None

    def rdms(self, method: str) -> RDMs:
        """Make its matrix; a feature is treated as a voxel is."""
        vector = calculate_rdm(self.features, method, conditions=self.names)
        return RDMs(vector[None], self.names, (self.label,), method)

    def describe(self) -> dict[str, str]:
        """Say what it is, for a record."""
        return {
            "features": self.network.features_id,
            "weights": self.network.weights_name,
            "sha256": self.network.weights_sha256,
        }


class LayerModels:
    """The layers that were asked for, with their networks loaded; see `layer_models`.

    Parameters
    ----------
    extractors : dict of (name, control) to FeatureExtractor
    """

    def __init__(self, extractors: dict[tuple[str, str], FeatureExtractor]) -> None:
        self._extractors = extractors

    def predict(self, images: Any, progress: bool = True) -> tuple[LayerModel, ...]:
        """Put images that can be read through the networks."""
        found = []
        for (name, control), extractor in self._extractors.items():
            batch = extractor.features(images, progress=progress)
            spec = extractor.network.spec
            found.append(LayerModel(name, control, batch.names, batch.features, spec))
        return tuple(found)


def check_layers(names: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """Read what layers are called, each once, before anything is loaded.

    Parameters
    ----------
    names : sequence of str
        ``NETWORK/LAYER``, the layer with a grid or another pooling if need be:
        ``resnet18/layer2@7x7``, ``nets/clip.onnx/relu3@14x14``, ``timm:resnet50/layer1@7x7``.

    Returns
    -------
    tuple of (network, layer)

    Raises
    ------
    OptionError
        If one does not name a network and a layer.

    Examples
    --------
    >>> check_layers(["resnet18/layer2@7x7", "nets/clip.onnx//relu/out"])
    (('resnet18', 'layer2@7x7'), ('nets/clip.onnx', '/relu/out'))
    """
    found = {}
    for name in names or ():
        parts = _NAME.fullmatch(name)
        if parts is None:
            message = (
                f"`model` must be NETWORK/LAYER, on a grid as NETWORK/LAYER@HxW; got {name!r}. "
                "Write resnet18/layer2@7x7, for example; `imgtofmri backbones show NETWORK` lists "
                "layers."
            )
            raise OptionError(message, "model")
        network, layer = parts.groups()
        if NetworkName.parse(network).kind in ("head", "other"):
            NetworkName.parse(network).architecture()  # Says what there is.
        parse_layer(layer)
        found[name] = (network, layer)
    return tuple(found.values())


def layer_models(
    names: Sequence[str] | None,
    *,
    weights: Weights | None = None,
    weights_of: str = "resnet18",
    controls: Sequence[str] = (),
    center_crop: bool = False,
    engine: str = "onnxruntime",
    precision: str | None = None,
) -> LayerModels:
    """Return models that are layers of networks, with their networks loaded.

    Parameters
    ----------
    names : sequence of str
        As `check_layers` reads them.
    weights : path, str or Untrained, optional
        For the network that ``weights_of`` names; others have their published ones.
    weights_of : str
    controls : sequence of str
        Those that are untrained networks are loaded beside each model.
    center_crop : bool
        Crop the centre, instead of squeezing the whole picture.
    engine, precision
        What the networks run on, as for `imgtofmri.load_backbone`.

    Returns
    -------
    LayerModels
        ``predict(images)`` is what `compare_geometry` takes as ``layers``.

    Raises
    ------
    OptionError
        If there is no such network or layer, or a network has no random weights.
    WeightsUnavailableError
        If weights are not to be had.

    Examples
    --------
    >>> models = layer_models(["resnet18/layer2@7x7"])  # doctest: +SKIP
    >>> compare_geometry(prediction, "m.npz", layers=models.predict("photos/"))  # doctest: +SKIP
    """
    untrained = [name for name in controls if Untrained.parse(name) is not None]
    extractors = {}
    for name, (network, layer) in zip(dict.fromkeys(names or ()), check_layers(names), strict=True):
        own = weights if network == weights_of else PUBLISHED
        for control in ("", *untrained):
            loaded = load_backbone(
                Path(network) if NetworkName.parse(network).kind == "onnx" else network,
                weights=control or own,
                layers=[layer],
                engine=engine,
                precision=precision,
            )
            extractors[name, control] = FeatureExtractor(loaded, center_crop)
    return LayerModels(extractors)
