"""Runs in the queue: real processes, started, watched, cancelled and killed from outside, over toy notebooks."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from toys import make_home, toy

from recon_lib import cli
from recon_lib.chain import cancel, job, lock, run, status, tickets
from recon_lib.stages import STAGES

NO_REPORT = """
import sys
from types import SimpleNamespace
sys.modules["recon_lib.show.report"] = SimpleNamespace(write=lambda at, *rest: (at / "report.html").write_text("report"))
"""
STEPS = """
import time
files.write_text(stage.folder("here"), "1")
for i in range(1000):
    time.sleep(0.1)
    stage.progress(i / 1000, f"step {i} of 1000")
"""

long_only = pytest.mark.skipif(os.environ.get("RECON_LONG") != "1", reason="long: make test-long runs it")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A repository of toys, whose processes write a report without the plotting libraries, and nobody left at the end."""
    home = tmp_path / "home"
    make_home(home)
    (home / "stubs").mkdir()
    (home / "stubs" / "sitecustomize.py").write_text(NO_REPORT)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(home / "stubs"), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / "runtime"))
    monkeypatch.chdir(home)
    yield home
    for process in ours(home):
        process.kill()


def ours(home):
    """The processes that work for this repository of toys."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("JUPYTER_RUNTIME_DIR", "")]
        except psutil.Error:
            continue
        if "multiprocessing.resource_tracker" in " ".join(words):
            continue  # of a cluster that this process made; it lives as long as this process
        if process.pid != os.getpid() and any(str(home) in word for word in words):
            found.append(process)
    return found


def recon(home, command, *arguments, code=0):
    assert cli.main([command, *arguments, "--notebooks", str(home / "notebooks")]) == code


def submit(home, name, *arguments, code=0):
    recon(home, "submit", "--preset", "quick", "--name", name, *arguments, code=code)
    return home / "outputs" / name


def wait(condition, within_s=60.0):
    """Seconds until the condition held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within_s, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - began


def state(folder):
    return status.read(folder).state


def runs(folder):
    return (folder / "here").exists()


# ---- submitting


def test_a_submitted_run_goes_on_in_a_session_of_its_own_and_is_seen_from_outside(home, capsys):
    toy(home, "3_nvdiffrec", STEPS.replace("1000", "30"))
    began = time.monotonic()
    folder = submit(home, "a")
    assert time.monotonic() - began < 2
    assert capsys.readouterr().out == "a\n"
    assert state(folder) == "queued"
    wait(lambda: runs(folder) and status.read(folder).what.startswith("step"))
    found = status.read(folder)
    assert (found.state, found.stage, found.alive, found.model) == ("running", "3_nvdiffrec", True, "mesh")
    assert 0 <= found.percent < 100 and found.seconds_left is not None and found.heartbeat_s < 10
    pid = lock.holder(folder)["pid"]
    assert os.getsid(pid) == pid != os.getsid(0)
    recon(home, "status")
    assert "running" in capsys.readouterr().out
    wait(lambda: state(folder) == "done")
    recon(home, "status", "a", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["alive"], told["percent"]) == ("done", False, 100)
    wait(lambda: not ours(home))


@long_only
def test_runs_keep_their_order_and_one_waits_for_another(home):
    toy(home, STAGES[0], "import time; files.write_text(stage.folder('at'), str(time.time()))")
    c = submit(home, "c", "--cores", "999")
    with pytest.raises(ValueError, match=r"--after: got none"):
        job.submit({}, home / "outputs" / "x", list(STAGES), home / "notebooks", after="none")
    a = submit(home, "a", "--stages", "1_ingest")
    b = submit(home, "b", "--stages", "1_ingest", "--after", "a")
    assert [row.run for row in status.read_all(home / "outputs")][-2:] == ["a", "b"]
    assert status.read(b).after == "a"
    wait(lambda: state(b) == "done")
    times = [float((folder / "at").read_text()) for folder in (c, a, b)]
    assert times == sorted(times)


@long_only
def test_what_waits_for_a_run_that_fails_is_told_so(home):
    toy(home, STAGES[0], "raise ValueError('no luck')")
    a = submit(home, "a")
    toy_ends = submit(home, "b", "--after", "a")
    wait(lambda: state(toy_ends) == "failed")
    assert run.load(a)["error"] == "1_ingest: ValueError: no luck"
    assert run.load(toy_ends)["error"] == "it was to run after a, which is failed"
    assert not (toy_ends / "1_ingest.ipynb").exists()


def test_a_run_in_the_queue_is_not_submitted_twice(home, capsys):
    toy(home, STAGES[0], STEPS)
    submit(home, "a")
    capsys.readouterr()
    submit(home, "a", code=cli.REFUSED)
    assert "in the queue already" in capsys.readouterr().err


# ---- cancelling


@pytest.mark.parametrize(
    "trouble", [STEPS, "files.write_text(stage.folder('here'), '1')\nwhile True: sum(range(10**6))"]
)
def test_a_cancelled_run_stops_within_two_seconds_keeps_what_is_finished_and_leaves_nothing(home, trouble):
    toy(home, "3_nvdiffrec", "(stage.run_dir / '.refined.new').mkdir()\n" + trouble)
    folder = submit(home, "a")
    wait(lambda: runs(folder))
    recon(home, "cancel", "a")
    time.sleep(0.5)
    assert state(folder) == "running"  # the first step only asks
    recon(home, "cancel", "a")
    seconds = wait(lambda: state(folder) == "cancelled")
    assert seconds <= 2, seconds
    stages = run.load(folder)["stages"]
    assert [entry["state"] for entry in stages.values()] == ["done", "done", "cancelled", "pending", "pending"]
    assert (folder / "coarse" / "result.txt").exists()
    assert not list(folder.glob(".*.new")) and not (folder / cancel.NAME).exists()
    wait(lambda: not ours(home))


@long_only
def test_a_run_that_waits_is_cancelled_at_once_and_never_starts(home):
    toy(home, STAGES[0], STEPS)
    a = submit(home, "a", "--cores", "999")
    wait(lambda: runs(a))
    b = submit(home, "b")
    recon(home, "cancel", "b", "--yes")
    assert state(b) == "cancelled"
    recon(home, "cancel", "a", "--yes")
    wait(lambda: not ours(home))
    assert state(b) == "cancelled" and not runs(b)


def test_a_run_in_a_terminal_obeys_as_well(home):
    toy(home, STAGES[0], STEPS)
    folder = home / "outputs" / "a"
    line = ["run", "--preset", "quick", "--name", "a", "--notebooks", str(home / "notebooks")]
    process = subprocess.Popen([sys.executable, "-m", "recon_lib.cli", *line], stderr=subprocess.DEVNULL)
    wait(lambda: runs(folder))
    recon(home, "cancel", "a", "--yes")
    began = time.monotonic()
    assert process.wait(10) == cli.INTERRUPTED and time.monotonic() - began < 2
    assert state(folder) == "cancelled"


def test_a_request_lapses_after_an_hour_also_by_a_clock_that_stepped_back(tmp_path, monkeypatch):
    now = time.time()
    for later, confirmed in ((3599, True), (3601, False), (-60, False)):
        cancel.withdraw(tmp_path)
        monkeypatch.setattr(time, "time", lambda: now)
        assert not cancel.ask(tmp_path, confirm=False)
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert cancel.ask(tmp_path, confirm=False) is confirmed


def test_what_does_not_run_cannot_be_cancelled(home, capsys):
    toy(home, STAGES[0], "raise ValueError('no luck')")
    recon(home, "run", "--preset", "quick", "--name", "a", code=cli.FAILED)
    recon(home, "cancel", "a", "--yes", code=cli.REFUSED)
    assert "it is failed, so there is nothing to cancel" in capsys.readouterr().err


# ---- dying and going on


@long_only
def test_a_killed_run_is_seen_as_dead_and_resumes_from_its_finished_stages(home):
    toy(home, "3_nvdiffrec", STEPS)
    folder = submit(home, "a")
    wait(lambda: runs(folder))
    os.kill(lock.holder(folder)["pid"], signal.SIGKILL)
    assert wait(lambda: state(folder) == "interrupted") < 10
    assert not status.read(folder).alive
    wait(lambda: not ours(home))
    toy(home, "3_nvdiffrec")
    recon(home, "resume", "a")
    found = [entry["state"] for entry in run.load(folder)["stages"].values()]
    assert found == ["reused", "reused", "done", "done", "done"]


@long_only
def test_a_worker_that_dies_costs_a_try_and_the_run_ends_elsewhere(home):
    once = "if not stage.folder('here').exists():\n" + "".join(f"    {line}\n" for line in STEPS.splitlines())
    toy(home, "3_nvdiffrec", once)
    folder = submit(home, "a")
    wait(lambda: runs(folder))
    psutil.Process(lock.holder(folder)["pid"]).parent().kill()
    wait(lambda: state(folder) == "done")
    assert [entry["state"] for entry in run.load(folder)["stages"].values()][:2] == ["reused", "reused"]
    wait(lambda: not ours(home))
    assert tickets.numbers(home / "outputs") == []


@long_only
def test_who_serves_the_queue_may_die_and_the_next_one_takes_what_is_left(home):
    toy(home, STAGES[0], STEPS)
    a = submit(home, "a", "--cores", "999")
    b = submit(home, "b")
    wait(lambda: runs(a))
    for process in ours(home):
        process.kill()
    toy(home, STAGES[0])
    wait(lambda: state(a) == "interrupted", 10)
    assert state(b) in ("queued", "interrupted", "running", "done")
    c = submit(home, "c")
    wait(lambda: state(c) == "done")
    assert state(a) == state(b) == "done"


def test_from_runs_a_stage_and_all_after_it_on_what_is_there(home):
    recon(home, "run", "--preset", "quick", "--name", "a")
    recon(home, "run", "--preset", "quick", "--name", "a", "--from", "4")
    found = [entry["state"] for entry in run.load(home / "outputs" / "a")["stages"].values()]
    assert found == ["done"] * 5
    began = [entry["started"] for entry in run.load(home / "outputs" / "a")["stages"].values()]
    assert began[3] > began[2]


@long_only
def test_a_fork_shares_the_first_stages_and_differs_from_there(home, capsys):
    recon(home, "run", "--preset", "quick", "--name", "a")
    recon(home, "fork", "a", "--from", "3", "--name", "b", "--set", "3_nvdiffrec.steps=7")
    recon(home, "resume", "b")
    first, second = (run.load(home / "outputs" / name)["stages"] for name in "ab")
    assert [entry["state"] for entry in second.values()] == ["reused", "reused", "done", "done", "done"]
    assert second["3_nvdiffrec"]["doubled"] == 14 and first["3_nvdiffrec"]["doubled"] == 1600
    recon(home, "fork", "a", "--from", "3", "--name", "b", code=cli.REFUSED)
    recon(home, "fork", "a", "--from", "3", "--name", "../c", code=cli.REFUSED)
    recon(home, "fork", "a", "--from", "3", "--name", "c", "--set", "1_ingest.max_side=99", code=cli.REFUSED)
    assert not (home / "outputs" / "c").exists()


@long_only
def test_a_changed_parameter_of_the_verdict_runs_the_last_two_stages_only(home):
    recon(home, "run", "--preset", "quick", "--name", "a")
    recon(home, "run", "--preset", "quick", "--name", "a", "--set", "4_metrics.worst=4")
    found = [entry["state"] for entry in run.load(home / "outputs" / "a")["stages"].values()]
    assert found == ["reused", "reused", "reused", "done", "done"]
