"""Ward's tree over micro-clusters: many small groups are found once, and any smaller number is read from their tree.

The rows are met when the micro-clusters are found. What comes after works on their centres and sizes alone, so that
another number of groups takes milliseconds however many rows there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from streamcluster.errors import SettingsError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Groups = NDArray[np.int64]


def ward_tree(centers: Floats, counts: Counts) -> Floats:
    """Return the tree that joins, again and again, the two groups whose union adds least inertia (Ward 1963).

    A micro-cluster of n rows weighs as n rows that lie on its centre. Pairs are found by the nearest-neighbour chain
    (Murtagh & Contreras 2012) over distances updated by the formula of Lance and Williams; time and memory grow as m².

    Parameters
    ----------
    centers : float64 (m, d)
    counts : int64 (m,)
        All positive: leave out micro-clusters that have no rows.

    Returns
    -------
    float64 (m - 1, 4)
        As `scipy.cluster.hierarchy.linkage` returns it: the two groups joined, the height, and the number of
        micro-clusters in the union; row i makes group m + i. The height of joining A and B is
        sqrt(2·|A|·|B| / (|A| + |B|))·‖cA - cB‖: half its square is the inertia added. Heights never fall.

    Examples
    --------
    Three rows at 0, one at 1 and one at 9:

    >>> ward_tree(np.array([[0.0], [1.0], [9.0]]), np.array([3, 1, 1])).round(2).tolist()
    [[0.0, 1.0, 1.22, 2.0], [2.0, 3.0, 11.07, 3.0]]
    """
    sizes = counts.astype(np.float64)
    squares = squareform(pdist(centers, "sqeuclidean"))
    squares *= 2 * np.outer(sizes, sizes) / np.add.outer(sizes, sizes)
    np.fill_diagonal(squares, np.inf)
    slots, heights = _join_all(squares, sizes)
    return _number_groups(slots, heights)


def _join_all(squares: Floats, sizes: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the slots that were joined, (m - 1, 2), and the heights; the union stays in the second slot.

    `squares` has the squared heights, infinite where there is no pair; it and `sizes` are overwritten.
    """
    m = len(sizes)
    slots, heights, formed_at = np.empty((m - 1, 2), np.intp), np.empty(m - 1), np.zeros(m)
    chain: list[int] = []
    for i in range(m - 1):
        chain = chain or [int(np.argmax(sizes > 0))]
        a, b = _extend_to_pair(chain, squares)
        # Rounding must not put a union below its parts: it would come before them in the order of heights.
        heights[i] = max(np.sqrt(squares[a, b]), formed_at[a], formed_at[b])
        slots[i] = a, b
        formed_at[b] = heights[i]
        _unite(a, b, squares, sizes)
    return slots, heights


def _extend_to_pair(chain: list[int], squares: Floats) -> tuple[int, int]:
    """Follow nearest neighbours from the end of the chain until two are each other's; take them off and return them."""
    while True:
        end = chain[-1]
        nearest = int(squares[end].argmin())
        # Of equally near ones the one that came before, or a chain of ties would go round for ever.
        if len(chain) > 1 and squares[end, chain[-2]] <= squares[end, nearest]:
            a, b = sorted((chain.pop(), chain.pop()))
            return a, b
        chain.append(nearest)


def _unite(a: int, b: int, squares: Floats, sizes: Floats) -> None:
    """Put the union of a and b into slot b, and empty slot a (Lance & Williams 1967, Ward's coefficients)."""
    total = sizes[a] + sizes[b] + sizes
    row = ((sizes[a] + sizes) * squares[a] + (sizes[b] + sizes) * squares[b] - sizes * squares[a, b]) / total
    row = np.maximum(row, 0)
    row[sizes == 0] = np.inf
    row[[a, b]] = np.inf
    sizes[b] += sizes[a]
    sizes[a] = 0
    squares[b] = squares[:, b] = row
    squares[a] = squares[:, a] = np.inf


def _number_groups(slots: NDArray[np.intp], heights: Floats) -> Floats:
    """Return the tree in the order of heights; parts stand before their union, for the order is stable."""
    m = len(slots) + 1
    tree = np.empty((m - 1, 4))
    group_in, n_inside = np.arange(m), np.ones(2 * m - 1, np.int64)
    for i, join in enumerate(np.argsort(heights, kind="stable")):
        a, b = slots[join]
        first, second = sorted((group_in[a], group_in[b]))
        n_inside[m + i] = n_inside[first] + n_inside[second]
        group_in[b] = m + i
        tree[i] = first, second, heights[join], n_inside[m + i]
    return tree


def cut_tree(tree: Floats, n_clusters: int) -> Groups:
    """Return the group of each micro-cluster, int64 (m,): 0 to n_clusters - 1, numbered as they first appear.

    Parameters
    ----------
    tree : float64 (m - 1, 4)
        From `ward_tree`.
    n_clusters : int

    Raises
    ------
    SettingsError
        The tree cannot be cut into so many groups.

    Examples
    --------
    >>> cut_tree(ward_tree(np.array([[9.0], [0.0], [1.0]]), np.array([1, 3, 1])), 2).tolist()
    [0, 1, 1]
    """
    m = len(tree) + 1
    if not 1 <= n_clusters <= m:
        raise SettingsError(f"{n_clusters} groups: the tree has {m} micro-clusters; ask for 1 to {m} groups")
    n_joins = m - n_clusters
    top = np.arange(m + n_joins)
    for i in reversed(range(n_joins)):
        top[tree[i, :2].astype(np.intp)] = top[m + i]
    _, first, groups = np.unique(top[:m], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[groups]


def group_means(centers: Floats, counts: Counts, groups: Groups) -> tuple[Floats, Counts]:
    """Return the means of all rows of each group, float64 (K, d), and their number, int64 (K,).

    Parameters
    ----------
    centers : float64 (m, d)
    counts : int64 (m,)
    groups : int64 (m,)
        From `cut_tree`.
    """
    member = np.equal.outer(np.arange(groups.max() + 1), groups) * counts
    sizes = member.sum(axis=1)
    return member @ centers / sizes[:, None], sizes


def choose_clusters(tree: Floats, centers: Floats, counts: Counts, within: Floats) -> int:
    raise NotImplementedError
