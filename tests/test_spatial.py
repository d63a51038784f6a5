"""The matrix from native responses to the template, and how it is applied."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from imgtofmri.encoder.spatial import one_blas_thread


def blas_threads() -> list[int]:
    """Return how many threads each BLAS library in the process takes."""
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]


def test_one_blas_thread_limits_and_restores() -> None:
    """Inside, products take one thread; outside, as many as before."""
    np.ones((4, 4)) @ np.ones((4, 4))
    before = blas_threads()
    assert before
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
