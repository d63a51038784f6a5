"""Contrasts of predicted responses: experiments in silico, with images as the random factor.

The question is the one of a localiser scan: do images of one kind drive a region more than images
of another? The answer generalises over images like the ones given. It does not generalise over
people: the maps predict a few measured brains, whose agreement is reported beside each result.

`find_conditions` finds the images, `compute_contrast` (of several, `compute_contrasts`) contrasts
what is predicted for them, and `save_contrast` writes all that ``imgtofmri contrast`` does.
"""

from __future__ import annotations

from imgtofmri.analyses.contrast.analysis import (
    Contrast,
    compute_contrast,
    compute_contrasts,
    contrast_properties,
)
from imgtofmri.analyses.contrast.files import find_conditions, read_conditions, save_contrast
from imgtofmri.analyses.contrast.welch import WelchTest, permute_welch_t, welch_test
from imgtofmri.stats.contrasts import (
    contrast_weights,
    default_contrast,
    parse_contrast,
)

__all__ = [
    "Contrast",
    "WelchTest",
    "compute_contrast",
    "compute_contrasts",
    "contrast_properties",
    "contrast_weights",
    "default_contrast",
    "find_conditions",
    "parse_contrast",
    "permute_welch_t",
    "read_conditions",
    "save_contrast",
    "welch_test",
]
