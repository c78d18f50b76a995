import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import is_valid_linkage, linkage
from sklearn.metrics import adjusted_rand_score

from streamcluster.errors import SettingsError
from streamcluster.learn.tree import cut_tree, group_means, ward_tree


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
