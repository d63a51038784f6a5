"""Threads that share a network's work."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest

from imgtofmri.backbones.crew import Crew


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("n_items", [0, 1, 2, 5, 8, 33])
@pytest.mark.parametrize("part_size", [1, 4])
def test_crew_share_does_each_item_once_in_parts_of_one_size(
    n_threads: int, n_items: int, part_size: int
) -> None:
    """Whatever the numbers, the parts cover all items once, and none but the last is smaller."""
    done: list[slice] = []
    Crew(n_threads).share(done.append, n_items, part_size)
    assert sorted(i for part in done for i in range(n_items)[part]) == list(range(n_items))
    assert all(part.stop - part.start <= part_size for part in done)
    assert len(done) == -(-n_items // part_size)


def test_crew_share_does_a_single_part_in_the_callers_thread() -> None:
    """Calls of few images, made at the same time, do not wait for each other's threads."""
    threads: list[threading.Thread] = []
    Crew(2).share(lambda part: threads.append(threading.current_thread()), 4, 4)
    assert threads == [threading.current_thread()]


def test_crew_share_works_at_the_same_time() -> None:
    """As many parts are at work together as there are threads."""
    together = threading.Barrier(3, timeout=30)
    Crew(3).share(lambda part: together.wait() and None, 12, 4)
    assert not together.broken


def test_crew_share_raises_what_a_part_raises() -> None:
    """An error of one part comes out of the whole."""

    def work(part: slice) -> None:
        if part.start == 4:
            message = "part 4"
            raise ValueError(message)

    with pytest.raises(ValueError, match="part 4"):
        Crew(2).share(work, 8, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_crew_share_works_in_a_forked_process() -> None:
    """A process that was forked after the threads had worked has threads of its own."""
    crew = Crew(2)
    crew.share(lambda part: None, 4, 1)
    with multiprocessing.get_context("fork").Pool(1, _CREW.append, [crew]) as pool:
        assert pool.map_async(_share_in_child, [4]).get(timeout=30) == [4]


_CREW: list[Crew] = []


def _share_in_child(n_items: int) -> int:
    done: list[slice] = []
    _CREW[0].share(done.append, n_items, 1)
    return len(done)
