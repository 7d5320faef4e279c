"""Whatever dies, fills up or vanishes under a run: nothing finished is lost, and nothing half written is ever read.

Kill points are counted in writes. In a run of toys every rename, deletion and file that is written adds one to a count that all
its processes share, and the process that reaches a given count dies there: before the call, or in the middle of its bytes.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from toys import make_home, run_in_this_process, toy

from recon_lib import cli, files
from recon_lib.chain import cancel, lock, pipeline, reuse, run
from recon_lib.stages import OUTPUTS, STAGES

KILLS = 100 if os.environ.get("RECON_LONG") else 5
WITH_KERNELS = 5  # every so many kill points the notebooks run in kernels, else in the chain's own process
KILLER = """
import os, pathlib, shutil, signal, sys
from types import SimpleNamespace
sys.modules["recon_lib.show.report"] = SimpleNamespace(
    write=lambda folder, *rest: sys.modules["recon_lib.files"].write_text(folder / "report.html", "report"))
AT, HOW = int(os.environ.get("KILL_AT", "0")), os.environ.get("KILL_HOW", "")

def count(half=None):
    with open(os.environ["KILL_COUNT"], "ab") as file:
        file.write(b".")
        file.flush()
        here = file.tell()
    if here == AT:
        if half is not None:
            half()
        if HOW == "hang up":
            os.kill(int(os.environ["KILL_CHAIN"] or os.getpid()), signal.SIGHUP)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

def counted(module, name):
    real = getattr(module, name)
    def call(*args, **options):
        if "outputs" in str(args[0]):
            count()
        return real(*args, **options)
    setattr(module, name, call)

if "KILL_COUNT" in os.environ:
    os.environ.setdefault("KILL_CHAIN", str(os.getpid()))
    for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
        counted(os, name)
    write = pathlib.Path.write_bytes
    def write_bytes(path, content):
        count(lambda: write(path, content[: len(content) // 2]))
        return write(path, content)
    pathlib.Path.write_bytes = write_bytes
"""
IN_PROCESS = """
import os, sys
import nbformat
from recon_lib import cli
from recon_lib.chain import kernels
def execute(copy, **options):
    os.environ["RECON_BATCH"] = "1"
    book = nbformat.read(copy, 4)
    for cell in book.cells:
        exec(cell.source, scope := globals().setdefault(copy.stem, {"__name__": "__main__"}))
    kernels.WholeFiles().write(nbformat.writes(book), str(copy))
    del os.environ["RECON_BATCH"]
if sys.argv.pop(1) == "in process":
    kernels.execute = execute
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A repository of toys, in whose processes a kill can be planted."""
    home = tmp_path_factory.mktemp("faults")
    make_home(home)
    (home / "stubs").mkdir()
    (home / "stubs" / "sitecustomize.py").write_text(KILLER)
    return home


def recon(home, where, *arguments, **planted):
    """Runs a command in processes of its own; gives its exit code, below 0 for a signal."""
    path = os.pathsep.join([str(home / "stubs"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "JUPYTER_RUNTIME_DIR": str(home / "runtime")} | planted
    line = [sys.executable, "-c", IN_PROCESS, where, *arguments, "--notebooks", str(home / "notebooks")]
    return subprocess.run(line, cwd=home, env=environment, capture_output=True, timeout=120).returncode


def results(folder):
    """The hash of every result of every stage."""
    return {stage: files.hashes(folder / OUTPUTS[stage], folder) for stage in STAGES}


def sound(folder):
    """Nothing in the folder is half written: what has a name can be read, and what is finished has its recorded hashes."""
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    for path in folder.glob("*.ipynb"):
        nbformat.validate(nbformat.read(path, 4))
    if (folder / "run.json").exists():
        for stage, entry in run.load(folder)["stages"].items():
            assert entry["state"] not in ("done", "reused") or reuse.intact(folder, stage, entry)


@pytest.fixture(scope="module")
def whole(home):
    """The results of a run that nothing interrupted, and the number of its writes: in process, and with kernels."""
    counts = {}
    for where in ("in process", "kernels"):
        count = home / f"{where}.count"
        arguments = ("run", "--preset", "quick", "--name", f"whole-{where[:2]}")
        assert recon(home, where, *arguments, KILL_COUNT=str(count)) == cli.DONE
        counts[where] = count.stat().st_size
    assert min(counts.values()) > 50
    return results(home / "outputs" / "whole-in"), counts


@pytest.mark.parametrize("number", range(KILLS))
def test_a_run_killed_anywhere_resumes_to_the_same_result(home, whole, number):
    where = "kernels" if number % WITH_KERNELS == 0 else "in process"
    chance = random.Random(number)
    at, how = chance.randint(1, whole[1][where]), chance.choice(["kill", "kill", "hang up"])
    name = f"killed-{number}"
    folder, count = home / "outputs" / name, home / f"{name}.count"
    asked = ("run", "--preset", "quick", "--name", name)
    code = recon(home, where, *asked, KILL_COUNT=str(count), KILL_AT=str(at), KILL_HOW=how)
    assert code in (-signal.SIGKILL, cli.INTERRUPTED, cli.FAILED), (at, how)  # FAILED: only the kernel died
    if folder.exists():
        sound(folder)
    finished = finished_stages(folder)
    assert recon(home, where, *asked) == cli.DONE, (at, how)
    assert results(folder) == whole[0], (at, how)
    assert [entry for stage, entry in state(folder).items() if stage in finished] == ["reused"] * len(finished)
    assert run.load(folder)["state"] == "done"
    assert not list(folder.glob(".*.new")) and not list(folder.glob(".*.old")) and not list(folder.glob("*edited*"))
    shutil.rmtree(folder)


def finished_stages(folder):
    """The stages whose notebooks have ended; the key is written then, after the results."""
    found = run.load(folder)["stages"].items() if (folder / "run.json").exists() else ()
    return [stage for stage, entry in found if entry["state"] == "done" and "key" in entry]


def state(folder):
    return {s: e["state"] for s, e in run.load(folder)["stages"].items()} if (folder / "run.json").exists() else {}


# ---- the disk, the photos, the clock and the record


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A repository of toys whose cells run in this process."""
    make_home(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "write_report", lambda folder: files.write_text(folder / "report.html", "report"))

    run_in_this_process(monkeypatch)
    return tmp_path


def chain(toys, **options):
    asked = {"1_ingest": {"photos": "samples/jug"}}
    return pipeline.run(asked, toys / "outputs" / "a", STAGES, toys / "notebooks", bar=False, **options)


def test_a_full_disk_fails_the_run_by_name_and_space_makes_it_go_on(toys, monkeypatch):
    write = files.write_bytes

    def full(path, content):
        if ".refined.new" in str(path) or "report" in str(path):
            path.write_bytes(content[:2])
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(pipeline.StageError, match=r"3_nvdiffrec: OSError.*No space left on device"):
        chain(toys)
    sound(toys / "outputs" / "a")
    assert list(state(toys / "outputs" / "a").values()) == ["done", "done", "failed", "pending", "pending"]
    monkeypatch.setattr(files, "write_bytes", write)
    chain(toys)
    assert list(state(toys / "outputs" / "a").values()) == ["reused", "reused", "done", "done", "done"]


def test_a_disk_too_full_for_the_record_itself_still_names_the_cause(toys, monkeypatch):
    chain(toys)
    toy(toys, "3_nvdiffrec", "# changed")

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises((pipeline.StageError, OSError), match="No space left on device"):
        chain(toys)
    sound(toys / "outputs" / "a")
    monkeypatch.undo()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(toys):
    (toys / "outputs").mkdir()
    (toys / "outputs").chmod(0o500)
    with pytest.raises(PermissionError):
        chain(toys)


@pytest.mark.parametrize("change", ["deleted", "changed"])
def test_photos_that_change_under_a_run_are_noticed(toys, change):
    photo = toys / "samples" / "jug" / "one.png"
    harm = "import pathlib; pathlib.Path('samples/jug/one.png')."
    toy(toys, "2_reconviagen", harm + ("unlink()" if change == "deleted" else "write_text('2')"))
    content = chain(toys)
    assert content["inputs"] == {"one.png": hashlib.sha256(b"1").hexdigest()}
    toy(toys, "2_reconviagen")
    photo.write_text("2")
    chain(toys)
    assert list(state(toys / "outputs" / "a").values()) == ["done"] * 5  # nothing of the other photos is reused


def test_a_clock_that_steps_back_kills_nobody(toys, monkeypatch):
    now = time.time()
    toy(toys, "2_reconviagen", "import time; stage.progress(0.9, 'x')")
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    assert chain(toys)["state"] == "done"
    assert all(entry["seconds"] >= 0 for entry in run.load(toys / "outputs" / "a")["stages"].values())
    folder = toys / "outputs" / "a"
    with lock.held(folder, "recon run"):
        assert lock.alive(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stages": 3}', b"\xff\xfe", b"null"])
def test_a_damaged_record_is_refused_by_name_and_keeps_its_results(toys, content):
    chain(toys)
    path = toys / "outputs" / "a" / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json: damaged"):
        chain(toys)
    assert path.read_bytes() == content and (toys / "outputs" / "a" / "refined").exists()


@pytest.mark.parametrize("name", ["progress.json", ".cancel", ".notebooks.json", "1_ingest.ipynb", ".lock"])
def test_damage_to_any_other_file_costs_no_result(toys, name):
    chain(toys)
    for content in (b"", b"{", b"[]", b"\xff\xfe"):
        (toys / "outputs" / "a" / name).write_bytes(content)
        assert not cancel.confirmed(toys / "outputs" / "a")
        chain(toys)
        assert list(state(toys / "outputs" / "a").values()) == ["reused"] * 5
        assert chain(toys, force=True)["state"] == "done"


def test_a_kernel_out_of_memory_fails_its_stage_only(home):
    big = "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); x = bytearray(10**10)"
    toy(home, "2_reconviagen", big)
    try:
        assert recon(home, "kernels", "run", "--preset", "quick", "--name", "big") == cli.FAILED
        content = run.load(home / "outputs" / "big")
        assert content["error"].startswith("2_reconviagen: MemoryError")
        assert content["stages"]["1_ingest"]["state"] == "done"
    finally:
        toy(home, "2_reconviagen")
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(home / "runtime") in " ".join(p.info["cmdline"] or [])
    ]
