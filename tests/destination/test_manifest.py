"""The manifest and the journal."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcluster.destination.manifest import (
    Done,
    Header,
    Intent,
    Journal,
    MakesFolder,
    Record,
    Void,
    WritesTable,
    journal_path,
    manifest_path,
    read_header,
    read_journal,
    read_records,
    remove_journal,
    settle,
    write_manifest,
)
from streamcluster.destination.place import Stamp
from streamcluster.errors import DestinationError

#: Names as Python shows any bytes; pairs of surrogates that would be text are no names.
PATHS = st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape").replace("\0", "%"))
RECORDS = st.builds(
    Record,
    PATHS,
    PATHS,
    PATHS,
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.sampled_from(["copy", "hardlink", "symlink"]),
    st.integers(0, 2**60),
    st.integers(-(2**60), 2**62),
    st.sampled_from(["put", "theirs", "gone"]),
)
STAMPS = st.builds(Stamp, st.just("file"), st.integers(0, 9), st.integers(0, 9))
ENTRIES = st.one_of(
    st.builds(Intent, PATHS, st.none() | RECORDS, st.none() | PATHS, st.none() | PATHS),
    st.builds(Void, PATHS, st.none() | RECORDS),
    st.builds(MakesFolder, st.sampled_from(["cluster_00"])),
    st.builds(WritesTable, STAMPS),
    st.builds(Done),
)
MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


@pytest.fixture
def dest(tmp_path):
    (tmp_path / ".streamcluster").mkdir()
    return str(tmp_path)


@MANY
@given(records=st.lists(RECORDS, max_size=5), stamp=st.none() | STAMPS)
def test_a_manifest_round_trips(dest, records, stamp):
    header = Header(run=3, records=len(records), made_dest=True, folders=("cluster_00",), table=stamp)
    write_manifest(dest, header, records)
    assert read_header(dest) == header
    assert list(read_records(dest)) == records
    with open(manifest_path(dest), encoding="utf-8") as file:
        assert len(list(file)) == 1 + len(records)


@MANY
@given(entries=st.lists(ENTRIES, max_size=5))
def test_a_journal_round_trips_for_its_own_manifest(dest, entries):
    with Journal(dest, 7) as journal:
        journal.write(entries)
    assert list(read_journal(dest, 7)) == entries
    assert list(read_journal(dest, 8)) == []


def test_a_cut_off_line_was_never_said(dest):
    with Journal(dest, 1) as journal:
        journal.write([MakesFolder("cluster_00"), MakesFolder("cluster_01")])
    with open(journal_path(dest), "rb+") as file:
        whole = file.read()
        for size in range(len(whole)):
            file.seek(size)
            file.truncate()
            assert list(read_journal(dest, 1)) == [MakesFolder("cluster_00")] * (whole[:size].count(b"\n") > 1)
            file.seek(0)
            file.write(whole)


def test_no_manifest_and_no_journal(dest):
    assert read_header(dest) is None
    assert list(read_journal(dest, 0)) == []
    remove_journal(dest)


def test_something_else_in_the_manifests_place(dest):
    for text in ("", "x\n", "[]\n", '{"kind":"other"}\n', '{"format":2}\n'):
        with open(manifest_path(dest), "w", encoding="utf-8") as file:
            file.write(text)
        with pytest.raises(DestinationError):
            read_header(dest)


BEFORE = Record("s", "a.jpg", "cluster_00/a.jpg", "00" * 16, "copy", 3, 5)
NEW = msgspec.structs.replace(BEFORE, digest="11" * 16, size=4, mtime_ns=6)
MOVED = msgspec.structs.replace(BEFORE, file="cluster_01/a.jpg")


def test_putting_is_done_once_the_temporary_name_is_gone():
    intent = Intent("s", NEW, temporary="t")
    assert settle(intent, None, True, None) is None
    assert settle(intent, None, False, None) == NEW


def test_replacing_is_done_once_the_temporary_name_is_gone():
    intent = Intent("s", NEW, temporary="t")
    assert settle(intent, BEFORE, True, BEFORE.stamp) == BEFORE
    assert settle(intent, BEFORE, False, NEW.stamp) == NEW


def test_moving_is_done_once_the_old_place_is_empty_or_a_persons():
    intent = Intent("s", MOVED, moved_from=BEFORE.file)
    assert settle(intent, BEFORE, False, BEFORE.stamp) == BEFORE
    assert settle(intent, BEFORE, False, None) == MOVED
    assert settle(intent, BEFORE, False, Stamp("file", 99, 99)) == MOVED


def test_replacing_and_moving_has_a_state_in_between():
    there = msgspec.structs.replace(NEW, file="cluster_01/a.jpg")
    intent = Intent("s", there, temporary="t", moved_from=BEFORE.file)
    assert settle(intent, BEFORE, True, BEFORE.stamp) == BEFORE
    assert settle(intent, BEFORE, False, NEW.stamp) == NEW
    assert settle(intent, BEFORE, False, None) == there


def test_removing_is_done_once_the_file_is_gone():
    intent = Intent("s", None)
    assert settle(intent, BEFORE, False, BEFORE.stamp) == BEFORE
    assert settle(intent, BEFORE, False, None) is None
