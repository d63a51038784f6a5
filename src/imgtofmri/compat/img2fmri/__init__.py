"""The interface of the published package, img2fmri 1.0: its calls, arguments, files and numbers.

`predict` writes volumes; `utils` has the masks, frames and preprocessing, `analysis` the analyses
of the script that was published beside the package. ``python -m imgtofmri.compat.img2fmri`` is its
command. Nothing is computed here: each call is a few of the main interface's, which does more, and
``docs/how-to/migrate-from-img2fmri.md`` says which.

References
----------
Bennett, Baldassano (2023). img2fmri: a Python package for predicting group-level fMRI responses to
visual stimuli using deep neural networks. Aperture Neuro. doi 10.52294/001c.87545
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgtofmri.compat.img2fmri import analysis as analysis
    from imgtofmri.compat.img2fmri import utils as utils
    from imgtofmri.compat.img2fmri.volumes import predict as predict

__all__ = ["analysis", "predict", "utils"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is, so that the command's help answers at once."""
    if name == "predict":
        return import_module(f"{__name__}.volumes").predict
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return list(__all__)
