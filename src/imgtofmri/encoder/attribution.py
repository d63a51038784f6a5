"""Where in the picture a predicted response comes from.

The features of most networks here are means over the places of a map, and all that follows is
linear: the response of a person's ROI or of a voxel is then a sum over places, apart from its
intercept, and splits exactly (class activation mapping: Zhou et al. 2016,
doi:10.1109/CVPR.2016.319). Any other network is asked again with one place after another covered by
grey (occlusion: Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import Backbone, FeatureExtractor, MeanOverPlaces, mean_grid
from imgtofmri.backbones.extractor import OnFailure
from imgtofmri.encoder.predictor import Predictor
from imgtofmri.encoder.provenance import Provenance
from imgtofmri.encoder.regions import GROUP, MODEL_UNIT, columns_at, own_columns
from imgtofmri.encoder.spatial import LEAST_COVERAGE, SpatialModel, SubjectOperator
from imgtofmri.exceptions import OptionError, ShapeError, StimulusError, check_choice
from imgtofmri.stimuli import Failure, Frame, Movie, Source, expand_images, read_images

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

SPLIT, OCCLUSION = "split", "occlusion"

METHODS = {
    SPLIT: "each place's exact share: the shares and the intercept sum to the response",
    OCCLUSION: "response to the picture less that to the picture with this place covered by grey",
}
"""What a contribution is, by its method."""

OCCLUSION_GRID = (7, 7)
"""Rows and columns of the patches, where a network has no grid of its own."""

BATCH = 16
"""Pictures that are explained together."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A response that is linear in the features: the mean of an ROI, or the value of a voxel.

    Attributes
    ----------
    name : str
        The ROI's, or the voxel's coordinates.
    weights : array of shape (n_owners, n_features), float64
        Of the group, then of each subject; NaN where a person lacks the ROI.
    intercepts : array of shape (n_owners,), float64
    """

    name: str
    weights: Floats
    intercepts: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """How much each place of a picture contributes to predicted responses.

    Attributes
    ----------
    contributions : array of shape (n_targets, n_owners, n_stimuli, rows, columns), float64
        In the models' own units; row 0 is the picture's upper edge, column 0 its left. NaN where a
        person lacks the ROI.
    responses : array of shape (n_targets, n_owners, n_stimuli), float64
        The predicted responses, as `Prediction.roi_means` and the maps of ``average="mean"`` have
        them.
    intercepts : array of shape (n_targets, n_owners), float64
        The part of a response that no picture changes.
    targets : tuple of str
        ROIs; or one voxel's coordinates.
    owners : tuple of str
        "group", then the subjects.
    names : tuple of str
        Of the stimuli.
    method : {"split", "occlusion"}
        See `METHODS`.
    pictures : array of shape (n_stimuli, size, size, 3), uint8
        What the network saw.
    provenance : Provenance
    sha256, sources
        As for `Prediction`.
    """

    contributions: Floats
    responses: Floats
    intercepts: Floats
    targets: tuple[str, ...]
    owners: tuple[str, ...]
    names: tuple[str, ...]
    method: str
    pictures: npt.NDArray[np.uint8]
    provenance: Provenance
    sha256: tuple[str | None, ...]
    sources: tuple[Path | None, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        rows, columns = self.contributions.shape[-2:]
        return (
            f"Attribution({len(self)} stimuli, {rows} x {columns} places, "
            f"method={self.method!r}, targets={self.targets})"
        )

    def of(self, stimulus: str, target: str, owner: str = GROUP) -> Floats:
        """Return the contributions to one response, shape (rows, columns).

        Raises
        ------
        OptionError
            If there is no such stimulus, target or owner.
        """
        check_choice("stimulus", stimulus, self.names)
        check_choice("target", target, self.targets)
        check_choice("owner", owner, self.owners)
        found: Floats = self.contributions[
            self.targets.index(target), self.owners.index(owner), self.names.index(stimulus)
        ]
        return found

    def table(self) -> pd.DataFrame:
        """Return a row for each place, as a tidy table.

        Returns
        -------
        pandas.DataFrame
            Columns image, roi (or the voxel's coordinates), subject ("group" or a name), row and
            column (from 0, at the upper left), contribution, unit and method.
        """
        axes = self.owners_first(self.contributions)
        return self._tidy(
            {"contribution": axes.ravel()},
            (axes.shape[3], "row"),
            (axes.shape[4], "column"),
        ).assign(unit=MODEL_UNIT, method=self.method)

    def responses_table(self) -> pd.DataFrame:
        """Return what is explained: a row for each response.

        Returns
        -------
        pandas.DataFrame
            Columns image, roi, subject, response, intercept, places (the sum of the contributions)
            and unit.
        """
        shape = self.responses.shape
        intercepts = np.broadcast_to(self.intercepts[..., None], shape)
        return self._tidy(
            {
                "response": self.owners_first(self.responses).ravel(),
                "intercept": self.owners_first(intercepts).ravel(),
                "places": self.owners_first(self.contributions.sum(axis=(3, 4))).ravel(),
            }
        ).assign(unit=MODEL_UNIT)

    @staticmethod
    def owners_first(values: Floats) -> Floats:
        """Bring the stimuli to the front: (n_stimuli, n_targets, n_owners, ...)."""
        return np.moveaxis(values, 2, 0)

    def _tidy(self, values: dict[str, Any], *places: tuple[int, str]) -> pd.DataFrame:
        import pandas as pd

        levels = [self.names, self.targets, self.owners, *(range(n) for n, _ in places)]
        index = pd.MultiIndex.from_product(
            levels, names=["image", "roi", "subject", *(name for _, name in places)]
        )
        return pd.DataFrame(values, index=index).reset_index()


@dataclass(frozen=True, slots=True, eq=False)
class Attributor:
    """Explains responses to pictures; `Encoder.attributor` makes it, before any is read.

    Attributes
    ----------
    extractor : FeatureExtractor
    places : Backbone or None
        The network with its features at each place; None where they are no means over places.
    grid : tuple of int
        Rows and columns.
    targets : tuple of Target
    owners : tuple of str
    provenance : Provenance
    """

    extractor: FeatureExtractor
    places: Backbone | None
    grid: tuple[int, int]
    targets: tuple[Target, ...]
    owners: tuple[str, ...]
    provenance: Provenance

    @classmethod
    def of(
        cls, predictor: Predictor, roi: str | Sequence[str] | None, at: npt.ArrayLike | None
    ) -> Attributor:
        """Return what explains the responses of ROIs, or of the voxel at a point.

        Raises
        ------
        OptionError
            If there is no such ROI, the point lies where the model knows nothing, or both are
            asked for.
        """
        readout, network = predictor.readout, predictor.extractor.network
        spatial, n_features = readout.spatial, readout.bundle.n_features
        if at is not None:
            if roi is not None:
                message = (
                    f"`roi` or `at` must be given, as an ROI or a voxel is explained; got {roi} "
                    "and a point. Leave one out."
                )
                raise OptionError(message)
            targets = [_voxel(spatial, at, readout.bundle.template.affine, n_features)]
        else:
            rois = readout.settings.rois or ()
            chosen = rois if roi is None else [roi] if isinstance(roi, str) else roi
            for name in chosen:
                check_choice("roi", name, rois)
            targets = [_roi(spatial, name, n_features) for name in chosen]
        grid = mean_grid(network)
        places = None
        if grid is not None and isinstance(network, MeanOverPlaces):
            places = network.on_grid(grid)
        return cls(
            extractor=predictor.extractor,
            places=places,
            grid=OCCLUSION_GRID if grid is None else grid,
            targets=tuple(targets),
            owners=(GROUP, *spatial.subject_names),
            provenance=readout.provenance,
        )

    @property
    def method(self) -> str:
        """How responses are split: one of `METHODS`."""
        return OCCLUSION if self.places is None else SPLIT

    def stream(self, images: Any, on_failure: OnFailure | None = None) -> Iterator[Attribution]:
        """Explain images in parts of bounded size, in order.

        Parameters
        ----------
        images, on_failure
            As for `Encoder.predict`.

        Yields
        ------
        Attribution
            Of up to `BATCH` stimuli.
        """
        frames = read_images(
            expand_images(images, on_failure),
            size=self.extractor.size,
            center_crop=self.extractor.center_crop,
        )
        return self._explained(frames, on_failure)

    def stream_movie(
        self, movie: Movie | str | Path | Source, rate_hz: float = 2.0
    ) -> Iterator[Attribution]:
        """Explain a movie's frames in parts of bounded size, in order."""
        frames = Movie.of(movie).frames(rate_hz, self.extractor.size, self.extractor.center_crop)
        return self._explained(frames, None)

    def stream_sources(
        self, sources: Iterable[Source], on_failure: OnFailure, rate_hz: float = 2.0
    ) -> Iterator[Attribution]:
        """Explain image files, then movies' frames, in parts of bounded size.

        Parameters
        ----------
        sources : iterable of Source
        on_failure : callable
            Called with each input that cannot be used; the rest is explained.
        rate_hz : float
            Frames a second that are taken of a movie.
        """
        given = list(sources)
        images = [one for one in given if one.kind == "image"]
        if images:
            yield from self.stream(images, on_failure)
        for movie in (one for one in given if one.kind == "movie"):
            try:
                yield from self.stream_movie(movie, rate_hz)
            except StimulusError as error:
                on_failure(Failure(movie.name, error))

    def _explained(
        self, frames: Iterable[Frame | Failure], on_failure: OnFailure | None
    ) -> Iterator[Attribution]:
        good = _usable(frames, on_failure)
        while batch := list(islice(good, BATCH)):
            yield self._attribution(batch)

    def _attribution(self, frames: Sequence[Frame]) -> Attribution:
        pictures = np.stack([frame.pixels for frame in frames])
        weights = np.stack([target.weights for target in self.targets])
        intercepts = np.stack([target.intercepts for target in self.targets])

        def respond(features: npt.NDArray[np.float32]) -> Floats:
            """Return (n_targets, n_owners, n_stimuli) responses, the intercept apart."""
            found: Floats = np.einsum("tof,nf->ton", weights, features.astype(np.float64))
            return found

        driven = respond(self.extractor.network(pictures))
        if self.places is None:
            contributions = np.stack(
                [
                    driven[..., number, None]
                    - respond(self.extractor.network(self._covered(picture)))
                    for number, picture in enumerate(pictures)
                ],
                axis=2,
            )
        else:
            n_places = self.grid[0] * self.grid[1]
            maps = self.places(pictures).reshape(len(pictures), -1, n_places)
            contributions = np.einsum("tof,nfp->tonp", weights, maps.astype(np.float64)) / n_places
        return Attribution(
            contributions=contributions.reshape(*driven.shape, *self.grid),
            responses=driven + intercepts[..., None],
            intercepts=intercepts,
            targets=tuple(target.name for target in self.targets),
            owners=self.owners,
            names=tuple(frame.name for frame in frames),
            method=self.method,
            pictures=pictures,
            provenance=self.provenance,
            sha256=tuple(frame.sha256 for frame in frames),
            sources=tuple(frame.source for frame in frames),
        )

    def _covered(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the picture once for each place, that place in the grey that the network has at 0.

        It is the mean colour of the pictures that the network learned from.
        """
        mean = self.extractor.network.spec.preprocessing.mean
        grey = np.round(255 * np.asarray(mean)).astype(np.uint8)
        edges = [np.linspace(0, len(picture), n + 1).round().astype(int) for n in self.grid]
        copies = np.repeat(picture[None], self.grid[0] * self.grid[1], axis=0)
        for number, (row, column) in enumerate(np.ndindex(*self.grid)):
            down, across = (
                slice(edge[k], edge[k + 1]) for edge, k in zip(edges, (row, column), strict=True)
            )
            copies[number, down, across] = grey
        return copies


def join_attributions(parts: Sequence[Attribution]) -> Attribution:
    """Join one or more attributions of one encoder with the same settings, in order."""
    return replace(
        parts[0],
        contributions=np.concatenate([part.contributions for part in parts], axis=2),
        responses=np.concatenate([part.responses for part in parts], axis=2),
        names=tuple(chain.from_iterable(part.names for part in parts)),
        pictures=np.concatenate([part.pictures for part in parts]),
        sha256=tuple(chain.from_iterable(part.sha256 for part in parts)),
        sources=tuple(chain.from_iterable(part.sources for part in parts)),
    )


def _usable(frames: Iterable[Frame | Failure], on_failure: OnFailure | None) -> Iterator[Frame]:
    for frame in frames:
        if isinstance(frame, Frame):
            yield frame
        elif on_failure is None:
            raise frame.error
        else:
            on_failure(frame)


def _roi(spatial: SpatialModel, roi: str, n_features: int) -> Target:
    """Return the mean of each person's own ROI, and the mean over the people who have it."""

    def mean_of(subject: SubjectOperator) -> Floats | None:
        columns = own_columns(subject.own_rois, roi)
        row = np.zeros(subject.matrix.shape[1])
        row[columns] = 1 / max(1, len(columns))
        return row if len(columns) else None

    weights, intercepts = _people(spatial, mean_of, n_features)
    known = ~np.isnan(intercepts)
    group = weights[known].mean(axis=0), intercepts[known].mean()
    return Target(roi, np.vstack([group[0], weights]), np.append(group[1], intercepts))


def _voxel(
    spatial: SpatialModel, at: npt.ArrayLike, affine: npt.NDArray[np.float64], n_features: int
) -> Target:
    """Return the value of a voxel in each person's smoothed map, and in that of the group."""
    if np.shape(at) != (3,):
        message = (
            f"at must be one point, x, y and z in millimetres; got shape {np.shape(at)}. Give "
            "three numbers."
        )
        raise ShapeError(message)
    x, y, z = (f"{value:g}" for value in np.asarray(at, dtype=np.float64))
    column = int(columns_at(at, spatial.mask, affine)[0])
    people = float(spatial.coverage[:, column].sum()) if column >= 0 else 0.0
    if people < LEAST_COVERAGE:
        message = (
            f"at must be a point where the model knows something; got ({x}, {y}, {z}), "
            f"{'outside the mask' if column < 0 else 'where fewer than half a person is'}. Choose "
            "one inside the maps that `imgtofmri predict` writes, with `average` mean."
        )
        raise OptionError(message, "at")
    weights, intercepts = _people(
        spatial,
        lambda subject: subject.matrix[[column]].toarray()[0].astype(np.float64),
        n_features,
    )
    group = weights.sum(axis=0) / people, intercepts.sum() / people
    return Target(
        f"({x}, {y}, {z})", np.vstack([group[0], weights]), np.append(group[1], intercepts)
    )


def _people(
    spatial: SpatialModel,
    row_of: Callable[[SubjectOperator], Floats | None],
    n_features: int,
) -> tuple[Floats, Floats]:
    """Return the weights (n_subjects, n_features) and intercepts of a sum over native voxels."""
    weights = np.full((len(spatial.subjects), n_features), np.nan)
    intercepts = np.full(len(spatial.subjects), np.nan)
    for number, subject in enumerate(spatial.subjects):
        row = row_of(subject)
        if row is None:
            continue
        weights[number], intercepts[number] = 0, 0
        start = 0
        for model in subject.models:
            part = row[start : start + model.n_voxels]
            used = slice(model.first_feature, model.first_feature + model.n_features)
            weights[number, used] += model.weights.astype(np.float64) @ part
            intercepts[number] += model.intercept.astype(np.float64) @ part
            start += model.n_voxels
    return weights, intercepts
