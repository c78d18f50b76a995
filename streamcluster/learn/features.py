"""What of a picture is compared: pure functions from a block of thumbnails to rows of numbers.

A feature space has a name and a version, which are stored with each fit; changing what a space computes means raising
its version. A space may be made of parts that are measured in different units; `learn/scaling.py` brings them together.

Left out, by measurement: Lab pictures or histograms alone, histograms of the whole picture, and mirrored copies tell
less than `color`; histograms of HSV on top of it gain 0.008 in normalised mutual information for many more features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from streamcluster.runtime.blocks import tile_rows

Thumbnails = NDArray[np.uint8]
Rows = NDArray[np.float32]
Parts = tuple[Rows, ...]

#: Side of the `lab` picture, and weight of its lightness. Measured on 11,700 faces of 20 drawn characters (k = 50,
#: normalised mutual information): 64×64 RGB 0.37, 32×32 Lab 0.525, 16×16 Lab with half lightness 0.549.
LAB_SIDE: Final = 16
LAB_LIGHTNESS: Final = 0.5
#: Larger thumbnails are averaged to this side before `color` and `texture` look at them.
LOOK_SIDE: Final = 64
#: Side of the picture of hue, saturation and value.
CONE_SIDE: Final = 16
#: Level that this share of a picture's pixels does not exceed once its exposure is normalised, and the largest factor
#: that takes it there: a picture darkened to a fifth comes back, and noise in a black one stays dark.
EXPOSED_SHARE: Final = 0.98
EXPOSED_LEVEL: Final = 235
LARGEST_GAIN: Final = 8.0
#: Where sRGB lies in CIE L*a*b* (D65), which the bins of the histograms divide evenly. With bins over -128 to 127
#: neutral grey sits on the border between two of them, and noise decides: sprites 0.465 instead of 0.484.
GAMUT: Final = ((0.0, 100.0), (-86.2, 98.3), (-107.9, 94.5))
#: Tan & Triggs 2010, table 1, and the two Gaussians.
GAMMA: Final = 0.2
SIGMAS: Final = (1.0, 2.0)
ALPHA: Final = 0.1
TAU: Final = 10.0
#: Pixels that are worked on at a time, so that what is between stays in the processor's cache.
TILE_PIXELS: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """A named function from uint8 (n, S, S, 3) RGB thumbnails to float32 (n, F) rows.

    Attributes
    ----------
    name : str
    version : int
    transform : callable
        Returns the parts, float32 (n, F_i) each, of one or more thumbnails.
    part_sizes : callable
        Returns the sizes F_i of the parts for the thumbnails' side S.
    """

    name: str
    version: int
    transform: Callable[[Thumbnails], Parts]
    part_sizes: Callable[[int], tuple[int, ...]]

    def count(self, side: int) -> int:
        """Return the number of features F of thumbnails of this side."""
        return sum(self.part_sizes(side))

    def temporary_bytes(self, side: int) -> int:
        """Return what `compute` takes at most beside the thumbnails and the rows."""
        rows = _tile_pictures(side)
        return rows * (3 * 4 * self.count(side) + 48 * min(side, LOOK_SIDE) ** 2 + 3 * side**2)

    def compute(self, thumbnails: Thumbnails) -> Rows:
        """Return the rows of any number of thumbnails: the parts, one after another."""
        n, side = thumbnails.shape[:2]
        rows = np.empty((n, self.count(side)), np.float32)
        parts = np.split(rows, np.cumsum(self.part_sizes(side))[:-1], axis=1)
        for tile in tile_rows(n, _tile_pictures(side)):
            for part, values in zip(parts, self.transform(thumbnails[tile]), strict=True):
                part[tile] = values
        return rows


def _tile_pictures(side: int) -> int:
    return max(1, TILE_PIXELS // side**2)


def rgb_rows(thumbnails: Thumbnails) -> Rows:
    """Return the pixels as they are, 0 to 1: float32 (n, 3·S·S)."""
    return thumbnails.reshape(len(thumbnails), -1).astype(np.float32) / np.float32(255)


def gray_rows(thumbnails: Thumbnails) -> Rows:
    """Return the luma (ITU-R BT.601), 0 to 1: float32 (n, S·S)."""
    return _luma(thumbnails).reshape(len(thumbnails), -1).astype(np.float32) / np.float32(255)


def _luma(thumbnails: Thumbnails) -> NDArray[np.uint8]:
    n, side = thumbnails.shape[:2]
    gray = cv2.cvtColor(_stacked(thumbnails), cv2.COLOR_RGB2GRAY)
    return cast("NDArray[np.uint8]", gray).reshape(n, side, side)


def _stacked(thumbnails: Thumbnails) -> Thumbnails:
    """Return the pictures as one tall one, for functions that treat each pixel by itself."""
    n, height, width = thumbnails.shape[:3]
    return thumbnails.reshape(n * height, width, 3)


def lab_rows(thumbnails: Thumbnails) -> Rows:
    """Return small CIE L*a*b* pictures whose lightness counts half: float32 (n, 3·side·side), side <= 16.

    Differences in this space are closer to what the eye sees than in RGB, and light takes over less.
    """
    small = _stacked(shrink(thumbnails, LAB_SIDE)).astype(np.float32) / np.float32(255)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab)
    weighted: Rows = lab * (np.array([LAB_LIGHTNESS, 1, 1], np.float32) / np.float32(100))
    return weighted.reshape(len(thumbnails), -1)


def hsv_rows(thumbnails: Thumbnails) -> Rows:
    """Return small pictures in the HSV cone (S·cos H, S·sin H, V): float32 (n, 3·side·side), side <= 16.

    Hue is an angle, which a difference of numbers does not know; in the cone red is beside red, and grey has no hue.
    """
    small = _stacked(shrink(thumbnails, CONE_SIDE)).astype(np.float32) / np.float32(255)
    hue, saturation, value = np.moveaxis(cv2.cvtColor(small, cv2.COLOR_RGB2HSV), -1, 0)
    angle = np.radians(hue)
    cone: Rows = np.stack([saturation * np.cos(angle), saturation * np.sin(angle), value], axis=-1)
    return cone.reshape(len(thumbnails), -1)


def shrink(thumbnails: Thumbnails, side: int) -> Thumbnails:
    """Return area averages of thumbnails that are larger than `side`, the others as they are."""
    n, image_size = thumbnails.shape[:2]
    if image_size <= side:
        return thumbnails
    if image_size % side == 0:
        small = cv2.resize(_stacked(thumbnails), (side, n * side), interpolation=cv2.INTER_AREA)
        return cast(Thumbnails, small).reshape(n, side, side, 3)
    return cast(Thumbnails, np.stack([cv2.resize(t, (side, side), interpolation=cv2.INTER_AREA) for t in thumbnails]))


def expose(thumbnails: Thumbnails) -> Thumbnails:
    """Return pictures made lighter or darker, so that nearly all of their pixels reach up to the same level.

    One factor a picture: that of the 98th percentile of V = max(R, G, B) to 235, at most 8. Of 11,700 faces, 30 % of
    them darkened to 0.2 – 0.6, this lifts the darkened ones' normalised mutual information from 0.395 to 0.579.
    """
    red, green, blue = cv2.split(_stacked(thumbnails))
    value = cv2.max(cv2.max(red, green), blue).reshape(len(thumbnails), -1)
    nth = int(EXPOSED_SHARE * (value.shape[1] - 1))
    counts = np.stack([cv2.calcHist([pixels], [0], None, [256], [0, 256]).ravel() for pixels in value])
    level = np.count_nonzero(np.cumsum(counts, axis=1) <= nth, axis=1)
    gain = np.minimum(EXPOSED_LEVEL / np.maximum(level, 1), LARGEST_GAIN).astype(np.float32)
    tables = np.minimum(np.arange(256, dtype=np.float32) * gain[:, None], 255).astype(np.uint8)
    exposed = np.empty_like(thumbnails)
    for picture, table, target in zip(thumbnails, tables, exposed, strict=True):
        cv2.LUT(picture, table, target)
    return exposed


@dataclass(frozen=True)
class LabHistogram:
    """Colour histograms of the cells of a grid, as square roots of shares (Hellinger: Arandjelović & Zisserman 2012).

    Attributes
    ----------
    grid : int
        Cells across and down.
    bins : tuple of int
        Intervals of L*, a* and b*. Bins that no colour of sRGB falls into are left out, which changes no distance.
    """

    grid: int
    bins: tuple[int, int, int]

    @property
    def count(self) -> int:
        """Return the number of features."""
        return self.grid**2 * _count_bins(self.bins)

    def rows(self, codes: NDArray[np.intp], side: int) -> Rows:
        """Return float32 (n, count) rows, given the 16-bit colours (n, S·S) of pictures."""
        n = len(codes)
        cells, cell_pixels = _cells(side, self.grid)
        n_bins = _count_bins(self.bins)
        index = np.take(_bin_table(self.bins), codes, mode="clip")
        index += cells * np.uint32(n_bins)
        index += np.arange(n, dtype=np.uint32)[:, None] * np.uint32(self.count)
        shares = np.bincount(index.ravel(), minlength=n * self.count).astype(np.float32).reshape(n, -1, n_bins)
        shares /= cell_pixels[:, None]
        return np.sqrt(shares, out=shares).reshape(n, -1)


@cache
def _bin_table(bins: tuple[int, int, int]) -> NDArray[np.uint32]:
    """Return the bin of each of the 65,536 colours of 5, 6 and 5 bits, counted without those that none falls into.

    Looking up 16 bits of a colour costs a sixth of converting 24, and the groups agree with classes as well.
    """
    codes = np.arange(1 << 16)
    rgb = np.stack([codes >> 11, codes >> 5 & 63, codes & 31], axis=-1) / [31, 63, 31]
    lab = cv2.cvtColor(rgb[None].astype(np.float32), cv2.COLOR_RGB2Lab)[0]
    low, high = np.transpose(GAMUT)
    intervals = np.clip((lab - low) / (high - low) * bins, 0, np.array(bins) - 1).astype(np.intp)
    return np.unique(np.ravel_multi_index(tuple(intervals.T), bins), return_inverse=True)[1].astype(np.uint32)


@cache
def _count_bins(bins: tuple[int, int, int]) -> int:
    return int(_bin_table(bins).max()) + 1


@cache
def _cells(side: int, grid: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the cell of each pixel of a picture, uint32 (S·S,), and the pixels of each cell, float32 (grid·grid,)."""
    along = np.arange(side) * grid // side
    cells = np.add.outer(along * grid, along).ravel()
    return cells.astype(np.uint32), np.bincount(cells).astype(np.float32)


COLOR_HISTOGRAMS: Final = (LabHistogram(4, (3, 8, 8)), LabHistogram(2, (4, 10, 10)))


def color_parts(thumbnails: Thumbnails) -> Parts:
    """Return which colours are where, whatever the light: two grids of Lab histograms and a small HSV picture.

    Exposure is normalised first. A 64×64 picture costs 60 µs on one thread; `rgb`, which only copies, 5 µs.
    """
    exposed = expose(shrink(thumbnails, LOOK_SIDE))
    n, side = exposed.shape[:2]
    packed: NDArray[Any] = cv2.cvtColor(_stacked(exposed), cv2.COLOR_RGB2BGR565)
    codes = packed.view(np.uint16).reshape(n, -1).astype(np.intp)
    return (*(histogram.rows(codes, side) for histogram in COLOR_HISTOGRAMS), hsv_rows(exposed))


def color_sizes(side: int) -> tuple[int, ...]:
    """Return the sizes of the parts of `color`."""
    return (*(histogram.count for histogram in COLOR_HISTOGRAMS), 3 * min(side, CONE_SIDE) ** 2)


def texture_rows(thumbnails: Thumbnails) -> Rows:
    """Return grey pictures freed of the light that falls on them: float32 (n, side·side), side <= 64, -10 to 10.

    X. Tan and B. Triggs, "Enhanced local texture feature sets for face recognition under difficult lighting
    conditions", IEEE Transactions on Image Processing 19 (2010): gamma, a difference of Gaussians, and contrast
    equalised twice. For aligned photographs under any light. A picture costs 55 µs on one thread.
    """
    gray = _luma(shrink(thumbnails, LOOK_SIDE))
    lifted = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)[gray]
    rows = np.empty((len(gray), gray[0].size), np.float32)
    for picture, row in zip(lifted, rows, strict=True):
        narrow, wide = (cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) for sigma in SIGMAS)
        row[...] = (narrow - wide).ravel()
    rows /= _contrast(np.abs(rows))
    rows /= _contrast(np.minimum(np.abs(rows), TAU))
    return np.multiply(np.tanh(rows / TAU), TAU, dtype=np.float32)


def _contrast(magnitudes: Rows) -> Rows:
    """Return the power mean of each row, float32 (n, 1), that hardly minds large values; 1 for rows of zeros."""
    mean: Any = np.mean(magnitudes**ALPHA, axis=1, keepdims=True) ** (1 / ALPHA)
    return np.where(mean > 0, mean, 1).astype(np.float32)


def mixed_parts(thumbnails: Thumbnails) -> Parts:
    """Return the parts of `color`, and `texture`."""
    return (*color_parts(thumbnails), texture_rows(thumbnails))


def texture_size(side: int) -> int:
    """Return the features of `texture`."""
    return min(side, LOOK_SIDE) ** 2


def part_energies(space: FeatureSpace, side: int, texture_weight: float) -> tuple[float, ...]:
    """Return the mean energy that each part of a space is to have: 1, and in `mixed` the texture so much of all others.

    >>> part_energies(SPACES["mixed"], 64, 2.0)
    (1.0, 1.0, 1.0, 6.0)
    """
    equal = (1.0,) * len(space.part_sizes(side))
    return (*equal[:-1], texture_weight * len(equal[:-1])) if space.name == "mixed" else equal


SPACES = {
    space.name: space
    for space in (
        FeatureSpace("color", 1, color_parts, color_sizes),
        FeatureSpace("texture", 1, lambda t: (texture_rows(t),), lambda side: (texture_size(side),)),
        FeatureSpace("mixed", 1, mixed_parts, lambda side: (*color_sizes(side), texture_size(side))),
        FeatureSpace("lab", 2, lambda t: (lab_rows(t),), lambda side: (3 * min(side, LAB_SIDE) ** 2,)),
        FeatureSpace("hsv", 1, lambda t: (hsv_rows(t),), lambda side: (3 * min(side, CONE_SIDE) ** 2,)),
        FeatureSpace("rgb", 1, lambda t: (rgb_rows(t),), lambda side: (3 * side**2,)),
        FeatureSpace("gray", 1, lambda t: (gray_rows(t),), lambda side: (side**2,)),
    )
}
