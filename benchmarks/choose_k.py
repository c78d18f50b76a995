"""Rules that choose the number of groups from Ward's tree, on pictures whose classes are known.

`python -m benchmarks.choose_k`
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from benchmarks.pictures import SHARED
from benchmarks.process import run_command
from streamcluster.learn.features import SPACES
from streamcluster.learn.tree import (
    MOST_GROUPS,
    choose_clusters,
    cut_tree,
    group_means,
    information_criterion,
    ward_tree,
)
from streamcluster.runtime.paths import decode_path
from streamcluster.store.collection import open_collection

#: Sets with known classes, and the number of groups that their README asks for.
SETS = {"clothing": 30, "sprites": 20, "faces-orl": 40, "faces-dark": 20}
FEATURES = tuple(name for name in ("color", "texture", "lab") if name in SPACES)
#: How many times as many pictures of the same kind the last column supposes.
GROWTH = 10


@dataclass(frozen=True)
class MicroClusters:
    """Micro-clusters of the rows of a set, and the tree over them.

    `owner` has the micro-cluster of each row, `within` the sum of squared distances to the centre of each.
    """

    centers: NDArray[np.float64]
    counts: NDArray[np.int64]
    within: NDArray[np.float64]
    owner: NDArray[np.intp]
    tree: NDArray[np.float64]

    @property
    def n_most(self) -> int:
        """The largest number of groups that every rule may choose."""
        return min(MOST_GROUPS, len(self.counts) // 2)


def measure(work: Path) -> list[str]:
    """Return the lines of the report."""
    lines = [
        "### Choosing the number of groups",
        "",
        "Cuts of Ward's tree over micro-clusters, a fourth as many as pictures and 512 at most. A cell has the groups,",
        "their normalised mutual information and adjusted Rand index with the classes. `--clusters auto` takes the",
        f"column `criterion`. The last column supposes {GROWTH} times as many pictures of the same kind: groups by",
        "that rule, and by the bare criterion.",
        "",
        f"| set | classes | features | its README | criterion | x-means | silhouette | gap | {GROWTH} times |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for features in FEATURES:
        lines += [_line(work, name, features) for name in SETS]
    return lines


def _line(work: Path, name: str, features: str) -> str:
    scores, classes = _scores(work, name, features)
    micro = find_micro_clusters(scores, min(512, len(scores) // 4))
    chosen = (SETS[name], by_criterion(micro), by_splitting(micro), by_silhouette(micro), by_gap(micro))
    cells = [_agreement(micro, classes, k) for k in chosen]
    grown = _grow(micro)
    cells.append(f"{by_criterion(grown)}, {by_bare_criterion(grown)}")
    return f"| {' | '.join([name, str(len(set(classes))), features, *cells])} |"


def _agreement(micro: MicroClusters, classes: list[str], n_groups: int) -> str:
    groups = cut_tree(micro.tree, n_groups)[micro.owner]
    information, rand = normalized_mutual_info_score(classes, groups), adjusted_rand_score(classes, groups)
    return f"{n_groups}: {information:.2f} / {rand:.2f}"


def _scores(work: Path, name: str, features: str) -> tuple[NDArray[np.float64], list[str]]:
    """Return the scores of a fit of one of the sets, and the class of each row."""
    store, folder = work / f"{name}.zarr", (SHARED.parent / name).resolve()
    run_command("ingest", folder, "--store", store)
    run_command("fit", "--store", store, "--features", features, "--components", 100, "--clusters", SETS[name])
    collection = open_collection(str(store))
    paths = [Path(decode_path(path)).relative_to(folder).as_posix() for path in collection.catalog.column("path")]
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        class_of = {line["path"]: line["label"] for line in csv.DictReader(file)}
    return collection.fit().array("scores").astype(np.float64), [class_of[path] for path in paths]


def find_micro_clusters(rows: NDArray[np.float64], m: int) -> MicroClusters:
    """Return m micro-clusters by k-means."""
    model = KMeans(m, n_init=1, random_state=0).fit(rows)
    centers, owner = model.cluster_centers_, model.labels_
    counts = np.bincount(owner, minlength=m)
    within = np.bincount(owner, ((rows - centers[owner]) ** 2).sum(axis=1), minlength=m).astype(np.float64)
    return MicroClusters(centers, counts, within, owner, ward_tree(centers, counts))


def _grow(micro: MicroClusters) -> MicroClusters:
    counts = GROWTH * micro.counts
    return replace(micro, counts=counts, within=GROWTH * micro.within, tree=ward_tree(micro.centers, counts))


def by_criterion(micro: MicroClusters) -> int:
    """Choose as `--clusters auto` does."""
    return choose_clusters(micro.tree, micro.centers, micro.counts, micro.within, micro.n_most)


def by_bare_criterion(micro: MicroClusters) -> int:
    """Choose by the same criterion with all rows as evidence."""
    n_rows, n_components = int(micro.counts.sum()), micro.centers.shape[1]
    criterion = information_criterion(micro.tree, micro.counts, micro.within, n_components, n_rows)
    return int(criterion[: micro.n_most].argmax()) + 1


def by_splitting(micro: MicroClusters) -> int:
    """Split from the root down where the criterion of a group's own rows is for it (Pelleg & Moore 2000)."""
    m, parts = len(micro.counts), micro.tree[:, :2].astype(int)
    counts, within = np.append(micro.counts, np.zeros(m - 1, int)), np.append(micro.within, micro.tree[:, 2] ** 2 / 2)
    for i, part in enumerate(parts):
        counts[m + i] = counts[part].sum()
        within[m + i] += within[part].sum()
    waiting, n_groups = [2 * m - 2], 0
    while waiting:
        group = waiting.pop()
        if group >= m and _is_two(micro.tree[group - m, 2], counts[parts[group - m]], within[parts[group - m]], micro):
            waiting.extend(parts[group - m])
        else:
            n_groups += 1
    return n_groups


def _is_two(height: float, counts: NDArray[np.int64], within: NDArray[np.float64], micro: MicroClusters) -> bool:
    pair = np.array([[0, 1, height, 2]])
    criterion = information_criterion(pair, counts, within, micro.centers.shape[1], int(counts.sum()))
    return bool(counts.sum() > 2 and criterion[1] > criterion[0])


def by_silhouette(micro: MicroClusters) -> int:
    """Choose the largest simplified silhouette (Hruschka et al. 2004) of the rows, two groups at least."""
    return 2 + int(np.argmax([_silhouette(micro, k) for k in range(2, micro.n_most + 1)]))


def _silhouette(micro: MicroClusters, n_groups: int) -> float:
    """Take the root mean square distance of a micro-cluster's rows to a centre for each of their distances."""
    groups = cut_tree(micro.tree, n_groups)
    means, _ = group_means(micro.centers, micro.counts, groups)
    squares = (micro.centers**2).sum(axis=1)[:, None] + (means**2).sum(axis=1) - 2 * micro.centers @ means.T
    distances = np.sqrt(np.maximum(squares, 0) + (micro.within / micro.counts)[:, None])
    rows = np.arange(len(groups))
    own = distances[rows, groups]
    distances[rows, groups] = np.inf
    other = distances.min(axis=1)
    return float(np.average((other - own) / np.maximum(other, own), weights=micro.counts))


def by_gap(micro: MicroClusters) -> int:
    """Choose where the next join is highest in relation to the last one made, two groups at least."""
    heights = micro.tree[::-1, 2]
    return 2 + int((heights[:-1] / heights[1:])[: micro.n_most - 1].argmax())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(measure(Path(folder))))
