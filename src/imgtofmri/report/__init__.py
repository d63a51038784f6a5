"""A run's results as one page that can be looked at, asked, and sent."""

from __future__ import annotations

from imgtofmri.report.build import PAGE, Preparation, write_report
from imgtofmri.report.maps import MapRows

__all__ = ["PAGE", "MapRows", "Preparation", "write_report"]
