"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(20231)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of shared test data, or skip with the reason."""
    folder = os.environ.get("IMGTOFMRI_TEST_DATA")
    if not folder:
        pytest.skip("IMGTOFMRI_TEST_DATA is not set: it names the folder of shared test data")
    return Path(folder)
