"""Encoders of several networks or layers: each ROI from its own, each network run once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import nibabel as nib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import load_file, save_file

from imgtofmri.analyses.dynamics.models import movie_models
from imgtofmri.backbones import DistilledBackbone, Preprocessing, load_backbone
from imgtofmri.backbones.head import packaged_head
from imgtofmri.backbones.joined import JoinedBackbone, JoinedPart
from imgtofmri.bundle import Bundle, read_bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.encoder.description import card_lines
from imgtofmri.encoder.networks import card_networks, load_networks, needed_layers
from imgtofmri.exceptions import OptionError, ShapeError, WeightsUnavailableError
from imgtofmri.training import fit_study
from imgtofmri.training.study import read_study

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

N_PICTURES = 20
RECIPE = Preprocessing(size=224, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def save_network(path: Path, seed: int, size: int | str = "size") -> Path:
    """Write a network of one convolution (layer ``conv``) and a rectifier (layer ``out``)."""
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((5, 3, 8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], strides=[16, 16]),
        helper.make_node("Relu", ["conv"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 5, None, None])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.fixture
def folder(tmp_path: Path, random_weights: Path) -> Path:
    """Return a folder with pictures, responses, two networks, and ResNet-18's weights."""
    rng = np.random.default_rng(11)
    (tmp_path / "pictures").mkdir()
    for number in range(N_PICTURES):
        pixels = rng.integers(0, 256, size=(16, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:02d}.png")
    for roi, first in (("V1", 300), ("LOC", 500)):
        mask = np.zeros((10, 11, 9), np.uint8)
        mask.flat[first : first + 12] = 1
        nib.save(nib.Nifti1Image(mask, np.diag([2.0, 2, 2, 1])), tmp_path / f"{roi}.nii.gz")
        np.save(tmp_path / f"{roi}.npy", rng.standard_normal((N_PICTURES, 12)))
    save_network(tmp_path / "tiny.onnx", 1)
    shutil.copy(random_weights, tmp_path / "weights.safetensors")
    return tmp_path


ONE_NETWORK = """
[backbone]
name = "resnet18"
layers = ["layer1", "layer3", "avgpool"]
weights = "weights.safetensors"
"""
TWO_NETWORKS = """
[backbones.early]
name = "tiny.onnx"
layers = ["conv", "out"]
preprocessing = { size = 224, mean = [0.1, 0.2, 0.3], std = [0.5, 0.6, 0.7] }
[backbones.late]
name = "resnet18"
layers = ["avgpool"]
weights = "weights.safetensors"
"""


def write_study(folder: Path, networks: str, v1: str, loc: str) -> Path:
    """Write a study whose two ROIs use the given layers."""
    path = folder / "study.toml"
    path.write_text(f"""
id = "several"
title = "Two ROIs, each from layers of its own"
licence = "CC0"
[template]
grid = "V1.nii.gz"
[stimuli]
folder = "pictures"
{networks}
[fit]
alphas = [1.0, 10.0]
[[subjects]]
name = "S1"
transform = {{ kind = "same" }}
rois.V1 = {{ mask = "V1.nii.gz", responses = "V1.npy", layers = {v1} }}
rois.LOC = {{ mask = "LOC.nii.gz", responses = "LOC.npy", layers = {loc} }}
""")
    return path


def fit(folder: Path, networks: str, v1: str, loc: str) -> Encoder:
    """Fit a study and read its encoder back from beside its networks."""
    bundle = fit_study(write_study(folder, networks, v1, loc), progress=False)
    write_bundle(bundle, folder / "encoder.safetensors")
    return load_encoder(folder / "encoder.safetensors")


@pytest.mark.slow
def test_two_layers_of_one_network_each_roi_uses_its_own(folder: Path) -> None:
    """Early visual cortex comes from an early layer, LOC from two others; maps agree by hand."""
    encoder = fit(folder, ONE_NETWORK, '["layer1"]', '["layer3", "avgpool"]')
    assert encoder.card["features"]["rois"] == {"V1": ["layer1"], "LOC": ["layer3", "avgpool"]}
    assert encoder.card["features"]["layer_widths"] == [64, 256, 512]
    early, late = (encoder.bundle.subjects[0].rois[roi] for roi in ("V1", "LOC"))
    assert (early.first_feature, early.n_features) == (0, 64)
    assert (late.first_feature, late.n_features) == (64, 768)
    images = sorted((folder / "pictures").iterdir())[:3]
    features = encoder.features(images)
    for rois in (["V1"], ["LOC"], ["V1", "LOC"]):
        by_hand = encoder.predict_features(features, rois=rois, average="mean")
        got = encoder.predict(images, rois=rois, average="mean", progress=False)
        np.testing.assert_allclose(got.group, by_hand.group, atol=1e-4)
    assert encoder.extractor(rois=["V1"]).network.spec.layers == ("layer1",)
    assert encoder.extractor(rois=["LOC", "V1"]).network.spec.layers == (
        "layer1",
        "layer3",
        "avgpool",
    )


@pytest.mark.slow
def test_a_file_that_is_written_anew_is_another_network(folder: Path) -> None:
    """A network that was trained further, under the same name, is loaded again; records tell it."""
    encoder = fit(folder, ONE_NETWORK, '["avgpool"]', '["avgpool"]')
    picture = folder / "pictures" / "00.png"
    mine = folder / "mine.safetensors"
    for seed in (1, 2, 1):
        tensors = {
            name: np.random.default_rng(seed).permuted(values.ravel()).reshape(values.shape)
            for name, values in load_file(folder / "weights.safetensors").items()
        }
        save_file(tensors, mine)
        got = encoder.predict(picture, weights=mine, progress=False)
        fresh = load_encoder(folder / "encoder.safetensors")
        expected = fresh.predict(picture, weights=mine, progress=False)
        np.testing.assert_array_equal(got.group, expected.group)
        assert got.provenance == expected.provenance


def test_networks_and_weights_of_other_kinds_are_refused(folder: Path) -> None:
    """What a person may hold in a notebook: a module that is none of ours, and its tensors."""
    encoder = fit(folder, ONE_NETWORK, '["avgpool"]', '["avgpool"]')
    with pytest.raises(OptionError, match="backbone must be a network's name.*got a dict"):
        encoder.extractor(backbone={})
    with pytest.raises(OptionError, match="weights must be a file's path.*got a dict"):
        encoder.extractor(weights={})


@pytest.mark.slow
def test_features_of_other_weights_under_the_same_name_are_refused(folder: Path) -> None:
    """An encoder of weights of its own takes neither published ones nor estimates of them."""
    one_layer = ONE_NETWORK.replace('"layer1", "layer3", ', "")
    encoder = fit(folder, one_layer, '["avgpool"]', '["avgpool"]')
    features = encoder.card["features"]
    own = load_backbone("resnet18", weights=folder / "weights.safetensors")
    load_networks(features, [["avgpool"]], backbone=own)

    class Other:
        def __init__(self, **changes: Any) -> None:
            self.spec = replace(own.spec, **changes)

        __call__ = own.__call__

    load_networks(features, [["avgpool"]], backbone=Other(weights_seed=3))
    published = Other(weights_sha256="0" * 64, weights_verified=True)
    with pytest.raises(ShapeError, match=r"weights of its own, .* gives those of the published"):
        load_networks(features, [["avgpool"]], backbone=published)
    head = packaged_head("efficientnet-lite0")
    assert head is not None
    student = Other(id="efficientnet-lite0", layers=head.layers)
    with pytest.raises(ShapeError, match=r"estimates features of the published ones.*distilled"):
        load_networks(features, [["avgpool"]], backbone=DistilledBackbone(student, head))
    card = {**head.card, "teacher_weights_sha256": features["weights"]["sha256"]}
    mine = DistilledBackbone(student, replace(head, card=card))
    load_networks(features, [["avgpool"]], backbone=mine)
    card |= {"teacher_weights_verified": False}
    mine = DistilledBackbone(student, replace(head, card=card))
    unsaid = {key: value for key, value in features.items() if key != "weights"}
    with pytest.raises(ShapeError, match="with the published weights; .* estimates .* of others"):
        load_networks(unsaid, [["avgpool"]], backbone=mine, encoder="published")


@pytest.mark.slow
def test_layers_that_no_roi_needs_are_not_computed(folder: Path) -> None:
    """The features of the needed layer are those of the network with that layer alone."""
    encoder = fit(folder, ONE_NETWORK, '["layer1"]', '["avgpool"]')
    pixels = np.random.default_rng(2).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    weights = folder / "weights.safetensors"
    got = encoder.extractor(rois=["LOC"]).network(pixels)
    alone = load_backbone("resnet18", weights=weights, layers=["avgpool"])(pixels)
    assert got.shape == (3, 64 + 256 + 512)
    np.testing.assert_allclose(got[:, 320:], alone, rtol=1e-5, atol=1e-6)
    assert not got[:, :320].any()


@pytest.mark.slow
def test_two_networks_in_one_encoder_predict_what_each_gives(folder: Path) -> None:
    """Every network gets its own normalisation; the bundle's features are theirs side by side."""
    encoder = fit(folder, TWO_NETWORKS, '["early/out"]', '["late", "early/conv"]')
    features = encoder.card["features"]
    assert [entry["label"] for entry in features["networks"]] == ["early", "late"]
    assert features["rois"] == {"V1": ["early/out"], "LOC": ["early/conv", "late/avgpool"]}
    assert encoder.n_features == 5 + 5 + 512
    pixels = np.random.default_rng(2).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    weights = folder / "weights.safetensors"
    tiny = load_backbone(folder / "tiny.onnx", layers=["conv", "out"], preprocessing=RECIPE)
    deep = load_backbone("resnet18", weights=weights)
    expected = np.hstack([tiny(pixels), deep(pixels)])
    np.testing.assert_allclose(encoder.extractor().network(pixels), expected, rtol=1e-5, atol=1e-5)
    only = encoder.extractor(rois=["V1"]).network
    assert only.spec.layers == ("out",)
    np.testing.assert_allclose(only(pixels)[:, 5:10], expected[:, 5:10], rtol=1e-5, atol=1e-5)
    images = sorted((folder / "pictures").iterdir())[:2]
    given = encoder.predict_features(encoder.features(images), average="mean")
    got = encoder.predict(images, average="mean", progress=False)
    np.testing.assert_allclose(got.group, given.group, atol=1e-4)


@pytest.mark.slow
def test_each_network_runs_once_for_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pictures in one batch call each of two networks once, and one of them for one ROI."""
    from imgtofmri.backbones.runtime import NetworkBackbone, OnnxFileBackbone

    calls = []
    for kind in (NetworkBackbone, OnnxFileBackbone):
        original = kind.__call__

        def counted(self, pixels, original=original):  # type: ignore[no-untyped-def]
            calls.append(type(self).__name__)
            return original(self, pixels)

        monkeypatch.setattr(kind, "__call__", counted)
    encoder = fit(folder, TWO_NETWORKS, '["early"]', '["late"]')
    images = sorted((folder / "pictures").iterdir())[:3]
    calls.clear()
    encoder.predict(images, progress=False)
    assert sorted(calls) == ["NetworkBackbone", "OnnxFileBackbone"]
    calls.clear()
    encoder.predict(images, rois=["V1"], progress=False)
    assert calls == ["OnnxFileBackbone"]


@pytest.mark.slow
def test_several_networks_through_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fit`, `describe` and `predict` take them; the run's record says which layers it computed."""
    study = write_study(folder, TWO_NETWORKS, '["early"]', '["late"]')
    encoder = str(folder / "two.safetensors")
    assert main(["fit", str(study), "-o", encoder, "--quiet"]) == 0
    assert main(["describe", encoder]) == 0
    said = capsys.readouterr().out
    assert "  V1        uses early/conv, early/out\n" in said
    assert "  late      resnet18/avgpool (512 features)\n" in said
    picture = str(folder / "pictures" / "00.png")
    out = tmp_path / "out"
    assert main(["predict", picture, "-o", str(out), "--encoder", encoder, "--quiet"]) == 0
    settings = json.loads((out / "predictions.json").read_text())["prediction"]
    assert settings["backbone"] == "tiny+resnet18"
    assert settings["layers"] == ["tiny/conv", "tiny/out", "resnet18/avgpool"]


@pytest.mark.slow
def test_a_network_of_ones_own_is_found_beside_the_bundle_with_its_recipe(folder: Path) -> None:
    """An ONNX file needs no option, keeps the card's preprocessing, and has to be the same file."""
    one = TWO_NETWORKS.split("[backbones.late]")[0].replace("[backbones.early]", "[backbone]")
    encoder = fit(folder, one, '["out"]', '["conv", "out"]')
    assert encoder.extractor().network.spec.preprocessing == RECIPE
    assert encoder.extractor(rois=["V1"]).network.spec.layers == ("out",)
    named = Encoder(encoder.bundle).extractor(backbone=folder / "tiny.onnx").network
    assert named.spec.preprocessing == RECIPE
    with pytest.raises(OptionError, match=r"weights must be left out, as .*holds its own weights"):
        encoder.extractor(weights=folder / "weights.safetensors")
    loaded = load_backbone(folder / "tiny.onnx", layers=["conv", "out"], preprocessing=RECIPE)
    assert encoder.extractor(backbone=loaded).network is loaded
    with pytest.raises(ShapeError, match=r"was fitted with Preprocessing.*Load it with the enc"):
        encoder.extractor(backbone=load_backbone(folder / "tiny.onnx", layers=["conv", "out"]))
    other = save_network(folder / "elsewhere.onnx", seed=2)
    with pytest.raises(ShapeError, match=r"was fitted on tiny@.*gives elsewhere@"):
        encoder.extractor(backbone=other)
    shutil.copy(other, folder / "tiny.onnx")
    moved = load_encoder(folder / "encoder.safetensors")
    with pytest.raises(WeightsUnavailableError, match=r"tiny.onnx has another content. Put it th"):
        moved.extractor()
    (folder / "tiny.onnx").unlink()
    with pytest.raises(WeightsUnavailableError, match=r"it is not there.*`backbone`"):
        moved.extractor()


@pytest.mark.slow
def test_options_for_one_network_are_refused_where_there_are_several(folder: Path) -> None:
    """`--backbone` cannot say which network it replaces; `--weights` can if one takes weights."""
    encoder = fit(folder, TWO_NETWORKS, '["early"]', '["late"]')
    with pytest.raises(OptionError, match=r"several networks \(early, late\); got .*beside the"):
        encoder.extractor(backbone="resnet18")
    assert encoder.extractor(weights=folder / "weights.safetensors").network.spec.n_features == 522


def test_networks_of_different_sizes_are_refused(folder: Path) -> None:
    """All networks of an encoder see the same pixels."""
    parts = []
    for size in (32, 64):
        network = load_backbone(save_network(folder / f"net{size}.onnx", 1, size))
        parts.append(JoinedPart(network, np.arange(5)))
    with pytest.raises(OptionError, match=r"of one size; got net32 32, net64 64. Give them"):
        JoinedBackbone(parts, 10, "both")


@pytest.mark.parametrize(
    ("networks", "v1", "said"),
    [
        (TWO_NETWORKS, '["out"]', r"the networks being early, late; got 'out'"),
        (TWO_NETWORKS, '["late/layer1"]', r"must be among backbones.late.layers; got 'layer1'"),
        (TWO_NETWORKS + ONE_NETWORK, '["late"]', r"backbones and backbone are both given"),
        ("[backbones]", '["late"]', r"must name networks: \[backbones.NAME\]"),
        ('[backbones]\n"a/b" = {}', '["late"]', r"must not contain a slash. Rename the network"),
        (TWO_NETWORKS + "center_crop = true", '["late"]', r"must be the same for all networks"),
        (TWO_NETWORKS + "label = 'x'", '["late"]', r"label means nothing here"),
    ],
)
def test_read_study_refuses_networks_that_do_not_fit(
    folder: Path, networks: str, v1: str, said: str
) -> None:
    """What is wrong with networks and layers is named with its line."""
    with pytest.raises(OptionError, match=said):
        read_study(write_study(folder, networks, v1, '["late"]'))


def test_read_study_features_from_a_file_are_of_one_backbone(folder: Path) -> None:
    """A table of features cannot be told apart into networks."""
    path = write_study(folder, TWO_NETWORKS, '["late"]', '["late"]')
    text = path.read_text().replace("[stimuli]\n", '[stimuli]\nfeatures = "V1.npy"\n')
    path.write_text(text)
    with pytest.raises(OptionError, match=r"backbones cannot go with stimuli.features. Use back"):
        read_study(path)


def test_needed_layers_of_a_card_that_says_nothing_are_all(small_bundle: Bundle) -> None:
    """A card without ``rois``, such as the published one, needs its whole network."""
    features = small_bundle.card["features"]
    assert needed_layers(features, ["PPA"]) == (("avgpool",),)
    (network,) = card_networks(features)
    assert (network.first_feature, network.n_features, network.is_file) == (0, 6, False)


def test_needed_layers_are_those_of_the_rois() -> None:
    """A network that no ROI uses gives nothing; an ROI of which nothing is said uses all."""

    def network(label: str, widths: dict[str, int]) -> dict[str, Any]:
        return {
            "label": label,
            "id": f"{label}/{'+'.join(widths)}",
            "backbone": label,
            "layers": list(widths),
            "layer_widths": list(widths.values()),
            "n_features": sum(widths.values()),
        }

    features = {
        "networks": [network("early", {"a": 2, "b": 3}), network("late", {"c": 4})],
        "rois": {"LOC": ["early/a"], "PPA": ["early/b", "late/c"]},
    }
    everything = (("a", "b"), ("c",))
    assert needed_layers(features) == everything
    assert needed_layers(features, ["LOC"]) == (("a",), ())
    assert needed_layers(features, ["PPA"]) == (("b",), ("c",))
    assert needed_layers(features, ["LOC", "V4"]) == everything


def test_a_bundle_with_networks_survives_a_round_trip(folder: Path) -> None:
    """Card and offsets of several networks are what was written."""
    encoder = fit(folder, TWO_NETWORKS, '["early"]', '["late"]')
    again = read_bundle(folder / "encoder.safetensors")
    assert again.card["features"] == encoder.card["features"]
    assert [model.first_feature for model in again.subjects[0].rois.values()] == [0, 10]


@pytest.mark.slow
def test_an_encoder_fitted_on_an_emulation_predicts_with_it(folder: Path) -> None:
    """A network with a head stands for another: its features are one layer of that other one."""
    from safetensors.numpy import save_file

    from imgtofmri.backbones.architectures import ARCHITECTURES

    rng = np.random.default_rng(5)
    tensors = {}
    for conv in ARCHITECTURES["efficientnet-lite0"].convolutions:
        scale = np.sqrt(2 / np.prod(conv.shape[1:]))
        tensors[f"{conv.name}.weight"] = (rng.normal(size=conv.shape) * scale).astype(np.float32)
        tensors[f"{conv.name}.bias"] = np.zeros(conv.shape[0], np.float32)
    save_file(tensors, folder / "student.safetensors")
    emulation = """
[backbones.cheap]
name = "efficientnet-lite0"
weights = "student.safetensors"
[backbones.tiny]
name = "tiny.onnx"
"""
    encoder = fit(folder, emulation, '["cheap"]', '["tiny"]')
    (cheap, tiny) = encoder.card["features"]["networks"]
    described = "\n".join(card_lines(encoder.bundle))
    for part in ("r with the teacher's group maps on 298 held-out", "CC BY-NC 4.0"):
        assert part in cheap["emulation"]
        assert part in described
    assert "emulation" not in tiny
    assert (cheap["id"], cheap["layers"], cheap["layer_widths"]) == (
        "resnet18/avgpool",
        ["avgpool"],
        [512],
    )
    spec = encoder.extractor(rois=["V1"]).network.spec
    assert (spec.id, spec.emulated, spec.weights_name) == (
        "efficientnet-lite0",
        True,
        "student.safetensors",
    )
    pixels = rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    alone = load_backbone("efficientnet-lite0", weights=folder / "student.safetensors")(pixels)
    np.testing.assert_allclose(
        encoder.extractor().network(pixels)[:, :512], alone, rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_movie_models_untrained_baseline_has_the_encoder_s_layers(folder: Path) -> None:
    """Of an encoder of three layers, the control is the same three with random weights."""
    encoder = fit(folder, ONE_NETWORK, '["layer1"]', '["layer3", "avgpool"]')
    rng = np.random.default_rng(5)
    with av.open(str(folder / "film.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=2)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for _ in range(4):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    models = movie_models(
        encoder,
        folder / "film.mkv",
        baselines=["untrained"],
        untrained_seed=5,
        progress=False,
    )
    found = models.baselines["untrained"]
    assert found.shape == (4, 64 + 256 + 512)
    assert all(np.ptp(found[:, part]) > 0 for part in (slice(64), slice(64, 320), slice(320, 832)))


TWO_ARCHITECTURES = """
[backbones.early]
name = "resnet18"
layers = ["layer1"]
weights = "weights.safetensors"
[backbones.late]
name = "resnet18"
layers = ["avgpool"]
weights = "weights.safetensors"
"""


@pytest.mark.slow
def test_untrained_weights_replace_every_network_of_several(folder: Path) -> None:
    """Each network gets its untrained twin: features are those of the layers loaded by hand."""
    encoder = fit(folder, TWO_ARCHITECTURES, '["early"]', '["late"]')
    pixels = np.random.default_rng(3).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    found = encoder.extractor(weights="untrained:2").network(pixels)
    by_hand = [
        load_backbone("resnet18", weights="untrained:2", layers=[layer])(pixels)
        for layer in ("layer1", "avgpool")
    ]
    np.testing.assert_array_equal(found, np.concatenate(by_hand, axis=1))
    assert np.abs(found - encoder.extractor().network(pixels)).max() > 0.1


def test_untrained_weights_of_an_onnx_file_are_refused(folder: Path) -> None:
    """A file holds its own weights: there is no architecture to draw others for."""
    encoder = fit(folder, TWO_NETWORKS, '["early"]', '["late"]')
    with pytest.raises(OptionError, match=r"uses tiny@.*an ONNX file, which holds its own weights"):
        encoder.extractor(weights="untrained")
    with pytest.raises(OptionError, match=r"'untrained' or 'untrained:SEED'.*got 'untrained:x'"):
        encoder.extractor(weights="untrained:x")
