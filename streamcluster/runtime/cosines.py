"""The discrete cosine transform, of which pictures' hashes and codes keep the low frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cosines(n_frequencies: int, n_samples: int) -> NDArray[np.float32]:
    """Return float32 (n_frequencies, n_samples): the first rows of the orthonormal DCT-II of this length.

    >>> cosines(2, 2).round(4)
    array([[ 0.7071,  0.7071],
           [ 0.7071, -0.7071]], dtype=float32)
    """
    frequency, place = np.ogrid[:n_frequencies, :n_samples]
    rows = np.cos(np.pi / n_samples * (place + 0.5) * frequency) * np.sqrt(2 / n_samples)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)
