"""What becomes of one picture."""

from hypothesis import given
from hypothesis import strategies as st

from streamcluster.destination.plan import Placed, Wanted, decide

DIGESTS, FOLDERS = st.sampled_from([b"x", b"y"]), st.sampled_from(["cluster_00", "cluster_01", "alice"])
MODES = st.sampled_from(["copy", "hardlink", "symlink"])
WANTED = st.builds(Wanted, DIGESTS, FOLDERS, MODES)
PLACED = st.builds(Placed, DIGESTS, FOLDERS, MODES, st.sampled_from(["untouched", "theirs", "edited", "missing"]))


@given(st.none() | WANTED, PLACED, st.booleans())
def test_only_untouched_files_change(wanted, placed, restore):
    action = decide(wanted, placed, restore=restore)
    if action in ("keep", "move", "replace", "remove"):
        assert placed.where == "untouched"
    if placed.where in ("theirs", "edited"):
        assert action == "leave"


@given(st.none() | WANTED, PLACED, st.booleans())
def test_an_untouched_file_ends_where_and_as_it_is_wanted(wanted, placed, restore):
    if placed.where != "untouched":
        return
    action = decide(wanted, placed, restore=restore)
    assert (action == "remove") == (wanted is None)
    if wanted is not None:
        same = (placed.digest, placed.mode) == (wanted.digest, wanted.mode)
        assert (action == "replace") == (not same)
        assert (action == "keep") == (same and placed.folder == wanted.folder)


@given(st.none() | WANTED, PLACED)
def test_restore_changes_nothing_but_what_is_missing(wanted, placed):
    plainly, restoring = (decide(wanted, placed, restore=restore) for restore in (False, True))
    if placed.where == "missing":
        assert (plainly, restoring) == ("leave", "leave" if wanted is None else "restore")
    else:
        assert plainly == restoring


@given(WANTED, st.booleans())
def test_what_was_never_put_is_put(wanted, restore):
    assert decide(wanted, None, restore=restore) == "put"
    assert decide(None, None, restore=restore) == "leave"
