"""Real and rendered captures for benchmarks: folders with `transforms_train.json`, photos to use, and `transforms_test.json`.

Not part of the project: RECON_DATA names the folder that holds them.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from recon_lib import camera
from recon_lib.photos import ingest
from recon_lib.photos.resample import area_means
from recon_lib.photos.scene import Scene

FOLDER = Path(os.environ.get("RECON_DATA", Path(__file__).parents[2] / "shared" / "data"))


def read(name: str, used: int = 0, width: int = 0) -> Scene:
    """The capture's scene with `used` of its photos to use, evenly spread (0: all), and those held out; `width` in pixels."""
    scene = ingest.read(FOLDER / name, ingest.IngestConfig()).scene
    order = np.flatnonzero(~scene.held_out)
    kept = scene.held_out.copy()
    kept[order[np.arange(used) * (len(order) // used)] if used else order] = True
    return shrunk(scene.subset(kept), width) if width else scene.subset(kept)


def shrunk(scene: Scene, width: int) -> Scene:
    """The scene with its photos shrunk by area means, colour weighed by alpha, to `width` pixels."""
    heights = [round(image.shape[0] * width / image.shape[1]) for image in scene.images]
    images = tuple(_shrunk(image, width, height) for image, height in zip(scene.images, heights, strict=True))
    old = scene.cameras.sizes
    whole = torch.cat([torch.zeros_like(old), old], 1).float()
    assert len(set(heights)) == 1, heights
    return replace(scene, images=images, cameras=camera.cropped(scene.cameras, whole, width, heights[0]))


def _shrunk(image: np.ndarray, width: int, height: int) -> np.ndarray:
    rgba = image.astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255
    small = area_means(rgba, (0.0, 0.0, float(image.shape[1]), float(image.shape[0])), width, height)
    small[..., :3] /= np.maximum(small[..., 3:] / 255, 1e-6)
    return small.round().clip(0, 255).astype(np.uint8)
