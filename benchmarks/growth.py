"""How `fit` grows with the rows of a store, up to a million: time a row, and peak memory of a fresh process.

Of the jobs that look at a fit, the peak memory at the most rows.

`python -m benchmarks.growth [ROWS ...]`
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import WORK
from benchmarks.pictures import make_pictures
from benchmarks.plots import save_lines
from benchmarks.process import run_command, run_python
from benchmarks.stores import write_store
from streamcluster.runtime.memory import MIB
from streamcluster.store.collection import open_collection

ROWS = (125_000, 250_000, 500_000, 1_000_000)
BUDGET = "1GiB"
#: Side of the thumbnails: small ones, so that a million take 0.8 GB of disk.
SIDE = 16
#: Real pictures that rows are blended from, and what is added to each value.
N_REAL = 1000
NOISE = 6


@dataclass(frozen=True, slots=True)
class Growth:
    """What a fit took: seconds of the process, peak resident bytes, Lloyd passes, and seconds of each stage."""

    seconds: float
    peak_bytes: int
    lloyd_passes: int
    stages: dict[str, float]


def measure(work: Path, sizes: tuple[int, ...] = ROWS) -> list[str]:
    """Return the lines of the report, and draw their plot."""
    real = _real_thumbnails(work)
    grown = {n: _fit_rows(work / "growth.zarr", n, real) for n in sizes}
    first = grown[sizes[0]]
    lines = [
        f"### Growth of `fit` to {sizes[-1]:,} rows, `--memory {BUDGET}`",
        "",
        f"Rows are blends of two of {N_REAL:,} real thumbnails, lit differently, with noise, {SIDE} by {SIDE} pixels;"
        " default settings otherwise. One fresh process each; time is that of the whole process. Lloyd passes end"
        f" when they gain little, so their number differs; the last column is without them.",
        "",
        "| rows | seconds | a 1,000 rows | to the first | peak | to the first | Lloyd passes | without them |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n, run in grown.items():
        seconds, share = 1000 * run.seconds / n, run.seconds / n / (first.seconds / sizes[0])
        others = _without_passes(run) / n / (_without_passes(first) / sizes[0])
        lines.append(
            f"| {n:,} | {run.seconds:.1f} | {seconds:.3f} | {share:.2f} | {run.peak_bytes / MIB:.0f} MiB "
            f"| {run.peak_bytes / first.peak_bytes:.3f} | {run.lloyd_passes} | {others:.2f} |"
        )
    lines += [
        "",
        "Seconds of the stages:",
        "",
        f"| rows | {' | '.join(first.stages)} |",
        f"|---|{'---|' * len(first.stages)}",
    ]
    lines += [f"| {n:,} | {' | '.join(f'{s:.1f}' for s in run.stages.values())} |" for n, run in grown.items()]
    peaks = _peaks_of_others(work)
    lines += ["", f"Peak of the jobs that look at the fit of {sizes[-1]:,} rows: {', '.join(peaks)}."]
    panels = {
        "seconds": {"fit": {n: run.seconds for n, run in grown.items()}},
        "peak memory, MiB": {"fit": {n: run.peak_bytes / MIB for n, run in grown.items()}},
    }
    return [*lines, "", save_lines("growth", panels, "rows", logarithmic=False)]


def _peaks_of_others(work: Path) -> list[str]:
    """Return the peak of each, for the store that the last fit left."""
    store, shared = work / "growth.zarr", ("--memory", BUDGET, "--force")
    done = {
        "junk": run_command("junk", "--store", store, "--memory", BUDGET),
        "plot": run_command("plot", work / "growth-plots", "--store", store, *shared),
        "report": run_command("report", work / "growth.html", "--store", store, *shared),
    }
    return [f"`{job}` {run.report['peak_bytes'] / MIB:.0f} MiB" for job, run in done.items()]


def _without_passes(run: Growth) -> float:
    return run.seconds - run.stages["Lloyd passes"]


def _real_thumbnails(work: Path) -> NDArray[np.float32]:
    store = work / "growth-real.zarr"
    shutil.rmtree(store, ignore_errors=True)
    run_command("ingest", make_pictures(work / "pictures-2000", 2000), "--store", store, "--image-size", SIDE)
    return open_collection(str(store)).thumbnails(slice(0, N_REAL)).astype(np.float32)


def _fit_rows(store: Path, n_rows: int, real: NDArray[np.float32]) -> Growth:
    write_store(store, n_rows, SIDE, _blender(real))
    done = run_python("-m", "benchmarks.staged_fit", store, f"memory={BUDGET}")
    return Growth(done.seconds, *(done.report[name] for name in ("peak_bytes", "lloyd_passes", "stages")))


def _blender(real: NDArray[np.float32]) -> Callable[[slice], NDArray[np.uint8]]:
    """Return a function that makes the thumbnails of rows, the same ones in every run."""

    def blend(rows: slice) -> NDArray[np.uint8]:
        rng, n = np.random.default_rng([0, rows.start]), rows.stop - rows.start
        first, second = rng.integers(0, len(real), (2, n))
        share, light = rng.uniform(0.6, 1, (n, 1, 1, 1)), rng.uniform(0.6, 1.1, (n, 1, 1, 1))
        mixed = real[first] * (share * light).astype(np.float32)
        mixed += real[second] * ((1 - share) * light).astype(np.float32)
        mixed += NOISE * rng.standard_normal(mixed.shape, np.float32)
        return np.clip(mixed, 0, 255).astype(np.uint8)

    return blend


if __name__ == "__main__":
    print("\n".join(measure(WORK, tuple(map(int, sys.argv[1:])) or ROWS)))
