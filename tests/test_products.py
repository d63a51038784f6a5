"""Products of which each row depends on its own alone, whichever kernel the processor has."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from imgtofmri.products import BLOCK, row_products

# OpenBLAS's kernels, by the name that chooses one, with what a processor needs to run it. They
# differ in how many columns they take at a time, and so in the order in which a sum is made.
KERNELS = {
    "Haswell": "AVX2",
    "Zen": "AVX2",
    "SkylakeX": "AVX512_SKX",
    "Sandybridge": "AVX",
    "Prescott": "SSE3",
    None: None,  # The processor's own.
}
FILES = ("products", "encoder", "outputs_movies", "simulation", "distillation", "selection")

SHAPES = [
    (512, 333),
    (512, 17),
    (512, 5),
    (512, 2),
    (512, 1),
    (5003, 18),
    (5003, 1),
    (6, 64),
    (1, 3),
]


@pytest.mark.parametrize(("n_inputs", "n_outputs"), SHAPES)
def test_row_products_do_not_depend_on_the_company(
    n_inputs: int, n_outputs: int, rng: np.random.Generator
) -> None:
    """A row gives the same bits alone and at each place among any number of others."""
    rows = rng.normal(size=(2 * BLOCK + 5, n_inputs)).astype(np.float32)
    weights = rng.normal(size=(n_inputs, n_outputs)).astype(np.float32)
    for layout in (weights, np.asfortranarray(weights)):
        together = row_products(rows, layout)
        for start in range(1, len(rows)):
            np.testing.assert_array_equal(row_products(rows[start:], layout), together[start:])
        alone = row_products(rows[3:4], layout)
        np.testing.assert_array_equal(alone, together[3:4])
        np.testing.assert_array_equal(row_products(rows[::-2], layout), together[::-2])


@pytest.mark.parametrize(("n_inputs", "n_outputs"), SHAPES)
@pytest.mark.parametrize("n_rows", [0, 1, BLOCK, BLOCK + 1])
def test_row_products_are_the_product(
    n_inputs: int, n_outputs: int, n_rows: int, rng: np.random.Generator
) -> None:
    """They are what double precision gives, to the precision of single."""
    rows, weights = rng.normal(size=(n_rows, n_inputs)), rng.normal(size=(n_inputs, n_outputs))
    got = row_products(rows.astype(np.float32), weights.astype(np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, rows @ weights, rtol=1e-4, atol=1e-4 * np.sqrt(n_inputs))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_no_number_depends_on_others_under_any_kernel(kernel: str | None) -> None:
    """All tests of a stimulus' company pass with each of OpenBLAS's kernels."""
    if not any(info["internal_api"] == "openblas" for info in threadpool_info()):
        pytest.skip("NumPy's matrix products are not OpenBLAS's here")
    needed = KERNELS[kernel]
    if needed is not None:
        if platform.machine().lower() not in ("x86_64", "amd64"):
            pytest.skip(f"{kernel} is a kernel for x86-64; this is {platform.machine()}")
        if not np._core._multiarray_umath.__cpu_features__[needed]:
            pytest.skip(f"this processor has no {needed}, which {kernel}'s kernels need")
    environment = {name: value for name, value in os.environ.items() if "OPENBLAS" not in name}
    if kernel is not None:
        environment["OPENBLAS_CORETYPE"] = kernel
        # NumPy 2.5's OpenBLAS does so with Prescott's, which NumPy itself no longer supports.
        plain = "import numpy as np; np.ones((37, 512), 'f4') @ np.ones((512, 333), 'f4')"
        if subprocess.run([sys.executable, "-c", plain], env=environment).returncode < 0:
            pytest.skip(f"NumPy's own products crash with {kernel}'s kernels here")
    here = Path(__file__).parent
    files = [str(here / f"test_{name}.py") for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "company"]
    done = subprocess.run(
        [*command, *files], env=environment, cwd=here.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
