"""Ingest against a loop that only reads and decodes the same files on as many threads; a second run against the first.

`python -m benchmarks.ingest_speed [PICTURES]`
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from benchmarks.pictures import make_pictures
from benchmarks.process import run_command, run_python

ROUNDS = 3
THREADS = 2


def measure(work: Path, n: int) -> list[str]:
    """Return the lines of the report."""
    folder, store = make_pictures(work / f"pictures-{n}", n), work / "speed.zarr"
    seconds: dict[str, list[float]] = {"full": [], "reduced": [], "first": [], "again": []}
    for _ in range(ROUNDS):
        shutil.rmtree(store, ignore_errors=True)
        for name, flag in (("full", "IMREAD_COLOR"), ("reduced", "IMREAD_REDUCED_COLOR_2")):
            seconds[name].append(run_python("-m", "benchmarks.bare_loop", folder, flag, THREADS).seconds)
        for name in ("first", "again"):
            seconds[name].append(run_command("ingest", folder, "--store", store, "--workers", THREADS).seconds)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        f"### Ingest of {n:,} JPEG files of 256 by 256 pixels, {THREADS} threads",
        "",
        "| whole process | seconds | pictures a second | ingest reaches |",
        "|---|---|---|---|",
        f"| ingest | {median['first']:.1f} | {n / median['first']:,.0f} | |",
        *(
            f"| bare loop, `{flag}` | {median[name]:.1f} | {n / median[name]:,.0f} "
            f"| {median[name] / median['first']:.0%} of it |"
            for name, flag in (("full", "IMREAD_COLOR"), ("reduced", "IMREAD_REDUCED_COLOR_2"))
        ),
        f"| ingest again, nothing changed | {median['again']:.2f} | | {median['again'] / median['first']:.1%} "
        "of the first run |",
        "",
        f"Medians of {ROUNDS} rounds, files in the page cache.",
    ]


if __name__ == "__main__":
    print("\n".join(measure(Path("/tmp/streamcluster-bench"), int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)))
