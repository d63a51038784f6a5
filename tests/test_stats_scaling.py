"""Centring, lengths and what cannot be correlated."""

from __future__ import annotations

import numpy as np

from imgtofmri.stats.scaling import correlatable, unit_length


def test_unit_length_of_nothing_is_nothing() -> None:
    """A vector of zeros has no direction, and is neither NaN nor a warning."""
    np.testing.assert_array_equal(
        unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]]
    )
    np.testing.assert_array_equal(
        unit_length(np.array([[3.0, 0.0], [4.0, 0.0]]), axis=0), [[0.6, 0.0], [0.8, 0.0]]
    )


def test_correlatable_products_are_correlations(rng: np.random.Generator) -> None:
    """The product of two is Pearson's r; a vector whose values are one value has none."""
    values = rng.normal(5, 1, (3, 40))
    values[2] = 0.1
    vectors = correlatable(values)
    assert np.isnan(vectors[2]).all()
    np.testing.assert_allclose(vectors[0] @ vectors[1], np.corrcoef(values[:2])[0, 1], atol=1e-12)
