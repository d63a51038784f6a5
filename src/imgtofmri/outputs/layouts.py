"""Where results go: plain NIfTI files named after their stimuli, or a BIDS derivative dataset."""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from imgtofmri import __version__
from imgtofmri.exceptions import OptionError, check_choice
from imgtofmri.files import atomic_path
from imgtofmri.tables import tsv

FormatName = Literal["nifti", "bids", "zarr"]
"""How files can be laid out: plain, as a BIDS derivative dataset, or as one store of arrays."""

FORMATS: tuple[FormatName, ...] = get_args(FormatName)
"""Their names."""

_LAYOUTS = tuple(name for name in FORMATS if name != "zarr")
BIDS_VERSION = "1.11.1"

_PLAIN = frozenset((string.ascii_letters + string.digits).encode())

# What is left of the 255 bytes of a file's name by the other parts of it, spaces and subjects of
# long names included.
_MAX_LABEL = 140

BOUNDS = ("lower", "upper")
"""The bounds of a prediction interval, as files are named after them."""


class Layout(Protocol):
    """Names the files of a run, relative to its folder."""

    @property
    def as_series(self) -> bool:
        """Whether one stimulus' map is a series of one volume, with four axes."""
        ...

    def volume(
        self, name: str, subject: str | None = None, bound: str = "", *, movie: bool = False
    ) -> str:
        """Return the file of a stimulus' group map, of its bound, or of one subject's map."""
        ...

    def evidence(self, what: str) -> str:
        """Return the file of a map that says how far the others can be trusted."""
        ...

    def timeseries(self, name: str) -> str:
        """Return the file of a movie's table of ROI means."""
        ...

    def sidecar(self, name: str) -> str:
        """Return the file that describes a movie's group volume."""
        ...

    def describe(self, folder: Path, names: Sequence[str], others: Sequence[str]) -> list[Path]:
        """Write what the layout needs besides the volumes; others are files that it knows not."""
        ...


@dataclass(frozen=True, slots=True)
class NiftiLayout:
    """One file for each stimulus, named after the whole name of the stimulus."""

    as_series: bool = False

    def volume(
        self, name: str, subject: str | None = None, bound: str = "", *, movie: bool = False
    ) -> str:
        """Return ``horse.jpg.nii.gz``, with ``_sub-CSI1`` or ``_lower`` before the suffix."""
        ending = "" if subject is None else f"_sub-{subject}"
        return f"{name}{ending}{f'_{bound}' if bound else ''}.nii.gz"

    def evidence(self, what: str) -> str:
        """Return ``evidence/coverage.nii.gz``, apart from what ``*.nii.gz`` should find."""
        return f"evidence/{what}.nii.gz"

    def timeseries(self, name: str) -> str:
        """Return ``film.mp4_timeseries.tsv``."""
        return f"{name}_timeseries.tsv"

    def sidecar(self, name: str) -> str:
        """Return ``film.mp4.json``."""
        return f"{name}.json"

    def describe(self, folder: Path, names: Sequence[str], others: Sequence[str]) -> list[Path]:
        """Write nothing: the volumes and the run's record say it all."""
        return []


@dataclass(frozen=True, slots=True)
class BidsLayout:
    """A BIDS derivative dataset, the group being a subject called group.

    BIDS has one name for functional images that are not masks, ``bold``, and wants them to have a
    time axis: a picture's map is a series of one volume, at 0 s. Sidecars at the top hold for all
    images of a task, by BIDS's inheritance.

    Attributes
    ----------
    space : str
        The template space.
    bounds : tuple of str
        Bounds that are written beside each group map; their names end the ``desc`` label.
    step_s : float
        Time between a movie's frames, in seconds.
    """

    space: str = "MNI152NLin6Asym"
    bounds: tuple[str, ...] = ()
    step_s: float = 0.5
    as_series: bool = True

    def volume(
        self, name: str, subject: str | None = None, bound: str = "", *, movie: bool = False
    ) -> str:
        """Return ``sub-group/func/sub-group_task-images_space-..._desc-..._bold.nii.gz``."""
        task = MOVIES if movie else IMAGES
        return self._file(name, subject or "group", task, "bold.nii.gz", bound)

    def evidence(self, what: str) -> str:
        """Return ``evidence/coverage.nii.gz``, which BIDS has no name for."""
        return f"evidence/{what}.nii.gz"

    def timeseries(self, name: str) -> str:
        """Return ``sub-group/func/sub-group_task-movies_..._timeseries.tsv``."""
        return self._file(name, "group", MOVIES, "timeseries.tsv")

    def sidecar(self, name: str) -> str:
        """Return ``sub-group/func/sub-group_task-movies_..._bold.json``."""
        return self._file(name, "group", MOVIES, "bold.json")

    def _file(self, name: str, subject: str, task: str, ending: str, bound: str = "") -> str:
        who = f"sub-{bids_label(subject)}"
        parts = [who, f"task-{task}", f"space-{self.space}", f"desc-{_desc(name, bound)}", ending]
        return f"{who}/func/{'_'.join(parts)}"

    def describe(self, folder: Path, names: Sequence[str], others: Sequence[str]) -> list[Path]:
        """Write the dataset's description, its labels, the tasks' sidecars and ``.bidsignore``."""
        description = {
            "Name": "Predicted responses to images and movies",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
        }
        rows = []
        for name in names:
            rows.append((f"desc-{_desc(name)}", f"stimulus {name}"))
            for bound in self.bounds:
                what = f"stimulus {name}, {bound} bound of the prediction interval"
                rows.append((f"desc-{_desc(name, bound)}", what))
        files = {
            "dataset_description.json": _json(description),
            "descriptions.tsv": tsv(("desc_id", "description"), rows),
            ".bidsignore": "\n".join([*others, "evidence", "*_timeseries.tsv"]) + "\n",
            "README.md": _README,
        }
        timing: dict[str, dict[str, object]] = {
            IMAGES: {"VolumeTiming": [0.0], "FrameAcquisitionDuration": 1.0},
            MOVIES: {"RepetitionTime": self.step_s},
        }
        for task, when in timing.items():
            # A sidecar without an image is an error of its own.
            if any(folder.glob(f"sub-*/func/*_task-{task}_*_bold.nii.gz")):
                said = {
                    "TaskName": task,
                    "Description": _DESCRIPTIONS[task],
                    "SkullStripped": True,
                    "SpatialReference": self.space,
                    **when,
                }
                files[f"task-{task}_bold.json"] = _json(said)
        for file, text in files.items():
            with atomic_path(folder / file) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return [folder / file for file in files]


IMAGES, MOVIES = "images", "movies"
_DESCRIPTIONS = {
    IMAGES: "Predicted response to one image, as a single volume; nothing was measured. BIDS wants "
    "a duration of each volume: that of 1 s means nothing.",
    MOVIES: "Predicted response to each frame of a movie, without haemodynamics; nothing was "
    "measured.",
}

_README = """\
# Predicted responses to images and movies

An encoding model predicted these maps; nothing in them was measured. `predictions.json` says which
model, from which files and with which settings, and `descriptions.tsv` which stimulus a `desc-`
label stands for: a label is the stimulus' name, with each character that is no ASCII letter or
digit as the bytes of its UTF-8, `+` and two hexadecimal digits for each (`+2e` is a dot).

- `sub-group`: the group's maps; other subjects: theirs, if they were asked for.
- `task-images`: one volume for each image. `task-movies`: one for each frame of a movie.
- `evidence`: how far the maps can be trusted.
"""


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


def _desc(name: str, bound: str = "") -> str:
    """Return the label of a stimulus' map or bound; no bound's ending is two hexadecimal digits."""
    return bids_label(name) + (f"+{bound}" if bound else "")


def check_format(name: str) -> None:
    """Refuse a format that there is not, before anything is loaded.

    Raises
    ------
    OptionError
    """
    check_choice("format", name, FORMATS)


def find_layout(name: str, space: str, bounded: bool = False, rate_hz: float = 2.0) -> Layout:
    """Return a layout by its name.

    Parameters
    ----------
    name : {"nifti", "bids"}
    space : str
        The template space.
    bounded : bool
        Whether the bounds of an interval are written, too.
    rate_hz : float
        Frames a second that are taken of movies.

    Raises
    ------
    OptionError
        If there is no such layout.
    """
    check_choice("format", name, _LAYOUTS)
    if name == "nifti":
        return NiftiLayout()
    return BidsLayout(space, BOUNDS if bounded else (), 1 / rate_hz)


def bids_label(name: str) -> str:
    """Return a name as a BIDS label: no two names have the same, whatever else is in the dataset.

    ASCII letters and digits stay; every other byte of the name's UTF-8 becomes ``+`` and its two
    hexadecimal digits. Of a label that is too long for a file's name the beginning is kept, before
    ``++`` and the SHA-256 of the name; nothing else has ``++``.

    Examples
    --------
    >>> bids_label("horse1.jpg"), bids_label("my horse.jpg"), bids_label("ü")
    ('horse1+2ejpg', 'my+20horse+2ejpg', '+c3+bc')
    """
    data = name.encode("utf-8", "surrogateescape")
    label = "".join(chr(byte) if byte in _PLAIN else f"+{byte:02x}" for byte in data)
    if len(label) <= _MAX_LABEL:
        return label
    digest = hashlib.sha256(data).hexdigest()
    # An escape is never cut in two, which could leave three signs of plus.
    kept = re.sub(r"\+.?$", "", label[: _MAX_LABEL - len(digest) - 2])
    return f"{kept}++{digest}"


def check_distinct(
    layout: Layout, names: Iterable[str], subjects: Sequence[str] = (), bounded: bool = False
) -> None:
    """Refuse stimuli of which two would share a file, before anything is written.

    Parameters
    ----------
    layout : Layout
        Names the files.
    names : iterable of str
        The stimuli, those of an earlier run in the same folder included.
    subjects : sequence of str
        Whose maps are written beside the group's.
    bounded : bool
        Whether the bounds of an interval are, too.

    Raises
    ------
    OptionError
        Naming both.
    """
    bounds = ("", *BOUNDS) if bounded else ("",)
    owners = [*((None, bound) for bound in bounds), *((who, "") for who in subjects)]
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        files = [layout.volume(name, *owner) for owner in owners]
        for file in (*files, layout.timeseries(name), layout.sidecar(name)):
            # Some file systems hold but one of two names that differ in case.
            other = seen.setdefault(file.casefold(), name)
            if other != name or len(files) != len({each.casefold() for each in files}):
                message = (
                    "every stimulus and subject must have files of its own; "
                    f"{other!r} and {name!r} would share {file}. Rename one of them."
                )
                raise OptionError(message)
