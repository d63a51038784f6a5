"""What is done by processes elsewhere: loaded once in each, then unit by unit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

Asked = TypeVar("Asked", contravariant=True)
Answer = TypeVar("Answer", covariant=True)

MOST_LOSSES = 3
"""How often a unit may be lost with its process before it counts as what ends processes."""

Warned = Sequence[tuple[type[Warning], str]]
"""Warnings on their way from one process to another: kinds and messages."""


class Work(Protocol[Asked, Answer]):
    """What a process does, in a form that can be sent to it."""

    def open(self) -> Callable[[Asked], Answer]:
        """Load what all units need, and return what does one."""
        ...


def noting(do: Callable[[], Answer]) -> tuple[Answer, Warned]:
    """Do something, and return with what comes of it what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        # What Pillow minds in files that it can read names no file, and changes no pixel.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        answer = do()
    return answer, [(each.category, str(each.message)) for each in caught]


def warn_again(warned: Warned) -> None:
    """Warn here of what was warned of elsewhere."""
    for category, message in warned:
        warnings.warn(message, category, stacklevel=3)
