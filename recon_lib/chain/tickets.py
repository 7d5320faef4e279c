"""The queue on disk: one small file per run that waits or runs, `outputs/.queue/NUMBER.json`; a lower number goes first.

A ticket is written when a run is submitted and deleted when the run has ended, so whoever serves the queue may die: the tickets
tell the next one what is left. Numbers only grow; `last` holds the latest one.
"""

import fcntl
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from recon_lib import files

FOLDER = ".queue"


@dataclass(frozen=True)
class Ticket:
    """A run's place in the queue."""

    number: int
    run: str  # the name of the run folder beside the queue's folder
    after: str | None = None  # the run that must be done first
    tries: int = 1  # how often a failing run is tried


def next_number(outputs: Path) -> int:
    """A number that no other ticket has or will have."""
    folder = outputs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "last").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or 0) + 1
        file.truncate(0)
        file.write(str(number))
    return number


def enter(outputs: Path, ticket: Ticket) -> None:
    """Puts a run into the queue."""
    files.write_json(_path(outputs, ticket.number), asdict(ticket))


def numbers(outputs: Path) -> list[int]:
    """The numbers of all tickets, first come first."""
    return sorted(int(path.stem) for path in (outputs / FOLDER).glob("[0-9]*.json"))


def find(outputs: Path, number: int | None) -> Ticket | None:
    """The ticket with this number, which a run's run.json has under `queued`; None if it is gone or there was never one."""
    try:
        return None if number is None else Ticket(**json.loads(_path(outputs, number).read_text()))
    except FileNotFoundError:
        return None


def leave(outputs: Path, number: int) -> None:
    """Deletes a ticket; does nothing if it is gone."""
    _path(outputs, number).unlink(missing_ok=True)


def _path(outputs: Path, number: int) -> Path:
    return outputs / FOLDER / f"{number:08d}.json"
