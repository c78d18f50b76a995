"""A table against a plain list of rows, in chunks so small that every change crosses their borders."""

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcluster.errors import StoreFormatError
from streamcluster.store import table as table_module
from streamcluster.store.table import Column, Table, open_array, open_subgroup

COLUMNS = (
    Column("name", "string", "text"),
    Column("size", "int64", "a number"),
    Column("pair", "uint8", "two numbers", (2,)),
    Column("flag", "bool", "yes or no"),
)
ROWS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.integers(-(2**63), 2**63 - 1),
        st.tuples(st.integers(0, 255), st.integers(0, 255)),
        st.booleans(),
    ),
    max_size=11,
)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["append", "update", "trim"]), ROWS, st.randoms(use_true_random=False)), max_size=5
)


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with mock.patch.object(table_module, "COLUMN_ROWS", 4):
        yield


def new_table(folder):
    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    Table.create(group, "table", COLUMNS)
    return group, open_table(group, folder, 0)


def open_table(group, folder, n_rows):
    return Table(open_subgroup(group, "table"), COLUMNS, str(folder), n_rows)


def as_columns(rows):
    return {column.name: [row[i] for row in rows] for i, column in enumerate(COLUMNS)}


def rows_of(table):
    return [(name, size, tuple(pair.tolist()), flag) for _, name, size, pair, flag in table.records(*names())]


def names():
    return [column.name for column in COLUMNS]


def contents(folder):
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@settings(max_examples=20, deadline=None)
@given(changes=CHANGES)
def test_a_table_is_a_list_of_rows_that_tells_which_files_it_changed(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("table")
    group, table = new_table(folder)
    model = []
    for kind, rows, random in changes:
        if kind == "trim":
            table.resize(table.n_rows)
            table = open_table(group, folder, table.n_rows)
        if kind == "append":
            table.resize(table.n_rows + len(rows) + 3)
        before = contents(folder)
        if kind == "append":
            changed = table.write(table.n_rows, as_columns(rows))
            table.n_rows += len(rows)
            model += rows
        else:
            at = random.sample(range(len(model)), min(len(model), len(rows)))
            changed = table.update(at, as_columns(rows[: len(at)]))
            for i, row in zip(at, rows, strict=False):
                model[i] = row
        after = contents(folder)
        assert {path for path in before | after if before.get(path) != after.get(path)} <= set(changed)
        assert rows_of(table) == model
    table.resize(table.n_rows)
    assert rows_of(open_table(group, folder, len(model))) == model


def test_chunks_are_all_committed_rows_and_no_others(tmp_path):
    _, table = new_table(tmp_path)
    table.resize(20)
    table.write(0, {"size": range(20)})
    table.n_rows = 10
    assert [(rows, columns["size"].tolist()) for rows, columns in table.chunks("size")] == [
        (slice(0, 4), [0, 1, 2, 3]),
        (slice(4, 8), [4, 5, 6, 7]),
        (slice(8, 10), [8, 9]),
    ]
    assert table.column("size").tolist() == list(range(10))
    assert list(table.records("size")) == [(i, i) for i in range(10)]


def test_an_update_of_some_columns_leaves_the_others(tmp_path):
    _, table = new_table(tmp_path)
    table.resize(6)
    table.write(0, as_columns([("a", i, (i, i), True) for i in range(6)]))
    table.n_rows = 6
    table.update([5, 0], {"name": ["five", "none"], "flag": [False, True]})
    assert table.column("name").tolist() == ["none", "a", "a", "a", "a", "five"]
    assert table.column("flag").tolist() == [True] * 5 + [False]
    assert table.column("size").tolist() == list(range(6))


def test_a_table_of_no_rows_gives_none(tmp_path):
    _, table = new_table(tmp_path)
    assert (list(table.records("size")), list(table.chunks("size")), table.column("pair").shape) == ([], [], (0, 2))
    assert table.update([], {"size": []}) == []


def test_what_a_column_means_is_written_beside_it(tmp_path):
    new_table(tmp_path)
    group = zarr.open_group(str(tmp_path), mode="r")
    assert {name: array.attrs["meaning"] for name, array in group["table"].arrays()} == {
        column.name: column.meaning for column in COLUMNS
    }


@pytest.mark.parametrize(
    "damage", ["", "{", "{}", "[]", "null", "[" * 9999, '{"zarr_format": 3, "node_type": "group"}']
)
def test_a_damaged_column_is_named(tmp_path, damage):
    group, _ = new_table(tmp_path)
    (tmp_path / "table" / "size" / "zarr.json").write_text(damage)
    with pytest.raises(StoreFormatError, match="size"):
        open_table(group, tmp_path, 0)
    os.remove(tmp_path / "table" / "size" / "zarr.json")
    with pytest.raises(StoreFormatError, match="size"):
        open_table(group, tmp_path, 0)


def test_an_array_is_no_group_and_a_group_no_array(tmp_path):
    group, _ = new_table(tmp_path)
    with pytest.raises(StoreFormatError):
        open_array(group, "table")
    with pytest.raises(StoreFormatError):
        open_subgroup(group, "table/size")
    np.testing.assert_array_equal(open_array(group, "table/size")[:], [])
