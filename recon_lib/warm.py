"""`python -m recon_lib.warm`: compiles the kernels into numba's cache, so that the first run does not wait for it."""

import torch

from recon_lib import camera, hull, mesh
from recon_lib.raster import cpu


def warm() -> None:
    ball = mesh.icosphere(2)
    view = camera.orbit(1, 0.3, 4.0, 0.6, 32)
    pos = torch.nn.functional.pad(ball.verts, (0, 1), value=1.0) @ camera.projection(view, 1, 10).mT
    pos.requires_grad_(True)
    rast, _ = cpu.rasterize(pos, ball.faces, (32, 32), grad_db=False)
    uv, _ = cpu.interpolate(ball.verts[None, :, :2], rast, ball.faces)
    tex = torch.rand(1, 16, 16, 3, requires_grad=True)
    cpu.antialias(cpu.texture(tex, uv, boundary_mode="clamp"), rast, pos, ball.faces).sum().backward()
    alpha = (rast.detach()[0, ..., 3] > 0).float().numpy()
    hull.visual_hull([alpha], view, hull.HullConfig(resolution=16, faces=500))


if __name__ == "__main__":
    warm()
