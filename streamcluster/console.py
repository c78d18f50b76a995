"""What a person sees: bars on a terminal, a line a stage under cron, summaries, logs. The only door to rich."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from streamcluster.errors import SettingsError, StreamclusterError
from streamcluster.runtime.memory import format_bytes
from streamcluster.runtime.paths import printable
from streamcluster.runtime.progress import Progress
from streamcluster.runtime.words import count

log = logging.getLogger("streamcluster")
#: What a command was asked for and what became of it: for the log file, since a person is told in other ways.
outcome = logging.getLogger("streamcluster.outcome")


class StageLog(Progress):
    """One line a stage when it ends: for cron and log files."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._counting = threading.Lock()

    def begin(self, name: str, total: int | None, unit: str) -> None:
        """Start counting."""
        self._name, self._total, self._unit = name, total, unit
        self._done, self._started = 0, time.monotonic()

    def advance(self, count: int) -> None:
        """Count."""
        with self._counting:
            self._done += count

    def end(self) -> None:
        """Tell what was done, and how fast."""
        seconds = time.monotonic() - self._started
        of_total = f" of {self._total:,}" if self._total and self._done < self._total else ""
        done = f"{self._done:,}{of_total} {self._unit} in " if self._done else ""
        rate = f" ({self._done / seconds:,.0f} a second)" if self._done and seconds else ""
        log.info("%s: %s%.1f s%s", self._name, done, seconds, rate)

    def interject(self, line: str) -> None:
        """Say something at once, from a signal handler: past the stream, which may be in a write, or closed already."""
        with suppress(OSError, ValueError):
            os.write(self._stream.fileno(), f"{line}\n".encode())


class StageBars(StageLog):
    """A bar a stage, with count, rate and time left: for a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.control import Control
        from rich.segment import ControlType

        super().__init__(stream)
        self._clear = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), ControlType.SHOW_CURSOR)

    def begin(self, name: str, total: int | None, unit: str) -> None:
        """Show a bar. Each stage has a display of its own: one for all would draw those that ended again."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().begin(name, total, unit)
        self._bar = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counted]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=self._stream),
        )
        self._task = self._bar.add_task(name, total=total, counted="")
        self._bar.start()

    def advance(self, count: int) -> None:
        """Move it."""
        super().advance(count)
        self._bar.update(self._task, completed=self._done, counted=self._counted())

    def end(self) -> None:
        """Leave it as it stands; one without a total is full, unless it was stopped."""
        if self._total is None and not self.stop_requested:
            self._bar.update(self._task, total=self._done or 1, completed=self._done or 1)
        self._bar.stop()
        super().end()

    def interject(self, line: str) -> None:
        """Say it in the bar's place, which is drawn again below, and bring back the cursor that a bar hides."""
        super().interject(f"{self._clear}{line}")

    def _counted(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-3)
        of_total = "" if self._total is None else f"/{self._total:,}"
        return f"{self._done:,}{of_total}  {self._done / seconds:,.0f}/s" if self._done else ""


@contextmanager
def logging_to(stream: TextIO, level: int) -> Iterator[None]:
    """Send the package's log lines of this level to `stream`, but for the outcome."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: record.name != outcome.name)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    with _handling(handler):
        yield


@contextmanager
def logging_into(path: str) -> Iterator[None]:
    """Append all of the package's log lines, and the outcome, to a file.

    Raises
    ------
    SettingsError
        It cannot be opened.
    """
    try:
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SettingsError(f"--log-file {printable(path)}: cannot write ({error.strerror})") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    with _handling(handler):
        yield


class _LogFile(logging.FileHandler):
    """A log file that is given up, in one line, when its disk refuses a write: the job matters more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002
        error = sys.exc_info()[1]
        log.removeHandler(self)
        reason = error.strerror if isinstance(error, OSError) else error
        log.error("streamcluster: --log-file %s: cannot write (%s)", printable(self.baseFilename), reason)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def _handling(handler: logging.Handler) -> Iterator[None]:
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def standard_error(*, silence_libraries: bool) -> Iterator[TextIO]:
    """Yield a stream to standard error, and silence what C libraries print there about damaged pictures.

    libjpeg, libpng and libtiff write to file descriptor 2 themselves; nothing in Python can ask them not to.
    """
    _hold_standard_descriptors()
    with open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1) as stream:
        if not silence_libraries:
            yield stream
            return
        _point_at_nothing(2)
        try:
            yield stream
        finally:
            os.dup2(stream.fileno(), 2)


def print_out(text: str) -> None:
    """Print to standard output.

    Raises
    ------
    StreamclusterError
        It refuses the text; it then leads nowhere, or Python would try again at its exit and say so at length.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _point_at_nothing(sys.stdout.fileno())
        raise StreamclusterError(f"standard output: cannot write ({error.strerror}); what was done stands") from error


def _hold_standard_descriptors() -> None:
    """Keep those that are closed from going to the next file opened, into which libraries would print."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _point_at_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def summarize(report: Any) -> list[str]:
    """Return the lines that tell a person what a job did."""
    return [printable(line) for line in _SUMMARIES[type(report).__name__](report)]


def _ingest_lines(report: Any) -> list[str]:
    parts = [f"{getattr(report, name):,} {name}" for name in ("new", "changed", "moved", "unchanged", "rejected")]
    lines = [f"{count(report.found, 'file')}: {', '.join(parts)}" + _optional(report.postponed, "for next time")]
    if report.gone:
        lines.append(f"{count(report.gone, 'picture')} gone from the sources")
    if report.left_out:
        lines.append(f"{count(report.left_out, 'picture')} left out by --include, --exclude or --drop")
    if report.ignored:
        lines.append(f"{count(report.ignored, 'other file')} ignored")
    for reason, number in Counter(report.postponed_files.values()).most_common(3):
        lines.append(f"  next time: {reason} ({number:,})")
    lines.append(f"the store holds {count(report.live, 'picture')}")
    return lines


def _optional(number: int, what: str) -> str:
    return f", {number:,} {what}" if number else ""


def _fit_lines(report: Any) -> list[str]:
    if report.up_to_date:
        return [
            f"up to date: fit {report.fit} has {count(report.pictures, 'picture')} in {count(report.clusters, 'group')}"
        ]
    smallest, largest = min(report.sizes), max(report.sizes)
    size = f"{largest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    passes = count(report.lloyd_passes, "Lloyd pass").replace("passs", "passes")
    lines = [
        f"fit {report.fit} ({report.mode}): {count(report.pictures, 'picture')} in {count(report.clusters, 'group')} "
        f"of {size}",
        f"  {count(report.components, 'component')} ({report.learner}) of {report.features} hold "
        f"{report.explained_variance_ratio:.1%} of the variance; inertia {report.inertia:,.1f} after {passes}",
    ]
    if report.features_before:
        lines.append(f"  the fit before compared {report.features_before}; --features chooses what is compared")
    if report.embedded:
        from_thumbnails = _optional(report.from_thumbnails, "from the thumbnail")
        lines.append(f"  the model looked at {count(report.embedded, 'picture')}{from_thumbnails}")
    if report.moved:
        lines.append(f"  {count(report.moved, 'picture')} in a group of another number than before")
    if report.drift is not None:
        lines.append(f"  {report.drift:.1%} of the new pictures are far from every group")
    return lines


def _duplicates_lines(report: Any) -> list[str]:
    again = "up to date: " if report.up_to_date else ""
    lines = [
        f"{again}{count(report.pictures, 'picture')}: {report.duplicates:,} are there already, beside the best of "
        f"{count(report.groups, 'group')}; {report.same_bytes:,} of them byte by byte"
    ]
    for group in report.largest:
        lines.append(f"  kept       {group.kept}")
        for path, difference in group.others.items():
            by_others = "  (by way of others)" if difference > report.threshold else ""
            lines.append(f"  {difference:10.2f} {path}{by_others}")
    if report.groups > len(report.largest):
        lines.append(f"  and {count(report.groups - len(report.largest), 'smaller group')}; all are in the store")
    return lines


def _junk_lines(report: Any) -> list[str]:
    again = "up to date: " if report.up_to_date else ""
    marks = f"{report.junk_marks:,} marked as junk and {report.keep_marks:,} as none"
    by = f"learned from {marks}" if report.learned else "unlike the rest; none learned from"
    lines = [
        f"{again}{count(report.pictures, 'picture')}: {report.suspects:,} score above {report.threshold:g}, {by}"
        + _optional(report.waiting, "waiting for fit")
    ]
    if not report.learned and report.junk_marks + report.keep_marks:
        lines.append(f"  {marks}: at least 3 of each are learned from")
    lines += [f"  {score:10.4f} {path}" for path, score in report.likeliest.items()]
    if report.suspects > len(report.likeliest):
        lines.append(
            f"  and {count(report.suspects - len(report.likeliest), 'more picture')}; all scores are in the store"
        )
    lines.append("groups by the share of junk to expect:" if report.learned else "groups most unlike the rest:")
    for group in report.groups:
        suspects = f"{group.suspects:,} of {count(group.pictures, 'picture')} suspect"
        lines.append(f"  {group.score:10.4f} cluster_{group.cluster:02d}, {suspects}")
    flagged = [f"{number:,} {name.replace('_', ' ')}" for name, number in report.flagged.items() if number]
    return [*lines, f"flags: {', '.join(flagged) or 'none'}"]


def _mark_lines(report: Any) -> list[str]:
    done = [(report.junk, "marked as junk"), (report.keep, "marked as none"), (report.forgotten, "marks taken back")]
    said = ", ".join(f"{number:,} {what}" for number, what in done if number) or "nothing to take back"
    return [f"{said}; the store knows {report.junk_marks:,} as junk and {report.keep_marks:,} as none"]


def _plot_lines(report: Any) -> list[str]:
    drawn = f"fit {report.fit}, {count(report.pictures, 'picture')} in {count(report.clusters, 'group')}"
    names = dict.fromkeys(name.partition(".")[0] for name in report.files)
    return [f"{report.out_dir}: {drawn}", f"  {', '.join(names)}, each as PNG and SVG"]


def _report_lines(report: Any) -> list[str]:
    found = [f"{count(report.groups, 'group')}", f"{report.rejected:,} rejected"]
    found += [f"{n:,} {what}" for n, what in ((report.duplicates, "duplicates"), (report.suspects, "suspects")) if n]
    missing = [("duplicates", report.duplicates), ("junk", report.suspects)]
    return [
        f"{report.path}: {format_bytes(report.bytes)}, {report.shown:,} of {count(report.pictures, 'picture')} shown, "
        f"{count(report.points, 'point')} on the map",
        f"  {', '.join(found)} (fit {report.fit})",
        *(f"  not looked for yet: {name}; run streamcluster {name}" for name, number in missing if number is None),
    ]


def _status_lines(report: Any) -> list[str]:
    lines = [
        f"{report.store}: {count(report.live, 'picture')}, thumbnails of {report.image_size} pixels",
        *(f"  source     {source}" for source in report.sources),
        f"  rejected   {report.rejected:,}",
        f"  gone       {report.gone:,}, replaced {report.replaced:,}",
        f"  pending    {count(report.waiting_for_ingest, 'file')} new, changed or moved, "
        f"{report.missing:,} missing or moved, {count(report.waiting_for_fit, 'picture')} to fit",
        *(f"  unreached  {problem}" for problem in report.unreachable),
        f"  on disk    pixels {format_bytes(report.pixel_bytes)}, catalogue {format_bytes(report.catalog_bytes)}, "
        f"fits {format_bytes(report.fit_bytes)}",
    ]
    for made in report.embeddings:
        of = f"{count(made.pictures, 'picture')}, {count(made.width, 'number')} each, {format_bytes(made.bytes)}"
        lines.append(f"  model      {made.model} ({made.name}): {of}")
    for fit in report.fits:
        mark = "current" if fit.name == report.current_fit else "       "
        groups = f"{count(fit.pictures, 'picture')} in {count(fit.clusters, 'group')} ({fit.mode})"
        lines.append(f"  fit {fit.name}   {mark} {groups}")
    found = [(report.near_duplicates, "near-duplicates"), (report.suspects, "suspects")]
    found += [(report.junk_marks or None, "marked as junk"), (report.keep_marks or None, "marked as none")]
    known = [f"{number:,} {what}" for number, what in found if number is not None]
    lines += [f"  found      {', '.join(known)}"] if known else []
    lines += _outdated_lines(report)
    return lines + [f"{path}: {reason}" for path, reason in report.rejects.items()]


def _run_lines(report: Any) -> list[str]:
    jobs = (report.ingest, report.fit, report.duplicates, report.junk, report.export)
    lines = [line for job in jobs if job is not None for line in summarize(job)]
    return lines if report.export is not None else [*lines, "nothing exported: the settings name no dest"]


def _export_lines(report: Any) -> list[str]:
    written = f"{count(report.listed, 'row')} written" if report.listed is not None else ""
    acts = [(report.copied, "put"), (report.moved, "moved"), (report.replaced, "replaced"), (report.removed, "removed")]
    acts += [(report.kept, "kept"), (report.restored, "restored"), (report.left_alone, "left alone")]
    done = ", ".join(f"{number:,} {act}" for number, act in acts if number) or written or "nothing to do"
    return [
        f"{report.dest}: {'dry run, nothing was changed: ' if report.dry_run else ''}{done}",
        f"{count(report.pictures, 'picture')} = {report.grouped:,} grouped + {report.set_aside:,} set aside "
        f"+ {report.rejected:,} rejected",
        *_found_lines(report),
        *_outdated_lines(report),
        *(f"  set aside: {reason} ({number:,})" for reason, number in sorted(report.reasons.items())),
        *(f"  next time: {reason} ({number:,})" for reason, number in sorted(report.postponed.items())),
    ]


def _found_lines(report: Any) -> list[str]:
    """Return what was found among the pictures, and how much of it lies apart from the groups."""
    found = {"duplicates": (report.duplicates, "near-duplicates of better pictures")}
    found |= {"suspects": (report.suspects, "likely junk")}
    return [
        f"  {what}: {number:,}{_optional(report.separated.get(folder, 0), f'in {folder}/')}"
        for folder, (number, what) in found.items()
        if number is not None
    ]


def _outdated_lines(report: Any) -> list[str]:
    return [
        f"  older than the store: {kind} ({since}); run: streamcluster {kind}"
        for kind, since in report.outdated.items()
    ]


_SUMMARIES: dict[str, Callable[[Any], list[str]]] = {
    "IngestReport": _ingest_lines,
    "FitReport": _fit_lines,
    "DuplicatesReport": _duplicates_lines,
    "JunkReport": _junk_lines,
    "MarkReport": _mark_lines,
    "ExportReport": _export_lines,
    "PlotReport": _plot_lines,
    "PageReport": _report_lines,
    "StatusReport": _status_lines,
    "RunReport": _run_lines,
    "DemoReport": lambda report: [f"{count(report.pictures, 'picture')} in {report.directory}"],
}
