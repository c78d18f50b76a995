"""Ward's tree over micro-clusters: many small groups are found once, and any smaller number is read from their tree.

The rows are met when the micro-clusters are found. What comes after works on their centres and sizes alone, so that
another number of groups takes milliseconds however many rows there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from streamcluster.errors import SettingsError
from streamcluster.learn.scores import SAME_CENTER

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Groups = NDArray[np.int64]

#: Rows that the choice of a number of groups takes as evidence at most. Pictures are no Gaussian balls, so that with
#: more rows the criterion asks for ever more groups: on four sets with 7 to 40 classes, 12 to 43 groups with 1,000 rows
#: and as many as it may give with 10,000 (`benchmarks/choose_k.py`).
EVIDENCE_ROWS = 1000
#: Groups that are chosen at most: more folders than that are not looked through.
MOST_GROUPS = 200


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


def choose_clusters(tree: Floats, centers: Floats, counts: Counts, within: Floats, n_max: int = MOST_GROUPS) -> int:
    """Return the number of groups, 1 to `n_max`, whose cut of the tree has the largest `information_criterion`.

    Never more groups than micro-clusters, or than half of the rows. One means that no groups stand out.

    Parameters
    ----------
    tree : float64 (m - 1, 4)
        From `ward_tree`.
    centers : float64 (m, d)
    counts : int64 (m,)
    within : float64 (m,)
        For each micro-cluster, the sum of the squared distances of its rows to its centre.
    n_max : int

    Notes
    -----
    Weighed over the same cuts and left out (`benchmarks/choose_k.py`): the simplified silhouette (Hruschka et al. 2004)
    takes the most groups that it may, the largest gap of the tree two to six but for one set, and splits by the same
    criterion from the root down, as in x-means, end in 60 to 300 small groups. Where there are fewer than
    `EVIDENCE_ROWS` rows the criterion is cautious: 12 groups for 400 pictures of 40 people.
    """
    n_most = max(1, min(n_max, len(counts), int(counts.sum()) // 2))
    criterion = information_criterion(tree, counts, within, centers.shape[1])
    return int(criterion[:n_most].argmax()) + 1


def information_criterion(
    tree: Floats, counts: Counts, within: Floats, n_components: int, n_evidence: int = EVIDENCE_ROWS
) -> Floats:
    """Return the Bayesian information criterion of the cuts into 1, 2 … m groups, float64 (m,); the largest is best.

    The rows are taken to come from round Gaussians of one variance (Pelleg & Moore 2000, whose estimate of the variance
    lacks the division by d), and the store to be a sample of at most `n_evidence` such rows.

    Parameters
    ----------
    tree : float64 (m - 1, 4)
    counts : int64 (m,)
    within : float64 (m,)
    n_components : int
        d, of the scores that the micro-clusters lie in.
    n_evidence : int
    """
    n_rows, n_groups = counts.sum(), np.arange(1, len(counts) + 1)
    free = np.maximum(n_rows - n_groups, 1)
    spread = np.maximum(cut_inertias(tree, within) / free, SAME_CENTER**2)
    fit = _cut_entropies(tree, counts) - n_components / 2 * (np.log(spread) + free / n_rows)
    n_evidence = min(int(n_rows), n_evidence)
    n_parameters = n_groups * (n_components + 1)
    criterion: Floats = n_evidence * fit - n_parameters / 2 * np.log(n_evidence)
    return criterion


def cut_inertias(tree: Floats, within: Floats) -> Floats:
    """Return the sum of squared distances of all rows to the means of 1, 2 … m groups, float64 (m,)."""
    added = np.cumsum(tree[:, 2] ** 2 / 2)
    inertias: Floats = within.sum() + np.append(added[::-1], 0)
    return inertias


def _cut_entropies(tree: Floats, counts: Counts) -> Floats:
    """Return the sum of p·log p over the shares p of the rows in 1, 2 … m groups."""
    m = len(counts)
    parts = tree[:, :2].astype(np.intp)
    shares = np.append(counts / counts.sum(), np.zeros(m - 1))
    for i in range(m - 1):
        shares[m + i] = shares[parts[i]].sum()
    logs = shares * np.log(shares)
    added = np.cumsum(logs[m:] - logs[parts].sum(axis=1))
    entropies: Floats = logs[:m].sum() + np.append(added[::-1], 0)
    return entropies
