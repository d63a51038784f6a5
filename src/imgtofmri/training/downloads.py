"""The files that a study says can be fetched."""

from __future__ import annotations

from pathlib import Path

from imgtofmri.assets import extract_archive, fetch_url
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
        if download.unpack:
            archive, path = path, path.with_suffix("")
            if not path.is_dir():
                extract_archive(archive, path, progress=progress)
        found.append(path)
    return found
