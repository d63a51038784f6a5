"""The twinset data: 156 photographs and the measured responses of 15 people to each.

They are what the published model was validated on; its authors share them in an archive of their
analyses (Bennett and Baldassano 2023, doi:10.52294/001c.87545).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imgtofmri import assets
from imgtofmri.exceptions import DataError
from imgtofmri.files import natural_key

URLS = (
    "https://ndownloader.figshare.com/files/41780682",
    "https://figshare.com/ndownloader/files/41780682",
)
SIZE_BYTES = 3_485_105_299
N_IMAGES = 156
STIMULUS_FOLDER = "156ImageStimuliSet"
#: First and last image of each category, counted from 1.
CATEGORIES: Mapping[str, tuple[int, int]] = {
    "animals": (1, 28),
    "objects": (29, 64),
    "scenes": (65, 100),
    "people": (101, 124),
    "faces": (125, 156),
}
#: Images that the published model was trained on too; leave them out of its validation.
TRAINING_DUPLICATES = (20,)

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_BETA = re.compile(r"^(avg|r_m_s)_beta_(\d{4})\.nii(\.gz)?$")
_SUBJECT = re.compile(r"^subj\d{2}$")


@dataclass(frozen=True)
class Twinset:
    """Where each image and each measured response lies, in the images' order.

    Attributes
    ----------
    stimuli : tuple of Path, length 156
        The photographs.
    group : tuple of Path, length 156
        NIfTI file of each image's response averaged over participants.
    participants : mapping of str to tuple of Path, length 156 each
        NIfTI files of each participant's responses, by the participant's name.
    """

    stimuli: tuple[Path, ...]
    group: tuple[Path, ...]
    participants: Mapping[str, tuple[Path, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names: the photographs' file names."""
        return tuple(path.name for path in self.stimuli)

    @property
    def categories(self) -> dict[str, str]:
        """Each image's category, by the image's name."""
        return {
            name: category
            for category, (first, last) in CATEGORIES.items()
            for name in self.names[first - 1 : last]
        }

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Names of the images that the published model was trained on too."""
        return tuple(self.names[number - 1] for number in TRAINING_DUPLICATES)


def fetch_twinset(folder: Path | None = None, progress: bool = True) -> Twinset:
    """Download the analysis archive (3.5 GB), unpack the twinset part, and say where all lies.

    An interrupted download goes on where it stopped. No checksum of the archive is built in: its
    size is checked, and every file that is needed must be there. The archive is removed once its
    twinset part is unpacked.

    Parameters
    ----------
    folder : Path, optional
        Where to unpack; ``datasets/twinset`` in the cache by default. If it holds the data
        already, nothing is downloaded.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Twinset
        Where each file lies.

    Raises
    ------
    AssetError
        If the archive cannot be had, or is none.
    DataError
        If it does not hold what it should.
    """
    unpacked = assets.cache_dir() / "datasets" / "twinset" if folder is None else Path(folder)
    if unpacked.is_dir() and any(unpacked.iterdir()):
        return load_analysis_archive(unpacked)
    archive = assets.fetch_url(
        URLS,
        "datasets/twinset-archive",
        what="twinset analysis archive",
        size=SIZE_BYTES,
        progress=progress,
    )
    assets.extract_archive(archive, unpacked, keep=_is_needed, progress=progress)
    found = load_analysis_archive(unpacked)
    archive.unlink()
    return found


def _is_needed(path: PurePosixPath) -> bool:
    folder = path.parent.name
    if path.name.startswith("._"):
        return False
    if folder == STIMULUS_FOLDER:
        return path.suffix.lower() in _IMAGE_SUFFIXES
    return _BETA.match(path.name) is not None


def load_analysis_archive(source: Path, progress: bool = True) -> Twinset:
    """Find the twinset data in the published analysis archive.

    Looked for anywhere below ``source``: the folder ``156ImageStimuliSet`` of photographs, a
    folder ``avgs`` of ``avg_beta_0001.nii.gz`` ... and folders ``subj01`` ... of
    ``r_m_s_beta_0001.nii.gz`` .... Photographs are ordered by the number in their names if these
    are 1 to 156 or 0 to 155, else by name with numbers in numerical order.

    Parameters
    ----------
    source : Path
        The unpacked archive, or the archive file, which is unpacked beside itself into
        ``<name>-unpacked`` once.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Twinset
        Where each file lies.

    Raises
    ------
    AssetError
        If a file is not an archive, is damaged or leads out of its folder.
    DataError
        If a folder or a file is missing; the message names it.
    """
    source = Path(source)
    if source.is_file():
        unpacked = source.with_name(f"{source.name}-unpacked")
        if not unpacked.is_dir():
            assets.extract_archive(source, unpacked, keep=_is_needed, progress=progress)
        source = unpacked
    folders = sorted(path for path in source.rglob("*") if path.is_dir()) if source.is_dir() else []
    stimuli = _stimuli(_only(source, folders, STIMULUS_FOLDER))
    group = find_betas(_only(source, folders, "avgs"), "avg")
    # A participant's name may also be that of a folder of something else.
    people = [
        folder
        for folder in folders
        if _SUBJECT.match(folder.name) and any(folder.glob("r_m_s_beta_*"))
    ]
    if not people:
        message = (
            f"{source}: expected folders subj01 ... with r_m_s_beta_0001.nii.gz ... below it; "
            "found none. Unpack the whole archive there."
        )
        raise DataError(message)
    names = [folder.name for folder in people]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        where = ", ".join(str(folder) for folder in people if folder.name == twice)
        message = (
            f"{source}: expected one folder of responses for {twice}; found {where}. Remove all "
            "but one."
        )
        raise DataError(message)
    participants = {folder.name: find_betas(folder, "r_m_s") for folder in people}
    return Twinset(stimuli, group, participants)


def _only(source: Path, folders: list[Path], name: str) -> Path:
    found = [folder for folder in folders if folder.name == name]
    if len(found) != 1:
        came = ", ".join(str(folder) for folder in found) or "none"
        message = (
            f"{source}: expected one folder {name} below it; found {came}. Give the folder that "
            "the published archive was unpacked into, and nothing else."
        )
        raise DataError(message)
    return found[0]


def _stimuli(folder: Path) -> tuple[Path, ...]:
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if len(images) != N_IMAGES:
        message = (
            f"{folder}: expected {N_IMAGES} photographs; found {len(images)}. Unpack the whole "
            "archive, and put nothing else into the folder."
        )
        raise DataError(message)
    numbers = {path: re.findall(r"\d+", path.stem) for path in images}
    for position in (0, -1):
        if all(numbers.values()):
            key = {path: int(found[position]) for path, found in numbers.items()}
            counted = sorted(key.values())
            if counted in (list(range(1, N_IMAGES + 1)), list(range(N_IMAGES))):
                return tuple(sorted(images, key=key.__getitem__))
    return tuple(sorted(images, key=lambda path: natural_key(path.name)))


def find_betas(folder: Path, kind: str) -> tuple[Path, ...]:
    """Find the measured responses of a folder, one file for each image, in the images' order.

    Parameters
    ----------
    folder : Path
        Of the group's responses, or of one participant's.
    kind : {"avg", "r_m_s"}
        What their names begin with: the group's, a participant's.

    Returns
    -------
    tuple of Path, length 156

    Raises
    ------
    DataError
        If the folder or a file is missing.
    """
    found: dict[int, Path] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _BETA.match(path.name)
        if match and match[1] == kind:
            found[int(match[2])] = path
    missing = [number for number in range(1, N_IMAGES + 1) if number not in found]
    if missing:
        message = (
            f"{folder}: expected {kind}_beta_0001.nii.gz ... {kind}_beta_{N_IMAGES:04d}.nii.gz; "
            f"{kind}_beta_{missing[0]:04d}.nii.gz is missing ({len(missing)} of {N_IMAGES} are). "
            "Unpack the whole archive."
        )
        raise DataError(message)
    return tuple(found[number] for number in range(1, N_IMAGES + 1))
