"""A map of all pictures: t-SNE lays out a sample, and every other row goes where its likes lie. The door to openTSNE.

Left out: t-SNE of all rows, whose time and memory grow with their number; and moving placed rows afterwards by their
gradient, as `PartialTSNEEmbedding.optimize` does, which goes through them hundreds of times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.errors import MissingExtraError
from streamcluster.runtime.blocks import tile_rows

Scores = NDArray[np.float32]
Places = NDArray[np.float32]

#: Number of the way in which maps are made; another one makes a new map.
VERSION: Final = 1
#: Rows that t-SNE lays out at most, and its perplexity (van der Maaten & Hinton 2008; openTSNE's is 30 too). So many
#: rows of 100 scores took 49 s of one processor by the tree of Barnes & Hut, and 90 s by interpolation on a grid.
SAMPLE_ROWS: Final = 5000
PERPLEXITY: Final = 30.0
#: Neighbours a row that t-SNE looks at, for each of its perplexity, as in openTSNE.
NEIGHBOURS_PER_PERPLEXITY: Final = 3
#: Iterations with attraction exaggerated, by how much, and without; openTSNE's defaults.
EARLY_ITERATIONS: Final = 250
EXAGGERATION: Final = 12
LATE_ITERATIONS: Final = 500
#: Iterations between two looks at whether to stop.
STEP: Final = 25
#: Standard deviation of the places from which t-SNE starts, and of what keeps equal rows apart there.
FIRST_SPREAD: Final = 1e-4
FIRST_JITTER: Final = 1e-6
#: Fewer rows have no neighbourhoods to tell; their first two scores are their map.
FEWEST_ROWS: Final = 10
#: A row that is not in the sample lies at the median of so many nearest rows that are (Kobak & Berens 2019).
PLACING_NEIGHBOURS: Final = 10
#: Distances that are held at a time.
TILE_DISTANCES: Final = 1 << 20


def check_extra() -> None:
    """Raise MissingExtraError if openTSNE is not installed."""
    try:
        import openTSNE  # noqa: F401
    except ImportError:
        raise MissingExtraError("openTSNE", "plots") from None


def map_bytes(n_sample: int, n_components: int, n_tasks: int, rows_a_task: int) -> int:
    """Return what a map takes at most: the sample, and its neighbours and t-SNE or tasks that place rows."""
    n_neighbours = int(NEIGHBOURS_PER_PERPLEXITY * PERPLEXITY)
    sample = 3 * 4 * n_sample * n_components
    laying_out = n_sample * n_neighbours * (8 + 8 + 4 * 12) + n_sample * 1024
    placing = n_tasks * (2 * 4 * rows_a_task * n_components + TILE_DISTANCES * (4 + 8 + 4))
    return sample + max(laying_out, placing)


def lay_out(sample: Scores, seed: int, after_step: Callable[[int], None] = lambda _: None) -> Places:
    """Return where t-SNE (van der Maaten & Hinton 2008; openTSNE: Poličar et al. 2024) puts the rows of a sample.

    It starts from the first two components, which keeps the whole in order (Kobak & Linderman 2021), and runs on one
    thread, so that the same seed gives the same map.

    Parameters
    ----------
    sample : float32 (n, d)
    seed : int
        Of what keeps equal rows apart.
    after_step : callable
        Is told the iterations that were done since it was last called, and may raise.

    Returns
    -------
    float32 (n, 2)
        Of fewer than 10 rows the first two scores as they are.
    """
    first = np.zeros((len(sample), 2))
    first[:, : sample.shape[1]] = sample[:, :2]
    if len(sample) < FEWEST_ROWS:
        return first.astype(np.float32)
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    perplexity = min(PERPLEXITY, (len(sample) - 1) / NEIGHBOURS_PER_PERPLEXITY)
    index = PrecomputedNeighbors(*_neighbours_of_each(sample, int(NEIGHBOURS_PER_PERPLEXITY * perplexity)))
    affinities = PerplexityBasedNN(knn_index=index, perplexity=perplexity, n_jobs=1)
    first *= FIRST_SPREAD / max(first.std(axis=0).max(), np.finfo(np.float32).tiny)
    first += np.random.default_rng(seed).normal(scale=FIRST_JITTER, size=first.shape)
    laid = TSNEEmbedding(first, affinities, negative_gradient_method="bh", n_jobs=1, random_state=seed)

    def look_up(_iteration: int, _error: float, _places: NDArray[Any]) -> None:
        after_step(STEP)

    watched: dict[str, Any] = {"callbacks": [look_up], "callbacks_every_iters": STEP, "inplace": True}
    laid.optimize(EARLY_ITERATIONS, exaggeration=EXAGGERATION, momentum=0.5, **watched)
    laid.optimize(LATE_ITERATIONS, momentum=0.8, **watched)
    return np.asarray(laid, np.float32)


def place_rows(rows: Scores, sample: Scores, places: Places) -> Places:
    """Return where rows go on the map of a sample: to the median place of the sample's rows that are nearest to each.

    Parameters
    ----------
    rows : float32 (m, d)
    sample : float32 (n, d)
    places : float32 (n, 2)

    Returns
    -------
    float32 (m, 2)

    Notes
    -----
    The median stays within a group where a mean would fall between two. Of 5,000 pictures placed beside 5,000 others,
    0.79 of the ten nearest on the map were in the picture's own of 50 groups; of the others themselves 0.82.
    """
    placed = np.empty((len(rows), 2), np.float32)
    for tile in _tiles(len(rows), len(sample)):
        squares = _squared_distances(rows[tile], sample)
        placed[tile] = np.median(places[_smallest(squares, min(PLACING_NEIGHBOURS, len(sample)))], axis=1)
    return placed


def _neighbours_of_each(sample: Scores, k: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the k nearest other rows of each row, intp (n, k), nearest first, and their distances."""
    n = len(sample)
    indices, distances = np.empty((n, k), np.intp), np.empty((n, k))
    for tile in _tiles(n, n):
        squares = _squared_distances(sample[tile], sample)
        own = np.arange(tile.start, tile.stop)
        squares[own - tile.start, own] = np.inf
        nearest = _smallest(squares, k)
        found = np.take_along_axis(squares, nearest, axis=1)
        order = np.argsort(found, axis=1, kind="stable")
        indices[tile] = np.take_along_axis(nearest, order, axis=1)
        distances[tile] = np.sqrt(np.take_along_axis(found, order, axis=1))
    return indices, distances


def _tiles(n_rows: int, n_sample: int) -> list[slice]:
    return tile_rows(n_rows, max(1, TILE_DISTANCES // n_sample))


def _squared_distances(rows: Scores, sample: Scores) -> NDArray[np.float32]:
    squares: NDArray[np.float32] = rows @ sample.T
    squares *= -2
    squares += np.einsum("ij,ij->i", sample, sample)
    squares += np.einsum("ij,ij->i", rows, rows)[:, None]
    np.maximum(squares, 0, out=squares)
    return squares


def _smallest(values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return the columns of the k smallest values of each row, in no order."""
    if k >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(values, k - 1, axis=1)[:, :k]
