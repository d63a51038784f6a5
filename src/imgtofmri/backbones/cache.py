"""Features on disk: a backbone that asks its network only about pictures that it has not seen.

There is one SQLite database for each network. A row holds the features of one picture in one layer;
its key is the digest of the pixels that go into the network, which stand for the file, the crop and
the size together, for a movie's frames and for pictures in memory as well. SQLite's transactions
make it safe that several runs read and write at once, and that one is killed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgtofmri.assets import cache_dir
from imgtofmri.backbones.base import Backbone, BackboneSpec, check_pixels
from imgtofmri.backbones.engines import REFERENCE
from imgtofmri.exceptions import OutputError

Float32Array = npt.NDArray[np.float32]

FORMAT = 1
"""Goes into every key: rows of another version of the layout are not found."""

_WAIT_S = 60.0
# SQLite takes 999 parameters at least.
_KEYS_AT_ONCE = 500
_TABLE = (
    "CREATE TABLE IF NOT EXISTS features (layer TEXT NOT NULL, pixels BLOB NOT NULL, "
    "row BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (layer, pixels)) WITHOUT ROWID"
)


def features_folder() -> Path:
    """Return where features are kept by default: below the package's cache."""
    return cache_dir() / "features"


def cached_backbone(backbone: Backbone, folder: Path | str | None = None) -> Backbone:
    """Return a backbone that keeps its features on disk.

    Parameters
    ----------
    backbone : Backbone
        The network.
    folder : path, optional
        Where the databases are. Default: `features_folder`.

    Returns
    -------
    Backbone
        The same features. A backbone that is not identified by its weights' digest and layers (one
        that emulates another network through a head) comes back as it is.
    """
    spec = backbone.spec
    if spec.emulated or not spec.weights_sha256 or not spec.layer_widths:
        return backbone
    return CachedBackbone(backbone, features_folder() if folder is None else Path(folder))


class CachedBackbone:
    """A backbone whose features are kept on disk; see `cached_backbone`.

    Parameters
    ----------
    backbone : Backbone
        With ``weights_sha256`` and ``layer_widths`` in its specification.
    folder : Path
        Where the databases are.

    Attributes
    ----------
    path : Path
        The database of this network. It can be removed at any time.
    """

    def __init__(self, backbone: Backbone, folder: Path) -> None:
        self._backbone = backbone
        self.path = folder / f"{_safe(backbone.spec.id)}-{network_key(backbone.spec)}.sqlite"

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._backbone.spec

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Float32Array:
        """Return features, computing those of new pictures alone; see `Backbone`."""
        pixels = check_pixels(pixels, self.spec)
        keys = [hashlib.sha256(picture).digest() for picture in pixels]
        rows = self._read(keys)
        new = {key: index for index, key in enumerate(keys) if key not in rows}
        if new:
            computed = self._backbone(pixels[list(new.values())])
            made = dict(zip(new, computed, strict=True))
            self._write(made)
            rows |= made
        features = np.empty((len(keys), self.spec.n_features), np.float32)
        for index, key in enumerate(keys):
            features[index] = rows[key]
        return features

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Float32Array]:
        """Return the rows of pictures whose layers are all there and whole."""
        try:
            return self._read_whole(keys)
        except sqlite3.DatabaseError:
            self._discard()
            return {}

    def _read_whole(self, keys: Sequence[bytes]) -> dict[bytes, Float32Array]:
        spec = self.spec
        parts: dict[bytes, dict[str, Float32Array]] = {key: {} for key in keys}
        with self._database() as database:
            for layer, width in zip(spec.layers, spec.layer_widths, strict=True):
                for key, row, digest in _select(database, layer, list(parts)):
                    whole = isinstance(row, bytes) and len(row) == 4 * width
                    if whole and _check(key, row) == digest:
                        parts[key][layer] = np.frombuffer(row, "<f4")
        wanted = set(spec.layers)
        return {
            key: np.concatenate([part[layer] for layer in spec.layers]).astype(np.float32)
            for key, part in parts.items()
            if part.keys() == wanted
        }

    def _write(self, rows: dict[bytes, Float32Array]) -> None:
        spec = self.spec
        ends = np.cumsum(spec.layer_widths)
        values = [
            (layer, key, data, _check(key, data))
            for layer, end, width in zip(spec.layers, ends, spec.layer_widths, strict=True)
            for key, row in rows.items()
            for data in [row[end - width : end].astype("<f4").tobytes()]
        ]
        try:
            self._insert(values)
        except sqlite3.DatabaseError:
            # Damage that reading did not come across.
            self._discard()
            self._insert(values)

    def _insert(self, values: Sequence[tuple[str, bytes, bytes, bytes]]) -> None:
        with self._database() as database, database:
            database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", values)

    def _discard(self) -> None:
        """Remove a damaged database; what was in it is computed again."""
        for end in ("", "-journal"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                self.path.touch()  # As the umask has it; SQLite's are never for the group to write.
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as database:
                database.execute(_TABLE)
                yield database
        except UnicodeDecodeError as error:
            # SQLite's own message of the damage, where it quotes what is no text.
            raise sqlite3.DatabaseError("file is damaged") from error  # noqa: EM101
        except (OSError, sqlite3.OperationalError) as error:
            message = (
                f"{self.path}: expected a features cache that can be read and written; got "
                f"'{error}'. Make room or choose another folder, or go without the cache."
            )
            raise OutputError(message) from error


def network_key(spec: BackboneSpec) -> str:
    """Return a digest of what a network's features depend on, besides pixels and layer."""
    # A module's digest stands in the id of its features, whoever says which file its weights are.
    features = spec.features_id.removesuffix("+".join(spec.layers))
    said = [FORMAT, spec.id, features, spec.weights_sha256, spec.preprocessing.to_dict()]
    if spec.engine not in (None, REFERENCE):
        said.append(str(spec.engine))
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _select(
    database: sqlite3.Connection, layer: str, keys: list[bytes]
) -> Iterable[tuple[bytes, bytes, bytes]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        part = keys[start : start + _KEYS_AT_ONCE]
        marks = ", ".join("?" * len(part))
        query = f"SELECT pixels, row, digest FROM features WHERE layer = ? AND pixels IN ({marks})"
        yield from database.execute(query, (layer, *part))


def _check(key: bytes, row: bytes) -> bytes:
    """Return a short digest that tells a damaged row."""
    return hashlib.sha256(key + row).digest()[:8]


def _safe(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
