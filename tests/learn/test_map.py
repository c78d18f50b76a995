import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from streamcluster.errors import Interrupted
from streamcluster.learn import map as pictures_map
from streamcluster.learn.map import lay_out, place_rows


def blobs(n, k=6, d=20, seed=0):
    """Rows around k centres far from one another, and the centre of each."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(scale=8, size=(k, d))
    labels = rng.integers(0, k, n)
    return (centers[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


def same_label_share(places, labels, k=5):
    """Share of the k nearest others on the map that have the row's label."""
    nearest = NearestNeighbors(n_neighbors=k + 1).fit(places).kneighbors(places, return_distance=False)[:, 1:]
    return float((labels[nearest] == labels[:, None]).mean())


def test_likes_lie_together_whether_laid_out_or_placed():
    rows, labels = blobs(900)
    laid = lay_out(rows[:300], seed=1)
    placed = place_rows(rows[300:], rows[:300], laid)
    assert same_label_share(laid, labels[:300]) > 0.97
    assert same_label_share(np.concatenate([laid, placed]), labels) > 0.97


def test_neighbours_of_the_scores_stay_neighbours():
    rows = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    laid = lay_out(rows, seed=0)
    true, shown = (
        NearestNeighbors(n_neighbors=11).fit(x).kneighbors(x, return_distance=False)[:, 1:] for x in (rows, laid)
    )
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(true, shown, strict=True)])
    assert kept > 0.4  # 0.03 by chance


def test_the_same_seed_gives_the_same_map():
    rows, _ = blobs(120)
    assert np.array_equal(lay_out(rows, seed=3), lay_out(rows, seed=3))


def test_a_row_like_one_of_the_sample_lies_amid_its_neighbours():
    rows, labels = blobs(200)
    laid = lay_out(rows, seed=0)
    placed = place_rows(rows, rows, laid)
    for label in range(6):
        own = laid[labels == label]
        assert np.all(placed[labels == label] >= own.min(axis=0))
        assert np.all(placed[labels == label] <= own.max(axis=0))


def test_tiles_do_not_matter(monkeypatch):
    rows, _ = blobs(150)
    laid = rows[:60, :2].copy()
    whole = place_rows(rows, rows[:60], laid)
    monkeypatch.setattr(pictures_map, "TILE_DISTANCES", 60 * 7)
    np.testing.assert_allclose(place_rows(rows, rows[:60], laid), whole, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 11, 31])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_few_rows_or_components_have_a_map(n, d):
    rows = np.random.default_rng(n).normal(size=(n, d)).astype(np.float32)
    laid = lay_out(rows, seed=0)
    assert (laid.shape, laid.dtype) == ((n, 2), np.float32)
    assert np.isfinite(laid).all()
    assert np.isfinite(place_rows(rows, rows, laid)).all()


def test_equal_rows_have_a_map():
    laid = lay_out(np.ones((40, 5), np.float32), seed=0)
    assert np.isfinite(laid).all()


def test_it_can_be_stopped():
    def stop(_count):
        raise Interrupted(2)

    with pytest.raises(Interrupted):
        lay_out(blobs(50)[0], 0, stop)
