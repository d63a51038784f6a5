"""What the commands that analyse predictions share: pools, controls, refusals, records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from imgtofmri import __version__
from imgtofmri.exceptions import DataError, OptionError, OutputError, choice_message

if TYPE_CHECKING:
    from imgtofmri.encoder import Encoder
    from imgtofmri.encoder.pipeline import RunSettings
    from imgtofmri.encoder.prediction import Prediction
    from imgtofmri.stimuli import Failure, Source

ENCODER = "encoder"
"""What tables call the model itself, beside its controls."""

LUMINANCE = "luminance"
CONTROLS = ("untrained", "untrained:SEED", LUMINANCE)
"""What ``--control`` takes; tables call a control what the user called it."""


@dataclass(frozen=True)
class Pool:
    """Images that could be predicted, and those that could not.

    Parameters
    ----------
    prediction : Prediction
    sources : tuple of Source
        The files of ``prediction.names``, in order.
    sha256 : tuple of (str or None)
        Their digests.
    failures : tuple of Failure
    """

    prediction: Prediction
    sources: tuple[Source, ...]
    sha256: tuple[str | None, ...]
    failures: tuple[Failure, ...]

    def report(self) -> int:
        """Name what failed on standard error and return the exit code."""
        for failure in self.failures:
            typer.echo(f"imgtofmri: {failure.error}", err=True)
        return 1 if self.failures else 0


def find_images(inputs: Sequence[str | Path]) -> tuple[list[Source], list[Failure]]:
    """Find image files, before anything is loaded; movies among them are failures.

    Raises
    ------
    DataError
        If there is no image at all, saying why.
    OptionError
        As `imgtofmri.stimuli.find_sources` does.
    """
    from imgtofmri.stimuli import Failure, find_sources
    from imgtofmri.stimuli.items import refuse

    found, failures = find_sources(inputs)
    sources = [source for source in found if source.kind == "image"]
    for source in found:
        if source.kind != "image":
            got = f"'{source.path}', a movie"
            remedy = "Leave it out: `predict`, `simulate` and `dynamics` take movies."
            error = refuse("find_images", "an image file", got, remedy)
            failures.append(Failure(source.name, error))
    if not sources:
        more = f" And {len(failures) - 1} more could not be used." if len(failures) > 1 else ""
        message = f"{failures[0].error}{more}"
        raise DataError(message)
    return sources, failures


def predict_pool(
    encoder: Encoder,
    sources: Sequence[Source],
    unusable: Sequence[Failure],
    settings: RunSettings,
    progress: bool,
) -> Pool:
    """Predict image files, going on past those that cannot be used.

    Raises
    ------
    DataError
        If none can be used.
    """
    from imgtofmri.backbones import FeatureBatch
    from imgtofmri.encoder.prediction import concatenate
    from imgtofmri.progress import track

    failures = list(unusable)
    digests: dict[str, str | None] = {}

    def keep(batch: FeatureBatch) -> None:
        digests.update(zip(batch.names, batch.sha256, strict=True))

    parts = []
    with track("Predicting", len(sources), "images", enabled=progress) as advance:
        for part in encoder.stream(sources, failures.append, keep, **settings):
            parts.append(part)
            advance(len(part))
    if not parts:
        named = f": {failures[0].error}" if failures else "."
        message = f"expected at least one image that can be predicted; got none{named}"
        raise DataError(message)
    prediction = concatenate(parts)
    of_name = {source.name: source for source in sources}
    return Pool(
        prediction=prediction,
        sources=tuple(of_name[name] for name in prediction.names),
        sha256=tuple(digests[name] for name in prediction.names),
        failures=tuple(failures),
    )


@dataclass(frozen=True)
class Controls:
    """The controls that were asked for, each once; see `read_controls`.

    Parameters
    ----------
    names : tuple of str
        As ``--control`` named them.
    """

    names: tuple[str, ...]

    @property
    def luminance(self) -> bool:
        """Whether luminance is one of them."""
        return LUMINANCE in self.names

    @property
    def untrained(self) -> tuple[str, ...]:
        """Those that are networks with random weights."""
        return tuple(name for name in self.names if name != LUMINANCE)

    def load(self, encoder: Encoder, rois: Sequence[str] | None) -> dict[str, dict[str, str]]:
        """Load the untrained networks before anything is computed; say what they are.

        Each network of the encoder is replaced by one of the same architecture.

        Returns
        -------
        dict of str to dict
            For the record: the features, name and digest of each control's weights.

        Raises
        ------
        OptionError
            If a network of the encoder has no architecture whose weights can be drawn.
        """
        specs = {name: encoder.backbone(None, name, rois).spec for name in self.untrained}
        found = {
            name: {
                "features": spec.features_id,
                "weights": spec.weights_name,
                "sha256": spec.weights_sha256,
            }
            for name, spec in specs.items()
        }
        if self.luminance:
            found[LUMINANCE] = {"features": "relative luminance in linear light"}
        return found

    def predict(
        self, encoder: Encoder, images: Sequence[Any], settings: RunSettings, progress: bool
    ) -> dict[str, Prediction]:
        """Predict the same images from untrained networks, all else being the same.

        Parameters
        ----------
        encoder : Encoder
            Whose regression maps features to voxels.
        images : sequence of Source
            Images that can be read.
        settings : RunSettings
            The encoder's own.
        progress : bool

        Returns
        -------
        dict of str to Prediction
        """
        from imgtofmri.encoder.pipeline import collect
        from imgtofmri.progress import track

        found = {}
        for name in self.untrained:
            own: RunSettings = {**settings, "backbone": None, "weights": name}
            what = f"Predicting {name}"
            with track(what, len(images), "images", enabled=progress) as advance:
                found[name] = collect(encoder.stream(images, **own), advance)
        return found


def read_controls(names: Sequence[str] | None, command: str) -> Controls:
    """Check what ``--control`` was given, before anything is loaded.

    Raises
    ------
    OptionError
        If one is no control.
    """
    from imgtofmri.backbones.untrained import untrained_seed

    for name in names or ():
        known = name.partition(":")[0]
        if name != LUMINANCE and known != "untrained":
            raise OptionError(choice_message(command, "--control", name, CONTROLS))
        untrained_seed(name)
    return Controls(tuple(dict.fromkeys(names or ())))


def claim_output(folder: Path, record: str, overwrite: bool) -> None:
    """Refuse to write where an earlier run has written, before anything is computed.

    Raises
    ------
    OptionError
        If the folder holds that run's record and ``overwrite`` is false.
    OutputError
        If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        message = f"{folder}: expected a folder to write to; it is a file. Choose another name."
        raise OutputError(message)
    if (folder / record).exists() and not overwrite:
        message = (
            f"{folder}: expected a folder without earlier results; it holds {record}. Use "
            "--overwrite, or another folder."
        )
        raise OptionError(message)


def write_record(
    path: Path, pool: Pool, settings: Mapping[str, Any], details: Mapping[str, Any]
) -> None:
    """Write the sidecar that says how results were made; last, so that it marks a whole run."""
    from imgtofmri.files import atomic_path

    inputs = zip(pool.prediction.names, pool.sources, pool.sha256, strict=True)
    record = {
        "imgtofmri": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        **details,
        "inputs": [
            {"name": name, "path": str(source.path), "sha256": digest}
            for name, source, digest in inputs
        ],
        "failed": [
            {"name": failure.name, "reason": str(failure.error)} for failure in pool.failures
        ],
    }
    with atomic_path(path) as temporary:
        text = json.dumps(record, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
