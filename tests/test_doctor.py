"""The doctor's judgement of made-up facts, and one real examination through the command line."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from recon_lib import cli
from recon_lib.coarse.reconviagen import upstream
from recon_lib.machine import doctor, probe
from recon_lib.machine.probe import Facts, Gpu, Package
from recon_lib.raster import select

NAMES = [
    "python", "packages", "torch", "CUDA", "driver", "GPU memory", "GPU memory for ReconViaGen", "nvdiffrast", "spconv",
    "attention", "ReconViaGen's packages", "ReconViaGen", "weights", "disk", "cores", "threads", "memory",
    "Chromium",
]  # fmt: skip


@pytest.fixture
def laptop():
    """The CPU path and nothing else."""
    return Facts(
        python=(3, 12, 1), absent=(), torch=Package("2.13.0+cpu"), disk_gb=50.0, memory_gb=16.0, cores=4,
        threads=Package("omp"),
    )  # fmt: skip


@pytest.fixture
def server(laptop, tmp_path):
    """Everything."""
    there = {name: Package("1.0") for name in probe.UPSTREAM}
    return replace(
        laptop, torch=Package("2.11.0+cu130"), built_for="13.0", gpu=Gpu("NVIDIA H200", 138.0), driver="580.95.05",
        packages=there | {"nvdiffrast": Package("0.4.0"), "spconv": Package("2.3.8"), "xformers": Package("0.0.35")},
        root=tmp_path, commit=doctor.PINNED_COMMIT, weights=("ok", "/weights"), chromium="/usr/bin/chromium",
    )  # fmt: skip


def row(facts, name):
    return next(row for row in doctor.rows(facts) if row.name == name)


def verdicts(facts):
    rows = doctor.rows(facts)
    return [doctor.passes(rows, purpose) for purpose in (None, "cpu", "gpu", "reconviagen")]


def test_a_machine_with_everything_passes_for_all_and_one_without_a_gpu_for_the_cpu(server, laptop):
    assert [row.name for row in doctor.rows(server)] == NAMES
    assert {row.state for row in doctor.rows(server)} == {"ok"}
    assert {row.mend for row in doctor.rows(server)} == {""}
    assert verdicts(server) == [True, True, True, True]
    assert verdicts(laptop) == [True, True, False, False]
    assert all(row.mend for row in doctor.rows(laptop) if row.state != "ok")


@pytest.mark.parametrize(
    ("change", "name", "state", "passing"),
    [
        ({"python": (3, 10, 4)}, "python", "wrong", "____"),
        ({"python": (3, 13, 0)}, "python", "wrong", "____"),
        ({"absent": ("numba",)}, "packages", "wrong", "____"),
        ({"torch": Package(), "gpu": None, "built_for": None}, "torch", "missing", "____"),
        ({"torch": Package(problem="OSError: libcudart.so.12"), "gpu": None}, "torch", "wrong", "____"),
        ({"torch": Package("2.3.1")}, "torch", "wrong", "____"),
        ({"disk_gb": 1.9}, "disk", "wrong", "____"),
        ({"memory_gb": 3.9}, "memory", "wrong", "____"),
        ({"memory_gb": None}, "memory", "wrong", "____"),
        ({"gpu": None}, "CUDA", "missing", "cc__"),
        ({"gpu": None, "gpu_problem": "out of memory"}, "CUDA", "wrong", "cc__"),
        ({"gpu": None, "built_for": None}, "CUDA", "missing", "cc__"),
        ({"driver": None}, "driver", "missing", "cc__"),
        ({"driver": "575.57.08"}, "driver", "wrong", "cc__"),
        ({"gpu": Gpu("RTX 3060", 11.9)}, "GPU memory", "wrong", "cc__"),
        ({"gpu": Gpu("RTX 4080", 15.9)}, "GPU memory for ReconViaGen", "wrong", "ccg_"),
        ({"commit": "0" * 40}, "ReconViaGen", "wrong", "ccg_"),
        ({"commit": None}, "ReconViaGen", "wrong", "ccg_"),
        ({"root": None}, "ReconViaGen", "missing", "ccg_"),
        ({"root": Path("/absent")}, "ReconViaGen", "missing", "ccg_"),
        ({"weights": ("wrong", "model.safetensors: truncated")}, "weights", "wrong", "ccg_"),
        ({"weights": ("missing", "no lock")}, "weights", "missing", "ccg_"),
        ({"threads": Package("workqueue")}, "threads", "wrong", "ccgr"),
        ({"threads": Package("tbb")}, "threads", "wrong", "ccgr"),
        ({"threads": Package(problem="ValueError: no TBB")}, "threads", "wrong", "ccgr"),
        ({"threads": Package()}, "threads", "missing", "ccgr"),
        ({"chromium": None}, "Chromium", "missing", "ccgr"),
    ],
)
def test_each_lack_is_told_and_fails_only_what_needs_it(server, change, name, state, passing):
    facts = replace(server, **change)
    found = row(facts, name)
    assert (found.state, bool(found.mend)) == (state, True)
    assert verdicts(facts) == [letter != "_" for letter in passing]


@pytest.mark.parametrize(
    ("package", "found", "name", "state", "passing"),
    [
        ("nvdiffrast", Package(), "nvdiffrast", "missing", "cc_r"),
        ("nvdiffrast", Package("0.3.3"), "nvdiffrast", "wrong", "cc_r"),
        ("nvdiffrast", Package(problem="ImportError: undefined symbol"), "nvdiffrast", "wrong", "cc_r"),
        ("spconv", Package(), "spconv", "missing", "ccg_"),
        ("spconv", Package(problem="RuntimeError: cumm"), "spconv", "wrong", "ccg_"),
        ("flash_attn", Package(problem="ImportError: undefined symbol"), "attention", "wrong", "ccg_"),
        ("xformers", Package(), "attention", "ok", "ccgr"),
        ("einops", Package(), "ReconViaGen's packages", "missing", "ccg_"),
        ("einops", Package(problem="OSError: x"), "ReconViaGen's packages", "wrong", "ccg_"),
    ],
)
def test_an_absent_or_broken_package_fails_only_what_needs_it(server, package, found, name, state, passing):
    facts = replace(server, packages=server.packages | {package: found})
    assert row(facts, name).state == state
    assert (found.problem or "") in row(facts, name).found
    assert verdicts(facts) == [letter != "_" for letter in passing]


def test_attention_is_the_first_that_is_installed(server):
    assert row(server, "attention").found == "xformers 0.0.35"
    both = server.packages | {"flash_attn": Package("2.8.3")}
    assert row(replace(server, packages=both), "attention").found == "flash_attn 2.8.3"
    assert row(replace(server, packages={}), "attention").found == "torch 2.11.0+cu130's own"


def test_the_driver_has_to_fit_the_cuda_that_torch_is_built_for(server):
    for built_for, driver, state in (("12.6", "535.1", "ok"), ("12.6", "470.2", "wrong"), ("11.8", "470.2", "ok")):
        assert row(replace(server, built_for=built_for, driver=driver), "driver").state == state


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise ImportError('no symbol')", "ImportError: no symbol"),
        ("import absent_too", "ModuleNotFoundError: No module named 'absent_too'"),
        ("raise OSError('libcuda.so.1')", "OSError: libcuda.so.1"),
        ("raise RuntimeError('ABI\\n 7')", "RuntimeError: ABI 7"),
        ("None.x", "AttributeError: 'NoneType' object has no attribute 'x'"),
        ("def", "SyntaxError"),
    ],
)
def test_a_package_that_breaks_at_import_is_a_finding(tmp_path, monkeypatch, source, told):
    (tmp_path / "breaks_here.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    package, loaded = probe.load("breaks_here")
    assert package.problem.startswith(told)
    assert (package.version, loaded) == (None, None)


def test_a_package_that_works_has_its_version_and_an_absent_one_nothing():
    assert probe.load("pytest")[0] == Package(pytest.__version__)
    assert probe.load("absent_here.sub") == (Package(), None)


def test_a_damaged_weights_folder_and_a_checkout_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_WEIGHTS", str(tmp_path / "w"))
    monkeypatch.setenv("RECONVIAGEN_ROOT", str(tmp_path))
    assert probe.probe(tmp_path).weights == (
        "missing", f"{tmp_path}/w/weights.json: missing, so no weights were fetched to this folder"
    )  # fmt: skip
    (tmp_path / "w").mkdir()
    for text in ("{", "[]", '{"a": {}}'):
        (tmp_path / "w" / "weights.json").write_text(text)
        assert probe.probe(tmp_path).weights[0] == "wrong"
    assert probe.probe(tmp_path).commit is None
    for command in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c", "--allow-empty"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert len(probe.probe(tmp_path).commit) == 40


def test_the_limits_are_those_of_the_modules_that_enforce_them():
    assert doctor.GPU_GB == select.NEEDED_GB
    assert doctor.RECONVIAGEN_GB == upstream.NEEDED_GB
    assert doctor.PINNED_COMMIT == upstream.COMMIT


# ---- the command


def test_the_command_prints_a_table_or_rows_and_exits_by_purpose(capsys, monkeypatch):
    monkeypatch.delenv("RECONVIAGEN_ROOT", raising=False)
    assert cli.main(["doctor"]) == 0
    assert "to mend ReconViaGen: git clone" in capsys.readouterr().out
    assert cli.main(["doctor", "--json", "--for", "reconviagen"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == NAMES
    assert all(set(row) == {"name", "state", "found", "needed", "mend"} for row in rows)
    assert {row["state"] for row in rows} <= {"ok", "missing", "wrong"}
    assert cli.main(["doctor", "--json", "--for", "cpu"]) == 0
    gpu = all(row["state"] == "ok" for row in rows if row["name"] in doctor.DEMANDED["gpu"])
    assert cli.main(["doctor", "--for", "gpu"]) == (0 if gpu else 1)


BLOCKED = """
import sys
for name in ("torch", "numba", "yaml", "psutil", "papermill", "tqdm", "PIL"):
    sys.modules[name] = None
from recon_lib import cli
sys.exit(cli.main(["doctor", "--json"]))
"""


def test_it_runs_where_packages_do_not_load():
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (done.returncode, done.stderr) == (1, "")
    assert {rows[name]["state"] for name in ("torch", "memory")} == {"wrong"}
    assert rows["weights"]["state"] == "missing"  # which can be told without any package


def test_it_takes_seconds_of_the_processor_not_a_minute():
    before = children_seconds()
    subprocess.run([sys.executable, "-m", "recon_lib.cli", "doctor"], capture_output=True, check=True)
    assert children_seconds() - before < 12


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
