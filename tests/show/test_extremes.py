"""What a stream keeps of each group is what a look at all of it at once would."""

import numpy as np
import pytest

from streamcluster.runtime.blocks import tile_rows
from streamcluster.show.extremes import survey_groups


def rows_of(n, n_groups, seed=0):
    rng = np.random.default_rng(seed)
    # Few different distances, so that there are ties.
    distances = rng.integers(0, 9, n).astype(np.float32)
    return np.arange(n) * 3, rng.integers(0, n_groups, n).astype(np.int32), distances


def parts_of(rows, labels, distances, part_rows):
    return ((rows[part], labels[part], distances[part]) for part in tile_rows(len(rows), part_rows))


@pytest.mark.parametrize("per_group", [1, 2, 7, 24])
def test_it_keeps_what_sorting_all_rows_gives(per_group):
    rows, labels, distances = rows_of(300, 8)
    labels[labels == 5] = 4
    groups = survey_groups(parts_of(rows, labels, distances, 37), 8, per_group)
    assert [group.number for group in groups] == list(range(8))
    for group in groups:
        inside = labels == group.number
        pairs = list(zip(distances[inside].tolist(), rows[inside].tolist(), strict=True))
        nearest = [row for _, row in sorted(pairs)]
        farthest = nearest[::-1]
        assert group.size == len(pairs)
        assert (group.size == 0) == (group.number == 5)
        if group.size <= per_group:
            assert (group.central, group.outlying) == (nearest, [])
        else:
            half = per_group // 2
            assert (group.central, group.outlying) == (nearest[: per_group - half], farthest[:half])
            assert not set(group.central) & set(group.outlying)
        if group.size:
            assert group.spread == pytest.approx(distances[inside].mean())
        else:
            assert np.isnan(group.spread)


def test_how_the_stream_is_cut_changes_nothing():
    rows, labels, distances = rows_of(500, 6, seed=1)
    whole = survey_groups(parts_of(rows, labels, distances, 500), 6, 10)
    assert survey_groups(parts_of(rows, labels, distances, 64), 6, 10) == whole


def test_a_group_of_equal_distances_shows_no_picture_twice():
    rows, labels = np.arange(5), np.zeros(5, np.int32)
    group = survey_groups([(rows, labels, np.ones(5, np.float32))], 1, 4)[0]
    assert len({*group.central, *group.outlying}) == 4
