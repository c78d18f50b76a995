"""The report of a large store: how large the page is, and how long it takes to write, and to open in a real Chromium.

`python -m benchmarks.report_page [PICTURES GROUPS]`
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import WORK
from benchmarks.pictures import shrink_originals
from benchmarks.process import run_command
from benchmarks.stores import write_store
from streamcluster.runtime.memory import format_bytes
from streamcluster.store.collection import open_for_writing

SIDE, LARGER = 64, 88
ROUNDS = 5
BUDGET = "512MiB"
#: Share of the pictures that are suspects; flags, each raised by a fiftieth.
SUSPECTS, FLAGS = 0.02, ("dark", "bright", "blurred", "plain", "tiny")


def measure(work: Path, n_pictures: int = 60_000, n_groups: int = 50) -> list[str]:
    """Return the lines of the report."""
    store, page = work / "report.zarr", work / "report.html"
    write_store(store, n_pictures, SIDE, _cropper())
    run_command("fit", "--store", store, "--clusters", n_groups)
    _publish_findings(store, n_groups)
    done = run_command("report", page, "--store", store, "--memory", BUDGET, "--force")
    opened = _open(page)
    told = done.report
    return [
        f"### The report of {n_pictures:,} pictures in {n_groups} groups",
        "",
        f"Crops of photographs, with duplicates, suspects and flags. {told['shown']:,} pictures and {told['points']:,} "
        f"points of the map are in the page: {format_bytes(told['bytes'])}. Written in {done.seconds:.1f} s, peak "
        f"{format_bytes(told['peak_bytes'])} with `--memory {BUDGET}`. Chromium has drawn it after {opened:.2f} s "
        f"(median of {ROUNDS}, from the call to the first frame after all of the script).",
    ]


def _cropper() -> Callable[[slice], NDArray[np.uint8]]:
    """Return what makes thumbnails: row i is a crop of a photograph, perhaps mirrored, lighter or darker."""
    small = shrink_originals(LARGER)

    def crop(row: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(row)
        top, left = rng.integers(0, LARGER - SIDE, 2)
        part = small[rng.integers(len(small))][top : top + SIDE, left : left + SIDE]
        mirrored = part[:, ::-1] if rng.random() < 0.5 else part
        return np.clip(mirrored * rng.uniform(0.6, 1.2), 0, 255).astype(np.uint8)

    return lambda rows: np.stack([crop(row) for row in range(rows.start, rows.stop)])


def _publish_findings(store: Path, n_groups: int) -> None:
    """Write duplicates in tens, and scores and flags at random: the page is as large whatever they say."""
    with open_for_writing(str(store)) as collection:
        rng = np.random.default_rng(0)
        n = collection.n_rows
        raised = (rng.random((n, len(FLAGS))) < 0.02) @ (1 << np.arange(len(FLAGS)))
        rows = np.arange(n, dtype=np.int32)
        duplicates = {"kept": rows - rows % 10, "difference": rng.random(n, np.float32)}
        collection.publish_findings("duplicates", duplicates, {"threshold": 1.0})
        arrays = {
            "score": rng.random(n, np.float32),
            "cluster_score": rng.random(n_groups, np.float32),
            "flags": raised.astype(np.uint16),
        }
        attributes = {"fit": collection.current_fit, "threshold": 1 - SUSPECTS, "flag_names": FLAGS}
        collection.publish_findings("junk", arrays, attributes)


def _open(page: Path) -> float:
    """Return the median seconds until a browser has drawn the page."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for _ in range(ROUNDS):
            tab = browser.new_page()
            started = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="load")
            tab.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
            seconds.append(time.perf_counter() - started)
            tab.close()
        browser.close()
    return statistics.median(seconds)


if __name__ == "__main__":
    print("\n".join(measure(WORK, *map(int, sys.argv[1:3]))))
