"""Runs everything once on small data, so that kernels are compiled and libraries are loaded before they are needed.

`python -m recon_lib.machine.warm` fills numba's cache at installation. On a GPU, loading CUDA's libraries and kernels takes
seconds; `start_warming` does that in the background while the CPU has other work.
"""

import threading
from dataclasses import replace

import numpy as np
import torch

from recon_lib import camera, mesh, render
from recon_lib import mesh as meshes
from recon_lib.coarse.config import HullConfig, StereoConfig
from recon_lib.coarse.stereo import stereo
from recon_lib.photos import crops
from recon_lib.photos.distortion import Distortion
from recon_lib.photos.undistort import undistort
from recon_lib.raster import cpu
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import fit, refine
from recon_lib.surface import charts, projection, simplify


def run_small_fits(raster: Rasteriser) -> list[torch.Tensor]:
    """Fits a ball for a few steps, unlit and lit; returns the ball's masks, one per view."""
    views = camera.on_device(camera.canonical_six(32), raster.DEVICE)
    ball = mesh.icosphere(2)
    ball = replace(ball, verts=0.4 * ball.verts, uvs=(ball.verts[:, :2] + 1) / 2, uv_faces=ball.faces)
    ball = meshes.on_device(replace(ball, texture=torch.rand(16, 16, 3)), raster.DEVICE)
    photos = crops.Photos(render.photographed(ball, views, raster), views)
    projection.project_photos(ball, photos, raster)
    projection.explain(ball, photos, raster)
    for body in (ball, refine.make_lit(ball, 32, raster)):
        for _ in fit.fit(photos, body, fit.FitConfig(steps=2), raster):
            pass
    return list(photos.rgba[..., 3])


def start_warming(raster: Rasteriser) -> None:
    """On a GPU, starts `run_small_fits` in a thread, and what unwraps; it waits for neither. On the CPU it does nothing."""
    if raster is not cpu:
        charts.start_cutters(projection.PIECES[raster.DEVICE])
        threading.Thread(target=run_small_fits, args=(raster,), daemon=True).start()


def compile_kernels() -> None:
    """Compiles all CPU kernels into numba's cache on disk."""
    run_small_fits(cpu)
    undistort(np.zeros((4, 4, 4), np.uint8), (4.0, 4.0, 2.0, 2.0), Distortion((0.1,)))
    ball = mesh.icosphere(3)
    ball = replace(ball, verts=0.4 * ball.verts, uvs=(ball.verts[:, :2] + 1) / 2, uv_faces=ball.faces)
    simplify.remesh_evenly(ball.verts.numpy(), ball.faces.numpy(), 2 * len(ball.faces))
    texture = torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(0))
    views = camera.orbit(16, 0.2, 2.5, 0.5, 64)
    seen = render.photographed(replace(ball, texture=texture), views, cpu)
    photos = tuple((seen * 255).round().byte().numpy())
    # Stereo carves the visual hull, too.
    stereo.stereo_mesh(photos, views, StereoConfig(size=64, resolution=24, bound_resolution=24), HullConfig(faces=500))


if __name__ == "__main__":
    compile_kernels()
