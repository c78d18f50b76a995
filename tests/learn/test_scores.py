from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcluster.learn.scores import ScoreKind, shape_scores

KINDS = get_args(ScoreKind)
VARIANCES = np.array([9.0, 4.0, 1.0, 0.25])


def some_scores(n=200, seed=0):
    return (np.random.default_rng(seed).normal(size=(n, 4)) * np.sqrt(VARIANCES)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_float32_and_leaves_what_it_was_given(kind):
    scores = some_scores()
    kept = scores.copy()
    shaped = shape_scores(scores, VARIANCES, kind)
    assert (shaped.shape, shaped.dtype) == (scores.shape, np.float32)
    np.testing.assert_array_equal(scores, kept)


def test_plain_scores_are_as_they_are():
    np.testing.assert_array_equal(shape_scores(some_scores(), VARIANCES, "plain"), some_scores())


def test_whitened_components_all_have_unit_variance():
    shaped = shape_scores(some_scores(), some_scores().var(axis=0), "whitened")
    np.testing.assert_allclose(shaped.var(axis=0), 1, rtol=1e-4)


def test_half_whitened_rows_have_unit_length_and_the_direction_that_the_formula_gives():
    shaped = shape_scores(some_scores(), VARIANCES, "half-whitened-unit")
    expected = some_scores() / VARIANCES**0.25
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(shaped, expected, rtol=1e-5, atol=1e-7)


@given(st.floats(1e-6, 1e6))
def test_the_unit_of_the_features_does_not_matter_to_half_whitened_rows(unit):
    scores = some_scores(20)
    shaped = shape_scores((scores * unit).astype(np.float32), VARIANCES * unit**2, "half-whitened-unit")
    np.testing.assert_allclose(shaped, shape_scores(scores, VARIANCES, "half-whitened-unit"), atol=1e-5)


@pytest.mark.parametrize("kind", ["half-whitened-unit", "whitened"])
def test_a_component_without_variance_tells_nothing(kind):
    scores = some_scores()
    scores[:, 3] = np.random.default_rng(1).normal(0, 1e-8, len(scores))
    shaped = shape_scores(scores, np.array([9.0, 4.0, 1.0, 0.0]), kind)
    np.testing.assert_array_equal(shaped[:, 3], 0)
    np.testing.assert_allclose(shaped[:, :3], shape_scores(scores[:, :3], VARIANCES[:3], kind), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_at_the_mean_and_no_rows_at_all(kind):
    np.testing.assert_array_equal(shape_scores(np.zeros((3, 4), np.float32), np.zeros(4), kind), 0)
    assert shape_scores(np.zeros((0, 4), np.float32), VARIANCES, kind).shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_alone(kind):
    scores = some_scores(9)
    alone = np.concatenate([shape_scores(scores[i : i + 1], VARIANCES, kind) for i in range(9)])
    np.testing.assert_array_equal(shape_scores(scores, VARIANCES, kind), alone)
