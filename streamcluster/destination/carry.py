"""Carrying out a plan in batches, so that a kill at any moment can be told from a person's doing.

A batch is put under temporary names by several threads; then one thread writes to the journal what is about to happen,
and gives the files their names, while the next batch is being put.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, takewhile

import msgspec

from streamcluster.destination import place
from streamcluster.destination.ledger import PHASES, Ledger, Task
from streamcluster.destination.manifest import Done, Intent, Journal, MakesFolder, Mode, Record, Void
from streamcluster.destination.place import Stager, Stamp
from streamcluster.errors import DestinationError, Interrupted, StreamclusterError
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.paths import system_path
from streamcluster.runtime.progress import Progress

#: Files of a batch: enough to hide the cost of one wait for the disk, few enough that a stop is quick.
BATCH_FILES = 512
#: Files that a thread puts before it is asked for the next.
PART_FILES = 16


@dataclass(slots=True)
class Workplace:
    """A destination while an export works in it; `folders` are those that exports made."""

    dest: str
    mode: Mode
    ledger: Ledger
    journal: Journal
    folders: set[str]
    known_folders: set[str] = field(default_factory=set)

    def path(self, relative: str) -> str:
        """Return the absolute path of a file."""
        return f"{self.dest}{os.sep}{relative.replace('/', os.sep)}"


class Ready(msgspec.Struct, frozen=True, gc=False):
    """A task whose new content, if it has one, lies under a temporary name."""

    task: Task
    record: Record | None
    temporary: str | None = None

    @property
    def intent(self) -> Intent:
        """What the journal is told."""
        before = self.task.before
        leaves = self.task.action in ("move", "replace") and before is not None and before.file != self.task.target
        return Intent(self.task.source, self.record, self.temporary, before.file if leaves and before else None)


def carry_out(work: Workplace, executor: Executor, progress: Progress) -> StreamclusterError | None:
    """Do what is planned, and return what ended it before all was done.

    Whatever is returned, the ledger tells what is true. What is raised leaves the telling to the journal.
    """
    stager = Stager(work.mode)
    with place.writing_to(work.dest):
        for phase in sorted(set(PHASES.values())):
            naming: Iterator[None] = iter(())
            for tasks in work.ledger.batches(phase, BATCH_FILES):
                ready, error = _stage_batch(work, tasks, stager, executor, progress, naming)
                _finish(naming)
                if error is not None:
                    _discard(work, ready)
                    return error
                naming = _name_batch(work, ready)
                if progress.stop_signal is not None:
                    _finish(naming)
                    return Interrupted(progress.stop_signal)
            _finish(naming)
    return None


def _finish(naming: Iterator[None]) -> None:
    for _ in naming:
        pass


def _stage_batch(
    work: Workplace,
    tasks: list[Task],
    stager: Stager,
    executor: Executor,
    progress: Progress,
    naming: Iterator[None],
) -> tuple[list[Ready], DestinationError | None]:
    """Put new content under temporary names in other threads; here the batch before gets its names meanwhile."""
    sound = [task for task in tasks if _is_as_planned(work, task)]
    _make_folders(work, sound)
    ready: list[Ready] = []
    failures: list[DestinationError] = []
    parts = (sound[rows] for rows in tile_rows(len(sound), PART_FILES))
    while_wanted = takewhile(lambda _: not failures and not progress.stop_requested, parts)
    run = executor.map if any(task.action not in ("move", "remove") for task in sound) else map
    for part in run(lambda part: [_stage(work, stager, task) for task in part], while_wanted):
        for staged in part:
            match staged:
                case Ready():
                    ready.append(staged)
                case (task, reason):
                    work.ledger.fail(task, reason, lies=task.action == "replace")
                case DestinationError():
                    failures.append(staged)
        progress.advance(len(part))
        for _ in islice(naming, len(part)):
            pass
    return ready, failures[0] if failures else None


def _name_batch(work: Workplace, ready: list[Ready]) -> Iterator[None]:
    """Tell the journal what is about to happen to a batch, and do it, a file at each step."""
    work.journal.write([Done(), *(item.intent for item in ready)])
    done = []
    for item in ready:
        if _act(work, item):
            done.append((item.task, item.record))
        yield
    work.ledger.finish(done)


def _is_as_planned(work: Workplace, task: Task) -> bool:
    """Whether the file that is to be changed is still untouched, some time after the plan."""
    if task.before is None or task.action == "restore":
        return True
    same = place.stamp_of(work.path(task.before.file)) == task.before.stamp
    if not same:
        work.ledger.fail(task, place.TOUCHED, lies=False)
    return same


def _make_folders(work: Workplace, tasks: Iterable[Task]) -> None:
    """Make the folders of the targets that are not there, after the journal knows of them."""
    folders = {os.path.dirname(task.target) for task in tasks if task.action != "remove"} - work.known_folders
    folders |= {folder.partition("/")[0] for folder in folders}
    new = sorted(folder for folder in folders if not os.path.isdir(system_path(work.path(folder))))
    if new:
        work.journal.write(map(MakesFolder, new))
        work.folders.update(new)
        for folder in new:
            place.make_folder(work.path(folder))
    work.known_folders |= folders


def _stage(work: Workplace, stager: Stager, task: Task) -> Ready | tuple[Task, str] | DestinationError:
    """Put a task's new content under a temporary name, from any thread."""
    if task.action == "remove":
        return Ready(task, None)
    if task.action == "move":
        assert task.before is not None
        return Ready(task, _moved(task.before, task.target))
    assert task.original is not None
    original = task.original
    temporary = f"{task.target.rpartition('/')[0]}/{place.TEMPORARY}{task.id}"
    try:
        with place.writing_to(work.dest):
            stamp = stager.stage(task.source, original.size, original.mtime_ns, work.path(temporary))
    except DestinationError as error:
        with suppress(OSError):
            place.discard(work.path(temporary))
        return error
    return (task, stamp) if isinstance(stamp, str) else Ready(task, _put(work, task, stamp), temporary)


def _put(work: Workplace, task: Task, stamp: Stamp) -> Record:
    assert task.original is not None
    name = task.target.rpartition("/")[2]
    digest = task.original.digest.hex()
    return Record(task.source, name, task.target, digest, work.mode, stamp.size, stamp.mtime_ns)


def _moved(record: Record, target: str) -> Record:
    return msgspec.structs.replace(record, file=target, name=os.path.basename(target))


def _discard(work: Workplace, items: Iterable[Ready]) -> None:
    for item in items:
        if item.temporary is not None:
            place.discard(work.path(item.temporary))


def _act(work: Workplace, item: Ready) -> bool:
    """Do what the journal was told, and return True; or tell it that this could not be done."""
    task, true = item.task, item.task.before
    try:
        reason = None
        if task.action == "remove":
            place.remove_file(work.path(task.target))
        if item.temporary is not None and task.action == "replace" and true is not None and item.record is not None:
            place.name_over(work.path(item.temporary), work.path(true.file))
            true = msgspec.structs.replace(item.record, file=true.file, name=true.name)
        elif item.temporary is not None:
            reason = _name(work, item.temporary, task.target)
        if task.action in ("move", "replace") and true is not None and true.file != task.target:
            reason = _name(work, true.file, task.target)
    except OSError as error:
        if place.is_refusal_of_all(error):
            raise
        reason = place.REFUSED
    if reason is None:
        return True
    work.journal.write([Void(task.source, true)])
    _discard(work, [item])
    work.ledger.note(task.source, true)
    work.ledger.fail(task, reason, lies=task.action in ("move", "replace", "remove"))
    return False


def _name(work: Workplace, old: str, new: str) -> str | None:
    return None if place.name_new(work.path(old), work.path(new)) else place.TAKEN
