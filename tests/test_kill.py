"""A run that is killed, stopped or locked out loses nothing, and run again gives what an untroubled run gives."""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import models
import numpy as np
import pytest
from children import ForkServer, FreshChild, check_one_line, wait_until
from pictures import (
    SIDE,
    TEMPORARY,
    Pictures,
    arrays_of,
    check_rows,
    check_same,
    contents,
    embeddings_of,
    findings_of,
    listed,
    pointer_of,
    tree,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and /proc")

#: Random moments at which each of the jobs below is killed, from within; and from outside, by the clock.
MOMENTS = int(os.environ.get("KILL_MOMENTS", "5"))
CLOCK_MOMENTS = 2
FIRST_CLUSTERS, CLUSTERS = 3, 6
FINDINGS = ("duplicates", "junk")


def write_first(pictures):
    """Five folders with equal base names, one file in twenty broken."""
    for i in range(300):
        name = f"{i % 5}/{i // 5:02d}.png"
        if i % 20 == 7:
            pictures.write_bytes(name, b"\x89PNG\r\n\x1a\nno picture " + name.encode())
        else:
            pictures.write(name, i)


def change(pictures):
    """A week passes: files are changed, touched, moved, removed, broken, mended and added."""
    for i in range(20):
        pictures.write(f"0/{i:02d}.png", ("changed", i))
    for i in range(10):
        pictures.touch(f"1/{i:02d}.png")
        pictures.move(f"2/{i:02d}.png", f"moved/{i:02d}.png")
        pictures.remove(f"3/{i:02d}.png")
        pictures.write_bytes(f"4/{i:02d}.png", b"broken %d" % i)
    pictures.write("2/11.png", "mended or changed")
    for i in range(60):
        pictures.write(f"new/{i:02d}.png", ("new", i))


def copy(source, target):
    shutil.copytree(source, target, symlinks=True)


@dataclass(frozen=True)
class Job:
    """A job to kill: what it starts from, its command, what holds after a kill, and what it ends with."""

    prepare: Callable[[Path], None]
    command: Callable[[Path], list]
    check: Callable[[Path], None]
    result: Callable[[Path], dict]
    expected: dict
    lock: str


def ingest_command(world, store):
    return ["ingest", world / "src", "--store", store, "--image-size", SIDE]


def fit_command(store, clusters=CLUSTERS):
    return ["fit", "--store", store, "--clusters", clusters, "--components", 20]


def embedding_command(world, store):
    features = ("--features", f"onnx:{world / 'm.onnx'}")
    return ["fit", "--store", store, "--clusters", CLUSTERS, "--components", models.WIDTH, *features]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ForkServer(tmp_path_factory.mktemp("printed")) as started:
        yield started


@dataclass(frozen=True)
class World:
    """Sources after their change, and what unkilled runs made of them."""

    root: Path
    pictures: Pictures


@pytest.fixture(scope="module")
def world(tmp_path_factory, server):
    root = tmp_path_factory.mktemp("world")
    pictures = Pictures(root / "src")
    write_first(pictures)
    server.run_well(*ingest_command(root, root / "first.zarr"))
    change(pictures)
    server.run_well(*ingest_command(root, root / "fresh.zarr"))
    copy(root / "first.zarr", root / "updated.zarr")
    server.run_well(*ingest_command(root, root / "updated.zarr"))
    copy(root / "updated.zarr", root / "fitted.zarr")
    server.run_well(*fit_command(root / "fitted.zarr", FIRST_CLUSTERS))
    models.save_model(root / "m.onnx", size=2 * SIDE)
    copy(root / "fitted.zarr", root / "embedded.zarr")
    server.run_well(*embedding_command(root, root / "embedded.zarr"))
    server.run_well("export", root / "first", "--store", root / "fitted.zarr")
    copy(root / "fitted.zarr", root / "refitted.zarr")
    server.run_well(*fit_command(root / "refitted.zarr"))
    for kind in FINDINGS:
        copy(root / "refitted.zarr", root / f"{kind}.zarr")
        server.run_well(kind, "--store", root / f"{kind}.zarr")
    server.run_well("export", root / "fresh", "--store", root / "refitted.zarr")
    copy(root / "first", root / "updated")
    server.run_well("export", root / "updated", "--store", root / "refitted.zarr")
    return World(root, pictures)


def ingest_job(world, update):
    def prepare(folder):
        if update:
            copy(world.root / "first.zarr", folder / "s.zarr")

    def check(folder):
        if (folder / "s.zarr").exists():
            check_rows(folder / "s.zarr", world.pictures)

    return Job(
        prepare,
        lambda folder: ingest_command(world.root, folder / "s.zarr"),
        check,
        lambda folder: arrays_of(folder / "s.zarr"),
        arrays_of(world.root / ("updated.zarr" if update else "fresh.zarr")),
        "s.zarr.lock.holder",
    )


def fit_job(world):
    before, after = arrays_of(world.root / "fitted.zarr"), arrays_of(world.root / "refitted.zarr")

    def check(folder):
        found = arrays_of(folder / "s.zarr")
        check_same(found, before if found["pointer"]["current_fit"] == "0001" else after)

    return Job(
        lambda folder: copy(world.root / "fitted.zarr", folder / "s.zarr"),
        lambda folder: fit_command(folder / "s.zarr"),
        check,
        lambda folder: arrays_of(folder / "s.zarr"),
        after,
        "s.zarr.lock.holder",
    )


def embedding_job(world):
    before, after = (arrays_of(world.root / name) for name in ("fitted.zarr", "embedded.zarr"))
    expected = embeddings_of(world.root / "embedded.zarr")

    def check(folder):
        """Embeddings that say that they are made are right, and a fit that counts has all of them."""
        found, embedded = arrays_of(folder / "s.zarr"), embeddings_of(folder / "s.zarr")
        for name, vectors in ((name, array) for name, array in embedded.items() if name.endswith("vectors")):
            made = embedded[name.replace("vectors", "origin")] > 0
            assert np.array_equal(vectors[: len(made)][made], expected[name][: len(made)][made])
        if found["pointer"]["current_fit"] == "0001":
            check_same(found, before)
        else:
            check_same(found | embedded, after | expected)

    return Job(
        lambda folder: copy(world.root / "fitted.zarr", folder / "s.zarr"),
        lambda folder: embedding_command(world.root, folder / "s.zarr"),
        check,
        lambda folder: arrays_of(folder / "s.zarr") | embeddings_of(folder / "s.zarr"),
        after | expected,
        "s.zarr.lock.holder",
    )


def finding_job(world, kind):
    before = arrays_of(world.root / "refitted.zarr")
    after = arrays_of(world.root / f"{kind}.zarr") | findings_of(world.root / f"{kind}.zarr")

    def check(folder):
        """What was found counts whole or not at all."""
        found = arrays_of(folder / "s.zarr") | findings_of(folder / "s.zarr")
        check_same(found, after if kind in found["pointer"]["findings"] else before)

    return Job(
        lambda folder: copy(world.root / "refitted.zarr", folder / "s.zarr"),
        lambda folder: [kind, "--store", folder / "s.zarr"],
        check,
        lambda folder: arrays_of(folder / "s.zarr") | findings_of(folder / "s.zarr"),
        after,
        "s.zarr.lock.holder",
    )


def export_job(world, update):
    expected = tree(world.root / ("updated" if update else "fresh"))
    tables = {expected["metadata.csv"][0]}
    before = Counter()
    if update:
        before = contents(world.root / "first")
        tables.add((world.root / "first/metadata.csv").read_bytes())
    whole = contents(world.root / "updated")

    def check(folder):
        found, table = contents(folder / "dest"), folder / "dest/metadata.csv"
        assert before <= found <= whole
        assert not table.exists() or table.read_bytes() in tables or listed(table) == contents(folder / "dest")

    return Job(
        lambda folder: copy(world.root / "first", folder / "dest") if update else None,
        lambda folder: ["export", folder / "dest", "--store", world.root / "refitted.zarr"],
        check,
        lambda folder: tree(folder / "dest"),
        expected,
        "dest/.streamcluster/lock.holder",
    )


JOBS = {
    "first ingest": lambda world: ingest_job(world, update=False),
    "later ingest": lambda world: ingest_job(world, update=True),
    "fit": fit_job,
    "fit with a model": embedding_job,
    "duplicates": lambda world: finding_job(world, "duplicates"),
    "junk": lambda world: finding_job(world, "junk"),
    "first export": lambda world: export_job(world, update=False),
    "later export": lambda world: export_job(world, update=True),
}


@pytest.fixture(params=JOBS)
def job(request, world):
    return JOBS[request.param](world)


def begin(job, folder):
    folder.mkdir()
    job.prepare(folder)
    return job.command(folder)


def check_goes_on(job, folder, server):
    """What a kill left is sound, and the same command run again ends where an unkilled run does."""
    job.check(folder)
    server.run_well(*job.command(folder))
    check_same(job.result(folder), job.expected)
    shutil.rmtree(folder)


def spread(total, moments, seed):
    """Return random numbers from 1 to `total`, one from each of as many equal parts."""
    chance = random.Random(seed)
    return [1 + int((i + chance.random()) * total / moments) for i in range(moments)]


def test_the_small_collection_crosses_every_border(world):
    pointer = pointer_of(world.root / "updated.zarr")
    assert pointer["committed"] > 8 * pointer["block_rows"]
    assert pointer["committed_rejects"] > 15
    names = [name for name in tree(world.root / "fresh") if "~" in name]
    assert len(names) > 50


def test_killed_at_any_change_to_the_disk_and_run_again_is_as_if_never_killed(job, server, tmp_path):
    counted = tmp_path / "count"
    server.run_well(*begin(job, tmp_path / "whole"), count_into=str(counted))
    check_same(job.result(tmp_path / "whole"), job.expected)
    deaths = 0
    for at in spread(int(counted.read_text()), MOMENTS, seed=0):
        ended = server.run(*begin(job, tmp_path / str(at)), die_at=at)
        assert ended.code in (0, -signal.SIGKILL), ended.stderr
        deaths += ended.code != 0
        check_goes_on(job, tmp_path / str(at), server)
    assert deaths >= MOMENTS - 1


def test_killed_by_the_clock_and_run_again_is_as_if_never_killed(job, server, tmp_path):
    child = server.start(*begin(job, tmp_path / "whole"))
    assert wait_until((tmp_path / "whole" / job.lock).exists)
    started = time.monotonic()
    assert child.wait().code == 0
    seconds = time.monotonic() - started
    for i, milliseconds in enumerate(spread(int(1000 * seconds), CLOCK_MOMENTS, seed=1)):
        child = server.start(*begin(job, tmp_path / str(i)))
        assert wait_until((tmp_path / str(i) / job.lock).exists)
        time.sleep(milliseconds / 1000)
        child.signal(signal.SIGKILL)
        assert child.wait().code in (0, -signal.SIGKILL)
        check_goes_on(job, tmp_path / str(i), server)


def test_killed_again_and_again_it_still_gets_there(world, server, tmp_path):
    job = ingest_job(world, update=True)
    command = begin(job, tmp_path / "s")
    for at in (40, 200, 500, 300, 100):
        server.run(*command, die_at=at)
        job.check(tmp_path / "s")
    check_goes_on(job, tmp_path / "s", server)


# --- asked to stop


def has_begun(job, folder):
    """Whether a job has done some of its work, so that a stop finds it in the middle."""
    if job.lock.startswith("dest"):
        return any(path for path in folder.glob("dest/cluster_*/*") if not path.name.startswith(TEMPORARY))
    pointer = pointer_of(folder / "s.zarr")
    if pointer.get("current_fit"):
        return (folder / "s.zarr/fits/0002/scores").exists()
    return pointer.get("committed", 0) > 0


def check_stop(job, folder, child, number, server):
    assert wait_until(lambda: has_begun(job, folder))
    child.signal(number)
    ended = child.wait()
    check_one_line(ended, 128 + number)
    assert ended.stderr.count("\n") == 1
    with pytest.raises(AssertionError):
        check_same(job.result(folder), job.expected)
    check_goes_on(job, folder, server)


@pytest.mark.parametrize("job", ["first ingest", "fit", "first export"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_stops_in_the_middle_and_goes_on_later(job, number, server, tmp_path):
    child = server.start(*begin(job, tmp_path / "s"), "--quiet", seconds_each=0.06)
    check_stop(job, tmp_path / "s", child, number, server)


def test_a_fresh_process_stops_too(world, server, tmp_path):
    job = ingest_job(world, update=True)
    child = FreshChild(*begin(job, tmp_path / "s"), "--quiet", seconds_each=0.06)
    assert wait_until((tmp_path / "s" / job.lock).exists)
    check_stop(job, tmp_path / "s", child, signal.SIGTERM, server)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_asked_twice_it_ends_at_once(world, server, second, tmp_path):
    job = ingest_job(world, update=False)
    child = server.start(*begin(job, tmp_path / "s"), seconds_each=10_000)
    assert wait_until((tmp_path / "s" / job.lock).exists)
    child.signal(signal.SIGINT)
    # Signals that wait to be handled are one; so the second is sent until it has come through.
    assert wait_until(lambda: child.signal(second) or child.ended())
    assert child.wait().code == 128 + second
    check_goes_on(job, tmp_path / "s", server)


# --- one writer


def check_busy(job, folder, server, *others):
    """While a job works, other commands exit with 75 and name its process; then it is killed."""
    child = server.start(*begin(job, folder), seconds_each=10_000)
    assert wait_until((folder / job.lock).exists)
    for other in (job.command(folder), *others):
        assert str(child.pid) in check_one_line(server.run(*other), 75)
    child.signal(signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    check_goes_on(job, folder, server)


def test_a_second_writer_of_a_store_exits_with_75_and_changes_nothing(world, server, tmp_path):
    check_busy(ingest_job(world, update=True), tmp_path / "s", server, fit_command(tmp_path / "s/s.zarr"))


def test_a_second_export_into_a_destination_exits_with_75(world, server, tmp_path):
    check_busy(export_job(world, update=False), tmp_path / "s", server)


def test_an_export_needs_no_lock_of_the_store(world, server, tmp_path):
    copy(world.root / "refitted.zarr", tmp_path / "s.zarr")
    child = server.start(*fit_command(tmp_path / "s.zarr", 4), seconds_each=10_000)
    assert wait_until((tmp_path / "s.zarr.lock.holder").exists)
    server.run_well("export", tmp_path / "dest", "--store", tmp_path / "s.zarr")
    child.signal(signal.SIGKILL)
    child.wait()
    check_same(tree(tmp_path / "dest"), tree(world.root / "fresh"))
