"""The benchmark object Spot (Keenan Crane), path-traced: 100 photos to use, 25 to score, and its true surface.

Not part of the project: the folder is named by RECON_SPOT, in NeRF-synthetic layout with `true_mesh.ply` beside.
"""

import json
import os
from math import tan
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh
from recon_lib.photos.resample import area_means

FOLDER = Path(os.environ.get("RECON_SPOT", Path(__file__).parents[2] / "shared" / "data" / "spot"))


def photos(split: str, width: int = 512, every: int = 1) -> tuple[tuple[np.ndarray, ...], Cameras]:
    """H W 4 uint8 photos, straight alpha, and their cameras; shrunk by area means to `width`."""
    data = json.loads((FOLDER / f"transforms_{split}.json").read_text())
    frames = data["frames"][::every]
    images = tuple(_shrunk(Image.open(FOLDER / f"{frame['file_path']}.png"), width) for frame in frames)
    focal = width / 2 / tan(data["camera_angle_x"] / 2)
    return images, Cameras(
        torch.tensor([frame["transform_matrix"] for frame in frames]),
        torch.tensor([[focal, focal, width / 2, width / 2]]).repeat(len(frames), 1),
        torch.tensor([[width, width]]).repeat(len(frames), 1),
    )


def true_mesh() -> Mesh:
    body = trimesh.load_mesh(FOLDER / "true_mesh.ply", process=False)
    return Mesh(torch.tensor(body.vertices).float(), torch.tensor(body.faces).int())


def _shrunk(image: Image.Image, width: int) -> np.ndarray:
    """Colour is weighed by alpha."""
    rgba = np.asarray(image).astype(np.float32)
    if image.width == width:
        return np.asarray(image)
    rgba[..., :3] *= rgba[..., 3:] / 255
    small = area_means(rgba, (0.0, 0.0, float(image.width), float(image.height)), width, width)
    small[..., :3] /= np.maximum(small[..., 3:] / 255, 1e-6)
    return small.round().clip(0, 255).astype(np.uint8)
