"""What the chain and its queue cost besides the work: `make bench ARGS=--jobs`."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from distributed import Client, LocalCluster, SpecCluster
from toys import make_home, toy

from recon_lib.chain import dispatch, job, run, status, tickets
from recon_lib.chain import params as parameters
from recon_lib.stages import STAGES

HOME = Path(__file__).parents[1]
QUEUED = 1000  # runs
BUSY = "x = 0\nfor i in range(250_000_000):\n    x += i"  # a quarter of a minute on one core; a run of the sample takes longer
GPU_BUSY = """import torch
x = torch.rand(8192, 8192, device="cuda")
for i in range(700):
    x = torch.nn.functional.normalize(x @ x)
torch.cuda.synchronize()"""  # about as long on an H100


def rows(on_gpu: bool = False) -> list[dict]:
    """The rows of the benchmark table; `on_gpu` only those that need GPUs."""
    found = gpu_rows() if on_gpu else [*chain_rows(), *queue_rows(), *worker_rows()]
    return [{"name": f"chain: {n}", "value": float(v), "unit": u, "reference": r} for n, v, u, r in found]


def chain_rows() -> list[tuple]:
    """The five notebooks over the sample with params/ci.yaml: all but the stages' own work, and a run that reuses all."""
    folder = HOME / "outputs" / "bench-chain"
    shutil.rmtree(folder, ignore_errors=True)
    line = [sys.executable, "-m", "recon_lib.cli", "run", "params/ci.yaml", "--name", folder.name]
    walls = []
    for _ in range(2):
        began = time.monotonic()
        subprocess.run(line, cwd=HOME, check=True, capture_output=True)
        walls.append(time.monotonic() - began)
        if len(walls) == 1:
            entries = run.load(folder)["stages"].values()
            work, stages = (sum(entry[name] for entry in entries) for name in ("work_seconds", "seconds"))
    shutil.rmtree(folder)
    return [
        ("five notebooks, wall time less the stages' own work", walls[0] - work, "s", "<= 20"),
        ("of this: kernels' starts and imports", stages - work, "s", ""),
        ("a run that reuses every stage", walls[1], "s", "<= 5"),
    ]


def nothing(folder: str, number: int) -> str:
    """A job that has nothing to do."""
    return "done"


def queue_rows() -> list[tuple]:
    """QUEUED runs of empty stages: to submit and to schedule a hundred of them."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        make_home(home)
        outputs = home / "outputs"
        began = time.monotonic()
        for i in range(QUEUED):
            asked = {"1_ingest": {"photos": "samples/jug"}}
            job.submit(asked, outputs / f"r{i}", list(STAGES), home / "notebooks")
        submitted = time.monotonic() - began
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
        with cluster, Client(cluster, set_as_default=False) as client:
            began = time.monotonic()
            dispatch.drain(client, outputs, nothing)
            drained = time.monotonic() - began - dispatch.IDLE_S
        assert tickets.numbers(outputs) == []
    return [
        (f"submitting 100 of {QUEUED} runs", submitted / QUEUED * 100, "s", ""),
        (f"scheduling 100 of {QUEUED} queued runs with empty stages", drained / QUEUED * 100, "s", "<= 1"),
    ]


def worker_rows() -> list[tuple]:
    """Four runs of one thread on one worker and on two."""
    times = {}
    for workers in (1, 2):
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        times[workers] = _seconds_of_four(BUSY, cluster)
    cores = os.cpu_count()
    return [(f"two workers against one, single-thread runs, {cores} cores", times[1] / times[2], "x", ">= 1.7")]


def gpu_rows() -> list[tuple]:
    """Four runs on one GPU and on two, as the product's own cluster gives them out."""
    gpus = dispatch.visible_gpus()
    if len(gpus) < 2:
        print(f"skipped: two GPUs against one; got {len(gpus)}")
        return []
    times = {}
    for count in (1, 2):
        with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=",".join(gpus[:count])):
            times[count] = _seconds_of_four(GPU_BUSY, dispatch.local_cluster(dispatch.CORES))
    return [
        ("four runs of one stage on one GPU", times[1], "s", ""),
        ("two GPUs against one", times[1] / times[2], "x", ">= 1.9"),
    ]


def _seconds_of_four(work: str, cluster: SpecCluster) -> float:
    with tempfile.TemporaryDirectory() as place, cluster, Client(cluster, set_as_default=False) as client:
        home = Path(place)
        make_home(home)
        toy(home, STAGES[0], work)
        for i in range(4):
            job.submit(parameters.read(home / "params/quick.yaml"), home / "outputs" / f"r{i}", [STAGES[0]],
                       home / "notebooks")  # fmt: skip
        began = time.monotonic()
        dispatch.drain(client, home / "outputs")
        states = [status.read(home / "outputs" / f"r{i}").state for i in range(4)]
        assert states == ["done"] * 4, states
        return time.monotonic() - began - dispatch.IDLE_S
