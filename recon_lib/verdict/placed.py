"""A mesh file and the photos that judge it, in one world.

A file in a run's folder says by its manifest where it stands. Any other stands in the photos' world, as tools write it that
take the photos' cameras, or y up where the caller says so.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from recon_lib import files, frames
from recon_lib.photos import ingest, scene
from recon_lib.photos.scene import Scene
from recon_lib.surface import foreign, meshio
from recon_lib.surface.foreign import Foreign


def photos_of(folder: Path) -> Scene:
    """The posed photos of a run's folder, or of a folder of photos. Raises ValueError if they have no cameras."""
    if (folder / "scene" / "transforms.json").exists():
        return scene.load_posed(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found = ingest.read(folder, ingest.IngestConfig()).scene
    if found.cameras is None:
        raise ValueError(f"{folder}: the photos have no cameras, needed posed photos or a run's folder")
    return found


def is_in(path: Path, folder: Path) -> bool:
    """Whether a mesh file is one that a run in the folder made."""
    return path.resolve().is_relative_to(folder.resolve()) and _manifest(path) is not None


def read(path: Path, up: np.ndarray, y_up: bool) -> Foreign:
    """The mesh in the world whose up vector is `up` (3). Raises ValueError as `foreign.read` does."""
    made = _manifest(path)
    if made is not None and "light.hdr" in made:  # lit: its look is more than its base colour
        return Foreign(meshio.load_from(path.parent.parent, f"{path.parent.name}/{path.name}"), True, ())
    found = foreign.read(path)
    if made is not None:
        T = np.array(made[path.name]["T_world_file"])
    else:
        T = np.linalg.inv(frames.up_to_y(up)) if y_up else np.eye(4)
    T_world_file = torch.from_numpy(T).float()
    verts = found.mesh.verts @ T_world_file[:3, :3].T + T_world_file[:3, 3]
    return found._replace(mesh=replace(found.mesh, verts=verts))


def _manifest(path: Path) -> dict | None:
    """What the stage that wrote the file says of its files; None for a file that no stage wrote."""
    written = (files.read_json(path.parent / f"{path.parent.name}.json") or {}).get("files", {})
    return written if path.name in written else None
