"""The published encoder, loaded once, and what the published package's arguments come to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.encoder.reference import ROIS
from imgtofmri.exceptions import OptionError

ALL_ROIS = ROIS
"""The five ROIs that are predicted unless others are named."""

THREE_ROIS = ("LOC", "RSC", "PPA")
"""Those of the published analyses."""

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@cache
def published_encoder() -> Encoder:
    """Return the published encoder: scripts predict movie after movie and ROI after ROI."""
    return load_encoder()


def chosen_rois(roi_list: Sequence[str] | None) -> tuple[str, ...]:
    """Return which of the encoder's ROIs are chosen.

    Raises
    ------
    OptionError
        If the list is empty, or one is none of the encoder's.
    """
    rois = published_encoder().settings(rois=roi_list).rois
    assert rois is not None
    return tuple(rois)


def is_true(name: str, value: bool | int | str) -> bool:
    """Read yes or no, also as text; any text used to count as yes.

    Raises
    ------
    OptionError
        If it is neither.

    Examples
    --------
    >>> is_true("center_crop", "false"), is_true("center_crop", 1)
    (False, True)
    """
    said = str(value).strip().lower()
    if said not in (*_TRUE, *_FALSE):
        message = f"{name} must be true or false; got {value!r}. Write true, false, 1 or 0."
        raise OptionError(message, name)
    return said in _TRUE
