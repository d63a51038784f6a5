"""Predictions to files: what `Prediction.save` and ``imgtofmri predict`` write alike."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgtofmri.encoder.agreement import LEAST_STIMULI, Agreement
from imgtofmri.encoder.regions import GROUP, MODEL_UNIT, RoiMeans, roi_places
from imgtofmri.encoder.storing import (
    STORE,
    describe_store,
    plan_store,
    store_constants,
    store_rows,
)
from imgtofmri.exceptions import OptionError
from imgtofmri.files import atomic_path, cannot_write, write_all
from imgtofmri.outputs import (
    FormatName,
    Layout,
    OutputFolder,
    Statistic,
    VolumeWriter,
    check_distinct,
    find_layout,
)
from imgtofmri.outputs.folder import PAGE
from imgtofmri.outputs.layouts import check_format
from imgtofmri.outputs.store import Store
from imgtofmri.outputs.store_plan import Roster
from imgtofmri.outputs.store_writer import RowWriter
from imgtofmri.outputs.surfaces import surface_bytes, surface_file
from imgtofmri.report import MapRows, write_report
from imgtofmri.tables import MISSING

if TYPE_CHECKING:
    import numpy.typing as npt

    from imgtofmri.encoder.prediction import Prediction
    from imgtofmri.encoder.spatial import SpatialModel
    from imgtofmri.encoder.stored import StoredPrediction

COVERAGE, AGREEMENT, ACCURACY = ("coverage", "agreement", "accuracy")

MOST_STIMULI = 1000
"""From how many images of a run agreement is found, the first ones: more hardly change it, and an
interrupted run must predict them again."""

COMMAND, RECORD, TABLE = "predict", "predictions.json", "rois.tsv"
SPOOL = "rois.part.tsv"


def save_prediction(
    prediction: Prediction,
    folder: OutputFolder | str | Path,
    format: FormatName = "nifti",
    *,
    subjects: bool = False,
    interval: float | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a prediction, as `Prediction.save` does.

    Parameters
    ----------
    prediction : Prediction
    folder, format, subjects, interval, overwrite
        As for `Prediction.save`.

    Returns
    -------
    list of Path
        The volumes, ``rois.tsv`` and ``predictions.json``.

    Raises
    ------
    OptionError, OutputError
        As `Prediction.save`.
    """
    check_format(format)
    if format == "zarr":
        return _save_store(prediction, folder, subjects, interval, overwrite)
    layout = find_layout(format, prediction.space, interval is not None)
    _check_names(prediction)
    names = prediction.subject_names if subjects else ()
    check_distinct(layout, prediction.names, names, interval is not None)
    maps = prediction.maps(subjects=subjects, interval=interval)
    output = OutputFolder.of(folder, COMMAND, RECORD, overwrite=overwrite)
    settings = output_settings(format, names, interval)
    with output.begin(settings, prediction.provenance.to_dict()):
        if overwrite:
            Store.remove(output.path / STORE)
        writer = MapWriter(output, layout, subjects=subjects, interval=interval)
        writer.write(prediction, maps=maps)
        evidence = EvidenceWriter(output, layout, prediction, prediction.affine)
        if len(prediction.subjects):
            evidence.agreement.add(prediction.subjects[:, :MOST_STIMULI])
        evidence.write()
        table = RoiTableWriter(output, prediction)
        table.add(prediction)
        table.close(prediction.names)
        output.wrote(*layout.describe(output.path, prediction.names, (RECORD, TABLE, PAGE)))
    return output.files


def _save_store(
    prediction: Prediction,
    folder: OutputFolder | str | Path,
    subjects: bool,
    interval: float | None,
    overwrite: bool,
) -> list[Path]:
    """Write a prediction into a store."""
    _check_names(prediction)
    onsets = prediction.onsets_s is not None
    plan = plan_store(
        prediction,
        len(prediction),
        unit=prediction.unit,
        subjects=subjects,
        interval=interval,
        onsets=onsets,
    )
    rows = store_rows(prediction, plan, interval)
    output = OutputFolder.of(folder, COMMAND, RECORD, overwrite=overwrite)
    settings = output_settings("zarr", prediction.subject_names if subjects else (), interval)
    with output.begin(settings, prediction.provenance.to_dict()):
        path = output.path / STORE
        if overwrite:
            Store.remove(path)
        roster = Roster(prediction.names, prediction.sources)
        constants = store_constants(prediction, prediction.affine, plan)
        made = prediction.provenance.to_stored()
        store = Store.create(path, plan, roster, constants, settings, made)
        with RowWriter(store, range(plan.n_rows)) as writer:
            writer.add(rows)
        output.wrote(*store.frame_files())
        output.tell("store", describe_store(store))
    return [*store.files(), output.record]


def report_prediction(prediction: Prediction, path: Path) -> Path:
    """Write a page of a prediction; see `Prediction.report`."""
    if path.suffix.lower() not in (".html", ".htm"):
        message = (
            f"path must be a page's, such as report.html; got {str(path)!r}. Pages are made of a "
            "folder's results by `imgtofmri report`, too."
        )
        raise OptionError(message, "path")
    gathered = MapRows(prediction.mask, prediction.affine, len(prediction))
    for name, values in zip(prediction.names, prediction.group, strict=True):
        gathered.add(name, values)
    with tempfile.TemporaryDirectory() as folder:
        save_prediction(prediction, folder)
        return write_report(folder, path, gathered)


def output_settings(
    format: str,
    subjects: tuple[str, ...] = (),
    interval: float | None = None,
    rate_hz: float | None = None,
    surface: str = "",
) -> dict[str, Any]:
    """Return what a record says of how predictions were written."""
    return {
        "format": format,
        "subjects": list(subjects),
        "rate_hz": rate_hz,
        "interval": interval,
        **({"surface": surface} if surface else {}),
    }


class MapWriter:
    """Writes a volume for each stimulus and map, and says so in the folder's record.

    Parameters
    ----------
    folder : OutputFolder
        Begun.
    layout : Layout
        Names the files.
    subjects, interval
        As for `Prediction.maps`.
    surface : str
        A mesh whose maps are written, too, as for `Prediction.to_surface`; empty for none.
    volumes : bool
        Whether to write volumes, and not only what is on the mesh.
    """

    def __init__(
        self,
        folder: OutputFolder,
        layout: Layout,
        *,
        subjects: bool = False,
        interval: float | None = None,
        surface: str = "",
        volumes: bool = True,
    ) -> None:
        self._folder, self._layout, self._volumes = folder, layout, volumes
        self._subjects, self._interval, self._surface = subjects, interval, surface
        self._writer: VolumeWriter | None = None

    def write(
        self,
        part: Prediction,
        names: Collection[str] | None = None,
        maps: Mapping[tuple[str | None, str], npt.NDArray[np.float32]] | None = None,
    ) -> None:
        """Write the maps of some stimuli; all parts must be of one mask.

        Parameters
        ----------
        part : Prediction
        names : collection of str, optional
            Those to write; all by default.
        maps : mapping of (subject or None, bound) to array, optional
            What to write; by default `Prediction.maps`.

        Raises
        ------
        OutputError
            If a volume cannot be written.
        """
        self._writer = self._writer or VolumeWriter(
            part.mask, part.affine, as_series=self._layout.as_series
        )
        if maps is None:
            maps = part.maps(subjects=self._subjects, interval=self._interval)
        files = {
            name: {
                self._layout.volume(name, subject, bound): self._writer.encode(values[index])
                for (subject, bound), values in (maps.items() if self._volumes else ())
            }
            for index, name in enumerate(part.names)
            if names is None or name in names
        }
        for key, values in maps.items():
            for hemi, vertices in on_mesh(part, values, self._surface).items():
                for name, one in zip(part.names, vertices, strict=True):
                    if name in files:
                        file = surface_file(self._layout.volume(name, *key), hemi, self._surface)
                        files[name][file] = surface_bytes(one[None], hemi)
        write_all(
            {
                self._folder.path / file: data
                for each in files.values()
                for file, data in each.items()
            }
        )
        for index, name in enumerate(part.names):
            if name in files:
                digests = {f: hashlib.sha256(data).hexdigest() for f, data in files[name].items()}
                self._folder.add(name, part.sha256[index], digests, part.sources[index])


class RoiTableWriter:
    """Writes the means of ROIs: a tidy table, complete and in order however a run was resumed.

    Rows are appended to a file of their own while stimuli come, each stimulus' in one piece; a run
    that goes on after an interruption finds them there. At the end they are copied in order, in
    constant memory.

    Parameters
    ----------
    folder : OutputFolder
        Begun. Rows that an earlier run wrote there are kept if it is resumed.
    of : Prediction, SpatialModel or StoredPrediction
        The ROIs and the people.
    """

    def __init__(
        self, folder: OutputFolder, of: Prediction | SpatialModel | StoredPrediction
    ) -> None:
        self._folder = folder
        self._table, self._spool = folder.path / TABLE, folder.path / SPOOL
        self._n_rows = len(roi_places(of.roi_masks)) * (1 + len(of.subject_names))
        self._found: dict[str, tuple[int, int]] = {}
        kept = folder.resumes and folder.keep(TABLE)
        try:
            if kept and not self._spool.exists():
                shutil.copyfile(self._table, self._spool)
            if folder.resumes and self._spool.exists():
                self._scan()
            else:
                self._spool.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self._spool, error) from error

    @property
    def names(self) -> list[str]:
        """Stimuli whose rows are there."""
        return list(self._found)

    def has(self, name: str) -> bool:
        """Tell whether the rows of a stimulus are there."""
        return name in self._found

    def add(self, part: Prediction, names: Collection[str] | None = None) -> None:
        """Write the rows of some stimuli, all by default.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        self.add_means(part.roi_means(), part.names, part.onsets_s, names)

    def add_means(
        self,
        means: RoiMeans,
        stimuli: Sequence[str],
        onsets_s: npt.NDArray[np.float64] | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        """Write the means of some stimuli, of which those in ``names``; all by default.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        try:
            with self._spool.open("ab") as file:
                if file.tell() == 0:
                    file.write(_encoded(_cells(_columns(onsets_s)) + "\n"))
                for name, rows in roi_rows(means, stimuli, onsets_s):
                    if names is None or name in names:
                        self._found[name] = (file.tell(), len(rows))
                        file.write(rows)
        except OSError as error:
            raise cannot_write(self._spool, error) from error

    def close(self, names: Iterable[str]) -> None:
        """Write the table of these stimuli, in this order; none where there are none.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        chosen = list(names)
        if chosen:
            with (
                atomic_path(self._table) as temporary,
                temporary.open("wb") as table,
                self._spool.open("rb") as spool,
            ):
                table.write(spool.readline())
                for name in chosen:
                    start, size = self._found[name]
                    spool.seek(start)
                    table.write(spool.read(size))
            self._folder.wrote(self._table)
        else:
            self._table.unlink(missing_ok=True)
        self._spool.unlink(missing_ok=True)

    def _scan(self) -> None:
        """Find whole blocks of rows, and cut off what a killed run left half written."""
        with self._spool.open("r+b") as file:
            at = end = len(file.readline())
            name, start, n_rows = "", at, 0
            for line in file:
                [cells] = csv.reader([line.decode("utf-8", "replace")], delimiter="\t")
                if cells[0] != name or n_rows == self._n_rows:
                    name, start, n_rows = cells[0], at, 0
                n_rows += line.endswith(b"\n")
                at += len(line)
                if n_rows == self._n_rows:
                    self._found[name] = (start, at - start)
                    end = at
            file.truncate(end if self._found else 0)


def on_mesh(
    of: Prediction | StoredPrediction, maps: npt.NDArray[np.float32], mesh: str
) -> dict[str, npt.NDArray[np.float32]]:
    """Return maps of a prediction's voxels on a mesh, by hemisphere: (n_maps, n_vertices)."""
    from imgtofmri.encoder.surface import HEMIS, to_surface

    if not mesh:
        return {}
    found = to_surface(maps, of.mask, of.affine, of.space, mesh).data.parts
    return {
        hemi: found[side].reshape(-1, len(maps)).T for hemi, side in HEMIS.items() if side in found
    }


class EvidenceWriter:
    """Writes how far a run's maps can be trusted: `coverage`, people's `agreement`, and accuracy.

    Parameters
    ----------
    folder : OutputFolder
        Begun.
    layout : Layout
        Names the files.
    of : Prediction, SpatialModel or StoredPrediction
        The voxels, and what people stand behind.
    affine : array of shape (4, 4)
    """

    def __init__(
        self,
        folder: OutputFolder,
        layout: Layout,
        of: Prediction | SpatialModel | StoredPrediction,
        affine: npt.NDArray[np.float64],
    ) -> None:
        self._folder, self._layout = folder, layout
        self._coverage, self._accuracy = of.coverage, of.accuracy
        self._writer = VolumeWriter(of.mask, affine)
        self.agreement = Agreement(of.coverage)

    def keep(self, n_stimuli: int) -> bool:
        """Keep the maps of an earlier run of so many, if they are there and are what it wrote."""
        maps = [COVERAGE]
        maps += [AGREEMENT] if n_stimuli >= LEAST_STIMULI else []
        maps += [ACCURACY] if self._accuracy is not None else []
        return self._folder.keep(*map(self._layout.evidence, maps))

    def write(self) -> None:
        """Write the maps: agreement of stimuli enough for it, accuracy where it is known."""
        n_people, n_stimuli = len(self._coverage), self.agreement.n_stimuli
        said = f"how many of {n_people} people stand behind each voxel"
        statistic = Statistic("estimate", said, limits=(0.0, float(n_people)))
        maps = {COVERAGE: (self._coverage.sum(axis=0), statistic)}
        if n_stimuli >= LEAST_STIMULI:
            said = f"r of people's predictions over {n_stimuli} stimuli, mean over pairs"
            statistic = Statistic("correlation", said, (n_stimuli - 2.0,), limits=(-1.0, 1.0))
            maps[AGREEMENT] = (self.agreement.values(), statistic)
        if self._accuracy is not None:
            said = "cross-validated r of the encoder's models, over people"
            statistic = Statistic("estimate", said, limits=(-1.0, 1.0))
            maps[ACCURACY] = (self._accuracy, statistic)
        for what, (values, statistic) in maps.items():
            path = self._folder.path / self._layout.evidence(what)
            self._writer.write(path, values, statistic)
            self._folder.wrote(path)


def _columns(onsets_s: npt.NDArray[np.float64] | None) -> list[str]:
    onset = [] if onsets_s is None else ["onset"]
    return ["stimulus", *onset, "roi", "hemi", "subject", "mean", "unit"]


def roi_rows(
    means: RoiMeans, stimuli: Sequence[str], onsets_s: npt.NDArray[np.float64] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield each stimulus' name and its rows, as the table has them."""
    values = np.concatenate([means.group[:, None], means.values], axis=1)
    owners = [GROUP, *means.subjects]
    # All but the stimulus and the number is the same in every stimulus' rows.
    whats = [_cells([*place, owner]) for place in means.places for owner in owners]
    for number, name in enumerate(stimuli):
        onset = [] if onsets_s is None else [f"{onsets_s[number]:.6g}"]
        which = _cells([name, *onset])
        rows = [
            f"{which}\t{what}\t{_number(value)}\t{MODEL_UNIT}\n"
            for what, value in zip(whats, values[:, :, number].ravel().tolist(), strict=True)
        ]
        yield name, _encoded("".join(rows))


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else MISSING


def _cells(cells: list[str]) -> str:
    """Return cells as they stand in a line, quoted where they have to be."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="").writerow(cells)
    return text.getvalue()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _check_names(prediction: Prediction) -> None:
    """Refuse names that files cannot have, or that would be one file's."""
    counts = Counter(name.casefold() for name in prediction.names)
    for name in prediction.names:
        is_plain = name not in ("", "..") and name == Path(name).name and name.isprintable()
        if not is_plain or counts[name.casefold()] > 1:
            message = (
                "expected stimuli with names of their own, each of which can be a file's; got "
                f"{name!r}{' more than once' if is_plain else ''}. Give names as predict_features "
                "takes them, or files whose names differ."
            )
            raise OptionError(message)
