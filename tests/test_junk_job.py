"""Junk and marks, the jobs and the commands: what is found is in the store, and counts until something is new."""

import os
import shutil

import numpy as np
import pytest
from pictures import Pictures, pointer_of
from typer.testing import CliRunner

import streamcluster as sc
from streamcluster.cli import app
from streamcluster.errors import (
    BudgetError,
    FitNotFoundError,
    Interrupted,
    NoPicturesError,
    SettingsError,
    SourceNotFoundError,
    UnknownPictureError,
)
from streamcluster.runtime.progress import Progress

N = 24


def make_store(folder, store, n=N, clusters=3, key=lambda i: i):
    pictures = Pictures(folder)
    for i in range(n):
        pictures.write(f"{i:02d}.png", key(i))
    sc.ingest(sc.IngestSettings(sources=(str(folder),), store=str(store), image_size=16))
    sc.fit(sc.FitSettings(store=str(store), clusters=clusters))
    return pictures


@pytest.fixture
def store(tmp_path):
    make_store(tmp_path / "in", tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def look(store, progress=None, **settings):
    return sc.junk(sc.JunkSettings(store=str(store), **settings), progress=progress)


def mark(store, **paths):
    given = {kind: tuple(str(store.parent / "in" / name) for name in names) for kind, names in paths.items()}
    return sc.mark(sc.MarkSettings(store=str(store), **given))


def score_of(store):
    """Map names to scores."""
    collection = sc.open_collection(str(store))
    scores = collection.findings("junk").array("score").tolist()
    paths = collection.catalog.column("path")
    return {str(path).rpartition("/")[2]: score for path, score in zip(paths, scores, strict=True)}


def names(start, stop):
    return [f"{i:02d}.png" for i in range(start, stop)]


def test_files_of_the_same_bytes_have_the_same_score(store):
    source = store.parent / "in"
    for name in names(0, 20):
        shutil.copy(source / name, source / f"copy-{name}")
    sc.ingest(sc.IngestSettings(sources=(str(source),), store=str(store)))
    sc.fit(sc.FitSettings(store=str(store), clusters=3))
    look(store)
    scores = score_of(store)
    assert [scores[f"copy-{name}"] for name in names(0, 20)] == [scores[name] for name in names(0, 20)]


def test_scores_are_shares_and_in_the_store(store):
    report = look(store, threshold=0.5)
    assert (report.up_to_date, report.learned, report.pictures, report.fit) == (False, False, N, "0001")
    scores = list(score_of(store).values())
    assert sorted(scores) == pytest.approx(np.sort(scores))
    assert report.suspects == sum(score > 0.5 for score in scores)
    assert list(report.likeliest.values()) == sorted(report.likeliest.values(), reverse=True)
    found = sc.open_collection(str(store)).findings("junk")
    assert len(found.array("cluster_score")) == 3
    assert found.array("flags").dtype == np.uint16
    assert sum(group.pictures for group in report.groups) == N


def test_it_is_up_to_date_until_fit_marks_or_pictures_change(store):
    first = look(store)
    again = look(store)
    assert (first.up_to_date, again.up_to_date) == (False, True)
    assert again.likeliest == first.likeliest
    before = score_of(store)
    other = look(store, threshold=0.3)
    assert (other.up_to_date, other.threshold) == (True, 0.3)
    assert score_of(store) == before
    mark(store, junk=["00.png"])
    assert not look(store).up_to_date
    (store.parent / "in" / "05.png").unlink()
    sc.ingest(sc.IngestSettings(sources=(str(store.parent / "in"),), store=str(store)))
    less = look(store)
    assert (less.up_to_date, less.pictures) == (False, N - 1)
    assert np.isnan(score_of(store)["05.png"])
    sc.fit(sc.FitSettings(store=str(store), clusters=2))
    assert not look(store).up_to_date


def test_marks_that_were_taken_back_leave_nothing_to_do(store):
    def outdated():
        return sc.status(sc.StatusSettings(store=str(store))).outdated

    look(store)
    mark(store, junk=["00.png"])
    assert outdated() == {"junk": "marks changed since"}
    mark(store, forget=["00.png"])
    assert look(store).up_to_date
    assert outdated() == {}


def test_pictures_that_wait_for_fit_have_no_score(store):
    Pictures(store.parent / "in").write("new.png", 999)
    sc.ingest(sc.IngestSettings(sources=(str(store.parent / "in"),), store=str(store)))
    report = look(store)
    assert (report.pictures, report.waiting) == (N, 1)
    assert np.isnan(score_of(store)["new.png"])


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same(store, workers):
    mark(store, junk=names(0, 4), keep=names(10, 14))
    look(store, workers=2)
    expected = score_of(store)
    mark(store, junk=["05.png"])
    look(store)
    mark(store, forget=["05.png"])
    assert not look(store, workers=workers).up_to_date
    assert score_of(store) == expected


@pytest.mark.parametrize("features", ["rgb", "texture", "mixed"])
def test_a_fit_may_compare_something_else(store, features):
    sc.fit(sc.FitSettings(store=str(store), clusters=3, features=features))
    assert look(store).pictures == N


def test_pictures_that_are_all_alike_are_no_suspects(tmp_path):
    make_store(tmp_path / "in", tmp_path / "s.zarr", n=5, clusters=1, key=lambda i: 0)
    assert look(tmp_path / "s.zarr").suspects == 0


def test_one_group_and_fewer_rows_than_neighbours(tmp_path):
    make_store(tmp_path / "in", tmp_path / "s.zarr", n=3, clusters=1)
    report = look(tmp_path / "s.zarr")
    assert (report.pictures, len(report.groups)) == (3, 1)


def test_what_cannot_be_scored_is_told(store, tmp_path):
    with pytest.raises(BudgetError, match="--memory"):
        look(store, memory="64MiB")
    folder = tmp_path / "other"
    pictures = Pictures(folder)
    pictures.write("a.png", 1)
    settings = sc.IngestSettings(sources=(str(folder),), store=str(tmp_path / "t.zarr"), allow_gone=True)
    sc.ingest(settings)
    with pytest.raises(FitNotFoundError, match="streamcluster fit"):
        look(tmp_path / "t.zarr")
    pictures.remove("a.png")
    with pytest.raises(NoPicturesError):
        sc.ingest(settings)
    with pytest.raises(NoPicturesError):
        look(tmp_path / "t.zarr")


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stop_leaves_what_was_known(store, stage):
    look(store)
    mark(store, junk=["00.png"])
    before = pointer_of(store)

    class Stopping(Progress):
        stages = 0

        def begin(self, name, total, unit):
            self.stages += 1
            if self.stages > stage:
                self.stop_signal = 2

    with pytest.raises(Interrupted):
        look(store, Stopping())
    assert pointer_of(store) == before
    assert not look(store).up_to_date


def test_marks_of_both_kinds_decide(store):
    mark(store, junk=names(0, 2), keep=names(10, 14))
    few = look(store)
    assert (few.learned, few.threshold, few.junk_marks, few.keep_marks) == (False, 0.95, 2, 4)
    mark(store, junk=names(2, 4))
    report = look(store)
    assert (report.learned, report.threshold) == (True, 0.5)
    scores = score_of(store)
    assert [scores[name] for name in names(0, 4)] == [1] * 4
    assert [scores[name] for name in names(10, 14)] == [0] * 4
    assert all(0 <= score <= 1 for score in scores.values())


def test_groups_follow_marks(store):
    labels = sc.open_collection(str(store)).fit().labels()
    stored = [str(path).rpartition("/")[2] for path in sc.open_collection(str(store)).catalog.column("path")]
    for bad in range(3):
        kinds = {kind: [stored[row] for row in np.flatnonzero((labels == bad) == kind)] for kind in (True, False)}
        mark(store, junk=kinds[True], keep=kinds[False])
        report = look(store)
        assert report.groups[0].cluster == bad
        expected = [float(group == bad) for group in range(3)]
        assert sc.open_collection(str(store)).findings("junk").array("cluster_score").tolist() == expected
        mark(store, forget=kinds[True][1:] + kinds[False][1:])


def test_the_summary_says_what_scores_of_groups_are(store):
    command = ["junk", "--store", str(store)]
    assert "unlike the rest:" in CliRunner().invoke(app, command).output
    mark(store, junk=names(0, 4), keep=names(10, 14))
    learned = CliRunner().invoke(app, command).output
    assert "unlike the rest" not in learned
    assert "share of junk to expect:" in learned


def test_a_later_mark_wins_and_is_taken_back(store):
    report = mark(store, junk=names(0, 3))
    assert (report.junk, report.junk_marks, report.keep_marks) == (3, 3, 0)
    report = mark(store, keep=["00.png"])
    assert (report.junk_marks, report.keep_marks) == (2, 1)
    report = mark(store, forget=names(0, 2), keep=["09.png"])
    assert (report.forgotten, report.junk_marks, report.keep_marks) == (2, 1, 1)
    report = mark(store, forget=["02.png", "09.png"])
    assert (report.forgotten, report.junk_marks, report.keep_marks) == (2, 0, 0)
    assert mark(store, forget=["02.png"]).forgotten == 0


def test_copies_in_folders_and_lists_are_recognised(store, tmp_path):
    sorted_out = tmp_path / "sorted" / "deeper"
    sorted_out.mkdir(parents=True)
    hard = os.fsdecode(b"b\xff d.png") if os.name == "posix" else "b d.png"
    shutil.copy(tmp_path / "in" / "01.png", sorted_out / hard)
    os.symlink(tmp_path / "in" / "02.png", sorted_out / "link.png")
    (sorted_out / "note.md").write_text("not a picture")
    (tmp_path / "list.txt").write_bytes(b"in/03.png\r\n\n" + os.fsencode(sorted_out / hard) + b"\n")
    settings = sc.MarkSettings(
        store=str(store), junk=(str(tmp_path / "sorted"),), keep=(str(tmp_path / "in" / "04.png"),)
    )
    assert (sc.mark(settings).junk_marks, sc.mark(settings).keep_marks) == (2, 1)
    assert sc.mark(sc.MarkSettings(store=str(store), junk=(str(tmp_path / "list.txt"),))).junk_marks == 3


def test_the_folders_of_an_export_are_marked(store, tmp_path):
    sc.export(sc.ExportSettings(store=str(store), dest=str(tmp_path / "out")))
    report = sc.mark(
        sc.MarkSettings(
            store=str(store), junk=(str(tmp_path / "out" / "cluster_00"),), keep=(str(tmp_path / "out" / "cluster_01"),)
        )
    )
    sizes = [len(list((tmp_path / "out" / f"cluster_0{i}").glob("*.png"))) for i in range(2)]
    assert [report.junk_marks, report.keep_marks] == sizes
    assert sc.mark(sc.MarkSettings(store=str(store), keep=(str(tmp_path / "out"),))).keep_marks == N


def test_bad_marks_are_refused_and_nothing_is_stored(store, tmp_path):
    before = pointer_of(store)
    stranger = Pictures(tmp_path / "else")
    for i in range(5):
        stranger.write(f"{i}.png", 1000 + i)
    with pytest.raises(UnknownPictureError, match=r"5 pictures .*0\.png.* and 2 more"):
        sc.mark(sc.MarkSettings(store=str(store), junk=(str(tmp_path / "else"), str(tmp_path / "in" / "00.png"))))
    with pytest.raises(SourceNotFoundError, match="no such"):
        mark(store, junk=["00.png"], keep=["nowhere.png"])
    with pytest.raises(SettingsError, match="cannot read this list"):
        mark(store, junk=["nowhere.txt"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    for nothing in ("empty", "empty.txt"):
        with pytest.raises(SourceNotFoundError, match="no picture"):
            sc.mark(sc.MarkSettings(store=str(store), junk=(str(tmp_path / nothing),)))
    if hasattr(os, "mkfifo"):
        for name in ("pipe", "pipe.txt"):
            os.mkfifo(tmp_path / name)
            with pytest.raises(SourceNotFoundError, match="no file and no folder"):
                sc.mark(sc.MarkSettings(store=str(store), junk=(str(tmp_path / name),)))
    with pytest.raises(SettingsError, match="both"):
        mark(store, junk=["00.png"], keep=names(0, 2))
    with pytest.raises(SettingsError, match="nothing to mark"):
        sc.MarkSettings(store=str(store))
    assert pointer_of(store) == before


def test_the_command_takes_what_a_shell_writes_out(store):
    paths = [str(store.parent / "in" / name) for name in names(0, 5)]
    done = CliRunner().invoke(
        app, ["mark", "--junk", *paths[:2], "--keep", *paths[2:5], "--store", str(store), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert '"junk_marks": 2, "keep_marks": 3' in done.output
