"""What is new, changed, gone or moved in a person's folders since the store last looked.

The listing and the store's catalogue meet in a scratch SQLite database that lives on disk and vanishes with the
connection, so that a folder of ten million files takes no more memory than one of ten. Nothing here opens a picture:
where a digest must tell, the caller reads it and says what it found (`Scan.settle`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import NamedTuple

from msgspec import Struct

from streamcluster.errors import NoPicturesError, SourceError, SourceNotFoundError, SourceVanishedError
from streamcluster.runtime.paths import printable, system_path
from streamcluster.runtime.scratch import ScratchDatabase, sorted_runs
from streamcluster.runtime.words import count

#: Files between two reports of progress.
ADVANCE_FILES = 100
#: What the scratch database keeps in memory.
CACHE_BYTES = 2 << 20
#: A folder that holds this one is an export of ours: its pictures are copies, not sources.
EXPORT_MARKER = ".streamcluster"


#: What `os.fsencode` does, without its call for each of a million files.
_FILE_NAMES = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
#: A `FoundEntry` for the digest of a scan; no path has a zero byte.
_ENTRY = b"%b\0%d %d %d\0"


class FoundFile(Struct, frozen=True, gc=False):
    """A file to decode, as it was when it was found.

    `row` and `reject_row` are what the store already has at this path, if anything; `retry` says that the file is as it
    was when a limit refused it.
    """

    path: str
    size: int
    mtime_ns: int
    row: int | None
    reject_row: int | None
    retry: bool


class KnownPicture(NamedTuple):
    """A row of the catalogue that may still be somewhere: `live` is False for one that was gone last time."""

    path: str
    row: int
    size: int
    mtime_ns: int
    digest: bytes
    live: bool


class KnownReject(NamedTuple):
    """A row of the rejects. `oversize` ones are tried again, since a limit may have been raised."""

    path: str
    row: int
    size: int
    mtime_ns: int
    oversize: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """A known row whose picture was recognised in a file that is elsewhere, or has another time."""

    row: int
    path: str
    mtime_ns: int


@dataclass(slots=True)
class Listing:
    """What the walk over the sources met besides pictures; `unreadable` maps paths to the reason."""

    ignored: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


class Patterns:
    """Include and exclude globs, matched without regard to case against a name, or with a `/` against a whole path.

    A path is relative to its source, and `*` matches `/` too. A `/` at the end of a glob means nothing.
    """

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self.include, self.exclude = tuple(include), tuple(exclude)
        self._includes, self._excludes = _matcher(self.include), _matcher(self.exclude)

    def takes_file(self, prefix: str, name: str) -> bool:
        """Whether the file of this name, in the folder at `prefix` in its source, is a candidate."""
        return self._includes(prefix, name) and not self._excludes(prefix, name)

    def enters(self, prefix: str, name: str) -> bool:
        """Whether this folder or file is not excluded."""
        return not self._excludes(prefix, name)

    def takes_path(self, path: str) -> bool:
        """Whether a walk would come to the file at this path in its source, with forward slashes, and take it."""
        *folders, name = path.split("/")
        *prefixes, prefix = accumulate((f"{folder}/" for folder in folders), initial="")
        return all(map(self.enters, prefixes, folders)) and self.takes_file(prefix, name)


def _matcher(globs: Iterable[str]) -> Callable[[str, str], bool]:
    """Return what tells whether a prefix and a name match one of the globs; most globs are endings, such as `*.jpg`."""
    lowered = {glob.lower().rstrip("/") for glob in globs}
    endings = {glob[1:] for glob in lowered if _ENDING.fullmatch(glob)}
    paths = {glob for glob in lowered if "/" in glob}
    names = lowered - paths - {f"*{ending}" for ending in endings}
    ends, name_matches, path_matches = tuple(endings), _any_of(names), _any_of(paths)

    def matches(prefix: str, name: str) -> bool:
        name = name.lower()
        if name.endswith(ends) or (name_matches is not None and name_matches(name)):
            return True
        return path_matches is not None and path_matches(prefix.lower() + name) is not None

    return matches


_ENDING = re.compile(r"\*[^*?\[/]+")


def _any_of(globs: set[str]) -> Callable[[str], re.Match[str] | None] | None:
    return re.compile("|".join(map(fnmatch.translate, sorted(globs)))).match if globs else None


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to enter: its path, and its path in its source, empty or with a `/` at the end.

    `start` is where the path in the source begins in the encoded paths of its files.
    """

    path: str
    prefix: str
    start: int

    @staticmethod
    def root(source: str) -> _Folder:
        """Return a source as a folder to enter."""
        return _Folder(source, "", len(os.fsencode(os.path.join(source, ""))))

    def child(self, path: str, name: str) -> _Folder:
        """Return a folder in this one."""
        return _Folder(path, f"{self.prefix}{name}/", self.start)


class FoundEntry(NamedTuple):
    """A candidate file; its path in its source begins at the byte `start` of its encoded path."""

    path: bytes
    size: int
    mtime_ns: int
    start: int


def walk(
    sources: Iterable[str], patterns: Patterns, keep_out: str, listing: Listing, on_folder: Callable[[], object]
) -> Iterator[FoundEntry]:
    """Yield each candidate file below the sources, once; `on_folder` is called before each folder.

    Hidden names, exports of ours and the folder `keep_out` are left out. Links to folders are followed after all
    real folders, and no folder is entered twice, so that loops end and a picture keeps its own path rather than a
    link's. A link to a folder that holds a source is a loop too, and is left out. What cannot be listed is noted in
    `listing`: what is below counts as neither there nor gone.

    Raises
    ------
    SourceError
        A source cannot be listed.
    """
    entered: set[tuple[int, int]] = set()
    with suppress(OSError):
        entered.add(_identity(keep_out))
    roots = [_Folder.root(source) for source in sources]
    above = _identities_above(roots)
    folders, linked = roots[::-1], list[_Folder]()
    while folders or linked:
        if not folders:
            entered |= above
        on_folder()
        folder = folders.pop() if folders else linked.pop(0)
        try:
            if not _is_new(folder, roots, entered):
                continue
            below: list[tuple[bool, _Folder]] = []
            yield from _list_folder(folder, patterns, listing, below)
        except OSError as error:
            if folder in roots:
                raise SourceError(
                    f"{printable(folder.path)}: cannot list this folder ({error.strerror}); nothing was changed"
                ) from None
            listing.unreadable[folder.path] = _why_unreadable(error)
            continue
        below.sort(key=lambda entry: entry[1].path)
        folders += [child for is_link, child in below[::-1] if not is_link]
        linked += [child for is_link, child in below if is_link]


def _is_new(folder: _Folder, roots: list[_Folder], entered: set[tuple[int, int]]) -> bool:
    """Note that this folder is entered, unless it was before, or is an export that nobody named as a source."""
    identity = _identity(folder.path)
    if identity in entered:
        return False
    if folder not in roots and os.path.lexists(system_path(os.path.join(folder.path, EXPORT_MARKER))):
        return False
    entered.add(identity)
    return True


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(system_path(folder))
    return status.st_dev, status.st_ino


def _identities_above(roots: list[_Folder]) -> set[tuple[int, int]]:
    """Return the folders that hold a source. Where a walk has entered all real folders, only a link leads there."""
    identities = set()
    for root in roots:
        folder = os.path.realpath(root.path)
        while folder != (folder := os.path.dirname(folder)):
            with suppress(OSError):
                identities.add(_identity(folder))
    return identities


def _list_folder(
    folder: _Folder,
    patterns: Patterns,
    listing: Listing,
    below: list[tuple[bool, _Folder]],
) -> Iterator[FoundEntry]:
    """Yield the candidate files of one folder as the system lists them, and add its folders to `below`."""
    inside = os.path.join(folder.path, "")
    with os.scandir(system_path(folder.path)) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            path = inside + name
            try:
                if entry.is_dir():
                    if patterns.enters(folder.prefix, name):
                        below.append((entry.is_symlink(), folder.child(path, name)))
                elif (status := _candidate_status(entry, folder.prefix, patterns)) is None:
                    listing.ignored += 1
                else:
                    yield FoundEntry(path.encode(*_FILE_NAMES), status.st_size, status.st_mtime_ns, folder.start)
            except OSError as error:
                if entry.is_symlink() and isinstance(error, FileNotFoundError):
                    listing.unreadable[path] = "a link to nowhere"
                elif not isinstance(error, FileNotFoundError):
                    listing.unreadable[path] = _why_unreadable(error)


def _why_unreadable(error: OSError) -> str:
    return f"cannot be listed ({error.strerror or error})"


def _candidate_status(entry: os.DirEntry[str], prefix: str, patterns: Patterns) -> os.stat_result | None:
    """Return the status of a regular file that the patterns take, None for another.

    A link to nowhere raises, whatever its ending: it may stand for a folder on a disk that is not mounted.
    """
    wanted = patterns.takes_file(prefix, entry.name)
    if not wanted and not (entry.is_symlink() and patterns.enters(prefix, entry.name)):
        return None
    status = entry.stat()
    return status if wanted and stat.S_ISREG(status.st_mode) else None


def _told(files: Iterator[FoundEntry], advance: Callable[[int], None]) -> Iterator[FoundEntry]:
    """Yield the files, and tell `advance` how many more there were, now and then."""
    while part := list(islice(files, ADVANCE_FILES)):
        advance(len(part))
        yield from part


_TABLES = """
    CREATE TABLE found (path BLOB PRIMARY KEY, size INT, mtime_ns INT, start INT) WITHOUT ROWID;
    CREATE TABLE known (path BLOB PRIMARY KEY, id INT, size INT, mtime_ns INT, digest BLOB, live INT) WITHOUT ROWID;
    CREATE TABLE refused (path BLOB PRIMARY KEY, id INT, size INT, mtime_ns INT, oversize INT) WITHOUT ROWID;
    CREATE TABLE missing (id INTEGER PRIMARY KEY, path BLOB, size INT, digest BLOB, live INT, unwanted INT);
    CREATE TABLE settled (path BLOB PRIMARY KEY, id INT) WITHOUT ROWID;
"""
_INDEXES = """
    CREATE INDEX missing_digest ON missing (digest);
    CREATE INDEX missing_size ON missing (size);
"""

_SAME_PICTURE = "known.size = found.size AND known.mtime_ns = found.mtime_ns"
_SAME_REJECT = "refused.size = found.size AND refused.mtime_ns = found.mtime_ns"
_MISSING = """
    INSERT INTO missing SELECT id, path, size, digest, live, NOT is_wanted(path) FROM known
    WHERE path NOT IN (SELECT path FROM found) AND was_looked_at(path)
"""
_TOUCHED = """
    SELECT found.path, known.id, known.digest FROM known JOIN found USING (path)
    WHERE found.size = known.size AND found.mtime_ns != known.mtime_ns ORDER BY known.id
"""
_TO_DECODE = f"""
    FROM found LEFT JOIN known USING (path) LEFT JOIN refused USING (path)
    WHERE found.path NOT IN (SELECT path FROM settled)
    AND (known.id IS NULL OR NOT ({_SAME_PICTURE}))
    AND (refused.id IS NULL OR refused.oversize OR NOT ({_SAME_REJECT}))
"""
_IN_ORDER = " ORDER BY order_key(found.path, found.start), found.path"
_STRANGERS = f"SELECT found.path {_TO_DECODE} AND found.size IN (SELECT size FROM missing) {_IN_ORDER}"


class Scan(ScratchDatabase):
    """One look at the sources, compared with what the store knows of them.

    Parameters
    ----------
    sources : iterable of str
        Absolute paths.
    patterns : Patterns
        Which files are candidates.
    seed : int
        Orders the files to decode: by a keyed hash of their path in their source, so that the order says nothing about
        the folders and an interrupted run goes on in the same order.
    keep_out : str
        A folder not to enter, by whatever path: the store's own.
    dropped : iterable of str
        Absolute paths of folders that are sources no more: what the store knows below them is missing, unless a
        source holds it too.

    Attributes
    ----------
    found : int
        Candidate files.
    digest : str
        SHA-256 of what was looked for and of path, size and time of all candidate files, in hexadecimal digits. Two
        that are equal mean that nothing changed; a system that lists the same folder in another order makes them
        differ.
    """

    def __init__(
        self, sources: Iterable[str], patterns: Patterns, seed: int, keep_out: str, dropped: Iterable[str] = ()
    ) -> None:
        super().__init__(CACHE_BYTES)
        self.sources = tuple(dict.fromkeys(sources))
        self.dropped = tuple(dropped)
        self.listing = Listing()
        self.found = 0
        self.digest = ""
        self._patterns = patterns
        self._keep_out = keep_out
        self._key = seed.to_bytes(8, "little")
        self._db.create_function("was_looked_at", 1, self._was_looked_at)
        self._db.create_function("is_wanted", 1, self._is_wanted)
        self._db.create_function("order_key", 2, self._order_key)
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")

    def list_sources(self, advance: Callable[[int], None], absent: Container[str] = ()) -> None:
        """Walk all sources but those that are known to be `absent`, which then hold nothing.

        `advance` is told how many more files were found, now and then none; what it raises ends the walk.

        Raises
        ------
        SourceError
            A source is not a folder, or cannot be listed.
        """
        present = [source for source in self.sources if source not in absent]
        files = walk(present, self._patterns, self._keep_out, self.listing, lambda: advance(0))
        asked_for = (self.sources, sorted(self._patterns.include), sorted(self._patterns.exclude))
        listed = hashlib.sha256(repr(asked_for).encode(*_FILE_NAMES))
        for run in sorted_runs(_told(files, advance)):
            listed.update(b"".join(map(_ENTRY.__mod__, run)))
            self._db.executemany("INSERT OR IGNORE INTO found VALUES (?, ?, ?, ?)", run)
        (self.found,) = self._one("SELECT count(*) FROM found")
        self.digest = listed.hexdigest()

    def _order_key(self, path: bytes, start: int) -> int:
        hashed = hashlib.blake2b(path[start:], key=self._key, digest_size=8).digest()
        return int.from_bytes(hashed, "little", signed=True)

    def compare(self, pictures: Iterable[KnownPicture], rejects: Iterable[KnownReject]) -> None:
        """Take in what the store knows below these sources and the dropped ones; the last row of a path counts."""
        inside = tuple(os.path.join(source, "") for source in self.sources + self.dropped)
        for run in sorted_runs((k[0].encode(*_FILE_NAMES), *k[1:]) for k in pictures if k[0].startswith(inside)):
            self._db.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?)", run)
        self._db.executemany(
            "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?)",
            ((os.fsencode(known.path), *known[1:]) for known in rejects if known.path.startswith(inside)),
        )
        self._db.execute(_MISSING)
        for index in _INDEXES.split(";"):
            self._db.execute(index)

    def _was_looked_at(self, path: bytes) -> bool:
        """Whether nothing above a path kept the walk from seeing it."""
        if not self.listing.unreadable:
            return True
        above = os.fsdecode(path)
        while above not in self.listing.unreadable:
            if above in self.sources or above == os.path.dirname(above):
                return True
            above = os.path.dirname(above)
        return False

    def _is_wanted(self, path: bytes) -> bool:
        """Whether a source may hold this path and the patterns would take it."""
        known = os.fsdecode(path)
        inside = (os.path.join(source, "") for source in self.sources)
        names = (known[len(above) :].replace(os.sep, "/") for above in inside if known.startswith(above))
        return any(map(self._patterns.takes_path, names))

    def touched(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield (path, row, stored digest) of known pictures whose file has the same size and another time."""
        for path, row, digest in self._db.execute(_TOUCHED):
            yield os.fsdecode(path), row, digest

    def strangers(self) -> Iterator[str]:
        """Yield files that would be decoded but may be missing pictures: a digest tells if one is.

        The order is that of `to_decode`. SQLite sorts before it yields, so `take_missing` may be called meanwhile.
        """
        for (path,) in self._db.execute(_STRANGERS):
            yield os.fsdecode(path)

    def take_missing(self, digest: bytes) -> int | None:
        """Return the first missing row that has this digest, which is missing no longer; None if there is none."""
        row = self._db.execute("SELECT id FROM missing WHERE digest = ? ORDER BY id LIMIT 1", (digest,)).fetchone()
        if row is None:
            return None
        self._db.execute("DELETE FROM missing WHERE id = ?", row)
        return int(row[0])

    def settle(self, path: str, row: int) -> None:
        """Note that this file holds the picture of a known row, so it needs no decoding."""
        self._db.execute("INSERT INTO settled VALUES (?, ?)", (os.fsencode(path), row))

    def settled(self) -> Iterator[Settled]:
        """Yield the rows whose file was recognised, in order."""
        query = "SELECT id, path, mtime_ns FROM settled JOIN found USING (path) ORDER BY id"
        for row, path, mtime_ns in self._db.execute(query):
            yield Settled(row, os.fsdecode(path), mtime_ns)

    def overwritten(self) -> list[int]:
        """Return the rows at whose path another known picture lies now, in order."""
        query = "SELECT known.id FROM known JOIN settled USING (path) WHERE known.id != settled.id ORDER BY known.id"
        return self._rows(query)

    def overwritten_rejects(self) -> list[int]:
        """Return the rows of rejects at whose path a known picture lies now, in order."""
        return self._rows("SELECT refused.id FROM refused JOIN settled USING (path) ORDER BY refused.id")

    def check_vanished(self) -> None:
        """Refuse to believe that most pictures of a source are gone. Those that nobody wants any more do not count.

        Raises
        ------
        SourceNotFoundError
            A source that had pictures last time holds none.
        SourceVanishedError
            More than half of a source's known pictures are missing.
        NoPicturesError
            The patterns take nothing any more.
        """
        for source in self.sources:
            missing = self._count_below(source, "missing WHERE live AND NOT unwanted AND")
            unwanted = self._count_below(source, "missing WHERE live AND unwanted AND")
            known = self._count_below(source, "known WHERE live AND") - unwanted
            if missing and not self._count_below(source, "found WHERE"):
                raise SourceNotFoundError(
                    f"{printable(source)} had {count(missing, 'picture')} last time and none now; is it mounted? "
                    "Nothing was changed. Use --allow-gone if they are really gone"
                )
            if 2 * missing > known:
                raise SourceVanishedError(
                    f"{printable(source)}: {missing:,} of {known:,} known pictures are missing, more than half; "
                    "is a disk unmounted? Nothing was changed. Use --allow-gone if they are really gone"
                )
        if not self.found and (left_out := self.count_left_out()):
            raise NoPicturesError(
                f"no file is asked for any more, and all {left_out:,} known pictures would be left out; nothing was "
                "changed. See to --include and --exclude, or use --allow-gone"
            )

    def _count_below(self, folder: str, table: str) -> int:
        first = os.fsencode(os.path.join(folder, ""))
        last = first[:-1] + bytes([first[-1] + 1])
        return self._one(f"SELECT count(*) FROM {table} path > ? AND path < ?", first, last)[0]

    def check_found(self) -> None:
        """Raise NoPicturesError if the sources hold no candidate at all."""
        if not self.found and not self.listing.unreadable:
            where = ", ".join(map(printable, self.sources))
            raise NoPicturesError(
                f"{where}: no pictures found ({count(self.listing.ignored, 'other file')}); "
                "use --include to name other endings"
            )

    def missing(self) -> list[int]:
        """Return the rows of live pictures whose file is not there, or not wanted, any more, in order."""
        return self._rows("SELECT id FROM missing WHERE live ORDER BY id")

    def count_left_out(self) -> int:
        """Return how many of them no source or no pattern asks for any more, wherever their file is."""
        return self._one("SELECT count(*) FROM missing WHERE live AND unwanted")[0]

    def missing_rejects(self) -> list[int]:
        """Return the rows of rejects whose file is not there any more, in order."""
        return self._rows(
            "SELECT id FROM refused WHERE path NOT IN (SELECT path FROM found) AND was_looked_at(path) ORDER BY id"
        )

    def count_known_rejects(self) -> int:
        """Return how many of the files found are rejects that are not worth another try."""
        query = f"SELECT count(*) FROM refused JOIN found USING (path) WHERE {_SAME_REJECT} AND NOT refused.oversize"
        return self._one(query)[0]

    def back(self) -> list[int]:
        """Return the rows that were gone last time and whose file is there again, unchanged."""
        query = f"SELECT known.id FROM known JOIN found USING (path) WHERE {_SAME_PICTURE} AND NOT known.live"
        return self._rows(query + " ORDER BY known.id")

    def count_to_decode(self) -> int:
        """Return how many files `to_decode` yields."""
        return self._one("SELECT count(*)" + _TO_DECODE)[0]

    def count_retries(self) -> int:
        """Return how many of them are only tried again because a limit may have been raised."""
        return self._one("SELECT count(*)" + _TO_DECODE + f"AND {_SAME_REJECT}")[0]

    def to_decode(self) -> Iterator[FoundFile]:
        """Yield the files that are new or changed, in the order of their key."""
        columns = (
            "SELECT found.path, found.size, found.mtime_ns, known.id, refused.id, "
            f"refused.id IS NOT NULL AND {_SAME_REJECT}"
        )
        for path, size, mtime_ns, row, reject_row, retry in self._db.execute(columns + _TO_DECODE + _IN_ORDER):
            yield FoundFile(os.fsdecode(path), size, mtime_ns, row, reject_row, bool(retry))

    def _rows(self, query: str) -> list[int]:
        return [row for (row,) in self._db.execute(query)]

    def _one(self, query: str, *values: object) -> tuple[int, ...]:
        row: tuple[int, ...] = self._db.execute(query, values).fetchone()
        return row


def check_source(source: str) -> None:
    """Raise a SourceError unless `source` is a folder."""
    shown = printable(source)
    try:
        mode = os.stat(system_path(source)).st_mode
    except FileNotFoundError:
        raise SourceNotFoundError(f"{shown}: no such folder; nothing was changed") from None
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror}; nothing was changed") from None
    if not stat.S_ISDIR(mode):
        folder, name = os.path.split(shown)
        raise SourceError(f"{shown} is a file, not a folder; give its folder, {folder} --include '{name}'")
