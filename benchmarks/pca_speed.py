"""An update of `GramPCA` against scikit-learn's `IncrementalPCA`, on pixels of real pictures, each in a fresh process.

`python -m benchmarks.pca_speed`
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import WORK
from benchmarks.pca_update import LEARNERS, N_BATCHES, read_features, saved_components
from benchmarks.pictures import make_pictures
from benchmarks.plots import save_bars
from benchmarks.process import run_command, run_python
from streamcluster.runtime.memory import MIB

ROUNDS = 3
#: Components, rows a batch, BLAS threads: a fit has one, so that its result depends on no number of workers.
CASES = ((256, 1024, 1), (256, 1024, 2), (1200, 1200, 1), (1200, 1200, 2))


def measure(work: Path) -> list[str]:
    """Return the lines of the report."""
    store = work / "pca.zarr"
    run_command("ingest", make_pictures(work / "pictures-5000", 5000), "--store", store)
    lines = [
        "### An update of PCA, 12,288 features (64 by 64 RGB), float32",
        "",
        f"Steady state, fresh processes, medians of {ROUNDS} rounds in which both take turns. Memory is the peak of",
        "the whole process; outside is the share of the components that lies outside those of exact PCA of these rows.",
        "",
        "| components | rows a batch | BLAS threads | | seconds | memory | orthonormal to | outside |",
        "|---|---|---|---|---|---|---|---|",
    ]
    medians: dict[str, dict[str, list[float]]] = {key: {name: [] for name in LEARNERS} for key in ("seconds", "bytes")}
    for k, rows, threads in CASES:
        rounds = [_one_round(k, rows, threads, store) for _ in range(ROUNDS)]
        exact = _exact_components(k, rows, store)
        found = {name: np.load(saved_components(store, name, k)).astype(np.float64) for name in LEARNERS}
        for name in LEARNERS:
            for key, values in medians.items():
                values[name].append(statistics.median(r[name][key] for r in rounds))
            seconds, memory = (values[name][-1] for values in medians.values())
            off = np.abs(found[name] @ found[name].T - np.eye(k)).max()
            outside = np.linalg.norm(found[name] - (found[name] @ exact.T) @ exact) / np.sqrt(k)
            lines.append(
                f"| {k:,} | {rows:,} | {threads} | {name} | {seconds:.2f} | {memory / MIB:.0f} MiB | {off:.0e} "
                f"| {outside:.5f} |"
            )
        faster = statistics.median(r["scikit-learn"]["seconds"] / r["ours"]["seconds"] for r in rounds)
        leaner = statistics.median(r["ours"]["bytes"] / r["scikit-learn"]["bytes"] for r in rounds)
        ours, theirs = (np.array(rounds[0][name]["ratios"]) for name in LEARNERS)
        apart = np.abs(ours / theirs - 1).max()
        lines.append(
            f"| | | | **{faster:.1f}× faster, {leaner:.0%} of the memory**, variance ratios within {apart:.0e} "
            "| | | | |"
        )
    return [*lines, "", _plot(medians["seconds"], medians["bytes"])]


def _plot(seconds: dict[str, list[float]], n_bytes: dict[str, list[float]]) -> str:
    memory = {name: [value / MIB for value in values] for name, values in n_bytes.items()}
    labels = [f"{k:,} components, {threads} thread{'s' * (threads > 1)}" for k, _, threads in CASES]
    return save_bars("pca", {"seconds an update": seconds, "peak memory, MiB": memory}, labels)


def _one_round(k: int, rows: int, threads: int, store: Path) -> dict[str, Any]:
    return {name: run_python("-m", "benchmarks.pca_update", name, k, rows, threads, store).report for name in LEARNERS}


def _exact_components(k: int, rows: int, store: Path) -> NDArray[np.float64]:
    centred = read_features(slice(0, N_BATCHES * rows), store).astype(np.float64)
    centred -= centred.mean(axis=0)
    squares, vectors = np.linalg.eigh(centred @ centred.T)
    exact: NDArray[np.float64] = (vectors[:, -k:] / np.sqrt(squares[-k:])).T @ centred
    return exact


if __name__ == "__main__":
    print("\n".join(measure(WORK)))
