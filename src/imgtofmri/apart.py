"""Files that only C libraries can read, read in a process of their own, within limits.

A damaged or hostile .mat or .h5 file can end the process that reads it, never come to an end, or
ask for any amount of memory. None of this can be caught inside a process; so another one reads,
and hands arrays back through files that hold numbers and nothing to execute.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri import exceptions
from imgtofmri.exceptions import DataError, ImgToFmriError
from imgtofmri.limits import limit, variable

Arrays = Mapping[str, npt.NDArray[Any]]

MEMORY_TIMES, BYTES_PER_S = 8, 5 << 20
"""How much more a large file may take: so many times its size, and a second for so many bytes."""

_ERRORS = {
    name: error
    for name, error in vars(exceptions).items()
    if isinstance(error, type) and issubclass(error, ImgToFmriError)
}

_RUN = (
    "import json, sys; call = json.load(sys.stdin); sys.path[:] = call['path']; "
    "from imgtofmri.apart import answer; answer(call)"
)


def read_apart(
    reader: Callable[..., Arrays], path: Path, *more: Any, kind: str, where: str = ""
) -> dict[str, npt.NDArray[Any]]:
    """Read a file in a process of its own.

    Parameters
    ----------
    reader : callable
        A function of a module, which takes the path and what follows it, and returns arrays of
        numbers or text by name. It may raise errors of `imgtofmri.exceptions`.
    path : Path
        The file, or a folder.
    *more : JSON values
        What else the reader takes.
    kind : str
        What the file should be, for messages: ``"a MATLAB file"``.
    where : str
        What a message begins with, before the path.

    Returns
    -------
    dict of str to array

    Raises
    ------
    DataError
        If the reader fails, crashes, or needs more time or memory than `limits_for` gives.
    ImgToFmriError
        What the reader raises.
    """
    memory, seconds = limits_for(path)
    place = f"{where}: {path}" if where else str(path)
    call = {
        "module": reader.__module__,
        "function": reader.__name__,
        "arguments": [os.fspath(path), *more],
        "memory": memory,
        "path": sys.path,
    }
    with tempfile.TemporaryDirectory(prefix="imgtofmri-") as scratch:
        call["out"] = scratch
        try:
            result = subprocess.run(
                [sys.executable, "-P", "-c", _RUN],
                input=json.dumps(call).encode("utf-8", "surrogateescape"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=seconds,
                # A pool of threads for each of many processors would need memory that is not used.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired as error:
            message = (
                f"{place}: expected {kind} that can be read in {seconds:.1f} s; it took longer. "
                f"Save it again in a simpler form, or set {variable('read_s')} to more seconds."
            )
            raise DataError(message) from error
        answered = Path(scratch) / "answer.json"
        if result.returncode or not answered.exists():
            raise DataError(_why_it_died(place, kind, result.returncode, memory))
        said = json.loads(answered.read_text(encoding="utf-8"))
        if "error" in said:
            raise _ERRORS.get(said["error"], DataError)(said["message"])
        if "failure" in said:
            message = (
                f"{place}: expected {kind}; it cannot be read ({said['failure']}). Get the file "
                "again, or save it anew with the program that made it."
            )
            raise DataError(message)
        return {
            name: np.load(Path(scratch) / f"{number}.npy", allow_pickle=False)
            for number, name in enumerate(said["names"])
        }


def limits_for(path: Path) -> tuple[int, float]:
    """Return how many bytes of memory and how many seconds the reading of a file may take.

    They grow with the file, from what `imgtofmri.limits` says.

    Raises
    ------
    OptionError
        If one of the variables is not a positive number.
    """
    files = [path] if path.is_file() else (one for one in path.rglob("*") if one.is_file())
    size = sum(one.stat().st_size for one in files)
    memory = int(limit("read_gb") * (1 << 30)) + MEMORY_TIMES * size
    return memory, limit("read_s") + size / BYTES_PER_S


def answer(call: Mapping[str, Any]) -> None:
    """Read as `read_apart` asks, in the other process."""
    _limit(int(call["memory"]))
    scratch = Path(call["out"])
    said: dict[str, Any]
    try:
        reader = getattr(import_module(call["module"]), call["function"])
        path, *more = call["arguments"]
        arrays = reader(Path(path), *more)
        for number, array in enumerate(arrays.values()):
            np.save(scratch / f"{number}.npy", array, allow_pickle=False)
        said = {"names": list(arrays)}
    except ImgToFmriError as error:
        said = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        # Whatever the limit kept from this process: the other one knows the limit.
        os._exit(_NO_MEMORY)
    except BaseException as error:
        text = " ".join(str(error).split())[:200]
        said = {"failure": f"{type(error).__name__}: {text}"}
    (scratch / "answer.json").write_text(json.dumps(said), encoding="utf-8")


_NO_MEMORY = 77


def _limit(memory: int) -> None:
    """Bound this process' memory, where the system can, and leave no core file of it."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _why_it_died(place: str, kind: str, code: int, memory: int) -> str:
    if code == _NO_MEMORY:
        return (
            f"{place}: expected {kind} that can be read in {memory / (1 << 30):.1f} GB of memory; "
            f"it needs more. Save what is needed of it, or set {variable('read_gb')} to more."
        )
    how = f"code {code}"
    if code < 0:
        with suppress(ValueError):
            how = signal.Signals(-code).name
    return (
        f"{place}: expected {kind}; the library that reads it crashed ({how}). The file is "
        "damaged: get it again, or save it anew with the program that made it."
    )
