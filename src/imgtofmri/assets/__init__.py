"""Files from elsewhere: fetched and verified into the cache, and archives unpacked."""

from __future__ import annotations

from imgtofmri.assets.archives import extract_archive
from imgtofmri.assets.downloads import (
    CACHE_VARIABLE,
    OFFLINE_VARIABLE,
    by_nilearn,
    cache_dir,
    fetch_url,
    fetch_wheel,
    is_offline,
    nilearn_folder,
)

__all__ = [
    "CACHE_VARIABLE",
    "OFFLINE_VARIABLE",
    "by_nilearn",
    "cache_dir",
    "extract_archive",
    "fetch_url",
    "fetch_wheel",
    "is_offline",
    "nilearn_folder",
]
