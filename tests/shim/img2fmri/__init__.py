"""A package called as the published one, for scripts and tests that were written for it."""

from imgtofmri.compat.img2fmri import *  # noqa: F403
