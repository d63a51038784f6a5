"""Load a network by its name, whatever kind it is of, and list its layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imgtofmri.backbones.architectures import Architecture
from imgtofmri.backbones.base import Backbone, LayerInfo, Preprocessing
from imgtofmri.backbones.engines import REFERENCE, Engine
from imgtofmri.backbones.head import DistilledBackbone, Head, packaged_head, read_head
from imgtofmri.backbones.names import (
    PUBLISHED,
    WEIGHTS_VARIABLE,
    NetworkName,
    Untrained,
    Weights,
    parse_weights,
    weights_of_environment,
)
from imgtofmri.backbones.runtime import NetworkBackbone, OnnxFileBackbone, list_tensors
from imgtofmri.backbones.torch_named import list_torch_layers, load_torch_name
from imgtofmri.backbones.trial import admitted
from imgtofmri.backbones.untrained import untrained_weights
from imgtofmri.backbones.weights import LoadedWeights, load_named, load_published
from imgtofmri.exceptions import OptionError, WeightsError


def load_backbone(
    name: str | Path = "resnet18",
    *,
    weights: Weights | None = None,
    layers: Sequence[str] | str | None = None,
    head: Path | str | Head | None = None,
    preprocessing: Preprocessing | None = None,
    n_threads: int | None = None,
    progress: bool = False,
    engine: str = "onnxruntime",
    precision: str | None = None,
) -> Backbone:
    """Load a feature extractor with its weights.

    Parameters
    ----------
    name : str or Path
        A built-in network's, such as ``"resnet18"`` (``imgtofmri backbones list`` shows them); the
        path of an ONNX file (``.onnx``), or that of a head (``.safetensors``), which brings its
        student and its layers with it; or ``"timm:NAME"`` or ``"torchvision:NAME"``, where those
        packages are installed.
    weights : path, str or Untrained, optional
        A file with the network's weights: safetensors or a PyTorch checkpoint; ``"untrained"``
        or ``"untrained:SEED"`` for random ones; or ``"published"`` for the published ones, from
        the cache or downloaded. Default: what ``IMGTOFMRI_WEIGHTS`` names, for the package's own
        networks; where it names nothing, the published ones.
    layers : str or sequence of str, optional
        Layers whose activations, averaged over space, are the features; ``"LAYER/sd"`` is their
        standard deviation over space, ``"LAYER/max"`` the maximum, ``"LAYER@HxW"`` the mean over
        each block of a grid, ``"LAYER/flatten:WIDTH"`` all values through a random projection (see
        `imgtofmri.backbones.pooling`). Default: the last layer before the
        classifier, or what the network's distilled head makes of several: ``"efficientnet-lite0"``
        has one in the package and then gives estimates of ResNet-18's
        features (``spec.emulated`` is True).
    head : path or Head, optional
        Another distilled head than the package's. It names its layers itself.
    preprocessing : Preprocessing, optional
        For an ONNX file or a network of timm or torchvision only; the others have their own.
    n_threads : int, optional
        Threads of the network. Default: the CPUs that this process may use.
    progress : bool
        Whether to report a download's progress.
    engine : {"onnxruntime", "openvino", "cuda", "coreml", "auto"}
        What the network runs on. Any but ONNX Runtime, the default, is used only if it passes a
        trial; ``"auto"`` is the fastest that does. See `imgtofmri.backbones.trial`.
    precision : {"fp32", "bf16", "fp16"}, optional
        Of the engine. Default: fp32; with ``"auto"`` any.

    Returns
    -------
    Backbone
        To be called with uint8 pixels of shape (n_stimuli, size, size, 3).

    Raises
    ------
    OptionError
        If there is no such backbone or layer, or an option does not apply to it; or if the engine
        does not pass its trial.
    WeightsUnavailableError
        If the weights are neither in the cache nor to be had; the message names the remedies.
    WeightsError
        If a weights file is not what it should be.
    MissingDependencyError
        If the network or the engine needs a package that is not installed.

    Warns
    -----
    EngineWarning
        Of how another engine than ONNX Runtime answered in its trial.
    """

    def load(on: Engine) -> Backbone:
        return load_untried(
            name,
            weights=weights,
            layers=[layers] if isinstance(layers, str) else layers,
            head=head,
            preprocessing=preprocessing,
            n_threads=n_threads,
            progress=progress,
            engine=on,
        )

    return admitted(engine, precision, load)


def load_untried(
    name: str | Path,
    *,
    weights: Weights | None = None,
    layers: Sequence[str] | None = None,
    head: Path | str | Head | None = None,
    preprocessing: Preprocessing | None = None,
    n_threads: int | None = None,
    progress: bool = False,
    engine: Engine = REFERENCE,
) -> Backbone:
    """Load a feature extractor as `load_backbone` does, on an engine that nothing has tried."""
    if n_threads is not None and n_threads < 1:
        message = f"n_threads must be at least 1; got {n_threads}. Leave it out to use every CPU."
        raise OptionError(message, "n_threads")
    named, asked = NetworkName.parse(name), parse_weights(weights)
    from_where = None if asked == PUBLISHED else asked
    if named.kind == "head":
        _refuse_option("head", head, f"{name} is one")
        chosen = read_head(Path(name))
        student = str(chosen.card["student"])
        return load_untried(
            student,
            weights=weights,
            head=chosen,
            n_threads=n_threads,
            progress=progress,
            engine=engine,
        )
    if named.takes_preprocessing:
        _refuse_option("head", head, "heads are for the package's own networks")
        if named.kind == "torch":
            other = None if engine == REFERENCE else engine.name
            _refuse_option("engine", other, f"{name} runs on PyTorch")
            return load_torch_name(named.text, layers, preprocessing, from_where)
        _refuse_option("weights", from_where, f"{name} holds its own weights")
        return OnnxFileBackbone(Path(name), layers, preprocessing, n_threads, engine)
    network = named.architecture()
    _refuse_option("preprocessing", preprocessing, f"{name} has its own")

    def made(loaded: LoadedWeights, chosen: Sequence[str]) -> NetworkBackbone:
        return NetworkBackbone(network, loaded, chosen, n_threads, engine)

    from_where = weights_of_environment() if asked is None else from_where
    if isinstance(from_where, Untrained):
        _refuse_option("head", head, "it was fitted on a trained network")
        random = untrained_weights(network, from_where)
        return made(random, layers or (network.default_layer,))
    if from_where is None:
        loaded = load_published(network, progress=progress)
    elif asked is None:
        loaded = _load_of_environment(network, from_where)
    else:
        loaded = load_named(network, from_where)
    if layers is not None:
        _refuse_option("head", head, "layers are given and the head names its own")
        return made(loaded, tuple(layers))
    found = _find_head(network.id, head)
    if found is None:
        return made(loaded, (network.default_layer,))
    return DistilledBackbone(made(loaded, found.layers), found)


def _load_of_environment(network: Architecture, path: Path) -> LoadedWeights:
    """Load a file that no caller named: its errors must say who did."""
    try:
        return load_named(network, path)
    except WeightsError as error:
        message = (
            f"{error} {WEIGHTS_VARIABLE} names it: correct that, or name `weights`, such as "
            "published."
        )
        raise WeightsError(message) from error


def _find_head(student: str, head: Path | str | Head | None) -> Head | None:
    if isinstance(head, Head):
        return head
    return packaged_head(student) if head is None else read_head(Path(head))


def _refuse_option(option: str, value: object, reason: str) -> None:
    if value is not None:
        message = f"{option} must be left out, as {reason}; got {value!r}. Leave it out."
        raise OptionError(message, option)


def list_layers(name: str | Path) -> list[LayerInfo]:
    """List what can be a layer of a network, in the order of computation.

    Parameters
    ----------
    name : str or Path
        A network's name, the path of an ONNX file, or ``"timm:NAME"`` or ``"torchvision:NAME"``;
        nothing is fetched.

    Returns
    -------
    list of LayerInfo

    Raises
    ------
    OptionError
        If there is no such network.
    MissingDependencyError
        If it needs a package that is not installed.
    WeightsError
        If the file is not a usable ONNX model of images.
    """
    named = NetworkName.parse(name)
    if named.kind == "onnx":
        return list_tensors(Path(name))
    if named.kind == "torch":
        return list_torch_layers(named.text)
    return [
        LayerInfo(layer, (width,), f"{'deviation' if layer.endswith('/sd') else 'mean'} over space")
        for layer, width in named.architecture().layers.items()
    ]
