"""File names that are legal on the three systems, and stay apart."""

import os
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcluster.destination.names import MAX_NAME_BYTES, candidate_names, cluster_folder, fold, legal_name

NAMES = st.text(
    st.one_of(st.characters(exclude_characters="/\0"), st.sampled_from('<>:"\\|?*. ~aA\udc80\U0001f600\u0301')),
    min_size=1,
    max_size=300,
)


def is_legal(name):
    """The rules of the three systems, written the other way round than in the code."""
    stem = name.split(".")[0].rstrip().lower()
    devices = ["con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in "0123456789¹²³")]
    return (
        0 < len(name.encode("utf-8")) <= 255
        and len(name.encode("utf-16-le")) // 2 <= 255
        and not any(c in '<>:"/\\|?*' or ord(c) < 32 for c in name)
        and name[-1] not in ". "
        and name not in (".", "..")
        and stem not in devices
    )


@given(NAMES)
def test_every_name_becomes_legal_and_stays_so(name):
    legal = legal_name(name)
    assert is_legal(legal)
    assert legal_name(legal) == legal
    assert not legal.startswith(".")


@given(NAMES)
def test_every_candidate_is_legal_and_different(name):
    names = list(islice(candidate_names("/pictures/" + name), 7))
    assert all(map(is_legal, names))
    assert len(set(map(fold, names))) == 7


@pytest.mark.parametrize(
    "name", ["a.jpg", "two words.JPG", "caf\u00e9.png", "\u30c4\u30a4\u30fc\u30c8.webp", "a.b.c.png", "\U0001f600.gif"]
)
def test_a_legal_name_is_left_as_it_is(name):
    assert legal_name(name) == name


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("con.jpg", "_con.jpg"),
        ("Com1", "_Com1"),
        ("nul .tar.png", "_nul .tar.png"),
        ("console.jpg", "console.jpg"),
        ("a\nb\x7f.jpg", "a_b_.jpg"),
        ("x\udcff.jpg", "x_.jpg"),
        ("end. .", "end___"),
        (".hidden.jpg", "_hidden.jpg"),
    ],
)
def test_what_is_illegal_is_replaced(name, legal):
    assert legal_name(name) == legal


@pytest.mark.parametrize("stem", ["n" * 300, "\u00e9" * 200, "\U0001f600" * 100])
def test_a_long_name_is_cut_and_keeps_its_ending(stem):
    for name in islice(candidate_names(f"/p/{stem}.jpeg"), 4):
        assert name.endswith(".jpeg")
        assert MAX_NAME_BYTES - 4 < len(name.encode()) <= MAX_NAME_BYTES


def test_the_suffix_depends_on_the_whole_path():
    first, second = (list(islice(candidate_names(path), 2)) for path in ("/a/1.jpg", "/b/1.jpg"))
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert os.path.splitext(first[1])[1] == ".jpg"


def test_case_and_normalisation_do_not_count():
    assert fold("STRASSE.png") == fold("stra\u00dfe.PNG")
    assert fold("\u212bngstrom") == fold("a\u030angstrom")
    assert fold("a.jpg") != fold("b.jpg")


def test_folders():
    assert [cluster_folder(i) for i in (0, 7, 99, 123)] == ["cluster_00", "cluster_07", "cluster_99", "cluster_123"]
