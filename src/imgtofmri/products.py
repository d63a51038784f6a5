"""Matrix products of which a row depends on its own row alone, to the last bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imgtofmri.processors import one_blas_thread

Float32Array = npt.NDArray[np.float32]

BLOCK = 16
"""Rows of each product."""


def row_products(rows: Float32Array, weights: Float32Array) -> Float32Array:
    """Return ``rows @ weights``, each row the same bits whichever others there are.

    Parameters
    ----------
    rows : array of shape (n_rows, n_inputs), float32
    weights : array of shape (n_inputs, n_outputs), float32

    Returns
    -------
    array of shape (n_rows, n_outputs), float32
        In Fortran order.

    Notes
    -----
    The order in which a BLAS sums depends on how many rows it is given and, in some kernels, on
    which of them a row is: OpenBLAS's for Haswell and Zen take up to 12 columns at a time, and
    what is left of 32 otherwise. So each product here has as many rows as the next, the last one
    filled up with zeros, and they lie along the side that all kernels treat evenly: of 16 rows,
    the weights' transpose times theirs came out the same at every place with each kernel that was
    tried (Haswell, Zen, SkylakeX, Sandybridge, Prescott). A single output would be another routine,
    with other rules. And it is one thread that sums, as threads share out rows and columns.
    """
    n_outputs = weights.shape[1]
    if n_outputs == 1:
        weights = np.pad(weights, ((0, 0), (0, 1)))
    products = np.empty((n_outputs, len(rows)), np.float32)
    with one_blas_thread():
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            block = np.zeros((BLOCK, rows.shape[1]), np.float32)
            block[: len(part)] = part
            columns = (weights.T @ block.T)[:n_outputs, : len(part)]
            products[:, start : start + BLOCK] = columns
    return products.T
