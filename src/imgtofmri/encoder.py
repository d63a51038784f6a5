"""`Encoder`: stimuli or features to a `Prediction`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import numpy.typing as npt

from imgtofmri import reference
from imgtofmri.backbones import Backbone
from imgtofmri.bundle import Bundle, Card, read_bundle
from imgtofmri.exceptions import OptionError, ShapeError, choice_message
from imgtofmri.features import FeatureBatch, stream_features
from imgtofmri.networks import load_networks, needed_layers
from imgtofmri.pipeline import (
    Pipeline,
    RunSettings,
    check_average,
    check_features,
    collect,
    make_prediction,
)
from imgtofmri.prediction import Prediction
from imgtofmri.progress import track
from imgtofmri.spatial import BLOCK, SpatialModel, build_spatial_model, check_rois
from imgtofmri.stimuli import Failure, Movie, Source, expand_images, read_images
from imgtofmri.voxelwise import prediction_interval, restrict_voxels

FloatArray = npt.NDArray[np.floating[Any]]


def load_encoder(bundle: str | Path = reference.BUNDLE_ID, progress: bool = True) -> Encoder:
    """Load an encoder by its id or from a bundle file.

    Parameters
    ----------
    bundle : str or Path
        ``"bold5000-resnet18"``, the published model, which is compiled on first use and cached; or
        the path of a ``.safetensors`` bundle.
    progress : bool
        Whether to report a first download and compilation on standard error.

    Raises
    ------
    BundleError
        If the file is not a bundle that can be read.
    AssetError
        If the published model is not in the cache and cannot be downloaded.

    Examples
    --------
    >>> encoder = load_encoder()  # doctest: +SKIP
    >>> encoder.rois  # doctest: +SKIP
    ('EarlyVis', 'OPA', 'LOC', 'RSC', 'PPA')
    """
    if str(bundle) == reference.BUNDLE_ID and not Path(bundle).exists():
        return Encoder(reference.reference_bundle(progress))
    path = Path(bundle)
    if not path.suffix and not path.exists():
        known = [reference.BUNDLE_ID, "the path of a bundle (.safetensors)"]
        raise OptionError(choice_message("load_encoder", "id", bundle, known))
    return Encoder(read_bundle(path), path.parent)


class Encoder:
    """Predicts brain responses to stimuli.

    Parameters
    ----------
    bundle : Bundle
        The encoding models, as `load_encoder` reads them.
    folder : Path, optional
        Where the bundle lies: networks of your own are looked for beside it.
    """

    def __init__(self, bundle: Bundle, folder: Path | None = None) -> None:
        self.bundle = bundle
        self.folder = folder
        self._spatial: dict[tuple[tuple[str, ...], float, str], SpatialModel] = {}
        self._backbones: dict[Hashable, Backbone] = {}

    def __repr__(self) -> str:
        return f"Encoder({self.card['id']!r}, rois={self.rois}, subjects={self.subjects})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.bundle, self.folder)  # Networks are loaded again, not pickled.

    @property
    def card(self) -> Card:
        """What the encoder is: licence, citation, features, template, subjects."""
        return self.bundle.card

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the ROIs."""
        return self.bundle.rois

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects."""
        return tuple(subject.name for subject in self.bundle.subjects)

    @property
    def n_features(self) -> int:
        """Width of the feature matrix."""
        return self.bundle.n_features

    def backbone(
        self,
        backbone: str | Path | Backbone | None = None,
        weights: str | Path | None = None,
        rois: Sequence[str] | None = None,
    ) -> Backbone:
        """Return the feature extractor, loaded on first use.

        Parameters
        ----------
        backbone : str, Path or Backbone, optional
            A backbone's name or file, or one that is loaded already; None is the one that the
            models were fitted on.
        weights : str or Path, optional
            A file of weights to use instead of the published ones, or ``"untrained[:SEED]"``.
        rois : sequence of str, optional
            Compute these ROIs' layers, and leave other layers' features 0. All by default.

        Raises
        ------
        OptionError
            If the encoder uses several networks and one option cannot serve them all.
        WeightsUnavailableError
            If the weights are nowhere to be had from here.
        ShapeError
            If the backbone's features are not those that the models were fitted on.
        """
        features = self.card["features"]
        needed = needed_layers(features, rois)
        loaded = backbone is not None and not isinstance(backbone, str | Path)
        key = (id(backbone) if loaded else str(backbone), str(weights), needed)
        if key not in self._backbones:
            self._backbones[key] = load_networks(
                features,
                needed,
                backbone=backbone,
                weights=weights,
                folder=self.folder,
                encoder=str(self.card["id"]),
            )
        return self._backbones[key]

    def center_crop(self, chosen: bool | None = None) -> bool:
        """Return whether pictures are cropped: as chosen, or else as for the fit of the models."""
        fitted = bool(self.card["features"].get("center_crop", False))
        return fitted if chosen is None else chosen

    def restricted(self, minimum: float, share_of_ceiling: bool = False) -> Encoder:
        """Return an encoder of the voxels whose cross-validated r reaches a minimum.

        With ``share_of_ceiling`` r is divided by the noise ceiling first; see
        `imgtofmri.voxelwise.restrict_voxels`.
        """
        bundle = restrict_voxels(self.bundle, minimum, share_of_ceiling=share_of_ceiling)
        return Encoder(bundle, self.folder)

    def interval(
        self,
        prediction: Prediction,
        level: float = 0.95,
        rois: Sequence[str] | str | None = None,
        sigma_mm: float = 1.0,
        mask: str = "overlap",
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the bounds between which one more person's responses are expected.

        ``rois``, ``sigma_mm`` and ``mask`` are the prediction's, which needs ``average="mean"``;
        see `imgtofmri.voxelwise.prediction_interval`.
        """
        return prediction_interval(self.spatial_model(rois, sigma_mm, mask), prediction, level)

    def features(
        self,
        images: Any,
        backbone: str | Path | Backbone | None = None,
        weights: str | Path | None = None,
        center_crop: bool | None = None,
        progress: bool = False,
    ) -> npt.NDArray[np.float32]:
        """Return the network's features of images.

        Parameters
        ----------
        images, backbone, weights, center_crop, progress
            As for `predict`.

        Returns
        -------
        array of shape (n_stimuli, n_features), float32
        """
        items = expand_images(images)
        network = self.backbone(backbone, weights)
        size, crop = network.spec.preprocessing.size, self.center_crop(center_crop)
        frames = read_images(items, size=size, center_crop=crop)
        batches = []
        with track("Computing features", len(items), "images", enabled=progress) as advance:
            for batch in stream_features(frames, network, BLOCK):
                for failure in batch.failures:
                    raise failure.error
                batches.append(batch.features)
                advance(len(batch.names))
        return np.concatenate(batches)

    def predict(
        self,
        images: Any,
        rois: Sequence[str] | str | None = None,
        sigma_mm: float = 1.0,
        mask: str = "overlap",
        average: str = "zscore",
        center_crop: bool | None = None,
        backbone: str | Path | Backbone | None = None,
        weights: str | Path | None = None,
        progress: bool = True,
    ) -> Prediction:
        """Predict the responses to images.

        Parameters
        ----------
        images : path, folder, glob, PIL image, uint8 array, or a sequence of these
            Arrays are (height, width, 3) RGB or (height, width) greyscale; a stack of them is
            (n, height, width, 3).
        rois : sequence of str, optional
            Which ROIs; all by default. Where three or more share a voxel, later ones weigh more, as
            in the published model.
        sigma_mm : float
            Standard deviation of the Gaussian smoothing in millimetres.
        mask : {"overlap", "support"}
            The group mask of img2fmri 1.0 or 0.2.
        average : {"zscore", "mean"}
            "zscore" is the published model: each subject's map is z-scored over the mask, the sum
            of the maps is z-scored again. "mean" is the mean over subjects and keeps amplitude.
        center_crop : bool, optional
            Resize the short side and crop the centre, instead of squeezing the whole image. By
            default as for the pictures that the models were fitted on; the published model's were
            squeezed.
        backbone, weights
            As for `backbone`.
        progress : bool
            Whether to report progress on standard error.

        Returns
        -------
        Prediction

        Raises
        ------
        StimulusError
            If an input is not a usable image. `stream` goes on past such inputs.
        OptionError
            If a setting is not valid.
        """
        items = expand_images(images)
        stream = self.stream(
            items,
            rois=rois,
            sigma_mm=sigma_mm,
            mask=mask,
            average=average,
            center_crop=center_crop,
            backbone=backbone,
            weights=weights,
        )
        with track("Predicting", len(items), "images", enabled=progress) as advance:
            return collect(stream, advance)

    def predict_movie(
        self,
        path: str | Path,
        rate_hz: float = 2.0,
        progress: bool = True,
        **settings: Unpack[RunSettings],
    ) -> Prediction:
        """Predict the response to a movie, frame by frame.

        Each frame is predicted as an image, without haemodynamics; `imgtofmri.timeseries` brings
        the result to a scanner's time scale.

        Parameters
        ----------
        path : str or Path
        rate_hz : float
            Frames a second. The frame nearest in time to each multiple of ``1 / rate_hz`` is taken
            while that is before the movie's end.
        progress : bool
            Whether to report progress on standard error.
        **settings
            rois, sigma_mm, mask, average, center_crop, backbone, weights, as for `predict`.

        Returns
        -------
        Prediction
            With ``onsets_s``.

        Raises
        ------
        StimulusError
            If the file is not a movie that can be read.
        """
        stream = self.stream_movie(path, rate_hz, **settings)
        description = f"Predicting {Path(path).name}"
        with track(description, unit="frames", enabled=progress) as advance:
            return collect(stream, advance)

    def stream(
        self,
        images: Any,
        on_failure: Callable[[Failure], None] | None = None,
        on_batch: Callable[[FeatureBatch], None] | None = None,
        **settings: Unpack[RunSettings],
    ) -> Iterator[Prediction]:
        """Predict images in parts of bounded size, in order.

        Parameters
        ----------
        images
            As for `predict`; an `imgtofmri.stimuli.Source` counts as an image, too.
        on_failure : callable, optional
            Called with each input that cannot be used. By default the first one raises.
        on_batch : callable, optional
            Called with each batch of features before its prediction is yielded; it knows the
            digests of the inputs.
        **settings
            rois, sigma_mm, mask, average, center_crop, backbone, weights, as for `predict`.

        Yields
        ------
        Prediction
            Of up to 32 stimuli.
        """
        pipeline = self.pipeline(**settings)
        frames = read_images(
            expand_images(images),
            size=pipeline.network.spec.preprocessing.size,
            center_crop=pipeline.center_crop,
        )
        return pipeline.stream(frames, on_failure, on_batch)

    def stream_movie(
        self,
        movie: str | Path | Source | Movie,
        rate_hz: float = 2.0,
        on_batch: Callable[[FeatureBatch], None] | None = None,
        **settings: Unpack[RunSettings],
    ) -> Iterator[Prediction]:
        """Predict a movie's frames in parts of bounded size, in order.

        Parameters
        ----------
        movie, rate_hz
            As for `predict_movie`; a `Source` or a `Movie` is taken, too.
        on_batch : callable, optional
            As for `stream`.
        **settings
            rois, sigma_mm, mask, average, center_crop, backbone, weights, as for `predict`.

        Yields
        ------
        Prediction
            Of up to 32 frames.
        """
        pipeline = self.pipeline(**settings)
        frames = Movie.of(movie).frames(
            rate_hz,
            size=pipeline.network.spec.preprocessing.size,
            center_crop=pipeline.center_crop,
        )
        return pipeline.stream(frames, None, on_batch)

    def pipeline(self, **settings: Unpack[RunSettings]) -> Pipeline:
        """Check settings and load what they need, before any stimulus is read.

        Parameters
        ----------
        **settings
            As for `predict`.

        Raises
        ------
        OptionError
            If a setting is not valid.
        WeightsUnavailableError
            If the network's weights are nowhere to be had from here.
        """
        average = check_average(settings.get("average", "zscore"))
        rois = check_rois(self.bundle, settings.get("rois"))
        sigma_mm = float(settings.get("sigma_mm", 1.0))
        mask = settings.get("mask", "overlap")
        return Pipeline(
            bundle=self.bundle,
            rois=rois,
            sigma_mm=sigma_mm,
            mask=mask,
            average=average,
            center_crop=self.center_crop(settings.get("center_crop")),
            spatial=self.spatial_model(rois, sigma_mm, mask),
            network=self.backbone(settings.get("backbone"), settings.get("weights"), rois),
        )

    def predict_features(
        self,
        features: FloatArray,
        rois: Sequence[str] | str | None = None,
        sigma_mm: float = 1.0,
        mask: str = "overlap",
        average: str = "zscore",
        names: Sequence[str] | None = None,
        onsets_s: FloatArray | None = None,
    ) -> Prediction:
        """Predict the responses to stimuli whose features are known.

        Parameters
        ----------
        features : array of shape (n_stimuli, n_features)
            Of the network that the models were fitted on.
        rois, sigma_mm, mask, average
            As for `predict`.
        names : sequence of str, optional
            The stimuli's names; numbers by default.
        onsets_s : array of shape (n_stimuli,), optional
            When each stimulus begins, in seconds.

        Returns
        -------
        Prediction

        Raises
        ------
        ShapeError
            If the features have another shape, or are not finite.
        """
        features = check_features(self.bundle, features, "predict_features")
        names = [f"stimulus-{n:04d}" for n in range(len(features))] if names is None else names
        if len(names) != len(features) or (onsets_s is not None and len(onsets_s) != len(features)):
            message = (
                f"predict_features: expected a name and an onset for each of the {len(features)} "
                f"rows of features, got {len(names)} names"
                + ("" if onsets_s is None else f" and {len(onsets_s)} onsets")
                + ". Give as many."
            )
            raise ShapeError(message)
        spatial = self.spatial_model(rois, sigma_mm, mask)
        onsets = None if onsets_s is None else np.asarray(onsets_s, dtype=float)
        checked = check_average(average)
        return make_prediction(self.bundle, spatial, checked, features, names, onsets)

    def predict_native(
        self, features: FloatArray, roi: str, subject: str
    ) -> npt.NDArray[np.float32]:
        """Predict one subject's ROI on its native grid, in the models' own units.

        Parameters
        ----------
        features : array of shape (n_stimuli, n_features)
        roi, subject : str

        Returns
        -------
        array of shape (n_stimuli, n_voxels), float32
            Voxels in the order of the bundle: ``bundle.subjects[i].rois[roi].voxels``.

        Raises
        ------
        OptionError
            If there is no such subject or ROI.
        ShapeError
            If the features have another shape, or are not finite.
        """
        if subject not in self.subjects:
            message = choice_message("predict_native", "subject", subject, self.subjects)
            raise OptionError(message)
        models = self.bundle.subjects[self.subjects.index(subject)].rois
        if roi not in models:
            raise OptionError(choice_message("predict_native", "roi", roi, models))
        features = check_features(self.bundle, features, "predict_native")
        model = models[roi]
        used = features[:, model.first_feature : model.first_feature + model.n_features]
        return cast("npt.NDArray[np.float32]", used @ model.weights + model.intercept)

    def spatial_model(
        self, rois: Sequence[str] | str | None = None, sigma_mm: float = 1.0, mask: str = "overlap"
    ) -> SpatialModel:
        """Return the group mask and each subject's matrix, worked out once for each choice."""
        chosen = check_rois(self.bundle, rois)
        key = (chosen, float(sigma_mm), mask)
        if key not in self._spatial:
            self._spatial[key] = build_spatial_model(self.bundle, *key)
        return self._spatial[key]
