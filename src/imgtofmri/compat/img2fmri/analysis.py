"""The analyses of the script that was published beside the package.

Of a movie: `get_luminance`, `average_pc_subjects`, `generate_bootstrapped_correlations`,
`generate_boundary_triggered_averages`. Of the Twinset images: ``twinset_*_permutations``.
"""

from __future__ import annotations

from imgtofmri.compat.img2fmri.movies import (
    PC_EVENT_BOUNDS,
    average_pc_subjects,
    generate_bootstrapped_correlations,
    generate_boundary_triggered_averages,
    get_luminance,
)
from imgtofmri.compat.img2fmri.twinset import (
    twinset_category_permutations,
    twinset_group_permutations,
    twinset_participant_permutations,
    twinset_ROI_permutations,
)

__all__ = [
    "PC_EVENT_BOUNDS",
    "average_pc_subjects",
    "generate_bootstrapped_correlations",
    "generate_boundary_triggered_averages",
    "get_luminance",
    "twinset_ROI_permutations",
    "twinset_category_permutations",
    "twinset_group_permutations",
    "twinset_participant_permutations",
]
