"""What passes between finding, reading and predicting: sources, frames and failures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import StimulusError
from imgtofmri.limits import limit, variable
from imgtofmri.text import Brief

Pixels = npt.NDArray[np.uint8]
"""RGB pixels of shape ``(height, width, 3)``, 8 bits a channel."""

Kind = Literal["image", "movie"]
"""Which reader takes a file."""

FRAME_SIZE = 224
"""Side of the square that the published model's network sees, in pixels."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input file that counts as a stimulus.

    Attributes
    ----------
    path : Path
        Where the file is, as it was given or found.
    name : str
        The whole file name (suffix included), unique within one search, on one line: outputs are
        named after it.
    kind : {"image", "movie"}
        Which reader takes it, decided by the suffix.
    """

    path: Path
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame(Brief):
    """One picture, ready for a network.

    Attributes
    ----------
    name : str
        The stimulus' name; for a frame of a movie the movie's name and the time.
    pixels : uint8 array of shape (size, size, 3)
        RGB; of `Movie.stills` at the movie's own size, (height, width, 3).
    sha256 : str or None
        Digest of the file's bytes (for a movie, of the whole file); None for arrays and PIL images.
    onset_s : float or None
        For a frame of a movie, the time in seconds at which it stands for the movie.
    source : Path or None
        The file that it comes from.
    aspect : float
        Of an image, how often its height goes into its width as it is shown in ``pixels``: 1 where
        these were not squeezed.
    is_first : bool
        Whether the file holds further pictures or pages, of which this is the first.
    """

    name: str
    pixels: Pixels
    sha256: str | None = None
    onset_s: float | None = None
    source: Path | None = None
    aspect: float = 1.0
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """One input that could not be used, and why.

    Attributes
    ----------
    name : str
        The input's name, on one line.
    error : StimulusError
        Its message is one line that names the input and says what to do.
    """

    name: str
    error: StimulusError


class StimulusWarning(UserWarning):
    """Stimuli were used, but a part of what was given could not be."""


def one_line(text: object) -> str:
    r"""Return a name that can be printed on one line and encoded as UTF-8.

    File names may hold newlines, other control characters and bytes that are not text; each becomes
    an underscore. Everything else, spaces and all scripts, stays.

    Examples
    --------
    >>> one_line("two\nlines.jpg")
    'two_lines.jpg'
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else "_" for char in line)


def refuse(expected: str, got: str, remedy: str) -> StimulusError:
    """Make the error for an unusable input from the four parts of its message.

    Returns
    -------
    StimulusError
        For the caller to raise, or to put into a `Failure`. Its message is one line.
    """
    return StimulusError(f"expected {expected}; got {one_line(got)}. {remedy}")


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
    size = f"{what} of {width} x {height}"
    if width < 1 or height < 1:
        expected = "a picture of at least 1 x 1 pixels"
        raise refuse(expected, size, "Leave it out.")
    if width * height >= (most := limit("pixels")):
        expected = f"fewer than {most / 1e6:g} million pixels"
        remedy = f"Save it smaller: the network sees 224 x 224. Or set {variable('pixels')} higher."
        raise refuse(expected, f"{size}, {width * height / 1e6:.0f} million", remedy)
    if max(width, height) > (most := limit("side")):
        expected = f"a picture with sides of at most {most:,} pixels"
        raise refuse(expected, size, f"Cut it, or set {variable('side')} higher.")
