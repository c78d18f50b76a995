"""What the walk finds and leaves out, what counts as gone or moved, and in which order files are taken."""

import hashlib
import os
import sys
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcluster.config import PICTURE_ENDINGS
from streamcluster.errors import NoPicturesError, SourceError, SourceNotFoundError, SourceVanishedError
from streamcluster.sources.scan import EXPORT_MARKER, KnownPicture, KnownReject, Patterns, Scan, check_source

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names, links and pipes that Windows does not have")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="other systems want names to be text")

ALL = tuple(f"*.{ending}" for ending in PICTURE_ENDINGS)


def put(folder, *names):
    """Write files whose content is their own path."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(path)


@contextmanager
def look(*sources, known=(), rejects=(), include=ALL, exclude=(), seed=0, keep_out="", absent=()):
    with Scan(map(str, sources), Patterns(include, exclude), seed, str(keep_out)) as scan:
        scan.list_sources(lambda count: None, absent)
        scan.compare(known, rejects)
        yield scan


def found(folder, *more, **options):
    """Return the names below a source that are new to an empty store."""
    with look(folder, *more, **options) as scan:
        return [os.path.relpath(file.path, folder) for file in scan.to_decode()]


def remembered(folder, *, live=True, start=0):
    """Return what a store knows that has taken in all files below a folder, by name."""
    known = {}
    for row, name in enumerate(sorted(found(folder)), start):
        path = os.path.join(folder, name)
        status = os.stat(path)
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).digest()
        known[name] = KnownPicture(
            row=row, path=path, size=status.st_size, mtime_ns=status.st_mtime_ns, digest=digest, live=live
        )
    return known


def reject(row, path, size=1, mtime_ns=1, oversize=False):
    return KnownReject(row=row, path=str(path), size=size, mtime_ns=mtime_ns, oversize=oversize)


def missing_names(scan, known):
    names = {picture.row: name for name, picture in known.items()}
    return {names[row] for row in scan.missing()}


# what is found


def test_hidden_files_and_folders_are_left_out(tmp_path):
    put(tmp_path, "a.png", ".b.png", "._a.png", ".thumbs/c.png", "d/.e/f.png", "d/g.png")
    assert sorted(found(tmp_path)) == ["a.png", "d/g.png"]


def test_other_files_are_counted_and_nothing_more(tmp_path):
    put(tmp_path, "a.png", "b.txt", "c", "d/e.zip", ".f.txt")
    with look(tmp_path) as scan:
        assert (scan.found, scan.listing.ignored, scan.listing.unreadable) == (1, 3, {})


def test_size_and_time_are_the_files_own(tmp_path):
    put(tmp_path, "a.png")
    os.utime(tmp_path / "a.png", ns=(0, 1_234_567_890_123_456_789))
    with look(tmp_path) as scan:
        (file,) = scan.to_decode()
    status = os.stat(tmp_path / "a.png")
    assert (file.size, file.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert (file.row, file.reject_row, file.retry) == (None, None, False)


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.png"], [], {"a.png", "B.PNG", "x/c.png", "x/y/d.png", "x y/e.png"}),
        (["*.PNG", "*.jpg"], ["B.*"], {"a.png", "x/c.png", "x/y/d.png", "x y/e.png", "x/f.jpg"}),
        (["x/*.png"], [], {"x/c.png", "x/y/d.png"}),
        (["*/y/*"], [], {"x/y/d.png"}),
        (["*.png"], ["x"], {"a.png", "B.PNG", "x y/e.png"}),
        (["*.png"], ["x/"], {"a.png", "B.PNG", "x y/e.png"}),
        (["*.png"], ["x/y"], {"a.png", "B.PNG", "x/c.png", "x y/e.png"}),
        (["*.png"], ["x/y/"], {"a.png", "B.PNG", "x/c.png", "x y/e.png"}),
        (["*.png"], ["y"], {"a.png", "B.PNG", "x/c.png", "x y/e.png"}),
        (["*.png"], ["*/c.png", "a*"], {"B.PNG", "x/y/d.png", "x y/e.png"}),
        (["[ab].png"], [], {"a.png", "B.PNG"}),
        (["*"], ["*"], set()),
        ([], [], set()),
    ],
)
def test_globs_match_names_or_with_a_slash_paths_in_any_case(tmp_path, include, exclude, expected):
    names = ("a.png", "B.PNG", "x/c.png", "x/f.jpg", "x/y/d.png", "x y/e.png", "g.txt")
    put(tmp_path, *names)
    assert set(found(tmp_path, include=include, exclude=exclude)) == expected
    assert set(filter(Patterns(include, exclude).takes_path, names)) == expected


def test_globs_know_nothing_of_what_lies_above_the_source(tmp_path):
    put(tmp_path / "x", "a.png")
    assert found(tmp_path / "x", exclude=["x", "*/x/*"]) == ["a.png"]


@linux_only
@pytest.mark.parametrize(
    "name",
    [
        b"a\nb.png",
        "😀.png".encode(),
        b"n" * 251 + b".png",
        b"\xff.png",
        b"\xff/\xc3.png",
        b"100%.png",
        b" .png",
        b"'.png",
    ],
)
def test_a_file_name_may_be_any_bytes(tmp_path, name):
    put(tmp_path, name)
    with look(tmp_path) as scan:
        (file,) = scan.to_decode()
    assert os.fsencode(file.path) == os.path.join(os.fsencode(tmp_path), name)
    assert os.stat(file.path).st_size == file.size


@linux_only
def test_a_known_file_of_any_name_is_recognised(tmp_path):
    put(tmp_path, b"\xff.png", "a\nb.png", "%FF.png")
    known = remembered(tmp_path)
    with look(tmp_path, known=known.values()) as scan:
        assert (scan.count_to_decode(), scan.missing()) == (0, [])
    os.remove(os.path.join(os.fsencode(tmp_path), b"\xff.png"))
    with look(tmp_path, known=known.values()) as scan:
        assert missing_names(scan, known) == {"\udcff.png"}


@posix_only
def test_a_pipe_is_no_picture(tmp_path):
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert found(tmp_path) == ["a.png"]


@posix_only
def test_an_export_is_left_out_unless_it_is_named_as_a_source(tmp_path):
    put(tmp_path, "a.png", "groups/cluster_00/a.png", f"groups/{EXPORT_MARKER}/ledger")
    (tmp_path / "link.d").symlink_to(tmp_path / "groups")
    assert found(tmp_path) == ["a.png"]
    assert found(tmp_path / "groups") == ["cluster_00/a.png"]


def test_a_folder_that_the_caller_names_is_left_out(tmp_path):
    put(tmp_path, "a.png", "s.zarr/b.png")
    assert found(tmp_path, keep_out=tmp_path / "s.zarr") == ["a.png"]


def test_sources_that_overlap_give_a_picture_once(tmp_path):
    put(tmp_path, "a.png", "x/b.png")
    for sources in ([tmp_path, tmp_path / "x"], [tmp_path / "x", tmp_path], [tmp_path, tmp_path]):
        with look(*sources) as scan:
            assert scan.found == len({file.path for file in scan.to_decode()}) == 2


@pytest.mark.parametrize("name", ["a.CR2", "a.nef", "a.dng", "a.HEIC", "a.heif", "a.jpg_large"])
def test_files_that_many_keep_among_their_pictures_are_looked_at(tmp_path, name):
    put(tmp_path, name)
    assert found(tmp_path) == [name]


# links


@posix_only
def test_links_to_pictures_are_pictures(tmp_path):
    put(tmp_path / "elsewhere", "a.dat")
    put(tmp_path / "source", "b.png")
    (tmp_path / "source" / "c.png").symlink_to(tmp_path / "elsewhere" / "a.dat")
    (tmp_path / "source" / "d.txt").symlink_to(tmp_path / "elsewhere" / "a.dat")
    with look(tmp_path / "source") as scan:
        sizes = {os.path.basename(file.path): file.size for file in scan.to_decode()}
    assert sizes == {name: os.stat(tmp_path / "source" / name).st_size for name in ("b.png", "c.png")}


@posix_only
def test_a_link_to_a_parent_ends(tmp_path):
    put(tmp_path, "a.png", "x/b.png")
    (tmp_path / "x" / "up").symlink_to("..")
    (tmp_path / "x" / "here").symlink_to(".")
    assert sorted(found(tmp_path)) == ["a.png", "x/b.png"]


@posix_only
@pytest.mark.parametrize("target", ["..", "../..", "/"])
def test_a_link_to_a_folder_that_holds_a_source_is_left_out(tmp_path, target):
    put(tmp_path, "sibling/a.png", "x/sibling/b.png", "x/source/c.png")
    (tmp_path / "x" / "source" / "loop").symlink_to(target)
    (tmp_path / "x" / "source" / "cousin").symlink_to("../../sibling")
    assert sorted(found(tmp_path / "x" / "source")) == ["c.png", "cousin/a.png"]


@posix_only
def test_a_real_folder_between_two_sources_is_entered(tmp_path):
    put(tmp_path, "x/a.png", "x/y/b.png")
    assert sorted(found(tmp_path, tmp_path / "x" / "y")) == ["x/a.png", "x/y/b.png"]


@posix_only
@pytest.mark.parametrize("name", ["loop", "loop.png"])
def test_a_link_to_itself_is_noted_and_stops_nothing(tmp_path, name):
    put(tmp_path, "a.png")
    (tmp_path / name).symlink_to(name)
    with look(tmp_path) as scan:
        assert [os.path.basename(file.path) for file in scan.to_decode()] == ["a.png"]
        assert list(scan.listing.unreadable) == [str(tmp_path / name)]


@posix_only
@pytest.mark.parametrize("link", ["0", "z", "x/link", "x/y/link"])
def test_a_link_to_a_folder_does_not_give_a_picture_twice(tmp_path, link):
    put(tmp_path, "a.png", "m/b.png", "m/n/c.png", "x/y/d.png")
    (tmp_path / link).symlink_to(tmp_path / "m")
    assert sorted(found(tmp_path)) == ["a.png", "m/b.png", "m/n/c.png", "x/y/d.png"]


@posix_only
def test_a_link_out_of_the_source_is_followed_once(tmp_path):
    put(tmp_path / "elsewhere", "b.png")
    put(tmp_path / "source", "a.png", "x/c.png")
    for name in ("one", "x/two"):
        (tmp_path / "source" / name).symlink_to(tmp_path / "elsewhere")
    assert sorted(found(tmp_path / "source")) == ["a.png", "one/b.png", "x/c.png"]


@posix_only
@pytest.mark.parametrize(("name", "noted"), [("gone.png", True), ("gone", True), (".gone.png", False)])
def test_a_link_to_nowhere_is_noted(tmp_path, name, noted):
    put(tmp_path, "a.png")
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with look(tmp_path) as scan:
        assert scan.found == 1
        assert list(scan.listing.unreadable) == [str(tmp_path / name)] * noted


@posix_only
def test_an_excluded_link_to_nowhere_is_nobodys_business(tmp_path):
    put(tmp_path, "a.png")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with look(tmp_path, exclude=["gone"]) as scan:
        assert scan.listing.unreadable == {}


@posix_only
def test_what_a_link_led_to_is_not_missing_while_the_link_leads_nowhere(tmp_path):
    put(tmp_path / "disk", "b.png")
    put(tmp_path / "source", "a.png", "c.png")
    (tmp_path / "source" / "disk").symlink_to(tmp_path / "disk")
    known = remembered(tmp_path / "source")
    os.rename(tmp_path / "disk", tmp_path / "unmounted")
    os.remove(tmp_path / "source" / "c.png")
    with look(tmp_path / "source", known=known.values()) as scan:
        assert missing_names(scan, known) == {"c.png"}


# folders that cannot be listed


def refuse_to_list(monkeypatch, folder):
    """Let this folder be unreadable, for root too."""
    real = os.scandir

    def scandir(path):
        if path == str(folder):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_what_lies_below_an_unreadable_folder_is_not_missing(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "b.png", "x/c.png", "x/y/d.png", "xx/e.png")
    known = remembered(tmp_path)
    rejects = [reject(7, tmp_path / "x/y/junk.png"), reject(8, tmp_path / "xx/junk.png")]
    os.remove(tmp_path / "b.png")
    os.remove(tmp_path / "xx" / "e.png")
    refuse_to_list(monkeypatch, tmp_path / "x")
    with look(tmp_path, known=known.values(), rejects=rejects) as scan:
        assert missing_names(scan, known) == {"b.png", "xx/e.png"}
        assert scan.missing_rejects() == [8]
        assert list(scan.listing.unreadable) == [str(tmp_path / "x")]


def test_a_folder_that_fails_halfway_protects_what_was_not_seen(tmp_path, monkeypatch):
    put(tmp_path, "a.png", *(f"x/{i}.png" for i in range(4)))
    known = remembered(tmp_path)
    real = os.scandir

    @contextmanager
    def scandir(path):
        with real(path) as entries:
            yield iter(entries) if path != str(tmp_path / "x") else failing(entries)

    def failing(entries):
        yield from list(entries)[:2]
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", scandir)
    with look(tmp_path, known=known.values()) as scan:
        assert scan.found == 3
        assert scan.missing() == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permissions_is_noted(tmp_path):
    put(tmp_path, "a.png", "x/b.png")
    known = remembered(tmp_path)
    (tmp_path / "x").chmod(0)
    with look(tmp_path, known=known.values()) as scan:
        assert list(scan.listing.unreadable) == [str(tmp_path / "x")]
        assert scan.missing() == []
    (tmp_path / "x").chmod(0o700)


def test_a_source_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    refuse_to_list(monkeypatch, tmp_path)
    with pytest.raises(SourceError, match="Permission denied"):
        found(tmp_path)


# what the store knows


def test_known_files_are_not_decoded_and_changed_ones_are(tmp_path):
    put(tmp_path, "a.png", "b.png", "c.png")
    known = remembered(tmp_path)
    (tmp_path / "b.png").write_bytes(b"longer than it was, whatever it was" * 9)
    put(tmp_path, "d.png")
    with look(tmp_path, known=known.values()) as scan:
        rows = {os.path.basename(file.path): file.row for file in scan.to_decode()}
        assert rows == {"b.png": known["b.png"].row, "d.png": None}
        assert scan.count_to_decode() == 2
        assert scan.missing() == scan.back() == []


def test_only_a_digest_settles_a_file_of_the_same_size_and_another_time(tmp_path):
    put(tmp_path, "a.png")
    known = remembered(tmp_path)
    os.utime(tmp_path / "a.png", ns=(0, 5))
    with look(tmp_path, known=known.values()) as scan:
        assert list(scan.touched()) == [(str(tmp_path / "a.png"), 0, known["a.png"].digest)]
        assert scan.count_to_decode() == 1
        scan.settle(str(tmp_path / "a.png"), 0)
        assert scan.count_to_decode() == 0
        assert [(s.row, s.mtime_ns) for s in scan.settled()] == [(0, 5)]
        assert scan.overwritten() == []


def test_a_file_of_the_size_of_a_missing_one_may_have_moved(tmp_path):
    put(tmp_path, "a.png", "bb.png", "ccc.png")
    known = remembered(tmp_path)
    os.rename(tmp_path / "a.png", tmp_path / "z.png")
    put(tmp_path, "much longer name.png")
    with look(tmp_path, known=known.values()) as scan:
        assert list(scan.strangers()) == [str(tmp_path / "z.png")]
        assert scan.take_missing(b"another digest") is None
        assert scan.take_missing(known["a.png"].digest) == known["a.png"].row
        assert scan.take_missing(known["a.png"].digest) is None
        scan.settle(str(tmp_path / "z.png"), known["a.png"].row)
        assert scan.missing() == []
        assert [os.path.basename(file.path) for file in scan.to_decode()] == ["much longer name.png"]


def test_a_picture_moved_onto_another_takes_its_place(tmp_path):
    put(tmp_path, "a.png", "b.png")
    os.utime(tmp_path / "a.png", ns=(0, 5))
    known = remembered(tmp_path)
    os.replace(tmp_path / "a.png", tmp_path / "b.png")
    with look(tmp_path, known=known.values()) as scan:
        assert list(scan.strangers()) == [str(tmp_path / "b.png")]
        scan.settle(str(tmp_path / "b.png"), scan.take_missing(known["a.png"].digest))
        assert scan.overwritten() == [1]
        assert (scan.missing(), scan.count_to_decode()) == ([], 0)


def test_a_picture_that_is_back_is_live_again_without_a_look(tmp_path):
    put(tmp_path, "a.png", "b.png")
    known = remembered(tmp_path, live=False)
    os.remove(tmp_path / "b.png")
    with look(tmp_path, known=known.values()) as scan:
        assert (scan.back(), scan.missing(), scan.count_to_decode()) == ([0], [], 0)


def test_known_rejects_are_tried_again_when_they_change_or_a_limit_refused_them(tmp_path):
    put(tmp_path, "same.png", "large.png", "touched.png")
    known = remembered(tmp_path)
    rejects = [
        reject(row, known[name].path, known[name].size, known[name].mtime_ns + touched, oversize)
        for row, (name, touched, oversize) in enumerate(
            [("same.png", 0, False), ("large.png", 0, True), ("touched.png", 1, False)]
        )
    ]
    rejects.append(reject(3, tmp_path / "deleted.png"))
    with look(tmp_path, rejects=rejects) as scan:
        tried = {os.path.basename(file.path): (file.reject_row, file.retry) for file in scan.to_decode()}
        assert tried == {"large.png": (1, True), "touched.png": (2, False)}
        assert (scan.count_retries(), scan.count_known_rejects(), scan.missing_rejects()) == (1, 1, [3])


def test_pictures_of_other_sources_are_left_alone(tmp_path):
    put(tmp_path / "a", "1.png")
    put(tmp_path / "ab", "2.png")
    known = [*remembered(tmp_path / "a").values(), *remembered(tmp_path / "ab", start=1).values()]
    os.remove(tmp_path / "ab" / "2.png")
    with look(tmp_path / "a", known=known) as scan:
        assert scan.missing() == []
        scan.check_vanished()


# refusals


def test_a_source_must_be_a_folder_that_is_there(tmp_path):
    put(tmp_path, "a.png")
    check_source(str(tmp_path))
    with pytest.raises(SourceNotFoundError):
        check_source(str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="give its folder") as refused:
        check_source(str(tmp_path / "a.png"))
    assert not isinstance(refused.value, SourceNotFoundError)
    with pytest.raises(SourceError):
        check_source(str(tmp_path / "a.png" / "b"))


def test_a_source_without_pictures_is_refused(tmp_path):
    put(tmp_path, "a.txt")
    with look(tmp_path) as scan, pytest.raises(NoPicturesError, match="1 other"):
        scan.check_found()


def test_a_source_that_holds_nothing_now_is_refused(tmp_path):
    put(tmp_path, *(f"x/{i}.png" for i in range(9)), "y/9.png")
    known = remembered(tmp_path).values()
    os.remove(tmp_path / "y" / "9.png")
    with (
        look(tmp_path / "x", tmp_path / "y", known=known) as scan,
        pytest.raises(SourceNotFoundError, match="1 picture last time"),
    ):
        scan.check_vanished()


@pytest.mark.parametrize(("n_deleted", "refused"), [(0, False), (5, False), (6, True), (9, True)])
def test_more_than_half_of_the_pictures_do_not_vanish_at_once(tmp_path, n_deleted, refused):
    put(tmp_path, *(f"{i}.png" for i in range(10)))
    known = remembered(tmp_path).values()
    for i in range(n_deleted):
        os.remove(tmp_path / f"{i}.png")
    with look(tmp_path, known=known) as scan:
        if refused:
            with pytest.raises(SourceVanishedError, match=f"{n_deleted} of 10"):
                scan.check_vanished()
        else:
            scan.check_vanished()


def test_a_small_source_is_watched_beside_a_large_one(tmp_path):
    put(tmp_path / "a", *(f"{i}.png" for i in range(20)))
    put(tmp_path / "b", *(f"{i}.png" for i in range(4)))
    known = [*remembered(tmp_path / "a").values(), *remembered(tmp_path / "b", start=20).values()]
    for i in range(3):
        os.remove(tmp_path / "b" / f"{i}.png")
    with look(tmp_path / "a", tmp_path / "b", known=known) as scan, pytest.raises(SourceVanishedError, match="3 of 4"):
        scan.check_vanished()


@pytest.mark.parametrize("patterns", [{"include": ["*.jpg"]}, {"exclude": ["x"]}])
def test_what_the_patterns_take_no_more_is_not_taken_for_vanished(tmp_path, patterns):
    put(tmp_path, "a.jpg", "b.jpg", *(f"x/{i}.png" for i in range(8)))
    known = remembered(tmp_path)
    with look(tmp_path, known=known.values(), **patterns) as scan:
        scan.check_vanished()
        assert missing_names(scan, known) == {f"x/{i}.png" for i in range(8)}
        assert scan.count_left_out() == 8
    os.remove(tmp_path / "a.jpg")
    with look(tmp_path, known=known.values(), **patterns) as scan:
        scan.check_vanished()
        assert (len(scan.missing()), scan.count_left_out()) == (9, 8)
    os.remove(tmp_path / "b.jpg")
    with look(tmp_path, known=known.values(), **patterns) as scan, pytest.raises(SourceNotFoundError, match="2 pic"):
        scan.check_vanished()


def test_patterns_that_take_nothing_are_taken_for_a_mistake(tmp_path):
    put(tmp_path, "a.png", "b.png")
    with (
        look(tmp_path, known=remembered(tmp_path).values(), include=["*.pgn"]) as scan,
        pytest.raises(NoPicturesError, match="all 2 known"),
    ):
        scan.check_vanished()


def test_moved_and_long_gone_pictures_do_not_count_as_vanished(tmp_path):
    put(tmp_path, *(f"{i}.png" for i in range(4)))
    known = list(remembered(tmp_path).values())
    long_gone = [
        KnownPicture(row=10 + i, path=str(tmp_path / f"old{i}.png"), size=1, mtime_ns=1, digest=b"", live=False)
        for i in range(9)
    ]
    for i in range(4):
        os.rename(tmp_path / f"{i}.png", tmp_path / f"moved{i}.png")
    with look(tmp_path, known=[*known, *long_gone]) as scan:
        with pytest.raises(SourceVanishedError):
            scan.check_vanished()
        for picture in known:
            assert scan.take_missing(picture.digest) == picture.row
        scan.check_vanished()


def test_a_source_that_is_known_to_be_absent_is_not_listed_and_what_it_held_is_missing(tmp_path):
    put(tmp_path / "a", "1.png")
    put(tmp_path / "b", "2.png")
    known = {**remembered(tmp_path / "a"), **remembered(tmp_path / "b", start=1)}
    with look(tmp_path / "a", tmp_path / "b", known=known.values(), absent={str(tmp_path / "b")}) as scan:
        assert (scan.found, missing_names(scan, known)) == (1, {"2.png"})


# the order

NAMES = st.lists(st.text("abc😀", min_size=1, max_size=3), min_size=1, max_size=3).map(lambda n: "/".join(n) + ".png")


@posix_only
def test_the_order_does_not_depend_on_how_the_system_lists_folders(tmp_path, monkeypatch):
    put(tmp_path, *(f"{folder}/{i}.png" for folder in "abc" for i in range(9)))
    (tmp_path / "z").symlink_to(tmp_path / "b", target_is_directory=True)
    expected = found(tmp_path)
    real = os.scandir

    @contextmanager
    def backwards(path):
        with real(path) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", backwards)
    assert found(tmp_path) == expected


def test_the_order_has_nothing_to_do_with_folders_and_follows_the_seed(tmp_path):
    put(tmp_path, *(f"{folder}/{i}.png" for folder in "abc" for i in range(9)))
    orders = [found(tmp_path, seed=seed) for seed in (0, 0, 1, 2**32 - 1)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    for order in orders:
        assert len({name[0] for name in order[:9]}) > 1


def test_the_order_stays_when_the_source_moves(tmp_path):
    put(tmp_path / "here", *(f"{folder}/{i}.png" for folder in "abc" for i in range(5)))
    before = found(tmp_path / "here")
    os.rename(tmp_path / "here", tmp_path / "there")
    assert found(tmp_path / "there") == before


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(NAMES, min_size=1, max_size=12), data=st.data())
def test_files_that_come_or_go_do_not_change_the_order_of_the_others(tmp_path_factory, names, data):
    folder = tmp_path_factory.mktemp("source")
    put(folder, *names)
    before = found(folder)
    assert sorted(before) == sorted(names)
    deleted = data.draw(st.sets(st.sampled_from(sorted(before))))
    for name in deleted:
        os.remove(folder / name)
    assert found(folder) == [name for name in before if name not in deleted]
