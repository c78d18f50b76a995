"""Whether two pictures are one: they are laid over one another, and what then differs is measured.

Each measure sees another way in which pictures differ, so that none has to decide alone:

- `structure`: the small of it. The structure term of SSIM (Wang et al., IEEE TIP 13, 2004) over blocks.
- `shape`: the large of it, after averaging away what compression and shrinking change.
- `spot`: the place that differs most. It sees an expression that changed in a face that did not.
- `motion`: parts that moved against one another. It sees a head that turned, or lips that moved.
- `frame`: of two pictures made from one, one holds all that is in the other. Two frames of a film do not.
- `colour`: unless one of the two has none.

Captions are written along an edge, so that the first four are the best of the whole picture, of what is above its
lowest fifth, and of what is below its highest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.curate.motion import motion_between
from streamcluster.curate.placement import Placement, inside_of, place, place_closer, warped_onto
from streamcluster.curate.sums import (
    BLOCKS,
    add_up,
    bands_of,
    correlations,
    middle_of,
    pooled,
    regression,
    trusted,
    unexplained,
)
from streamcluster.curate.views import SIDE, VIEW_SIDE, Floats, halved
from streamcluster.runtime.blocks import tile_rows

#: A pair whose measures all reach these limits differs by 1. Measured, see docs/benchmarks.md.
STRUCTURE_LIMIT: Final = 0.15
SHAPE_LIMIT: Final = 0.005
SPOT_LIMIT: Final = 0.35
MOTION_LIMIT: Final = 0.063
FRAME_LIMIT: Final = 0.005
COLOUR_LIMIT: Final = 0.15
#: Times that what pictures of different frames differ by counts.
FRAME_PENALTY: Final = np.float32(2)

#: What a pair differs by that is not worth a closer look.
FAR: Final = np.float32(100.0)
#: 1 minus the correlation at 16 pixels from which on a pair is not looked at closer.
HOPELESS: Final = 0.25
#: Pairs that are looked at closer at a time: with fewer, threads wait for the interpreter's lock more often. On two
#: threads a pair of 8,192 took 358 µs with 32, 271 with 64, 226 with 128, 221 with 256.
TILE_PAIRS: Final = 128

#: Variances, in squared luma steps: of noise, from rounding and compression, and of a block that has a structure.
NOISE_VARIANCE, STRUCTURE_VARIANCE = 2.0, 100.0
#: Blocks with a structure that a picture must have to be told from others.
LEAST_BLOCKS: Final = 2.0
#: Steps of chroma that no linear function of the luma explains, halved, from which on a picture is coloured.
COLOURED: Final = 2.0
#: Values near white may have been cut off there.
WHITE: Final = 250.0
#: From here on one of the colours may be cut off.
BRIGHT: Final = 215.0


@dataclass(frozen=True, slots=True)
class Differences:
    """What n pairs differ by, each float32 (n,) in units of its limit; NaN-free, and `FAR` where not looked at."""

    structure: Floats
    shape: Floats
    spot: Floats
    motion: Floats
    frame: Floats
    colour: Floats

    def largest(self) -> Floats:
        """Return float32 (n,): the largest of the measures; of the frame as far as the pictures differ otherwise.

        Two crops of one picture hold neither all of the other, but are the more alike where they overlap.
        """
        content = np.maximum.reduce([self.structure, self.shape, self.spot, self.motion, self.colour])
        result: Floats = np.maximum(content, np.minimum(self.frame, FRAME_PENALTY * content))
        return result


def differences(
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    a_chroma: NDArray[np.int8],
    b_chroma: NDArray[np.int8],
    enough: float = float(FAR),
) -> Differences:
    """Compare n pairs of pictures.

    Parameters
    ----------
    a, b : uint8 (n, 64, 64)
        Luma, as `luma_of` gives it.
    a_chroma, b_chroma : int8 (n, 2, 16, 16)
        As `chroma_of` gives it.
    enough : float
        A pair that differs by more in the large, which is soon measured, is not looked at closer.
    """
    placed = place(halved(a.astype(np.float32)), halved(b.astype(np.float32)))
    near = np.flatnonzero(placed.correlation > 1 - HOPELESS)
    measures = np.full((len(fields(Differences)), len(a)), FAR, np.float32)
    for tile in tile_rows(len(near), TILE_PAIRS):
        rows = near[tile]
        some = placed.of(rows)
        luma = some.turned(a[rows].astype(np.float32)), b[rows].astype(np.float32)
        chroma = some.turned(a_chroma[rows].astype(np.float32)), b_chroma[rows].astype(np.float32)
        measures[:, rows] = _look_closer(*luma, *chroma, some, enough)
    return Differences(*measures)


def _look_closer(a: Floats, b: Floats, a_chroma: Floats, b_chroma: Floats, placed: Placement, enough: float) -> Floats:
    """Return the measures of pairs that are placed roughly, float32 (6, n), in the order of `Differences`."""
    half = halved(a), halved(b)
    numbers = place_closer(*half, placed)
    frame, colour = _frame(numbers), _colour(a_chroma, b_chroma, halved(half[0]), halved(half[1]), numbers)
    inside = inside_of(numbers, SIDE)
    one, other = _exposed_alike(warped_onto(a, numbers), b, inside)
    shape, spot = _shape_and_spot(one, other, inside)
    structure, motion = np.full((2, len(a)), FAR)
    close = np.flatnonzero(np.maximum.reduce([colour, shape, spot]) <= enough)
    one, other, inside = _softened(one[close]), _softened(other[close]), inside[close]
    structure[close] = _structure(one, other, inside)
    motion[close] = motion_between(one, other, inside) / np.float32(MOTION_LIMIT)
    return np.stack([structure, shape, spot, motion, frame, colour])


def _exposed_alike(a: Floats, b: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Return a with b's exposure, and both cut off where either picture was: brighter than white is white."""
    weights = inside * (np.maximum(a, b) < WHITE)
    gain, bias = regression(a, b, weights * middle_of(SIDE))
    misfit = np.abs(unexplained(a, b, gain, bias))
    usual = 2 * add_up(misfit, weights) / np.maximum(add_up(weights), 1) + 1
    gain, bias = regression(a, b, trusted(weights, misfit, usual))
    exposed = gain * a
    exposed += bias
    return np.minimum(exposed, 255, out=exposed), np.minimum(b, gain * 255 + bias)


def _softened(luma: Floats) -> Floats:
    """Return pictures averaged over 2 by 2 pixels, which evens out how sharp two of different sizes are."""
    soft, rows = luma.copy(), luma[:, :-1] + luma[:, 1:]
    inner = soft[:, :-1, :-1]
    np.add(rows[:, :, :-1], rows[:, :, 1:], out=inner)
    inner *= np.float32(0.25)
    return soft


def _structure(a: Floats, b: Floats, inside: Floats) -> Floats:
    """Return 1 minus the mean correlation of blocks that have a structure, in its limit's units."""
    share = np.maximum(pooled(inside, BLOCKS), np.float32(1e-6))
    a, b = a * inside, b * inside
    mean_a, mean_b = pooled(a, BLOCKS) / share, pooled(b, BLOCKS) / share
    of_a = np.maximum(pooled(a * a, BLOCKS) / share - mean_a**2, 0)
    of_b = np.maximum(pooled(b * b, BLOCKS) / share - mean_b**2, 0)
    both = pooled(a * b, BLOCKS) / share - mean_a * mean_b
    alike = both / np.sqrt((of_a + np.float32(NOISE_VARIANCE)) * (of_b + np.float32(NOISE_VARIANCE)))
    most = np.maximum(of_a, of_b)
    weights = np.where(share >= 0.5, most / (most + np.float32(STRUCTURE_VARIANCE)), 0)
    found = []
    for band in bands_of(BLOCKS):
        counted = weights * band[:, None]
        weight = add_up(counted)
        mean = add_up(alike, counted) / np.maximum(weight, np.float32(1e-6))
        found.append(np.where(weight >= LEAST_BLOCKS, mean, 0))
    result: Floats = (1 - np.maximum.reduce(found).astype(np.float32)) / np.float32(STRUCTURE_LIMIT)
    return result


def _shape_and_spot(a: Floats, b: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Return what pictures differ by after averaging, as a whole and where most, each in its limit's units."""
    share = pooled(inside, VIEW_SIDE)
    counts = (share >= 0.5).astype(np.float32)
    safe = np.maximum(share, np.float32(1e-6))
    own = b * inside
    coarse_a, coarse_b = pooled(a * inside, VIEW_SIDE) / safe, pooled(own, VIEW_SIDE) / safe
    total = np.maximum(add_up(inside), 1)
    own -= (add_up(own) / total)[:, None, None] * inside
    spread = np.sqrt(add_up(own, own) / total)
    misfit = np.abs(coarse_a - coarse_b) / np.maximum(spread, np.float32(1))[:, None, None]
    shapes, spots = [], []
    for band in bands_of(VIEW_SIDE):
        weights = counts * band[:, None]
        shapes.append(1 - correlations(coarse_a, coarse_b, weights))
        spots.append((misfit * weights).max(axis=(1, 2)))
    return np.minimum.reduce(shapes) / np.float32(SHAPE_LIMIT), np.minimum.reduce(spots) / np.float32(SPOT_LIMIT)


def _frame(numbers: Floats) -> Floats:
    """Return by how much neither picture holds all of the other, as a share of a side, in units of its limit."""
    scale, shift = numbers[:, 0::2], numbers[:, 1::2]
    beyond_a = np.maximum(shift + scale - 1, -1 - shift + scale).max(axis=1)
    beyond_b = np.maximum(1 - shift - scale, shift - scale + 1).max(axis=1)
    result: Floats = np.maximum(np.minimum(beyond_a, beyond_b), 0) / np.float32(2 * FRAME_LIMIT)
    return result


def _colour(a: Floats, b: Floats, a_luma: Floats, b_luma: Floats, numbers: Floats) -> Floats:
    """Return 1 minus the cosine between the chroma, in its limit's units; 0 where one of the two is grey or toned."""
    red, blue, luma = warped_onto(np.stack([a[:, 0], a[:, 1], a_luma]), numbers)
    inside = inside_of(numbers, VIEW_SIDE) * ((luma < BRIGHT) & (b_luma < BRIGHT))
    one, other = np.stack([red, blue], axis=1) * inside[:, None], b * inside[:, None]
    coloured = (_own_colour(one, luma, inside) > COLOURED) & (_own_colour(other, b_luma, inside) > COLOURED)
    product, *energies = ((x * y).sum(axis=(1, 2, 3)) for x, y in ((one, other), (one, one), (other, other)))
    cosine = product / np.sqrt(np.maximum(energies[0] * energies[1], np.float32(1e-3)))
    return np.where(coloured, (1 - cosine) / np.float32(COLOUR_LIMIT), 0).astype(np.float32)


def _own_colour(chroma: Floats, luma: Floats, inside: Floats) -> Floats:
    """Return float32 (n,): the root mean square of the chroma that no linear function of the luma explains."""
    total = np.maximum(inside.sum(axis=(1, 2)), np.float32(1))
    squares = np.zeros(len(chroma), np.float32)
    for channel in (chroma[:, 0], chroma[:, 1]):
        mean = (luma * inside).sum(axis=(1, 2)) / total
        centred = (luma - mean[:, None, None]) * inside
        slope = (centred * channel).sum(axis=(1, 2)) / np.maximum((centred * luma).sum(axis=(1, 2)), np.float32(1e-3))
        level = channel.sum(axis=(1, 2)) / total
        rest = (channel - level[:, None, None] - slope[:, None, None] * centred) * inside
        squares += np.square(rest).sum(axis=(1, 2)) / total
    return np.sqrt(squares)
