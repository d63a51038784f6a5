"""A decoded picture of a movie into the pixels that a network sees: colours, shape, orientation."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgtofmri.stimuli.items import Pixels, check_dimensions
from imgtofmri.stimuli.pixels import prepare_image, to_rgb

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# libav's numbers of colour matrices that swscale knows; all others count as BT.601, as it does.
_KNOWN_MATRICES = frozenset({1, 4, 5, 6, 7, 9})
_BT601 = 5


def prepare_picture(
    picture: VideoFrame, pixel_aspect: Fraction, size: int, center_crop: bool
) -> Pixels:
    """Convert one picture: colour, shape of its pixels, orientation, resize."""
    aspect = pixel_aspect if center_crop else Fraction(1)
    return prepare_image(upright_picture(picture, aspect), size, center_crop)


def rgb_picture(picture: VideoFrame, pixel_aspect: Fraction) -> Pixels:
    """Convert one picture at its own size: colour, shape of its pixels, orientation."""
    return np.asarray(to_rgb(Image.fromarray(upright_picture(picture, pixel_aspect))))


def upright_picture(picture: VideoFrame, pixel_aspect: Fraction) -> Pixels:
    """Convert one picture to RGB, or RGBA where it has transparency, upright and as it is shown."""
    alpha = any(part.is_alpha for part in picture.format.components)
    matrix = int(picture.colorspace)
    rgb = picture.reformat(
        format="rgba" if alpha else "rgb24",
        src_colorspace=matrix if matrix in _KNOWN_MATRICES else _BT601,
        src_color_range=int(picture.color_range),
        threads=1,  # A picture is too little to share.
    ).to_ndarray()
    if pixel_aspect > 0 and pixel_aspect != 1:
        shown = (max(1, round(picture.width * pixel_aspect)), picture.height)
        check_dimensions(shown, "a movie's picture, as its pixels' shape has it shown,")
        rgb = np.asarray(Image.fromarray(rgb).resize(shown, Image.Resampling.BILINEAR))
    flip_x, flip_y, transpose = orientation(picture)
    turned = rgb.transpose(1, 0, 2) if transpose else rgb
    turned = turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    return np.ascontiguousarray(turned)


def orientation(picture: VideoFrame) -> tuple[bool, bool, bool]:
    """Return how the metadata turn a picture upright, to the nearest right angle.

    The display matrix sends (x, y) to (a x + c y, b x + d y), with y downwards; it is stored as
    nine 32-bit fixed-point numbers, of which a, b, c, d are the first, second, fourth and fifth.

    Returns
    -------
    flip_x, flip_y, transpose : bool
        First swap rows with columns if ``transpose``, then reverse columns and rows.
    """
    from av.sidedata.sidedata import SideDataContainer, Type

    # FFmpeg knows more kinds of side data than PyAV does, which raises for all others, whatever
    # is asked for: EXIF of cameras' JPEGs, stereo views, layers of enhancement.
    Type._missing_ = staticmethod(_unknown_kind)  # type: ignore[assignment]
    # picture.side_data would make a cycle, and each picture wait for the garbage collector.
    matrix: Any = SideDataContainer(picture).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    if matrix is None:
        return False, False, False
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    return (c < 0, b < 0, True) if abs(b) > abs(a) else (a < 0, d < 0, False)


def _unknown_kind(number: object) -> Any:
    """Return a kind of side data that PyAV has no name for."""
    from av.sidedata.sidedata import Type

    kind: Any = object.__new__(Type)
    kind._name_, kind._value_ = f"UNKNOWN_{number}", number
    return kind
