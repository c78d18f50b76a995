"""The table of pictures."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from streamcluster.destination.table import COLUMNS, relative_name, table_lines

TEXTS = st.text(st.characters(exclude_categories=[]), min_size=1)


@given(st.lists(st.tuples(TEXTS, TEXTS)))
def test_any_name_is_read_back(names):
    rows = [(*pair, 3, 0.1, 4, 5, 1e-9, 2.5, 6, "00") for pair in names]
    text = b"".join(table_lines(rows)).decode("utf-8")
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert tuple(read[0]) == COLUMNS
    shown = [[t.encode("utf-8", "backslashreplace").decode() for t in pair] for pair in names]
    assert [row[:2] for row in read[1:]] == shown
    assert all(row[2:] == ["3", "0.1", "4", "5", "1e-09", "2.5", "6", "00"] for row in read[1:])


def test_names_are_relative_below_the_table_and_absolute_elsewhere():
    assert relative_name("/a/b/c.jpg", "/a") == "b/c.jpg"
    assert relative_name("/ab/c.jpg", "/a") == "/ab/c.jpg"
    assert relative_name("/a/c.jpg", "/") == "a/c.jpg"
