"""One learner meets some batches: a process that imports what learning takes, and no more.

`python -m benchmarks.pca_update ours|scikit-learn COMPONENTS BATCH_ROWS BLAS_THREADS STORE`
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import IncrementalPCA
from threadpoolctl import threadpool_limits

from streamcluster.learn.pca import GramPCA
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.memory import peak_bytes
from streamcluster.store.collection import open_collection

LEARNERS = {"ours": GramPCA, "scikit-learn": IncrementalPCA}
N_BATCHES = 4


def saved_components(store: Path, name: str, k: int) -> Path:
    """Return where a learner's components are left."""
    return store.with_name(f"components-{name}-{k}.npy")


def read_features(rows: slice, store: Path) -> NDArray[np.float32]:
    """Return float32 (n, F) pixels, 0 to 1."""
    pixels = open_collection(str(store)).thumbnails(rows)
    features = pixels.reshape(len(pixels), -1).astype(np.float32)
    features /= np.float32(255)
    return features


def learn(name: str, k: int, rows: int, store: Path) -> dict[str, object]:
    """Learn some batches and save the components; return the seconds of a later update, and the peak of the process."""
    model = LEARNERS[name](k)
    seconds = [_timed(model, read_features(batch, store)) for batch in tile_rows(N_BATCHES * rows, rows)]
    peak = peak_bytes() or 0
    np.save(saved_components(store, name, k), model.components_)
    ratios = model.explained_variance_ratio_.tolist()
    return {"seconds": statistics.median(seconds[1:]), "bytes": peak, "ratios": ratios}


def _timed(model: IncrementalPCA, features: NDArray[np.float32]) -> float:
    started = time.perf_counter()
    model.partial_fit(features)
    return time.perf_counter() - started


if __name__ == "__main__":
    learner, components, batch_rows, blas_threads, path = sys.argv[1:]
    with threadpool_limits(int(blas_threads)):
        print(json.dumps(learn(learner, int(components), int(batch_rows), Path(path))))
