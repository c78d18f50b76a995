"""fit with a model of one's own: original files are embedded once each, whatever happens to them or to the run."""

import os
import shutil

import cv2
import models
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from pictures import Pictures, thumbnail_of
from PIL import Image

from streamcluster.config import FitSettings, IngestSettings, StatusSettings
from streamcluster.console import summarize
from streamcluster.errors import BudgetError, Interrupted, ModelError, SourceNotFoundError
from streamcluster.jobs import embed as embed_module
from streamcluster.jobs.fit import fit
from streamcluster.jobs.ingest import ingest
from streamcluster.jobs.status import status
from streamcluster.runtime.memory import resident_bytes
from streamcluster.runtime.progress import Progress
from streamcluster.store import embeddings as embeddings_module
from streamcluster.store.collection import open_collection
from streamcluster.store.embeddings import FILE, NOTHING, THUMBNAIL

N = 60
#: Thumbnails are smaller than the pictures, and the model takes them at the size that they have.
THUMBNAIL_SIDE, SIDE = 8, 32


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Sixty pictures fill several blocks, and a block several parts."""
    for module in (embeddings_module, embed_module):
        monkeypatch.setattr(module, "EMBEDDING_ROWS", 16)
    monkeypatch.setattr(embed_module, "PART_FILES", 5)


@pytest.fixture
def pictures(tmp_path):
    made = Pictures(tmp_path / "src")
    for i in range(N):
        made.write(f"{i:02d}.png", i)
    run_ingest(tmp_path)
    return made


@pytest.fixture
def model(tmp_path):
    return models.save_model(tmp_path / "m.onnx", size=SIDE)


def run_ingest(tmp_path, **changes):
    settings = {"sources": (str(tmp_path / "src"),), "store": str(tmp_path / "s.zarr"), "image_size": THUMBNAIL_SIDE}
    return ingest(IngestSettings(**settings | changes))


def run_fit(tmp_path, model, *, store="s.zarr", progress=None, executor=None, **changes):
    settings = {"store": str(tmp_path / store), "clusters": 5, "components": 4, "features": f"onnx:{model}"}
    return fit(FitSettings(**settings | changes), progress=progress, executor=executor)


def stored(tmp_path, store="s.zarr", which=-1):
    """Return names of files, states, origins and vectors of all rows."""
    collection = open_collection(str(tmp_path / store))
    n = collection.n_rows
    found = sorted(collection.all_embeddings(), key=lambda found: os.path.getctime(found.folder))[which]
    names = [path.rsplit("/", 1)[1] for path in collection.catalog.column("path").tolist()]
    return np.array(names), collection.catalog.column("state"), found.origins(n), found.vectors(slice(0, n))


def large(keys):
    """Return the pictures as they are in the files."""
    return np.stack([np.repeat(np.repeat(thumbnail_of(key), 2, axis=0), 2, axis=1) for key in keys])


def small(tmp_path, rows):
    """Return the stored thumbnails, enlarged."""
    collection = open_collection(str(tmp_path / "s.zarr"))
    return np.stack([cv2.resize(collection.thumbnails(slice(row, row + 1))[0], (SIDE, SIDE)) for row in rows])


def check_rows(vectors, shown, **options):
    np.testing.assert_allclose(vectors, models.expected(shown, **options), rtol=1e-4, atol=1e-4)


def test_every_row_is_the_embedding_of_its_original_file(tmp_path, pictures, model):
    report = run_fit(tmp_path, model)
    names, _, origins, vectors = stored(tmp_path)
    assert (report.embedded, report.from_thumbnails, report.pictures) == (N, 0, N)
    assert "the model looked at 60 pictures" in "\n".join(summarize(report))
    np.testing.assert_array_equal(origins, FILE)
    check_rows(vectors, large(int(name[:2]) for name in names))


def test_what_is_behind_the_features_takes_them_as_they_are(tmp_path, pictures, model):
    run_fit(tmp_path, model, scores="plain")
    found = open_collection(str(tmp_path / "s.zarr")).fit()
    *_, vectors = stored(tmp_path)
    plain = (vectors - found.array("mean")) @ found.array("components").T
    np.testing.assert_allclose(found.array("scores"), plain, atol=1e-3)
    np.testing.assert_array_equal(found.array("feature_scale"), 1)


@pytest.mark.parametrize("aspect", ["squash", "pad", "crop"])
def test_a_model_sees_pictures_as_the_store_makes_them(tmp_path, aspect):
    """Turned, transparent and oblong pictures at the size of thumbnails are the thumbnails."""
    (tmp_path / "src").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 4), dtype=np.uint8), "RGBA" if i % 2 else "RGBX")
        exif = Image.Exif()
        exif[0x0112] = 1 + i % 8
        kind = "png" if i % 2 else "jpg"
        picture = coarse.resize((90 + 7 * i, 70)).convert("RGBA" if i % 2 else "RGB")
        picture.save(tmp_path / "src" / f"{i}.{kind}", exif=exif)
    run_ingest(tmp_path, image_size=SIDE, aspect=aspect, background="#102030")
    run_fit(tmp_path, models.save_model(tmp_path / "m.onnx", size=SIDE))
    collection = open_collection(str(tmp_path / "s.zarr"))
    _, _, origins, vectors = stored(tmp_path)
    np.testing.assert_array_equal(origins, FILE)
    check_rows(vectors, collection.thumbnails(slice(0, 12)))


def test_a_later_fit_embeds_only_what_is_new(tmp_path, pictures, model):
    run_fit(tmp_path, model)
    before = stored(tmp_path)[3]
    assert run_fit(tmp_path, model).up_to_date
    pictures.write("new.png", "new")
    pictures.write("03.png", "changed")
    run_ingest(tmp_path)
    report = run_fit(tmp_path, model)
    names, _, origins, vectors = stored(tmp_path)
    assert (report.mode, report.embedded) == ("update", 2)
    np.testing.assert_array_equal(vectors[:N], before)
    np.testing.assert_array_equal(origins, FILE)
    check_rows(vectors[N:], large({"new.png": "new", "03.png": "changed"}[name] for name in names[N:]))
    assert run_fit(tmp_path, model, clusters=4).embedded == 0


def test_pictures_that_are_gone_are_embedded_when_they_come_back(tmp_path, pictures, model):
    for i in range(20):
        (tmp_path / "src" / f"{i:02d}.png").rename(tmp_path / f"{i:02d}.png")
    run_ingest(tmp_path)
    assert run_fit(tmp_path, model).embedded == N - 20
    names, states, origins, vectors = stored(tmp_path)
    np.testing.assert_array_equal(origins, np.where(states == 0, FILE, NOTHING))
    assert not vectors[states != 0].any()
    for i in range(20):
        (tmp_path / f"{i:02d}.png").rename(tmp_path / "src" / f"{i:02d}.png")
    run_ingest(tmp_path)
    assert run_fit(tmp_path, model).embedded == 20
    check_rows(stored(tmp_path)[3], large(int(name[:2]) for name in names))


def test_files_that_are_not_what_was_ingested_give_their_thumbnails_until_they_are_again(tmp_path, pictures, model):
    src = tmp_path / "src"
    kept = {name: (src / name).read_bytes() for name in ("01.png", "02.png", "03.png", "04.png")}
    (src / "01.png").unlink()
    (src / "02.png").write_bytes(b"broken")
    (src / "03.png").write_bytes((src / "05.png").read_bytes())
    (src / "04.png").unlink()
    (src / "04.png").mkdir()
    report = run_fit(tmp_path, model)
    assert (report.embedded, report.from_thumbnails, report.pictures) == (N, 4, N)
    names, _, origins, vectors = stored(tmp_path)
    odd = np.isin(names, list(kept))
    np.testing.assert_array_equal(origins, np.where(odd, THUMBNAIL, FILE))
    check_rows(vectors[odd], small(tmp_path, np.flatnonzero(odd)))
    check_rows(vectors[~odd], large(int(name[:2]) for name in names[~odd]))
    (src / "04.png").rmdir()
    for name, content in kept.items():
        (src / name).write_bytes(content)
    report = run_fit(tmp_path, model, clusters=4)
    assert (report.embedded, report.from_thumbnails) == (4, 0)
    check_rows(stored(tmp_path)[3], large(int(name[:2]) for name in names))


@pytest.mark.parametrize("leave_folder", [True, False])
def test_a_source_that_is_not_mounted_is_not_taken_for_pictures_that_are_gone(tmp_path, pictures, model, leave_folder):
    (tmp_path / "src").rename(tmp_path / "elsewhere")
    if leave_folder:
        (tmp_path / "src").mkdir()
    with pytest.raises(SourceNotFoundError, match="mounted"):
        run_fit(tmp_path, model)
    np.testing.assert_array_equal(stored(tmp_path)[2], NOTHING)
    (tmp_path / "src").rmdir() if leave_folder else None
    (tmp_path / "elsewhere").rename(tmp_path / "src")
    assert run_fit(tmp_path, model).embedded == N


def test_another_model_is_another_space_and_the_same_one_elsewhere_is_not(tmp_path, pictures, model):
    run_fit(tmp_path, model)
    shutil.move(model, tmp_path / "moved.onnx")
    assert run_fit(tmp_path, tmp_path / "moved.onnx").up_to_date
    report = run_fit(tmp_path, models.save_model(tmp_path / "moved.onnx", size=SIDE, seed=1))
    assert (report.mode, report.embedded) == ("full", N)
    report = run_fit(tmp_path, tmp_path / "moved.onnx", onnx_mean=0.5, onnx_std=0.25)
    assert (report.mode, report.embedded) == ("full", N)
    names, _, _, vectors = stored(tmp_path)
    check_rows(vectors, large(int(name[:2]) for name in names), seed=1, mean=0.5, std=0.25)
    listed = status(StatusSettings(store=str(tmp_path / "s.zarr"))).embeddings
    assert sorted((found.model, found.pictures, found.width) for found in listed) == [
        ("m.onnx", N, models.WIDTH),
        ("moved.onnx", N, models.WIDTH),
        ("moved.onnx", N, models.WIDTH),
    ]
    assert all(found.bytes >= 4 * N * models.WIDTH for found in listed)


def test_other_features_and_recuts_need_no_model(tmp_path, pictures, model):
    run_fit(tmp_path, model)
    os.remove(model)
    report = run_fit(tmp_path, model, clusters=None, recut=3)
    assert (report.mode, report.clusters) == ("recut", 3)
    assert run_fit(tmp_path, model, features="color", components=None).embedded == 0
    with pytest.raises(ModelError, match="no such file"):
        run_fit(tmp_path, model)


def test_one_worker_and_two_give_the_same_bytes(tmp_path, pictures, model):
    shutil.copytree(tmp_path / "s.zarr", tmp_path / "two.zarr")
    run_fit(tmp_path, model, workers=1)
    run_fit(tmp_path, model, workers=2, store="two.zarr")
    np.testing.assert_array_equal(stored(tmp_path)[3], stored(tmp_path, "two.zarr")[3])
    one, two = (open_collection(str(tmp_path / name)).fit() for name in ("s.zarr", "two.zarr"))
    np.testing.assert_array_equal(one.array("scores"), two.array("scores"))
    np.testing.assert_array_equal(one.labels(), two.labels())


class StopAfter(Progress):
    """Asks for a stop once so many pictures are embedded."""

    def __init__(self, n):
        super().__init__()
        self._left = n

    def advance(self, count):
        self._left -= count
        if self._left <= 0:
            self.stop_signal = 15


def test_a_stop_keeps_what_is_embedded(tmp_path, pictures, model):
    with pytest.raises(Interrupted):
        run_fit(tmp_path, model, progress=StopAfter(22), workers=1)
    done = int((stored(tmp_path)[2] == FILE).sum())
    assert 22 <= done < N
    assert run_fit(tmp_path, model).embedded == N - done
    names, _, _, vectors = stored(tmp_path)
    check_rows(vectors, large(int(name[:2]) for name in names))


def test_a_picture_that_the_model_makes_no_numbers_of_gives_its_thumbnail(tmp_path):
    """The model divides by one pixel: a black one in a grey picture has gone in its thumbnail, a black picture not."""
    src = Pictures(tmp_path / "src")
    for i in range(8):
        grey = np.full((SIDE, SIDE, 3), 100 + 10 * i, np.uint8)
        grey[5, 5] *= i != 3
        src.write_bytes(f"{i}.png", cv2.imencode(".png", grey)[1].tobytes())
    run_ingest(tmp_path)
    nodes = [
        helper.make_node("Slice", ["pixels", "from", "to", "axes"], ["pixel"]),
        helper.make_node("Reciprocal", ["pixel"], ["rows"]),
    ]
    numbers = {"from": [5, 5], "to": [6, 6], "axes": [2, 3]}
    initializers = [numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()]
    shape = ["n", 3, SIDE, SIDE]
    floats = TensorProto.FLOAT
    path = models.save(tmp_path / "m.onnx", nodes, [("pixels", floats, shape)], [("rows", floats, None)], initializers)
    plain = {"onnx_mean": 0, "onnx_std": 1, "clusters": 2, "components": 2}
    report = run_fit(tmp_path, path, **plain)
    names, _, origins, vectors = stored(tmp_path)
    assert (report.embedded, report.from_thumbnails) == (8, 1)
    np.testing.assert_array_equal(names[origins == THUMBNAIL], ["3.png"])
    assert np.isfinite(vectors).all()
    src.write_bytes("black.png", cv2.imencode(".png", np.zeros((SIDE, SIDE, 3), np.uint8))[1].tobytes())
    run_ingest(tmp_path)
    report = run_fit(tmp_path, path, **plain)
    assert (report.embedded, report.from_thumbnails) == (2, 2)
    np.testing.assert_array_equal(stored(tmp_path)[3][-1], 0)


def test_a_model_that_has_no_room_to_run_is_refused_before_it_starts(tmp_path, pictures, model):
    with pytest.raises(BudgetError, match="--memory"):
        run_fit(tmp_path, model, memory=int((resident_bytes() + (70 << 20)) / 0.9))
    with pytest.raises(BudgetError, match="--memory"):
        run_fit(tmp_path, model, memory=resident_bytes())


def test_a_path_in_a_settings_file_is_relative_to_it(tmp_path):
    from streamcluster.config import run_settings

    (tmp_path / "c.toml").write_text(
        'store = "s.zarr"\n[ingest]\nsources = ["src"]\n'
        '[fit]\nfeatures = "onnx:models/m.onnx"\nonnx_mean = [0, 0, 0.5]\n'
    )
    settings = run_settings(str(tmp_path / "c.toml")).fit
    assert settings.features.model == str(tmp_path / "models/m.onnx")
    assert settings.onnx_mean == (0, 0, 0.5)
