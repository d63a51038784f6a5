"""How the settings of an earlier run differ from those of now, in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def differences(
    before: Mapping[str, Mapping[str, Any]],
    now: Mapping[str, Mapping[str, Any]],
    apart: Collection[str] = (),
) -> list[str]:
    """Say which settings were otherwise.

    Parameters
    ----------
    before, now : mapping of str to mapping
        Settings by name, in parts; of JSON's types, to which tuples do not belong.
    apart : collection of str
        Settings that may be otherwise.

    Examples
    --------
    >>> differences({"settings": {"format": "nifti"}}, {"settings": {"format": "bids"}})
    ["format was 'nifti' and is now 'bids'"]
    """
    return [
        f"{key} was {before[part].get(key)!r} and is now {now[part].get(key)!r}"
        for part in before
        for key in sorted({*before[part], *now[part]} - set(apart))
        if before[part].get(key) != now[part].get(key)
    ]
