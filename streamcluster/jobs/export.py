"""The third job: groups become folders of look-alikes in a place that belongs to a person.

    pictures of the store ─┐
    manifest of exports ───┼─▶ plan ─▶ batches: put under temporary names ─▶ journal ─▶ give names ─▶ manifest, table
    what lies in DEST ─────┘

The person sorts, deletes, renames and adds files there between exports. Only what is exactly as an export left it is
moved, replaced or removed. The plan is whole before the first file is touched, and a run that was stopped or killed at
any moment is gone on with by running it again.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import msgspec

from streamcluster.config import ExportSettings
from streamcluster.destination import look, manifest, parquet, place, table
from streamcluster.destination.carry import Workplace, carry_out
from streamcluster.destination.ledger import DELETED, EDITED, PHASES, Ledger, Replayed, Task
from streamcluster.destination.manifest import Header, Journal, WritesTable
from streamcluster.destination.place import Stager, Stamp
from streamcluster.destination.table import Row, check_table_path, relative_name, table_lines
from streamcluster.errors import DestinationError, FindingsNotFoundError, FitNotFoundError, StreamclusterError
from streamcluster.runtime.execution import Executor, using
from streamcluster.runtime.locks import exclusive
from streamcluster.runtime.memory import format_bytes, peak_bytes
from streamcluster.runtime.paths import printable, system_path
from streamcluster.runtime.progress import Progress

if TYPE_CHECKING:
    from streamcluster.store.collection import Collection, GroupedPicture
    from streamcluster.store.findings import Kind

log = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")

#: Pictures tried before a destination counts as one that takes links: a source may be gone.
_PROBES = 16

#: The tables in a destination, by what the manifest's header calls them.
_TABLES = {"table": look.TABLE, "left_out": look.LEFT_OUT_TABLE}

UNGROUPED = "not yet grouped by a fit"
TAKEN_BACK = "taken back"
IN_HANDS = "moved or touched by a person"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export` did, or with `dry_run` would do, in pictures.

    pictures == grouped + set_aside + rejected. `grouped` lie in DEST and are listed in its table; `reasons` breaks
    down those set aside. `left_alone` are files of exports that a person moved or edited, and `postponed` counts by
    reason what could not be done to pictures that lie in DEST all the same. `listed` are the rows of the table that
    `manifest_only` writes, None where it was not asked for.

    Of the pictures in groups, `duplicates` are near-duplicates of better ones and `suspects` likely junk, None where
    nobody looked; `separated` counts those that lie in the folders `duplicates` and `suspects`. `outdated` says of what
    was found what happened since.
    """

    dest: str
    dry_run: bool
    pictures: int
    grouped: int
    set_aside: int
    rejected: int
    copied: int
    moved: int
    replaced: int
    removed: int
    kept: int
    restored: int
    left_alone: int
    bytes_copied: int
    reasons: dict[str, int] = field(default_factory=dict)
    postponed: dict[str, int] = field(default_factory=dict)
    listed: int | None = None
    duplicates: int | None = None
    suspects: int | None = None
    separated: dict[str, int] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)
    peak_bytes: int | None = None


def export(
    settings: ExportSettings, *, executor: Executor | None = None, progress: Progress | None = None
) -> ExportReport:
    """Bring a destination's folders up to date with the store's current fit.

    A picture that changed since that fit stays in its group, with its new content, until the next one.

    Parameters
    ----------
    settings : ExportSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    StoreNotFoundError, FitNotFoundError
        There is nothing to export.
    FindingsNotFoundError
        Near-duplicates or junk are not to be treated like all, and nobody looked for them.
    DestinationError
        `settings.dest` cannot be used, or refused a write.
    MissingExtraError
        `settings.dest` is to be a Parquet table, and pyarrow is not installed.
    StoreBusyError
        Another export works in the same destination.
    Interrupted
        It was asked to stop; the same command goes on.
    """
    progress = progress or Progress()
    if settings.manifest_only and parquet.is_parquet_name(settings.dest):
        parquet.check_pyarrow()
    if settings.undo:
        with using(executor, settings.workers) as running:
            return undo_exports(settings, running, progress)
    from streamcluster.store.collection import open_collection

    collection = open_collection(settings.store, settings.fit)
    if collection.current_fit is None:
        shown = printable(settings.store)
        raise FitNotFoundError(f"{shown} has no fit yet; run: streamcluster fit --store {shown}")
    check_findings(collection, settings)
    if settings.manifest_only and parquet.is_parquet_name(settings.dest) and "map" not in collection.pointer.findings:
        shown = printable(settings.store)
        log.warning("x and y are empty: no map was made yet; run: streamcluster plot OUT_DIR --store %s", shown)
    counts = collection.counts()
    ungrouped = counts.live - counts.grouped
    with using(executor, settings.workers) as running:
        return export_pictures(
            collection.grouped_pictures(),
            settings,
            running,
            progress,
            store=collection.root,
            sources=collection.sources,
            waiting=collection.waiting_pictures() if ungrouped else (),
            replaced=collection.replaced_pictures() if ungrouped else (),
            ungrouped=ungrouped,
            rejected=counts.rejected,
            found=collection.pointer.findings,
            outdated=collection.outdated(),
        )


def check_findings(collection: Collection, settings: ExportSettings) -> None:
    """Refuse to treat pictures by what nobody looked for yet.

    Raises
    ------
    FindingsNotFoundError
    """
    kinds: tuple[tuple[Kind, str], ...] = (("duplicates", settings.duplicates), ("junk", settings.junk))
    for kind, choice in kinds:
        if choice != "keep-all" and kind not in collection.pointer.findings:
            shown = printable(settings.store)
            raise FindingsNotFoundError(
                f"--{kind} {choice}: nobody looked for {kind} in {shown} yet; run: streamcluster {kind} --store {shown}"
            )


def export_pictures(
    pictures: Iterable[GroupedPicture],
    settings: ExportSettings,
    executor: Executor,
    progress: Progress,
    *,
    store: str,
    sources: Iterable[str] = (),
    waiting: Iterable[GroupedPicture] = (),
    replaced: Iterable[GroupedPicture] = (),
    ungrouped: int = 0,
    rejected: int = 0,
    found: Container[str] = (),
    outdated: Mapping[str, str] | None = None,
) -> ExportReport:
    """Bring a destination's folders up to date with `pictures`.

    Parameters
    ----------
    pictures : iterable of GroupedPicture
        One a source; `source` is an absolute path.
    store : str
        Folder of the store, which the destination must not touch.
    sources : iterable of str
        Folders that hold the pictures.
    waiting, replaced : iterable of GroupedPicture
        Those of the `ungrouped` that may have changed since the fit, and what it put into groups and was replaced.
    ungrouped, rejected : int
        Pictures of the store that are not among `pictures`, for the report.
    found : container of str
        Kinds of what was looked for in the store, for the report.
    outdated : mapping, optional
        What happened since to some of these kinds, for the report.
    """
    dest = os.path.abspath(settings.dest)
    with Ledger() as ledger:
        with progress.stage("read groups", None):
            ledger.want(_outside(dest, _watched(pictures, progress)))
            ungrouped -= ledger.want_changed(_outside(dest, _watched(waiting, progress)), replaced)
            ledger.join_duplicates()
        if settings.manifest_only:
            _write_only_table(dest, ledger, dry_run=settings.dry_run)
        else:
            look.check_dest(dest, os.path.abspath(store), sources)
            _work_in(dest, settings, ledger, executor, progress)
        return _report(dest, settings, ledger, ungrouped, rejected, found, outdated)


def undo_exports(settings: ExportSettings, executor: Executor, progress: Progress) -> ExportReport:
    """Take back what exports put into a destination and nobody touched since; needs no store.

    Where files stay, a person's, the destination stays ours: a later export knows what the person moved and deleted.

    Raises
    ------
    DestinationError
        No export was here, or its manifest is lost.
    """
    dest = os.path.abspath(settings.dest)
    if not os.path.isdir(system_path(os.path.join(dest, manifest.FOLDER))):
        raise DestinationError(f"{printable(dest)} holds nothing that an export put there; see to the spelling of DEST")
    look.check_manifest(dest)
    with Ledger() as ledger:
        if settings.dry_run:
            _plan(dest, settings, ledger, executor, progress)
            return _undo_report(dest, settings, ledger)
        with _locked(dest):
            # Without a manifest an earlier undo was killed right before its end.
            header = manifest.read_header(dest) or Header()
            header, error = _export(dest, header, settings, ledger, executor, progress)
            if error is not None:
                raise error
            report = _undo_report(dest, settings, ledger)
            if place.REFUSED not in report.reasons:
                _remove_tables(dest, header)
            finished = look.holds_only_ours(dest)
            if finished:
                _remove_records(dest)
        if finished:
            _remove_folder(dest, header)
        return report


# --- planning


def _plan(dest: str, settings: ExportSettings, ledger: Ledger, executor: Executor, progress: Progress) -> Replayed:
    """Fill the ledger: nothing is changed but the ledger."""
    header = manifest.read_header(dest)
    with progress.stage("destination", None, "entries"):
        if header is not None:
            ledger.recall(manifest.read_records(dest))
        if os.path.isdir(system_path(dest)):
            ledger.find(_watched(look.walk(dest), progress))
        replayed = ledger.replay(manifest.read_journal(dest, header.run) if header else ())
        ledger.locate(
            lambda source, file, mode: place.is_link_to(os.path.join(dest, file), source, mode),
            lambda files: executor.map(
                lambda file: (file, place.content_digest(os.path.join(dest, file))), progress.until_stopped(files)
            ),
        )
        if not settings.undo:
            ledger.adopt()
        ledger.make_plan(settings.mode, restore=settings.restore, duplicates=settings.duplicates, junk=settings.junk)
    return replayed


def _watched(items: Iterable[ItemT], progress: Progress) -> Iterator[ItemT]:
    """Yield `items`, and count them; as long as nothing was changed, a stop is an error at once."""
    for item in progress.until_stopped(items):
        yield item
        progress.advance(1)


def _outside(dest: str, pictures: Iterable[GroupedPicture]) -> Iterator[GroupedPicture]:
    """Yield `pictures`, and refuse a destination that holds one of them."""
    roots = tuple({os.path.join(root, "") for root in (dest, os.path.realpath(dest))})
    for picture in pictures:
        if picture.source.startswith(roots):
            raise look.overlaps_source(dest, picture.source)
        yield picture


def _check_room(dest: str, settings: ExportSettings, ledger: Ledger) -> None:
    """Refuse what cannot end well, before the first file is touched.

    Raises
    ------
    DestinationError
        The destination takes no links of this kind, or has less free space than the copies need.
    """
    needed = ledger.tally(planned=True).bytes_put if settings.mode == "copy" else 0
    with place.writing_to(dest):
        free = shutil.disk_usage(system_path(dest)).free
    if settings.mode == "copy" and needed <= free:
        return
    stager = Stager(settings.mode)
    _probe(dest, stager, ledger.tasks(PHASES["replace"], _PROBES) + ledger.tasks(PHASES["put"], _PROBES))
    if needed > free and not stager.shares_blocks:
        raise DestinationError(
            f"{printable(dest)}: the copies need {format_bytes(needed)}, {format_bytes(free)} are free; "
            "nothing was copied. Free some space, or use --mode hardlink or --mode symlink"
        )


def _probe(dest: str, stager: Stager, tasks: Iterable[Task]) -> None:
    """Put one picture under a temporary name, to see whether that works."""
    temporary = os.path.join(dest, manifest.FOLDER, place.TEMPORARY + "probe")
    with place.writing_to(dest):
        place.discard(temporary)
        for task in tasks:
            original = task.original
            if original and isinstance(stager.stage(task.source, original.size, original.mtime_ns, temporary), Stamp):
                break
        place.discard(temporary)


# --- carrying out


def _work_in(dest: str, settings: ExportSettings, ledger: Ledger, executor: Executor, progress: Progress) -> None:
    """Plan, and unless that is all that was asked for, carry it out."""
    if settings.dry_run:
        _plan(dest, settings, ledger, executor, progress)
        return
    made = not os.path.isdir(system_path(dest))
    with place.writing_to(dest):
        place.make_folder(os.path.join(dest, manifest.FOLDER))
    with _locked(dest):
        header = manifest.read_header(dest)
        if header is None:
            header = Header(made_dest=made)
            with place.writing_to(dest):
                manifest.write_manifest(dest, header, ())
        _, error = _export(dest, header, settings, ledger, executor, progress)
        if error is not None:
            raise error


def _export(
    dest: str, header: Header, settings: ExportSettings, ledger: Ledger, executor: Executor, progress: Progress
) -> tuple[Header, StreamclusterError | None]:
    """Bring the folders up to date; return the last manifest's header, and what ended the work too early."""
    replayed = _plan(dest, settings, ledger, executor, progress)
    _check_room(dest, settings, ledger)
    with place.writing_to(dest):
        header = _checkpoint(dest, _with_replayed(dest, header, replayed), ledger)
        for temporary in ledger.temporaries():
            place.discard(os.path.join(dest, temporary))
        with Journal(dest, header.run) as journal:
            work = Workplace(dest, settings.mode, ledger, journal, set(header.folders))
            with progress.stage("export", ledger.count_tasks()):
                error = carry_out(work, executor, progress)
            ledger.leave_rest()
            # A disk so full that not even this can be written: the journal tells the next run.
            with suppress(DestinationError) if isinstance(error, DestinationError) else nullcontext():
                header = _conclude(work, header, table=not settings.undo)
                manifest.remove_journal(dest)
    return header, error


def _with_replayed(dest: str, header: Header, replayed: Replayed) -> Header:
    """Return the header with what a killed run did besides pictures."""
    tables = {
        field: stamp
        for field, name in _TABLES.items()
        if (stamp := place.stamp_of(os.path.join(dest, name))) in replayed.tables
    }
    return msgspec.structs.replace(header, folders=tuple(sorted({*header.folders, *replayed.folders})), **tables)


def _checkpoint(dest: str, header: Header, ledger: Ledger) -> Header:
    """Write down what is known; a journal of an older manifest counts no more."""
    header = msgspec.structs.replace(header, run=header.run + 1, records=ledger.count_records())
    manifest.write_manifest(dest, header, ledger.records())
    return header


def _conclude(work: Workplace, header: Header, *, table: bool) -> Header:
    """Remove folders that came empty, and write table and manifest."""
    with place.writing_to(work.dest):
        inner_first = sorted(work.folders, reverse=True)
        folders = tuple(sorted(f for f in inner_first if not place.remove_if_empty(work.path(f))))
        header = msgspec.structs.replace(header, folders=folders)
        if table:
            header = msgspec.structs.replace(
                header,
                table=_write_table(work, look.TABLE, work.ledger.listed(), header.table),
                left_out=_write_left_out(work, header.left_out),
            )
        return _checkpoint(work.dest, header, work.ledger)


def _write_left_out(work: Workplace, ours: Stamp | None) -> Stamp | None:
    """Write the table of what is left out, or remove it if nothing is."""
    if work.ledger.count_left_out():
        rows = work.ledger.listed_left_out(lambda source: relative_name(source, work.dest))
        return _write_table(work, look.LEFT_OUT_TABLE, rows, ours)
    _remove_table(work.path(look.LEFT_OUT_TABLE), ours)
    return None


def _write_table(work: Workplace, name: str, rows: Iterable[Row], ours: Stamp | None) -> Stamp:
    """Write a table, and return its stamp; one that a person edited is kept under another name."""
    path = os.path.join(work.dest, name)
    temporary = place.write_beside(path, table_lines(rows))
    stamp = place.stamp_of(temporary)
    assert stamp is not None
    work.journal.write([WritesTable(stamp)])
    if place.stamp_of(path) not in (ours, stamp, None):
        _keep_edited(path)
    os.replace(system_path(temporary), system_path(path))
    return stamp


def _keep_edited(path: str) -> None:
    stem, ending = os.path.splitext(path)
    for number in count(1):
        if place.name_new(path, f"{stem}~edited{number}{ending}"):
            return


def _locked(dest: str) -> AbstractContextManager[None]:
    return exclusive(os.path.join(dest, manifest.FOLDER, "lock"), dest)


def _write_only_table(path: str, ledger: Ledger, *, dry_run: bool) -> None:
    is_parquet = parquet.is_parquet_name(path)
    check_table_path(path, parquet.is_table if is_parquet else table.is_table)
    if dry_run:
        return
    folder = os.path.dirname(path)
    rows = ledger.listed_sources(lambda source: relative_name(source, folder))
    with place.writing_to(path):
        place.make_folder(folder)
        if is_parquet:
            place.fill_whole(path, lambda file: parquet.write_table(rows, file))
        else:
            place.write_whole(path, table_lines(rows))


# --- taking back


def _remove_tables(dest: str, header: Header) -> None:
    with place.writing_to(dest):
        for field_name, name in _TABLES.items():
            _remove_table(os.path.join(dest, name), getattr(header, field_name))


def _remove_table(path: str, ours: Stamp | None) -> None:
    """Remove a table, unless a person edited it."""
    if ours is not None and place.stamp_of(path) == ours:
        place.remove_file(path)


def _remove_records(dest: str) -> None:
    """Remove what makes a destination ours, the manifest last."""
    with place.writing_to(dest):
        place.discard(manifest.journal_path(dest))
        place.discard(manifest.manifest_path(dest))


def _remove_folder(dest: str, header: Header) -> None:
    """Remove what is left of our own folder, and the destination if an export made it and nothing is in it."""
    ours = os.path.join(dest, manifest.FOLDER)
    for name in look.STARTED:
        place.discard(os.path.join(ours, name))
    place.remove_if_empty(ours)
    if header.made_dest:
        place.remove_if_empty(dest)


# --- reports


def _report(
    dest: str,
    settings: ExportSettings,
    ledger: Ledger,
    ungrouped: int,
    rejected: int,
    found: Container[str] = (),
    outdated: Mapping[str, str] | None = None,
) -> ExportReport:
    tally = ledger.tally(planned=settings.dry_run)
    grouped = tally.wanted if settings.manifest_only else tally.lying
    reasons = tally.not_lying | ({UNGROUPED: ungrouped} if ungrouped else {})
    return ExportReport(
        dest=dest,
        dry_run=settings.dry_run,
        pictures=tally.wanted + ungrouped + rejected,
        grouped=grouped,
        set_aside=tally.wanted - grouped + ungrouped,
        rejected=rejected,
        copied=tally.actions.get("put", 0),
        moved=tally.actions.get("move", 0),
        replaced=tally.actions.get("replace", 0),
        removed=tally.actions.get("remove", 0),
        kept=tally.actions.get("keep", 0),
        restored=tally.actions.get("restore", 0),
        left_alone=tally.left_alone,
        bytes_copied=tally.bytes_put if settings.mode == "copy" else 0,
        reasons=reasons,
        postponed=tally.postponed,
        listed=tally.wanted if settings.manifest_only else None,
        duplicates=tally.duplicates if "duplicates" in found else None,
        suspects=tally.suspects if "junk" in found else None,
        separated=tally.separated,
        outdated=dict(outdated or {}),
        peak_bytes=peak_bytes(),
    )


def _undo_report(dest: str, settings: ExportSettings, ledger: Ledger) -> ExportReport:
    """Report on pictures that exports put there: all of them are set aside, for one reason or another."""
    tally = ledger.tally(planned=settings.dry_run)
    places = ledger.count_places()
    removed = tally.actions.get("remove", 0)
    named = {TAKEN_BACK: removed, IN_HANDS: places.get("theirs", 0)}
    named |= {EDITED: places.get("edited", 0), DELETED: places.get("missing", 0)} | tally.postponed
    reasons = {reason: number for reason, number in named.items() if number}
    report = _report(dest, settings, ledger, 0, 0)
    pictures = sum(reasons.values())
    return replace(report, pictures=pictures, set_aside=pictures, reasons=reasons)
