"""Ingest against a loop that only reads and decodes the same files on as many threads; a second run against the first.

`python -m benchmarks.ingest_speed [PICTURES]`
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from benchmarks import WORK
from benchmarks.pictures import make_pictures
from benchmarks.process import run_command, run_python

ROUNDS = 3
FLAGS = ("IMREAD_COLOR", "IMREAD_REDUCED_COLOR_2")


def measure(work: Path, n: int) -> list[str]:
    """Return the lines of the report: medians of the rounds, and of the ratios within each round."""
    folder, store = make_pictures(work / f"pictures-{n}", n), work / "speed.zarr"
    lines = [
        f"### Ingest of {n:,} JPEG files of 256 by 256 pixels",
        "",
        f"Whole processes, files in the page cache, medians of {ROUNDS} rounds; each ratio is within a round.",
        "",
        "| threads | | seconds | pictures a second | ingest reaches |",
        "|---|---|---|---|---|",
    ]
    for threads in (1, 2):
        rounds = [_one_round(folder, store, threads) for _ in range(ROUNDS)]
        seconds = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        share = {name: statistics.median(r[name] / r["ingest"] for r in rounds) for name in rounds[0]}
        lines.append(f"| {threads} | ingest | {seconds['ingest']:.1f} | {n / seconds['ingest']:,.0f} | |")
        lines += [
            f"| {threads} | bare loop, `{flag}` | {seconds[flag]:.1f} | {n / seconds[flag]:,.0f} | {share[flag]:.0%} |"
            for flag in FLAGS
        ]
        lines.append(
            f"| {threads} | ingest again, nothing changed | {seconds['again']:.2f} | | "
            f"takes {share['again']:.1%} of the first |"
        )
    return lines


def _one_round(folder: Path, store: Path, threads: int) -> dict[str, float]:
    shutil.rmtree(store, ignore_errors=True)
    ingest = ("ingest", folder, "--store", store, "--workers", threads)
    seconds = {}
    for flag in FLAGS:
        _read_all(folder)
        seconds[flag] = run_python("-m", "benchmarks.bare_loop", folder, flag, threads).seconds
    _read_all(folder)
    seconds["ingest"] = run_command(*ingest).seconds
    return seconds | {"again": run_command(*ingest).seconds}


def _read_all(folder: Path) -> None:
    """Bring the files into the page cache; the system may have dropped some since they were last read."""
    for path in folder.rglob("*.*"):
        path.read_bytes()


if __name__ == "__main__":
    print("\n".join(measure(WORK, int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)))
