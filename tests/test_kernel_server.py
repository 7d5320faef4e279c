"""Kernels that a server forks: what they share, what is their own, and that none outlives its chain."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from recon_lib.chain import kernels
from recon_lib.chain.kernel_server import KernelServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
TELL = (
    "import os, sys\nprint(os.getpid(), os.getppid(), os.environ.get('MARK'), 'colorsys' in sys.modules, os.getcwd())"
)


@pytest.fixture
def notebooks(tmp_path):
    """A folder with one notebook, which imports a module that no kernel needs."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = [new_code_cell("import colorsys\nimport no_such_module"), new_code_cell("%matplotlib inline")]
    nbformat.write(new_notebook(cells=cells), folder / "1_ingest.ipynb")
    return folder


def execute(folder, server, source, **env):
    """Executes one cell in a kernel of its own and returns what it printed, word by word."""
    copy = folder / "copy.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), copy)
    kernels.execute(
        copy, cwd=folder, execution_timeout=60.0, kernel_env=kernels.environment() | env,
        kernel_log=folder / "kernel.log", kernel_server=server,
    )  # fmt: skip
    return nbformat.read(copy, 4).cells[0].outputs[0]["text"].split()


def test_kernels_are_processes_of_their_own_that_share_imports_only(notebooks, tmp_path):
    with KernelServer(notebooks, kernels.environment()) as server:
        first = execute(tmp_path, server, TELL + "\nimport wave; here = 1", MARK="one")
        second = execute(tmp_path, server, "import sys; assert 'wave' not in sys.modules\n" + TELL)
        forked_by = str(server.process.pid)
    assert first[0] != second[0]
    assert first[1] == second[1] == forked_by
    assert (first[2], second[2]) == ("one", "None")
    assert first[3] == second[3] == "True"
    assert first[4] == str(tmp_path)
    assert execute(tmp_path, None, TELL)[3] == "False"
    assert not psutil.pid_exists(int(forked_by))


def test_a_kernel_that_ends_itself_tells_its_exit_code_and_the_next_one_starts(notebooks, tmp_path):
    with KernelServer(notebooks, kernels.environment()) as server:
        with pytest.raises(PapermillExecutionError, match="the kernel died"):
            execute(tmp_path, server, "import os; os._exit(3)")
        with (tmp_path / "log").open("wb") as log:
            kernel = server.start(["--help"], dict(os.environ), str(tmp_path), [log.fileno(), log.fileno()])
            assert kernel.wait() == 0
        assert "ipython-kernel" in (tmp_path / "log").read_text()
        assert execute(tmp_path, server, "print('on')") == ["on"]


def test_a_server_that_dies_takes_its_kernel_along_and_is_replaced(notebooks, tmp_path):
    with KernelServer(notebooks, kernels.environment()) as server:
        with pytest.raises(PapermillExecutionError, match="the kernel died"):
            execute(tmp_path, server, "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)")
        assert execute(tmp_path, server, "print('on')") == ["on"]


def test_nothing_is_left_when_the_chain_is_killed(notebooks, tmp_path):
    source = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
from recon_lib.chain import kernels
from test_kernel_server import execute
folder = Path({str(tmp_path)!r})
with kernels.server(folder / "notebooks") as server:
    execute(folder, server, "import os, time; open('pids', 'w').write(f'{{os.getpid()}} {{os.getppid()}}'); time.sleep(60)")
"""
    chain = subprocess.Popen([sys.executable, "-c", source])
    told = tmp_path / "pids"
    ends = time.monotonic() + 60
    while not (told.exists() and told.read_text()) and time.monotonic() < ends:
        time.sleep(0.05)
    family = [psutil.Process(int(pid)) for pid in told.read_text().split()]
    chain.send_signal(signal.SIGKILL)
    chain.wait()
    alive = psutil.wait_procs(family, timeout=2)[1]  # a container's first process may never ask how its orphans ended
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
