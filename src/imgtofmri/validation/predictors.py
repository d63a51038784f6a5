"""What controls predict from: the encoder's network without its training, and luminance alone.

``untrained`` puts the images through the encoder's own network with random weights and its own
regression, so that whatever remains owes nothing to what the network learned. ``luminance`` asks
how far the images' luminance alone goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import OptionError
from imgtofmri.progress import track
from imgtofmri.validation.patterns import Patterns

if TYPE_CHECKING:
    from imgtofmri.encoder import Encoder
    from imgtofmri.features import FrameBackbone

Control = Literal["untrained", "luminance"]
CONTROLS: tuple[Control, ...] = ("untrained", "luminance")


def untrained_patterns(
    encoder: Encoder,
    images: Sequence[Any],
    network: FrameBackbone,
    center_crop: bool | None = None,
    progress: bool = True,
    **settings: Any,
) -> Patterns:
    """Predict patterns from the features of another network: the encoder's own, untrained.

    Parameters
    ----------
    encoder : Encoder
        Whose regression maps features to voxels.
    images : sequence of paths, PIL images or arrays
        The images.
    network : Backbone
        A network whose features are as many as the encoder's, such as its own with random weights.
    center_crop : bool, optional
        As for ``Encoder.predict``.
    progress : bool
        Whether to report progress on standard error.
    **settings
        rois, sigma_mm, mask and average, as for ``Encoder.predict_features``; the same as for the
        encoder's own prediction.

    Returns
    -------
    Patterns
        The group maps.

    Raises
    ------
    StimulusError
        If an image cannot be read.
    ShapeError
        If the network's features do not fit the encoder.
    """
    from imgtofmri.features import stream_features
    from imgtofmri.stimuli import read_images

    size, crop = network.spec.preprocessing.size, encoder.center_crop(center_crop)
    frames = read_images(images, size=size, center_crop=crop)
    names: list[str] = []
    features = []
    with track("Predicting untrained", len(images), "images", enabled=progress) as advance:
        for batch in stream_features(frames, network):
            for failure in batch.failures:
                raise failure.error
            names += batch.names
            features.append(batch.features)
            advance(len(batch.names))
    prediction = encoder.predict_features(np.concatenate(features), names=names, **settings)
    return Patterns.from_prediction(prediction)


def luminance_features(images: Sequence[Any], size: int = 16) -> tuple[tuple[str, ...], Any]:
    """Reduce each image to its luminance on a coarse grid.

    Luminance is that of linear light in the sRGB colour space (Rec. 709 weights); the whole image
    is squeezed on to a square, as the networks see it, and averaged in blocks.

    Parameters
    ----------
    images : sequence of paths, PIL images or arrays
        The images.
    size : int
        Blocks along each side; must divide 224.

    Returns
    -------
    names : tuple of str
        The images' names.
    features : array of shape (n_images, size * size), float64
        Luminance between 0 and 1.

    Raises
    ------
    OptionError
        If ``size`` does not divide 224.
    StimulusError
        If an image cannot be read.
    """
    from imgtofmri.stimuli import Failure, read_images

    side = 224
    if size < 1 or side % size:
        message = (
            f"luminance_features: size must divide {side}; got {size}. Take 1, 2, 4, 7, 8 or 16."
        )
        raise OptionError(message)
    names, rows = [], []
    step = side // size
    for frame in read_images(images, size=side):
        if isinstance(frame, Failure):
            raise frame.error
        blocks = luminance(frame.pixels).reshape(size, step, size, step)
        rows.append(blocks.mean(axis=(1, 3)).ravel())
        names.append(frame.name)
    return tuple(names), np.array(rows)


def luminance(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Give the relative luminance of 8-bit sRGB pixels, shape (..., 3) to (...), between 0 and 1.

    References
    ----------
    IEC 61966-2-1 (sRGB) for the transfer curve; ITU-R BT.709 for the weights.
    """
    codes = np.arange(256) / 255
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear[pixels] @ np.array([0.2126, 0.7152, 0.0722]))
