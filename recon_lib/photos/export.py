"""Writes a posed scene for other tools: a COLMAP model, transforms.json as instant-ngp has it, the photos, and masks beside.

In the folder: `sparse/0/` (cameras.txt, images.txt, and points3D.txt without points), `transforms.json`, `images/NAME.png`
(RGB) and `masks/NAME.png` (white is the object). Positions are those of the input: the scene's offset is added again.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from recon_lib.photos import scene
from recon_lib.photos.scene import Scene


def write(posed: Scene, folder: Path) -> None:
    """Writes the scene into a folder that is absent or empty. Raises ValueError where it is not."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: got a folder with files in it, needed a new one")
    T = posed.cameras.T_world_cam.double().numpy().copy()
    T[:, :3, 3] += posed.offset
    for part in ("images", "masks", "sparse/0"):
        (folder / part).mkdir(parents=True)
    for name, image in zip(posed.names, posed.images, strict=True):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), np.ascontiguousarray(image[..., 2::-1]))
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), np.ascontiguousarray(image[..., 3]))
    (folder / "transforms.json").write_text(json.dumps(_transforms(posed, T), indent=1))
    cameras, images = _colmap(posed, T)
    (folder / "sparse" / "0" / "cameras.txt").write_text(cameras)
    (folder / "sparse" / "0" / "images.txt").write_text(images)
    (folder / "sparse" / "0" / "points3D.txt").write_text("")


def _transforms(posed: Scene, T: np.ndarray) -> dict:
    frames = [
        {
            "file_path": f"images/{name}.png",
            "mask_path": f"masks/{name}.png",
            **of_camera,
            "transform_matrix": pose.tolist(),
        }
        for name, of_camera, pose in zip(posed.names, scene.camera_json(posed.cameras), T, strict=True)
    ]
    return {"up": posed.up.tolist(), "frames": frames}


def _colmap(posed: Scene, T_world_cam: np.ndarray) -> tuple[str, str]:
    """The content of cameras.txt and images.txt: OpenCV axes, world to camera, quaternions with w first."""
    T_cv_world = np.linalg.inv(T_world_cam * [1, -1, -1, 1])
    turns = Rotation.from_matrix(T_cv_world[:, :3, :3]).as_quat(scalar_first=True)
    cameras, images = [], []
    lenses, sizes = posed.cameras.intrinsics.tolist(), posed.cameras.sizes.tolist()
    rows = zip(posed.names, lenses, sizes, turns, T_cv_world[:, :3, 3], strict=True)
    for i, (name, lens, (width, height), turn, shift) in enumerate(rows, start=1):
        cameras.append(f"{i} PINHOLE {width} {height} " + " ".join(f"{value:.10g}" for value in lens))
        images.append(f"{i} " + " ".join(f"{value:.17g}" for value in (*turn, *shift)) + f" {i} {name}.png\n")
    return "\n".join(cameras) + "\n", "\n".join(images) + "\n"
