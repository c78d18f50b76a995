"""One writer at a time, and who it is."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from streamcluster.errors import StoreBusyError
from streamcluster.runtime.paths import printable


@contextmanager
def exclusive(path: str, what: str) -> Iterator[None]:
    """Hold the lock file at `path`; the system frees it when the process ends, however it ends.

    A thread that holds it already may take it again, so that a run of several jobs has one lock.

    The lock file stays: removing it would let two writers lock two files of one name. Who holds it is told by a second
    file, since Windows does not let others read a locked one.

    Parameters
    ----------
    path : str
        The lock file.
    what : str
        What it guards, for the message.

    Raises
    ------
    StoreBusyError
        Another process holds it; the message says which.
    """
    holder_path = path + ".holder"
    lock = FileLock(path, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise StoreBusyError(f"{printable(what)} is in use by {_read_holder(holder_path)}; try again later") from None
    try:
        with contextlib.suppress(OSError), open(holder_path, "w", encoding="utf-8") as file:
            file.write(f"process {os.getpid()} of {_user()} on {platform.node()} since {time.strftime('%F %T')}")
        yield
    finally:
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):
                os.remove(holder_path)
        lock.release()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "an unknown user"


def _read_holder(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() or "another process"
    except OSError:
        return "another process"
