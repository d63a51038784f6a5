"""An encoder as data: what a bundle holds, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.bundle.content import arrays_of, digest_of, whole_card
from imgtofmri.spaces import Grid, VoxelMap
from imgtofmri.text import Brief

HEMIS = ("L", "R", "B")
"""Hemispheres by their code in the file; B is a mask that was not split by hemisphere."""

Card = dict[str, Any]
"""What a bundle says of itself, as JSON has it."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RoiModel(Brief):
    """One subject's linear model of one ROI.

    Attributes
    ----------
    voxels : array of shape (n_voxels,), int32
        Flat indices (C order) into the subject's native grid.
    hemi : array of shape (n_voxels,), uint8
        Index into ``HEMIS``.
    weights : array of shape (n_features, n_voxels), float32
    intercept : array of shape (n_voxels,), float32
    first_feature : int
        Where the model's features begin among the bundle's, which are several networks' or layers'
        features side by side where an encoder uses more than one.
    extras : dict of str to array of shape (n_voxels,)
        What is known about each voxel, such as ``cv_r``, ``noise_ceiling``, ``alpha``.
    """

    voxels: npt.NDArray[np.int32]
    hemi: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float32]
    first_feature: int = 0
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """Number of features that the model uses."""
        return len(self.weights)

    @property
    def n_voxels(self) -> int:
        """Number of voxels that the model predicts."""
        return len(self.voxels)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SubjectModel(Brief):
    """One subject's models, and the way from the native grid to the template.

    Attributes
    ----------
    name : str
    native : Grid
    to_template : VoxelMap
        Restricted to the voxels that some model predicts.
    rois : dict of str to RoiModel
        In the bundle's order of ROIs.
    """

    name: str
    native: Grid
    to_template: VoxelMap
    rois: Mapping[str, RoiModel]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bundle(Brief):
    """An encoder as data: the card, the template grid, and each subject's models.

    Attributes
    ----------
    card : dict
        What the encoder is: id, title, licence, citation, features, template, subjects and more.
    template : Grid
    subjects : tuple of SubjectModel
    """

    card: Card
    template: Grid
    subjects: tuple[SubjectModel, ...]
    # Not taken over by `dataclasses.replace`, as what it makes is another bundle.
    _sha256: str = field(default="", init=False, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """The digest of all that it holds, which is in its file: see ``docs/reference/bundle.md``.

        Two encoders of one id, as two fits of one study make them, differ in it.
        """
        if not self._sha256:
            found = digest_of(whole_card(self), arrays_of(self))
            object.__setattr__(self, "_sha256", found)
        return self._sha256

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of the ROIs, in the order in which overlapping models are merged."""
        names: dict[str, None] = {}
        for subject in self.subjects:
            names.update(dict.fromkeys(subject.rois))
        return tuple(names)

    @property
    def n_features(self) -> int:
        """Width of the feature matrix."""
        return int(self.card["features"]["n_features"])

    @property
    def features_id(self) -> str:
        """Which features the models were fitted on, such as ``"resnet18/avgpool"``."""
        return str(self.card["features"]["id"])

    @property
    def space(self) -> str:
        """Name of the template space, such as ``"MNI152NLin6Asym"``."""
        return str(self.card["template"]["space"])
