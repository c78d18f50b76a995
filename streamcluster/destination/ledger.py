"""The lists that a plan joins: what the store wants, what exports recorded, what lies in the destination; and the plan.

They meet in a scratch SQLite database that lives on disk and vanishes with the connection, so that a million pictures
take no more memory than a thousand. Paths are kept as bytes, since they may be no text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from streamcluster.destination.manifest import Done, Entry, Intent, MakesFolder, Record, Void, WritesTable, settle
from streamcluster.destination.names import DUPLICATES, SUSPECTS, candidate_names, fold
from streamcluster.destination.place import Stamp, link_digest
from streamcluster.destination.plan import Action, Duplicates, Junk, Placed, Wanted, choose_folder, decide
from streamcluster.destination.table import Row, shown
from streamcluster.errors import DestinationError
from streamcluster.runtime.paths import printable
from streamcluster.runtime.scratch import ScratchDatabase, sorted_runs

if TYPE_CHECKING:
    from streamcluster.store.collection import GroupedPicture

#: What the scratch database keeps in memory.
CACHE_BYTES = 1 << 20

#: Order of the work: what is taken away makes room, and files are moved before new ones come.
PHASES: dict[Action, int] = {"remove": 1, "move": 2, "replace": 3, "restore": 4, "put": 4}

#: Why a picture is not in the destination.
DELETED = "deleted by a person"
EDITED = "edited by a person"
UNREACHED = "left for the next run"
LEFT_OUT = "near-duplicate of a better picture"
BEST_MISSING = "near-duplicate of a better picture that is not in DEST"

_PAGE_ROWS = 500

_PICTURE = """(
        source BLOB PRIMARY KEY, row INT, size INT, mtime_ns INT, digest BLOB, cluster INT, distance REAL,
        width INT, height INT, brightness REAL, sharpness REAL, kept INT, junk_score REAL, suspect INT, flags TEXT,
        x REAL, y REAL
    ) WITHOUT ROWID"""
_TABLES = f"""
    PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
    CREATE TABLE wanted {_PICTURE};
    CREATE TABLE waiting {_PICTURE};
    CREATE TABLE recorded (
        source BLOB PRIMARY KEY, name BLOB, file BLOB, digest BLOB, mode TEXT, size INT, mtime_ns INT, state TEXT,
        place TEXT
    ) WITHOUT ROWID;
    CREATE TABLE found (
        path BLOB PRIMARY KEY, folded BLOB, kind TEXT, size INT, mtime_ns INT, digest BLOB, claimed INT DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE names (folded BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE plan (
        id INTEGER PRIMARY KEY, source BLOB, wanted INT, action TEXT, phase INT, row INT, target BLOB,
        done INT, lies INT, reason TEXT
    );
"""
_FORGET = "DELETE FROM recorded WHERE source = ?"
_NOTE = f"INSERT OR REPLACE INTO recorded VALUES ({', '.join('?' * 9)})"
_RECORD = "recorded.source, name, file, recorded.digest, mode, recorded.size, recorded.mtime_ns, state"
_SAME_STAMP = (
    "found.kind = CASE mode WHEN 'symlink' THEN 'link' ELSE 'file' END "
    "AND found.size = recorded.size AND found.mtime_ns = recorded.mtime_ns"
)

_IN_PLACE = f"""
    UPDATE recorded SET place = CASE state WHEN 'put' THEN 'untouched' ELSE 'theirs' END
    WHERE state != 'gone' AND EXISTS (SELECT 1 FROM found WHERE found.path = recorded.file AND {_SAME_STAMP})
"""
_CLAIM_PLACED = "UPDATE found SET claimed = 1 WHERE path IN (SELECT file FROM recorded WHERE place IS NOT NULL)"
_CHANGED_LINKS = """
    SELECT source, file, mode, found.size, found.mtime_ns FROM recorded JOIN found ON path = file
    WHERE place IS NULL AND state = 'put' AND NOT claimed AND mode IN ('hardlink', 'symlink') AND source > ?
    ORDER BY source
"""
# A stranger that may be a lost file: one of its stamp, or one in its place that differs in the time alone.
_STRANGERS = """
    SELECT path FROM found WHERE NOT claimed AND kind IN ('file', 'link') AND path > ?
    AND EXISTS (SELECT 1 FROM recorded WHERE place IS NULL AND size = found.size) ORDER BY path
"""
_LOST = "SELECT source, digest, mode FROM recorded WHERE place IS NULL AND source > ? ORDER BY source"
_TWIN = """
    SELECT path, found.size, found.mtime_ns FROM found, recorded
    WHERE source = ? AND found.digest = ? AND NOT claimed AND found.size = recorded.size
    AND (? OR basename(path) = basename(file))
    ORDER BY path = file DESC, found.mtime_ns = recorded.mtime_ns DESC, path LIMIT 1
"""
_EDITED = """
    UPDATE recorded SET place = 'edited' WHERE place IS NULL AND state != 'gone'
    AND EXISTS (SELECT 1 FROM found WHERE path = file AND NOT claimed AND kind IN ('file', 'link'))
"""
_MISSING = "UPDATE recorded SET place = 'missing', state = 'gone' WHERE place IS NULL"

# A group of near-duplicates is of the pictures that are wanted here: without its best the others count as alone.
_FORGET_LOST_BEST = "UPDATE wanted SET kept = NULL WHERE kept IS NOT NULL AND kept NOT IN (SELECT row FROM wanted)"
_MARK_BEST = "UPDATE wanted SET kept = row WHERE row IN (SELECT kept FROM wanted)"

_ORPHANED = "recorded.source NOT IN (SELECT source FROM wanted)"
# A symbolic link to the old source is of no use to the new one.
_ORPHANS = f"""
    SELECT source, digest FROM recorded WHERE source > ? AND {_ORPHANED} AND (mode != 'symlink' OR place = 'missing')
    ORDER BY source
"""
_HEIR = """
    SELECT source FROM wanted WHERE digest = ? AND sourcename(source) = sourcename(?)
    AND source NOT IN (SELECT source FROM recorded) ORDER BY row LIMIT 1
"""
# What is wanted nowhere in the destination.
_UNPLACED = {
    False: _ORPHANED,
    True: "recorded.source NOT IN (SELECT source FROM wanted WHERE kept IS NULL OR kept = row)",
}
_PICTURES = """
    SELECT wanted.source, row, wanted.digest, cluster, nullif(kept, row), suspect, name, file, recorded.digest, mode,
        place
    FROM wanted LEFT JOIN recorded USING (source) ORDER BY row, wanted.source
"""
_TASKS = f"""
    SELECT plan.id, plan.source, action, target, wanted.size, wanted.mtime_ns, wanted.digest, {_RECORD}
    FROM plan LEFT JOIN wanted USING (source) LEFT JOIN recorded USING (source)
    WHERE phase = ? AND plan.id > ? ORDER BY plan.id LIMIT ?
"""
_KNOWN = "kept, kept = wanted.row, junk_score, flags, x, y"
_LISTED = f"""
    SELECT shown(file) AS file_name, wanted.source, cluster, distance, width, height, brightness, sharpness,
        CASE wanted.digest WHEN recorded.digest THEN wanted.size ELSE recorded.size END, recorded.digest, {_KNOWN}
    FROM plan JOIN wanted USING (source) JOIN recorded USING (source) WHERE lies ORDER BY file_name
"""
_LISTED_SOURCES = f"""
    SELECT name_of(source) AS file_name, source, cluster, distance, width, height, brightness, sharpness, size, digest,
        {_KNOWN}
    FROM wanted ORDER BY file_name
"""
# What is left out, each group after its best picture.
_LISTED_LEFT_OUT = f"""
    SELECT CASE WHEN lies THEN shown(file) ELSE name_of(source) END, source, cluster, distance, width, height,
        brightness, sharpness, wanted.size, wanted.digest, {_KNOWN}
    FROM plan JOIN wanted USING (source) LEFT JOIN recorded USING (source)
    WHERE reason = ? OR wanted.row IN (SELECT kept FROM plan JOIN wanted USING (source) WHERE reason = ?)
    ORDER BY kept, kept != wanted.row, source
"""
_NOT_LYING = """
    SELECT CASE WHEN reason = ? AND source IN (
        SELECT source FROM wanted WHERE kept IN (
            SELECT kept FROM plan JOIN wanted USING (source) WHERE kept = wanted.row AND NOT lies
        )
    ) THEN ? ELSE reason END AS why, count(*) FROM plan WHERE wanted AND NOT lies GROUP BY why ORDER BY why
"""


class Original(Struct, frozen=True, gc=False):
    """A source file as it was ingested."""

    size: int
    mtime_ns: int
    digest: bytes


class Task(Struct, frozen=True, gc=False):
    """One picture whose file is to change: what is recorded of it, its source if it is wanted, where it will lie."""

    id: int
    source: str
    action: Action
    target: str
    original: Original | None
    before: Record | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a journal told besides pictures: the folders and tables that the killed run was about to write."""

    folders: tuple[str, ...]
    tables: tuple[Stamp, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What a plan comes to, in pictures; `bytes_put` is the content that is to be, or was, put.

    Of the `wanted`, `duplicates` are not the best of their group and `suspects` likely junk; `separated` counts, by
    folder, those that lie apart from the groups.
    """

    wanted: int
    duplicates: int
    suspects: int
    separated: dict[str, int]
    lying: int
    actions: dict[Action, int]
    bytes_put: int
    left_alone: int
    not_lying: dict[str, int]
    postponed: dict[str, int]


class Ledger(ScratchDatabase):
    """The lists and the plan; use it in a `with` block, in the order of its methods."""

    def __init__(self) -> None:
        super().__init__(CACHE_BYTES)
        self._is_empty = True
        self._db.create_function("shown", 1, lambda key: shown(_path(key)), deterministic=True)
        self._db.create_function("basename", 1, lambda key: key.rpartition(b"/")[2], deterministic=True)
        self._db.create_function("folded", 1, lambda key: _key(fold(_path(key))), deterministic=True)
        self._db.executescript(_TABLES)
        self._db.create_function("sourcename", 1, lambda key: _key(os.path.basename(_path(key))), deterministic=True)
        self._db.execute("BEGIN")

    # --- what comes in

    def want(self, pictures: Iterable[GroupedPicture]) -> None:
        """Take in what the store wants to be there; the last picture of a source counts."""
        self._take("wanted", pictures)

    def want_changed(self, waiting: Iterable[GroupedPicture], replaced: Iterable[GroupedPicture]) -> int:
        """Take in pictures that wait for a fit but changed only, and return how many: until then they keep their group.

        Parameters
        ----------
        waiting : iterable of GroupedPicture
            Pictures that no fit has put into a group.
        replaced : iterable of GroupedPicture
            What lay at the same paths, and elsewhere, with its group.
        """
        self._take("waiting", waiting)
        self._db.executemany(
            "UPDATE waiting SET cluster = ?, distance = ? WHERE source = ?",
            ((picture.cluster, picture.distance, _key(picture.source)) for picture in replaced),
        )
        return self._db.execute("INSERT OR IGNORE INTO wanted SELECT * FROM waiting WHERE cluster >= 0").rowcount

    def join_duplicates(self) -> None:
        """Let groups of near-duplicates be of what is wanted; after all of that came in."""
        self._db.execute(_FORGET_LOST_BEST)
        self._db.execute(_MARK_BEST)

    def _take(self, table: str, pictures: Iterable[GroupedPicture]) -> None:
        row = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * 17)})"
        for run in sorted_runs(map(_picture_row, pictures)):
            self._db.executemany(row, run)

    def recall(self, records: Iterable[Record]) -> None:
        """Take in what exports recorded."""
        self._db.executemany("INSERT INTO recorded VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", map(_row, records))

    def find(self, files: Iterable[tuple[str, Stamp]]) -> None:
        """Take in what lies in the destination."""
        inserted = self._db.executemany(
            "INSERT OR REPLACE INTO found (path, folded, kind, size, mtime_ns) VALUES (?, ?, ?, ?, ?)",
            ((_key(path), _key(fold(path)), stamp.kind, stamp.size, stamp.mtime_ns) for path, stamp in files),
        )
        self._is_empty = inserted.rowcount < 1
        self._db.execute("CREATE INDEX found_folded ON found (folded)")

    def replay(self, journal: Iterable[Entry]) -> Replayed:
        """Take in what a killed run was about to do, as far as it was done; after `recall` and `find`."""
        open_intents: dict[str, Intent] = {}
        folders, tables = list[str](), list[Stamp]()
        for entry in journal:
            match entry:
                case Intent():
                    open_intents[entry.source] = entry
                case Void():
                    open_intents.pop(entry.source, None)
                    self.note(entry.source, entry.record)
                case Done():
                    for intent in open_intents.values():
                        self.note(intent.source, intent.record)
                    open_intents.clear()
                case MakesFolder():
                    folders.append(entry.folder)
                case WritesTable():
                    tables.append(entry.stamp)
        for intent in open_intents.values():
            self._settle(intent)
        return Replayed(tuple(folders), tuple(tables))

    def _settle(self, intent: Intent) -> None:
        before = self.record(intent.source)
        temporary_there = intent.temporary is not None and self._stamp(intent.temporary) is not None
        old = intent.moved_from or (before.file if before else None)
        self.note(intent.source, settle(intent, before, temporary_there, self._stamp(old) if old else None))

    # --- what is known

    def record(self, source: str) -> Record | None:
        """Return what is recorded of a source."""
        row = self._db.execute(f"SELECT {_RECORD} FROM recorded WHERE source = ?", (_key(source),)).fetchone()
        return None if row is None else _record(row)

    def records(self) -> Iterator[Record]:
        """Yield all that is recorded, by source."""
        return map(_record, self._db.execute(f"SELECT {_RECORD} FROM recorded ORDER BY source"))

    def count_records(self) -> int:
        """Return how many `records` yields."""
        return int(self._one("SELECT count(*) FROM recorded"))

    def note(self, source: str, record: Record | None) -> None:
        """Record what is true of a source now; None: nothing."""
        if record is None:
            self._db.execute(_FORGET, (_key(source),))
        else:
            self._db.execute(_NOTE, (*_row(record), "untouched"))

    def temporaries(self) -> Iterator[str]:
        """Yield the files that killed runs left behind."""
        for (path,) in self._db.execute("SELECT path FROM found WHERE kind = 'temporary'"):
            yield _path(path)

    def _stamp(self, path: str) -> Stamp | None:
        row = self._db.execute("SELECT kind, size, mtime_ns FROM found WHERE path = ?", (_key(path),)).fetchone()
        return None if row is None else Stamp(*row)

    def _one(self, query: str, *values: object) -> Any:
        row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _pages(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that goes on after a value of its first column; they may be changed meanwhile."""
        after = b""
        while page := self._db.execute(f"{query} LIMIT {_PAGE_ROWS}", (after,)).fetchall():
            yield from page
            after = page[-1][0]

    # --- where the recorded files are

    def locate(
        self,
        is_same_link: Callable[[str, str, str], bool],
        digests: Callable[[Iterator[str]], Iterable[tuple[str, bytes | None]]],
    ) -> None:
        """Find out what became of each recorded file.

        Parameters
        ----------
        is_same_link : callable
            Of (source, file, mode): whether the file is still a link to the source, whatever its stamp.
        digests : callable
            Gives for relative paths each path with the digest of its content.
        """
        self._db.execute("UPDATE recorded SET place = NULL")
        self._db.execute(_IN_PLACE)
        self._db.execute(_CLAIM_PLACED)
        for source, file, mode, size, mtime_ns in self._pages(_CHANGED_LINKS):
            if is_same_link(_path(source), _path(file), mode):
                self._claim(source, "untouched", "put", file, size, mtime_ns)
        if self._one("SELECT count(*) FROM recorded WHERE place IS NULL"):
            self._recognise(digests)
        self._db.execute(_EDITED)
        self._db.execute(_MISSING)

    def _recognise(self, digests: Callable[[Iterator[str]], Iterable[tuple[str, bytes | None]]]) -> None:
        """Find what a person moved, first under the same name, then under another; its time may have changed."""
        self._db.execute("CREATE INDEX recorded_size ON recorded (size) WHERE place IS NULL")
        self._db.execute("CREATE INDEX recorded_file ON recorded (file) WHERE place IS NULL")
        for path, digest in digests(_path(path) for (path,) in self._pages(_STRANGERS)):
            self._db.execute("UPDATE found SET digest = ? WHERE path = ?", (digest, _key(path)))
        self._db.execute("CREATE INDEX found_digest ON found (digest) WHERE digest IS NOT NULL")
        for any_name in (False, True):
            for source, digest, mode in self._pages(_LOST):
                content = link_digest(_path(source)) if mode == "symlink" else digest
                twin = self._db.execute(_TWIN, (source, content, any_name)).fetchone()
                if twin is not None:
                    self._claim(source, "theirs", "theirs", *twin)

    def _claim(self, source: bytes, place: str, state: str, file: bytes, size: int, mtime_ns: int) -> None:
        self._db.execute(
            "UPDATE recorded SET place = ?, state = ?, file = ?, size = ?, mtime_ns = ? WHERE source = ?",
            (place, state, file, size, mtime_ns, source),
        )
        self._db.execute("UPDATE found SET claimed = 1 WHERE path = ?", (file,))

    def adopt(self) -> None:
        """Let a record whose source is gone go on for a new source of the same content and name: it was moved.

        So what a person deleted stays deleted when the source folders are sorted anew.
        """
        if not self._one(f"SELECT 1 FROM recorded WHERE {_ORPHANED} LIMIT 1"):
            return
        self._db.execute("CREATE INDEX wanted_digest ON wanted (digest)")
        for source, digest in self._pages(_ORPHANS):
            heir = self._one(_HEIR, digest, source)
            if heir is not None:
                self._db.execute("UPDATE recorded SET source = ? WHERE source = ?", (heir, source))

    # --- the plan

    def make_plan(self, mode: str, *, restore: bool, duplicates: Duplicates, junk: Junk) -> None:
        """Decide about every picture, and about every file that exports put and the store does not want any more.

        Raises
        ------
        DestinationError
            Something that is no folder has the name of a group's folder.
        """
        leaving = f"place = 'untouched' AND {_UNPLACED[duplicates == 'keep-best']}"
        self._db.execute(f"DELETE FROM found WHERE path IN (SELECT file FROM recorded WHERE {leaving})")
        self._db.execute(f"INSERT OR IGNORE INTO names SELECT folded(name) FROM recorded WHERE NOT ({leaving})")
        decisions = self._decisions(mode, restore=restore, duplicates=duplicates, junk=junk)
        while page := list(islice(decisions, _PAGE_ROWS)):
            self._db.executemany("INSERT INTO plan VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", page)
        self._db.execute("CREATE UNIQUE INDEX plan_source ON plan (source)")
        self._db.execute("CREATE INDEX plan_work ON plan (phase) WHERE phase IS NOT NULL")

    def _decisions(
        self, mode: str, *, restore: bool, duplicates: Duplicates, junk: Junk
    ) -> Iterator[tuple[object, ...]]:
        """Yield the rows of the plan, in the order of the work."""
        folders = set[str]()
        for source, row, digest, cluster, better, suspect, name, file, was, was_mode, place in self._db.execute(
            _PICTURES
        ):
            folder = choose_folder(cluster, better=better, suspect=suspect, duplicates=duplicates, junk=junk)
            wanted = None if folder is None else Wanted(digest, folder, mode)
            placed = None if file is None else Placed(was, os.path.dirname(_path(file)), was_mode, place)
            action = decide(wanted, placed, restore=restore)
            if folder is None:
                yield _planned(source, True, action, row, file, place, gone=LEFT_OUT)
                continue
            if action in PHASES and folder not in folders:
                self._check_folder(folder)
                folders.add(folder)
            stays = action == "replace" and placed is not None and placed.folder == folder
            needs_name = action in PHASES and not stays
            target = self._free_target(source, folder, name) if needs_name else file
            yield _planned(source, True, action, row, target, place)
        for source, file, was, was_mode, place in self._db.execute(
            f"SELECT source, file, digest, mode, place FROM recorded WHERE {_ORPHANED}"
        ):
            placed = Placed(was, os.path.dirname(_path(file)), was_mode, place)
            yield _planned(source, False, decide(None, placed, restore=restore), 0, file, place)

    def _check_folder(self, folder: str) -> None:
        query = "SELECT path FROM found WHERE folded IN (?, ?) AND kind != 'folder'"
        other = self._one(query, _key(fold(folder)), _key(fold(folder.partition("/")[0])))
        if other is not None:
            raise DestinationError(
                f"{printable(_path(other))} in DEST is in the way of a group's folder; nothing was changed, "
                "rename or remove it"
            )

    def _free_target(self, source: bytes, folder: str, name: bytes | None) -> bytes:
        """Return the path for a picture in its group's folder: its recorded name, or the first that nothing has."""
        if name is not None:
            target = _key(folder) + b"/" + name
            if not self._is_taken(target):
                return target
        for candidate in candidate_names(_path(source)):
            target = _key(f"{folder}/{candidate}")
            if not self._is_taken(target) and self._reserve(candidate):
                return target
        raise AssertionError("there is always another name")

    def _is_taken(self, target: bytes) -> bool:
        if self._is_empty:
            return False
        return bool(self._one("SELECT 1 FROM found WHERE folded = ? LIMIT 1", _key(fold(_path(target)))))

    def _reserve(self, name: str) -> bool:
        """Keep a name for one picture, in all folders; False if another has it."""
        values = (_key(fold(name)),)
        return self._db.execute("INSERT OR IGNORE INTO names VALUES (?)", values).rowcount == 1

    # --- the work

    def count_tasks(self) -> int:
        """Return how many files are to change."""
        return int(self._one("SELECT count(*) FROM plan WHERE phase IS NOT NULL"))

    def batches(self, phase: int, size: int) -> Iterator[list[Task]]:
        """Yield the tasks of a phase in the order of the plan, so many at a time; they may be finished later."""
        after = 0
        while tasks := self.tasks(phase, size, after):
            yield tasks
            after = tasks[-1].id

    def tasks(self, phase: int, limit: int, after: int = 0) -> list[Task]:
        """Return the first tasks of a phase that are neither finished nor failed, in the order of the plan."""
        return [
            Task(
                id_,
                _path(source),
                action,
                _path(target),
                None if digest is None else Original(size, mtime_ns, digest),
                None if before[0] is None else _record(tuple(before)),
            )
            for id_, source, action, target, size, mtime_ns, digest, *before in self._db.execute(
                _TASKS, (phase, after, limit)
            )
        ]

    def finish(self, done: Iterable[tuple[Task, Record | None]]) -> None:
        """Note that tasks were done, and what is true since."""
        done = sorted(done, key=lambda pair: pair[0].source)
        self._db.executemany(_FORGET, [(_key(task.source),) for task, record in done if record is None])
        self._db.executemany(_NOTE, [(*_row(record), "untouched") for _, record in done if record is not None])
        self._db.executemany("UPDATE plan SET phase = NULL, done = 1 WHERE id = ?", [(task.id,) for task, _ in done])

    def fail(self, task: Task, reason: str, *, lies: bool) -> None:
        """Note why a task could not be done, and whether the picture is in the destination all the same."""
        query = "UPDATE plan SET phase = NULL, lies = ? AND wanted, reason = ? WHERE id = ?"
        self._db.execute(query, (lies, reason, task.id))

    def leave_rest(self) -> None:
        """Note that the tasks that are left wait for the next run."""
        self._db.execute(
            "UPDATE plan SET reason = ?, lies = wanted AND action NOT IN ('put', 'restore') WHERE phase IS NOT NULL",
            (UNREACHED,),
        )

    # --- what it comes to

    def tally(self, *, planned: bool) -> Tally:
        """Count: what was done, or with `planned` what would be."""
        done = "plan.done OR phase IS NOT NULL" if planned else "plan.done"
        copies = f"action IN ('put', 'restore', 'replace') AND ({done})"
        return Tally(
            wanted=int(self._one("SELECT count(*) FROM wanted")),
            duplicates=int(self._one("SELECT count(*) FROM wanted WHERE kept != row")),
            suspects=int(self._one("SELECT count(*) FROM wanted WHERE suspect")),
            separated={folder: number for folder in (DUPLICATES, SUSPECTS) if (number := self._count_below(folder))},
            lying=int(self._one("SELECT count(*) FROM plan WHERE lies")),
            actions=self._counts(f"SELECT action, count(*) FROM plan WHERE {done} GROUP BY action"),  # type: ignore[arg-type]
            bytes_put=int(self._one(f"SELECT total(size) FROM plan JOIN wanted USING (source) WHERE {copies}")),
            left_alone=int(self._one("SELECT count(*) FROM recorded WHERE place IN ('theirs', 'edited')")),
            not_lying=self._counts(_NOT_LYING, LEFT_OUT, BEST_MISSING),
            postponed=self._counts(
                "SELECT reason, count(*) FROM plan WHERE reason IS NOT NULL AND (lies OR NOT wanted) GROUP BY reason "
                "ORDER BY reason"
            ),
        )

    def _count_below(self, folder: str) -> int:
        prefix = _key(f"{folder}/")
        query = "SELECT count(*) FROM plan WHERE lies AND substr(target, 1, ?) = ?"
        return int(self._one(query, len(prefix), prefix))

    def count_places(self) -> dict[str, int]:
        """Return how many recorded files are in which whereabouts."""
        return self._counts("SELECT place, count(*) FROM recorded GROUP BY place ORDER BY place")

    def _counts(self, query: str, *values: object) -> dict[str, int]:
        return dict(self._db.execute(query, values).fetchall())

    def listed(self) -> Iterator[Row]:
        """Yield the rows of the table of pictures that lie in the destination, by file name."""
        return map(_table_row, self._db.execute(_LISTED))

    def listed_sources(self, name_of: Callable[[str], str]) -> Iterator[Row]:
        """Yield the rows of a table of wanted pictures where their sources lie, by the name that `name_of` gives."""
        self._name_by(name_of)
        return map(_table_row, self._db.execute(_LISTED_SOURCES))

    def listed_left_out(self, name_of: Callable[[str], str]) -> Iterator[Row]:
        """Yield the rows of a table of what is left out for better pictures, each group after its best.

        That one is named as it lies in the destination; all others, and one that does not, as `name_of` says.
        """
        self._name_by(name_of)
        return map(_table_row, self._db.execute(_LISTED_LEFT_OUT, (LEFT_OUT, LEFT_OUT)))

    def _name_by(self, name_of: Callable[[str], str]) -> None:
        self._db.create_function("name_of", 1, lambda key: shown(name_of(_path(key))), deterministic=True)

    def count_left_out(self) -> int:
        """Return how many pictures are left out for better ones."""
        return int(self._one("SELECT count(*) FROM plan WHERE reason = ?", LEFT_OUT))


def _planned(
    source: bytes, wanted: bool, action: Action, row: int, target: bytes, place: str | None, gone: str = DELETED
) -> tuple[object, ...]:
    """Return a row of the plan, without its number; `gone` is why a wanted picture has no file that was edited."""
    lies = wanted and (action not in ("leave", "remove") or place == "theirs")
    reason = None if lies or not wanted else EDITED if place == "edited" else gone
    return source, wanted, action, PHASES.get(action), row, target, action not in PHASES, lies, reason


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogatepass")


def _path(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")


def _picture_row(p: GroupedPicture) -> tuple[Any, ...]:
    measured = (p.width, p.height, p.brightness, p.sharpness)
    known = (None if p.kept == p.row else p.kept, p.junk_score, p.suspect, p.flags, p.x, p.y)
    return _key(p.source), p.row, p.size, p.mtime_ns, p.digest, p.cluster, p.distance, *measured, *known


def _table_row(row: tuple[Any, ...]) -> Row:
    name, source, *numbers, digest, group, kept, junk_score, flags, x, y = row
    is_kept = None if kept is None else bool(kept)
    return (name, _path(source), *numbers, digest.hex(), group, is_kept, junk_score, flags, x, y)


def _row(record: Record) -> tuple[Any, ...]:
    paths = (_key(record.source), _key(record.name), _key(record.file))
    return (*paths, bytes.fromhex(record.digest), record.mode, record.size, record.mtime_ns, record.state)


def _record(row: tuple[Any, ...]) -> Record:
    source, name, file, digest, mode, size, mtime_ns, state = row
    return Record(_path(source), _path(name), _path(file), digest.hex(), mode, size, mtime_ns, state)
