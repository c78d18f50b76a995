"""One HTML file that shows what is in a store: groups, duplicates, suspects, rejects, plots and a map.

It opens from disk with no network. Nothing in the store changes, and the file is there whole or not at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from streamcluster.config import ReportSettings
from streamcluster.destination import place
from streamcluster.errors import DestinationError
from streamcluster.runtime.execution import Executor, using
from streamcluster.runtime.memory import MIB, peak_bytes, room_bytes
from streamcluster.runtime.paths import printable, system_path
from streamcluster.runtime.progress import Progress
from streamcluster.show.groups import mean_side
from streamcluster.show.page import HEAD, page
from streamcluster.show.report import Content, collect
from streamcluster.store.collection import Collection, open_collection

#: What a row takes in memory at most, when duplicates are sorted: which rows are live, kept and extra, and how many.
ROW_BYTES: Final = 64
#: What the content of a page takes, and a few hundred thousand rows that are looked through at a time.
PAGE_BYTES: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class PageReport:
    """What `report` wrote: a file of so many `bytes`.

    `shown` of the `pictures` are in it with their thumbnail, and `points` on the map. `duplicates` and `suspects` are
    None where nobody looked for them.
    """

    path: str
    bytes: int
    fit: str
    pictures: int
    groups: int
    shown: int
    points: int
    duplicates: int | None
    suspects: int | None
    rejected: int
    peak_bytes: int | None


def report(
    settings: ReportSettings, *, executor: Executor | None = None, progress: Progress | None = None
) -> PageReport:
    """Write a page that shows what is in a store; needs no lock.

    Parameters
    ----------
    settings : ReportSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them, or fewer where the budget has no memory for so many.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    DestinationError
        Something is at `settings.out` already, or its disk refuses the write.
    FitNotFoundError
        The store has no fit yet, or not the one that was named.
    NoPicturesError
        The store holds no live picture.
    BudgetError
        A number for each row does not fit the memory budget.
    StoreError
        There is no store.
    Interrupted
        `progress` was asked to stop; nothing was written.
    """
    progress = progress or Progress()
    out = os.path.abspath(settings.out)
    check_out(out, force=settings.force)
    collection = open_collection(settings.store, settings.fit)
    live = collection.live_rows()
    collection.check_any(live)
    fit = collection.fit()
    with using(executor, count_workers(settings, collection, len(fit.array("counts")))) as running:
        content = collect(collection, fit, live, settings.per_group, running, progress)
    progress.stop_if_asked()
    title = f"{os.path.basename(printable(collection.root))}: fit {content.data['fit']['name']}"
    with place.writing_to(out):
        place.make_folder(os.path.dirname(out))
        place.write_whole(out, page(title, content.data, content.pictures, content.figures, content.sheets))
        n_bytes = os.path.getsize(system_path(out))
    return _describe(out, n_bytes, content)


def check_out(out: str, *, force: bool) -> None:
    """Refuse to write over what is there, unless it is an older report and that was asked for.

    Raises
    ------
    DestinationError
        A folder, another file, or without `force` an older report is at `out`.
    """
    where = printable(out)
    if os.path.isdir(system_path(out)):
        raise DestinationError(f"{where} is a folder; report takes a file, such as {where}/report.html")
    with place.writing_to(out):
        if not os.path.lexists(system_path(out)):
            return
        with open(system_path(out), "rb") as file:
            ours = file.read(len(HEAD)) == HEAD
    if not ours:
        raise DestinationError(f"{where} is not a report that this command wrote; give another name, or move it away")
    if not force:
        raise DestinationError(f"{where} is there already; use --force to write it anew, or give another name")


def count_workers(settings: ReportSettings, collection: Collection, n_groups: int) -> int:
    """Return how many tasks the budget has memory for at a time.

    Each has a block of thumbnails, twice, and the sums of the groups in it; all add to the sums of all groups.

    Raises
    ------
    BudgetError
        Not even for one.
    """
    n_rows = collection.n_rows
    mean_values = 3 * mean_side(collection.pointer.image_size, n_groups) ** 2
    block_rows = collection.pointer.block_rows
    task = 2 * block_rows * collection.thumbnail_bytes + 4 * mean_values * min(n_groups, block_rows)
    rest = ROW_BYTES * n_rows + PAGE_BYTES + 8 * mean_values * n_groups
    room = room_bytes(settings.memory, rest + 2 * task, f"a report of {n_rows:,} rows")
    return min(settings.workers, (room - rest) // task - 1)


def _describe(path: str, n_bytes: int, content: Content) -> PageReport:
    data = content.data
    return PageReport(
        path=path,
        bytes=n_bytes,
        fit=data["fit"]["name"],
        pictures=data["live"],
        groups=len(data["groups"]),
        shown=len(content.pictures),
        points=len(data["map"]["names"]),
        duplicates=data["duplicates"] and data["duplicates"]["extra"],
        suspects=data["suspects"] and data["suspects"]["total"],
        rejected=data["rejects"]["total"],
        peak_bytes=peak_bytes(),
    )
