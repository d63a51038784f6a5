"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from imgtofmri import assets, reference
from imgtofmri.bundle import Bundle


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


@pytest.fixture(scope="session")
def published_wheel() -> Path:
    """Return the published model's wheel, fetched through pip into the user's cache."""
    if assets.is_offline() and not list((assets.cache_dir() / "wheels").glob("img2fmri-*.whl")):
        pytest.skip("IMGTOFMRI_OFFLINE is set and the published wheel is not in the cache")
    return reference.reference_wheel(progress=False)


@pytest.fixture(scope="session")
def published_bundle(published_wheel: Path) -> Bundle:
    """Return the published encoder, compiled afresh."""
    return reference.compile_bundle(published_wheel)
