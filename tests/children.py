"""The command line in processes of its own, made deadly, slow or short of disk where a test wants it.

Run as a program, this is a fork server: it imports what the jobs need, starts no thread, and then forks a child for
each request on its standard input. So a test can afford to kill dozens of processes.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("STREAMCLUSTER_")}
#: A hang becomes a failure after this time; nothing that works comes near it.
HANG_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that ended: its exit code, or minus the signal that ended it."""

    code: int
    stdout: str
    stderr: str

    @property
    def report(self):
        return json.loads(self.stdout)


def check_one_line(ended, code):
    """A person is told in one line, and the caller by the exit code."""
    assert ended.code == code, ended.stderr
    assert "Traceback" not in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("streamcluster: ")]
    assert len(lines) == 1, ended.stderr
    return lines[0]


class Child:
    """A child of the fork server, in a process group of its own."""

    def __init__(self, server, pid, folder):
        self.pid = pid
        self._server, self._folder, self._code = server, folder, None

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def ended(self):
        if self._code is None:
            self._code = self._server.ask(poll=self.pid)["code"]
        return self._code is not None

    def wait(self):
        """Wait for the end, and return it."""
        if not wait_until(self.ended):
            self.signal(signal.SIGKILL)
            raise TimeoutError(f"process {self.pid} did not end by itself")
        return Ended(self._code, (self._folder / "stdout").read_text(), (self._folder / "stderr").read_text())


class FreshChild:
    """A whole new `python -m streamcluster` that takes small steps, with the interface of `Child`."""

    def __init__(self, *arguments, **hooks):
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import children; "
            f"children.take_small_steps(); children.arm(**{hooks!r}); "
            "from streamcluster.__main__ import main; main()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def ended(self):
        return self._process.poll() is not None

    def wait(self):
        try:
            stdout, stderr = self._process.communicate(timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.communicate()
            raise
        return Ended(self._process.returncode, stdout, stderr)


class ForkServer:
    """Starts children; use it in a `with` block.

    Parameters
    ----------
    folder : Path
        For what the children print.
    small_steps : bool
        Whether a few hundred pictures are to fill several blocks, chunks, batches and commits.
    """

    def __init__(self, folder, *, small_steps=True):
        self._folder, self._started = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, *(["--small-steps"] if small_steps else [])],
            env=ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        assert self.ask()["threads"] == 1
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait(HANG_SECONDS)
        self._process.stdout.close()

    def start(self, *arguments, **hooks):
        """Start a command; `hooks` are those of `arm`."""
        self._started += 1
        folder = self._folder / str(self._started)
        folder.mkdir()
        pid = self.ask(arguments=list(map(str, arguments)), hooks=hooks, folder=str(folder))["pid"]
        return Child(self, pid, folder)

    def run(self, *arguments, **hooks):
        return self.start(*arguments, **hooks).wait()

    def run_well(self, *arguments, **hooks):
        ended = self.run(*arguments, **hooks)
        assert ended.code == 0, ended.stderr
        return ended

    def ask(self, **request):
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def wait_until(condition):
    """Wait until something is so, but not for ever; return whether it came to that."""
    until = time.monotonic() + HANG_SECONDS
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


# --- in the child


def take_small_steps():
    """Let a few hundred pictures fill several blocks, chunks, batches and commits."""
    from streamcluster.destination import carry
    from streamcluster.jobs import embed, fit, intake
    from streamcluster.sources import read
    from streamcluster.store import collection, embeddings, fits, table

    read.PART_FILES = 8
    intake.COMMIT_FILES = 40
    collection.BLOCK_BYTES = 32 * 3 * 16 * 16
    for module in (table, fits, fit, embeddings):
        module.COLUMN_ROWS = 128
    embeddings.EMBEDDING_ROWS = embed.EMBEDDING_ROWS = 32
    embed.PART_FILES = 8
    carry.BATCH_FILES = 32


def arm(count_into=None, die_at=None, seconds_each=0.0, file_bytes=None):
    """Make this process as a test wants it.

    Parameters
    ----------
    count_into : str, optional
        File to write the number of changes to the disk into, before each.
    die_at : int, optional
        The change to the disk before which the process kills itself.
    seconds_each : float
        What a part of pictures, a Lloyd pass or a copy takes longer.
    file_bytes : int, optional
        The largest file that the system lets this process write.
    """
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if seconds_each:
        slow_down(seconds_each)
    if count_into or die_at:
        watch_changes(count_into, die_at)


def slow_down(seconds):
    from streamcluster.destination.place import Stager
    from streamcluster.jobs import fit
    from streamcluster.sources import read

    def slowly(function):
        def wrapped(*arguments, **options):
            time.sleep(seconds)
            return function(*arguments, **options)

        return wrapped

    read.Reading.read = slowly(read.Reading.read)
    fit.lloyd_pass = slowly(fit.lloyd_pass)
    Stager.stage = slowly(Stager.stage)


#: Changes to the disk, by the names of Python's audit events; `fsync` has none and is added by hand.
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.utime", "os.truncate"}


def watch_changes(count_into, die_at):
    """Count what changes the disk, and die at a given one; a zarr file that waits for its name may be cut short."""
    lock, calls = threading.RLock(), Counter()  # cutting a file short is a change, too
    counted = os.open(count_into, os.O_WRONLY | os.O_CREAT) if count_into else None

    def changing(event, arguments):
        if event == "open":
            return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return event in CHANGES

    def count(event, arguments):
        if not changing(event, arguments):
            return
        with lock:
            calls["all"] += 1
            if counted is not None:
                os.pwrite(counted, str(calls["all"]).encode(), 0)
            if calls["all"] == die_at:
                if event == "os.rename" and str(arguments[0]).endswith(".partial") and die_at % 2:
                    cut_short(os.fspath(arguments[0]))
                os.kill(os.getpid(), signal.SIGKILL)

    sync = os.fsync

    def counted_sync(descriptor):
        count("os.utime", ())
        sync(descriptor)

    os.fsync = counted_sync
    sys.addaudithook(count)


def cut_short(path):
    descriptor = os.open(path, os.O_RDWR)
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)


def run_child(request):
    """Be the command line, in a forked process; never returns."""
    os.setpgid(0, 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(os.path.join(request["folder"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    from streamcluster.cli import app

    code = 1
    try:
        arm(**request["hooks"])
        app(request["arguments"], prog_name="streamcluster")
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def import_jobs():
    import dask.array
    import sklearn.cluster

    import streamcluster.console
    import streamcluster.jobs.export
    import streamcluster.jobs.fit
    import streamcluster.jobs.intake

    return dask, sklearn, streamcluster


def serve():
    import_jobs()
    if "--small-steps" in sys.argv:
        take_small_steps()
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request)), file=replies, flush=True)


def answer(request):
    if "poll" in request:
        pid, status = os.waitpid(request["poll"], os.WNOHANG)
        return {"code": os.waitstatus_to_exitcode(status) if pid else None}
    if "arguments" not in request:
        return {"threads": len(os.listdir("/proc/self/task"))}
    pid = os.fork()
    if pid == 0:
        run_child(request)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    return {"pid": pid}


if __name__ == "__main__":
    serve()
