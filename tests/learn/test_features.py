import numpy as np
import pytest
from PIL import Image

from streamcluster.learn.features import SPACES, lab_rows


@pytest.fixture
def thumbnails():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("side", [8, 16, 24, 64])
def test_every_space_gives_the_float32_rows_it_promises(name, side):
    thumbnails = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    rows = SPACES[name].compute(thumbnails)
    assert rows.shape == (3, SPACES[name].count(side))
    assert rows.dtype == np.float32


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_row_depends_on_its_own_thumbnail_alone(name, thumbnails):
    together = SPACES[name].compute(thumbnails)
    alone = np.concatenate([SPACES[name].compute(thumbnails[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_no_thumbnails_give_no_rows(name):
    rows = SPACES[name].compute(np.empty((0, 64, 64, 3), np.uint8))
    assert rows.shape == (0, SPACES[name].count(64))


def test_gray_is_the_luma_that_pillow_computes(thumbnails):
    gray = SPACES["gray"].compute(thumbnails[:1]).reshape(64, 64) * 255
    expected = np.asarray(Image.fromarray(thumbnails[0]).convert("L"), float)
    assert np.abs(gray - expected).max() <= 1


def test_lab_of_known_colours():
    """White is L 100; sRGB red is Lab (53.2, 80.1, 67.2), by Lindbloom's tables for D65."""
    colours = np.array([[255, 255, 255], [255, 0, 0]], np.uint8)
    thumbnails = np.broadcast_to(colours[:, None, None], (2, 16, 16, 3)).copy()
    lab = lab_rows(thumbnails).reshape(2, 256, 3)[:, 0] * [200, 100, 100]
    np.testing.assert_allclose(lab, [[100, 0, 0], [53.2, 80.1, 67.2]], atol=0.5)
