"""Where the arithmetic of a fit runs: NumPy, or PyTorch on one of its devices.

NumPy 2 and PyTorch name most operations that the solver needs alike (``linalg.eigh``, ``matmul``,
``outer``, ``where``, ``asarray(dtype=)``), so an engine is the namespace to call and the device to
make arrays on. Its methods are what differs: the way of arrays there and back, and products that
each library sums fastest in its own way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import MissingDependencyError, OptionError, choice_message

ENGINES = ("numpy", "torch")
"""What arrays can be worked out with."""

Array = Any
"""An array of an engine: NumPy's or PyTorch's."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An array library and a device.

    Attributes
    ----------
    name : {"numpy", "torch"}
        The library.
    device : str
        ``"cpu"``, or a device of PyTorch's such as ``"cuda:0"``.
    xp : module
        The library's namespace.
    """

    name: str
    device: str
    xp: Any

    def put(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> Array:
        """Return host values as an array of this engine; without a copy where none is needed."""
        if self.name == "numpy":
            return np.asarray(values, dtype=dtype)
        # PyTorch takes no strides below 0, and warns of arrays that are read-only.
        return self.xp.asarray(np.require(values, dtype, ["C", "W"]), device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """Return zeros in the engine's own ``dtype``, float64 by default."""
        return self.xp.zeros(shape, dtype=dtype or self.xp.float64, device=self.device)

    def dot(self, left: Array, right: Array, axis: int) -> Array:
        """Multiply two matrices entry by entry and sum over an axis."""
        if self.name == "numpy":
            return np.einsum("ij,ij->j" if axis == 0 else "ij,ij->i", left, right)
        # PyTorch's einsum makes a batched product of this, which took 30 times as long.
        return (left * right).sum(axis=axis)

    def versions(self) -> dict[str, str]:
        """Return the library's version under its name."""
        return {self.name: str(self.xp.__version__)}

    @staticmethod
    def host(array: Array) -> npt.NDArray[Any]:
        """Return an array of any engine as NumPy's."""
        return array if isinstance(array, np.ndarray) else np.asarray(array.cpu())


NUMPY = Engine("numpy", "cpu", np)


def engine_problem(engine: str, device: str | None) -> str:
    """Return what is wrong with a choice, as far as can be told without PyTorch; else nothing.

    Examples
    --------
    >>> engine_problem("torch", "cuda:0")
    ''
    >>> engine_problem("numpy", "cuda")
    "device must be left out with the engine numpy; got 'cuda'. Use the engine torch, or drop it."
    """
    if engine not in ENGINES:
        return choice_message("", "engine", engine, ENGINES).removeprefix(": ")
    if device is None:
        return ""
    if engine == "numpy":
        return (
            f"device must be left out with the engine numpy; got {device!r}. Use the engine torch, "
            "or drop it."
        )
    if not re.fullmatch(r"[a-z]+(:\d+)?", device):
        return f'device must be "cpu", "cuda" or "cuda:NUMBER"; got {device!r}. Correct it.'
    if device.startswith("mps"):
        return (
            f"device must have double precision, in which the features are decomposed; got "
            f"{device!r}, which has none. Use the engine numpy."
        )
    return ""


def open_engine(engine: str = "numpy", device: str | None = None) -> Engine:
    """Return an engine after trying that it works.

    Parameters
    ----------
    engine : {"numpy", "torch"}
        The library.
    device : str, optional
        For ``"torch"``: ``"cpu"``, ``"cuda"``, ``"cuda:1"``. Default: the first CUDA device, or the
        CPU where there is none.

    Returns
    -------
    Engine
        With the device written out.

    Raises
    ------
    OptionError
        If there is no such engine, or no such device, or it lacks double precision.
    MissingDependencyError
        If PyTorch is asked for and not installed.
    """
    problem = engine_problem(engine, device)
    if problem:
        message = f"{problem}"
        raise OptionError(message)
    if engine == "numpy":
        return NUMPY
    try:
        import torch
    except ImportError as error:
        message = (
            "the engine torch needs PyTorch; it is not installed. Install it with "
            "`pip install 'imgtofmri[torch]'`, or use the engine numpy."
        )
        raise MissingDependencyError(message) from error
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.ones(1, dtype=torch.float64, device=chosen).device
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        message = (
            f"device must be one that PyTorch can use here, with double precision; "
            f'got {chosen!r} ({reason}). Use "cpu", or install PyTorch for that device.'
        )
        raise OptionError(message) from error
    return Engine("torch", str(found), torch)
