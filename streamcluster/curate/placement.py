"""How one picture lies in another: first by the views that look most alike, then step by step.

x of the one, in -1 to 1, is at `scale_x * x + shift_x` of the other, and y likewise; mirrored or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamcluster.curate.sums import add_up, bands_of, correlations, middle_of, regression, trusted, unexplained
from streamcluster.curate.views import MIDDLE, VIEWS, Floats, describe, halved

#: Steps of the search for how one picture lies in the other, at 16 and at 32 pixels.
COARSE_STEPS, FINE_STEPS = 6, 4


@dataclass(frozen=True, slots=True)
class Placement:
    """How n pictures lie in n others.

    Attributes
    ----------
    numbers : float32 (n, 4)
        x of the one, in -1 to 1, is at `numbers[:, 0] * x + numbers[:, 1]` of the other; y likewise by the other two.
    mirrored : bool (n,)
        The other has to be mirrored first.
    middle : bool (n,)
        They are most alike apart from an upper and a lower edge.
    correlation : float32 (n,)
        Of the two so placed, at 16 pixels.
    """

    numbers: Floats
    mirrored: NDArray[np.bool_]
    middle: NDArray[np.bool_]
    correlation: Floats

    def of(self, rows: NDArray[np.intp]) -> Placement:
        """Return that of some."""
        return Placement(self.numbers[rows], self.mirrored[rows], self.middle[rows], self.correlation[rows])

    def turned(self, pictures: Floats) -> Floats:
        """Return the other pictures, float32 (n, ..., S, S), those mirrored that have to be."""
        return _mirrored_where(pictures, self.mirrored)


def place(a: Floats, b: Floats) -> Placement:
    """Return roughly how each of b lies in its a, each float32 (n, 32, 32)."""
    numbers, mirrored, middle = _first_placement(a, b)
    small = _mirrored_where(halved(a), mirrored), halved(b)
    numbers = _refined(*small, numbers, middle, COARSE_STEPS)
    return Placement(numbers, mirrored, middle, _correlation(*small, numbers))


def place_closer(a: Floats, b: Floats, placed: Placement) -> Floats:
    """Return float32 (n, 4): better numbers, for a that is turned already."""
    return _refined(a, b, placed.numbers, placed.middle, FINE_STEPS)


def _placements() -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return how a picture lies in another if a view of it looks like the whole other, and the other way round.

    float32 (m, 4) numbers, whether mirrored, and whether by the middle alone, in the order of `_first_placement`.
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
        np.repeat([False, True], [4 * n, 2]),
    )


_NUMBERS, _MIRRORED, _BY_MIDDLE = _placements()


def _first_placement(a: Floats, b: Floats) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return numbers, mirrored and middle, by the two views that look most alike."""
    of_a, of_b = describe(a), describe(b)
    middle_a, middle_b = describe(a, MIDDLE), describe(b, MIDDLE)
    alike = np.concatenate(
        [_products(of_a, of_b[:, 0]), _products(of_b, of_a[:, 0]), _products(middle_a, middle_b[:, 0])], axis=1
    )
    best = alike.argmax(axis=1)
    return _NUMBERS[best], _MIRRORED[best], _BY_MIDDLE[best]


def _products(views: Floats, whole: Floats) -> Floats:
    products: Floats = (views @ whole[:, :, None])[:, :, 0]
    return products


def _refined(a: Floats, b: Floats, numbers: Floats, middle: NDArray[np.bool_], n_steps: int) -> Floats:
    """Return placements that fit better: Gauss-Newton steps (Lucas and Kanade, 1981) on scales, shifts, gain and bias.

    What fits badly has little weight, and of pictures that are alike in the `middle` only that counts.
    """
    n, side = len(a), a.shape[1]
    places, found = _places(side), numbers.copy()
    terms = np.zeros((n, 7, side, side), np.float32)  # derivatives by the six numbers, then what is to be explained
    terms[:, 5] = 1
    counted = np.where(middle[:, None, None], middle_of(side), np.float32(1))
    gain, bias = np.ones((n, 1, 1), np.float32), np.zeros((n, 1, 1), np.float32)
    for step in range(n_steps):
        warped, weights = warped_onto(a, found), inside_of(found, side) * counted
        if step > 0:
            misfit = np.abs(unexplained(warped, b, gain, bias))
            weights = trusted(weights, misfit, add_up(misfit) * np.float32(2 / side**2) + 1)
        gain, bias = regression(warped, b, weights)
        per_step = np.float32(side / 4) * gain
        np.subtract(warped[:, :, 2:], warped[:, :, :-2], out=terms[:, 1, :, 1:-1])
        np.subtract(warped[:, 2:], warped[:, :-2], out=terms[:, 3, 1:-1])
        terms[:, 1] *= per_step / found[:, 0, None, None]
        terms[:, 3] *= per_step / found[:, 2, None, None]
        np.multiply(terms[:, 1], places, out=terms[:, 0])
        np.multiply(terms[:, 3], places[:, None], out=terms[:, 2])
        terms[:, 4], terms[:, 6] = warped, unexplained(warped, b, gain, bias)
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


def _correlation(a: Floats, b: Floats, numbers: Floats) -> Floats:
    warped, inside, bands = warped_onto(a, numbers), inside_of(numbers, a.shape[1]), bands_of(a.shape[1])
    result: Floats = np.maximum.reduce([correlations(warped, b, inside * band[:, None]) for band in bands])
    return result


def warped_onto(pictures: Floats, numbers: Floats) -> Floats:
    """Return a's content at b's pixels, float32 (..., n, S, S)."""
    across, down = (_interpolating(numbers[:, i], numbers[:, i + 1], pictures.shape[-1]) for i in (0, 2))
    warped: Floats = down @ pictures @ across.transpose(0, 2, 1)
    return warped


def inside_of(numbers: Floats, side: int) -> Floats:
    """Return float32 (n, side, side): 1 where both have content, but for outermost pixels, which borders may share."""
    inner, places = np.float32(1 - 2 / side), _places(side)
    at_x, at_y = (numbers[:, i, None] * places + numbers[:, i + 1, None] for i in (0, 2))
    across, down = (((np.abs(at) <= inner) & (np.abs(places) <= inner)).astype(np.float32) for at in (at_x, at_y))
    inside: Floats = down[:, :, None] * across[:, None, :]
    return inside


def _interpolating(scale: Floats, shift: Floats, side: int) -> Floats:
    """Return linear interpolation along an axis as matrices, float32 (n, side, side)."""
    at = scale[:, None] * _places(side) + shift[:, None]
    pixels = np.clip((at + 1) * np.float32(side / 2) - np.float32(0.5), 0, side - 1)
    weights: Floats = pixels[:, :, None] - np.arange(side, dtype=np.float32)
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    np.maximum(weights, 0, out=weights)
    return weights


@cache
def _places(side: int) -> Floats:
    """Return float32 (side,): where pixels are, from -1 to 1."""
    return (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1


def _mirrored_where(pictures: Floats, mirrored: NDArray[np.bool_]) -> Floats:
    return np.where(mirrored.reshape(-1, *[1] * (pictures.ndim - 1)), pictures[..., ::-1], pictures)
