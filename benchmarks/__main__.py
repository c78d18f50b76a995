"""Measure and write `docs/benchmarks.md`: all parts, or those that are named.

`python -m benchmarks [--work FOLDER] [PART ...]`
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    WORK,
    choose_k,
    duplicates,
    flags,
    growth,
    ingest_speed,
    junk,
    kmeans_speed,
    memory,
    pca_speed,
    pipeline,
    quality,
    report_page,
)
from benchmarks.report import write_section

#: Each returns the lines of its section, in this order; they keep pictures and stores in the folder that they get.
PARTS: dict[str, Callable[[Path], list[str]]] = {
    "ingest": lambda work: ingest_speed.measure(work, 50_000),
    "memory": lambda work: memory.measure(work, 5_000, 60_000),
    "pca": pca_speed.measure,
    "kmeans": kmeans_speed.measure,
    "pipeline": pipeline.measure,
    "growth": growth.measure,
    "quality": quality.measure,
    "choose_k": choose_k.measure,
    "duplicates": duplicates.measure,
    "flags": flags.measure,
    "report": report_page.measure,
    "junk": junk.measure,
}


def main() -> None:
    """Measure, print and write, a part at a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and write docs/benchmarks.md.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--work", type=Path, default=WORK, metavar="FOLDER", help="keep files here")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts or PARTS:
        lines = PARTS[part](arguments.work)
        print("\n".join([*lines, ""]), flush=True)
        write_section(part, lines, tuple(PARTS))


if __name__ == "__main__":
    main()
