"""ingest on real files: the store always is what the folders hold, whatever happened to them in between."""

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streamcluster.config import IngestSettings, StatusSettings
from streamcluster.console import summarize
from streamcluster.errors import (
    BudgetError,
    Interrupted,
    NoPicturesError,
    SettingsConflictError,
    SettingsError,
    SourceError,
    SourceNotFoundError,
    SourceVanishedError,
    StoreFormatError,
)
from streamcluster.jobs import intake
from streamcluster.jobs.ingest import ingest
from streamcluster.jobs.status import status
from streamcluster.runtime.paths import decode_path
from streamcluster.runtime.progress import Progress
from streamcluster.sources import decode
from streamcluster.sources import read as read_module
from streamcluster.store import collection as collection_module
from streamcluster.store import table as table_module
from streamcluster.store.collection import open_collection

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="other systems want names to be text")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="open files are moved and removed")
SIDE = 8


def make_everything_small(monkeypatch):
    """Let a dozen pictures cross the borders of parts, blocks, chunks and commits."""
    monkeypatch.setattr(collection_module, "BLOCK_BYTES", 4 * 3 * SIDE * SIDE)
    monkeypatch.setattr(table_module, "COLUMN_ROWS", 4)
    monkeypatch.setattr(read_module, "PART_FILES", 2)
    monkeypatch.setattr(intake, "COMMIT_FILES", 3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    make_everything_small(monkeypatch)


def colour_of(key):
    return np.random.default_rng(key).integers(0, 256, 3, dtype=np.uint8)


def picture(key, side=8):
    """Return the PNG of one colour, another one for each key; many have the same number of bytes."""
    pixels = np.broadcast_to(colour_of(key)[::-1], (side, side, 3))
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()


def junk(key):
    return b"no picture %d" % key


class Folder:
    """A folder whose files have times of their own, so that no change goes unseen."""

    def __init__(self, path):
        self.path = Path(path)
        self.ticks = 0

    def put(self, name, content):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.touch(name)

    def touch(self, name):
        self.ticks += 1
        os.utime(self.path / name, ns=(0, 1_600_000_000_000_000_000 + self.ticks * 1_000_000_007))

    def move(self, old, new):
        (self.path / new).parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path / old, self.path / new)


@pytest.fixture
def folder(tmp_path):
    """A folder of eleven pictures and two that are none."""
    folder = Folder(tmp_path / "pictures")
    for i in range(11):
        folder.put(f"{'abc'[i % 3]}/{i}.png", picture(i))
    folder.put("a/junk.png", junk(0))
    folder.put("junk.jpg", junk(1))
    return folder


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "a.zarr")


def run(store, *folders, progress=None, **changes):
    sources = tuple(str(getattr(folder, "path", folder)) for folder in folders)
    new = {} if os.path.exists(store) else {"image_size": SIDE}
    return ingest(
        IngestSettings(**{"sources": sources, "store": store, "workers": 2, **new, **changes}), progress=progress
    )


def bytes_of(store):
    return {str(file.relative_to(store)): file.read_bytes() for file in Path(store).rglob("*") if file.is_file()}


def arrays_of(store):
    group = zarr.open_group(Path(store), mode="r")
    arrays = {name: node[:] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    return arrays | {"pointer": group.attrs["streamcluster"]}


def assert_same_arrays(store, other):
    one, two = arrays_of(store), arrays_of(other)
    assert one.keys() == two.keys()
    assert one.pop("pointer") == two.pop("pointer")
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)


def live_rows(table, *names):
    """Return {path: values} of the live rows, each path once."""
    rows = [(decode_path(path), *rest) for _, path, state, *rest in table.records("path", "state", *names) if not state]
    assert max(Counter(path for path, *_ in rows).values(), default=1) == 1
    return {path: tuple(rest) for path, *rest in rows}


def files_below(folder):
    """Return {path: (size, mtime_ns, content)}."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def assert_store_is(store, folder):
    """Check that the live rows are the readable files below a folder, and the live rejects the others."""
    files = files_below(getattr(folder, "path", folder))
    readable = {path: file for path, file in files.items() if file[2].startswith(b"\x89PNG")}
    collection = open_collection(store)
    live = live_rows(collection.catalog, "size", "mtime_ns", "digest", "width")
    assert live.keys() == readable.keys()
    for path, (size, mtime_ns, content) in readable.items():
        assert live[path][:2] == (size, mtime_ns)
        assert live[path][2].tobytes() == hashlib.sha256(content).digest()
    rows = {decode_path(path): row for row, path, state in collection.catalog.records("path", "state") if not state}
    for path, (_, _, content) in readable.items():
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[0, 0, ::-1]
        thumbnail = collection.thumbnails(slice(rows[path], rows[path] + 1))[0]
        np.testing.assert_array_equal(thumbnail, np.broadcast_to(pixels, (SIDE, SIDE, 3)))
    rejects = live_rows(collection.rejects, "size", "mtime_ns")
    assert rejects == {path: file[:2] for path, file in files.items() if path not in readable}


def assert_adds_up(report):
    parts = (report.unchanged, report.moved, report.new, report.changed, report.rejected, report.postponed)
    assert report.found == sum(parts)


# anything that may happen between two runs

PATHS = [f"{folder}/{name}.png" for folder in ("a", "b/c") for name in "wxyz"]
PLACES = st.sampled_from(PATHS)
KEYS = st.integers(0, 5)


class Collecting(RuleBasedStateMachine):
    """A person changes files at random; after each run the store is what the folder holds."""

    @initialize()
    def begin(self):
        self.root = Path(tempfile.mkdtemp())
        self.monkeypatch = pytest.MonkeyPatch()
        make_everything_small(self.monkeypatch)
        self.monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        self.folder = Folder(self.root / "pictures")
        self.folder.path.mkdir()
        self.store = str(self.root / "a.zarr")
        self.away = {}

    def teardown(self):
        if hasattr(self, "root"):
            self.monkeypatch.undo()
            shutil.rmtree(self.root)

    def there(self):
        return [name for name in PATHS if (self.folder.path / name).exists()]

    @rule(name=PLACES, key=KEYS)
    def add_or_change(self, name, key):
        self.folder.put(name, picture(key))

    @rule(name=PLACES, key=KEYS)
    def add_or_replace_by_junk(self, name, key):
        self.folder.put(name, junk(key))

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def touch(self, data):
        self.folder.touch(data.draw(st.sampled_from(self.there())))

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def delete(self, data):
        (self.folder.path / data.draw(st.sampled_from(self.there()))).unlink()

    @precondition(lambda self: self.there())
    @rule(data=st.data(), new=PLACES)
    def move(self, data, new):
        self.folder.move(data.draw(st.sampled_from(self.there())), new)

    @precondition(lambda self: self.there())
    @rule(data=st.data(), new=PLACES)
    def copy(self, data, new):
        self.folder.put(new, (self.folder.path / data.draw(st.sampled_from(self.there()))).read_bytes())

    @precondition(lambda self: len(self.there()) > 1)
    @rule(data=st.data())
    def swap(self, data):
        one, other = data.draw(st.permutations(self.there()))[:2]
        self.folder.move(one, "swapping~")
        self.folder.move(other, one)
        self.folder.move("swapping~", other)

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def take_away(self, data):
        name = data.draw(st.sampled_from(self.there()))
        self.folder.move(name, self.root / "away" / name)
        self.away[name] = self.root / "away" / name

    @precondition(lambda self: self.away)
    @rule(data=st.data())
    def bring_back(self, data):
        name = data.draw(st.sampled_from(sorted(self.away)))
        self.folder.move(self.away.pop(name), name)

    @rule(old=st.sampled_from(["a", "b", "b/c"]), new=st.sampled_from(["a", "b/c"]))
    def rename_a_folder(self, old, new):
        if (self.folder.path / old).exists() and not (self.folder.path / new).exists() and new != f"{old}/c":
            (self.folder.path / new).parent.mkdir(exist_ok=True)
            self.folder.move(old, new)

    @rule()
    def ingest_alone(self):
        self.ingest(workers=1)

    @rule()
    def ingest_in_two_threads(self):
        self.ingest(workers=2)

    def ingest(self, workers):
        files = [file[2] for file in files_below(self.folder.path).values()]
        n_pictures = sum(content.startswith(b"\x89PNG") for content in files)
        if not n_pictures:
            with pytest.raises(NoPicturesError):
                run(self.store, self.folder, workers=workers, allow_gone=True)
            if os.path.exists(self.store):
                assert_store_is(self.store, self.folder)
            return
        report = run(self.store, self.folder, workers=workers, allow_gone=True)
        assert_store_is(self.store, self.folder)
        assert_adds_up(report)
        n_junk = len(files) - n_pictures
        assert (report.found, report.live, report.rejected, report.postponed) == (len(files), n_pictures, n_junk, 0)
        before = bytes_of(self.store)
        again = run(self.store, self.folder, workers=workers)
        assert bytes_of(self.store) == before
        assert (again.unchanged, again.rejected, again.live, again.gone) == (n_pictures, n_junk, n_pictures, 0)

    @precondition(lambda self: self.there())
    @rule(n=st.integers(1, 60))
    def ingest_is_cut_off(self, n):
        calls = []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) >= n:
                raise KeyboardInterrupt

        with self.monkeypatch.context() as cut:
            cut.setattr(os, "fsync", fsync)
            with suppress(KeyboardInterrupt, NoPicturesError):
                run(self.store, self.folder, allow_gone=True)

    @invariant()
    def nothing_counts_twice(self):
        if hasattr(self, "store") and os.path.exists(self.store):
            collection = open_collection(self.store)
            live_rows(collection.catalog)
            live_rows(collection.rejects)


@posix_only
def test_the_store_is_what_the_folder_holds_whatever_happens():
    run_state_machine_as_test(
        Collecting,
        settings=hypothesis_settings(
            max_examples=14, stateful_step_count=32, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# one thing at a time


def test_a_first_run_takes_in_every_picture(folder, store):
    report = run(store, folder)
    assert_store_is(store, folder)
    assert_adds_up(report)
    assert (report.found, report.new, report.rejected, report.live) == (13, 11, 2, 11)


def test_each_kind_of_change_is_counted_as_what_it_is(folder, store):
    run(store, folder)
    folder.put("new.png", picture(20))
    folder.put("a/0.png", picture(21))
    folder.touch("b/1.png")
    folder.move("c/2.png", "d/2.png")
    (folder.path / "a" / "3.png").unlink()
    folder.put("b/4.png", junk(5))
    folder.put("junk.jpg", picture(22))
    (folder.path / "notes.txt").write_text("mine")
    report = run(store, folder)
    (folder.path / "notes.txt").unlink()
    assert_store_is(store, folder)
    assert_adds_up(report)
    assert (report.new, report.changed, report.moved, report.gone, report.rejected) == (2, 1, 1, 1, 2)
    assert (report.unchanged, report.ignored, report.live, report.postponed) == (7, 1, 11, 0)


def test_what_is_not_looked_at_is_counted_before_a_person(folder, store):
    for name in ("noending", "readme.txt"):
        folder.put(name, picture(50))
    report = run(store, folder)
    assert (report.ignored, report.found) == (2, 13)
    assert any("2 other files" in line for line in summarize(report))


def test_a_moved_picture_keeps_its_row(folder, store):
    run(store, folder)
    row = {path: row for row, path in open_collection(store).catalog.records("path")}[str(folder.path / "a/0.png")]
    folder.move("a/0.png", "z/elsewhere.png")
    assert run(store, folder).moved == 1
    assert dict(open_collection(store).catalog.records("path"))[row] == str(folder.path / "z/elsewhere.png")
    assert open_collection(store).n_rows == 11


@pytest.mark.parametrize("onto", ["b/1.png", "junk.jpg"])
@pytest.mark.parametrize("deleted_before", [False, True])
def test_a_picture_moved_onto_a_known_path_takes_its_place(folder, store, onto, deleted_before):
    run(store, folder)
    if deleted_before:
        (folder.path / onto).unlink()
        run(store, folder)
    folder.move("a/0.png", onto)
    report = run(store, folder)
    assert_store_is(store, folder)
    assert_adds_up(report)
    assert (report.moved, report.new, report.changed, report.gone) == (1, 0, 0, 0)


def test_pictures_that_change_places_are_each_found_at_their_new_one(folder, store):
    run(store, folder)
    for old, new in (("a/0.png", "x~"), ("b/1.png", "a/0.png"), ("c/2.png", "b/1.png"), ("x~", "c/2.png")):
        folder.move(old, new)
    assert_adds_up(run(store, folder))
    assert_store_is(store, folder)


def test_two_sources_make_one_collection_and_each_may_be_ingested_alone(tmp_path, store):
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    for i in range(4):
        one.put(f"{i}.png", picture(i))
        two.put(f"{i}.png", picture(10 + i))
    run(store, one, two)
    (two.path / "0.png").unlink()
    one.put("new.png", picture(30))
    assert (run(store, one).live, run(store, two).live) == (9, 8)
    assert open_collection(store).sources == (str(one.path), str(two.path))


# read errors


def test_a_read_error_is_no_reject_and_the_next_run_reads_the_file(folder, store, monkeypatch):
    real = os.open
    for number in (errno.EACCES, errno.EIO):

        def fails(path, *arguments, number=number, **named):
            if str(path).endswith("0.png"):
                raise OSError(number, os.strerror(number))
            return real(path, *arguments, **named)

        with monkeypatch.context() as failing:
            failing.setattr(os, "open", fails)
            report = run(store, folder)
        assert_adds_up(report)
        assert report.postponed_files == {
            str(folder.path / name): os.strerror(number) for name in ("a/0.png", "b/10.png")
        }
        assert (report.postponed, report.rejected, report.live) == (2, 2, 9)
    assert run(store, folder).new == 2
    assert_store_is(store, folder)


def test_a_known_picture_that_cannot_be_read_any_more_stays_as_it_was(folder, store, monkeypatch):
    run(store, folder)
    before = bytes_of(store)
    folder.put("a/0.png", picture(40))
    real = os.open

    def fails(path, *arguments, **named):
        if str(path).endswith("a/0.png"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **named)

    with monkeypatch.context() as failing:
        failing.setattr(os, "open", fails)
        assert run(store, folder).postponed == 1
    assert bytes_of(store) == before
    assert run(store, folder).changed == 1
    assert_store_is(store, folder)


@posix_only
def test_a_file_that_changes_while_it_is_read_is_read_again_by_the_next_run(folder, store, monkeypatch):
    small, large = folder.path / "c" / "2.png", folder.path / "a" / "0.png"

    def append(path, content):
        with path.open("ab") as end:
            end.write(content)

    def append_after(step):
        def both(*arguments):
            result = step(*arguments)
            append(small, b"more")
            append(large, b"more")
            return result

        return both

    append(large, bytes(1 << 17))
    with monkeypatch.context() as changing:
        changing.setattr(decode, "_plan", append_after(decode._plan))
        report = run(store, folder)
    assert_adds_up(report)
    assert (list(report.postponed_files), report.live) == ([str(large)], 10)
    again = run(store, folder)
    assert (again.new, again.changed) == (1, 1)
    assert_store_is(store, folder)


class Meddling(Progress):
    """Does something when a stage begins, or after so many pictures of it."""

    def __init__(self, name, act, after=0):
        super().__init__()
        self._name, self._act, self._after = name, act, after
        self._stage, self._done = "", 0

    def begin(self, name, total, unit):
        self._stage, self._done = name, 0
        self.advance(0)

    def advance(self, count):
        self._done += count
        if self._stage == self._name and self._done >= self._after:
            self._stage = ""
            self._act()


def test_a_file_that_vanishes_before_it_is_read_is_postponed_and_then_forgotten(folder, store):
    report = run(store, folder, progress=Meddling("decode", (folder.path / "a" / "0.png").unlink))
    assert_adds_up(report)
    assert (report.postponed, report.new) == (1, 10)
    assert (run(store, folder).found, run(store, folder).postponed) == (12, 0)
    assert_store_is(store, folder)


def test_a_file_that_changes_after_the_scan_is_stored_as_it_was_read(folder, store):
    run(store, folder, progress=Meddling("decode", lambda: folder.put("a/0.png", picture(50, side=16))))
    assert_store_is(store, folder)
    assert run(store, folder).unchanged == 11


def test_junk_that_is_repaired_after_the_scan_is_taken_in(folder, store):
    run(store, folder, progress=Meddling("decode", lambda: folder.put("junk.jpg", picture(51))))
    assert_store_is(store, folder)


# refusals


def refused(error, store, *folders, match=None, **changes):
    """Check that a run is refused and changes no byte of the store."""
    before = bytes_of(store)
    with pytest.raises(error, match=match):
        run(store, *folders, **changes)
    assert bytes_of(store) == before


def test_a_source_that_is_no_folder_is_refused(folder, store, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(SourceNotFoundError, store, tmp_path / "nowhere")
    refused(SourceNotFoundError, store, folder, tmp_path / "nowhere", allow_gone=True)
    refused(SourceError, store, folder.path / "a" / "0.png", match="give its folder")
    refused(NoPicturesError, store, tmp_path / "empty", match="no pictures found")
    assert not os.path.exists(store)
    run(store, folder)
    refused(SourceNotFoundError, store, tmp_path / "nowhere", allow_gone=True)


@pytest.mark.parametrize("absent", [True, False])
def test_a_known_source_that_holds_nothing_is_refused_unless_that_is_allowed(tmp_path, store, absent):
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    for i in range(8):
        one.put(f"{i}.png", picture(i))
    two.put("8.png", picture(8))
    run(store, one, two)
    if absent:
        os.rename(two.path, tmp_path / "unplugged")
    else:
        (two.path / "8.png").unlink()
    refused(SourceNotFoundError, store, one, two, match="Nothing was changed")
    report = run(store, one, two, allow_gone=True)
    assert (report.gone, report.live) == (1, 8)
    assert_store_is(store, one)
    assert open_collection(store).sources == (str(one.path), *([] if absent else [str(two.path)]))


def test_a_source_that_comes_back_after_it_was_gone_is_read_without_decoding(tmp_path, store):
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    one.put("0.png", picture(0))
    two.put("1.png", picture(1))
    run(store, one, two)
    os.rename(two.path, tmp_path / "unplugged")
    run(store, one, two, allow_gone=True)
    os.rename(tmp_path / "unplugged", two.path)
    report = run(store, one, two)
    assert (report.unchanged, report.new, report.live, open_collection(store).n_rows) == (2, 0, 2, 2)


def test_more_than_half_of_the_pictures_do_not_vanish_unless_that_is_allowed(folder, store):
    run(store, folder)
    for i in range(6):
        (folder.path / f"{'abc'[i % 3]}/{i}.png").unlink()
    refused(SourceVanishedError, store, folder, match="6 of 11")
    assert run(store, folder, allow_gone=True).gone == 6
    assert_store_is(store, folder)


def test_pictures_that_are_not_asked_for_any_more_leave_and_come_back_undecoded(folder, store):
    run(store, folder)
    report = run(store, folder, exclude=("a", "b"))
    assert (report.gone, report.left_out, report.live) == (0, 8, 3)
    assert {Path(path).parent.name for path in live_rows(open_collection(store).catalog)} == {"c"}
    again = run(store, folder, exclude=("a", "b"))
    assert (again.left_out, again.live) == (0, 3)
    report = run(store, folder)
    assert (report.new, report.live, open_collection(store).n_rows) == (0, 11, 11)
    refused(NoPicturesError, store, folder, include=("*.txt",))


def two_sources(tmp_path):
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    for i in range(3):
        one.put(f"{i}.png", picture(i))
        two.put(f"{i}.png", picture(10 + i))
    two.put("junk.png", junk(0))
    return one, two


def test_a_source_that_is_not_named_stays_until_it_is_dropped(tmp_path, store):
    one, two = two_sources(tmp_path)
    run(store, one, two)
    assert run(store, one).live == 6
    two.move("0.png", tmp_path / "one" / "moved.png")
    report = run(store, one, drop=(str(two.path),))
    assert (report.moved, report.new, report.gone, report.left_out, report.live) == (1, 0, 0, 2, 4)
    assert_store_is(store, one)
    assert open_collection(store).sources == (str(one.path),)
    before = bytes_of(store)
    run(store, one, drop=(str(two.path),))
    assert bytes_of(store) == before
    assert run(store, one, two).live == 6


def test_a_dropped_folder_that_a_source_holds_too_loses_nothing(folder, store):
    run(store, folder, folder.path / "a")
    assert run(store, folder, drop=(str(folder.path / "a"),)).live == 11
    assert open_collection(store).sources == (str(folder.path),)


def test_a_drop_that_means_nothing_is_refused(tmp_path, store):
    one, two = two_sources(tmp_path)
    refused(SourceError, store, one, drop=(str(two.path),))
    run(store, one)
    refused(SourceError, store, one, drop=(str(two.path),))
    refused(SettingsError, store, one, drop=(str(one.path),))


@pytest.mark.parametrize("change", [{"image_size": 16}, {"aspect": "pad"}, {"background": "#000000"}, {"seed": 1}])
def test_what_the_store_was_made_with_is_not_contradicted(folder, store, change):
    run(store, folder)
    refused(SettingsConflictError, store, folder, match=f"--{next(iter(change)).replace('_', '-')}", **change)
    run(store, folder, image_size=SIDE, aspect="squash", background="#ffffff", seed=0)


def test_a_budget_that_is_too_small_is_refused(folder, store):
    with pytest.raises(BudgetError, match="--memory"):
        run(store, folder, memory=1 << 20)
    run(store, folder)
    assert_store_is(store, folder)


def test_a_store_path_that_holds_something_else_is_refused(folder, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "note").write_text("mine")
    refused(StoreFormatError, str(tmp_path / "precious"), folder)


def test_no_readable_picture_tells_why_and_remembers_it(tmp_path, store):
    folder = Folder(tmp_path / "pictures")
    for i in range(3):
        folder.put(f"{i}.png", junk(i))
    folder.put("3.png", b"")
    with pytest.raises(NoPicturesError, match=r"among 4 files.*\(3\).*\(1\)"):
        run(store, folder)
    assert open_collection(store).counts().rejected == 4
    refused(NoPicturesError, store, folder, match=r"\(3\)")
    folder.put("1.png", picture(0))
    report = run(store, folder)
    assert (report.new, report.rejected, report.live) == (1, 3, 1)
    assert_store_is(store, folder)


def test_too_large_pictures_are_tried_again_and_listed_once(folder, store):
    folder.put("large.png", picture(60, side=40))
    run(store, folder, max_pixels=100)
    before = bytes_of(store)
    report = run(store, folder, max_pixels=100)
    assert (report.rejected, report.unchanged) == (3, 11)
    assert_adds_up(report)
    assert bytes_of(store) == before
    report = run(store, folder, max_pixels=1600)
    assert (report.new, report.rejected, report.live) == (1, 2, 12)
    assert_store_is(store, folder)


# the same, whoever does it and however often it is stopped


def test_one_worker_and_four_lay_down_the_same_bytes(folder, tmp_path):
    for workers in (1, 4):
        run(str(tmp_path / f"{workers}.zarr"), folder, workers=workers)
    assert bytes_of(tmp_path / "1.zarr") == bytes_of(tmp_path / "4.zarr")


def test_another_seed_lays_down_another_order(folder, tmp_path):
    for seed in (0, 1):
        run(str(tmp_path / f"{seed}.zarr"), folder, seed=seed)
    one, two = (arrays_of(str(tmp_path / f"{seed}.zarr"))["catalog/path"].tolist() for seed in (0, 1))
    assert one != two
    assert sorted(one) == sorted(two)


@pytest.mark.parametrize("after", [0, 1, 4, 8])
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(folder, tmp_path, after):
    for i in range(20, 30):
        folder.put(f"d/{i}.png", picture(i))
    whole, stopped = str(tmp_path / "whole.zarr"), str(tmp_path / "stopped.zarr")
    run(whole, folder)
    progress = Meddling("decode", lambda: setattr(progress, "stop_signal", 15), after)
    with pytest.raises(Interrupted) as interrupted:
        run(stopped, folder, progress=progress, workers=1)
    assert interrupted.value.signal_number == 15
    assert after <= open_collection(stopped).n_rows + open_collection(stopped).counts().rejected < 23
    report = run(stopped, folder)
    assert_adds_up(report)
    assert report.live == 21
    assert_same_arrays(whole, stopped)


def test_a_stop_while_changes_are_read_loses_none_of_them(folder, store):
    for i in range(40):
        folder.put(f"d/{i}.png", picture(100 + i))
    run(store, folder)
    for i in range(40):
        folder.put(f"d/{i}.png", picture(200 + i))
    progress = Meddling("decode", lambda: setattr(progress, "stop_signal", 2), 3)
    with pytest.raises(Interrupted):
        run(store, folder, progress=progress, workers=1)
    report = run(store, folder)
    assert 0 < report.changed < 40
    assert_store_is(store, folder)


# names


@linux_only
def test_names_of_any_bytes_go_all_the_way(tmp_path, store):
    folder = Folder(tmp_path / "pictures")
    names = [
        b"\xff.png",
        b"a\nb.png",
        "😀.png".encode(),
        b"n" * 251 + b".png",
        b"100%.png",
        b"%FF.png",
        b"\xc3/\xff%.png",
    ]
    for key, name in enumerate(names):
        folder.put(os.fsdecode(name), picture(key))
    folder.put(os.fsdecode(b"\xfe.png"), junk(0))
    run(store, folder)
    assert_store_is(store, folder)
    assert {
        os.path.relpath(os.fsencode(path), os.fsencode(folder.path))
        for path in live_rows(open_collection(store).catalog)
    } == set(names)
    report = run(store, folder)
    assert (report.unchanged, report.rejected) == (7, 1)


@linux_only
@pytest.mark.parametrize(
    "name", ["a b%\n😀.zarr", "a#1.zarr", "a?.zarr", "a;.zarr", "a::b.zarr", "file:a.zarr", "\ta.zarr"]
)
def test_a_store_and_a_source_may_have_any_name(tmp_path, name):
    folder = Folder(tmp_path / os.fsdecode(b"\xff source\n"))
    folder.put("0.png", picture(0))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("not the store's, although an address with # would name it")
    store = str(tmp_path / name)
    run(store, folder)
    assert_store_is(store, folder)
    assert open_collection(store).sources == (str(folder.path),)
    assert os.listdir(tmp_path / "a") == ["mine.txt"]


@posix_only
def test_a_store_inside_its_source_is_no_source(folder):
    store = str(folder.path / "a.zarr")
    run(store, folder, include=("*.png", "*.jpg", "zarr.json"))
    assert run(store, folder, include=("*.png", "*.jpg", "zarr.json")).found == 13


class StopsWhileScanning(Progress):
    """Asks for a stop when so many files were found."""

    def __init__(self, after=0):
        super().__init__()
        self._left = after

    def advance(self, count):
        self._left -= count
        if self._left <= 0:
            self.stop_signal = 15


def test_a_stop_is_noticed_while_scanning_and_where_nothing_is_new(folder, store):
    with pytest.raises(Interrupted):
        run(store, folder, progress=StopsWhileScanning())
    assert not os.path.exists(store)
    run(store, folder)
    with pytest.raises(Interrupted):
        run(store, folder, progress=StopsWhileScanning())


def test_a_stop_is_noticed_among_folders_without_a_picture(tmp_path, store, monkeypatch):
    for i in range(5):
        (tmp_path / "src" / str(i)).mkdir(parents=True)
    progress = Progress()
    listed = []

    def list_and_stop(path, scandir=os.scandir):
        progress.stop_signal = 15
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", list_and_stop)
    with pytest.raises(Interrupted):
        run(store, tmp_path / "src", progress=progress)
    assert len(listed) == 1


def test_a_run_that_finds_the_same_files_needs_only_the_scan(folder, store, monkeypatch):
    first = run(store, folder)
    with monkeypatch.context() as patch:
        patch.setattr(intake, "bring_up_to_date", lambda *_: pytest.fail("looked further"))
        again = run(store, folder)
    assert (again.found, again.unchanged, again.rejected, again.live) == (13, 11, 2, first.live)
    with pytest.raises(NoPicturesError):
        run(store, folder, include=("*.none",))
    folder.touch("b/1.png")
    assert (run(store, folder).unchanged, run(store, folder).unchanged) == (11, 11)


@pytest.mark.parametrize("n", range(1, 30, 4))
def test_a_picture_that_is_as_before_after_a_cut_off_run_is_taken_in_again(folder, store, monkeypatch, n):
    run(store, folder)
    path, before = folder.path / "a/0.png", (folder.path / "a/0.png").read_bytes()
    times = path.stat()
    folder.put("a/0.png", picture(50))
    flushed = []

    def fsync(descriptor):
        flushed.append(descriptor)
        if len(flushed) == n:
            raise KeyboardInterrupt

    with monkeypatch.context() as cut, suppress(KeyboardInterrupt):
        cut.setattr(os, "fsync", fsync)
        run(store, folder)
    path.write_bytes(before)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    run(store, folder)
    assert_store_is(store, folder)


def test_a_scan_of_a_file_that_changed_before_it_was_read_is_not_remembered(folder, store, monkeypatch):
    path, before = folder.path / "a/0.png", (folder.path / "a/0.png").read_bytes()
    times = path.stat()
    real = intake.bring_up_to_date

    def change_first(*arguments):
        folder.put("a/0.png", picture(50))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(intake, "bring_up_to_date", change_first)
        run(store, folder)
    path.write_bytes(before)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(store, folder).changed == 1
    assert_store_is(store, folder)


@pytest.mark.parametrize("how", ["moved", "touched"])
def test_a_stop_is_noticed_while_files_are_compared_and_nothing_was_changed(folder, store, monkeypatch, how):
    for i in range(30):
        folder.put(f"d/{i}.png", picture(100 + i))
    run(store, folder)
    before = bytes_of(store)
    for i in range(30):
        folder.move(f"d/{i}.png", f"e/{i}.png") if how == "moved" else folder.touch(f"d/{i}.png")
    progress = Progress()
    compared = []

    def digest_and_stop(path):
        progress.stop_signal = 15
        compared.append(path)

    monkeypatch.setattr(intake, "file_digest", digest_and_stop)
    with pytest.raises(Interrupted):
        run(store, folder, progress=progress)
    assert 0 < len(compared) < 30
    assert bytes_of(store) == before


def test_a_status_may_be_stopped(folder, store):
    run(store, folder)
    with pytest.raises(Interrupted):
        status(StatusSettings(store=store), progress=StopsWhileScanning())
