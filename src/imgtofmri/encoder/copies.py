"""Images that are there twice, which whatever is computed over images counts as two."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from imgtofmri.stimuli.items import StimulusWarning, one_line

if TYPE_CHECKING:
    from imgtofmri.encoder.prediction import Prediction

__all__ = ["tell_of_copies"]


def tell_of_copies(prediction: Prediction) -> None:
    """Tell of images whose files are the same byte for byte.

    Parameters
    ----------
    prediction : Prediction
        Of images; all frames of a movie are of one file.

    Warns
    -----
    StimulusWarning
        How many are copies of others, and which the first is.
    """
    if prediction.onsets_s is not None:
        return
    first: dict[str, str] = {}
    copies = [
        (name, first[digest])
        for name, digest in zip(prediction.names, prediction.sha256, strict=True)
        if digest is not None and first.setdefault(digest, name) != name
    ]
    if copies:
        [(name, same), *_] = copies
        message = (
            f"{len(copies)} of {len(prediction)} images are copies of others; the first is "
            f"'{one_line(name)}', the same file as '{one_line(same)}'. Each counts as an image of "
            "its own: leave copies out, since they tell nothing new."
        )
        warnings.warn(message, StimulusWarning, stacklevel=3)
