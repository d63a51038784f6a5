"""Build the viewer of the reports' pages: NiiVue as one script, with the licences of its parts.

Needs npm and its registry. The versions are those of `viewer/package.json`; the packages must have
the digests below, and what comes of them is the file whose digest `SHA256` is, byte for byte.
NiiVue's readers of Zarr are left out: with them the file would be more than twice as long.

    python tools/build_viewer.py
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent / "viewer"
TARGET = Path(__file__).parents[1] / "src" / "imgtofmri" / "report" / "static"

INTEGRITY = {
    "@niivue/niivue": "sha512-YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGD"
    "IcaNlbd+MhtO/edMbXJkA==",
    "esbuild": "sha512-bbPBYYrtZbkt6Os6FiTLCTFxvq4tt3JKall1vRwshA3fdVztsLAatFaZobhkBC8/BrPetoa0ok"
    "sYoKXoG4ryJg==",
}
SHA256 = "816943b438ce24e58dd44f87b341ede5f07ff2918d5cd972261d32f60e773b61"

BUNDLED = (
    "@lukeed/csprng",
    "@lukeed/uuid",
    "@ungap/structured-clone",
    "array-equal",
    "fflate",
    "gl-matrix",
    "nifti-reader-js",
)
"""What of NiiVue's dependencies is in the file."""


def main() -> None:
    """Install, check, bundle, check, and write the two files."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("entry.js", "no_zarr.js", "package.json"):
            shutil.copyfile(HERE / name, work / name)
        # No package runs a program of its own at installation.
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=work, check=True)
        locked = json.loads((work / "package-lock.json").read_text())["packages"]
        for name, digest in INTEGRITY.items():
            check(name, locked[f"node_modules/{name}"]["integrity"], digest)
        bundle = work / "niivue.js"
        options = [
            "--bundle",
            "--minify",
            "--format=iife",
            "--charset=utf8",
            "--legal-comments=none",
        ]
        alias = f"--alias:zarrita={work / 'no_zarr.js'}"
        esbuild = work / "node_modules" / "esbuild" / "bin" / "esbuild"
        command = ["node", esbuild, "entry.js", *options, alias, f"--outfile={bundle}"]
        subprocess.run(command, cwd=work, check=True)
        script = bundle.read_bytes()
        check("the viewer", hashlib.sha256(script).hexdigest(), SHA256)
        texts = ["NiiVue 0.69.0\n\n" + (HERE / "niivue.LICENSE").read_text()]
        for name in BUNDLED:
            package = work / "node_modules" / name
            [licence] = (file for file in package.iterdir() if file.stem.lower() == "license")
            texts.append(f"{name}\n\n{licence.read_text()}")
    (TARGET / "niivue.js").write_bytes(script)
    (TARGET / "niivue.LICENSE").write_text(("\n" + "-" * 72 + "\n\n").join(texts))
    print(f"{TARGET / 'niivue.js'}: {len(script)} bytes")


def check(what: str, got: str, expected: str) -> None:
    """End with a message unless two digests are one."""
    if got != expected:
        sys.exit(f"{what}: expected digest {expected}; got {got}. Look at what has changed.")


if __name__ == "__main__":
    main()
