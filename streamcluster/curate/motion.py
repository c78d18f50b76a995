"""What moved inside a picture that is otherwise the same: a head that turned, or lips.

Lucas and Kanade's equations ("An iterative image registration technique", IJCAI 1981) of each block. Noise is no
motion: what a block's motion explains of its misfit counts as far as it is more than what it leaves.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streamcluster.curate.sums import BLOCKS, bands_of, pooled
from streamcluster.curate.views import Floats

#: Variance of the slopes, in squared luma steps a pixel, below which a picture is too smooth to tell what moved in it,
#: that of their noise, and steps of the search for what the placement explains.
MOTION_VARIANCE, MOTION_NOISE, MOTION_STEPS = np.float32(20.0), np.float32(4.0), 3
#: Pixels along the edge in whose slopes there may be a border.
MOTION_MARGIN: Final = 2


def motion_between(a: Floats, b: Floats, inside: Floats) -> Floats:
    """Return float32 (n,): how far blocks moved, root mean square in pixels, against what a placement explains.

    Parameters
    ----------
    a, b : float32 (n, 64, 64)
        Luma, the one laid over the other.
    inside : float32 (n, 64, 64)
        1 in the rectangle where both have content.
    """
    inside = _eroded(inside)
    share = pooled(inside, BLOCKS).reshape(len(a), BLOCKS**2)
    tensor, towards, energy = _block_equations(a, b, inside, np.maximum(share, np.float32(1e-6)))
    counted = (share >= 0.5) * np.repeat(bands_of(BLOCKS), BLOCKS, axis=1)[:, None]
    own, left = _without_placement(tensor, towards, energy, counted)
    explained = _explained(tensor, own)
    textured = (counted * (tensor[:, 0, 0] + tensor[:, 1, 1])).sum(axis=-1) + np.float32(MOTION_VARIANCE)
    moved = (counted * explained * explained / (left + 1)).sum(axis=-1) / textured
    result: Floats = np.sqrt(moved.min(axis=0))
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
        result: Floats = pooled(values, BLOCKS).reshape(n, BLOCKS**2) / share
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


def _steps(luma: Floats) -> tuple[Floats, Floats]:
    """Return by how much luma changes over two pixels, down and across; 0 along the edges."""
    down, across = np.zeros_like(luma), np.zeros_like(luma)
    np.subtract(luma[:, 2:], luma[:, :-2], out=down[:, 1:-1])
    np.subtract(luma[:, :, 2:], luma[:, :, :-2], out=across[:, :, 1:-1])
    return down, across


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
