"""Luminance, contrast and size of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.stimuli import (
    energy_features,
    find_sources,
    image_properties,
    luminance,
    luminance_features,
    silhouette_features,
)


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


def _grating(
    wavelength_px: float, degrees: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a grating whose light changes in a direction, 0 degrees being across."""
    turn, places = np.deg2rad(degrees), np.arange(224)
    along = places[None] * np.cos(turn) + places[:, None] * np.sin(turn)
    light = 127.5 * (1 + np.sin(2 * np.pi * along / wavelength_px))
    return np.repeat(np.round(light)[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize(("wavelength_px", "frequency"), [(4, 0), (8, 1), (16, 2), (32, 3)])
@pytest.mark.parametrize(("degrees", "orientation"), [(0, 0), (45, 1), (90, 2), (135, 3)])
def test_energy_features_of_a_grating_are_its_own_filters(
    wavelength_px: int, frequency: int, degrees: int, orientation: int
) -> None:
    """The filter of a grating's frequency and orientation gives half its contrast, others less."""
    _, features = energy_features([_grating(wavelength_px, degrees)])
    of_filters = features.reshape(4, 4, 16, 16)[..., 4:12, 4:12].mean(axis=(2, 3))
    best = np.unravel_index(of_filters.argmax(), of_filters.shape)
    assert best == (frequency, orientation)
    assert of_filters[best] == pytest.approx(0.25, abs=0.01)
    assert np.sort(of_filters.ravel())[-2] < 0.15


def test_energy_features_ignore_even_light_and_polarity() -> None:
    """A blank has no energy; a picture's negative has the picture's."""
    blank = np.full((224, 224, 3), 90, np.uint8)
    np.testing.assert_allclose(energy_features([blank])[1], 0.0, atol=1e-9)
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    _, features = energy_features([picture, 255 - picture])
    np.testing.assert_allclose(features[0], features[1], atol=1e-9)


def test_silhouette_features_are_shares_of_blocks_that_are_figure() -> None:
    """A square on grey fills its blocks, be it of many colours, and may touch the border."""
    picture = np.full((224, 224, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    picture += rng.integers(0, 5, picture.shape, dtype=np.uint8)
    picture[:56, 56:119] = rng.integers(150, 256, (56, 63, 3))
    _, features = silhouette_features([picture], size=4)
    expected = np.zeros((4, 4))
    expected[0, 1:3] = 1.0, 7 / 56
    np.testing.assert_allclose(features[0].reshape(4, 4), expected)


def test_silhouette_features_of_a_scene_are_refused(tmp_path: Path) -> None:
    """Where the border is of many colours there is no background; the picture is named."""
    scene = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    Image.fromarray(scene).save(tmp_path / "scene.png")
    message = "a figure on a plain background, .*; got .*scene.png, 0 % of whose border"
    with pytest.raises(StimulusError, match=message):
        silhouette_features([tmp_path / "scene.png"])
