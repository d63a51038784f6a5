"""A store to the files that `predict` writes in other formats: volumes, surfaces, tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from imgtofmri.encoder.movie_files import MovieFile, MovieFiles
from imgtofmri.encoder.prediction import Prediction
from imgtofmri.encoder.saving import (
    MOST_STIMULI,
    RECORD,
    TABLE,
    EvidenceWriter,
    MapWriter,
    RoiTableWriter,
    output_settings,
)
from imgtofmri.encoder.stored import PART, StoredPrediction, open_stored
from imgtofmri.encoder.surface import MESHES, check_mesh
from imgtofmri.exceptions import OptionError, check_choice
from imgtofmri.outputs import Layout, OutputFolder, check_distinct, find_layout
from imgtofmri.outputs.folder import PAGE
from imgtofmri.outputs.series import MAX_VOLUMES
from imgtofmri.progress import track

ExportName: TypeAlias = Literal["nifti", "bids", "gifti", "tsv"]
EXPORTS: tuple[ExportName, ...] = ("nifti", "bids", "gifti", "tsv")

COMMAND = "export"


@dataclass(slots=True)
class ExportSummary:
    """What came of an export.

    Attributes
    ----------
    done : list of str
        Stimuli whose files were written now.
    kept : list of str
        Those whose files an earlier export had written and that were verified.
    failures : dict of str to str
        Stimuli that the store lacks, as they could not be used, and why.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def export_store(
    store: StoredPrediction | str | Path,
    folder: OutputFolder | str | Path,
    to: ExportName = "nifti",
    *,
    stimuli: Iterable[str] | None = None,
    surface: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> ExportSummary:
    """Write what a store holds in another format: the same files as `predict` writes in it.

    Parameters
    ----------
    store : StoredPrediction, str or Path
        As `Prediction.open` takes it.
    folder : OutputFolder, str or Path
    to : {"nifti", "bids", "gifti", "tsv"}
        Volumes, laid out plainly or as BIDS, with tables of ROI means; maps on a surface alone; or
        tables alone.
    stimuli : iterable of str, optional
        Names of those to export; all by default.
    surface : {"fsaverage5", "fsaverage"}, optional
        The surface for GIFTI; by default fsaverage5.
    resume : bool
        Do what an earlier export left, and verify what it made.
    overwrite : bool
        Do all again.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    ExportSummary

    Raises
    ------
    OptionError
        If an option is not valid, the store lacks what is asked for, or the folder holds results
        and nothing says what to do with them.
    DataError
        If the store cannot be read.
    OutputError
        If a file cannot be written.
    """
    check_choice("to", to, EXPORTS)
    opened = store if isinstance(store, StoredPrediction) else open_stored(store)
    mesh = ""
    if to == "gifti":
        mesh = MESHES[0] if surface is None else surface
        check_choice("surface", mesh, MESHES)
        check_mesh(mesh, opened.space)
    elif surface is not None:
        message = (
            f"surface is for `to` gifti, maps on a surface alone; got {surface} with {to}. Export "
            "surfaces to a folder of their own, or leave it out."
        )
        raise OptionError(message, "surface")
    if isinstance(folder, OutputFolder):
        output = folder
    else:
        output = OutputFolder(Path(folder), COMMAND, RECORD)
        output.claim(overwrite=overwrite, resume=resume, resumable=True)
    return _Export(opened, output, to, mesh).run(stimuli, progress)


def export_tables(stored: StoredPrediction, folder: OutputFolder) -> None:
    """Write the tables of ROI means of a store into the folder of a run that is under way.

    Raises
    ------
    DataError
        If the store cannot be read.
    OutputError
        If a table cannot be written.
    """
    _Export(stored, folder, "tsv", "").write(stored.spans())


class _Export:
    """One export, from its record's beginning to its end."""

    def __init__(
        self, stored: StoredPrediction, output: OutputFolder, to: ExportName, surface: str
    ) -> None:
        self._stored, self._output, self._to, self._surface = stored, output, to, surface
        plan, said = stored.store.plan, stored.store.settings["settings"]
        if to != "tsv" and not plan.maps:
            message = (
                f"to must be tsv for a store of ROI means alone; got {to}, and {stored.store.path} "
                "holds no maps. Predict without `rois_only` to have them."
            )
            raise OptionError(message, "to")
        self._people = plan.people if plan.subject_maps and to != "tsv" else ()
        self._interval = said.get("interval")
        self._rate_hz = float(said.get("rate_hz") or 2.0)
        bounded = len(plan.maps) > 1
        format = "bids" if to == "bids" else "nifti"
        self._layout: Layout = find_layout(format, stored.space, bounded, self._rate_hz)
        self._bounded, self._has_volumes = bounded, to in ("nifti", "bids")
        self._summary = ExportSummary(failures=dict(stored.failures))

    def run(self, stimuli: Iterable[str] | None, progress: bool) -> ExportSummary:
        """Write all files."""
        stored, output, layout = self._stored, self._output, self._layout
        spans = stored.spans(stimuli)
        check_distinct(layout, spans, self._people, self._bounded)
        self._check_lengths(spans)
        has_movies = any(name in stored.movies for name in spans)
        rate_hz = self._rate_hz if has_movies else None
        asked = output_settings(self._to, self._people, self._interval, rate_hz, self._surface)
        n_all = sum(map(len, spans.values()))
        with (
            output.begin(asked, stored.provenance.to_dict()),
            track("Exporting", n_all, "maps", enabled=progress) as advance,
        ):
            for name, reason in stored.failures.items():
                output.fail(name, reason)
            self.write(spans, advance)
        return self._summary

    def write(
        self, spans: dict[str, range], advance: Callable[[float], object] = lambda _: None
    ) -> None:
        """Write the files of stimuli into a folder that is begun."""
        movies = self._stored.movies
        images = [span.start for name, span in spans.items() if name not in movies]
        self._images(images, advance)
        for name, span in spans.items():
            if name in movies:
                self._movie(name, span, advance)
        if self._has_volumes:
            self._describe()

    def _check_lengths(self, spans: dict[str, range]) -> None:
        too_long = next((n for n, span in spans.items() if len(span) > MAX_VOLUMES), None)
        if too_long is not None and self._has_volumes:
            message = (
                f"expected movies of at most {MAX_VOLUMES} frames, as NIfTI-1 files hold no more "
                f"volumes; {too_long} has {len(spans[too_long])}. Choose others with `stimuli`."
            )
            raise OptionError(message)

    def _images(self, numbers: list[int], advance: Callable[[float], object]) -> None:
        """Write what belongs to single images, and the table of their ROI means."""
        stored, output, summary = self._stored, self._output, self._summary
        table = None if self._to == "gifti" else RoiTableWriter(output, stored)
        writer = MapWriter(output, self._layout, surface=self._surface, volumes=self._has_volumes)
        for some in _slices(numbers):
            names = stored.names[some]
            kept: set[str] = set()
            if table is not None:
                # Rows that are there may be of a picture that was another then.
                table.add_means(stored.roi_means(some), names, self._onsets(some))
            if self._to != "tsv":
                digests = zip(names, stored.digests(some), strict=True)
                kept = {name for name, digest in digests if output.is_done(name, digest)}
                if len(kept) < len(names):
                    part = stored[some]
                    writer.write(part, set(names) - kept, self._maps(part, some))
            summary.done += [name for name in names if name not in kept]
            summary.kept += [name for name in names if name in kept]
            advance(len(names))
        if table is not None:
            asked = [stored.names[number] for number in numbers]
            table.close(dict.fromkeys([*asked, *filter(self._has_others, table.names)]))

    def _has_others(self, name: str) -> bool:
        """Tell whether an earlier export wrote a stimulus' other files, where there are any."""
        lost = name in self._summary.failures
        return not lost and (self._to == "tsv" or self._output.knows(name))

    def _onsets(self, some: slice) -> npt.NDArray[np.float64] | None:
        """Return the onsets of single frames, which a prediction in memory was saved as."""
        onsets_s = self._stored.onsets_s
        return None if onsets_s is None or self._stored.movies else onsets_s[some]

    def _movie(self, name: str, span: range, advance: Callable[[float], object]) -> None:
        """Write the files of a movie."""
        stored = self._stored
        [digest] = stored.digests(slice(span.start, span.start + 1))
        if self._output.is_done(name, digest):
            self._summary.kept.append(name)
            advance(len(span))
            return
        film = MovieFile(name, stored.path(span.start), digest, json.loads(stored.movies[name]))
        kinds: dict[str, Any] = {"volumes": self._has_volumes, "table": self._to != "gifti"}
        kinds["surface"] = self._surface
        rate_hz = self._rate_hz
        with MovieFiles(self._output, self._layout, stored, film, rate_hz, **kinds) as files:
            for some in _slices(list(span)):
                maps = {} if self._to == "tsv" else self._maps(stored[some], some)
                onsets_s = stored.onsets_s
                assert onsets_s is not None
                files.add(onsets_s[some], stored.roi_means(some), maps)
                advance(some.stop - some.start)
        self._summary.done.append(name)

    def _maps(self, part: Prediction, some: slice) -> dict[tuple[str | None, str], Any]:
        maps = part.maps(subjects=bool(self._people))
        return maps | {(None, name): values for name, values in self._stored.bounds(some).items()}

    def _describe(self) -> None:
        """Write what belongs to the run as a whole, earlier exports' stimuli included."""
        stored, output = self._stored, self._output
        evidence = EvidenceWriter(output, self._layout, stored, stored.affine)
        if self._people:
            spans = stored.spans().items()
            there = (span.start for name, span in spans if output.knows(name))
            numbers = [number for number in there if stored.stimuli[number] not in stored.movies]
            for some in _slices(numbers[:MOST_STIMULI]):
                evidence.agreement.add(stored.subjects[:, some])
        if output.names:
            evidence.write()
        others = [RECORD, TABLE, PAGE]
        output.wrote(*self._layout.describe(output.path, output.names, others))


def _slices(numbers: list[int]) -> Iterator[slice]:
    """Cut numbers into runs of consecutive ones, none longer than what is read together."""
    first = 0
    for k in range(1, len(numbers) + 1):
        ends = k == len(numbers) or numbers[k] != numbers[k - 1] + 1 or k - first == PART
        if ends:
            yield slice(numbers[first], numbers[k - 1] + 1)
            first = k
