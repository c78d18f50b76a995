import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import is_valid_linkage, linkage
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from streamcluster.errors import SettingsError
from streamcluster.learn.tree import (
    choose_clusters,
    cut_inertias,
    cut_tree,
    group_means,
    information_criterion,
    ward_tree,
)


def micro_clusters(m=60, d=4, seed=0, largest=9):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)), rng.integers(1, largest, m)


@pytest.mark.parametrize(("m", "d"), [(2, 1), (3, 2), (50, 1), (200, 7)])
def test_with_one_row_each_it_is_scipys_tree(m, d):
    centers, _ = micro_clusters(m, d)
    np.testing.assert_allclose(ward_tree(centers, np.ones(m, int)), linkage(centers, "ward"), rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_micro_cluster_weighs_as_its_rows(seed):
    centers, counts = micro_clusters(seed=seed)
    owner = np.repeat(np.arange(len(centers)), counts)
    by_rows = linkage(centers[owner], "ward")
    tree = ward_tree(centers, counts)
    np.testing.assert_allclose(tree[:, 2], by_rows[-len(tree) :, 2], rtol=1e-9)
    np.testing.assert_allclose(by_rows[: -len(tree), 2], 0, atol=1e-12)
    for k in (1, 2, 7, 30, 60):
        assert adjusted_rand_score(cut_tree(by_rows, k), cut_tree(tree, k)[owner]) == 1


def test_half_of_a_squared_height_is_the_inertia_added():
    centers, counts = micro_clusters()
    tree = ward_tree(centers, counts)
    inertias = []
    for k in range(1, len(centers) + 1):
        groups = cut_tree(tree, k)
        means, _ = group_means(centers, counts, groups)
        inertias.append((counts * ((centers - means[groups]) ** 2).sum(axis=1)).sum())
    np.testing.assert_allclose(-np.diff(inertias)[::-1], tree[:, 2] ** 2 / 2, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 3), st.integers(1, 5))
def test_cuts_have_the_groups_asked_for_and_refine_one_another(seed, m, d, n_values):
    """Centres on a small grid, so that ties and equal centres are the rule."""
    rng = np.random.default_rng(seed)
    tree = ward_tree(rng.integers(0, n_values, (m, d)).astype(float), rng.integers(1, 4, m))
    assert tree.shape == (m - 1, 4)
    assert m == 1 or is_valid_linkage(tree)
    assert (np.diff(tree[:, 2]) >= 0).all()
    coarser = cut_tree(tree, 1)
    for k in range(2, m + 1):
        finer = cut_tree(tree, k)
        first_seen = list(dict.fromkeys(finer.tolist()))
        assert first_seen == list(range(k))
        assert len(set(zip(finer.tolist(), coarser.tolist(), strict=True))) == k
        coarser = finer


@pytest.mark.parametrize("scale", [1e-150, 1e-6, 1.0, 1e6])
def test_equal_centres_are_joined_first_at_height_zero(scale):
    centers = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 4, axis=0) * scale
    tree = ward_tree(centers, np.arange(1, 21))
    assert (tree[:15, 2] == 0).all()
    assert (tree[15:, 2] > 0).all()
    assert cut_tree(tree, 5).tolist() == np.repeat(range(5), 4).tolist()


def test_one_micro_cluster_is_one_group():
    tree = ward_tree(np.zeros((1, 3)), np.array([7]))
    assert tree.shape == (0, 4)
    assert cut_tree(tree, 1).tolist() == [0]


@pytest.mark.parametrize("n_clusters", [-1, 0, 61])
def test_a_cut_that_the_tree_cannot_give_is_refused(n_clusters):
    with pytest.raises(SettingsError, match=f"{n_clusters} groups: .* 1 to 60"):
        cut_tree(ward_tree(*micro_clusters()), n_clusters)


def test_means_of_groups_are_those_of_their_rows():
    centers, counts = micro_clusters()
    groups = cut_tree(ward_tree(centers, counts), 6)
    means, sizes = group_means(centers, counts, groups)
    rows, labels = np.repeat(centers, counts, axis=0), np.repeat(groups, counts)
    np.testing.assert_allclose(means, [rows[labels == k].mean(axis=0) for k in range(6)])
    np.testing.assert_array_equal(sizes, np.bincount(labels))


def micro_clusters_of(rows, m, seed=0):
    """Return centres, sizes and inertias of the micro-clusters that have rows."""
    model = KMeans(m, n_init=1, random_state=seed).fit(rows)
    counts = np.bincount(model.labels_, minlength=m)
    squares = ((rows - model.cluster_centers_[model.labels_]) ** 2).sum(axis=1)
    within = np.bincount(model.labels_, squares, minlength=m)
    alive = counts > 0
    return model.cluster_centers_[alive], counts[alive], within[alive]


def chosen(centers, counts, within, n_max=200):
    return choose_clusters(ward_tree(centers, counts), centers, counts, within, n_max)


def blobs(n_blobs, n, d, seed):
    rng = np.random.default_rng(seed)
    middles = 12 * np.sqrt(d) * np.eye(n_blobs, d)
    return middles[np.arange(n) % n_blobs] + rng.normal(size=(n, d))


def test_the_inertia_of_a_cut_counts_what_lies_inside_micro_clusters():
    rows = np.random.default_rng(0).normal(size=(300, 3))
    centers, counts, within = micro_clusters_of(rows, 40)
    inertias = cut_inertias(ward_tree(centers, counts), within)
    assert inertias[0] == pytest.approx(((rows - rows.mean(axis=0)) ** 2).sum())
    assert inertias[-1] == pytest.approx(within.sum())


@pytest.mark.parametrize("k", [1, 2, 9])
def test_the_criterion_is_the_likelihood_of_the_rows_less_the_price_of_the_parameters(k):
    rows = np.random.default_rng(0).normal(size=(300, 3))
    labels = np.random.default_rng(1).integers(0, 9, len(rows))
    centers = np.array([rows[labels == group].mean(axis=0) for group in range(9)])
    counts = np.bincount(labels)
    within = np.array([((rows[labels == group] - centers[group]) ** 2).sum() for group in range(9)])
    tree = ward_tree(centers, counts)
    groups = cut_tree(tree, k)
    means, sizes = group_means(centers, counts, groups)
    variance = ((rows - means[groups[labels]]) ** 2).sum() / (3 * (len(rows) - k))
    density = multivariate_normal([0, 0, 0], variance).logpdf(rows - means[groups[labels]])
    naive = (density + np.log(sizes / len(rows))[groups[labels]]).sum() - 4 * k / 2 * np.log(len(rows))
    criterion = information_criterion(tree, counts, within, 3)
    constant = len(rows) * 3 / 2 * (np.log(2 * np.pi) - np.log(3))
    assert criterion[k - 1] - constant == pytest.approx(naive)


@pytest.mark.parametrize("n_blobs", [1, 2, 5, 8])
@pytest.mark.parametrize(("n", "d"), [(80, 20), (1000, 8), (2000, 100)])
def test_separate_blobs_are_counted_and_one_stays_one(n_blobs, n, d):
    for seed in range(3):
        rows = blobs(n_blobs, n, d, seed)
        assert chosen(*micro_clusters_of(rows, min(n // 4, 100), seed)) == n_blobs


def test_more_pictures_of_the_same_kind_give_no_more_groups():
    """Rows along a curve have no number of groups, and the bare criterion takes more with every row."""
    rng = np.random.default_rng(0)
    turn = rng.uniform(0, 2 * np.pi, 2000)
    rows = np.column_stack([np.cos(turn), np.sin(turn), rng.normal(scale=0.1, size=(2000, 6))])
    centers, counts, within = micro_clusters_of(rows, 200)
    n_groups = chosen(centers, counts, within)
    assert 1 < n_groups < 100
    assert chosen(centers, 100 * counts, 100 * within) == pytest.approx(n_groups, abs=1)


def test_no_more_groups_are_chosen_than_asked_for_or_than_there_are_different_pictures():
    rows = blobs(8, 800, 8, seed=0)
    assert chosen(*micro_clusters_of(rows, 100), n_max=5) == 5
    assert chosen(np.eye(3), np.array([50, 1, 7]), np.zeros(3)) == 3


def test_equal_pictures_are_one_group_however_rounding_splits_them():
    centers = np.ones((30, 4)) + np.random.default_rng(0).normal(scale=1e-9, size=(30, 4))
    assert chosen(centers, np.full(30, 10), np.zeros(30)) == 1
    assert chosen(np.repeat(np.eye(4), 5, axis=0), np.full(20, 10), np.zeros(20)) == 4


@pytest.mark.parametrize("counts", [[1], [9], [1, 1]])
def test_one_or_two_pictures_are_one_group(counts):
    assert chosen(np.eye(2)[: len(counts)], np.array(counts), np.zeros(len(counts))) == 1


def test_two_different_pictures_many_times_over_are_two_groups():
    assert chosen(np.eye(2), np.array([30, 40]), np.zeros(2)) == 2
