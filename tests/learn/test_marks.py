"""The classifier of marks: what few examples teach, and how sure it is."""

import numpy as np
import pytest

from streamcluster.learn.marks import learn_marks, learn_stacking


def example(n, seed=0):
    """Rows of two kinds that one of ten scores tells apart, and outlier scores that tell nothing."""
    rng = np.random.default_rng(seed)
    junk = np.arange(n) % 2 == 0
    scores = rng.normal(size=(n, 10)).astype(np.float32)
    scores[:, 3] += np.where(junk, 3, -3)
    return scores, rng.uniform(0.01, 0.99, n), junk


def test_a_score_that_tells_is_found_and_confidence_is_a_probability():
    scores, outlying, junk = example(60)
    classifier = learn_marks(scores, outlying, junk, (4, 6), 0)
    others, unseen, truth = example(400, 1)
    confidence = classifier.confidence(others, unseen)
    assert ((confidence > 0.5) == truth).mean() > 0.97
    assert confidence.min() >= 0
    assert confidence.max() <= 1


def test_the_same_seed_learns_the_same():
    scores, outlying, junk = example(30)
    one, other = (learn_marks(scores, outlying, junk, (10,), 3).confidence(scores, outlying) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("n_junk", [3, 40])
def test_kinds_weigh_the_same_however_many_are_marked(n_junk):
    rng = np.random.default_rng(0)
    junk = np.arange(80) < n_junk
    stacked = np.stack([rng.normal(0, 0.1, 80), np.where(junk, 2.0, -2.0), np.ones(80)], axis=1)
    assert np.array_equal(stacked @ learn_stacking(stacked, junk) > 0, junk)


def test_a_value_that_misleads_gets_no_weight():
    rng = np.random.default_rng(0)
    junk = rng.random(300) < 0.5
    stacked = np.stack([np.where(junk, -2.0, 2.0), np.where(junk, 1.0, -1.0), np.ones(300)], axis=1)
    found = learn_stacking(stacked, junk)
    assert found[0] == 0
    assert found[1] > 0


def test_scores_that_do_not_vary_are_no_harm():
    scores, outlying, junk = example(20)
    scores[:, 5:] = 1
    assert np.isfinite(learn_marks(scores, outlying, junk, (10,), 0).confidence(scores, outlying)).all()
