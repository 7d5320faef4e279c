"""A textured mesh seen by cameras.

Images are premultiplied RGBA, linear, antialiased, top row first; alpha is the coverage. Axes: N views, H W pixels.
"""

from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib import camera, colour
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh


def clip_positions(verts: Float[Tensor, "V 3"], cameras: Cameras) -> Float[Tensor, "N V 4"]:
    """Clip space of each view, with depth planes that leave the whole mesh in front of near and far."""
    row = camera.invert_rigid(cameras.T_world_cam)[:, 2]
    depth = -(verts.detach() @ row[:, :3].T + row[:, 3])
    far = 1.01 * depth.max().item()
    near = max(0.99 * depth.min().item(), 1e-3 * far)
    P = camera.projection(cameras, near, max(far, 2 * near))
    return verts @ P[:, :, :3].mT + P[:, None, :, 3]


def render(
    mesh: Mesh, cameras: Cameras, raster: ModuleType, topology: Int[Tensor, "F 3"] | None = None
) -> Float[Tensor, "N H W 4"]:
    """All views must have one size. Unlit: the texture is the colour seen."""
    rgba, rast, pos = _shade(mesh, cameras, raster)
    return raster.antialias(rgba, rast, pos, mesh.faces, topology)


def lookup(mesh: Mesh, cameras: Cameras, raster: ModuleType) -> Float[Tensor, "N H W C"]:
    """The texture at each pixel centre, zero where no face is; not antialiased."""
    return _shade(mesh, cameras, raster)[0][..., :-1]


def _shade(mesh: Mesh, cameras: Cameras, raster: ModuleType) -> tuple[Tensor, Tensor, Tensor]:
    """Texture and coverage at the pixel centres, the raster and the clip positions. Only covered pixels are looked up."""
    width, height = cameras.sizes[0].tolist()
    pos = clip_positions(mesh.verts, cameras)
    rast, _ = raster.rasterize(pos, mesh.faces, (height, width), grad_db=False)
    uv, _ = raster.interpolate(mesh.uvs[None], rast, mesh.uv_faces)
    covered = (rast[..., 3] > 0).reshape(-1).nonzero()[:, 0]
    uv = uv.reshape(-1, 2).index_select(0, covered)[None, None]
    colour = raster.texture(mesh.texture[None], uv, filter_mode="linear", boundary_mode="clamp")[0, 0]
    shaded = torch.cat([colour, torch.ones_like(colour[:, :1])], -1)
    pixels = torch.zeros(rast[..., 0].numel(), shaded.shape[-1]).index_copy(0, covered, shaded)
    return pixels.reshape(*rast.shape[:3], -1), rast, pos


def over_white_srgb(rgba: Float[Tensor, "*S 4"]) -> Float[Tensor, "*S 3"]:
    """What a viewer of the straight-alpha sRGB picture sees on white paper: blended in sRGB, as files are."""
    alpha = rgba[..., 3:]
    rgb = (rgba[..., :3] / alpha.clamp_min(1e-6)).clamp(0, 1)
    return colour.linear_to_srgb(rgb) * alpha + 1 - alpha


def photographed(mesh: Mesh, cameras: Cameras, raster: ModuleType, samples: int = 2) -> Float[Tensor, "N H W 4"]:
    """`render`, each pixel the mean of `samples`² of a finer image, as a sensor integrates over its area."""
    width, height = cameras.sizes[0].tolist()
    boxes = torch.tensor([[0.0, 0.0, width, height]]).expand(len(cameras), 4)
    fine = render(mesh, camera.cropped(cameras, boxes, samples * width, samples * height), raster)
    return fine.reshape(len(cameras), height, samples, width, samples, 4).mean((2, 4))
