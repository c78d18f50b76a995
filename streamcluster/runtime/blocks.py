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


def first_rows(arrays: Iterable[NDArray[Any]], n_rows: int) -> Iterator[NDArray[Any]]:
    """Yield the first `n_rows` rows of `arrays`, or all of them, and bring no more arrays than these take.

    >>> [len(rows) for rows in first_rows([np.zeros(3), np.zeros(3), np.zeros(3)], 4)]
    [3, 1]
    """
    n_left = n_rows
    for array in arrays:
        yield array[:n_left]
        n_left -= len(array)
        if n_left <= 0:
            return


def shuffled_batches(
    arrays: Iterable[NDArray[Any]], window_rows: int, batch_rows: int, rng: np.random.Generator
) -> Iterator[NDArray[Any]]:
    """Yield every row of `arrays` once, in batches drawn from a shuffled window.

    Row order decides what mini-batch learners find, so the caller brings blocks in a random order and this mixes the
    rows of neighbouring blocks. The window and one batch are in memory, beside the array that was brought last.

    Parameters
    ----------
    arrays : iterable of (n, F) arrays
    window_rows : int
        Rows that are mixed with one another, in whole batches, and one batch at least.
    batch_rows : int
        Rows a batch; only the last batch may be smaller.
    rng : numpy.random.Generator
    """
    whole_window = max(1, window_rows // batch_rows) * batch_rows
    window: NDArray[Any] | None = None
    n_waiting = 0
    for array in arrays:
        if window is None:
            window = np.empty((whole_window, *array.shape[1:]), array.dtype)
        for rows in _cut(array, whole_window - n_waiting, whole_window):
            window[n_waiting : n_waiting + len(rows)] = rows
            n_waiting += len(rows)
            if n_waiting == whole_window:
                yield from _drawn(window, batch_rows, rng)
                n_waiting = 0
    if window is not None:
        yield from _drawn(window[:n_waiting], batch_rows, rng)


def _cut(array: NDArray[Any], first: int, others: int) -> Iterator[NDArray[Any]]:
    """Yield pieces of an array: `first` rows, then `others` rows each."""
    yield array[:first]
    for start in range(first, len(array), others):
        yield array[start : start + others]


def _drawn(window: NDArray[Any], batch_rows: int, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
    order = rng.permutation(len(window))
    for rows in tile_rows(len(window), batch_rows):
        yield window[order[rows]]
