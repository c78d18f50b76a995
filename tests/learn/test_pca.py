"""Principal components against exact ones and scikit-learn's: subspaces and variances, not signs."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.utils.estimator_checks import estimator_checks_generator

from streamcluster.errors import SettingsError
from streamcluster.learn.pca import (
    CovariancePCA,
    GramPCA,
    choose_learner,
    count_components,
    found_by,
    kept_components,
    learn_components,
    learning_bytes,
    merge_summaries,
    summarize,
)


def rows(n, n_features, seed=0, dtype=np.float32):
    """Rows whose variance falls off, far from zero."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_features, n_features)) * (0.9 ** np.arange(n_features))[:, None]
    return (rng.standard_normal((n, n_features)) @ mixing + 3).astype(dtype)


def batches(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def learned(data, size, n_components):
    pca = GramPCA(n_components)
    for batch in batches(data, size):
        pca.partial_fit(batch)
    return pca


def angle(found, exact):
    """Sine of the largest angle between two subspaces given by orthonormal rows."""
    found = found.astype(float)
    return np.linalg.norm(found - (found @ exact.T) @ exact, ord=2)


def orthonormal(components):
    return np.abs(components @ components.T - np.eye(len(components))).max() < 1e-5


@pytest.mark.parametrize(
    ("estimator", "check"),
    [pytest.param(*pair, id=pair[1].func.__name__) for pair in estimator_checks_generator(GramPCA())],
)
def test_scikit_learn_takes_it_for_an_estimator_of_its_own(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_features", "size"), [(300, 64), (40, 64), (300, 200)])
def test_it_finds_what_scikit_learn_finds(dtype, n_features, size):
    data = rows(500, n_features, dtype=dtype)
    ours, theirs = learned(data, size, 12), IncrementalPCA(12)
    for batch in batches(data, size):
        theirs.partial_fit(batch.astype(np.float64))
    tolerance = 1e-5 if dtype == np.float32 else 1e-9
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_", "var_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=tolerance)
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, rel=1e-3)
    assert angle(ours.components_, theirs.components_) < 100 * tolerance
    assert orthonormal(ours.components_)
    assert ours.n_samples_seen_ == theirs.n_samples_seen_ == 500
    assert ours.components_.dtype == ours.transform(data).dtype == dtype
    scores, expected = ours.transform(data), theirs.transform(data)
    np.testing.assert_allclose(np.abs(scores), np.abs(expected), atol=1e3 * tolerance)
    np.testing.assert_allclose(ours.inverse_transform(scores), theirs.inverse_transform(expected), atol=1e3 * tolerance)


@pytest.mark.parametrize("weakest", [1e-2, 1e-3, 1e-4])
def test_weak_components_do_not_drown_in_the_rounding_of_strong_ones(weakest):
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((600, 100)))[0].T
    strengths = weakest ** (np.arange(100) / 29)
    data = ((rng.standard_normal((600, 100)) * strengths) @ directions + 0.5).astype(np.float32)
    ours, exact, stock = learned(data, 150, 30), IncrementalPCA(30), IncrementalPCA(30)
    for batch in batches(data, 150):
        exact.partial_fit(batch.astype(np.float64))
        stock.partial_fit(batch)
    wrong, stock_wrong = (
        np.abs(pca.explained_variance_ / exact.explained_variance_ - 1).max() for pca in (ours, stock)
    )
    assert wrong < 2 * stock_wrong + 1e-5
    assert angle(ours.components_, exact.components_) < 2 * angle(stock.components_, exact.components_) + 1e-4
    assert orthonormal(ours.components_)


def test_as_many_rows_as_components_have_one_value_less():
    pca = GramPCA(20).partial_fit(rows(20, 300))
    assert (pca.singular_values_ > 0).tolist() == [True] * 19 + [False]
    assert orthonormal(pca.components_)


def test_its_subspace_is_as_near_the_exact_one_as_scikit_learns():
    data = rows(2000, 200)
    exact = PCA(20, svd_solver="full").fit(data.astype(np.float64))
    stock = IncrementalPCA(20, batch_size=100).fit(data)
    ours = learned(data, 100, 20)
    assert angle(ours.components_, exact.components_) < 1.001 * angle(stock.components_, exact.components_) + 1e-5
    assert ours.explained_variance_ratio_.sum() == pytest.approx(stock.explained_variance_ratio_.sum(), rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([5, 30, 120]))
def test_ragged_batches_lose_no_row(sizes, n_features):
    sizes = [12, *sizes]
    data = rows(sum(sizes), n_features, seed=len(sizes))
    pca = GramPCA(min(4, n_features))
    for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        pca.partial_fit(data[start : start + size])
    assert pca.n_samples_seen_ == len(data)
    np.testing.assert_allclose(pca.mean_, data.mean(axis=0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(pca.var_, data.var(axis=0, dtype=np.float64), rtol=1e-3, atol=1e-5)
    assert orthonormal(pca.components_)
    assert (np.diff(pca.singular_values_) <= 0).all()
    assert 0 <= pca.explained_variance_ratio_.sum() <= 1 + 1e-5


@pytest.mark.parametrize(
    "data",
    [
        np.full((30, 50), 0.7, np.float32),
        np.zeros((30, 50), np.float32),
        np.repeat(rows(3, 50), 10, axis=0),
        np.hstack([rows(30, 4), np.ones((30, 46), np.float32)]),
    ],
    ids=["constant", "zero", "repeated rows", "constant features"],
)
def test_where_there_is_less_variance_than_components_they_are_orthonormal_all_the_same(data):
    pca = learned(data, 10, 8)
    assert np.isfinite(pca.components_).all()
    assert orthonormal(pca.components_)
    exact = np.linalg.svd(data.astype(float) - data.mean(axis=0, dtype=float), compute_uv=False)[:8] ** 2 / 29
    np.testing.assert_allclose(pca.explained_variance_, exact, rtol=1e-3, atol=1e-6 * max(exact[0], 1))


def test_rounding_of_batches_that_are_constant_is_not_taken_for_components():
    pca = GramPCA(43)
    for n, level in ((52, 1e-6), (36, 1e-6), (16, 0), (33, 1e-4), (29, 0), (49, 0)):
        pca.partial_fit(np.full((n, 200), level, np.float32))
        assert orthonormal(pca.components_)
    assert np.count_nonzero(pca.singular_values_) == 1


def test_a_single_row_has_no_variance():
    pca = GramPCA(1).partial_fit(rows(1, 9))
    assert pca.explained_variance_ratio_.tolist() == [0]
    assert orthonormal(pca.components_)


def test_a_first_batch_with_fewer_rows_than_components_is_refused():
    with pytest.raises(ValueError, match="n_components=9"):
        GramPCA(9).partial_fit(rows(8, 20))
    with pytest.raises(ValueError, match="n_components=21"):
        GramPCA(21).partial_fit(rows(30, 20))
    with pytest.raises(ValueError, match="NaN"):
        GramPCA(2).partial_fit(np.full((5, 5), np.nan, np.float32))


def test_a_batch_is_not_overwritten():
    data = rows(50, 30)
    before = data.copy()
    GramPCA(3, copy=False).partial_fit(data)
    np.testing.assert_array_equal(data, before)


def test_what_was_stored_goes_on_to_the_last_bit():
    data = rows(300, 80)
    whole, half = learned(data, 50, 10), learned(data[:150], 50, 10)
    resumed = GramPCA.from_arrays(half.to_arrays())
    for batch in batches(data[150:], 50):
        resumed.partial_fit(batch)
    for name, value in whole.to_arrays().items():
        np.testing.assert_array_equal(resumed.to_arrays()[name], value)


def test_summaries_learned_apart_are_nearly_what_one_stream_gives():
    data = rows(1500, 120)
    exact = PCA(10, svd_solver="full").fit(data.astype(np.float64))
    parts = [learned(part, 100, 20) for part in np.array_split(data, 3)]
    merged = GramPCA(20)
    for part in parts:
        merged.merge(part)
    found = found_by(merged).first(10)
    assert merged.n_samples_seen_ == 1500
    np.testing.assert_allclose(merged.var_, data.var(axis=0, dtype=np.float64), rtol=1e-4)
    np.testing.assert_allclose(found.explained_variance_ratio, exact.explained_variance_ratio_, rtol=1e-3)
    assert angle(found.components, exact.components_) < 0.02
    one_stream = angle(learned(data, 100, 10).components_, exact.components_)
    assert angle(found.components, exact.components_) < one_stream


def test_a_summary_of_few_rows_does_not_limit_those_after_it():
    data = rows(200, 60)
    parts = [GramPCA(3).partial_fit(data[:5]), learned(data[5:], 50, 12)]
    merged = GramPCA(12)
    for part in parts:
        merged.merge(part)
    assert merged.components_.shape == (12, 60)
    assert orthonormal(merged.components_)


@pytest.mark.parametrize("apart", [1, 3])
def test_the_covariance_is_exact_however_it_was_split(apart):
    data = rows(400, 60)
    exact = PCA(15, svd_solver="full").fit(data.astype(np.float64))
    learner = CovariancePCA()
    for part in np.array_split(data, apart):
        summary = CovariancePCA()
        for batch in batches(part, 37):
            summary.partial_fit(batch)
        learner.merge(CovariancePCA.from_arrays(summary.to_arrays()))
    found = learner.components(15)
    np.testing.assert_allclose(found.explained_variance, exact.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(found.explained_variance_ratio, exact.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(found.mean, data.mean(axis=0, dtype=np.float64), rtol=1e-6)
    assert angle(found.components, exact.components_) < 1e-4


@pytest.mark.parametrize("learner", ["gram", "covariance"])
def test_either_learner_gives_components_that_project(learner):
    data = rows(300, 50)
    found = learn_components(batches(data, 64), 6, learner)
    scores = found.project(data)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.var(axis=0, ddof=1), found.explained_variance, rtol=0.03)
    assert found.components.flags.c_contiguous


@pytest.mark.parametrize("learner", ["gram", "covariance"])
@pytest.mark.parametrize("sizes", [(1000, 1000), (500, 500, 500, 500), (1990, 10)])
def test_parts_find_no_less_than_the_whole_in_any_number_of_threads(learner, sizes):
    data = rows(2000, 120)

    def found(sizes, run=map):
        ends = np.cumsum(sizes)
        parts = [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        kept = kept_components(16, len(sizes))
        return merge_summaries(run(lambda part: summarize(batches(part, 64), kept, learner), parts), 16, learner)

    def held(components):
        return float(np.square(components.project(data)).sum())

    merged = found(sizes)
    assert len(merged.components) == 16
    assert int(merged.n_seen[0]) == 2000
    assert held(merged) > 0.999 * held(found((2000,)))
    with ThreadPoolExecutor(2) as pool:
        again = found(sizes, pool.map)
    np.testing.assert_array_equal(merged.components, again.components)


def test_the_covariance_is_chosen_where_it_is_cheaper_and_fits():
    assert choose_learner(192, 100, 1024, 1 << 30) == "covariance"
    assert choose_learner(12_288, 256, 1024, 8 << 30) == "gram"
    needed = learning_bytes("covariance", 768, 100, 1024)
    assert choose_learner(768, 100, 1024, needed) == "covariance"
    assert choose_learner(768, 100, 1024, needed - 1) == "gram"


@pytest.mark.parametrize(
    ("learner", "n_features", "n_components", "batch_rows"),
    [
        ("gram", 4000, 64, 256),
        ("gram", 3000, 300, 320),
        ("gram", 600, 50, 700),
        ("covariance", 500, 20, 300),
        ("covariance", 500, 400, 300),
    ],
)
def test_learning_takes_the_memory_that_was_planned(learner, n_features, n_components, batch_rows):
    rng = np.random.default_rng(0)
    data = [rng.standard_normal((batch_rows, n_features), np.float32) for _ in range(3)]
    tracemalloc.start()
    try:
        learn_components(data, n_components, learner)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    planned = learning_bytes(learner, n_features, n_components, batch_rows)
    assert 0.4 * planned < peak <= planned


def test_components_are_counted_up_to_the_variance_asked_for():
    assert count_components(np.array([0.5, 0.25, 0.25]), 0.75) == 2
    with pytest.raises(SettingsError, match=r"--variance 0\.9"):
        count_components(np.array([0.5, 0.25]), 0.9)
