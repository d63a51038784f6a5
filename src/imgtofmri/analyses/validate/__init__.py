"""Do predicted responses resemble measured ones? Patterns, voxels, ROI means, and controls.

`read_comparison` (or `twinset_comparison`, for the published data) brings predictions and
measurements together; `matched_patterns` tests each image's pattern over voxels,
`encoding_accuracy` each voxel over images, `roi_means_accuracy` each ROI's mean over images;
`save_validation` writes all three.
"""

from __future__ import annotations

from imgtofmri.analyses.validate.accuracy import EncodingAccuracy, encoding_accuracy
from imgtofmri.analyses.validate.comparison import (
    Comparison,
    read_comparison,
    read_names,
    twinset_comparison,
)
from imgtofmri.analyses.validate.files import save_validation
from imgtofmri.analyses.validate.matched import MatchedPatterns, matched_patterns
from imgtofmri.analyses.validate.roi_means import RoiMeansAccuracy, roi_means_accuracy

__all__ = [
    "Comparison",
    "EncodingAccuracy",
    "MatchedPatterns",
    "RoiMeansAccuracy",
    "encoding_accuracy",
    "matched_patterns",
    "read_comparison",
    "read_names",
    "roi_means_accuracy",
    "save_validation",
    "twinset_comparison",
]
