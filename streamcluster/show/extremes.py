"""The pictures that stand for each group: the nearest to its centre, and the farthest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Rows, their group numbers, and their distances to the centres, each (n,).
Labelled = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of `size` rows, whose distances to the centre have the mean `spread` (NaN where it is empty).

    `central` and `outlying` are rows, the extreme ones first; no row is in both.
    """

    number: int
    size: int
    spread: float
    central: list[int]
    outlying: list[int]


class _Nearest:
    """The `n` rows of each group whose values are least, of what was added so far; of equal ones the lower rows."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._rows, self._labels = np.empty(0, np.int64), np.empty(0, np.int32)
        self._values = np.empty(0, np.float32)

    def add(self, rows: NDArray[np.int64], labels: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        rows, labels = np.concatenate([self._rows, rows]), np.concatenate([self._labels, labels])
        values = np.concatenate([self._values, values])
        order = np.lexsort((rows, values, labels))
        by_group = labels[order]
        order = order[np.arange(len(order)) - np.searchsorted(by_group, by_group) < self._n]
        self._rows, self._labels, self._values = rows[order], labels[order], values[order]

    def by_group(self, n_groups: int) -> list[list[int]]:
        cuts = np.searchsorted(self._labels, np.arange(1, n_groups))
        return [part.tolist() for part in np.split(self._rows, cuts)]


def survey_groups(parts: Iterable[Labelled], n_groups: int, per_group: int) -> list[Group]:
    """Return each group, with `per_group` of its rows, half of them central and half outlying.

    A group that has no more rows than that has all of them in `central`. In memory are `2 * per_group` rows a group.

    Parameters
    ----------
    parts : iterable of (int64 (n,) rows, int32 (n,) labels from 0, float32 (n,) distances)
    n_groups, per_group : int
    """
    nearest, farthest = _Nearest(per_group), _Nearest(per_group // 2)
    sizes, sums = np.zeros(n_groups, np.int64), np.zeros(n_groups, np.float64)
    for rows, labels, distances in parts:
        sizes += np.bincount(labels, minlength=n_groups)
        sums += np.bincount(labels, weights=distances, minlength=n_groups)
        nearest.add(rows, labels, distances)
        # Turned round in both, the order is that of the nearest backwards, and equal distances bring no row twice.
        farthest.add(-rows, labels, -distances)
    with np.errstate(invalid="ignore"):
        spreads = sums / sizes
    central = nearest.by_group(n_groups)
    outlying = [[-row for row in rows] for rows in farthest.by_group(n_groups)]
    half = per_group - per_group // 2
    return [
        Group(i, size, spread, *((central[i], []) if size <= per_group else (central[i][:half], outlying[i])))
        for i, (size, spread) in enumerate(zip(sizes.tolist(), spreads.tolist(), strict=True))
    ]
