"""Kendall's tau-a between many vectors at once, in O(n log n).

An RDM of 156 conditions has 12,090 entries and so 73 million pairs of entries to order. Counting
inversions while merging sorted blocks needs a few hundred thousand steps instead, and the merging
is done for many vectors in the same call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, ShapeError

#: Blocks of at most this many entries are compared pair by pair before the merging starts.
MAX_BLOCK = 32

#: Longest stretch of places summed in float32: 4096 * 4095 / 2 is below 2**24.
MAX_STRETCH = 4096

#: Entries handled at once; bounds memory, never changes a result.
CHUNK_ENTRIES = 1 << 20


def kendall_tau_a(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Correlate each row of one array with each row of another by Kendall's tau-a.

    Tau-a is the number of concordant minus discordant pairs over the number of all pairs. Ties
    count as neither, so that, unlike tau-b, it does not favour models that predict ties.

    Parameters
    ----------
    first : array of shape (n_first, n) or (n,)
    second : array of shape (n_second, n) or (n,)

    Returns
    -------
    tau : array of shape (n_first, n_second), float64

    Raises
    ------
    ShapeError
        If the rows differ in length or hold fewer than 2 entries.
    DataError
        If an entry is NaN.

    References
    ----------
    Knight WR (1966), doi:10.1080/01621459.1966.10480879.
    Nili H et al. (2014), doi:10.1371/journal.pcbi.1003553 (why tau-a for RDMs).

    Examples
    --------
    >>> kendall_tau_a([1.0, 2.0, 3.0], [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0]]).round(3)
    array([[ 1.   , -1.   ,  0.667]])
    """
    x, y = (np.atleast_2d(np.asarray(item, dtype=np.float64)) for item in (first, second))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or x.shape[1] < 2:
        message = (
            "kendall_tau_a: first and second must have rows of one length, at least 2; got shapes "
            f"{x.shape} and {y.shape}. Compare the same pairs of conditions."
        )
        raise ShapeError(message)
    for name, values in (("first", x), ("second", y)):
        bad = np.flatnonzero(np.isnan(values).any(axis=1))
        if bad.size:
            message = (
                f"kendall_tau_a: entries must not be NaN; row {bad[0]} of {name} has NaN. "
                "Leave those entries out."
            )
            raise DataError(message)
    ranks = dense_ranks(x)
    tau = np.empty((x.shape[0], y.shape[0]))
    for column, row in enumerate(y):
        tau[:, column] = TauReference(row).tau(ranks)
    return tau


def dense_ranks(values: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Replace each row's entries by their rank among the row's distinct values, from 0."""
    ranks = np.empty(values.shape, dtype=np.uint32)
    for row, entries in enumerate(values):
        ranks[row] = np.unique(entries, return_inverse=True)[1].reshape(-1)
    return ranks


class TauReference:
    """One vector, ordered once, that many others are correlated with.

    Parameters
    ----------
    values : array of shape (n,)
        The vector, without NaN.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.order = np.argsort(values, kind="stable")
        self._ranks = dense_ranks(values[None])[0][self.order]
        self._n = values.size
        self._n_tied = int(_tied_pairs(np.bincount(self._ranks)[None])[0])

    def tau(self, ranks: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Correlate with rows of dense ranks, shape (n_rows, n), in the vector's own order."""
        return self.tau_ordered(ranks[:, self.order])

    def tau_ordered(self, ranks: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Correlate with rows of dense ranks that are already taken in the order ``self.order``."""
        n_rows = ranks.shape[0]
        tau = np.empty(n_rows)
        step = max(1, CHUNK_ENTRIES // self._n)
        n_pairs = self._n * (self._n - 1) // 2
        for start in range(0, n_rows, step):
            part = ranks[start : start + step]
            tied = _tied_pairs_of_ranks(part)
            both = np.zeros(len(part), dtype=np.int64)
            if self._n_tied:
                part, both = self._sort_within_ties(part)
            discordant = count_inversions(part)
            agreement = n_pairs - self._n_tied - tied + both - 2 * discordant
            tau[start : start + step] = agreement / n_pairs
        return tau

    def _sort_within_ties(
        self, ranks: NDArray[np.uint32]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Sort rows inside the vector's ties, where order means nothing; count pairs tied in both.

        Ascending entries have no inversions, so a pair tied in the vector is never discordant.
        """
        base = np.uint64(int(ranks.max()) + 1)
        keys = self._ranks.astype(np.uint64) * base + ranks
        keys.sort(axis=1)
        both = _tied_pairs(_run_lengths(keys))
        return (keys % base).astype(np.uint32), both


def count_inversions(ranks: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Count in each row the pairs of entries whose later one is smaller.

    Parameters
    ----------
    ranks : array of shape (n_rows, n)
        Non-negative integers below ``n``.

    Returns
    -------
    inversions : array of shape (n_rows,), int64

    Examples
    --------
    >>> count_inversions(np.array([[0, 1, 2], [2, 1, 0], [1, 1, 0]], dtype=np.uint32)).tolist()
    [0, 3, 2]
    """
    n_rows, n = ranks.shape
    n_merges = max(0, int(np.ceil(np.log2(max(n, 1) / MAX_BLOCK))))
    block = -(-n // (1 << n_merges))
    length = block << n_merges
    # The tag that tells the halves apart takes one bit; 16-bit words sort fastest.
    dtype = np.uint16 if length < (1 << 15) else np.uint32
    padded: NDArray[np.unsignedinteger[Any]] = np.full((n_rows, length), n, dtype=dtype)
    padded[:, :n] = ranks
    tag_width = dtype(1)
    inversions = _inversions_in_blocks(padded.reshape(n_rows, -1, block))
    merged = np.sort(padded.reshape(n_rows, -1, block), axis=-1)
    half = block
    for _ in range(n_merges):
        tagged = merged.reshape(n_rows, -1, 2, half) << tag_width
        tagged[:, :, 1] |= 1
        tagged = tagged.reshape(n_rows, -1, 2 * half)
        # Equal entries keep the left half first, so only strictly greater ones count.
        tagged.sort(axis=-1)
        n_blocks = tagged.shape[1]
        not_greater = _sum_of_places(tagged) - n_blocks * (half * (half - 1) // 2)
        inversions += n_blocks * half * half - not_greater
        merged = tagged >> tag_width
        half *= 2
    return inversions


def _sum_of_places(tagged: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int64]:
    """Sum over each row's blocks the places, from 0, of the entries with a tag in their last bit.

    A product in float32 is several times faster than integer sums; stretches of at most
    `MAX_STRETCH` places keep every sum below 2**24, where float32 is exact.
    """
    n_rows, n_blocks, width = tagged.shape
    stretch = width
    while stretch > MAX_STRETCH:
        stretch //= 2
    tags = (tagged & 1).astype(np.float32).reshape(n_rows, n_blocks, -1, stretch)
    weights = np.stack([np.ones(stretch), np.arange(stretch)], axis=1).astype(np.float32)
    counts, places = np.moveaxis((tags @ weights).astype(np.int64), -1, 0)
    starts = np.arange(width // stretch) * stretch
    return np.asarray((counts * starts + places).sum(axis=(1, 2)))


def _inversions_in_blocks(blocks: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int64]:
    """Count inversions inside each block, pair by pair; shape (n_rows, n_blocks, block)."""
    n_rows, n_blocks, block = blocks.shape
    # One entry of every block side by side, so that each comparison is one long vector operation.
    lanes = np.ascontiguousarray(np.moveaxis(blocks, 2, 0)).reshape(block, -1)
    counts = np.zeros(n_rows * n_blocks, dtype=np.uint16)
    for gap in range(1, block):
        counts += (lanes[:-gap] > lanes[gap:]).sum(axis=0, dtype=np.uint16)
    return np.asarray(counts.reshape(n_rows, n_blocks).sum(axis=1, dtype=np.int64))


def _tied_pairs_of_ranks(ranks: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Count the tied pairs of each row of dense ranks."""
    n_rows, n = ranks.shape
    highest = ranks.max(axis=1)
    if n_rows and int(highest.min()) == n - 1:
        return np.zeros(n_rows, dtype=np.int64)
    offsets = np.arange(n_rows, dtype=np.int64)[:, None] * n
    counts = np.bincount((ranks + offsets).ravel(), minlength=n_rows * n)
    return _tied_pairs(counts.reshape(n_rows, n))


def _run_lengths(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Give the lengths of runs of equal entries in sorted rows, padded with 0 to the row length."""
    changes = np.ones(keys.shape, dtype=bool)
    changes[:, 1:] = keys[:, 1:] != keys[:, :-1]
    run = np.cumsum(changes.ravel()) - 1
    rows, _ = np.nonzero(changes)
    lengths = np.bincount(run)
    table = np.zeros(keys.shape, dtype=np.int64)
    position = np.arange(lengths.size) - np.searchsorted(rows, rows)
    table[rows, position] = lengths
    return table


def _tied_pairs(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum ``count * (count - 1) / 2`` over the last axis."""
    counts = counts.astype(np.int64, copy=False)
    return np.asarray((counts * (counts - 1) // 2).sum(axis=-1))
