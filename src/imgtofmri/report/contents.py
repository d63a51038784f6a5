"""What of a run's files a page shows: its maps, films, ROI means, figures and tables."""

from __future__ import annotations

import base64
import csv
import re
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import DataError
from imgtofmri.files import is_file
from imgtofmri.progress import track
from imgtofmri.report.maps import (
    MOST_MAPS,
    MapRows,
    read_image,
    read_series,
    read_volume,
    rounded_up,
)
from imgtofmri.report.pictures import stills, thumbnails
from imgtofmri.report.records import Run
from imgtofmri.report.rois import RoiValues, read_courses, read_rois, read_timeseries

if TYPE_CHECKING:
    import nibabel as nib

MODEL_UNIT = "model units"
GROUP_UNITS = {"standard deviations over the mask": "z", "the models' own": MODEL_UNIT}

EVIDENCE = {
    "coverage": ("Coverage", "people"),
    "agreement": ("Agreement of people", "r"),
    "accuracy": ("Accuracy of the encoder", "r"),
}

UNITS = {"t test": "t", "z score": "z", "correlation": "r", "p value": "p"}
"""The units of maps, by what their headers call them."""

MOST_ROWS = 200
MOST_FIGURES = 24
MOST_TABLES = 12
FILM_SERIES, FILM_SIDECAR = "predicted.nii.gz", "predicted.json"
"""The maps at the volumes of a film that a run wrote, and what is said of them."""

FILM_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4"}
MOST_FILM_BYTES = 12_000_000
"""A larger film is shown by the frames that were predicted: a page must stay light."""


@dataclass(slots=True)
class Film:
    """A film of the page: which maps are its frames, and what is shown of it."""

    name: str
    first: int
    onsets_s: list[float]
    step_s: float
    aspect: float = 1.0
    type: str = ""
    data: str = ""
    boundaries_s: list[float] | None = None
    dashed: str = "where they change most"


@dataclass(slots=True)
class Contents:
    """What a page shows of a run besides its settings.

    Attributes
    ----------
    maps : MapRows or None
    kinds : list of (name, unit, limit)
        What maps are, their unit, and where their colours end; None leaves that to the values.
    kind : list of int
        Of each map; empty where all are of the first.
    thumbs : list of str
        A JPEG in base64 for each map, or nothing.
    rois : RoiValues or None
    evidence : dict of str to array of shape (n_voxels,)
    films : list of Film
    n_all : int
        How many maps the run has; a page holds the first ones.
    """

    maps: MapRows | None = None
    kinds: list[tuple[str, str, float | None]] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    thumbs: list[str] = field(default_factory=list)
    rois: RoiValues | None = None
    evidence: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    films: list[Film] = field(default_factory=list)
    n_all: int = 0


def predicted(run: Run, gathered: MapRows | None = None, progress: bool = False) -> Contents:
    """Return what a run of predictions holds.

    Parameters
    ----------
    run : Run
    gathered : MapRows, optional
        Maps of images that need not be read again.
    progress : bool
        Whether to report progress on standard error.
    """
    made = run.prediction
    # Of a million entries no more are kept than are shown.
    images: list[dict[str, Any]] = []
    movies: list[dict[str, Any]] = []
    for entry in run.inputs:
        if "n_volumes" in entry:
            movies.append(entry)
        elif len(images) < MOST_MAPS:
            images.append(entry)
    unit = GROUP_UNITS.get(str(made.get("units")), MODEL_UNIT)
    found = Contents(kinds=[("response", unit, None)])
    found.n_all = len(run.inputs) - len(movies) + sum(int(entry["n_volumes"]) for entry in movies)
    evidence = {}
    for name in EVIDENCE:
        for file in (str(output["file"]) for output in run.content["outputs"]):
            if file.endswith(".nii.gz") and name in re.split(r"[/_.-]", file):
                evidence[name] = read_volume(run.path(file))
    mask, affine = _mask(run, gathered, evidence)
    if mask is None or affine is None:
        return found
    capacity = min(found.n_all, MOST_MAPS)
    shown = images[:capacity]
    if gathered is not None and gathered.names == [e["name"] for e in shown] and not movies:
        found.maps = gathered
    else:
        found.maps = MapRows(mask, affine, capacity)
        _fill(found.maps, run, shown, gathered, progress)
    shown = images[: len(found.maps)]
    found.thumbs = _thumbs(run, shown, {} if gathered is None else gathered.thumbs)
    tables: list[RoiValues | None] = []
    if shown:
        names, table = [str(e["name"]) for e in shown], "rois.tsv"
        tables.append(read_rois(run.path(table), names) if run.holds(table) else None)
    for entry in movies:
        if not found.maps.is_full:
            tables.append(_add_film(run, entry, found))
    found.rois = _joined(tables)
    found.evidence = {name: data[mask] for name, (data, _) in evidence.items()}
    return found


def _fill(
    maps: MapRows,
    run: Run,
    images: list[dict[str, Any]],
    gathered: MapRows | None,
    progress: bool,
) -> None:
    """Take maps of images from memory, and those that are not there from their volumes."""
    rows = {} if gathered is None else {name: k for k, name in enumerate(gathered.names)}
    read = [entry for entry in images if entry["name"] not in rows]
    with track("Reading", len(read), "volumes", enabled=progress and bool(read)) as advance:
        for entry in images:
            name = str(entry["name"])
            if gathered is not None and name in rows:
                maps.take(gathered, rows[name])
                continue
            file = own_file(entry, ".nii.gz")
            data, _ = read_volume(run.path(file))
            maps.add(name, _inside(data, maps.mask, run, file))
            advance(1)


def _thumbs(run: Run, shown: list[dict[str, Any]], seen: dict[str, str]) -> list[str]:
    """Return a thumbnail of each input: those that the run has seen need not be read again."""
    read = [entry for entry in shown if entry["name"] not in seen]
    made = thumbnails([(_path(run, entry), entry.get("sha256")) for entry in read])
    found = seen | {entry["name"]: thumb for entry, thumb in zip(read, made, strict=True)}
    return [found[entry["name"]] for entry in shown]


def mapped(run: Run) -> Contents:
    """Return the three-dimensional maps that another command wrote, but for p: 1 - p is shown."""
    found = Contents()
    volumes = []
    for file in run.digests:
        if file.endswith(".nii.gz") and not file.endswith(("_bold.nii.gz", "_mask.nii.gz")):
            image = read_image(run.path(file))
            is_p = image.header.get_intent()[0] == "p value"
            if len(image.shape) == 3 and not is_p:
                volumes.append((file, image, np.asarray(image.dataobj, dtype=np.float32)))
    shapes = {image.shape for _, image, _ in volumes}
    if len(shapes) != 1:
        return found
    mask = np.any([np.isfinite(data) & (data != 0) for _, _, data in volumes], axis=0)
    found.maps = MapRows(mask, volumes[0][1].affine, len(volumes))
    for number, (file, image, data) in enumerate(volumes):
        found.maps.add(file.removesuffix(".nii.gz"), data[mask])
        found.kind.append(number)
        found.kinds.append(_kind(image))
    found.thumbs = [""] * len(volumes)
    found.n_all = len(volumes)
    return found


def filmed(run: Run) -> Contents:
    """Return the predicted maps at a run's volumes, with the film that they are in step with."""
    said = parse_json(read_text(run.path(FILM_SIDECAR)))
    onsets = [float(onset) for onset in said["OnsetsSeconds"]]
    series = run.path(FILM_SERIES)
    affine, volumes = read_series(series)
    mask = reduce(np.logical_or, (np.isnan(volume) | (volume != 0) for volume in volumes))
    shown = [k for k, onset in enumerate(onsets) if onset >= 0][:MOST_MAPS]
    unit = GROUP_UNITS.get(str(said["Units"]), MODEL_UNIT)
    found = Contents(kinds=[("response", unit, None)], n_all=sum(onset >= 0 for onset in onsets))
    found.maps = MapRows(mask, affine, len(shown))
    name = str(said.get("Stimulus", "film"))
    entry = next((entry for entry in run.inputs if entry["name"] == name), {"name": name})
    tr_s, rate_hz = float(said["RepetitionTime"]), float(run.settings.get("rate_hz") or 2.0)
    path, wanted = _path(run, entry), set(shown)
    for k, (_, volume) in enumerate(zip(onsets, read_series(series)[1], strict=True)):
        if k in wanted:
            found.maps.add(f"{name} at {onsets[k]:.2f} s", volume[mask])
    frames = [int(onsets[k] * rate_hz + 1e-6) for k in shown]
    pictures = stills(path, entry.get("sha256"), rate_hz, frames)
    found.thumbs = pictures + [""] * (len(shown) - len(pictures))
    film = Film(name, 0, [onsets[k] for k in shown], tr_s)
    starts, of = _boundaries(run)
    if of:
        film.boundaries_s = [onsets[k] for k in starts if k in shown]
        film.dashed = of
    if pictures and path is not None:
        _show_film(film, path)
    found.films.append(film)
    rois = read_courses(run.path("timecourses.tsv"), MODEL_UNIT, len(onsets))
    found.rois = RoiValues(rois.places, rois.owners, rois.values[shown], rois.unit)
    return found


def _boundaries(run: Run) -> tuple[list[int], str]:
    """Return the volumes at which a film's events begin, and what they are called."""
    found = run.settings.get("boundaries")
    if isinstance(found, dict) and found:
        region, starts = next(iter(found.items()))
        of = "all ROIs together" if region == "all" else region
        return [int(start) for start in starts], f"where events begin in the prediction, {of}"
    return ([int(start) for start in found], "where events begin") if found else ([], "")


def _kind(image: nib.Nifti1Image) -> tuple[str, str, float | None]:
    """Return what a map is, its unit, and where its colours end, as its header has them."""
    written = image.header["descrip"].item().decode("ascii", "replace")
    what = written.partition(":")[0]
    end = float(image.header["cal_max"])
    limit = rounded_up(end) if end > 0 else None
    if MODEL_UNIT in what:
        return what.partition(",")[0], MODEL_UNIT, limit
    unit = UNITS.get(image.header.get_intent()[0], "")
    return what or unit or "map", unit, limit


def own_file(entry: dict[str, Any], suffix: str) -> str:
    """Return the first of an input's files with a suffix: of volumes, the group's comes first."""
    files = (str(output["file"]) for output in entry.get("outputs", ()))
    return next((file for file in files if file.endswith(suffix)), f"{entry['name']}{suffix}")


def figures(run: Run) -> tuple[list[dict[str, str]], int]:
    """Return the run's first figures, as SVG where they are vectors, and how many there are."""
    files = [file for file in run.digests if file.endswith((".svg", ".png"))]
    chosen = [f for f in files if f.endswith(".svg") or f"{f[:-4]}.svg" not in run.digests]
    found = []
    for file in chosen[:MOST_FIGURES]:
        data = run.path(file).read_bytes()
        kind = "image/svg+xml" if file.endswith(".svg") else "image/png"
        found.append({"name": file, "type": kind, "data": base64.b64encode(data).decode()})
    return found, len(chosen)


def tables(run: Run) -> tuple[list[dict[str, Any]], int]:
    """Return the first rows of the run's first tables, and how many tables there are."""
    found = []
    files = [file for file in run.digests if file.endswith(".tsv")]
    for file in files[:MOST_TABLES]:
        path = run.path(file)
        columns, rows, n_rows = _first_rows(path)
        said = f"{n_rows} row{'s' * (n_rows != 1)}"
        said = said if n_rows <= MOST_ROWS else f"The first {MOST_ROWS} of {said}"
        found.append({"file": file, "columns": columns, "rows": rows, "said": f"{said}:"})
    return found, len(files)


def _first_rows(path: Path) -> tuple[list[str], list[list[str]], int]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            columns = next(rows, [])
            first = [row for row, _ in zip(rows, range(MOST_ROWS), strict=False)]
            return columns, first, len(first) + sum(1 for _ in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = (
            f"{path}: expected a table of text in UTF-8; it cannot be read ({error}). Run the "
            "command again with `overwrite`."
        )
        raise DataError(message) from error


def _mask(
    run: Run, gathered: MapRows | None, evidence: Any
) -> tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.float64] | None]:
    """Return the voxels that the maps have, and their affine."""
    if gathered is not None:
        return gathered.mask, gathered.affine
    if "coverage" in evidence:
        data, affine = evidence["coverage"]
        return data != 0, affine
    for entry in run.inputs:
        path = run.path(own_file(entry, ".nii.gz"))
        if "n_volumes" in entry:
            affine, volumes = read_series(path)
            data = next(volumes)
        else:
            data, affine = read_volume(path)
            data = data[..., 0] if data.ndim == 4 else data
        return np.nan_to_num(data, nan=1.0) != 0, affine
    return None, None


def _inside(
    data: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], run: Run, file: str
) -> npt.NDArray[np.float32]:
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.shape[:3] != mask.shape:
        message = (
            f"{run.folder / file}: expected a volume of {mask.shape}, as the run's others; got "
            f"{data.shape}. Run the command again with `overwrite`."
        )
        raise DataError(message)
    return data[mask]


def _path(run: Run, entry: dict[str, Any]) -> Path | None:
    """Return where an input is now: records keep paths as they were given."""
    given = entry.get("path")
    if given is None:
        return None
    tried = [Path(str(given)), run.folder / str(given), run.folder.parent / str(given)]
    return next((path for path in tried if is_file(path)), None)


def _add_film(run: Run, entry: dict[str, Any], found: Contents) -> RoiValues:
    """Take in a film's frames, as many as there is room for."""
    assert found.maps is not None
    name, rate_hz = str(entry["name"]), float(run.settings.get("rate_hz") or 2.0)
    file = own_file(entry, ".nii.gz")
    volumes = read_series(run.path(file))[1]
    first, room = len(found.maps), MOST_MAPS - len(found.maps)
    table = run.path(own_file(entry, ".tsv"))
    onsets, rois = read_timeseries(table, MODEL_UNIT, room)
    for onset_s, volume in zip(onsets, islice(volumes, len(onsets)), strict=True):
        values = _inside(volume, found.maps.mask, run, file)
        found.maps.add(f"{name} at {onset_s:.2f} s", values)
    path, sha256 = _path(run, entry), entry.get("sha256")
    pictures = stills(path, sha256, rate_hz, range(len(onsets)))
    found.thumbs += pictures + [""] * (len(onsets) - len(pictures))
    film = Film(name, first, onsets.tolist(), 1 / rate_hz)
    if pictures and path is not None:
        _show_film(film, path)
    found.films.append(film)
    return rois


def _show_film(film: Film, path: Path) -> None:
    from imgtofmri.stimuli import Movie

    info = Movie(path).info
    film.aspect = info.width / info.height
    kind = FILM_TYPES.get(path.suffix.lower(), "")
    if kind and path.stat().st_size <= MOST_FILM_BYTES:
        film.type, film.data = kind, base64.b64encode(path.read_bytes()).decode("ascii")


def _joined(tables: list[RoiValues | None]) -> RoiValues | None:
    """Join tables of the same ROIs and people; none where one is missing or differs."""
    known = [table for table in tables if table is not None]
    if not known or len(known) != len(tables):
        return None
    first = known[0]
    if any(t.places != first.places or t.owners != first.owners for t in known):
        return None
    return RoiValues(
        first.places, first.owners, np.concatenate([t.values for t in known]), first.unit
    )
