"""The most memory of whole fresh processes: within the budget, and the same for four times as many pictures."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import models
import numpy as np
import pytest
from children import ENVIRONMENT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell a process's peak")

#: Enough to fill what jobs hold at a time, with the small steps below, and four times as many: 94 MiB of thumbnails.
FEW, MANY = 2_000, 8_000
JOBS = ("ingest", "ingest again", "fit", "fit with a model", "duplicates", "junk", "export", "report")
MIB = 1 << 20
BUDGET = 512 * MIB
PLAIN = "from streamcluster.__main__ import main; main()"
#: What a job holds at a time is limited, but large beside a few thousand pictures; here it is small.
SMALL_STEPS = """
from streamcluster.curate import junk
from streamcluster.jobs import embed, fit, intake
from streamcluster.learn import plan
from streamcluster.show import scatter
from streamcluster.store import collection, embeddings, fits, table
embeddings.EMBEDDING_ROWS = embed.EMBEDDING_ROWS = 256
collection.BLOCK_BYTES = 1 << 20
intake.COMMIT_FILES = 1024
plan.SHUFFLE_ROWS = plan.SAMPLE_ROWS = junk.LEARNING_ROWS = scatter.MOST_POINTS = 1024
junk.REFERENCE_ROWS = 256
for module in (table, fits, fit, embeddings):
    module.COLUMN_ROWS = 1024
"""
#: Linux hands a parent's peak on to a child that becomes another program; so a small process stands in between.
LAUNCHER = """
import json, os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
printed = child.stdout.read()
_, status, usage = os.wait4(child.pid, 0)
child.returncode = os.waitstatus_to_exitcode(status)
kilo = 1 if sys.platform == "darwin" else 1024
print(json.dumps([child.returncode, usage.ru_maxrss * kilo, printed.decode()]))
"""


def run(*arguments, program=PLAIN):
    """Run a command in a fresh process; return its peak resident bytes, and its report."""
    command = [sys.executable, "-c", program, *map(str, arguments), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *command], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    code, peak, printed = json.loads(done.stdout)
    return code, peak, json.loads(printed)


def run_well(*arguments, program=PLAIN):
    code, peak, report = run(*arguments, program=program)
    assert code == 0, report
    return peak, report


def write_jpegs(folder, first, n):
    """Write JPEG files whose bytes all differ: a few dozen pictures, each with many trailers."""
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), (128, 128)) for _ in range(48)]
    encoded = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    for i in range(first, first + n):
        path = folder / f"{i // 500}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[i % len(encoded)] + b"%06d" % i)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def peaks(root):
    """The peak of each job, by name, as the system and as the report tell it, for few pictures and for many."""
    found = {}
    model = models.save_model(root / "m.onnx", size=96)
    for n in (FEW, MANY):
        source, store, dest = root / f"{n}", root / f"{n}.zarr", root / f"groups-{n}"
        write_jpegs(source, 0, n)
        shared = ("--store", store, "--memory", f"{BUDGET // MIB}MiB", "--workers", 2)
        jobs = {
            "ingest": ("ingest", source),
            "ingest again": ("ingest", source),
            "fit": ("fit", "--clusters", 20),
            "fit with a model": ("fit", "--clusters", 20, "--features", f"onnx:{model}", "--components", 5),
            "duplicates": ("duplicates",),
            "junk": ("junk",),
            "export": ("export", dest),
            "report": ("report", root / f"{n}.html"),
        }
        for job, arguments in jobs.items():
            peak, report = run_well(*arguments, *shared, program=SMALL_STEPS + PLAIN)
            found[job, n] = peak, report["peak_bytes"]
        assert len(list(Path(dest).glob("cluster_*/*.jpg"))) == n
    return found


@pytest.mark.parametrize("job", JOBS)
def test_four_times_as_many_pictures_take_the_memory_of_the_budget_and_no_more(peaks, job):
    few, many = peaks[job, FEW][0], peaks[job, MANY][0]
    assert max(few, many) <= BUDGET
    assert many <= 1.1 * few


def test_the_budget_that_a_refused_fit_is_told_is_enough(peaks, root):
    command = ("fit", "--store", root / f"{MANY}.zarr", "--clusters", 4, "--workers", 2, "--memory")
    code, _, refusal = run(*command, "64MiB")
    assert (code, refusal["kind"]) == (1, "BudgetError")
    least = int(re.search(r"--memory (\d+)MiB", refusal["error"])[1])
    peak, _ = run_well(*command, f"{least}MiB")
    assert peak <= least * MIB


def test_reports_tell_the_peak_that_the_system_saw(peaks):
    for seen, reported in peaks.values():
        assert 0.9 * seen <= reported <= seen + MIB  # Linux counts pages for the two in batches, a batch a thread


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux hands a parent's peak on")
def test_a_report_does_not_count_the_process_that_started_it(tmp_path):
    write_jpegs(tmp_path / "pictures", 0, 20)
    fat = "import subprocess, sys; held = b'x' * (1 << 29); sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    command = [sys.executable, "-m", "streamcluster", "ingest", str(tmp_path / "pictures")]
    done = subprocess.run(
        [sys.executable, "-c", fat, *command, "--store", str(tmp_path / "s.zarr"), "--json"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["peak_bytes"] < 1 << 29
