"""The error tree: one class for each decision a caller makes.

::

    ImgToFmriError
    ├── StimulusError            (ValueError)   an input that is not a usable image or movie
    ├── OptionError              (ValueError)   a setting that is not valid
    ├── ShapeError               (ValueError)   an array of the wrong shape, or of another backbone
    ├── DataError                (ValueError)   measured data that cannot be analysed
    ├── BundleError              (ValueError)   a file that is not a readable encoder bundle
    ├── WeightsError             (ValueError)   a weights file that is not what it should be
    ├── WeightsUnavailableError  (OSError)      weights that are nowhere to be had from here
    ├── AssetError               (OSError)      a download that failed or did not verify
    ├── OutputError              (OSError)      a result that cannot be written there
    └── MissingDependencyError   (ImportError)  an optional package that is not installed

Every message has four parts: where, what was expected, what came, what to do. A parameter that a
message mentions stands in backquotes, and the command line shows it as its own option.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_LISTED = 50
"""How many valid choices a message lists: a prediction may be of a thousand stimuli."""


class ImgToFmriError(Exception):
    """Base of every error that this package raises on purpose."""


class StimulusError(ImgToFmriError, ValueError):
    """An input is not a usable image or movie."""


class OptionError(ImgToFmriError, ValueError):
    """A setting is outside what is valid.

    Parameters
    ----------
    message : str
    option : str
        The parameter that it is about, as the message's first word has it; the command line shows
        it as its own option.
    """

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.option)


class ShapeError(ImgToFmriError, ValueError):
    """An array has the wrong shape, or comes from another backbone."""


class DataError(ImgToFmriError, ValueError):
    """Measured data cannot be analysed as asked."""


class BundleError(ImgToFmriError, ValueError):
    """A file is not an encoder bundle that this version can read."""


class WeightsError(ImgToFmriError, ValueError):
    """A weights file does not hold what it should."""


class WeightsUnavailableError(ImgToFmriError, OSError):
    """Weights could not be had from any source."""


class AssetError(ImgToFmriError, OSError):
    """A download failed or did not verify.

    Attributes
    ----------
    last_failure : str
        What came of the last address that was tried, in short; empty where none was.
    """

    last_failure = ""


class OutputError(ImgToFmriError, OSError):
    """A result cannot be written where it was asked for."""


class MissingDependencyError(ImgToFmriError, ImportError):
    """An optional package is needed and not installed."""


def choice_message(where: str, name: str, got: object, valid: Iterable[object]) -> str:
    """Say that ``got`` is not a valid choice, which are, and which was probably meant.

    Parameters
    ----------
    where : str
        What refused, such as a file; empty where the name says it.
    name : str
        The parameter's name, as the user wrote it.
    got : object
        What came.
    valid : iterable of object
        What is valid, in the order to list.

    Returns
    -------
    str
        One line.

    Examples
    --------
    >>> choice_message("predict", "rois", "PAP", ["LOC", "PPA"])
    "predict: rois must be one of LOC, PPA; got 'PAP'. Did you mean PPA?"
    """
    options = [str(item) for item in valid]
    more = f" and {len(options) - MOST_LISTED} more" if len(options) > MOST_LISTED else ""
    listed = ", ".join(options[:MOST_LISTED]) + more
    place = f"{where}: " if where else ""
    return f"{place}{name} must be one of {listed}; got {got!r}.{meant(got, options)}"


def check_choice(name: str, got: object, valid: Iterable[object]) -> None:
    """Refuse what is not a valid choice of a parameter.

    Raises
    ------
    OptionError
        As `choice_message` says it.
    """
    options = list(valid)
    if got not in options:
        raise OptionError(choice_message("", name, got, options), name)


def meant(got: object, valid: Iterable[str]) -> str:
    """Say, after a blank, which of what is valid was probably meant; nothing if none is near.

    Examples
    --------
    >>> meant("onsets", ["onset", "duration"])
    ' Did you mean onset?'
    """
    folded = {option.lower(): option for option in valid}
    close = difflib.get_close_matches(str(got).lower(), folded, n=1)
    return f" Did you mean {folded[close[0]]}?" if close else ""
