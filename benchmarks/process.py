"""Whole processes: how long they took, and the most memory they had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended well: wall seconds, peak resident bytes, and what it printed as JSON."""

    seconds: float
    peak_bytes: int
    report: Any


def run_python(*arguments: object) -> Finished:
    """Run this Python with these arguments in a fresh process; it prints one JSON object."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} ended with {process.returncode}: {printed}")
    return Finished(time.perf_counter() - started, usage.ru_maxrss * 1024, json.loads(printed))


def run_command(*arguments: object) -> Finished:
    """Run a streamcluster command with `--json` in a fresh process."""
    return run_python("-m", "streamcluster", *arguments, "--json")
