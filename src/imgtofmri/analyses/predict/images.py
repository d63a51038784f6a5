"""Predict images into a folder: one volume for each, a record of the run, resumable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from imgtofmri.analyses.predict.earlier import Earlier
from imgtofmri.encoder import Predictor
from imgtofmri.encoder.saving import MOST_STIMULI, EvidenceWriter, MapWriter, RoiTableWriter
from imgtofmri.outputs import Layout, OutputFolder
from imgtofmri.progress import track
from imgtofmri.report import MapRows
from imgtofmri.stimuli import Failure, Source


@dataclass(slots=True)
class RunSummary:
    """What came of a run.

    Attributes
    ----------
    done : list of str
        Names of the stimuli that were predicted now.
    kept : list of str
        Names of those whose results an earlier run had made and that were verified.
    failures : list of Failure
        Inputs that could not be used.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def predict_images(
    predictor: Predictor,
    sources: Sequence[Source],
    folder: OutputFolder,
    layout: Layout,
    evidence: EvidenceWriter | None = None,
    gathered: MapRows | None = None,
    *,
    subjects: bool = False,
    interval: float | None = None,
    surface: str = "",
    progress: bool = True,
) -> RunSummary:
    """Predict image files and write a volume for each, and a table of the means of ROIs.

    Parameters
    ----------
    predictor : Predictor
        An encoder with its settings.
    sources : sequence of Source
        Image files.
    folder : OutputFolder
        Begun. What it holds and can verify is not predicted again.
    layout : Layout
        Names the files.
    evidence : EvidenceWriter, optional
        Is told the maps from which people's agreement is found.
    gathered : MapRows, optional
        Is told the maps that a page shows.
    subjects : bool
        Whether to write each subject's smoothed map, too.
    interval : float, optional
        The level of a prediction interval whose bounds are written, too.
    surface : str
        A mesh whose maps are written, too, such as ``"fsaverage5"``; empty for none.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    RunSummary

    Raises
    ------
    OutputError
        If a volume cannot be written.
    """
    summary = RunSummary()
    if not sources:
        return summary
    table = RoiTableWriter(folder, predictor.spatial)
    # Maps of an earlier run are not read again: what they say of agreement is predicted anew.
    telling = {source.name for source in sources[:MOST_STIMULI]} if evidence else set()
    earlier = Earlier(folder, [s for s in sources if folder.knows(s.name) and table.has(s.name)])
    # Where all may be there, nothing is predicted before that is known.
    earlier.verify(None if len(earlier.names) == len(sources) else telling, progress)
    if len(earlier.kept) == len(sources) and (evidence is None or evidence.keep(len(sources))):
        summary.kept.extend(source.name for source in sources)
        table.close(_in_order(folder, sources, table))
        return summary
    with track("Predicting", len(sources), "images", enabled=progress) as count:
        counting = threading.Lock()

        def advance(n: int) -> None:
            with counting:
                count(n)

        def fail(failure: Failure) -> None:
            summary.failures.append(failure)
            folder.fail(failure.name, str(failure.error))
            advance(1)

        writer = MapWriter(folder, layout, subjects=subjects, interval=interval, surface=surface)
        look = None if gathered is None else gathered.look
        for part in predictor.stream(_missing(sources, earlier, telling, advance), fail, look):
            new = [name for name in part.names if name not in earlier.kept]
            table.add(part, new)
            writer.write(part, new)
            summary.done.extend(new)
            if gathered is not None:
                for name, values in zip(part.names, part.group, strict=True):
                    gathered.add(name, values)
            if evidence is not None:
                n_telling = sum(name in telling for name in part.names)
                evidence.agreement.add(part.subjects[:, :n_telling])
            advance(len(part))
    summary.kept.extend(source.name for source in sources if source.name in earlier.kept)
    table.close(_in_order(folder, sources, table))
    return summary


def _missing(
    sources: Sequence[Source],
    earlier: Earlier,
    telling: Collection[str],
    advance: Callable[[int], object],
) -> Iterator[Source]:
    """Yield what is to be predicted, while what an earlier run made is verified between.

    What tells of agreement comes in its order, first, so that agreement is always the same; what
    turns out not to be what was recorded comes last.
    """
    advance(sum(name not in telling for name in earlier.kept))
    broken: list[Source] = []

    def take(checks: Iterable[tuple[Source, bool]]) -> None:
        for source, is_kept in checks:
            if is_kept:
                advance(1)
            else:
                broken.append(source)

    with earlier.checking() as checks:
        for source in sources:
            if source.name in telling or source.name not in earlier.names:
                yield source
                take(checks.ready())
            elif source.name in earlier.refuted:
                yield source
        take(checks.rest())
    yield from broken


def _in_order(folder: OutputFolder, sources: Sequence[Source], table: RoiTableWriter) -> list[str]:
    """Return whose results are there: those asked for in order, then what earlier runs left."""
    asked = [source.name for source in sources]
    names = dict.fromkeys([*asked, *folder.names])
    return [name for name in names if folder.knows(name) and table.has(name)]
