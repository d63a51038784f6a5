"""Write docs/reference/licences.md: the licences of all packages that this one needs.

Run it where a dependency has come, gone or changed its licence, in an environment that holds the
newest releases of all extras:

    pip install -e ".[serve,train,torch,bids,browser,test,lint,docs]"
    python tools/make_licences.py
    python tools/make_licences.py --check     # is what is installed here on the page?

Licences are those that packages' metadata state; `STATED` has those that metadata leave open.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"

STATED = {
    "contourpy": "BSD-3-Clause",
    "cycler": "BSD-3-Clause",
    "fslpy": "Apache-2.0",
    "import-linter": "BSD-2-Clause",
    "jinja2": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "nbclient": "BSD-3-Clause",
    "numpydoc": "BSD-2-Clause",
    "partd": "BSD-3-Clause",
    "pydata-sphinx-theme": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "zict": "BSD-3-Clause",
}
"""By package: what its licence file says, where the metadata say less."""

TOOLS = ("test", "lint", "docs")
"""Extras for work on the package itself: the page has what they name, not what that needs."""

WORDS = {
    "apache 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd (3-clause)": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""SPDX's names for what metadata say in other words."""

SPDX = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")

HEAD = """# Licences of what the package needs

`imgtofmri` itself is MIT, with three files of others: the repository's `README.md`
names them, under Licences. It contains none of the packages below; `pip` installs them beside it,
and the container holds them.

Made by `tools/make_licences.py` from the metadata of the releases that were newest at the time.
Other releases may say otherwise.
"""

INSIDE = """## Libraries inside other packages

Wheels hold compiled libraries of others, whose licence texts come with the wheel. Those of x86-64
Linux that ask more than that the text be kept:

| wheel | library | licence |
| --- | --- | --- |
| av | FFmpeg, as it says of itself | LGPL-3.0-or-later |
| av | x264 and x265, which encode | GPL-2.0-or-later |
| av | GnuTLS, LAME, libunistring, GMP, Nettle | LGPL |
| numpy, scipy | libgfortran, beside OpenBLAS | GPL-3.0-or-later with GCC's runtime exception |
| numpy, scipy | libquadmath | LGPL-2.1-or-later |
| scikit-learn | libgomp | GPL-3.0-or-later with GCC's runtime exception |

Whoever hands these wheels on, as in an image of a container, hands on these libraries, too.
They are loaded through the packages named; imgtofmri contains no part of them.

PyTorch's builds for CUDA bring NVIDIA's libraries, under terms of their own.
"""


def requirements(package: str, extra: str = "") -> Iterator[str]:
    """Yield the names of what a package needs directly on this system, alone or for an extra."""
    from packaging.requirements import Requirement

    for text in distribution(package).requires or ():
        needed = Requirement(text)
        base = needed.marker is None or needed.marker.evaluate({"extra": ""})
        wanted = needed.marker is None or needed.marker.evaluate({"extra": extra})
        if wanted and not (extra and base):
            yield normal(needed.name)


def everything(names: Iterable[str]) -> set[str]:
    """Return packages with all that they need in turn, as far as it is installed."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found and name != "imgtofmri":
            found.add(name)
            try:
                left += requirements(name)
            except PackageNotFoundError:
                continue
    return found


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(package: Distribution) -> str:
    """Return a package's licence as an SPDX expression.

    Raises
    ------
    SystemExit
        If neither the metadata nor `STATED` say one.
    """
    data = package.metadata
    stated = STATED.get(normal(data["Name"]))
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in data.get_all("Classifier") or ()
        if text.startswith("License :: ") and "approved" not in text.rpartition(" :: ")[2].lower()
    ]
    for said in (stated, data.get("License-Expression"), data.get("License"), *classifiers):
        known = WORDS.get(str(said).strip().lower(), str(said).strip())
        if said and SPDX.fullmatch(known) and known.upper() not in ("BSD", "DUAL"):
            return known
    sys.exit(
        f"{data['Name']}: expected a licence in its metadata; got {classifiers}. Read its licence "
        "file and add it to STATED in tools/make_licences.py"
    )


def table(names: set[str]) -> str:
    """Return a table of packages."""
    if not names:
        return "Nothing that is not in the first table."
    rows = ["| package | release | licence |", "| --- | --- | --- |"]
    for name in sorted(names):
        try:
            package = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name}: expected all extras to be installed; this one is not")
        rows.append(f"| {name} | {package.version.partition('+')[0]} | {licence(package)} |")
    return "\n".join(rows)


def page() -> str:
    """Return the whole page."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    base = everything(requirements("imgtofmri"))
    parts = [HEAD, "## The package itself\n", table(base) + "\n"]
    listed = set(base)
    for extra in extras:
        if extra not in TOOLS:
            more = everything(requirements("imgtofmri", extra)) - base
            listed |= more
            parts += [f"## `imgtofmri[{extra}]`, besides\n", table(more) + "\n"]
    tools = {name for one in TOOLS if one in extras for name in requirements("imgtofmri", one)}
    parts += ["## For work on the package itself\n", table(tools - listed - {"imgtofmri"}) + "\n"]
    return "\n".join([*parts, INSIDE])


def unlisted() -> list[str]:
    """Return what the package needs, and is installed here, but is not on the page."""
    listed = set(re.findall(r"^\| (\S+) \|", PAGE.read_text("utf-8"), flags=re.MULTILINE))
    return sorted(everything(requirements("imgtofmri")) - listed)


def main() -> int:
    """Write the page, or compare it with what is installed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and compare")
    if not parser.parse_args().check:
        PAGE.write_text(page(), "utf-8")
        return 0
    missing = unlisted()
    if missing:
        print(f"not in {PAGE.relative_to(ROOT)}: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
