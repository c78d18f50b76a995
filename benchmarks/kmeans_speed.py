"""k-means as `fit` runs it against scikit-learn's full-batch `KMeans`, on scores of pictures sorted by folder.

`python -m benchmarks.kmeans_speed`
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks import WORK
from benchmarks.pictures import list_originals, make_pictures
from benchmarks.plots import save_bars
from benchmarks.process import run_command, run_python
from benchmarks.stores import write_store
from streamcluster.learn.kmeans import assign
from streamcluster.runtime.paths import decode_path
from streamcluster.store.collection import Collection, open_collection

N_PICTURES = 50_000
N_CLUSTERS = 50
ROUNDS = 5


def measure(work: Path) -> list[str]:
    """Return the lines of the report, and draw their plot."""
    pristine, store = _sorted_store(work), work / "kmeans.zarr"
    rounds = [
        (run_ours(pristine, store), run_python("-m", "benchmarks.kmeans_speed", store, seed).report)
        for seed in range(ROUNDS)
    ]
    ours, theirs = zip(*rounds, strict=True)
    best = min(run["inertia"] for run in theirs)
    one_run = statistics.median(run["seconds"] for run in theirs)
    lines = [
        f"### k-means, {N_PICTURES:,} rows of 100 scores sorted by folder, {N_CLUSTERS} clusters",
        "",
        "Pictures lie as in a folder for each kind of product, all variants of a photograph together. `streamcluster`"
        " is what `fit` does from stored scores to groups: micro-clusters and their tree, which serve any number of"
        " groups and later recuts, and Lloyd passes from a cut of the tree. `KMeans` has `n_init=1`, `k-means++` and"
        f" the same float32 rows in memory. Fresh processes that take turns, {ROUNDS} rounds, a seed each for `KMeans`;"
        " each may use all cores (ours threads with one BLAS thread each, scikit-learn OpenMP). Inertia is measured"
        " alike for both, in relation to the best of those runs of `KMeans`.",
        "",
        "| | seconds, median | of one `KMeans` run | inertia, best | inertia, worst |",
        "|---|---|---|---|---|",
    ]
    trees = statistics.median(run["tree"] for run in ours)
    lines.append(f"| micro-clusters and their tree | {trees:.2f} | {trees / one_run:.0%} | | |")
    whole = [run | {"seconds": run["seconds"] + run["tree"]} for run in ours]
    ways = {"k-means from a cut of the tree": ours, "**both**": whole, "`KMeans`, one run": theirs}
    for name, runs in ways.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        inertias = [run["inertia"] / best for run in runs]
        lines.append(
            f"| {name} | {seconds:.2f} | {seconds / one_run:.0%} | {min(inertias):.4f} | {max(inertias):.4f} |"
        )
    return [*lines, "", _plot(whole, theirs)]


def _plot(ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]]) -> str:
    runs = {"streamcluster": ours[:1], **{f"KMeans, seed {seed}": [run] for seed, run in enumerate(theirs)}}
    best = min(run["inertia"] for run in theirs)
    worse = [100 * (run["inertia"] / best - 1) for (run,) in runs.values()]
    seconds = [statistics.median(run["seconds"] for run in ours), *(run["seconds"] for run in theirs)]
    return save_bars(
        "kmeans",
        {"seconds": {"": seconds}, "inertia above the best run of KMeans, %": {"": worse}},
        list(runs),
    )


def _sorted_store(work: Path) -> Path:
    """Write a store of the pictures in the order of folders of their originals, and return its path."""
    ingested = work / "kmeans-ingested.zarr"
    run_command("ingest", make_pictures(work / f"pictures-{N_PICTURES}", N_PICTURES), "--store", ingested)
    collection = open_collection(str(ingested))
    thumbnails, order = collection.thumbnails(slice(0, collection.n_rows)), _order(collection)
    return write_store(
        work / "kmeans-sorted.zarr", len(order), thumbnails.shape[1], lambda rows: thumbnails[order[rows]]
    )


def _order(collection: Collection) -> NDArray[np.intp]:
    """Return rows in the order of their original photographs, which lie in a folder for each kind of product."""
    numbers = np.array([int(Path(decode_path(path)).stem) for path in collection.catalog.column("path")])
    return np.lexsort((numbers, numbers % len(list_originals())))


def run_ours(pristine: Path, store: Path) -> dict[str, float]:
    """Fit a copy of the store in a fresh process; return the seconds of k-means and of the tree, and the inertia."""
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(pristine, store)
    report = run_python("-m", "benchmarks.staged_fit", store, f"clusters={N_CLUSTERS}").report
    found = open_collection(str(store)).fit()
    return {
        "seconds": report["kmeans"],
        "tree": report["tree"],
        "inertia": _inertia(found.array("scores"), found.array("centers")),
    }


def run_theirs(store: Path, seed: int) -> dict[str, float]:
    """Run scikit-learn's k-means on the scores of the fit of the store."""
    scores = open_collection(str(store)).fit().array("scores")
    started = time.perf_counter()
    model = KMeans(N_CLUSTERS, n_init=1, random_state=seed).fit(scores)
    return {
        "seconds": time.perf_counter() - started,
        "inertia": _inertia(scores, model.cluster_centers_.astype(np.float64)),
    }


def _inertia(scores: NDArray[np.float32], centers: NDArray[np.float64]) -> float:
    return float(assign(scores, centers)[1].sum(dtype=np.float64))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("\n".join(measure(WORK)))
    else:
        print(json.dumps(run_theirs(Path(sys.argv[1]), int(sys.argv[2]))))
