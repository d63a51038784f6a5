"""Networks of timm and torchvision by name, where those packages are installed."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgtofmri.assets import is_offline
from imgtofmri.backbones.architectures import fault_of_values
from imgtofmri.backbones.base import LayerInfo, Preprocessing
from imgtofmri.backbones.names import Untrained
from imgtofmri.backbones.torch_module import TorchBackbone, import_torch, list_modules
from imgtofmri.backbones.weights import read_tensors
from imgtofmri.exceptions import (
    MissingDependencyError,
    OptionError,
    WeightsError,
    WeightsUnavailableError,
)
from imgtofmri.files import sha256_of


def load_torch_name(
    name: str,
    layers: Sequence[str] | None,
    preprocessing: Preprocessing | None = None,
    weights: Path | Untrained | None = None,
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
    weights : Path or Untrained, optional
        A file with a state dict (nothing in it is executed), or random ones. Default: the weights
        that the package fetches.

    Raises
    ------
    MissingDependencyError
        If the package is not installed, or cannot be imported.
    OptionError
        If no layers are named, or the package has no such network of images.
    WeightsUnavailableError
        If the package cannot fetch the weights.
    WeightsError
        If the weights file does not fit the network, or leaves open how its input is scaled.
    """
    if not layers:
        message = (
            f"layers of {name} must be named; got none. Name modules of the network, such as "
            f"layer3; `imgtofmri backbones show {name}` lists them."
        )
        raise OptionError(message, "layers")
    untrained = weights if isinstance(weights, Untrained) else None
    made = _make(name, pretrained=weights is None, seed=untrained.seed if untrained else 0)
    weights_name, digest, note = made.weights_name, "", ""
    if untrained:
        weights_name, note = untrained.name, untrained.note
    elif isinstance(weights, Path):
        _fill(import_torch(name), made.module, weights, name)
        weights_name, digest = weights.name, sha256_of(weights)
        if hasattr(made.module, "transform_input") and not digest.startswith(made.published):
            message = (
                f"{weights}: expected the file that torchvision publishes for {name}, as the "
                "network brings its input from ImageNet's scale to another one where its weights "
                "were trained so, and no file of weights says whether these were; got another "
                f"file. Give the published one ({', '.join(made.published)}), or "
                "the module to TorchBackbone, with its transform_input set."
            )
            raise WeightsError(message)
    return TorchBackbone(
        made.module.eval(),
        layers,
        _recipe(made, name, preprocessing),
        id=name,
        weights_name=weights_name,
        weights_sha256=digest,
        weights_verified=weights is None,
        weights_seed=untrained.seed if untrained else None,
        note=note,
    )


def list_torch_layers(name: str) -> list[LayerInfo]:
    """List a network's modules that can be layers. Nothing is fetched.

    Raises
    ------
    MissingDependencyError, OptionError
        As `load_torch_name` does.
    """
    made = _make(name, pretrained=False, seed=0)
    return list_modules(made.module.eval(), _recipe(made, name, None).size)


@dataclass(frozen=True, slots=True)
class _Made:
    """A network as its package makes it; ``recipe`` is None where the package gives none.

    ``published`` are the first digits of the SHA-256 of files that the package fetches.
    """

    module: Any
    recipe: Preprocessing | None
    weights_name: str
    published: tuple[str, ...] = ()


def _make(name: str, pretrained: bool, seed: int) -> _Made:
    """Make a network by name, random weights drawn with the seed."""
    collection, _, model = name.partition(":")
    torch = import_torch(name)
    package = _import(collection, name)
    create = _timm if collection == "timm" else _torchvision
    with torch.random.fork_rng(devices=[]), _no_pickled_code():
        torch.manual_seed(seed)
        try:
            return create(package, model, pretrained)
        except OSError as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            message = (
                f"{name}: the weights could not be had ({reason}). Fetch them "
                "where there is a network, or give a state dict with `weights`."
            )
            raise WeightsUnavailableError(message) from error
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            message = (
                f"{name} must be a network of {collection}; it refuses: {error}. "
                f"Look its name up in {collection}'s list of models."
            )
            raise OptionError(message) from error


@contextmanager
def _no_pickled_code() -> Iterator[None]:
    """Have PyTorch read nothing but tensors, whatever a package asks for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _import(collection: str, name: str) -> Any:
    try:
        return importlib.import_module(collection)
    except (ImportError, RuntimeError) as error:
        message = (
            f"{name} needs the package {collection}, which cannot be imported "
            f"({error}). Install it with `pip install {collection}`, in a version for your PyTorch."
        )
        raise MissingDependencyError(message) from error


def _timm(timm: Any, model: str, pretrained: bool) -> _Made:
    if pretrained and is_offline() and not os.environ.get("HF_HUB_OFFLINE"):
        message = "IMGTOFMRI_OFFLINE is set; with HF_HUB_OFFLINE=1, too, timm uses its own cache"
        raise OSError(message)
    module = timm.create_model(model, pretrained=pretrained)
    said = timm.data.resolve_model_data_config(module)
    recipe = {"size": said["input_size"][-1], "mean": said["mean"], "std": said["std"]}
    config = module.pretrained_cfg
    weights_name = f"{config.get('architecture', model)}.{config.get('tag', '')}".rstrip(".")
    return _Made(module, Preprocessing.from_dict(recipe), weights_name)


def _torchvision(torchvision: Any, model: str, pretrained: bool) -> _Made:
    weights = torchvision.models.get_model_weights(model).DEFAULT
    if pretrained and is_offline():
        folder = Path(import_torch("torchvision").hub.get_dir()) / "checkpoints"
        kept = folder / Path(weights.url).name
        if not kept.is_file():
            message = f"IMGTOFMRI_OFFLINE is set and {kept} is not there"
            raise OSError(message)
    options = {"weights": weights if pretrained else None}
    builder = torchvision.models.get_model_builder(model)
    # Networks built on another fetch that one's weights unless told not to.
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    module = torchvision.models.get_model(model, **options)
    if hasattr(module, "transform_input"):
        # Of the published weights, which torchvision says only where it fetches them itself.
        module.transform_input = True
    said = weights.transforms()
    recipe = None
    if all(hasattr(said, part) for part in ("crop_size", "mean", "std")):
        recipe = Preprocessing.from_dict(
            {"size": said.crop_size[0], "mean": said.mean, "std": said.std}
        )
    urls = [known.url for known in torchvision.models.get_model_weights(model)]
    published = re.findall(r"-([0-9a-f]{8,})\.pth$", "\n".join(urls), re.MULTILINE)
    return _Made(module, recipe, str(weights), tuple(published))


def _recipe(made: _Made, name: str, preprocessing: Preprocessing | None) -> Preprocessing:
    recipe = preprocessing or made.recipe
    if recipe is None:
        message = (
            f"{name} must be a network that classifies images, or preprocessing be "
            "given; its package says no size, mean and deviation. Give `preprocessing`, with size, "
            "mean and std."
        )
        raise OptionError(message)
    return recipe


def _fill(torch: Any, module: Any, path: Path, name: str) -> None:
    tensors, its = read_tensors(path), module.state_dict()
    # PyTorch would bring whole and complex numbers to its own kind without a word.
    faults = [
        f"{key} {fault}"
        for key, value in tensors.items()
        if key in its and its[key].is_floating_point() and (fault := fault_of_values(value))
    ]
    reason, cause = "; ".join(faults[:3]), None
    if not faults:
        try:
            module.load_state_dict(
                {
                    key: torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
                    for key, value in tensors.items()
                }
            )
        except (RuntimeError, TypeError) as error:
            reason, cause = " ".join(str(error).split()), error
    if reason:
        message = (
            f"{path}: expected the weights of {name}; they do not fit ({reason}). Give a state "
            "dict of this network."
        )
        raise WeightsError(message) from cause
