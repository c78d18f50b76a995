"""Quality flags: too dark, too bright, blurred, low in information, tiny, oddly shaped, grey among colour.

    thumbnails ─looks_of─▶ a few numbers a row ─flag_bits, with the catalogue─▶ bits ─grey_among_colour─▶ flags

A job that streams blocks calls the first two for each block, in any thread and order, and the third once, since only
the whole collection tells whether grey is the exception. `flags` and `live` are arrays over all rows, the columns of
the catalogue too, and `settings` is a `FlagSettings`::

    inside = inside_padding(width[block], height[block], side) if aspect == "pad" else None
    looks = looks_of(collection.thumbnails(block), inside)
    flags[block] = flag_bits(looks, width[block], height[block], sharpness[block], settings)
    ...
    flags = grey_among_colour(flags, live, settings.grey)

Dark, bright and odd shape are measured and limited as cleanvision does it; docs/benchmarks.md has where the others
differ from it, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import FlagSettings
from streamcluster.runtime.blocks import tile_rows

#: float32 arrays, of which NumPy's type stubs take many a product for something else.
Floats = NDArray[Any]

#: What each bit says, from the lowest.
FLAG_NAMES: Final = ("dark", "bright", "blurred", "low_information", "tiny", "odd_aspect", "grey")
#: Shares of a picture's pixels that are at most as bright as `low` and `high`.
LOW_SHARE, HIGH_SHARE = 0.05, 0.99
#: Levels by which the channels of a pixel with colour differ at least, and the share of such pixels in a picture that
#: has colour. Of the 1,860 JPEG and WebP files of near-duplicates the 120 that were turned grey have none, and the
#: palest of the others 21 %; the palest of 1,200 photographs of clothing has 5 %.
COLOURED_LEVELS: Final = 5
COLOURED_SHARE: Final = 0.01
#: Contrast below which nobody can tell whether a picture is blurred: plain and nearly black ones.
FAINT: Final = 5.0

#: Weights of squared red, green and blue in the perceived brightness (Finley, "HSP color model", 2006).
_HSP: Final = np.array([0.241, 0.691, 0.068], np.float32)
_LEVELS: Final = 256
#: Pixels that are measured at a time, or one picture, where that has more: 16 thumbnails of the usual size.
_TILE_PIXELS: Final = 16 * 64 * 64


@dataclass(frozen=True, slots=True)
class Looks:
    """What flags need to know of n thumbnails, each float32 (n,).

    Attributes
    ----------
    low, high
        5th and 99th percentile of the perceived brightness, 0 to 255.
    contrast
        Standard deviation of the brightness, in levels.
    entropy
        Of the brightness histogram, 0 to 8 bits.
    coloured
        Share of the pixels that have a colour.
    """

    low: Floats
    high: Floats
    contrast: Floats
    entropy: Floats
    coloured: Floats


def looks_of(thumbnails: NDArray[np.uint8], inside: NDArray[np.bool_] | None = None) -> Looks:
    """Measure thumbnails.

    Parameters
    ----------
    thumbnails : uint8 (n, S, S, 3)
        RGB.
    inside : bool (n, S, S), optional
        Pixels that belong to the picture and not to its padding, at least one of each; by default all.

    Notes
    -----
    Takes up to 2 MiB, or 24 bytes a pixel of a picture of more than 65,536.
    """
    numbers = np.empty((5, len(thumbnails)), np.float32)
    side = thumbnails.shape[1]
    for tile in tile_rows(len(thumbnails), max(1, _TILE_PIXELS // side**2)):
        numbers[:, tile] = _measure(thumbnails[tile], None if inside is None else inside[tile])
    return Looks(*numbers)


def _measure(thumbnails: NDArray[np.uint8], inside: NDArray[np.bool_] | None) -> list[Floats]:
    n = len(thumbnails)
    channels = np.ascontiguousarray(np.moveaxis(thumbnails, 3, 0))
    coloured = channels.max(axis=0) - channels.min(axis=0) >= COLOURED_LEVELS
    bins = _levels(channels)
    bins += np.arange(0, n * _LEVELS, _LEVELS)[:, None, None]
    if inside is not None:
        bins, coloured = bins[inside], coloured & inside
    counts = np.bincount(bins.ravel(), minlength=n * _LEVELS).reshape(n, _LEVELS)
    n_pixels = counts.sum(axis=1)
    shares = counts / n_pixels[:, None]
    up_to = counts.cumsum(axis=1)
    levels = np.arange(_LEVELS)
    mean = shares @ levels
    return [
        (up_to < LOW_SHARE * n_pixels[:, None]).sum(axis=1),
        (up_to < HIGH_SHARE * n_pixels[:, None]).sum(axis=1),
        np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0)),
        -(shares * np.log2(shares, where=counts > 0, out=np.zeros_like(shares))).sum(axis=1),
        coloured.sum(axis=(1, 2)) / n_pixels,
    ]


def _levels(channels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the rounded brightness (n, S, S) of the three channels (3, n, S, S).

    A channel after the other, in place: a quarter less time than a product with the weights.
    """
    squares = channels.astype(np.float32)
    np.square(squares, out=squares)
    squares *= _HSP[:, None, None, None]
    brightness = squares[0]
    brightness += squares[1]
    brightness += squares[2]
    np.sqrt(brightness, out=brightness)
    levels: NDArray[np.intp] = np.rint(brightness, out=brightness).astype(np.intp)
    return levels


def flag_bits(
    looks: Looks,
    width: NDArray[np.int32],
    height: NDArray[np.int32],
    sharpness: NDArray[np.float32],
    settings: FlagSettings,
) -> NDArray[np.uint16]:
    """Return the flags of n pictures, where `grey` says that a picture has no colour.

    Parameters
    ----------
    looks : Looks
        Of the thumbnails.
    width, height, sharpness : (n,)
        As the catalogue has them: pixels, and the variance of the Laplacian of the luma.
    settings : FlagSettings
        The limits.

    Returns
    -------
    uint16 (n,)
        Bit i stands for `FLAG_NAMES[i]`.

    Notes
    -----
    Blurred is what has little fine structure for its contrast. The Laplacian's variance alone grows with the square of
    the contrast, and dim pictures count as blurred; divided by the square of it, hard-lit ones do. In between, most of
    what was blurred on purpose is found at the same share of what was not.
    """
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    found = (
        looks.high < settings.dark,
        looks.low > settings.bright,
        (sharpness < settings.blurred * looks.contrast) & (looks.contrast >= FAINT),
        looks.entropy < settings.low_information,
        shorter < settings.tiny,
        shorter < settings.odd_aspect * longer,
        looks.coloured < COLOURED_SHARE,
    )
    bits = np.zeros(len(width), np.uint16)
    for i, flagged in enumerate(found):
        bits |= flagged.astype(np.uint16) << np.uint16(i)
    return bits


def grey_among_colour(bits: NDArray[np.uint16], live: NDArray[np.bool_], most: float) -> NDArray[np.uint16]:
    """Return the flags without `grey` unless grey pictures are the exception.

    Parameters
    ----------
    bits : uint16 (n,)
        Of the whole collection, as `flag_bits` gives them.
    live : bool (n,)
        Rows that count.
    most : float
        Share of the live rows that may be grey; from there on, grey is what the collection looks like.
    """
    grey = np.uint16(1 << FLAG_NAMES.index("grey"))
    n_grey = np.count_nonzero(bits[live] & grey)
    return bits if n_grey < most * np.count_nonzero(live) else bits & ~grey


def inside_padding(width: NDArray[np.int32], height: NDArray[np.int32], side: int) -> NDArray[np.bool_]:
    """Return which pixels of padded thumbnails belong to the picture, bool (n, side, side).

    >>> inside_padding(np.array([200]), np.array([100]), 4)[0].astype(int)
    array([[0, 0, 0, 0],
           [1, 1, 1, 1],
           [1, 1, 1, 1],
           [0, 0, 0, 0]])
    """
    longer = np.maximum(width, height)
    down, across = (_centred(np.maximum(1, np.rint(side * length / longer)), side) for length in (height, width))
    return down[:, :, None] & across[:, None, :]


def _centred(lengths: Floats, side: int) -> NDArray[np.bool_]:
    """Return the middle pixels of each of n lines, as the decoder centres pictures, bool (n, side)."""
    start = ((side - lengths) // 2)[:, None]
    pixels = np.arange(side)
    return (pixels >= start) & (pixels < start + lengths[:, None])
