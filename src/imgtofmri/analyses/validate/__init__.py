"""Do predicted responses resemble measured ones? Matched patterns, encoding accuracy, controls.

`read_comparison` (or `twinset_comparison`, for the published data) brings predictions and
measurements together; `matched_patterns` tests each image's pattern over voxels,
`encoding_accuracy` each voxel over images; `save_validation` writes both.
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

__all__ = [
    "Comparison",
    "EncodingAccuracy",
    "MatchedPatterns",
    "encoding_accuracy",
    "matched_patterns",
    "read_comparison",
    "read_names",
    "save_validation",
    "twinset_comparison",
]
