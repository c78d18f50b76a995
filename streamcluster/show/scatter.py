"""Points of a map: where a sample of the pictures lies on a plane."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Points that are drawn at most: more of them hide one another, and each brings a tile of some 330 bytes.
MOST_POINTS: Final = 20_000
#: Largest of the whole numbers that places are rounded to.
_LAST: Final = 65_535


@dataclass(frozen=True, slots=True)
class Points:
    """Rows in their order, int64 (n,), with places on a square of 0 to 65,535, uint16 (n,) each, and groups."""

    rows: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    labels: NDArray[np.int32]


def sample_rows(placed: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return int64 (n,), ascending: `MOST_POINTS` of the rows that are placed at random, or all of them."""
    rows = np.flatnonzero(placed)
    if len(rows) <= MOST_POINTS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_POINTS, replace=False, shuffle=False))


def to_square(places: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return uint16 (n, 2): float32 (n, 2) places moved into the middle of a square, and stretched alike in both axes.

    >>> to_square(np.array([[0, 0], [2, 1]], np.float32)).tolist()
    [[0, 16384], [65535, 49151]]
    """
    if not len(places):
        return np.empty((0, 2), np.uint16)
    exact = places.astype(np.float64)
    low, high = exact.min(axis=0), exact.max(axis=0)
    span = float((high - low).max()) or 1.0
    return np.asarray(np.rint(((exact - (low + high) / 2) / span + 0.5) * _LAST), np.uint16)


def packed(values: NDArray[np.generic], dtype: str) -> str:
    """Return an array as Base64 of its bytes in this dtype, such as `<u2`."""
    return base64.b64encode(values.astype(dtype).tobytes()).decode()
