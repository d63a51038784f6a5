"""Networks of timm and torchvision by name; run where these packages are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgtofmri.backbones import Preprocessing, load_backbone
from imgtofmri.bundle import read_bundle
from imgtofmri.cli import main
from imgtofmri.exceptions import OptionError, WeightsError, WeightsUnavailableError

IMAGENET = Preprocessing()


@pytest.fixture
def torchvision(torch: Any) -> Any:
    """Return torchvision, or skip with the reason."""
    return pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=Error)


@pytest.fixture
def timm(torchvision: Any) -> Any:
    """Return timm, which needs torchvision, or skip with the reason."""
    return pytest.importorskip("timm", reason="timm is not installed")


# A torchvision of another PyTorch fails with a RuntimeError of PyTorch's, which is no ImportError.
Error = (ImportError, RuntimeError)


@pytest.fixture
def squares(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return two pictures of the usual size."""
    return rng.integers(0, 256, (2, 224, 224, 3), np.uint8)


def as_input(pixels: NDArray[np.uint8], recipe: Preprocessing, torch: Any) -> Any:
    """Return what a network of PyTorch's takes, worked out in double precision."""
    images = (pixels / 255.0 - np.array(recipe.mean)) / np.array(recipe.std)
    return torch.tensor(images.transpose(0, 3, 1, 2)).float()


def test_torchvision_name_gives_what_its_feature_extractor_gives(
    torchvision: Any, torch: Any, squares: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Several layers of one pass equal torchvision's own feature extractor, weights from a file."""
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.manual_seed(8)
    net = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path / "mine.pth"
    torch.save(net.state_dict(), path)
    backbone = load_backbone(
        "torchvision:resnet18", weights=path, layers=["layer2", "layer3/max", "avgpool"]
    )
    with torch.no_grad():
        maps = create_feature_extractor(net, ["layer2", "layer3", "avgpool"])(
            as_input(squares, IMAGENET, torch)
        )
    want = [maps["layer2"].mean((2, 3)), maps["layer3"].amax((2, 3)), maps["avgpool"].flatten(1)]
    got = backbone(squares)
    np.testing.assert_allclose(got, np.concatenate(want, axis=1), rtol=1e-4, atol=1e-5)
    spec = backbone.spec
    assert (spec.preprocessing, spec.layer_widths) == (IMAGENET, (128, 256, 512))
    assert (spec.weights_name, spec.weights_verified) == ("mine.pth", False)


def test_torchvision_resnet18_equals_the_package_s_own_graph(
    torchvision: Any, torch: Any, squares: NDArray[np.uint8], tmp_path: Path
) -> None:
    """The same weights give the same features through the built-in network on ONNX Runtime."""
    from imgtofmri.backbones import UnverifiedWeightsWarning

    torch.manual_seed(9)
    path = tmp_path / "mine.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    layers = ["layer1", "layer3/sd", "layer2/flatten:50", "avgpool"]
    theirs = load_backbone("torchvision:resnet18", weights=path, layers=layers)
    with pytest.warns(UnverifiedWeightsWarning, match="not the published weights"):
        ours = load_backbone("resnet18", weights=path, layers=layers)
    np.testing.assert_allclose(theirs(squares), ours(squares), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer", "width", "size", "mean"),
    [
        ("torchvision:resnet18", "layer1", 64, 224, 0.485),
        ("torchvision:vit_b_32", "encoder.layers.encoder_layer_1/tokens", 768, 224, 0.485),
        ("torchvision:swin_t", "features.1/tokens", 96, 224, 0.485),
        ("torchvision:efficientnet_b1", "features.2", 24, 240, 0.485),
        ("timm:resnet18", "layer1", 64, 224, 0.485),
        ("timm:vit_tiny_patch16_224", "blocks.1/tokens", 192, 224, 0.5),
        ("timm:tf_efficientnet_b1.ns_jft_in1k", "blocks.1", 24, 240, 0.485),
    ],
)
def test_torch_name_brings_its_own_preprocessing(
    timm: Any, name: str, layer: str, width: int, size: int, mean: float
) -> None:
    """Size, mean and deviation are those that the package states, of whatever architecture."""
    spec = load_backbone(name, weights="untrained:3", layers=[layer]).spec
    assert spec.n_features == width
    assert (spec.preprocessing.size, spec.preprocessing.mean[0]) == (size, mean)
    assert spec.weights_name == "untrained (seed 3)"
    assert "nothing was learned" in spec.note


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_torch_name_scales_its_input_as_the_published_weights_need(
    torchvision: Any,
    torch: Any,
    squares: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GoogLeNet takes ImageNet's scale to its own where torchvision fetches, or a file is, that."""
    torch.manual_seed(5)
    net = torchvision.models.googlenet(weights=None, init_weights=False).eval()
    net.transform_input = True  # As torchvision sets it for the published weights.
    net.inception3a.register_forward_hook(lambda *call: maps.append(call[2]))
    path, maps = tmp_path / "googlenet.pth", []
    torch.save(net.state_dict(), path)

    def load() -> NDArray[np.float32]:
        name = "torchvision:googlenet"
        return load_backbone(name, weights=path, layers=["inception3a"])(squares)

    with pytest.raises(WeightsError, match=r"googlenet\.pth: expected the file .* \(1378be20\)"):
        load()
    published = "imgtofmri.backbones.torch_named.sha256_of"
    monkeypatch.setattr(published, lambda path: f"1378be20{'0' * 56}")
    with torch.no_grad():
        net(as_input(squares, IMAGENET, torch))
    want = maps[0].mean((2, 3)).numpy()
    np.testing.assert_allclose(load(), want, rtol=1e-3, atol=1e-5 * abs(want).max())


def test_torch_name_untrained_seed_says_which_weights(
    timm: Any, torch: Any, squares: NDArray[np.uint8]
) -> None:
    """A seed gives the same features again, another seed others; PyTorch's own seed stays as is."""
    state = torch.random.get_rng_state()
    layers = ["blocks.0/tokens"]
    one, same, other = (
        load_backbone("timm:vit_tiny_patch16_224", weights=f"untrained:{seed}", layers=layers)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one(squares), same(squares))
    assert one.spec.features_id == same.spec.features_id != other.spec.features_id
    assert not np.allclose(one(squares), other(squares))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_torch_name_that_is_no_network_of_pictures_is_refused(torchvision: Any) -> None:
    """Unknown names and networks of films, or of other tasks, each have a message."""
    with pytest.raises(OptionError, match=r"torchvision:resnet17 must be a network of torchvision"):
        load_backbone("torchvision:resnet17", weights="untrained", layers=["layer1"])
    with pytest.raises(OptionError, match=r"must take images of shape \(n, 3, 112, 112\)"):
        load_backbone("torchvision:r3d_18", weights="untrained", layers=["layer1"])
    name = "torchvision:fcn_resnet50"
    with pytest.raises(OptionError, match=r"its package says no size.*Give `preprocessing`"):
        load_backbone(name, weights="untrained", layers=["backbone.layer1"])
    recipe = Preprocessing(size=64)
    network = load_backbone(
        name, weights="untrained", layers=["backbone.layer1"], preprocessing=recipe
    )
    assert (network.spec.n_features, network.spec.preprocessing) == (256, recipe)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_torch_name_offline_says_how_to_give_weights(
    timm: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the network may not be touched, weights that are not there are asked for by name."""
    monkeypatch.setenv("IMGTOFMRI_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(WeightsUnavailableError, match=r"IMGTOFMRI_OFFLINE is set.*`weights`"):
        load_backbone(name, layers=["layer1"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_file_of_a_torch_network_gives_its_features(
    torchvision: Any, torch: Any, squares: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Exported to ONNX, the network has the same features, to 1e-4."""
    torch.manual_seed(3)
    net = torchvision.models.resnet18(weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        net,
        (torch.zeros(2, 3, 224, 224),),
        path,
        input_names=["image"],
        dynamic_axes={"image": {0: "n"}},
        dynamo=False,
    )
    inside = [f"layer3{pooling}" for pooling in ("", "/max", "/flatten:30")]
    theirs = load_backbone("torchvision:resnet18", weights=tmp_path / "net.pth", layers=inside)
    named = "/layer3/layer3.1/relu_1/Relu_output_0"
    layers = [f"{named}{pooling}" for pooling in ("", "/max", "/flatten:30")]
    ours = load_backbone(path, layers=layers)
    np.testing.assert_allclose(ours(squares), theirs(squares), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:vit_tiny_patch16_224"])
def test_backbones_show_lists_the_layers_of_a_torch_name(
    timm: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Modules that run once are listed with shapes, as `load_backbone` takes them."""
    assert main(["backbones", "show", name]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    if name.startswith("timm"):
        assert rows["blocks.5"].split()[1:] == ["n", "x", "197", "x", "192", "Block"]
    else:
        assert rows["layer3"].split()[1:] == "n x 256 x 14 x 14 Sequential".split()
        # It runs twice for one image.
        assert "layer1.0.relu" not in rows
    layer = "blocks.5/tokens" if name.startswith("timm") else "layer3"
    assert load_backbone(name, weights="untrained", layers=[layer]).spec.n_features in (192, 256)


def write_study(folder: Path, rng: np.random.Generator, backbone: str) -> Path:
    """Write a study of 15 pictures and one ROI."""
    (folder / "pictures").mkdir()
    for number in range(15):
        pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number:02d}.png")
    mask = np.zeros((8, 9, 7), np.uint8)
    mask.flat[200:220] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([3.0, 3, 3, 1])), folder / "V1.nii.gz")
    np.save(folder / "V1.npy", rng.standard_normal((15, 20)))
    study = folder / "study.toml"
    study.write_text(f"""
id = "mine"
title = "Fifteen pictures"
licence = "CC0"
[template]
grid = "V1.nii.gz"
[stimuli]
folder = "pictures"
[backbone]
{backbone}
[fit]
folds = 3
alphas = [1.0]
[[subjects]]
name = "S1"
transform = {{ kind = "same" }}
[subjects.rois.V1]
mask = "V1.nii.gz"
responses = "V1.npy"
""")
    return study


@pytest.mark.parametrize("from_file", [True, False])
def test_fit_and_predict_with_a_torch_name(
    timm: Any,
    torch: Any,
    rng: np.random.Generator,
    tmp_path: Path,
    from_file: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A study names the network; its bundle predicts unasked, with the file beside it or a seed."""
    weights = "untrained:4"
    if from_file:
        torch.manual_seed(4)
        state = timm.create_model("vit_tiny_patch16_224").state_dict()
        torch.save(state, tmp_path / "vit.pth")
        weights = "vit.pth"
    study = write_study(
        tmp_path,
        rng,
        f'name = "timm:vit_tiny_patch16_224"\nweights = "{weights}"\n'
        'layers = ["blocks.1/tokens", "blocks.3/tokens"]',
    )
    bundle = tmp_path / "mine.safetensors"
    assert main(["fit", str(study), "-o", str(bundle), "--quiet", "--no-cache"]) == 0
    features = read_bundle(bundle).card["features"]
    assert features["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert features["layer_widths"] == [192, 192]
    assert features["weights"]["name"] == ("vit.pth" if from_file else "untrained (seed 4)")
    json.dumps(features)
    out = tmp_path / "out"
    command = ["predict", str(tmp_path / "pictures"), "--encoder", str(bundle), "-o", str(out)]
    assert main([*command, "--quiet"]) == 0
    assert len(list(out.glob("*.nii.gz"))) == 15
    control = [*command[:-1], str(tmp_path / "control"), "--quiet", "--weights", "untrained:9"]
    assert main(control) == 0
    one, other = (
        np.asarray(nib.load(tmp_path / name / "00.png.nii.gz").dataobj)
        for name in ("out", "control")
    )
    assert np.abs(one - other).max() > 1e-3
    if from_file:
        (tmp_path / "vit.pth").rename(tmp_path / "elsewhere.pth")
        again = [*command[:-1], str(tmp_path / "again"), "--quiet"]
        assert main(again) == 1
        assert "looked for beside the bundle; it is not there" in capsys.readouterr().err
        assert main([*again, "--weights", str(tmp_path / "elsewhere.pth")]) == 0
