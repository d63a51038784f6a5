"""Where results go: plain NIfTI files named after their stimuli, or a BIDS derivative dataset."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from imgtofmri import __version__
from imgtofmri.exceptions import check_choice
from imgtofmri.files import atomic_path
from imgtofmri.tables import tsv

FormatName = Literal["nifti", "bids"]
FORMATS: tuple[FormatName, ...] = ("nifti", "bids")
BIDS_VERSION = "1.10.0"

BOUNDS = ("lower", "upper")
"""The bounds of a prediction interval, as files are named after them."""


class Layout(Protocol):
    """Names the files of a run, relative to its folder."""

    def volume(self, name: str, subject: str | None = None, bound: str = "") -> str:
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

    def volume(self, name: str, subject: str | None = None, bound: str = "") -> str:
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
    """A BIDS derivative dataset of statistical maps, the group being a subject called group.

    Attributes
    ----------
    space : str
        The template space.
    bounds : tuple of str
        Bounds that are written beside each group map; their names end the ``desc`` label.
    """

    space: str = "MNI152NLin6Asym"
    bounds: tuple[str, ...] = ()

    def volume(self, name: str, subject: str | None = None, bound: str = "") -> str:
        """Return ``sub-group/func/sub-group_task-viewing_..._statmap.nii.gz``."""
        return self._file(name, subject or "group", "statmap.nii.gz", bound)

    def evidence(self, what: str) -> str:
        """Return ``sub-group/func/sub-group_task-viewing_..._desc-coverage_statmap.nii.gz``."""
        return self.volume(what)

    def timeseries(self, name: str) -> str:
        """Return ``sub-group/func/sub-group_task-viewing_..._timeseries.tsv``."""
        return self._file(name, "group", "timeseries.tsv")

    def sidecar(self, name: str) -> str:
        """Return ``sub-group/func/sub-group_task-viewing_..._statmap.json``."""
        return self._file(name, "group", "statmap.json")

    def _file(self, name: str, subject: str, ending: str, bound: str = "") -> str:
        who, what = f"sub-{bids_label(subject)}", bids_label(name) + bound.capitalize()
        parts = [who, "task-viewing", f"space-{self.space}", f"desc-{what}", ending]
        return f"{who}/func/{'_'.join(parts)}"

    def describe(self, folder: Path, names: Sequence[str], others: Sequence[str]) -> list[Path]:
        """Write ``dataset_description.json``, ``descriptions.tsv`` and ``.bidsignore``."""
        description = {
            "Name": "Predicted responses to images",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
        }
        rows = []
        for name in names:
            rows.append((bids_label(name), f"stimulus {name}"))
            for bound in self.bounds:
                what = f"stimulus {name}, {bound} bound of the prediction interval"
                rows.append((bids_label(name) + bound.capitalize(), what))
        files = {
            "dataset_description.json": json.dumps(description, indent=1) + "\n",
            "descriptions.tsv": tsv(("desc_id", "description"), rows),
            ".bidsignore": "\n".join(others) + "\n",
        }
        for file, text in files.items():
            with atomic_path(folder / file) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return [folder / file for file in files]


def check_format(name: str) -> None:
    """Refuse a layout that there is not, before anything is loaded.

    Raises
    ------
    OptionError
    """
    check_choice("format", name, FORMATS)


def find_layout(name: str, space: str, bounded: bool = False) -> Layout:
    """Return a layout by its name.

    Parameters
    ----------
    name : {"nifti", "bids"}
    space : str
        The template space.
    bounded : bool
        Whether the bounds of an interval are written, too.

    Raises
    ------
    OptionError
        If there is no such layout.
    """
    check_format(name)
    return NiftiLayout() if name == "nifti" else BidsLayout(space, BOUNDS if bounded else ())


def bids_label(name: str) -> str:
    """Return a name as a BIDS label, which holds letters and digits only.

    Where more than the dot before the suffix is lost, a digest of the name keeps labels distinct.

    Examples
    --------
    >>> bids_label("horse1.jpg"), bids_label("my horse.jpg")
    ('horse1jpg', 'myhorsejpg281a')
    """
    label = re.sub(r"[^A-Za-z0-9]", "", name)
    stem, _, suffix = name.rpartition(".")
    if label == stem + suffix:
        return label
    return label + hashlib.sha256(name.encode()).hexdigest()[:4]
