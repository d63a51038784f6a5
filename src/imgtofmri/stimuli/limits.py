"""How large a stimulus may be: beyond that it is taken for a mistake or an attack, and refused."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli.items import refuse

PREFIX = "IMGTOFMRI_MAX_"
"""What the environment variables that set limits begin with."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is read of one stimulus; all are found before a pixel is decoded.

    Attributes
    ----------
    pixels : int
        Width times height of a picture, or of a movie's.
    side : int
        Width, and height: between two steps of the resize it is as high as the picture.
    file_bytes : int
        A picture's file; movies are read piece by piece.
    frames : int
        Frames taken of a movie: almost six days at the usual two a second.
    """

    pixels: int = 100_000_000
    side: int = 100_000
    file_bytes: int = 1_000_000_000
    frames: int = 1_000_000


def limits() -> Limits:
    """Return the limits, those that environment variables such as IMGTOFMRI_MAX_SIDE set included.

    Raises
    ------
    OptionError
        If such a variable is not a whole number above 0.
    """
    set_here = {}
    for field in fields(Limits):
        name = PREFIX + field.name.upper()
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        if not (text.isascii() and text.isdecimal() and int(text[:19]) > 0):
            message = (
                f"{name} must be a whole number above 0; got {text!r}. Unset it for the usual "
                f"{field.default:,}."
            )
            raise OptionError(message)
        set_here[field.name] = int(text[:19])
    return Limits(**set_here)


def check_dimensions(dimensions: tuple[int, int], what: str) -> None:
    """Refuse pictures without pixels and those that are far too large.

    Parameters
    ----------
    dimensions : tuple of int
        Width and height in pixels.
    what : str
        For the message: the function, and the picture's name.

    Raises
    ------
    StimulusError
        If a side is 0 or longer than the limit, or the area reaches it.
    """
    width, height = dimensions
    most = limits()
    size = f"{what} of {width} x {height}"
    if width < 1 or height < 1:
        expected = "a picture of at least 1 x 1 pixels"
        raise refuse(expected, size, "Leave it out.")
    if width * height >= most.pixels:
        expected = f"fewer than {most.pixels / 1e6:g} million pixels"
        remedy = f"Save it smaller: the network sees 224 x 224. Or set {PREFIX}PIXELS higher."
        raise refuse(expected, f"{size}, {width * height / 1e6:.0f} million", remedy)
    if max(width, height) > most.side:
        expected = f"a picture with sides of at most {most.side:,} pixels"
        raise refuse(expected, size, f"Cut it, or set {PREFIX}SIDE higher.")
