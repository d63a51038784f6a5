"""What controls know of a picture: its light, its edges or its outline, on a coarse grid.

Each keeps where in the picture something is, as early visual cortex does, and nothing of what it
is. Pictures are seen as the network sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli.images import ImageInput, read_images
from imgtofmri.stimuli.items import FRAME_SIZE, Failure, Frame, refuse
from imgtofmri.stimuli.properties import luminance

Named = tuple[tuple[str, ...], NDArray[np.float64]]

WAVELENGTHS_PX = (4, 8, 16, 32)
N_ORIENTATIONS = 4
"""Of Gabor energy: octaves of a frame of 224 pixels, and steps of 45 degrees."""

TOLERANCE = 8
"""How far, in levels of 255, a plain background's red, green and blue may differ from its own."""

BORDER_PX = 4
"""How wide the border of the frame is in which the background is looked for."""


def luminance_features(
    images: Iterable[ImageInput], size: int = 16, center_crop: bool = False
) -> Named:
    """Reduce each image to its luminance on a coarse grid.

    Parameters
    ----------
    images : iterable of Source, path, PIL image or uint8 array
        Arrays have shape (height, width, 3) or (height, width).
    size : int
        Blocks along each side; must divide 224.
    center_crop : bool
        Whether the network sees a central crop, not the whole image squeezed on to a square.

    Returns
    -------
    names : tuple of str
        The images' names.
    features : array of shape (n_images, size * size), float64
        Each block's mean luminance in linear light (`luminance`), between 0 and 1.

    Raises
    ------
    OptionError
        If ``size`` does not divide 224.
    StimulusError
        If an image cannot be read.
    """
    return _features(lambda frame: luminance(frame.pixels)[None], images, size, center_crop)


def energy_features(
    images: Iterable[ImageInput], size: int = 16, center_crop: bool = False
) -> Named:
    """Reduce each image to its Gabor energy on a coarse grid, as complex cells of V1 see it.

    At each of four spatial frequencies an octave apart and four orientations, the amplitude of a
    pair of Gabor filters in quadrature, one octave wide, is averaged over each block. Filters are
    applied to sRGB's own, nearly perceptual, scale of light, mirrored at the border.

    Parameters
    ----------
    images, size, center_crop
        As for `luminance_features`.

    Returns
    -------
    names : tuple of str
    features : array of shape (n_images, 16 * size * size), float64
        By frequency (highest first), orientation, row and column; 0 and more.

    Raises
    ------
    OptionError, StimulusError
        As `luminance_features`.

    References
    ----------
    Adelson EH, Bergen JR (1985), doi:10.1364/JOSAA.2.000284 (energy).
    Kay KN, Naselaris T, Prenger RJ, Gallant JL (2008), doi:10.1038/nature06713 (as a model of V1).
    """
    return _features(_energy, images, size, center_crop)


def silhouette_features(
    images: Iterable[ImageInput], size: int = 16, center_crop: bool = False
) -> Named:
    """Reduce each image to the outline of what is shown on a plain background.

    The background is the median colour of the frame's border, 4 pixels wide; it is plain where more
    than half of the border has that colour, to 8 levels of 255 in red, green and blue (a figure may
    touch the border). Everything else is figure.

    Parameters
    ----------
    images, size, center_crop
        As for `luminance_features`.

    Returns
    -------
    names : tuple of str
    features : array of shape (n_images, size * size), float64
        The share of each block that is figure.

    Raises
    ------
    OptionError
        As `luminance_features`.
    StimulusError
        If an image cannot be read, or has no plain background, as photographs of scenes.
    """
    return _features(_silhouette, images, size, center_crop)


def _features(
    maps_of: Callable[[Frame], NDArray[np.float64]],
    images: Iterable[ImageInput],
    size: int,
    center_crop: bool,
) -> Named:
    """Average maps of shape (n_maps, side, side) over the blocks of a grid, image by image."""
    side = FRAME_SIZE
    if size < 1 or side % size:
        message = f"size must divide {side}; got {size}. Take 1, 2, 4, 7, 8 or 16."
        raise OptionError(message)
    names: list[str] = []
    rows: list[NDArray[np.float64]] = []
    step = side // size
    for frame in read_images(images, size=side, center_crop=center_crop):
        if isinstance(frame, Failure):
            raise frame.error
        blocks = maps_of(frame).reshape(-1, size, step, size, step)
        rows.append(blocks.mean(axis=(2, 4)).ravel())
        names.append(frame.name)
    return tuple(names), np.array(rows)


def _energy(frame: Frame) -> NDArray[np.float64]:
    from scipy import fft

    light = frame.pixels @ np.array([0.2126, 0.7152, 0.0722]) / 255
    margin = max(WAVELENGTHS_PX)
    spectrum = fft.fft2(np.pad(light, margin, mode="symmetric"))
    across, down = np.meshgrid(*(fft.fftfreq(len(spectrum)),) * 2)
    maps = []
    for wavelength in WAVELENGTHS_PX:
        frequency = 1 / wavelength
        # Half of the peak at two thirds and at four thirds of the frequency: one octave.
        width = frequency / 3 / np.sqrt(2 * np.log(2))
        for turn in np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS:
            x, y = frequency * np.cos(turn), frequency * np.sin(turn)
            gain = np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * width**2))
            gain[0, 0] = 0.0  # Even light has no edges.
            # One half of the plane alone: real and imaginary part are the pair in quadrature.
            amplitude = np.abs(fft.ifft2(spectrum * gain))
            maps.append(amplitude[margin:-margin, margin:-margin])
    return np.array(maps)


def _silhouette(frame: Frame) -> NDArray[np.float64]:
    pixels = frame.pixels.astype(np.float64)
    edge = np.ones(pixels.shape[:2], dtype=bool)
    edge[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    background = np.median(pixels[edge], axis=0)
    figure = np.abs(pixels - background).max(axis=-1) > TOLERANCE
    plain = float(1 - figure[edge].mean())
    if plain <= 0.5:
        expected = "a figure on a plain background, one colour on more than half of the border"
        got = f"{frame.name}, {100 * plain:.0f} % of whose border has one colour"
        raise refuse(expected, got, "Leave the control silhouette out, or give cut-out figures.")
    return np.asarray(figure[None], dtype=np.float64)
