"""What is done for a job: its stimuli predicted into its folder, as ``imgtofmri predict`` does."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from imgtofmri.analyses.predict import predict_into
from imgtofmri.encoder import Encoder, Settings
from imgtofmri.encoder.saving import RECORD, TABLE
from imgtofmri.encoder.settings import AVERAGES
from imgtofmri.exceptions import StimulusError
from imgtofmri.files import write_whole
from imgtofmri.outputs.folder import PAGE
from imgtofmri.serve.jobs import Job
from imgtofmri.serve.limits import Limits
from imgtofmri.serve.refusal import Refusal
from imgtofmri.stimuli.items import StimulusWarning, one_line


def make_work(encoder: Encoder, settings: Settings) -> Callable[[Job], None]:
    """Return what does a job.

    Parameters
    ----------
    encoder : Encoder
        Which the thread that calls it owns.
    settings : Settings
        Those of jobs that ask for no others.
    """

    def work(job: Job) -> None:
        asked = dict(job.asked)
        how = {"subjects": asked.pop("subjects"), "rate_hz": asked.pop("rate_hz")}
        with _noting(job):
            summary = predict_into(
                job.made, encoder, job.files, settings, report=True, **how, **asked
            )
        for failure in summary.failures:
            reason = job.without_paths(str(failure.error))
            job.failures.append((job.without_paths(failure.name), reason))
        unused = {name for name, _ in job.failures}
        job.change(files=[path for path in job.files if path.name not in unused])
        if not summary.done:
            reasons = " ".join(reason for _, reason in job.failures)
            message = f"expected one or more stimuli that can be predicted; got none: {reasons}"
            raise StimulusError(message)
        for path in (job.made / RECORD, job.made / PAGE):
            # Both say where stimuli lie on this computer, which is nothing to whoever asked.
            if path.exists():
                write_whole(path, job.without_paths(path.read_text("utf-8")).encode("utf-8"))
        files = sorted(path for path in job.made.rglob("*") if path.is_file())
        sizes = {path.relative_to(job.made).as_posix(): path.stat().st_size for path in files}
        job.change(results=sizes)

    return work


@contextmanager
def _noting(job: Job) -> Iterator[None]:
    """Tell whoever asked, too, what is said of stimuli in the block, each time that it is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", StimulusWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
            if issubclass(category, StimulusWarning):
                job.notes.append(job.without_paths(str(message)))
            show(message, category, *more, **named)

        warnings.showwarning = note
        yield


@dataclass(frozen=True, slots=True)
class Choices:
    """What a job may ask for, and what it gets if it does not.

    Attributes
    ----------
    rois : tuple of str
        Of the encoder.
    chosen : tuple of str
        Those of a job that names none, in the order in which they count.
    average : str
    limits : Limits
    """

    rois: tuple[str, ...]
    chosen: tuple[str, ...]
    average: str
    limits: Limits

    def read(self, fields: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return a form's fields as settings of a job.

        Raises
        ------
        Refusal
            422 for the first that is not valid.
        """
        known = {"rois", "average", "rate_hz", "subjects"}
        for name in fields:
            _require(name in known, "fields", ", ".join(sorted(known)), name)
        named = {roi.strip() for text in fields.get("rois", ()) for roi in text.split(",")} - {""}
        for roi in sorted(named):
            _require(roi in self.rois, "rois", f"some of {', '.join(self.rois)}", roi)
        average = self._last(fields, "average", self.average)
        _require(average in AVERAGES, "average", " or ".join(AVERAGES), average)
        subjects = self._last(fields, "subjects", "false").lower()
        _require(subjects in {"true", "false"}, "subjects", "true or false", subjects)
        said = self._last(fields, "rate_hz", "2")
        try:
            rate_hz = float(said)
        except ValueError:
            rate_hz = math.nan
        most = self.limits.max_rate_hz
        _require(0.01 <= rate_hz <= most, "rate_hz", f"a number from 0.01 to {most:g}", said)
        # One order for all jobs, so that one choice is worked out once: the server's own, as where
        # ROIs overlap the order counts, then the encoder's.
        order = dict.fromkeys((*self.chosen, *self.rois))
        return {
            "rois": tuple(roi for roi in order if roi in (named or {*self.chosen})),
            "average": average,
            "subjects": subjects == "true",
            "rate_hz": rate_hz,
        }

    @staticmethod
    def _last(fields: Mapping[str, list[str]], name: str, default: str) -> str:
        return (fields.get(name) or [default])[-1].strip() or default


def _require(holds: bool, name: str, expected: str, got: str) -> None:
    if not holds:
        shown = one_line(got)[:80]
        reason = f"{name}: expected {expected}; got {shown!r}. Leave it out or mend it."
        raise Refusal(422, reason)


def roi_means(job: Job) -> dict[str, Any]:
    """Return the means of ROIs of a job's images, out of the table that it wrote.

    Returns
    -------
    dict
        ``stimuli``, ``places`` (ROI and hemisphere), ``unit``, and ``group``: for each stimulus the
        value of each place, None where there is none. Without images, all are empty.
    """
    stimuli: dict[str, dict[tuple[str, str], float | None]] = {}
    places: dict[tuple[str, str], None] = {}
    unit = ""
    if TABLE in job.results:
        with (job.made / TABLE).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if row["subject"] != "group":
                    continue
                place = (row["roi"], row["hemi"])
                places[place] = None
                known = row["mean"] != "n/a"
                value = float(row["mean"]) if known else None
                stimuli.setdefault(row["stimulus"], {})[place] = value
                unit = row["unit"]
    return {
        "stimuli": list(stimuli),
        "places": [{"roi": roi, "hemi": hemi} for roi, hemi in places],
        "unit": unit,
        "group": [[of.get(place) for place in places] for of in stimuli.values()],
    }
