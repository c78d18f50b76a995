"""Outlier measures and how they are joined."""

import numpy as np
import pytest
from scipy.stats import rankdata

from streamcluster.curate.junk import (
    FLOOR,
    MOST_DEVIATIONS,
    References,
    Sample,
    Space,
    deviations,
    hotelling,
    join_deviations,
    join_ranks,
    rank_groups,
    ranks,
)
from streamcluster.learn.pca import learn_components


def test_ranks_are_those_of_scipy():
    values = np.random.default_rng(0).integers(0, 20, 100).astype(float)
    assert np.allclose(ranks(values), (rankdata(values) - 0.5) / 100)
    assert np.allclose(ranks(np.zeros(5)), 0.5)


@pytest.mark.parametrize("join", [join_ranks, join_deviations])
def test_a_row_counts_by_the_measure_that_sees_it(join):
    rng = np.random.default_rng(0)
    seeing, blind = rng.lognormal(size=200), rng.lognormal(size=200)
    seeing[7], blind[7] = 1e6, 1e-6
    assert join([seeing, blind])[7] > 0.98
    assert np.allclose(join([np.ones(9), np.ones(9)]), 0.5)


def test_one_measure_that_sees_far_is_not_outvoted_by_many_that_see_nothing():
    rng = np.random.default_rng(0)
    seeing, *blind = rng.lognormal(size=(8, 500))
    seeing[:10] = 1e3
    assert join_deviations([seeing, *blind])[:10].min() > 0.9 > join_ranks([seeing, *blind])[:10].min()


def test_a_measure_that_counts_on_both_sides_sees_what_is_plainer_and_what_is_busier():
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=200)
    values[3], values[5] = 1e-3, 1e3
    assert join_deviations([values], [values])[[3, 5]].min() > 0.98
    assert join_deviations([values])[3] < 0.5 < 0.98 < join_deviations([values])[5]
    assert join_deviations([], [values])[5] < 0.5 < 0.98 < join_deviations([], [values])[3]


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_deviations_have_no_unit_and_are_bounded(factor):
    values = np.random.default_rng(0).lognormal(1, 2, 1001).astype(np.float32)
    values[:3] = 1e30
    found = deviations(values * np.float32(factor))
    assert np.allclose(found, deviations(values), rtol=1e-4, atol=1e-4)
    assert found.min() == 0 < found.max() == MOST_DEVIATIONS
    above = found[(found > 0) & (found < MOST_DEVIATIONS)]
    assert np.sqrt(np.square(above).mean()) == pytest.approx(1, abs=0.1)
    turned = 1 / np.maximum(values, FLOOR * np.median(values))
    assert np.allclose(deviations(values, below=True), deviations(turned), rtol=1e-4, atol=1e-4)


def test_where_most_values_are_the_same_all_that_are_larger_stand_out():
    assert deviations(np.array([0.0] * 8 + [2, 9])).tolist() == [0] * 8 + [MOST_DEVIATIONS] * 2
    assert deviations(np.zeros(5)).tolist() == [0] * 5


class Given:
    """Features that are given."""

    def __init__(self, rows):
        self.rows = rows

    def read(self, rows):
        return self.rows[rows]

    def compute(self, stored):
        return stored.copy()


def test_rounding_leaves_nothing_outside_a_space_that_holds_all_rows():
    features = np.random.default_rng(0).normal(size=(40, 2000)).astype(np.float32)
    space = Space("given", Given(features), np.ones(2000, np.float32), learn_components([features[:30]], 30))
    residual = space.place(slice(0, 40), np.ones(40, bool)).residual
    assert residual[:30].tolist() == [0] * 30
    assert residual[30:].min() > 100


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


def test_the_last_column_is_the_mean_of_what_the_nearest_reach():
    points = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    chosen = np.sort(np.random.default_rng(1).choice(60, 40, replace=False))
    reach = np.arange(40, dtype=np.float32)
    found = References(chosen, points[chosen]).distances_to(points, np.arange(60), (5, 9), reach)
    assert found.shape == (60, 3)
    for row in range(60):
        distances = np.linalg.norm(points[chosen] - points[row], axis=1)
        distances[chosen == row] = np.inf
        assert found[row, 2] == pytest.approx(reach[np.argsort(distances)[:5]].mean())


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
