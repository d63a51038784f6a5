"""Predict the group-level fMRI response of human visual cortex to images and movies.

Start with `load_encoder`; the command line is ``imgtofmri``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgtofmri.bundle import Bundle, read_bundle, write_bundle
    from imgtofmri.encoder import Encoder, Prediction, load_encoder
    from imgtofmri.exceptions import ImgToFmriError

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Encoder",
    "ImgToFmriError",
    "Prediction",
    "__version__",
    "load_encoder",
    "read_bundle",
    "write_bundle",
]

_HOMES = {
    "Bundle": "bundle",
    "Encoder": "encoder",
    "ImgToFmriError": "exceptions",
    "Prediction": "encoder",
    "load_encoder": "encoder",
    "read_bundle": "bundle",
    "write_bundle": "bundle",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import imgtofmri`` costs nothing."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
