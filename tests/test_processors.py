"""How many threads a matrix product takes."""

from __future__ import annotations

import threading

import numpy as np
from threadpoolctl import threadpool_info

from imgtofmri.processors import one_blas_thread


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


def test_one_blas_thread_overlapping_contexts_limit_until_the_last_ends() -> None:
    """A context that another thread leaves first does not lift the limit, nor make it last."""
    before = blas_threads()
    begun, left = threading.Event(), threading.Event()

    def first() -> None:
        with one_blas_thread():
            begun.set()
            assert left.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with one_blas_thread():
        left.set()
        thread.join()
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
