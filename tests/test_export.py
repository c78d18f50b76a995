"""The export job: what it promises to the person whose folder it works in."""

import csv
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from pictures import SIDE, Pictures
from worlds import World, check_table, check_totals

from streamcluster.config import ExportSettings, FitSettings, IngestSettings, RunSettings
from streamcluster.destination import carry
from streamcluster.errors import DestinationError, FitNotFoundError, Interrupted, StoreBusyError, StoreNotFoundError
from streamcluster.jobs.export import export
from streamcluster.jobs.fit import fit
from streamcluster.jobs.ingest import ingest
from streamcluster.jobs.run import run
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.progress import Progress

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names and links that Windows does not have")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


# --- the plain course of things


def test_pictures_go_into_their_groups_with_their_times(world):
    paths = [world.add(f"{i}.jpg", cluster=i % 3) for i in range(7)]
    before = world.sources()
    report = world.ingest().export(rejected=2, ungrouped=3)
    check_totals(report)
    assert (report.pictures, report.grouped, report.copied, report.rejected) == (12, 7, 7, 2)
    assert report.reasons == {"not yet grouped by a fit": 3}
    assert world.files() == {f"cluster_{i % 3:02d}/{i}.jpg": f"{i}.jpg".encode() for i in range(7)}
    for i, path in enumerate(paths):
        assert (world.dest / f"cluster_{i % 3:02d}" / path.name).stat().st_mtime_ns == path.stat().st_mtime_ns
    assert check_table(world) == sorted(world.files())
    assert world.sources() == before


def test_nothing_new_nothing_done(world):
    for i in range(5):
        world.add(f"{i}.jpg", cluster=i)
    world.ingest().export()
    before = {p: p.stat().st_ino for p in world.dest.rglob("*.jpg")}
    report = world.export()
    assert (report.kept, report.copied, report.moved, report.bytes_copied) == (5, 0, 0, 0)
    assert {p: p.stat().st_ino for p in world.dest.rglob("*.jpg")} == before


def test_a_picture_whose_group_changed_is_moved_and_not_copied(world):
    path = world.add("a.jpg", cluster=0)
    world.ingest().export()
    inode = (world.dest / "cluster_00/a.jpg").stat().st_ino
    world.clusters[str(path)] = 12
    report = world.ingest().export()
    assert (report.moved, report.copied, report.bytes_copied) == (1, 0, 0)
    assert world.files() == {"cluster_12/a.jpg": b"a.jpg"}
    assert (world.dest / "cluster_12/a.jpg").stat().st_ino == inode
    assert not (world.dest / "cluster_00").exists()


@pytest.mark.parametrize("cluster", [0, 1])
def test_changed_content_is_replaced(world, cluster):
    path = world.add("a.jpg")
    world.ingest().export()
    world.write(path, b"new content")
    world.clusters[str(path)] = cluster
    report = world.ingest().export()
    assert report.replaced == 1
    assert world.files() == {f"cluster_{cluster:02d}/a.jpg": b"new content"}


def test_what_is_gone_from_the_store_goes(world):
    path = world.add("a.jpg", cluster=4)
    world.add("b.jpg")
    world.ingest().export()
    world.remove(path)
    report = world.ingest().export()
    assert report.removed == 1
    assert set(world.tree()) == {"cluster_00", "cluster_00/b.jpg", "metadata.csv"}


def test_a_source_that_moved_keeps_its_file_and_its_deletion(world):
    kept, deleted = world.add("old/kept.jpg"), world.add("old/deleted.jpg")
    world.ingest().export()
    (world.dest / "cluster_00/deleted.jpg").unlink()
    world.export()
    inode = (world.dest / "cluster_00/kept.jpg").stat().st_ino
    for path in (kept, deleted):
        new = world.src / "new" / path.name
        new.parent.mkdir(exist_ok=True)
        path.rename(new)
        world.clusters[str(new)] = world.clusters.pop(str(path))
    report = world.ingest().export()
    assert world.files() == {"cluster_00/kept.jpg": b"old/kept.jpg"}
    assert (world.dest / "cluster_00/kept.jpg").stat().st_ino == inode
    assert report.reasons == {"deleted by a person": 1}
    assert list(world.table()) == [str(world.src / "new/kept.jpg")]


# --- the person


def test_deleted_stays_deleted_until_it_is_asked_for(world):
    for name in "abc":
        world.add(f"{name}.jpg")
    world.ingest().export()
    (world.dest / "cluster_00/b.jpg").unlink()
    for _ in range(2):
        report = world.export()
        check_totals(report)
        assert report.reasons == {"deleted by a person": 1}
        assert set(world.files()) == {"cluster_00/a.jpg", "cluster_00/c.jpg"} == set(check_table(world))
    report = world.export(restore=True)
    assert (report.restored, report.copied, report.set_aside) == (1, 0, 0)
    assert set(world.files()) == {f"cluster_00/{name}.jpg" for name in "abc"}


def test_deleted_stays_deleted_while_the_source_is_away(world):
    path = world.add("a.jpg")
    world.add("b.jpg")
    world.ingest().export()
    (world.dest / "cluster_00/a.jpg").unlink()
    del world.clusters[str(path)]
    world.ingest().export()
    world.clusters[str(path)] = 0
    world.ingest().export()
    assert set(world.files()) == {"cluster_00/b.jpg"}


def test_moved_by_a_person_stays_and_is_listed_there(world):
    for name in "abc":
        world.add(f"{name}.jpg", cluster=7)
    world.ingest().export()
    (world.dest / "best").mkdir()
    (world.dest / "cluster_07/a.jpg").rename(world.dest / "best/mine.jpg")
    for options in ({}, {"restore": True}, {}):
        report = world.export(**options)
        check_totals(report)
        assert (report.grouped, report.left_alone, report.copied, report.restored) == (3, 1, 0, 0)
        assert (
            set(world.files()) == {"best/mine.jpg", "cluster_07/b.jpg", "cluster_07/c.jpg"} == set(check_table(world))
        )
    (world.dest / "best/mine.jpg").rename(world.dest / "again.jpg")
    world.export()
    assert world.table()[str(world.src / "a.jpg")]["file_name"] == "again.jpg"
    (world.dest / "again.jpg").unlink()
    assert world.export().reasons == {"deleted by a person": 1}


def test_a_renamed_folder_is_the_persons_and_new_pictures_get_a_new_one(world):
    for name in "ab":
        world.add(f"{name}.jpg", cluster=7)
    world.ingest().export()
    (world.dest / "cluster_07").rename(world.dest / "alice")
    world.add("c.jpg", cluster=7)
    report = world.ingest().export()
    assert (report.grouped, report.copied, report.left_alone) == (3, 1, 2)
    assert set(world.files()) == {"alice/a.jpg", "alice/b.jpg", "cluster_07/c.jpg"} == set(check_table(world))


def test_edited_files_are_left_alone(world):
    paths = {name: world.add(f"{name}.jpg") for name in ("content", "group", "gone", "same")}
    world.ingest().export()
    for name in paths:
        (world.dest / f"cluster_00/{name}.jpg").write_bytes(b"a person's work on " + name.encode())
    world.write(paths["content"], b"new content")
    world.clusters[str(paths["group"])] = 1
    world.remove(paths["gone"])
    for options in ({}, {"restore": True}):
        report = world.ingest().export(**options)
        check_totals(report)
        assert world.files() == {f"cluster_00/{name}.jpg": b"a person's work on " + name.encode() for name in paths}
        assert report.reasons == {"edited by a person": 3}
        assert check_table(world) == []


def test_a_file_whose_time_alone_changed_is_the_persons_and_still_listed(world):
    path = world.add("a.jpg")
    world.ingest().export()
    os.utime(world.dest / "cluster_00/a.jpg", ns=(5, 5))
    world.clusters[str(path)] = 3
    report = world.ingest().export()
    assert (report.grouped, report.left_alone, report.moved) == (1, 1, 0)
    assert check_table(world) == ["cluster_00/a.jpg"]


def test_a_file_renamed_over_another_counts_for_itself(world):
    world.add("a.jpg", b"first")
    world.add("b.jpg", b"the second")
    world.ingest().export()
    os.replace(world.dest / "cluster_00/a.jpg", world.dest / "cluster_00/b.jpg")
    report = world.export()
    assert report.reasons == {"deleted by a person": 1}
    assert {source: row["file_name"] for source, row in world.table().items()} == {
        str(world.src / "a.jpg"): "cluster_00/b.jpg"
    }


def test_a_persons_file_keeps_its_name_and_ours_gets_another(world):
    path = world.add("sub/a.jpg")
    (world.dest / "cluster_00").mkdir(parents=True)
    with pytest.raises(DestinationError):
        world.ingest().export()
    shutil.rmtree(world.dest)
    world.export()
    (world.dest / "cluster_01").mkdir()
    (world.dest / "cluster_01/A.JPG").write_bytes(b"mine")
    (world.dest / "cluster_01/b.jpg").mkdir()
    world.add("b.jpg", cluster=1)
    world.clusters[str(path)] = 1
    world.ingest().export()
    ours = {row["source"]: row["file_name"] for row in world.table().values()}
    assert world.files() == {"cluster_01/A.JPG": b"mine"} | {name: world.files()[name] for name in ours.values()}
    assert ours[str(path)].startswith("cluster_01/a~")
    assert ours[str(world.src / "b.jpg")].startswith("cluster_01/b~")
    for cluster in (2, 1):
        world.clusters[str(path)] = cluster
        world.ingest().export()
        assert world.table()[str(path)]["file_name"] == ours[str(path)].replace("cluster_01", f"cluster_0{cluster}")


def test_a_table_that_a_person_edited_is_kept_aside(world):
    world.add("a.jpg")
    world.ingest().export()
    (world.dest / "metadata.csv").write_text("my labels")
    world.export()
    assert (world.dest / "metadata~edited1.csv").read_text() == "my labels"
    assert check_table(world) == ["cluster_00/a.jpg"]
    world.export()
    assert not (world.dest / "metadata~edited2.csv").exists()


def test_a_file_in_the_way_of_a_folder_is_refused_before_anything_is_done(world):
    world.add("a.jpg", cluster=0)
    world.ingest().export()
    (world.dest / "cluster_01").write_bytes(b"mine")
    world.add("b.jpg", cluster=0)
    world.add("c.jpg", cluster=1)
    before = world.tree()
    with pytest.raises(DestinationError, match="cluster_01"):
        world.ingest().export()
    assert world.tree() == before


# --- names


@posix_only
def test_names_that_are_one_on_some_system_stay_apart_and_stay(world):
    names = ["a/1.jpg", "b/1.jpg", "c/1.JPG", "caf\u00e9.png", "cafe\u0301.png", "con.jpg", "x\ny.jpg", "\udcff.jpg"]
    names += [
        "\U0001f600.png",
        "q?:.png",
        "dot.",
        "n" * 251 + ".jpg",
        "n" * 250 + "?.jpg",
        "m" * 250 + "é.jp",
        ' "q",.png',
        "r\rs.jpg",
    ]
    for name in names:
        world.add(name)
    report = world.ingest().export()
    assert report.grouped == len(names)
    check_table(world)
    files = {source: row["file_name"] for source, row in world.table().items()}
    assert sorted(world.files().values()) == sorted(name.encode("utf-8", "surrogateescape") for name in names)
    assert len({name.casefold() for name in files.values()}) == len(names)
    assert all(len(os.path.basename(name).encode()) <= 255 for name in files.values())
    assert files[str(world.src / "a/1.jpg")] == "cluster_00/1.jpg"
    shown = str(world.src / "\udcff.jpg").encode("utf-8", "backslashreplace").decode()
    assert files[shown] == "cluster_00/_.jpg"
    for path in world.clusters:
        world.clusters[path] = 5
    world.remove(world.src / "a/1.jpg")
    world.ingest().export()
    moved = {source: row["file_name"] for source, row in world.table().items()}
    assert moved == {s: f.replace("_00/", "_05/") for s, f in files.items() if not s.endswith("a/1.jpg")}


def test_two_files_of_one_name_stamp_and_folder_are_both_put(world):
    for folder in "ab":
        os.utime(world.add(f"{folder}/1.jpg", folder.encode()), ns=(7, 7))
    world.ingest().export()
    assert sorted(world.files().values()) == [b"a", b"b"]
    check_table(world)


def test_a_new_picture_takes_the_name_and_stamp_of_one_that_leaves(world):
    old = world.add("a/1.jpg", b"old")
    os.utime(old, ns=(7, 7))
    world.ingest().export()
    world.remove(old)
    os.utime(world.add("b/1.jpg", b"new"), ns=(7, 7))
    world.ingest().export()
    assert world.files() == {"cluster_00/1.jpg": b"new"}
    world.export()
    assert world.files() == {"cluster_00/1.jpg": b"new"}


# --- sources that are not what was ingested


def test_a_source_that_changed_or_vanished_since_ingest_waits(world):
    paths = [world.add(f"{i}.jpg") for i in range(4)]
    world.ingest()
    world.write(paths[0], b"changed")
    paths[1].unlink()
    report = world.export()
    check_totals(report)
    assert report.reasons == {"changed since ingest": 1, "source is missing": 1}
    assert set(world.files()) == {"cluster_00/2.jpg", "cluster_00/3.jpg"} == set(check_table(world))
    del world.clusters[str(paths[1])]
    assert world.ingest().export().copied == 1


def test_a_file_is_left_as_it_is_while_its_new_content_cannot_be_had(world):
    path = world.add("a.jpg")
    world.ingest().export()
    world.write(path, b"second")
    world.ingest()
    world.write(path, b"third one")
    report = world.export()
    check_totals(report)
    assert (report.grouped, report.replaced, report.postponed) == (1, 0, {"changed since ingest": 1})
    assert world.files() == {"cluster_00/a.jpg": b"a.jpg"}
    check_table(world)


def test_a_read_error_is_no_deletion(world, monkeypatch):
    world.add("a.jpg")
    world.add("b.jpg")
    real = open

    def failing(file, *args, **options):
        if str(file).endswith("src/a.jpg"):
            raise OSError(errno.EIO, "I/O error")
        return real(file, *args, **options)

    world.ingest()
    monkeypatch.setattr("builtins.open", failing)
    assert world.export().reasons == {"source cannot be read": 1}
    monkeypatch.undo()
    assert world.export().copied == 1


# --- modes


@posix_only
def test_links_and_changes_of_mode(world):
    path = world.add("a.jpg")
    world.ingest()
    target = world.dest / "cluster_00/a.jpg"
    for mode in ("copy", "hardlink", "symlink", "hardlink", "copy", "symlink", "copy"):
        report = world.export(mode=mode)
        assert report.replaced + report.copied == 1
        assert target.is_symlink() == (mode == "symlink")
        assert target.samefile(path) == (mode != "copy")
        assert not list(world.dest.rglob(".streamcluster-tmp*"))
        assert world.export(mode=mode).kept == 1
        check_table(world)


@posix_only
@pytest.mark.parametrize("mode", ["hardlink", "symlink"])
def test_links_follow_their_source_and_the_person(world, mode):
    paths = [world.add(f"{i}.jpg") for i in range(4)]
    world.ingest().export(mode=mode)
    paths[0].write_bytes(b"edited in place")
    world.clusters[str(paths[1])] = 1
    (world.dest / "cluster_00/2.jpg").rename(world.dest / "mine.jpg")
    (world.dest / "cluster_00/3.jpg").unlink()
    report = world.ingest().export(mode=mode)
    check_totals(report)
    assert report.reasons == {"deleted by a person": 1}
    assert world.files() == {"cluster_00/0.jpg": b"edited in place", "cluster_01/1.jpg": b"1.jpg", "mine.jpg": b"2.jpg"}
    assert set(check_table(world)) == set(world.files())
    assert world.export(mode=mode).kept == 2
    assert all((world.dest / name).samefile(world.src / f"{i}.jpg") for i, name in enumerate(sorted(world.files())))


@posix_only
def test_a_symlink_to_a_source_that_moved_leads_to_its_new_place(world):
    path = world.add("old/a.jpg")
    world.ingest().export(mode="symlink")
    (world.src / "new").mkdir()
    path.rename(world.src / "new/a.jpg")
    world.clusters = {str(world.src / "new/a.jpg"): 0}
    world.ingest().export(mode="symlink")
    assert world.files() == {"cluster_00/a.jpg": b"old/a.jpg"}


@pytest.mark.parametrize(("mode", "call"), [("hardlink", "link"), ("symlink", "symlink")])
def test_links_that_are_not_allowed_are_refused_up_front(world, monkeypatch, mode, call):
    def refuse(*args, **options):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    world.add("a.jpg")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(DestinationError, match="--mode copy"):
        world.ingest().export(mode=mode)
    assert world.tree() == {}
    assert world.export().copied == 1


# --- refusals


def test_destinations_that_are_refused(world, tmp_path):
    world.add("deep/a.jpg")
    world.ingest()
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    for dest in ("file", "full", "s.zarr", "s.zarr/sub", "", "src", "src/deep"):
        before = sorted(tmp_path.rglob("*"))
        for options in ({}, {"dry_run": True}):
            with pytest.raises(DestinationError):
                world.export(dest=tmp_path / dest, **options)
        assert sorted(tmp_path.rglob("*")) == before
    assert world.export(dest=tmp_path / "src/grouped").copied == 1
    assert world.export(dest=tmp_path / "new/parents/dest").copied == 1


def test_an_empty_folder_is_taken_and_left_there_by_undo(world):
    world.add("a.jpg")
    world.dest.mkdir()
    world.ingest().export()
    world.export(undo=True)
    assert list(world.dest.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"nonsense\n", b'{"kind":"streamcluster export","format":99}\n'])
def test_a_damaged_or_newer_manifest_is_refused(world, damage):
    world.add("a.jpg")
    world.ingest().export()
    (world.dest / ".streamcluster/manifest.jsonl").write_bytes(damage)
    before = world.tree()
    for options in ({}, {"undo": True}):
        with pytest.raises(DestinationError):
            world.export(**options)
    assert world.tree() == before


@pytest.mark.parametrize("name", ["manifest.jsonl", "journal.jsonl"])
def test_records_that_cannot_be_read_are_refused(world, name):
    world.add("a.jpg")
    world.ingest().export()
    path = world.dest / ".streamcluster" / name
    path.unlink(missing_ok=True)
    path.mkdir()
    before = world.tree()
    for options in ({}, {"undo": True}, {"dry_run": True}):
        with pytest.raises(DestinationError, match=name):
            world.export(**options)
    assert world.tree() == before


def test_a_manifest_that_lost_its_tail_is_refused(world):
    for name in "ab":
        world.add(name)
    world.ingest().export()
    manifest = world.dest / ".streamcluster/manifest.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(DestinationError, match="damaged"):
        world.export()


def test_too_little_space_is_said_before_the_first_copy(world, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    world.add("a.jpg", b"x" * 1000)
    with pytest.raises(DestinationError, match="free"):
        world.ingest().export()
    assert world.tree() == {}
    if sys.platform != "win32":
        assert world.export(mode="hardlink").copied == 1


def test_a_folder_that_cannot_be_listed_is_no_deletion(world, monkeypatch):
    world.add("a.jpg")
    world.ingest().export()
    real = os.scandir

    def failing(path):
        if str(path).endswith("cluster_00"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(DestinationError, match="cluster_00"):
        world.export()
    monkeypatch.undo()
    assert world.export().kept == 1


def test_one_export_at_a_time(world):
    world.add("a.jpg")
    world.ingest().export()
    code = """if True:
        import sys
        from streamcluster.runtime.locks import exclusive
        with exclusive(sys.argv[1], "x"):
            print(flush=True)
            input()
    """
    lock = world.dest / ".streamcluster/lock"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        for options in ({}, {"undo": True}):
            with pytest.raises(StoreBusyError):
                world.export(**options)
        assert world.export(dry_run=True).kept == 1
        other.communicate(b"\n")
    assert world.export().kept == 1


# --- dry run, table alone, undo


def test_a_dry_run_tells_and_does_nothing(world, tmp_path):
    path = world.add("a.jpg")
    world.add("b.jpg")
    dry = world.ingest().export(dry_run=True)
    assert not world.dest.exists()
    real = world.export()
    assert replace(dry, dry_run=False, peak_bytes=None) == replace(real, peak_bytes=None)
    (world.dest / "cluster_00/b.jpg").unlink()
    world.clusters[str(path)] = 1
    before = {p: p.stat().st_mtime_ns for p in world.dest.rglob("*")}
    dry = world.ingest().export(dry_run=True)
    assert {p: p.stat().st_mtime_ns for p in world.dest.rglob("*")} == before
    assert (dry.moved, dry.reasons) == (1, {"deleted by a person": 1})
    check_totals(dry)


def test_the_table_alone(world, tmp_path):
    for i in range(3):
        world.add(f"{i},\n.jpg" if sys.platform != "win32" else f"{i},.jpg", cluster=i)
    path = tmp_path / "tables/pictures.csv"
    assert world.ingest().export(dest=path, manifest_only=True, dry_run=True, ungrouped=1).grouped == 3
    assert not path.exists()
    for _ in range(2):
        report = world.export(dest=path, manifest_only=True, ungrouped=1, rejected=1)
        check_totals(report)
        assert (report.pictures, report.grouped, report.copied) == (5, 3, 0)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == [row["source"] for row in rows] == sorted(world.clusters)
    assert next(iter(rows[0])) == "file_name"
    inside = world.src / "here.csv"
    world.export(dest=inside, manifest_only=True)
    with open(inside, newline="", encoding="utf-8") as file:
        assert all((world.src / row["file_name"]).is_file() for row in csv.DictReader(file))


def test_the_table_alone_overwrites_nothing_else(world, tmp_path):
    world.add("a.jpg")
    world.ingest().export()
    (tmp_path / "mine.csv").write_text("file_name,label\na.jpg,1\n")
    (tmp_path / "empty.csv").touch()
    for path in (tmp_path / "mine.csv", tmp_path / "empty.csv", world.dest, world.dest / "metadata.csv"):
        with pytest.raises(DestinationError):
            world.export(dest=path, manifest_only=True)
    assert (tmp_path / "mine.csv").read_text() == "file_name,label\na.jpg,1\n"


def test_undo_takes_back_what_nobody_touched(world):
    for name in ("kept", "moved", "deleted", "edited"):
        world.add(f"{name}.jpg")
    world.ingest().export()
    folder = world.dest / "cluster_00"
    (folder / "moved.jpg").rename(world.dest / "mine.jpg")
    (folder / "deleted.jpg").unlink()
    (folder / "edited.jpg").write_bytes(b"work")
    (world.dest / "notes.txt").write_text("mine")
    dry = world.export(undo=True, dry_run=True)
    assert (folder / "kept.jpg").exists()
    report = world.export(undo=True)
    assert replace(dry, dry_run=False, peak_bytes=None) == replace(report, peak_bytes=None)
    check_totals(report)
    assert (report.removed, report.left_alone) == (1, 2)
    assert world.files() == {"mine.jpg": b"moved.jpg", "cluster_00/edited.jpg": b"work", "notes.txt": b"mine"}
    assert {p.name for p in world.dest.iterdir()} == {"mine.jpg", "cluster_00", "notes.txt", ".streamcluster"}
    assert world.export(undo=True).removed == 0


def test_after_an_undo_a_persons_folder_takes_exports_again(world):
    for name in ("kept", "moved", "deleted"):
        world.add(f"{name}.jpg")
    world.ingest().export()
    (world.dest / "cluster_00/moved.jpg").rename(world.dest / "mine.jpg")
    (world.dest / "cluster_00/deleted.jpg").unlink()
    world.export(undo=True)
    report = world.export()
    check_totals(report)
    assert (report.grouped, report.copied, report.left_alone) == (2, 1, 1)
    assert set(world.files()) == {"mine.jpg", "cluster_00/kept.jpg"} == set(check_table(world))
    (world.dest / "mine.jpg").unlink()
    world.export(undo=True)
    assert not world.dest.exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_undo_without_a_manifest_is_refused(world, dry_run):
    world.add("a.jpg")
    world.ingest().export()
    (world.dest / ".streamcluster/manifest.jsonl").unlink()
    before = world.tree()
    with pytest.raises(DestinationError, match="lost"):
        world.export(undo=True, dry_run=dry_run)
    assert world.tree() == before


def test_undo_of_an_untouched_export_leaves_nothing(world):
    for i in range(5):
        world.add(f"{i}.jpg", cluster=i)
    world.ingest().export()
    report = world.export(undo=True)
    assert report.removed == 5
    assert not world.dest.exists()
    assert len(world.sources()) == 5


# --- stops


class StopsAfter(Progress):
    def __init__(self, files):
        super().__init__()
        self.left, self.exporting = files, False

    def begin(self, name, total, unit):
        self.exporting = name == "export"

    def advance(self, count):
        self.left -= count * self.exporting
        if self.left <= 0:
            self.stop_signal = signal.SIGTERM


def test_a_stop_leaves_a_consistent_state_and_the_next_run_goes_on(world, monkeypatch):
    monkeypatch.setattr(carry, "BATCH_FILES", 4)
    for i in range(20):
        world.add(f"{i}.jpg", cluster=i % 3)
    with pytest.raises(Interrupted) as stopped:
        world.ingest().export(StopsAfter(6))
    assert stopped.value.signal_number == signal.SIGTERM
    done = world.files()
    assert 4 <= len(done) < 20
    assert check_table(world) == sorted(done)
    assert world.export().copied == 20 - len(done)
    assert len(world.files()) == 20


def test_a_stop_while_planning_changes_nothing(world):
    world.add("a.jpg")
    world.ingest()
    progress = Progress()
    progress.stop_signal = signal.SIGINT
    with pytest.raises(Interrupted):
        world.export(progress)
    assert world.files() == {}
    assert world.export().copied == 1


def test_a_disk_that_fills_up_loses_nothing(world, monkeypatch):
    monkeypatch.setattr(carry, "BATCH_FILES", 4)
    for i in range(12):
        world.add(f"{i}.jpg")
    world.ingest()
    real, calls = os.utime, Counter()

    def full(*args, **options):
        calls["utime"] += 1
        if calls["utime"] > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(DestinationError, match="free some space"):
        world.export()
    monkeypatch.undo()
    assert check_table(world) == sorted(world.files())
    report = world.export()
    assert report.kept + report.copied == 12
    assert report.copied < 12


class Killed(BaseException):
    """No handler of ours may catch this."""


#: What an export may die in, before or after it was done.
CALLS = ("rename", "replace", "remove", "rmdir", "makedirs", "fsync", "utime", "link", "symlink")


class Killer:
    """Ends the process, as it were, at one system call; after that none gets through."""

    def __init__(self, monkeypatch, at, after):
        self.left, self.after, self.dead = at, after, False
        self._lock = threading.RLock()  # a finalizer may come in between, in the same thread
        for name in CALLS:
            monkeypatch.setattr(os, name, self._deadly(getattr(os, name)))

    def _deadly(self, call):
        def wrapped(*args, **options):
            with self._lock:
                if self.dead:
                    raise Killed
                self.left -= 1
                self.dead = self.left <= 0
                if self.dead and not self.after:
                    raise Killed
                result = call(*args, **options)
                if self.dead:
                    raise Killed
                return result

        return wrapped


def killed_export(world, at, after, **options):
    """Export, dying at the given system call; return whether it came to that."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(carry, "BATCH_FILES", 3)
        killer = Killer(monkeypatch, at, after)
        try:
            world.export(**options)
        except Killed:
            pass
        except DestinationError:
            assert killer.dead
        return killer.dead


def busy_world(root):
    """A destination in which an export will do one of everything."""
    world = World(root)
    paths = {
        name: world.add(f"{name}.jpg", cluster=i % 2)
        for i, name in enumerate(["keep", "move", "change", "both", "leave", "deleted", "mine"])
    }
    world.ingest().export()
    (world.dest / "cluster_01/deleted.jpg").unlink()
    (world.dest / "cluster_00/mine.jpg").rename(world.dest / "mine.jpg")
    for name in ("move", "both"):
        world.clusters[str(paths[name])] = 5
    for name in ("change", "both"):
        world.write(paths[name], b"new " + name.encode())
    world.remove(paths["leave"])
    new = [world.add(f"new/{i}/keep.jpg", f"new {i}".encode(), cluster=i) for i in range(4)]
    world.options = {"duplicates": "separate", "junk": "separate"}
    world.best_of = {str(path): str(paths["keep"]) for path in (new[0], paths["move"])}
    world.scores = {str(path): 0.9 for path in (new[1], paths["both"])}
    return world.ingest()


def test_killed_at_any_call_and_run_again_is_as_if_never_killed(tmp_path):
    (tmp_path / "unkilled").mkdir()
    other = busy_world(tmp_path / "unkilled")
    other.export()
    expected = {name: content for name, content in other.tree().items() if name != "metadata.csv"}
    rows = sorted(row["file_name"] for row in other.table().values())
    kills = 0
    for at in range(1, 200):
        root = tmp_path / str(at)
        root.mkdir()
        world = busy_world(root)
        dead = killed_export(world, at, after=at % 2 == 0)
        kills += dead
        report = world.export()
        check_totals(report)
        names = check_table(world)
        # Suffixes hold a digest of the source's path, which is another one here.
        assert Counter(map(plain, world.files().items())) == Counter(
            map(plain, ((n, c) for n, c in expected.items() if c != "folder"))
        )
        assert {n for n, c in world.tree().items() if c == "folder"} == {
            n for n, c in expected.items() if c == "folder"
        }
        assert len(names) == len(rows)
        assert not list(world.dest.rglob(".streamcluster-tmp*"))
        shutil.rmtree(root)
        if not dead:
            break
    assert kills > 30


def plain(item):
    name, content = item
    stem, tilde, rest = name.partition("~")
    return stem + (tilde and "~" + rest[8:]), content


def kill_points(tmp_path, step=1):
    """Yield numbers of system calls, each with a folder of its own, until the loop ends."""
    for at in range(1, 200, step):
        root = tmp_path / str(at)
        root.mkdir()
        yield at, root
        shutil.rmtree(root)


def test_a_killed_removal_is_not_taken_for_a_persons(tmp_path):
    for at, root in kill_points(tmp_path):
        world = World(root)
        path = world.add("a.jpg")
        world.add("b.jpg")
        world.ingest().export()
        del world.clusters[str(path)]
        dead = killed_export(world.ingest(), at, after=True)
        world.export()
        assert set(world.files()) == {"cluster_00/b.jpg"}
        world.clusters[str(path)] = 0
        assert world.ingest().export().copied == 1
        assert set(world.files()) == {"cluster_00/a.jpg", "cluster_00/b.jpg"}
        if not dead:
            break


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize(("first", "second"), [("separate", "keep-best"), ("keep-best", "separate")])
def test_killed_while_near_duplicates_come_or_go(tmp_path, first, second, after):
    for at, root in kill_points(tmp_path):
        world = World(root)
        best, other = world.add("a.jpg"), world.add("b.jpg", cluster=1)
        world.best_of = {str(other): str(best)}
        world.ingest().export(duplicates=first)
        dead = killed_export(world, at, after, duplicates=second)
        check_totals(world.export(duplicates=second))
        lying = {"cluster_00", "cluster_00/a.jpg", "metadata.csv"}
        apart = {"duplicates", "duplicates/group_0000", "duplicates/group_0000/b.jpg"}
        assert set(world.tree()) == lying | (apart if second == "separate" else {"duplicates.csv"})
        world.export(undo=True)
        assert not world.dest.exists()
        if not dead:
            break


def test_killed_while_a_picture_takes_the_name_and_stamp_of_one_that_leaves(tmp_path):
    for at, root in kill_points(tmp_path):
        world = World(root)
        old = world.add("a/1.jpg", b"old")
        os.utime(old, ns=(7, 7))
        world.ingest().export()
        world.remove(old)
        os.utime(world.add("b/1.jpg", b"new"), ns=(7, 7))
        for i in range(4):
            world.add(f"{i}.jpg")
        dead = killed_export(world.ingest(), at, after=True)
        for _ in range(2):
            report = world.export()
            assert (report.grouped, report.set_aside) == (5, 0)
            assert world.files()["cluster_00/1.jpg"] == b"new"
        if not dead:
            break


def test_what_a_person_deletes_or_moves_between_a_kill_and_the_next_run_stays_so(tmp_path):
    for at in range(1, 200, 3):
        root = tmp_path / str(at)
        root.mkdir()
        world = busy_world(root)
        dead = killed_export(world, at, after=at % 2 == 0)
        there = sorted(
            name for name in world.files() if name.startswith("cluster_") and ".streamcluster-tmp" not in name
        )
        for i, name in enumerate(there):
            if i % 2:
                (world.dest / name).unlink()
            else:
                (world.dest / name).rename(world.dest / f"persons {i}.jpg")
        persons = {name: content for name, content in world.files().items() if name.startswith("persons")}
        gone = Counter(content for name, content in persons.items())
        world.export()
        after = world.files()
        assert persons.items() <= after.items()
        check_table(world)
        assert not [name for name, content in after.items() if content in gone and name not in persons]
        listed = {row["file_name"] for row in world.table().values()}
        assert {n for n in persons if after[n] not in (b"change.jpg", b"both.jpg", b"leave.jpg")} <= listed
        shutil.rmtree(root)
        if not dead:
            break


@pytest.mark.parametrize("theirs", [{"mine.jpg": b"mine.jpg"}, {}], ids=["mine", "nothing"])
def test_undo_killed_at_any_call_and_run_again_leaves_only_the_persons(tmp_path, theirs):
    for at in range(1, 100, 2):
        root = tmp_path / str(at)
        root.mkdir()
        world = busy_world(root)
        if not theirs:
            (world.dest / "mine.jpg").unlink()
        dead = killed_export(world, at, after=at % 4 == 1, undo=True)
        if (world.dest / ".streamcluster").exists():
            world.export(undo=True)
        assert (world.dest / ".streamcluster").exists() == bool(theirs)
        assert not world.dest.exists() or world.tree() == theirs
        if not dead:
            break


SCRIPT = """
    import sys, os
    sys.path.insert(0, sys.argv[1])
    import importlib.util
    spec = importlib.util.spec_from_file_location("t", sys.argv[2])
    t = importlib.util.module_from_spec(spec); sys.modules["t"] = t; spec.loader.exec_module(t)
    from pathlib import Path
    t.carry.BATCH_FILES = 16
    world = t.World.__new__(t.World)
    root = Path(sys.argv[3])
    world.src, world.dest, world.store, world._ticks = root / "src", root / "dest", root / "s.zarr", 0
    world.clusters = {str(p): int(p.stem) % 7 for p in sorted(world.src.iterdir())}
    world.ingest()
    print(flush=True)
    world.export()
"""


def test_kill_nine_in_a_process_of_its_own(world):
    for i in range(300):
        world.add(f"{i}.jpg", cluster=i % 7)
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(SCRIPT),
        str(Path(__file__).parent),
        __file__,
        str(world.src.parent),
    ]
    kills, chance = 0, random.Random(0)
    for _ in range(6):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.25))
            process.kill()
            kills += process.wait() != 0
    assert kills
    world.clusters = {str(p): int(p.stem) % 7 for p in world.src.iterdir()}
    world.ingest().export()
    assert world.files() == {f"cluster_{i % 7:02d}/{i}.jpg": f"{i}.jpg".encode() for i in range(300)}
    assert check_table(world) == sorted(world.files())


# --- the job with a store


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(StoreNotFoundError):
        export(ExportSettings(store=str(tmp_path / "none.zarr"), dest=str(tmp_path / "dest")))


def test_a_store_without_a_fit(tmp_path, monkeypatch):
    class Empty:
        current_fit, root = None, str(tmp_path / "s.zarr")

    monkeypatch.setattr("streamcluster.store.collection.open_collection", lambda path, _fit=None: Empty())
    with pytest.raises(FitNotFoundError):
        export(ExportSettings(store=str(tmp_path / "s.zarr"), dest=str(tmp_path / "dest")))
    assert not (tmp_path / "dest").exists()


class Real:
    """Pictures, a store and a destination, through all three jobs."""

    def __init__(self, root):
        self.root, self.store, self.dest = root, str(root / "s.zarr"), root / "dest"
        self.pictures = Pictures(root / "src")
        for i in range(12):
            self.pictures.write(f"{i}.png", i)
        self.ingest(image_size=SIDE)
        self.fit()

    def ingest(self, **options):
        return ingest(IngestSettings(sources=(str(self.root / "src"),), store=self.store, **options))

    def fit(self):
        return fit(FitSettings(store=self.store, clusters=3, components=3))

    def export(self, executor=None, **options):
        report = export(ExportSettings(store=self.store, dest=str(self.dest), **options), executor=executor)
        check_totals(report)
        return report

    def lying(self):
        return {path.name: path for path in self.dest.glob("cluster_*/*")}


@pytest.mark.parametrize("mode", ["copy", "symlink"])
def test_a_picture_that_changed_keeps_its_group_until_the_next_fit(tmp_path, mode):
    real = Real(tmp_path)
    real.export(mode=mode)
    before = real.lying()
    real.pictures.write("5.png", "changed")
    real.pictures.write("new.png", "new")
    report = real.ingest()
    assert (report.new, report.changed) == (1, 1)
    dry = real.export(mode=mode, dry_run=True)
    report = real.export(mode=mode)
    assert (dry.replaced, report.replaced, report.kept, report.removed) == (1, 1, 11, 0)
    assert (report.pictures, report.grouped, report.set_aside) == (13, 12, 1)
    assert real.lying() == before
    assert before["5.png"].read_bytes() == (tmp_path / "src/5.png").read_bytes()
    assert len(check_table(real)) == 12
    assert real.export(mode=mode).kept == 12
    real.fit()
    report = real.export(mode=mode)
    assert (report.grouped, report.copied, report.replaced) == (13, 1, 0)


def test_a_picture_that_became_unreadable_leaves_its_group(tmp_path):
    real = Real(tmp_path)
    real.export()
    real.pictures.write_bytes("5.png", b"broken")
    real.ingest()
    report = real.export()
    assert (report.pictures, report.grouped, report.rejected, report.removed) == (12, 11, 1, 1)
    assert "5.png" not in real.lying()


def test_the_jobs_work_on_the_threads_of_their_caller(tmp_path, monkeypatch):
    real = Real(tmp_path)
    with Executor(2) as executor:
        monkeypatch.setattr(Executor, "__init__", None)
        assert real.export(executor=executor).copied == 12
        settings = RunSettings(
            ingest=IngestSettings(sources=(str(tmp_path / "src"),), store=real.store),
            fit=FitSettings(store=real.store, clusters=3, components=3),
            export=ExportSettings(store=real.store, dest=str(real.dest)),
        )
        assert run(settings, executor=executor).export.kept == 12


# --- everything at once

NAMES = ("a.jpg", "b.jpg", "A.jpg", "x/a.jpg", "y/a.jpg", "x/con.png", "e\u0301.png", "\u00e9.png")


class Life(RuleBasedStateMachine):
    """Sources, groups and a person change at random; exports, killed or not, keep their promises."""

    @initialize()
    def begin(self):
        self.root = Path(tempfile.mkdtemp())
        self.world = World(self.root)
        self.version = 0
        self.records = {}  # source -> [digest, "ours" | "theirs" | "edited" | "deleted", path]
        self.persons = {}  # path -> content
        self.pool = random.Random(0)

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def fresh(self):
        self.version += 1
        return b"%05d" % self.version + b"." * (self.version % 3)

    def pick(self, items, index):
        return sorted(items)[index % len(items)]

    def in_dest(self):
        return self.world.files() if self.world.dest.exists() else {}

    # the sources

    @rule(name=st.sampled_from(NAMES), cluster=st.integers(0, 3))
    def add_or_change(self, name, cluster):
        self.world.add(name, self.fresh(), cluster)

    @precondition(lambda self: self.world.clusters)
    @rule(index=st.integers(0, 99), cluster=st.integers(0, 3))
    def regroup(self, index, cluster):
        self.world.clusters[self.pick(self.world.clusters, index)] = cluster

    @precondition(lambda self: self.world.clusters)
    @rule(index=st.integers(0, 99))
    def remove_source(self, index):
        self.world.remove(Path(self.pick(self.world.clusters, index)))

    @precondition(lambda self: self.world.clusters)
    @rule(index=st.integers(0, 99), folder=st.sampled_from("pq"))
    def move_source(self, index, folder):
        old = Path(self.pick(self.world.clusters, index))
        new = self.world.src / folder / old.name
        if new != old:
            new.parent.mkdir(exist_ok=True)
            old.replace(new)
            self.world.clusters[str(new)] = self.world.clusters.pop(str(old))

    # what is found out

    @precondition(lambda self: self.world.clusters)
    @rule(index=st.integers(0, 99), other=st.integers(0, 99))
    def find_duplicate(self, index, other):
        better = self.pick(self.world.clusters, other)
        worse = self.pick(self.world.clusters, index)
        if better not in self.world.best_of and worse not in self.world.best_of.values():
            self.world.best_of[worse] = better

    @precondition(lambda self: self.world.clusters)
    @rule(index=st.integers(0, 99), score=st.sampled_from([0.1, 0.9]))
    def find_junk(self, index, score):
        self.world.scores[self.pick(self.world.clusters, index)] = score

    @rule(
        duplicates=st.sampled_from(["keep-all", "separate", "keep-best"]),
        junk=st.sampled_from(["keep-all", "separate"]),
    )
    def choose(self, duplicates, junk):
        self.world.options = {"duplicates": duplicates, "junk": junk}

    def folder_of(self, picture):
        """Return where a picture of the last ingest belongs, None if it is left out."""
        options = {"duplicates": "keep-all", "junk": "keep-all"} | self.world.options
        rows = {p.row for p in self.world.wanted}
        if picture.kept in rows - {picture.row} and options["duplicates"] != "keep-all":
            return f"duplicates/group_{picture.kept:04d}/" if options["duplicates"] == "separate" else None
        if picture.junk_score > 0.5 and options["junk"] == "separate":
            return "suspects/"
        return f"cluster_{picture.cluster:02d}/"

    # the person

    def owner(self, path):
        return next((s for s, r in self.records.items() if r[1] in ("ours", "theirs", "edited") and r[2] == path), None)

    def taken_away(self, path):
        """Note that a path holds nothing of before any more; return the picture that lay there untouched."""
        self.persons.pop(path, None)
        source = self.owner(path)
        if source is None:
            return None
        state, self.records[source][1] = self.records[source][1], "deleted"
        return source if state != "edited" else None

    @precondition(lambda self: self.in_dest())
    @rule(index=st.integers(0, 99))
    def delete(self, index):
        path = self.pick(self.in_dest(), index)
        (self.world.dest / path).unlink()
        self.taken_away(path)

    @precondition(lambda self: self.in_dest())
    @rule(
        index=st.integers(0, 99),
        folder=st.sampled_from(["", "mine", "cluster_01"]),
        name=st.sampled_from(["a.jpg", "B.JPG", "z"]),
    )
    def move(self, index, folder, name):
        old = self.pick(self.in_dest(), index)
        new = f"{folder}/{name}".lstrip("/")
        if old == new or not self.world.dest.joinpath(folder).parent.exists():
            return
        (self.world.dest / folder).mkdir(exist_ok=True)
        content = (self.world.dest / old).read_bytes()
        os.replace(self.world.dest / old, self.world.dest / new)
        self.taken_away(new)
        source = self.taken_away(old)
        if source is not None:
            self.records[source][1:] = "theirs", new
        self.persons[new] = content

    @precondition(lambda self: self.in_dest())
    @rule(index=st.integers(0, 99))
    def edit(self, index):
        path = self.pick(self.in_dest(), index)
        self.world.write(self.world.dest / path, b"edited " + self.fresh())
        source = self.owner(path)
        if source is not None:
            self.records[source][1] = "edited"
        self.persons[path] = (self.world.dest / path).read_bytes()

    @precondition(lambda self: self.in_dest())
    @rule(index=st.integers(0, 99))
    def touch(self, index):
        path = self.pick(self.in_dest(), index)
        content = (self.world.dest / path).read_bytes()
        self.world.write(self.world.dest / path, content)
        source = self.owner(path)
        if source is not None and self.records[source][1] == "ours":
            self.records[source][1] = "theirs"
        self.persons[path] = content

    @precondition(lambda self: self.world.dest.exists())
    @rule(name=st.sampled_from(["cluster_00/a.jpg", "cluster_02/B.jpg", "cluster_03/A.jpg", "mine/z", "notes"]))
    def add_own(self, name):
        path = self.world.dest / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            self.world.write(path, b"own " + self.fresh())
            self.persons[name] = path.read_bytes()

    # exports

    def expect(self, restore):
        """Bring the model's records to what an export makes of them; return the pictures that must be in DEST."""
        wanted = {p.source: p for p in self.world.wanted}
        for source in sorted(self.records.keys() - wanted.keys()):
            digest, state, _ = self.records[source]
            heirs = [
                s
                for s, p in wanted.items()
                if s not in self.records and p.digest == digest and Path(s).name == Path(source).name
            ]
            if heirs:
                self.records[heirs[0]] = self.records.pop(source)
            elif state == "ours":
                del self.records[source]
        listed = {}
        for source, p in wanted.items():
            whole = os.path.exists(source) and (os.stat(source).st_size, os.stat(source).st_mtime_ns) == (
                p.size,
                p.mtime_ns,
            )
            record = self.records.get(source)
            if self.folder_of(p) is None:
                if record and record[1] == "ours":
                    del self.records[source]
                if record and record[1] == "theirs":
                    listed[source] = record
                continue
            if record is None or (record[1] == "deleted" and restore):
                if whole:
                    self.records[source] = record = [p.digest, "ours", None]
            elif record[1] == "ours" and record[0] != p.digest and whole:
                record[0] = p.digest
            if record and record[1] in ("ours", "theirs"):
                listed[source] = record
        return listed

    @rule(
        fresh=st.sampled_from([True, True, True, False]),
        restore=st.sampled_from([False, False, True]),
        kill=st.integers(0, 60),
        after=st.booleans(),
    )
    def export(self, fresh, restore, kill, after):
        world = self.world
        if fresh:
            world.ingest()
        sources = world.sources()
        twin = self.root / "twin"
        if world.dest.exists():
            shutil.copytree(world.dest, twin, symlinks=True)
        if kill:
            killed_export(world, kill, after, restore=restore)
        report = world.export(restore=restore)
        world.export(dest=twin, restore=restore)
        assert world.tree() == world.tree(twin)
        shutil.rmtree(twin)
        assert world.sources() == sources
        self.check(report, restore)

    def check(self, report, restore):
        world, listed = self.world, self.expect(restore)
        check_totals(report)
        files, table = world.files(), world.table()
        names = set(check_table(world))
        assert report.pictures == len(world.wanted)
        assert report.grouped == len(table)
        assert self.persons.items() <= files.items()
        assert files.keys() == names | self.persons.keys()
        assert table.keys() == listed.keys()
        pictures = {p.source: p for p in world.wanted}
        left_out = {s for s, p in pictures.items() if self.folder_of(p) is None and s not in self.records}
        assert world.left_out().keys() == left_out
        assert report.reasons.get("near-duplicate of a better picture", 0) == len(left_out)
        for source, record in listed.items():
            name = table[source]["file_name"]
            assert table[source]["digest"] == record[0].hex()
            if record[1] == "ours":
                assert name.startswith(self.folder_of(pictures[source]))
                assert name not in self.persons
                record[2] = name
            else:
                assert name == record[2]

    @precondition(lambda self: (self.world.dest / ".streamcluster").exists())
    @rule()
    def undo(self):
        report = self.world.export(undo=True)
        check_totals(report)
        assert self.in_dest() == self.persons
        assert not list(self.world.dest.glob("*.csv"))
        self.records = {}
        if self.world.dest.exists():
            shutil.rmtree(self.world.dest)
        self.persons = {}


Life.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = pytest.mark.skipif(sys.platform == "win32", reason="the model renames over open names")(Life.TestCase)
