"""What lies in a destination."""

import os
import sys

import pytest

from streamcluster.destination.look import is_within, walk


def test_everything_is_seen_but_what_is_ours_at_the_top(tmp_path):
    for name in ("a.jpg", "cluster_00/b.jpg", "cluster_00/.streamcluster-tmp-1", "x/y/z", "x/metadata.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "metadata.csv").write_bytes(b"x")
    (tmp_path / ".streamcluster").mkdir()
    (tmp_path / ".streamcluster/manifest.jsonl").write_bytes(b"x")
    assert {path: stamp.kind for path, stamp in walk(str(tmp_path))} == {
        "a.jpg": "file",
        "cluster_00": "folder",
        "cluster_00/b.jpg": "file",
        "cluster_00/.streamcluster-tmp-1": "temporary",
        "x": "folder",
        "x/y": "folder",
        "x/y/z": "file",
        "x/metadata.csv": "file",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_links_are_seen_and_not_entered(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert {path: stamp.kind for path, stamp in walk(str(tmp_path))} == {
        "a": "folder",
        "a/loop": "link",
        "pipe": "other",
    }


def test_within(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    a = str(tmp_path / "a")
    assert is_within(a, a)
    assert is_within(str(tmp_path / "a/b/none/yet"), a)
    assert not is_within(str(tmp_path / "ab"), a)
    assert not is_within(str(tmp_path), a)
    if sys.platform != "win32":
        (tmp_path / "link").symlink_to(a)
        assert is_within(str(tmp_path / "link/b"), a)
        assert is_within(str(tmp_path / "a/b"), str(tmp_path / "link"))
