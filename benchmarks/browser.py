"""How soon a page of results is there, and its next map, in Chromium that draws by software.

    python benchmarks/browser.py out/report.html
    python benchmarks/browser.py out/report.html --browser /usr/bin/chromium --maps 40

Needs the extra ``[browser]`` and Chromium. The page is opened in a browser without a network, each
time in a fresh context. A map counts as drawn two frames after it was asked for; the first half of
the maps are single stimuli, the others a random half of all minus the rest.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
DRAWN = "new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))"


def main() -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="Chromium's path")
    parser.add_argument("--rounds", type=int, default=3, help="how often the page is opened")
    parser.add_argument("--maps", type=int, default=20, help="maps that are shown in each")
    options = parser.parse_args()
    if options.browser is None:
        parser.error("Chromium is not on the PATH: name it with --browser")
    ready_s, single_s, groups_s = [], [], []
    requests: list[str] = []
    errors: list[str] = []
    load = os.getloadavg()[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=list(FLAGS))
        for _ in range(options.rounds):
            context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
            page = context.new_page()
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda said: errors.append(said.text) if said.type == "error" else 0)
            page.on("pageerror", lambda error: errors.append(str(error)))
            start = time.perf_counter()
            page.goto(options.page.resolve().as_uri())
            page.wait_for_selector("html.ready", state="attached", timeout=120_000)
            ready_s.append(time.perf_counter() - start)
            n_maps = page.evaluate("imgtofmri.page.items.length")
            rng = random.Random(0)
            for k in range(options.maps):
                if 2 * k < options.maps:
                    single_s.append(_shown_s(page, {"a": [rng.randrange(n_maps)], "b": []}))
                    continue
                mixed = rng.sample(range(n_maps), n_maps)
                half = n_maps // 2
                groups_s.append(_shown_s(page, {"a": mixed[:half], "b": mixed[half:]}))
            context.close()
        browser.close()
    outside = [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    size = options.page.stat().st_size
    print(f"{size / 1e6:.1f} MB, {n_maps} maps; load {load:.1f} before")
    for name, times in (("ready", ready_s), ("next map", single_s), ("half - half", groups_s)):
        if times:
            middle = statistics.median(times)
            print(f"{name:<12} median {middle:.2f} s, {min(times):.2f} to {max(times):.2f} s")
    print(f"{len(outside)} requests, {len(errors)} errors in the console")


def _shown_s(page: Any, changes: dict[str, list[int]]) -> float:
    """Return how long it takes until what is shown has changed."""
    start = time.perf_counter()
    page.evaluate(f"(c) => {{ imgtofmri.state.update(c); return {DRAWN}; }}", changes)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
