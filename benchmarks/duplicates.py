"""Near-duplicates: what is found at which threshold, what is kept apart, and how long it takes.

`python -m benchmarks.duplicates [SET ...]` measures sets of real pictures; `... time` whole processes with 60,000
pictures; `... million` the search among a million codes in this process, with its peak.
"""

from __future__ import annotations

import csv
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import WORK
from benchmarks.edits import write_edits
from benchmarks.pictures import SHARED, make_pictures, shrink_originals
from benchmarks.process import run_command
from benchmarks.stores import write_store
from streamcluster.config import DuplicatesSettings, IngestSettings
from streamcluster.curate.duplicates import WAYS
from streamcluster.curate.search import decode, encode, nearest, sort_into_cells
from streamcluster.curate.views import N_NUMBERS, VIEWS
from streamcluster.jobs.duplicates import duplicates
from streamcluster.jobs.ingest import ingest
from streamcluster.runtime.execution import one_blas_thread
from streamcluster.runtime.memory import format_bytes, peak_bytes
from streamcluster.store.collection import Collection, open_collection

THRESHOLDS = (0.5, 0.7, 1.0, 1.4, 2.0)
TRUE_SET = "near-duplicates"
#: Sets of which some pictures are edited in other ways, beside all others of the set: whose, and how many.
EDITED = {"clothing, edited": ("clothing", 100), "faces-orl, edited": ("faces-orl", 60)}
#: Sets whose pictures are all different, though clothing holds one picture twice and sprites frames that hardly differ.
APART = ("faces-orl", "faces-dark", "clothing", "sprites")
SETS = (TRUE_SET, *EDITED, *APART)
TIMED_PICTURES = 60_000
SIDE = 64
MILLION = 1_000_000
#: Pictures of a million that are looked up; the time for all is extrapolated.
LOOKED_UP = 8192
EDITS = "50 edits each of 1,200 photographs"
SETS_NOTE = """\
Of the edited sets, 100 photographs and 60 faces have 18 edits each (`benchmarks/edits.py`), one or two at once; the
rest of the set stands beside them. `MOTION_LIMIT` was set on faces-orl and on edits like these, drawn anew here, and
what is done about captions was tried on these sets; the other limits are older. The pair of clothing is one picture
that is there twice. Of sprites, 231 of the pairs are 22 frames of a glowing stone; others are mirror images, the same
file twice, flames, and a ring in red and in brown. Of faces-orl, 16 pairs counted at threshold 1 before there was
`motion`; the six that are left hardly differ but in where the head is in the frame. A `FRAME_PENALTY` of 5 instead of 2
would part two of them, but also crops of one photograph of which neither holds the other: of 50 edits each of 120
photographs (`benchmarks/pictures.py`), 83 % of the pairs are found with 2, 68 % with 3, and 20 % with 5."""


def n_pairs(labels: NDArray[np.integer]) -> int:
    """Return how many pairs have the same label."""
    counts = np.unique(labels, return_counts=True, axis=0)[1]
    return int((counts * (counts - 1) // 2).sum())


def truth_of(name: str, collection: Collection) -> NDArray[np.str_] | None:
    """Return the true group of each row, None where all are different."""
    paths = [Path(str(path)) for path in collection.catalog.column("path")]
    if name in EDITED:
        return np.array([path.name.partition("-")[0] for path in paths])
    if name != TRUE_SET:
        return None
    folder = SHARED.parent / TRUE_SET
    with open(folder / "truth.csv", newline="", encoding="utf-8") as file:
        groups = {folder / row["path"]: row["group"] for row in csv.DictReader(file)}
    return np.array([groups[path] for path in paths])


def measure(work: Path) -> list[str]:
    """Return the lines of the report."""
    return [*measure_sets(work), "", SETS_NOTE, "", *measure_time(work), "", *measure_million()]


def measure_sets(work: Path, sets: Sequence[str] = SETS) -> list[str]:
    """Return the lines about what is found in sets of real pictures."""
    lines = ["### Near-duplicates", "", "Pairs of pictures in one group.", ""]
    lines += ["| set | threshold | precision | recall | pairs | of different pictures |", "|---|---|---|---|---|---|"]
    for name in sets:
        store = str(work / f"duplicates-{name.replace(', ', '-')}.zarr")
        ingest(IngestSettings(sources=(str(_folder_of(name, work)),), store=store))
        for threshold in THRESHOLDS:
            lines.append(_measure_threshold(name, store, threshold))
    return lines


def _folder_of(name: str, work: Path) -> Path:
    if name not in EDITED:
        return SHARED.parent / name
    folder = work / f"duplicates-{name.replace(', ', '-')}"
    if not folder.exists():
        write_edits(folder, *EDITED[name])
    return folder


def _measure_threshold(name: str, store: str, threshold: float) -> str:
    duplicates(DuplicatesSettings(store=store, threshold=threshold))
    collection = open_collection(store)
    found = collection.findings("duplicates")
    assert found is not None
    kept = found.array("kept")
    together = n_pairs(kept)
    groups = truth_of(name, collection)
    if groups is None:
        return f"| {name} | {threshold} | | | {together:,} | {together:,} |"
    truth = np.unique(groups, return_inverse=True)[1]
    right = n_pairs(np.stack([kept, truth], axis=1))
    precision, recall = right / max(1, together), right / n_pairs(truth)
    return f"| {name} | {threshold} | {precision:.4f} | {recall:.4f} | {together:,} | {together - right:,} |"


def measure_time(work: Path) -> list[str]:
    """Return the lines about how long whole processes take, where nearly all are copies and where none is."""
    edits, apart = work / "duplicates-time-edits.zarr", work / "duplicates-time-apart.zarr"
    shutil.rmtree(edits, ignore_errors=True)
    folder = make_pictures(work / f"pictures-{TIMED_PICTURES}", TIMED_PICTURES)
    run_command("ingest", folder, "--store", edits)
    write_store(apart, TIMED_PICTURES, SIDE, _patchwork())
    lines = [f"| {TIMED_PICTURES:,} pictures | seconds | are there already | peak |", "|---|---|---|---|"]
    for name, store in ((EDITS, edits), ("quarters of photographs, put together at random", apart)):
        done = run_command("duplicates", "--store", store)
        peak = format_bytes(done.report["peak_bytes"])
        lines.append(f"| {name} | {done.seconds:.1f} | {done.report['duplicates']:,} | {peak} |")
    return [*lines, "", "Whole processes, `streamcluster duplicates` after `ingest`."]


def _patchwork() -> Callable[[slice], NDArray[np.uint8]]:
    """Return what makes thumbnails: each quarter of row i is a quarter of a photograph's middle, drawn by the row."""
    half, small = SIDE // 2, shrink_originals(SIDE)

    def make(row: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(row)
        chosen, places = rng.integers(len(small), size=4), rng.integers(half + 1, size=(4, 2))
        parts = [small[i, y : y + half, x : x + half] for i, (y, x) in zip(chosen, places, strict=True)]
        whole: NDArray[np.uint8] = np.concatenate(
            [np.concatenate(parts[:2], axis=1), np.concatenate(parts[2:], axis=1)]
        )
        return whole

    return lambda rows: np.stack([make(row) for row in range(rows.start, rows.stop)])


def measure_million() -> list[str]:
    """Return time and peak of the search among a million codes."""
    rng = np.random.default_rng(0)
    codes = np.empty((MILLION, N_NUMBERS), np.int8)
    slope = np.arange(1, N_NUMBERS + 1) ** -0.5
    for start in range(0, MILLION, LOOKED_UP):
        drawn = rng.normal(size=(min(LOOKED_UP, MILLION - start), N_NUMBERS)) * slope
        codes[start : start + LOOKED_UP] = encode(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    with one_blas_thread():
        started = time.perf_counter()
        cells = sort_into_cells(codes, np.arange(MILLION, dtype=np.int32), rng)
        sorted_in = time.perf_counter() - started
        started = time.perf_counter()
        for rows in np.arange(LOOKED_UP, dtype=np.int32).reshape(-1, 1024):
            views = decode(codes[rows])[:, None] + rng.normal(0, 0.02, (len(rows), 2 * len(VIEWS), N_NUMBERS))
            nearest(views.astype(np.float32), rows, cells, WAYS[0].least, WAYS[0].n_nearest)
        looked_up = (time.perf_counter() - started) * MILLION / LOOKED_UP
    return [
        f"A million codes: {sorted_in:.0f} s to sort them into {len(cells.centers):,} cells, {looked_up:.0f} s on one "
        f"thread to look all up (extrapolated); peak {format_bytes(peak_bytes() or 0)}"
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["million"]:
        print("\n".join(measure_million()))
    elif sys.argv[1:] == ["time"]:
        WORK.mkdir(parents=True, exist_ok=True)
        print("\n".join(measure_time(WORK)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(measure_sets(Path(folder), sys.argv[1:] or SETS)))
