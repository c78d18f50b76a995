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

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.curate.views import VIEW_SIDE, VIEWS, Floats, averaging, describe, halved

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
#: Share of the height that a caption may take.
CAPTION: Final = 0.2
#: Values near white may have been cut off there.
WHITE: Final = 250.0
#: From here on one of the colours may be cut off.
BRIGHT: Final = 215.0


@dataclass(frozen=True, slots=True)
class Placement:
    """How pictures lie in others: x of the one, in -1 to 1, is at `scale_x * x + shift_x` of the other.

    Each is float32 (n,). `mirrored`, bool (n,), says that the other has to be mirrored first.
    """

    numbers: Floats
    mirrored: NDArray[np.bool_]


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
    a: NDArray[np.uint8], b: NDArray[np.uint8], a_chroma: NDArray[np.int8], b_chroma: NDArray[np.int8]
) -> Differences:
    """Compare n pairs of pictures.

    Parameters
    ----------
    a, b : uint8 (n, 64, 64)
        Luma, as `luma_of` gives it.
    a_chroma, b_chroma : int8 (n, 2, 16, 16)
        As `chroma_of` gives it.
    """
    one, other = a.astype(np.float32), b.astype(np.float32)
    half = halved(one), halved(other)
    placed = first_placement(*half)
    quarter = _mirrored_where(halved(half[0]), placed.mirrored), halved(half[1])
    found = _refined(*quarter, placed.numbers, COARSE_STEPS)
    near = np.flatnonzero(_coarse_correlation(*quarter, found) > 1 - HOPELESS)
    mirrored = placed.mirrored[near]
    one, other = _mirrored_where(one[near], mirrored), other[near]
    numbers = _refined(_mirrored_where(half[0][near], mirrored), half[1][near], found[near], FINE_STEPS)
    chroma = _mirrored_where(a_chroma[near].astype(np.float32), mirrored), b_chroma[near].astype(np.float32)
    colour = _colour(*chroma, quarter[0][near], quarter[1][near], numbers)
    measures = (*_measure(one, other, numbers), _frame(numbers), colour / np.float32(COLOUR_LIMIT))
    return Differences(*(_spread(values, near, len(a)) for values in measures))


def _spread(values: Floats, rows: NDArray[np.intp], n: int) -> Floats:
    whole = np.full(n, FAR, np.float32)
    whole[rows] = values
    return whole


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
        np.concatenate([inside, inside, around, mirrored_around]).astype(np.float32),
        np.repeat([False, True, False, True], n),
    )


_NUMBERS, _MIRRORED = _placements()


def first_placement(a: Floats, b: Floats) -> Placement:
    """Return how each of b lies in its a, by the two views that look most alike."""
    of_a, of_b = describe(a), describe(b)
    alike = np.concatenate([_products(of_a, of_b[:, 0]), _products(of_b, of_a[:, 0])], axis=1)
    best = alike.argmax(axis=1)
    return Placement(_NUMBERS[best], _MIRRORED[best])


def _products(views: Floats, whole: Floats) -> Floats:
    products: Floats = (views @ whole[:, :, None])[:, :, 0]
    return products


def _warping(scale: Floats, shift: Floats, side: int) -> tuple[Floats, Floats]:
    """Return linear interpolation along an axis as matrices, float32 (n, side, side), and where it is inside."""
    places = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1
    at = scale[:, None] * places + shift[:, None]
    pixels = np.clip((at + 1) * np.float32(side / 2) - np.float32(0.5), 0, side - 1)
    weights = np.maximum(0, 1 - np.abs(pixels[:, :, None] - np.arange(side, dtype=np.float32)))
    inner = np.float32(1 - 2 / side)  # the outermost pixels may be half of a border
    return weights, ((np.abs(at) <= inner) & (np.abs(places) <= inner)).astype(np.float32)


def _warped(pictures: Floats, numbers: Floats) -> tuple[Floats, Floats]:
    """Return a's content at b's pixels, float32 (n, S, S), and 1 where there is any."""
    side = pictures.shape[-1]
    across, inside_x = _warping(numbers[:, 0], numbers[:, 1], side)
    down, inside_y = _warping(numbers[:, 2], numbers[:, 3], side)
    return down @ pictures @ across.transpose(0, 2, 1), inside_y[:, :, None] * inside_x[:, None, :]


def _refined(a: Floats, b: Floats, numbers: Floats, n_steps: int) -> Floats:
    """Return placements that fit better: Gauss-Newton steps (Lucas and Kanade, 1981) on scales, shifts, gain and bias.

    What fits badly, such as a caption, has little weight (Geman-McClure).
    """
    n, side = len(a), a.shape[1]
    if n == 0:
        return numbers
    places = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1
    found = numbers.copy()
    jacobian = np.empty((n, 6, side, side), np.float32)
    gain, bias = None, None
    for _ in range(n_steps):
        warped, weights = _warped(a, found)
        if gain is not None:
            misfit = np.abs(b - gain * warped - bias)
            usual = (_total(misfit) * np.float32(2 / side**2) + 1)[:, None, None]
            weights = weights / np.square(1 + np.square(misfit / usual))
        gain, bias = _regression(warped, b, weights)
        slope_y, slope_x = _slopes(warped, found)
        np.multiply(slope_x, gain, out=jacobian[:, 1])
        np.multiply(jacobian[:, 1], places, out=jacobian[:, 0])
        np.multiply(slope_y, gain, out=jacobian[:, 3])
        np.multiply(jacobian[:, 3], places[:, None], out=jacobian[:, 2])
        jacobian[:, 4], jacobian[:, 5] = warped, 1
        step = _solved(jacobian.reshape(n, 6, -1), weights.reshape(n, -1), (b - gain * warped - bias).reshape(n, -1))
        found += np.clip(step[:, :4], -0.08, 0.08)
        found[:, 0::2] = np.clip(found[:, 0::2], 0.6, 1.65)
        found[:, 1::2] = np.clip(found[:, 1::2], -0.45, 0.45)
    return found


def _slopes(warped: Floats, numbers: Floats) -> tuple[Floats, Floats]:
    """Return the derivatives of a's content, down and across, at b's pixels."""
    half = np.float32(warped.shape[1] / 4)
    down, across = _steps(warped)
    down *= half / numbers[:, 2, None, None]
    across *= half / numbers[:, 0, None, None]
    return down, across


def _steps(luma: Floats) -> tuple[Floats, Floats]:
    """Return by how much luma changes over two pixels, down and across; 0 along the edges."""
    down, across = np.zeros_like(luma), np.zeros_like(luma)
    np.subtract(luma[:, 2:], luma[:, :-2], out=down[:, 1:-1])
    np.subtract(luma[:, :, 2:], luma[:, :, :-2], out=across[:, :, 1:-1])
    return down, across


def _solved(jacobian: Floats, weights: Floats, misfit: Floats) -> Floats:
    weighted = jacobian * weights[:, None]
    normal = weighted @ jacobian.transpose(0, 2, 1)
    damping = normal[:, range(4), range(4)].mean(axis=1) * np.float32(1e-3) + np.float32(1e-3)
    normal[:, range(6), range(6)] += damping[:, None]
    step: Floats = np.linalg.solve(normal, weighted @ misfit[:, :, None])[:, :, 0]
    return step


def _regression(one: Floats, other: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return gain and bias, each (n, 1, 1), by which `other` is best explained from `one`."""
    total = np.maximum(_total(weights), np.float32(1e-6))
    mean_one, mean_other = _total(weights, one) / total, _total(weights, other) / total
    centred = weights * (one - mean_one[:, None, None])
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
    warped, inside = _warped(a, numbers)
    bands = _bands(a.shape[1])
    result: Floats = np.maximum.reduce([_correlations(warped, b, inside * band[:, None]) for band in bands])
    return result


def _measure(a: Floats, b: Floats, numbers: Floats) -> tuple[Floats, ...]:
    """Return `structure`, `shape`, `spot` and `motion`."""
    warped, inside = _warped(a, numbers)
    one, other = _exposed_alike(warped, b, inside)
    shape, spot = _shape_and_spot(one, other, inside)
    one, other = _softened(one), _softened(other)
    measures = 1 - _structure(one, other, inside), shape, spot, _motion(one, other, inside)
    limits = STRUCTURE_LIMIT, SHAPE_LIMIT, SPOT_LIMIT, MOTION_LIMIT
    return tuple(measure / np.float32(limit) for measure, limit in zip(measures, limits, strict=True))


def _exposed_alike(a: Floats, b: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Return a with b's exposure, and both cut off where either picture was: brighter than white is white."""
    weights = inside * ((a < WHITE) & (b < WHITE))
    gain, bias = _regression(a, b, weights)
    misfit = np.abs(b - gain * a - bias)
    usual = 2 * _total(misfit, weights) / np.maximum(_total(weights), 1) + 1
    gain, bias = _regression(a, b, weights / np.square(1 + np.square(misfit / usual[:, None, None])))
    return np.minimum(gain * a + bias, 255), np.minimum(b, gain * 255 + bias)


def _softened(luma: Floats) -> Floats:
    """Return pictures averaged over 2 by 2 pixels, which evens out how sharp two of different sizes are."""
    soft = luma.copy()
    soft[:, :-1, :-1] = (luma[:, :-1, :-1] + luma[:, 1:, :-1] + luma[:, :-1, 1:] + luma[:, 1:, 1:]) * np.float32(0.25)
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
    """Return float32 (n,): the mean correlation of blocks, each counted as far as it has a structure."""
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
    result: Floats = np.maximum.reduce(found).astype(np.float32)
    return result


def _shape_and_spot(a: Floats, b: Floats, inside: Floats) -> tuple[Floats, Floats]:
    share = _pooled(inside, VIEW_SIDE)
    counts = (share >= 0.5).astype(np.float32)
    safe = np.maximum(share, np.float32(1e-6))
    coarse_a, coarse_b = _pooled(a * inside, VIEW_SIDE) / safe, _pooled(b * inside, VIEW_SIDE) / safe
    total = np.maximum(_total(inside), 1)
    centred = b - (_total(inside, b) / total)[:, None, None]
    spread = np.sqrt(_total(inside, centred, centred) / total)
    misfit = np.abs(coarse_a - coarse_b) / np.maximum(spread, np.float32(1))[:, None, None]
    shapes, spots = [], []
    for band in _bands(VIEW_SIDE):
        weights = counts * band[:, None]
        shapes.append(1 - _correlations(coarse_a, coarse_b, weights))
        spots.append((misfit * weights).max(axis=(1, 2)))
    return np.minimum.reduce(shapes), np.minimum.reduce(spots)


def _motion_design() -> Floats:
    """Return float32 (2, BLOCKS**2, 4): by how much the content of blocks moves, across and down, for each number."""
    places = (np.arange(BLOCKS) + 0.5) * (2 / BLOCKS) - 1
    down, across = (grid.ravel() for grid in np.meshgrid(places, places, indexing="ij"))
    design = np.zeros((2, BLOCKS**2, 4), np.float32)
    design[0, :, 0], design[0, :, 1] = across, 1
    design[1, :, 2], design[1, :, 3] = down, 1
    return design


_DESIGN: Final = _motion_design()
_DESIGN_PRODUCTS: Final = np.einsum("ibk,jbl->ijbkl", _DESIGN, _DESIGN).reshape(-1, 16)


def _motion(a: Floats, b: Floats, inside: Floats) -> Floats:
    """Return float32 (n,): how far blocks moved, root mean square in pixels, against what a placement explains.

    Lucas and Kanade's equations (1981) of each block. Noise is no motion: what a block's motion explains of its misfit
    counts as far as it is more than what it leaves.
    """
    inside = _eroded(inside)
    down, across = (steps / 4 for steps in _steps(a + b))  # half of the sum, over two pixels
    tensor, towards, energy = _block_equations(across, down, b - a, inside)
    textured = tensor[:, 0, 0] + tensor[:, 1, 1]
    share = _pooled(inside, BLOCKS).reshape(len(a), -1)
    found = []
    for band in _bands(BLOCKS):
        counted = (share >= 0.5) * np.repeat(band, BLOCKS)
        own, left = _without_placement(tensor, towards, energy, counted)
        explained = _explained(tensor, own)
        total = (counted * textured).sum(axis=1) + np.float32(MOTION_VARIANCE)
        found.append((counted * explained * explained / (left + 1)).sum(axis=1) / total)
    result: Floats = np.sqrt(np.minimum.reduce(found))
    return result


def _eroded(inside: Floats) -> Floats:
    """Return masks of rectangles without the outermost pixels, in whose slopes there may be a border."""
    m = MOTION_MARGIN
    eroded = np.zeros_like(inside)
    across = inside[:, :, : -2 * m] * inside[:, :, 2 * m :]
    np.multiply(across[:, : -2 * m], across[:, 2 * m :], out=eroded[:, m:-m, m:-m])
    return eroded


def _block_equations(across: Floats, down: Floats, misfit: Floats, inside: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the structure tensor (n, 2, 2, blocks), its right side (n, 2, blocks) and the misfit's variance."""
    n = len(misfit)
    share = np.maximum(_pooled(inside, BLOCKS), np.float32(1e-6))

    def mean(values: Floats) -> Floats:
        result: Floats = (_pooled(values * inside, BLOCKS) / share).reshape(n, -1)
        return result

    parts = (across, down, misfit)
    means = [mean(part) for part in parts]
    tensor, towards = np.empty((n, 2, 2, BLOCKS**2), np.float32), np.empty((n, 2, BLOCKS**2), np.float32)
    for i in range(2):
        for j in range(i + 1):
            tensor[:, i, j] = tensor[:, j, i] = mean(parts[i] * parts[j]) - means[i] * means[j]
        towards[:, i] = mean(parts[i] * misfit) - means[i] * means[2]
    return tensor, towards, mean(misfit * misfit) - means[2] ** 2


def _without_placement(tensor: Floats, towards: Floats, energy: Floats, counted: Floats) -> tuple[Floats, Floats]:
    """Return right sides and the misfit's variance without the change of the placement that explains most of it."""
    n = len(tensor)
    weights = counted
    for _ in range(MOTION_STEPS):
        normal = ((tensor * weights[:, None, None]).reshape(n, -1) @ _DESIGN_PRODUCTS).reshape(n, 4, 4)
        right = (towards * weights[:, None]).reshape(n, -1) @ _DESIGN.reshape(-1, 4)
        damping = normal[:, range(4), range(4)].mean(axis=1) * np.float32(0.01) + 1
        normal[:, range(4), range(4)] += damping[:, None]
        numbers = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
        shift = np.einsum("ibk,nk->nib", _DESIGN, numbers)
        along = np.einsum("nijb,njb->nib", tensor, shift)
        left = np.maximum(energy + (shift * (along - 2 * towards)).sum(axis=1), 0)
        usual = (left * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1) + np.float32(0.25)
        weights = counted / np.square(1 + left / (4 * usual[:, None]))
    return towards - along, left


def _explained(tensor: Floats, towards: Floats) -> Floats:
    """Return what of the misfit's variance a motion of each block explains."""
    xx, yy, xy = tensor[:, 0, 0] + MOTION_NOISE, tensor[:, 1, 1] + MOTION_NOISE, tensor[:, 0, 1]
    x, y = towards[:, 0], towards[:, 1]
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
    """Return 1 minus the cosine between the chroma of pairs; 0 where one of them is grey or toned."""
    red, inside = _warped(a[:, 0], numbers)
    blue, _ = _warped(a[:, 1], numbers)
    luma, _ = _warped(a_luma, numbers)
    inside = inside * ((luma < BRIGHT) & (b_luma < BRIGHT))
    one, other = np.stack([red, blue], axis=1) * inside[:, None], b * inside[:, None]
    coloured = (_own_colour(one, luma, inside) > COLOURED) & (_own_colour(other, b_luma, inside) > COLOURED)
    product, *energies = ((x * y).sum(axis=(1, 2, 3)) for x, y in ((one, other), (one, one), (other, other)))
    cosine = product / np.sqrt(np.maximum(energies[0] * energies[1], np.float32(1e-3)))
    return np.where(coloured, 1 - cosine, 0).astype(np.float32)


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
