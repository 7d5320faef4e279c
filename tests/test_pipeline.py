"""The chain over toy notebooks: what it reuses, refuses, keeps after a failure and leaves behind when interrupted.

Where the claim is about kernels, kernels run; the others run the cells in this process.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from toys import make_home, run_in_this_process, toy

import recon_lib.show
from recon_lib import cli
from recon_lib.chain import kernels, params, pipeline, reuse, run
from recon_lib.stages import MODES, OUTPUTS, STAGES

CHILD = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session={own_session})
files.write_text(stage.folder("pids"), f"{{os.getpid()}} {{child.pid}}")
"""
COMMAND = """
import sys
from types import SimpleNamespace
sys.modules["recon_lib.show.report"] = SimpleNamespace(write=lambda at, *rest: (at / "report.html").write_text("report"))
from recon_lib import cli
code = cli.main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A repository of toys; braces and spaces are what papermill reads in paths as fields."""
    home = tmp_path / "a {toy} home"
    make_home(home)
    report = SimpleNamespace(write=lambda folder, *rest: (folder / "report.html").write_text("report"))
    monkeypatch.setitem(sys.modules, "recon_lib.show.report", report)
    monkeypatch.setattr(recon_lib.show, "report", report, raising=False)
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def here(home, monkeypatch):
    """Notebooks run their cells in this process; gives the list of stages that ran."""
    return run_in_this_process(monkeypatch)


@contextmanager
def another_holder(folder):
    """Another process that works in the folder, and its id."""
    code = "import sys, time; from pathlib import Path; from recon_lib.chain import lock; "
    code += "lock.take(Path(sys.argv[1]), 'recon run'); print(flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def chain(home, stages=STAGES, asked=None, **options):
    asked = {} if asked is None else asked
    return pipeline.run(asked, home / "outputs" / "demo", stages, home / "notebooks", bar=False, **options)


def states(home):
    return [entry["state"] for entry in run.load(home / "outputs" / "demo")["stages"].values()]


def failure(home, **options):
    with pytest.raises(pipeline.StageError) as caught:
        chain(home, **options)
    content = run.load(home / "outputs" / "demo")
    assert content["state"] == "failed"
    assert content["error"] == str(caught.value) == content["stages"][caught.value.stage]["error"]
    assert "\n" not in content["error"]
    assert (home / "outputs" / "demo" / "report.html").exists()
    return caught.value


def errors_kept(home, stage):
    cells = nbformat.read(home / "outputs" / "demo" / f"{stage}.ipynb", 4).cells
    return [out.ename for cell in cells for out in cell.get("outputs", []) if out.output_type == "error"]


def gone(pid, within_s=10.0):
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def command(home, *arguments, **environment):
    line = [sys.executable, "-c", COMMAND, "run", "--notebooks", str(home / "notebooks"), *arguments]
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(home / "runtime"), **environment}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home, env=environment)


# ---- before anything starts


def test_every_bad_parameter_of_every_notebook_is_told_before_one_starts(home, here):
    asked = {
        "1_ingest": {"hold_out": 3},
        "3_nvdiffrec": {"steps": 0, "decay": "3e-2"},
        "4_metrics": {"run_dir": "x"},
        "6": {},
    }
    with pytest.raises(ValueError) as caught:
        chain(home, asked=asked)
    starts = [line.rsplit(":", 1)[0] for line in str(caught.value).splitlines()]
    assert [line.split(":")[0] for line in starts] == ["6", "1_ingest", "3_nvdiffrec", "3_nvdiffrec", "4_metrics"]
    assert not here
    assert not (home / "outputs").exists()


def test_a_folder_of_photos_that_is_not_there_is_refused(home, here):
    with pytest.raises(ValueError, match=r"photos: got .*absent, needed a folder"):
        chain(home, asked={"1_ingest": {"photos": "absent"}})
    assert not here


def test_a_stage_is_refused_while_the_one_before_it_has_no_result(home, here):
    with pytest.raises(ValueError, match="3_nvdiffrec needs 1_ingest, which is pending"):
        chain(home, ["3_nvdiffrec"])
    with pytest.raises(ValueError, match="did you mean 3_nvdiffrec"):
        chain(home, ["3_nvdifrec"])
    assert not here


def test_a_stage_left_out_between_others_is_put_away_and_what_follows_is_about_the_mesh_before_it(home, here):
    for stage in ("2_reconviagen", "3_nvdiffrec"):
        toy(home, stage, after="")
        book = nbformat.read(home / "notebooks" / f"{stage}.ipynb", 4)
        book.cells[-2].source = f'stage.finish({{"final_mesh": "{OUTPUTS[stage]}/mesh.glb"}})'
        nbformat.write(book, home / "notebooks" / f"{stage}.ipynb")
    assert chain(home)["final_mesh"] == "refined/mesh.glb"
    here.clear()
    _, alone = MODES["reconviagen"]
    content = chain(home, alone)
    assert content["final_mesh"] == "coarse/mesh.glb"
    assert here == ["4_metrics", "5_preview"] and states(home) == ["reused", "reused", "pending", "done", "done"]
    run = home / "outputs" / "demo"
    assert not (run / "refined").exists() and not (run / "3_nvdiffrec.ipynb").exists()
    here.clear()
    assert chain(home, alone)["final_mesh"] == "coarse/mesh.glb" and not here
    assert chain(home)["final_mesh"] == "refined/mesh.glb" and here == ["3_nvdiffrec", "4_metrics", "5_preview"]


def test_what_auto_chose_is_not_reused_on_a_machine_that_may_choose_otherwise(home, here, monkeypatch):
    monkeypatch.delenv("RECONVIAGEN_ROOT", raising=False)
    chain(home)
    here.clear()
    chain(home)
    assert not here
    monkeypatch.setenv("RECONVIAGEN_ROOT", "elsewhere")
    chain(home)
    assert here[0] == "2_reconviagen"
    named = {"2_reconviagen": {"backend": "hull", "device": "cpu"}, "3_nvdiffrec": {"device": "cpu"}}
    chain(home, asked=named)
    monkeypatch.delenv("RECONVIAGEN_ROOT")
    here.clear()
    chain(home, asked=named)
    assert not here


def test_memory_of_the_gpu_is_noted_before_and_after_a_stage(home, here, monkeypatch):
    told = iter(range(1000, 2000))
    monkeypatch.setattr(kernels, "gpu_memory_mb", lambda: float(next(told)))
    content = chain(home)
    assert content["stages"]["2_reconviagen"]["gpu_memory_mb"] == {"before": 1002.0, "after": 1003.0}


def test_a_run_past_its_soft_limit_says_so_and_its_kernels_know_the_time(home, here, monkeypatch):
    given = []
    execute = kernels.execute
    monkeypatch.setattr(
        kernels, "execute", lambda *a, **options: (given.append(options["kernel_env"]), execute(*a, **options))
    )
    began = time.time()
    assert chain(home, soft_limit_s=0.0)["over_soft_limit_s"] == 0.0
    assert began <= float(given[0]["RECON_DEADLINE"]) <= time.time()
    assert "over_soft_limit_s" not in chain(home, soft_limit_s=1000.0)


def test_a_second_run_in_the_folder_is_refused_while_the_first_lives(home, here):
    folder = home / "outputs" / "demo"
    folder.mkdir(parents=True)
    with another_holder(folder) as pid, pytest.raises(ValueError, match=f"recon run .*process {pid} on .*works here"):
        chain(home)
    assert not here


def test_the_lock_of_a_killed_run_is_taken_over(home, here):
    folder = home / "outputs" / "demo"
    folder.mkdir(parents=True)
    code = "import fcntl, os, signal, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); f.write('1'); f.flush()"
    subprocess.run([sys.executable, "-c", f"{code}; os.kill(os.getpid(), signal.SIGKILL)", folder / ".lock"])
    assert (folder / ".lock").read_text() == "1"
    assert chain(home)["state"] == "done"
    with (folder / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back


# ---- reuse


def test_a_run_with_nothing_changed_reuses_every_stage(home, here):
    first = chain(home)
    assert states(home) == ["done"] * 5
    second = chain(home)
    assert here == list(STAGES)
    assert states(home) == ["reused"] * 5
    assert [e["key"] for e in first["stages"].values()] == [e["key"] for e in second["stages"].values()]
    assert second["stages"]["3_nvdiffrec"]["doubled"] == 1600
    assert first["inputs"] == {"one.png": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}  # of "1"


def parameter_changed(home):
    return {"3_nvdiffrec": {"steps": 4}}


def default_changed(home):
    path = home / "notebooks" / "3_nvdiffrec.ipynb"
    before = path.read_text()
    path.write_text(before.replace("steps = 800 ", "steps = 60 "))
    assert path.read_text() != before


def sentence_changed(home):
    toy(home, "4_metrics", after="# one more word")


def photo_changed(home):
    (home / "samples" / "jug" / "one.png").write_text("2")


def photo_renamed(home):
    (home / "samples" / "jug" / "one.png").rename(home / "samples" / "jug" / "two.png")


def library_changed(home):
    (home / "library" / "deep" / "a.py").write_text("x = 2")


def output_edited(home):
    (home / "outputs" / "demo" / "refined" / "result.txt").write_text("by hand")


def output_added(home):
    (home / "outputs" / "demo" / "preview" / "more.txt").write_text("by hand")


def output_deleted(home):
    (home / "outputs" / "demo" / "metrics" / "verdict.json").unlink()


def nothing_that_counts_changed(home):
    (home / "library" / "deep" / "a.txt").write_text("2")
    (home / "outputs" / "demo" / "1_ingest.ipynb").unlink()
    return {"3_nvdiffrec": {"steps": 800, "decay": 0.1}}


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (parameter_changed, 2), (default_changed, 5), (sentence_changed, 3), (photo_changed, 0), (photo_renamed, 0),
        (library_changed, 0), (output_edited, 2), (output_added, 4), (output_deleted, 3), (nothing_that_counts_changed, 5),
    ],
)  # fmt: skip
def test_a_change_makes_its_stage_and_all_after_it_anew(home, here, monkeypatch, change, first):
    (home / "library" / "deep").mkdir(parents=True)
    (home / "library" / "deep" / "a.py").write_text("x = 1")
    monkeypatch.setattr(reuse, "LIBRARY", home / "library")
    chain(home)
    here.clear()
    chain(home, asked=change(home))
    assert here == list(STAGES[first:])
    assert states(home) == ["reused"] * first + ["done"] * (5 - first)


def test_force_reuses_nothing(home, here):
    chain(home)
    chain(home, force=True)
    assert here == [*STAGES, *STAGES]


def test_stages_alone_make_the_later_ones_pending_and_take_their_files_away(home, here):
    chain(home)
    chain(home, ["3_nvdiffrec"], asked=parameter_changed(home))
    assert states(home) == ["done", "done", "done", "pending", "pending"]
    folder = home / "outputs" / "demo"
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["coarse", "refined", "scene"]
    assert not (folder / "4_metrics.ipynb").exists()


def test_a_stage_that_failed_after_it_had_finished_is_not_reused(home, here):
    chain(home)
    toy(home, "2_reconviagen", after="assert False")
    assert failure(home).stage == "2_reconviagen"
    assert states(home) == ["reused", "failed", "pending", "pending", "pending"]
    here.clear()
    toy(home, "2_reconviagen")
    chain(home)
    assert here == list(STAGES[1:])


def test_a_report_that_cannot_be_written_does_not_hide_the_stages_error(home, here, monkeypatch, caplog):
    monkeypatch.setattr(recon_lib.show.report, "write", lambda folder, *rest: 1 / 0)
    toy(home, STAGES[0], "raise ValueError('no luck')")
    with pytest.raises(pipeline.StageError, match="1_ingest: ValueError: no luck"):
        chain(home)
    assert "division by zero" in caplog.text


def test_copies_hold_their_parameters_in_one_cell_and_share_a_run_folder(home):
    copies = pipeline.write_copies({"3_nvdiffrec": {"steps": 7}}, home / "copies", "outputs/x", home / "notebooks")
    assert [copy.stem for copy in copies] == list(STAGES)
    first = [nbformat.read(copy, 4).cells[0].source for copy in copies]
    assert all('run_dir = "outputs/x"' in source for source in first)
    assert ["\nsteps = 7 " in source for source in first] == [False, False, True, False, False]


# ---- kernels


def test_the_command_runs_the_chain_prints_the_verdict_and_imports_no_torch(home):
    toy(
        home,
        STAGES[0],
        "import os\nfrom recon_lib import progress\nassert not progress.watched()\n"
        "assert os.environ['MPLBACKEND'].endswith('inline')\nos.getcwd()",
    )
    process = command(
        home, "--photos", "samples/jug", "--set", "3_nvdiffrec.steps=4", JPY_SESSION_NAME="x", MPLBACKEND="agg"
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == cli.DONE, err
    folder = home / "outputs" / "jug"
    content = run.load(folder)
    assert [entry["state"] for entry in content["stages"].values()] == ["done"] * 5
    assert content["stages"]["3_nvdiffrec"]["doubled"] == 8
    assert out.splitlines()[-1] == f"report: {folder}/report.html"
    assert [line.split()[0] for line in out.splitlines()] == ["check", "verdict", "bodies", "report:"]
    assert out.splitlines()[1].endswith("warning")
    assert "5_preview     100%" in err
    assert "encryption" not in err
    cells = nbformat.read(folder / "1_ingest.ipynb", 4).cells
    assert cells[2].outputs[0].data["text/plain"] == repr(str(home))
    assert sorted(p.name for p in folder.glob(".*")) == [".lock", ".notebooks.json"]


def test_a_failing_cell_stops_the_chain_and_its_notebook_is_kept(home):
    toy(home, "2_reconviagen", "raise ValueError('no\\n  luck')")
    error = failure(home)
    assert (error.stage, error.cause) == ("2_reconviagen", "ValueError: no; luck")
    assert states(home) == ["done", "failed", "pending", "pending", "pending"]
    assert errors_kept(home, "2_reconviagen") == ["ValueError"]
    assert not (home / "outputs" / "demo" / "3_nvdiffrec.ipynb").exists()


@pytest.mark.parametrize("own_session", [False, True])
def test_a_stage_past_its_limit_fails_and_its_processes_end(home, own_session):
    toy(home, STAGES[0], CHILD.format(own_session=own_session) + "import time; time.sleep(100)")
    began = time.monotonic()
    assert failure(home, timeout_s=5.0).cause == "TimeoutError: no end within 5 s"
    assert time.monotonic() - began < 40
    assert errors_kept(home, STAGES[0]) == ["TimeoutError"]
    assert all(gone(int(pid)) for pid in (home / "outputs" / "demo" / "pids").read_text().split())


def test_a_dead_kernel_fails_its_stage_and_its_child_ends(home):
    toy(home, STAGES[0], CHILD.format(own_session=False) + "os._exit(1)")
    assert failure(home).cause == "DeadKernelError: the kernel died; out of memory, or killed"
    assert states(home) == ["failed"] + ["pending"] * 4
    assert errors_kept(home, STAGES[0]) == ["DeadKernelError"]
    assert all(gone(int(pid)) for pid in (home / "outputs" / "demo" / "pids").read_text().split())


def test_a_notebook_left_by_sys_exit_is_a_failure(home):
    toy(home, STAGES[0], "import sys; sys.exit(0)")
    assert failure(home).cause == "RuntimeError: the notebook ended without finishing its stage"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_leaves_no_process_and_says_so(home, number):
    toy(home, STAGES[0], CHILD.format(own_session=number == signal.SIGTERM) + "import time; time.sleep(100)")
    process = command(home, "--preset", "quick", "--name", "demo")
    pids = home / "outputs" / "demo" / "pids"
    while not pids.exists() and process.poll() is None:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert {int(pid) for pid in pids.read_text().split()} <= {child.pid for child in children}
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == cli.INTERRUPTED
    assert err.splitlines()[-1] == "recon: interrupted"
    assert "Traceback" not in err
    assert all(gone(child.pid, 0.5) for child in children)
    assert not list((home / "runtime").glob("*.json"))
    assert states(home) == ["interrupted"] + ["pending"] * 4
    assert run.load("outputs/demo")["state"] == "interrupted"
    assert errors_kept(home, STAGES[0]) == ["KeyboardInterrupt"]


# ---- the command line


def said(home, capsys, *arguments):
    code = cli.main(["run", "--notebooks", str(home / "notebooks"), *arguments])
    return code, capsys.readouterr().err


def test_the_command_tells_bad_parameters_and_failures_by_code_and_line(home, here, capsys):
    assert said(home, capsys) == (2, "recon: nothing to run: give a parameter file, --preset or --photos\n")
    code, err = said(home, capsys, "--preset", "quik")
    assert (code, err) == (2, "recon: preset: quik: unknown; did you mean quick?\n")
    code, err = said(
        home, capsys, "--preset", "quick", "--set", "3_nvdiffrec.steps=0", "--set", "3_nvdiffrec.decay=3e-2"
    )
    assert code == 2
    assert [line[:20] for line in err.splitlines()] == ["recon: 3_nvdiffrec: "] * 2
    assert said(home, capsys, "--preset", "quick", "--set", "steps=3")[0] == 2
    assert said(home, capsys, "--preset", "quick", "--name", "../x")[0] == 2
    assert said(home, capsys, "absent.yaml")[0] == 2
    assert not here
    toy(home, STAGES[0], "raise OSError('disk\\nfull')")
    code, err = said(home, capsys, "--preset", "quick")
    assert (code, err.splitlines()[-1]) == (1, "recon: 1_ingest: OSError: disk; full")


@pytest.mark.parametrize(
    ("arguments", "name", "photos"),
    [
        (["--photos", "other"], "other", "other"),
        (["--photos", "other", "--preset", "quick"], "other", "other"),
        (["--preset", "quick"], "quick", "samples/jug"),
        (["mine.yaml"], "mine", "samples/jug"),
        (["mine.yaml", "--photos", "other", "--name", "jug-2"], "jug-2", "other"),
    ],
)
def test_the_run_is_named_after_what_was_asked(home, monkeypatch, arguments, name, photos):
    (home / "mine.yaml").write_text("1_ingest: {photos: samples/jug}")
    (home / "other").mkdir()
    asked = {}

    def run(params, run_dir, *rest, **options):
        asked.update(params, run_dir=run_dir)
        return {"stages": {"4_metrics": {"state": "pending"}}}

    monkeypatch.setattr(pipeline, "run", run)
    assert cli.main(["run", "--notebooks", "notebooks", *arguments]) == 0
    assert asked == {"1_ingest": {"photos": photos}, "run_dir": home / "outputs" / name}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_decides_the_backend_and_the_stages_and_limits_arrive(home, monkeypatch, mode):
    def run(asked, run_dir, stages, notebooks, force, **limits):
        backend, of_mode = MODES[mode]
        assert asked["2_reconviagen"] == {"backend": backend} and tuple(stages) == of_mode
        assert limits == {"soft_limit_s": 60.0} | ({"timeout_s": 7200.0} if mode == "both" else {})
        return {"stages": {"4_metrics": {"state": "pending"}}}

    monkeypatch.setattr(pipeline, "run", run)
    arguments = ["--preset", "quick", "--mode", mode, "--soft-limit", "60"]
    assert cli.main(["run", "--notebooks", "notebooks", *arguments]) == 0
    assert ("3_nvdiffrec" in MODES[mode][1]) is (mode != "reconviagen")


def test_the_real_notebooks_and_presets_pass_validation():
    presets = sorted((pipeline.NOTEBOOKS.parent / "params").glob("*.yaml"))
    assert "quick" in [preset.stem for preset in presets]
    for preset in presets:
        pipeline.validate(params.read(preset))
