"""What a fit takes in memory, as plain arithmetic, decided before it starts.

The numbers that the result depends on (components, rows a batch, which PCA) follow from the collection, the settings
and the budget; never from the number of workers, or from what the process happens to take. What is left over decides
how many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from streamcluster.learn.kmeans import clustering_bytes
from streamcluster.learn.pca import Learner, choose_learner, kept_components, learning_bytes
from streamcluster.runtime.memory import MIB, left_bytes, room_bytes, usual_room_bytes

#: Components from which on matrix algebra takes far longer than making the features, and gains by more threads: an
#: update of 256 components took 0.61 s on one and 0.58 on two, of 1,200 components 3.95 and 2.40.
LARGE_COMPONENTS = 512
#: Components where neither a number nor a variance is asked for. More than about 100 change nothing for the grouping.
DEFAULT_COMPONENTS = 100
#: Rows that PCA learns from at a time, or twice the components: a small eigenproblem costs least for each row when a
#: batch has about as many rows as there are components (5,440 features, 100 components: 280 µs a row with 1,024 rows,
#: 120 with 256; 3,340 features: 188 µs with 256, 175 with 192, 172 with 128, on a busy machine).
PCA_ROWS = 192
#: PCA learns from parts of all pictures that are merged: from two at least, so that two cores are at work, and from so
#: many that each has this many pictures, and so many for each component, up to this many parts.
LEAST_PARTS, PART_ROWS, PART_ROWS_PER_COMPONENT, MOST_PARTS = 2, 8192, 16, 32
#: Rows that mini-batch k-means, or an exact covariance, learn from at a time.
BATCH_ROWS = 1024
#: Rows of a part that are mixed with one another before PCA learns from them, as long as they are small.
SHUFFLE_ROWS = 1024
SHUFFLE_BYTES = 16 * MIB
#: Rows that k-means++ chooses the first centres from, at least; and for each cluster.
SAMPLE_ROWS = 16_384
SAMPLE_ROWS_PER_CLUSTER = 20
#: Features that a task makes at a time.
TASK_FEATURE_BYTES = 12 * MIB
#: Scores that k-means keeps at least, where the budget has room: it goes through them some 25 times, and what it takes
#: beside them is so much less than what PCA took (50,000 pictures with the defaults: 231 MiB in all after 267).
KEPT_SCORE_BYTES = 32 * MIB
#: What BLAS, scikit-learn and dask take when they are first used.
LIBRARY_BYTES = 64 * MIB
#: What grows with the collection: live rows, their numbers, old and new labels, distances.
ROW_BYTES = 32


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be fitted: numbers that describe the collection and the settings.

    `n_components` is None where a variance decides. `score_tile` is the number of rows of a chunk of scores.
    """

    n_rows: int
    n_live: int
    block_rows: int
    block_bytes: int
    n_features: int
    temporary_bytes: int
    n_components: int | None
    n_clusters: int
    batch_rows: int | None
    score_tile: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a fit goes about its work. Rows are pictures; `n_workers` tasks of `task_rows` each run at a time."""

    learner: Learner
    n_components: int
    pca_rows: int
    pca_parts: int
    kmeans_rows: int
    shuffle_rows: int
    sample_rows: int
    task_rows: int
    n_workers: int
    keeps_scores: bool

    @property
    def has_large_algebra(self) -> bool:
        """Whether PCA's own work outweighs that of the tasks which make its features."""
        return self.n_components >= LARGE_COMPONENTS

    @property
    def parts_at_once(self) -> int:
        """How many parts PCA learns from at a time; large algebra needs all cores for one."""
        return 1 if self.has_large_algebra else min(self.pca_parts, self.n_workers)

    @property
    def kept_components(self) -> int:
        """Components that the summary of a part keeps; those past many hold too little to be worth their memory."""
        return self.n_components if self.has_large_algebra else kept_components(self.n_components, self.pca_parts)


def plan_fit(work: Work, memory: int, workers: int) -> Plan:
    """Return the plan that the budget has memory for.

    Raises
    ------
    BudgetError
        There is none; the message says what would do.
    """
    usual = usual_room_bytes(memory)
    drafts = list(_drafts(work, usual, workers))
    least = next((draft for draft in drafts if _bytes(work, draft, 1) <= usual), drafts[-1])
    room = room_bytes(
        memory,
        _bytes(work, least, 1),
        f"learning from {least.pca_rows:,} pictures at a time",
        _smaller_batches(work, least, memory),
    )
    fitting = (n for n in range(workers, 1, -1) if _bytes(work, least, n) <= room)
    n_workers, scores = next(fitting, 1), 4 * least.n_components * work.n_rows
    small = scores <= min(KEPT_SCORE_BYTES, room - _bytes(work, least, n_workers))
    return replace(least, n_workers=n_workers, keeps_scores=least.keeps_scores or small)


def _drafts(work: Work, room: int, workers: int) -> Iterator[Plan]:
    """Yield plans that take less and less memory."""
    most = min(work.n_live, work.n_features)
    wanted = [most >> n for n in range(most.bit_length())] if work.n_components is None else [work.n_components]
    for n_components in (min(n, most) for n in wanted):
        gram_rows = max(PCA_ROWS, 2 * n_components)
        learner = choose_learner(work.n_features, n_components, gram_rows, room - _others(work, n_components, 1))
        default = BATCH_ROWS if learner == "covariance" else gram_rows
        least = 1 if learner == "covariance" else n_components
        rows = [work.batch_rows] if work.batch_rows else [default >> n for n in range(default.bit_length() - 1)]
        for pca_rows in rows:
            taken = min(max(pca_rows, least), work.n_live)
            draft = Plan(
                learner=learner,
                n_components=n_components,
                pca_rows=taken,
                pca_parts=_pca_parts(work, n_components, taken),
                kmeans_rows=work.batch_rows or BATCH_ROWS,
                shuffle_rows=min(SHUFFLE_ROWS, SHUFFLE_BYTES // (4 * work.n_features), work.n_live),
                sample_rows=_sample_rows(work),
                task_rows=_task_rows(work),
                n_workers=workers,
                keeps_scores=False,
            )
            yield replace(draft, keeps_scores=_keeps_scores(work, draft))


def _bytes(work: Work, plan: Plan, n_workers: int) -> int:
    """Return what a plan takes beside the process: PCA, or k-means after it, whichever is more."""
    pca = _pca_bytes(work, replace(plan, n_workers=n_workers))
    return _others(work, plan.n_components, n_workers) + max(pca, _kmeans_bytes(work, plan.n_components, n_workers))


def _others(work: Work, n_components: int, n_workers: int) -> int:
    """Return what is taken all the time, and by tasks that make features: one a worker, and one that is taken in."""
    task = 2 * work.block_bytes + 2 * 4 * _task_rows(work) * work.n_features
    in_flight = (n_workers + 1) * (task + work.temporary_bytes)
    return LIBRARY_BYTES + ROW_BYTES * work.n_rows + 4 * n_components * work.n_features + in_flight


def _pca_bytes(work: Work, plan: Plan) -> int:
    """Return what parts that are learned from at the same time take: a window, a batch, and an update."""
    learning = learning_bytes(plan.learner, work.n_features, plan.kept_components, plan.pca_rows)
    rows = max(plan.shuffle_rows, plan.pca_rows) + plan.pca_rows
    return plan.parts_at_once * (4 * rows * work.n_features + learning)


def _pca_parts(work: Work, n_components: int, pca_rows: int) -> int:
    """Return a power of two, so that any usual number of cores shares the parts evenly."""
    wanted = work.n_live // max(PART_ROWS, PART_ROWS_PER_COMPONENT * n_components)
    parts = 1 << max(0, min(wanted, MOST_PARTS).bit_length() - 1)
    kept = kept_components(n_components, LEAST_PARTS)
    enough = kept <= min(pca_rows, work.n_features) and LEAST_PARTS * pca_rows <= work.n_live
    return max(parts, LEAST_PARTS if enough and n_components < LARGE_COMPONENTS else 1)


def _kmeans_bytes(work: Work, n_components: int, n_workers: int) -> int:
    shuffled = 4 * n_components * 2 * work.score_tile
    return shuffled + clustering_bytes(_sample_rows(work), work.score_tile, n_components, work.n_clusters, n_workers)


def _keeps_scores(work: Work, plan: Plan) -> bool:
    """Whether all scores fit into what PCA takes before; so the peak is the same, however many there are."""
    scores = 4 * plan.n_components * work.n_rows
    pca = _pca_bytes(work, replace(plan, n_workers=LEAST_PARTS))
    return scores + _kmeans_bytes(work, plan.n_components, LEAST_PARTS) <= pca


def _sample_rows(work: Work) -> int:
    return min(work.n_live, max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CLUSTER * work.n_clusters))


def _task_rows(work: Work) -> int:
    return min(work.block_rows, max(1, TASK_FEATURE_BYTES // (4 * work.n_features)))


def _smaller_batches(work: Work, plan: Plan, memory: int) -> str:
    """Return the option that fits the budget, if there is one."""
    room = left_bytes(memory)
    least = 2 if plan.learner == "covariance" else plan.n_components
    smaller = (plan.pca_rows >> n for n in range(1, 16))
    fitting = (n for n in smaller if n >= least and _bytes(work, replace(plan, pca_rows=n), 1) <= room)
    return next((f" or --batch-rows {n}" for n in fitting), "")
