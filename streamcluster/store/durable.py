"""Making sure that what was written is on the disk before anything points to it.

zarr writes each chunk and each metadata file to a temporary name and renames it, but does not flush; after a power cut
a renamed file may be empty.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from streamcluster.errors import StoreWriteError, StreamclusterError
from streamcluster.runtime.paths import printable, system_path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def flush_files(paths: Iterable[str], top: str) -> None:
    """Wait until these files, and all folders from them up to `top`, are on the disk.

    A path without a file is skipped, since zarr stores no chunk that holds only the fill value; that it is not there is
    flushed with its folder.
    """
    folders = {top}
    for path in paths:
        flush(path)
        folder = os.path.dirname(path)
        while folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)
    if sys.platform != "win32":
        for folder in sorted(folders, reverse=True):
            flush(folder)


def write_file(path: str, data: bytes | memoryview) -> None:
    """Write a file that is there whole or not at all, as zarr does, and flush it; its name still has to be flushed."""
    partial = path + ".partial"
    with open(system_path(partial), "wb") as file:
        file.write(data)
    os.replace(system_path(partial), system_path(path))
    flush(path)


def files_below(folder: str) -> list[str]:
    """Return the paths of all files below a folder."""
    return [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]


def flush(path: str) -> None:
    """Wait until what is in this file is on the disk; a folder's content is its names."""
    try:
        descriptor = os.open(system_path(path), os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial_files(root: str) -> None:
    """Remove what a killed zarr write left behind."""
    for path in files_below(root):
        if path.endswith(".partial"):
            os.remove(system_path(path))


@contextmanager
def writing_to(root: str) -> Iterator[None]:
    """Turn a refused write into an error that names the store and the way out."""
    try:
        yield
    except StreamclusterError:
        raise
    except OSError as error:
        way_out = "free some space" if error.errno in _FULL else "see to the disk"
        raise StoreWriteError(
            f"{printable(root)}: cannot write ({error.strerror or error}); what was committed before stands, "
            f"{way_out} and run the same command again"
        ) from error
