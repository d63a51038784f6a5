"""Small pictures for pages: of stimuli, of a film's frames, and of maps where nothing can move."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgtofmri.exceptions import StimulusError
from imgtofmri.files import sha256_of
from imgtofmri.processors import n_processors
from imgtofmri.stimuli import Movie, Pixels
from imgtofmri.stimuli.images import decode, read_bytes
from imgtofmri.stimuli.pixels import to_rgb

SIDE = 80
"""Of a thumbnail's square, in pixels: a quarter of a common photograph, which JPEG decodes fast."""

STILL_SIDE = 144
QUALITY = 72

STOPS = (
    (0.0, (5, 48, 97)),
    (0.125, (33, 102, 172)),
    (0.25, (67, 147, 195)),
    (0.375, (146, 197, 222)),
    (0.5, (247, 247, 247)),
    (0.625, (244, 165, 130)),
    (0.75, (214, 96, 77)),
    (0.875, (178, 24, 43)),
    (1.0, (103, 0, 31)),
)
"""The colour map of values on both sides of zero, from blue to red, as pages have it, too."""

N_SLICES = 8


def thumbnails(files: Sequence[tuple[Path | None, str | None]]) -> list[str]:
    """Return a square picture of each file that is still there, as JPEG in base64.

    Parameters
    ----------
    files : sequence of (path or None, sha256 or None)
        Of the recorded stimuli.

    Returns
    -------
    list of str
        Empty where a file is gone, is another than was recorded, or is no picture.
    """
    Image.init()
    with ThreadPoolExecutor(min(4, n_processors())) as pool:
        return list(pool.map(_thumbnail, files))


def stills(
    path: Path | None, sha256: str | None, rate_hz: float, wanted: Sequence[int]
) -> list[str]:
    """Return frames of a film that were predicted, as JPEG in base64; squeezed to squares.

    Parameters
    ----------
    path : Path or None
    sha256 : str or None
        As it was recorded.
    rate_hz : float
        Frames a second.
    wanted : sequence of int
        Which of them, in rising order.

    Returns
    -------
    list of str
        Empty where the film is gone, or another than was recorded.
    """
    if path is None or not path.is_file() or sha256_of(path) != sha256:
        return []
    try:
        among, last = set(wanted), max(wanted, default=-1)
        frames = zip(range(last + 1), Movie(path).frames(rate_hz, STILL_SIDE), strict=False)
        found = {number: jpeg(frame.pixels) for number, frame in frames if number in among}
        return [found[number] for number in wanted if number in found]
    except StimulusError:
        return []


def jpeg(pixels: Pixels) -> str:
    """Return a picture as JPEG in base64."""
    return _encoded(Image.fromarray(pixels))


def _encoded(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode("ascii")


def thumbnail_of(pixels: Pixels, aspect: float) -> str:
    """Return a thumbnail of a picture as a network sees it, as JPEG in base64.

    Parameters
    ----------
    pixels : uint8 array of shape (size, size, 3)
    aspect : float
        Width over height of what was squeezed into the square.
    """
    size = len(pixels)
    width, height = min(size, size / aspect), min(size, size * aspect)
    left, top = (size - width) / 2, (size - height) / 2
    square = Image.fromarray(pixels).resize(
        (SIDE, SIDE),
        Image.Resampling.BILINEAR,
        (left, top, left + width, top + height),
        reducing_gap=1.0,
    )
    return _encoded(square)


def _thumbnail(file: tuple[Path | None, str | None]) -> str:
    path, sha256 = file
    try:
        if path is None:
            return ""
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != sha256:
            return ""
        picture = decode(data, str(path))
        picture.draft("RGB", (SIDE, SIDE))
        upright = to_rgb(picture)
        width, height = upright.size
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        square = upright.resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + short, top + short)
        )
        return _encoded(square)
    # A picture that was predicted once, and cannot be shown, is no reason to show nothing.
    except Exception:
        return ""


def map_strip(
    values: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    template: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    limit: float,
) -> str:
    """Draw axial slices of a map on a template, left being left, as PNG in base64.

    Parameters
    ----------
    values : array of shape (n_voxels,)
        In C order of the mask; NaN is not drawn.
    mask : array of shape (X, Y, Z), bool
    template : array of shape (X, Y, Z), uint8
    affine : array of shape (4, 4)
    limit : float
        Where the colours end.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    volume = np.full(mask.shape, np.nan, np.float32)
    volume[mask] = values
    # A grid's axes may run in any direction and order: here to the right, to the front and up.
    upright = io_orientation(affine)
    volume, mask, template = (apply_orientation(x, upright) for x in (volume, mask, template))
    inside = np.flatnonzero(mask.any(axis=(0, 1)))
    low, high = (int(inside[0]), int(inside[-1])) if len(inside) else (0, mask.shape[2] - 1)
    levels = np.linspace(low, high, N_SLICES + 2)[1:-1].round().astype(int)
    panels = []
    for level in levels:
        grey = template[:, :, level]
        panel = np.repeat(np.where(grey > 0, grey, 255)[:, :, None].astype(np.uint8), 3, axis=2)
        slab = volume[:, :, level]
        known = np.isfinite(slab)
        panel[known] = colours(slab[known], limit).astype(np.uint8)
        panels.append(panel[:, ::-1].transpose(1, 0, 2))
    file = io.BytesIO()
    Image.fromarray(np.concatenate(panels, axis=1)).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode("ascii")


def colours(values: npt.NDArray[np.float32], limit: float) -> npt.NDArray[np.float64]:
    """Return the colour of each value, shape (n, 3), from 0 to 255."""
    places, stops = zip(*STOPS, strict=True)
    at = np.clip(values / limit, -1, 1) / 2 + 0.5
    columns: Iterable[npt.NDArray[np.float64]] = (
        np.interp(at, places, channel) for channel in zip(*stops, strict=True)
    )
    return np.stack(list(columns), axis=-1)
