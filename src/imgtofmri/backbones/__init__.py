"""Feature extractors: frozen networks that turn images into features.

`load_backbone` gives a network with its weights, on ONNX Runtime. Weights are verified, and nothing
in a weights file is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imgtofmri.backbones.architectures import NETWORKS
from imgtofmri.backbones.base import Backbone, BackboneSpec, Preprocessing
from imgtofmri.backbones.cache import CachedBackbone, cached_backbone, features_folder
from imgtofmri.backbones.extractor import FeatureExtractor
from imgtofmri.backbones.head import (
    DistilledBackbone,
    Head,
    packaged_head,
    read_head,
    write_head,
)
from imgtofmri.backbones.stream import BATCH_SIZE, FeatureBatch, stream_features
from imgtofmri.backbones.torch_named import COLLECTIONS, load_torch_name
from imgtofmri.backbones.untrained import untrained_seed, untrained_weights
from imgtofmri.backbones.weights import (
    UnverifiedWeightsWarning,
    fetch_weights,
    find_network,
    load_named,
    load_published,
)
from imgtofmri.exceptions import OptionError

__all__ = [
    "BACKBONES",
    "BATCH_SIZE",
    "Backbone",
    "BackboneSpec",
    "CachedBackbone",
    "DistilledBackbone",
    "FeatureBatch",
    "FeatureExtractor",
    "Head",
    "Preprocessing",
    "UnverifiedWeightsWarning",
    "cached_backbone",
    "features_folder",
    "fetch_weights",
    "load_backbone",
    "read_head",
    "stream_features",
    "write_head",
]

BACKBONES: dict[str, str] = {name: network.description for name, network in NETWORKS.items()}
"""The networks that need no file, each with a line on what it is."""


def load_backbone(
    name: str | Path = "resnet18",
    *,
    weights: Path | str | None = None,
    layers: Sequence[str] | None = None,
    head: Path | str | Head | None = None,
    preprocessing: Preprocessing | None = None,
    n_threads: int | None = None,
    progress: bool = False,
) -> Backbone:
    """Load a feature extractor with its weights.

    Parameters
    ----------
    name : str or Path
        One of `BACKBONES`; the path of an ONNX file (``.onnx``), or that of a head
        (``.safetensors``), which brings its student and its layers with it; or ``"timm:NAME"`` or
        ``"torchvision:NAME"``, where those packages are installed.
    weights : path or str, optional
        A file with the network's weights: safetensors or a PyTorch checkpoint; or ``"untrained"``
        or ``"untrained:SEED"`` for random ones. Default: the published ones, from the cache or
        downloaded.
    layers : sequence of str, optional
        Layers whose activations, averaged over space, are the features; ``"LAYER/sd"`` is their
        standard deviation over space, ``"LAYER/max"`` the maximum, ``"LAYER/flatten:WIDTH"`` all
        values through a random projection (see `imgtofmri.backbones.pooling`). Default: the last
        layer before the classifier, or what the network's distilled head makes of several:
        ``"efficientnet-lite0"`` has one in the package and then gives estimates of ResNet-18's
        features (``spec.emulated`` is True).
    head : path or Head, optional
        Another distilled head than the package's. It names its layers itself.
    preprocessing : Preprocessing, optional
        For an ONNX file or a network of timm or torchvision only; those of `BACKBONES` have their
        own.
    n_threads : int, optional
        Threads of the network. Default: the CPUs that this process may use.
    progress : bool
        Whether to report a download's progress.

    Returns
    -------
    Backbone
        To be called with uint8 pixels of shape (n_stimuli, size, size, 3).

    Raises
    ------
    OptionError
        If there is no such backbone or layer, or an option does not apply to it.
    WeightsUnavailableError
        If the weights are neither in the cache nor to be had; the message names the remedies.
    WeightsError
        If a weights file is not what it should be.
    MissingDependencyError
        If the network needs a package that is not installed.
    """
    if n_threads is not None and n_threads < 1:
        message = (
            f"load_backbone: n_threads must be at least 1; got {n_threads}. Leave it out to use "
            "every CPU."
        )
        raise OptionError(message)
    if str(name).lower().endswith(".safetensors"):
        _refuse_option("head", head, f"{name} is one")
        chosen_head = read_head(Path(name))
        student = str(chosen_head.card["student"])
        return load_backbone(
            student, weights=weights, head=chosen_head, n_threads=n_threads, progress=progress
        )
    if isinstance(name, Path) or name.lower().endswith(".onnx"):
        from imgtofmri.backbones.runtime import OnnxFileBackbone

        _refuse_option("weights", weights, f"{name} holds its own weights")
        _refuse_option("head", head, "heads are for the package's own networks")
        return OnnxFileBackbone(Path(name), layers, preprocessing, n_threads)

    if name.startswith(COLLECTIONS):
        _refuse_option("head", head, "heads are for the package's own networks")
        return load_torch_name(name, layers, preprocessing, weights)

    from imgtofmri.backbones.runtime import NetworkBackbone

    network = find_network(name)
    _refuse_option("preprocessing", preprocessing, f"{name} has its own")
    seed = untrained_seed(weights)
    if seed is not None:
        _refuse_option("head", head, "it was fitted on a trained network")
        random = untrained_weights(network, seed)
        return NetworkBackbone(network, random, layers or (network.default_layer,), n_threads)
    loaded = (
        load_published(network, progress=progress)
        if weights is None
        else load_named(network, Path(weights))
    )
    if layers is not None:
        _refuse_option("head", head, "layers are given and the head names its own")
        return NetworkBackbone(network, loaded, tuple(layers), n_threads)
    chosen = head if isinstance(head, Head) else _find_head(name, head)
    if chosen is None:
        return NetworkBackbone(network, loaded, (network.default_layer,), n_threads)
    return DistilledBackbone(NetworkBackbone(network, loaded, chosen.layers, n_threads), chosen)


def _find_head(name: str, path: Path | str | None) -> Head | None:
    return packaged_head(name) if path is None else read_head(Path(path))


def _refuse_option(option: str, value: object, reason: str) -> None:
    if value is not None:
        message = (
            f"load_backbone: {option} must be left out, as {reason}; got {value!r}. Leave it out."
        )
        raise OptionError(message)
