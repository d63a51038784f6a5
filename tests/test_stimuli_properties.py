"""Luminance, contrast and size of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.stimuli import find_sources, image_properties, luminance, luminance_features


def test_luminance_features_are_block_means_of_linear_light(tmp_path: Path) -> None:
    """White is 1, black 0, mid-grey its linear light; red, green and blue have Rec. 709 weights."""
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[:112, :112] = 255
    pixels[:112, 112:, 0] = 255
    pixels[112:, :112] = 188
    path = tmp_path / "quarters.png"
    Image.fromarray(pixels).save(path)
    names, features = luminance_features([path], size=2)
    assert names == ("quarters.png",)
    grey = ((188 / 255 + 0.055) / 1.055) ** 2.4
    np.testing.assert_allclose(features, [[1, 0.2126, grey, 0]], atol=1e-12)
    assert luminance(np.array([10, 10, 10], np.uint8)) == pytest.approx(10 / 255 / 12.92)
    with pytest.raises(OptionError, match=r"size must divide 224; got 10"):
        luminance_features([path], size=10)


def test_luminance_features_see_what_the_network_sees() -> None:
    """A central crop leaves out the sides, which the whole squeezed image keeps."""
    pixels = np.zeros((224, 448, 3), np.uint8)
    pixels[:, :112] = 255
    whole = luminance_features([pixels], size=4)[1].reshape(4, 4)
    np.testing.assert_allclose(whole[:, 0], 1.0, atol=0.05)
    assert not luminance_features([pixels], size=4, center_crop=True)[1].any()


def test_luminance_features_bad_file_is_named(tmp_path: Path) -> None:
    """A file that is no image is refused by name."""
    (tmp_path / "notes.jpg").write_text("not a picture")
    with pytest.raises(StimulusError, match="notes.jpg"):
        luminance_features([tmp_path / "notes.jpg"])


def test_image_properties_of_known_pictures(tmp_path: Path) -> None:
    """A red and a half-black picture have the luminance, contrast and size that follow by hand."""
    Image.new("RGB", (50, 20), (255, 0, 0)).save(tmp_path / "red.png")
    half = np.zeros((224, 224, 3), dtype=np.uint8)
    half[:112] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    table = image_properties([tmp_path / "red.png", tmp_path / "half.png"])
    assert table["luminance"].tolist() == pytest.approx([0.2126, 0.5])
    assert table["contrast"].tolist() == pytest.approx([0.0, 0.5], abs=1e-12)
    assert table["size"].tolist() == pytest.approx([3.0, np.log10(224 * 224)])


def test_image_properties_of_pictures_in_memory_equal_those_of_files(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """An array, a picture and a found source have the numbers of the file that holds them."""
    pixels = rng.integers(0, 256, (20, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    (source,), _ = find_sources([tmp_path])
    table = image_properties([tmp_path / "noise.png", source, pixels, Image.fromarray(pixels)])
    assert (table[["luminance", "contrast", "size"]].nunique() == 1).all()
    names = [str(tmp_path / "noise.png")] * 2
    assert table["stimulus"].tolist() == [*names, "image-0002", "image-0003"]


def test_image_properties_bad_file_is_named(tmp_path: Path) -> None:
    """A file that is no image is refused by name."""
    (tmp_path / "notes.jpg").write_text("not a picture")
    with pytest.raises(StimulusError, match="notes.jpg"):
        image_properties([tmp_path / "notes.jpg"])
