"""Every table that commands write, with what its columns mean: what the reference shows of them.

The meanings lie with the code that writes the tables; a table's sidecar says the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from imgtofmri.analyses.contrast import columns as contrast
from imgtofmri.analyses.dynamics import columns as dynamics
from imgtofmri.analyses.explain import files as explain
from imgtofmri.analyses.power import files as power
from imgtofmri.analyses.rsa import columns as rsa
from imgtofmri.analyses.select import columns as select
from imgtofmri.analyses.simulate import courses
from imgtofmri.analyses.validate import columns as validate
from imgtofmri.encoder import columns as encoder
from imgtofmri.encoder import points
from imgtofmri.training import columns as training


@dataclass(frozen=True)
class Table:
    """A table that a command writes.

    Attributes
    ----------
    command : str
    file : str
        Its name; words in capitals stand for others.
    rows : str
        What a row is.
    columns : mapping of str to str
        What each column means; words in capitals stand for others.
    others : bool
        Whether there may be columns of the user's own.
    sometimes : tuple of str
        What the names of columns begin with that are there in some cases only.
    """

    command: str
    file: str
    rows: str
    columns: Mapping[str, str]
    others: bool = False
    sometimes: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Return whether a file may be this table."""
        return _matches(self.file, name)

    def unknown(self, columns: list[str]) -> list[str]:
        """Return the columns of which nothing is said."""
        return [
            name
            for name in columns
            if not self.others and not any(_matches(known, name) for known in self.columns)
        ]

    def absent(self, columns: list[str]) -> list[str]:
        """Return the columns of which something is said and that are not there."""
        return [
            known
            for known in self.columns
            if not known.startswith(self.sometimes or ("\n",))
            and not any(_matches(known, name) for name in columns)
        ]


def _matches(pattern: str, name: str) -> bool:
    parts = re.split(r"([A-Z]{2,})", pattern)
    literal = [".+" if number % 2 else re.escape(part) for number, part in enumerate(parts)]
    return bool(re.fullmatch("".join(literal), name))


EVENTS = {
    "onset": "seconds from the start of the first volume",
    "duration": "seconds",
    "stim_file": "the stimulus, below the dataset's folder stimuli; n/a where none is shown",
    "amplitude": "factor on the predicted response; or modulation, where the given table has that",
}

TABLES = (
    Table("predict", "rois.tsv", "a stimulus, region, hemisphere and person", encoder.ROIS),
    Table("predict", "NAME_timeseries.tsv", "a frame of a movie", encoder.TIMESERIES),
    Table(
        "predict",
        "points.tsv",
        "a stimulus, point and map",
        points.COLUMNS,
        others=True,
        sometimes=("onset",),
    ),
    Table("predict", "descriptions.tsv", "a stimulus, as BIDS", encoder.DESCRIPTIONS),
    Table("simulate", "participants.tsv", "a person", {"participant_id": "`sub-` and the label"}),
    Table(
        "simulate",
        "timecourses.tsv",
        "a person, run, region and volume",
        courses.COURSES,
    ),
    Table(
        "simulate",
        "NAME_events.tsv",
        "an event of a run, as given",
        EVENTS,
        others=True,
        sometimes=("amplitude",),
    ),
    Table("power", "people.tsv", "a region, person and number of runs", power.COLUMNS["people"]),
    Table("power", "group.tsv", "a region, number of runs and of people", power.COLUMNS["group"]),
    Table("power", "needed.tsv", "a region and number of runs", power.COLUMNS["needed"]),
    Table("dynamics", "summary.tsv", "a region and model", dynamics.SUMMARY),
    Table("dynamics", "agreement.tsv", "a region, model and volume", dynamics.AGREEMENT),
    Table("dynamics", "boundaries.tsv", "a region, model and lag", dynamics.BOUNDARIES),
    Table("dynamics", "timecourses.tsv", "a region, person and volume", dynamics.TIMECOURSES),
    Table(
        "dynamics",
        "similarity_roi-ROI.tsv",
        "a pair of volumes",
        dynamics.SIMILARITY,
        sometimes=("measured",),
    ),
    Table("dynamics", "events.tsv", "an event of a region's prediction", dynamics.EVENTS),
    Table("validate", "matched_patterns.tsv", "a test", validate.MATCHED),
    Table(
        "validate",
        "roi_means.tsv",
        "a region and model",
        validate.ROI_MEANS,
        sometimes=("n_people", "r_people", "lower_people", "upper_people", "explain"),
    ),
    Table(
        "validate", "roi_means_images.tsv", "a region, image and source", validate.ROI_MEANS_IMAGES
    ),
    Table(
        "validate",
        "accuracy.tsv",
        "a region and model",
        validate.ACCURACY,
        sometimes=("r_people", "lower_people", "upper_people", "explain", "mean_r2"),
    ),
    Table(
        "validate",
        "accuracy_voxels.tsv",
        "a voxel of a region",
        validate.VOXELS,
        sometimes=("explainable",),
    ),
    Table("rsa", "rsa.tsv", "a measured set, model and region", rsa.RSA),
    Table("rsa", "pairs.tsv", "a measured set and two models", rsa.PAIRS),
    Table("rsa", "subjects.tsv", "a measured set, model, region and person", rsa.SUBJECTS),
    Table("contrast", "NAME_rois.tsv", "a model, region, hemisphere and person", contrast.ROIS),
    Table(
        "contrast",
        "NAME_conditions.tsv",
        "a model, region, hemisphere, person and condition",
        contrast.CONDITIONS,
    ),
    Table("contrast", "NAME_luminance.tsv", "a property of the images", contrast.LUMINANCE),
    Table("select", "selection.tsv", "a chosen stimulus", select.SELECTION),
    Table("select", "checks.tsv", "a model, set and check", select.CHECKS),
    Table("select", "matching.tsv", "a set and property", select.MATCHING, others=True),
    Table("select", "events.tsv", "an event", select.EVENTS),
    Table(
        "explain",
        "contributions.tsv",
        "an image, region, person and place",
        explain.CONTRIBUTIONS,
    ),
    Table("explain", "responses.tsv", "an image, region and person", explain.RESPONSES),
    Table("layers", "layers.tsv", "a person, region and layer", training.LAYERS),
    Table(
        "describe",
        "voxels.tsv",
        "a voxel of a model; `--voxels` says what the file is called",
        encoder.VOXELS,
        others=True,
        sometimes=("noise_ceiling",),
    ),
    Table(
        "describe", "rois.tsv", "a label; called as the image that `--atlas` names", encoder.ATLAS
    ),
)


def tables_of(command: str) -> Iterator[Table]:
    """Yield a command's tables."""
    return (table for table in TABLES if table.command == command)
