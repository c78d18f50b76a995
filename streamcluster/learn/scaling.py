"""What brings the parts of a feature space together: one factor a part, learned a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamcluster.runtime.blocks import tile_rows

#: Rows that are widened to float64 at a time.
TILE_ROWS = 64
#: Part of a mean square that rounding alone may make.
ROUNDING = float(np.finfo(np.float32).eps) ** 2


def learn_scale(
    batches: Iterable[NDArray[np.float32]], part_sizes: Sequence[int], energies: Sequence[float]
) -> NDArray[np.float32]:
    """Return the factors by which features are multiplied, so that each part has the mean energy asked for.

    The mean energy of a part is the mean squared distance of its rows to their mean: the part's share of all variance.
    Scaling parts by it is the first step of multiple factor analysis by another norm (Escofier & Pagès 1994 take the
    largest eigenvalue). A part that does not vary keeps the factor 1.

    Parameters
    ----------
    batches : iterable of float32 (n, F)
        At least one row in all. Moments are kept in float64 and joined as in Chan, Golub & LeVeque 1983, so that the
        result does not depend on how rows are batched, but for rounding.
    part_sizes : sequence of int
        Features of each part; their sum is F.
    energies : sequence of float
        What the mean energy of each part is to be.

    Returns
    -------
    float32 (F,)
    """
    n_rows, mean, scatter = 0, np.zeros(sum(part_sizes)), np.zeros(sum(part_sizes))
    for batch in batches:
        for tile in tile_rows(len(batch), TILE_ROWS):
            rows = batch[tile].astype(np.float64)
            difference = rows.mean(axis=0) - mean
            rows -= mean + difference
            scatter += np.einsum("ij,ij->j", rows, rows)
            scatter += difference**2 * (n_rows * len(rows) / (n_rows + len(rows)))
            n_rows += len(rows)
            mean += difference * (len(rows) / n_rows)
    ends = np.cumsum(part_sizes)[:-1]
    varying = [part.sum() / n_rows for part in np.split(scatter, ends)]
    resting = [part @ part for part in np.split(mean, ends)]
    factors = [
        np.sqrt(wanted / energy) if energy > ROUNDING * rest else 1.0
        for wanted, energy, rest in zip(energies, varying, resting, strict=True)
    ]
    return np.repeat(factors, part_sizes).astype(np.float32)
