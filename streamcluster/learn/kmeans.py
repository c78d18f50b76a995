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
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus

from streamcluster.errors import TooFewPicturesError
from streamcluster.runtime.blocks import tile_rows

Scores = NDArray[np.float32]
Centers = NDArray[np.float64]

#: Lloyd passes end when one lowers the inertia by less than this share, or after this many.
LLOYD_GAIN = 1e-4
LLOYD_PASSES = 20
#: Distances that one task holds at a time, so that its memory does not grow with the number of groups.
TILE_DISTANCES = 1 << 20
#: Centres closer than this are one: features run from 0 to 1, and a step of one in 255 is 0.004.
SAME_CENTER = 1e-4


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
            f"--clusters {n_clusters}: only {n_different} pictures differ from one another; "
            f"use --clusters {n_different} or fewer"
        )
    return np.asarray(centers, np.float64)


def _count_different(centers: Centers) -> int:
    kept: list[Any] = []
    for center in centers:
        if all(np.linalg.norm(center - other) > SAME_CENTER for other in kept):
            kept.append(center)
    return len(kept)


def learn_centers(batches: Iterable[Scores], centers: Centers, seed: int) -> Centers:
    """Return the centres after one mini-batch step (Sculley 2010) for each batch of shuffled rows.

    Batches are widened to float64: in float32 scikit-learn counts rows in float32, which stops at 2^24.
    """
    model = MiniBatchKMeans(len(centers), init=centers, n_init=1, compute_labels=False, random_state=seed)
    for batch in batches:
        model.partial_fit(batch.astype(np.float64))
    return np.asarray(model.cluster_centers_)


def clustering_bytes(n_sample: int, n_rows_a_task: int, n_components: int, n_clusters: int, workers: int) -> int:
    """Return what k-means takes at most: first a sample and one copy, then the tasks of a pass."""
    sampling = 2 * 4 * n_sample * n_components + n_sample * 8 * 16
    task = 2 * 8 * n_rows_a_task * n_components + 3 * 8 * max(TILE_DISTANCES, n_clusters)
    return max(sampling, workers * (task + 2 * 8 * n_clusters * (n_components + 2)))


def assign(scores: Scores, centers: Centers) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the nearest centre of each row, and the squared Euclidean distance to it.

    Parameters
    ----------
    scores : float32 (n, d)
    centers : float64 (k, d)
    """
    labels = np.empty(len(scores), np.intp)
    nearest = np.empty(len(scores))
    for tile in _tiles(len(scores), len(centers)):
        rows = scores[tile].astype(np.float64)
        squares = np.einsum("ij,ij->i", centers, centers) - 2 * (rows @ centers.T)
        labels[tile] = squares.argmin(axis=1)
        nearest[tile] = squares[np.arange(len(rows)), labels[tile]] + np.einsum("ij,ij->i", rows, rows)
    return labels, np.maximum(nearest, 0)


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
    (total,) = compute(sums.sum(axis=0, split_every=16))
    counts = np.rint(total[:, d]).astype(np.int64)
    means = total[:, :d] / np.maximum(counts, 1)[:, None]
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        means[empty] = _farthest_rows(scores, live, centers, len(empty), compute)
    return LloydPass(means, counts, float(total[:, d + 1].sum()))


def _block_sums(scores: Scores, live: NDArray[np.bool_], centers: Centers) -> NDArray[np.float64]:
    """Return (1, k, d + 2): for each centre the sum of its rows, their number, and the sum of squared distances."""
    rows = scores[live[:, 0]]
    k, d = centers.shape
    labels, squares = assign(rows, centers)
    total = np.zeros((1, k, d + 2))
    for tile in _tiles(len(rows), k):
        member = np.zeros((k, len(rows[tile])))
        member[labels[tile], np.arange(member.shape[1])] = 1
        total[0, :, :d] += member @ rows[tile].astype(np.float64)
    total[0, :, d] = np.bincount(labels, minlength=k)
    total[0, :, d + 1] = np.bincount(labels, squares, minlength=k)
    return total


def _farthest_rows(scores: da.Array, live: da.Array, centers: Centers, n: int, compute: Callable[..., Any]) -> Any:
    squares = da.map_blocks(
        lambda block, alive: np.where(alive[:, 0], assign(block, centers)[1], -1),
        scores,
        live[:, None],
        dtype=np.float64,
        drop_axis=1,
    )
    (rows,) = compute(da.argtopk(squares, n))
    return compute(scores[np.sort(rows)])[0]


def label_rows(scores: da.Array, live: da.Array, centers: Centers) -> tuple[da.Array, da.Array]:
    """Return lazy int32 labels and float32 Euclidean distances of all rows; -1 and 0 where a row is not live."""
    both = da.map_blocks(
        _block_labels, scores, live[:, None], centers, dtype=np.float64, chunks=(scores.chunks[0], (2,))
    )
    return both[:, 0].astype(np.int32), both[:, 1].astype(np.float32)


def _block_labels(scores: Scores, live: NDArray[np.bool_], centers: Centers) -> NDArray[np.float64]:
    labels, squares = assign(scores, centers)
    return np.where(live, np.column_stack([labels, np.sqrt(squares)]), [-1.0, 0.0])
