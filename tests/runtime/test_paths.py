import os
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamcluster.runtime.paths import decode_path, encode_path, printable, system_path

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names of any bytes")


@posix_only
@given(st.binary())
@example(b"100%.png")
@example(b"%FF.png")
@example(b"\xff%41\xc3")
@example("é\n😀".encode())
def test_any_bytes_are_stored_as_text_and_come_back(name):
    stored = encode_path(os.fsdecode(name))
    stored.encode()
    assert os.fsencode(decode_path(stored)) == name


@posix_only
@given(st.binary(), st.binary())
def test_different_names_are_stored_differently(one, other):
    assert (encode_path(os.fsdecode(one)) == encode_path(os.fsdecode(other))) == (one == other)


@given(st.text().filter(lambda text: text.isprintable() and "%" not in text))
def test_plain_text_is_stored_as_it_is(name):
    assert encode_path(name) == name == printable(name)


@posix_only
@given(st.binary())
def test_what_is_shown_fits_a_terminal(name):
    shown = printable(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode()


def test_control_characters_and_odd_bytes_are_shown_as_escapes():
    assert printable("a\nb\x1b[2J\udcff.png") == r"a\nb\x1b[2J\udcff.png"


@posix_only
def test_only_windows_needs_another_form_for_the_system():
    assert system_path("/a" * 300) == "/a" * 300


def test_windows_gets_absolute_paths_without_a_length_limit(monkeypatch):
    import ntpath

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os.path, "abspath", lambda path: ntpath.normpath(ntpath.join("C:\\here", path)))
    assert system_path("a/b.png") == "\\\\?\\C:\\here\\a\\b.png"
    assert system_path("\\\\server\\share\\b.png") == "\\\\?\\UNC\\server\\share\\b.png"
    assert system_path("\\\\?\\C:\\b.png") == "\\\\?\\C:\\b.png"
