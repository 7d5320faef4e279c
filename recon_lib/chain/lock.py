"""The lock of a run folder: one holder at a time, and a heartbeat that shows everybody else whether the holder is alive.

The holder is a process that runs the chain, or a kernel in which a stage is open. It keeps `.lock` locked (flock), and touches
the file every HEARTBEAT_S seconds. The system drops the lock when the process ends, however it ends, so on the same machine the
lock itself shows whether the holder is alive. On another machine, where a network file system may not pass on the lock, the
heartbeat shows it: a holder without one for DEAD_S seconds counts as dead.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

NAME = ".lock"
HEARTBEAT_S = 2.0
DEAD_S = 10.0
PATIENCE_S = 0.3  # `alive` in another process holds the lock for an instant, so `take` tries again for this long

_held: dict[Path, "Held"] = {}  # what this process holds: a stage opened twice in one kernel is still one holder


class Held:
    """A lock that this process holds; a thread touches its file until it is released."""

    def __init__(self, folder: Path, file: TextIOWrapper):
        self.folder, self.file = folder, file
        self.ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self.ended.wait(HEARTBEAT_S):
            with suppress(OSError):  # the folder is gone
                os.utime(self.folder / NAME)


def take(folder: Path, what: str) -> None:
    """Locks the folder for this process; does nothing if this process holds it already. `what` says what for, in words.

    Raises ValueError where another process holds it; the message names that process, what it does and since when.
    """
    folder = folder.resolve()
    if folder in _held:
        return
    file = (folder / NAME).open("a+")
    ends = time.monotonic() + PATIENCE_S
    while not _try_lock(file, fcntl.LOCK_EX):
        if time.monotonic() > ends:
            file.close()
            raise ValueError(f"{folder}: {_describe(holder(folder))} works here; wait for it, or end it")
        time.sleep(PATIENCE_S / 10)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "what": what, "since": now}))
    file.flush()
    _held[folder] = Held(folder, file)


def release(folder: Path) -> None:
    """Unlocks the folder; does nothing if this process does not hold it."""
    held = _held.pop(folder.resolve(), None)
    if held is not None:
        held.ended.set()
        held.file.close()


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Holds the folder's lock inside a `with` block. Raises ValueError as `take` does."""
    take(folder, what)
    try:
        yield
    finally:
        release(folder)


def holder(folder: Path) -> dict[str, Any]:
    """Who held the folder last: pid, host, what, since. Empty if nobody has, or if the lock file cannot be read."""
    try:
        found = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def alive(folder: Path) -> bool:
    """Whether a living process holds the folder now."""
    path = folder / NAME
    if not path.exists():
        return False
    if holder(folder).get("host") not in (None, socket.gethostname()):
        return time.time() - path.stat().st_mtime < DEAD_S
    with path.open() as file:
        return not _try_lock(file, fcntl.LOCK_SH)


def _try_lock(file: TextIOWrapper, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(found: dict[str, Any]) -> str:
    if not found:
        return "another process"
    return f"{found['what']} (process {found['pid']} on {found['host']}, since {found['since']})"
