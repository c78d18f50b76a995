"""Scratch files: lists and rows too long for memory. The only door to SQLite."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamcluster.errors import ScratchError
from streamcluster.runtime.paths import printable

RowT = TypeVar("RowT", bound=tuple[Any, ...])

#: Rows that are sorted before they go into a table.
RUN_ROWS = 4096

_DISK_REFUSED = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def sorted_runs(rows: Iterable[RowT]) -> Iterator[list[RowT]]:
    """Yield a few thousand rows at a time in the order of their keys: tables grow a third sooner."""
    rest = iter(rows)
    while run := sorted(islice(rest, RUN_ROWS)):
        yield run


class ScratchDatabase:
    """Base of what works in a SQLite database that lives on disk and vanishes at the end of a `with` block.

    Parameters
    ----------
    cache_bytes : int
        What the database may keep in memory.

    Raises
    ------
    ScratchError
        At the end of the block, if the disk refused what was written inside it.
    """

    def __init__(self, cache_bytes: int) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{cache_bytes // 1024}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in _DISK_REFUSED:
            raise _refused("a scratch database", error) from error


class ScratchRows:
    """Rows of bytes in a file that vanishes at the end of a `with` block; read by any thread.

    It is not mapped into memory: the system would count what was read as the process's.

    Parameters
    ----------
    row_bytes : int

    Raises
    ------
    ScratchError
        The disk refused the file, or what was written.
    """

    def __init__(self, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self._lock = threading.Lock()
        try:
            self._file = tempfile.TemporaryFile(dir=scratch_folder(), buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _refused("a scratch file", error) from error

    def append(self, rows: NDArray[np.uint8]) -> None:
        """Write uint8 (m, row_bytes) after what was written before."""
        rest = np.ascontiguousarray(rows).data.cast("B")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise _refused("a scratch file", error) from error

    def read(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return uint8 (m, row_bytes): these rows, in their order."""
        found = np.empty((len(rows), self.row_bytes), np.uint8)
        with self._lock:
            for target, row in zip(found, rows.tolist(), strict=True):
                self._file.seek(row * self.row_bytes)
                self._file.readinto(target.data)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _refused(what: str, error: Exception) -> ScratchError:
    variable = "TMP" if sys.platform == "win32" else "SQLITE_TMPDIR"
    return ScratchError(
        f"{printable(scratch_folder())}: cannot write {what} there ({error}); free some space, or "
        f"set the environment variable {variable} to another folder, and run the same command again"
    )


def scratch_folder() -> str:
    """Return the folder in which SQLite puts its temporary files.

    It does not tell, so this goes through its list: https://www.sqlite.org/tempfiles.html, section 5.
    """
    if sys.platform == "win32":
        return tempfile.gettempdir()
    named = (os.environ.get(variable) for variable in ("SQLITE_TMPDIR", "TMPDIR"))
    folders = [*filter(None, named), "/var/tmp", "/usr/tmp", "/tmp"]
    return next((folder for folder in folders if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)), ".")
