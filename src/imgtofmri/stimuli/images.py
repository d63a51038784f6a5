"""Read image files: each byte once, decoded ahead in threads, in order, in bounded memory."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.limits import limit, variable
from imgtofmri.processors import n_processors
from imgtofmri.stimuli.discovery import suffix_kind
from imgtofmri.stimuli.items import (
    FRAME_SIZE,
    Failure,
    Frame,
    Source,
    StimulusWarning,
    check_dimensions,
    one_line,
    refuse,
)
from imgtofmri.stimuli.pixels import prepare_image, square_of, to_rgb
from imgtofmri.stimuli.tiff import read_deep_grey

ImageInput = Source | Path | str | Image.Image | npt.NDArray[np.uint8]
"""What `read_images` takes for one image."""

# Only formats that hold pictures and start no other program (Pillow's EPS reader runs Ghostscript).
FORMATS = "JPEG PNG WEBP GIF BMP DIB TIFF PPM JPEG2000 AVIF".split()

# Of these, files of several pictures are animations or have pages. Those of JPEG hold views of one.
_MANY_IN_ONE = frozenset({"GIF", "PNG", "WEBP", "AVIF", "TIFF"})

_AHEAD = 32

REMEDY = "Export it again or leave it out."

# A caller's picture is decoded when it is first looked at, which two threads must not do at once.
_ONE_PICTURE = Lock()


def read_images(
    images: Iterable[ImageInput] | ImageInput,
    *,
    size: int = FRAME_SIZE,
    center_crop: bool = False,
    n_workers: int | None = None,
    ahead: int | None = None,
) -> Iterator[Frame | Failure]:
    """Read images in order, decoding ahead while the caller works on earlier ones.

    Nothing raises for a single bad input: it comes as a `Failure` in its place.

    Parameters
    ----------
    images : iterable of Source, Path, str, PIL image or uint8 array
        Files by path (here the content decides, not the suffix) or pictures in memory, arrays of
        shape (height, width, 3) or (height, width). Consumed no faster than `ahead` allows.
    size, center_crop
        As in `prepare_image`.
    n_workers : int, optional
        Threads that decode. By default 2, or 1 where there is one processor: a decoder is about
        four times faster than the network, and more threads would take its processors.
    ahead : int, default 32
        How many images may be decoded and wait: the bound on memory (150 kB each at 224 pixels).

    Yields
    ------
    Frame or Failure
        One for each input, in order. Frames of files carry the SHA-256 of the file.

    Raises
    ------
    OptionError
        If ``size``, ``n_workers`` or ``ahead`` is below 1.

    Warns
    -----
    StimulusWarning
        When all are read, if some were animations or had pages, of which the first alone counts.

    Examples
    --------
    >>> frame, failure = read_images([np.zeros((2, 3, 3), np.uint8), "missing.jpg"])
    >>> frame.name, frame.pixels.shape, failure.name
    ('image-0000', (224, 224, 3), 'missing.jpg')
    """
    workers = min(2, n_processors()) if n_workers is None else n_workers
    depth = _AHEAD if ahead is None else ahead
    for name, value in (("size", size), ("n_workers", workers), ("ahead", depth)):
        if value < 1:
            message = f"{name} must be 1 or more; got {value}. Leave it out to be right."
            raise OptionError(message)
    return _read_ahead(_as_images(images), size, center_crop, workers, depth)


def _read_ahead(
    images: Iterable[ImageInput], size: int, center_crop: bool, n_workers: int, ahead: int
) -> Iterator[Frame | Failure]:
    Image.init()  # Here, once: threads that come first at the same time would race in it.
    waiting: deque[Future[Frame | Failure]] = deque()
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="imgtofmri-decode")
    firsts: list[str] = []

    def next_one() -> Frame | Failure:
        one = waiting.popleft().result()
        if isinstance(one, Frame) and one.is_first:
            firsts.append(one.name)
        return one

    try:
        for index, item in enumerate(images):
            waiting.append(pool.submit(_read_one, item, index, size, center_crop))
            if len(waiting) > ahead:
                yield next_one()
        while waiting:
            yield next_one()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if firsts:
        message = (
            f"{len(firsts)} files hold several pictures or pages, of which the first alone is "
            f"taken; the first such is '{firsts[0]}'. Convert animations to MP4 to have them taken "
            "as movies."
        )
        warnings.warn(message, StimulusWarning, stacklevel=2)


def _read_one(item: object, index: int, size: int, center_crop: bool) -> Frame | Failure:
    """Read one input; whatever is wrong with it becomes a failure."""
    name = shown = name_of(item, index)
    try:
        if isinstance(item, Source | Path | str):
            path = item.path if isinstance(item, Source) else Path(item)
            shown = str(path)
            data = read_bytes(path)
            picture = decode(data, str(path))
            rgb = to_rgb(picture)
            pixels = square_of(rgb, size, center_crop)
            digest = hashlib.sha256(data).hexdigest()
            aspect = 1.0 if center_crop else rgb.width / rgb.height
            more = _holds_more(picture)
            return Frame(name, pixels, digest, source=path, aspect=aspect, is_first=more)
        if isinstance(item, np.ndarray):
            return Frame(name, prepare_image(item, size, center_crop))
        if isinstance(item, Image.Image):
            check_dimensions(item.size, "the picture")
            with _ONE_PICTURE:
                rgb = to_rgb(item)
            return Frame(name, square_of(rgb, size, center_crop))
        expected = "a path, a PIL image or a uint8 array"
        remedy = "Convert it: PIL.Image.open takes files that are open."
        raise refuse(expected, f"{name}, of type {type(item).__name__}", remedy)
    except StimulusError as error:
        return Failure(name, _about(error, shown))
    # Damaged files make decoders raise nearly anything; one of them must not end the run.
    except Exception as error:
        remedy = "Give its path, or leave it open." if isinstance(item, Image.Image) else REMEDY
        return Failure(name, _undecodable(shown, error, remedy))


def _holds_more(picture: Image.Image) -> bool:
    """Tell whether a file has pictures or pages after its first, which was decoded."""
    if picture.format not in _MANY_IN_ONE:
        return False
    with suppress(Exception):  # What is damaged after the first picture is none.
        return bool(getattr(picture, "is_animated", False))
    return False


def open_image(path: Path) -> Image.Image:
    """Read one image file whole, upright and in RGB, at its own size.

    Raises
    ------
    StimulusError
        If it cannot be read or decoded.
    """
    try:
        return to_rgb(decode(read_bytes(path), str(path)))
    except StimulusError as error:
        raise _about(error, str(path)) from error
    except Exception as error:  # As in `_read_one`.
        raise _undecodable(str(path), error) from error


def _undecodable(name: str, error: Exception, remedy: str = REMEDY) -> StimulusError:
    reason = one_line(str(error) or type(error).__name__)
    got = f"'{name}', which cannot be decoded ({reason})"
    failure = refuse("a whole image", got, remedy)
    failure.__cause__ = error
    return failure


def read_bytes(path: Path) -> bytes:
    """Read a file whole, and say clearly why if it cannot be.

    Raises
    ------
    StimulusError
        If it is missing, a folder, not a regular file, empty, too large, or not readable.
    """
    expected = "an image file"
    try:
        # Asked before it is opened: opening a pipe waits for whoever writes to it.
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            got = f"'{path}', which is a device or a pipe"
            raise refuse(expected, got, "Save what it gives to a file first.")
        most = limit("file_bytes")
        if status.st_size > most:
            got = f"'{path}' of {status.st_size / 1e9:.1f} GB"
            expected = f"an image file of at most {most / 1e9:g} GB"
            raise refuse(expected, got, f"Save it smaller, or set {variable('file_bytes')} higher.")
        # As `Path.read_bytes`, with half its calls of the system: at each others may run first.
        with path.open("rb", buffering=0) as file:
            data = file.readall()
    except StimulusError:
        raise
    except FileNotFoundError:
        got = f"'{path}', which does not exist"
        raise refuse(expected, got, "Check its spelling and where links lead.") from None
    except IsADirectoryError:
        got = f"'{path}', which is a folder"
        remedy = "find_sources takes folders and gives the files in them."
        raise refuse(expected, got, remedy) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        got = f"'{path}', which cannot be read ({reason})"
        raise refuse(expected, got, "Check its permissions and its disk.") from error
    if not data:
        got = f"'{path}', which is empty (0 bytes)"
        raise refuse(expected, got, "Copy it again or leave it out.")
    return data


def decode(data: bytes, name: str) -> Image.Image:
    """Open an encoded image in memory; its size is checked before any pixel is decoded.

    Parameters
    ----------
    data : bytes
        A whole file.
    name : str
        For messages.

    Returns
    -------
    PIL.Image.Image
        Not yet decoded, at its first frame.

    Raises
    ------
    StimulusError
        If it is no image of a known format, or a side is 0, or it is too large.
    """
    # Image.open would do the same, but it warns between 89 and 179 million pixels, and a warning
    # cannot be held back in one thread without touching the others.
    Image.init()
    why = ""
    for format_name in FORMATS:
        factory, accept = Image.OPEN.get(format_name, (None, None))
        if factory is None or accept is None:
            continue
        try:
            # A string is Pillow's reason why this build cannot read the format.
            if accept(data[:16]) is not True:
                continue
            deep = read_deep_grey(data, name) if format_name == "TIFF" else None
            picture = factory(io.BytesIO(data), "") if deep is None else deep
        except (SyntaxError, IndexError, TypeError, KeyError, struct.error) as error:
            if format_name == "TIFF":  # It has kinds of pixels that Pillow does not know.
                why = f", a TIFF whose pixels cannot be read ({error})"
            continue
        check_dimensions(picture.size, f"'{name}'")
        return picture
    got = f"'{name}'{why or ', whose content is none of these'}"
    expected = f"an image ({', '.join(FORMATS)})"
    remedy = "Export it again as PNG or JPEG, or leave it out."
    if suffix_kind(name) == "movie":
        remedy = (
            "It is named like a movie: `predict`, `simulate` and `dynamics` take movies; where "
            "pictures are needed, leave it out."
        )
    raise refuse(expected, got, remedy)


def name_of(item: object, index: int) -> str:
    """Return what one of several images is called, by its file or its place."""
    if isinstance(item, Source):
        return item.name
    if isinstance(item, Path | str):
        return one_line(Path(item).name or item)
    return f"image-{index:04d}"


def _about(error: StimulusError, name: str) -> StimulusError:
    """Make sure that the message names the input: `prepare_image` cannot know it."""
    shown = one_line(name)
    return error if shown in str(error) else StimulusError(f"{shown}: {error}")


def _as_images(images: Iterable[ImageInput] | ImageInput) -> Iterable[ImageInput]:
    """Take a single input for a list of one."""
    if isinstance(images, Source | Path | str | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and (
        images.ndim == 2 or (images.ndim == 3 and images.shape[2] in {1, 3, 4})
    ):
        return [images]
    return images
