"""Putting, naming and removing one file."""

import errno
import os
import sys
from pathlib import Path

import pytest

from streamcluster.destination import place
from streamcluster.destination.place import Stager, stamp_of
from streamcluster.errors import DestinationError

CONTENT = bytes(range(256)) * 9000


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.png"
    path.write_bytes(CONTENT)
    os.utime(path, ns=(1, 1_600_000_000_123_456_700))
    return path


def stage(source, mode="copy", *, size=None, stager=None):
    temporary = source.parent / "temporary"
    status = source.stat()
    put = (stager or Stager(mode)).stage(str(source), size or status.st_size, status.st_mtime_ns, str(temporary))
    return put, temporary


def without_kernel_copy(monkeypatch, number):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)


@pytest.mark.parametrize("number", [None, errno.EXDEV, errno.ENOSYS, errno.EIO])
def test_a_copy_is_whole_and_keeps_its_time(source, monkeypatch, number):
    if number is not None:
        without_kernel_copy(monkeypatch, number)
    put, temporary = stage(source)
    assert temporary.read_bytes() == CONTENT
    assert put == stamp_of(str(temporary)) == stamp_of(str(source))
    assert not temporary.samefile(source)


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux copies with")
def test_a_kernel_that_stops_half_way_is_gone_on_by_hand(source, monkeypatch):
    real, calls = os.copy_file_range, []

    def half(reader, writer, n):
        calls.append(n)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(reader, writer, n // 2)

    monkeypatch.setattr(os, "copy_file_range", half)
    assert stage(source)[1].read_bytes() == CONTENT
    assert len(calls) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux copies with")
def test_a_refused_reflink_is_not_tried_again(source, monkeypatch):
    import fcntl

    calls = []

    def refuse(*args):
        calls.append(args)
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    stager = Stager("copy")
    assert stager.shares_blocks
    for _ in range(3):
        stage(source, stager=stager)[1].unlink()
    assert len(calls) == 1
    assert not stager.shares_blocks


def test_an_empty_source_is_copied(source):
    source.write_bytes(b"")
    put, temporary = stage(source)
    assert put.size == 0
    assert temporary.read_bytes() == b""


def test_a_source_that_is_not_what_was_ingested_leaves_nothing(source):
    put, temporary = stage(source, size=5)
    assert put == place.CHANGED
    assert not temporary.exists()


def test_a_source_that_changes_while_it_is_copied_leaves_nothing(source, monkeypatch):
    without_kernel_copy(monkeypatch, errno.ENOSYS)
    real = place._copy_by_hand

    def meanwhile(reader, writer):
        source.write_bytes(b"other")
        return real(reader, writer)

    monkeypatch.setattr(place, "_copy_by_hand", meanwhile)
    put, temporary = stage(source)
    assert put == place.CHANGED
    assert not temporary.exists()


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_a_source_that_is_gone_or_a_folder(tmp_path, mode):
    temporary = str(tmp_path / "t")
    assert Stager(mode).stage(str(tmp_path / "none"), 1, 1, temporary) == place.MISSING
    assert Stager(mode).stage(str(tmp_path), 1, 1, temporary) == place.CHANGED
    assert not os.path.lexists(temporary)


def test_a_full_disk_is_no_fault_of_the_source(source, monkeypatch):
    without_kernel_copy(monkeypatch, errno.ENOSPC)
    if sys.platform == "linux":
        with pytest.raises(OSError, match="No space"):
            stage(source)


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_hard_link_to_a_linked_source_is_to_the_file(source):
    link = source.parent / "link.png"
    link.symlink_to(source)
    put, temporary = stage(link, "hardlink")
    assert put.kind == "file"
    assert temporary.samefile(source)
    assert not temporary.is_symlink()


def test_windows_without_the_privilege_is_told_the_way_out(source, monkeypatch):
    def refuse(*args):
        error = OSError(errno.EPERM, "A required privilege is not held by the client")
        error.winerror = 1314
        raise error

    monkeypatch.setattr(os, "symlink", refuse)
    with pytest.raises(DestinationError, match="developer mode"):
        stage(source, "symlink")


def test_a_name_that_is_taken_is_not_given(tmp_path):
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    assert not place.name_new(str(tmp_path / "old"), str(tmp_path / "new"))
    assert (tmp_path / "new").read_text() == "new"
    assert place.name_new(str(tmp_path / "old"), str(tmp_path / "free"))
    assert (tmp_path / "free").read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_naming_over_another_link_to_the_same_file_leaves_one(tmp_path):
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "b")
    place.name_over(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "f"
    place.write_whole(str(path), [b"one\n", b"two\n"])

    def broken():
        yield b"three\n"
        raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        place.write_whole(str(path), broken())
    assert path.read_bytes() == b"one\ntwo\n"
    place.write_whole(str(path), [b"four\n"])
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"four\n"]


def test_only_an_empty_folder_is_removed(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    assert not place.remove_if_empty(str(tmp_path / "a"))
    assert place.remove_if_empty(str(tmp_path / "a/b"))
    assert place.remove_if_empty(str(tmp_path / "none"))


def test_a_refused_write_names_the_place_and_the_way_out(tmp_path):
    with pytest.raises(DestinationError, match=r"dest: cannot write .*free some space"), place.writing_to("dest"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DestinationError, match="permissions"), place.writing_to("dest"):
        Path(tmp_path / "none/x").write_text("x")
