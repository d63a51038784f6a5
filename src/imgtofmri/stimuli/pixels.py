"""Any decoded picture into the square of RGB pixels that a network sees."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from imgtofmri.stimuli.items import FRAME_SIZE, Pixels, check_dimensions, refuse
from imgtofmri.stimuli.tiff import check_bright, depth_of, signed_bits

# A centre crop of a strip needs a far larger resized picture than the crop: from here on, only
# the crop's own part is resized.
_MAX_RESIZED_PIXELS = 16_000_000

_KNOWN_SCALE = "8-bit or 16-bit values, whose black and white are known"
_SCALE_IT = "Scale the values to 0..255 and save them as an 8-bit PNG."

_SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def prepare_image(
    image: Image.Image | npt.NDArray[np.uint8],
    size: int = FRAME_SIZE,
    center_crop: bool = False,
) -> Pixels:
    """Turn a picture into the RGB square that the network sees.

    The whole picture is resized to ``size`` by ``size`` (its shape may be distorted), bilinear with
    antialiasing, as Pillow's ``Image.resize(..., BILINEAR)`` does on 8-bit pixels, rows first. With
    ``center_crop`` its short side is resized to ``size`` and the middle is cut out.

    Parameters
    ----------
    image : PIL image or uint8 array of shape (height, width[, 1, 3 or 4])
        Greyscale, palette, RGB(A), CMYK and 16-bit greyscale pictures are taken. EXIF rotation is
        applied, an animation gives its first frame (the current one of an open PIL image), what is
        transparent becomes white.
    size : int, default 224
        Side of the square, pixels.
    center_crop : bool, default False
        Keep the shape and crop, instead of squeezing the whole picture in.

    Returns
    -------
    uint8 array of shape (size, size, 3)
        RGB, C-contiguous, and the caller's own.

    Raises
    ------
    StimulusError
        If the picture has no pixels, too many, or values whose black and white are not known.

    Notes
    -----
    The centre crop rounds as torchvision does: the long side becomes ``int(size * long / short)``
    and the crop begins at ``round((side - size) / 2)``, where Python rounds halves to even.

    Greyscale of more than 8 bits keeps the highest eight of each value, of as many as the file says
    (65535 and 65280 are white of 16 bits, 4095 of 12), which is what Pillow does with 16-bit
    colour; where a TIFF says that white is 0, it is. ICC profiles are not applied.

    Examples
    --------
    >>> prepare_image(np.zeros((300, 400), np.uint8)).shape
    (224, 224, 3)
    """
    picture = _from_array(image) if isinstance(image, np.ndarray) else image
    check_dimensions(picture.size, "the picture")
    return square_of(to_rgb(picture), size, center_crop)


def square_of(rgb: Image.Image, size: int, center_crop: bool = False) -> Pixels:
    """Bring an RGB picture to the square that the network sees; see `prepare_image`."""
    if center_crop:
        square = _resize_and_crop(rgb, size)
    else:
        square = _resize(rgb, (size, size))
    return np.array(square, dtype=np.uint8)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB, upright, over white where it is transparent.

    Raises
    ------
    StimulusError
        If the values are signed or 32-bit integers, or floating point, so that black and white are
        unknown.
    """
    depth, white_is_zero = depth_of(picture)
    signed = signed_bits(picture)
    transparent = _transparent_colour(picture)
    upright = _upright(picture)
    mode = upright.mode
    if signed == 8:
        raise refuse(_KNOWN_SCALE, "signed 8-bit integers", _SCALE_IT)
    check_bright(picture, upright)
    if mode == "RGB" and 8 < depth < 16:
        # Of 16 bits, Pillow has kept the upper eight.
        raise refuse(_KNOWN_SCALE, f"colours of {depth} bits in 16", _SCALE_IT)
    if mode in _SIXTEEN_BIT_MODES or (mode == "I" and upright.format in {"PNG", "PPM"}):
        return _from_many_bits(upright, depth, white_is_zero)
    if mode in {"I", "F"}:
        whole = "signed 16-bit integers" if signed == 16 else "32-bit integers"
        kind = whole if mode == "I" else "floating-point values"
        raise refuse(_KNOWN_SCALE, kind, _SCALE_IT)
    if _has_no_alpha(upright):
        return upright.convert("RGB")
    if mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in upright.info:
        opaque = Image.new("RGBA", upright.size, "white")
        # La converts to nothing but LA.
        direct = upright.convert("LA") if mode == "La" else upright
        if transparent is not None:
            direct = direct.copy()
            direct.info["transparency"] = transparent
        opaque.alpha_composite(direct.convert("RGBA"))
        return opaque.convert("RGB")
    return upright if mode == "RGB" else upright.convert("RGB")


def crop_geometry(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Return the size after the resize of the short side, and where the central crop begins.

    Returns
    -------
    new_width, new_height, left, top : int
        In pixels of the resized picture.

    Examples
    --------
    >>> crop_geometry(500, 375, 224)
    (298, 224, 37, 0)
    """
    short = min(width, height)
    # Written as torchvision writes it: the division is a float's, int() cuts.
    long_side = int(size * max(width, height) / short)
    new_width, new_height = (size, long_side) if width <= height else (long_side, size)
    return new_width, new_height, round((new_width - size) / 2), round((new_height - size) / 2)


def _resize_and_crop(rgb: Image.Image, size: int) -> Image.Image:
    new_width, new_height, left, top = crop_geometry(*rgb.size, size)
    if new_width * new_height <= _MAX_RESIZED_PIXELS:
        whole = _resize(rgb, (new_width, new_height))
        return whole.crop((left, top, left + size, top + size))
    scale_x, scale_y = rgb.width / new_width, rgb.height / new_height
    # Cut to whole pixels first, a filter's reach wider than needed: Pillow holds the box in single
    # precision, which is exact enough only close to 0.
    x0, x1 = _reach(left, size, scale_x, rgb.width)
    y0, y1 = _reach(top, size, scale_y, rgb.height)
    part = rgb.crop((x0, y0, x1, y1))
    box = (
        left * scale_x - x0,
        top * scale_y - y0,
        min((left + size) * scale_x - x0, part.width),
        min((top + size) * scale_y - y0, part.height),
    )
    return _resize(part, (size, size), box)


def _resize(
    rgb: Image.Image,
    dimensions: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Resize along rows, then along columns; the order decides how levels round.

    Pillow always went rows first when the published model was made; newer releases choose by the
    picture's shape, which changes portrait pictures by one level here and there.
    """
    x0, y0, x1, y1 = box or (0, 0, rgb.width, rgb.height)
    width, height = dimensions
    bilinear = Image.Resampling.BILINEAR
    rows = rgb.resize((width, rgb.height), bilinear, box=(x0, 0, x1, rgb.height))
    return rows.resize((width, height), bilinear, box=(0, y0, width, y1))


def _reach(start: int, size: int, scale: float, limit: int) -> tuple[int, int]:
    """Return the source pixels that the crop's filter can touch on one axis."""
    margin = max(scale, 1.0) + 1.0
    first = math.floor(start * scale - margin)
    last = math.ceil((start + size) * scale + margin)
    return max(first, 0), min(last, limit)


def _upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; broken EXIF counts as none."""
    picture.load()
    try:
        turned = picture.getexif().get(0x0112, 1) not in {1, None}
        upright = ImageOps.exif_transpose(picture) if turned else picture
    except Exception:  # Pillow raises whatever the broken bytes provoke.
        return picture
    if upright is not picture:
        upright.format = picture.format  # Lost on the way; mode I needs it.
    return upright


def _has_no_alpha(picture: Image.Image) -> bool:
    """Tell whether a bitmap's fourth byte, which may be alpha, was left 0 everywhere.

    Many programs do, and viewers then show its colours: nobody saves a bitmap of nothing.
    """
    if picture.format not in {"BMP", "DIB"} or picture.mode != "RGBA":
        return False
    return picture.getchannel("A").getextrema() == (0, 0)


def _transparent_colour(picture: Image.Image) -> int | tuple[int, ...] | None:
    """Return a PNG's transparent colour in 8 bits where its values have 2, 4 or three times 16.

    Pillow brings the values to 8 bits, and leaves the colour that is transparent as the file has
    it. Only before it is decoded does a picture tell how many they were.
    """
    tiles = getattr(picture, "tile", None)
    told = picture.info.get("transparency")
    kind = tiles[0][3] if picture.format == "PNG" and tiles else None
    if kind in {"L;2", "L;4"} and isinstance(told, int):
        return told * (85 if kind == "L;2" else 17)
    if kind == "RGB;16B" and isinstance(told, tuple):
        return tuple(value >> 8 for value in told)
    return None


def _from_many_bits(picture: Image.Image, depth: int, white_is_zero: bool) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)
    grey = np.clip(values >> (depth - 8), 0, 255).astype(np.uint8)
    if white_is_zero:
        grey = 255 - grey
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    expected = "a uint8 array of shape (height, width), or (height, width, 1, 3 or 4)"
    got = f"{array.dtype} of shape {array.shape}"
    if array.dtype != np.uint8:
        remedy = "Scale the values to 0..255 and convert with .astype(np.uint8)."
        raise refuse(expected, got, remedy)
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}):
        raise refuse(expected, got, "Give one picture, channels last.")
    if array.size == 0:
        expected = "a picture of at least 1 x 1 pixels"
        raise refuse(expected, got, "Leave it out.")
    plane = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(plane))
