"""Which pictures of a store, and which groups, are likely junk: unlike the rest, or like what a person marked; flags.

    fit, thumbnails ─▶ spaces ─▶ reference rows ─▶ blocks: measures ─deviations─▶ outlier scores
    marks, outlier scores of the marked ─▶ classifier ─▶ scores of all

The result is in the store, beside what `duplicates` and `fit` found. It counts once the store's pointer names it.
While the fit, the live pictures and the marks are the same nothing is looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import FlagSettings, JobSettings, JunkSettings
from streamcluster.curate.flags import FLAG_NAMES
from streamcluster.curate.groups import same_content
from streamcluster.curate.junk import (
    JOINED,
    JOINED_BELOW,
    LEARNING_BYTES,
    Sample,
    Space,
    Surroundings,
    expected_junk,
    join_deviations,
    learn_space,
    rank_groups,
    ranks,
    task_bytes,
    tasks_of,
)
from streamcluster.errors import FitNotFoundError, NoPicturesError
from streamcluster.jobs.flag import flag_pictures
from streamcluster.jobs.mark import read_marks
from streamcluster.learn.features import SPACES
from streamcluster.learn.marks import LEAST_MARKS, MOST_MARKS, learn_marks, log_odds
from streamcluster.learn.pca import Components
from streamcluster.learn.rows import EmbeddingRows, FeatureRows, ThumbnailRows
from streamcluster.runtime.digests import key_of
from streamcluster.runtime.execution import Executor, one_blas_thread, using
from streamcluster.runtime.memory import peak_bytes, room_bytes
from streamcluster.runtime.paths import decode_path, printable
from streamcluster.runtime.progress import Progress
from streamcluster.runtime.scratch import ScratchRows
from streamcluster.store.collection import Collection, CollectionWriter, open_for_writing
from streamcluster.store.findings import Findings
from streamcluster.store.fits import Fit

#: Number of the way in which junk is scored; another one scores again.
VERSION: Final = 3
#: Spaces of thumbnails that pictures are looked at in, whatever the fit compares.
LOOKED_IN: Final = ("color", "texture")
#: Score from which on a picture is a suspect, without marks and with them.
OUTLYING, LIKELY = 0.95, 0.5
#: Suspects and groups that are listed.
LISTED: Final = 10
#: What grows with the collection: measures and their ranks, scores, labels, draws.
ROW_BYTES: Final = 320


@dataclass(frozen=True, slots=True)
class SuspectGroup:
    """A group of likely junk: its number, pictures, suspects among them, and score."""

    cluster: int
    pictures: int
    suspects: int
    score: float


@dataclass(frozen=True, slots=True)
class JunkReport:
    """What `junk` found. `up_to_date` means that nothing was new and nothing was looked at.

    Of the `pictures` that the fit groups, `suspects` have a score above the `threshold`. `waiting` live pictures have
    no group yet, and no score. `learned` says whether the scores are a classifier's, of `junk_marks` and `keep_marks`
    pictures; else they are outlier scores. `likeliest` maps paths to scores, `groups` describes the groups in which
    most junk is to be expected, or without marks those that are most unlike the rest. `flagged` counts the live
    pictures that have each flag.
    """

    up_to_date: bool
    fit: str
    threshold: float
    pictures: int
    waiting: int
    suspects: int
    learned: bool
    junk_marks: int
    keep_marks: int
    likeliest: dict[str, float]
    groups: list[SuspectGroup]
    flagged: dict[str, int]
    peak_bytes: int | None


def junk(settings: JunkSettings, *, executor: Executor | None = None, progress: Progress | None = None) -> JunkReport:
    """Score how likely each picture that the current fit groups is junk, and each group; flag pictures; store both.

    Without marks of both kinds, `LEAST_MARKS` of each, the score of a picture is the share of pictures that are less
    unlike the rest, so that the default threshold leaves one in twenty. With them it is a classifier's confidence, 0
    and 1 for what is marked, and that of a group is the mean of its pictures.

    Parameters
    ----------
    settings : JunkSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them, or fewer where the budget has no memory for so many.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    NoPicturesError
        The store holds no live picture, or none that the fit groups.
    FitNotFoundError
        There is no fit, or one of what cannot be made any more.
    BudgetError
        One block does not fit the memory budget.
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
        fit, marks = collection.fit(), read_marks(collection)
        labels = fit.labels_of(live)
        wanted = labels >= 0
        if not wanted.any():
            raise NoPicturesError(f"{printable(collection.root)}: fit {fit.name} groups no live picture; run fit again")
        marked = marks.of_rows(collection, wanted)
        usual = LIKELY if has_enough(marked) else OUTLYING
        threshold = usual if settings.threshold is None else settings.threshold
        attributes = {
            "key": key_of(f"{VERSION} {fit.name} {len(live)} {marks.key} {limits_of(settings)} ", live),
            "fit": fit.name,
            "marks": collection.pointer.findings.get("marks"),
            "threshold": threshold,
            "version": VERSION,
        }
        found = collection.findings("junk")
        known = found is not None and found.attributes.get("key") == attributes["key"]
        if found is None or not known:
            arrays, more = _Scoring(settings, collection, fit, marked, live, wanted, labels, progress).run(executor)
            collection.publish_findings("junk", arrays, attributes | more)
        elif any(found.attributes.get(name) != value for name, value in attributes.items()):
            arrays = {name: found.array(name) for name in ("score", "cluster_score", "flags")}
            collection.publish_findings("junk", arrays, found.attributes | attributes)
        return _report(collection, collection.findings("junk"), live, wanted, labels, up_to_date=known)


def limits_of(settings: FlagSettings) -> list[float]:
    """Return the limits of the flags, in the order of the settings."""
    names = set(FlagSettings.__struct_fields__) - set(JobSettings.__struct_fields__)
    return [getattr(settings, name) for name in sorted(names)]


def has_enough(marked: NDArray[np.int8]) -> bool:
    """Whether there are enough marks of both kinds to learn from."""
    return min(int((marked > 0).sum()), int((marked < 0).sum())) >= LEAST_MARKS


def space_of_fit(collection: Collection, fit: Fit) -> Space:
    """Return the space that a fit compares pictures in.

    Raises
    ------
    FitNotFoundError
        Its features were another version's, or its model's embeddings are gone.
    """
    recipe = fit.attributes["recipe"]
    name, rows = recipe["features"], _rows_of(collection, recipe)
    if rows is None:
        shown = printable(collection.root)
        raise FitNotFoundError(
            f"{shown}: what fit {fit.name} compares ({name}) cannot be made again; "
            f"run: streamcluster fit --store {shown}"
        )
    components = Components(*(fit.array(field.name) for field in fields(Components)))
    return Space(name, rows, fit.array("feature_scale"), components)


def _rows_of(collection: Collection, recipe: dict[str, Any]) -> FeatureRows | None:
    if "embedding" in recipe:
        embeddings = collection.embeddings(recipe["embedding"])
        return None if embeddings is None else EmbeddingRows(embeddings, collection.n_rows)
    space = SPACES.get(recipe["features"])
    known = space is not None and space.version == recipe["features_version"]
    return ThumbnailRows(collection, space) if space is not None and known else None


class _Scoring:
    """One look at all pictures that a fit groups."""

    def __init__(
        self,
        settings: JunkSettings,
        collection: CollectionWriter,
        fit: Fit,
        marked: NDArray[np.int8],
        live: NDArray[np.bool_],
        wanted: NDArray[np.bool_],
        labels: NDArray[np.int32],
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._collection = collection
        self._fit = fit
        self._live = live
        self._wanted = wanted
        self._labels = labels
        self._progress = progress
        self._seed = collection.pointer.seed
        self._marked = marked
        self._learns = has_enough(marked)

    def run(self, executor: Executor | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the arrays of the finding, and what else describes it."""
        first = space_of_fit(self._collection, self._fit)
        others = [ThumbnailRows(self._collection, SPACES[name]) for name in LOOKED_IN if name != first.name]
        sample = Sample.draw(self._wanted, self._seed)
        with using(executor, self._count_workers([first.features, *others])) as running:
            spaces = [learn_space(rows.shown, rows, sample, running, self._progress) for rows in others]
            around = Surroundings([first, *spaces], sample, running, self._progress)
            with ScratchRows(4 * around.width) as scratch:
                measures, outlying = self._find_outliers(around, scratch, running)
                scores, learned = self._learn(around.width, scratch, measures, outlying)
            flags = flag_pictures(self._collection, self._live, self._settings, running, self._progress)
        scores = self._alike(scores)
        whole = np.full(len(self._wanted), np.nan, np.float32)
        whole[self._wanted] = scores
        labels, centers = self._labels[self._wanted], self._fit.array("centers")
        groups = expected_junk(scores, labels, len(centers)) if learned else rank_groups(scores, labels, centers)
        arrays: dict[str, NDArray[Any]] = {
            "score": whole,
            "cluster_score": groups.astype(np.float32),
            "flags": flags,
        }
        return arrays, {"flag_names": FLAG_NAMES, "learned": learned}

    def _alike(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores where files of the same bytes have that of the first: their ranks differ by rounding."""
        digests = self._collection.catalog.column("digest")[self._wanted]
        rows = np.arange(len(scores), dtype=np.int32)
        return scores[same_content(digests, rows, rows)]

    def _count_workers(self, features: list[FeatureRows]) -> int:
        """Return how many tasks the budget has memory for at a time."""
        rest = ROW_BYTES * len(self._wanted) + LEARNING_BYTES
        task = task_bytes(features)
        room = room_bytes(self._settings.memory, rest + 2 * task, f"looking for junk among {len(self._wanted):,} rows")
        return min(self._settings.workers, (room - rest) // task - 1)

    def _find_outliers(
        self, around: Surroundings, scratch: ScratchRows, executor: Executor
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float64]]:
        """Return float32 (m,) measures by name, and float64 (m,), the outlier scores, of wanted rows.

        Where there are marks to learn from, the scores of the spaces go to the scratch file.
        """
        parts: dict[str, list[NDArray[np.float32]]] = {}
        blocks = [block for block in tasks_of(around.spaces) if self._wanted[block].any()]
        with self._progress.stage("junk", int(self._wanted.sum())):
            looks = executor.map(lambda block: around.look(block, self._wanted[block]), blocks)
            for look in looks:
                for name, values in look.measures.items():
                    parts.setdefault(name, []).append(values)
                if self._learns:
                    scratch.append(look.scores.view(np.uint8))
                self._progress.advance_or_stop(len(look.scores))
        measures = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
        first = around.spaces[0].name
        measures[centre_measure(first)] = self._fit.distances()[np.flatnonzero(self._wanted)]
        above, below = ([measures[name] for name in names] for names in (joined_measures(first), JOINED_BELOW))
        return measures, join_deviations(above, below)

    def _learn(
        self, width: int, scratch: ScratchRows, measures: dict[str, NDArray[np.float32]], outlying: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], bool]:
        """Return the scores, and whether a classifier gave them."""
        if not self._learns:
            return outlying, False
        measured = np.empty((len(outlying), len(measures)), np.float32)
        for i, values in enumerate(measures.values()):
            measured[:, i] = log_odds(ranks(values))
        marked = self._marked[self._wanted]
        drawn = np.random.default_rng(self._seed)
        kinds = [drawn.permutation(np.flatnonzero(marked == kind))[:MOST_MARKS] for kind in (1, -1)]
        rows = np.sort(np.concatenate(kinds))

        def described(some: NDArray[np.intp]) -> NDArray[np.float32]:
            places = scratch.read(some).view(np.float32).reshape(len(some), width)
            return np.concatenate([measured[some], places], axis=1)

        parts = measured.shape[1], width
        classifier = learn_marks(described(rows), outlying[rows], marked[rows] > 0, parts, self._seed)
        scores = np.empty(len(outlying))
        with self._progress.stage("confidence", len(scores)):
            for tile in np.array_split(np.arange(len(scores)), max(1, len(scores) // 1024)):
                scores[tile] = classifier.confidence(described(tile), outlying[tile])
                self._progress.advance_or_stop(len(tile))
        scores[marked != 0] = marked[marked != 0] > 0
        return scores, True


def joined_measures(first: str) -> tuple[str, ...]:
    """Return the measures whose high values make up the outlier score where the fit compares `first`.

    >>> joined_measures("rgb")[len(JOINED) :]
    ('rgb centre', 'rgb T²', 'rgb near', 'rgb far')
    """
    others = () if first in LOOKED_IN else (f"{first} T²", f"{first} near", f"{first} far")
    return (*JOINED, centre_measure(first), *others)


def centre_measure(first: str) -> str:
    """Return the name of the distance to the nearest centre of the fit, which compares `first`."""
    return f"{first} centre"


def _report(
    collection: Collection,
    found: Findings | None,
    live: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    labels: NDArray[np.int32],
    *,
    up_to_date: bool,
) -> JunkReport:
    assert found is not None
    scores, groups, flags = (found.array(name) for name in ("score", "cluster_score", "flags"))
    threshold = found.attributes["threshold"]
    suspects = np.flatnonzero(scores > threshold)
    likeliest = suspects[np.lexsort((suspects, -scores[suspects]))][:LISTED].tolist()
    paths = [decode_path(str(path)) for path in collection.catalog.pick("path", likeliest)]
    sizes = np.bincount(labels[wanted], minlength=len(groups))
    suspected = np.bincount(labels[suspects], minlength=len(groups))
    worst = np.flatnonzero(sizes)
    worst = worst[np.lexsort((worst, -groups[worst]))][:LISTED]
    marks = read_marks(collection)
    return JunkReport(
        up_to_date=up_to_date,
        fit=found.attributes["fit"],
        threshold=threshold,
        pictures=int(wanted.sum()),
        waiting=int(live.sum() - wanted.sum()),
        suspects=len(suspects),
        learned=found.attributes["learned"],
        junk_marks=marks.count(junk=True),
        keep_marks=marks.count(junk=False),
        likeliest={path: round(float(scores[row]), 4) for path, row in zip(paths, likeliest, strict=True)},
        groups=[SuspectGroup(int(i), int(sizes[i]), int(suspected[i]), round(float(groups[i]), 4)) for i in worst],
        flagged={name: int(np.count_nonzero(flags >> i & 1)) for i, name in enumerate(FLAG_NAMES)},
        peak_bytes=peak_bytes(),
    )
