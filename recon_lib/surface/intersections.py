"""Which faces of a mesh pass through other faces of it: libigl's search with exact predicates, under a time limit.

The search runs in a process of its own, because nothing else can end it: on a mesh that lies in itself many times over, the
number of pairs grows with the square of the faces.
"""

import select
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE
from types import TracebackType

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor


def find(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], limit_s: float) -> Bool[np.ndarray, " F"] | None:
    """`Search.find` for one mesh."""
    with Search() as search:
        return search.find(verts, faces, limit_s)


class Search:
    """Searches mesh after mesh while its context holds, in one process that starts with the first."""

    def __enter__(self) -> "Search":
        self.folder = tempfile.TemporaryDirectory()
        self.process: subprocess.Popen | None = None
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        self.folder.cleanup()

    def find(
        self, verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], limit_s: float
    ) -> Bool[np.ndarray, " F"] | None:
        """Whether each face passes through another one that shares no vertex with it.

        None if `limit_s` passed or V is not finite. Raises RuntimeError with what the process said if it ended with an error.
        """
        if not verts.isfinite().all() or len(faces) == 0:
            return None if len(faces) else np.zeros(0, bool)
        path = Path(self.folder.name) / "mesh.npz"
        np.savez(path, verts=verts.double().numpy(), faces=faces.numpy().astype(np.int64))
        if self.process is None:
            program = [sys.executable, str(Path(__file__).with_name("crossing.py"))]
            self.process = subprocess.Popen(program, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            self._end()
            return None
        if not self.process.stdout.readline():
            said = self._end()
            raise RuntimeError(f"the search for self-intersections failed: {said[-500:]}")
        return np.load(path.with_suffix(".npy"))

    def _end(self) -> str:
        """Ends the process and returns what it complained of."""
        if self.process is None:
            return ""
        self.process.kill()
        said = self.process.communicate()[1]
        self.process = None
        return said
