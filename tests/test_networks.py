"""Layers of any network: poolings, projections, untrained weights, tensors of ONNX files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.random_projection import SparseRandomProjection

from imgtofmri.backbones import (
    Backbone,
    LayerInfo,
    Preprocessing,
    Untrained,
    list_layers,
    load_backbone,
)
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.backbones.onnx_graph import has_outside_data, read_nodes
from imgtofmri.backbones.pooling import Layer, Pool, parse_layer, sparse_projection
from imgtofmri.backbones.untrained import untrained_weights
from imgtofmri.exceptions import OptionError, WeightsError

RECIPE = Preprocessing(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture
def onnx_file(rng: np.random.Generator, tmp_path: Path) -> Path:
    """Write a network of one 1x1 convolution with maps, tokens, a vector and a constant."""
    weight = rng.normal(size=(5, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["two"], value_floats=[1.0, 2.0]),
        helper.make_node("Conv", ["images", "weight"], ["/conv/max"]),
        helper.make_node("Relu", ["/conv/max"], ["relu"]),
        helper.make_node("Shape", ["relu"], ["shape"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["map"]),
        helper.make_node("Flatten", ["map"], ["pooled"]),
        helper.make_node("ReduceMax", ["relu"], ["rows"], axes=[3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None)],
        [helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def pixels(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return small random images."""
    return rng.integers(0, 256, (3, 16, 16, 3), np.uint8)


def maps_of(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the rectified maps of the ONNX file from its definition."""
    weight = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    normalised = (pixels / 255.0 - np.array(RECIPE.mean)) / np.array(RECIPE.std)
    return np.maximum(normalised @ weight[:, :, 0, 0].T, 0).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("relu", Layer("relu")),
        ("relu/avg", Layer("relu")),
        ("a/b/max", Layer("a/b", "max")),
        ("relu/sd", Layer("relu", "sd")),
        ("x/tokens", Layer("x", "tokens")),
        ("relu/flatten", Layer("relu", "flatten", 2048)),
        ("relu/flatten:9:4", Layer("relu", "flatten", 9, 4)),
        ("a/relu@7x3", Layer("a/relu", "grid", grid=(7, 3))),
        ("/conv/max", Layer("/conv/max")),
        # No number of rows, but a name, of which no network has a layer.
        pytest.param(f"a@{'9' * 5000}x3", Layer(f"a@{'9' * 5000}x3"), id="5,000 digits"),
    ],
)
def test_parse_layer_reads_what_it_writes(text: str, layer: Layer) -> None:
    """Poolings are told from names, names of the graph win, and the text reads back alike."""
    known = {"/conv/max"}
    assert parse_layer(text, known) == layer
    assert parse_layer(str(layer), known) == layer


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("relu/max:3", "only flatten takes a width"),
        ("relu/flatten:0", "must be 1 or more"),
        ("relu@0x7", "must have a row and a column or more; got relu@0x7"),
    ],
)
def test_parse_layer_bad_width_is_refused(text: str, match: str) -> None:
    """A width where none belongs, or of nothing, is refused."""
    with pytest.raises(OptionError, match=match):
        parse_layer(text)


@pytest.mark.parametrize("pooling", ["max", "sd", "avg", "tokens"])
def test_pool_axes_that_do_not_fit_are_refused(pooling: str) -> None:
    """Five dimensions have no pooling; the message says what fits and names flatten."""
    with pytest.raises(OptionError, match=r"must have shape \(n, .*got 5 dimensions.*/flatten"):
        Pool([Layer("x", pooling)])([np.zeros((1, 2, 3, 4, 5))])


@pytest.mark.parametrize("text", ["x", "x/max", "x/sd", "x@7x7", "x/flatten:9", "x/tokens"])
def test_pool_of_half_precision_is_that_of_its_values(text: str, rng: np.random.Generator) -> None:
    """Sums are of single precision: of 3,136 values near 30 they are beyond half precision's."""
    maps = rng.normal(30, 1, size=(2, 3, 56, 56)).astype(np.float16)
    pool = Pool([parse_layer(text)])
    np.testing.assert_array_equal(pool([maps])[0], pool([maps.astype(np.float32)])[0])


@pytest.mark.parametrize("text", ["x", "x/max", "x/sd", "x@2x2"])
def test_pool_of_maps_with_channels_last_is_refused(text: str, rng: np.random.Generator) -> None:
    """Two equal sides before the last axis are those of a picture; tokens averages over them."""
    maps = rng.normal(size=(2, 4, 4, 9))
    with pytest.raises(OptionError, match=r"got \(2, 4, 4, 9\), where channels .*x/tokens"):
        Pool([parse_layer(text)])([maps])
    (pooled,) = Pool([parse_layer("x/tokens")])([maps])
    np.testing.assert_allclose(pooled, maps.mean(axis=(1, 2)), atol=1e-6)


def test_pool_on_a_grid_averages_blocks_and_keeps_channels(rng: np.random.Generator) -> None:
    """Blocks that divide the map are its plain means, by channel, row and column."""
    maps = rng.normal(size=(2, 3, 8, 12)).astype(np.float32)
    (pooled,) = Pool([parse_layer("x@4x3")])([maps])
    blocks = maps.reshape(2, 3, 4, 2, 3, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(pooled, blocks.reshape(2, -1), atol=1e-6)
    assert Layer("x", "grid", grid=(4, 3)).n_features(3) == pooled.shape[1]
    whole = Pool([parse_layer("x@1x1"), parse_layer("x")])([maps, maps])
    np.testing.assert_allclose(whole[0], whole[1], atol=1e-6)


def test_pool_on_a_grid_that_does_not_divide_equals_pytorch_s(
    torch: Any, rng: np.random.Generator
) -> None:
    """Blocks of other sizes are those of adaptive average pooling."""
    maps = rng.normal(size=(2, 3, 10, 13)).astype(np.float32)
    (pooled,) = Pool([parse_layer("x@4x5")])([maps])
    theirs = torch.nn.AdaptiveAvgPool2d((4, 5))(torch.from_numpy(maps)).numpy()
    np.testing.assert_allclose(pooled, theirs.reshape(2, -1), atol=1e-6)


def test_pool_on_a_grid_finer_than_the_map_is_refused() -> None:
    """The message names the layer and how fine its map is."""
    with pytest.raises(OptionError, match="grid of x@9x2 must not be finer .* map of 4 x 4"):
        Pool([parse_layer("x@9x2")])([np.zeros((1, 2, 4, 4))])


def test_sparse_projection_equals_scikit_learn_s_in_law(rng: np.random.Generator) -> None:
    """Scikit-learn with our matrix gives our features; its own matrices agree in law.

    Share of entries, their two values, independence of rows, and how much distances are distorted.
    """
    n_inputs, width = 4000, 600
    ours = sparse_projection(n_inputs, width, seed=3)
    images = rng.normal(size=(12, n_inputs)).astype(np.float32)
    theirs = SparseRandomProjection(width, random_state=0).fit(images)
    np.testing.assert_allclose(np.unique(ours.data), np.unique(theirs.components_.data), rtol=1e-6)
    expected = n_inputs * width / np.sqrt(n_inputs)
    assert abs(ours.nnz - expected) < 4 * np.sqrt(expected)
    assert abs((ours.data > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(ours.nnz)
    per_row = np.diff(ours.indptr)
    assert per_row.var() == pytest.approx(per_row.mean(), rel=0.25)
    distances = euclidean_distances(images)[np.triu_indices(12, 1)]

    def distortion(projected: NDArray[Any]) -> NDArray[Any]:
        return euclidean_distances(projected)[np.triu_indices(12, 1)] / distances - 1

    pooled = Pool([Layer("x", "flatten", width, 3)])([images.reshape(12, 10, 20, 20)])[0]
    own, other = distortion(pooled), distortion(theirs.transform(images))
    assert np.abs(own).max() < 0.15
    assert own.std() == pytest.approx(other.std(), rel=0.5)
    theirs.components_ = ours
    np.testing.assert_allclose(pooled, theirs.transform(images), rtol=1e-4, atol=1e-5)


def test_sparse_projection_is_the_same_for_ever() -> None:
    """A bundle keeps the layer's name alone, so what a seed gives may never change."""
    drawn = sparse_projection(100, 3, seed=7).toarray()
    places = np.flatnonzero(drawn)[:8]
    assert places.tolist() == [4, 6, 9, 24, 36, 38, 88, 90]
    assert np.sign(drawn.ravel()[places]).tolist() == [1, 1, -1, -1, 1, 1, 1, -1]
    assert not np.array_equal(drawn, sparse_projection(100, 3, seed=8).toarray())
    assert np.abs(sparse_projection(1, 4).toarray()).tolist() == [[0.5]] * 4


def test_load_backbone_onnx_poolings_equal_numpy(
    onnx_file: Path, pixels: NDArray[np.uint8]
) -> None:
    """Several poolings of one tensor, in one pass, are those of the maps that it stands for."""
    layers = ["relu", "relu/max", "relu/sd", "rows/tokens", "relu/flatten:7", "pooled"]
    backbone = load_backbone(onnx_file, layers=layers, preprocessing=RECIPE)
    maps = maps_of(onnx_file, pixels)
    want = [
        maps.mean(axis=(2, 3)),
        maps.max(axis=(2, 3)),
        maps.std(axis=(2, 3)),
        maps.max(axis=3).mean(axis=1),
        (sparse_projection(5 * 16 * 16, 7) @ maps.reshape(3, -1).T).T,
        maps.mean(axis=(2, 3)),
    ]
    np.testing.assert_allclose(backbone(pixels), np.concatenate(want, 1), rtol=1e-4, atol=1e-4)
    assert backbone.spec.layer_widths == (5, 5, 5, 16, 7, 5)
    assert backbone.spec.layers == tuple(layers)
    assert backbone(pixels[1:2]).tobytes() == backbone(pixels)[1:2].tobytes()


def test_load_backbone_onnx_name_like_a_pooling_is_a_name(
    onnx_file: Path, pixels: NDArray[np.uint8]
) -> None:
    """A tensor called /conv/max is that tensor, averaged, and can be pooled itself."""
    plain = load_backbone(onnx_file, layers=["/conv/max", "relu"], preprocessing=RECIPE)(pixels)
    assert not np.allclose(plain[:, :5], plain[:, 5:])
    pooled = load_backbone(onnx_file, layers=["/conv/max/max", "relu/max"], preprocessing=RECIPE)
    top = pooled(pixels)
    np.testing.assert_allclose(np.maximum(top[:, :5], 0), top[:, 5:], atol=1e-6)


def test_load_backbone_onnx_unknown_tensor_suggests(onnx_file: Path) -> None:
    """The message suggests a name and the command that lists all."""
    with pytest.raises(OptionError, match=r"got rellu, which is none\. Did you mean relu\?.* show"):
        load_backbone(onnx_file, layers=["rellu/max"])


def test_list_layers_of_a_file_gives_what_can_be_a_layer(onnx_file: Path) -> None:
    """Constants, shapes and inputs are left out; shapes are without the images' axis."""
    assert list_layers(onnx_file) == [
        LayerInfo("/conv/max", (5, 16, 16), "Conv"),
        LayerInfo("relu", (5, 16, 16), "Relu"),
        LayerInfo("map", (5, 1, 1), "GlobalAveragePool"),
        LayerInfo("pooled", (5,), "Flatten, output"),
        LayerInfo("rows", (5, 16), "ReduceMax"),
    ]
    with pytest.raises(WeightsError, match="expected an ONNX file; got no file"):
        list_layers(onnx_file.with_name("none.onnx"))


def test_list_layers_of_half_precision_alone_are_listed(tmp_path: Path) -> None:
    """A network that is of half precision behind its input has layers."""
    half = onnx.TensorProto.FLOAT16
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Cast", ["images"], ["halves"], to=half)],
        "halves",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("halves", half, None)],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    assert list_layers(tmp_path / "net.onnx") == [LayerInfo("halves", (3, 8, 8), "Cast, output")]


def test_read_nodes_equals_the_onnx_package(onnx_file: Path) -> None:
    """Operations, inputs and outputs are those that onnx reads; other bytes are refused."""
    model = onnx.load(onnx_file)
    got = [(node.op, node.inputs, node.outputs) for node in read_nodes(onnx_file.read_bytes())]
    assert got == [(n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node]
    with pytest.raises(WeightsError, match="expected an encoded ONNX model"):
        read_nodes(onnx_file.read_bytes()[:-3])


def _external(name: str, file: Path) -> onnx.TensorProto:
    """Return a tensor whose values lie in another file."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(file))
    return tensor


@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "sparse", "function"])
def test_load_backbone_onnx_values_of_other_files_are_not_read(
    onnx_file: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in the graph they are named, be the file in the current folder or anywhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.float32(7).tobytes())
    model = onnx.load(onnx_file)
    tensor = _external("secret", Path("secret.bin"))
    constant = onnx.helper.make_node("Constant", [], ["secret"], value=tensor)
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "constant":
        model.graph.node.insert(0, constant)
    elif place == "branch":
        inner = onnx.helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(
            onnx.helper.make_node("If", ["a"], ["b"], then_branch=inner, else_branch=inner)
        )
    elif place == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    else:
        model.functions.add(name="f", domain="d").node.append(constant)
    path = tmp_path / "outside.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="it keeps some in other files, which are not opened"):
        load_backbone(path, layers=["relu"], preprocessing=RECIPE)


def test_has_outside_data_refuses_graphs_without_end(onnx_file: Path) -> None:
    """Graphs in graphs, twenty deep, and a number that never ends."""
    graph = onnx.GraphProto()
    for _ in range(20):
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("If", ["a"], ["b"], then_branch=graph)], "g", [], []
        )
    model = onnx.ModelProto()
    model.graph.CopyFrom(graph)
    with pytest.raises(WeightsError, match="more than 16 deep"):
        has_outside_data(model.SerializeToString())
    with pytest.raises(WeightsError, match="a number without end"):
        has_outside_data(b"\x80" * 100_000)
    assert not has_outside_data(onnx_file.read_bytes())


@pytest.fixture(scope="module")
def squares() -> NDArray[np.uint8]:
    """Return two random images of the package's networks' size."""
    return np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)


def side_of(name: str, layer: str) -> int:
    """Return the height of the maps that a layer of the package's graph is made of."""
    graph = resources.files("imgtofmri.backbones") / "graphs" / f"{name}.onnx"
    model = onnx.load_model_from_string(graph.read_bytes())
    inferred = onnx.shape_inference.infer_shapes(model).graph
    maps = next(node.input[0] for node in inferred.node if f"{layer}/map_mean" in node.output)
    shapes = {value.name: value.type.tensor_type.shape for value in inferred.value_info}
    return int(shapes[maps].dim[2].dim_value)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_load_backbone_poolings_of_a_layer_agree(name: str, squares: NDArray[np.uint8]) -> None:
    """Mean, deviation, maximum and projection of a layer are all those of the same maps."""
    base = [layer for layer in ARCHITECTURES[name].layers if "/" not in layer][-2]
    layers = [f"{base}/max", base, f"{base}/sd", f"{base}/flatten:50:2", f"{base}/flatten:50"]
    network = load_backbone(name, weights="untrained", layers=layers)
    top, mean, sd, flat, other = np.split(
        network(squares), np.cumsum(network.spec.layer_widths)[:-1], axis=1
    )
    assert (top >= mean).all()
    side = side_of(name, base)
    # Samuelson's inequality bounds the maximum by the deviation.
    assert (top <= mean + sd * np.sqrt(side**2 - 1) + 1e-3).all()
    # The projection is linear and keeps the maps' norm, which mean and deviation give.
    norm = np.sqrt((side**2 * (mean**2 + sd**2)).sum(axis=1))
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), norm, rtol=0.4)
    assert not np.allclose(flat, other)
    again = load_backbone(name, weights="untrained", layers=[f"{base}/flatten:50:2"])
    np.testing.assert_allclose(again(squares), flat, rtol=1e-5, atol=1e-5)


def test_load_backbone_untrained_is_fixed_by_its_seed(
    squares: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed gives the same features, another seed others; the spec says what it is."""
    monkeypatch.setattr("imgtofmri.backbones.load.untrained_weights", untrained_weights)

    def load(weights: str) -> Backbone:
        return load_backbone("resnet18", weights=weights)

    one, again, other = (load(f"untrained:{seed}")(squares) for seed in (0, 0, 2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, load("untrained")(squares))
    assert abs(np.corrcoef(one[0], other[0])[0, 1]) < 0.5
    spec = load("untrained:2").spec
    assert (spec.weights_name, spec.weights_verified) == ("untrained (seed 2)", False)
    assert spec.features_id == "resnet18/avgpool"
    assert "seed 2" in spec.note
    assert len(spec.weights_sha256) == 64
    assert spec.weights_sha256 != load("untrained").spec.weights_sha256


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_load_backbone_untrained_weights_have_he_s_variance(name: str) -> None:
    """Each layer's weights have variance 2 / fan-out; a depthwise channel feeds one channel."""
    network = ARCHITECTURES[name]
    tensors = untrained_weights(network, Untrained(5)).tensors
    for conv in network.convolutions:
        n_out, n_in, height, width = conv.shape
        fan_out = (1 if n_in == 1 else n_out) * height * width
        weight = tensors[f"{conv.name}.weight"]
        within = 5 * np.sqrt(2 / weight.size)
        assert weight.var() == pytest.approx(2 / fan_out, rel=max(0.002, within))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_load_backbone_untrained_activations_stay_moderate(
    name: str, squares: NDArray[np.uint8]
) -> None:
    """From the first layer to the last features are of the order of 1, as trained ones are."""
    layers = [layer for layer in ARCHITECTURES[name].layers if not layer.endswith("/sd")]
    backbone = load_backbone(name, weights="untrained:1", layers=layers)
    ends = np.cumsum(backbone.spec.layer_widths)[:-1]
    sizes = [np.abs(part).mean() for part in np.split(backbone(squares), ends, axis=1)]
    assert 0.05 < min(sizes) < max(sizes) < 20


def test_load_backbone_untrained_bad_seed_or_name_is_refused() -> None:
    """A seed is a whole number; an unknown network is named as for any weights."""
    with pytest.raises(OptionError, match="'untrained' or 'untrained:SEED'.*got 'untrained:x'"):
        load_backbone("resnet18", weights="untrained:x")
    with pytest.raises(OptionError, match="must be one of resnet18"):
        load_backbone("resnet19", weights="untrained")
    with pytest.raises(OptionError, match="head must be left out, as it was fitted on a trained"):
        load_backbone("efficientnet-lite0", weights="untrained", head="head.safetensors")
