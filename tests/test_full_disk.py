"""A full disk: one line says so, nothing that counted is lost, and with space again the same command completes."""

import os
import shutil
import subprocess
import sys

import models
import pytest
from children import ENVIRONMENT, Ended, ForkServer, check_one_line
from pictures import (
    SIDE,
    Pictures,
    arrays_of,
    check_rows,
    check_same,
    contents,
    embeddings_of,
    listed,
    pointer_of,
    tree,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tmpfs and RLIMIT_FSIZE")

CLUSTERS = 5
PAGE = 4096


def ingest_command(world, store):
    return ["ingest", world / "src", "--store", store, "--image-size", SIDE]


def fit_command(store, clusters=CLUSTERS):
    return ["fit", "--store", store, "--clusters", clusters, "--components", 20]


def embedding_command(world, store):
    features = ("--features", f"onnx:{world / 'm.onnx'}")
    return ["fit", "--store", store, "--clusters", CLUSTERS, "--components", models.WIDTH, *features]


def disk_bytes(folder):
    """Return what a folder takes on a disk of whole pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ForkServer(tmp_path_factory.mktemp("printed")) as started:
        yield started


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return Pictures(tmp_path_factory.mktemp("world") / "src")


def add_pictures(pictures, when):
    for i in range(200):
        pictures.write(f"{when}-{i % 4}/{i // 4:02d}.png", (when, i))
    pictures.write_bytes(f"{when}-0/broken.png", b"no picture")


@pytest.fixture(scope="module")
def world(pictures, server):
    """Sources, and what a disk with space made of them: first.zarr of half of them, fitted.zarr and refitted.zarr."""
    root = pictures.folder.parent
    add_pictures(pictures, "early")
    server.run_well(*ingest_command(root, root / "first.zarr"))
    add_pictures(pictures, "late")
    shutil.copytree(root / "first.zarr", root / "whole.zarr")
    server.run_well(*ingest_command(root, root / "whole.zarr"))
    shutil.copytree(root / "whole.zarr", root / "fitted.zarr")
    server.run_well(*fit_command(root / "fitted.zarr", 3))
    shutil.copytree(root / "fitted.zarr", root / "refitted.zarr")
    server.run_well(*fit_command(root / "refitted.zarr"))
    models.save_model(root / "m.onnx", size=2 * SIDE)
    shutil.copytree(root / "fitted.zarr", root / "embedded.zarr")
    server.run_well(*embedding_command(root, root / "embedded.zarr"))
    for mode in ("copy", "symlink"):
        server.run_well("export", root / mode, "--store", root / "refitted.zarr", "--mode", mode)
    return root


class Disk:
    """A disk in memory whose size a test chooses."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self._mount("size=64m")

    def _mount(self, options):
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True, capture_output=True
        )

    def resize(self, **options):
        self._mount(",".join(["remount", *(f"{name}={value}" for name, value in options.items())]))

    def leave(self, n_bytes):
        """Let this much space be free, in whole pages."""
        status = os.statvfs(self.folder)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        self.resize(size=used + int(n_bytes) // PAGE * PAGE)

    def leave_files(self, n):
        """Let there be room for this many more files."""
        status = os.statvfs(self.folder)
        self.resize(nr_inodes=status.f_files - status.f_ffree + n)


@pytest.fixture
def disk(tmp_path):
    try:
        made = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a disk in memory")
    yield made
    subprocess.run(["umount", "-l", str(made.folder)], check=True)


# --- the store


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9])
def test_an_ingest_that_fills_the_disk_keeps_its_commits_and_completes_later(
    world, pictures, server, disk, tmp_path, share
):
    store = disk.folder / "s.zarr"
    shutil.copytree(world / "first.zarr", store)
    before = pointer_of(store)["committed"]
    disk.leave(share * (disk_bytes(world / "whole.zarr") - disk_bytes(world / "first.zarr")))
    check_one_line(server.run(*ingest_command(world, store)), 1)
    committed = check_rows(store, pictures)
    assert before <= committed < 400
    check_same_rows(store, world / "whole.zarr", before)
    disk.resize(size="64m")
    server.run_well(*ingest_command(world, store))
    check_same(arrays_of(store), arrays_of(world / "whole.zarr"))


def check_same_rows(store, other, n_rows):
    """The first rows of two stores are the same."""
    found, expected = arrays_of(store), arrays_of(other)
    for name in ("./pixels", "catalog/path", "catalog/digest", "catalog/mtime_ns"):
        assert (found[name][:n_rows] == expected[name][:n_rows]).all(), name


def test_a_store_that_cannot_even_be_made_is_not_there(world, server, disk):
    store = disk.folder / "s.zarr"
    disk.leave(3 * PAGE)
    check_one_line(server.run(*ingest_command(world, store)), 1)
    assert not store.exists()
    disk.resize(size="64m")
    server.run_well(*ingest_command(world, store))
    assert pointer_of(store)["committed"] == 400


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_fit_that_fills_the_disk_leaves_the_fit_before_and_completes_later(world, server, disk, share):
    store = disk.folder / "s.zarr"
    shutil.copytree(world / "fitted.zarr", store)
    disk.leave(share * (disk_bytes(world / "refitted.zarr") - disk_bytes(world / "fitted.zarr")))
    ended = server.run(*fit_command(store))
    check_same(arrays_of(store), arrays_of(world / "fitted.zarr"))
    disk.resize(size="64m")
    server.run_well(*fit_command(store))
    check_same(arrays_of(store), arrays_of(world / "refitted.zarr"))
    check_one_line(ended, 1)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2, 0.3, 0.5])
def test_a_fit_with_a_model_that_fills_the_disk_leaves_the_fit_before_and_completes_later(world, server, disk, share):
    store = disk.folder / "s.zarr"
    shutil.copytree(world / "fitted.zarr", store)
    disk.leave(share * (disk_bytes(world / "embedded.zarr") - disk_bytes(world / "fitted.zarr")))
    ended = server.run(*embedding_command(world, store))
    check_same(arrays_of(store), arrays_of(world / "fitted.zarr"))
    disk.resize(size="64m")
    server.run_well(*embedding_command(world, store))
    for read in (arrays_of, embeddings_of):
        check_same(read(store), read(world / "embedded.zarr"))
    check_one_line(ended, 1)


def test_an_ingest_may_not_write_large_files(world, pictures, server, tmp_path):
    store = tmp_path / "s.zarr"
    shutil.copytree(world / "first.zarr", store)
    check_one_line(server.run(*ingest_command(world, store), file_bytes=PAGE), 1)
    assert check_rows(store, pictures) == pointer_of(world / "first.zarr")["committed"]
    server.run_well(*ingest_command(world, store))
    check_same(arrays_of(store), arrays_of(world / "whole.zarr"))


def test_a_fit_may_not_write_large_files(world, server, tmp_path):
    store = tmp_path / "s.zarr"
    shutil.copytree(world / "fitted.zarr", store)
    ended = server.run(*fit_command(store), file_bytes=PAGE)
    check_same(arrays_of(store), arrays_of(world / "fitted.zarr"))
    server.run_well(*fit_command(store))
    check_same(arrays_of(store), arrays_of(world / "refitted.zarr"))
    check_one_line(ended, 1)


# --- the destination


def export_command(world, dest, mode):
    return ["export", dest, "--store", world / "refitted.zarr", "--mode", mode]


def check_whole_pictures(dest, expected):
    """Whatever lies there is whole, and a table lists what lies where it says."""
    found = contents(dest)
    assert found <= contents(expected)
    assert not (dest / "metadata.csv").exists() or listed(dest / "metadata.csv") <= found
    return sum(found.values())


def test_copies_that_do_not_fit_are_refused_before_the_first(world, server, disk):
    dest = disk.folder / "dest"
    disk.leave(disk_bytes(world / "copy") // 4)
    check_one_line(server.run(*export_command(world, dest, "copy")), 1)
    assert contents(dest).total() == 0
    disk.resize(size="64m")
    server.run_well(*export_command(world, dest, "copy"))
    check_same(tree(dest), tree(world / "copy"))


@pytest.mark.parametrize("mode", ["copy", "symlink"])
@pytest.mark.parametrize("n_files", [20, 150, 350])
def test_a_destination_that_runs_full_holds_whole_pictures_and_is_completed_later(world, server, disk, mode, n_files):
    dest = disk.folder / "dest"
    disk.leave_files(n_files)
    check_one_line(server.run(*export_command(world, dest, mode)), 1)
    assert check_whole_pictures(dest, world / mode) < n_files
    disk.leave_files(2000)
    server.run_well(*export_command(world, dest, mode))
    check_same(tree(dest), tree(world / mode))


@pytest.mark.parametrize("file_bytes", [1000, 20_000, 100_000])
def test_an_export_may_not_write_large_files(world, server, tmp_path, file_bytes):
    dest = tmp_path / "dest"
    check_one_line(server.run(*export_command(world, dest, "copy"), file_bytes=file_bytes), 1)
    check_whole_pictures(dest, world / "copy")
    server.run_well(*export_command(world, dest, "copy"))
    check_same(tree(dest), tree(world / "copy"))


# --- the scratch databases


def run_with_scratch(folder, *arguments):
    """Run a command whose scratch databases lie in `folder`, and hardly in memory."""
    code = (
        "from streamcluster.destination import ledger\nfrom streamcluster.sources import scan\n"
        f"ledger.CACHE_BYTES = scan.CACHE_BYTES = {12 * PAGE}\n"
        "from streamcluster.__main__ import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=ENVIRONMENT | {"SQLITE_TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("job", ["ingest", "status", "export"])
def test_a_full_scratch_disk_is_named_and_nothing_is_changed(world, disk, tmp_path, job):
    store = tmp_path / "s.zarr"
    shutil.copytree(world / "refitted.zarr", store)
    command = {
        "ingest": ingest_command(world, store),
        "status": ["status", "--store", store],
        "export": ["export", tmp_path / "dest", "--store", store],
    }[job]
    disk.leave(PAGE)
    assert str(disk.folder) in check_one_line(run_with_scratch(disk.folder, *command), 1)
    check_same(arrays_of(store), arrays_of(world / "refitted.zarr"))
    disk.resize(size="64m")
    assert run_with_scratch(disk.folder, *command).code == 0
