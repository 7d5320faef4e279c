"""Serving the queue with Dask: tickets become tasks of a cluster, which is a local one or somebody's own.

The process that serves the queue of a folder of runs holds the lock of `outputs/.queue`, takes tickets until none is left for
IDLE_S seconds, and ends. Whoever enters a ticket starts it (`start`); if one serves already, the new one ends at once. A local
cluster has a worker per GPU, else one per `cores` processor cores, and listens on this machine only. On a cluster whose workers
offer the resource GPU, each run takes one. A worker that dies costs the run a try, and Dask gives it to another worker; a run
that has failed as often as its ticket allows is set aside with its cause, and the others go on.
"""

import logging
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dask import config
from distributed import Client, Future, Nanny, Scheduler, SpecCluster
from distributed.scheduler import KilledWorker

from recon_lib import files
from recon_lib.chain import job, lock, status, tickets
from recon_lib.chain import run as records

SETTINGS = "settings.json"  # in the queue's folder: what the process that serves it was started with
LOG = "queue.log"
IDLE_S = 2.0
POLL_S = 0.2
CORES = 4  # of the processor, per run on a local cluster
DEATHS = 3  # workers that one run may lose

log = logging.getLogger(__name__)


def start(outputs: Path, cores: int | None = None, scheduler: str | None = None) -> None:
    """Starts the process that serves the queue, in a session of its own, unless one serves already.

    Raises ValueError where one serves with another number of cores or another scheduler than asked for; None asks for none.
    """
    folder = outputs / tickets.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if lock.alive(folder):
        serving = files.read_json(folder / SETTINGS) or {}
        for name, value in {"cores": cores, "scheduler": scheduler}.items():
            if value is not None and serving.get(name) != value:
                raise ValueError(
                    f"{name}: got {value}, but the queue is served with {serving.get(name)} until it is empty"
                )
    line = [sys.executable, "-m", "recon_lib.chain.serve", str(outputs), str(cores or CORES), scheduler or ""]
    with (folder / LOG).open("ab") as file:
        subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def serve(outputs: Path, cores: int, scheduler: str) -> None:
    """Serves the queue until it is empty; returns at once if another process does. `scheduler` "" makes a local cluster."""
    folder = outputs / tickets.FOLDER
    while True:
        try:
            lock.take(folder, "the queue")
        except ValueError:
            return
        try:
            with config.set({"distributed.scheduler.allowed-failures": DEATHS - 1}):
                if scheduler:
                    with Client(scheduler, set_as_default=False) as client:
                        _note(folder, cores, scheduler, client)
                        drain(client, outputs)
                else:
                    with local_cluster(cores) as cluster, Client(cluster, set_as_default=False) as client:
                        _note(folder, cores, None, client)
                        drain(client, outputs)
        finally:
            lock.release(folder)
        # A ticket that came between the last look and the release found the lock taken, so nobody else serves it.
        if not tickets.numbers(outputs):
            return


def _note(folder: Path, cores: int, scheduler: str | None, client: Client) -> None:
    settings = {"cores": cores, "scheduler": scheduler, "dashboard": client.dashboard_link or None}
    files.write_json(folder / SETTINGS, settings)


def local_cluster(cores: int) -> SpecCluster:
    """A cluster on this machine that runs one job per GPU, or one per `cores` cores without a GPU.

    A worker sees its own GPU only, so that two runs never share one.
    """
    gpus = visible_gpus()
    own = [{"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {"GPU": 1}} for gpu in gpus]
    workers = own or [{}] * max(1, (os.cpu_count() or 1) // cores)
    here = {"host": "127.0.0.1", "dashboard": find_spec("bokeh") is not None}
    usual = {"nthreads": 1, "memory_limit": 0, "host": "127.0.0.1", "dashboard": False, "silence_logs": logging.ERROR}
    return SpecCluster(
        {i: {"cls": Nanny, "options": usual | options} for i, options in enumerate(workers)},
        {"cls": Scheduler, "options": here | {"dashboard_address": "127.0.0.1:0"}},
        silence_logs=logging.ERROR,
    )


def visible_gpus() -> list[str]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them; where that is set, those that it names."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [gpu.strip() for gpu in asked.split(",") if gpu.strip()]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def drain(client: Client, outputs: Path, work: Any = job.carry_out) -> None:
    """Gives every ticket to the cluster, in order, and returns when none has been left for IDLE_S seconds."""
    given: dict[int, Future] = {}
    held: dict[int, tickets.Ticket] = {}  # tickets that wait for another run
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + IDLE_S:
        numbers = tickets.numbers(outputs)
        needs = _needs(client) if len(numbers) > len(given) else None
        for number in numbers:
            if number not in given:
                ticket = held.get(number) or tickets.find(outputs, number)
                if ticket is not None and _may_start(outputs, ticket):
                    given[number] = _give(client, outputs, ticket, needs, work)
                elif ticket is not None:
                    held[number] = ticket
        left = set(numbers)
        for number, future in list(given.items()):
            if future.done() or number not in left:
                _settle(outputs, number, future)
                del given[number]
        held = {number: ticket for number, ticket in held.items() if number in left and number not in given}
        if numbers or given:
            idle_since = time.monotonic()
        time.sleep(POLL_S)


def _needs(client: Client) -> dict[str, int] | None:
    """The resources that a run takes: a GPU where workers offer them."""
    offered = [worker.get("resources", {}) for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    return {"GPU": 1} if any("GPU" in resources for resources in offered) else None


def _give(client: Client, outputs: Path, ticket: tickets.Ticket, resources: dict[str, int] | None, work: Any) -> Future:
    return client.submit(
        work,
        str(outputs / ticket.run),
        ticket.number,
        key=f"{ticket.run}-{ticket.number}",
        priority=-ticket.number,
        retries=ticket.tries - 1,
        resources=resources,
        pure=False,
    )


def _may_start(outputs: Path, ticket: tickets.Ticket) -> bool:
    """Whether the run that the ticket waits for is done. If that run has ended otherwise, the ticket's run fails."""
    if ticket.after is None:
        return True
    found = status.read(outputs / ticket.after)
    if found.state in ("queued", "running", "cancelling"):
        return False
    if found.state != "done":
        _fail(outputs, ticket, f"it was to run after {ticket.after}, which is {found.state}")
        return False
    return True


def _settle(outputs: Path, number: int, future: Future) -> None:
    """Deletes the ticket of a job that has ended; if its workers died, its record says so."""
    if not future.done():  # its ticket is gone, so it was cancelled; if it works, its process obeys by itself
        future.cancel()
        return
    ticket = tickets.find(outputs, number)
    if ticket is not None and isinstance(future.exception() if future.status == "error" else None, KilledWorker):
        _fail(outputs, ticket, "the workers that ran it died, as often as the scheduler allows")
    tickets.leave(outputs, number)


def _fail(outputs: Path, ticket: tickets.Ticket, cause: str) -> None:
    folder = outputs / ticket.run
    with lock.held(folder, "the queue"):
        state = {"state": "failed", "error": cause, "ticket": ticket.number, "ended": records.now()}
        files.write_json(folder / "run.json", records.load(folder) | state)
    tickets.leave(outputs, ticket.number)
