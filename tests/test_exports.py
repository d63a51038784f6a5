"""The public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import imgtofmri


def test_every_public_name_is_there() -> None:
    """What `__all__` promises can be imported, and `dir` shows it."""
    for name in imgtofmri.__all__:
        assert getattr(imgtofmri, name) is not None
    assert sorted(imgtofmri.__all__) == dir(imgtofmri)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'predict_everything'"):
        _ = imgtofmri.predict_everything


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    """Help must answer at once."""
    heavy = "onnxruntime nilearn nibabel matplotlib pandas av sklearn scipy PIL"
    code = (
        "import sys, imgtofmri.cli.app; "
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
