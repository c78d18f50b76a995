"""What exports put into a destination, on disk: a manifest, and the journal of the run under way.

Both are lines of JSON in `DEST/.streamcluster`, plain files because a destination may be a network share. The manifest
is rewritten whole. The journal names what is about to happen, before it happens; whatever the moment of a kill, the
manifest, the journal and what lies in the destination tell together what was done.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import BinaryIO, Literal, TypeVar

import msgspec

from streamcluster.destination.place import Stamp, write_whole
from streamcluster.errors import DestinationError
from streamcluster.runtime.paths import decode_path, encode_path, printable, system_path

FOLDER = ".streamcluster"
FORMAT_VERSION = 1
_KIND = "streamcluster export"

LineT = TypeVar("LineT")

Mode = Literal["copy", "hardlink", "symlink"]
#: As an export left it; in a person's hands; deleted by a person.
State = Literal["put", "theirs", "gone"]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One picture that an export put: its source, the name it keeps, and the file as it was when last seen.

    `file` is relative to the destination, with forward slashes. `size` and `mtime_ns` are of that file (of the link
    itself where it is a symbolic one). In memory paths are paths; in the file they are `encode_path`'s.
    """

    source: str
    name: str
    file: str
    digest: str
    mode: Mode
    size: int
    mtime_ns: int
    state: State = "put"

    @property
    def stamp(self) -> Stamp:
        """What the file's metadata were."""
        return Stamp("link" if self.mode == "symlink" else "file", self.size, self.mtime_ns)


class Header(msgspec.Struct, frozen=True):
    """The manifest's first line: that this destination is ours, and what besides pictures exports made here.

    `run` counts manifests; a journal belongs to the one it names. `table` and `left_out` are the tables of the
    pictures that lie here, and of those that were left out.
    """

    kind: str = _KIND
    format: int = FORMAT_VERSION
    run: int = 0
    records: int = 0
    made_dest: bool = False
    folders: tuple[str, ...] = ()
    table: Stamp | None = None
    left_out: Stamp | None = None


class Started(msgspec.Struct, frozen=True, tag="run"):
    """The manifest that this journal goes on from."""

    run: int


class MakesFolder(msgspec.Struct, frozen=True, tag="folder"):
    """A group's folder is about to be made."""

    folder: str


class WritesTable(msgspec.Struct, frozen=True, tag="table"):
    """The table of pictures is about to be replaced by this one."""

    stamp: Stamp


class Intent(msgspec.Struct, frozen=True, tag="intent", omit_defaults=True):
    """A picture's file is about to change.

    `record` is what will be true (None: nothing is there). If `temporary` is given, that file is first renamed to
    `moved_from`, or to the record's file if nothing is moved; then `moved_from` is renamed to the record's file.
    """

    source: str
    record: Record | None
    temporary: str | None = None
    moved_from: str | None = None


class Void(msgspec.Struct, frozen=True, tag="void"):
    """The last intent about this source did not come true; `record` is what holds."""

    source: str
    record: Record | None


class Done(msgspec.Struct, frozen=True, tag="done"):
    """All intents before this line came true, except void ones."""


Entry = Started | MakesFolder | WritesTable | Intent | Void | Done


def settle(intent: Intent, before: Record | None, temporary_there: bool, old: Stamp | None) -> Record | None:
    """Return what is true after a kill at any moment from the writing of `intent` on.

    Parameters
    ----------
    before : Record or None
        What was true when it was written.
    temporary_there : bool
        Whether the temporary file is still there, so that nothing has happened yet.
    old : Stamp or None
        What lies at the place that the file was to leave.
    """
    if intent.record is None:
        return before if before is not None and old == before.stamp else None
    if temporary_there and intent.temporary is not None:
        return before
    if intent.moved_from is not None and old == intent.record.stamp:
        return msgspec.structs.replace(intent.record, file=intent.moved_from)
    return intent.record


_HEADER = msgspec.json.Decoder(Header)
_RECORD = msgspec.json.Decoder(Record)
_ENTRY: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def _with_paths(record: Record, convert: Callable[[str], str]) -> Record:
    """Return `record` with its paths converted: as they are in memory, or as they are in the file."""
    return msgspec.structs.replace(
        record, source=convert(record.source), name=convert(record.name), file=convert(record.file)
    )


def manifest_path(dest: str) -> str:
    """Return the path of a destination's manifest."""
    return os.path.join(dest, FOLDER, "manifest.jsonl")


def journal_path(dest: str) -> str:
    """Return the path of a destination's journal."""
    return os.path.join(dest, FOLDER, "journal.jsonl")


def write_manifest(dest: str, header: Header, records: Iterable[Record]) -> None:
    """Replace the manifest, whole or not at all."""
    lines = (msgspec.json.encode(_with_paths(record, encode_path)) + b"\n" for record in records)
    write_whole(manifest_path(dest), chain([msgspec.json.encode(header) + b"\n"], lines))


def read_header(dest: str) -> Header | None:
    """Return the manifest's first line, None if there is no manifest.

    Raises
    ------
    DestinationError
        It is not ours, damaged, of a newer format, or cannot be read.
    """
    try:
        with _reading(manifest_path(dest)) as file:
            line = file.readline()
    except FileNotFoundError:
        return None
    header = _decode(_HEADER, line, manifest_path(dest))
    if header.kind != _KIND or header.format > FORMAT_VERSION:
        raise DestinationError(
            f"{printable(manifest_path(dest))} is of format {header.format}, this version reads up to "
            f"{FORMAT_VERSION}; use a newer streamcluster, or another DEST"
        )
    return header


def read_records(dest: str) -> Iterator[Record]:
    """Yield what the manifest holds.

    Raises
    ------
    DestinationError
        The manifest is damaged or cannot be read.
    """
    path = manifest_path(dest)
    with _reading(path) as file:
        expected = _decode(_HEADER, file.readline(), path).records
        for line in file:
            yield _with_paths(_decode(_RECORD, line, path), decode_path)
            expected -= 1
    if expected:
        raise _damaged(path)


def read_journal(dest: str, run: int) -> Iterator[Entry]:
    """Yield what a killed run wrote about what it was going to do, if it went on from manifest number `run`.

    A line that was cut off by the kill is left out: what it announced was not begun.

    Raises
    ------
    DestinationError
        The journal is damaged or cannot be read.
    """
    path = journal_path(dest)
    with suppress(FileNotFoundError), _reading(path) as file:
        lines = (line for line in file if line.endswith(b"\n"))
        first = next(lines, None)
        if first is None or _decode(_ENTRY, first, path) != Started(run):
            return
        for line in lines:
            yield _mapped(_decode(_ENTRY, line, path), decode_path)


@contextmanager
def _reading(path: str) -> Iterator[BinaryIO]:
    try:
        with open(system_path(path), "rb") as file:
            yield file
    except (FileNotFoundError, DestinationError):
        raise
    except OSError as error:
        raise DestinationError(
            f"{printable(path)}: cannot read ({error.strerror or error}); nothing was changed. Make it readable and "
            "run the same command again"
        ) from error


def _mapped(entry: Entry, convert: Callable[[str], str]) -> Entry:
    """Return `entry` with its paths converted."""
    if isinstance(entry, Intent | Void):
        record = None if entry.record is None else _with_paths(entry.record, convert)
        entry = msgspec.structs.replace(entry, source=convert(entry.source), record=record)
    if isinstance(entry, Intent):
        temporary, moved_from = (path and convert(path) for path in (entry.temporary, entry.moved_from))
        entry = msgspec.structs.replace(entry, temporary=temporary, moved_from=moved_from)
    return entry


class Journal:
    """The journal of the run under way; use it in a `with` block.

    Parameters
    ----------
    run : int
        The number of the manifest that was just written; a journal of an older one is replaced.
    """

    def __init__(self, dest: str, run: int) -> None:
        self._file = open(system_path(journal_path(dest)), "wb", buffering=io.DEFAULT_BUFFER_SIZE)  # noqa: SIM115
        try:
            self.write([Started(run)])
        except BaseException:
            self._file.close()
            raise

    def write(self, entries: Iterable[Entry]) -> None:
        """Append these, and wait until they are on the disk."""
        self._file.writelines(msgspec.json.encode(_mapped(entry, encode_path)) + b"\n" for entry in entries)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def remove_journal(dest: str) -> None:
    """Remove the journal, after a manifest that holds all that it told."""
    try:
        os.remove(system_path(journal_path(dest)))
    except FileNotFoundError:
        return


def _decode(decoder: msgspec.json.Decoder[LineT], line: bytes, path: str) -> LineT:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _damaged(path) from None


def _damaged(path: str) -> DestinationError:
    return DestinationError(
        f"{printable(path)} is damaged, so that what exports put there cannot be told from a person's files; "
        "nothing was changed. Put the file back from a backup, or export to another DEST"
    )
