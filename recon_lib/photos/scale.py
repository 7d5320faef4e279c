"""Metres per world unit, from one known length between two points of the object that were marked in photos.

A mark is a pixel of a photo of the scene (`scene/images/`): origin at the top-left corner, x right, y down. A point needs marks
in two photos or more; it is where the marks' rays come nearest to each other, by linear least squares. Errors are in pixels.

`scale.json` lies beside the folder `scene/` and not in it, so that no stage counts as changed. It names the hash of the
cameras that it was measured with; for any other scene it says nothing. A copy of the run's mesh in metres, which is the unit
of glTF, is written beside it; the run's own files stay as they are. Axes: K marks.
"""

import json
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from recon_lib import files
from recon_lib.camera import Cameras, project
from recon_lib.photos.scene import SCALE, Scene

WORST_PX = 5.0  # a mark farther from its point is taken for a mistake
LEAST_DEGREES = 1.0  # the widest angle between a point's rays must be at least this
IN_METRES = "mesh_in_metres.glb"  # in the run's folder


class Mark(NamedTuple):
    """Where a point of the object is seen in one photo, in pixels."""

    photo: str
    x: float
    y: float


class Scale(NamedTuple):
    """What one known length gives."""

    metres_per_unit: float
    error_px: float  # the largest distance between a mark and its point, seen by the mark's camera


def parse(text: str) -> Mark:
    """The mark that "PHOTO:x,y" means. Raises ValueError for anything else."""
    photo, _, at = text.rpartition(":")
    try:
        x, y = map(float, at.split(","))
    except ValueError as error:
        raise ValueError(f"--point: got {text!r}, needed PHOTO:x,y with x and y in pixels") from error
    return Mark(photo, x, y)


def measure(posed: Scene, points: list[list[Mark]], length_metres: float) -> Scale:
    """The scale at which the two points are `length_metres` apart.

    Raises ValueError for a scene without cameras, a bad length, marks that no photo has, rays that are nearly parallel, and
    marks that do not mean one point.
    """
    if posed.cameras is None:
        raise ValueError("scale: the scene has no cameras; needed a run whose 1_ingest was given or found them")
    if not 0 < length_metres < np.inf:
        raise ValueError(f"--length: got {length_metres:g}, needed metres above 0")
    if len(points) != 2:
        raise ValueError(f"--point: got {len(points)} points, needed the 2 ends of the known length")
    (first, error_first), (second, error_second) = (point(posed, posed.cameras, marks) for marks in points)
    distance = float(np.linalg.norm(first - second))
    if distance == 0:
        raise ValueError("--point: both points are the same, needed the two ends of the known length")
    return Scale(length_metres / distance, max(error_first, error_second))


def save(run_dir: Path, scale: Scale) -> Path | None:
    """Writes the scale beside the scene that it was measured in, and the run's mesh, if there is one, in metres; returns it."""
    measured_in = files.sha256(run_dir / "scene" / "transforms.json")
    files.write_json(run_dir / SCALE, {**scale._asdict(), "measured_in": measured_in})
    mesh = run_dir / ((files.read_json(run_dir / "run.json") or {}).get("final_mesh") or "refined/mesh.glb")
    if not mesh.exists():
        return None
    files.write_bytes(run_dir / IN_METRES, in_metres(mesh.read_bytes(), scale.metres_per_unit))
    return run_dir / IN_METRES


def in_metres(glb: bytes, metres_per_unit: float) -> bytes:
    """The GLB file with a node above all others that scales them."""
    length = struct.unpack_from("<I", glb, 12)[0]
    tree = json.loads(glb[20 : 20 + length])
    scenes, nodes = tree["scenes"], tree["nodes"]
    for scene in scenes:
        nodes.append({"name": "in metres", "scale": [metres_per_unit] * 3, "children": scene["nodes"]})
        scene["nodes"] = [len(nodes) - 1]
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + length :]
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def point(posed: Scene, cameras: Cameras, marks: list[Mark]) -> tuple[Float[np.ndarray, "3"], float]:
    """The point in the world that the marks mean, and the largest error in pixels."""
    views = [_view(posed, mark) for mark in marks]
    if len(set(views)) < 2 or len(set(views)) < len(views):
        raise ValueError(
            f"--point: got marks in {[mark.photo for mark in marks]}, needed two photos or more, each once"
        )
    T = cameras.T_world_cam[views].double()
    k = cameras.intrinsics[views].double()
    xy = torch.tensor([[mark.x, mark.y] for mark in marks], dtype=torch.float64)
    flat = (xy - k[:, 2:]) / k[:, :2] * torch.tensor([1.0, -1.0])
    p_cam = torch.cat([flat, -torch.ones(len(marks), 1, dtype=torch.float64)], 1)
    ray = torch.nn.functional.normalize((T[:, :3, :3] @ p_cam[..., None])[..., 0], dim=-1)
    sine = torch.linalg.cross(ray[:, None], ray[None]).norm(dim=-1).max()
    degrees = float(torch.rad2deg(torch.asin(sine.clamp(max=1))))
    if degrees < LEAST_DEGREES:
        raise ValueError(
            f"--point: the rays of {[mark.photo for mark in marks]} are parallel within {degrees:.2g} degrees, needed "
            f"{LEAST_DEGREES:g}; mark the point in photos from other sides"
        )
    across = torch.eye(3, dtype=torch.float64) - ray[:, :, None] * ray[:, None]  # takes away what lies along the ray
    point = torch.linalg.solve(across.sum(0), (across @ T[:, :3, 3:]).sum(0)[:, 0])
    seen, depth = project(Cameras(T, k, cameras.sizes[views]), point[None])
    errors = torch.where(depth[:, 0] > 0, (seen[:, 0] - xy).norm(dim=-1), torch.inf)
    worst = int(errors.argmax())
    if errors[worst] > WORST_PX:
        raise ValueError(
            f"--point: {marks[worst].photo}: the mark is {errors[worst]:.1f} pixels from where the marks together put the "
            f"point, needed at most {WORST_PX:g}; mark the same point in each photo"
        )
    return point.numpy(), float(errors[worst])


def _view(posed: Scene, mark: Mark) -> int:
    name = mark.photo if mark.photo in posed.names else Path(mark.photo).stem
    if name not in posed.names:
        raise ValueError(f"--point: no photo {mark.photo!r} in the scene, needed one of {', '.join(posed.names)}")
    view = posed.names.index(name)
    height, width = posed.images[view].shape[:2]
    if not (0 <= mark.x <= width and 0 <= mark.y <= height):
        raise ValueError(
            f"--point: {mark.photo}: got {mark.x:g},{mark.y:g}, outside the photo's {width} x {height} pixels"
        )
    return view
