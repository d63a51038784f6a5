"""`StoredPrediction`: the predictions in a store, read when they are asked for."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.encoder.choosing import Chosen, rows_of
from imgtofmri.encoder.prediction import Prediction
from imgtofmri.encoder.provenance import Provenance
from imgtofmri.encoder.regions import RoiMasks, RoiMeans, means_table, roi_mask, roi_names
from imgtofmri.encoder.storing import (
    PLACES,
    STORE,
    digest_text,
    means_of,
    roi_masks_of,
)
from imgtofmri.exceptions import DataError, OptionError, meant
from imgtofmri.outputs.store import Store
from imgtofmri.outputs.store_plan import (
    ACCURACY,
    AFFINE,
    COVERAGE,
    DIGEST,
    GROUP,
    MASK,
    MEANS,
    MOVIE,
    ONSET,
    PATH,
    RESIDUAL,
    ROI_VOXELS,
    SUBJECTS,
    Stream,
)
from imgtofmri.spaces import Grid
from imgtofmri.stimuli.movie import frame_name

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd

PART = 64
"""Stimuli that are read together."""

_MOST_COMPARED = 10_000
"""Among how many names one is looked for that was probably meant."""


class StoredMaps:
    """Maps in a store, read from the disk when they are indexed as an array is.

    Numbers, slices, an ellipsis and one list choose; several lists are refused.

    Parameters
    ----------
    store : Store
    streams : sequence of Stream
        One, or one for each subject.
    rows : array of int
        The store's row of each stimulus.
    by_subject : bool
        Whether subjects are the first axis.
    """

    def __init__(
        self,
        store: Store,
        streams: Sequence[Stream],
        rows: npt.NDArray[np.intp],
        by_subject: bool = False,
    ) -> None:
        self._store, self._streams, self._rows = store, list(streams), rows
        self._by_subject = by_subject

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all maps together: stimuli and voxels, after subjects where these are an axis."""
        own = (len(self._rows), self._store.plan.n_voxels)
        return (len(self._streams), *own) if self._by_subject else own

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what an index gives: float32, also where the store keeps fewer digits."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> npt.NDArray[np.float32]:
        parts = _of_each_axis(index, self.ndim)
        if not self._by_subject:
            return self._of(self._streams[0], *parts)
        who, *parts = parts
        chosen = np.arange(len(self._streams))[who]
        if not np.ndim(chosen):
            return self._of(self._streams[int(chosen)], *parts)
        if not chosen.size:
            return np.empty((0, *self.shape[1:]), np.float32)[:, *parts]
        return np.stack([self._of(self._streams[int(one)], *parts) for one in chosen])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        return f"StoredMaps(shape={self.shape}, {self._store.path})"

    def _of(self, stream: Stream, stimuli: Any, voxels: Any) -> npt.NDArray[np.float32]:
        """Return what an index over stimuli and voxels gives of one file's maps."""
        rows = self._rows[stimuli]
        if not np.ndim(rows):
            one: npt.NDArray[np.float32] = self._read(stream, [int(rows)])[0][voxels]
            return one
        # Of many maps a few voxels are kept without holding all.
        parts = [
            self._read(stream, rows[at : at + PART].tolist())[:, voxels]
            for at in range(0, len(rows), PART)
        ]
        empty = np.empty((0, self._store.plan.n_voxels), np.float32)[:, voxels]
        return np.concatenate(parts) if parts else empty

    def _read(self, stream: Stream, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        return self._store.read(stream, rows).astype(np.float32, copy=False)


def _of_each_axis(index: Any, n_axes: int) -> list[Any]:
    """Return the part of an index that is of each axis.

    Raises
    ------
    OptionError
        If it is not one that gives what the same index of an array does, axis by axis.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    at = dots[0] if dots else len(parts)
    left_out = [slice(None)] * (n_axes - len(parts) + len(dots))
    full = [*parts[:at], *left_out, *parts[at + 1 :]]
    ndims = [np.ndim(part) for part in full]
    chosen = [place for place, part in enumerate(full) if not isinstance(part, slice)]
    are_numbers = all(
        np.asarray(full[place]).dtype.kind in "iu" for place in chosen if not ndims[place]
    )
    # Of an array several lists are taken together, and the axis of one that a slice parts from a
    # number moves.
    apart = 1 in ndims and chosen[-1] - chosen[0] >= len(chosen)
    if len(full) != n_axes or len(dots) > 1 or sum(ndims) > 1 or apart or not are_numbers:
        message = (
            f"maps of {n_axes} axes are indexed by numbers and slices, and one list beside them; "
            f"got {reprlib.repr(index)}. Index what comes of it again."
        )
        raise OptionError(message)
    return full


class StoredPrediction:
    """What a store holds of predictions; ``stored[chosen]`` is a `Prediction`, read from the disk.

    Stimuli are chosen as those of a `Prediction`; a movie's name chooses all its frames. Inputs
    that could not be used are not among them: `failures` says why.

    Attributes
    ----------
    store : Store
        The files.
    names : tuple of str
        One for each stimulus; frames are called ``film.mp4_t00003.500s``.
    stimuli : tuple of str
        The file's name of each: a movie's, for all its frames.
    group : StoredMaps of shape (n_stimuli, n_voxels)
        The group's maps: ``stored.group[3]`` reads one.
    subjects : StoredMaps of shape (n_subjects, n_stimuli, n_voxels)
        Each subject's.
    failures : dict of str to str
        Inputs that could not be used, and why.
    movies : dict of str to str
        What the header of each movie says, as JSON.
    roi_masks, mask, affine, coverage, accuracy, residual_variance, provenance
        As those of a `Prediction`.
    """

    def __init__(self, store: Store, shards: Sequence[int]) -> None:
        self.store = store
        plan = store.plan
        self.provenance = Provenance.of_stored(store.settings["prediction"])
        # A movie of which a part could not be used is lost as a whole.
        self._lost = store.lost(shards)
        names = store.texts("stimulus")
        found = (row for shard in shards for row in plan.shard(shard))
        rows = [row for row in found if names[row] not in self._lost]
        self._rows = np.array(rows, dtype=np.intp)
        self.stimuli = tuple(names[row] for row in rows)
        streams = [stream for stream in plan.streams() if not stream.place]
        self._streams = {stream.array: stream for stream in streams}
        self._people = [stream for stream in plan.streams() if stream.array == SUBJECTS]
        onsets = self._small(ONSET, rows) if plan.onsets else np.full(len(rows), np.nan)
        self._onsets_s = onsets
        self.names = tuple(
            frame_name(name, float(onset)) if name in self.movies else name
            for name, onset in zip(self.stimuli, onsets, strict=True)
        )

    def _small(self, array: str, rows: Sequence[int]) -> npt.NDArray[Any]:
        return self.store.read(self._streams[array], rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._spans or name in self.names

    def __getitem__(self, chosen: Chosen) -> Prediction:
        return self._load(self._chosen(chosen))

    def parts(self, n: int = PART) -> Iterator[Prediction]:
        """Yield all of it, so many stimuli at a time, in memory that stays constant.

        Parameters
        ----------
        n : int
            Stimuli of each part.

        Yields
        ------
        Prediction
        """
        for first in range(0, len(self), n):
            yield self[first : first + n]

    def _chosen(self, chosen: Chosen) -> Sequence[int]:
        return rows_of(chosen, len(self), self._named)

    def _named(self, name: str) -> range:
        if name in self._spans:
            return self._spans[name]
        if name in self.names:
            number = self.names.index(name)
            return range(number, number + 1)
        if name in self._lost:
            message = f"{self.store.path}: {name!r} was not predicted: {self.failures[name]}"
            raise OptionError(message)
        known = f"{len(self._spans)} stimuli of {self.store.path}"
        hint = meant(name, self._spans) if len(self._spans) < _MOST_COMPARED else ""
        message = f"a stimulus must be one of the {known}; got {name!r}.{hint}"
        raise OptionError(message)

    @cached_property
    def _spans(self) -> dict[str, range]:
        """The numbers of each stimulus, which for a movie are those of its frames."""
        first = [k for k, n in enumerate(self.stimuli) if not k or n != self.stimuli[k - 1]]
        return {self.stimuli[a]: range(a, b) for a, b in pairwise([*first, len(self)])}

    def spans(self, names: Iterable[str] | None = None) -> dict[str, range]:
        """Return which numbers stimuli have: one each, and a movie's frames.

        Parameters
        ----------
        names : iterable of str, optional
            Of files; by default all.

        Returns
        -------
        dict of str to range

        Raises
        ------
        OptionError
            If there is no such stimulus.
        """
        if names is None:
            return dict(self._spans)
        chosen = dict.fromkeys(names)
        for name in chosen:
            if name not in self._spans:
                self._named(name)
                message = f"{name!r} is one frame; name its movie."
                raise OptionError(message)
        return {name: span for name, span in self._spans.items() if name in chosen}

    def digests(self, chosen: slice = slice(None)) -> list[str | None]:
        """Return the SHA-256 of stimuli's files.

        Parameters
        ----------
        chosen : slice
            Of stimuli; all by default.

        Returns
        -------
        list of str or None
            None where there is no file.
        """
        rows = self._rows[chosen].tolist()
        return [digest_text(row) for row in self._small(DIGEST, rows)]

    def path(self, number: int) -> Path | None:
        """Return the file of a stimulus, as it was given.

        Parameters
        ----------
        number : int
            The stimulus.

        Returns
        -------
        Path or None
        """
        path = self._paths[int(self._rows[number])]
        return Path(path) if path else None

    def _load(self, numbers: Sequence[int]) -> Prediction:
        at = list(numbers)
        rows = self._rows[at].tolist()
        n_voxels = self.store.plan.n_voxels
        people = [self.store.read(stream, rows) for stream in self._people]
        onsets = self._onsets_s[at]
        return Prediction(
            group=self.group[at],
            subjects=np.stack(people).astype(np.float32, copy=False)
            if people
            else np.empty((0, len(rows), n_voxels), np.float32),
            mask=self.mask,
            affine=self.affine,
            names=tuple(self.names[number] for number in numbers),
            roi_masks=self.roi_masks,
            subject_names=self.subject_names,
            native=(),
            own_rois=(),
            coverage=self.coverage,
            provenance=self.provenance,
            onsets_s=onsets if len(onsets) and not np.isnan(onsets).any() else None,
            sha256=tuple(map(digest_text, self._small(DIGEST, rows))),
            sources=tuple(map(self.path, at)),
            residual_variance=self.residual_variance,
            accuracy=self.accuracy,
            kept_means=self._means(rows),
        )

    def bounds(self, chosen: slice) -> dict[str, npt.NDArray[np.float32]]:
        """Return the bounds of prediction intervals that the store holds.

        Parameters
        ----------
        chosen : slice
            Of stimuli.

        Returns
        -------
        dict of str to array of shape (n_stimuli, n_voxels), float32
            "lower" and "upper"; empty where none were asked for.
        """
        kept = (name for name in self.store.plan.maps if name != GROUP)
        return {name: self._maps(name)[chosen] for name in kept}

    @property
    def group(self) -> StoredMaps:
        """The group's maps, shape (n_stimuli, n_voxels)."""
        return self._maps(GROUP)

    def _maps(self, array: str) -> StoredMaps:
        if array not in self._streams:
            message = (
                f"{self.store.path}: expected a store with maps; it holds means of ROIs alone. "
                "Take `roi_table` or `roi_means`, or predict without `rois_only`."
            )
            raise OptionError(message)
        return StoredMaps(self.store, [self._streams[array]], self._rows)

    @property
    def subjects(self) -> StoredMaps:
        """Subjects' maps, shape (n_subjects, n_stimuli, n_voxels); no subjects if none are kept."""
        return StoredMaps(self.store, self._people, self._rows, by_subject=True)

    @property
    def failures(self) -> dict[str, str]:
        """Inputs that could not be used, and why."""
        return {name: lost.reason for name, lost in self._lost.items()}

    @cached_property
    def movies(self) -> dict[str, str]:
        """What the header of each movie says, as JSON."""
        if not self.store.plan.onsets:
            return {}
        told = zip(self.store.names, self.store.texts(MOVIE), strict=True)
        return {name: said for name, said in told if said}

    @cached_property
    def _paths(self) -> list[str]:
        return self.store.texts(PATH)

    @property
    def onsets_s(self) -> npt.NDArray[np.float64] | None:
        """When each begins, in seconds; NaN for pictures, None where all are."""
        return self._onsets_s if self.store.plan.onsets else None

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """The voxels, in C order."""
        mask: npt.NDArray[np.bool_] = self._constant(MASK)
        if mask.ndim != 3 or int(mask.sum()) != self.store.plan.n_voxels:
            message = (
                f"{self.store.path}: expected a mask of {self.store.plan.n_voxels} voxels; got "
                f"one of {int(mask.sum())}. Get the store again."
            )
            raise DataError(message)
        return mask

    @cached_property
    def affine(self) -> npt.NDArray[np.float64]:
        """Voxel indices to millimetres."""
        affine: npt.NDArray[np.float64] = self._constant(AFFINE, (4, 4)).astype(np.float64)
        fault = Grid((1, 1, 1), affine).fault
        if fault:
            raise _other_kind(self.store, f"its affine does not {fault}")
        return affine

    @cached_property
    def coverage(self) -> npt.NDArray[np.float32]:
        """The share of each subject's map that the subject's own voxels make."""
        plan = self.store.plan
        found: npt.NDArray[np.float32] = self._constant(COVERAGE, (len(plan.people), plan.n_voxels))
        return found

    @cached_property
    def accuracy(self) -> npt.NDArray[np.float32] | None:
        """The cross-validated r of the models behind each voxel, where it is known."""
        known: npt.NDArray[np.float32] | None = self._optional(ACCURACY)
        return known

    @cached_property
    def residual_variance(self) -> npt.NDArray[np.float64] | None:
        """Of a measured response about its prediction, where it is known."""
        known: npt.NDArray[np.float64] | None = self._optional(RESIDUAL)
        return known

    @cached_property
    def roi_masks(self) -> RoiMasks:
        """(roi, hemi) to a choice of voxels."""
        plan = self.store.plan
        voxels = self._constant(ROI_VOXELS, (len(plan.rois), 3, plan.n_voxels))
        try:
            return roi_masks_of(voxels, plan.rois, self.store.attributes(ROI_VOXELS)[PLACES])
        except (ValueError, LookupError, TypeError) as error:
            raise _other_kind(self.store, error) from error

    def _constant(self, name: str, shape: tuple[int, ...] | None = None) -> Any:
        found = self.store.constant(name)
        if not isinstance(found, np.ndarray) or (shape is not None and found.shape != shape):
            raise _other_kind(self.store, f"{name} is not as it should be")
        return found

    def _optional(self, name: str) -> Any:
        if self.store.constant(name) is None:
            return None
        return self._constant(name, (self.store.plan.n_voxels,))

    @property
    def subject_names(self) -> tuple[str, ...]:
        """The people."""
        return self.store.plan.people

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the ROIs."""
        return roi_names(self.roi_masks)

    def roi_mask(self, roi: str, hemi: str = "both") -> npt.NDArray[np.bool_]:
        """Return which voxels belong to an ROI, as `Prediction.roi_mask` does.

        Parameters
        ----------
        roi, hemi : str
            As there.

        Returns
        -------
        array of shape (n_voxels,), bool
        """
        return roi_mask(self.roi_masks, roi, hemi)

    @property
    def space(self) -> str:
        """The template space."""
        return self.provenance.space

    @property
    def unit(self) -> str:
        """The unit of the group's maps."""
        return self.store.plan.unit

    def roi_means(self, chosen: Chosen = slice(None)) -> RoiMeans:
        """Return the means of each person's own ROIs.

        Parameters
        ----------
        chosen : int, str, slice, or a list of numbers or names
            Stimuli, as a Prediction's are chosen; all by default.

        Returns
        -------
        RoiMeans
        """
        return self._means(self._rows[list(self._chosen(chosen))].tolist())

    def _means(self, rows: list[int]) -> RoiMeans:
        return means_of(self._small(MEANS, rows), self.store.plan, self.roi_masks)

    def roi_table(self, chosen: Chosen = slice(None)) -> pd.DataFrame:
        """Return the means of ROIs as a tidy table, as `Prediction.roi_table` does.

        Parameters
        ----------
        chosen : int, str, slice, or a list of numbers or names
            Stimuli, as a Prediction's are chosen; all by default.

        Returns
        -------
        pandas.DataFrame
        """
        numbers = self._chosen(chosen)
        names = [self.names[number] for number in numbers]
        onsets = None if self.onsets_s is None else self.onsets_s[list(numbers)]
        return means_table(self.roi_means(chosen), names, onsets)

    def to_img(
        self, chosen: Chosen, subject: str | None = None, roi: str | None = None
    ) -> nib.Nifti1Image:
        """Return maps as a NIfTI image, as `Prediction.to_img` does.

        Parameters
        ----------
        chosen : int, str, slice, or a list of numbers or names
            Stimuli, as a Prediction's are chosen.
        subject, roi : str, optional
            As there.

        Returns
        -------
        nibabel.Nifti1Image
        """
        return self[chosen].to_img(subject, roi)

    def __repr__(self) -> str:
        plan = self.store.plan
        return (
            f"StoredPrediction({len(self)} stimuli x {plan.n_voxels} voxels, rois={plan.rois}, "
            f"subjects={plan.people}, {self.store.path})"
        )


def open_stored(path: str | Path, *, unfinished: bool = False) -> StoredPrediction:
    """Open a store, or the one in a run's folder; see `Prediction.open`."""
    place = Path(path)
    inside = place / STORE
    store = Store.open(inside if inside.is_dir() else place)
    plan = store.plan
    _ = store.names  # As many rows as there are names, whatever the metadata say.
    left = set(store.unfinished())
    if left and not unfinished:
        message = (
            f"{store.path}: expected a store that is whole; {len(left)} of its {plan.n_shards} "
            "shards are missing. Resume the run that makes it, or open it with `unfinished`."
        )
        raise DataError(message)
    try:
        return StoredPrediction(store, [k for k in range(plan.n_shards) if k not in left])
    except (OptionError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise _other_kind(store, error) from error


def _other_kind(store: Store, reason: object) -> DataError:
    message = (
        f"{store.path}: expected a store of predictions; it is damaged or of another kind "
        f"({reason}). Get it again, or predict anew."
    )
    return DataError(message)
