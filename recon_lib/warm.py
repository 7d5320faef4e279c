"""`python -m recon_lib.warm`: compiles the kernels into numba's cache, so that the first run does not wait for it."""

import torch

from recon_lib import camera, hull, mesh, render
from recon_lib.raster import cpu


def warm() -> None:
    ball = mesh.icosphere(2)
    views = camera.canonical_six(32)
    pos = render.clip_positions(0.4 * ball.verts, views).requires_grad_(True)
    rast, _ = cpu.rasterize(pos, ball.faces, (32, 32), grad_db=False)
    uv, _ = cpu.interpolate(ball.verts[None, :, :2], rast, ball.faces)
    tex = torch.rand(1, 16, 16, 3, requires_grad=True)
    cpu.antialias(cpu.texture(tex, uv, boundary_mode="clamp"), rast, pos, ball.faces).sum().backward()
    masks = (rast.detach()[..., 3] > 0).float().numpy()
    hull.visual_hull(list(masks), views, hull.HullConfig(resolution=16, faces=500))


if __name__ == "__main__":
    warm()
