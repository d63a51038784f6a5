"""``python -m imgtofmri.compat.img2fmri``: the published package's command."""

from __future__ import annotations

import sys

from imgtofmri.compat.img2fmri.command import main

if __name__ == "__main__":
    sys.exit(main())
