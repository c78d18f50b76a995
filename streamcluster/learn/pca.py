"""Principal components, learned a batch at a time, and from summaries that were learned apart.

Two learners, for two shapes of work. `GramPCA` keeps the first k components and meets each batch with a small
eigenproblem: many features. `CovariancePCA` adds up the whole covariance and solves once, exactly: few features.
`choose_learner` weighs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, solve_triangular
from sklearn.decomposition import IncrementalPCA
from sklearn.utils.validation import validate_data

from streamcluster.errors import SettingsError
from streamcluster.runtime.blocks import tile_rows

Array = NDArray[Any]
Learner = Literal["covariance", "gram"]

#: Features that are widened to float64 at a time; a batch in float64 would take twice the batch.
TILE_FEATURES = 2048
#: Singular values below this share of the first are rounding: float64 sums of squares hold 16 digits, so values hold 8.
NO_VALUE = 1e-7
#: Components this many times as strong as the weakest are taken out of a batch first. Rounding of float32 is a share of
#: the largest eigenvalue, and the weakest is smaller by the square: at 16 it keeps four digits in the worst case.
STRONG = 16
#: By how much products of components may differ from those of orthonormal ones: by rounding of float32.
RIGHT_ANGLE = 1e-6
#: Rows of an eigenproblem whose copy takes little memory.
SMALL_PROBLEM = 1024
#: What float32 rounds, a few steps of it.
ROUNDING = 4 * float(np.finfo(np.float32).eps)
#: What an eigenproblem of r rows takes, in units of r³ float32 multiplications and additions of a matrix product
#: (OpenBLAS 0.3.31, one thread: r = 1,281 takes 0.24 s, r = 2,401 takes 2.5 s, at 36 billion a second).
EIGEN_WORK = 6


@dataclass(frozen=True, slots=True)
class Components:
    """What a principal component analysis found, and all that it needs to go on.

    Attributes
    ----------
    mean, variance : float64 (F,)
        Of each feature.
    components : float32 (d, F)
        Orthonormal rows, by falling variance.
    explained_variance : float64 (d,)
        Variance of the scores, in squared feature units; zeros where there is no more than rounding makes.
    explained_variance_ratio : float64 (d,)
        Share of the total variance of the features; zeros where there is no variance.
    n_seen : int64 (1,)
        Rows learned from.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    components: NDArray[np.float32]
    explained_variance: NDArray[np.float64]
    explained_variance_ratio: NDArray[np.float64]
    n_seen: NDArray[np.int64]

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 (n, d) scores of float32 (n, F) features."""
        centred = features - self.mean.astype(np.float32)
        scores: NDArray[np.float32] = np.matmul(centred, self.components.T, dtype=np.float32)
        return scores

    def first(self, n_components: int) -> Components:
        """Return the first components alone."""
        per_component = ("components", "explained_variance", "explained_variance_ratio")
        return replace(self, **{name: getattr(self, name)[:n_components] for name in per_component})


class GramPCA(IncrementalPCA):  # type: ignore[misc]
    """scikit-learn's `IncrementalPCA` with a small symmetric eigenproblem in place of a singular value decomposition.

    Constructor, attributes and methods are scikit-learn's. An update looks for the singular vectors of the rows
    A = [S·V; X - mean(X); correction], r = k + batch + 1 of them (Ross, Lim, Lin & Yang, "Incremental learning for
    robust visual tracking", IJCV 2008). They follow from the eigenvectors of A·Aᵀ, r by r (Sirovich, "Turbulence and
    the dynamics of coherent structures", 1987), of which the block of the kept rows is diag(S²) already; where the
    features are fewer than the rows, from those of Aᵀ·A. Squares double the range of the values, so small ones would
    drown in the rounding of float32: the first batch is multiplied in float64, and from later ones the strong
    components are taken out first. Rows of float32 keep components and scores float32, means stay float64.

    `noise_variance_` is the mean of what the last update left out, and not kept by `to_arrays`.
    """

    def partial_fit(self, X: Any, y: Any = None, check_input: bool = True) -> Self:  # noqa: ARG002, N803
        """Learn from one batch.

        Parameters
        ----------
        X : array or sparse matrix, float32 or float64 (n, F)
            Never overwritten, whatever `copy` says. The first batch has at least `n_components` rows.
        y : ignored
        check_input : bool
            Whether to check `X`.

        Raises
        ------
        ValueError
            `X` has values that are not finite, another number of features, or fewer rows than components at first.
        """
        first = not self._has_begun
        if check_input:
            X = X.toarray() if hasattr(X, "toarray") else X  # noqa: N806
            X = validate_data(self, X, dtype=[np.float64, np.float32], reset=first)  # noqa: N806
        n_rows, n_features = X.shape
        if first:
            self.n_components_ = self._checked_components(n_rows, n_features)
            self.components_ = np.empty((0, n_features), X.dtype)
            self.singular_values_ = np.empty(0)
            self.n_samples_seen_, self.mean_, self.var_ = 0, np.zeros(n_features), np.zeros(n_features)
        elif self.n_components is not None and self.n_components != self.n_components_:
            raise ValueError(f"n_components was {self.n_components_} and is {self.n_components} now")
        mean = X.mean(axis=0, dtype=np.float64)
        rows = np.empty((n_rows + 1, n_features), self.components_.dtype)
        np.subtract(X, mean.astype(X.dtype), out=rows[:-1], casting="same_kind")
        variance = np.einsum("ij,ij->j", rows[:-1], rows[:-1]).astype(np.float64) / n_rows
        self._absorb(rows, n_rows, mean, variance)
        return self

    def merge(self, other: GramPCA) -> Self:
        """Take in what another learned from other rows.

        Summaries of k components lose what they left out. To end with k, let each keep 2·k: three merged summaries of
        64, 96 and 128 kept rows hold 0.81349, 0.81448 and 0.81463 of the variance at k = 64, where the exact value is
        0.81471 and one stream gives 0.81342.

        Parameters
        ----------
        other : GramPCA
            Fitted, on the same features.
        """
        if not other._has_begun:
            return self
        if not self._has_begun:
            self._restore(other.to_arrays())
            self.n_components_ = self.n_components or self.n_components_
            return self
        rows = np.empty((len(other.components_) + 1, len(self.mean_)), self.components_.dtype)
        np.multiply(other.singular_values_[:, None], other.components_, out=rows[:-1], casting="same_kind")
        self._absorb(rows, other.n_samples_seen_, other.mean_, other.var_)
        return self

    def to_arrays(self) -> dict[str, Array]:
        """Return all that was learned, by name; `from_arrays` goes on from it to the last bit."""
        counted = {"n_samples_seen": np.array(self.n_samples_seen_, np.int64)}
        return counted | {name: getattr(self, f"{name}_") for name in _SUMMARY}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], **parameters: Any) -> GramPCA:
        """Return a learner that goes on from `to_arrays`; `parameters` are those of the constructor."""
        learner = cls(**({"n_components": len(arrays["components"])} | parameters))
        return learner._restore(arrays)

    @property
    def _has_begun(self) -> bool:
        return getattr(self, "components_", None) is not None

    def _restore(self, arrays: dict[str, Array]) -> Self:
        for name in _SUMMARY:
            setattr(self, f"{name}_", np.array(arrays[name]))
        self.n_samples_seen_ = int(arrays["n_samples_seen"])
        self.n_components_, self.n_features_in_ = self.components_.shape
        self._describe(float((self.singular_values_**2).sum()), 0)
        return self

    def _checked_components(self, n_rows: int, n_features: int) -> int:
        if self.n_components is None:
            return min(n_rows, n_features)
        if not self.n_components <= n_features:
            raise ValueError(
                f"n_components={self.n_components} invalid for n_features={n_features}, need more rows than columns "
                "for IncrementalPCA processing"
            )
        if self.n_components > n_rows:
            raise ValueError(
                f"n_components={self.n_components} must be less or equal to the batch number of samples {n_rows} for "
                "the first partial_fit call."
            )
        return int(self.n_components)

    def _absorb(self, rows: Array, n_rows: int, mean: Array, variance: Array) -> None:
        """Take in centred rows (m + 1, F) that stand for `n_rows` pictures of this mean and variance.

        The last row is to be written: what the means differ by.
        """
        n_before, n_after = self.n_samples_seen_, self.n_samples_seen_ + n_rows
        apart = self.mean_ - mean
        rows[-1] = np.sqrt(n_before / n_after * n_rows) * apart
        n_values = min(len(self.components_) + len(rows), rows.shape[1])
        kept = min(self.n_components_, n_values)
        self.components_, self.singular_values_, squares = _leading(self.components_, self.singular_values_, rows, kept)
        shares = n_before / n_after, n_rows / n_after
        self.var_ = shares[0] * self.var_ + shares[1] * variance + shares[0] * shares[1] * apart**2
        self.mean_ = self.mean_ - shares[1] * apart
        self.n_samples_seen_ = n_after
        self._describe(squares, n_values - kept)

    def _describe(self, squares: float, n_left: int) -> None:
        """Set the attributes that follow: the values left out are `n_left`, all squares together are `squares`."""
        freedom = max(self.n_samples_seen_ - 1, 1)
        self.explained_variance_ = self.singular_values_**2 / freedom
        self.explained_variance_ratio_ = self.singular_values_**2 / (self.var_.sum() * self.n_samples_seen_ or 1.0)
        left = max(0.0, squares - (self.singular_values_**2).sum()) / freedom
        self.noise_variance_ = left / n_left if n_left else 0.0


_SUMMARY = ("mean", "var", "components", "singular_values")


def _leading(basis: Array, values: Array, rows: Array, n: int) -> tuple[Array, Array, float]:
    """Return the n leading right singular vectors and values of [values·basis; rows], and the sum of all squares.

    Parameters
    ----------
    basis : (k, F)
        Orthonormal rows.
    values : float64 (k,)
    rows : (m, F), of the dtype of `basis`
    """
    k, r, n_features = len(basis), len(basis) + len(rows), rows.shape[1]
    if n_features < r:
        return _leading_of_few_features(basis, values, rows, n)
    strong = int(np.count_nonzero(values > STRONG * values.min(initial=np.inf)))
    taken = _take_out(rows, basis[:strong])
    scores = (rows @ basis.T).astype(np.float64)
    scores[:, :strong] += taken
    left = _products(rows, rows.dtype if k else np.dtype(np.float64))
    gram = np.empty((r, r))
    gram[:k, :k] = np.diag(values**2)
    gram[k:, :k] = scores * values
    gram[k:, k:] = left + scores[:, :strong] @ scores[:, :strong].T
    squares = float(np.trace(gram))
    # What rounding makes of the rows themselves, and of their products, where these are not exact as the first are.
    eps = float(np.finfo(rows.dtype).eps)
    noise = max((4 * eps) ** 2 * squares, 2 * eps * float(left.diagonal().max()) if k else 0.0)
    found, vectors = _leading_eigenvectors(gram, n, noise)
    found = np.sqrt(found)
    sound = int(np.count_nonzero(found))
    mixing = vectors[:sound] / found[:sound, None]
    of_basis = mixing[:, :k] * values
    of_basis[:, :strong] += mixing[:, k:] @ taken
    new = np.empty((n, n_features), rows.dtype)
    np.matmul(mixing[:, k:].astype(rows.dtype), rows, out=new[:sound])
    narrow = of_basis.astype(rows.dtype)
    for tile in tile_rows(n_features, TILE_FEATURES) if k else ():
        new[:sound, tile] += narrow @ basis[:, tile]
    return _with_signs(_right_angles(new, sound)), found, squares


def _take_out(rows: Array, directions: Array) -> Array:
    """Subtract from the rows what lies along orthonormal directions (p, F), and return how much of each, (m, p)."""
    taken: Array = rows @ directions.T
    for tile in tile_rows(rows.shape[1], TILE_FEATURES) if len(directions) else ():
        rows[:, tile] -= taken @ directions[:, tile]
    return taken


def _products(rows: Array, precision: np.dtype[Any]) -> Array:
    """Return rows·rowsᵀ, float64 (m, m): products of this precision, summed in float64 from tile to tile."""
    total = np.zeros((len(rows), len(rows)))
    for tile in tile_rows(rows.shape[1], TILE_FEATURES):
        part = rows[:, tile].astype(precision, copy=False)
        total += part @ part.T
    return total


def _leading_of_few_features(basis: Array, values: Array, rows: Array, n: int) -> tuple[Array, Array, float]:
    weighted, wide = values[:, None] * basis.astype(np.float64), rows.astype(np.float64)
    scatter = weighted.T @ weighted + wide.T @ wide
    squares = float(np.trace(scatter))
    found, vectors = _leading_eigenvectors(scatter, n)
    return _with_signs(vectors.astype(rows.dtype)), np.sqrt(found), squares


def _leading_eigenvectors(scatter: Array, n: int, noise: float = 0.0) -> tuple[Array, Array]:
    """Return the n largest eigenvalues and their eigenvectors as rows; overwrites `scatter`.

    Only the lower triangle counts. Eigenvalues that are no more than `noise`, or rounding, become zero. A few are
    found alone (LAPACK's evr); from a quarter on, all at once take no longer (evd): of 1,281, all took 0.28 s, and 256
    or 400 of them alone 0.24 and 0.31; of 2,401, all took 2.2 s, and 480 or 1,200 alone 1.3 and 3.0. NumPy copies the
    matrix, and lets other threads work meanwhile, which SciPy 1.17 does not: of 313, two threads found all twice as
    soon as one, and with SciPy no sooner.
    """
    size = len(scatter)
    if size <= SMALL_PROBLEM and not _is_few(n, size):
        found, vectors = np.linalg.eigh(scatter)
    else:
        some: dict[str, Any] = {"driver": "evr", "subset_by_index": [size - n, size - 1]}
        how = some if _is_few(n, size) else {"driver": "evd"}
        # Seen column by column, as LAPACK wants it, the lower triangle is the upper one: nothing is copied.
        found, vectors = eigh(scatter.T, lower=False, overwrite_a=True, check_finite=False, **how)
    found, vectors = np.maximum(found[: -n - 1 : -1], 0), vectors[:, : -n - 1 : -1]
    found[found <= max(NO_VALUE**2 * found[0], noise)] = 0
    return found, np.ascontiguousarray(vectors.T)


def _is_few(n: int, size: int) -> bool:
    return 4 * n < size


def _right_angles(vectors: Array, sound: int) -> Array:
    """Make rows orthonormal, in place, and return them: the first `sound` span what they did, the others are made up.

    By Cholesky's factor of their Gram matrix (CholeskyQR; Yamamoto et al., "Roundoff error analysis of the CholeskyQR2
    algorithm", ETNA 2015), which is a third of the work of a QR decomposition. Its triangle leaves the first rows to
    themselves. Random directions are far from parallel; what rounding leaves of that, a second and third round mend.
    """
    made_up = vectors[sound:]
    made_up[:] = np.random.default_rng(0).standard_normal(made_up.shape, np.float32) / np.sqrt(vectors.shape[1])
    precision = np.dtype(np.float64) if len(made_up) else vectors.dtype
    identity = np.eye(len(vectors))
    for _ in range(3):
        gram = _products(vectors, precision)
        if np.abs(gram - identity).max() <= RIGHT_ANGLE:
            break
        inverse = solve_triangular(np.linalg.cholesky(gram), identity, lower=True).astype(vectors.dtype)
        for tile in tile_rows(vectors.shape[1], TILE_FEATURES):
            vectors[:, tile] = inverse @ vectors[:, tile]
    return vectors


def _with_signs(vectors: Array) -> Array:
    """Return rows whose largest entry is positive, as scikit-learn's `svd_flip` has them."""
    negative = -vectors.min(axis=1) > vectors.max(axis=1)
    vectors *= np.where(negative, -1, 1).astype(vectors.dtype)[:, None]
    return vectors


class CovariancePCA:
    """Exact principal components from the whole covariance matrix, added up in float64.

    Sums are taken around the first batch's mean, so that features far from zero lose no digits; summaries learned
    apart add up after moving to one origin (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", 1979).
    """

    def __init__(self) -> None:
        self._n = 0
        self._origin = self._sum = np.empty(0)
        self._scatter = np.empty((0, 0))

    def partial_fit(self, rows: Array) -> Self:
        """Add (n, F) rows."""
        if not self._n:
            self._origin = rows.mean(axis=0, dtype=np.float64)
            self._sum, self._scatter = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
        wide = rows - self._origin
        self._n += len(rows)
        self._sum += wide.sum(axis=0)
        self._scatter += wide.T @ wide
        return self

    def merge(self, other: CovariancePCA) -> Self:
        """Add what another learned from other rows."""
        if not other._n:
            return self
        if not self._n:
            self._n, self._origin, self._sum, self._scatter = other._n, other._origin, other._sum, other._scatter
            return self
        moved = other._origin - self._origin
        cross = np.outer(moved, other._sum)
        self._scatter += other._scatter + cross + cross.T + other._n * np.outer(moved, moved)
        self._sum += other._sum + other._n * moved
        self._n += other._n
        return self

    def to_arrays(self) -> dict[str, Array]:
        """Return all that was learned, by name."""
        counted = np.array(self._n, np.int64)
        return {"n_samples_seen": counted, "origin": self._origin, "sum": self._sum, "scatter": self._scatter}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> CovariancePCA:
        """Return a learner that goes on from `to_arrays`."""
        learner = cls()
        learner._n = int(arrays["n_samples_seen"])
        learner._origin, learner._sum, learner._scatter = (
            np.array(arrays[name]) for name in ("origin", "sum", "scatter")
        )
        return learner

    def components(self, n_components: int) -> Components:
        """Return the first principal components."""
        mean = self._sum / self._n
        scatter = np.outer(-self._n * mean, mean)
        scatter += self._scatter
        total = float(np.trace(scatter))
        variance = np.diag(scatter) / self._n
        found, vectors = _leading_eigenvectors(scatter, n_components)
        return Components(
            mean=self._origin + mean,
            variance=variance,
            components=_with_signs(vectors).astype(np.float32),
            explained_variance=_without_rounding(found / max(self._n - 1, 1), self._origin + mean, total / self._n),
            explained_variance_ratio=found / (total or 1.0),
            n_seen=np.array([self._n]),
        )


def choose_learner(n_features: int, n_components: int, batch_rows: int, room_bytes: int) -> Learner:
    """Return which learner takes less work for many batches, among those that fit the memory.

    >>> choose_learner(768, 100, 1024, 1 << 30), choose_learner(5440, 100, 1024, 1 << 30)
    ('covariance', 'gram')
    """
    if learning_bytes("covariance", n_features, n_components, batch_rows) > room_bytes:
        return "gram"
    b, k = batch_rows, n_components
    rows = min(b + k + 1, n_features)
    # Symmetric products are half of the work, and products in float64 twice.
    gram = (b * b / 2 + b * k + k * rows) * n_features + EIGEN_WORK * rows**3
    return "covariance" if b * n_features**2 <= gram else "gram"


def learning_bytes(learner: Learner, n_features: int, n_components: int, batch_rows: int) -> int:
    """Return what learning takes at most beside the batch: one update, or the covariance and its eigenvectors.

    Measured, numpy's arrays take 0.5 to 0.95 of it, and whole processes a few MiB more, which BLAS keeps for itself.
    """
    if learner == "covariance":
        squares = 3 if _is_few(n_components, n_features) else 4
        return 8 * (squares * n_features**2 + batch_rows * n_features + n_components * n_features)
    rows = min(batch_rows + n_components + 1, n_features)
    wide = 8 * (batch_rows + n_components) * min(TILE_FEATURES, n_features)
    return 4 * (batch_rows + 1 + 2 * n_components) * n_features + 8 * 3 * rows**2 + 2 * wide


def learn_components(
    batches: Iterable[NDArray[np.float32]], n_components: int, learner: Learner = "gram"
) -> Components:
    """Return the first `n_components` principal components of all rows, meeting each batch once.

    Parameters
    ----------
    batches : iterable of float32 (n, F)
        For "gram", the first has at least `n_components` rows.
    n_components : int
    learner : {"gram", "covariance"}
    """
    return merge_summaries([summarize(batches, n_components, learner)], n_components, learner)


def summarize(batches: Iterable[NDArray[np.float32]], n_kept: int, learner: Learner = "gram") -> dict[str, Array]:
    """Return what a part of all rows tells about the components, to be merged with that of the other parts.

    Parameters
    ----------
    batches : iterable of float32 (n, F)
        At least one. For "gram", no more components are kept than the first has rows.
    n_kept : int
        Components to keep, as `kept_components` says.
    learner : {"gram", "covariance"}
    """
    pca: CovariancePCA | GramPCA | None = CovariancePCA() if learner == "covariance" else None
    for batch in batches:
        pca = pca or GramPCA(n_components=min(n_kept, *batch.shape), copy=False)
        pca.partial_fit(batch)
    assert pca is not None
    return pca.to_arrays()


def merge_summaries(summaries: Iterable[dict[str, Array]], n_components: int, learner: Learner = "gram") -> Components:
    """Return the first `n_components` principal components of all rows that were summarized, in this order."""
    if learner == "covariance":
        return reduce(CovariancePCA.merge, map(CovariancePCA.from_arrays, summaries)).components(n_components)
    merged = GramPCA()
    for found in map(GramPCA.from_arrays, summaries):
        merged.n_components = max(merged.n_components or 0, len(found.components_))
        merged.merge(found)
        del found  # it would be in memory while the next part is learned from
    return found_by(merged).first(n_components)


def kept_components(n_components: int, n_parts: int) -> int:
    """Return how many components the summary of each part keeps, so that merging loses nothing that one would not.

    Of 15,360 pictures of 3,340 features, the first 100 components hold 0.8418 of the variance; one part finds 0.8404
    and says 0.8388, two find 0.8406 and say 0.8343, and two that keep an eighth more find 0.8411 and say 0.8383.

    >>> kept_components(100, 1), kept_components(100, 2)
    (100, 112)
    """
    return n_components if n_parts == 1 else n_components + n_components // 8


def go_on(before: Components, batches: Iterable[NDArray[np.float32]]) -> Components:
    """Return the components after further batches (n, F) of any size, from what was found before."""
    summary = {
        "mean": before.mean,
        "var": before.variance,
        "components": before.components,
        "singular_values": np.sqrt(before.explained_variance * max(int(before.n_seen[0]) - 1, 1)),
        "n_samples_seen": before.n_seen[0],
    }
    gram = GramPCA.from_arrays(summary)
    for batch in batches:
        gram.partial_fit(batch)
    return found_by(gram)


def found_by(gram: GramPCA) -> Components:
    """Return what a fitted `GramPCA` found."""
    return Components(
        mean=gram.mean_,
        variance=gram.var_,
        components=np.ascontiguousarray(gram.components_, np.float32),
        explained_variance=_without_rounding(gram.explained_variance_, gram.mean_, float(gram.var_.sum())),
        explained_variance_ratio=cast(Array, gram.explained_variance_ratio_),
        n_seen=np.array([gram.n_samples_seen_]),
    )


def _without_rounding(variances: Array, mean: Array, total: float) -> Array:
    """Return variances, as zeros those that rounding makes: of features of this size, and of sums of this variance."""
    return np.where(variances > ROUNDING**2 * float(mean @ mean) + ROUNDING * total, variances, 0.0)


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
        most = np.floor(reached[-1] * 1000) / 1000
        way_out = f"--variance {most:.3f} or a larger --batch-rows" if most else "--components 1"
        raise SettingsError(f"--variance {variance}: {len(reached)} components reach {reached[-1]:.4f}; use {way_out}")
    return count
