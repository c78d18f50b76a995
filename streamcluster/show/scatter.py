"""Points of maps: where a sample of the pictures lies, among its look-alikes and by its first scores."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.store.fits import Fit

#: Points that are drawn at most: more of them hide one another, and each brings a tile of some 330 bytes.
MOST_POINTS: Final = 20_000
#: Largest of the whole numbers that places are rounded to.
_LAST: Final = 65_535


@dataclass(frozen=True, slots=True)
class Points:
    """A sample of the pictures, on grids of 0 to 65,535.

    Attributes
    ----------
    rows : int64 (n,), ascending
    labels : int32 (n,)
        Group of each.
    scores : uint16 (n, 3)
        The first three, zero where the fit has fewer.
    places : uint16 (n, 2), optional
        On the map on which look-alikes lie side by side; None where there is none of this fit.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    scores: NDArray[np.uint16]
    places: NDArray[np.uint16] | None


def sample_rows(placed: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return int64 (n,), ascending: `MOST_POINTS` of the rows that are placed at random, or all of them."""
    rows = np.flatnonzero(placed)
    if len(rows) <= MOST_POINTS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_POINTS, replace=False, shuffle=False))


def first_scores(fit: Fit, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return float32 (n, 3): the first three scores of these ascending rows, zeros where the fit has fewer."""
    scores = np.zeros((len(rows), 3), np.float32)
    first = fit.scores_of(rows, 3)
    scores[:, : first.shape[1]] = first
    return scores


def to_grid(places: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return uint16 (n, d): float32 (n, d) places moved into the middle of a cube, and stretched alike in all axes.

    >>> to_grid(np.array([[0, 0], [2, 1]], np.float32)).tolist()
    [[0, 16384], [65535, 49151]]
    """
    if not len(places):
        return np.empty(places.shape, np.uint16)
    exact = places.astype(np.float64)
    low, high = exact.min(axis=0), exact.max(axis=0)
    span = float((high - low).max()) or 1.0
    return np.asarray(np.rint(((exact - (low + high) / 2) / span + 0.5) * _LAST), np.uint16)


def packed(values: NDArray[np.generic], dtype: str) -> str:
    """Return an array as Base64 of its bytes in this dtype, such as `<u2`."""
    return base64.b64encode(values.astype(dtype).tobytes()).decode()
