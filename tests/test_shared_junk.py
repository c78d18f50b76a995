"""Junk among real faces: found without marks, and better with a few."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import streamcluster as sc

DATA = Path(__file__).parents[2] / "shared" / "data"

pytestmark = pytest.mark.skipif(not (DATA / "junk").is_dir(), reason=f"{DATA / 'junk'} is not there")


def scores_and_truth(store):
    collection = sc.open_collection(store)
    truth = np.array(["/junk/" in str(path) for path in collection.catalog.column("path")])
    return collection.findings("junk").array("score"), truth, [str(p) for p in collection.catalog.column("path")]


def test_junk_is_ranked_first_without_marks_and_with_them(tmp_path):
    with open(DATA / "junk" / "truth.csv", newline="", encoding="utf-8") as file:
        rows = [(DATA / row["path"], row["label"]) for row in csv.DictReader(file)]
    links = {"face": [], "junk": []}
    for i, (path, label) in enumerate(rows):
        link = tmp_path / "in" / label / f"{i:03d}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(path, link)
        links[label].append(str(link))
    store = str(tmp_path / "s.zarr")
    sc.ingest(sc.IngestSettings(sources=(str(tmp_path / "in"),), store=store))
    sc.fit(sc.FitSettings(store=store))
    sc.junk(sc.JunkSettings(store=store))
    scores, truth, paths = scores_and_truth(store)
    assert roc_auc_score(truth, scores) >= 0.995
    rng = np.random.default_rng(0)
    marked = {kind: tuple(rng.choice(links[kind], 20, replace=False).tolist()) for kind in links}
    sc.mark(sc.MarkSettings(store=store, junk=marked["junk"], keep=marked["face"]))
    sc.junk(sc.JunkSettings(store=store))
    scores, truth, paths = scores_and_truth(store)
    rest = ~np.isin(paths, [*marked["junk"], *marked["face"]])
    assert average_precision_score(truth[rest], scores[rest]) >= 0.98
    collection = sc.open_collection(store)
    labels, found = collection.fit().labels(), collection.findings("junk").array("cluster_score")
    share = np.bincount(labels, truth, len(found)) / np.bincount(labels)
    assert np.corrcoef(found, share)[0, 1] >= 0.9
