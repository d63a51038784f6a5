"""A movie beside the response that is predicted to it, as a movie."""

from __future__ import annotations

from imgtofmri.analyses.render.files import render_movie

__all__ = ["render_movie"]
