"""What lies in a destination, and whether a folder may be one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from streamcluster.destination import manifest
from streamcluster.destination.place import TEMPORARY, Stamp, same_file, stamp_from
from streamcluster.errors import DestinationError
from streamcluster.runtime.paths import printable, system_path

#: The table of pictures, by the name that the ImageFolder convention gives it.
TABLE = "metadata.csv"
#: The table of near-duplicates that are left out. They are no rows of the other one: readers of that convention take
#: each row for a picture of the data set, wherever it lies, and so would have them back.
LEFT_OUT_TABLE = "duplicates.csv"
#: What lies in our own folder before the first manifest, and after the last.
STARTED = ("lock", "lock.holder")


def walk(dest: str) -> Iterator[tuple[str, Stamp]]:
    """Yield everything below `dest` by its relative path with forward slashes, except what is ours at the top.

    Links to folders are yielded and not entered.

    Raises
    ------
    DestinationError
        A folder cannot be listed. To go on would be to take its files for deleted.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(system_path(os.path.join(dest, folder) if folder else dest)) as entries:
                for entry in entries:
                    relative = f"{folder}/{entry.name}" if folder else entry.name
                    if relative in (manifest.FOLDER, TABLE, LEFT_OUT_TABLE):
                        continue
                    stamp = _stamp(entry)
                    if stamp.kind == "folder":
                        folders.append(relative)
                    yield relative, stamp
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DestinationError(
                f"{printable(os.path.join(dest, folder))}: cannot look into this folder ({error.strerror}); "
                "nothing was changed. Make it readable and run the same command again"
            ) from error


def _stamp(entry: os.DirEntry[str]) -> Stamp:
    stamp = stamp_from(entry.stat(follow_symlinks=False))
    if stamp.kind == "file" and entry.name.startswith(TEMPORARY):
        return Stamp("temporary", stamp.size, stamp.mtime_ns)
    if stamp.kind == "link" and entry.name.startswith(TEMPORARY):
        return Stamp("temporary", stamp.size, stamp.mtime_ns)
    return stamp


def check_dest(dest: str, store: str, sources: Iterable[str]) -> None:
    """Refuse a place where an export would get in the way of the store, of the sources or of a person's files.

    Raises
    ------
    DestinationError
        `dest` is a file; lies in or around the store; is a source or lies above one; holds files and is not ours.
    """
    shown = printable(dest)
    if os.path.lexists(system_path(dest)) and not os.path.isdir(system_path(dest)):
        raise DestinationError(f"{shown} is a file, not a folder; give another DEST")
    if is_within(dest, store):
        raise DestinationError(f"{shown} lies in the store {printable(store)}; give a DEST outside it")
    if is_within(store, dest):
        raise DestinationError(f"{shown} holds the store {printable(store)}; give a DEST beside it")
    for source in sources:
        if is_within(source, dest):
            raise overlaps_source(dest, source)
    if os.path.isdir(system_path(dest)) and not is_ours(dest) and not _is_free(dest):
        raise DestinationError(
            f"{shown} is not empty and was not made by an export; give a new or an empty folder as DEST"
        )


def overlaps_source(dest: str, source: str) -> DestinationError:
    """Return the error about a source in the destination."""
    return DestinationError(
        f"{printable(dest)} holds {printable(source)}, a source; give a DEST that is not at or above a source"
    )


def is_ours(dest: str) -> bool:
    """Whether exports put files here; a manifest that is there and not ours is an error."""
    return manifest.read_header(dest) is not None


def check_manifest(dest: str) -> None:
    """Refuse a destination of ours that holds files, and no record of which of them exports put there.

    Raises
    ------
    DestinationError
        The manifest is lost, damaged or of a newer format.
    """
    if not is_ours(dest) and not holds_only_ours(dest):
        raise DestinationError(
            f"{printable(manifest.manifest_path(dest))} is lost, so that what exports put there cannot be told from a "
            "person's files; nothing was changed. Put the file back from a backup, or remove files by hand"
        )


def holds_only_ours(dest: str) -> bool:
    """Whether nothing lies here but our own folder."""
    return all(name == manifest.FOLDER for name in os.listdir(system_path(dest)))


def _is_free(dest: str) -> bool:
    """Whether nothing lies here, or only what an export leaves that was killed before its first manifest."""
    if not holds_only_ours(dest):
        return False
    ours = os.path.join(dest, manifest.FOLDER)
    return not os.path.isdir(system_path(ours)) or all(
        name in STARTED or name.startswith(TEMPORARY) for name in os.listdir(system_path(ours))
    )


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it, by whatever names."""
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    while True:
        if os.path.normcase(path) == os.path.normcase(folder) or same_file(path, folder):
            return True
        parent = os.path.dirname(path)
        if parent == path:
            return False
        path = parent
