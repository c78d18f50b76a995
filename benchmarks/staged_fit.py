"""A fit in a fresh process, as the command line does it, with the seconds of its stages.

`python -m benchmarks.staged_fit STORE [SETTING=VALUE ...]`
"""

from __future__ import annotations

import json
import sys
import time

import msgspec

from streamcluster import FitSettings, fit
from streamcluster.runtime.memory import settle_allocator
from streamcluster.runtime.progress import Progress


class Clock(Progress):
    """Notes when the stages of a job begin and end."""

    def __init__(self) -> None:
        super().__init__()
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self._open: list[str] = []

    def begin(self, name: str, total: int | None, unit: str) -> None:  # noqa: ARG002
        """Note the time."""
        self._open.append(name)
        self.began[name] = time.perf_counter()

    def end(self) -> None:
        """Note the time."""
        self.ended[self._open.pop()] = time.perf_counter()


def main(store: str, *settings: str) -> None:
    """Fit, and print the report with `stages`, `tree` (micro-clusters and their tree) and `kmeans` (all from there)."""
    settle_allocator()
    clock = Clock()
    given = dict(setting.split("=") for setting in settings)
    report = fit(FitSettings.from_mapping({"store": store, **given}), progress=clock)
    stages = {name: clock.ended[name] - began for name, began in clock.began.items()}
    began = clock.began
    kmeans = began.get("mini-batch k-means", began["Lloyd passes"])
    told = {"stages": stages, "tree": kmeans - began["micro-clusters"], "kmeans": began["labels"] - kmeans}
    print(json.dumps(msgspec.to_builtins(report) | told))


if __name__ == "__main__":
    main(*sys.argv[1:])
