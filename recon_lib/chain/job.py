"""A job is a run folder that a process of its own works on: how to submit one, execute one, resume one and cancel one.

`run.json` holds under `job` what was asked of the run (`pipeline.run`'s arguments), so that a run can be started from its
folder alone. The process is `python -m recon_lib.chain.job FOLDER NUMBER PARENT`. It ends when the worker that started it dies,
and its exit codes are those of the command line; 3 means cancelled.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import psutil

from recon_lib import files
from recon_lib.chain import cancel, lock, pipeline, reuse, tickets
from recon_lib.chain import run as records
from recon_lib.stages import INGEST

DONE, FAILED, REFUSED, CANCELLED, INTERRUPTED = 0, 1, 2, 3, 130
LOG = "job.log"
POLL_S = 0.2
PATIENCE_S = 30.0  # an earlier process of the same run, whose worker has died, may take so long to end
OBEY_S = 15.0  # a process that is cancelled and has not ended after so long is killed with its children
PR_SET_PDEATHSIG = 1


class JobError(Exception):
    """A job failed; the text is its cause on one line."""


def submit(
    asked: dict[str, dict[str, Any]], folder: Path, stages: list[str], notebooks: Path, force: bool = False,
    after: str | None = None, tries: int = 1, **limits: float,
) -> tickets.Ticket:  # fmt: skip
    """Checks what is asked, writes it into the run folder and puts the run into the queue; nothing runs yet.

    Raises ValueError for bad parameters, for absent photos, for a run that waits or works already, and for an `after` that
    names no run.
    """
    values = pipeline.validate(asked)
    inputs = reuse.photo_hashes(values[INGEST], notebooks)
    if after is not None and not (folder.parent / after / "run.json").exists():
        raise ValueError(f"--after: got {after}, needed the name of a run in {folder.parent}")
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder, "recon submit"):
        content = records.load(folder) if (folder / "run.json").exists() else records.new(folder)
        if tickets.find(folder.parent, content.get("queued")) is not None:
            raise ValueError(f"{folder}: it is in the queue already; `recon cancel {folder.name}` takes it out")
        ticket = tickets.Ticket(tickets.next_number(folder.parent), folder.name, after, tries)
        content["queued"] = ticket.number
        content["job"] = pipeline.describe(asked, stages, notebooks, force, **limits)
        if not content.get("inputs"):
            content |= {"inputs": inputs, "photos": pipeline.photos_folder(values[INGEST], notebooks)}
        files.write_json(folder / "run.json", content)
        cancel.withdraw(folder)
        tickets.enter(folder.parent, ticket)
    return ticket


def resume(folder: Path, ticket: int | None = None, force: bool = False, bar: bool = True) -> dict[str, Any]:
    """Runs again what was asked of the run; finished stages are reused. Returns and raises what `pipeline.run` does."""
    content = records.load(folder)
    if "job" not in content:
        raise ValueError(f"{folder}: it was never run as a whole, so there is nothing to resume; use `recon run`")
    job = content["job"]
    limits = {name: job[name] for name in ("timeout_s", "soft_limit_s")}
    notebooks = Path(job["notebooks"])
    return pipeline.run(job["params"], folder, job["stages"], notebooks, force, bar, ticket=ticket, **limits)


def cancel_run(folder: Path, confirm: bool) -> bool:
    """Asks to cancel a run, or confirms that, and returns whether it is confirmed. A run that only waits is cancelled at once.

    Raises ValueError for a run that neither waits nor works.
    """
    content = records.load(folder)
    ticket = tickets.find(folder.parent, content.get("queued"))
    if ticket is None and not lock.alive(folder):
        raise ValueError(f"{folder}: it is {content['state']}, so there is nothing to cancel")
    confirmed = cancel.ask(folder, confirm)
    if confirmed and ticket is not None:
        tickets.leave(folder.parent, ticket.number)  # before the look at the lock: from now on it will not start
        if not lock.alive(folder):
            with lock.held(folder, "recon cancel"):
                _mark_cancelled(folder)
    return confirmed


def execute(folder: Path, number: int) -> int:
    """Runs a job in this process and returns its exit code; the cause of a failure is in run.json and on stderr."""
    ends = time.monotonic() + PATIENCE_S
    while lock.alive(folder) and time.monotonic() < ends:
        time.sleep(POLL_S)
    if tickets.find(folder.parent, number) is None:
        return CANCELLED
    content = records.load(folder)
    force = (
        content["job"]["force"] and content.get("ticket") != number
    )  # a second try keeps what the first has finished
    try:
        resume(folder, number, force, bar=False)
    except pipeline.StageError as error:
        print(error, file=sys.stderr)
        return FAILED
    except ValueError as error:
        print(error, file=sys.stderr)
        with lock.held(folder, "recon submit"):
            error_line = "; ".join(str(error).splitlines())
            state = {"state": "failed", "error": error_line, "ticket": number}
            files.write_json(folder / "run.json", records.load(folder) | state)
        return REFUSED
    except KeyboardInterrupt:
        return CANCELLED if records.load(folder)["state"] == "cancelled" else INTERRUPTED
    return DONE


def carry_out(folder: str, number: int) -> str:
    """What a Dask worker does for a job: runs its process, waits for the end and returns the run's state.

    Raises JobError for a job that failed or was killed, so that Dask may try it again.
    """
    run_dir = Path(folder)
    line = [sys.executable, "-m", "recon_lib.chain.job", folder, str(number), str(os.getpid())]
    with (run_dir / LOG).open("ab") as log:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    told = None
    while process.poll() is None:
        time.sleep(POLL_S)
        if told is None and cancel.confirmed(run_dir):
            told = time.monotonic()
        if told is not None and time.monotonic() > told + OBEY_S:
            _kill_family(process.pid)
    content = records.load(run_dir)
    if process.returncode in (FAILED, REFUSED) or process.returncode < 0:
        raise JobError(content.get("error") or f"its process ended with {process.returncode}; see {LOG}")
    return content["state"]


def _kill_family(pid: int) -> None:
    try:
        family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        process.kill()


def _mark_cancelled(folder: Path) -> None:
    content = records.load(folder)
    files.write_json(folder / "run.json", content | {"state": "cancelled", "error": None, "ended": records.now()})
    cancel.withdraw(folder)


def _die_with(parent: int) -> None:
    """Asks the system to interrupt this process when its parent ends; another parent means that it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: Any) -> NoReturn:
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its errors are in run.json
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, _interrupt)
    _die_with(int(sys.argv[3]))
    sys.exit(execute(Path(sys.argv[1]), int(sys.argv[2])))
