import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from streamcluster.learn.features import (
    COLOR_HISTOGRAMS,
    EXPOSED_LEVEL,
    SPACES,
    color_parts,
    expose,
    hsv_rows,
    lab_rows,
    part_energies,
    shrink,
    texture_rows,
)

SIDES = [8, 9, 16, 17, 24, 63, 64, 65, 128, 224]


def noise(n, side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def scenes(n, side=64, seed=0):
    """Soft pictures with bright and dark places, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    coarse[:, 2, 2] = 235
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR) for picture in coarse])


def darkened(thumbnails, factor):
    return np.rint(thumbnails * factor).astype(np.uint8)


def plain(colour, side=64):
    return np.full((1, side, side, 3), colour, np.uint8)


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("side", SIDES)
def test_every_space_gives_the_float32_rows_it_promises(name, side):
    space = SPACES[name]
    rows = space.compute(noise(3, side))
    assert rows.shape == (3, space.count(side)) == (3, sum(space.part_sizes(side)))
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("side", [9, 17, 64, 224])
def test_a_row_depends_on_its_own_thumbnail_alone(name, side):
    thumbnails = np.concatenate([noise(20, side), scenes(17, side)])
    kept = thumbnails.copy()
    together = SPACES[name].compute(thumbnails)
    alone = np.concatenate([SPACES[name].compute(thumbnails[i : i + 1]) for i in range(len(thumbnails))])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(thumbnails, kept)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_threads_do_not_disturb_one_another(name):
    blocks = [noise(40, 64, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(SPACES[name].compute, blocks))
    for rows, block in zip(found, blocks, strict=True):
        np.testing.assert_array_equal(rows, SPACES[name].compute(block))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_no_thumbnails_give_no_rows(name):
    rows = SPACES[name].compute(np.empty((0, 64, 64, 3), np.uint8))
    assert rows.shape == (0, SPACES[name].count(64))


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("side", [8, 64, 250, 1024])
def test_what_a_block_takes_beside_its_rows_is_what_is_promised(name, side):
    thumbnails = noise(max(1, (2 << 20) // side**2 // 3), side)
    SPACES[name].compute(thumbnails[:1])
    tracemalloc.start()
    try:
        rows = SPACES[name].compute(thumbnails)
        taken = tracemalloc.get_traced_memory()[1] - rows.nbytes
    finally:
        tracemalloc.stop()
    assert taken <= SPACES[name].temporary_bytes(side)


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("colour", [0, 1, 128, 255])
def test_pictures_of_one_colour_have_finite_rows(name, colour):
    for side in (8, 17, 64):
        rows = SPACES[name].compute(plain(colour, side))
        assert np.isfinite(rows).all()


def test_gray_is_the_luma_that_pillow_computes():
    thumbnails = noise(1, 64)
    gray = SPACES["gray"].compute(thumbnails).reshape(64, 64) * 255
    expected = np.asarray(Image.fromarray(thumbnails[0]).convert("L"), float)
    assert np.abs(gray - expected).max() <= 1


def test_rgb_is_the_pixels():
    thumbnails = noise(2, 9)
    np.testing.assert_array_equal(np.rint(SPACES["rgb"].compute(thumbnails) * 255), thumbnails.reshape(2, -1))


def test_lab_of_known_colours():
    """White is L 100; sRGB red is Lab (53.2, 80.1, 67.2), by Lindbloom's tables for D65."""
    colours = np.array([[255, 255, 255], [255, 0, 0]], np.uint8)
    thumbnails = np.broadcast_to(colours[:, None, None], (2, 16, 16, 3)).copy()
    lab = lab_rows(thumbnails).reshape(2, 256, 3)[:, 0] * [200, 100, 100]
    np.testing.assert_allclose(lab, [[100, 0, 0], [53.2, 80.1, 67.2]], atol=0.5)


@pytest.mark.parametrize(
    ("colour", "cone"),
    [
        ((255, 0, 0), (1, 0, 1)),
        ((0, 255, 0), (-0.5, 0.75**0.5, 1)),
        ((0, 0, 255), (-0.5, -(0.75**0.5), 1)),
        ((255, 255, 255), (0, 0, 1)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_hsv_of_known_colours_is_their_place_in_the_cone(colour, cone):
    np.testing.assert_allclose(hsv_rows(plain(colour)).reshape(256, 3), np.tile(cone, (256, 1)), atol=1e-6)


@pytest.mark.parametrize("side", [17, 64, 100])
def test_shrinking_averages_areas(side):
    small = shrink(plain((10, 20, 30), side), 16)
    assert small.shape == (1, 16, 16, 3)
    assert (small == [10, 20, 30]).all()
    thumbnails = noise(2, 64)
    np.testing.assert_allclose(
        shrink(thumbnails, 16), thumbnails.reshape(2, 16, 4, 16, 4, 3).mean(axis=(2, 4)), atol=0.51
    )


@pytest.mark.parametrize("factor", [0.2, 0.35, 0.6, 1.0])
def test_exposure_takes_the_98th_percentile_of_the_value_to_its_level(factor):
    exposed = expose(darkened(scenes(6), factor))
    levels = np.percentile(exposed.max(axis=3).reshape(6, -1), 98, axis=1)
    np.testing.assert_allclose(levels, EXPOSED_LEVEL, atol=5)


def test_a_picture_that_is_nearly_black_stays_dark():
    assert expose(plain(2)).max() == 16
    assert expose(plain(0)).max() == 0


@pytest.mark.parametrize("factor", [0.2, 0.4, 0.6])
def test_color_knows_a_darkened_picture_again(factor):
    """It lies nearer to what it was than to any other picture, by far, which plain pixels do not manage."""
    bright = scenes(12)
    before, after = SPACES["color"].compute(bright), SPACES["color"].compute(darkened(bright, factor))
    distances = np.linalg.norm(after[:, None] - before[None], axis=2)
    others = distances + np.where(np.eye(12), np.inf, 0)
    assert (np.diag(distances) < 0.6 * others.min(axis=1)).all()


def test_the_cells_of_a_histogram_hold_shares_of_their_own_pixels():
    for side in (8, 17, 64):
        *histograms, _ = color_parts(noise(2, side))
        for rows, histogram in zip(histograms, COLOR_HISTOGRAMS, strict=True):
            shares = (rows.reshape(2, histogram.grid**2, -1) ** 2).sum(axis=2)
            np.testing.assert_allclose(shares, 1, rtol=1e-5)


def test_a_histogram_counts_what_a_loop_over_pixels_counts():
    histogram, side = COLOR_HISTOGRAMS[0], 10
    codes = np.random.default_rng(0).integers(0, 1 << 16, (2, side * side))
    rows = histogram.rows(codes, side).reshape(2, 4, 4, -1)
    one_pixel = np.array([[histogram.rows(np.array([[code]]), 1)[0] for code in row] for row in codes])
    bins = one_pixel.reshape(2, side, side, 16, -1)[:, :, :, 0].argmax(axis=3)
    for picture in range(2):
        for down in range(4):
            for across in range(4):
                inside = np.ix_(np.arange(side) * 4 // side == down, np.arange(side) * 4 // side == across)
                cell = bins[picture][inside].ravel()
                expected = np.sqrt(np.bincount(cell, minlength=rows.shape[3]) / len(cell))
                np.testing.assert_allclose(rows[picture, down, across], expected, rtol=1e-6)


def test_every_bin_of_a_histogram_is_some_colour():
    codes = np.arange(1 << 16)[None]
    for histogram in COLOR_HISTOGRAMS:
        whole = histogram.rows(codes, 256).reshape(histogram.grid**2, -1).max(axis=0)
        assert (whole > 0).all()
        assert whole.size < np.prod(histogram.bins)


def test_texture_is_that_of_a_slow_and_plain_reading_of_the_paper():
    from scipy.ndimage import gaussian_filter

    thumbnails = noise(2, 32)
    for row, gray in zip(texture_rows(thumbnails), SPACES["gray"].compute(thumbnails).astype(float), strict=True):
        lifted = gray.reshape(32, 32) ** 0.2
        image = gaussian_filter(lifted, 1, mode="nearest") - gaussian_filter(lifted, 2, mode="nearest")
        image = image / np.mean(np.abs(image) ** 0.1) ** 10
        image = image / np.mean(np.minimum(np.abs(image), 10) ** 0.1) ** 10
        np.testing.assert_allclose(row.reshape(32, 32), 10 * np.tanh(image / 10), atol=0.05)


@pytest.mark.parametrize("factor", [0.3, 0.6])
def test_texture_does_not_mind_how_bright_the_light_is(factor):
    bright = noise(4, 64)
    before, after = texture_rows(bright), texture_rows(darkened(bright, factor))
    assert np.linalg.norm(after - before, axis=1).max() < 0.15 * np.linalg.norm(before, axis=1).min()


def test_mixed_is_color_and_texture():
    thumbnails = scenes(3)
    expected = np.hstack([SPACES["color"].compute(thumbnails), SPACES["texture"].compute(thumbnails)])
    np.testing.assert_array_equal(SPACES["mixed"].compute(thumbnails), expected)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_each_part_has_an_energy(name):
    energies = part_energies(SPACES[name], 64, 0.5)
    assert len(energies) == len(SPACES[name].part_sizes(64))
    assert energies == ((1, 1, 1, 1.5) if name == "mixed" else (1,) * len(energies))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(SPACES)), st.integers(8, 80), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_any_side_and_number_of_thumbnails(name, side, n, seed):
    thumbnails = noise(n, side, seed)
    rows = SPACES[name].compute(thumbnails)
    assert rows.shape == (n, SPACES[name].count(side))
    assert np.isfinite(rows).all()
    if n:
        np.testing.assert_array_equal(rows[-1:], SPACES[name].compute(thumbnails[-1:]))
