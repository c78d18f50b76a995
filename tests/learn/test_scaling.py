import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcluster.learn.scaling import learn_scale

SIZES, ENERGIES = (3, 1, 5), (1.0, 1.0, 6.0)


def energies(rows, sizes=SIZES):
    """The mean squared distance to the mean, part by part, by the plain formula."""
    centred = rows.astype(float) - rows.astype(float).mean(axis=0)
    return [(part**2).sum(axis=1).mean() for part in np.split(centred, np.cumsum(sizes)[:-1], axis=1)]


def some_rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 9)) * 10 ** rng.uniform(-3, 3, 9) + rng.normal(size=9)).astype(np.float32)


def test_scaled_parts_have_the_energy_asked_for():
    rows = some_rows(300)
    scale = learn_scale([rows], SIZES, ENERGIES)
    assert (scale.shape, scale.dtype) == ((9,), np.float32)
    np.testing.assert_allclose(energies(rows * scale), ENERGIES, rtol=1e-5)


def test_a_part_is_scaled_by_one_factor():
    scale = learn_scale([some_rows(50)], SIZES, ENERGIES)
    assert [len(set(part)) for part in np.split(scale, np.cumsum(SIZES)[:-1])] == [1, 1, 1]


@settings(deadline=None)
@given(st.lists(st.integers(0, 150), min_size=1, max_size=8).filter(any), st.integers(0, 99))
def test_batches_do_not_matter(lengths, seed):
    rows = some_rows(max(2, sum(lengths)), seed)
    batches = np.split(rows, np.cumsum(lengths))
    expected = np.sqrt(np.divide(ENERGIES, energies(rows)))
    np.testing.assert_allclose(learn_scale(batches, SIZES, ENERGIES), np.repeat(expected, SIZES), rtol=1e-4)


def test_batches_are_left_as_they_are():
    rows = some_rows(100)
    kept = rows.copy()
    learn_scale([rows], SIZES, ENERGIES)
    np.testing.assert_array_equal(rows, kept)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_part_that_does_not_vary_stays_as_it_is(value):
    rows = some_rows(100)
    rows[:, 3] = value
    scale = learn_scale([rows[:70], rows[70:]], SIZES, ENERGIES)
    assert scale[3] == 1
    assert (np.delete(scale, 3) != 1).all()


def test_a_single_row_varies_in_nothing():
    np.testing.assert_array_equal(learn_scale([some_rows(1)], SIZES, ENERGIES), 1)


def test_far_from_zero_a_little_variation_is_still_measured():
    rows = np.random.default_rng(0).normal(1000, 1, (500, 9)).astype(np.float32)
    np.testing.assert_allclose(energies(rows * learn_scale([rows], SIZES, ENERGIES)), ENERGIES, rtol=1e-3)
