"""Photos of a textured boulder by known cameras, made with the project's own renderer, for the tests of plain photos."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from recon_lib import camera, colour, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh, icosphere
from recon_lib.raster import cpu
from recon_lib.surface import uv

COUNT, WIDTH, FOV_RADIANS, DISTANCE = 16, 320, 0.6, 5.5
GREY = 200  # of the plain background


class Photos(NamedTuple):
    """Straight-alpha photos, their true cameras (y up), and the true mesh."""

    images: tuple[np.ndarray, ...]
    cameras: Cameras
    mesh: Mesh


@lru_cache
def boulder(count: int = COUNT) -> Photos:
    """A ring of photos around the boulder."""
    generator = torch.Generator().manual_seed(3)
    ball = icosphere(3)
    waves = torch.randn(3, 4, generator=generator)
    verts = ball.verts * (1 + 0.15 * torch.sin(2 * ball.verts @ waves).sum(-1, keepdim=True) / 2)
    uvs, uv_faces, (height, width) = uv.unwrap(verts, ball.faces, 512)
    grain = torch.rand(1, 3, height // 5, width // 5, generator=generator) ** 2
    texture = torch.nn.functional.interpolate(grain, (height, width), mode="bilinear")[0].permute(1, 2, 0).contiguous()
    mesh = Mesh(verts, ball.faces, uvs, uv_faces, texture)
    cameras = camera.orbit(count, 0.4, DISTANCE, FOV_RADIANS, WIDTH)
    images = []
    for i in range(count):
        rgba = render.photographed(mesh, cameras[[i]], cpu)[0]
        rgb = colour.linear_to_srgb((rgba[..., :3] / rgba[..., 3:].clamp_min(1e-6)).clamp(0, 1))
        images.append((torch.cat([rgb, rgba[..., 3:]], -1) * 255).round().byte().numpy())
    return Photos(tuple(images), cameras, mesh)


def save(folder: Path, images: tuple[np.ndarray, ...]) -> Path:
    """Writes the photos as v00.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"v{i:02d}.png")
    return folder


def on_grey(rgba: np.ndarray) -> np.ndarray:
    """The photo before a grey background with a little noise, opaque."""
    alpha = rgba[..., 3:] / 255
    noise = np.random.default_rng(0).normal(0, 2, rgba.shape[:2])[..., None]
    rgb = rgba[..., :3] * alpha + (GREY + noise) * (1 - alpha)
    return np.dstack([rgb.clip(0, 255).round().astype(np.uint8), np.full(rgba.shape[:2], 255, np.uint8)])


def best_similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and shift that bring the source's points nearest to the target's (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    R = u @ sign @ vt
    scale = float((s * np.diag(sign)).sum() / (a**2).sum())
    return scale, R, target.mean(0) - scale * R @ source.mean(0)
