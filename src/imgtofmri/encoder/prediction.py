"""A prediction: responses to stimuli on the template grid, with their names and what made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from imgtofmri.encoder.agreement import Agreement
from imgtofmri.encoder.choosing import Chosen, rows_of
from imgtofmri.encoder.intervals import half_widths
from imgtofmri.encoder.native import NativeSpace
from imgtofmri.encoder.provenance import Provenance
from imgtofmri.encoder.regions import (
    BOTH,
    GROUP,
    MODEL_UNIT,
    OwnRois,
    RoiMasks,
    RoiMeans,
    RoiPlace,
    columns_at,
    means_table,
    own_columns,
    roi_mask,
    roi_means,
    roi_names,
    roi_places,
)
from imgtofmri.encoder.settings import AverageName, Settings
from imgtofmri.encoder.spatial import LEAST_COVERAGE
from imgtofmri.exceptions import OptionError, ShapeError, check_choice, choice_message
from imgtofmri.outputs import BOUNDS, FormatName, OutputFolder, to_img
from imgtofmri.spaces.names import check_points_space

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd
    from nilearn.surface import PolyMesh, SurfaceImage

    from imgtofmri.encoder.stored import StoredPrediction
    from imgtofmri.figures.style import Figure
    from imgtofmri.report.frame import PageView

Part = TypeVar("Part", bound=Sized)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Predicted responses to one or more stimuli.

    ``prediction[3]``, ``prediction["house.jpg"]``, ``prediction[2:5]``, and a list of numbers, of
    names or an array of booleans in the brackets give predictions of these stimuli alone; iterating
    gives one stimulus after another. ``name in prediction`` tells whether a stimulus is there.

    Attributes
    ----------
    group : array of shape (n_stimuli, n_voxels), float32
        The group map of each stimulus. With ``average="zscore"`` in standard deviations over the
        mask's voxels. With ``average="mean"`` in the models' own units, over the people who stand
        behind a voxel, NaN where too few do: outside `covered`.
    subjects : array of shape (n_subjects, n_stimuli, n_voxels), float32
        Each subject's smoothed map, in the models' own units. Without subjects in predictions out
        of a store that does not hold them.
    mask : array of shape (X, Y, Z), bool
        The voxels, in C order.
    affine : array of shape (4, 4), float64
        Voxel indices to millimetres of ``space``, RAS+.
    names : tuple of str
        One for each stimulus.
    roi_masks : dict of (roi, hemi) to array of shape (n_voxels,), bool
        hemi is "L", "R", or "B" where hemispheres are not told apart.
    subject_names : tuple of str
    native : tuple of array of shape (n_stimuli, n_outputs), float32
        Each subject's responses in native space, not smoothed, in the models' own units. Empty in
        predictions out of a store.
    own_rois : tuple of dict of (roi, hemi) to array of shape (n_own_voxels,), int
        Which columns of a subject's native responses are that subject's own ROI.
    coverage : array of shape (n_subjects, n_voxels), float32
        The share of each subject's map that the subject's own voxels make: 1 well inside the ROIs,
        0 far away. Their sum says how many people stand behind a voxel.
    provenance : Provenance
        The encoder, the network and the settings that made it.
    onsets_s : array of shape (n_stimuli,) or None
        When each stimulus begins, in seconds, for a movie's frames.
    sha256 : tuple of (str or None)
        Digests of the stimuli's files; None for pictures in memory and for features.
    sources : tuple of (Path or None)
        The files.
    residual_variance : array of shape (n_voxels,), float64, or None
        Of a measured response about its prediction, the mean over the subjects who cover a voxel;
        None where the encoder does not know it.
    accuracy : array of shape (n_voxels,), float32, or None
        The cross-validated r of the models behind each voxel; None where the encoder does not know
        it.
    kept_means : RoiMeans or None
        What `roi_means` returns where native responses were not kept.
    native_spaces : tuple of NativeSpace
        Where each subject's native responses lie; empty where no encoder made the prediction.
    """

    group: npt.NDArray[np.float32]
    subjects: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]
    names: tuple[str, ...]
    roi_masks: RoiMasks
    subject_names: tuple[str, ...]
    native: tuple[npt.NDArray[np.float32], ...]
    own_rois: tuple[OwnRois, ...]
    coverage: npt.NDArray[np.float32]
    provenance: Provenance = field(default_factory=Provenance)
    onsets_s: npt.NDArray[np.float64] | None = None
    sha256: tuple[str | None, ...] = ()
    sources: tuple[Path | None, ...] = ()
    residual_variance: npt.NDArray[np.float64] | None = None
    accuracy: npt.NDArray[np.float32] | None = None
    kept_means: RoiMeans | None = None
    native_spaces: tuple[NativeSpace, ...] = ()

    def __post_init__(self) -> None:
        # One encoder's predictions share these: a change of one's would be a change of all.
        for name in ("mask", "affine", "coverage", "residual_variance", "accuracy"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        masks = {place: read_only(mask) for place, mask in self.roi_masks.items()}
        object.__setattr__(self, "roi_masks", masks)
        nothing = (None,) * len(self.names)
        object.__setattr__(self, "sha256", self.sha256 or nothing)
        object.__setattr__(self, "sources", self.sources or nothing)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, chosen: Chosen) -> Prediction:
        rows = rows_of(chosen, len(self), self._named)
        # What lies in a row is looked at in place.
        some = slice(rows.start, rows.stop) if isinstance(rows, range) and rows.step == 1 else rows
        return replace(
            self,
            group=self.group[some],
            subjects=self.subjects[:, some],
            native=tuple(responses[some] for responses in self.native),
            names=tuple(self.names[row] for row in rows),
            onsets_s=None if self.onsets_s is None else self.onsets_s[some],
            sha256=tuple(self.sha256[row] for row in rows),
            sources=tuple(self.sources[row] for row in rows),
            kept_means=None if self.kept_means is None else self.kept_means[some],
        )

    def _named(self, name: str) -> range:
        found = [row for row, own in enumerate(self.names) if own == name]
        if not found:
            raise OptionError(choice_message("", "a stimulus", name, self.names))
        if len(found) > 1:
            message = (
                f"a stimulus must be chosen by its number where several have its name; got "
                f"{name!r}, which {len(found)} have: numbers {', '.join(map(str, found))}."
            )
            raise OptionError(message)
        return range(found[0], found[0] + 1)

    @staticmethod
    def open(path: str | Path, *, unfinished: bool = False) -> StoredPrediction:
        """Open what ``imgtofmri predict --format zarr`` wrote, of which maps are read when needed.

        Parameters
        ----------
        path : str or Path
            The folder of the run, or the store in it.
        unfinished : bool
            Whether to open a store of which not all is there yet: what is there.

        Returns
        -------
        StoredPrediction
            ``stored["house.jpg"]``, ``stored[3]`` and ``stored[2:5]`` are predictions.

        Raises
        ------
        DataError
            If there is none, it is damaged, or not all is there.

        Examples
        --------
        >>> Prediction.open("out/")["house.jpg"].to_img()  # doctest: +SKIP
        """
        from imgtofmri.encoder.stored import open_stored

        return open_stored(path, unfinished=unfinished)

    def __repr__(self) -> str:
        size = f"{len(self)} stimuli x {self.group.shape[1]} voxels"
        return (
            f"Prediction({size}, rois={self.rois}, subjects={self.subject_names}, "
            f"average={self.average!r}, space={self.space!r})"
        )

    def _repr_html_(self) -> str:
        """Show it in a notebook: a glass brain, thumbnails and the ROIs' means, all static."""
        from imgtofmri.encoder.notebook import prediction_html

        return prediction_html(self)

    @property
    def settings(self) -> Settings:
        """The settings that made it."""
        return self.provenance.settings

    @property
    def average(self) -> AverageName:
        """How subjects were averaged: "mean" keeps amplitude, "zscore" does not."""
        return self.settings.average

    @property
    def space(self) -> str:
        """The template space."""
        return self.provenance.space

    @property
    def unit(self) -> str:
        """The unit of the group's maps: "z" or "model units"."""
        return self.provenance.unit

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the ROIs."""
        return roi_names(self.roi_masks)

    @property
    def roi_places(self) -> tuple[RoiPlace, ...]:
        """Each ROI in its left and right hemisphere, then in both: (roi, hemi, voxels)."""
        return roi_places(self.roi_masks)

    def roi_mask(self, roi: str, hemi: str = BOTH) -> npt.NDArray[np.bool_]:
        """Return which voxels belong to an ROI, shape (n_voxels,).

        Parameters
        ----------
        roi : str
        hemi : {"both", "L", "R"}

        Returns
        -------
        array of shape (n_voxels,), bool

        Raises
        ------
        OptionError
            If there is no such ROI or hemisphere.
        """
        return roi_mask(self.roi_masks, roi, hemi)

    @property
    def covered(self) -> npt.NDArray[np.bool_]:
        """Which voxels enough people stand behind for a mean over them, shape (n_voxels,)."""
        people: npt.NDArray[np.float64] = self.coverage.sum(axis=0, dtype=np.float64)
        return people >= LEAST_COVERAGE

    def check_whole(self, *, subjects: bool = False, native: bool = False) -> None:
        """Refuse a prediction out of a store that lacks what an analysis needs.

        Parameters
        ----------
        subjects : bool
            Whether subjects' maps are needed.
        native : bool
            Whether responses in native space are.

        Raises
        ------
        OptionError
        """
        if subjects and len(self.subjects) != len(self.subject_names):
            message = (
                "expected a prediction with subjects' maps; its store does not hold them. Predict "
                "with `subjects`."
            )
            raise OptionError(message)
        if native and len(self.native) != len(self.subject_names):
            message = (
                "expected a prediction with responses in native space; stores hold only their "
                "means over ROIs. Predict the stimuli in memory, with Encoder.predict."
            )
            raise OptionError(message)

    def roi_responses(self, roi: str, subject: str, hemi: str = BOTH) -> npt.NDArray[np.float32]:
        """Return the responses of the voxels of a subject's own ROI.

        They are of the subject's native space and not smoothed: no voxel of another ROI, and none
        of another person, has a share in them.

        Parameters
        ----------
        roi, subject : str
        hemi : {"both", "L", "R"}

        Returns
        -------
        array of shape (n_stimuli, n_voxels), float32
            In the models' own units.

        Raises
        ------
        OptionError
            If there is no such ROI, hemisphere or subject, the subject lacks the ROI, or native
            responses were not kept.
        """
        self.check_whole(native=True)
        columns = self._own_columns(roi, subject, hemi)
        return self.native[self.subject_names.index(subject)][:, columns]

    def _own_columns(self, roi: str, subject: str, hemi: str = BOTH) -> npt.NDArray[np.intp]:
        """Return which native responses are a subject's own ROI, refusing one without it."""
        roi_mask(self.roi_masks, roi, hemi)
        check_choice("subject", subject, self.subject_names)
        columns = own_columns(self.own_rois[self.subject_names.index(subject)], roi, hemi)
        if not len(columns):
            have = [
                name
                for name, own in zip(self.subject_names, self.own_rois, strict=True)
                if len(own_columns(own, roi, hemi))
            ]
            where = roi if hemi == BOTH else f"{roi} in hemisphere {hemi}"
            message = (
                f"subject must be one who has {where}; got {subject}, who has not. Those who have: "
                f"{', '.join(have) or 'none'}."
            )
            raise OptionError(message, "subject")
        return columns

    def roi_means(self) -> RoiMeans:
        """Return the mean response of each person's own ROIs, in native space.

        Subject-specific ROIs keep people and regions apart (Nieto-Castanon and Fedorenko 2012,
        doi:10.1016/j.neuroimage.2012.06.065): the group is the mean over people of their own means.

        Returns
        -------
        RoiMeans
            Means in the models' units: values of shape (n_places, n_subjects, n_stimuli), NaN where
            somebody lacks a place, and the group's of shape (n_places, n_stimuli).
        """
        if self.kept_means is not None:
            return self.kept_means
        places = [(roi, hemi) for roi, hemi, _ in self.roi_places]
        return roi_means(self.native, self.own_rois, places, self.subject_names)

    def agreement(self) -> npt.NDArray[np.float32]:
        """Return how well people agree at each voxel on which stimuli drive it.

        Returns
        -------
        array of shape (n_voxels,), float32
            The correlation over stimuli of two people's maps, averaged over the pairs of people of
            whom each makes at least half of the voxel's map (`coverage`); NaN where there are none.

        Raises
        ------
        OptionError
            If there are fewer than 20 stimuli, from which such a correlation cannot be told.
        """
        self.check_whole(subjects=True)
        return Agreement.of(self.subjects, self.coverage).values()

    def subject(self, name: str) -> npt.NDArray[np.float32]:
        """Return one subject's smoothed maps.

        Parameters
        ----------
        name : str
            One of `subject_names`.

        Returns
        -------
        array of shape (n_stimuli, n_voxels), float32

        Raises
        ------
        OptionError
            If there is no such subject, or subjects' maps were not kept.
        """
        check_choice("subject", name, self.subject_names)
        self.check_whole(subjects=True)
        maps: npt.NDArray[np.float32] = self.subjects[self.subject_names.index(name)]
        return maps

    def to_img(self, subject: str | None = None, roi: str | None = None) -> nib.Nifti1Image:
        """Return the maps as a NIfTI image, zero outside the mask.

        Parameters
        ----------
        subject : str, optional
            A subject's name; None is the group.
        roi : str, optional
            Show this ROI alone, the rest being zero.

        Returns
        -------
        nibabel.Nifti1Image
            3-D for one stimulus, 4-D for several; float32, qform and sform code 4. The time step of
            evenly spaced onsets is in the header.

        Raises
        ------
        OptionError
            If there is no such subject or ROI.
        """
        maps = self.group if subject is None else self.subject(subject)
        if roi is not None:
            maps = np.where(self.roi_mask(roi), maps, np.float32(0))
        return to_img(maps, self.mask, self.affine, self._step_s)

    def to_native_img(self, subject: str, roi: str | None = None) -> nib.Nifti1Image:
        """Return one person's responses on that person's own grid, not smoothed.

        That is where the responses were measured which the encoder was fitted to: fMRIPrep's T1w
        space, for example.

        Parameters
        ----------
        subject : str
        roi : str, optional
            This ROI alone, as its model predicts it. By default all ROIs; a voxel of several has
            the mean that the template's maps have, too.

        Returns
        -------
        nibabel.Nifti1Image
            3-D for one stimulus, 4-D for several; float32 in the models' own units, 0 where nothing
            is predicted, qform and sform code 2 (aligned).

        Raises
        ------
        OptionError
            If there is no such subject or ROI, the subject lacks the ROI, or the prediction does
            not say where native responses lie, as one that no encoder made.
        """
        check_choice("subject", subject, self.subject_names)
        if not self.native_spaces:
            message = (
                "a native image needs the grid of each person; got a prediction without any. "
                "Predict with an encoder."
            )
            raise OptionError(message)
        number = self.subject_names.index(subject)
        columns = None if roi is None else self._own_columns(roi, subject)
        space = self.native_spaces[number]
        return space.to_img(self.native[number], columns, self._step_s)

    @property
    def _step_s(self) -> float | None:
        """The time from one stimulus to the next, for headers, where it is always the same."""
        if self.onsets_s is None or len(self.onsets_s) < 2:
            return None
        steps = np.diff(self.onsets_s)
        # Frames of two movies, or in another order, have none.
        even = steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3, atol=0)
        return float(steps[0]) if even else None

    def to_surface(
        self,
        mesh: str | PolyMesh | Mapping[str, Any] = "fsaverage5",
        *,
        subject: str | None = None,
    ) -> SurfaceImage:
        """Return the maps on the cortical surface, NaN where the model knows nothing.

        Values are interpolated linearly between the voxels of the mask that have one; a vertex has
        none where less than half of its weight lies on such voxels. Vertices of fsaverage5 touch
        about half of the mask's voxels: the volume stays the whole result.

        Parameters
        ----------
        mesh : {"fsaverage5", "fsaverage"}, PolyMesh or dict of {"left", "right"} to file
            fsaverage's vertices are looked up where registration fusion found them in MNI152 (Wu et
            al. 2018, doi:10.1002/hbm.24213), and shown on the pial mesh; fsaverage in full is
            fetched. The coordinates of meshes of your own are taken as they are: they must be
            millimetres of the prediction's space.
        subject : str, optional
            A subject's name; None is the group.

        Returns
        -------
        nilearn.surface.SurfaceImage
            Data of shape (n_vertices,) for one stimulus, (n_vertices, n_stimuli) for several; its
            ``data.to_filename("map.gii")`` writes GIFTI, a file for each hemisphere.

        Raises
        ------
        OptionError
            If there is no such mesh or subject, or the prediction is not in MNI152NLin6Asym.
        DataError
            If a mesh in GIFTI counts from the centre of FreeSurfer's own volume.
        """
        from imgtofmri.encoder.surface import to_surface

        maps = self.group if subject is None else self.subject(subject)
        return to_surface(maps, self.mask, self.affine, self.space, mesh)

    def plot(
        self,
        kind: str = "glass",
        stimulus: int | str | None = None,
        *,
        subject: str | None = None,
        vmax: float | None = None,
    ) -> Figure:
        """Draw the response to one stimulus, or the ROIs' to several.

        Parameters
        ----------
        kind : {"glass", "slices", "surface", "rois"}
            A glass brain beside the picture; horizontal slices; fsaverage5, inflated; or the means
            of each person's own ROIs and of the group: bars, or lines over a movie's time.
        stimulus : int or str, optional
            Its number or name. By default the first one; "rois" shows all by default.
        subject : str, optional
            A subject's map; by default the group's. Not for "rois", which shows all people.
        vmax : float, optional
            Where the colours end, on both sides of 0, for figures that shall be compared; by
            default the 99th percentile of this map.

        Returns
        -------
        matplotlib.figure.Figure
            To be shown by a notebook, or saved with ``figure.savefig("map.png", dpi=200)``.

        Raises
        ------
        OptionError
            If there is no such kind, stimulus or subject, or bars of more than 8 stimuli are asked
            for, or a surface of a prediction that is not in MNI152NLin6Asym.

        Examples
        --------
        >>> prediction.plot("slices", "house.jpg").savefig("house.png")  # doctest: +SKIP
        """
        from imgtofmri.encoder.showing import plot_prediction

        return plot_prediction(self, kind, stimulus, subject=subject, vmax=vmax)

    def at(
        self, points_mm: npt.ArrayLike, *, subject: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the values at points: those of the voxels in which they lie.

        Parameters
        ----------
        points_mm : array of shape (3,) or (n_points, 3)
            Millimetres of the prediction's space, RAS+.
        subject : str, optional
            A subject's name; None is the group.

        Returns
        -------
        array of shape (n_stimuli, n_points), or (n_stimuli,) for a single point, float32
            NaN outside the mask, where the model knows nothing.

        Raises
        ------
        ShapeError
            If the points have another shape, or are not finite.
        """
        maps = self.group if subject is None else self.subject(subject)
        column = columns_at(points_mm, self.mask, self.affine)
        values: npt.NDArray[np.float32] = np.where(column >= 0, maps[:, column], np.float32("nan"))
        return values[:, 0] if np.ndim(points_mm) == 1 else values

    def at_table(
        self, points: pd.DataFrame | str | Path, *, subject: str | None = None
    ) -> pd.DataFrame:
        """Return the values at the points of a table, as a tidy table.

        Parameters
        ----------
        points : pandas.DataFrame or path
            With columns x, y and z, in millimetres of the prediction's space, RAS+; other columns,
            such as a name, are kept.
        subject : str, optional
            A subject's name; None is the group.

        Returns
        -------
        pandas.DataFrame
            A row for each stimulus and point: stimulus, onset (movies only), the table's columns,
            subject, value, unit and inside: whether the point lies in a voxel for which the model
            has a value. Where it does not the value is NaN.

        Raises
        ------
        DataError
            If the table lacks a column, a coordinate is no number of millimetres, or the points lie
            in another space by their file's name (``space-``).
        """
        from imgtofmri.encoder.points import AXES, points_table, read_points

        if isinstance(points, str | Path):
            check_points_space(Path(points), self.space)
        table = read_points(points)
        values = self.at(table[[*AXES]].to_numpy(), subject=subject)
        stimuli: dict[str, Any] = {"stimulus": self.names}
        if self.onsets_s is not None:
            stimuli["onset"] = self.onsets_s
        unit = self.unit if subject is None else MODEL_UNIT
        return points_table(table, values, stimuli, subject or GROUP, unit)

    def roi_table(self) -> pd.DataFrame:
        """Return the mean response of each person's own ROIs, as a tidy table.

        Returns
        -------
        pandas.DataFrame
            Columns stimulus, onset (movies only), roi, hemi ("L", "R", "both"), subject ("group" or
            a name), mean and unit. A subject's rows are `roi_means` of that subject, the group's
            the mean over those who have the ROI; all are in the models' units, whatever `average`
            is. NaN where a subject lacks the ROI. One stimulus after another.
        """
        return means_table(self.roi_means(), self.names, self.onsets_s)

    def maps(
        self, *, subjects: bool = False, interval: float | None = None
    ) -> dict[tuple[str | None, str], npt.NDArray[np.float32]]:
        """Return the maps that files are made of.

        Parameters
        ----------
        subjects : bool
            Whether each subject's map is wanted, too.
        interval : float, optional
            The level of a prediction interval whose bounds are wanted, too.

        Returns
        -------
        dict of (subject or None, bound) to array of shape (n_stimuli, n_voxels)
            The group is None; the bound is empty, "lower" or "upper".

        Raises
        ------
        OptionError
            As `interval` does.
        """
        maps: dict[tuple[str | None, str], npt.NDArray[np.float32]] = {(None, ""): self.group}
        if subjects:
            self.check_whole(subjects=True)
            people = zip(self.subject_names, self.subjects, strict=True)
            maps |= {(name, ""): values for name, values in people}
        if interval is not None:
            bounds = zip(BOUNDS, self.interval(interval), strict=True)
            maps |= {(None, name): values for name, values in bounds}
        return maps

    def save(
        self,
        folder: OutputFolder | str | Path,
        format: FormatName = "nifti",
        *,
        subjects: bool = False,
        interval: float | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write a volume for each stimulus, the means of the ROIs, and a record.

        Volumes and record are those of ``imgtofmri predict``. A movie's frames are volumes of
        their own; `imgtofmri.analyses.predict.predict_into` writes 4-D ones.

        Parameters
        ----------
        folder : str, Path or OutputFolder
        format : {"nifti", "bids", "zarr"}
            ``NAME.nii.gz``, a BIDS derivative dataset, or one store, ``predictions.zarr``.
        subjects : bool
            Write each subject's smoothed map, too.
        interval : float, optional
            Write the bounds of a prediction interval of this level, too.
        overwrite : bool
            Replace what an earlier run made.

        Returns
        -------
        list of Path
            The volumes, ``rois.tsv``, which is `roi_table`, and ``predictions.json``.

        Raises
        ------
        OptionError
            If the folder holds an earlier run, names of stimuli cannot name files, or as `interval`
            does.
        OutputError
            If a file cannot be written.

        Examples
        --------
        >>> encoder.predict("photos/").save("out/", subjects=True)  # doctest: +SKIP
        """
        from imgtofmri.encoder.saving import save_prediction

        return save_prediction(
            self, folder, format, subjects=subjects, interval=interval, overwrite=overwrite
        )

    def report(self, path: str | Path) -> Path:
        """Write one page of the predictions, which opens from disk and needs no network.

        In it any stimulus, or the mean of any group, minus any other is drawn at once: slices,
        inflated surfaces, the means of ROIs.

        Parameters
        ----------
        path : str or Path
            The page, such as ``"report.html"``.

        Returns
        -------
        Path

        Raises
        ------
        OptionError
            If the path does not end in ``.html``, or names of stimuli cannot name files.
        OutputError
            If it cannot be written.

        Examples
        --------
        >>> encoder.predict("photos/").report("report.html")  # doctest: +SKIP
        """
        from imgtofmri.encoder.saving import report_prediction

        return report_prediction(self, Path(path))

    def view(self, height: int = 900) -> PageView:
        """Return the page of `report` for a notebook, which shows it in a frame.

        It stays as it is when the notebook is exported: no kernel is asked. A notebook grows by
        the page, some 3 MB for a few stimuli.

        Parameters
        ----------
        height : int
            Of the frame, in pixels.

        Returns
        -------
        PageView

        Raises
        ------
        OptionError
            If the height is not positive, or as `report` does.
        """
        import tempfile

        from imgtofmri.report.frame import PageView

        if height < 1:
            message = f"height must be a number of pixels, 1 or more; got {height}. Use 900."
            raise OptionError(message, "height")
        with tempfile.TemporaryDirectory() as scratch:
            page = self.report(Path(scratch) / "page.html").read_text(encoding="utf-8")
        return PageView(page, height)

    def interval(
        self, level: float = 0.95
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return where the measured response of one more person is expected, voxel by voxel.

        That is the response of the person's own smoothed map, measured as the encoder's training
        responses were: to a single presentation, or as the mean over presentations where the study
        averaged these (`Provenance.measurement` says which).

        Parameters
        ----------
        level : float
            The share of measurements to be covered, between 0 and 1.

        Returns
        -------
        lower, upper : arrays of shape (n_stimuli, n_voxels), float32
            Around the group's mean, in its units. NaN where one person alone covers a voxel, as
            nothing is known there of how people differ.

        Raises
        ------
        OptionError
            If the prediction is a z-score, the level is not between 0 and 1, or the encoder does
            not record residual variances, as those that `imgtofmri fit` makes do.

        Notes
        -----
        The variance is that of people about the group, times ``1 + 1 / n_subjects``, plus the mean
        of their residual variances, as cross-validation found them; only people who cover a voxel
        count there. Residuals of neighbouring voxels are taken to move together when smoothing
        mixes them, which gives an upper limit. Quantiles are Student's, with degrees of freedom
        after Satterthwaite: see `imgtofmri.encoder.intervals.half_widths`. With normal responses
        and without smoothing, intervals of 95 % cover 94 to 96 % of measurements with three people
        and 95 to 96 % with eight. With one person they hold for that person alone.
        """
        self.check_whole(subjects=True)
        variance = check_interval(self.average, self.residual_variance, level)
        half = half_widths(self.subjects, self.coverage, variance, level)
        lower: npt.NDArray[np.float32] = (self.group - half).astype(np.float32)
        upper: npt.NDArray[np.float32] = (self.group + half).astype(np.float32)
        return lower, upper


def read_only(array: Any) -> Any:
    """Return a view of an array that cannot be written to; None stays None."""
    if array is not None:
        array = array.view()
        array.flags.writeable = False
    return array


def check_interval(
    average: str, residual_variance: npt.NDArray[np.float64] | None, level: float
) -> npt.NDArray[np.float64]:
    """Return the residual variance, or refuse what has no interval, before anything is predicted.

    Raises
    ------
    OptionError
        As `Prediction.interval` does.
    """
    if average != "mean":
        message = (
            f'average must be "mean" for an interval, as z-scores have no units; got {average!r}. '
            "Predict with that average."
        )
        raise OptionError(message, "average")
    if not 0 < level < 1:
        message = f"level must be between 0 and 1; got {level}. Use 0.95."
        raise OptionError(message)
    if residual_variance is None:
        message = (
            "an interval needs the residual variance of each voxel; this encoder does not record "
            "it, as the published one. Use one that `imgtofmri fit` made, or leave the interval "
            "out."
        )
        raise OptionError(message)
    return residual_variance


def concatenate(parts: Iterable[Prediction]) -> Prediction:
    """Join predictions of one encoder with the same settings, in order.

    Raises
    ------
    ShapeError
        If there are none, or their masks differ.
    OptionError
        If they were not made by one encoder, network and choice of settings.
    """
    parts = list(parts)
    if not parts:
        message = "expected one or more predictions, got none. Give some stimuli."
        raise ShapeError(message)
    first = parts[0]
    if any(not np.array_equal(part.mask, first.mask) for part in parts[1:]):
        message = (
            "expected predictions of the same voxels, got different masks. Predict "
            "them with the same ROIs, smoothing and mask."
        )
        raise ShapeError(message)
    made = first.provenance.to_stored()
    for part in parts[1:]:
        other = made if part.provenance is first.provenance else part.provenance.to_stored()
        if other != made:
            key = next(key for key in made | other if made.get(key) != other.get(key))
            message = (
                "expected predictions that one encoder made with the same settings; got "
                f"{key} {made.get(key)!r} and {other.get(key)!r}. Predict them alike."
            )
            raise OptionError(message)
    onsets = [part.onsets_s for part in parts if part.onsets_s is not None]
    return replace(
        first,
        group=np.concatenate([part.group for part in parts]),
        subjects=np.concatenate([part.subjects for part in parts], axis=1),
        native=tuple(map(np.concatenate, zip(*(part.native for part in parts), strict=True))),
        names=tuple(name for part in parts for name in part.names),
        onsets_s=np.concatenate(onsets) if len(onsets) == len(parts) else None,
        sha256=tuple(digest for part in parts for digest in part.sha256),
        sources=tuple(source for part in parts for source in part.sources),
        kept_means=_joined_means([part.kept_means for part in parts]),
    )


def _joined_means(parts: list[RoiMeans | None]) -> RoiMeans | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return replace(known[0], values=np.concatenate([part.values for part in known], axis=2))


def counted(parts: Iterable[Part], advance: Callable[[float], None]) -> Iterator[Part]:
    """Pass on what is made of some stimuli each, reporting the length of each."""
    for part in parts:
        advance(len(part))
        yield part
