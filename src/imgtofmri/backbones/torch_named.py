"""Networks of timm and torchvision by name, where those packages are installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imgtofmri.backbones.base import Preprocessing
from imgtofmri.backbones.torch_module import TorchBackbone, import_torch
from imgtofmri.backbones.untrained import untrained_seed
from imgtofmri.backbones.weights import read_tensors
from imgtofmri.exceptions import MissingDependencyError, OptionError, WeightsError


def load_torch_name(
    name: str,
    layers: Sequence[str] | None,
    preprocessing: Preprocessing | None = None,
    weights: Path | str | None = None,
) -> TorchBackbone:
    """Load a network of timm or torchvision.

    Parameters
    ----------
    name : str
        ``"timm:NAME"`` or ``"torchvision:NAME"``.
    layers : sequence of str
        As for `TorchBackbone`.
    preprocessing : Preprocessing, optional
        Default: size, mean and standard deviation that the package gives for the weights.
    weights : path or str, optional
        A file with a state dict (nothing in it is executed), or ``"untrained[:SEED]"``. Default:
        the weights that the package fetches.

    Raises
    ------
    MissingDependencyError
        If the package is not installed, or cannot be imported.
    OptionError
        If no layers are named, or the package has no such network.
    WeightsError
        If the weights file does not fit the network.
    """
    collection, _, model = name.partition(":")
    seed = untrained_seed(weights)
    if not layers:
        message = (
            f"load_backbone: {name} needs layers; got none. Name modules of the network with "
            "layers=, such as layer3."
        )
        raise OptionError(message)
    torch = import_torch(f"load_backbone: {name}")
    package = _import(collection, name)
    create = _timm if collection == "timm" else _torchvision
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        try:
            module, recipe = create(package, model, weights is None)
        except (RuntimeError, ValueError, KeyError) as error:
            message = (
                f"load_backbone: {name} must be a network of {collection}; it refuses: {error}. "
                f"Look its name up in {collection}'s list of models."
            )
            raise OptionError(message) from error
    if weights is not None and seed is None:
        _fill(torch, module, Path(weights), name)
    return TorchBackbone(module.eval(), layers, preprocessing or recipe, id=name)


def _import(collection: str, name: str) -> Any:
    try:
        return importlib.import_module(collection)
    except (ImportError, RuntimeError) as error:
        message = (
            f"load_backbone: {name} needs the package {collection}, which cannot be imported "
            f"({error}). Install it with `pip install {collection}`, in a version for your PyTorch."
        )
        raise MissingDependencyError(message) from error


def _timm(timm: Any, model: str, pretrained: bool) -> tuple[Any, Preprocessing]:
    module = timm.create_model(model, pretrained=pretrained)
    said = timm.data.resolve_model_data_config(module)
    return module, _recipe(said["input_size"][-1], said["mean"], said["std"])


def _torchvision(torchvision: Any, model: str, pretrained: bool) -> tuple[Any, Preprocessing]:
    weights = torchvision.models.get_model_weights(model).DEFAULT
    module = torchvision.models.get_model(model, weights=weights if pretrained else None)
    said = weights.transforms()
    return module, _recipe(said.crop_size[0], said.mean, said.std)


def _recipe(size: int, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
    return Preprocessing.from_dict({"size": size, "mean": mean, "std": std})


def _fill(torch: Any, module: Any, path: Path, name: str) -> None:
    state = {key: torch.from_numpy(value.copy()) for key, value in read_tensors(path).items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        message = (
            f"{path}: expected the weights of {name}; they do not fit ({reason}). Give a state "
            "dict of this network."
        )
        raise WeightsError(message) from error
