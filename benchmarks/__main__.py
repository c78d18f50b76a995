"""Run every measurement and write `docs/benchmarks.md`. `python -m benchmarks [FOLDER]` keeps its files in FOLDER."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import choose_k, duplicates, ingest_speed, memory, pca_speed, quality

REPORT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
LIBRARIES = ("numpy", "opencv-python-headless", "zarr", "dask", "scikit-learn")


def describe_machine() -> str:
    """Return what the numbers were measured on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}; {libraries}."


def main(work: Path) -> None:
    """Measure, print and write."""
    lines = [
        "# Benchmarks",
        "",
        f"`make bench`, on {describe_machine()}",
        "Trust the ratios: the machine is shared.",
        "",
    ]
    for measured in (
        ingest_speed.measure(work, 50_000),
        memory.measure(work, 5_000, 60_000),
        pca_speed.measure(work),
        quality.measure(work),
        choose_k.measure(work),
        duplicates.measure(work),
    ):
        lines += [*measured, ""]
        print("\n".join(measured), flush=True)
    REPORT.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
