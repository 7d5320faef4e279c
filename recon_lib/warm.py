"""`python -m recon_lib.warm`: compiles the kernels into numba's cache, so that the first run does not wait for it."""

from dataclasses import replace

import torch

from recon_lib import camera, fit, hull, mesh, refine, render
from recon_lib.raster import cpu


def warm() -> None:
    """Runs a few steps of everything on a ball."""
    views = camera.canonical_six(32)
    ball = mesh.icosphere(2)
    ball = replace(ball, verts=0.4 * ball.verts, uvs=(ball.verts[:, :2] + 1) / 2, uv_faces=ball.faces)
    ball = replace(ball, texture=torch.rand(16, 16, 3))
    photos = fit.Photos(render.photographed(ball, views, cpu), views)
    refine.projected_texture(ball, photos, cpu)
    lit = refine.lit(ball, 16, cpu)
    for body in (ball, lit):
        for _ in fit.fit(photos, body, fit.FitConfig(steps=2), cpu):
            pass
    hull.visual_hull(list(photos.rgba[..., 3].numpy()), views, hull.HullConfig(resolution=16, faces=500))


if __name__ == "__main__":
    warm()
