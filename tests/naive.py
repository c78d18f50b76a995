"""The oracle: the same results by the shortest way, all in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def principal_components(rows: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (components (n, F), explained variance ratio (n,)) by one singular value decomposition."""
    _, singular, components = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    return components[:n], (singular**2 / (singular**2).sum())[:n]


def nearest(rows: NDArray[np.float64], centers: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return (label, distance) of each row, a pair at a time."""
    distances = np.array([[np.linalg.norm(row - center) for center in centers] for row in rows])
    return distances.argmin(axis=1), distances.min(axis=1)


def inertia(rows: NDArray[np.float64], labels: NDArray[np.intp], centers: NDArray[np.float64]) -> float:
    """Return the sum of squared distances of the rows to their centres."""
    return float(sum(((row - centers[label]) ** 2).sum() for row, label in zip(rows, labels, strict=True)))
