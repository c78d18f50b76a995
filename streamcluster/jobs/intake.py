"""What ingest does where the sources hold anything but what they held: known rows are settled, new files taken in.

    what is new ─▶ parts of files ─decode─▶ parts of pictures ─pack─▶ blocks ─write─▶ rows ─▶ commit

Parts and blocks are streams: a few are in memory at a time. Files are taken in a seeded order that has nothing to do
with their folders, unreadable ones take no row, and rows are packed in order; so a run that was stopped and resumed
lays down the very rows of a run that was not.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from streamcluster.config import IngestSettings, StoreDefaults
from streamcluster.errors import NoPicturesError
from streamcluster.jobs.ingest import IngestReport
from streamcluster.runtime.digests import DIGEST_BYTES, file_digest
from streamcluster.runtime.execution import Executor, using
from streamcluster.runtime.memory import peak_bytes
from streamcluster.runtime.paths import decode_path, encode_path, printable
from streamcluster.runtime.progress import Progress
from streamcluster.runtime.words import count
from streamcluster.sources.scan import FoundFile, KnownPicture, KnownReject, Scan
from streamcluster.store.collection import BLOCK_BYTES, Collection, CollectionWriter, open_for_writing
from streamcluster.store.pointer import SettledScan
from streamcluster.store.table import GONE, LIVE, REPLACED

if TYPE_CHECKING:
    from streamcluster.sources.measure import Picture
    from streamcluster.sources.read import Outcome, Part, Reading

log = logging.getLogger(__name__)

#: Files, or seconds, between two commits; a commit takes some 50 ms.
COMMIT_FILES = 8192
COMMIT_SECONDS = 10.0
#: Blocks being packed, written and compressed at the same time.
BLOCKS_IN_MEMORY = 6


def bring_up_to_date(
    scan: Scan,
    settings: IngestSettings,
    layout: StoreDefaults,
    absent: set[str],
    executor: Executor | None,
    progress: Progress,
) -> IngestReport:
    """Let a store hold what a scan found, whose sources are those of the settings; `absent` ones are gone.

    Raises
    ------
    SourceError, BudgetError, NoPicturesError, StoreError, Interrupted
        As `ingest`.
    """
    present, gone = set(scan.sources) - absent, absent | set(scan.dropped)
    with (
        open_for_writing(settings.store, create=layout) as collection,
        using(executor, settings.workers, settings.scheduler) as running,
    ):
        settled = _settle_known(collection, scan, settings.allow_gone, running, progress)
        collection.remember_sources(present, gone, settings.include, settings.exclude)
        intake = _take_in(collection, scan, settings, running, progress)
        report = _report(collection, scan, settled, intake)
        if not absent and _is_settled(collection, scan, intake):
            collection.remember_scan(SettledScan(scan.digest, report.rejected, report.live))
        return report


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one block, from its first, in pieces, and what became of the files that led to it."""

    start: int
    thumbnails: list[NDArray[np.uint8]]
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Settled:
    """How many known pictures were found elsewhere, how many not at all, and how many nobody asks for any more."""

    moved: int
    gone: int
    left_out: int


def _settle_known(
    collection: CollectionWriter, scan: Scan, allow_gone: bool, executor: Executor, progress: Progress
) -> Settled:
    """Bring the rows of known files up to date: gone, left out, back, moved, or only touched.

    Each step may be the last one before a kill: what was done stays done, and the next run finds the rest to do.
    """
    scan.compare(progress.until_stopped(known_pictures(collection)), known_rejects(collection))
    moved = _recognise(scan, executor, progress)
    progress.stop_if_asked()
    if not allow_gone:
        scan.check_vanished()
    catalog, gone = collection.catalog, scan.missing()
    collection.set_state(catalog, scan.overwritten(), REPLACED)
    collection.set_state(collection.rejects, scan.overwritten_rejects(), REPLACED)
    collection.set_state(catalog, gone, GONE)
    collection.set_state(collection.rejects, scan.missing_rejects(), GONE)
    found_again = scan.settled()
    while settled := list(islice(found_again, COMMIT_FILES)):
        rows = [known.row for known in settled]
        collection.update(catalog, rows, {"path": [encode_path(known.path) for known in settled]})
        collection.update(catalog, rows, {"mtime_ns": [known.mtime_ns for known in settled]})
        collection.set_state(catalog, rows, LIVE)
    collection.set_state(catalog, scan.back(), LIVE)
    left_out = scan.count_left_out()
    return Settled(moved, len(gone) - left_out, left_out)


def known_pictures(collection: Collection) -> Iterator[KnownPicture]:
    """Yield what the catalogue knows of paths that may still be there."""
    for row, path, size, mtime_ns, digest, state in collection.catalog.records(
        "path", "size", "mtime_ns", "digest", "state"
    ):
        if state != REPLACED:
            yield KnownPicture(decode_path(path), row, size, mtime_ns, digest.tobytes(), state == LIVE)


def known_rejects(collection: Collection) -> Iterator[KnownReject]:
    """Yield what the rejects know of paths that may still be there."""
    for row, path, size, mtime_ns, oversize, state in collection.rejects.records(
        "path", "size", "mtime_ns", "oversize", "state"
    ):
        if state == LIVE:
            yield KnownReject(decode_path(path), row, size, mtime_ns, oversize)


def _recognise(scan: Scan, executor: Executor, progress: Progress) -> int:
    """Settle the files that hold a known picture under another time or path; return how many are at another path."""
    touched = progress.until_stopped(scan.touched())
    for path, row, known_digest, digest in executor.map(lambda file: (*file, _digest_if_readable(file[0])), touched):
        if digest == known_digest:
            scan.settle(path, row)
    moved = 0
    strangers = progress.until_stopped(scan.strangers())
    for path, digest in executor.map(lambda path: (path, _digest_if_readable(path)), strangers):
        missing_row = scan.take_missing(digest) if digest else None
        if missing_row is not None:
            scan.settle(path, missing_row)
            moved += 1
    return moved


def _digest_if_readable(path: str) -> bytes | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def _take_in(
    collection: CollectionWriter, scan: Scan, settings: IngestSettings, executor: Executor, progress: Progress
) -> Intake:
    """Decode what is new, a part at a time; a thread of its own writes and commits, so that no decoder waits for it."""
    n_files = scan.count_to_decode()
    intake = Intake(collection)
    if not n_files:
        progress.stop_if_asked()
        return intake
    reading = _plan_reading(collection, settings, executor.workers)
    collection.make_room(n_files)
    with progress.stage("decode", n_files), Executor(1) as writer:
        files = reading.parts_of(progress.before_stop(scan.to_decode()))
        parts = executor.map(reading.read, files, window=executor.in_flight(reading.n_parts))
        blocks = _pack(collection, _watched(parts, progress))
        for _ in writer.map(intake.take, blocks, window=2):
            pass
        intake.commit()
    collection.trim()
    progress.stop_if_asked()
    return intake


def _plan_reading(collection: CollectionWriter, settings: IngestSettings, workers: int) -> Reading:
    """Return how to read files; what decodes pictures is imported here, since many runs have nothing to decode."""
    from streamcluster.sources.decode import DecodeOptions, rgb_of
    from streamcluster.sources.read import plan_reading

    layout = collection.pointer
    options = DecodeOptions(layout.image_size, layout.aspect, rgb_of(layout.background), settings.max_pixels)
    return plan_reading(options, settings.memory, workers, BLOCKS_IN_MEMORY * BLOCK_BYTES)


def _watched(parts: Iterable[Part], progress: Progress) -> Iterator[Part]:
    for part in parts:
        progress.advance(len(part.outcomes))
        yield part


def _pack(collection: CollectionWriter, parts: Iterable[Part]) -> Iterator[Block]:
    """Yield whole blocks, the first with the rows that are already committed in it, and the last as full as it is."""
    block_rows = collection.pointer.block_rows
    start = collection.n_rows - collection.n_rows % block_rows
    n_rows = collection.n_rows - start
    block = Block(start, [collection.thumbnails(slice(start, collection.n_rows))], [])
    for part in parts:
        first = last = 0
        for outcome in part.outcomes:
            block.outcomes.append(outcome)
            last += outcome.picture is not None
            if n_rows + last - first == block_rows:
                block.thumbnails.append(part.thumbnails[first:last])
                yield block
                block = Block(block.start + block_rows, [], [])
                first, n_rows = last, 0
        block.thumbnails.append(part.thumbnails[first:last])
        n_rows += last - first
    if block.outcomes:
        yield block


class Intake:
    """What writes blocks, in their order, and lets their rows count now and then; holds what a report counts.

    After a block that could not be written no other is taken: its rows would be those of other pictures.
    """

    def __init__(self, collection: CollectionWriter) -> None:
        self.new = self.changed = self.rejected = 0
        self.postponed: dict[str, str] = {}
        self.is_as_scanned = True
        self._collection = collection
        self._is_whole = True
        self._waiting: list[Outcome] = []
        self._committed_at = time.monotonic()

    def take(self, block: Block) -> None:
        """Write a block, and commit what was written if that is due."""
        if not self._is_whole:
            return
        self._is_whole = False
        thumbnails = np.concatenate(block.thumbnails)
        if len(thumbnails):
            self._collection.write_block(block.start, thumbnails)
        self._waiting += block.outcomes
        if len(self._waiting) >= COMMIT_FILES or time.monotonic() - self._committed_at > COMMIT_SECONDS:
            self.commit()
        self._is_whole = True

    def commit(self) -> None:
        """Let decoded files count, and what the store had at their paths count no more.

        The old rows are marked first: a kill in between leaves a path without a row, which the next run sees as new.
        """
        outcomes, collection = self._waiting, self._collection
        taken = [(o.file, o.picture) for o in outcomes if o.picture is not None]
        refused = [o for o in outcomes if o.picture is None and not o.passing]
        listed = [o for o in refused if not (o.file.retry and o.oversize)]
        settled = [file for file, _ in taken] + [o.file for o in listed]
        collection.set_state(collection.catalog, [f.row for f in settled if f.row is not None], REPLACED)
        collection.set_state(collection.rejects, [f.reject_row for f in settled if f.reject_row is not None], REPLACED)
        collection.commit_rows(_picture_columns(taken), _reject_columns(listed))
        self.new += sum(file.row is None for file, _ in taken)
        self.changed += sum(file.row is not None for file, _ in taken)
        self.rejected += len(refused)
        self.is_as_scanned &= all((p.size, p.mtime_ns) == (file.size, file.mtime_ns) for file, p in taken)
        self.postponed |= {o.file.path: o.reason for o in outcomes if o.passing}
        for outcome in outcomes:
            if outcome.reason:
                what = "left for next time" if outcome.passing else "rejected"
                log.debug("%s: %s: %s", what, printable(outcome.file.path), outcome.reason)
        self._waiting, self._committed_at = [], time.monotonic()


def _picture_columns(taken: list[tuple[FoundFile, Picture]]) -> dict[str, Any]:
    if not taken:
        return {"path": []}
    values = zip(*(astuple(picture) for _, picture in taken), strict=True)
    columns: dict[str, Any] = dict(zip(taken[0][1].__struct_fields__, values, strict=True))
    columns["digest"] = np.frombuffer(b"".join(columns["digest"]), np.uint8).reshape(-1, DIGEST_BYTES)
    columns["path"] = [encode_path(file.path) for file, _ in taken]
    columns["state"] = [LIVE] * len(taken)
    return columns


def _reject_columns(refused: list[Outcome]) -> dict[str, list[Any]]:
    """Return the rejects' rows, with size and time as the scan saw them: a file that changed since is tried again."""
    return {
        "path": [encode_path(outcome.file.path) for outcome in refused],
        "size": [outcome.file.size for outcome in refused],
        "mtime_ns": [outcome.file.mtime_ns for outcome in refused],
        "reason": [outcome.reason for outcome in refused],
        "oversize": [outcome.oversize for outcome in refused],
        "state": [LIVE] * len(refused),
    }


def _is_settled(collection: CollectionWriter, scan: Scan, intake: Intake) -> bool:
    """Whether another run that finds the same files has nothing to do; what a limit refused is tried again."""
    rejects = collection.rejects.read(("state", "oversize"), slice(0, collection.rejects.n_rows))
    oversize = bool(np.any((rejects["state"] == LIVE) & rejects["oversize"]))
    return intake.is_as_scanned and not (intake.postponed or scan.listing.unreadable or oversize)


def _report(collection: CollectionWriter, scan: Scan, settled: Settled, intake: Intake) -> IngestReport:
    postponed = dict(sorted(scan.listing.unreadable.items())) | intake.postponed
    decoded = intake.new + intake.changed + intake.rejected + len(intake.postponed)
    known_rejects = scan.count_known_rejects()
    counts = collection.counts()
    if not counts.live:
        reasons = Counter(reason for _, reason, state in collection.rejects.records("reason", "state") if state == LIVE)
        listed = "; ".join(f"{reason} ({n:,})" for reason, n in reasons.most_common(3)) or "all are gone"
        raise NoPicturesError(f"no readable picture among {count(scan.found + len(postponed), 'file')}: {listed}")
    return IngestReport(
        found=scan.found + len(scan.listing.unreadable),
        unchanged=scan.found - decoded - known_rejects - settled.moved,
        moved=settled.moved,
        new=intake.new,
        changed=intake.changed,
        rejected=intake.rejected + known_rejects,
        postponed=len(postponed),
        gone=settled.gone,
        left_out=settled.left_out,
        ignored=scan.listing.ignored,
        live=counts.live,
        postponed_files=postponed,
        peak_bytes=peak_bytes(),
    )
