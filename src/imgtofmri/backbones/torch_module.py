"""PyTorch modules as backbones: any layers of any network, in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.base import BackboneSpec, LayerInfo, Preprocessing, check_pixels
from imgtofmri.backbones.names import COLLECTIONS
from imgtofmri.backbones.pooling import (
    Pool,
    check_company,
    check_rows,
    companies,
    on_grid,
    parse_layer,
)
from imgtofmri.exceptions import MissingDependencyError, OptionError, meant

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 16


class TorchBackbone:
    """A network of PyTorch's, with the activations of some of its modules as features.

    Parameters
    ----------
    module : torch.nn.Module
        Takes float32 images of shape (n, 3, size, size). It must be in evaluation mode, and its
        weights must not change afterwards.
    layers : sequence of str
        Names of modules inside, as ``module.named_modules()`` gives them, with a pooling if need
        be: ``"layer3"``, ``"layer3/max"``, ``"blocks.5/tokens"``, ``"layer1/flatten:1000"``. See
        `imgtofmri.backbones.pooling`.
    preprocessing : Preprocessing, optional
        Default: 224 pixels, ImageNet's mean and standard deviation.
    id : str
        A name for cards and sidecars.
    device : str, optional
        Where images go; the module must be there already. Default: where its weights are.
    weights_name, weights_sha256 : str, optional
        Where the weights come from, for cards. Default: the module's class, and the digest of
        its values, its printed structure and its plain attributes, which ``spec.features_id`` bears
        in any case. What the code of ``forward`` does is not seen: another code needs another id.
    weights_verified : bool
        Whether they are known to be published ones.
    weights_seed : int, optional
        Of random weights.
    note : str, optional
        A line for sidecars.

    Raises
    ------
    OptionError
        If a layer is no module, is in training mode, runs more or less than once for an image, or
        gives something other than one tensor, with a row for each image; if an image's features
        change with the others of a call, or from call to call; or if the module does not take
        images.
    MissingDependencyError
        If PyTorch is not installed.

    Examples
    --------
    >>> from torch import nn  # doctest: +SKIP
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()  # doctest: +SKIP
    >>> TorchBackbone(net, ["1", "1/max"], id="mine").spec.n_features  # doctest: +SKIP
    16
    """

    def __init__(
        self,
        module: torch.nn.Module,
        layers: Sequence[str],
        preprocessing: Preprocessing | None = None,
        *,
        id: str,
        device: str | None = None,
        weights_name: str = "",
        weights_sha256: str = "",
        weights_verified: bool = False,
        weights_seed: int | None = None,
        note: str = "",
    ) -> None:
        modules = {name: child for name, child in module.named_modules() if name}
        chosen = [parse_layer(layer, modules) for layer in layers]
        if not chosen:
            message = (
                f"{id}: expected layers to be named; got none. Name modules, such as "
                f"{', '.join(list(modules)[-3:])}."
            )
            raise OptionError(message)
        for layer in chosen:
            if layer.name not in modules:
                raise OptionError(_no_module(id, layer.name, list(modules)))
        recipe = preprocessing or Preprocessing()
        first = next(module.parameters(), None)
        self._id, self._module, self._pool = id, module, Pool(chosen)
        self._watched = {layer.name: modules[layer.name] for layer in chosen}
        self._device = device or ("cpu" if first is None else str(first.device))
        self._dtype = None if first is None else first.dtype
        self._scale = np.float32(255.0) * np.asarray(recipe.std, np.float32)
        self._mean = np.float32(255.0) * np.asarray(recipe.mean, np.float32)
        activations = self._probe(recipe.size)
        self._grid = self._pool.grid(activations)
        probe = self._pool(activations)
        widths = tuple(values.shape[1] for values in probe)
        names = tuple(map(str, chosen))
        digest = _digest(module)
        self._spec = BackboneSpec(
            id=id,
            layers=names,
            n_features=sum(widths),
            preprocessing=recipe,
            features_id=f"{id}@{digest[:12]}/{'+'.join(names)}",
            weights_name=weights_name or type(module).__name__,
            weights_sha256=weights_sha256 or digest,
            weights_verified=weights_verified,
            weights_seed=weights_seed,
            note=note,
            layer_widths=widths,
        )

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._spec

    @property
    def grid(self) -> tuple[int, int] | None:
        """The finest grid of places that all layers are means over; see `MeanOverPlaces`."""
        return self._grid

    def on_grid(self, grid: tuple[int, int]) -> TorchBackbone:
        """Return the network with its features at each place; see `MeanOverPlaces`."""
        spec = self._spec
        return TorchBackbone(
            self._module,
            on_grid(spec.layers, grid),
            spec.preprocessing,
            id=spec.id,
            device=self._device,
        )

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features; see `Backbone`."""
        pixels = check_pixels(pixels, self._spec)
        features = np.empty((len(pixels), self._spec.n_features), np.float32)
        for start in range(0, len(pixels), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            pooled = self._pool(self._activations(pixels[part]))
            np.concatenate(pooled, axis=1, out=features[part])
        return features

    def _probe(self, size: int) -> list[NDArray[np.float32]]:
        """Return the activations of one image, or say why they are none, or not its own."""
        *calls, place = companies(size, 3)
        try:
            mixed, alike = (self._pool(self._activations(pixels)) for pixels in calls)
            check_company(self._pool.layers, mixed, alike, place)
            return self._activations(calls[0][:1])
        except OptionError:
            raise
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            message = (
                f"{self._id}: the module must take images of shape (n, 3, {size}, {size}); it "
                f"fails on one ({reason}). Give preprocessing= of the size that it needs, or "
                "another module."
            )
            raise OptionError(message) from error

    def _activations(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        torch = import_torch(self._id)
        if any(child.training for child in self._module.modules()):
            message = (
                f"{self._id}: the module must be in evaluation mode, or images of a batch change "
                "each other; got one in training mode. Call module.eval() first."
            )
            raise OptionError(message)
        images = ((pixels - self._mean) / self._scale).transpose(0, 3, 1, 2)
        images = np.ascontiguousarray(images, np.float32)
        seen: dict[str, list[Any]] = {name: [] for name in self._watched}
        hooks = [
            child.register_forward_hook(_keep(seen[name])) for name, child in self._watched.items()
        ]
        try:
            with torch.inference_mode():
                self._module(torch.from_numpy(images).to(self._device, self._dtype))
        finally:
            for hook in hooks:
                hook.remove()
        arrays = {name: self._only(name, values) for name, values in seen.items()}
        found = [arrays[layer.name] for layer in self._pool.layers]
        check_rows(self._pool.layers, found, len(pixels))
        return found

    def _only(self, name: str, values: list[Any]) -> NDArray[np.float32]:
        torch = import_torch(self._id)
        if len(values) != 1 or not isinstance(values[0], torch.Tensor):
            got = f"{len(values)} calls" if len(values) != 1 else f"a {type(values[0]).__name__}"
            message = (
                f"{self._id}: layer {name} must run once for an image and give one tensor; got "
                f"{got}. Name the module around it, or one inside."
            )
            raise OptionError(message)
        found: NDArray[np.float32] = values[0].float().cpu().numpy()
        return found


def list_modules(module: torch.nn.Module, size: int) -> list[LayerInfo]:
    """List the modules inside that can be layers.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    size : int
        Side of the images, in pixels.

    Returns
    -------
    list of LayerInfo
        Modules that run once and give one tensor with a row for each image, as they run.
    """
    torch = import_torch("list_modules")
    found: dict[str, list[Any]] = {}
    names = {child: name for name, child in module.named_modules() if name}

    def note(child: Any, inputs: Any, output: Any) -> None:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else None
        found.setdefault(names[child], []).append(shape)

    hooks = [child.register_forward_hook(note) for child in names]
    first = next(module.parameters(), torch.zeros(0))
    try:
        with torch.inference_mode():
            module(torch.zeros((2, 3, size, size), dtype=first.dtype, device=first.device))
    finally:
        for hook in hooks:
            hook.remove()
    kinds = {name: type(child).__name__ for child, name in names.items()}
    return [
        LayerInfo(name, shapes[0][1:], kinds[name])
        for name, shapes in found.items()
        if len(shapes) == 1 and shapes[0] is not None and len(shapes[0]) > 1 and shapes[0][0] == 2
    ]


def import_torch(where: str) -> Any:
    """Return PyTorch, or say how to install it.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        message = (
            f"{where}: expected PyTorch; it is not installed. Install it with "
            "`pip install 'imgtofmri[torch]'`."
        )
        raise MissingDependencyError(message) from error
    return torch


def _keep(values: list[Any]) -> Callable[[Any, Any, Any], None]:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        # A copy: a module after this one may work in place on the same memory.
        values.append(output.clone() if hasattr(output, "clone") else output)

    return hook


def _digest(module: torch.nn.Module) -> str:
    """Return a digest of the module's weights, names and shapes, and of what it is made of."""
    digest = hashlib.sha256(repr(module).encode())
    tensors = dict(module.state_dict())
    for owner, child in module.named_modules():
        # Networks of these packages are what their names say, and keep what a machine can do.
        if type(child).__module__.partition(".")[0] in COLLECTIONS:
            continue
        # What printing leaves out, such as how many heads attention has, and buffers that are not
        # saved with the weights.
        tensors |= {f"{owner}.{key}": buffer for key, buffer in child.named_buffers(recurse=False)}
        for key, value in sorted(vars(child).items()):
            if key[:1] != "_" and (said := _said(value)):
                digest.update(f"{owner}.{key} {said}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Bytes rather than numbers, as NumPy has no bfloat16.
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(import_torch("TorchBackbone").uint8).numpy().tobytes())
    return digest.hexdigest()


def _said(value: object) -> str:
    """Return plain values as text, and functions by their names; nothing of anything else."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_said, value))})"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return str(getattr(value, "__name__", "")) if callable(value) else ""


def _no_module(id: str, name: str, names: list[str]) -> str:
    return (
        f"{id}: expected layers to be modules inside the network; got {name}, which is none."
        f"{meant(name, names)} Its names are those of module.named_modules(), such as "
        f"{', '.join(names[:3] + names[-2:])}."
    )
