"""What the groups of a fit look like: the mean of each, and the picture that is nearest to its centre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.learn.features import shrink
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import Collection

#: Side of the pictures of groups at most, so that their memory does not grow with that of the thumbnails.
MOST_SIDE: Final = 64


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

    Sums are whole numbers, so that the order of blocks carries nothing.

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
    side = min(collection.pointer.image_size, MOST_SIDE)
    slots = np.full(int(max(labels.max(initial=-1), numbers.max(initial=-1))) + 2, -1)
    slots[numbers] = np.arange(len(numbers))
    slots[-1] = -1
    places = slots[labels]
    sizes = np.bincount(places[places >= 0], minlength=len(numbers))
    nearest_rows = _nearest_rows(places, distances, len(numbers))
    sums = np.zeros((len(numbers), side, side, 3), np.int64)
    nearest = np.zeros(sums.shape, np.uint8)
    blocks = [block for block in collection.blocks if (places[block] >= 0).any()]
    with progress.stage("means of groups", int(sizes.sum())):
        look = partial(_sums_of_block, collection, places, nearest_rows)
        window = executor.in_flight(executor.workers)
        for block, (present, of_block, central) in zip(blocks, executor.map(look, blocks, window), strict=True):
            sums[present] += of_block
            for slot, picture in central.items():
                nearest[slot] = picture
            progress.advance_or_stop(int(np.count_nonzero(places[block] >= 0)))
    means = np.rint(sums / np.maximum(sizes, 1)[:, None, None, None]).astype(np.uint8)
    return GroupPictures(numbers, sizes, means, nearest)


def _nearest_rows(places: NDArray[np.intp], distances: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return the row of each group that is nearest to its centre, -1 for an empty one."""
    rows = np.flatnonzero(places >= 0)
    order = rows[np.lexsort((rows, distances[rows], places[rows]))]
    present, first = np.unique(places[order], return_index=True)
    nearest = np.full(k, -1, np.intp)
    nearest[present] = order[first]
    return nearest


def _sums_of_block(
    collection: Collection, places: NDArray[np.intp], nearest_rows: NDArray[np.intp], block: slice
) -> tuple[NDArray[np.intp], NDArray[np.uint32], dict[int, NDArray[np.uint8]]]:
    """Return the groups in a block, the sums of their pictures, and which of these are nearest to their centre."""
    pictures = shrink(collection.thumbnails(block), MOST_SIDE)
    inside = places[block]
    rows = np.flatnonzero(inside >= 0)
    rows = rows[np.argsort(inside[rows], kind="stable")]
    present, first = np.unique(inside[rows], return_index=True)
    sums = np.stack(
        [pictures[part].sum(axis=0, dtype=np.uint32) for part in np.split(rows, first[1:])],
    )
    central = np.flatnonzero((nearest_rows >= block.start) & (nearest_rows < block.stop))
    return present, sums, {int(slot): pictures[nearest_rows[slot] - block.start].copy() for slot in central}
