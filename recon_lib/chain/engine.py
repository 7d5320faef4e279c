"""The papermill engine that the chain uses: it cannot miss a kernel's reply, and it leaves no process behind.

It differs from papermill's own engine in four ways. It asks for the kernel's messages once per second, because a wait without a
limit can miss a message and never end. The time limit holds for all cells together. A passed limit, a dead kernel and an
interruption become errors of the cell in which they happened. The kernel's child processes end with it. Times are seconds.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

import psutil
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager

from recon_lib.chain.kernel_server import ForkingManager, KernelServer

NAME = "recon"
SLICE_S = 1.0
OUTPUT_WAIT_S = 60  # wait for a cell's output after the cell has ended
GRACE_S = 1.0  # wait for the kernel's children after the kernel has ended

log = logging.getLogger("papermill")


class PollingClient(PapermillNotebookClient):
    """Runs the cells of one notebook in one kernel, within `limit_s` seconds for all cells together."""

    def __init__(
        self, manager: NotebookExecutionManager, limit_s: float, server: KernelServer | None = None, **traits: Any
    ):
        super().__init__(manager, iopub_timeout=OUTPUT_WAIT_S, log=log, **traits)
        self.limit_s, self.server = limit_s, server
        self.kernel_pid: int | None = None
        self.struck = False

    def create_kernel_manager(self) -> KernelManager:
        """The manager of the kernel, which a server forks where there is one."""
        if self.server is None:
            return super().create_kernel_manager()
        self.km: Any = ForkingManager(self.server, kernel_name=self.kernel_name)
        return self.km

    async def async_start_new_kernel_client(self) -> Any:
        """Starts the kernel; from now on the time limit runs, and messages are asked for in slices."""
        self.kernel_pid = self.km.provisioner.pid
        client = await super().async_start_new_kernel_client()
        for channel in (client.shell_channel, client.iopub_channel):
            channel.get_msg = _ask_in_slices(channel.get_msg)
        deadline = monotonic() + self.limit_s
        self.timeout_func = lambda cell: max(deadline - monotonic(), 0.001)  # 0 would mean no limit
        return client

    async def _async_cleanup_kernel(self) -> None:
        family = [] if self.kernel_pid is None else _family(self.kernel_pid)
        await super()._async_cleanup_kernel()
        _, alive = psutil.wait_procs(family, timeout=GRACE_S)
        for process in alive:
            log.warning("killing process %d, left by the kernel", process.pid)
            process.kill()

    # The base class binds its own coroutines to these names.
    start_new_kernel_client = run_sync(async_start_new_kernel_client)
    _cleanup_kernel = run_sync(_async_cleanup_kernel)

    def execute_cell(self, cell: NotebookNode, cell_index: int) -> NotebookNode:
        """Executes one cell; a passed limit, a dead kernel or an interruption is also written into the cell as its error."""
        try:
            return super().execute_cell(cell, cell_index)
        except CellTimeoutError as error:
            over = "Cell execution timed out" in str(error)
            text = f"no end within {self.limit_s:g} s" if over else "the cell ended, but not its output"
            self._mark(cell, cell_index, "TimeoutError", text)
            raise
        except DeadKernelError:
            self._mark(cell, cell_index, "DeadKernelError", "the kernel died; out of memory, or killed")
            raise
        except KeyboardInterrupt:
            self._mark(cell, cell_index, "KeyboardInterrupt", "the run was interrupted here")
            raise

    def process_message(self, *message: Any) -> NotebookNode | None:
        # Messages that the kernel sends while it is being ended are not output of the cell.
        return None if self.struck else super().process_message(*message)

    def _mark(self, cell: NotebookNode, cell_index: int, name: str, text: str) -> None:
        self.struck = True
        cell.outputs.append(new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"]))
        self.nb_man.cell_exception(cell, cell_index)


class PollingEngine(NBClientEngine):
    """What papermill calls to execute a notebook; registered under NAME."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        start_timeout: int,
        execution_timeout: float,
        kernel_env: dict[str, str],
        kernel_log: Path,
        kernel_server: KernelServer | None = None,
        **_: Any,
    ) -> None:
        """Executes the notebook, in a kernel that `kernel_server` forks if it is given.

        The kernel process's own stdout and stderr, such as a crash report, go to `kernel_log`.
        """
        client = PollingClient(
            nb_man,
            execution_timeout,
            kernel_server,
            kernel_name=kernel_name,
            shutdown_kernel="immediate",  # it has said all, and its interpreter would take seconds to end by itself
            startup_timeout=start_timeout,
            extra_arguments=["--log-level=ERROR"],  # or each kernel warns that its port on this machine is unencrypted
        )
        with kernel_log.open("ab") as file:
            try:
                client.execute(env=kernel_env, stdout=file, stderr=file)
            except (CellTimeoutError, DeadKernelError) as error:
                log.info("%s", error)  # the cell carries the error; papermill finds it there and raises
            finally:
                if client.km is not None and client.km.has_kernel:  # interrupted while the kernel started
                    client._cleanup_kernel()


def _ask_in_slices(get_msg: Callable[..., Awaitable[dict]]) -> Callable[..., Awaitable[dict]]:
    """Wraps `get_msg` so that it asks again every SLICE_S seconds until a message comes or the timeout is over (Empty)."""

    async def ask(timeout: float | None = None) -> dict:
        end = monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            try:
                return await get_msg(timeout=max(0.0, min(SLICE_S, end - monotonic())))
            except Empty:
                if monotonic() >= end:
                    raise

    return ask


def _family(kernel_pid: int) -> list[psutil.Process]:
    """The kernel's descendants. A kernel leads its own session, so those whose parent has already ended are found, too."""
    found = set()
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == kernel_pid:
                found |= {process, *process.children(recursive=True)}
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return [process for process in found if process.pid != kernel_pid]
