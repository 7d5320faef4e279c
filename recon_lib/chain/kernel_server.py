"""Kernels that start at once: a server imports what the notebooks use, once, and forks a kernel for each notebook.

A kernel that starts by itself spends seconds on importing the same libraries again. `KernelServer` is the chain's side. The
server is this module run as a program; it works for one chain, has one kernel at a time, and ends, with its kernel, when the
chain ends, however that happens. It only imports: once the threads of numba or torch run, or CUDA is in use, a process cannot
be forked. Forking is safe on Linux only, so elsewhere kernels start by themselves.

They talk over a socket in JSON: the chain sends `arguments` (of ipykernel), `env` and `cwd`, with the file descriptors of the
kernel's stdout and stderr; the server answers with the kernel's `pid`, and with its exit `code` when it has ended.
"""

import ast
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

NAME = "recon-fork"
POLL_S = 0.05
LONGEST = 1 << 20  # bytes of a message
PR_SET_PDEATHSIG = 1


class KernelServer:
    """The chain's side: starts the server when the first kernel is asked for, and ends it with the `with` block."""

    def __init__(self, notebooks: Path, env: dict[str, str]):
        self.notebooks, self.env = notebooks, env
        self.process: subprocess.Popen | None = None
        self.socket: socket.socket | None = None

    def __enter__(self) -> "KernelServer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()  # a kernel that still runs dies with it
            self.process.wait()
        if self.socket is not None:
            self.socket.close()

    def start(self, arguments: Sequence[str], env: dict[str, str], cwd: str, outputs: Sequence[int]) -> "ForkedKernel":
        """Starts a kernel; `outputs` are the file descriptors of its stdout and stderr. Raises OSError if the server dies."""
        if self.process is None or self.process.poll() is not None:
            self._launch()
        assert self.socket is not None
        asked = {"arguments": list(arguments), "env": env, "cwd": cwd}
        socket.send_fds(self.socket, [json.dumps(asked).encode()], outputs)
        while answer := self.socket.recv(LONGEST):
            if (pid := json.loads(answer).get("pid")) is not None:  # else it is the exit code of the kernel before
                return ForkedKernel(pid, self.socket)
        raise OSError("the server of kernels died; out of memory, or killed")

    def _launch(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = str(theirs.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recon_lib.chain.kernel_server", number, str(self.notebooks)],
            cwd=self.notebooks.parent, env=self.env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        theirs.close()


class ForkedKernel:
    """A kernel that the server has forked, with the part of Popen's interface that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, server: socket.socket):
        self.pid = pid
        self.server = server
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the kernel runs."""
        if self.returncode is None and select.select([self.server], [], [], 0)[0]:
            answer = self.server.recv(LONGEST)
            self.returncode = json.loads(answer)["code"] if answer else -signal.SIGKILL  # it ends with its server
        return self.returncode

    def wait(self) -> int | None:
        """Waits for the kernel's end and returns its exit code."""
        while self.poll() is None:
            select.select([self.server], [], [])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal to the kernel if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends the kernel at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Asks the kernel to end."""
        self.send_signal(signal.SIGTERM)


class ForkingProvisioner(LocalProvisioner):
    """How jupyter_client starts a kernel through the server of its manager, a ForkingManager."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Starts the kernel, a leader of its own session, and returns how to connect with it."""
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        outputs = [kwargs["stdout"].fileno(), kwargs["stderr"].fileno()]
        self.process = self.parent.server.start(arguments, kwargs["env"], kwargs.get("cwd") or os.getcwd(), outputs)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class ForkingManager(AsyncKernelManager):
    """A manager of kernels that `server` forks."""

    def __init__(self, server: KernelServer, **traits: Any):
        super().__init__(**traits)
        self.server = server
        where = f"{ForkingProvisioner.__module__}:{ForkingProvisioner.__name__}"
        factory = KernelProvisionerFactory.instance(parent=self.parent)
        factory.provisioners[NAME] = EntryPoint(NAME, where, factory.GROUP_NAME)
        self.kernel_spec.metadata["kernel_provisioner"] = {"provisioner_name": NAME}


def import_what_they_import(notebooks: Path) -> None:
    """Executes the imports of all notebooks in a folder; what fails here is left to fail in its notebook."""
    for notebook in sorted(notebooks.glob("*.ipynb")):
        with suppress(Exception):
            cells = json.loads(notebook.read_text())["cells"]
            sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
            for line in (line for source in sources for line in _imports(source)):
                with suppress(Exception):
                    exec(line, {})


def _imports(source: str) -> list[str]:
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # IPython's own commands
        return []
    return [ast.unparse(statement) for statement in statements if isinstance(statement, ast.Import | ast.ImportFrom)]


def serve(chain: socket.socket) -> list[str] | None:
    """Forks kernels until the chain ends, then returns None; in each kernel it returns the arguments of ipykernel."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(chain, LONGEST, 2)
        if not message:
            return None
        asked = json.loads(message)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            chain.close()
            _become_kernel(asked["env"], asked["cwd"], descriptors, server)
            return asked["arguments"]
        for descriptor in descriptors:
            os.close(descriptor)
        chain.send(json.dumps({"pid": pid}).encode())
        _watch(chain, pid)


def _become_kernel(env: dict[str, str], cwd: str, outputs: Sequence[int], server: int) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    for number, descriptor in enumerate(outputs, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)


def _watch(chain: socket.socket, pid: int) -> None:
    """Waits until the kernel has ended, and tells its exit code; if the chain ends first, ends the kernel."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with suppress(OSError):
                chain.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
            return
        if select.select([chain], [], [], POLL_S)[0]:  # it asks for nothing while a kernel runs, so it has ended
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return


if __name__ == "__main__":
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # read when ipykernel is imported
    from ipykernel.kernelapp import launch_new_instance

    import_what_they_import(Path(sys.argv[2]))
    kernel_arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    if kernel_arguments is None:
        os._exit(0)  # the interpreter would take a second to end by itself
    launch_new_instance(argv=kernel_arguments)
