"""Whole processes: how long they took, and what they said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended well: wall seconds, and what it printed as JSON."""

    seconds: float
    report: Any


def run_python(*arguments: object) -> Finished:
    """Run this Python with these arguments in a fresh process; it prints one JSON object."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} ended with {done.returncode}: {done.stdout}")
    return Finished(time.perf_counter() - started, json.loads(done.stdout))


def run_command(*arguments: object) -> Finished:
    """Run a streamcluster command with `--json` in a fresh process."""
    return run_python("-m", "streamcluster", *arguments, "--json")
