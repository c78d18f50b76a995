"""The memory budget: what it leaves to work with, who may take it, and what was taken.

A budget is for the whole process, resident. Work that needs more than is left is refused before it starts.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from streamcluster.errors import BudgetError

MIB = 1 << 20

#: Share of a budget that no plan may use: allocators round up, and threads keep arenas.
_RESERVE = 0.1
#: From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: What a process takes with zarr, dask, OpenCV and scikit-learn loaded: 160 to 205 MiB on Linux, by the processor.
_USUAL = 224 * MIB


class MemoryGate:
    """Admits concurrent work while its bytes fit into a fixed room.

    Parameters
    ----------
    capacity_bytes : int
        What all holders together may take.
    small_bytes : int
        Work of up to this size passes without asking: whoever plans the memory sets it aside for each worker.
    """

    def __init__(self, capacity_bytes: int, small_bytes: int = 0) -> None:
        self.capacity_bytes = capacity_bytes
        self._small_bytes = small_bytes
        self._free = capacity_bytes
        self._changed = threading.Condition()

    def __reduce__(self) -> tuple[type[MemoryGate], tuple[int, int]]:
        """Let a copy in another process admit what fits a room of its own, which is as large."""
        return MemoryGate, (self.capacity_bytes, self._small_bytes)

    def hold(self, n_bytes: int) -> AbstractContextManager[None]:
        """Wait until `n_bytes` are free, and hold them inside the `with` block.

        Raises
        ------
        ValueError
            `n_bytes` is more than the whole room, so waiting would never end.
        """
        return nullcontext() if n_bytes <= self._small_bytes else self._hold_large(n_bytes)

    @contextmanager
    def _hold_large(self, n_bytes: int) -> Iterator[None]:
        if n_bytes > self.capacity_bytes:
            raise ValueError(f"{n_bytes} bytes never fit a room of {self.capacity_bytes}")
        with self._changed:
            self._changed.wait_for(lambda: self._free >= n_bytes)
            self._free -= n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._free += n_bytes
                self._changed.notify_all()


def format_bytes(n_bytes: float) -> str:
    """Return a size for people.

    >>> format_bytes(3 * 1024 * 1024)
    '3.0 MiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def settle_allocator() -> None:
    """Tell glibc which freed memory goes back to the system at once: blocks from 2 MiB on, and what is over 32 MiB.

    By default it keeps blocks of up to 32 MiB once it has met one, and the more batches a job goes through the more
    holes stay resident: `fit` of 60,000 pictures peaked at 388 MiB instead of 262. But what goes back has to be mapped
    again: with 1 and 8 MiB `fit` of 50,000 pictures met 2.0 million page faults, with these 0.6 million, and took 24 s
    instead of 30. Threads share two arenas: with one each, `ingest` of 60,000 pictures peaked at 1.14 times what 5,000
    took, with two at 1.07 times. These are settings of the whole process, so only the command line calls this.
    """
    if sys.platform == "linux":
        import ctypes

        with suppress(AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, 2 * MIB)
            libc.mallopt(_M_TRIM_THRESHOLD, 32 * MIB)
            libc.mallopt(_M_ARENA_MAX, 2)


def usual_room_bytes(budget_bytes: int) -> int:
    """Return what a budget leaves beside what a process with all libraries loaded usually takes."""
    return int(budget_bytes * (1 - _RESERVE)) - _USUAL


def left_bytes(budget_bytes: int) -> int:
    """Return what a budget leaves beside what this process already takes; less than 0 if that is too much."""
    return int(budget_bytes * (1 - _RESERVE)) - resident_bytes()


def room_bytes(budget_bytes: int, needed_bytes: int, what: str, other_way_out: str = "") -> int:
    """Return what a budget leaves beside what this process already takes.

    Raises
    ------
    BudgetError
        That is less than `needed_bytes`, which is what `what` takes at least.
    """
    room = left_bytes(budget_bytes)
    if room < needed_bytes:
        taken = resident_bytes()
        # Rounded up: what the process takes varies by some MiB from run to run.
        least = (taken + needed_bytes) / (1 - _RESERVE) // (16 * MIB) * 16 + 32
        raise BudgetError(
            f"{what} needs {format_bytes(needed_bytes)} beside the {format_bytes(taken)} that the process takes, "
            f"the budget is {format_bytes(budget_bytes)}; use --memory {least:.0f}MiB{other_way_out}"
        )
    return room


def resident_bytes() -> int:
    """Return the resident size of this process now; where the system does not tell, the largest it has had."""
    return _linux_status("VmRSS") or peak_bytes() or 128 * MIB


def peak_bytes() -> int | None:
    """Return the largest resident size this process has had, or None where the system does not tell.

    On Linux `getrusage` is no help: it starts from what the process was that started this one.
    """
    if (peak := _linux_status("VmHWM")) is not None or sys.platform == "win32":
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _linux_status(name: str) -> int | None:
    """Return a size from this process's status, None where there is none."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:")), None)
    except OSError:
        return None
