import numpy as np
import pytest

from streamcluster.learn.eigenimages import eigenimages
from streamcluster.learn.features import SPACES


def of_picture(features, picture):
    """The eigenimages of a fit whose mean is a picture's features, and whose components are two of the features."""
    rows = SPACES[features].compute(picture[None])
    n_features = rows.shape[1]
    components = np.zeros((2, n_features), np.float32)
    components[0, -1], components[1, 0] = 1, 1
    scale = np.full(n_features, 3, np.float32)
    return eigenimages(features, len(picture), scale, rows[0] * 3.0, components)


@pytest.mark.parametrize("features", ["rgb", "lab", "hsv"])
def test_the_mean_looks_like_the_picture(features):
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    found = of_picture(features, picture)
    assert np.abs(found.mean.astype(int) - picture).max() <= 2
    assert found.components.shape == (2, 16, 16, 3)
    assert found.others == ""
    np.testing.assert_allclose(found.shares, 1)


def test_a_gray_mean_is_the_luma():
    picture = np.full((16, 16, 3), (250, 10, 10), np.uint8)
    found = of_picture("gray", picture)
    assert np.unique(found.mean).tolist() == [82]


@pytest.mark.parametrize("features", ["color", "mixed"])
def test_only_a_part_of_these_is_a_picture(features):
    found = of_picture(features, np.full((16, 16, 3), (200, 60, 60), np.uint8))
    assert found.others
    np.testing.assert_allclose(found.shares, [1, 0])
    assert len(np.unique(found.components[1].reshape(-1, 3), axis=0)) == 1  # nothing of it is in the picture


def test_the_sign_of_a_component_shows():
    components = np.array([[0.6, -0.8, 0, 0]], np.float32)
    found = eigenimages("gray", 2, np.ones(4, np.float32), np.zeros(4), components)
    assert found.components[0, :, :, 0].tolist() == [[223, 0], [128, 128]]


def test_a_models_numbers_are_no_picture():
    assert eigenimages("onnx", 16, np.ones(4, np.float32), np.zeros(4), np.eye(4, dtype=np.float32)) is None
