"""The job and the command: what is found is in the store, and counts until something is new."""

import cv2
import numpy as np
import pytest
import zarr
from pictures import Pictures, pointer_of

import streamcluster as sc
from streamcluster.errors import BudgetError, Interrupted, NoPicturesError
from streamcluster.runtime.progress import Progress


def noise_of(seed):
    """A picture that has something to see everywhere, uint8 (64, 64, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC)


def write(folder, name, picture, *options):
    (folder / name).write_bytes(cv2.imencode(name[name.index(".") :], picture, options)[1].tobytes())


@pytest.fixture
def store(tmp_path):
    """A store of three pictures, a smaller copy of the first, and the same bytes as the second."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        write(folder, f"{i}.png", noise_of(i))
    write(folder, "0small.jpg", cv2.resize(noise_of(0), (48, 48), interpolation=cv2.INTER_AREA))
    (folder / "1again.png").write_bytes((folder / "1.png").read_bytes())
    sc.ingest(sc.IngestSettings(sources=(str(folder),), store=str(tmp_path / "s.zarr")))
    return tmp_path / "s.zarr"


def look(store, progress=None, **settings):
    return sc.duplicates(sc.DuplicatesSettings(store=str(store), **settings), progress=progress)


def test_groups_are_reported_and_in_the_store(store):
    report = look(store)
    assert (report.pictures, report.groups, report.duplicates, report.same_bytes) == (5, 2, 2, 1)
    names = {
        group.kept.rpartition("/")[2]: [path.rpartition("/")[2] for path in group.others] for group in report.largest
    }
    assert names.pop("0.png") == ["0small.jpg"]
    assert sorted([*names, *names.popitem()[1]]) == ["1.png", "1again.png"]
    found = zarr.open_group(store, mode="r")[f"duplicates/{pointer_of(store)['findings']['duplicates']}"]
    paths = sc.open_collection(str(store)).catalog.column("path")
    kept = {
        str(path).rpartition("/")[2]: str(paths[row]).rpartition("/")[2]
        for path, row in zip(paths, found["kept"][:], strict=True)
    }
    assert kept["0small.jpg"] == "0.png"
    assert kept["2.png"] == "2.png"
    assert kept["1.png"] == kept["1again.png"]


def test_it_is_up_to_date_until_pictures_or_the_threshold_change(store):
    first = look(store)
    again = look(store)
    assert (first.up_to_date, again.up_to_date) == (False, True)
    assert again.largest == first.largest
    stricter = look(store, threshold=0)
    assert (stricter.up_to_date, stricter.groups, stricter.same_bytes) == (False, 1, 1)
    (store.parent / "in" / "1again.png").unlink()
    sc.ingest(sc.IngestSettings(sources=(str(store.parent / "in"),), store=str(store)))
    less = look(store, threshold=0)
    assert (less.up_to_date, less.pictures, less.groups) == (False, 4, 0)
    assert len(list((store / "duplicates").glob("0*"))) == 1


def test_a_budget_that_is_too_small_is_refused(store):
    with pytest.raises(BudgetError, match="--memory"):
        look(store, memory="64MiB")


def test_an_empty_store_is_told(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = Pictures(folder)
    pictures.write("a.png", 1)
    settings = sc.IngestSettings(sources=(str(folder),), store=str(tmp_path / "s.zarr"))
    sc.ingest(settings)
    pictures.remove("a.png")
    with pytest.raises(NoPicturesError):
        sc.ingest(sc.IngestSettings(sources=(str(folder),), store=str(tmp_path / "s.zarr"), allow_gone=True))
    with pytest.raises(NoPicturesError):
        look(tmp_path / "s.zarr")


def test_a_stop_leaves_what_was_known(store):
    look(store, threshold=0)
    before = pointer_of(store)

    class Stopping(Progress):
        def begin(self, name, total, unit):
            self.stop_signal = 2

    with pytest.raises(Interrupted):
        look(store, Stopping())
    assert pointer_of(store) == before
    assert look(store, threshold=0).up_to_date
