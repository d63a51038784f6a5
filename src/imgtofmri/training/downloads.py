"""The files that a study says can be fetched."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from imgtofmri.assets import fetch_url
from imgtofmri.exceptions import AssetError
from imgtofmri.training.study import Study


def fetch_downloads(study: Study, progress: bool = True) -> list[Path]:
    """Fetch a study's downloads into the cache, once, and unpack its archives.

    Parameters
    ----------
    study : Study
        As `imgtofmri.training.study.read_study` returns it.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    list of Path
        The files, or the folders of those that were unpacked.

    Raises
    ------
    AssetError
        If a download fails, is not what it should be, or an archive leads out of its folder.
    """
    found = []
    for download in study.downloads:
        path = fetch_url(
            [download.url],
            f"studies/{download.file}",
            what=f"{download.file} of {study.id}",
            sha256=download.sha256,
            size=download.size,
            progress=progress,
        )
        found.append(unpack_archive(path) if download.unpack else path)
    return found


def unpack_archive(path: Path) -> Path:
    """Unpack a zip archive beside itself, whole or not at all.

    Parameters
    ----------
    path : Path
        The archive; it becomes the folder of the same name without ``.zip``.

    Returns
    -------
    Path
        The folder. An existing one is left as it is.

    Raises
    ------
    AssetError
        If it is not a zip archive, or an entry leads out of the folder.
    """
    folder = path.with_suffix("")
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
        home = Path(scratch).resolve() / "unpacked"
        home.mkdir()
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if not (home / name).resolve().is_relative_to(home):
                        message = (
                            f"{path}: every entry must lie inside the archive's folder; got "
                            f"{name!r}. The archive is not to be trusted; remove it."
                        )
                        raise AssetError(message)
                archive.extractall(home)
        except zipfile.BadZipFile as error:
            message = f"{path}: expected a zip archive ({error}). Remove it and fetch it again."
            raise AssetError(message) from error
        home.replace(folder)
    return folder
