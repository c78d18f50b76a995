"""Scratch databases: lists too long for memory. The only door to SQLite."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from types import TracebackType
from typing import Self

from streamcluster.errors import ScratchError
from streamcluster.runtime.paths import printable

_DISK_REFUSED = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


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
            variable = "TMP" if sys.platform == "win32" else "SQLITE_TMPDIR"
            raise ScratchError(
                f"{printable(scratch_folder())}: cannot write a scratch database there ({error}); free some space, or "
                f"set the environment variable {variable} to another folder, and run the same command again"
            ) from error


def scratch_folder() -> str:
    """Return the folder in which SQLite puts its temporary files.

    It does not tell, so this goes through its list: https://www.sqlite.org/tempfiles.html, section 5.
    """
    if sys.platform == "win32":
        return tempfile.gettempdir()
    named = (os.environ.get(variable) for variable in ("SQLITE_TMPDIR", "TMPDIR"))
    folders = [*filter(None, named), "/var/tmp", "/usr/tmp", "/tmp"]
    return next((folder for folder in folders if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)), ".")
