"""`Encoder`: stimuli or features to a `Prediction`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import Backbone, Engine, FeatureBatch, FeatureExtractor, Judge, admitted
from imgtofmri.backbones.extractor import OnFailure
from imgtofmri.backbones.names import weights_of_environment
from imgtofmri.bundle import Bundle, Card, read_bundle
from imgtofmri.encoder import reference
from imgtofmri.encoder.atlas import Atlas, make_atlas
from imgtofmri.encoder.attribution import Attribution, Attributor, join_attributions
from imgtofmri.encoder.controls import PICTURES, Controls, check_controls
from imgtofmri.encoder.description import card_lines
from imgtofmri.encoder.networks import load_networks, needed_layers
from imgtofmri.encoder.prediction import Prediction, concatenate, counted
from imgtofmri.encoder.predictor import Predictor, Readout, check_features
from imgtofmri.encoder.provenance import Provenance
from imgtofmri.encoder.settings import Settings
from imgtofmri.encoder.spatial import SpatialModel, build_spatial_model, native_responses
from imgtofmri.encoder.templates import move_bundle
from imgtofmri.encoder.voxelwise import restrict_voxels
from imgtofmri.exceptions import (
    OptionError,
    ShapeError,
    StimulusError,
    check_choice,
    choice_message,
)
from imgtofmri.files import is_file, is_there
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Movie, Source, expand_images

FloatArray = npt.NDArray[np.floating[Any]]

MOST_SPATIAL_MODELS = 8
"""How many choices of ROIs, smoothing and mask are kept; each takes tens of megabytes."""


def load_encoder(bundle: str | Path = reference.BUNDLE_ID, progress: bool = True) -> Encoder:
    """Load an encoder by its id or from a bundle file.

    Parameters
    ----------
    bundle : str or Path
        ``"bold5000-resnet18"``, the published model, which is compiled on first use and cached; or
        the path of a ``.safetensors`` bundle.
    progress : bool
        Whether to report a first download and compilation on standard error.

    Returns
    -------
    Encoder

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
    if str(bundle) == reference.BUNDLE_ID and not is_there(bundle):
        return Encoder(reference.reference_bundle(progress))
    path = Path(bundle)
    if not path.suffix and not is_there(path):
        known = [reference.BUNDLE_ID, "the path of a bundle (.safetensors)"]
        raise OptionError(choice_message("", "encoder", bundle, known), "encoder")
    return Encoder(read_bundle(path), path.parent)


class Encoder:
    """Predicts brain responses to stimuli.

    Every method that predicts takes settings, as a `Settings` or one by one by their names: rois,
    sigma_mm, mask, average, center_crop, backbone, weights, engine, precision; see `Settings`.

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
        self._spatial: dict[Hashable, SpatialModel] = {}
        self._networks: dict[Hashable, Backbone] = {}

    def __repr__(self) -> str:
        return f"Encoder({self.card['id']!r}, rois={self.rois}, subjects={self.subjects})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.bundle, self.folder)  # Networks are loaded again, not pickled.

    @property
    def card(self) -> Card:
        """What the encoder is: licence, citation, features, template, subjects."""
        return self.bundle.card

    def describe(self) -> str:
        """Return the card as text: what it predicts, for whom, how well, how to cite it.

        Returns
        -------
        str
            Lines to be printed, as ``imgtofmri describe`` does.

        Examples
        --------
        >>> print(encoder.describe())  # doctest: +SKIP
        """
        return "\n".join(card_lines(self.bundle))

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

    def settings(self, settings: Settings | None = None, **changes: Any) -> Settings:
        """Return settings as they are for this encoder, nothing being left to it.

        Parameters
        ----------
        settings, **changes
            As for `predict`.

        Returns
        -------
        Settings

        Raises
        ------
        OptionError
            If a setting is not valid.
        """
        fitted_on_crops = bool(self.card["features"].get("center_crop", False))
        return Settings.of(settings, **changes).resolved(self.rois, fitted_on_crops)

    def predict(
        self,
        images: Any,
        settings: Settings | None = None,
        *,
        on_failure: OnFailure | None = None,
        progress: bool = True,
        **changes: Any,
    ) -> Prediction:
        """Predict the responses to images.

        Parameters
        ----------
        images : path, folder, glob, PIL image, uint8 array, or a sequence of these
            Arrays have shape (height, width, 3), RGB, or (height, width), greyscale; a stack of
            them (n, height, width, 3).
        settings : Settings, optional
            How to predict; by default as the published model.
        on_failure : callable, optional
            Called with each input that cannot be used, and the rest is predicted. By default the
            first one raises its error.
        progress : bool
            Whether to report progress on standard error.
        **changes
            Settings by their names, such as rois, average or engine; see `Settings`.

        Returns
        -------
        Prediction

        Raises
        ------
        StimulusError
            If an input is not a usable image, or with ``on_failure`` if none is.
        OptionError
            If a setting is not valid.

        Examples
        --------
        >>> encoder.predict("photos/", rois=["LOC", "PPA"])  # doctest: +SKIP
        """
        failures: list[Failure] = []
        handle = _noting(failures, on_failure)
        items = expand_images(images, handle)
        _check_some(items, failures, "predicted")
        stream = self.predictor(settings, **changes).stream(items, handle)
        with track("Predicting", len(items), "images", enabled=progress) as advance:
            parts = [*counted(stream, advance)]
        _check_some(parts, failures, "predicted")
        return concatenate(parts)

    def predict_movie(
        self,
        movie: Movie | str | Path,
        rate_hz: float = 2.0,
        settings: Settings | None = None,
        *,
        progress: bool = True,
        **changes: Any,
    ) -> Prediction:
        """Predict the response to a movie, frame by frame.

        Each frame is predicted as an image, without haemodynamics; `imgtofmri.timeseries` brings
        the result to a scanner's time scale.

        Parameters
        ----------
        movie : str, Path or Movie
        rate_hz : float
            Frames a second. The frame nearest in time to each multiple of ``1 / rate_hz`` is taken
            while that is before the movie's end.
        settings, progress, **changes
            As for `predict`.

        Returns
        -------
        Prediction
            With ``onsets_s``.

        Raises
        ------
        StimulusError
            If the file is not a movie that can be read.
        """
        film = Movie.of(movie)
        stream = self.stream_movie(film, rate_hz, settings, **changes)
        what, total = f"Predicting {film.name}", film.expected_frames(rate_hz)
        with track(what, total, "frames", enabled=progress) as advance:
            return concatenate(counted(stream, advance))

    def stream(
        self,
        images: Any,
        settings: Settings | None = None,
        *,
        on_failure: OnFailure | None = None,
        **changes: Any,
    ) -> Iterator[Prediction]:
        """Predict images in parts of bounded size, in order.

        Parameters
        ----------
        images
            As for `predict`; an `imgtofmri.stimuli.Source` counts as an image, too.
        settings, on_failure, **changes
            As for `predict`.

        Yields
        ------
        Prediction
            Of up to 32 stimuli.
        """
        return self.predictor(settings, **changes).stream(images, on_failure)

    def stream_movie(
        self,
        movie: Movie | str | Path | Source,
        rate_hz: float = 2.0,
        settings: Settings | None = None,
        **changes: Any,
    ) -> Iterator[Prediction]:
        """Predict a movie's frames in parts of bounded size, in order.

        Parameters
        ----------
        movie, rate_hz, settings, **changes
            As for `predict_movie`.

        Yields
        ------
        Prediction
            Of up to 32 frames.
        """
        return self.predictor(settings, **changes).stream_movie(movie, rate_hz)

    def predictor(self, settings: Settings | None = None, **changes: Any) -> Predictor:
        """Check settings and load what they need, before any stimulus is read.

        Parameters
        ----------
        settings, **changes
            As for `predict`.

        Returns
        -------
        Predictor

        Raises
        ------
        OptionError
            If a setting is not valid, or the encoder uses several networks and one option cannot
            serve them all; or if the engine's group maps of test pictures are not ONNX Runtime's.
        WeightsUnavailableError
            If the network's weights are nowhere to be had from here.
        ShapeError
            If the network's features are not those that the models were fitted on.
        """
        chosen = self.settings(settings, **changes)
        spatial = self.spatial_model(chosen)
        extractor = self.extractor(chosen)
        provenance = Provenance.of(self.bundle, chosen, extractor.network.spec)
        return Predictor(extractor, Readout(self.bundle, spatial, provenance))

    def extractor(self, settings: Settings | None = None, **changes: Any) -> FeatureExtractor:
        """Return the network, loaded on first use, and how pictures are cropped for it.

        ``extractor.network`` computes the layers that the chosen ROIs need, and leaves other
        layers' features 0; all layers where no ROIs are chosen.

        Parameters
        ----------
        settings, **changes
            As for `predict`.

        Returns
        -------
        FeatureExtractor

        Raises
        ------
        OptionError, WeightsUnavailableError, ShapeError
            As for `predictor`.
        """
        asked = Settings.of(settings, **changes)
        chosen = self.settings(asked)
        features = self.card["features"]
        needed = needed_layers(features, asked.rois)
        weights = weights_of_environment() if chosen.weights is None else chosen.weights
        key = (
            _kept_by(chosen.backbone),
            _kept_by(weights),
            needed,
            chosen.engine,
            chosen.precision,
        )

        def load(engine: Engine) -> Backbone:
            return load_networks(
                features,
                needed,
                backbone=chosen.backbone,
                weights=chosen.weights,
                folder=self.folder,
                encoder=str(self.card["id"]),
                engine=engine,
            )

        def group_maps(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return self.spatial_model(rois=asked.rois).predict(features, "zscore")[0]

        if key not in self._networks:
            judge = Judge("group maps", group_maps)
            self._networks[key] = admitted(chosen.engine, chosen.precision, load, judge)
        return FeatureExtractor(self._networks[key], bool(chosen.center_crop))

    def spatial_model(self, settings: Settings | None = None, **changes: Any) -> SpatialModel:
        """Return the group mask and each subject's matrix; those of the latest choices are kept.

        Parameters
        ----------
        settings, **changes
            As for `predict`.

        Returns
        -------
        SpatialModel

        Raises
        ------
        OptionError
            If a setting is not valid.
        """
        chosen = self.settings(settings, **changes)
        assert chosen.rois is not None
        key = (tuple(chosen.rois), chosen.sigma_mm, chosen.mask)
        if key not in self._spatial:
            while len(self._spatial) >= MOST_SPATIAL_MODELS:
                del self._spatial[next(iter(self._spatial))]
            self._spatial[key] = build_spatial_model(self.bundle, *key)
        return self._spatial[key]

    def atlas(self, rois: Sequence[str] | None = None) -> Atlas:
        """Return the ROIs as an image of labels on the template's grid, with a table of them.

        Parameters
        ----------
        rois : sequence of str, optional
            All by default.

        Returns
        -------
        Atlas

        Raises
        ------
        OptionError
            If there is no such ROI.
        """
        return make_atlas(self.bundle, self.spatial_model(rois=rois))

    def controls(
        self, names: Sequence[str] | str, settings: Settings | None = None, **changes: Any
    ) -> Controls:
        """Return controls of what the encoder predicts, with their networks loaded.

        Parameters
        ----------
        names : one or more of {"untrained", "untrained:SEED", "luminance", "energy", "silhouette"}
            An untrained network of the same architecture, read out by the same models; the images'
            luminance, Gabor energy, or outline on a plain background.
        settings, **changes
            As for `predict`; the encoder's own network and weights do not count.

        Returns
        -------
        Controls
            ``controls.predict(images)`` is what analyses take as ``controls``.

        Raises
        ------
        OptionError
            If one is no control, or a network of the encoder has no architecture whose weights can
            be drawn.
        """
        chosen = self.settings(settings, **changes)
        predictors = {
            name: None if name in PICTURES else self.predictor(chosen, backbone=None, weights=name)
            for name in check_controls(names)
        }
        return Controls(predictors, bool(chosen.center_crop))

    def restricted(self, minimum: float, share_of_ceiling: bool = False) -> Encoder:
        """Return an encoder of the voxels whose cross-validated r reaches a minimum.

        Parameters
        ----------
        minimum : float
            Of r, or of the share.
        share_of_ceiling : bool
            Whether r is divided by the voxel's noise ceiling first; voxels whose ceiling is below
            0.1 are then left out.

        Returns
        -------
        Encoder

        Raises
        ------
        OptionError
            If the encoder does not know the accuracy of its voxels, as the published one.
        DataError
            If no voxel is left.
        """
        bundle = restrict_voxels(self.bundle, minimum, share_of_ceiling=share_of_ceiling)
        return Encoder(bundle, self.folder)

    def attribution(
        self,
        images: Any,
        roi: str | Sequence[str] | None = None,
        settings: Settings | None = None,
        *,
        at: npt.ArrayLike | None = None,
        on_failure: OnFailure | None = None,
        progress: bool = True,
        **changes: Any,
    ) -> Attribution:
        """Say where in pictures the predicted response of an ROI, or of a voxel, comes from.

        Where the network's features are means over the places of a map, a response is the sum of
        what each place contributes, apart from its intercept. Of any other network each place is
        covered with grey, and the difference of responses is given: ``method`` says which.

        Parameters
        ----------
        images
            As for `predict`.
        roi : str or sequence of str, optional
            All by default.
        settings, on_failure, progress, **changes
            As for `predict`; people are averaged as ``average="mean"`` does.
        at : array of shape (3,), optional
            Explain the voxel at this point instead, in millimetres of the template's space: its
            value in each person's smoothed map and in that of the group.

        Returns
        -------
        Attribution
            Of the group and of each subject.

        Raises
        ------
        StimulusError
            If an input is not a usable image.
        OptionError
            If a setting is not valid, there is no such ROI, or the model knows nothing at the
            point.

        Examples
        --------
        >>> found = encoder.attribution("photos/", roi="PPA")  # doctest: +SKIP
        >>> found.of("house.jpg", "PPA").shape  # doctest: +SKIP
        (7, 7)
        """
        attributor = self.attributor(settings, roi=roi, at=at, **changes)
        failures: list[Failure] = []
        handle = _noting(failures, on_failure)
        items = expand_images(images, handle)
        _check_some(items, failures, "explained")
        stream = attributor.stream(items, handle)
        with track("Explaining", len(items), "images", enabled=progress) as advance:
            parts = [*counted(stream, advance)]
        _check_some(parts, failures, "explained")
        return join_attributions(parts)

    def attributor(
        self,
        settings: Settings | None = None,
        *,
        roi: str | Sequence[str] | None = None,
        at: npt.ArrayLike | None = None,
        **changes: Any,
    ) -> Attributor:
        """Check what is to be explained and load what it needs, before any stimulus is read.

        Parameters
        ----------
        settings, roi, at, **changes
            As for `attribution`.

        Returns
        -------
        Attributor
            Its ``stream`` gives attributions of a few pictures at a time.
        """
        chosen = Settings.of(settings, **(changes | {"average": "mean"}))
        return Attributor.of(self.predictor(chosen), roi, at)

    def in_space(self, space: str, transform: str | Path | None = None) -> Encoder:
        """Return an encoder that predicts in another template space.

        Each voxel of that template takes the value of the voxel of this encoder's in which it lies
        by the transform; smoothing, masks and z-scores are then those of the other template.

        Parameters
        ----------
        space : str
            Such as ``"MNI152NLin2009cAsym"``; its grid of 2 mm is taken. For surfaces see
            `Prediction.to_surface`.
        transform : path, optional
            What antsApplyTransforms takes to bring images of this encoder's space to the other. By
            default TemplateFlow's, where its cache (TEMPLATEFLOW_HOME) has it.

        Returns
        -------
        Encoder

        Raises
        ------
        OptionError
            If the transform or the grid are not at hand.
        DataError
            If the file is no such transform, or none of the template lies in the encoder's.
        """
        if space == self.bundle.space:
            return self
        return Encoder(move_bundle(self.bundle, space, transform), self.folder)

    def features(
        self,
        images: Any,
        settings: Settings | None = None,
        *,
        progress: bool = False,
        **changes: Any,
    ) -> npt.NDArray[np.float32]:
        """Return the network's features of images.

        Parameters
        ----------
        images, settings, progress, **changes
            As for `predict`.

        Returns
        -------
        array of shape (n_stimuli, n_features), float32
        """
        return self.extractor(settings, **changes).features(images, progress=progress).features

    def predict_features(
        self,
        features: FloatArray,
        settings: Settings | None = None,
        *,
        names: Sequence[str] | None = None,
        onsets_s: FloatArray | None = None,
        **changes: Any,
    ) -> Prediction:
        """Predict the responses to stimuli whose features are known.

        Parameters
        ----------
        features : array of shape (n_stimuli, n_features)
            Of the network that the models were fitted on.
        settings, **changes
            As for `predict`; the network is not needed.
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
        features = check_features(self.bundle, features)
        numbers = (f"stimulus-{n:04d}" for n in range(len(features)))
        names = [str(name) for name in (numbers if names is None else names)]
        if len(names) != len(features) or (onsets_s is not None and len(onsets_s) != len(features)):
            message = (
                f"names and onsets_s must be as many as the {len(features)} rows of features; got "
                f"{len(names)} names"
                + ("" if onsets_s is None else f" and {len(onsets_s)} onsets")
                + ". Give as many."
            )
            raise ShapeError(message)
        chosen = self.settings(settings, **changes)
        provenance = Provenance.of(self.bundle, chosen)
        readout = Readout(self.bundle, self.spatial_model(chosen), provenance)
        onsets = () if onsets_s is None else tuple(float(onset) for onset in onsets_s)
        return readout.predict(FeatureBatch(tuple(names), features, onsets_s=onsets))

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
        check_choice("subject", subject, self.subjects)
        models = self.bundle.subjects[self.subjects.index(subject)].rois
        check_choice("roi", roi, models)
        return native_responses(models[roi], check_features(self.bundle, features))


def _kept_by(named: object) -> Hashable:
    """Return what a network or its weights are known by; a file that is written anew is another."""
    if not isinstance(named, str | Path):
        return id(named) if hasattr(named, "spec") else str(named)
    if not is_file(named):
        return str(named)
    status = Path(named).stat()
    return str(Path(named).absolute()), status.st_ino, status.st_size, status.st_mtime_ns


def _noting(failures: list[Failure], on_failure: OnFailure | None) -> OnFailure | None:
    """Return what hands failures over and keeps them; None where the first one raises."""
    if on_failure is None:
        return None

    def hand_over(failure: Failure) -> None:
        failures.append(failure)
        on_failure(failure)

    return hand_over


def _check_some(parts: Sequence[object], failures: Sequence[Failure], what: str) -> None:
    if not parts:
        message = f"expected one or more images that can be {what}; got none: {failures[0].error}"
        raise StimulusError(message)
