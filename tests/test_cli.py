"""The command line, as cron and a person at a terminal meet it: exit codes, streams, precedence of settings."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from streamcluster import cli, config
from streamcluster.console import StageLog
from streamcluster.jobs.status import status


def run(*arguments, environment=None, **named):
    """Run the command in a process of its own, and return it finished."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAMCLUSTER_")}
    return subprocess.run(
        [sys.executable, "-m", "streamcluster", *map(str, arguments)],
        env=clean | (environment or {}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **named,
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "digits"
    assert run("demo", folder, "--quiet").returncode == 0
    return folder


@pytest.fixture(scope="module")
def store(digits):
    path = digits.parent / "digits.zarr"
    done = run("ingest", digits, "--store", path, "--image-size", 16)
    assert done.returncode == 0, done.stderr
    return path


def test_the_whole_way_gives_every_picture_one_place(digits, store, tmp_path):
    assert run("fit", "--store", store, "--clusters", 10).returncode == 0
    done = run("export", tmp_path / "groups", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["pictures"] == report["grouped"] + report["set_aside"] + report["rejected"] == 1797
    names = sorted(path.name for path in (tmp_path / "groups").glob("cluster_*/*"))
    assert names == sorted(os.listdir(digits))


def test_an_undo_needs_no_store(digits, store, tmp_path):
    assert run("fit", "--store", store, "--clusters", 2).returncode == 0
    assert run("export", tmp_path / "groups", "--store", store).returncode == 0
    assert run("export", tmp_path / "groups", "--undo").returncode == 0
    assert not (tmp_path / "groups").exists()
    assert run("export", tmp_path / "groups").returncode == 2


def test_a_table_alone_is_counted_in_rows(store, tmp_path):
    assert run("fit", "--store", store, "--clusters", 2).returncode == 0
    done = run("export", tmp_path / "table.csv", "--store", store, "--manifest-only", "--json")
    assert json.loads(done.stdout)["listed"] == 1797
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1798


def test_json_is_one_object_and_nothing_else(store):
    done = run("status", "--store", store, "--json")
    assert json.loads(done.stdout)["live"] == 1797
    assert done.stderr == ""


def test_json_tells_an_error_too(tmp_path):
    done = run("status", "--store", tmp_path / "none.zarr", "--json")
    assert (done.returncode, json.loads(done.stdout)["kind"]) == (1, "StoreNotFoundError")
    assert done.stderr.count("\n") == 1


def test_under_cron_there_is_one_line_a_stage_and_no_bar(digits, tmp_path):
    done = run("ingest", digits, "--store", tmp_path / "a.zarr")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["scan", "decode"]
    assert "\x1b" not in done.stderr + done.stdout


def test_quiet_says_nothing_unless_it_fails(digits, tmp_path):
    done = run("ingest", digits, "--store", tmp_path / "a.zarr", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("ingest", tmp_path / "nowhere", "--store", tmp_path / "a.zarr", "--quiet")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["fit", "--store", "x.zarr", "--clusters", "0"], 2),
        (["fit", "--store", "x.zarr", "--memory", "much"], 2),
        (["fit"], 2),
        (["fit", "--store", "x.zarr", "--no-such-option"], 2),
        (["fit", "--store", "x.zarr", "--components", "3", "--variance", "0.5"], 2),
        (["run", "none.toml"], 2),
        (["fit", "--store", "none.zarr"], 1),
    ],
)
def test_exit_codes(arguments, code, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_busy_store_exits_with_75_and_names_the_holder(store):
    holder = (
        "import sys, time\nfrom streamcluster.store.pointer import exclusive_store\n"
        "with exclusive_store(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(store)], stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        done = run("fit", "--store", store, "--clusters", 3)
        other.kill()
    assert done.returncode == 75
    assert str(other.pid) in done.stderr


def test_options_beat_the_environment_which_beats_the_file_which_beats_defaults(digits, store, tmp_path):
    (tmp_path / "c.toml").write_text(f"store = '{store}'\n[fit]\nclusters = 3\ncomponents = 5\n")

    def fitted(*options, environment=None):
        done = run("fit", "--json", "--config", tmp_path / "c.toml", *options, environment=environment)
        report = json.loads(done.stdout)
        return report["clusters"], report["components"]

    assert fitted() == (3, 5)
    assert fitted("--variance", 0.5)[1] != 5
    assert fitted(environment={"STREAMCLUSTER_VARIANCE": "0.5"})[1] != 5
    assert fitted(environment={"STREAMCLUSTER_CLUSTERS": "4"}) == (4, 5)
    assert fitted("--clusters", 6, environment={"STREAMCLUSTER_CLUSTERS": "4"}) == (6, 5)


def test_a_run_and_a_status_heed_the_environment(digits, store, tmp_path):
    (tmp_path / "c.toml").write_text(f"store = 'none.zarr'\n[ingest]\nsources = ['{digits}']\n[fit]\nclusters = 3\n")
    environment = {"STREAMCLUSTER_STORE": str(store), "STREAMCLUSTER_CLUSTERS": "7"}
    report = json.loads(run("run", tmp_path / "c.toml", "--json", environment=environment).stdout)
    assert (report["ingest"]["unchanged"], report["fit"]["clusters"]) == (1797, 7)
    assert json.loads(run("status", "--json", environment=environment).stdout)["live"] == 1797
    assert json.loads(run("status", "--config", tmp_path / "c.toml", "--json", environment=environment).stdout)["fits"]


def test_arguments_have_variables_too(digits, tmp_path):
    environment = {"STREAMCLUSTER_SOURCES": str(digits), "STREAMCLUSTER_STORE": str(tmp_path / "a.zarr")}
    assert json.loads(run("ingest", "--json", environment=environment).stdout)["new"] == 1797
    assert run("demo", "--quiet", environment={"STREAMCLUSTER_DIRECTORY": str(tmp_path / "demo")}).returncode == 0
    assert len(os.listdir(tmp_path / "demo")) == 1797


@pytest.mark.parametrize(("command", "missing"), [("ingest", "SOURCE"), ("export", "DEST"), ("demo", "DIR")])
def test_a_missing_argument_is_called_as_help_calls_it(command, missing):
    done = run(command, environment={"STREAMCLUSTER_STORE": "a.zarr"})
    assert done.returncode == 2
    assert missing in done.stderr
    page = run(command, "--help").stdout
    assert re.search(rf"^ +\[?{missing}\]?  ", page, re.MULTILINE)  # in brackets before typer 0.27
    assert "<" not in page


def test_a_settings_file_with_a_key_that_means_nothing_is_refused(tmp_path):
    (tmp_path / "c.toml").write_text("store = 'a.zarr'\n[fit]\nclutsers = 3\n")
    done = run("fit", "--config", tmp_path / "c.toml")
    assert done.returncode == 2
    assert "clutsers" in done.stderr


def test_run_does_the_jobs_of_a_file_with_paths_beside_it(digits, tmp_path):
    (tmp_path / "faces.toml").write_text(
        f"store = 'faces.zarr'\n[ingest]\nsources = ['{digits}']\nimage_size = 16\n"
        "[fit]\nclusters = 4\n[junk]\nthreshold = 0.9\n[export]\ndest = 'groups'\njunk = 'separate'\n"
    )
    done = run("run", tmp_path / "faces.toml", "--json", cwd="/")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {job for job, told in report.items() if told is not None} == {"ingest", "fit", "junk", "export"}
    assert len(list((tmp_path / "groups" / "suspects").iterdir())) == report["junk"]["suspects"] > 0
    assert (tmp_path / "groups" / "metadata.csv").exists()
    again = json.loads(run("run", tmp_path / "faces.toml", "--json").stdout)
    assert (again["ingest"]["unchanged"], again["fit"]["up_to_date"], again["export"]["kept"]) == (1797, True, 1797)
    assert again["junk"]["up_to_date"]


def test_a_log_file_tells_what_was_asked_for_what_was_done_and_what_failed(store, tmp_path):
    log = tmp_path / "log.txt"
    for clusters in (3, 9999):
        run("fit", "--store", store, "--clusters", clusters, "--quiet", "--log-file", log)
    first, last = log.read_text().split("clusters=9999)")
    assert str(store) in first
    assert "clusters=3)" in first
    assert "labels: " in first
    assert "1,797 pictures in 3 groups" in first
    assert " ERROR " not in first
    assert " ERROR " in last


def test_every_setting_is_an_option_with_help_and_each_command_shows_an_example():
    for name, model in {
        "ingest": config.IngestSettings,
        "fit": config.FitSettings,
        "export": config.ExportSettings,
    }.items():
        page = " ".join(run(name, "--help").stdout.split())
        assert "Example: streamcluster " in page
        for option in cli.options_of(model):
            assert option.help in page
            assert option.is_argument or option.flag in page
            assert f"[env var: {option.variable}]" in page


def test_help_starts_without_the_heavy_libraries():
    heavy = {"numpy", "zarr", "dask", "sklearn", "cv2", "rich"}
    code = f"import sys, streamcluster.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_and_completion():
    assert run("--version").stdout.startswith("streamcluster 0.")
    assert (
        "streamcluster"
        in run("--show-completion", "bash", environment={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}).stdout
    )


def test_a_log_file_that_cannot_be_written_is_one_line(store, tmp_path):
    done = run("status", "--store", store, "--log-file", tmp_path / "missing" / "log.txt")
    assert done.returncode == 2
    assert "--log-file" in done.stderr
    assert "Traceback" not in done.stderr


def run_at_terminal(*command):
    """Run a command whose standard error is a terminal; return its exit code and what the terminal got."""
    ours, theirs = os.openpty()
    with subprocess.Popen([sys.executable, *map(str, command)], stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = bytearray()
        with contextlib.suppress(OSError):  # how a terminal that nobody holds any more ends
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    return process.returncode, shown.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_a_bar_that_ended_is_not_drawn_again(digits, tmp_path):
    code, shown = run_at_terminal("-m", "streamcluster", "ingest", digits, "--store", tmp_path / "a.zarr")
    assert code == 0
    assert "scan" not in shown[shown.index("decode") :]
    assert "1,797/1,797" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
@pytest.mark.parametrize(("signals", "code"), [(1, 0), (2, 130)])
def test_ctrl_c_is_answered_and_leaves_the_terminal_with_a_cursor(signals, code):
    at_work = (
        "import os, signal, sys\nfrom streamcluster import cli, console\n"
        "bars = console.StageBars(sys.stderr)\n"
        "with cli._stopping_on_signals(bars, quiet=False), bars.stage('work', 10):\n"
        "    bars.advance(3)\n"
        f"    for _ in range({signals}):\n        os.kill(os.getpid(), signal.SIGINT)\n"
    )
    ended, shown = run_at_terminal("-c", at_work)
    assert ended == code
    assert shown.count("streamcluster: ") == signals
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "10/10" not in shown


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_disk_under_the_log_file_is_one_line_and_does_not_stop_the_job(store):
    done = run("status", "--store", store, "--json", "--log-file", "/dev/full")
    assert done.returncode == 0
    assert json.loads(done.stdout)["live"] == 1797
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
@pytest.mark.parametrize("how", [(), ("--json",)])
def test_a_full_disk_under_standard_output_is_one_line(store, how):
    command = [sys.executable, "-m", "streamcluster", "status", "--store", str(store), *how]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("streamcluster: ")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes descriptors")
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_hindrance(digits, tmp_path, closed):
    command = [sys.executable, "-m", "streamcluster", "ingest", str(digits), "--store", str(tmp_path / "a.zarr")]
    done = subprocess.run(f"{shlex.join(command)} {closed}", shell=True, check=False)
    assert done.returncode == 0
    assert json.loads(run("status", "--store", tmp_path / "a.zarr", "--json").stdout)["live"] == 1797


def test_status_may_look_while_an_ingest_renames_files(store, monkeypatch):
    def walk_that_is_late(folder, walk=os.walk):
        yield from walk(folder)
        yield folder, [], ["zarr.json.1a2b.partial"]

    expected = status(config.StatusSettings(store=str(store)))
    monkeypatch.setattr(os, "walk", walk_that_is_late)
    assert status(config.StatusSettings(store=str(store))) == expected


def test_a_signal_after_the_last_line_finds_no_stream_and_says_nothing(tmp_path):
    stream = open(tmp_path / "stderr", "w", encoding="utf-8")  # noqa: SIM115
    log = StageLog(stream)
    log.interject("stopping")
    stream.close()
    log.interject("stopping")
    assert (tmp_path / "stderr").read_text() == "stopping\n"
