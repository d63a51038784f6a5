"""A prediction: responses to stimuli on the template grid, with their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import OptionError, ShapeError, choice_message

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd

AverageName = Literal["zscore", "mean"]
AVERAGES: tuple[AverageName, ...] = ("zscore", "mean")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Predicted responses to one or more stimuli.

    Attributes
    ----------
    group : array of shape (n_stimuli, n_voxels), float32
        The group map of each stimulus. With ``average="zscore"`` in standard deviations over the
        mask's voxels, with ``average="mean"`` in the models' own units.
    subjects : array of shape (n_subjects, n_stimuli, n_voxels), float32
        Each subject's smoothed map, in the models' own units.
    mask : array of shape (X, Y, Z), bool
        The voxels, in C order.
    affine : array of shape (4, 4), float64
        Voxel indices to millimetres of ``space``, RAS+.
    names : tuple of str
        One for each stimulus.
    roi_masks : dict of (roi, hemi) to array of shape (n_voxels,), bool
        hemi is "L", "R", or "B" where hemispheres are not told apart.
    subject_names : tuple of str
    average : {"zscore", "mean"}
    space : str
        The template space.
    onsets_s : array of shape (n_stimuli,) or None
        When each stimulus begins, in seconds, for a movie's frames.
    """

    group: npt.NDArray[np.float32]
    subjects: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]
    names: tuple[str, ...]
    roi_masks: Mapping[tuple[str, str], npt.NDArray[np.bool_]]
    subject_names: tuple[str, ...]
    average: AverageName = "zscore"
    space: str = "MNI152NLin6Asym"
    onsets_s: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        size = f"{len(self)} stimuli x {self.group.shape[1]} voxels"
        return (
            f"Prediction({size}, rois={self.rois}, subjects={self.subject_names}, "
            f"average={self.average!r}, space={self.space!r})"
        )

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the ROIs."""
        return tuple(dict.fromkeys(roi for roi, _ in self.roi_masks))

    def roi_mask(self, roi: str, hemi: str = "both") -> npt.NDArray[np.bool_]:
        """Return which voxels belong to an ROI, shape (n_voxels,).

        Parameters
        ----------
        roi : str
        hemi : {"both", "L", "R"}

        Raises
        ------
        OptionError
            If there is no such ROI or hemisphere.
        """
        if roi not in self.rois:
            raise OptionError(choice_message("roi_mask", "roi", roi, self.rois))
        sides = {side: mask for (name, side), mask in self.roi_masks.items() if name == roi}
        if hemi == "both":
            both: npt.NDArray[np.bool_] = np.any(list(sides.values()), axis=0)
            return both
        if hemi not in sides:
            raise OptionError(choice_message("roi_mask", "hemi", hemi, ["both", *sides]))
        return sides[hemi]

    def subject(self, name: str) -> npt.NDArray[np.float32]:
        """Return one subject's smoothed maps, shape (n_stimuli, n_voxels)."""
        if name not in self.subject_names:
            raise OptionError(choice_message("subject", "name", name, self.subject_names))
        maps: npt.NDArray[np.float32] = self.subjects[self.subject_names.index(name)]
        return maps

    def to_img(self, subject: str | None = None) -> nib.Nifti1Image:
        """Return the maps as a NIfTI image, zero outside the mask.

        Parameters
        ----------
        subject : str, optional
            A subject's name; None is the group.

        Returns
        -------
        nibabel.Nifti1Image
            3-D for one stimulus, 4-D for several; float32, qform and sform code 4. The time step of
            evenly spaced onsets is in the header.
        """
        maps = self.group if subject is None else self.subject(subject)
        step_s = None
        if self.onsets_s is not None and len(self.onsets_s) > 1:
            step_s = float(self.onsets_s[1] - self.onsets_s[0])
        return to_img(maps, self.mask, self.affine, step_s)

    def roi_table(self) -> pd.DataFrame:
        """Return the mean response of each ROI, as a tidy table.

        Returns
        -------
        pandas.DataFrame
            Columns stimulus, onset (movies only), roi, hemi ("L", "R", "both"), subject ("group" or
            a name) and mean. The group's means are of the group map, a subject's of the smoothed
            map.
        """
        import pandas as pd

        maps = {"group": self.group, **dict(zip(self.subject_names, self.subjects, strict=True))}
        parts = []
        for roi in self.rois:
            sides = [side for name, side in self.roi_masks if name == roi and side != "B"]
            for hemi in [*sides, "both"]:
                voxels = self.roi_mask(roi, hemi)
                for subject, values in maps.items():
                    columns: dict[str, Any] = {"stimulus": self.names}
                    if self.onsets_s is not None:
                        columns["onset"] = self.onsets_s
                    # Rows in one piece are summed alike, however many there are.
                    inside = np.ascontiguousarray(values[:, voxels])
                    mean = inside.mean(axis=1) if inside.shape[1] else np.full(len(self), np.nan)
                    columns |= {"roi": roi, "hemi": hemi, "subject": subject, "mean": mean}
                    parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)


def concatenate(parts: Sequence[Prediction]) -> Prediction:
    """Join predictions of one encoder with the same settings, in order.

    Raises
    ------
    ShapeError
        If there are none, or their masks differ.
    """
    if not parts:
        message = "concatenate: expected one or more predictions, got none. Give some stimuli."
        raise ShapeError(message)
    first = parts[0]
    if any(not np.array_equal(part.mask, first.mask) for part in parts[1:]):
        message = (
            "concatenate: expected predictions of the same voxels, got different masks. Predict "
            "them with the same ROIs, smoothing and mask."
        )
        raise ShapeError(message)
    onsets = [part.onsets_s for part in parts if part.onsets_s is not None]
    return Prediction(
        group=np.concatenate([part.group for part in parts]),
        subjects=np.concatenate([part.subjects for part in parts], axis=1),
        mask=first.mask,
        affine=first.affine,
        names=tuple(name for part in parts for name in part.names),
        roi_masks=first.roi_masks,
        subject_names=first.subject_names,
        average=first.average,
        space=first.space,
        onsets_s=np.concatenate(onsets) if len(onsets) == len(parts) else None,
    )


def to_img(
    maps: npt.NDArray[np.floating[Any]],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    step_s: float | None = None,
) -> nib.Nifti1Image:
    """Put maps into a NIfTI image, zero outside the mask.

    Parameters
    ----------
    maps : array of shape (n_maps, n_voxels)
        In C order of the mask.
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
    step_s : float, optional
        Time between maps in seconds, for the header.

    Returns
    -------
    nibabel.Nifti1Image
        3-D for one map, 4-D for several.
    """
    import nibabel as nib

    data = np.zeros((*mask.shape, len(maps)), dtype=np.float32)
    data[mask] = maps.T
    image = nib.Nifti1Image(data[..., 0] if len(maps) == 1 else data, affine)
    set_template_header(image.header, affine, step_s)
    return image


def set_template_header(
    header: nib.Nifti1Header, affine: npt.NDArray[np.float64], step_s: float | None = None
) -> None:
    """Mark a header as MNI152 (qform and sform code 4), in millimetres and seconds."""
    header.set_qform(affine, code=4)
    header.set_sform(affine, code=4)
    header.set_xyzt_units("mm", "sec")
    if step_s is not None and header["dim"][0] == 4:
        header["pixdim"][4] = step_s
