"""Which pictures of a store are there twice, and which of each group is the best.

The result is in the store, so that an export can leave out all but the best: `kept` names the best row of each row's
group. It counts once the store's pointer names it. While the live pictures are the same nothing is looked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import DuplicatesSettings
from streamcluster.curate.duplicates import ROW_BYTES, TASK_BYTES, Pictures, find_duplicates
from streamcluster.curate.groups import Standing
from streamcluster.runtime.digests import key_of
from streamcluster.runtime.execution import Executor, one_blas_thread, using
from streamcluster.runtime.memory import peak_bytes, room_bytes
from streamcluster.runtime.paths import decode_path
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import Collection, CollectionWriter, open_for_writing
from streamcluster.store.findings import Findings

#: Number of the way in which near-duplicates are found; another one looks again.
VERSION: Final = 3
#: Groups that are listed, and others of each.
LISTED_GROUPS, LISTED_OTHERS = 10, 10


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """A group: the best picture's path, and others' with how much they differ from it, 10 at most of `size - 1`.

    Above the threshold are pictures that others of the group link to it: crops of two sides are each near the whole.
    """

    kept: str
    size: int
    others: dict[str, float]


@dataclass(frozen=True, slots=True)
class DuplicatesReport:
    """What `duplicates` found. `up_to_date` means that nothing was new and nothing was done.

    Of the `pictures`, `duplicates` are in one of the `groups` and not its best; `same_bytes` of these have the bytes of
    it. `largest` describes the largest groups.
    """

    up_to_date: bool
    threshold: float
    pictures: int
    groups: int
    duplicates: int
    same_bytes: int
    largest: list[DuplicateGroup]
    peak_bytes: int | None


def duplicates(
    settings: DuplicatesSettings, *, executor: Executor | None = None, progress: Progress | None = None
) -> DuplicatesReport:
    """Find the near-duplicates among the live pictures of a store, and write them into it.

    Parameters
    ----------
    settings : DuplicatesSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them, or fewer where the budget has no memory for so many.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    NoPicturesError
        The store holds no live picture.
    BudgetError
        The codes of all pictures do not fit the memory budget.
    ScratchError
        The disk for temporary files refused a write.
    StoreError
        There is no store, it is busy, or its disk refuses writes.
    Interrupted
        `progress` was asked to stop; nothing is kept.
    """
    progress = progress or Progress()
    with open_for_writing(settings.store) as collection, one_blas_thread():
        live = collection.live_rows()
        collection.check_any(live)
        key = _key(settings, live)
        found = collection.findings("duplicates")
        if found is not None and found.attributes.get("key") == key:
            return _report(collection, found, live, up_to_date=True)
        with using(executor, count_workers(settings, len(live))) as running:
            new = find_duplicates(
                _pictures_of(collection, live),
                threshold=settings.threshold,
                seed=collection.pointer.seed,
                executor=running,
                progress=progress,
            )
        attributes = {"key": key, "threshold": settings.threshold, "version": VERSION}
        collection.publish_findings("duplicates", {"kept": new.kept, "difference": new.difference}, attributes)
        return _report(collection, collection.findings("duplicates"), live, up_to_date=False)


def count_workers(settings: DuplicatesSettings, n_rows: int) -> int:
    """Return how many tasks the budget has memory for at a time.

    Raises
    ------
    BudgetError
        Not even for one.
    """
    rest = ROW_BYTES * n_rows
    room = room_bytes(settings.memory, rest + 2 * TASK_BYTES, f"looking for duplicates among {n_rows:,} rows")
    return min(settings.workers, (room - rest) // TASK_BYTES - 1)


def _key(settings: DuplicatesSettings, live: NDArray[np.bool_]) -> str:
    return key_of(f"{VERSION} {settings.threshold} {len(live)} ", live)


def _pictures_of(collection: Collection, live: NDArray[np.bool_]) -> Pictures:
    column = collection.catalog.column
    standing = Standing(
        pixels=column("width").astype(np.int64) * column("height"),
        size=column("size"),
        sharpness=column("sharpness"),
        mtime_ns=column("mtime_ns"),
    )
    return Pictures(collection.blocks, collection.thumbnails, live, column("digest"), standing)


def _report(
    collection: CollectionWriter, found: Findings | None, live: NDArray[np.bool_], *, up_to_date: bool
) -> DuplicatesReport:
    assert found is not None
    kept, difference = found.array("kept"), found.array("difference")
    extra = np.flatnonzero(kept != np.arange(len(kept)))
    sizes = np.bincount(kept[extra], minlength=len(kept)) if len(extra) else np.zeros(len(kept), np.int64)
    best = np.flatnonzero(sizes)
    largest = best[np.lexsort((best, -sizes[best]))][:LISTED_GROUPS]
    return DuplicatesReport(
        up_to_date=up_to_date,
        threshold=found.attributes["threshold"],
        pictures=int(live.sum()),
        groups=len(best),
        duplicates=len(extra),
        same_bytes=int(np.count_nonzero(difference[extra] == 0)),
        largest=[_describe_group(collection, int(row), kept, difference) for row in largest],
        peak_bytes=peak_bytes(),
    )


def _describe_group(
    collection: Collection, best: int, kept: NDArray[np.int32], difference: NDArray[np.float32]
) -> DuplicateGroup:
    others = np.flatnonzero(kept == best)
    others = others[others != best]
    listed = others[np.lexsort((others, difference[others]))][:LISTED_OTHERS].tolist()
    paths = _paths(collection, [best, *listed])
    return DuplicateGroup(
        kept=paths[0],
        size=len(others) + 1,
        others={path: round(float(difference[row]), 3) for path, row in zip(paths[1:], listed, strict=True)},
    )


def _paths(collection: Collection, rows: Sequence[int]) -> list[str]:
    return [decode_path(str(path)) for path in collection.catalog.pick("path", rows)]
