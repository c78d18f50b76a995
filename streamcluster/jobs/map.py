"""Where each picture lies on a map of all: made when somebody wants to see it, kept while nothing is new."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import JobSettings
from streamcluster.learn import map as pictures_map
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.digests import digest_of, key_of
from streamcluster.runtime.execution import Executor, using
from streamcluster.runtime.memory import room_bytes
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import Collection, CollectionWriter
from streamcluster.store.findings import Findings
from streamcluster.store.fits import Fit
from streamcluster.store.table import COLUMN_ROWS

#: Bytes of memory a row: which are live, and places.
ROW_BYTES = 24


def bring_map_up_to_date(
    collection: CollectionWriter,
    fit: Fit,
    settings: JobSettings,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Return where the live pictures that a fit grouped lie on a map; make it if the one in the store is another's.

    The finding "map" has x and y, float32 (N,), NaN where a row has no place, and the attributes `fit`, whose scores it
    shows, `key` and `version`. A recut has the scores of the fit before, so that its map is the same.

    Parameters
    ----------
    collection : CollectionWriter
    fit : Fit
    settings : JobSettings
        Memory and workers of the job that asks.
    executor : Executor, optional
    progress : Progress, optional

    Raises
    ------
    MissingExtraError
        openTSNE is not installed, and the map is to be made.
    BudgetError
        It does not fit the memory budget.
    StoreError
        The disk refuses writes.
    Interrupted
        `progress` was asked to stop; the map before stays.
    """
    progress = progress or Progress()
    shown = fit.labels_of(collection.live_rows()) >= 0
    key = _key(collection, fit, shown)
    found = collection.findings("map")
    if found is not None and found.attributes.get("key") == key:
        return found
    pictures_map.check_extra()
    sample_rows = _sample(shown, collection.pointer.seed)
    workers = _count_workers(settings, fit, len(shown), len(sample_rows))
    with progress.stage("map", pictures_map.EARLY_ITERATIONS + pictures_map.LATE_ITERATIONS, "iterations"):
        sample = fit.scores_of(sample_rows)
        laid = pictures_map.lay_out(sample, collection.pointer.seed, progress.advance_or_stop)
    places = np.full((len(shown), 2), np.nan, np.float32)
    rest = shown.copy()
    rest[sample_rows] = False
    with using(executor, workers) as running, progress.stage("places", int(rest.sum())):
        tiles = [tile for tile in tile_rows(len(shown), COLUMN_ROWS) if rest[tile].any()]
        place = partial(_place, fit, rest, sample, laid)
        for tile, placed in zip(tiles, running.map(place, tiles, running.in_flight(workers)), strict=True):
            places[tile][rest[tile]] = placed
            progress.advance_or_stop(len(placed))
    places[sample_rows] = laid
    arrays = {"x": np.ascontiguousarray(places[:, 0]), "y": np.ascontiguousarray(places[:, 1])}
    collection.publish_findings("map", arrays, {"key": key, "fit": fit.name, "version": pictures_map.VERSION})
    made = collection.findings("map")
    assert made is not None
    return made


def _key(collection: Collection, fit: Fit, shown: NDArray[np.bool_]) -> str:
    """Return what stands for the scores that are shown: the space they lie in, and the rows."""
    space = [fit.array(name) for name in ("feature_scale", "mean", "explained_variance", "components")]
    digest = digest_of(b"".join(array.tobytes() for array in space)).hex()
    recipe = fit.attributes["recipe"]
    described = f"{pictures_map.VERSION} {collection.pointer.seed} {recipe['scores']} {digest} {len(shown)} "
    return key_of(described, shown)


def _sample(shown: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    rows = np.flatnonzero(shown)
    if len(rows) <= pictures_map.SAMPLE_ROWS:
        return rows
    return np.sort(np.random.default_rng([seed, 5]).choice(rows, pictures_map.SAMPLE_ROWS, replace=False))


def _count_workers(settings: JobSettings, fit: Fit, n_rows: int, n_sample: int) -> int:
    """Return how many tasks the budget has memory for at a time, or raise BudgetError if not even for one."""
    n_components = len(fit.array("explained_variance"))

    def taken(n_tasks: int) -> int:
        rows = min(COLUMN_ROWS, n_rows)
        return ROW_BYTES * n_rows + pictures_map.map_bytes(n_sample, n_components, n_tasks + 1, rows)

    room = room_bytes(settings.memory, taken(1), f"a map of {n_rows:,} rows")
    return next((n for n in range(settings.workers, 1, -1) if taken(n) <= room), 1)


def _place(
    fit: Fit, wanted: NDArray[np.bool_], sample: NDArray[np.float32], laid: NDArray[np.float32], tile: slice
) -> NDArray[np.float32]:
    scores = fit.array("scores", tile)
    return pictures_map.place_rows(scores[wanted[tile][: len(scores)]], sample, laid)
