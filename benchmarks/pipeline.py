"""The whole way from a folder to groups: against the usual in-memory script, and against a loop that only decodes.

`python -m benchmarks.pipeline`
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import WORK
from benchmarks.pictures import make_pictures
from benchmarks.plots import save_lines
from benchmarks.process import run_command, run_python
from streamcluster.runtime.memory import MIB, format_bytes

N_COMPONENTS, N_CLUSTERS = 1200, 50
#: What `classic` does, as options of `fit`.
CLASSIC_OPTIONS = ("--features", "rgb", "--components", N_COMPONENTS, "--scores", "plain", "--clusters", N_CLUSTERS)
#: Pictures, and rounds in which all take turns.
SIZES = {2_000: 3, 5_000: 3, 20_000: 1, 60_000: 1}
DEFAULT_PICTURES, DEFAULT_ROUNDS = 50_000, 3
#: The script is left out where it would take longer, or more of the memory that is free.
MOST_SECONDS = 5 * 60
MOST_MEMORY = 0.85


@dataclass(frozen=True, slots=True)
class Run:
    """Wall seconds of the processes of a run, by name, and the largest resident size that one of them had."""

    stages: Mapping[str, float]
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """Wall seconds from start to end."""
        return sum(self.stages.values())


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run is expected to take."""

    seconds: float
    peak_bytes: float


@dataclass(frozen=True, slots=True)
class Size:
    """The runs of one number of pictures, by name, and why the script was left out, if it was."""

    runs: Mapping[str, Run]
    skipped: str


SAME, DEFAULT, CLASSIC = "streamcluster, the script's settings", "streamcluster, its defaults", "in-memory script"

Sizes = dict[int, Size]


def measure(work: Path) -> list[str]:
    """Return the lines of the report, and draw their plot."""
    sizes: Sizes = {}
    for n in SIZES:
        sizes[n] = run_size(work, n, sizes)
    return [*report_sizes(sizes), "", *measure_defaults(work)]


def run_size(work: Path, n: int, smaller: Sizes) -> Size:
    """Run all ways for n pictures; the script only where its growth up to there allows it."""
    folder = make_pictures(work / f"pictures-{n}", n)
    ways: dict[str, Callable[[], Run]] = {
        SAME: lambda: run_ours(work, folder, CLASSIC_OPTIONS),
        DEFAULT: lambda: run_ours(work, folder, ()),
        CLASSIC: lambda: run_classic(work, folder),
    }
    skipped = _reason_to_skip({m: size.runs[CLASSIC] for m, size in smaller.items() if CLASSIC in size.runs}, n)
    if skipped:
        del ways[CLASSIC]
    rounds = [{name: run() for name, run in ways.items()} for _ in range(SIZES[n])]
    return Size({name: _middle([r[name] for r in rounds]) for name in ways}, skipped)


def run_ours(work: Path, folder: Path, options: tuple[object, ...]) -> Run:
    """Ingest, fit and export, each in a fresh process, into a new store and a new folder."""
    store, dest = work / "pipeline.zarr", work / "pipeline-groups"
    for path in (store, dest):
        shutil.rmtree(path, ignore_errors=True)
    commands = {"ingest": ("ingest", folder), "fit": ("fit", *options), "export": ("export", dest)}
    done = {name: run_command(*arguments, "--store", store) for name, arguments in commands.items()}
    return Run(
        {name: finished.seconds for name, finished in done.items()},
        max(finished.report["peak_bytes"] for finished in done.values()),
    )


def run_classic(work: Path, folder: Path) -> Run:
    """Run the script in a fresh process."""
    done = run_python("-m", "benchmarks.classic", folder, work / "classic-groups", N_COMPONENTS, N_CLUSTERS)
    return Run({"script": done.seconds}, done.report["peak_bytes"])


def _middle(runs: list[Run]) -> Run:
    """Return medians of the stages, and the largest peak."""
    stages = {name: statistics.median(run.stages[name] for run in runs) for name in runs[0].stages}
    return Run(stages, max(run.peak_bytes for run in runs))


def forecast(runs: Mapping[int, Run], n: int) -> Forecast:
    """Return what n pictures would take if it grew from the last size on by the power that the last two differ by."""
    known = sorted(runs.items())[-2:]
    (few, before), (many, last) = known[0], known[-1]

    def grown(value: float, earlier: float) -> float:
        power = math.log(value / earlier) / math.log(many / few) if many > few else 1.0
        return value * (n / many) ** power

    return Forecast(grown(last.seconds, before.seconds), grown(last.peak_bytes, before.peak_bytes))


def _reason_to_skip(runs: Mapping[int, Run], n: int) -> str:
    if not runs:
        return ""
    expected, free = forecast(runs, n), _available_bytes()
    if expected.peak_bytes > MOST_MEMORY * free:
        return f"by its growth it would take {format_bytes(expected.peak_bytes)}, and {format_bytes(free)} were free"
    if expected.seconds > MOST_SECONDS:
        return f"by its growth it would take {expected.seconds / 60:.0f} minutes"
    return ""


def _available_bytes() -> int:
    """Return what processes could take now, the cache of files included; where that is not told, what lies idle."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def report_sizes(sizes: Sizes) -> list[str]:
    """Return the lines about the numbers of pictures, and draw their plot."""
    lines = [
        "### The whole way, against the usual in-memory script",
        "",
        "`benchmarks/classic.py` reads all pictures with OpenCV, makes one float64 table of 64 by 64 RGB, runs"
        f" scikit-learn's full `PCA({N_COMPONENTS})` and `KMeans({N_CLUSTERS})`, and copies the files. Against it"
        f" `ingest`, `fit` and `export`, with `{' '.join(map(str, CLASSIC_OPTIONS))}` and with the defaults. Fresh"
        f" processes that take turns, wall seconds with start and imports, medians of {max(SIZES.values())} rounds up"
        " to 5,000 pictures and one round above; the peak is that of the largest process.",
        "",
        "| pictures | | seconds | ingest, fit, export | pictures a second | faster | peak | of the script's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        _line(n, name, run, size.runs.get(CLASSIC)) for n, size in sizes.items() for name, run in size.runs.items()
    ]
    skipped = [
        f"The script was left out at {n:,} pictures: {size.skipped}." for n, size in sizes.items() if size.skipped
    ]
    return [*lines, "", *skipped, *([""] if skipped else []), _plot(sizes)]


def _line(n: int, name: str, run: Run, classic: Run | None) -> str:
    stages = ", ".join(f"{seconds:.1f}" for seconds in run.stages.values()) if len(run.stages) > 1 else ""
    faster = f"{classic.seconds / run.seconds:.1f}×" if classic and run is not classic else ""
    share = f"{run.peak_bytes / classic.peak_bytes:.0%}" if classic and run is not classic else ""
    return (
        f"| {n:,} | {name} | {run.seconds:.1f} | {stages} | {n / run.seconds:,.0f} | {faster} "
        f"| {run.peak_bytes / MIB:,.0f} MiB | {share} |"
    )


def _plot(sizes: Sizes) -> str:
    runs = {name: {n: s.runs[name] for n, s in sizes.items() if name in s.runs} for name in (SAME, DEFAULT, CLASSIC)}
    seconds = {name: {n: run.seconds for n, run in found.items()} for name, found in runs.items()}
    peaks = {name: {n: run.peak_bytes / MIB for n, run in found.items()} for name, found in runs.items()}
    return save_lines("pipeline", {"seconds, from folder to groups": seconds, "peak memory, MiB": peaks}, "pictures")


def measure_defaults(work: Path) -> list[str]:
    """Return the lines about the default settings, in relation to a loop that only decodes."""
    folder = make_pictures(work / f"pictures-{DEFAULT_PICTURES}", DEFAULT_PICTURES)
    loop = ("-m", "benchmarks.bare_loop", folder, "IMREAD_COLOR", os.cpu_count())
    rounds = [(run_python(*loop).seconds, run_ours(work, folder, ())) for _ in range(DEFAULT_ROUNDS)]
    run, bare = _middle([ours for _, ours in rounds]), statistics.median(seconds for seconds, _ in rounds)
    ratio = statistics.median(ours.seconds / seconds for seconds, ours in rounds)
    lines = [
        f"### Default settings, {DEFAULT_PICTURES:,} JPEG files of 256 by 256 pixels",
        "",
        f"Whole processes, files in the page cache, medians of {DEFAULT_ROUNDS} rounds. The bare loop only reads and"
        f" decodes the files, on {os.cpu_count()} threads.",
        "",
        "| | seconds | pictures a second |",
        "|---|---|---|",
    ]
    timed = {**run.stages, "**all three**": run.seconds, "bare loop": bare}
    lines += [f"| {name} | {seconds:.1f} | {DEFAULT_PICTURES / seconds:,.0f} |" for name, seconds in timed.items()]
    told = f"All three take {ratio:.1f} times as long as the bare loop, and {run.peak_bytes / MIB:,.0f} MiB at most."
    return [*lines, "", told]


if __name__ == "__main__":
    print("\n".join(measure(WORK)))
