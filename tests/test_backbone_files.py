"""Backbones from a person's own ONNX file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from imgtofmri.backbones import MeanOverPlaces, Preprocessing, list_layers, load_backbone, mean_grid
from imgtofmri.exceptions import DataError, OptionError, ShapeError, WeightsError

RECIPE = Preprocessing(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def save_network(
    path: Path,
    weight: NDArray[np.float32],
    *,
    batch: int | str = "n",
    size: int | str = 16,
    outputs: tuple[str, ...] = ("pooled",),
    input_type: int = TensorProto.FLOAT,
) -> Path:
    """Write a network of one 1x1 convolution, its rectification and two poolings."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["floats", "weight"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["map"]),
        helper.make_node("Flatten", ["map"], ["pooled"]),
        helper.make_node("ReduceMax", ["relu"], ["tokens"], axes=[3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", input_type, [batch, 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def weight(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the convolution's weight: five channels."""
    return rng.normal(size=(5, 3, 1, 1)).astype(np.float32)


def expect(
    pixels: NDArray[np.uint8], weight: NDArray[np.float32], *, rectified: bool
) -> NDArray[np.float64]:
    """Compute what the network gives, pixel by pixel, from its definition."""
    normalised = (pixels / 255.0 - np.array(RECIPE.mean)) / np.array(RECIPE.std)
    maps = normalised @ weight[:, :, 0, 0].T
    return (np.maximum(maps, 0) if rectified else maps).mean(axis=(1, 2))


@pytest.mark.parametrize("batch", ["n", 1], ids=["any_batch", "one_at_a_time"])
def test_load_backbone_onnx_file_equals_its_definition(
    batch: int | str, rng: np.random.Generator, weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """The only output is the layer; images are normalised as the preprocessing says."""
    path = save_network(tmp_path / "net.onnx", weight, batch=batch)
    backbone = load_backbone(path, preprocessing=RECIPE)
    pixels = rng.integers(0, 256, (18, 16, 16, 3), np.uint8)
    want = expect(pixels, weight, rectified=True)
    np.testing.assert_allclose(backbone(pixels), want, rtol=1e-4, atol=1e-5)
    assert backbone(pixels[:0]).shape == (0, 5)
    spec = backbone.spec
    assert (spec.id, spec.layers, spec.n_features) == ("net", ("pooled",), 5)
    assert spec.features_id == f"net@{spec.weights_sha256[:12]}/pooled"


def test_load_backbone_onnx_tensors_inside_the_graph_are_layers(
    rng: np.random.Generator, weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """A tensor that is no output can be named, beside one that is; maps are averaged over space."""
    path = save_network(tmp_path / "net.onnx", weight)
    backbone = load_backbone(str(path), layers=["conv", "pooled"], preprocessing=RECIPE)
    pixels = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    want = np.concatenate([expect(pixels, weight, rectified=flag) for flag in (False, True)], 1)
    np.testing.assert_allclose(backbone(pixels), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "rectified"), [("pooled", True), ("map", True), ("conv", False)])
def test_load_backbone_onnx_means_split_into_places(
    layer: str,
    rectified: bool,
    rng: np.random.Generator,
    weight: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    """A map, or the mean of one behind reshaping, has a place for each block; written out."""
    path = save_network(tmp_path / "net.onnx", weight)
    backbone = load_backbone(path, layers=[layer], preprocessing=RECIPE)
    assert isinstance(backbone, MeanOverPlaces)
    assert backbone.grid == (16, 16)
    pixels = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    got = backbone.on_grid((4, 8))(pixels).reshape(3, 5, 4, 8)
    want = expect(pixels[:, 4:8, 6:8], weight, rectified=rectified)
    np.testing.assert_allclose(got[:, :, 1, 3], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.mean(axis=(2, 3)), backbone(pixels), rtol=1e-4, atol=1e-5)


def test_load_backbone_onnx_other_means_do_not_split(
    weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """Tokens, and a maximum that stands before them, are no maps whose mean the layer is."""
    path = save_network(tmp_path / "net.onnx", weight)
    backbone = load_backbone(path, layers=["tokens/tokens"], preprocessing=RECIPE)
    assert mean_grid(backbone) is None


def test_load_backbone_onnx_many_long_layer_names_are_all_declared(
    rng: np.random.Generator, weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """Names longer than a byte can count are declared as well as short ones."""
    path = save_network(tmp_path / "net.onnx", weight)
    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = name.replace("relu", "r" * 300)
    onnx.save(model, path)
    backbone = load_backbone(path, layers=["r" * 300, "conv"], preprocessing=RECIPE)
    pixels = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    want = np.concatenate([expect(pixels, weight, rectified=flag) for flag in (True, False)], 1)
    np.testing.assert_allclose(backbone(pixels), want, rtol=1e-4, atol=1e-5)


def test_load_backbone_onnx_features_do_not_depend_on_the_batch(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    """Attention gives the same bits alone and in a batch, though one image is summed otherwise."""
    patches, mixing = rng.normal(size=(48, 3, 2, 2)), rng.normal(size=(48, 48))
    nodes = [
        helper.make_node("Conv", ["images", "patches"], ["maps"], strides=[2, 2]),
        helper.make_node("Reshape", ["maps", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["tokens", "mixing"], ["queries"]),
        helper.make_node("MatMul", ["queries", "flat"], ["products"]),
        helper.make_node("Softmax", ["products"], ["attention"]),
        helper.make_node("MatMul", ["attention", "queries"], ["values"]),
        helper.make_node("ReduceMean", ["values"], ["pooled"], axes=[1], keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 16, 16])
    pooled = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None)
    tensors = [
        numpy_helper.from_array(patches.astype(np.float32), "patches"),
        numpy_helper.from_array(mixing.astype(np.float32), "mixing"),
        numpy_helper.from_array(np.array([0, 48, -1]), "shape"),
    ]
    graph = helper.make_graph(nodes, "attention", [images], [pooled], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    pixels = rng.integers(0, 256, (11, 16, 16, 3), np.uint8)
    for layer in ("pooled", "values/tokens", "maps", "maps/sd", "maps/flatten:20"):
        backbone = load_backbone(tmp_path / "net.onnx", layers=[layer], preprocessing=RECIPE)
        together = backbone(pixels)
        for part in (slice(0, 1), slice(1, 3), slice(2, 5), slice(5, 11)):
            np.testing.assert_array_equal(backbone(pixels[part]), together[part])


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ("tokens_first/tokens", r"a row for each image.*got 16 for 1, shape \(16, 1, 5\)"),
        ("token_rows", r"a row for each image.*got 16 for 1, shape \(16, 5\)"),
        ("one_row", r"a row for each image.*got 1 for 4, shape \(1, 320\)"),
        ("dropped", "the same features for an image in every call.*evaluation mode"),
        ("centred", "the same features for an image in every call.*evaluation mode"),
        ("differences", "the same features for an image in every call.*evaluation mode"),
        ("quantised", "the same features for an image in every call.*for one image a call"),
        ("one_image", "takes 4 images at once, as its input says; it fails"),
    ],
)
def test_load_backbone_onnx_features_that_are_not_each_image_s_are_refused(
    layer: str, match: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    """Rows of tokens, batches in one row, dropout at work, what other images change."""
    nodes = [
        helper.make_node("Conv", ["images", "patches"], ["maps"], strides=[4, 4]),
        helper.make_node("Reshape", ["maps", "flat_shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["tokens_first"], perm=[2, 0, 1]),
        helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["tokens", "rows_shape"], ["token_rows"]),
        helper.make_node("Reshape", ["maps", "one_row_shape"], ["one_row"]),
        helper.make_node("Dropout", ["maps", "half", "yes"], ["dropped"]),
        helper.make_node("DynamicQuantizeLinear", ["maps"], ["whole", "step", "zero"]),
        helper.make_node("DequantizeLinear", ["whole", "step", "zero"], ["quantised"]),
        helper.make_node("ReduceMean", ["maps"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["maps", "mean"], ["centred"]),
        helper.make_node("Slice", ["maps", "nought", "first"], ["first_map"]),
        helper.make_node("Sub", ["maps", "first_map"], ["differences"]),
    ]
    if layer == "one_image":
        nodes.append(helper.make_node("Reshape", ["maps", "one_image_shape"], ["one_image"]))
    held = {
        "patches": rng.normal(size=(5, 3, 4, 4)).astype(np.float32),
        "flat_shape": np.array([0, 5, -1]),
        "rows_shape": np.array([-1, 5]),
        "one_row_shape": np.array([1, -1]),
        "one_image_shape": np.array([1, 5, 4, 4]),
        "half": np.float32(0.5),
        "yes": np.bool_(True),
        "nought": np.array([0]),
        "first": np.array([1]),
    }
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()]
    model = small_model(nodes, tensors)
    model.graph.output[0].name = "maps"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises((OptionError, WeightsError), match=match):
        load_backbone(tmp_path / "net.onnx", layers=[layer], preprocessing=RECIPE)


def test_load_backbone_onnx_size_comes_from_the_graph(
    weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """Without a recipe the graph's own size is taken, and ImageNet's normalisation."""
    fixed = load_backbone(save_network(tmp_path / "fixed.onnx", weight))
    free = load_backbone(save_network(tmp_path / "free.onnx", weight, size="side"))
    assert fixed.spec.preprocessing == Preprocessing(size=16)
    assert free.spec.preprocessing == Preprocessing(size=224)
    with pytest.raises(ShapeError, match=r"\(n_stimuli, 16, 16, 3\)"):
        fixed(np.zeros((1, 224, 224, 3), np.uint8))


def test_load_backbone_onnx_several_outputs_ask_for_one(
    weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """A graph with several outputs is not guessed at."""
    path = save_network(tmp_path / "net.onnx", weight, outputs=("pooled", "relu"))
    with pytest.raises(OptionError, match=r"has 2 outputs; got none\. Name one.*: pooled, relu"):
        load_backbone(path)
    assert load_backbone(path, layers=["relu"]).spec.n_features == 5


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        (["nowhere"], "tensors of the graph; got nowhere.*outputs are pooled"),
        (["tokens"], r"layer tokens must have shape \(n, channels\).*got 3 dimensions"),
    ],
)
def test_load_backbone_onnx_layer_that_cannot_be_is_refused(
    layers: list[str], match: str, weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """A layer that does not exist, or is no vector or map, is refused."""
    path = save_network(tmp_path / "net.onnx", weight)
    with pytest.raises(OptionError, match=match):
        load_backbone(path, layers=layers)


@pytest.mark.parametrize(
    ("content", "match"),
    [(None, "got no file"), ("folder", "got a folder"), (b"not a model", "encoded ONNX model")],
    ids=["missing", "folder", "text"],
)
def test_load_backbone_onnx_unreadable_file_is_one_clear_error(
    content: bytes | str | None, match: str, tmp_path: Path
) -> None:
    """The error names the file and what came."""
    path = tmp_path / "net.onnx"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"net\.onnx: expected an .*{match}"):
        load_backbone(path)


def test_load_backbone_onnx_input_that_is_no_image_is_refused(
    weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """A graph that takes something other than float32 images says what it takes."""
    path = save_network(tmp_path / "net.onnx", weight, input_type=TensorProto.UINT8)
    with pytest.raises(WeightsError, match=r"expected one input, float32.*got images tensor\(uint"):
        load_backbone(path)


def test_load_backbone_onnx_size_or_options_that_contradict_are_refused(
    weight: NDArray[np.float32], tmp_path: Path
) -> None:
    """A recipe of another size than the graph's, weights and heads do not apply."""
    path = save_network(tmp_path / "net.onnx", weight)
    with pytest.raises(OptionError, match=r"preprocessing\.size must be 16.*got 224"):
        load_backbone(path, preprocessing=Preprocessing())
    with pytest.raises(OptionError, match="weights must be left out"):
        load_backbone(path, weights="other.safetensors")
    with pytest.raises(OptionError, match="head must be left out"):
        load_backbone(path, head="head.safetensors")


def endless() -> onnx.ModelProto:
    """Return a graph that adds 0 to the image for ever."""
    number, truth, floats = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Add", ["sum", "nought"], ["sum_now"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", number, []),
            helper.make_tensor_value_info("going", truth, []),
            helper.make_tensor_value_info("sum", floats, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", truth, []),
            helper.make_tensor_value_info("sum_now", floats, None),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "yes", "images"], ["looped"], body=body),
        helper.make_node("GlobalAveragePool", ["looped"], ["map"]),
        helper.make_node("Flatten", ["map"], ["pooled"]),
    ]
    held = [
        helper.make_tensor("turns", number, [], [2**63 - 1]),
        helper.make_tensor("yes", truth, [], [True]),
        helper.make_tensor("nought", floats, [], [0.0]),
    ]
    return small_model(nodes, held)


def enormous() -> onnx.ModelProto:
    """Return a graph that makes 64 GB of ones on its way."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["ones"]),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Add", ["images", "sum"], ["added"]),
        helper.make_node("GlobalAveragePool", ["added"], ["map"]),
        helper.make_node("Flatten", ["map"], ["pooled"]),
    ]
    return small_model(nodes, [helper.make_tensor("shape", TensorProto.INT64, [1], [1 << 34])])


def small_model(nodes: list[onnx.NodeProto], held: list[onnx.TensorProto]) -> onnx.ModelProto:
    """Return a model of small images."""
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", floats, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("pooled", floats, None)],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound memory so")
def test_load_backbone_onnx_that_needs_too_much_is_refused(tmp_path: Path) -> None:
    """Another process meets the limit, and this one goes on."""
    onnx.save(enormous(), tmp_path / "net.onnx")
    for read in (load_backbone, list_layers):
        with pytest.raises(DataError, match=r"net\.onnx: expected an ONNX model that takes an im"):
            read(tmp_path / "net.onnx")


@pytest.mark.slow
def test_load_backbone_onnx_that_never_ends_is_refused(
    weight: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that is enough for another one."""
    monkeypatch.setenv("IMGTOFMRI_MAX_READ_S", "15")
    assert load_backbone(save_network(tmp_path / "good.onnx", weight)).spec.n_features == 5
    onnx.save(endless(), tmp_path / "net.onnx")
    monkeypatch.setenv("IMGTOFMRI_MAX_READ_S", "3")
    with pytest.raises(DataError, match=r"net\.onnx: .* read in 3\.0 s; it took longer"):
        load_backbone(tmp_path / "net.onnx")
