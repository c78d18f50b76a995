"""What a job tells about itself while it runs, and how it is asked to stop.

A job reports to a `Progress`; what becomes of it (a bar, a line, nothing) is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import TypeVar

from streamcluster.errors import Interrupted

ItemT = TypeVar("ItemT")


class Progress:
    """The silent reporter, and the base of those that show something.

    Subclasses override `begin`, `advance` and `end`.
    """

    def __init__(self) -> None:
        self.stop_signal: int | None = None

    @property
    def stop_requested(self) -> bool:
        """True once somebody asked the job to stop at its next commit."""
        return self.stop_signal is not None

    def stop_if_asked(self) -> None:
        """Raise Interrupted if somebody asked the job to stop: for where nothing is half done."""
        if self.stop_signal is not None:
            raise Interrupted(self.stop_signal)

    def advance_or_stop(self, count: int) -> None:
        """Count, and raise Interrupted if somebody asked the job to stop."""
        self.advance(count)
        self.stop_if_asked()

    def until_stopped(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """Yield `items`, and raise Interrupted before the next one once the job is asked to stop."""
        for item in items:
            self.stop_if_asked()
            yield item

    def before_stop(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """Yield `items` until the job is asked to stop: what was begun is then finished."""
        return takewhile(lambda _: not self.stop_requested, items)

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str = "pictures") -> Iterator[None]:
        """Bracket one stage of a job; `advance` inside it counts towards `total`."""
        self.begin(name, total, unit)
        try:
            yield
        finally:
            self.end()

    def begin(self, name: str, total: int | None, unit: str) -> None:
        """Note that a stage starts."""

    def advance(self, count: int) -> None:
        """Note that `count` more units are done; in any thread."""

    def end(self) -> None:
        """Note that the stage ended, whole or not."""
