"""The same work on a real cluster of two worker processes: the same result, also when a worker dies."""

import shutil
import sys
import warnings

import cv2
import models
import numpy as np
import pytest
from sklearn.datasets import load_sample_images
from sklearn.metrics import adjusted_rand_score

from streamcluster.config import FitSettings, IngestSettings
from streamcluster.errors import ClusterError
from streamcluster.jobs.fit import fit
from streamcluster.jobs.ingest import ingest
from streamcluster.runtime import execution
from streamcluster.runtime.execution import ClusterExecutor
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import open_collection

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="worker processes start too slowly there"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """600 pictures of eight colours, one in thirty broken."""
    root = tmp_path_factory.mktemp("cluster")
    (root / "src").mkdir()
    rng = np.random.default_rng(0)
    for i in range(600):
        picture = 40 + 170 * np.array([i & 1, i >> 1 & 1, i >> 2 & 1]) + rng.integers(-30, 30, (20, 20, 3))
        encoded = cv2.imencode(".png", picture.clip(0, 255).astype(np.uint8))[1].tobytes()
        (root / "src" / f"{i}.png").write_bytes(b"no picture" if i % 30 == 7 else encoded)
    return root


def run_ingest(folder, store, **more):
    return ingest(IngestSettings(sources=(str(folder / "src"),), store=str(folder / store), image_size=16), **more)


def run_fit(folder, store, **more):
    return fit(FitSettings(store=str(folder / store), clusters=8, components=10, features="rgb"), **more)


def pixels(folder, store):
    collection = open_collection(str(folder / store))
    return collection.thumbnails(slice(0, collection.n_rows))


def labels(folder, store):
    return open_collection(str(folder / store)).fit().labels()


class KillOneWorker(Progress):
    """Ends one worker process as soon as a stage has done something."""

    def __init__(self, cluster, stage):
        super().__init__()
        self._cluster, self._stage, self.killed = cluster, stage, False

    def begin(self, name, total, unit):
        self._now = name

    def advance(self, count):
        if self._now == self._stage and not self.killed:
            self.killed = True
            next(iter(self._cluster.workers.values())).process.process._process.kill()


@pytest.fixture(scope="module")
def threaded(folder):
    run_ingest(folder, "threads.zarr")
    shutil.copytree(folder / "threads.zarr", folder / "bare.zarr")
    run_fit(folder, "threads.zarr")
    return folder


def test_a_cluster_gives_the_rows_and_the_groups_that_threads_give(threaded, cluster):
    with ClusterExecutor(cluster.scheduler_address, 2) as executor:
        assert executor.workers == 2
        report = run_ingest(threaded, "cluster.zarr", executor=executor)
        np.testing.assert_array_equal(pixels(threaded, "cluster.zarr"), pixels(threaded, "threads.zarr"))
        assert (report.new, report.rejected) == (580, 20)
        run_fit(threaded, "cluster.zarr", executor=executor)
    assert adjusted_rand_score(labels(threaded, "cluster.zarr"), labels(threaded, "threads.zarr")) >= 0.99


def test_groups_that_could_be_others_as_well_are_those_of_threads(tmp_path, cluster):
    """Parts of two photographs pass into one another: what is not the same to the last digits ends in other groups."""
    (tmp_path / "src").mkdir()
    rng = np.random.default_rng(0)
    photographs = [np.ascontiguousarray(image[..., ::-1]) for image in load_sample_images().images]
    for i in range(1500):
        top, left = rng.integers(0, (427 - 96, 640 - 96))
        part = photographs[i % 2][top : top + 96, left : left + 96]
        cv2.imwrite(str(tmp_path / "src" / f"{i}.png"), cv2.resize(part, (32, 32), interpolation=cv2.INTER_AREA))
    ingest(IngestSettings(sources=(str(tmp_path / "src"),), store=str(tmp_path / "threads.zarr"), image_size=32))
    shutil.copytree(tmp_path / "threads.zarr", tmp_path / "cluster.zarr")
    fit(FitSettings(store=str(tmp_path / "threads.zarr"), clusters=40))
    with ClusterExecutor(cluster.scheduler_address, 2) as executor:
        fit(FitSettings(store=str(tmp_path / "cluster.zarr"), clusters=40), executor=executor)
    assert adjusted_rand_score(labels(tmp_path, "cluster.zarr"), labels(tmp_path, "threads.zarr")) >= 0.99


@pytest.mark.parametrize("stage", ["decode", "components", "scores", "Lloyd passes"])
def test_a_worker_that_dies_in_the_middle_changes_nothing(threaded, cluster, stage):
    name = f"dying-{stage}.zarr"
    progress = KillOneWorker(cluster, stage)
    with ClusterExecutor(cluster.scheduler_address, 2) as executor:
        if stage == "decode":
            run_ingest(threaded, name, executor=executor, progress=progress)
        else:
            shutil.copytree(threaded / "bare.zarr", threaded / name)
            run_fit(threaded, name, executor=executor, progress=progress)
    assert progress.killed
    np.testing.assert_array_equal(pixels(threaded, name), pixels(threaded, "threads.zarr"))
    if stage != "decode":
        assert adjusted_rand_score(labels(threaded, name), labels(threaded, "threads.zarr")) >= 0.99


def embeddings(folder, store):
    collection = open_collection(str(folder / store))
    (found,) = collection.all_embeddings()
    return found.vectors(slice(0, collection.n_rows))


def test_workers_embed_what_threads_embed(threaded, cluster):
    path = models.save_model(threaded / "m.onnx", size=20)
    for name in ("embedded-threads.zarr", "embedded-cluster.zarr"):
        shutil.copytree(threaded / "bare.zarr", threaded / name)
    more = {"clusters": 8, "components": 5, "features": f"onnx:{path}"}
    fit(FitSettings(store=str(threaded / "embedded-threads.zarr"), **more))
    progress = KillOneWorker(cluster, "embeddings")
    with ClusterExecutor(cluster.scheduler_address, 2) as executor:
        settings = FitSettings(store=str(threaded / "embedded-cluster.zarr"), **more)
        assert fit(settings, executor=executor, progress=progress).embedded == 580
    assert progress.killed
    np.testing.assert_array_equal(*(embeddings(threaded, f"embedded-{name}.zarr") for name in ("threads", "cluster")))
    found = (labels(threaded, f"embedded-{name}.zarr") for name in ("threads", "cluster"))
    assert adjusted_rand_score(*found) >= 0.99


def test_workers_that_die_between_two_stages_do_not_matter(cluster):
    with ClusterExecutor(cluster.scheduler_address, 2) as executor:
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        for nanny in list(cluster.workers.values()):
            nanny.process.process._process.kill()
            assert list(executor.map(abs, [-3, 4])) == [3, 4]


def test_what_travels_may_be_large(cluster):
    rows = np.arange(4_000_000.0)
    with ClusterExecutor(cluster.scheduler_address, 2) as executor, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(executor.map(rows.item, [1, 3_999_999])) == [1, 3_999_999]


def test_a_scheduler_that_does_not_answer_is_one_clear_error(threaded, monkeypatch):
    monkeypatch.setattr(execution, "CONNECT_SECONDS", 1)
    with pytest.raises(ClusterError, match="tcp://127"):
        ClusterExecutor("tcp://127.0.0.1:9", 1)
