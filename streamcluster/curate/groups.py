"""Pictures that belong together: connected ones, but only as far as each is close to the best of its group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamcluster.runtime.blocks import tile_rows

Rows = NDArray[np.int32]

#: Says how much pairs of rows differ: int32 (p,), int32 (p,) to float32 (p,).
Measure = Callable[[Rows, Rows], NDArray[np.float32]]

#: Times that what a group's best picture does not hold is tried anew, among itself.
ROUNDS = 16
#: Steps to a picture that others are measured against first, among how many of the nearest neighbours, and how many
#: are at a time.
LEAD_HOPS, LEAD_PLACES, LEAD_TILE = 8, 2, 4096
#: Rows whose neighbours' neighbours are looked through at a time.
_TILE = 8192


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides which picture of a group is kept, each (n,)."""

    pixels: NDArray[np.int64]
    size: NDArray[np.int64]
    sharpness: NDArray[np.float32]
    mtime_ns: NDArray[np.int64]

    def ranks(self) -> Rows:
        """Return int32 (n,): 0 for the best, which has most pixels, then most bytes a pixel, is sharpest, is oldest."""
        bytes_a_pixel = self.size / np.maximum(self.pixels, 1)
        order = np.lexsort((self.mtime_ns, -self.sharpness, -bytes_a_pixel, -self.pixels))
        ranks = np.empty(len(order), np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        return ranks


def components(n: int, one: Rows, other: Rows) -> Rows:
    """Return int32 (n,): for each row the lowest row that edges connect it with.

    Each pass hangs the root of an edge below the lower one, then shortens the ways, so that the passes are few.

    >>> components(5, np.array([3, 1], np.int32), np.array([1, 4], np.int32))
    array([0, 1, 2, 1, 1], dtype=int32)
    """
    roots = np.arange(n, dtype=np.int32)
    while True:
        of_one, of_other = roots[one], roots[other]
        apart = of_one != of_other
        if not apart.any():
            return roots
        one, other = one[apart], other[apart]
        low, high = np.minimum(of_one, of_other)[apart], np.maximum(of_one, of_other)[apart]
        np.minimum.at(roots, high, low)
        while not np.array_equal(shorter := roots[roots], roots):
            roots = shorter


def same_content(digests: NDArray[np.uint8], rows: Rows, ranks: Rows) -> Rows:
    """Return int32 (len(rows),): the best of the rows whose files have the same bytes.

    Parameters
    ----------
    digests : uint8 (len(rows), 32)
    rows : int32 (m,)
    ranks : int32 (n,)
        As `Standing.ranks` gives them.
    """
    keys = np.ascontiguousarray(digests[:, :16]).view(np.uint64)
    order = np.lexsort((ranks[rows], keys[:, 1], keys[:, 0]))
    keys = keys[order]
    first = np.ones(len(rows), bool)
    first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    best = np.empty(len(rows), np.int32)
    best[order] = rows[order][first][np.cumsum(first) - 1]
    return best


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of rows that were measured and are near: int32 (m,) both ends."""

    one: Rows
    other: Rows

    def among(self, active: NDArray[np.bool_]) -> Links:
        """Return the pairs of which both rows are active."""
        both = active[self.one] & active[self.other]
        return Links(self.one[both], self.other[both])

    def with_those(self, one: Rows, other: Rows) -> Links:
        """Return these pairs and some more."""
        return Links(np.concatenate([self.one, one]), np.concatenate([self.other, other]))


@dataclass(frozen=True, slots=True)
class Lead:
    """The best picture near each, each (n,): its row, -1 where nobody looked, and how much it differs."""

    rows: Rows
    difference: NDArray[np.float32]

    def links(self, limit: float) -> Links:
        """Return the pairs that are near."""
        one = np.flatnonzero((self.rows >= 0) & (self.difference <= limit))
        return Links(one.astype(np.int32), self.rows[one])


def follow(active: NDArray[np.bool_], neighbours: Rows, ranks: Rows, limit: float, measure: Measure) -> Lead:
    """Measure rows against the best that a few steps to nearest neighbours reach, as long as half are within the limit.

    Where nearly everything is a copy, that is mostly the best of the group, which each has to be measured against
    anyway: of 50 edits each of 120, 15,327 pairs are measured instead of 19,590. Rows come in no order, so that
    the first few tell whether it is worth it. Only the nearest lead: of 50 edits each of 1,200, 94 % of the rows so get
    to one of the same picture, and 64 % by two steps among all neighbours.
    """
    best: Rows = ranks.copy()
    for _ in range(LEAD_HOPS):
        before: Rows = best.copy()
        for place in range(min(LEAD_PLACES, neighbours.shape[1])):
            one = np.flatnonzero(active & (neighbours[:, place] >= 0))
            other = neighbours[one, place]
            np.minimum.at(best, one, before[other])
            np.minimum.at(best, other, before[one])
    lead = Lead(np.full(len(active), -1, np.int32), np.zeros(len(active), np.float32))
    leaders = rows_of(ranks)[best]
    rows = np.flatnonzero(active & (best < ranks)).astype(np.int32)
    for tile in tile_rows(len(rows), LEAD_TILE):
        led = rows[tile]
        lead.rows[led], lead.difference[led] = leaders[led], measure(leaders[led], led)
        if np.count_nonzero(lead.difference[led] <= limit) < len(led) / 2:
            break
    return lead


def link(active: NDArray[np.bool_], neighbours: Rows, links: Links, limit: float, measure: Measure) -> Links:
    """Return links that hold together all active rows that are near, one by way of others.

    Neighbours are gone through from the nearest on, and those that are connected already are not looked at: of a
    thousand copies of one picture hardly more than two thousand pairs are.

    Parameters
    ----------
    active : bool (n,)
        Rows that take part.
    neighbours : int32 (n, k)
        Rows worth a look, the likest first, -1 where there are none. Those that were measured become -1.
    links : Links
        Pairs of active rows that are known to be near.
    limit : float
        What near pairs differ by at most.
    measure : Measure
    """
    rows = np.arange(len(active), dtype=np.int32)
    roots = components(len(rows), links.one, links.other)
    for place in range(neighbours.shape[1]):
        neighbour = neighbours[:, place]
        one = np.flatnonzero(active & (neighbour >= 0) & active[neighbour] & (roots != roots[neighbour])).astype(
            np.int32
        )
        other = neighbour[one]
        near = measure(one, other) <= limit
        links = links.with_those(one[near], other[near])
        roots = components(len(rows), np.concatenate([rows, one[near]]), np.concatenate([roots, other[near]]))
        neighbours[one, place] = -1
    return links


def without_returns(neighbours: Rows) -> None:
    """Replace by -1, in place, what says of a pair of neighbours again what the other one's row says earlier."""
    for tile in tile_rows(len(neighbours), _TILE):
        rows = np.arange(tile.start, tile.stop, dtype=np.int32)
        for place in range(neighbours.shape[1]):
            other = neighbours[tile, place]
            back = (neighbours[other] == rows[:, None]) & (other >= 0)[:, None]
            where = back.argmax(axis=1)
            earlier = (where < place) | ((where == place) & (other < rows))
            neighbours[rows[back.any(axis=1) & earlier], place] = -1


def best_of_each(roots: Rows, ranks: Rows) -> Rows:
    """Return int32 (n,): for each row the best of its component."""
    n = len(roots)
    best_rank = np.full(n, n, np.int32)
    np.minimum.at(best_rank, roots, ranks)
    return rows_of(ranks)[best_rank[roots]]


def rows_of(ranks: Rows) -> Rows:
    """Return int32 (n,): the row of each rank."""
    rows = np.empty(len(ranks), np.int32)
    rows[ranks] = np.arange(len(ranks), dtype=np.int32)
    return rows


def group_rows(
    active: NDArray[np.bool_], neighbours: Rows, ranks: Rows, limits: tuple[float, float], measure: Measure
) -> tuple[Rows, NDArray[np.float32]]:
    """Return for each row the best row of its group, itself where it is alone, and how much it differs from that.

    Links can chain pictures that have little in common. So each has to be close to the best of its group too; those
    that are not are grouped anew, among themselves.

    Parameters
    ----------
    active, neighbours
        As for `link`.
    ranks : int32 (n,)
        0 for the picture that would be kept of all.
    limits : (float, float)
        What linked pictures differ by at most, and what a picture differs by from the best of its group.
    measure : Measure

    Returns
    -------
    int32 (n,), float32 (n,)
    """
    without_returns(neighbours)
    lead = follow(active, neighbours, ranks, limits[1], measure)
    links = lead.links(limits[0])
    kept = np.arange(len(active), dtype=np.int32)
    difference = np.zeros(len(active), np.float32)
    for _ in range(ROUNDS):
        if not active.any():
            break
        links = link(active, neighbours, links.among(active), limits[0], measure)
        best = best_of_each(components(len(active), links.one, links.other), ranks)
        members = np.flatnonzero(best != np.arange(len(best))).astype(np.int32)
        differs = lead.difference[members]
        unknown = np.flatnonzero(lead.rows[members] != best[members])
        differs[unknown] = measure(best[members[unknown]], members[unknown])
        close = differs <= limits[1]
        kept[members[close]], difference[members[close]] = best[members[close]], differs[close]
        active = np.zeros(len(active), bool)
        active[members[~close]] = True
    return kept, difference
