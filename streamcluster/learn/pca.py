"""Principal components, learned a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import IncrementalPCA

from streamcluster.errors import SettingsError

#: Variance that rounding makes in a decomposition in float32, as a share of the mean square: a few steps of it.
ROUNDING = (8 * float(np.finfo(np.float32).eps)) ** 2


@dataclass(frozen=True, slots=True)
class Components:
    """What a principal component analysis found.

    Attributes
    ----------
    mean : float32 (F,)
    components : float32 (d, F)
        Orthonormal rows, by falling variance.
    explained_variance : float64 (d,)
        Variance of the scores; zeros where there is no more than rounding makes.
    explained_variance_ratio : float64 (d,)
        Share of the total variance of the features; zeros where there is no variance.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    explained_variance: NDArray[np.float64]
    explained_variance_ratio: NDArray[np.float64]

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 (n, d) scores of float32 (n, F) features."""
        scores: NDArray[np.float32] = np.matmul(features - self.mean, self.components.T, dtype=np.float32)
        return scores

    def first(self, n_components: int) -> Components:
        """Return the first components alone."""
        return Components(
            self.mean,
            self.components[:n_components],
            self.explained_variance[:n_components],
            self.explained_variance_ratio[:n_components],
        )


def learning_bytes(n_features: int, n_components: int, batch_rows: int) -> int:
    """Return what one update takes at most beside the batch.

    IncrementalPCA stacks r = batch + d + 1 rows in float64 and decomposes them: at most 8·r·(4.1·F + 2.3·min(r, F))
    bytes, measured over F = 768 to 12,288 with scikit-learn 1.9.
    """
    rows = batch_rows + n_components + 1
    return int(8 * rows * (4.1 * n_features + 2.3 * min(rows, n_features)))


def learn_components(batches: Iterable[NDArray[np.float32]], n_components: int) -> Components:
    """Return the first `n_components` principal components of all rows, meeting each batch once.

    Parameters
    ----------
    batches : iterable of float32 (n, F)
        Overwritten. The first must have at least `n_components` rows (Ross et al. 2008 start from its decomposition).
    n_components : int
    """
    pca = IncrementalPCA(n_components=n_components, copy=False)
    with np.errstate(invalid="ignore", divide="ignore"):
        for batch in batches:
            pca.partial_fit(batch)
    # Row-major, as a resumed run reads them: a product of matrices rounds otherwise where one lies column by column.
    return Components(
        np.asarray(pca.mean_, np.float32),
        np.ascontiguousarray(pca.components_, np.float32),
        _without_rounding(pca.explained_variance_, pca.mean_, pca.var_),
        np.nan_to_num(np.asarray(pca.explained_variance_ratio_, np.float64)),
    )


def _without_rounding(
    explained_variance: NDArray[Any], mean: NDArray[Any], variance: NDArray[Any]
) -> NDArray[np.float64]:
    """Return variances, those as zeros that float32 features of this size have by rounding, even if all are alike."""
    rounding = ROUNDING * float(mean @ mean + variance.sum())
    return np.where(explained_variance > rounding, explained_variance, 0).astype(np.float64)


def count_components(explained_variance_ratio: NDArray[Any], variance: float) -> int:
    """Return how many components reach a cumulative explained variance ratio.

    Raises
    ------
    SettingsError
        All of them together do not.

    Examples
    --------
    >>> count_components(np.array([0.6, 0.3, 0.05]), 0.85)
    2
    """
    reached = np.cumsum(explained_variance_ratio)
    count = int(np.searchsorted(reached, variance)) + 1
    if count > len(reached):
        raise SettingsError(
            f"--variance {variance}: {len(reached)} components reach {reached[-1]:.4f}; "
            f"use --variance {np.floor(reached[-1] * 1000) / 1000:.3f} or a larger --batch-rows"
        )
    return count
