import naive
import numpy as np
import pytest
from scipy.linalg import subspace_angles

from streamcluster.errors import SettingsError
from streamcluster.learn.pca import count_components, learn_components


def rows_with_structure(n=400, f=60, seed=0):
    rng = np.random.default_rng(seed)
    scales = 10 * 0.7 ** np.arange(f)
    return (rng.normal(size=(n, f)) * scales + rng.normal(size=f)).astype(np.float32)


@pytest.mark.parametrize("batch", [50, 64, 399, 400])
def test_batches_find_the_subspace_of_all_rows(batch):
    rows = rows_with_structure()
    found = learn_components((rows[i : i + batch].copy() for i in range(0, len(rows), batch)), 8)
    expected, ratio = naive.principal_components(rows.astype(float), 8)
    assert np.degrees(subspace_angles(found.components.T, expected.T)).max() < 1
    np.testing.assert_allclose(found.explained_variance_ratio, ratio, rtol=1e-3)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(8), atol=1e-5)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-4, atol=1e-4)


def test_scores_are_what_the_components_make_of_the_features():
    rows = rows_with_structure()
    found = learn_components([rows.copy()], 8)
    expected = (rows.astype(float) - rows.mean(axis=0)) @ found.components.T.astype(float)
    np.testing.assert_allclose(found.project(rows), expected, atol=1e-3)
    assert found.project(rows).dtype == np.float32


def test_identical_rows_explain_nothing_and_warn_nobody():
    found = learn_components([np.ones((20, 6), np.float32)], 3)
    np.testing.assert_array_equal(found.explained_variance_ratio, 0)


def test_the_smallest_number_of_components_that_reaches_a_variance():
    ratio = np.array([0.5, 0.25, 0.125])
    assert [count_components(ratio, v) for v in (0.1, 0.5, 0.51, 0.75, 0.875)] == [1, 1, 2, 2, 3]
    with pytest.raises(SettingsError, match=r"0\.875"):
        count_components(ratio, 0.9)
