"""`Journal`: what a run has done so far, a line of JSON each, appended while it goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgtofmri.documents import read_text
from imgtofmri.exceptions import OutputError
from imgtofmri.files import cannot_write

# File names may hold bytes that are not text: JSON's own escapes bring them back.
NOT_TEXT = "backslashreplace"

_encode = json.JSONEncoder(ensure_ascii=False).encode
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


def json_line(entry: Mapping[str, Any]) -> str:
    """Return an entry as one line of JSON."""
    return _encode(dict(entry))


class Journal:
    """A file that grows by a line for each input that is done, or failed.

    Whatever ends the process, a line that was appended is the operating system's. After a power cut
    lines may be missing, whose inputs are then done again.

    Parameters
    ----------
    path : Path
        The file; it is made with its first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def append(self, line: str) -> None:
        """Add a line.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        try:
            if self._handle is None:
                self._handle = os.open(self.path, _FLAGS, 0o666)
            data = line.encode("utf-8", NOT_TEXT) + b"\n"
            while data:
                data = data[os.write(self._handle, data) :]
        except OutputError:
            raise
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def lines(self) -> list[str]:
        """Return what it holds, without a last line that was not written whole.

        Raises
        ------
        OSError, ValueError
            If it cannot be read.
        """
        return read_text(self.path).split("\n")[:-1] if self.path.exists() else []

    def remove(self) -> None:
        """Remove the file, if it is there.

        Raises
        ------
        OSError
        """
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Append no more for now."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()
