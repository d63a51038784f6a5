"""Where in pictures predicted responses come from: tables and figures of an attribution.

`imgtofmri.encoder.Attribution` is computed by `Encoder.attribution`; here it is shown and written.
"""

from __future__ import annotations

from imgtofmri.analyses.explain.figures import plot_attribution
from imgtofmri.analyses.explain.files import save_attribution

__all__ = ["plot_attribution", "save_attribution"]
