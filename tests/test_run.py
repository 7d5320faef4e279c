"""The run folder's laws: what is there is whole, and run.json says what happened."""

import json
import time

import numpy as np
import pytest
from test_params import notebook

from recon_lib import files, progress
from recon_lib.chain import run


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder to be in, and nobody at the kernel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("RECON_BATCH", raising=False)


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
    stage.finish({"loss": 0.5, "final_mesh": "refined/mesh.glb"})
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
    assert set(entry("demo")) == {"state", "started", "parameters"}


def test_begin_refuses_what_the_stages_notebook_does_not_declare(tmp_path):
    (tmp_path / "notebooks").mkdir()
    notebook(tmp_path / "notebooks")
    with pytest.raises(ValueError, match="did you mean steps"):
        run.begin("demo", "3_nvdiffrec", {"step": 3})
    assert not (tmp_path / "demo").exists()
    run.begin("demo", "3_nvdiffrec", {"lr_vertex": 1})
    assert isinstance(entry("demo")["parameters"]["lr_vertex"], float)


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
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["progress.json", "refined", "run.json"]


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
    stage = run.Stage(tmp_path, "x")
    monkeypatch.delenv("RECON_DEADLINE", raising=False)
    assert not stage.overdue()
    for deadline, late in ((time.time() - 1, True), (time.time() + 1000, False)):
        monkeypatch.setenv("RECON_DEADLINE", str(deadline))
        assert stage.overdue() is late
