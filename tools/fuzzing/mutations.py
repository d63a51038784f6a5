"""Small changes to good files: of bytes, of text, and of the structure that a format has."""

from __future__ import annotations

import gzip
import io
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

_NUMBERS = (
    "0 -0 1 -1 2 3 1.5 1e-320 1e308 1e999 -1e999 nan NaN inf -inf Infinity 255 256 32767 32768 "
    "65535 65536 2147483647 2147483648 4294967296 9223372036854775807 9223372036854775808 "
    "18446744073709551616 1"
    + "0" * 400
    + " 1_0 0x10 ١٢ ² ½ 1/0 1/3 0/0 00012 +5 .5 5. 1e 1,5 1e400 1e-400"
).split()
_TEXTS = (
    *("", " ", "\t", "\n", "\r", "\r\n", "\0", "\x1b[31m", "\x85", "\u2028", "\ufeff", "ü", "日本"),
    *(
        "\U0001f600",
        "..",
        "../..",
        "/etc/passwd",
        "C:\\x",
        "~",
        "~nobody-there",
        "n/a",
        "NA",
        "None",
    ),
    *(
        "null",
        "true",
        '"',
        "'",
        '"""',
        "'''",
        "`",
        "\\",
        "\\u0000",
        "{",
        "}",
        "[",
        "]",
        "[[",
        "=",
        "#",
    ),
    *(
        ":",
        ",",
        ";",
        "*",
        "?",
        "%s",
        "%n",
        "{0}",
        "{name}",
        "{index}",
        "$HOME",
        "<b>",
        "&",
        "-",
        "+",
    ),
    *("a" * 300, "9" * 400, "9" * 5000, "[" * 200, "{" * 200, '{"a":' * 150, "(" * 500, "\ud800"),
    *("cache:..", "cache:x", "untrained:", "untrained:" + "9" * 50, "flatten:99999999999", "/max"),
)
_INTS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
_LONGS = (*_INTS, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def change(data: bytes, kind: str, rng: Random, others: Sequence[bytes]) -> bytes:
    """Return good content with something wrong in it.

    Parameters
    ----------
    data : bytes
        What is good.
    kind : str
        Which structure it has: a key of ``KINDS``.
    rng : random.Random
        Where chance comes from.
    others : sequence of bytes
        Other good content, to be mixed in.
    """
    structured = KINDS[kind]
    if structured is not None and rng.random() < 0.8:
        with suppress(Exception):  # What is broken already has no structure to be changed.
            data = structured(data, rng)
        if rng.random() < 0.7:
            return data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _bytes(data, rng, others)
    return data


def _bytes(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Change some bytes, by one of nine ways."""
    size = len(data)
    if not size:
        return rng.randbytes(rng.randrange(1, 20))
    # Most of what formats say of themselves stands at their beginning.
    at = rng.randrange(size) if rng.random() < 0.6 else rng.randrange(min(size, 400))
    some = min(size - at, rng.choice((1, 2, 4, 8, 16, 64)))
    way = rng.randrange(9)
    if way == 0:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if way == 1:
        return (
            data[:at]
            + bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))])
            + data[at + 1 :]
        )
    if way == 2:
        return data[:at]
    if way == 3:
        return data[:at] + data[at + some :]
    if way == 4:
        return data[: at + some] + data[at : at + some] * rng.choice((1, 2, 10)) + data[at + some :]
    if way == 5:
        return data[:at] + rng.randbytes(some) + data[at + some :]
    if way == 6:
        form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q", "<i", ">i"))
        width = struct.calcsize(form)
        most = 1 << (8 * width - (form[1] == "i"))
        number = rng.choice(_LONGS) % most
        return data[:at] + struct.pack(form, number) + data[at + width :]
    if way == 7 and others:
        other = rng.choice(others)
        return data[:at] + other[rng.randrange(len(other) + 1) :]
    text = rng.choice((*_NUMBERS, *_TEXTS)).encode("utf-8", "surrogatepass")
    return data[:at] + text + data[at + (some if rng.random() < 0.5 else 0) :]


def _odd_text(rng: Random) -> str:
    return rng.choice(_NUMBERS) if rng.random() < 0.5 else rng.choice(_TEXTS)


def _text(data: bytes, rng: Random) -> bytes:
    """Change words and lines."""
    text = data.decode("utf-8", "surrogatepass")
    way = rng.randrange(6)
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(at, rng.choice(lines))
    elif way == 2:
        lines[at] += _odd_text(rng)
    elif way == 3:
        lines[at] = _odd_text(rng)
    else:
        words = [*re.finditer(r"[^\s,;:=()\[\]{}\"'/*@]+|[^\s\w]", lines[at])]
        if words:
            word = rng.choice(words)
            lines[at] = lines[at][: word.start()] + _odd_text(rng) + lines[at][word.end() :]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _cells(data: bytes, rng: Random) -> bytes:
    """Change cells, columns and rows of a table."""
    text = data.decode("utf-8", "surrogatepass")
    mark = "\t" if "\t" in text else ","
    rows = [line.split(mark) for line in text.split("\n")]
    row = rng.randrange(len(rows))
    column = rng.randrange(len(rows[row]))
    way = rng.randrange(8)
    if way < 3:
        rows[row][column] = _odd_text(rng)
    elif way == 3:
        rows[row].insert(column, _odd_text(rng))
    elif way == 4:
        del rows[row][column]
    elif way == 5:
        rows[0][rng.randrange(len(rows[0]))] = rng.choice(rows[0])
    elif way == 6:
        rows.insert(row, list(rng.choice(rows)))
    else:
        rows = [cells[: max(1, column)] for cells in rows]
    return "\n".join(mark.join(cells) for cells in rows).encode("utf-8", "surrogatepass")


def _odd_value(rng: Random) -> Any:
    deep: Any = []
    for _ in range(rng.choice((3, 30, 300))):
        deep = [deep]
    return rng.choice(
        [
            *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, 1e308),
            *(-1e308, float("nan"), float("inf"), [], {}, [[]], [None], [0] * 5, {"a": 1}, "1"),
            *("nan", deep, _odd_text(rng), [_odd_text(rng)], {_odd_text(rng): _odd_text(rng)}),
            *([1, "a", None], 10**400, 1e-320, rng.choice(("/max", "../x", "a/../../x"))),
        ]
    )


def _in_json(value: Any, rng: Random) -> Any:
    """Change one value somewhere inside of what JSON holds."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        way = rng.random()
        if way < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if way < 0.2:
            return {(_odd_text(rng) if name == key else name): item for name, item in value.items()}
        return {**value, key: _in_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        way = rng.random()
        if way < 0.1:
            return value[:at] + value[at + 1 :]
        if way < 0.2:
            return value[:at] + value[at : at + 1] * 2 + value[at + 1 :]
        return [*value[:at], _in_json(value[at], rng), *value[at + 1 :]]
    return _odd_value(rng)


def _json(data: bytes, rng: Random) -> bytes:
    return json.dumps(_in_json(json.loads(data), rng), ensure_ascii=rng.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def _json_lines(data: bytes, rng: Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = _json(lines[at], rng)
    return b"\n".join(lines)


def _toml(data: bytes, rng: Random) -> bytes:
    """Change values, keys and headers of a TOML text."""
    lines = data.decode().split("\n")
    settings = [number for number, line in enumerate(lines) if re.match(r"[\w.\"-]+ *=", line)]
    headers = [number for number, line in enumerate(lines) if line.startswith("[")]
    way = rng.randrange(8)
    at = rng.choice(settings)
    key, _, _ = lines[at].partition("=")
    if way < 4:
        lines[at] = f"{key}= {_toml_value(rng)}"
    elif way == 4:
        lines[at] = (
            f"{key.strip()}.{rng.choice(('a', 'name', 'a.' * 200 + 'b'))} = {_toml_value(rng)}"
        )
    elif way == 5:
        del lines[at]
    elif way == 6 and headers:
        odd = rng.choice(
            ("[a]", "[[a]]", "[subjects]", "[[subjects]]", "[subjects.rois]", "[fit.a]")
        )
        lines[rng.choice(headers)] = odd
    else:
        lines.insert(at, rng.choice(lines))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _toml_value(rng: Random) -> str:
    plain = (
        '""', '" "', "true", "false", "0", "-1", "1e400", "nan", "inf", "-inf", "9" * 40, "0x1F",
        "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]", "{}", "[[]]", "[{}]", "[1, 'a']",
        "[true]", "{ a = 1 }", '{ file = "rows.tsv" }', '{ file = "x", key = 1 }', "'''\na\n'''",
        "[" * 40 + "]" * 40, "[" * 400 + "]" * 400, "[\n" * 30 + "]\n" * 30, '"a\\u0000b"',
        "{ a.b.c = 1 }", '["LOC", "PPA"]', '"LOC"', '"cache:x"', '"cache:../x"', '"../.."', '"."',
        "[nan]", "[0.5]", "[1, 2, 3]", '"a/b"', '"\\u001b[31m"', '"mask.nii.gz"', '"pictures"',
    )  # fmt: skip
    return rng.choice(plain) if rng.random() < 0.8 else json.dumps(_odd_text(rng))


def _pickle(data: bytes, rng: Random) -> bytes:
    """Change the opcodes of a pickle."""
    starts = [at for _, _, at in pickletools.genops(data)]
    parts = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        way = rng.randrange(6)
        if way == 0:
            del parts[at]
        elif way == 1:
            parts.insert(at, parts[other])
        elif way == 2:
            parts[at], parts[other] = parts[other], parts[at]
        elif way == 3:
            parts[at] = rng.choice(_OPCODES)
        elif way == 4:
            parts.insert(at, rng.choice(_OPCODES))
        else:
            parts[at] = parts[at][:1] + rng.randbytes(max(0, len(parts[at]) - 1))
        if not parts:
            break
    return b"".join(parts)


_OPCODES = (
    *(
        bytes([opcode])
        for opcode in b"(.0N]})tl2RbsuaeQq\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94\x81\x92"
    ),
    *(b"K\x00", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 8, b"h\x00"),
    *(b"h\x05", b"j\x00\x00\x00\x00", b"r\xff\xff\xff\xff", b"q\x01", b"\x8c\x01a", b"C\x04abcd"),
    *(b"cos\nsystem\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"I1\n"),
    *(
        b"X\x02\x00\x00\x00f4",
        b"B\xff\xff\xff\x7f",
        b"\x8e" + b"\xff" * 8,
        b"G\x7f\xf0" + b"\0" * 6,
    ),
)


def _zip(data: bytes, rng: Random) -> bytes:
    """Change a member of a zip archive and sign it anew; or names, or how it is packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [
            (info.filename, archive.read(info), info.compress_type) for info in archive.infolist()
        ]
    at = rng.randrange(len(members))
    name, content, packed = members[at]
    way = rng.randrange(7)
    if way < 4:
        inner = KINDS["pickle"] if name.endswith(".pkl") and rng.random() < 0.7 else None
        content = (
            inner(content, rng) if inner else _bytes(content, rng, [item[1] for item in members])
        )
    elif way == 4:
        name = rng.choice(
            (_odd_text(rng).replace("\0", "0"), f"../{name}", f"/{name}", f"{name}/x")
        )
    elif way == 5:
        packed = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    else:
        members.append(rng.choice(members))
    members[at] = (name, content, packed)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content, packed in members:
            archive.writestr(name, content, packed)
    return raw.getvalue()


def _gzip(data: bytes, rng: Random) -> bytes:
    """Change what a gzip file holds, and sign it anew."""
    return gzip.compress(_bytes(gzip.decompress(data), rng, ()), 1)


def _safetensors(data: bytes, rng: Random) -> bytes:
    """Change the header of a safetensors file, texts in its metadata too."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if metadata and rng.random() < 0.6:
        key = rng.choice(list(metadata))
        metadata[key] = json.dumps(_in_json(json.loads(metadata[key]), rng))
    else:
        header = _in_json(header, rng)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _npy(data: bytes, rng: Random) -> bytes:
    """Change what the header of a .npy file says, at its length."""
    size = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + size].decode("latin1").rstrip()
    way = rng.randrange(3)
    if way == 0:
        shapes = (
            "(2,)",
            "()",
            "(0, 5)",
            "(-1,)",
            "(2147483648, 2147483648)",
            "(1, 2",
            "(1.5,)",
            "(True,)",
        )
        header = re.sub(
            r"\(.*\)", rng.choice((*shapes, "(99999999999,)", "(" * 90 + ")" * 90)), header
        )
    elif way == 1:
        kinds = (
            "<f8",
            ">f4",
            "|O",
            "<U9",
            "|S3",
            "|V8",
            "<M8[s]",
            "<c16",
            "|b1",
            "<f3",
            "",
            "<i8,<f4",
        )
        header = re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(kinds)}'", header)
    else:
        return (
            data[:10]
            + _text(header.encode("latin1", "replace"), rng).ljust(size)[:size]
            + data[10 + size :]
        )
    return data[:8] + len(header).to_bytes(2, "little") + header.encode() + data[10 + size :]


KINDS: dict[str, Callable[[bytes, Random], bytes] | None] = {
    "bytes": None,
    "text": _text,
    "table": _cells,
    "json": _json,
    "json lines": _json_lines,
    "toml": _toml,
    "pickle": _pickle,
    "zip": _zip,
    "gzip": _gzip,
    "safetensors": _safetensors,
    "npy": _npy,
}
