"""Everything once, small: what is compiled or loaded at its first use is there when it matters.

`python -m recon_lib.warm` fills numba's cache at installation. On a GPU, loading CUDA's libraries and kernels takes seconds,
which `beside` spends while the CPU has other work.
"""

import threading
from dataclasses import replace
from types import ModuleType

import torch

from recon_lib import camera, fit, hull, mesh, refine, render
from recon_lib.raster import cpu


def fits(raster: ModuleType) -> list[torch.Tensor]:
    """A few steps, unlit and lit, on a ball; returns its masks."""
    views = camera.on_device(camera.canonical_six(32), raster.DEVICE)
    ball = mesh.icosphere(2)
    ball = replace(ball, verts=0.4 * ball.verts, uvs=(ball.verts[:, :2] + 1) / 2, uv_faces=ball.faces)
    ball = refine.on_device(replace(ball, texture=torch.rand(16, 16, 3)), raster.DEVICE)
    photos = fit.Photos(render.photographed(ball, views, raster), views)
    refine.projected_texture(ball, photos, raster)
    refine.validation_psnr_db(ball, photos, raster)
    for body in (ball, refine.lit(ball, 32, raster)):
        for _ in fit.fit(photos, body, fit.FitConfig(steps=2), raster):
            pass
    return list(photos.rgba[..., 3])


def beside(raster: ModuleType) -> None:
    """On a GPU, starts `fits` in a thread and does not wait for it; on the CPU there is nothing to load."""
    if raster is not cpu:
        threading.Thread(target=fits, args=(raster,), daemon=True).start()


def warm() -> None:
    masks = [mask.numpy() for mask in fits(cpu)]
    hull.visual_hull(masks, camera.canonical_six(32), hull.HullConfig(resolution=16, faces=500))


if __name__ == "__main__":
    warm()
