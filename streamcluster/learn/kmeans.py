"""k-means over scores that lie in blocks: mini-batches to come near, Lloyd passes to arrive.

Row order decides what mini-batches find, so the first centres come from a uniform sample and the batches are shuffled;
a Lloyd pass is a sum over blocks, exact and the same in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus

from streamcluster.errors import TooFewPicturesError
from streamcluster.learn.scores import SAME_CENTER
from streamcluster.runtime.blocks import tile_rows

Scores = NDArray[np.float32]
Centers = NDArray[np.float64]

#: Lloyd passes end when one lowers the inertia by less than this share, or after this many.
LLOYD_GAIN = 1e-4
LLOYD_PASSES = 20
#: Distances that one task holds at a time, so that its memory does not grow with the number of groups, and what it
#: works on stays in the processor's cache: 8,192 rows of 100 scores find the nearest of 50 centres in 2.5 ms, of 512 in
#: 14; with four times as many it took 11 and 28.
TILE_DISTANCES = 1 << 17


@dataclass(frozen=True, slots=True)
class LloydPass:
    """What one pass over all rows gave: the means of each group, its size, and the sum of squared distances."""

    centers: Centers
    counts: NDArray[np.int64]
    inertia: float


def first_centers(sample: Scores, n_clusters: int, seed: int) -> Centers:
    """Return float64 (k, d) starting centres by k-means++ (Arthur & Vassilvitskii 2007) on a sample.

    Raises
    ------
    TooFewPicturesError
        The sample holds fewer different rows than clusters.
    """
    centers, _ = kmeans_plusplus(sample, n_clusters, random_state=seed)
    n_different = _count_different(centers)
    if n_different < n_clusters:
        raise TooFewPicturesError(
            f"--clusters {n_clusters}: the number of pictures that differ is only {n_different}; "
            f"use --clusters {n_different} or fewer"
        )
    return np.asarray(centers, np.float64)


def _count_different(centers: Centers) -> int:
    kept: list[Any] = []
    for center in centers:
        if all(np.linalg.norm(center - other) > SAME_CENTER for other in kept):
            kept.append(center)
    return len(kept)


def learn_centers(
    batches: Iterable[Scores], centers: Centers, seed: int, counts: NDArray[np.int64] | None = None
) -> Centers:
    """Return the centres after one mini-batch step (Sculley 2010) for each batch of shuffled rows.

    Batches are widened to float64: in float32 scikit-learn counts rows in float32, which stops at 2^24.

    Parameters
    ----------
    batches : iterable of float32 (n, d)
    centers : float64 (k, d)
    seed : int
    counts : int64 (k,), optional
        Rows that the centres are the means of; without them the first batch moves the centres freely.
    """
    model = MiniBatchKMeans(len(centers), init=centers, n_init=1, compute_labels=False, random_state=seed)
    if counts is not None:
        # What partial_fit goes on from; rebuilt like this it resumes to the last bit (scikit-learn 1.6 to 1.9).
        model.reassignment_ratio = 0.0
        model.partial_fit(centers)
        model.cluster_centers_, model._counts = centers.copy(), counts.astype(np.float64)
    for batch in batches:
        model.partial_fit(batch.astype(np.float64))
    return np.array(model.cluster_centers_, np.float64)


def clustering_bytes(n_sample: int, n_rows_a_task: int, n_components: int, n_clusters: int, n_tasks: int) -> int:
    """Return what k-means takes at most: first a sample and one copy, then the tasks of a pass."""
    sampling = 2 * 4 * n_sample * n_components + n_sample * 8 * 16
    task = 3 * 4 * n_rows_a_task * n_components + 3 * 4 * max(TILE_DISTANCES, n_clusters)
    return max(sampling, n_tasks * (task + 3 * 8 * n_clusters * (n_components + 2)))


def assign(scores: Scores, centers: Centers) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the nearest centre of each row, and the squared Euclidean distance to it.

    Products are float32: of two centres that are as near as rounding, either may be taken. The distance is then
    measured to the one that was, so it loses no digits where rows are far from zero.

    Parameters
    ----------
    scores : float32 (n, d)
    centers : float64 (k, d)
    """
    labels = np.empty(len(scores), np.intp)
    nearest = np.empty(len(scores), np.float32)
    narrow = centers.astype(np.float32)
    half_squares = (np.einsum("ij,ij->i", centers, centers) / 2).astype(np.float32)
    for tile in _tiles(len(scores), len(centers)):
        rows = scores[tile]
        likeness = rows @ narrow.T
        likeness -= half_squares
        labels[tile] = likeness.argmax(axis=1)
        apart = rows - narrow[labels[tile]]
        nearest[tile] = np.einsum("ij,ij->i", apart, apart)
    return labels, nearest


def _tiles(n_rows: int, n_clusters: int) -> list[slice]:
    return tile_rows(n_rows, max(1, TILE_DISTANCES // n_clusters))


def lloyd_pass(scores: da.Array, live: da.Array, centers: Centers, compute: Callable[..., Any]) -> LloydPass:
    """Assign every live row to its nearest centre, and return the means of the groups.

    A group that lost all its rows takes the row that is farthest from its centre.

    Parameters
    ----------
    scores : dask array, float32 (N, d), one chunk wide
    live : dask array, bool (N,), in the same chunks
    centers : float64 (k, d)
    compute : callable
        Computes a dask collection, as `Executor.compute`.
    """
    k, d = centers.shape
    sums = da.map_blocks(
        _block_sums, scores, live[:, None], centers, dtype=np.float64, new_axis=[2], chunks=(1, (k,), (d + 2,))
    )
    found = _means(compute(sums.sum(axis=0, split_every=16))[0])
    empty = np.flatnonzero(found.counts == 0)
    if len(empty):
        found.centers[empty] = _farthest_rows(scores, live, centers, len(empty), compute)
    return found


def _block_sums(scores: Scores, live: NDArray[np.bool_], centers: Centers) -> NDArray[np.float64]:
    rows = scores if live.all() else scores[live[:, 0]]
    labels, squares = assign(rows, centers)
    return _label_sums(rows, labels, squares, len(centers))


def _label_sums(rows: Scores, labels: NDArray[Any], squares: NDArray[Any], k: int) -> NDArray[np.float64]:
    """Return (1, k, d + 2): for each group the sum of its rows, their number, and the sum of squared distances."""
    n, d = rows.shape
    member = csr_matrix((np.ones(n, np.float32), (labels, np.arange(n))), shape=(k, n))
    total = np.empty((1, k, d + 2))
    total[0, :, :d] = member @ rows
    total[0, :, d] = np.bincount(labels, minlength=k)
    total[0, :, d + 1] = np.bincount(labels, squares, minlength=k)
    return total


def _means(total: NDArray[np.float64]) -> LloydPass:
    d = total.shape[1] - 2
    counts = np.rint(total[:, d]).astype(np.int64)
    return LloydPass(total[:, :d] / np.maximum(counts, 1)[:, None], counts, float(total[:, d + 1].sum()))


def label_means(scores: da.Array, labels: NDArray[np.int32], n_clusters: int, compute: Callable[..., Any]) -> LloydPass:
    """Return the means and sizes of groups that are given by the labels of the first rows; -1 is in none."""
    k, d = n_clusters, scores.shape[1]
    known = np.full(len(scores), -1, np.int32)
    known[: len(labels)] = labels
    lazy = da.from_array(known, chunks=scores.chunks[0], name=False)
    sums = da.map_blocks(
        _given_sums, scores, lazy[:, None], k, dtype=np.float64, new_axis=[2], chunks=(1, (k,), (d + 2,))
    )
    return _means(compute(sums.sum(axis=0, split_every=16))[0])


def _given_sums(scores: Scores, labels: NDArray[np.int32], k: int) -> NDArray[np.float64]:
    has = labels[:, 0] >= 0
    return _label_sums(scores[has], labels[has, 0], np.zeros(int(has.sum())), k)


def _farthest_rows(scores: da.Array, live: da.Array, centers: Centers, n: int, compute: Callable[..., Any]) -> Any:
    squares = da.map_blocks(
        lambda block, alive: np.where(alive[:, 0], assign(block, centers)[1], -1),
        scores,
        live[:, None],
        dtype=np.float32,
        drop_axis=1,
    )
    (rows,) = compute(da.argtopk(squares, n))
    return compute(scores[np.sort(rows)])[0]


def label_rows(scores: da.Array, live: da.Array, centers: Centers) -> da.Array:
    """Return a lazy float64 (N, 2): label and Euclidean distance of all rows; -1 and 0 where a row is not live."""
    lazy: da.Array = da.map_blocks(
        _block_labels, scores, live[:, None], centers, dtype=np.float64, chunks=(scores.chunks[0], (2,))
    )
    return lazy


def _block_labels(scores: Scores, live: NDArray[np.bool_], centers: Centers) -> NDArray[np.float64]:
    labels, squares = assign(scores, centers)
    return np.where(live, np.column_stack([labels, np.sqrt(squares)]), [-1.0, 0.0])


def match_groups(before: NDArray[np.int32], after: NDArray[np.int32], n_before: int, n_after: int) -> NDArray[np.intp]:
    """Return the new number of each of `n_after` groups, so that as many rows as can be keep their number.

    The matching of groups with the largest overlap in all (Kuhn's Hungarian method). Groups without a partner get the
    numbers that are free, in their order.

    Parameters
    ----------
    before, after : int32 (N,)
        Labels of the same rows, -1 for none.

    Examples
    --------
    >>> match_groups(np.array([0, 0, 1, 1, 1]), np.array([2, 2, 0, 0, 1]), 2, 3).tolist()
    [1, 2, 0]
    """
    both = (before >= 0) & (after >= 0)
    overlap = np.zeros((n_before, n_after), np.int64)
    np.add.at(overlap, (before[both], after[both]), 1)
    olds, news = linear_sum_assignment(overlap, maximize=True)
    numbers = np.full(n_after, -1, np.intp)
    kept = overlap[olds, news] > 0
    kept &= olds < n_after
    numbers[news[kept]] = olds[kept]
    numbers[numbers < 0] = np.setdiff1d(np.arange(n_after), numbers)
    return numbers
