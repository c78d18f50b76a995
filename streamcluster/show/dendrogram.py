"""Ward's tree of the groups of a fit, laid out so that no branches cross."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamcluster.learn.tree import ward_tree


@dataclass(frozen=True, slots=True)
class Join:
    """Two branches that become one at `height`; they stand at the places `x`, and begin at the heights `feet`.

    The first holds the leaves from place `first` up to `middle`, the second those from there up to `stop`.
    """

    x: tuple[float, float]
    feet: tuple[float, float]
    height: float
    first: int
    middle: int
    stop: int


@dataclass(frozen=True, slots=True)
class Dendrogram:
    """`order` has the number of the leaf at each place from 0 on; `joins` are in the order of their heights."""

    order: list[int]
    joins: list[Join]


def group_dendrogram(centers: NDArray[np.float64], sizes: NDArray[np.int64]) -> Dendrogram:
    """Return the tree that joins groups by their centres, float64 (k, d), and sizes, int64 (k,), all positive."""
    return lay_out(ward_tree(centers, sizes))


def lay_out(tree: NDArray[np.float64]) -> Dendrogram:
    """Return places for the leaves and branches of a tree, float64 (k - 1, 4), as `ward_tree` returns it.

    >>> lay_out(np.array([[0, 2, 1.5, 2], [1, 3, 4, 3]])).order
    [1, 0, 2]
    """
    k = len(tree) + 1
    children = tree[:, :2].astype(np.intp).tolist()
    order: list[int] = []
    waiting = [2 * k - 2]
    while waiting:
        node = waiting.pop()
        if node < k:
            order.append(node)
        else:
            waiting += children[node - k][::-1]
    x, heights = [0.0] * k, [0.0] * k
    spans = [(0, 0)] * k
    for place, leaf in enumerate(order):
        x[leaf], spans[leaf] = float(place), (place, place + 1)
    joins = []
    for (a, b), height in zip(children, tree[:, 2].tolist(), strict=True):
        joins.append(Join((x[a], x[b]), (heights[a], heights[b]), height, spans[a][0], spans[b][0], spans[b][1]))
        x.append((x[a] + x[b]) / 2)
        heights.append(height)
        spans.append((spans[a][0], spans[b][1]))
    return Dendrogram(order, joins)
