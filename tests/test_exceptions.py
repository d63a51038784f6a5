"""The error tree and its one helper."""

from __future__ import annotations

import inspect

import pytest

from imgtofmri import exceptions
from imgtofmri.exceptions import ImgToFmriError, choice_message

CLASSES = [
    member
    for _, member in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(member, ImgToFmriError) and member is not ImgToFmriError
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_is_also_a_builtin_one(error: type[Exception]) -> None:
    """Callers that know only ValueError, OSError or ImportError catch ours too."""
    assert issubclass(error, (ValueError, OSError, ImportError))


def test_choice_message_lists_what_is_valid_and_guesses_what_was_meant() -> None:
    """The message names where, what came, what is valid, and the nearest valid choice."""
    message = choice_message("predict", "rois", "ppa ", ["LOC", "PPA"])
    assert message == "predict: rois must be one of LOC, PPA; got 'ppa '. Did you mean PPA?"


def test_choice_message_does_not_guess_wildly() -> None:
    """Nothing is suggested where nothing is near."""
    assert "Did you mean" not in choice_message("predict", "rois", "cerebellum", ["LOC", "PPA"])
