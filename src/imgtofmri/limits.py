"""How much of anything is read: what is beyond is taken for a mistake or an attack, and refused.

``docs/reference/limits.md`` says what each limit is for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from imgtofmri.exceptions import DataError, ImgToFmriError, OptionError

PREFIX = "IMGTOFMRI_MAX_"
"""What the environment variables that set limits begin with."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is read; nothing is decoded, unpacked or made before it was compared.

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
    array_gb : float
        An array that is unpacked or read into memory: of an .npy or .npz file, an image of voxels,
        a checkpoint.
    voxels : int
        Voxels of a grid: a template's at 0.5 mm has 58 million.
    text_mb : float
        A table, a study, a record, or another text.
    line : int
        Letters of one line of a table.
    columns, rows : int
        Columns and rows of a table.
    nesting : int
        How many lists and tables of JSON or TOML may lie in one another.
    penalties : int
        Penalties that a study's fit chooses from.
    unpacked_gb : float
        The files of an archive together.
    unpacked_files : int
        How many there may be.
    read_gb : float
        Memory for a file that is read in a process of its own, beside eight times its size.
    read_s : float
        Time for it, beside a second for each 5 MB.
    """

    pixels: int = 100_000_000
    side: int = 100_000
    file_bytes: int = 1_000_000_000
    frames: int = 1_000_000
    array_gb: float = 16.0
    voxels: int = 100_000_000
    text_mb: float = 1000.0
    line: int = 10_000_000
    columns: int = 100_000
    rows: int = 10_000_000
    nesting: int = 64
    penalties: int = 1000
    unpacked_gb: float = 500.0
    unpacked_files: int = 2_000_000
    read_gb: float = 2.0
    read_s: float = 60.0


_USUAL = Limits()


def limit(name: str) -> float:
    """Return a limit, as an environment variable such as IMGTOFMRI_MAX_ROWS sets it if one does.

    Parameters
    ----------
    name : str
        An attribute of `Limits`.

    Raises
    ------
    OptionError
        If the variable is not a number above 0, or a whole one where things are counted.
    """
    usual: float = getattr(_USUAL, name)
    text = os.environ.get(variable(name), "").strip()
    if not text:
        return usual
    counts = isinstance(usual, int)
    try:
        value = (int(text) if text.isascii() and text.isdecimal() else 0) if counts else float(text)
    except ValueError:
        value = 0
    if not 0 < value < 2**63:
        message = (
            f"{variable(name)} must be a {'whole ' if counts else ''}number above 0; got {text!r}. "
            f"Unset it for the usual {usual:,}."
        )
        raise OptionError(message)
    return value


def check_limit(
    name: str, got: float, where: str, unit: str, error: type[ImgToFmriError] = DataError
) -> None:
    """Refuse what is beyond a limit.

    Parameters
    ----------
    name : str
        An attribute of `Limits`.
    got : float
        How much there is.
    where : str
        What the message begins with: the file.
    unit : str
        Of what, for the message: ``"columns"``.
    error : type
        What is raised.

    Raises
    ------
    ImgToFmriError
        If it is more than the limit. The message says how to raise that.

    Examples
    --------
    >>> check_limit("columns", 200_000, "a.tsv", "columns")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    imgtofmri.exceptions.DataError: a.tsv: expected at most 100,000 columns; got 200,000. ...
    """
    most = limit(name)
    if got > most:
        whole = isinstance(most, int)
        try:
            said = format(float(got), ",.0f" if whole else ".3g")
        except OverflowError:  # Files may hold numbers that are no amounts of anything.
            said = "over 1e308"
        message = (
            f"{where}: expected at most {format(most, ',' if whole else 'g')} {unit}; got {said}. "
            f"Take only what is needed of it, or set {variable(name)} higher."
        )
        raise error(message)


def variable(name: str) -> str:
    """Return the environment variable that sets a limit.

    Examples
    --------
    >>> variable("array_gb")
    'IMGTOFMRI_MAX_ARRAY_GB'
    """
    return PREFIX + name.upper()
