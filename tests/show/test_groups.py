from types import SimpleNamespace

import numpy as np
import pytest

from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.progress import Progress
from streamcluster.show import groups as module
from streamcluster.show.groups import GroupSums, mean_side, picture_groups, sums_of_block


def collection_of(thumbnails, block_rows):
    return SimpleNamespace(
        pointer=SimpleNamespace(image_size=thumbnails.shape[1]),
        blocks=tile_rows(len(thumbnails), block_rows),
        thumbnails=lambda rows: thumbnails[rows],
    )


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("block_rows", [7, 100])
def test_means_and_nearest_are_those_of_a_plain_loop(workers, block_rows):
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    labels, distances = rng.integers(-1, 6, 90).astype(np.int32), rng.random(90).astype(np.float32)
    numbers = np.array([0, 2, 5])
    with Executor(workers) as executor:
        found = picture_groups(collection_of(thumbnails, block_rows), labels, distances, numbers, executor, Progress())
    for i, number in enumerate(numbers):
        own = labels == number
        assert found.sizes[i] == own.sum()
        assert np.array_equal(found.means[i], np.rint(thumbnails[own].mean(axis=0)))
        assert np.array_equal(found.nearest[i], thumbnails[own][distances[own].argmin()])


def test_large_thumbnails_are_shown_small():
    thumbnails = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    labels, distances = np.array([0, 0, 1], np.int32), np.array([2, 1, 0], np.float32)
    with Executor(1) as executor:
        found = picture_groups(collection_of(thumbnails, 2), labels, distances, np.array([0, 1]), executor, Progress())
    assert found.means.shape == found.nearest.shape == (2, 64, 64, 3)
    assert np.array_equal(found.means[1], found.nearest[1])


def test_sums_of_many_groups_are_of_smaller_pictures_and_stay_in_their_room():
    for n_groups in (1, 50, 341, 342, 1000, 100_000):
        side = mean_side(64, n_groups)
        assert side == 64 or n_groups > 341
        assert GroupSums(n_groups, side)._sums.nbytes <= module.SUMS_BYTES


def test_a_block_in_which_nothing_counts_adds_nothing():
    sums = GroupSums(2, 4)
    sums.add(sums_of_block(np.full((3, 8, 8, 3), 9, np.uint8), np.full(3, -1, np.int32), 4))
    sums.add(sums_of_block(np.full((3, 8, 8, 3), 9, np.uint8), np.array([1, -1, 1], np.int32), 4))
    assert (sums.means(np.array([0, 2])) == np.array([0, 9])[:, None, None, None]).all()
