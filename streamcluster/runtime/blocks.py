"""Blocks and batches as plain geometry: who owns which rows, and in which order a fold meets them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def tile_rows(n_rows: int, block_rows: int) -> list[slice]:
    """Return the blocks that cover `n_rows` rows once, all but the last of `block_rows` rows.

    >>> tile_rows(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + block_rows, n_rows)) for start in range(0, n_rows, block_rows)]


def rebatch(arrays: Iterable[NDArray[Any]], n_rows: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of `arrays` in order, `n_rows` at a time; only the last array may be shorter."""
    waiting: list[NDArray[Any]] = []
    n_waiting = 0
    for array in arrays:
        rest = array
        while n_waiting + len(rest) >= n_rows:
            cut = n_rows - n_waiting
            yield np.concatenate([*waiting, rest[:cut]])
            rest, waiting, n_waiting = rest[cut:], [], 0
        if len(rest):
            waiting.append(rest)
            n_waiting += len(rest)
    if waiting:
        yield np.concatenate(waiting)


def shuffled_batches(
    arrays: Iterable[NDArray[Any]], window_rows: int, batch_rows: int, rng: np.random.Generator
) -> Iterator[NDArray[Any]]:
    """Yield every row of `arrays` once, in batches drawn from a shuffled window.

    Row order decides what mini-batch learners find, so the caller brings blocks in a random order and this mixes the
    rows of neighbouring blocks.

    Parameters
    ----------
    arrays : iterable of (n, F) arrays
    window_rows : int
        Rows that are mixed with one another; they are in memory at the same time.
    batch_rows : int
        Rows a batch; only the last batch may be smaller.
    rng : numpy.random.Generator
    """
    windows = rebatch(arrays, max(window_rows, batch_rows))
    yield from rebatch((window[rng.permutation(len(window))] for window in windows), batch_rows)
