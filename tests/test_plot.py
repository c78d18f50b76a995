"""plot on real stores: figures that can be read, a map that stays in the store, and clear refusals."""

import json
import sys

import cv2
import numpy as np
import pytest
import zarr
from pictures import Pictures, pointer_of

import streamcluster as sc
from streamcluster.cli import app
from streamcluster.errors import (
    BudgetError,
    DestinationError,
    FitNotFoundError,
    Interrupted,
    MissingExtraError,
    NoPicturesError,
)
from streamcluster.jobs.plot import FILES
from streamcluster.learn import map as pictures_map
from streamcluster.runtime.progress import Progress
from streamcluster.show import plots

N = 60


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Have figures made, but no pictures of them, which take seconds; a test that looks at these undoes it."""

    def encode(draw):
        draw()
        return dict.fromkeys(plots.ENDINGS, plots.MARK.encode())

    monkeypatch.setattr(plots, "encode", encode)
    return monkeypatch


@pytest.fixture
def ingested(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = Pictures(folder)
    for i in range(N):
        pictures.write(f"{i}.png", i % 20)
        (folder / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes() + bytes([i]))
    ingest(tmp_path)
    return tmp_path


def ingest(root):
    sc.ingest(sc.IngestSettings(sources=(str(root / "in"),), store=str(root / "s.zarr"), image_size=16))


@pytest.fixture
def fitted(ingested):
    fit(ingested)
    return ingested


def fit(root, **settings):
    return sc.fit(
        sc.FitSettings(store=str(root / "s.zarr"), **{"clusters": 4, "components": 5, "features": "rgb", **settings})
    )


def draw(root, progress=None, **settings):
    return sc.plot(
        sc.PlotSettings(**{"store": str(root / "s.zarr"), "out_dir": str(root / "plots"), **settings}),
        progress=progress,
    )


def map_of(root):
    found = zarr.open_group(root / "s.zarr", mode="r")[f"map/{pointer_of(root / 's.zarr')['findings']['map']}"]
    return np.stack([found["x"][:], found["y"][:]], axis=1), dict(found.attrs)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_figure_is_written_and_the_map_is_in_the_store(fitted, undrawn):
    undrawn.undo()
    report = draw(fitted)
    assert (report.fit, report.pictures, report.clusters) == ("0001", N, 4)
    assert sorted(path.name for path in (fitted / "plots").iterdir()) == sorted(FILES) == sorted(report.files)
    for path in (fitted / "plots").glob("*.png"):
        assert cv2.imread(str(path)) is not None
    places, attributes = map_of(fitted)
    assert places.shape == (N, 2)
    assert np.isfinite(places).all()
    assert attributes["fit"] == "0001"


def test_it_may_be_drawn_again_and_workers_do_not_matter(fitted, monkeypatch):
    monkeypatch.setattr(pictures_map, "SAMPLE_ROWS", 25)
    draw(fitted, workers=1)
    first, places = contents(fitted / "plots"), map_of(fitted)
    pointer = pointer_of(fitted / "s.zarr")
    draw(fitted, workers=3)
    assert contents(fitted / "plots") == first
    assert pointer_of(fitted / "s.zarr") == pointer  # the map was not made again
    fit(fitted, full=True, features="gray")
    draw(fitted)
    fit(fitted, full=True)
    draw(fitted, workers=4)
    assert np.array_equal(map_of(fitted)[0], places[0])


def test_a_recut_has_the_same_map_and_an_older_fit_another(fitted):
    draw(fitted)
    before = pointer_of(fitted / "s.zarr")["findings"]
    fit(fitted, clusters=None, recut=2)
    assert draw(fitted).clusters == 2
    assert pointer_of(fitted / "s.zarr")["findings"] == before
    fit(fitted, features="gray")
    draw(fitted)
    assert pointer_of(fitted / "s.zarr")["findings"] != before
    assert draw(fitted, fit="1").fit == "0001"


def test_pictures_that_went_or_came_since_the_fit_have_no_place(fitted):
    (fitted / "in" / "3.png").unlink()
    Pictures(fitted / "in").write("new.png", "new")
    ingest(fitted)
    assert draw(fitted).pictures == N - 1
    assert np.isnan(map_of(fitted)[0]).any(axis=1).sum() == 2


@pytest.mark.parametrize("n", [2, 3, 10])
def test_few_pictures_in_one_group(tmp_path, n):
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = Pictures(folder)
    for i in range(n):
        pictures.write(f"{i}.png", i)
    ingest(tmp_path)
    fit(tmp_path, clusters=1, components=1, features="color")
    assert draw(tmp_path).pictures == n


def test_without_a_fit_or_a_picture_it_says_so(ingested):
    with pytest.raises(FitNotFoundError, match="streamcluster fit"):
        draw(ingested)
    for path in (ingested / "in").iterdir():
        path.unlink()
    with pytest.raises(NoPicturesError):
        sc.ingest(sc.IngestSettings(sources=(str(ingested / "in"),), store=str(ingested / "s.zarr"), allow_gone=True))
    with pytest.raises(NoPicturesError):
        draw(ingested)
    assert not (ingested / "plots").exists()


def test_a_fit_that_is_not_there_is_named(fitted):
    with pytest.raises(FitNotFoundError, match="0007"):
        draw(fitted, fit="7")


def test_a_folder_with_other_files_is_refused_without_force(fitted):
    (fitted / "plots").mkdir()
    (fitted / "plots" / "notes.txt").write_text("mine")
    with pytest.raises(DestinationError, match="--force"):
        draw(fitted)
    draw(fitted, force=True)
    assert (fitted / "plots" / "notes.txt").read_text() == "mine"
    assert len(contents(fitted / "plots")) == len(FILES) + 1


def test_a_file_of_our_name_that_is_not_ours_is_refused_without_force(fitted):
    (fitted / "plots").mkdir()
    (fitted / "plots" / "map.png").write_bytes(b"a treasure map")
    with pytest.raises(DestinationError, match=r"map\.png"):
        draw(fitted)
    assert contents(fitted / "plots") == {"map.png": b"a treasure map"}


@pytest.mark.parametrize("where", ["in/plots", "s.zarr/plots", "file"])
def test_places_that_cannot_be_are_refused_even_with_force(fitted, where):
    (fitted / "file").write_text("")
    with pytest.raises(DestinationError, match="give"):
        draw(fitted, out_dir=str(fitted / where), force=True)
    assert not (fitted / where).is_dir()


@pytest.mark.parametrize("library", ["matplotlib", "openTSNE"])
def test_a_missing_library_is_named_with_its_extra(fitted, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"{library}.*streamcluster\[plots\]"):
        draw(fitted)


def test_a_budget_that_is_too_small_is_refused(fitted):
    with pytest.raises(BudgetError, match="--memory"):
        draw(fitted, memory="64MiB")


def test_a_stop_leaves_the_map_before(fitted):
    draw(fitted)
    fit(fitted, features="gray")
    before = pointer_of(fitted / "s.zarr")

    class Stopping(Progress):
        def begin(self, name, total, unit):
            self.stop_signal = 2

    with pytest.raises(Interrupted):
        draw(fitted, Stopping())
    assert pointer_of(fitted / "s.zarr") == before


def test_the_command(fitted):
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["plot", str(fitted / "plots"), "--store", str(fitted / "s.zarr"), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["files"] == list(FILES)
