"""A request's body into files of a folder: counted as it comes, with names that are only names."""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from imgtofmri.serve.limits import Limits
from imgtofmri.serve.refusal import Refusal
from imgtofmri.stimuli.items import one_line

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

FILES = "files"
"""The field that files come in."""

_MOST_FIELDS = 64
_MOST_FIELD_BYTES = 4096
_MOST_NAME_BYTES = 120


@dataclass(slots=True)
class Upload:
    """What a request brought.

    Attributes
    ----------
    files : list of Path
        In order, each under the name that it was sent with, or nearly so.
    fields : dict of str to list of str
        Other fields, in order.
    n_bytes : int
        Of the whole body.
    """

    files: list[Path] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)
    n_bytes: int = 0


class ClientLeftError(Exception):
    """Whoever sent a request left before it was whole."""


async def receive_upload(
    content_type: str, receive: Receive, folder: Path, limits: Limits
) -> Upload:
    """Write the files of a ``multipart/form-data`` body to a folder while it arrives.

    Parameters
    ----------
    content_type : str
        The header.
    receive : callable
        ASGI's.
    folder : Path
        That exists, and is empty.
    limits : Limits

    Raises
    ------
    Refusal
        415 if it is of another type, 400 if it is damaged, 413 if it is too large, 408 if it does
        not come, 422 if a name or number of files cannot be used.
    ClientLeftError
        If the client left.
    """
    from python_multipart import multipart
    from python_multipart.exceptions import FormParserError

    kind, options = multipart.parse_options_header(content_type)
    if kind != b"multipart/form-data":
        got = one_line(kind.decode("latin-1")[:80]) or "none"
        message = f"expected a body of type multipart/form-data; got {got}. Send files as a form."
        raise Refusal(415, message)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        message = "expected a boundary in Content-Type; got none. Let your client set the header."
        raise Refusal(400, message)
    parts = _Parts(folder, limits)
    try:
        parser = multipart.MultipartParser(boundary, parts.callbacks())
        until = time.monotonic() + limits.receive_s
        more = True
        while more:
            chunk, more = await _chunk(receive, limits, until)
            parts.upload.n_bytes += len(chunk)
            if parts.upload.n_bytes > limits.max_bytes:
                raise too_large(limits)
            parser.write(chunk)
    except FormParserError as error:
        message = f"expected a whole form; got one that is damaged ({error}). Send it again."
        raise Refusal(400, one_line(message)) from error
    finally:
        parts.close()
    if not parts.ended:
        message = "expected a whole form; it ends before its last boundary. Send it again."
        raise Refusal(400, message)
    if not parts.upload.files:
        message = f"expected one or more files in the field {FILES}; got none. Choose some."
        raise Refusal(422, message)
    return parts.upload


def too_large(limits: Limits) -> Refusal:
    """Return why a body is refused for its size."""
    return Refusal(
        413,
        f"expected at most {limits.max_mb:g} MB in one request; got more. Send fewer or smaller "
        "files, or start the server with a larger --max-mb.",
    )


async def _chunk(receive: Receive, limits: Limits, until: float) -> tuple[bytes, bool]:
    """Return the body's next bytes, and whether more follow."""
    wait_s = min(limits.idle_s, until - time.monotonic())
    try:
        message = await asyncio.wait_for(receive(), max(wait_s, 0.001))
    except TimeoutError:
        reason = f"expected the rest of the body; none came for {wait_s:.0f} s. Send it again."
        raise Refusal(408, reason, {"Connection": "close"}) from None
    if message["type"] != "http.request":
        raise ClientLeftError
    return message.get("body", b""), bool(message.get("more_body", False))


class _Parts:
    """The parts of a form as a parser tells of them: files on disk, fields in memory."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.upload = Upload()
        self.ended = False
        self._folder, self._limits = folder, limits
        self._names: set[str] = set()
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._file: IO[bytes] | None = None
        self._text = bytearray()
        self._field = ""
        self._n_fields = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin,
            "on_part_data": self._take,
            "on_part_end": self.close,
            "on_end": self._end,
        }

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def _begin(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._text.clear()
        sent = options.get(b"filename")
        if sent is None:
            self._n_fields += 1
            if self._n_fields > _MOST_FIELDS:
                message = f"expected at most {_MOST_FIELDS} fields; got more. Send fewer."
                raise Refusal(422, message)
            return
        if self._field != FILES:
            message = f"expected files in the field {FILES}; got one in another. Rename the field."
            raise Refusal(422, message)
        if len(self.upload.files) >= self._limits.max_files:
            message = (
                f"expected at most {self._limits.max_files} files in one job; got more. Send them "
                "in several jobs, or use `imgtofmri predict`."
            )
            raise Refusal(422, message)
        name = unused_name(plain_name(sent.decode("utf-8", "replace")), self._names)
        self._names.add(_folded(name))
        path = self._folder / name
        self._file = path.open("xb")
        self.upload.files.append(path)

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MOST_FIELD_BYTES:
            message = (
                f"expected at most {_MOST_FIELD_BYTES} bytes in a field; got more. Shorten it."
            )
            raise Refusal(422, message)

    def close(self) -> None:
        """End a part."""
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._field:
            text = self._text.decode("utf-8", "replace")
            self.upload.fields.setdefault(self._field, []).append(text)
        self._field = ""

    def _end(self) -> None:
        self.ended = True


def plain_name(sent: str) -> str:
    r"""Return a name under which a file can be kept, or refuse one that says where to put it.

    Raises
    ------
    Refusal
        422, if it is empty, or holds a folder.

    Examples
    --------
    >>> plain_name("my horse.jpg"), plain_name("two\nlines.png")
    ('my horse.jpg', 'two_lines.png')
    """
    if re.search(r"[/\\]", sent) or sent in {".", ".."}:
        shown = one_line(sent)[:80]
        message = f"expected names of files without folders; got {shown!r}. Send the bare name."
        raise Refusal(422, message)
    name = one_line(sent).strip().lstrip(".")
    if not name:
        message = "expected a name for each file; one has none. Send it with its name."
        raise Refusal(422, message)
    stem, dot, suffix = name.rpartition(".")
    if len(name.encode()) > _MOST_NAME_BYTES and dot and len(suffix.encode()) <= 8:
        kept = stem.encode()[: _MOST_NAME_BYTES - len(suffix.encode()) - 1]
        return f"{kept.decode(errors='ignore')}.{suffix}"
    return name.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")


def unused_name(name: str, used: set[str]) -> str:
    """Return a name, with a number before its suffix where another file has it.

    Names that differ only in case or in Unicode's form count as one, as on some file systems.

    Examples
    --------
    >>> unused_name("image.png", {"image.png", "image-2.png"})
    'image-3.png'
    """
    stem, dot, suffix = name.rpartition(".")
    stem, ending = (stem, f".{suffix}") if dot else (name, "")
    number, found = 1, name
    while _folded(found) in used:
        number += 1
        found = f"{stem}-{number}{ending}"
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
