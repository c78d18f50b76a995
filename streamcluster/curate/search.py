"""Which pictures are worth a closer look: for each, the few whose whole looks most like one of its views.

An inverted file, as for product quantisation (Jégou et al., IEEE TPAMI 33, 2011): descriptors lie in cells around
centres, and a view is compared with those in the cells of its nearest centres only. With as many cells as pictures in a
cell, n pictures take n^1.5 products, all of them in matrix products. The usual libraries do the same: they would be a
large dependency for 100 lines, and keep all views of all pictures in memory, or graphs over them. Multi-index hashing
(Norouzi et al., CVPR 2012) needs codes that differ in few bits; the 64-bit hashes of a picture and its crop do not.

What stays in memory is a code of `N_NUMBERS` bytes a picture. Views are made again where they are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.curate.views import N_NUMBERS, Floats
from streamcluster.runtime.blocks import tile_rows

Codes = NDArray[np.int8]

#: Scale of a code: numbers of a descriptor are at most 1.
_STEPS: Final = 127
#: Pictures for each centre that it is learned from, and the passes over them.
SAMPLE_PER_CELL, LEARNING_PASSES = 32, 4
#: Cells that a view is looked up in.
PROBES: Final = 3
#: Pictures of a cell that a view is compared with, at most: those of another share for each picture.
MOST_IN_CELL: Final = 8192
#: Views whose distances to all centres are in memory at a time.
_TILE: Final = 2048
#: Products of views and pictures that are in memory at a time: where all look alike, all views meet in one cell.
_PRODUCTS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Cells:
    """Codes by cell.

    Attributes
    ----------
    centers : float32 (c, N_NUMBERS)
    codes : int8 (n, N_NUMBERS)
        Cell after cell.
    rows : int32 (n,)
        The row of each code.
    starts : int64 (c + 1,)
        Where the codes of a cell begin.
    """

    centers: Floats
    codes: Codes
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]


def encode(descriptors: Floats) -> Codes:
    """Return descriptors in a byte for each number, int8."""
    codes: Codes = np.rint(descriptors * _STEPS).astype(np.int8)
    return codes


def decode(codes: Codes) -> Floats:
    """Return the float32 descriptors that codes stand for."""
    return codes.astype(np.float32) * np.float32(1 / _STEPS)


def sort_into_cells(codes: Codes, rows: NDArray[np.int32], rng: np.random.Generator) -> Cells:
    """Return the codes of these rows in as many cells as a cell has rows."""
    n_cells = max(1, int(np.sqrt(len(rows))))
    sample = np.sort(rng.permutation(len(rows))[: n_cells * SAMPLE_PER_CELL])
    centers = learn_cells(decode(codes[rows[sample]]), n_cells, rng)
    cells = np.empty(len(rows), np.int32)
    for tile in tile_rows(len(rows), _TILE):
        cells[tile] = (decode(codes[rows[tile]]) @ centers.T).argmax(axis=1)
    order = np.argsort(cells, kind="stable")
    starts = np.searchsorted(cells[order], np.arange(n_cells + 1))
    in_order = rows[order]
    return Cells(centers, codes[in_order], in_order, starts)


def learn_cells(sample: Floats, n_cells: int, rng: np.random.Generator) -> Floats:
    """Return float32 (n_cells, N_NUMBERS) centres of unit length: spherical k-means, from rows drawn at random."""
    centers = sample[np.sort(rng.permutation(len(sample))[:n_cells])]
    for _ in range(LEARNING_PASSES):
        sums = np.zeros(centers.shape, np.float32)
        for tile in tile_rows(len(sample), _TILE):
            np.add.at(sums, (sample[tile] @ centers.T).argmax(axis=1), sample[tile])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centers = np.where(lengths > 0, sums / np.maximum(lengths, np.float32(1e-6)), centers)
    return centers


def nearest(views: Floats, rows: NDArray[np.int32], cells: Cells, least: float, n_nearest: int) -> NDArray[np.int32]:
    """Return the rows that look most like views of these.

    Parameters
    ----------
    views : float32 (m, v, N_NUMBERS)
    rows : int32 (m,)
        Whose views they are.
    cells : Cells
    least : float
        Correlation from which on a row is near.
    n_nearest : int

    Returns
    -------
    int32 (m, n_nearest)
        First what is likest to one of the views, then others, the likest first; then -1. So a crop of a picture that
        has many copies is among its neighbours, since another view finds it than finds the copies.
    """
    n_views = views.shape[1]
    queries = np.ascontiguousarray(views.reshape(-1, N_NUMBERS))
    lookups = [_nearest_cells(queries[tile], cells.centers) for tile in tile_rows(len(queries), _TILE)]
    probed = np.concatenate(lookups) if lookups else np.empty((0, 1), np.intp)
    n_probes = probed.shape[1]
    order = np.argsort(probed, axis=None, kind="stable")
    bounds = np.searchsorted(probed.ravel()[order], np.arange(len(cells.centers) + 1))
    found = []
    for cell in np.flatnonzero(np.diff(bounds)):
        asking = order[bounds[cell] : bounds[cell + 1]] // n_probes
        for part, those in _shares(cells, int(cell), rows[asking // n_views]):
            codes = decode(cells.codes[part])
            for tile in tile_rows(len(those), max(1, _PRODUCTS // len(codes))):
                query = asking[those[tile]]
                alike = queries[query] @ codes.T
                at, other = _best_of_each(alike, least, n_nearest + 1)
                found.append((query[at], cells.rows[part][other], alike[at, other]))
    return _merge(found, rows, n_views, n_nearest)


def _nearest_cells(queries: Floats, centers: Floats) -> NDArray[np.intp]:
    alike = queries @ centers.T
    nearest_ones = []
    for _ in range(min(PROBES, len(centers))):
        best = alike.argmax(axis=1)
        alike[np.arange(len(alike)), best] = -2
        nearest_ones.append(best)
    return np.stack(nearest_ones, axis=1)


def _shares(cells: Cells, cell: int, asking: NDArray[np.int32]) -> list[tuple[slice, NDArray[np.intp]]]:
    """Return parts of a cell, and which of those that ask are compared with each."""
    start, stop = int(cells.starts[cell]), int(cells.starts[cell + 1])
    parts = tile_rows(stop - start, MOST_IN_CELL)
    own = asking % max(1, len(parts))
    return [
        (slice(start + part.start, start + part.stop), np.flatnonzero(own == i))
        for i, part in enumerate(parts)
        if (own == i).any()
    ]


def _best_of_each(alike: Floats, least: float, most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places in a matrix from `least` on, the `most` largest of a row at most."""
    near = alike >= least
    crowded = np.flatnonzero(near.sum(axis=1) > most)
    if len(crowded):
        best = np.argpartition(-alike[crowded], most - 1, axis=1)[:, :most]
        near[crowded] = False
        near[crowded[:, None], best] = True
    at, other = np.nonzero(near)
    return at, other


def _merge(
    found: list[tuple[NDArray[np.intp], NDArray[np.int32], Floats]],
    rows: NDArray[np.int32],
    n_views: int,
    n_nearest: int,
) -> NDArray[np.int32]:
    """Return the best of what was found for each row, each other row once and never itself."""
    nearest_rows = np.full((len(rows), n_nearest), -1, np.int32)
    if not found:
        return nearest_rows
    query, other, alike = (np.concatenate(parts) for parts in zip(*found, strict=True))
    others = rows[query // n_views] != other
    query, other, alike = query[others], other[others], alike[others]
    order = np.lexsort((other, -alike, query))
    query, other, alike = query[order], other[order], alike[order]
    later = _places(query) > 0
    at = query // n_views
    order = np.lexsort((-alike, later, other, at))
    at, other, alike, later = at[order], other[order], alike[order], later[order]
    again = np.zeros(len(at), bool)
    again[1:] = (at[1:] == at[:-1]) & (other[1:] == other[:-1])
    at, other, alike, later = at[~again], other[~again], alike[~again], later[~again]
    order = np.lexsort((other, -alike, later, at))
    at, other = at[order], other[order]
    place = _places(at)
    kept = place < n_nearest
    nearest_rows[at[kept], place[kept]] = other[kept]
    return nearest_rows


def _places(keys: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the place of each of sorted keys among its equals.

    >>> _places(np.array([3, 3, 5, 7, 7, 7]))
    array([0, 1, 0, 0, 1, 2])
    """
    return np.arange(len(keys)) - np.searchsorted(keys, keys)
