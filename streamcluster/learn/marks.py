"""What a person's marks teach: a linear classifier of scores, and how sure it is.

Few marks tell little about many scores, and how unlike the rest a picture is tells something without any. So the
classifier's value and the outlier score are weighed against one another, by what the first is worth on marked rows that
it has not learned from (stacking: Wolpert, Neural Networks 5, 1992). The weights turn both into a probability, as Platt
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier

from streamcluster.runtime.blocks import tile_rows

#: Steps of the classifier at least, in marked rows met; and rows of a batch.
STEPS: Final = 8_000
BATCH_ROWS: Final = 4096
#: Precision of the normal prior of the classifier's weights.
PENALTY: Final = 0.1
#: Parts that the marked rows are divided into, each of which is judged by what the others teach.
FOLDS: Final = 5
#: What both values weigh before there is any evidence, and the precision of that normal prior. Both are log-odds, so
#: that they add up as independent witnesses do; docs/benchmarks.md has the gain from 5 marks of each kind on.
PRIOR_WEIGHT, PRIOR_PRECISION = 1.0, 2.0
#: Marks of each kind that are needed, and how many of each are learned from.
LEAST_MARKS: Final = 3
MOST_MARKS: Final = 5_000


@dataclass(frozen=True, slots=True)
class JunkClassifier:
    """A linear classifier of rows, and what its value and the outlier score are worth.

    Attributes
    ----------
    mean, scale : float64 (d,)
        By which scores are standardised.
    weights : float64 (d,)
    bias : float
    stacking : float64 (3,)
        Weight of the linear value, weight of the outlier score's logit, and bias.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float
    stacking: NDArray[np.float64]

    def confidence(self, scores: NDArray[np.float32], outlying: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64 (n,): how likely rows are junk, where as many are as are not.

        Parameters
        ----------
        scores : float32 (n, d)
        outlying : float64 (n,)
            Outlier scores, between 0 and 1.
        """
        values = ((scores - self.mean) * self.scale) @ self.weights + self.bias
        return _sigmoid(_stacked(values, outlying) @ self.stacking)


def learn_marks(
    scores: NDArray[np.float32],
    outlying: NDArray[np.float64],
    junk: NDArray[np.bool_],
    parts: Sequence[int],
    seed: int,
) -> JunkClassifier:
    """Learn from marked rows.

    Parameters
    ----------
    scores : float32 (n, d)
    outlying : float64 (n,)
        Outlier scores of the rows, between 0 and 1.
    junk : bool (n,)
        What a person said; `LEAST_MARKS` of each kind, at least.
    parts : sequence of int
        Numbers of scores that belong together; standardised, each part gets the same energy.
    seed : int
    """
    mean = scores.mean(axis=0, dtype=np.float64)
    spread = scores.std(axis=0, dtype=np.float64) * np.sqrt(np.repeat(parts, parts))
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    rows = (scores - mean) * scale
    folds = _folds(junk, seed)
    unseen = np.empty(len(rows))
    for fold in range(folds.max() + 1):
        others = folds != fold
        weights, bias = _learn_linear(rows[others], junk[others], seed)
        unseen[~others] = rows[~others] @ weights + bias
    weights, bias = _learn_linear(rows, junk, seed)
    return JunkClassifier(mean, scale, weights, bias, learn_stacking(_stacked(unseen, outlying), junk))


def _folds(junk: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Return intp (n,): the part of each row; each has its share of both kinds."""
    rng = np.random.default_rng(seed)
    folds = np.empty(len(junk), np.intp)
    for kind in (False, True):
        rows = rng.permutation(np.flatnonzero(junk == kind))
        folds[rows] = np.arange(len(rows)) % min(FOLDS, len(rows))
    return folds


def _balance(junk: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return float64 (n,) weights: together each kind has half of the rows' number."""
    n_junk = int(junk.sum())
    return np.where(junk, len(junk) / (2 * n_junk), len(junk) / (2 * (len(junk) - n_junk)))


def _learn_linear(rows: NDArray[np.float64], junk: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.float64], float]:
    """Return weights (d,) and a bias: averaged stochastic gradient descent on the logistic loss, in seeded order."""
    rng = np.random.default_rng(seed)
    balance = _balance(junk)
    model = SGDClassifier(loss="log_loss", alpha=PENALTY / len(rows), average=True, random_state=seed)
    # Few rows are met many times in one batch: a call takes a millisecond, a row microseconds.
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(max(1, STEPS // len(rows)))])
    for tile in tile_rows(len(order), BATCH_ROWS):
        batch = order[tile]
        model.partial_fit(rows[batch], junk[batch], classes=[False, True], sample_weight=balance[batch])
    return model.coef_[0], float(model.intercept_[0])


def _stacked(values: NDArray[np.float64], outlying: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([values, log_odds(outlying), np.ones(len(values))], axis=1)


def log_odds(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of share to rest; shares of 0 and 1 count as the nearest others that matter."""
    inside = np.clip(shares, 1e-6, 1 - 1e-6)
    result: NDArray[np.float64] = np.log(inside / (1 - inside))
    return result


def learn_stacking(stacked: NDArray[np.float64], junk: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return float64 (3,): weights of two values, none below 0, and a bias, by which their sum is a log-odds.

    Newton's method on the logistic loss, as H.-T. Lin, C.-J. Lin and R. Weng, "A note on Platt's probabilistic outputs
    for support vector machines", Machine Learning 68, 2007, with their targets, which are no 0 and 1, so that few rows
    do not make anything certain (Platt 1999); kinds weigh the same, and a normal prior holds the weights.

    Parameters
    ----------
    stacked : float64 (n, 3)
        The values, and ones.
    junk : bool (n,)
    """
    n_junk = int(junk.sum())
    target = np.where(junk, (n_junk + 1) / (n_junk + 2), 1 / (len(junk) - n_junk + 2))
    balance = _balance(junk)
    used = [0, 1, 2]
    while True:
        found = np.zeros(3)
        found[used] = _newton(stacked[:, used], target, balance)
        kept = [i for i in used if i == 2 or found[i] > 0]
        if kept == used:
            return found
        used = kept


def _newton(
    values: NDArray[np.float64], target: NDArray[np.float64], balance: NDArray[np.float64]
) -> NDArray[np.float64]:
    expected = np.full(values.shape[1], PRIOR_WEIGHT)
    expected[-1] = 0
    found = expected.copy()
    prior = np.where(np.arange(len(found)) < len(found) - 1, PRIOR_PRECISION, 1e-6)
    for _ in range(50):
        at = _sigmoid(values @ found)
        gradient = values.T @ (balance * (at - target)) + prior * (found - expected)
        curvature = (values * (balance * at * (1 - at))[:, None]).T @ values + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        found -= np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    return found


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(values, -500, 500)))
