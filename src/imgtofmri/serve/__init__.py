"""Predictions in a browser: a page on this computer, and the JSON interface under it.

Modules that need the extra ``[serve]`` are imported by `serve` alone.
"""

from __future__ import annotations

from imgtofmri.serve.limits import Limits
from imgtofmri.serve.server import serve

__all__ = ["Limits", "serve"]
