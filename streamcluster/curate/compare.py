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
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.curate.views import (
    CAPTION,
    MIDDLE,
    SIDE,
    VIEW_SIDE,
    VIEWS,
    Floats,
    averaging,
    describe,
    halved,
)
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
#: Steps of the search for how one picture lies in the other, at 16 and at 32 pixels.
COARSE_STEPS, FINE_STEPS = 6, 4
#: 1 minus the correlation at 16 pixels from which on a pair is not looked at closer.
HOPELESS: Final = 0.25
#: Pairs that are looked at closer at a time: arrays of their pixels fit a processor's cache.
TILE_PAIRS: Final = 32

#: Blocks of a picture each way, for `structure`.
BLOCKS: Final = 8
#: Variances, in squared luma steps: of noise, from rounding and compression, and of a block that has a structure.
NOISE_VARIANCE, STRUCTURE_VARIANCE = 2.0, 100.0
#: Variance of the slopes, in squared luma steps a pixel, below which a picture is too smooth to tell what moved in it,
#: that of their noise, and steps of the search for what the placement explains.
MOTION_VARIANCE, MOTION_NOISE, MOTION_STEPS = np.float32(20.0), np.float32(4.0), 3
#: Pixels along the edge in whose slopes there may be a border.
MOTION_MARGIN: Final = 2
#: Blocks with a structure that a picture must have to be told from others.
LEAST_BLOCKS: Final = 2.0
#: Steps of chroma that no linear function of the luma explains, halved, from which on a picture is coloured.
COLOURED: Final = 2.0
#: Values near white may have been cut off there.
WHITE: Final = 250.0
#: From here on one of the colours may be cut off.
BRIGHT: Final = 215.0


@dataclass(frozen=True, slots=True)
class Placement:
    """How pictures lie in others: x of the one, in -1 to 1, is at `scale_x * x + shift_x` of the other.

    Each is float32 (n,). `mirrored`, bool (n,), says that the other has to be mirrored first; `middle` that they are
    alike apart from an upper or a lower edge.
    """

    numbers: Floats
    mirrored: NDArray[np.bool_]
    middle: NDArray[np.bool_]


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
    half = halved(a.astype(np.float32)), halved(b.astype(np.float32))
    placed = first_placement(*half)
    quarter = _mirrored_where(halved(half[0]), placed.mirrored), halved(half[1])
    found = _refined(*quarter, placed.numbers, placed.middle, COARSE_STEPS)
    near = np.flatnonzero(_coarse_correlation(*quarter, found) > 1 - HOPELESS)
    measures = np.full((len(fields(Differences)), len(a)), FAR, np.float32)
    for tile in tile_rows(len(near), TILE_PAIRS):
        rows = near[tile]
        luma = _mirrored_where(a[rows].astype(np.float32), placed.mirrored[rows]), b[rows].astype(np.float32)
        chroma = _mirrored_where(a_chroma[rows].astype(np.float32), placed.mirrored[rows]), b_chroma[rows]
        measures[:, rows] = _look_closer(*luma, *chroma, found[rows], placed.middle[rows], enough)
    return Differences(*measures)


def _look_closer(
    a: Floats,
    b: Floats,
    a_chroma: Floats,
    b_chroma: Floats,
    numbers: Floats,
    middle: NDArray[np.bool_],
    enough: float,
) -> Floats:
    """Return the measures of pairs in the order of `Differences`, float32 (6, n), from a rough placement."""
    half = halved(a), halved(b)
    numbers = _refined(*half, numbers, middle, FINE_STEPS)
    frame, colour = _frame(numbers), _colour(a_chroma, b_chroma, halved(half[0]), halved(half[1]), numbers)
    inside = _inside(numbers, SIDE)
    one, other = _exposed_alike(_warped(a, numbers), b, inside)
    shape, spot = _shape_and_spot(one, other, inside)
    structure, motion = np.full((2, len(a)), FAR)
    close = np.flatnonzero(np.maximum.reduce([colour, shape, spot]) <= enough)
    one, other, inside = _softened(one[close]), _softened(other[close]), inside[close]
    structure[close], motion[close] = _structure(one, other, inside), _motion(one, other, inside)
    return np.stack([structure, shape, spot, motion, frame, colour])


def _mirrored_where(pictures: Floats, mirrored: NDArray[np.bool_]) -> Floats:
    return np.where(mirrored.reshape(-1, *[1] * (pictures.ndim - 1)), pictures[..., ::-1], pictures)


def _placements() -> tuple[Floats, NDArray[np.bool_]]:
    """Return how a picture lies in another if a view of it looks like the whole other, and the other way round.

    float32 (4 * len(VIEWS), 4) numbers and whether mirrored, in the order of `first_placement`.
    """
    sides = np.array([(v.left, 1 - v.right, v.top, 1 - v.bottom) for v in VIEWS])
    scale = sides[:, [1, 3]] - sides[:, [0, 2]]
    shift = sides[:, [0, 2]] + sides[:, [1, 3]] - 1
    inside = np.stack([scale[:, 0], shift[:, 0], scale[:, 1], shift[:, 1]], axis=1)
    around = np.stack(
        [1 / scale[:, 0], -shift[:, 0] / scale[:, 0], 1 / scale[:, 1], -shift[:, 1] / scale[:, 1]], axis=1
    )
    mirrored_around = around * (1, -1, 1, 1)
    n = len(VIEWS)
    return (
        np.concatenate([inside, inside, around, mirrored_around, inside[:1], inside[:1]]).astype(np.float32),
        np.repeat([False, True, False, True, False, True], [n, n, n, n, 1, 1]),
    )


_NUMBERS, _MIRRORED = _placements()


def first_placement(a: Floats, b: Floats) -> Placement:
    """Return how each of b lies in its a, by the two views that look most alike."""
    of_a, of_b = describe(a), describe(b)
    middle_a, middle_b = describe(a, MIDDLE), describe(b, MIDDLE)
    alike = np.concatenate(
        [_products(of_a, of_b[:, 0]), _products(of_b, of_a[:, 0]), _products(middle_a, middle_b[:, 0])], axis=1
    )
    best = alike.argmax(axis=1)
    return Placement(_NUMBERS[best], _MIRRORED[best], best >= len(_NUMBERS) - 2)


def _products(views: Floats, whole: Floats) -> Floats:
    products: Floats = (views @ whole[:, :, None])[:, :, 0]
    return products


@cache
def _places(side: int) -> Floats:
    """Return float32 (side,): where pixels are, from -1 to 1."""
    return (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1


def _interpolating(scale: Floats, shift: Floats, side: int) -> Floats:
    """Return linear interpolation along an axis as matrices, float32 (n, side, side)."""
    at = scale[:, None] * _places(side) + shift[:, None]
    pixels = np.clip((at + 1) * np.float32(side / 2) - np.float32(0.5), 0, side - 1)
    weights: Floats = pixels[:, :, None] - np.arange(side, dtype=np.float32)
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    np.maximum(weights, 0, out=weights)
    return weights


def _warped(pictures: Floats, numbers: Floats) -> Floats:
    """Return a's content at b's pixels, float32 (..., n, S, S)."""
    across, down = (_interpolating(numbers[:, i], numbers[:, i + 1], pictures.shape[-1]) for i in (0, 2))
    warped: Floats = down @ pictures @ across.transpose(0, 2, 1)
    return warped


def _inside(numbers: Floats, side: int) -> Floats:
    """Return float32 (n, side, side): 1 where both have content, but for outermost pixels, which borders may share."""
    inner, places = np.float32(1 - 2 / side), _places(side)
    at_x, at_y = (numbers[:, i, None] * places + numbers[:, i + 1, None] for i in (0, 2))
    across, down = (((np.abs(at) <= inner) & (np.abs(places) <= inner)).astype(np.float32) for at in (at_x, at_y))
    inside: Floats = down[:, :, None] * across[:, None, :]
    return inside


def _refined(a: Floats, b: Floats, numbers: Floats, middle: NDArray[np.bool_], n_steps: int) -> Floats:
    """Return placements that fit better: Gauss-Newton steps (Lucas and Kanade, 1981) on scales, shifts, gain and bias.

    What fits badly has little weight, and of pictures that are alike in the `middle` only that counts.
    """
    n, side = len(a), a.shape[1]
    places, found = _places(side), numbers.copy()
    terms = np.zeros((n, 7, side, side), np.float32)  # derivatives by the six numbers, then what is to be explained
    terms[:, 5] = 1
    counted = np.where(middle[:, None], _bands(side).min(axis=0), np.float32(1))[:, :, None]
    gain, bias = np.ones((n, 1, 1), np.float32), np.zeros((n, 1, 1), np.float32)
    for step in range(n_steps):
        warped, weights = _warped(a, found), _inside(found, side) * counted
        if step > 0:
            misfit = np.abs(_left(warped, b, gain, bias))
            weights = _trusted(weights, misfit, _total(misfit) * np.float32(2 / side**2) + 1)
        gain, bias = _regression(warped, b, weights)
        per_step = np.float32(side / 4) * gain
        np.subtract(warped[:, :, 2:], warped[:, :, :-2], out=terms[:, 1, :, 1:-1])
        np.subtract(warped[:, 2:], warped[:, :-2], out=terms[:, 3, 1:-1])
        terms[:, 1] *= per_step / found[:, 0, None, None]
        terms[:, 3] *= per_step / found[:, 2, None, None]
        np.multiply(terms[:, 1], places, out=terms[:, 0])
        np.multiply(terms[:, 3], places[:, None], out=terms[:, 2])
        terms[:, 4], terms[:, 6] = warped, _left(warped, b, gain, bias)
        better = _solved(terms.reshape(n, 7, side**2), weights.reshape(n, side**2))
        found += np.clip(better[:, :4], -0.08, 0.08)
        found[:, 0::2] = np.clip(found[:, 0::2], 0.6, 1.65)
        found[:, 1::2] = np.clip(found[:, 1::2], -0.45, 0.45)
    return found


def _solved(terms: Floats, weights: Floats) -> Floats:
    """Return float32 (n, k): how much of each of k terms (n, k + 1, m) explains the last one best."""
    products = (terms[:, :-1] * weights[:, None]) @ terms.transpose(0, 2, 1)
    normal, right = products[:, :, :-1], products[:, :, -1:]
    diagonal = np.einsum("nii->ni", normal)
    diagonal += diagonal.mean(axis=1, keepdims=True) * np.float32(1e-3) + np.float32(1e-3)
    solved: Floats = np.linalg.solve(normal, right)[:, :, 0]
    return solved


def _left(one: Floats, other: Floats, gain: Floats, bias: Floats) -> Floats:
    """Return what gain and bias, each (n, 1, 1), leave unexplained of `other`."""
    left = gain * one
    np.subtract(other, left, out=left)
    left -= bias
    return left


def _trusted(weights: Floats, misfit: Floats, usual: Floats) -> Floats:
    """Return smaller weights for pixels that misfit by more than is usual, float32 (n,): those of Geman and McClure."""
    doubt = misfit / usual[:, None, None]
    np.square(doubt, out=doubt)
    doubt += 1
    np.square(doubt, out=doubt)
    return np.divide(weights, doubt, out=doubt)


def _steps(luma: Floats) -> tuple[Floats, Floats]:
    """Return by how much luma changes over two pixels, down and across; 0 along the edges."""
    down, across = np.zeros_like(luma), np.zeros_like(luma)
    np.subtract(luma[:, 2:], luma[:, :-2], out=down[:, 1:-1])
    np.subtract(luma[:, :, 2:], luma[:, :, :-2], out=across[:, :, 1:-1])
    return down, across


def _regression(one: Floats, other: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return gain and bias, each (n, 1, 1), by which `other` is best explained from `one`."""
    total = np.maximum(_total(weights), np.float32(1e-6))
    mean_one, mean_other = _total(weights, one) / total, _total(weights, other) / total
    centred = one - mean_one[:, None, None]
    centred *= weights
    gain = _total(centred, other) / np.maximum(_total(centred, one), np.float32(1e-3))
    gain = np.clip(gain, np.float32(0.1), np.float32(10))
    return gain[:, None, None], (mean_other - gain * mean_one)[:, None, None]


def _correlations(one: Floats, other: Floats, weights: Floats) -> Floats:
    total = np.maximum(_total(weights), np.float32(1e-6))
    one = one - (_total(weights, one) / total)[:, None, None]
    other = other - (_total(weights, other) / total)[:, None, None]
    energies = _total(weights, one, one) * _total(weights, other, other)
    result: Floats = _total(weights, one, other) / np.sqrt(np.maximum(energies, np.float32(1e-3)))
    return result


def _bands(side: int) -> NDArray[np.float32]:
    """Return float32 (3, side): 1 for the rows of the whole, of what is above a caption, of what is below one."""
    row = (np.arange(side) + 0.5) / side
    return np.stack([row > 0, row < 1 - CAPTION, row > CAPTION]).astype(np.float32)


def _coarse_correlation(a: Floats, b: Floats, numbers: Floats) -> Floats:
    warped, inside, bands = _warped(a, numbers), _inside(numbers, a.shape[1]), _bands(a.shape[1])
    result: Floats = np.maximum.reduce([_correlations(warped, b, inside * band[:, None]) for band in bands])
    return result


def _exposed_alike(a: Floats, b: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Return a with b's exposure, and both cut off where either picture was: brighter than white is white."""
    weights = inside * (np.maximum(a, b) < WHITE)
    gain, bias = _regression(a, b, weights * _bands(SIDE).min(axis=0)[:, None])
    misfit = np.abs(_left(a, b, gain, bias))
    usual = 2 * _total(misfit, weights) / np.maximum(_total(weights), 1) + 1
    gain, bias = _regression(a, b, _trusted(weights, misfit, usual))
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


def _pooled(values: Floats, n_blocks: int) -> Floats:
    """Return the means of blocks: rows are added, columns are a matrix product, several times faster than two sums."""
    n, side = values.shape[:2]
    rows = np.einsum("nbky->nby", values.reshape(n, n_blocks, side // n_blocks, side))
    means: Floats = rows.reshape(-1, side) @ averaging(0, 1, side, n_blocks).T
    return means.reshape(n, n_blocks, n_blocks) * np.float32(n_blocks / side)


def _total(*factors: Floats) -> Floats:
    """Return float32 (n,): for each pair the sum of the product of its pictures."""
    total: Floats = np.einsum(",".join(["nyx"] * len(factors)) + "->n", *factors)
    return total


def _structure(a: Floats, b: Floats, inside: Floats) -> Floats:
    """Return 1 minus the mean correlation of blocks that have a structure, in its limit's units."""
    share = np.maximum(_pooled(inside, BLOCKS), np.float32(1e-6))
    a, b = a * inside, b * inside
    mean_a, mean_b = _pooled(a, BLOCKS) / share, _pooled(b, BLOCKS) / share
    of_a = np.maximum(_pooled(a * a, BLOCKS) / share - mean_a**2, 0)
    of_b = np.maximum(_pooled(b * b, BLOCKS) / share - mean_b**2, 0)
    both = _pooled(a * b, BLOCKS) / share - mean_a * mean_b
    alike = both / np.sqrt((of_a + np.float32(NOISE_VARIANCE)) * (of_b + np.float32(NOISE_VARIANCE)))
    most = np.maximum(of_a, of_b)
    weights = np.where(share >= 0.5, most / (most + np.float32(STRUCTURE_VARIANCE)), 0)
    found = []
    for band in _bands(BLOCKS):
        counted = weights * band[:, None]
        weight = _total(counted)
        mean = _total(alike, counted) / np.maximum(weight, np.float32(1e-6))
        found.append(np.where(weight >= LEAST_BLOCKS, mean, 0))
    result: Floats = (1 - np.maximum.reduce(found).astype(np.float32)) / np.float32(STRUCTURE_LIMIT)
    return result


def _shape_and_spot(a: Floats, b: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Return what pictures differ by after averaging, as a whole and where most, each in its limit's units."""
    share = _pooled(inside, VIEW_SIDE)
    counts = (share >= 0.5).astype(np.float32)
    safe = np.maximum(share, np.float32(1e-6))
    own = b * inside
    coarse_a, coarse_b = _pooled(a * inside, VIEW_SIDE) / safe, _pooled(own, VIEW_SIDE) / safe
    total = np.maximum(_total(inside), 1)
    own -= (_total(own) / total)[:, None, None] * inside
    spread = np.sqrt(_total(own, own) / total)
    misfit = np.abs(coarse_a - coarse_b) / np.maximum(spread, np.float32(1))[:, None, None]
    shapes, spots = [], []
    for band in _bands(VIEW_SIDE):
        weights = counts * band[:, None]
        shapes.append(1 - _correlations(coarse_a, coarse_b, weights))
        spots.append((misfit * weights).max(axis=(1, 2)))
    return np.minimum.reduce(shapes) / np.float32(SHAPE_LIMIT), np.minimum.reduce(spots) / np.float32(SPOT_LIMIT)


def _motion_design() -> Floats:
    """Return float32 (2, BLOCKS**2, 4): by how much the content of blocks moves, across and down, for each number."""
    places = (np.arange(BLOCKS) + 0.5) * (2 / BLOCKS) - 1
    down, across = (grid.ravel() for grid in np.meshgrid(places, places, indexing="ij"))
    design = np.zeros((2, BLOCKS**2, 4), np.float32)
    design[0, :, 0], design[0, :, 1] = across, 1
    design[1, :, 2], design[1, :, 3] = down, 1
    return design


_DESIGN: Final = _motion_design()
_DESIGN_PRODUCTS: Final = np.einsum("ibk,jbl->ijbkl", _DESIGN, _DESIGN).reshape(4 * BLOCKS**2, 16)
_DESIGN_ROWS: Final = _DESIGN.reshape(2 * BLOCKS**2, 4)


def _motion(a: Floats, b: Floats, inside: Floats) -> Floats:
    """Return how far blocks moved, root mean square, against what a placement explains, in its limit's units.

    Lucas and Kanade's equations (1981) of each block. Noise is no motion: what a block's motion explains of its misfit
    counts as far as it is more than what it leaves.
    """
    inside = _eroded(inside)
    share = _pooled(inside, BLOCKS).reshape(len(a), BLOCKS**2)
    tensor, towards, energy = _block_equations(a, b, inside, np.maximum(share, np.float32(1e-6)))
    counted = (share >= 0.5) * np.repeat(_bands(BLOCKS), BLOCKS, axis=1)[:, None]
    own, left = _without_placement(tensor, towards, energy, counted)
    explained = _explained(tensor, own)
    textured = (counted * (tensor[:, 0, 0] + tensor[:, 1, 1])).sum(axis=-1) + np.float32(MOTION_VARIANCE)
    moved = (counted * explained * explained / (left + 1)).sum(axis=-1) / textured
    result: Floats = np.sqrt(moved.min(axis=0)) / np.float32(MOTION_LIMIT)
    return result


def _eroded(inside: Floats) -> Floats:
    """Return masks of rectangles without the outermost pixels, in whose slopes there may be a border."""
    m = MOTION_MARGIN
    eroded = np.zeros_like(inside)
    across = inside[:, :, : -2 * m] * inside[:, :, 2 * m :]
    np.multiply(across[:, : -2 * m], across[:, 2 * m :], out=eroded[:, m:-m, m:-m])
    return eroded


def _block_equations(a: Floats, b: Floats, inside: Floats, share: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the structure tensor (n, 2, 2, blocks), its right side (n, 2, blocks) and the misfit's variance."""
    n = len(a)

    def mean(values: Floats) -> Floats:
        result: Floats = _pooled(values, BLOCKS).reshape(n, BLOCKS**2) / share
        return result

    down, across = _steps(a + b)
    down *= (slopes := inside / 4)  # half of the sum, over two pixels
    across *= slopes
    misfit = (b - a) * inside
    parts = (across, down, misfit)
    means = [mean(part) for part in parts]
    tensor, towards = np.empty((n, 2, 2, BLOCKS**2), np.float32), np.empty((n, 2, BLOCKS**2), np.float32)
    for i in range(2):
        for j in range(i + 1):
            tensor[:, i, j] = tensor[:, j, i] = mean(parts[i] * parts[j]) - means[i] * means[j]
        towards[:, i] = mean(parts[i] * misfit) - means[i] * means[2]
    return tensor, towards, mean(misfit * misfit) - means[2] ** 2


def _without_placement(tensor: Floats, towards: Floats, energy: Floats, counted: Floats) -> tuple[Floats, Floats]:
    """Return right sides and the misfit's variance without the change of the placement that explains most of it.

    Each for the blocks that count in each of some bands: (bands, n, 2, blocks) and (bands, n, blocks).
    """
    weights = counted
    shape = counted.shape[:2]
    for _ in range(MOTION_STEPS):
        weighted = tensor * weights[:, :, None, None]
        normal = (weighted.reshape(*shape, 4 * BLOCKS**2) @ _DESIGN_PRODUCTS).reshape(*shape, 4, 4)
        right = (towards * weights[:, :, None]).reshape(*shape, 2 * BLOCKS**2) @ _DESIGN_ROWS
        diagonal = np.einsum("snii->sni", normal)
        diagonal += diagonal.mean(axis=-1, keepdims=True) * np.float32(0.01) + 1
        numbers = np.linalg.solve(normal, right[..., None])[..., 0]
        shift = (numbers @ _DESIGN_ROWS.T).reshape(*shape, 2, BLOCKS**2)
        along = (tensor * shift[:, :, None]).sum(axis=3)
        left = np.maximum(energy + (shift * (along - 2 * towards)).sum(axis=2), 0)
        usual = (left * counted).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1) + np.float32(0.25)
        weights = counted / np.square(1 + left / (4 * usual[..., None]))
    return towards - along, left


def _explained(tensor: Floats, towards: Floats) -> Floats:
    """Return what of the misfit's variance a motion of each block explains."""
    xx, yy, xy = tensor[:, 0, 0] + MOTION_NOISE, tensor[:, 1, 1] + MOTION_NOISE, tensor[:, 0, 1]
    x, y = towards[..., 0, :], towards[..., 1, :]
    result: Floats = np.maximum((yy * x * x - 2 * xy * x * y + xx * y * y) / (xx * yy - xy * xy), 0)
    return result


def _frame(numbers: Floats) -> Floats:
    """Return by how much neither picture holds all of the other, as a share of a side, in units of its limit."""
    scale, shift = numbers[:, 0::2], numbers[:, 1::2]
    beyond_a = np.maximum(shift + scale - 1, -1 - shift + scale).max(axis=1)
    beyond_b = np.maximum(1 - shift - scale, shift - scale + 1).max(axis=1)
    result: Floats = np.maximum(np.minimum(beyond_a, beyond_b), 0) / np.float32(2 * FRAME_LIMIT)
    return result


def _colour(a: Floats, b: Floats, a_luma: Floats, b_luma: Floats, numbers: Floats) -> Floats:
    """Return 1 minus the cosine between the chroma, in its limit's units; 0 where one of the two is grey or toned."""
    red, blue, luma = _warped(np.stack([a[:, 0], a[:, 1], a_luma]), numbers)
    inside = _inside(numbers, VIEW_SIDE) * ((luma < BRIGHT) & (b_luma < BRIGHT))
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
