"""What the groups of a fit look like: the mean of each, and the picture that is nearest to its centre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.learn.features import shrink
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.memory import MIB
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import Collection

#: Side of the pictures of groups at most, so that their memory does not grow with that of the thumbnails.
MOST_SIDE: Final = 64
#: What the sums of all groups take at most: from 342 groups on, their means are smaller than 64 pixels.
SUMS_BYTES: Final = 32 * MIB
#: Groups that a figure tells apart at most, the largest.
MOST_GROUPS: Final = 100


def largest_groups(sizes: NDArray[np.int64], most: int = MOST_GROUPS) -> NDArray[np.intp]:
    """Return the numbers of the largest groups that are not empty, ascending."""
    return np.sort(np.argsort(-sizes, kind="stable")[: min(most, np.count_nonzero(sizes))])


def mean_side(image_size: int, n_groups: int) -> int:
    """Return the side of the means of so many groups, in pixels, for thumbnails of this side.

    >>> mean_side(96, 50), mean_side(64, 1000), mean_side(16, 1000)
    (64, 37, 16)
    """
    return max(1, min(image_size, MOST_SIDE, isqrt(SUMS_BYTES // (3 * 8 * n_groups))))


@dataclass(frozen=True, slots=True)
class BlockSums:
    """The groups that a block has pictures of, intp (p,) ascending, and their sums, uint32 (p, side, side, 3)."""

    present: NDArray[np.intp]
    sums: NDArray[np.uint32]


def sums_of_block(thumbnails: NDArray[np.uint8], labels: NDArray[np.integer], side: int) -> BlockSums:
    """Return the sums of a block's thumbnails by group, -1 for those that do not count, shrunk to `side`."""
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        return BlockSums(np.empty(0, np.intp), np.empty((0, side, side, 3), np.uint32))
    pictures = shrink(thumbnails, side)
    rows = rows[np.argsort(labels[rows], kind="stable")]
    present, first = np.unique(labels[rows], return_index=True)
    sums = np.empty((len(present), *pictures.shape[1:]), np.uint32)
    for i, part in enumerate(np.split(rows, first[1:])):
        pictures[part].sum(axis=0, dtype=np.uint32, out=sums[i])
    return BlockSums(present.astype(np.intp), sums)


class GroupSums:
    """Adds up the pictures of groups, in whole numbers, so that the order of blocks carries nothing."""

    def __init__(self, n_groups: int, side: int) -> None:
        self.side = side
        self._sums = np.zeros((n_groups, side, side, 3), np.int64)

    def add(self, found: BlockSums) -> None:
        """Add what a block has."""
        self._sums[found.present] += found.sums

    def means(self, sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return uint8 (k, side, side, 3) for groups of these sizes; black for an empty one."""
        means = np.empty(self._sums.shape, np.uint8)
        # One by one: all quotients at once would take as much again as the sums.
        for i, size in enumerate(sizes.tolist()):
            means[i] = np.rint(self._sums[i] / max(size, 1))
        return means


@dataclass(frozen=True, slots=True)
class GroupPictures:
    """Pictures of some groups, in the order of their numbers.

    Attributes
    ----------
    numbers : intp (k,)
    sizes : int64 (k,)
        Pictures in each group.
    means, nearest : uint8 (k, side, side, 3) RGB
        Black for an empty group.
    """

    numbers: NDArray[np.intp]
    sizes: NDArray[np.int64]
    means: NDArray[np.uint8]
    nearest: NDArray[np.uint8]


def picture_groups(
    collection: Collection,
    labels: NDArray[np.int32],
    distances: NDArray[np.float32],
    numbers: NDArray[np.intp],
    executor: Executor,
    progress: Progress,
) -> GroupPictures:
    """Return what groups look like, from one pass over the blocks of thumbnails.

    Parameters
    ----------
    collection : Collection
    labels : int32 (N,)
        Group of each row that counts, -1 for the others.
    distances : float32 (N,)
        To the centre of the row's group; of equally near pictures the first row is shown.
    numbers : intp (k,)
        The groups to look at, ascending.
    executor : Executor
    progress : Progress
    """
    slots = np.full(int(max(labels.max(initial=-1), numbers.max(initial=-1))) + 2, -1, np.int32)
    slots[numbers] = np.arange(len(numbers))
    slots[-1] = -1
    places = slots[labels]
    sizes = np.bincount(places[places >= 0], minlength=len(numbers))
    nearest_rows = _nearest_rows(places, distances, len(numbers))
    sums = GroupSums(len(numbers), mean_side(collection.pointer.image_size, len(numbers)))
    nearest = np.zeros((len(numbers), sums.side, sums.side, 3), np.uint8)
    blocks = [block for block in collection.blocks if (places[block] >= 0).any()]
    with progress.stage("means of groups", int(sizes.sum())):
        look = partial(_look, collection, places, nearest_rows, sums.side)
        window = executor.in_flight(executor.workers)
        for block, (found, central) in zip(blocks, executor.map(look, blocks, window), strict=True):
            sums.add(found)
            for slot, picture in central.items():
                nearest[slot] = picture
            progress.advance_or_stop(int(np.count_nonzero(places[block] >= 0)))
    return GroupPictures(numbers, sizes, sums.means(sizes), nearest)


def _nearest_rows(places: NDArray[np.int32], distances: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return the row of each group that is nearest to its centre, -1 for an empty one."""
    rows = np.flatnonzero(places >= 0)
    order = rows[np.lexsort((rows, distances[rows], places[rows]))]
    present, first = np.unique(places[order], return_index=True)
    nearest = np.full(k, -1, np.intp)
    nearest[present] = order[first]
    return nearest


def _look(
    collection: Collection, places: NDArray[np.int32], nearest_rows: NDArray[np.intp], side: int, block: slice
) -> tuple[BlockSums, dict[int, NDArray[np.uint8]]]:
    """Return the sums of a block, and which of its pictures are nearest to their group's centre."""
    pictures = shrink(collection.thumbnails(block), side)
    central = np.flatnonzero((nearest_rows >= block.start) & (nearest_rows < block.stop))
    found = sums_of_block(pictures, places[block], side)
    return found, {int(slot): pictures[nearest_rows[slot] - block.start].copy() for slot in central}
