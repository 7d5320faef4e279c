"""Which faces of a mesh pass through other faces of it: libigl's search with exact predicates, under a time limit.

The search runs in a process of its own, because nothing else can end it: on a mesh that lies in itself many times over, the
number of pairs grows with the square of the faces.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor


def find(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], limit_s: float) -> Bool[np.ndarray, " F"] | None:
    """Whether each face passes through another one that shares no vertex with it; None if `limit_s` passed or V is not finite.

    Raises RuntimeError with what the process said if it ended with an error.
    """
    if not verts.isfinite().all() or len(faces) == 0:
        return None if len(faces) else np.zeros(0, bool)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.npz"
        np.savez(path, verts=verts.double().numpy(), faces=faces.numpy().astype(np.int64))
        asked = [sys.executable, str(Path(__file__).with_name("crossing.py")), str(path)]
        try:
            subprocess.run(asked, timeout=limit_s, check=True, capture_output=True)
        except subprocess.TimeoutExpired:
            return None
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"the search for self-intersections failed: {error.stderr.decode()[-500:]}") from error
        return np.load(path.with_suffix(".npy"))
