"""Outlier measures and how they are joined."""

import numpy as np
import pytest
from scipy.stats import rankdata

from streamcluster.curate.junk import References, Sample, hotelling, join_ranks, rank_groups, ranks


def test_ranks_are_those_of_scipy():
    values = np.random.default_rng(0).integers(0, 20, 100).astype(float)
    assert np.allclose(ranks(values), (rankdata(values) - 0.5) / 100)
    assert np.allclose(ranks(np.zeros(5)), 0.5)


def test_a_row_counts_by_the_measure_that_sees_it():
    rng = np.random.default_rng(0)
    seeing, blind = rng.normal(size=200), rng.normal(size=200)
    seeing[7], blind[7] = 100, -100
    assert join_ranks([seeing, blind])[7] > 0.98
    assert np.allclose(join_ranks([np.ones(9), np.ones(9)]), 0.5)


def test_hotelling_is_the_squared_mahalanobis_distance():
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    variances = np.array([4.0, 1.0, 0.0])
    expected = np.sum(rows[:, :2] ** 2 / variances[:2], axis=1)
    assert np.allclose(hotelling(rows, variances), expected, rtol=1e-5)


@pytest.mark.parametrize("nth", [1, 3, 39, 1000])
def test_neighbours_are_those_of_a_full_search_without_the_row_itself(nth):
    points = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    chosen = np.sort(np.random.default_rng(1).choice(60, 40, replace=False))
    found = References(chosen, points[chosen]).distances_to(points, np.arange(60), (nth,))
    for row in range(60):
        others = chosen[chosen != row]
        distances = np.sort(np.linalg.norm(points[others] - points[row], axis=1))
        assert found[row, 0] == pytest.approx(distances[min(nth, 39) - 1], rel=1e-3, abs=1e-3)


def test_a_row_that_is_alone_has_no_neighbour():
    alone = References(np.array([3]), np.ones((1, 2), np.float32))
    assert alone.distances_to(np.ones((1, 2), np.float32), np.array([3]), (10,)).tolist() == [[0]]


def test_the_sample_is_of_wanted_rows_and_references_are_learned_from():
    wanted = np.arange(50_000) % 2 == 0
    sample = Sample.draw(wanted, 0)
    assert (sample.learning.sum(), sample.reference.sum()) == (16_384, 4096)
    assert not (sample.learning & ~wanted).any()
    assert not (sample.reference & ~sample.learning).any()


def test_a_group_that_is_far_and_full_of_outliers_is_the_worst_and_an_empty_one_has_no_score():
    labels = np.repeat([0, 1, 2, 4], [40, 30, 6, 24]).astype(np.int32)
    scores = np.where(labels == 2, 0.9, 0.4)
    centers = np.array([[0, 0], [0, 1], [5, 5], [9, 9], [1, 0]], float)
    found = rank_groups(scores, labels, centers)
    assert np.nanargmax(found) == 2
    assert np.isnan(found).tolist() == [False, False, False, True, False]
    assert rank_groups(np.ones(5), np.zeros(5, np.int32), np.zeros((1, 2))).tolist() == [0.5]


def test_medians_of_groups_are_right_for_odd_and_even_sizes():
    labels = np.array([0, 0, 0, 1, 1, 1, 1], np.int32)
    # The medians are 0.3 and 0.25; the second group's mean and largest are larger.
    scores = np.array([0.1, 0.3, 0.35, 0.0, 0.2, 0.3, 0.99])
    found = rank_groups(scores, labels, np.array([[0.0], [0.0]]))
    assert found[0] > found[1]
