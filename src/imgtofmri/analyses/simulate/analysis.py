"""`Simulation`: who sees what, and the volumes that come of it, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.simulate.bold import noise_field, simulate_blocks
from imgtofmri.analyses.simulate.encoding import encoded_subjects
from imgtofmri.analyses.simulate.responses import (
    Responses,
    check_responses,
    check_subjects,
    subject_weights,
)
from imgtofmri.encoder import Encoder, Provenance, Settings, load_encoder
from imgtofmri.encoder.regions import roi_mask, roi_names
from imgtofmri.exceptions import OptionError, ShapeError, check_choice
from imgtofmri.experiments import (
    Experiment,
    Input,
    Run,
    Scale,
    Scan,
    SmoothField,
    check_run,
    condition_rows,
    conditions_of,
    encode_stimuli,
    own_means,
)
from imgtofmri.experiments.noise import check_seed
from imgtofmri.spaces import brain_mask
from imgtofmri.text import Brief

BoolArray: TypeAlias = NDArray[np.bool_]
Float32Array: TypeAlias = NDArray[np.float32]

VoxelsName = Literal["brain", "predicted"]
VOXELS: tuple[VoxelsName, ...] = ("brain", "predicted")


@dataclass(frozen=True, eq=False, repr=False)
class Simulation(Brief):
    """An experiment on some subjects, every run checked; volumes are made when asked for.

    `simulate_experiment` makes it of an encoder; it can be made of responses of one's own, too.

    Attributes
    ----------
    subjects : mapping of str to Responses
        Each subject's responses, by name; arrays of shape (n_stimuli, n_voxels) can be given.
        Voxels in C order of the mask.
    runs : sequence of Run
        What each subject sees. The noise of each run and subject is its own.
    scan : Scan
        How responses become BOLD.
    mask : array of shape (X, Y, Z), bool
        Voxels with a response.
    affine : array of shape (4, 4)
        Voxel to millimetres of ``space``, RAS+.
    brain : array of shape (X, Y, Z), bool, optional
        Further voxels that have a baseline and noise but no response; see
        `imgtofmri.spaces.brain_mask`.
    space : str
        The template's name.
    seed : int
        Seed of the noise.
    provenance : Provenance, optional
        What predicted the responses.
    stimuli, tables : sequence of Input
        The files that are shown, and the events files.
    scale : Scale, optional
        What the scan's ``percent_per_unit`` came from.
    rois : mapping of str to array of shape (n_voxels,), bool
        Regions, as voxels of the mask, whose signal is told; see `region_courses`.
    rate_hz : float, optional
        Frames a second that were taken of movies; None without any.

    Raises
    ------
    OptionError
        If there is no run or subject, or an event lies outside its run.
    ShapeError, DataError
        If responses do not fit the mask or the events, or are not finite.
    """

    subjects: Mapping[str, Responses]
    runs: Sequence[Run]
    scan: Scan
    mask: BoolArray
    affine: NDArray[np.float64]
    brain: BoolArray | None = None
    space: str = "MNI152NLin6Asym"
    seed: int = 0
    provenance: Provenance | None = None
    stimuli: Sequence[Input] = ()
    tables: Sequence[Input] = ()
    scale: Scale | None = None
    rois: Mapping[str, BoolArray] = field(default_factory=dict)
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not self.runs or not self.subjects:
            message = (
                "a simulation needs one or more runs and subjects; got "
                f"{len(self.runs)} runs and {len(self.subjects)} subjects. Give some."
            )
            raise OptionError(message)
        checked = {name: self._fitting(name, values) for name, values in self.subjects.items()}
        object.__setattr__(self, "subjects", checked)
        object.__setattr__(self, "runs", tuple(self.runs))
        for run in self.runs:
            check_run(run.events, self.scan, run.n_volumes)

    @cached_property
    def inside(self) -> BoolArray:
        """The voxels that are simulated, shape (X, Y, Z)."""
        return self.mask if self.brain is None else self.mask | self.brain

    def bold(self, subject: str, run: int = 0) -> Float32Array:
        """Return a subject's run.

        Parameters
        ----------
        subject : str
        run : int
            Which of the runs, from 0.

        Returns
        -------
        array of shape (n_volumes, n_voxels), float32
            Voxels in C order of ``inside``.

        Raises
        ------
        OptionError
            If there is no such subject.
        """
        return np.concatenate(list(self.blocks(subject, run)))

    def blocks(self, subject: str, run: int = 0) -> Iterator[Float32Array]:
        """Make a subject's run a block of volumes at a time; see `bold`."""
        names = list(self.subjects)
        check_choice("subject", subject, names)
        return simulate_blocks(
            self.subjects[subject],
            self.runs[run].events,
            self.scan,
            self.runs[run].n_volumes,
            seed=self.seed,
            key=(names.index(subject), run),
            n_voxels=int(self.inside.sum()),
            columns=np.flatnonzero(self.mask[self.inside]),
            field=self._field,
        )

    @cached_property
    def _field(self) -> SmoothField | None:
        return noise_field(self.scan, self.inside, self.affine)

    def _fitting(self, name: str, values: ArrayLike | Responses) -> Responses:
        """Check one subject's responses against the events and the mask."""
        responses = check_responses(values, max(run.events.n_stimuli for run in self.runs))
        if responses.n_voxels != self.mask.sum():
            message = (
                f"responses of {name} must have a column for each of the {self.mask.sum()} voxels "
                f"of the mask; got {responses.n_voxels}. Use the mask they were predicted with."
            )
            raise ShapeError(message)
        return responses


def simulate_experiment(
    experiment: Experiment,
    encoder: Encoder | str | Path,
    settings: Settings | None = None,
    *,
    subjects: str | int = "each",
    runs: int = 1,
    seed: int = 0,
    scale: Scale | str | float = "1",
    voxels: VoxelsName = "brain",
    progress: bool = True,
    **changes: Any,
) -> Simulation:
    """Show an experiment to an encoder.

    Parameters
    ----------
    experiment : Experiment
        From `read_experiment`.
    encoder : Encoder, str or Path
        One that is loaded, or what `imgtofmri.load_encoder` takes; it is loaded when all else is
        found valid.
    settings, **changes
        As for `Encoder.predict`; amplitude is kept, whatever ``average`` is.
    subjects : "each", "group" or int
        Who is scanned: as for `subject_weights`.
    runs : int
        How often each run is repeated, with noise anew.
    seed : int
        Seed of the noise and of drawn subjects.
    scale : Scale, str or float
        How large signals are, in percent of the baseline, as `Scale.parse` reads it; by default one
        percent for a response of 1 in the models' units. It takes the place of the scan's
        ``percent_per_unit``.
    voxels : {"brain", "predicted"}
        Which voxels have a baseline and noise: those of the brain, or those with a response.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Simulation

    Raises
    ------
    OptionError
        If an option is not valid.
    StimulusError
        If stimuli cannot be used; all are named.
    DataError
        If the encoder does not predict the reference contrast of ``scale``, or a movie is to be
        shown for longer than it lasts.
    """
    check_choice("voxels", voxels, VOXELS)
    if runs < 1:
        message = f"runs must be 1 or more; got {runs}. Leave it out for one."
        raise OptionError(message, "runs")
    check_subjects(subjects)
    check_seed(seed)
    chosen = scale if isinstance(scale, Scale) else Scale.parse(str(scale))
    loaded = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, progress)
    predictor = loaded.predictor(settings, **{**changes, "average": "mean"})
    shares = subject_weights(predictor.spatial.subject_names, subjects, seed=seed)
    if chosen.contrast:
        chosen.check(conditions_of(experiment), predictor.settings.rois or ())
    shown = encode_stimuli(predictor.extractor, experiment, progress=progress)
    planned = experiment.runs(shown.index)
    unit = chosen.percent
    if chosen.contrast:
        conditions = condition_rows(planned, shown.index)
        unit = chosen.percent_per_unit(own_means(predictor, shown.features), conditions)
    responses = encoded_subjects(predictor.spatial, shown.features, shares)
    template, space = loaded.bundle.template, loaded.bundle.space
    found = predictor.spatial.roi_masks
    return Simulation(
        responses,
        [*planned] * runs,
        replace(experiment.scan, percent_per_unit=unit),
        predictor.spatial.mask,
        template.affine,
        brain_mask(template.shape, template.affine, space) if voxels == "brain" else None,
        space,
        seed,
        predictor.provenance,
        shown.stimuli,
        experiment.tables,
        chosen,
        {roi: roi_mask(found, roi) for roi in roi_names(found)},
        experiment.movie_rate_hz,
    )
