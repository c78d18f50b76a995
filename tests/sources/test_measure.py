"""Measures of many pictures at a time, against each picture on its own."""

import cv2
import numpy as np
import pytest

from streamcluster.sources.decode import Decoded
from streamcluster.sources.measure import HASH_SIDE, measure_pictures

SHAPES = [(128, 128), (128, 128), (128, 128), (128, 97), (5, 128), (128, 97), (1, 1), (32, 64), (2, 3)]


def pictures(seed):
    rng = np.random.default_rng(seed)
    for number, (height, width) in enumerate(SHAPES):
        coarse = rng.integers(0, 256, (max(1, height // 9), max(1, width // 9))).astype(np.uint8)
        luma = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        yield Decoded(luma[:1, :1], luma, width, height, number, number, bytes([number]))


def hash_alone(luma):
    """The textbook way: a whole DCT, its 8 by 8 lowest frequencies, their median."""
    small = cv2.resize(luma, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float64))[:8, :8].ravel()
    return low - np.median(low) - 0.5


@pytest.mark.parametrize("seed", range(4))
def test_each_picture_is_measured_as_if_alone(seed):
    together = list(pictures(seed))
    measured = measure_pictures(together)
    for decoded, picture in zip(together, measured, strict=True):
        assert [picture] == measure_pictures([decoded])
        luma = decoded.luma
        laplacian = cv2.Laplacian(luma, cv2.CV_64F, borderType=cv2.BORDER_REPLICATE)
        assert picture.sharpness == pytest.approx(laplacian.var(), abs=1e-6)
        if min(luma.shape) >= HASH_SIDE:
            assert picture.brightness == pytest.approx(luma.mean(), abs=1)
            bits = np.array([picture.phash >> (63 - i) & 1 for i in range(64)], bool)
            margin = hash_alone(luma)
            clear = np.abs(margin) > 2  # halving twice rounds pixels twice
            assert clear.sum() > 32
            assert (bits == (margin > 0))[clear].all()


def test_no_picture_is_no_work():
    assert measure_pictures([]) == []
