"""The report `docs/benchmarks.md`: a section for each part, which can be measured anew alone."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
REPORT = DOCS / "benchmarks.md"
LIBRARIES = ("numpy", "opencv-python-headless", "zarr", "dask", "scikit-learn")
#: What stands before the section of a part.
_MARK = "<!-- part: {} -->"


def describe_machine() -> str:
    """Return what the numbers were measured on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = f"{_memory_bytes() / 2**30:.0f} GiB" if hasattr(os, "sysconf") else "memory unknown"
    return (
        f"{cores} cores{_model()}, {memory}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}; {libraries}."
    )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _model() -> str:
    """Return the processor's name in brackets, or nothing where the system does not tell."""
    try:
        told = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return f" ({' '.join(told[1].split())})" if told else ""


def read_sections(text: str) -> dict[str, str]:
    r"""Return the section of each part that a report has.

    >>> read_sections("# Title\n\n<!-- part: one -->\n\n### First\n")
    {'one': '### First'}
    """
    pieces = re.split(_MARK.format(r"(\w+)"), text)
    return {name: section.strip() for name, section in zip(pieces[1::2], pieces[2::2], strict=True)}


def write_section(part: str, lines: Sequence[str], order: Sequence[str]) -> None:
    """Put the lines of a part into the report; sections stand in the order given, and others after them."""
    sections = read_sections(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
    sections[part] = "\n".join(lines).strip()
    preamble = f"# Benchmarks\n\n`make bench`, on {describe_machine()}\nTrust the ratios: the machine is shared.\n"
    names = [name for name in order if name in sections] + [name for name in sections if name not in order]
    kept = [f"{_MARK.format(name)}\n\n{sections[name]}\n" for name in names]
    REPORT.write_text("\n".join([preamble, *kept]), encoding="utf-8")
