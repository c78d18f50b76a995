"""Which pictures, and which whole groups, are unlike the rest of a collection: junk that no one has to look for.

    a sample ─▶ spaces (colours, texture, what the fit compares) ─▶ reference rows
    blocks ─place─▶ measures of each row ─deviations─▶ one outlier score a row ─medians, centres─▶ one a group

A row is unlike the rest if it is far from the others within a space, or where few are, or if the space describes it
worse than the others, or better, since it is plainer. Each measure sees another kind of junk, none sees all, and their
units have nothing in common; so what is joined is by how much more than the usual spread each is off its median.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.learn.pca import Components, learn_components
from streamcluster.learn.rows import FeatureRows
from streamcluster.learn.scaling import learn_scale
from streamcluster.learn.scores import shape_scores
from streamcluster.runtime.blocks import rebatch, tile_rows
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.memory import MIB
from streamcluster.runtime.progress import Progress

Floats = NDArray[np.float32]

#: Rows that neighbours are looked for among, and rows that a space is learned from, drawn from all.
REFERENCE_ROWS: Final = 4096
LEARNING_ROWS: Final = 16_384
#: Components of a space that is learned here.
COMPONENTS: Final = 100
#: Components that T² is made of: those after these tell pictures apart, rather than kinds of pictures.
LEADING: Final = 10
#: The neighbour that is near, and the share of the reference rows up to the one that is far: junk that looks alike, but
#: is less than this share of all, is far from the rest although it is near its own kind.
NEAR: Final = 10
FAR_SHARE: Final = 0.05
#: Rows that are placed, and compared with the reference rows, at a time.
TILE_ROWS: Final = 256
#: Rows that principal components are learned from at a time, and what learning takes besides its tasks.
BATCH_ROWS: Final = 512
LEARNING_BYTES: Final = 64 * MIB
#: Standard deviations off the median from which on more of them count as so many.
MOST_DEVIATIONS: Final = 4.0
#: Of the square of a row's length, what rounding leaves outside a space that holds the row.
ROUNDING: Final = 1e-5
#: Values of a measure below this share of its median are no different from one another: distances are as exact as that.
FLOOR: Final = 1e-3
#: The measures of the spaces that make up the outlier score where they are high; see docs/benchmarks.md.
JOINED: Final = (
    "color T²",
    "color residual",
    "color near",
    "color far",
    "color sparse",
    "color apart near",
    "color apart far",
    "texture residual",
    "texture residual share",
    "texture near",
    "texture far",
    "texture sparse",
)
#: Those that add to it where they are low, as they are of what is plainer than the rest: flat, blurred, a lone figure.
JOINED_BELOW: Final = ("color residual", "texture residual", "texture T²")


@dataclass(frozen=True, slots=True)
class Space:
    """A space of features: how rows get into it, float32 (F,) scale, and its principal components.

    Attributes
    ----------
    name : str
    features : FeatureRows
    scale : float32 (F,)
    components : Components
    """

    name: str
    features: FeatureRows
    scale: Floats
    components: Components

    @property
    def width(self) -> int:
        """Numbers of a row that `place` gives."""
        return len(self.components.components)

    def place(self, rows: slice, wanted: NDArray[np.bool_]) -> Placed:
        """Place those of some rows that are wanted, a few at a time."""
        stored = self.features.read(rows)
        stored = stored if wanted.all() else stored[wanted]
        placed = [self._place(stored[tile]) for tile in tile_rows(len(stored), TILE_ROWS)]
        return Placed.joined(placed, self.width)

    def _place(self, stored: NDArray[Any]) -> Placed:
        features = self.features.compute(stored) * self.scale
        scores = self.components.project(features)
        features -= self.components.mean.astype(np.float32)
        energy = np.einsum("ij,ij->i", features, features)
        outside = energy - np.einsum("ij,ij->i", scores, scores)
        return Placed(scores, np.where(outside > ROUNDING * energy, outside, np.float32(0)))


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows in a space: float32 (n, d) scores, and float32 (n,) squared distances to the space itself."""

    scores: Floats
    residual: Floats

    @staticmethod
    def joined(parts: Sequence[Placed], width: int) -> Placed:
        """Return several as one, in order."""
        return Placed(
            np.concatenate([np.empty((0, width), np.float32), *(part.scores for part in parts)]),
            np.concatenate([np.empty(0, np.float32), *(part.residual for part in parts)]),
        )


def hotelling(scores: Floats, variances: NDArray[np.float64]) -> Floats:
    """Return float32 (n,): Hotelling's T², the squared distance to the mean in standard deviations.

    H. Hotelling, "Multivariate quality control", 1947; over principal components: Jackson & Mudholkar, "Control
    procedures for residuals associated with principal component analysis", Technometrics 21, 1979.

    Parameters
    ----------
    scores : float32 (n, d)
    variances : float64 (d,)
        Of each component; one of zero does not count.
    """
    whitened = shape_scores(scores, variances, "whitened")
    result: Floats = np.einsum("ij,ij->i", whitened, whitened)
    return result


@dataclass(frozen=True, slots=True)
class References:
    """Rows in a space that neighbours are looked for among: float32 (m, d), and which rows they are."""

    rows: NDArray[np.int64]
    points: Floats

    def distances_to(
        self, points: Floats, rows: NDArray[np.int64], neighbours: Sequence[int], reach: Floats | None = None
    ) -> Floats:
        """Return float32 (n, len(neighbours)): how far the n-th nearest reference row is, itself left out.

        Parameters
        ----------
        points : float32 (n, d)
        rows : int64 (n,)
            Which rows they are.
        neighbours : sequence of int
            Counted from 1; where there are not so many the farthest is taken, and 0 where there is none.
        reach : float32 (m,), optional
            Something of each reference row; a last column is its mean over the nearest, up to the first neighbour.
        """
        found = np.zeros((len(points), len(neighbours) + (reach is not None)), np.float32)
        others = len(self.rows) - 1
        if others < 1:
            return found
        nth = [min(n, others) - 1 for n in neighbours]
        lengths = np.einsum("ij,ij->i", self.points, self.points)
        for tile in tile_rows(len(points), TILE_ROWS):
            squares = points[tile] @ self.points.T
            squares *= -2
            squares += lengths
            squares += np.einsum("ij,ij->i", points[tile], points[tile])[:, None]
            at = np.searchsorted(self.rows, rows[tile]).clip(max=others)
            own = np.flatnonzero(self.rows[at] == rows[tile])
            squares[own, at[own]] = np.inf
            nearest = np.partition(squares, sorted(set(nth)), axis=1)[:, nth]
            found[tile, : len(nth)] = np.sqrt(np.maximum(nearest, 0))
            if reach is not None:
                within = squares <= nearest[:, :1]
                found[tile, -1] = within @ reach / within.sum(axis=1)
        return found


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return float64 (n,): the share of values that are smaller, those that are equal counted half.

    >>> ranks(np.array([3.0, 1.0, 3.0, 9.0]))
    array([0.5  , 0.125, 0.5  , 0.875])
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    upto = np.cumsum(counts)
    middle: NDArray[np.float64] = (upto - counts / 2) / max(len(values), 1)
    return middle[inverse]


def join_ranks(measures: Iterable[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return float64 (n,): one score of several measures, the share of others that are lower, where there are few.

    Ranks r are joined as Fisher joins significance levels ("Statistical methods for research workers", 1932): by the
    mean of -log(1 - r), to which a very high rank adds much and a low one takes little away.
    """
    joined = [-np.log1p(-ranks(values)) for values in measures]
    return ranks(np.add.reduce(joined))


def deviations(values: NDArray[np.floating], *, below: bool = False) -> NDArray[np.float64]:
    """Return float64 (n,): by how many standard deviations values are above their median, 0 for those below it.

    Or the other way round, `below` it. Of logarithms, since distances are skewed; the standard deviation is that of a
    normal distribution with the same quartiles, which junk does not widen as long as it is less than a quarter.

    >>> deviations(np.exp([0.0, 1.0, 2.0, 3.0, 4.0])).round(3)
    array([0.   , 0.   , 0.   , 0.674, 1.349])
    >>> deviations(np.exp([0.0, 1.0, 2.0, 3.0, 4.0]), below=True).round(3)
    array([1.349, 0.674, 0.   , 0.   , 0.   ])
    """
    floor = max(FLOOR * float(np.median(values)), float(np.finfo(np.float32).tiny))
    logs = np.log(np.maximum(values, floor, dtype=np.float64))
    low, middle, high = np.quantile(logs, (0.25, 0.5, 0.75))
    off = middle - logs if below else logs - middle
    result: NDArray[np.float64] = np.clip(off / max((high - low) / 1.349, 1e-9), 0, MOST_DEVIATIONS)
    return result


def join_deviations(
    above: Iterable[NDArray[np.floating]], below: Iterable[NDArray[np.floating]] = ()
) -> NDArray[np.float64]:
    """Return float64 (n,): one outlier score of several measures, the share of rows that are less outlying.

    The squares of the deviations add up, as those of independent measures do in Hotelling's T², but of one side only:
    what is usual to one measure does not excuse what another sees. docs/benchmarks.md compares it with ranks.

    Parameters
    ----------
    above : iterable of float (n,)
        Measures of which high values are outlying.
    below : iterable of float (n,), optional
        Measures of which low values are; one that is among both counts on either side.
    """
    sides = [(values, False) for values in above] + [(values, True) for values in below]
    return ranks(reduce(np.add, (np.square(deviations(values, below=low)) for values, low in sides)))


@dataclass(frozen=True, slots=True)
class Sample:
    """Which rows of a collection stand for all: drawn evenly, without regard to how they look.

    Attributes
    ----------
    wanted : bool (n,)
        Rows that take part.
    learning, reference : bool (n,)
        Rows that spaces are learned from, and those of them that neighbours are looked for among.
    """

    wanted: NDArray[np.bool_]
    learning: NDArray[np.bool_]
    reference: NDArray[np.bool_]

    @staticmethod
    def draw(wanted: NDArray[np.bool_], seed: int) -> Sample:
        """Draw from the rows that are wanted."""
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(wanted))
        learning, reference = np.zeros_like(wanted), np.zeros_like(wanted)
        learning[rows[:LEARNING_ROWS]] = True
        reference[rows[:REFERENCE_ROWS]] = True
        return Sample(wanted, learning, reference)


def learn_space(name: str, features: FeatureRows, sample: Sample, executor: Executor, progress: Progress) -> Space:
    """Learn the principal components of features from the sample's learning rows.

    Raises
    ------
    Interrupted
        `progress` was asked to stop.
    """
    sizes = features.part_sizes
    n_rows = int(sample.learning.sum())

    def batches(scale: Floats) -> Iterator[Floats]:
        tasks = [rows for rows in features.blocks if sample.learning[rows].any()]
        blocks = executor.map(lambda rows: _features_of(features, scale, rows, sample.learning[rows]), tasks)
        for batch in rebatch(blocks, BATCH_ROWS):
            yield batch
            progress.advance_or_stop(len(batch))

    scale = np.ones(sum(sizes), np.float32)
    with progress.stage(f"learn {name}", n_rows * (1 + (len(sizes) > 1))):
        if len(sizes) > 1:
            scale = learn_scale(batches(scale), sizes, features.part_energies(1.0))
        n_components = min(COMPONENTS, n_rows, len(scale))
        return Space(name, features, scale, learn_components(batches(scale), n_components))


def _features_of(features: FeatureRows, scale: Floats, rows: slice, wanted: NDArray[np.bool_]) -> Floats:
    found = features.compute(features.read(rows)[wanted])
    found *= scale
    return found


def task_bytes(features: Iterable[FeatureRows]) -> int:
    """Return what measuring the rows of one task takes at most: its block, features and distances of a tile, scores."""
    blocks = tiles = 0
    for rows in features:
        blocks += 2 * rows.block_bytes + rows.temporary_bytes
        tiles = max(tiles, 3 * 4 * TILE_ROWS * sum(rows.part_sizes))
    return blocks + tiles + 4 * 4 * TILE_ROWS * REFERENCE_ROWS


@dataclass(frozen=True, slots=True)
class Looks:
    """Rows in all spaces: float32 (n, d) scores, space after space, and float32 (n,) measures by name."""

    scores: Floats
    measures: dict[str, Floats]


class Surroundings:
    """Spaces with the reference rows in them: all that a task needs to say how far out rows are.

    Parameters
    ----------
    spaces : sequence of Space
    sample : Sample
    executor : Executor
    progress : Progress

    Raises
    ------
    Interrupted
        `progress` was asked to stop.
    """

    def __init__(self, spaces: Sequence[Space], sample: Sample, executor: Executor, progress: Progress) -> None:
        self.spaces = tuple(spaces)
        rows = np.flatnonzero(sample.reference)
        blocks = [block for block in tasks_of(self.spaces) if sample.reference[block].any()]
        found = [np.empty((len(rows), space.width), np.float32) for space in self.spaces]
        done = 0
        with progress.stage("reference", len(rows)):
            for placed in executor.map(lambda block: self._place(block, sample.reference[block]), blocks):
                n = len(placed[0].scores)
                for target, part in zip(found, placed, strict=True):
                    target[done : done + n] = part.scores
                done += n
                progress.advance_or_stop(n)
        self._unit = [References(rows, _unit(space, scores)) for space, scores in zip(self.spaces, found, strict=True)]
        self._half = [References(rows, _half(space, scores)) for space, scores in zip(self.spaces, found, strict=True)]
        self._spreads = [max(float(np.sqrt(np.square(half.points).sum() / len(rows))), 1e-12) for half in self._half]
        self._reach = [unit.distances_to(unit.points, rows, (NEAR,))[:, 0] for unit in self._unit]
        self._together = References(rows, self._joined([half.points for half in self._half]))
        self._neighbours = NEAR, max(1, round(FAR_SHARE * len(rows)))

    @property
    def width(self) -> int:
        """Numbers of a row in all spaces."""
        return sum(space.width for space in self.spaces)

    def _place(self, rows: slice, wanted: NDArray[np.bool_]) -> list[Placed]:
        return [space.place(rows, wanted) for space in self.spaces]

    def _joined(self, points: Sequence[Floats]) -> Floats:
        """Return rows of all spaces as one, float32 (n, d), each space as wide as the others."""
        return np.concatenate([part / np.float32(s) for part, s in zip(points, self._spreads, strict=True)], axis=1)

    def look(self, block: slice, wanted: NDArray[np.bool_]) -> Looks:
        """Measure those rows of a block that are wanted.

        In each space, T² of the leading components; the distance to the space, and its square's share of that to the
        mean; how far the near neighbour and the far one are, by direction alone (near, far) and with lengths (apart);
        and how much farther the near one is than those around have theirs (sparse). The last is the simplified local
        outlier factor: Breunig et al., "LOF: identifying density-based local outliers", SIGMOD 2000; Schubert, Zimek &
        Kriegel, "Local outlier detection reconsidered", Data Mining and Knowledge Discovery 28, 2014.
        """
        rows = block.start + np.flatnonzero(wanted)
        measures: dict[str, Floats] = {}
        scores, halves = [], []
        for i, (space, placed) in enumerate(zip(self.spaces, self._place(block, wanted), strict=True)):
            scores.append(_unit(space, placed.scores))
            near, far, reach = self._unit[i].distances_to(scores[-1], rows, self._neighbours, self._reach[i]).T
            halves.append(_half(space, placed.scores))
            apart = self._half[i].distances_to(halves[-1], rows, self._neighbours)
            leading, variances = placed.scores[:, :LEADING], space.components.explained_variance[:LEADING]
            energy = placed.residual + np.einsum("ij,ij->i", placed.scores, placed.scores)
            found = {
                "T²": hotelling(leading, variances),
                "residual": placed.residual,
                "residual share": _ratio(placed.residual, energy),
                "near": near,
                "far": far,
                "sparse": _ratio(near, reach),
                "apart near": apart[:, 0],
                "apart far": apart[:, 1],
            }
            measures |= {f"{space.name} {name}": values for name, values in found.items()}
        measures["together near"] = self._together.distances_to(self._joined(halves), rows, (NEAR,))[:, 0]
        return Looks(np.concatenate(scores, axis=1), measures)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def tasks_of(spaces: Sequence[Space]) -> list[slice]:
    """Return the rows of each task: the smallest blocks that a space is stored in."""
    return max((space.features.blocks for space in spaces), key=len)


def _unit(space: Space, scores: Floats) -> Floats:
    return shape_scores(scores, space.components.explained_variance, "half-whitened-unit")


def _half(space: Space, scores: Floats) -> Floats:
    """Return half-whitened scores with their lengths, which tell how far out a picture is."""
    variances = space.components.explained_variance
    powers = np.power(variances, -1 / 4, out=np.zeros(len(variances)), where=variances > 0)
    result: Floats = scores * powers.astype(np.float32)
    return result


def rank_groups(
    scores: NDArray[np.float64], labels: NDArray[np.int32], centers: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return float64 (k,): how unlike the rest each group is as a whole, 0 to 1; NaN for a group of no row.

    Joined by rank: the median outlier score of its rows, and how far its centre is from the mean of all others'. Junk
    that looks alike is near its own kind, so that single rows may not stand out; that they are far from where the rest
    is does.

    Parameters
    ----------
    scores : float64 (n,)
        Outlier scores of the rows that take part.
    labels : int32 (n,)
    centers : float64 (k, d)
    """
    counts = np.bincount(labels, minlength=len(centers))
    has = np.flatnonzero(counts)
    order = np.lexsort((scores, labels))
    ends = np.cumsum(counts)
    low, high = ends - (counts + 1) // 2 - (counts % 2 == 0), ends - (counts + 1) // 2
    medians = (scores[order[low[has]]] + scores[order[high[has]]]) / 2
    total, n = counts[has] @ centers[has], counts.sum()
    rest = np.maximum(n - counts[has], 1)[:, None]
    apart = np.linalg.norm(centers[has] - (total - counts[has, None] * centers[has]) / rest, axis=1)
    result = np.full(len(centers), np.nan)
    result[has] = join_ranks([medians, apart])
    return result


def expected_junk(confidence: NDArray[np.float64], labels: NDArray[np.int32], n_groups: int) -> NDArray[np.float64]:
    """Return float64 (k,): the share of junk to expect in each group, the mean of its rows; NaN for a group of no row.

    >>> expected_junk(np.array([1.0, 0.2, 0.4]), np.array([2, 0, 0], np.int32), 3)
    array([0.3, nan, 1. ])

    Parameters
    ----------
    confidence : float64 (n,)
        How likely each row is junk, 0 to 1.
    labels : int32 (n,)
    n_groups : int
    """
    counts = np.bincount(labels, minlength=n_groups)
    result = np.full(n_groups, np.nan)
    np.divide(np.bincount(labels, confidence, n_groups), counts, out=result, where=counts > 0)
    return result
