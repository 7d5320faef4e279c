"""The posed scene that 1_ingest writes and every later stage reads.

On disk (`scene/`): `images/<name>.png`, 8-bit straight-alpha RGBA in sRGB; `transforms.json` in the instant-ngp form with
per-frame intrinsics, poses camera-to-world with OpenGL axes, plus `up` (unit vector, world) and per frame `held_out`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from recon_lib.camera import Cameras


@dataclass(frozen=True, eq=False)
class Scene:
    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]  # H W 4 uint8, straight alpha, sRGB, each its own size
    cameras: Cameras
    held_out: np.ndarray  # bool, one a view: never shown to a stage that makes the mesh
    up: np.ndarray  # unit vector in the world
    canonical_rig: bool = False  # six named images without poses: none is held out

    def subset(self, index: np.ndarray) -> "Scene":
        """The views that a boolean mask selects."""
        images = tuple(image for image, chosen in zip(self.images, index, strict=True) if chosen)
        names = tuple(name for name, chosen in zip(self.names, index, strict=True) if chosen)
        cameras = self.cameras[torch.from_numpy(index)]
        return Scene(names, images, cameras, self.held_out[index], self.up, self.canonical_rig)


def to_json(scene: Scene) -> dict:
    frames = []
    for i, name in enumerate(scene.names):
        fx, fy, cx, cy = scene.cameras.intrinsics[i].tolist()
        width, height = scene.cameras.sizes[i].tolist()
        frames.append(
            {
                "file_path": f"images/{name}.png",
                "transform_matrix": scene.cameras.T_world_cam[i].double().tolist(),
                "fl_x": fx,
                "fl_y": fy,
                "cx": cx,
                "cy": cy,
                "w": width,
                "h": height,
                "held_out": bool(scene.held_out[i]),
            }
        )
    return {"up": scene.up.tolist(), "canonical_rig": scene.canonical_rig, "frames": frames}


def save(scene: Scene, folder: Path) -> None:
    """Writes into `folder`, which must be empty or absent; the caller renames it into place."""
    (folder / "images").mkdir(parents=True)
    for name, image in zip(scene.names, scene.images, strict=True):
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    (folder / "transforms.json").write_text(json.dumps(to_json(scene), indent=1))


def load(folder: Path) -> Scene:
    """Reads what `save` wrote."""
    if not (folder / "transforms.json").exists():
        raise ValueError(f"{folder}: no transforms.json; run 1_ingest for this run folder first")
    data = json.loads((folder / "transforms.json").read_text())
    frames = data["frames"]
    cameras = Cameras(
        torch.tensor([f["transform_matrix"] for f in frames]),
        torch.tensor([[f["fl_x"], f["fl_y"], f["cx"], f["cy"]] for f in frames]),
        torch.tensor([[f["w"], f["h"]] for f in frames]),
    )
    return Scene(
        tuple(Path(f["file_path"]).stem for f in frames),
        tuple(np.asarray(Image.open(folder / f["file_path"])) for f in frames),
        cameras,
        np.array([f["held_out"] for f in frames]),
        np.array(data["up"], dtype=float),
        data["canonical_rig"],
    )
