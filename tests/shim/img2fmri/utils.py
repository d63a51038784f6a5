"""Its ``utils``."""

from imgtofmri.compat.img2fmri.utils import *  # noqa: F403
