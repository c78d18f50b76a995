"""Sums over the pixels of many pictures at once: of their whole, of blocks, and what one explains of another."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.curate.views import CAPTION, Floats, averaging

#: Blocks of a picture each way that are looked at one by one.
BLOCKS: Final = 8


def add_up(*factors: Floats) -> Floats:
    """Return float32 (n,): for each pair the sum of the product of its pictures."""
    total: Floats = np.einsum(",".join(["nyx"] * len(factors)) + "->n", *factors)
    return total


def pooled(values: Floats, n_blocks: int) -> Floats:
    """Return the means of blocks: rows are added, columns are a matrix product, several times faster than two sums."""
    n, side = values.shape[:2]
    rows = np.einsum("nbky->nby", values.reshape(n, n_blocks, side // n_blocks, side))
    means: Floats = rows.reshape(-1, side) @ averaging(0, 1, side, n_blocks).T
    return means.reshape(n, n_blocks, n_blocks) * np.float32(n_blocks / side)


def bands_of(side: int) -> NDArray[np.float32]:
    """Return float32 (3, side): 1 for the rows of the whole, of what is above a caption, of what is below one."""
    row = (np.arange(side) + 0.5) / side
    return np.stack([row > 0, row < 1 - CAPTION, row > CAPTION]).astype(np.float32)


def middle_of(side: int) -> NDArray[np.float32]:
    """Return float32 (side, 1): 1 for the rows between a caption above and one below."""
    middle: NDArray[np.float32] = bands_of(side).min(axis=0)[:, None]
    return middle


def correlations(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Return float32 (n,): the weighted correlation of each pair."""
    total = np.maximum(add_up(weights), np.float32(1e-6))
    one = one - (add_up(weights, one) / total)[:, None, None]
    other = other - (add_up(weights, other) / total)[:, None, None]
    energies = add_up(weights, one, one) * add_up(weights, other, other)
    result: Floats = add_up(weights, one, other) / np.sqrt(np.maximum(energies, np.float32(1e-3)))
    return result


def regression(one: Floats, other: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return gain and bias, each (n, 1, 1), by which `other` is best explained from `one`."""
    total = np.maximum(add_up(weights), np.float32(1e-6))
    mean_one, mean_other = add_up(weights, one) / total, add_up(weights, other) / total
    centred = one - mean_one[:, None, None]
    centred *= weights
    gain = add_up(centred, other) / np.maximum(add_up(centred, one), np.float32(1e-3))
    gain = np.clip(gain, np.float32(0.1), np.float32(10))
    return gain[:, None, None], (mean_other - gain * mean_one)[:, None, None]


def unexplained(one: Floats, other: Floats, gain: Floats, bias: Floats) -> Floats:
    """Return what gain and bias, each (n, 1, 1), leave unexplained of `other`."""
    left = gain * one
    np.subtract(other, left, out=left)
    left -= bias
    return left


def trusted(weights: Floats, misfit: Floats, usual: Floats) -> Floats:
    """Return smaller weights for pixels that misfit by more than is usual, float32 (n,): those of Geman and McClure."""
    doubt = misfit / usual[:, None, None]
    np.square(doubt, out=doubt)
    doubt += 1
    np.square(doubt, out=doubt)
    return np.divide(weights, doubt, out=doubt)
