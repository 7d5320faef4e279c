"""Executing one notebook in a kernel of its own: its environment, the progress bar on the console, the GPU memory in use."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_core.paths import jupyter_data_dir
from nbformat.sign import NotebookNotary
from papermill.engines import papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io
from tqdm import tqdm

from recon_lib import files
from recon_lib.chain.engine import NAME, PollingEngine
from recon_lib.chain.kernel_server import KernelServer

START_S = 120  # seconds within which a kernel must answer
POLL_S = 0.3  # seconds between two readings of progress.json

log = logging.getLogger(__name__)


def execute(copy: Path, **options: Any) -> None:
    """Executes a notebook in place; `options` go to the engine. Raises PapermillExecutionError for a cell that fails."""
    papermill_engines.register(NAME, PollingEngine)
    papermill_io.register("/", WholeFiles())  # for absolute paths, which all copies have
    path = str(copy).replace("{", "{{").replace("}", "}}")  # papermill would read braces in a path as fields
    options |= {
        "engine_name": NAME,
        "start_timeout": START_S,
        "kernel_name": "python3",
        "language": "python",
        "progress_bar": False,
    }
    papermill.execute_notebook(path, path, **options)


def server(notebooks: Path) -> AbstractContextManager[KernelServer | None]:
    """The server that forks the kernels of these notebooks; None where no process can safely be forked."""
    return KernelServer(notebooks, environment()) if sys.platform == "linux" else nullcontext()


def sign(copy: Path) -> None:
    """Tells this user's JupyterLab that the notebook's outputs are to be trusted; one that is not shows no widget or script."""
    folder = Path(jupyter_data_dir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        NotebookNotary(data_dir=str(folder)).sign(nbformat.read(copy, 4))
    except (OSError, sqlite3.Error) as error:  # its data folder cannot be written, as in some containers
        log.warning("%s will open untrusted: %s", copy.name, error)


class WholeFiles(LocalHandler):
    """How papermill saves a notebook, which it does after every cell: the file is never half written."""

    def write(self, buf: str, path: str) -> None:
        files.write_text(Path(path), buf)


def environment() -> dict[str, str]:
    """The environment variables of a stage's kernel; RECON_BATCH tells it that the chain holds its run folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    inline = "module://matplotlib_inline.backend_inline"
    ours = {"RECON_BATCH": "1", "MPLBACKEND": inline}
    return inherited | ours | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}  # fragments cost gigabytes


@contextmanager
def progress_bar(stage: str, folder: Path, shown: bool) -> Iterator[None]:
    """Shows a console bar that follows progress.json; if stderr is not a terminal, it prints one line per minute."""
    ended = threading.Event()
    form = "{desc:<14}{percentage:3.0f}% |{bar:30}| {elapsed}{postfix}"
    rare = 0.1 if sys.stderr.isatty() else 60.0
    with tqdm(total=100, desc=stage, bar_format=form, mininterval=rare, disable=not shown) as bar:

        def follow() -> None:
            while not ended.wait(POLL_S):
                show()
            show()

        def show() -> None:
            progress = json.loads((folder / "progress.json").read_text())
            bar.set_postfix_str(progress["what"], refresh=False)
            bar.update(progress["percent"] - bar.n)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()


def gpu_memory_mb() -> float | None:
    """The memory in use on all GPUs by all processes, MiB; None without NVIDIA's driver."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return sum(map(float, told)) if told else None


def one_line(error: Exception) -> str:
    """The error on one line: its name and text, or those of the cell's own error if a cell failed."""
    name, text = type(error).__name__, str(error)
    if isinstance(error, PapermillExecutionError):
        name, text = error.ename, error.evalue
    return f"{name}: {'; '.join(line.strip() for line in text.splitlines() if line.strip())}"
