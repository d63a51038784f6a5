"""PyTorch modules as backbones; what is asked for needs the extra [torch]."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from imgtofmri.backbones import Backbone, Preprocessing, load_backbone
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.backbones.cache import network_key
from imgtofmri.backbones.names import Untrained
from imgtofmri.backbones.pooling import sparse_projection
from imgtofmri.backbones.untrained import untrained_weights
from imgtofmri.exceptions import MissingDependencyError, OptionError, ShapeError

RECIPE = Preprocessing(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture
def pixels(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return more small random images than go through a network together."""
    return rng.integers(0, 256, (18, 16, 16, 3), np.uint8)


@pytest.fixture
def module(torch: Any) -> Any:
    """Return a small network with normalisation, in-place rectification, tokens and dropout."""
    nn = torch.nn
    torch.manual_seed(4)
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(3, 5, 3, stride=2))
    net.add_module("norm", nn.BatchNorm2d(5))
    net.add_module("relu", nn.ReLU(inplace=True))
    net.add_module("tokens", nn.Flatten(2))
    net.add_module("drop", nn.Dropout(0.5))
    net.add_module("flat", nn.Flatten(1))
    net.add_module("out", nn.Linear(245, 6))
    return net.eval()


@pytest.mark.torch
def test_torch_backbone_layers_equal_the_module_cut_there(
    torch: Any, module: Any, pixels: NDArray[np.uint8]
) -> None:
    """Each layer's features are those of the modules up to it, called one after the other."""
    from imgtofmri.backbones.torch_module import TorchBackbone

    layers = ["norm", "relu/max", "norm/sd", "tokens/tokens", "relu/flatten:9", "out"]
    backbone = TorchBackbone(module, layers, RECIPE, id="mine")
    images = (pixels / 255.0 - np.array(RECIPE.mean)) / np.array(RECIPE.std)
    with torch.no_grad():
        norm = module.norm(module.conv(torch.tensor(images.transpose(0, 3, 1, 2)).float()))
        relu = norm.clamp(min=0)
        out = module.out(relu.reshape(18, -1))
    want = [
        norm.mean((2, 3)),
        relu.amax((2, 3)),
        norm.std((2, 3), correction=0),
        relu.reshape(18, 5, 49).mean(1),
        (sparse_projection(245, 9) @ relu.reshape(18, -1).numpy().T).T,
        out,
    ]
    got = backbone(pixels)
    np.testing.assert_allclose(got, np.concatenate(want, axis=1), rtol=1e-4, atol=1e-5)
    assert isinstance(backbone, Backbone)
    assert backbone.spec.layer_widths == (5, 5, 5, 49, 9, 6)
    np.testing.assert_allclose(backbone(pixels[:2]), got[:2], rtol=1e-5, atol=1e-6)
    assert not any(child._forward_hooks for child in module.modules())


@pytest.mark.torch
def test_torch_backbone_means_split_into_places(
    torch: Any, module: Any, pixels: NDArray[np.uint8]
) -> None:
    """A map's places have the layer's feature as their mean; an output of no map has none."""
    from imgtofmri.backbones.torch_module import TorchBackbone

    backbone = TorchBackbone(module, ["norm", "relu"], RECIPE, id="mine")
    assert backbone.grid == (7, 7)
    places = backbone.on_grid((7, 7))(pixels).reshape(18, 10, 49)
    np.testing.assert_allclose(places.mean(axis=2), backbone(pixels), rtol=1e-4, atol=1e-5)
    assert TorchBackbone(module, ["norm", "out"], RECIPE, id="mine").grid is None


@pytest.mark.torch
def test_torch_backbone_digest_is_of_weights_and_architecture(torch: Any, module: Any) -> None:
    """The same weights give the same identity; a changed weight or module gives another."""
    from imgtofmri.backbones.torch_module import TorchBackbone

    first = TorchBackbone(module, ["relu"], RECIPE, id="mine").spec
    assert TorchBackbone(module, ["relu"], RECIPE, id="mine").spec == first
    assert first.features_id == f"mine@{first.weights_sha256[:12]}/relu"
    module.relu = torch.nn.GELU().eval()
    second = TorchBackbone(module, ["relu"], RECIPE, id="mine").spec
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] += 1
    third = TorchBackbone(module, ["relu"], RECIPE, id="mine").spec
    assert len({spec.weights_sha256 for spec in (first, second, third)}) == 3


@pytest.mark.torch
def test_torch_backbone_digest_is_of_what_printing_leaves_out(
    torch: Any, pixels: NDArray[np.uint8]
) -> None:
    """Heads, order of normalisation, activations, own numbers and buffers that are not saved."""
    from imgtofmri.backbones.torch_module import TorchBackbone

    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, heads: int = 2, by: float = 1, add: int = 0, **more: Any) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 16, 4, 4)
            self.block = nn.TransformerEncoderLayer(16, heads, 8, batch_first=True, **more)
            self.by = by
            self.register_buffer("add", torch.tensor(add), persistent=False)

        def forward(self, x: Any) -> Any:
            return self.block((self.conv(x) * self.by + self.add).flatten(2).transpose(1, 2))

    changed = [Net(8), Net(norm_first=True), Net(activation="gelu"), Net(by=2.0), Net(add=3)]
    networks = [Net(), *changed, Net()]
    found = [TorchBackbone(net.eval(), ["block/tokens"], RECIPE, id="m") for net in networks]
    features = [backbone(pixels[:2]).tobytes() for backbone in found]
    assert [len(set(features[:-1])), features.index(features[-1])] == [6, 0]
    ids = [backbone.spec.features_id for backbone in found]
    assert [len(set(ids[:-1])), ids.index(ids[-1])] == [6, 0]
    same_file = [replace(backbone.spec, weights_sha256="0" * 64) for backbone in found]
    assert len({network_key(spec) for spec in same_file}) == 6


@pytest.mark.torch
def test_torch_backbone_agrees_with_the_same_network_on_onnx_runtime(
    torch: Any, rng: np.random.Generator
) -> None:
    """ResNet-18's first stage, written with PyTorch, gives what the package's graph gives."""
    nn = torch.nn

    from imgtofmri.backbones.torch_module import TorchBackbone

    weights = untrained_weights(ARCHITECTURES["resnet18"], Untrained()).tensors

    def convolution(name: str, stride: int) -> Any:
        weight = torch.from_numpy(weights[f"{name}.weight"])
        n_out, n_in, side, _ = weight.shape
        layer = nn.Conv2d(n_in, n_out, side, stride, side // 2, bias=False)
        layer.weight = nn.Parameter(weight)
        return layer

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.conv1 = convolution(f"{name}.conv1", 1)
            self.conv2 = convolution(f"{name}.conv2", 1)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)

    stem = (convolution("conv1", 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    net = nn.Sequential(*stem, Block("layer1.0"), Block("layer1.1")).eval()
    squares = rng.integers(0, 256, (2, 224, 224, 3), np.uint8)
    poolings = ("", "/max", "/sd", "/flatten:40")
    theirs = TorchBackbone(net, [f"4{pooling}" for pooling in poolings], id="stage1")
    layers = [f"layer1{pooling}" for pooling in poolings]
    ours = load_backbone("resnet18", weights="untrained", layers=layers)
    np.testing.assert_allclose(theirs(squares), ours(squares), rtol=2e-3, atol=2e-4)


@pytest.mark.torch
def test_torch_backbone_features_that_are_not_each_image_s_are_refused(torch: Any) -> None:
    """Rows of tokens, dropout by a function, batch statistics, and what other images change."""
    from imgtofmri.backbones.torch_module import TorchBackbone

    nn, functional = torch.nn, torch.nn.functional

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, made_of: Any) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, 4)
            self.norm = nn.BatchNorm2d(8, track_running_stats=False)
            self.out = nn.Identity()
            self.made_of = made_of

        def forward(self, x: Any) -> Any:
            return self.out(self.made_of(self, self.conv(x)))

    def refused(made_of: Any, layer: str, match: str) -> None:
        with pytest.raises(OptionError, match=match):
            TorchBackbone(Net(made_of).eval(), [layer], RECIPE, id="mine")

    row, alike = "a row for each image.*shape", "the same features for an image in every call"
    refused(lambda net, x: x.flatten(2).permute(2, 0, 1), "out/tokens", row)
    refused(lambda net, x: x.flatten(2).transpose(1, 2).reshape(-1, 8), "out", row)
    refused(lambda net, x: x.mean((2, 3)).squeeze(), "out", row)
    refused(lambda net, x: functional.dropout(x), "out/max", alike)
    refused(lambda net, x: net.norm(x), "norm/max", alike)
    refused(lambda net, x: x - x[:1], "out", alike)
    refused(lambda net, x: x - x[-1:], "out", alike)


@pytest.mark.torch
def test_torch_backbone_what_cannot_be_is_refused(
    torch: Any, module: Any, pixels: NDArray[np.uint8]
) -> None:
    """Unknown and unnamed layers, several calls, no tensor, training mode, wrong pixels."""
    from imgtofmri.backbones.torch_module import TorchBackbone

    def load(*layers: str, net: Any = module) -> TorchBackbone:
        return TorchBackbone(net, layers, RECIPE, id="mine")

    with pytest.raises(OptionError, match="got rellu, which is none. Did you mean relu?"):
        load("rellu/max")
    with pytest.raises(OptionError, match="expected layers to be named; got none"):
        load()
    with pytest.raises(OptionError, match=r"layer tokens must have shape .*got 3 dimensions"):
        load("tokens")
    twice = torch.nn.Sequential(module.conv, module.relu, module.norm, module.relu)
    with pytest.raises(OptionError, match="layer 1 must run once .*got 2 calls"):
        load("1", net=twice.eval())
    pair = torch.nn.Sequential(module.tokens, torch.nn.LSTM(256, 4))
    with pytest.raises(OptionError, match="give one tensor; got a tuple"):
        load("1", net=pair.eval())
    backbone = load("relu")
    with pytest.raises(ShapeError, match=r"pixels must be uint8 of shape \(n_stimuli, 16, 16, 3\)"):
        backbone(pixels[:, :8])
    module.drop.train()
    with pytest.raises(OptionError, match=r"training mode. Call module.eval\(\) first"):
        backbone(pixels)


@pytest.mark.parametrize("collection", ["timm", "torchvision"])
def test_load_backbone_torch_name_without_its_package_says_what_to_install(
    collection: str,
) -> None:
    """Where the collection or PyTorch is missing, the error names the command to install it."""
    if importlib.util.find_spec(collection) and importlib.util.find_spec("torch"):
        pytest.skip(f"{collection} is installed")
    needed = r"'imgtofmri\[torch\]'" if importlib.util.find_spec("torch") is None else collection
    with pytest.raises(MissingDependencyError, match=f"Install it with `pip install {needed}`"):
        load_backbone(f"{collection}:resnet50", layers=["layer3"])


def test_load_backbone_torch_name_without_layers_asks_for_them() -> None:
    """No layer is guessed at."""
    with pytest.raises(OptionError, match="layers of timm:resnet50 must be named; got none"):
        load_backbone("timm:resnet50")


@pytest.mark.torch
def test_fill_takes_a_state_dict_or_says_that_it_does_not_fit(
    torch: Any, module: Any, tmp_path: Path
) -> None:
    """Weights from a file replace the module's; another network's are refused."""
    from imgtofmri.backbones.torch_named import _fill
    from imgtofmri.exceptions import WeightsError

    state = {name: np.array(tensor.numpy() * 2) for name, tensor in module.state_dict().items()}
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    _fill(torch, module, path, "timm:net")
    np.testing.assert_array_equal(module.conv.weight.detach().numpy(), state["conv.weight"])
    save_file({"conv.weight": state["conv.weight"]}, path)
    with pytest.raises(WeightsError, match=r"expected the weights of timm:net; .*Missing key"):
        _fill(torch, module, path, "timm:net")
    kernel = state["conv.weight"]
    for wrong, reason in (
        (kernel.astype(np.int16), "conv.weight holds int16 where"),
        (kernel.astype(np.complex64), "conv.weight holds complex64 where"),
        (kernel * np.nan, "conv.weight holds values that are not finite"),
    ):
        save_file({**state, "conv.weight": wrong}, path)
        with pytest.raises(WeightsError, match=rf"they do not fit \({reason}"):
            _fill(torch, module, path, "timm:net")
    np.testing.assert_array_equal(module.conv.weight.detach().numpy(), kernel)
