"""A network that learns to stand in for an encoder's own, through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgtofmri.backbones import read_head
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import load_encoder

pytestmark = pytest.mark.filterwarnings(
    "ignore::imgtofmri.backbones.UnverifiedWeightsWarning",
)


@pytest.fixture
def encoder_file(published_bundle: Bundle, tmp_path: Path) -> Path:
    """Return the published encoder as a bundle file."""
    path = tmp_path / "encoder.safetensors"
    write_bundle(published_bundle, path)
    return path


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return 25 pictures and one file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(25):
        small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((60, 50), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:02d}.png")
    (folder / "broken.png").write_text("no picture")
    return folder


@pytest.mark.slow
@pytest.mark.network
def test_distill_of_a_network_by_itself_is_faithful(
    photos: Path,
    encoder_file: Path,
    random_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A student that is its own teacher learns its own features, and the head predicts like it."""
    head_file = tmp_path / "head.safetensors"
    arguments = ["distill", str(photos), "-o", str(head_file), "--student", "resnet18"]
    arguments += ["--layer", "avgpool", "--student-weights", str(random_weights)]
    arguments += ["--encoder", str(encoder_file), "--weights", str(random_weights)]
    arguments += ["--views", "6", "--penalty", "0.01", "--quiet"]
    assert main(arguments) == 3  # one file is no picture, and is named
    said = capsys.readouterr()
    assert "broken.png" in said.err
    fidelity = read_head(head_file).card["fidelity"]
    assert fidelity["held_out_mean_r"] > 0.99
    assert set(fidelity) >= {"held_out_median_r", "held_out_mean_r_PPA"}
    assert "held out mean r: " in said.out

    encoder = load_encoder(encoder_file)
    picture = photos / "03.png"
    own = encoder.predict(picture, weights=random_weights, progress=False)
    estimated = encoder.predict(picture, backbone=head_file, weights=random_weights, progress=False)
    assert np.corrcoef(own.group[0], estimated.group[0])[0, 1] > 0.99
    assert encoder.extractor(backbone=head_file, weights=random_weights).network.spec.emulated


@pytest.mark.network
def test_distill_refuses_what_it_cannot_use(
    photos: Path,
    encoder_file: Path,
    random_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another suffix, a file that is there, an unknown student, too few images."""
    given = ["--encoder", str(encoder_file), "--weights", str(random_weights), "--quiet"]
    given += ["--student-weights", str(random_weights), "--layer", "avgpool"]
    head = str(tmp_path / "head.safetensors")
    resnet = ["--student", "resnet18"]
    assert main(["distill", str(photos), "-o", "head.bin", *resnet, *given]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err
    assert main(["distill", str(photos), "-o", str(encoder_file), *resnet, *given]) == 2
    assert "use --overwrite to replace it" in capsys.readouterr().err
    assert main(["distill", str(photos), "-o", head, "--student", "resnet19", *given]) == 2
    assert "--student must be one of resnet18, efficientnet-lite0" in capsys.readouterr().err
    assert main(["distill", str(photos / "03.png"), "-o", head, *resnet, *given]) == 1
    assert "images must be 10 or more" in capsys.readouterr().err
    assert not Path(head).exists()
