"""Work in several processes, here or on a cluster; what is lost with a process is done again.

What a unit of work leaves behind must be such that it may be done twice, also at the same time.
"""

from __future__ import annotations

from imgtofmri.workers.cluster import connected, do_on_cluster
from imgtofmri.workers.here import do_here
from imgtofmri.workers.work import MOST_LOSSES, Work

__all__ = ["MOST_LOSSES", "Work", "connected", "do_here", "do_on_cluster"]
