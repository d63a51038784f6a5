"""Decide what counts as a stimulus: files, folders and globs into an ordered list of sources."""

from __future__ import annotations

import glob
import hashlib
import os
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.files import natural_key
from imgtofmri.stimuli.items import Failure, Kind, Source, StimulusWarning, one_line, refuse

IMAGE_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .dib .tif .tiff "
    ".ppm .pgm .pbm .pnm .jp2 .j2k .jpx .avif"
).split()
"""Suffixes of image files, in lower case; upper case counts alike."""

MOVIE_SUFFIXES = (
    ".mp4 .m4v .mov .qt .avi .mkv .webm .mpg .mpeg .mpe .m2v .ts .mts .m2ts .wmv .asf .flv .f4v "
    ".ogv .ogg .3gp .3g2 .mxf .vob .divx .mjpeg"
).split()
"""Suffixes of movie files, in lower case; upper case counts alike."""

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys(MOVIE_SUFFIXES, "movie"),
}

# Suffixes of pictures and movies that are not read. Files of a folder that have one are counted:
# they may have been meant.
_OTHER_SUFFIXES = frozenset(
    (
        ".heic .heif .hif .jxl .jxr .wdp .psd .psb .mpo .tga .svg .svgz .pcx .exr .dds .sgi .xcf "
        ".kra .jpc .jpf .jpm .raw .dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .orf .rw2 .raf .pef "
        ".srw .x3f .3fr .erf .kdc .mrw .iiq .avifs .xbm .xpm .rm .rmvb .dv .swf .m2p .m1v .mp2v "
        ".y4m .h264 .264 .hevc .265 .mj2 .insv .braw .r3d .heics .heifs .avci .jps .pns .ico .icns "
        ".cur .eps .pct .pict .wmf .emf .pam .pfm .qoi .jls .bpg .flif .ras .dcm .czi .nd2 .lif "
        ".lsm .oib .oif .vsi .svs .ndpi .gifv .amv .ivf .f4p .tod"
    ).split()
)

# File systems take 255 bytes for a name; outputs add up to 74 of their own (BIDS), and more where
# an encoder's space or subjects have long names.
_MAX_NAME_BYTES = 160


def find_sources(inputs: Iterable[str | Path]) -> tuple[list[Source], list[Failure]]:
    """Find the image and movie files that some inputs name.

    The order is the inputs' order; within a folder or a glob it is natural (``img2`` before
    ``img10``). A file that is reached twice, also through a link to a folder, counts once, where it
    came first; a link to a file is a stimulus of its own name.

    Parameters
    ----------
    inputs : iterable of str or Path
        Files, folders (their own files, not those of folders in them) and globs, mixed. ``**`` in a
        glob descends into folders: ``"photos/**"``. In folders and globs, hidden files and files
        that are neither images nor movies are passed over; named one by one, they are failures.
        Of those passed over, pictures and movies of formats that are not read are counted.

    Returns
    -------
    sources : list of Source
        With unique names: the whole file name; where several files share it, those files' names
        begin with as many of their folders as tell them apart (``cats__01.jpg``, ``dogs__01.jpg``).
        A name above 160 bytes keeps its end, after a digest of where the file is.
    failures : list of Failure
        Inputs that exist not, or are not usable as they stand; files are not opened here.

    Raises
    ------
    OptionError
        If there are no inputs, or a folder or glob holds no stimulus at all.

    Warns
    -----
    StimulusWarning
        If pictures or movies were passed over: how many of which suffix; or if inputs name one file
        again.
    """
    found: list[tuple[Path, Kind]] = []
    failures: list[Failure] = []
    seen: set[str] = set()
    others: dict[str, Path] = {}
    again: list[str] = []
    several = [inputs] if isinstance(inputs, str | Path) else inputs
    entries = [os.fspath(entry) for entry in several]
    if not entries:
        message = "expected at least one file, folder or glob; got none. Name some."
        raise OptionError(message)
    for entry in entries:
        for item in _expand(entry, others):
            key = item.name if isinstance(item, Failure) else _where(item)
            if key in seen:
                again += [entry] if item == Path(entry) else []
                continue
            seen.add(key)
            if isinstance(item, Failure):
                failures.append(item)
            elif (kind := suffix_kind(item)) is not None:
                found.append((item, kind))
    tell_of_others(others.values())
    if again:
        message = (
            f"{len(again)} of {len(entries)} inputs name a file that an earlier one names, and are "
            f"left out: each file is a stimulus once; the first is '{one_line(again[0])}'. Repeat "
            "its results where they are needed, not its name."
        )
        warnings.warn(message, StimulusWarning, stacklevel=2)
    names = unique_names([path for path, _ in found])
    sources = [Source(path, name, kind) for (path, kind), name in zip(found, names, strict=True)]
    return sources, failures


def find_images(inputs: Iterable[str | Path]) -> tuple[list[Source], list[Failure]]:
    """Find the image files that some inputs name; movies among them are failures.

    Raises
    ------
    StimulusError
        If there is no image at all, saying why.
    OptionError
        As `find_sources` does.
    """
    found, failures = find_sources(inputs)
    sources = [source for source in found if source.kind == "image"]
    for source in found:
        if source.kind != "image":
            got = f"'{source.path}', a movie"
            remedy = "Leave it out: `predict`, `simulate` and `dynamics` take movies."
            error = refuse("an image file", got, remedy)
            failures.append(Failure(source.name, error))
    if not sources:
        more = f" And {len(failures) - 1} more could not be used." if len(failures) > 1 else ""
        message = f"{failures[0].error}{more}"
        raise StimulusError(message)
    return sources, failures


def suffix_kind(path: str | Path) -> Kind | None:
    """Return what a file's suffix says it is, or None if it is no stimulus.

    Examples
    --------
    >>> suffix_kind("holiday.JPG"), suffix_kind("film.mkv"), suffix_kind("README.md")
    ('image', 'movie', None)
    """
    name = os.path.basename(os.fspath(path))  # noqa: PTH119
    dot = name.rfind(".")
    return _KINDS.get(name[dot:].lower()) if dot > 0 else None


def unique_names(paths: Sequence[str | Path]) -> list[str]:
    """Name files by their whole file names, with leading folders where those are shared.

    Names that differ only in case or in Unicode form count as shared, because some file systems
    cannot hold both. What a file is called depends on the files that share its name and on no
    others.

    Parameters
    ----------
    paths : sequence of str or Path
        Different files.

    Returns
    -------
    list of str
        Unique, each on one line and without a path separator.

    Examples
    --------
    >>> unique_names([Path("cats/01.jpg"), Path("dogs/01.jpg"), Path("dogs/02.jpg")])
    ['cats__01.jpg', 'dogs__01.jpg', '02.jpg']
    """
    names = [one_line(os.path.basename(os.fspath(path))) for path in paths]  # noqa: PTH119
    for members in _groups(names):
        absolute = [_parts(paths[i]) for i in members]
        for depth in range(2, max(map(len, absolute)) + 1):
            labels = [one_line("__".join(parts[-depth:])) for parts in absolute]
            if len({_folded(label) for label in labels}) == len(labels):
                break
        for i, label in zip(members, labels, strict=True):
            names[i] = label
    # What folders cannot tell apart (a.jpg beside A.jpg, or a file that is really called
    # cats__01.jpg) is told apart by a digest of where it is.
    for members in _groups(names):
        for i in members:
            names[i] = f"{_place(paths[i])}__{names[i]}"
    # Files that outputs are named after must not have names that no file system takes.
    for i, name in enumerate(names):
        if 4 * len(name) > _MAX_NAME_BYTES and len(name.encode()) > _MAX_NAME_BYTES:
            end = name.encode()[-(_MAX_NAME_BYTES - 10) :].decode(errors="ignore")
            names[i] = f"{_place(paths[i])}__{end}"
    return names


def _parts(path: str | Path) -> tuple[str, ...]:
    return Path(os.path.abspath(path)).parts[1:]  # noqa: PTH100


def _where(path: Path) -> str:
    """Return what a path shares with every other that leads to the same entry of the same folder.

    The entry itself may be a link: repositories of data keep files of equal content once, and link
    to it from each of their names.
    """
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118


def _place(path: str | Path) -> str:
    """Return eight digits that stand for where a file is."""
    return hashlib.sha256("/".join(_parts(path)).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _groups(names: list[str]) -> list[list[int]]:
    """Return the positions of names that are shared, one list for each shared name."""
    folded = list(map(_folded, names))
    if len(set(folded)) == len(folded):
        return []
    counts = Counter(folded)
    positions: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(folded):
        if counts[name] > 1:
            positions[name].append(i)
    return list(positions.values())


def _folded(name: str) -> str:
    # Of ASCII there is one form, and most names are of it.
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


def _expand(entry: str, others: dict[str, Path]) -> Iterator[Path | Failure]:
    """Yield the files that one input stands for, and what cannot be used.

    Pictures and movies that are passed over are put with the others.
    """
    path = Path(entry)
    if not entry.strip():
        remedy = "Leave it out, or look whether a variable of your script is unset."
        yield Failure("''", refuse("an image or movie file", "an empty name", remedy))
    elif os.path.isdir(entry):  # noqa: PTH112  (Path.is_dir raises on folders that are closed to us)
        yield from _expand_folder(path, others)
    elif os.path.lexists(path):
        # A name that exists is never a pattern, whatever brackets it holds.
        yield _check_named(path)
    elif glob.has_magic(entry):
        yield from _expand_glob(entry, others)
    else:
        yield _check_named(path)


def _expand_folder(folder: Path, others: dict[str, Path]) -> Iterator[Path | Failure]:
    try:
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        got = f"'{folder}', which cannot be listed ({reason})"
        expected = "a folder of images or movies"
        yield Failure(one_line(folder), refuse(expected, got, "Check its permissions."))
        return
    paths = [folder / name for name in sorted(names, key=natural_key)]
    items = list(_keep_stimuli(paths, others))
    if items:
        yield from items
    elif suffix_kind(folder):
        got = f"'{folder}', which is a folder and holds none"
        remedy = "Name the file that was meant."
        yield Failure(one_line(folder), refuse("an image or movie file", got, remedy))
    else:
        counted = _counted(filter(_is_other, map(Path, names)))
        got = f"the folder '{folder}', which holds none{f' but {counted}' if counted else ''}"
        if any(os.path.isdir(folder / name) for name in names):  # noqa: PTH112
            got += f" but in folders of its own: '{folder / '**'}' names their files, too"
        raise OptionError(_nothing_message(got, "folder"))


def _expand_glob(pattern: str, others: dict[str, Path]) -> Iterator[Path | Failure]:
    matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207
    folders_kept_out = (Path(match) for match in matches if not os.path.isdir(match))  # noqa: PTH112
    items = list(_keep_stimuli(folders_kept_out, others))
    if not items:
        raise OptionError(_nothing_message(f"the pattern '{pattern}', which matches none", "glob"))
    yield from items


def _keep_stimuli(paths: Iterable[Path], others: dict[str, Path]) -> Iterator[Path | Failure]:
    for path in paths:
        if suffix_kind(path) is not None:
            yield _check_named(path)
        elif _is_other(path):
            others[_where(path)] = path


def tell_of_others(paths: Iterable[Path], *, movies: bool = False) -> None:
    """Warn of pictures and movies among files that are passed over, in one line.

    Parameters
    ----------
    paths : iterable of Path
        What is passed over.
    movies : bool
        Whether movies of formats that are read are among what is told: where pictures are wanted.
    """
    others = [path for path in paths if _is_other(path) or (movies and suffix_kind(path))]
    if others:
        message = (
            f"passed over {len(others)} files of formats that are not read{' here' * movies}: "
            f"{_counted(others)}; the first is '{one_line(others[0])}'. Convert them to "
            f"{'JPEG or PNG' if movies else 'JPEG, PNG or MP4'} if they are stimuli."
        )
        warnings.warn(message, StimulusWarning, stacklevel=3)


def _is_other(path: Path) -> bool:
    """Tell whether a file is a picture or movie of a format that is not read."""
    return path.suffix.lower() in _OTHER_SUFFIXES


def _counted(paths: Iterable[Path]) -> str:
    """Return how many files there are of each suffix."""
    counts = Counter(path.suffix.lower() for path in paths)
    return ", ".join(f"{number} {suffix}" for suffix, number in sorted(counts.items()))


def _check_named(path: Path) -> Path | Failure:
    """Return the path of a file that counts as a stimulus, or why it does not."""
    shown = str(path)
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        got = f"'{shown}', a link to a file that does not exist"
        remedy = "Mend the link or leave it out."
    elif not os.path.lexists(path):
        got = f"'{shown}', which does not exist"
        remedy = "Check its spelling and the current folder."
    elif os.path.isdir(path):  # noqa: PTH112
        got = f"'{shown}', which is a folder"
        remedy = "Name the folder as an input of its own to take the files in it."
    elif suffix_kind(path) is None:
        return Failure(one_line(shown), no_stimulus(shown))
    else:
        return path
    return Failure(one_line(shown), refuse("an image or movie file", got, remedy))


def no_stimulus(path: str) -> StimulusError:
    """Return the error for a file whose suffix does not count."""
    got = f"'{path}', whose suffix is not one that counts"
    remedy = f"Convert it; these count: {suffixes_line()}."
    return refuse("an image or movie file", got, remedy)


def suffixes_line() -> str:
    """Return the suffixes that count, for messages and help."""
    return f"{' '.join(IMAGE_SUFFIXES)} (images), {' '.join(MOVIE_SUFFIXES)} (movies)"


def _nothing_message(got: str, what: str) -> str:
    return (
        f"expected images or movies; got {one_line(got)}. "
        f"Give a {what} with files of these suffixes: {suffixes_line()}."
    )
