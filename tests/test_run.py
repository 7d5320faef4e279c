"""The run folder's laws: what is there is whole, and run.json says what happened."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from recon_lib import files, progress
from recon_lib.chain import lock, run
from recon_lib.refine.config import FitConfig, IsosurfaceConfig
from recon_lib.stages import OUTPUTS, STAGES


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder to be in, and nobody at the kernel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("RECON_BATCH", raising=False)
    yield
    for folder in list(lock._held):
        lock.release(folder)


def entry(folder, stage="3_nvdiffrec"):
    return run.load(folder)["stages"][stage]


def test_a_person_watches_only_a_kernel_that_a_server_opened_outside_a_batch(monkeypatch):
    assert not progress.watched()
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/1_ingest.ipynb")
    assert progress.watched()
    monkeypatch.setenv("RECON_BATCH", "1")
    assert not progress.watched()


def test_the_same_path_means_the_same_folder_from_the_notebooks_and_above_them(tmp_path, monkeypatch):
    above = files.root("outputs/demo")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert files.root("outputs/demo") == above == tmp_path / "outputs" / "demo"
    assert files.root("/photos") == type(tmp_path)("/photos")


def test_a_stage_is_running_then_done_with_its_results(tmp_path):
    stage = run.begin("demo", "3_nvdiffrec", {"steps": 3, "seed": 7, "device": "cpu"})
    assert entry("demo")["state"] == "running"
    assert entry("demo", "4_metrics") == {"state": "pending"}
    stage.finish({"loss": 0.5, "final_mesh": "refined/mesh.glb", "device": "cpu"})
    content = run.load(tmp_path / "demo")
    done = content["stages"]["3_nvdiffrec"]
    assert (done["state"], done["loss"], done["parameters"]["steps"]) == ("done", 0.5, 3)
    assert 0 <= done["seconds"] < 60
    assert 10 < done["peak_memory_mb"] < 100_000
    assert (content["seed"], content["device"], content["final_mesh"]) == (7, "cpu", "refined/mesh.glb")
    assert content["versions"]["numpy"] == np.__version__
    assert content["name"] == "demo"


def test_a_stage_that_begins_again_drops_its_earlier_results_and_key():
    run.begin("demo", "3_nvdiffrec", {}).finish({"loss": 0.5})
    content = run.load("demo")
    content["stages"]["3_nvdiffrec"]["key"] = "abc"
    files.write_json(files.root("demo/run.json"), content)
    run.begin("demo", "3_nvdiffrec", {})
    assert set(entry("demo")) == {"state", "started", "parameters", "made_from"}


def test_begin_takes_the_stages_parameters_from_a_notebooks_names_and_fills_in_the_rest():
    stage = run.begin(
        "demo", "3_nvdiffrec", {"__name__": "__main__", "steps": 3, "other": object(), "In": ["", "x = 1"]}
    )
    assert stage.parameters["steps"] == 3 and stage.parameters["decay"] == 0.1
    assert "other" not in stage.parameters
    assert entry("demo")["parameters"] == stage.parameters


@pytest.mark.parametrize(
    "cells",
    [
        ['run_dir = "demo"\nsteps = 3', "# Parameters\nrun_dir = 'demo'\nstpes = 60"],
        ['run_dir = "demo"\nstpes = 60'],
    ],
    ids=["injected by papermill", "typed into the cell"],
)
def test_a_misspelt_name_ends_a_notebook_at_its_beginning(tmp_path, cells):
    scope = {"__name__": "__main__", "In": ["", *cells], "stpes": 60, "run_dir": "demo"}
    with pytest.raises(ValueError, match="3_nvdiffrec: stpes: unknown; did you mean steps"):
        run.begin("demo", "3_nvdiffrec", scope)
    assert not (tmp_path / "demo").exists()


def test_a_misspelt_name_that_was_mended_no_longer_counts_nor_do_other_cells_names():
    cells = ['run_dir = "demo"\nstpes = 60', 'run_dir = "demo"\nsteps = 60', "fitted = 3"]
    scope = {"__name__": "__main__", "In": ["", *cells], "stpes": 60, "steps": 60, "fitted": 3, "run_dir": "demo"}
    assert run.begin("demo", "3_nvdiffrec", scope).parameters["steps"] == 60


def test_a_config_is_filled_by_name_and_keeps_its_plain_fields():
    stage = run.begin("demo", "3_nvdiffrec", {"steps": 3, "batch": 5})
    fitting, isosurface = stage.config(FitConfig), stage.config(IsosurfaceConfig)
    assert (fitting.steps, fitting.batch, fitting.warmup) == (3, 5, FitConfig().warmup)
    assert (isosurface.batch, isosurface.steps) == (5, IsosurfaceConfig().steps)


# ---- whose folder it is


@pytest.fixture
def another(tmp_path):
    """Another process that holds a run folder until it is killed."""
    code = "import sys, time; from pathlib import Path; from recon_lib.chain import run; "
    code += "run.begin(sys.argv[1], '3_nvdiffrec', {}); print(flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "demo")], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_who_comes_second_is_told_who_works_in_the_folder(another):
    words = f"3_nvdiffrec in a notebook .process {another.pid} on .*, since 20.*works here"
    with pytest.raises(ValueError, match=words):
        run.begin("demo", "4_metrics", {})
    assert entry("demo")["state"] == "running"


def test_a_killed_run_is_seen_as_dead_by_whoever_looks_next(another, tmp_path):
    assert run.load("demo")["state"] == "running"
    another.kill()
    another.wait()
    found = run.load("demo")
    assert (found["state"], found["stages"]["3_nvdiffrec"]["state"]) == ("interrupted", "interrupted")
    assert f"process {another.pid} ended without a word" in found["error"]
    assert json.loads((tmp_path / "demo" / "run.json").read_text())["state"] == "interrupted"
    run.begin("demo", "3_nvdiffrec", {})


def test_a_holder_on_another_machine_lives_by_its_heartbeat(another, tmp_path):
    path = tmp_path / "demo" / lock.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere"}))
    assert lock.alive(tmp_path / "demo")
    another.kill()
    another.wait()
    long_ago = time.time() - lock.DEAD_S - 1
    os.utime(path, (long_ago, long_ago))
    assert not lock.alive(tmp_path / "demo")


def test_a_holder_beats(monkeypatch, tmp_path):
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.05)
    run.begin("demo", "3_nvdiffrec", {})
    path = tmp_path / "demo" / lock.NAME
    os.utime(path, (0, 0))
    ends = time.monotonic() + 5
    while path.stat().st_mtime == 0 and time.monotonic() < ends:
        time.sleep(0.02)
    assert time.time() - path.stat().st_mtime < 5


def test_a_stage_begun_twice_in_one_kernel_is_one_holder_and_its_end_lets_go(tmp_path):
    run.begin("demo", "3_nvdiffrec", {})
    run.begin("demo", "3_nvdiffrec", {}).finish({})
    assert not lock.alive(tmp_path / "demo")


# ---- stale


def made(stage, text="1"):
    """The stage run by hand, writing this text."""
    running = run.begin("demo", stage, {})
    with running.writing(OUTPUTS[stage]) as folder:
        (folder / "result").write_text(text)
    running.finish({})


def states():
    return [stage["state"] for stage in run.load("demo")["stages"].values()]


@pytest.fixture
def all_made():
    for stage in STAGES:
        made(stage)
    assert states() == ["done"] * 5 and run.load("demo")["state"] == "done"


def test_a_stage_made_anew_by_hand_makes_all_later_ones_stale(all_made):
    made("3_nvdiffrec", "2")
    assert states() == ["done", "done", "done", "stale", "stale"]
    assert run.load("demo")["state"] == "stale"
    made("4_metrics", "2")
    assert states() == ["done", "done", "done", "done", "stale"]
    made("5_preview", "2")
    assert states() == ["done"] * 5


def test_a_stage_being_made_anew_makes_later_ones_stale_and_the_same_bits_clear_them(all_made):
    running = run.begin("demo", "1_ingest", {})
    assert states() == ["running", "stale", "stale", "stale", "stale"]
    running.finish({})
    assert states() == ["done"] * 5


def test_what_rests_on_a_stale_stage_is_stale(all_made):
    made("1_ingest", "2")
    made("4_metrics", "1")
    assert states() == ["done", "stale", "stale", "stale", "stale"]


def test_the_device_in_force_is_the_one_that_a_stage_says_it_ran_on():
    running = run.begin("demo", "3_nvdiffrec", {"device": "auto"})
    assert "device" not in run.load("demo")
    running.finish({"device": "cpu"})
    assert run.load("demo")["device"] == "cpu"


def test_progress_is_written_at_most_twice_a_second_and_its_end_always(tmp_path):
    stage = run.begin("demo", "3_nvdiffrec", {})
    written, ends = set(), time.monotonic() + 1.2
    while time.monotonic() < ends:
        for _ in stage.track(range(20), 20, "fitting"):
            time.sleep(0.002)
        written.add((tmp_path / "demo" / "progress.json").stat().st_mtime_ns)
    assert 2 <= len(written) <= 4
    progress = json.loads((tmp_path / "demo" / "progress.json").read_text())
    assert progress["what"] == "fitting"
    stage.finish({})
    progress = json.loads((tmp_path / "demo" / "progress.json").read_text())
    assert progress == {"stage": "3_nvdiffrec", "percent": 100.0, "what": "done", "seconds_left": 0.0}


def test_seconds_left_are_those_gone_by_the_share_left(tmp_path):
    stage = run.begin("demo", "3_nvdiffrec", {})
    stage.began -= 30
    stage.progress(0.25, "fitting")
    progress = json.loads((tmp_path / "demo" / "progress.json").read_text())
    assert progress["percent"] == 25.0
    assert progress["seconds_left"] == pytest.approx(90, abs=1)


@pytest.mark.parametrize("watched", [False, True])
def test_track_gives_the_items_and_a_bar_only_to_a_person(monkeypatch, capsys, watched):
    if watched:
        monkeypatch.setenv("JPY_SESSION_NAME", "x")
    stage = run.begin("demo", "3_nvdiffrec", {})
    assert list(stage.track(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert ("letters" in capsys.readouterr().out) == watched


def test_a_stages_folder_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    stage = run.begin("demo", "3_nvdiffrec", {})
    with stage.writing("refined") as folder:
        (folder / "mesh.ply").write_text("old")
        (folder / "extra").write_text("old")
    with pytest.raises(ZeroDivisionError), stage.writing("refined") as folder:
        (folder / "mesh.ply").write_text("half")
        raise ZeroDivisionError
    assert (stage.folder("refined") / "mesh.ply").read_text() == "old"
    with stage.writing("refined") as folder:
        assert not list(folder.iterdir())
        (folder / "mesh.ply").write_text("new")
    assert [(p.name, p.read_text()) for p in stage.folder("refined").iterdir()] == [("mesh.ply", "new")]
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == [".lock", "progress.json", "refined", "run.json"]


def test_a_failed_replacement_leaves_the_old_folder(tmp_path):
    target = tmp_path / "scene"
    target.mkdir()
    (target / "a").write_text("old")
    with pytest.raises(FileNotFoundError):
        files.replace_folder(tmp_path / "absent", target)
    assert (target / "a").read_text() == "old"


def test_a_value_that_json_cannot_hold_leaves_the_file_as_it_was(tmp_path):
    files.write_json(tmp_path / "a.json", {"psnr_db": 30.0})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            files.write_json(tmp_path / "a.json", {"psnr_db": value})
    assert json.loads((tmp_path / "a.json").read_text()) == {"psnr_db": 30.0}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_where_nothing_ran_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing ran here"):
        run.load(tmp_path)


def test_a_stage_is_overdue_after_the_run_s_deadline_only(tmp_path, monkeypatch):
    stage = run.Stage(tmp_path, "x", {})
    monkeypatch.delenv("RECON_DEADLINE", raising=False)
    assert not stage.overdue()
    for deadline, late in ((time.time() - 1, True), (time.time() + 1000, False)):
        monkeypatch.setenv("RECON_DEADLINE", str(deadline))
        assert stage.overdue() is late
