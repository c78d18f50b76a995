"""The peer of the whole pipeline: the usual script, which holds everything in memory.

`python -m benchmarks.classic FOLDER DEST N_COMPONENTS N_CLUSTERS`
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time

import cv2
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from streamcluster.runtime.memory import peak_bytes

SIDE = 64


def main(folder: str, dest: str, n_components: str, n_clusters: str) -> None:
    """Group the pictures of a folder into folders, and print seconds and peak memory."""
    started = time.perf_counter()
    paths = sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    rows = []
    for path in paths:
        picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        rows.append(cv2.resize(picture, (SIDE, SIDE)).ravel())
    table = np.array(rows) / 255.0
    read = time.perf_counter()
    scores = PCA(n_components=int(n_components), svd_solver="full").fit_transform(table)
    learned = time.perf_counter()
    labels = KMeans(n_clusters=int(n_clusters), random_state=0).fit_predict(scores)
    grouped = time.perf_counter()
    shutil.rmtree(dest, ignore_errors=True)
    for path, label in zip(paths, labels, strict=True):
        group = os.path.join(dest, f"cluster_{label}")
        os.makedirs(group, exist_ok=True)
        shutil.copy(path, os.path.join(group, os.path.basename(path)))
    stages = {
        "read": read - started,
        "PCA": learned - read,
        "k-means": grouped - learned,
        "copy": time.perf_counter() - grouped,
    }
    print(json.dumps({"peak_bytes": peak_bytes(), "stages": stages}))


if __name__ == "__main__":
    main(*sys.argv[1:])
