"""The second job: thumbnails become groups.

    some blocks ─features─▶ scale of the features
    blocks ─features, scaled─▶ shuffled batches ─partial_fit─▶ components
    blocks ─features, scaled─▶ project, whiten ─▶ scores
    scores ─▶ first centres on a sample ─▶ partial_fit on shuffled batches ─▶ Lloyd passes ─▶ labels, distances

Each stage is written as it ends, so a run that was stopped goes on from the last whole one. The result counts once the
store's pointer names it; until then the fit before it does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from itertools import takewhile
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from streamcluster.config import FitSettings
from streamcluster.errors import Interrupted, NoPicturesError, TooFewPicturesError
from streamcluster.learn.features import SPACES, FeatureSpace, part_energies
from streamcluster.learn.kmeans import (
    LLOYD_GAIN,
    LLOYD_PASSES,
    Centers,
    clustering_bytes,
    first_centers,
    label_rows,
    learn_centers,
    lloyd_pass,
)
from streamcluster.learn.pca import Components, count_components, learn_components, learning_bytes
from streamcluster.learn.scaling import learn_scale
from streamcluster.learn.scores import ScoreKind, shape_scores
from streamcluster.runtime.blocks import first_rows, rebatch, shuffled_batches, tile_rows
from streamcluster.runtime.execution import Executor, one_blas_thread, using
from streamcluster.runtime.memory import MIB, left_bytes, peak_bytes, room_bytes, usual_room_bytes
from streamcluster.runtime.paths import printable
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import BLOCK_BYTES, Collection, CollectionWriter, open_for_writing
from streamcluster.store.fits import FitDraft
from streamcluster.store.table import COLUMN_ROWS

#: Components where neither a number nor a variance is asked for. More than about 100 change nothing for the grouping.
DEFAULT_COMPONENTS = 100
#: Rows that the scale of the features is learned from.
SCALE_ROWS = 8192
#: Rows that are mixed with one another before PCA learns from them, as long as they are small.
SHUFFLE_ROWS = 2048
SHUFFLE_BYTES = 32 * MIB
#: Rows that k-means++ chooses the first centres from, at least; and for each cluster.
SAMPLE_ROWS = 16_384
SAMPLE_ROWS_PER_CLUSTER = 20
#: Rows that PCA and k-means learn from at a time, where the budget allows.
BATCH_ROWS = 1024
#: Rows of scores that are mixed with one another.
SCORE_WINDOW_ROWS = COLUMN_ROWS
#: What BLAS, scikit-learn and dask take when they are first used.
LIBRARY_BYTES = 64 * MIB
#: What grows with the collection: live rows, their numbers, and the labels of the last fit.
ROW_BYTES = 16
#: Times that the mini-batches go through all rows.
MINI_BATCH_PASSES = 3


@dataclass(frozen=True, slots=True)
class FitReport:
    """What `fit` did. `up_to_date` means that nothing was new and nothing was done; the rest describes the fit.

    `sizes` has the number of pictures of each group, largest first.
    """

    fit: str
    up_to_date: bool
    pictures: int
    clusters: int
    components: int
    explained_variance_ratio: float
    inertia: float
    lloyd_passes: int
    sizes: list[int]
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class ScoreSpace:
    """Where pictures are compared: a feature space, float32 (F,) scale, components, and what is made of the scores."""

    features: FeatureSpace
    scale: NDArray[np.float32]
    components: Components
    kind: ScoreKind

    def place(self, thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the float32 (n, d) scores of thumbnails."""
        scores = self.components.project(scaled_features(self.features, self.scale, thumbnails))
        return shape_scores(scores, self.components.explained_variance, self.kind)


@dataclass(frozen=True, slots=True)
class Groups:
    """What k-means found: float64 (k, d) centres and int64 (k,) sizes, largest group first."""

    centers: Centers
    counts: NDArray[np.int64]
    inertia: float
    n_passes: int


def fit(settings: FitSettings, *, executor: Executor | None = None, progress: Progress | None = None) -> FitReport:
    """Group the live pictures of a store by look, as a new fit.

    Parameters
    ----------
    settings : FitSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    NoPicturesError
        The store holds no live picture.
    TooFewPicturesError
        Fewer pictures, or fewer different ones, than clusters or components.
    SettingsError
        A variance that no number of components reaches.
    BudgetError
        A batch does not fit the memory budget.
    StoreError
        There is no store, it is busy, or its disk refuses writes.
    Interrupted
        `progress` was asked to stop; whole stages are kept.
    """
    with (
        open_for_writing(settings.store) as collection,
        using(executor, settings.workers) as running,
        one_blas_thread(),
    ):
        live = collection.live_rows()
        check_counts(settings, collection, int(live.sum()))
        recipe = describe_recipe(settings, collection)
        if is_up_to_date(collection, live, recipe):
            return _report(collection, up_to_date=True)
        learning = Learning(settings, collection, live, running, progress or Progress())
        with collection.writing():
            draft = collection.draft_fit(_draft_key(recipe, live))
            learning.write_scores(draft, learning.find_space(draft))
            groups = learning.find_groups(draft)
            collection.publish_fit(draft, {"recipe": recipe, **learning.write_groups(draft, groups)})
        return _report(collection, up_to_date=False)


def check_counts(settings: FitSettings, collection: Collection, n_live: int) -> None:
    """Refuse what cannot be grouped before any work starts."""
    if n_live == 0:
        raise NoPicturesError(
            f"{printable(collection.root)} holds no pictures; run: streamcluster ingest FOLDER --store ..."
        )
    if n_live == 1:
        raise TooFewPicturesError(f"{printable(collection.root)} holds one picture; there is nothing to group it with")
    if settings.clusters > n_live:
        raise TooFewPicturesError(
            f"--clusters {settings.clusters}: the store holds {n_live:,} pictures; use --clusters {n_live} or fewer"
        )
    most = most_components(settings, collection, n_live)
    if settings.components is not None and settings.components > most:
        raise TooFewPicturesError(
            f"--components {settings.components}: {n_live:,} pictures of "
            f"{count_features(settings, collection):,} {settings.features} features have at most {most}; "
            f"use --components {most} or fewer"
        )


def count_features(settings: FitSettings, collection: Collection) -> int:
    """Return the features of one picture."""
    return SPACES[settings.features].count(collection.pointer.image_size)


def most_components(settings: FitSettings, collection: Collection, n_live: int) -> int:
    """Return how many principal components there can be."""
    return min(n_live, count_features(settings, collection))


def describe_recipe(settings: FitSettings, collection: Collection) -> dict[str, Any]:
    """Return everything that the result depends on, beside the pictures."""
    weight = {"texture_weight": settings.texture_weight} if settings.features == "mixed" else {}
    return {
        "clusters": settings.clusters,
        "components": settings.components,
        "variance": settings.variance,
        "features": settings.features,
        "features_version": SPACES[settings.features].version,
        **weight,
        "scores": settings.scores,
        "batch_rows": settings.batch_rows,
        "seed": collection.pointer.seed,
    }


def is_up_to_date(collection: Collection, live: NDArray[np.bool_], recipe: dict[str, Any]) -> bool:
    """Whether the current fit followed this recipe and labels every live picture."""
    if collection.current_fit is None:
        return False
    current = collection.fit()
    labels = current.labels()
    n_labelled = int((live[: len(labels)] & (labels >= 0)).sum())
    return current.attributes["recipe"] == recipe and n_labelled == int(live.sum())


def _draft_key(recipe: dict[str, Any], live: NDArray[np.bool_]) -> str:
    described = json.dumps([recipe, len(live)], sort_keys=True).encode() + np.packbits(live).tobytes()
    return hashlib.blake2b(described, digest_size=16).hexdigest()


class Learning:
    """The stages of a fit over one state of a collection."""

    def __init__(
        self,
        settings: FitSettings,
        collection: CollectionWriter,
        live: NDArray[np.bool_],
        executor: Executor,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._collection = collection
        self._live = live
        self._executor = executor
        self._progress = progress
        self._n_live = int(live.sum())
        self._seed = collection.pointer.seed
        self._space = SPACES[settings.features]
        self._n_features = count_features(settings, collection)
        most = most_components(settings, collection, self._n_live)
        wanted = most if settings.variance else settings.components or DEFAULT_COMPONENTS
        self._n_components = min(wanted, most)
        self._batch_rows = min(max(settings.batch_rows or self._fitting_rows(), self._n_components), self._n_live)
        room_bytes(
            settings.memory,
            self._planned_bytes(self._batch_rows),
            f"learning from {self._batch_rows:,} pictures at a time",
            self._smaller_batches(),
        )

    def _fitting_rows(self) -> int:
        """Return the default, halved until the plan fits the budget beside what the process usually takes.

        What it takes right now would be nearer, but that varies, and with it the result would.
        """
        room = usual_room_bytes(self._settings.memory)
        halved = (BATCH_ROWS >> n for n in range(BATCH_ROWS.bit_length() - 1))
        return next((n for n in halved if self._planned_bytes(n) <= room), 2)

    def _smaller_batches(self) -> str:
        """Return the option that fits the budget, if there is one."""
        halved = takewhile(lambda n: n >= self._n_components, (self._batch_rows >> n for n in range(1, 16)))
        room = left_bytes(self._settings.memory)
        return next((f" or --batch-rows {n}" for n in halved if self._planned_bytes(n) <= room), "")

    def _planned_bytes(self, batch_rows: int) -> int:
        """Return the most that a stage takes: PCA, with blocks and their features in flight and a window to shuffle."""
        row_bytes = 4 * self._n_features
        temporary = self._space.temporary_bytes(self._collection.pointer.image_size)
        block = 3 * BLOCK_BYTES + 2 * self._collection.pointer.block_rows * row_bytes + temporary
        in_flight = (self._executor.workers + 1) * block
        shuffled = (max(self._shuffle_rows, batch_rows) + batch_rows) * row_bytes
        pca = in_flight + shuffled + learning_bytes(self._n_features, self._n_components, batch_rows)
        return LIBRARY_BYTES + ROW_BYTES * len(self._live) + max(pca, self._clustering_bytes())

    def _clustering_bytes(self) -> int:
        """Return what k-means takes, with a window of scores to shuffle."""
        d, k = self._n_components, self._settings.clusters
        shuffled = 4 * d * 2 * SCORE_WINDOW_ROWS
        return shuffled + clustering_bytes(self._n_sample, COLUMN_ROWS, d, k, self._executor.workers)

    @property
    def _n_sample(self) -> int:
        return min(self._n_live, max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CLUSTER * self._settings.clusters))

    @property
    def _shuffle_rows(self) -> int:
        return min(SHUFFLE_ROWS, SHUFFLE_BYTES // (4 * self._n_features), self._n_live)

    def find_space(self, draft: FitDraft) -> ScoreSpace:
        """Learn where pictures are compared, or read what an interrupted run learned."""
        scale = self._find_scale(draft)
        return ScoreSpace(self._space, scale, self._find_components(draft, scale), self._settings.scores)

    def _find_scale(self, draft: FitDraft) -> NDArray[np.float32]:
        """Learn from a sample of blocks what brings the parts of the features together; a part alone stays as it is."""
        if draft.has("scale"):
            return np.asarray(draft.array("feature_scale")[...])
        side = self._collection.pointer.image_size
        sizes = self._space.part_sizes(side)
        scale = np.ones(self._n_features, np.float32)
        if len(sizes) > 1:
            n_rows = min(SCALE_ROWS, self._n_live)
            with self._progress.stage("scale", n_rows):
                blocks = self._feature_blocks(self._random(3), scale)
                energies = part_energies(self._space, side, self._settings.texture_weight)
                scale = learn_scale(self._watched(first_rows(blocks, n_rows)), sizes, energies)
        draft.write({"feature_scale": scale})
        draft.complete("scale")
        return scale

    def _find_components(self, draft: FitDraft, scale: NDArray[np.float32]) -> Components:
        names = [field.name for field in fields(Components)]
        if draft.has("components"):
            return Components(*(np.asarray(draft.array(name)[...]) for name in names))
        rng = self._random(1)
        with self._progress.stage("components", self._n_live):
            features = self._feature_blocks(rng, scale)
            batches = shuffled_batches(features, self._shuffle_rows, self._batch_rows, rng)
            found = learn_components(self._watched(batches), self._n_components)
        if self._settings.variance is not None:
            found = found.first(count_components(found.explained_variance_ratio, self._settings.variance))
        draft.write({name: getattr(found, name) for name in names})
        draft.complete("components")
        return found

    def _feature_blocks(self, rng: np.random.Generator, scale: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Return the scaled features of live pictures, blocks in a random order."""
        blocks = self._collection.blocks
        visited = (blocks[i] for i in rng.permutation(len(blocks)))
        return self._executor.map(partial(self._live_features, scale), visited, self._executor.workers + 1)

    def _live_features(self, scale: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        thumbnails, live = self._collection.thumbnails(rows), self._live[rows]
        return scaled_features(self._space, scale, thumbnails if live.all() else thumbnails[live])

    def _watched(self, batches: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            self._stop_if_asked()
            yield batch
            self._progress.advance(len(batch))

    def write_scores(self, draft: FitDraft, space: ScoreSpace) -> None:
        """Place every row, live or not, where pictures are compared."""
        if draft.has("scores"):
            return
        target = draft.create_rows("scores", len(self._live), "float32", len(space.components.components))
        place = partial(_place_block, self._collection, space)
        with self._progress.stage("scores", len(self._live)):
            blocks = self._executor.map(place, self._collection.blocks, self._executor.workers + 1)
            tiles = tile_rows(len(self._live), COLUMN_ROWS)
            for rows, scores in zip(tiles, rebatch(blocks, COLUMN_ROWS), strict=True):
                target[rows] = scores
                self._progress.advance(len(scores))
                self._stop_if_asked()
        draft.complete("scores")

    def find_groups(self, draft: FitDraft) -> Groups:
        """Run k-means on the scores."""
        scores, live = self._lazy_scores(draft)
        rng = self._random(2)
        sample_rows = np.flatnonzero(self._live)
        if len(sample_rows) > self._n_sample:
            sample_rows = np.sort(rng.choice(sample_rows, self._n_sample, replace=False))
        (sample,) = self._executor.compute(scores[sample_rows])
        centers = first_centers(sample, self._settings.clusters, self._seed)
        with self._progress.stage("mini-batch k-means", MINI_BATCH_PASSES * self._n_live):
            centers = learn_centers(self._watched(self._score_batches(scores, rng)), centers, self._seed)
        with self._progress.stage("Lloyd passes", LLOYD_PASSES, "passes"):
            return self._iterate(scores, live, centers)

    def _lazy_scores(self, draft: FitDraft) -> tuple[da.Array, da.Array]:
        """Return scores and live rows as dask arrays; scores are read for each pass, which costs less than it takes."""
        stored = draft.array("scores")
        scores = da.from_array(stored, chunks=(COLUMN_ROWS, stored.shape[1]), name=False)
        return scores, da.from_array(self._live, chunks=COLUMN_ROWS, name=False)

    def _score_batches(self, scores: da.Array, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
        """Yield batches of live rows, all of them once a pass, blocks and rows in a new random order each time."""
        tiles = tile_rows(len(self._live), COLUMN_ROWS)
        for _ in range(MINI_BATCH_PASSES):
            visited = (tiles[i] for i in rng.permutation(len(tiles)))
            blocks = (self._executor.compute(scores[rows])[0][self._live[rows]] for rows in visited)
            yield from shuffled_batches(blocks, SCORE_WINDOW_ROWS, self._batch_rows, rng)

    def _iterate(self, scores: da.Array, live: da.Array, centers: Centers) -> Groups:
        """Run Lloyd passes until they gain little; the last one only measures."""
        found = lloyd_pass(scores, live, centers, self._executor.compute)
        n_passes = 0
        while n_passes < LLOYD_PASSES:
            self._stop_if_asked()
            n_passes += 1
            before, centers = found, found.centers
            found = lloyd_pass(scores, live, centers, self._executor.compute)
            self._progress.advance(1)
            if before.inertia - found.inertia <= LLOYD_GAIN * before.inertia:
                break
        largest_first = np.argsort(-found.counts, kind="stable")
        return Groups(centers[largest_first], found.counts[largest_first], found.inertia, n_passes)

    def write_groups(self, draft: FitDraft, groups: Groups) -> dict[str, Any]:
        """Write labels and distances of all rows, and return what describes the fit."""
        draft.write({"centers": groups.centers, "counts": groups.counts})
        n_rows = len(self._live)
        labels = draft.create_rows("labels", n_rows, "int32")
        distances = draft.create_rows("distance", n_rows, "float32")
        with self._progress.stage("labels", None, "pictures"):
            lazy = label_rows(*self._lazy_scores(draft), groups.centers)
            targets: Any = [labels, distances]
            self._executor.compute(da.store(lazy, targets, lock=False, compute=False))
        return {
            "pictures": self._n_live,
            "batch_rows": self._batch_rows,
            "rows": n_rows,
            "inertia": groups.inertia,
            "lloyd_passes": groups.n_passes,
            "versions": {name: version(name) for name in ("streamcluster", "numpy", "scikit-learn")},
        }

    def _random(self, stage: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stage])

    def _stop_if_asked(self) -> None:
        if self._progress.stop_signal is not None:
            raise Interrupted(self._progress.stop_signal)


def scaled_features(
    space: FeatureSpace, scale: NDArray[np.float32], thumbnails: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Return the float32 (n, F) features of thumbnails, times their scale."""
    rows = space.compute(thumbnails)
    rows *= scale
    return rows


def _place_block(collection: Collection, space: ScoreSpace, rows: slice) -> NDArray[np.float32]:
    return space.place(collection.thumbnails(rows))


def _report(collection: Collection, *, up_to_date: bool) -> FitReport:
    current = collection.fit()
    ratio = current.array("explained_variance_ratio")
    counts = current.array("counts")
    return FitReport(
        fit=current.name,
        up_to_date=up_to_date,
        pictures=int(current.attributes["pictures"]),
        clusters=len(counts),
        components=len(ratio),
        explained_variance_ratio=float(ratio.sum()),
        inertia=float(current.attributes["inertia"]),
        lloyd_passes=int(current.attributes["lloyd_passes"]),
        sizes=counts.tolist(),
        peak_bytes=peak_bytes(),
    )
