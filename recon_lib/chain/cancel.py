"""Cancelling a run in two steps: somebody asks, and then somebody confirms, within LAPSE_S seconds.

The request is the file `.cancel` in the run folder, so it reaches a run on any machine that shares the folder. It holds
`asked` and `confirmed`, both seconds since 1970, the latter None at first. A run looks for it before every stage and, in a
thread of its own, every POLL_S seconds, so that an optimiser step in a kernel is interrupted, too.
"""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recon_lib import files

NAME = ".cancel"
LAPSE_S = 3600.0  # a request that nobody confirms for so long counts no more
POLL_S = 0.2


def ask(folder: Path, confirm: bool) -> bool:
    """Asks for the run to be cancelled and returns whether that is confirmed: by `confirm`, or by an earlier request."""
    now = time.time()
    before = _read(folder)
    confirmed = confirm or (before is not None and 0 <= now - before["asked"] < LAPSE_S)
    files.write_json(folder / NAME, {"asked": now, "confirmed": now if confirmed else None})
    return confirmed


def confirmed(folder: Path) -> bool:
    """Whether a confirmed request lies in the folder."""
    found = _read(folder)
    return found is not None and found["confirmed"] is not None


def withdraw(folder: Path) -> None:
    """Takes a request away; it was obeyed, or the run that it was about is over."""
    (folder / NAME).unlink(missing_ok=True)


def raise_if_confirmed(folder: Path) -> None:
    """Raises KeyboardInterrupt if a confirmed request lies in the folder."""
    if confirmed(folder):
        raise KeyboardInterrupt


@contextmanager
def obeyed(folder: Path) -> Iterator[None]:
    """Inside the `with` block a confirmed request raises KeyboardInterrupt in the main thread, whatever runs there."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            if confirmed(folder):
                # To this thread, as another thread that took the signal would not wake the main one from its waiting.
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    if threading.current_thread() is threading.main_thread():
        watcher.start()
    try:
        yield
    finally:
        ended.set()


def _read(folder: Path) -> dict | None:
    """The request; None if there is none, or none that can be read."""
    try:
        found = json.loads((folder / NAME).read_text())
        return {"asked": float(found["asked"]), "confirmed": found["confirmed"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
