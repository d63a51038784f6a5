"""Choose stimuli for a scan: images that drive, suppress or pull apart regions, by prediction.

The best of a pool look better than they are: a maximum picks up errors of the model as well as
responses of the brain. So every choice comes with checks on a subject that took no part in it; see
`select_stimuli`. `save_selection` writes all that ``imgtofmri select`` does.
"""

from __future__ import annotations

from imgtofmri.analyses.select.analysis import (
    StimulusSelection,
    check_pool_size,
    events_table,
    select_stimuli,
)
from imgtofmri.analyses.select.files import save_selection
from imgtofmri.analyses.select.goals import Goal, RoiResponses, parse_goal, roi_responses

__all__ = [
    "Goal",
    "RoiResponses",
    "StimulusSelection",
    "check_pool_size",
    "events_table",
    "parse_goal",
    "roi_responses",
    "save_selection",
    "select_stimuli",
]
