"""What a run does now, read from its folder: the state that `recon status` prints.

States are those of run.json (`run`) and three more. A run with a ticket that has not started is `queued`; one that works is
`cancelling` from a confirmed request on until it has obeyed, and `cancelled` afterwards.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon_lib.chain import cancel, lock, tickets
from recon_lib.chain import run as records
from recon_lib.stages import COARSE, REFINE


@dataclass(frozen=True)
class Status:
    """One run as it is now. Percent is of the stage."""

    run: str
    state: str
    stage: str
    percent: float
    what: str  # what runs
    model: str  # what makes the mesh in this stage; empty in a stage that makes none
    seconds_left: float | None  # of the stage; None if nothing is known
    alive: bool  # a living process works in the folder
    heartbeat_s: float | None  # seconds since its last sign of life; None if nobody ever worked here
    after: str | None  # the run that it waits for
    error: str | None
    in_queue: bool  # it waits, works or will be tried again


def read(folder: Path) -> Status:
    """The status of one run. Raises ValueError where there is no run."""
    return _read(folder)[0]


def read_all(outputs: Path) -> list[Status]:
    """The status of every run in a folder of runs, by name; those that wait come last, in the queue's order."""
    found = [_read(path.parent) for path in sorted(outputs.glob("*/run.json"))]
    return [row for row, _ in sorted(found, key=lambda pair: pair[1] if pair[0].state == "queued" else 0)]


def _read(folder: Path) -> tuple[Status, int]:
    """The status of a run, and the number of its ticket, 0 without one."""
    content = records.load(folder)
    ticket = tickets.find(folder.parent, content.get("queued"))
    alive = lock.alive(folder)
    state = content["state"]
    if ticket is not None and content.get("ticket") != ticket.number:
        state = "queued"
    elif alive and cancel.confirmed(folder):
        state = "cancelling"
    progress = {} if state == "queued" else _progress(folder)
    stage = progress.get("stage", "")
    path = folder / lock.NAME
    row = Status(
        folder.name,
        state,
        stage,
        progress.get("percent", 0.0),
        progress.get("what", ""),
        _model(content, stage),
        progress.get("seconds_left") if state == "running" else None,
        alive,
        round(max(0.0, time.time() - path.stat().st_mtime), 1) if path.exists() else None,
        ticket.after if ticket and state == "queued" else None,
        content.get("error"),
        ticket is not None,
    )
    return row, ticket.number if ticket else 0


def _progress(folder: Path) -> dict[str, Any]:
    """What progress.json holds; empty if it is absent or damaged."""
    try:
        found = json.loads((folder / "progress.json").read_bytes())
        return found if set(found) == {"stage", "percent", "what", "seconds_left"} else {}
    except (OSError, ValueError, TypeError):
        return {}


def _model(content: dict[str, Any], stage: str) -> str:
    asked = content["stages"].get(stage, {}).get("parameters", {})
    return {COARSE: asked.get("backend", ""), REFINE: asked.get("topology", "")}.get(stage, "")
