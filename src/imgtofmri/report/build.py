"""`write_report`: a run's folder to one page."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri import __version__
from imgtofmri.exceptions import DataError, ImgToFmriError
from imgtofmri.files import at_home, atomic_path
from imgtofmri.outputs.folder import PAGE
from imgtofmri.report import methods
from imgtofmri.report.contents import (
    EVIDENCE,
    FILM_SERIES,
    Contents,
    figures,
    filmed,
    mapped,
    predicted,
    tables,
)
from imgtofmri.report.maps import MapRows, quantised, rounded_up
from imgtofmri.report.packing import packed, packed_parts
from imgtofmri.report.page import render, template
from imgtofmri.report.pictures import STOPS, map_strip
from imgtofmri.report.records import Run, open_run
from imgtofmri.report.scene import build_scene, template_of

PREDICTIONS = ("predict", "export", "demo")
MOST_STRIPS = 3
LEAST_VOXELS = 1

TITLES = {
    "predict": "Predicted responses to {n}",
    "export": "Predicted responses to {n}",
    "demo": "Predicted responses to {n}",
    "contrast": "Contrast of predicted responses",
    "rsa": "Geometry of predicted patterns",
    "select": "Selection of stimuli",
    "validate": "Predictions against measurements",
    "dynamics": "Dynamics of a film",
    "simulate": "Simulated experiment",
    "explain": "Where in {n} predicted responses come from",
    "render": "A film beside its predicted response",
    "power": "Plan of a scan",
}


class Preparation:
    """What a page needs besides a run's results, made while the run goes on.

    A page that is written without it, or before it is done, makes it then.

    Parameters
    ----------
    maps : MapRows
        Whose voxels the page will show.
    space : str
        Their space.
    """

    def __init__(self, maps: MapRows, space: str) -> None:
        self._thread = Thread(target=self._prepare, args=(maps, space), daemon=True)
        self._thread.start()

    @staticmethod
    def _prepare(maps: MapRows, space: str) -> None:
        # What cannot be made is said when the page is written.
        with suppress(Exception):
            build_scene(maps.mask, maps.affine, space)
            template()

    def wait(self) -> None:
        """Return when all is there."""
        self._thread.join()


def write_report(
    folder: str | Path,
    path: str | Path | None = None,
    gathered: MapRows | None = None,
    *,
    progress: bool = False,
) -> Path:
    """Write one page of a run's results, which opens from disk and needs no network.

    Parameters
    ----------
    folder : str or Path
        That a command wrote, or the record in it.
    path : str or Path, optional
        The page; by default ``report.html`` in the folder.
    gathered : MapRows, optional
        Maps that a run has in memory, so that they are not read again.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OptionError
        If the folder holds several records.
    DataError
        If it is no run's folder, or a file of it is missing or another than the run wrote.
    OutputError
        If the page cannot be written.
    """
    run = open_run(folder)
    target = run.folder / PAGE if path is None else at_home(path)
    beside = target.parent.resolve() == run.folder.resolve()
    try:
        if run.command in PREDICTIONS:
            found = predicted(run, gathered, progress)
        else:
            found = filmed(run) if run.holds(FILM_SERIES) else mapped(run)
        page = render(_content(run, found) | {"beside": beside})
    except ImgToFmriError:
        raise
    # A record may lack anything that a page says of the run, or hold another thing in its place.
    except Exception as error:
        message = (
            f"{run.record}: expected all that a page says of a run; it is damaged or of another "
            f"kind ({type(error).__name__}: {error}). Run the command again with `overwrite`."
        )
        raise DataError(message) from error
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        file.writelines(page)
    return target


def _content(run: Run, found: Contents) -> dict[str, Any]:
    """Return what the page's template names."""
    title = TITLES.get(run.command, run.command).format(n=methods.counted(run))
    if run.command == "contrast":
        title = "; ".join(map(str, run.settings.get("contrasts", [title])))
    sections: list[dict[str, Any]] = []
    lines = [methods.network_line(run.prediction)]
    if run.command not in PREDICTIONS:
        pictures, n_figures = figures(run)
        if pictures:
            sections.append({"title": "Figures", "text": "", "pictures": pictures, "table": None})
        shown, n_tables = tables(run)
        for table in shown:
            named = {"title": table["file"], "text": "", "pictures": [], "table": table}
            sections.append(named)
        for kind, n, n_all in (
            ("figures", len(pictures), n_figures),
            ("tables", len(shown), n_tables),
        ):
            if n < n_all:
                lines.append(f"This page shows the first {n} of {n_all} {kind}.")
    n_maps = len(found.maps) if found.maps is not None else 0
    if n_maps < found.n_all:
        lines.append(f"This page holds the first {n_maps} of {found.n_all} maps.")
    content: dict[str, Any] = {
        "title": title,
        "version": __version__,
        "command": run.command,
        "written": str(run.content.get("written", "")).replace("T", " ").replace("+00:00", " UTC"),
        "lines": lines,
        "failures": run.content["failures"],
        "sections": sections,
        "methods": methods.methods(run),
        "citations": methods.citations(run),
        "command_line": run.content.get("command_line") or "written from Python or in a browser",
        "settings": methods.setting_rows(run),
        "trust": [methods.TRUST, *map(str, run.prediction.get("validity") or ())],
        "record": run.record.name,
        "page_said": "",
        "data": None,
        "films": [],
    }
    if found.maps is not None and n_maps and found.maps.mask.sum() >= LEAST_VOXELS:
        content |= _map_content(run, found, found.maps, title)
        content["citations"] += [methods.SURFACES] if content["has_surfaces"] else []
    return content


def _map_content(run: Run, found: Contents, maps: MapRows, title: str) -> dict[str, Any]:
    """Return what the explorer of maps needs."""
    space = str(run.prediction.get("space", ""))
    scene = build_scene(maps.mask, maps.affine, space)
    similarity = maps.similarity() if len(maps) > 1 and not found.kind else None
    rois = found.rois
    kinds, mean = _kinds(found, maps), maps.mean()
    data = {
        "version": __version__,
        "space": space,
        "said": title,
        "network": methods.network_line(run.prediction),
        "maps": {
            "steps": packed(maps.steps),
            "kinds": kinds,
            "kind": found.kind,
        },
        "items": [
            {"name": name, "thumb": thumb, "short": short}
            for name, thumb, short in zip(
                maps.names, found.thumbs, _short_names(found, maps), strict=True
            )
        ],
        "scene": scene,
        "start": _start(found, maps, mean),
        "evidence": [_evidence(name, values) for name, values in found.evidence.items()],
        "rois": None
        if rois is None
        else {
            "places": rois.places,
            "owners": rois.owners,
            "unit": rois.unit,
            "values": packed(rois.values),
        },
        "similarity": None if similarity is None else packed(similarity),
        "films": [
            {
                "name": film.name,
                "first": film.first,
                "onsets": film.onsets_s,
                "step": film.step_s,
                "aspect": film.aspect,
                "boundaries": film.boundaries_s,
                "type": film.type,
                "blob": f"film-{number}" if film.data else "",
            }
            for number, film in enumerate(found.films)
        ],
    }
    return {
        "data": data,
        "maps": packed_parts(maps.values),
        "colours": STOPS,
        "films": [
            {"id": f"film-{number}", "data": film.data}
            for number, film in enumerate(found.films)
            if film.data
        ],
        "n_items": len(maps),
        "grouped": not found.kind,
        "items_called": "Maps" if found.kind else "Stimuli",
        "shown_first": "map" if found.kind else "response",
        "has_coverage": "coverage" in found.evidence,
        "has_surfaces": scene["surfaces"] is not None,
        "has_rois": rois is not None,
        "roi_unit": "" if rois is None else rois.unit,
        "has_similarity": similarity is not None,
        "dashed": found.films[0].dashed if found.films else "",
        "evidence": [{"name": n, "title": EVIDENCE[n][0]} for n in found.evidence],
        "space": space,
        "stills": _strips(found, maps, kinds, mean),
        "page_said": f"Maps are shown on {scene['template']}. Here they are 16-bit integers, each "
        "in steps of its largest magnitude / 32767; the volumes are the results.",
    }


def _short_names(found: Contents, maps: MapRows) -> list[str]:
    """Return what the list calls each map: a film's frames are told by their time."""
    names = list(maps.names)
    for film in found.films:
        for frame, onset_s in enumerate(film.onsets_s):
            names[film.first + frame] = f"{onset_s:.2f} s"
    return names


def _kinds(found: Contents, maps: MapRows) -> list[dict[str, Any]]:
    """Return the name, the unit and where the colours end, of each kind of map."""
    return [
        {"name": name, "unit": unit, "limit": maps.limit() if limit is None else limit}
        for name, unit, limit in found.kinds
    ]


def _evidence(name: str, values: npt.NDArray[np.float32]) -> dict[str, Any]:
    steps, step = quantised(values)
    title, unit = EVIDENCE[name]
    known = np.abs(values[np.isfinite(values)])
    limit = rounded_up(float(known.max())) if known.size and known.max() > 0 else 1.0
    return {
        "name": name,
        "title": title,
        "unit": unit,
        "limit": limit,
        "step": float(step),
        "values": packed(steps),
    }


def _start(found: Contents, maps: MapRows, mean: npt.NDArray[np.float32]) -> list[float]:
    """Return where the crosshair begins: at the mean map's largest magnitude, in millimetres."""
    values = np.nan_to_num(np.abs(mean))
    if "coverage" in found.evidence:  # Rather well inside the model than at its edge.
        people = np.nan_to_num(found.evidence["coverage"])
        values = values * (people >= 0.6 * people.max(initial=0.0))
    voxel = np.argwhere(maps.mask)[int(values.argmax())]
    return [float(x) for x in maps.affine[:3, :3] @ voxel + maps.affine[:3, 3]]


def _strips(
    found: Contents, maps: MapRows, kinds: list[dict[str, Any]], mean: npt.NDArray[np.float32]
) -> list[Mapping[str, Any]]:
    """Return pictures of some maps, for paper and for browsers that run no script."""
    template = template_of(maps.mask.shape, maps.affine)
    rows = [
        (maps.names[k], maps.row(k), found.kind[k] if found.kind else 0)
        for k in range(min(len(maps), MOST_STRIPS))
    ]
    if len(maps) > 1 and not found.kind:
        rows.insert(0, (f"mean of all {len(maps)}", mean, 0))
    return [
        {
            "name": name,
            "unit": kinds[kind]["unit"],
            "limit": f"{kinds[kind]['limit']:g}",
            "png": map_strip(values, maps.mask, template, maps.affine, kinds[kind]["limit"]),
        }
        for name, values, kind in rows
    ]


__all__ = ["PAGE", "Preparation", "write_report"]
