"""The second job: thumbnails, or what a model made of the files (`embed.py`), become groups.

    some blocks ─features─▶ scale of the features
    parts of the blocks ─features, scaled─▶ shuffled batches ─partial_fit─▶ summaries ─merge─▶ components
    blocks ─features, scaled─▶ project, whiten ─▶ scores
    scores ─▶ micro-clusters ─▶ Ward tree
    cut of the tree, or for many groups a sample ─▶ partial_fit on shuffled batches ─▶ Lloyd passes ─▶ labels, distances

The first fit, and one that is asked to be full, learns from all pictures. A later one goes on from the fit before with
the pictures that came since, so that groups stay what they are. Each stage is written as it ends, so a run that was
stopped goes on from the last whole one. The result counts once the store's pointer names it; until then the fit before
it does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from streamcluster.config import FitSettings
from streamcluster.errors import FitNotFoundError, TooFewPicturesError
from streamcluster.jobs.embed import Embedded, Embedder, open_embedder
from streamcluster.learn.features import SPACES
from streamcluster.learn.kmeans import (
    LLOYD_GAIN,
    LLOYD_PASSES,
    Centers,
    LloydPass,
    first_centers,
    label_means,
    label_rows,
    learn_centers,
    lloyd_pass,
    match_groups,
)
from streamcluster.learn.pca import Components, count_components, go_on, merge_summaries, summarize
from streamcluster.learn.plan import DEFAULT_COMPONENTS, Plan, Work, plan_fit
from streamcluster.learn.rows import FeatureRows, ThumbnailRows
from streamcluster.learn.scaling import learn_scale
from streamcluster.learn.scores import ScoreKind, shape_scores
from streamcluster.learn.tree import choose_clusters, cut_tree, group_means, ward_tree
from streamcluster.runtime.blocks import first_rows, rebatch, shuffled_batches, tile_rows
from streamcluster.runtime.digests import key_of
from streamcluster.runtime.execution import Executor, many_blas_threads, one_blas_thread, using
from streamcluster.runtime.memory import peak_bytes
from streamcluster.runtime.paths import printable
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import Collection, CollectionWriter, open_for_writing
from streamcluster.store.fits import Fit, FitDraft
from streamcluster.store.table import COLUMN_ROWS

log = logging.getLogger(__name__)

DEFAULT_FEATURES = "color"
DEFAULT_CLUSTERS = 50
Mode = Literal["full", "update", "recut"]

#: Rows that the scale of the features is learned from.
SCALE_ROWS = 8192
#: Times that the mini-batches go through all rows.
MINI_BATCH_PASSES = 3
#: Micro-clusters that the Ward tree joins: at most, and rows for each.
MICRO_CLUSTERS = 512
ROWS_PER_MICRO_CLUSTER = 4
#: Leaves that the tree has for each group, at least, where k-means starts from a cut of it. Inertia in the end, as a
#: share of the best of five full-batch KMeans runs, on five sets of 400 to 50,000 pictures, 5 to 128 groups: 0.97 to
#: 1.008 from a cut, 0.994 to 1.031 from mini-batches.
MICRO_CLUSTERS_PER_GROUP = 2
#: A picture is far from every group if it is farther from its centre than this share of those learned from.
FAR_SHARE = 0.99
#: Share of far ones among new pictures from which on a full fit is advised; of pictures like the old it is 0.01.
MOST_DRIFT = 0.05

_SPACE = ("feature_scale", *(field.name for field in fields(Components)))
_TREE = ("tree", "micro", "micro_centers", "micro_counts")


@dataclass(frozen=True, slots=True)
class FitReport:
    """What `fit` did. `up_to_date` means that nothing was new and nothing was done; the rest describes the fit.

    `mode` is full, update or recut. `features` is what was compared, and `features_before` what the fit before compared
    if that was something else. `learner` is how the components were found. `moved` counts the pictures that the
    fit before had in a group of another number. `drift` is the share of the new pictures that lie farther from their
    centre than 99 % of those learned from; None where nothing was updated. `sizes` has the number of live pictures of
    each group, and `pictures` their sum. `embedded` counts the pictures that a model looked at in this run, and
    `from_thumbnails` those of them whose file could not be read as it was ingested, so that the thumbnail had to do.
    """

    fit: str
    up_to_date: bool
    mode: Mode
    pictures: int
    clusters: int
    features: str
    features_before: str | None
    components: int
    learner: str
    explained_variance_ratio: float
    inertia: float
    lloyd_passes: int
    moved: int
    drift: float | None
    sizes: list[int]
    embedded: int
    from_thumbnails: int
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class ScoreSpace:
    """Where pictures are compared: features, float32 (F,) scale, components, and what is made of the scores."""

    features: FeatureRows
    scale: NDArray[np.float32]
    components: Components
    kind: ScoreKind

    def place(self, rows: slice) -> NDArray[np.float32]:
        """Return the float32 (n, d) scores of some rows."""
        scores = self.components.project(scaled_features(self.features, self.scale, self.features.read(rows)))
        return shape_scores(scores, self.components.explained_variance, self.kind)


@dataclass(frozen=True, slots=True)
class Groups:
    """What k-means found: float64 (k, d) centres and int64 (k,) sizes."""

    centers: Centers
    counts: NDArray[np.int64]
    inertia: float
    n_passes: int

    def renumbered(self, numbers: NDArray[np.intp]) -> Groups:
        """Return the groups in the order of new numbers."""
        order = np.argsort(numbers)
        return Groups(self.centers[order], self.counts[order], self.inertia, self.n_passes)


def fit(settings: FitSettings, *, executor: Executor | None = None, progress: Progress | None = None) -> FitReport:
    """Group the live pictures of a store by look, as a new fit.

    Parameters
    ----------
    settings : FitSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them, or fewer where the budget has no memory for so many.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    NoPicturesError
        The store holds no live picture.
    TooFewPicturesError
        Fewer pictures, or fewer different ones, than clusters or components.
    SettingsError
        A variance that no number of components reaches, or options that contradict a model.
    ModelError
        A model cannot be used.
    SourceNotFoundError
        A model is to look at files, and their whole source is not there.
    FitNotFoundError
        `settings.recut` without a fit.
    BudgetError
        A batch does not fit the memory budget.
    StoreError
        There is no store, it is busy, or its disk refuses writes.
    Interrupted
        `progress` was asked to stop; whole stages are kept.
    """
    progress = progress or Progress()
    with open_for_writing(settings.store) as collection, one_blas_thread():
        live = collection.live_rows()
        collection.check_any(live)
        embedder = _open_embedder(settings, collection)
        features = embedder.rows if embedder else ThumbnailRows(collection, SPACES[thumbnail_space(settings)])
        check_counts(settings, collection, features, int(live.sum()))
        mode = choose_mode(settings, collection, features, live)
        if mode is None:
            return _report(collection, Embedded(), up_to_date=True)
        embedded = embedder.embed_missing(live, executor, progress) if embedder else Embedded()
        fit_as = partial(_fit_as, settings, collection, features, live, executor, progress)
        fit_as(mode)
        report = _report(collection, embedded, up_to_date=False)
        if report.drift is not None and report.drift > MOST_DRIFT:
            log.info("%.0f%% of the new pictures are unlike those learned from", 100 * report.drift)
            if settings.mode == "auto":
                fit_as("full")
                return _report(collection, embedded, up_to_date=False)
            log.warning("learn from all pictures anew: streamcluster fit --full, or --mode auto to do so by itself")
        return report


def _open_embedder(settings: FitSettings, collection: CollectionWriter) -> Embedder | None:
    """Return what embeds the pictures, where a model is asked for; a recut has no use for one."""
    path = settings.features.model
    return None if path is None or settings.recut else open_embedder(path, settings, collection)


def thumbnail_space(settings: FitSettings) -> str:
    """Return the name of the space of thumbnails; for a recut, which looks at no pictures, any will do."""
    return DEFAULT_FEATURES if settings.features.model else settings.features


def _fit_as(
    settings: FitSettings,
    collection: CollectionWriter,
    features: FeatureRows,
    live: NDArray[np.bool_],
    executor: Executor | None,
    progress: Progress,
    mode: Mode,
) -> None:
    recipe = describe_recipe(settings, collection, features)
    plan = plan_fit(describe_work(settings, features, live), settings.memory, settings.workers)
    with using(executor, plan.n_workers, settings.scheduler) as running, collection.writing():
        fitting = Fitting(mode, settings, plan, collection, features, live, running, progress)
        draft = collection.draft_fit(_draft_key(mode, recipe, live))
        fitting.find_scores(draft)
        fitting.grow_tree(draft)
        groups = fitting.find_groups(draft)
        attributes = fitting.write_groups(draft, groups)
        collection.publish_fit(draft, {"recipe": recipe, **attributes})
        collection.prune_fits(settings.keep)


def wanted_clusters(settings: FitSettings) -> int | Literal["auto"]:
    """Return how many groups are asked for."""
    return settings.recut or settings.clusters or DEFAULT_CLUSTERS


def check_counts(settings: FitSettings, collection: Collection, features: FeatureRows, n_live: int) -> None:
    """Refuse what cannot be grouped before any work starts."""
    shown = printable(collection.root)
    if n_live == 1:
        raise TooFewPicturesError(f"{shown} holds one picture; there is nothing to group it with")
    option, clusters = "--recut" if settings.recut else "--clusters", wanted_clusters(settings)
    if clusters != "auto" and clusters > n_live:
        raise TooFewPicturesError(
            f"{option} {clusters}: the store holds {n_live:,} pictures; use {option} {n_live} or fewer"
        )
    n_features = sum(features.part_sizes)
    most = min(n_live, n_features)
    if settings.components is not None and settings.components > most:
        raise TooFewPicturesError(
            f"--components {settings.components}: {n_live:,} pictures of {n_features:,} {features.shown} features "
            f"have at most {most}; use --components {most} or fewer"
        )


def describe_work(settings: FitSettings, features: FeatureRows, live: NDArray[np.bool_]) -> Work:
    """Return the numbers that the plan follows from."""
    wanted = None if settings.variance else settings.components or DEFAULT_COMPONENTS
    clusters = wanted_clusters(settings)
    return Work(
        n_rows=len(live),
        n_live=int(live.sum()),
        block_rows=max(block.stop - block.start for block in features.blocks),
        block_bytes=features.block_bytes,
        n_features=sum(features.part_sizes),
        temporary_bytes=features.temporary_bytes,
        n_components=wanted,
        n_clusters=MICRO_CLUSTERS if clusters == "auto" else max(clusters, MICRO_CLUSTERS),
        batch_rows=settings.batch_rows,
        score_tile=COLUMN_ROWS,
    )


def describe_recipe(settings: FitSettings, collection: Collection, features: FeatureRows) -> dict[str, Any]:
    """Return everything that the result depends on, beside the pictures and the fit before."""
    if settings.recut is not None:
        return {**collection.fit().attributes["recipe"], "clusters": settings.recut}
    return {
        "clusters": wanted_clusters(settings),
        "components": settings.components,
        "variance": settings.variance,
        **features.recipe(settings.texture_weight),
        "scores": settings.scores,
        "batch_rows": settings.batch_rows,
        "seed": collection.pointer.seed,
    }


def choose_mode(
    settings: FitSettings, collection: Collection, features: FeatureRows, live: NDArray[np.bool_]
) -> Mode | None:
    """Return how to fit; None where the current fit followed this recipe and labels every live picture.

    Raises
    ------
    FitNotFoundError
        There is nothing to cut anew.
    """
    if collection.current_fit is None:
        if settings.recut is not None:
            shown = printable(collection.root)
            raise FitNotFoundError(f"{shown} has no fit to recut; run: streamcluster fit --store {shown}")
        return "full"
    current, recipe = collection.fit(), describe_recipe(settings, collection, features)
    same_recipe = current.attributes["recipe"] == recipe
    labels = current.labels()
    n_labelled = int((live[: len(labels)] & (labels >= 0)).sum())
    whole = n_labelled == int(live.sum())
    if same_recipe and whole and not (settings.full and current.attributes["mode"] != "full"):
        return None
    if settings.recut is not None:
        if not whole:
            raise FitNotFoundError(
                f"{printable(collection.root)} has pictures that fit {current.name} has not grouped; run fit first"
            )
        return "recut"
    return "update" if same_recipe and n_labelled and not settings.full else "full"


def _draft_key(mode: Mode, recipe: dict[str, Any], live: NDArray[np.bool_]) -> str:
    return key_of(json.dumps([mode, recipe, len(live)], sort_keys=True), live)


class Fitting:
    """The stages of a fit over one state of a collection."""

    def __init__(
        self,
        mode: Mode,
        settings: FitSettings,
        plan: Plan,
        collection: CollectionWriter,
        features: FeatureRows,
        live: NDArray[np.bool_],
        executor: Executor,
        progress: Progress,
    ) -> None:
        self._mode = mode
        self._settings = settings
        self._plan = plan
        self._collection = collection
        self._live = live
        self._executor = executor
        self._progress = progress
        self._n_live = int(live.sum())
        self._seed = collection.pointer.seed
        self._features = features
        self._before = collection.fit() if collection.current_fit else None

    # --- where pictures are compared

    def find_scores(self, draft: FitDraft) -> None:
        """Place every row, live or not, where pictures are compared; a recut takes over what is there."""
        if self._mode == "recut":
            draft.take_over(self._base, (*_SPACE, "scores", *_TREE), ("space", "scores", "tree"))
        elif not draft.has("scores"):
            self._write_scores(draft, self._find_space(draft))

    @property
    def _base(self) -> Fit:
        """The fit that this one goes on from."""
        assert self._before is not None
        return self._before

    def _find_space(self, draft: FitDraft) -> ScoreSpace:
        """Learn where pictures are compared, go on from the fit before, or read what an interrupted run learned."""
        if not draft.has("space"):
            update = self._mode == "update"
            scale = self._base.array("feature_scale") if update else self._learn_scale()
            found = self._update_components(scale) if update else self._learn_components(scale)
            draft.write({"feature_scale": scale} | {name: getattr(found, name) for name in _SPACE[1:]})
            draft.complete("space")
        scale, *found_arrays = (np.asarray(draft.array(name)[...]) for name in _SPACE)
        return ScoreSpace(self._features, scale, Components(*found_arrays), self._settings.scores)

    def _learn_scale(self) -> NDArray[np.float32]:
        """Learn from a sample of blocks what brings the parts of the features together; a part alone stays as it is."""
        sizes = self._features.part_sizes
        scale = np.ones(sum(sizes), np.float32)
        if len(sizes) == 1:
            return scale
        n_rows = min(SCALE_ROWS, self._n_live)
        energies = self._features.part_energies(self._settings.texture_weight)
        with self._progress.stage("scale", n_rows):
            blocks = self._feature_blocks(self._random(3), scale)
            return learn_scale(self._watched(first_rows(blocks, n_rows)), sizes, energies)

    def _learn_components(self, scale: NDArray[np.float32]) -> Components:
        """Learn from parts of the pictures, in threads or on a cluster, and merge what was found in their order."""
        plan, executor = self._plan, self._executor
        watch, at_once = (None, None) if executor.is_remote else (self._watched, plan.parts_at_once)
        learn = partial(_summarize, self._features, scale, plan, watch)
        with self._progress.stage("components", self._n_live), self._algebra():
            summaries = executor.map(learn, self._parts(), at_once)
            if executor.is_remote:
                summaries = self._watched(summaries, lambda summary: int(summary["n_samples_seen"]))
            found = merge_summaries(summaries, plan.n_components, plan.learner)
        if self._settings.variance is None:
            return found
        return found.first(count_components(found.explained_variance_ratio, self._settings.variance))

    def _parts(self) -> list[tuple[list[tuple[slice, NDArray[np.bool_]]], np.random.Generator]]:
        """Return for each part of the pictures its tasks, in a random order, and what its rows are shuffled by."""
        rng = self._random(1)
        tasks = [task for task in self._tasks() if self._live[task].any()]
        parts = np.array_split(rng.permutation(len(tasks)), min(self._plan.pca_parts, len(tasks)))
        found = [[(tasks[i], self._live[tasks[i]]) for i in part] for part in parts]
        return list(zip(found, rng.spawn(len(parts)), strict=True))

    def _algebra(self) -> AbstractContextManager[object]:
        return many_blas_threads() if self._plan.has_large_algebra else nullcontext()

    def _update_components(self, scale: NDArray[np.float32]) -> Components:
        known = len(self._base.labels())
        before = Components(*(self._base.array(name) for name in _SPACE[1:]))
        with self._progress.stage("components", int(self._live[known:].sum())), self._algebra():
            features = self._feature_blocks(self._random(1), scale, known)
            return go_on(before, self._watched(rebatch(features, self._plan.pca_rows)))

    def _feature_blocks(
        self, rng: np.random.Generator, scale: NDArray[np.float32], start: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        """Return the scaled features of live pictures from row `start` on, tasks in a random order."""
        tasks = [slice(max(rows.start, start), rows.stop) for rows in self._tasks() if rows.stop > start]
        visited = ((tasks[i], self._live[tasks[i]]) for i in rng.permutation(len(tasks)))
        compute = partial(_live_features, self._features, scale)
        return self._executor.map(compute, visited, self._in_flight)

    @property
    def _in_flight(self) -> int:
        return self._executor.in_flight(self._plan.n_workers)

    def _tasks(self) -> list[slice]:
        """Return the rows of each task that makes features: a block, or a piece of one."""
        return [
            slice(block.start + piece.start, block.start + piece.stop)
            for block in self._features.blocks
            for piece in tile_rows(block.stop - block.start, self._plan.task_rows)
        ]

    def _write_scores(self, draft: FitDraft, space: ScoreSpace) -> None:
        target = draft.create_rows("scores", len(self._live), "float32", len(space.components.components))
        with self._progress.stage("scores", len(self._live)):
            blocks = self._executor.map(space.place, self._tasks(), self._in_flight)
            tiles = tile_rows(len(self._live), COLUMN_ROWS)
            for rows, scores in zip(tiles, rebatch(blocks, COLUMN_ROWS), strict=True):
                target[rows] = scores
                self._progress.advance(len(scores))
                self._progress.stop_if_asked()
        draft.complete("scores")

    # --- groups

    def grow_tree(self, draft: FitDraft) -> None:
        """Join micro-clusters to a Ward tree, from which any number of groups can be cut."""
        if draft.has("tree"):
            return
        scores, live = self._lazy_scores(draft)
        rng = self._random(4)
        n = max(1, min(MICRO_CLUSTERS, self._n_live // ROWS_PER_MICRO_CLUSTER))
        rows = np.sort(rng.choice(np.flatnonzero(self._live), n, replace=False))
        (centers,) = self._executor.compute(scores[rows])
        with self._progress.stage("micro-clusters", 2, "passes"):
            batches = self._watched(self._score_batches(scores, rng, len(centers), 1), lambda _: 0)
            centers = learn_centers(batches, centers, self._seed)
            found = self._pass(scores, live, centers)
            centers = found.centers[found.counts > 0]
            self._progress.advance(1)
            labels, distances = self._label(scores, live, centers)
            self._progress.advance(1)
        live_labels, squares = labels[self._live], np.square(distances[self._live], dtype=np.float64)
        counts = np.bincount(live_labels, minlength=len(centers))
        within = np.bincount(live_labels, squares, len(centers))
        held = counts > 0
        draft.write(
            {
                "tree": ward_tree(centers[held], counts[held]),
                "micro": (np.cumsum(held) - 1)[labels].astype(np.int32),
                "micro_centers": centers[held],
                "micro_counts": counts[held],
                "micro_within": within[held],
            }
        )
        draft.complete("tree")

    def find_groups(self, draft: FitDraft) -> Groups:
        """Run k-means on the scores, from where the mode has it begin."""
        scores, live = self._lazy_scores(draft)
        if self._mode == "update":
            return self._update_groups(scores, live)
        clusters = wanted_clusters(self._settings)
        if clusters == "auto" or self._mode == "recut" or self._tree_is_fine_enough(draft, clusters):
            centers = self._cut(draft, clusters)
        else:
            centers = self._from_batches(scores, clusters)
        with self._progress.stage("Lloyd passes", LLOYD_PASSES, "passes"):
            return self._iterate(scores, live, centers)

    def _from_batches(self, scores: da.Array, clusters: int) -> Centers:
        rng = self._random(2)
        centers = first_centers(self._sample(scores, rng), clusters, self._seed)
        with self._progress.stage("mini-batch k-means", MINI_BATCH_PASSES * self._n_live):
            batches = self._watched(self._score_batches(scores, rng, clusters, MINI_BATCH_PASSES))
            return learn_centers(batches, centers, self._seed)

    def _tree_is_fine_enough(self, draft: FitDraft, clusters: int) -> bool:
        return MICRO_CLUSTERS_PER_GROUP * clusters <= draft.array("micro_counts").shape[0]

    def _cut(self, draft: FitDraft, clusters: int | Literal["auto"]) -> Centers:
        """Return the centres of the groups that a cut through the tree gives."""
        tree, centers, counts = (np.asarray(draft.array(n)[...]) for n in ("tree", "micro_centers", "micro_counts"))
        if clusters == "auto":
            clusters = choose_clusters(tree, centers, counts, np.asarray(draft.array("micro_within")[...]))
        if clusters > len(centers):
            raise TooFewPicturesError(
                f"--recut {clusters}: the tree has {len(centers)} leaves; use fit --clusters {clusters}"
            )
        return group_means(centers, counts, cut_tree(tree, clusters))[0]

    def _update_groups(self, scores: da.Array, live: da.Array) -> Groups:
        """Move the centres of the fit before into the new scores, and let the new pictures pull at them."""
        known = self._base.labels()
        settled = label_means(
            scores, np.where(self._live[: len(known)], known, -1), self._n_clusters_before, self._compute
        )
        batches = self._watched(self._score_batches(scores, self._random(2), 1, 1, len(known)), lambda _: 0)
        centers = learn_centers(batches, settled.centers, self._seed, settled.counts)
        with self._progress.stage("groups", 1, "passes"):
            found = self._pass(scores, live, centers)
        return Groups(centers, found.counts, found.inertia, 0)

    @property
    def _n_clusters_before(self) -> int:
        return len(self._base.array("counts"))

    def _sample(self, scores: da.Array, rng: np.random.Generator) -> NDArray[np.float32]:
        rows = np.flatnonzero(self._live)
        if len(rows) > self._plan.sample_rows:
            rows = np.sort(rng.choice(rows, self._plan.sample_rows, replace=False))
        return np.asarray(self._compute(scores[rows])[0])

    def _compute(self, *lazy: Any) -> tuple[Any, ...]:
        return self._executor.compute(*lazy)

    def _pass(self, scores: da.Array, live: da.Array, centers: Centers) -> LloydPass:
        self._progress.stop_if_asked()
        return lloyd_pass(scores, live, centers, self._compute)

    def _lazy_scores(self, draft: FitDraft) -> tuple[da.Array, da.Array]:
        """Return scores and live rows as dask arrays; scores are read once if the plan has room, else for each pass."""
        stored = draft.array("scores")
        keeps = self._plan.keeps_scores and not self._executor.is_remote
        source = np.asarray(stored[...]) if keeps else stored
        scores = da.from_array(source, chunks=(COLUMN_ROWS, stored.shape[1]), name=False)
        return scores, da.from_array(self._live, chunks=COLUMN_ROWS, name=False)

    def _score_batches(
        self, scores: da.Array, rng: np.random.Generator, least: int, n_passes: int, start: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        """Yield live rows from `start` on, once a pass, tiles and rows in a new random order, in batches of `least`."""
        tiles = [slice(max(t.start, start), t.stop) for t in tile_rows(len(self._live), COLUMN_ROWS) if t.stop > start]
        for _ in range(n_passes):
            visited = (tiles[i] for i in rng.permutation(len(tiles)))
            blocks = (self._compute(scores[rows])[0][self._live[rows]] for rows in visited)
            yield from shuffled_batches(blocks, COLUMN_ROWS, max(self._plan.kmeans_rows, least), rng)

    def _iterate(self, scores: da.Array, live: da.Array, centers: Centers) -> Groups:
        """Run Lloyd passes until they gain little; the last one only measures."""
        found = self._pass(scores, live, centers)
        n_passes = 0
        while n_passes < LLOYD_PASSES:
            n_passes += 1
            before, centers = found, found.centers
            found = self._pass(scores, live, centers)
            self._progress.advance(1)
            if before.inertia - found.inertia <= LLOYD_GAIN * before.inertia:
                break
        return Groups(centers, found.counts, found.inertia, n_passes)

    def _label(
        self, scores: da.Array, live: da.Array, centers: Centers
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        (both,) = self._compute(label_rows(scores, live, centers))
        return both[:, 0].astype(np.int32), both[:, 1].astype(np.float32)

    def write_groups(self, draft: FitDraft, groups: Groups) -> dict[str, Any]:
        """Write labels and distances of all rows, and return what describes the fit."""
        with self._progress.stage("labels", None, "pictures"):
            labels, distances = self._label(*self._lazy_scores(draft), groups.centers)
            numbers = self._numbers(labels, groups)
            labels[labels >= 0] = numbers[labels[labels >= 0]]
            renumbered = groups.renumbered(numbers)
            draft.write({"centers": renumbered.centers, "counts": renumbered.counts})
            for name, values in (("labels", labels), ("distance", distances)):
                target = draft.create_rows(name, len(values), str(values.dtype))
                for rows in tile_rows(len(values), COLUMN_ROWS):
                    target[rows] = values[rows]
        return {
            "mode": self._mode,
            "pictures": self._n_live,
            "rows": len(self._live),
            "learner": self._base.attributes["learner"] if self._mode == "recut" else self._plan.learner,
            "pca_rows": self._plan.pca_rows,
            "inertia": groups.inertia,
            "lloyd_passes": groups.n_passes,
            "moved": self._count_moved(labels),
            "features_before": self._features_before(),
            **self._measure_drift(distances),
            "versions": {name: version(name) for name in ("streamcluster", "numpy", "scikit-learn")},
        }

    def _numbers(self, labels: NDArray[np.int32], groups: Groups) -> NDArray[np.intp]:
        """Return the number of each group: what it was before, as far as can be, else the largest first."""
        if self._before is not None:
            before = self._before.labels()
            return match_groups(before, labels[: len(before)], self._n_clusters_before, len(groups.counts))
        return np.argsort(np.argsort(-groups.counts, kind="stable"), kind="stable")

    def _count_moved(self, labels: NDArray[np.int32]) -> int:
        before = self._before.labels() if self._before else np.empty(0, np.int32)
        now = labels[: len(before)]
        return int(((before >= 0) & (now >= 0) & (before != now)).sum())

    def _features_before(self) -> str | None:
        """Return what the fit before compared, if this one compares something else."""
        before = self._before.attributes["recipe"]["features"] if self._before and self._mode == "full" else None
        return before if before != self._features.recipe(self._settings.texture_weight)["features"] else None

    def _measure_drift(self, distances: NDArray[np.float32]) -> dict[str, Any]:
        """Return the distance from which on a picture is far, and how many of the new ones are."""
        if self._mode != "update":
            return {"far": float(np.quantile(distances[self._live], FAR_SHARE)), "drift": None}
        known, far = len(self._base.labels()), self._base.attributes["far"]
        new = distances[known:][self._live[known:]]
        return {"far": far, "drift": float((new > far).mean()) if len(new) else 0.0}

    def _watched(self, items: Iterator[Any], pictures_of: Callable[[Any], int] = len) -> Iterator[Any]:
        for item in self._progress.until_stopped(items):
            yield item
            self._progress.advance(pictures_of(item))

    def _random(self, stage: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stage])


def scaled_features(features: FeatureRows, scale: NDArray[np.float32], stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32 (n, F) features of what was read, in their scale."""
    rows = features.compute(stored)
    rows *= scale
    return rows


def _live_features(
    features: FeatureRows, scale: NDArray[np.float32], task: tuple[slice, NDArray[np.bool_]]
) -> NDArray[np.float32]:
    rows, live = task
    stored = features.read(rows)
    return scaled_features(features, scale, stored if live.all() else stored[live])


def _summarize(
    features: FeatureRows,
    scale: NDArray[np.float32],
    plan: Plan,
    watch: Callable[[Iterator[NDArray[np.float32]]], Iterator[NDArray[np.float32]]] | None,
    part: tuple[list[tuple[slice, NDArray[np.bool_]]], np.random.Generator],
) -> dict[str, NDArray[Any]]:
    """Return what the live rows of some tasks tell about the components; `watch` sees the batches go by."""
    tasks, rng = part
    found = (_live_features(features, scale, task) for task in tasks)
    batches = shuffled_batches(found, plan.shuffle_rows, plan.pca_rows, rng)
    return summarize(watch(batches) if watch else batches, plan.kept_components, plan.learner)


def _report(collection: Collection, embedded: Embedded, *, up_to_date: bool) -> FitReport:
    current = collection.fit()
    ratio, n_groups = current.array("explained_variance_ratio"), len(current.array("counts"))
    labels, live = current.labels(), collection.live_rows()
    sizes = np.bincount(labels[live[: len(labels)] & (labels >= 0)], minlength=n_groups)
    return FitReport(
        fit=current.name,
        up_to_date=up_to_date,
        pictures=int(sizes.sum()),
        clusters=n_groups,
        components=len(ratio),
        features=current.attributes["recipe"]["features"],
        features_before=current.attributes.get("features_before"),
        explained_variance_ratio=min(1.0, float(ratio.sum())),
        sizes=sizes.tolist(),
        embedded=embedded.pictures,
        from_thumbnails=embedded.from_thumbnails,
        peak_bytes=peak_bytes(),
        **{name: current.attributes[name] for name in _DESCRIBED},
    )


_DESCRIBED = ("mode", "learner", "inertia", "lloyd_passes", "moved", "drift")
