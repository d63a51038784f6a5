"""What is asked of a run: its options, checked before anything is loaded, then what they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.analyses.predict.recipe import Recipe
from imgtofmri.analyses.predict.stores import check_store_options
from imgtofmri.encoder import Encoder, Predictor, Settings
from imgtofmri.encoder.points import read_points
from imgtofmri.encoder.prediction import check_interval
from imgtofmri.encoder.saving import output_settings
from imgtofmri.encoder.surface import MESHES
from imgtofmri.exceptions import OptionError
from imgtofmri.outputs import FormatName
from imgtofmri.outputs.layouts import check_format
from imgtofmri.outputs.store_plan import StoreDtype
from imgtofmri.spaces.names import check_points_space
from imgtofmri.stimuli import Failure, Source, SourceList, check_rate, find_sources

if TYPE_CHECKING:
    import pandas as pd

Inputs = str | Path | Iterable[str | Path] | SourceList


@dataclass(frozen=True, slots=True)
class Request:
    """The options of a run, as `imgtofmri.analyses.predict.predict_into` describes them.

    Raises
    ------
    OptionError
        If one is not valid, or two do not go together.
    """

    format: FormatName = "nifti"
    dtype: StoreDtype = "float32"
    rois_only: bool = False
    subjects: bool = False
    interval: float | None = None
    min_accuracy: float | None = None
    share_of_ceiling: bool = False
    rate_hz: float = 2.0
    space: str | None = None
    transform: str | Path | None = None
    at: pd.DataFrame | str | Path | None = None

    def __post_init__(self) -> None:
        check_format(self.format)
        if self.share_of_ceiling and self.min_accuracy is None:
            message = (
                "share_of_ceiling needs `min_accuracy`, which it explains; got none. Add a "
                "`min_accuracy` of 0.5, for example."
            )
            raise OptionError(message, "share_of_ceiling")
        check_rate(self.rate_hz)
        check_store_options(self.format, self.dtype, self.rois_only, self.surface, self.at)
        if self.rois_only and self.interval is not None:
            message = (
                f"interval is written as maps; got {self.interval:g} with `rois_only`, which keeps "
                "none. Leave one out."
            )
            raise OptionError(message, "interval")
        if self.transform is not None and (self.space is None or self.surface):
            message = (
                "transform needs `space`, the template to which it leads; got "
                f"{'none' if self.space is None else self.space}. Name the template."
            )
            raise OptionError(message, "transform")
        if self.surface and self.format != "nifti":
            message = (
                f"space {self.space} is written beside plain volumes; got the format "
                f"{self.format}. Leave `format` out, or `space`."
            )
            raise OptionError(message, "space")

    @property
    def stores(self) -> bool:
        """Whether a store is written."""
        return self.format == "zarr" or self.rois_only

    @property
    def surface(self) -> str:
        """The mesh on which maps are written, too; empty for none."""
        return self.space if self.space is not None and self.space in MESHES else ""

    @property
    def store_options(self) -> dict[str, Any]:
        """What the creation of a store takes by name."""
        names = ("subjects", "interval", "rate_hz", "dtype", "rois_only")
        return {name: getattr(self, name) for name in names}

    def points(self) -> pd.DataFrame | None:
        """Return the table of points, if one is asked for."""
        return None if self.at is None else read_points(self.at)

    def recipe(self, encoder: Encoder | str | Path, settings: Settings) -> Recipe:
        """Return what the predictor is made of."""
        return Recipe(
            encoder,
            settings,
            self.min_accuracy,
            self.share_of_ceiling,
            self.space,
            self.transform,
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """A request with all that it needs, loaded and found.

    Attributes
    ----------
    request : Request
    recipe : Recipe
    encoder : Encoder
    predictor : Predictor
    sources : sequence of Source
    failures : list of Failure
        Inputs that are none.
    """

    request: Request
    recipe: Recipe
    encoder: Encoder
    predictor: Predictor
    sources: Sequence[Source]
    failures: list[Failure]

    @classmethod
    def of(
        cls,
        request: Request,
        recipe: Recipe,
        sources: Sequence[Source],
        failures: list[Failure],
        progress: bool,
    ) -> Ready:
        """Load what a request needs.

        Raises
        ------
        OptionError
            If an option is not valid for this encoder.
        DataError
            If the points lie in another space, by their file's name.
        """
        encoder, predictor = recipe.load(progress)
        if isinstance(request.at, str | Path):
            check_points_space(Path(request.at), encoder.bundle.space)
        if request.interval is not None:
            variance = predictor.spatial.residual_variance
            check_interval(predictor.settings.average, variance, request.interval)
        return cls(request, recipe, encoder, predictor, sources, failures)

    @property
    def people(self) -> tuple[str, ...]:
        """Whose maps are written beside the group's."""
        return self.predictor.spatial.subject_names if self.request.subjects else ()

    @property
    def written(self) -> dict[str, Any]:
        """What a record says of how predictions are written."""
        asked = self.request
        has_movies = any(source.kind == "movie" for source in self.sources)
        rate_hz = asked.rate_hz if has_movies else None
        if not asked.stores:
            return output_settings(
                asked.format, self.people, asked.interval, rate_hz, asked.surface
            )
        said = output_settings("zarr", self.people, asked.interval, rate_hz)
        return said | {"dtype": asked.dtype, "rois_only": asked.rois_only}


def sources_of(inputs: Inputs) -> tuple[Sequence[Source], list[Failure]]:
    """Return the stimuli that inputs are, and those inputs that are none."""
    if isinstance(inputs, SourceList):
        return inputs, list(inputs.failures)
    return find_sources([inputs] if isinstance(inputs, str | Path) else inputs)
