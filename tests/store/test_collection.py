"""The store: what it promises to plain zarr, to a second process, and to whoever comes after a crash."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zarr

from streamcluster.config import StoreDefaults
from streamcluster.errors import (
    FitNotFoundError,
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreNotFoundError,
    StoreWriteError,
)
from streamcluster.runtime.paths import decode_path, encode_path
from streamcluster.store import collection as collection_module
from streamcluster.store import table
from streamcluster.store.collection import (
    open_collection,
    open_for_writing,
    rows_per_block,
)
from streamcluster.store.pointer import exclusive_store, find_pointer, is_free
from streamcluster.store.table import GONE, LIVE, REPLACED

LAYOUT = StoreDefaults(image_size=8, seed=3)
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks and chunks of four rows, so that a few rows cross borders."""
    monkeypatch.setattr(collection_module, "BLOCK_BYTES", 4 * 3 * 8 * 8)
    monkeypatch.setattr(table, "COLUMN_ROWS", 4)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "a.zarr")


def thumbnail(number):
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def picture_columns(numbers):
    return {
        "path": [encode_path(f"/x/{i}%\udcff.png") for i in numbers],
        "size": [1000 + i for i in numbers],
        "mtime_ns": [10**18 + i for i in numbers],
        "width": [100 + i for i in numbers],
        "height": [200 + i for i in numbers],
        "digest": [np.full(32, i, np.uint8) for i in numbers],
        "phash": [2**64 - 1 - i for i in numbers],
        "brightness": [i / 2 for i in numbers],
        "sharpness": [i / 4 for i in numbers],
        "state": [LIVE for _ in numbers],
    }


def reject_columns(numbers):
    return {
        "path": [f"/x/{i}.junk" for i in numbers],
        "size": list(numbers),
        "mtime_ns": list(numbers),
        "reason": ["junk é😀" for _ in numbers],
        "oversize": [False for _ in numbers],
        "state": [LIVE for _ in numbers],
    }


def write_rows(collection, stop, picture=thumbnail):
    """Write thumbnails up to a row, without committing them."""
    start = collection.n_rows - collection.n_rows % 4
    collection.make_room(stop - collection.n_rows)
    for first in range(start, stop, 4):
        collection.write_block(first, np.stack([picture(i) for i in range(first, min(stop, first + 4))]))


def add(path, n, n_rejects=0):
    """Append pictures numbered by their rows, and rejects."""
    with open_for_writing(path, create=LAYOUT) as collection:
        start = collection.n_rows
        write_rows(collection, start + n)
        collection.commit_rows(picture_columns(range(start, start + n)), reject_columns(range(n_rejects)))
        collection.trim()


def assert_holds(path, n):
    """Check that the store holds exactly the pictures numbered below n."""
    collection = open_collection(path)
    assert collection.n_rows == n
    pixels = [collection.thumbnails(block) for block in collection.blocks]
    np.testing.assert_array_equal(
        np.concatenate([*pixels, np.empty((0, 8, 8, 3))]), [thumbnail(i) for i in range(n)] or np.empty((0, 8, 8, 3))
    )
    expected = picture_columns(range(n))
    for name, values in expected.items():
        np.testing.assert_array_equal(
            collection.catalog.column(name),
            np.reshape(values, (n, -1)).squeeze(1) if (name != "digest") else np.reshape(values, (n, 32)),
        )


def contents(folder):
    return {str(file): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


def version_of(file):
    status = os.stat(file)
    return status.st_ino, status.st_mtime_ns


def shapes(path):
    group = zarr.open_group(path, mode="r")
    return {name: node.shape[0] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


# what comes back


def test_a_row_of_a_block_does_not_keep_the_block_in_memory(tmp_path):
    add(str(tmp_path / "s.zarr"), 3)
    row = open_collection(str(tmp_path / "s.zarr")).thumbnails(slice(1, 2))
    np.testing.assert_array_equal(row, [thumbnail(1)])
    assert row.base is None


# what plain zarr reads


def test_plain_zarr_reads_all_of_it(path):
    add(path, 6, n_rejects=2)
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["pixels"][:], [thumbnail(i) for i in range(6)])
    for name, values in picture_columns(range(6)).items():
        np.testing.assert_array_equal(group["catalog"][name][:], values)
    for name, values in reject_columns(range(2)).items():
        np.testing.assert_array_equal(group["rejects"][name][:], values)
    assert [decode_path(stored) for stored in group["catalog/path"][:2]] == ["/x/0%\udcff.png", "/x/1%\udcff.png"]
    pointer = group.attrs["streamcluster"]
    assert (pointer["format"], pointer["committed"], pointer["committed_rejects"], pointer["current_fit"]) == (
        1,
        6,
        2,
        None,
    )
    assert {name: pointer[name] for name in ("image_size", "aspect", "background", "seed")} == {
        "image_size": 8,
        "aspect": "squash",
        "background": "#ffffff",
        "seed": 3,
    }


def test_another_process_reads_it_without_streamcluster(path):
    add(path, 5)
    code = (
        "import sys, zarr; g = zarr.open_group(sys.argv[1], mode='r')\n"
        "print(g['pixels'][:].sum(), g['catalog/size'][:].sum())\n"
        "assert not any(name.startswith('streamcluster') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(sum(int(thumbnail(i).sum()) for i in range(5))), str(5 * 1000 + 10)]


def test_rows_come_in_several_runs_and_every_border_holds(path):
    for n in (1, 2, 1, 5, 4, 0, 3):
        add(path, n)
    assert_holds(path, 16)


def test_black_blocks_are_pictures_too(path):
    with open_for_writing(path, create=LAYOUT) as collection:
        write_rows(collection, 9, lambda i: np.zeros((8, 8, 3), np.uint8))
        collection.commit_rows(picture_columns(range(9)), reject_columns([]))
    collection = open_collection(path)
    assert collection.n_rows == 9
    assert not np.concatenate([collection.thumbnails(block) for block in collection.blocks]).any()


def test_black_pictures_replace_uncommitted_ones(path):
    with open_for_writing(path, create=LAYOUT) as collection:
        write_rows(collection, 8)
    with open_for_writing(path) as collection:
        write_rows(collection, 8, lambda i: np.zeros((8, 8, 3), np.uint8))
        collection.commit_rows(picture_columns(range(8)), reject_columns([]))
    assert not open_collection(path).thumbnails(slice(0, 8)).any()


@pytest.mark.parametrize(("side", "rows"), [(8, 32768), (64, 512), (256, 32), (1024, 2)])
def test_blocks_are_a_power_of_two_of_rows_in_six_mebibytes(side, rows, monkeypatch):
    monkeypatch.undo()
    assert rows_per_block(side) == rows


# what counts


def test_what_is_not_committed_does_not_count_and_the_next_writer_drops_it(path):
    add(path, 6, n_rejects=1)
    with open_for_writing(path) as collection:
        write_rows(collection, 15)
        assert open_collection(path).n_rows == 6
    assert_holds(path, 6)
    assert max(shapes(path).values()) == 15
    with open_for_writing(path):
        assert {n for name, n in shapes(path).items() if not name.startswith("rejects")} == {6}
        assert {n for name, n in shapes(path).items() if name.startswith("rejects")} == {1}
    assert_holds(path, 6)
    add(path, 4)
    assert_holds(path, 10)


def fail_at_flush(monkeypatch, n):
    """Let the n-th flush, and all after it, fail as on a full disk; return the list of flushes."""
    real, flushes = os.fsync, []

    def fsync(descriptor):
        flushes.append(descriptor)
        if len(flushes) >= n:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return flushes


def test_a_disk_that_is_full_at_any_moment_leaves_what_was_committed(path, monkeypatch):
    add(path, 6)
    n, whole = 1, 0
    while not whole:
        with monkeypatch.context() as failing:
            fail_at_flush(failing, n)
            with suppress(StoreWriteError):
                add(path, 3)
        whole = open_collection(path).n_rows - 6
        assert_holds(path, 6 + whole)
        n += 7
    assert (whole, n > 15) == (3, True)
    add(path, 2)
    assert_holds(path, 11)


def test_a_store_is_made_whole_or_not_at_all(path, monkeypatch):
    for n in (1, 20):
        with monkeypatch.context() as failing:
            fail_at_flush(failing, n)
            with pytest.raises(StoreWriteError):
                add(path, 1)
        assert find_pointer(path) is None
    add(path, 1)
    assert_holds(path, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to name an open file")
def test_all_that_a_writer_leaves_behind_was_flushed_as_it_is(path, monkeypatch):
    add(path, 6, n_rejects=2)
    flushed, real = {file: version_of(file) for file in contents(path)}, os.fsync

    def fsync(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        flushed[name] = version_of(name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with open_for_writing(path) as collection:
        write_rows(collection, 9)
        collection.commit_rows(picture_columns(range(6, 9)), reject_columns([]))
        collection.make_room(5)
        collection.trim()
        collection.set_state(collection.catalog, [0, 5], GONE)
        collection.update(collection.catalog, [8], {"path": ["/y"], "mtime_ns": [1]})
        collection.remember_sources(["/x"], [], ("*",), ())
        collection.publish_fit(draft_of(collection), {"clusters": 2})
    assert [file for file in contents(path) if flushed.get(file) != version_of(file)] == []


def test_a_full_disk_is_told_with_the_way_out(path, monkeypatch):
    fail_at_flush(monkeypatch, 1)
    with pytest.raises(StoreWriteError, match="free some space"):
        add(path, 1)


def test_what_a_killed_write_left_behind_is_removed(path):
    add(path, 5)
    whole = contents(path)
    for name in ("x.partial", "pixels/c.0.0.0.0.abc.partial", "catalog/size/zarr.json.1.partial"):
        (Path(path) / name).write_bytes(b"half")
    assert_holds(path, 5)
    with open_for_writing(path):
        assert contents(path) == whole


def test_states_are_counted_and_changed(path):
    add(path, 9, n_rejects=3)
    with open_for_writing(path) as collection:
        collection.set_state(collection.catalog, [0, 4, 8], GONE)
        collection.set_state(collection.catalog, [4, 5], REPLACED)
        collection.set_state(collection.rejects, [1], REPLACED)
    collection = open_collection(path)
    counts = collection.counts()
    assert (counts.live, counts.gone, counts.replaced, counts.grouped, counts.rejected) == (5, 2, 2, 0, 2)
    assert np.flatnonzero(collection.live_rows()).tolist() == [1, 2, 3, 6, 7]


def test_sources_are_added_and_taken_away(path):
    add(path, 1)
    with open_for_writing(path) as collection:
        collection.remember_sources(["/b", "/a\udcff"], [], ("*.png",), ())
        collection.remember_sources(["/c"], ["/b"], ("*.png",), ("x",))
    collection = open_collection(path)
    assert collection.sources == ("/a\udcff", "/c")
    assert (collection.pointer.include, collection.pointer.exclude) == (("*.png",), ("x",))


# fits


def draft_of(collection, key="key", labels=(0, 1, -1, 0, 1)):
    draft = collection.draft_fit(key)
    draft.create_rows("labels", len(labels), "int32")[:] = labels
    draft.create_rows("distance", len(labels), "float32")[:] = np.arange(len(labels))
    draft.complete("labels")
    return draft


def test_a_fit_counts_once_it_is_published(path):
    add(path, 6)
    with open_for_writing(path) as collection:
        draft = draft_of(collection)
        reader = open_collection(path)
        assert (reader.current_fit, reader.fits(), reader.counts().grouped) == (None, [], 0)
        with pytest.raises(FitNotFoundError, match="no fit yet"):
            reader.fit()
        with pytest.raises(FitNotFoundError):
            reader.fit(draft.name)
        collection.publish_fit(draft, {"inertia": 2.5})
        collection.set_state(collection.catalog, [1], GONE)
    reader = open_collection(path)
    assert (reader.current_fit, reader.fits(), reader.fit().attributes["inertia"]) == ("0001", ["0001"], 2.5)
    assert reader.fit().labels().tolist() == [0, 1, -1, 0, 1]
    assert [(p.row, p.cluster, p.distance, p.source, p.size, p.width) for p in reader.grouped_pictures()] == [
        (row, cluster, row, f"/x/{row}%\udcff.png", 1000 + row, 100 + row) for row, cluster in ((0, 0), (3, 0), (4, 1))
    ]
    assert reader.counts().grouped == 3
    with pytest.raises(FitNotFoundError, match="0007"):
        reader.fit("0007")


def test_a_draft_goes_on_for_the_same_key_and_begins_anew_for_another(path):
    add(path, 5)
    with open_for_writing(path) as collection:
        draft_of(collection)
    with open_for_writing(path) as collection:
        draft = collection.draft_fit("key")
        assert (draft.name, draft.has("labels"), draft.has("other")) == ("0001", True, False)
        assert draft.array("labels")[:].tolist() == [0, 1, -1, 0, 1]
        other = collection.draft_fit("another key")
        assert (other.name, other.has("labels")) == ("0001", False)
        with pytest.raises(StoreFormatError):
            other.array("labels")


def test_a_published_fit_is_never_drafted_again(path):
    add(path, 5)
    with open_for_writing(path) as collection:
        collection.publish_fit(draft_of(collection), {})
        before = contents(os.path.join(path, "fits", "0001"))
        second = draft_of(collection, labels=(1, 1, 1, 1, 1))
        assert open_collection(path).fit().labels().tolist() == [0, 1, -1, 0, 1]
        collection.publish_fit(second, {})
    assert open_collection(path).fits() == ["0001", "0002"]
    assert contents(os.path.join(path, "fits", "0001")) == before
    assert open_collection(path).fit("0001").labels().tolist() == [0, 1, -1, 0, 1]


@pytest.mark.parametrize("damage", [None, "", "{"])
def test_a_damaged_draft_is_made_again(path, damage):
    add(path, 5)
    with open_for_writing(path) as collection:
        draft_of(collection)
    described = Path(path) / "fits" / "0001" / "zarr.json"
    described.unlink() if damage is None else described.write_text(damage)
    with open_for_writing(path) as collection:
        assert not collection.draft_fit("key").has("labels")
        collection.publish_fit(draft_of(collection), {})
    assert open_collection(path).fit().labels().tolist() == [0, 1, -1, 0, 1]


# what is refused


def make_plain_folder(path):
    os.mkdir(path)
    (Path(path) / "precious.txt").write_text("mine")


def make_file(path):
    Path(path).write_text("mine")


def make_foreign_group(path):
    zarr.open_group(path, mode="w", zarr_format=3).create_array("pixels", shape=(3,), dtype="uint8")


def make_old_group(path):
    zarr.open_group(path, mode="w", zarr_format=2)


def make_array(path):
    zarr.create_array(path, shape=(3,), dtype="uint8")


def make_newer_store(path):
    add(path, 2)
    group = zarr.open_group(path, mode="r+")
    group.attrs["streamcluster"] = {**group.attrs["streamcluster"], "format": 2, "unheard": "of"}


def make_store_without_pixels(path):
    add(path, 2)
    os.rename(os.path.join(path, "pixels"), os.path.join(path, "pixels.bak"))


def make_store_without_a_description(path):
    add(path, 2)
    (Path(path) / "zarr.json").write_text("")


MAKERS = [make_plain_folder, make_file, make_foreign_group, make_old_group, make_array]
MAKERS += [make_newer_store, make_store_without_pixels, make_store_without_a_description]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_no_store_is_refused_and_left_as_it_is(path, make):
    make(path)
    before = contents(path) or Path(path).read_bytes()
    assert not is_free(path)
    with pytest.raises(StoreFormatError):
        open_collection(path)
    with pytest.raises(StoreFormatError), open_for_writing(path, create=LAYOUT):
        pass
    assert (contents(path) or Path(path).read_bytes()) == before


def test_a_newer_format_is_told_from_a_foreign_one(path):
    make_newer_store(path)
    with pytest.raises(StoreFormatError, match=r"format 2.*upgrade"):
        open_collection(path)


def test_nothing_is_opened_where_nothing_is(path, tmp_path):
    with pytest.raises(StoreNotFoundError):
        open_collection(path)
    with pytest.raises(StoreNotFoundError), open_for_writing(path):
        pass
    assert os.listdir(tmp_path) == []


def test_an_empty_folder_and_missing_parents_are_fine_for_a_new_store(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    for path in (tmp_path / "empty.zarr", tmp_path / "x" / "y" / "new.zarr"):
        assert find_pointer(str(path)) is None
        add(str(path), 2)
        assert_holds(str(path), 2)


def test_a_store_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError), open_for_writing(str(tmp_path / "file" / "a.zarr"), create=LAYOUT):
        pass


# one writer


@pytest.fixture
def held_elsewhere(path):
    """The path of a store of 5 pictures that another process writes to, and that process."""
    add(path, 5)
    code = (
        "import sys\nfrom streamcluster.store.collection import open_for_writing\n"
        "with open_for_writing(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, path], text=True, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        yield path, other
        other.kill()


def test_a_second_writer_is_refused_and_told_who_the_first_is(held_elsewhere):
    path, other = held_elsewhere
    with pytest.raises(StoreBusyError, match=f"process {other.pid} "), open_for_writing(path):
        pass
    other.kill()
    other.wait()
    add(path, 1)
    assert_holds(path, 6)


def test_readers_need_no_lock(held_elsewhere):
    assert_holds(held_elsewhere[0], 5)


@posix_only
def test_a_link_to_a_store_shares_its_lock(held_elsewhere, tmp_path):
    path, _ = held_elsewhere
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.zarr").symlink_to(path)
    (tmp_path / "parent").symlink_to(tmp_path)
    for link in (tmp_path / "links" / "a.zarr", tmp_path / "parent" / "a.zarr"):
        with pytest.raises(StoreBusyError), open_for_writing(str(link)):
            pass
    assert os.listdir(tmp_path / "links") == ["a.zarr"]


@posix_only
def test_a_store_may_be_made_where_a_link_leads(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.zarr").mkdir()
    (tmp_path / "a.zarr").symlink_to(tmp_path / "disk" / "real.zarr")
    add(str(tmp_path / "a.zarr"), 3)
    assert_holds(str(tmp_path / "disk" / "real.zarr"), 3)
    assert (tmp_path / "a.zarr").is_symlink()


def test_one_who_holds_the_store_may_open_it_for_writing(path):
    with exclusive_store(path):
        add(path, 2)
        add(path, 2)
        assert os.path.exists(path + ".lock.holder")
    assert_holds(path, 4)
    assert not os.path.exists(path + ".lock.holder")


def test_a_block_is_the_chunk_that_zarr_would_write(tmp_path):
    rng = np.random.default_rng(5)
    with open_for_writing(str(tmp_path / "s.zarr"), create=StoreDefaults(image_size=8)) as collection:
        rows = collection.pointer.block_rows + 3
        thumbnails = rng.integers(0, 7, (rows, 8, 8, 3), np.uint8)
        collection.make_room(rows)
        for start in (0, collection.pointer.block_rows):
            collection.write_block(start, thumbnails[start : start + collection.pointer.block_rows])
    pixels = zarr.open_group(str(tmp_path / "s.zarr"))["pixels"]
    np.testing.assert_array_equal(pixels[:rows], thumbnails)
    written = {path.name: path.read_bytes() for path in (tmp_path / "s.zarr" / "pixels").glob("c.*")}
    pixels[:rows] = thumbnails
    assert {path.name: path.read_bytes() for path in (tmp_path / "s.zarr" / "pixels").glob("c.*")} == written
