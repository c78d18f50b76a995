"""Peak resident memory of each job in a fresh process, for 5,000 and for 60,000 pictures under one budget.

`python -m benchmarks.memory [SMALL LARGE]`
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks import WORK
from benchmarks.pictures import make_pictures
from benchmarks.process import run_command

BUDGET_MIB = 512


def measure(work: Path, small: int, large: int) -> list[str]:
    """Return the lines of the report."""
    peaks = {n: _peaks(work, n) for n in (small, large)}
    lines = [
        f"### Peak resident memory, `--memory {BUDGET_MIB}MiB`",
        "",
        f"| job | {small:,} pictures | {large:,} pictures | ratio |",
        "|---|---|---|---|",
    ]
    for job in peaks[small]:
        few, many = peaks[small][job], peaks[large][job]
        lines.append(f"| {job} | {few >> 20} MiB | {many >> 20} MiB | {many / few:.3f} |")
    return lines


def _peaks(work: Path, n: int) -> dict[str, int]:
    folder, store, dest = make_pictures(work / f"pictures-{n}", n), work / "memory.zarr", work / "memory-groups"
    shutil.rmtree(store, ignore_errors=True)
    shutil.rmtree(dest, ignore_errors=True)
    shutil.rmtree(plots := work / "memory-plots", ignore_errors=True)
    shared = ("--store", store, "--memory", f"{BUDGET_MIB}MiB")
    jobs = {
        "ingest": ("ingest", folder),
        "ingest again": ("ingest", folder),
        "fit": ("fit",),
        "duplicates": ("duplicates",),
        "junk": ("junk",),
        "plot": ("plot", plots),
        "export": ("export", dest, "--mode", "hardlink"),
        "export again": ("export", dest, "--mode", "hardlink"),
        "report": ("report", work / "memory.html", "--force"),
    }
    return {name: run_command(*arguments, *shared).report["peak_bytes"] for name, arguments in jobs.items()}


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [5_000, 60_000]
    print("\n".join(measure(WORK, *sizes)))
