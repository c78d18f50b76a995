import dask.array as da
import naive
import numpy as np
import pytest

from streamcluster.errors import TooFewPicturesError
from streamcluster.learn.kmeans import (
    assign,
    first_centers,
    label_means,
    label_rows,
    learn_centers,
    lloyd_pass,
    match_groups,
)
from streamcluster.runtime.execution import Executor


@pytest.fixture
def executor():
    with Executor(2) as running:
        yield running


def blobs(n=300, d=5, k=4, seed=0):
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(k, d)) * 10
    truth = rng.integers(0, k, n)
    return (middle[truth] + rng.normal(size=(n, d))).astype(np.float32), truth


def test_assign_agrees_with_a_loop_over_pairs():
    rows, _ = blobs()
    centers = rows[:7].astype(float)
    labels, squares = assign(rows, centers)
    expected_labels, expected_distances = naive.nearest(rows.astype(float), centers)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(np.sqrt(squares), expected_distances, atol=1e-5)


@pytest.mark.parametrize("chunk", [17, 100, 1000])
def test_a_lloyd_pass_is_the_mean_of_each_group_however_the_rows_are_cut(chunk, executor):
    rows, _ = blobs()
    live = np.random.default_rng(1).random(len(rows)) > 0.2
    centers = rows[live][:4].astype(float)
    found = lloyd_pass(
        da.from_array(rows, chunks=(chunk, -1)), da.from_array(live, chunks=chunk), centers, executor.compute
    )
    labels, _ = naive.nearest(rows[live].astype(float), centers)
    np.testing.assert_array_equal(found.counts, np.bincount(labels, minlength=4))
    expected = [rows[live][labels == k].astype(float).mean(axis=0) for k in range(4)]
    np.testing.assert_allclose(found.centers, expected, rtol=1e-5)
    assert found.inertia == pytest.approx(naive.inertia(rows[live].astype(float), labels, centers))


def test_a_group_without_rows_takes_the_farthest_one(executor):
    rows, _ = blobs()
    rows[123] = 1000
    live = np.ones(len(rows), bool)
    centers = np.vstack([rows[:3], np.full((1, 5), 1e6)]).astype(float)
    found = lloyd_pass(da.from_array(rows, chunks=(50, -1)), da.from_array(live, chunks=50), centers, executor.compute)
    assert found.counts[3] == 0
    np.testing.assert_array_equal(found.centers[3], rows[123])


def test_rows_that_are_not_live_get_no_label(executor):
    rows, _ = blobs(20)
    live = np.arange(20) % 3 > 0
    centers = rows[:4].astype(float)
    lazy = label_rows(da.from_array(rows, chunks=(7, -1)), da.from_array(live, chunks=7), centers)
    labels, distances = executor.compute(lazy)[0].T
    expected, expected_distances = naive.nearest(rows.astype(float), centers)
    np.testing.assert_array_equal(labels, np.where(live, expected, -1))
    np.testing.assert_allclose(distances, np.where(live, expected_distances, 0), atol=1e-5)


def test_means_of_given_groups_leave_out_rows_of_none(executor):
    rows, truth = blobs(50)
    labels = np.where(np.arange(40) % 5 == 0, -1, truth[:40]).astype(np.int32)
    found = label_means(da.from_array(rows, chunks=(7, -1)), labels, 4, executor.compute)
    np.testing.assert_array_equal(found.counts, np.bincount(labels[labels >= 0], minlength=4))
    for group in range(4):
        np.testing.assert_allclose(found.centers[group], rows[:40][labels == group].mean(axis=0), rtol=1e-5)


def test_centres_with_counts_are_pulled_by_new_rows_as_their_mean_is():
    rows, _ = blobs(200, k=1)
    before = rows[:150].mean(axis=0, keepdims=True).astype(float)
    after = learn_centers([rows[150:170], rows[170:]], before, seed=0, counts=np.array([150]))
    np.testing.assert_allclose(after[0], rows.mean(axis=0), rtol=1e-4)


def test_groups_keep_their_numbers_and_new_ones_take_what_is_free():
    before = np.array([2, 2, 2, 0, 0, 1, -1], np.int32)
    after = np.array([0, 0, 3, 1, 1, 3, 2], np.int32)
    numbers = match_groups(before, after, 3, 4)
    assert numbers.tolist() == [2, 0, 3, 1]
    assert sorted(match_groups(before, after[::-1].copy(), 3, 4)) == [0, 1, 2, 3]
    assert sorted(match_groups(before, np.zeros(7, np.int32), 3, 2)) == [0, 1]


def test_first_centres_are_different_rows_of_the_sample():
    rows, _ = blobs()
    centers = first_centers(rows, 12, seed=3)
    assert len(np.unique(centers, axis=0)) == 12
    assert all((np.abs(rows - center).max(axis=1) < 1e-6).any() for center in centers)
    np.testing.assert_array_equal(centers, first_centers(rows, 12, seed=3))


def test_more_clusters_than_different_rows_are_refused():
    rows = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    assert len(first_centers(rows, 3, seed=0)) == 3
    with pytest.raises(TooFewPicturesError, match="only 3"):
        first_centers(rows, 4, seed=0)


def test_mini_batches_find_separate_blobs():
    rows, truth = blobs(2000, seed=5)
    centers = learn_centers([rows[i : i + 256] for i in range(0, 2000, 256)], first_centers(rows, 4, 0), seed=0)
    labels, _ = naive.nearest(rows.astype(float), centers)
    for group in range(4):
        assert len(set(truth[labels == group])) == 1
