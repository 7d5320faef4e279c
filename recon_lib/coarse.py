"""The coarse mesh: one contract for every backend that stage 2 can choose.

Images and masks, with or without cameras, go in; a mesh, the frame it is in, the cameras where the backend found its own,
and where it all came from come out. Nothing falls back silently: `auto` chooses and says why, a named backend runs or
refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recon_lib import hull
from recon_lib.camera import Cameras
from recon_lib.hull import HullConfig
from recon_lib.mesh import Mesh
from recon_lib.scene import Scene

BACKENDS = ("hull", "reconviagen")


@dataclass(frozen=True, eq=False)
class Coarse:
    mesh: Mesh
    T_world_mesh: np.ndarray  # 4 x 4
    cameras: Cameras | None  # None: the scene's own
    backend: str
    reason: str  # one sentence: why this backend
    provenance: dict


def choose(backend: str) -> tuple[str, str]:
    """The backend to run and why, for `auto` or a name.

    Raises ValueError for a backend that cannot run here.
    """
    if backend == "auto":
        return "hull", "`auto` chose the visual hull: this version has no other backend that can run"
    if backend == "reconviagen":
        raise ValueError(
            "backend reconviagen: got a version without its adapter, need one that has it; choose hull or auto"
        )
    if backend not in BACKENDS:
        raise ValueError(f"backend: got {backend!r}, need auto or one of {BACKENDS}")
    return backend, f"`{backend}` was asked for"


def reconstruct(
    scene: Scene, backend: str, config: HullConfig, progress: Callable[[float, str], None] = lambda share, what: None
) -> Coarse:
    """Held-out views must have been taken out of `scene` before."""
    chosen, reason = choose(backend)
    alphas = [image[..., 3] / np.float32(255) for image in scene.images]
    mesh = hull.visual_hull(alphas, scene.cameras, config, progress)
    provenance = {"method": "visual hull (Laurentini 1994)", "views": len(scene.names), **vars(config)}
    return Coarse(mesh, np.eye(4), None, chosen, reason, provenance)
