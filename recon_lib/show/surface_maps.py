"""What photos say of each face of a mesh: how many of them see it, and how much its rendering differs from them there.

Axes: F faces.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import render
from recon_lib.mesh import Mesh
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser

SIDE = 256  # pixels along a side of each photo's crop


class SurfaceMaps(NamedTuple):
    """Values of each face."""

    seen: Float[Tensor, " F"]  # photos that see it
    error: Float[
        Tensor, " F"
    ]  # mean absolute difference of sRGB, 0 to 1, over the pixels that show it; NaN if none does


@torch.no_grad()
def measure(mesh: Mesh, photos: Scene, raster: Rasteriser) -> SurfaceMaps:
    """Compares the mesh with all photos, face by face; mesh and cameras are in one frame."""
    faces = len(mesh.faces)
    seen, pixels, error = (torch.zeros(faces) for _ in range(3))
    cropped = crops.crop_photos(photos.images, photos.cameras, SIDE)
    for i in range(len(photos.names)):
        cameras = cropped.cameras[[i]]
        views = render.views(cameras, mesh.verts)
        rast, _ = raster.rasterize(
            render.clip_positions(mesh.verts, views), mesh.faces, (views.height, views.width), grad_db=False
        )
        shown = render.over_white_srgb(render.render(mesh, cameras, raster)[0])
        wrong = (shown - render.over_white_srgb(cropped.rgba[i])).abs().mean(-1).reshape(-1)
        face = rast[0, ..., 3].long().reshape(-1)
        count = torch.bincount(face, minlength=faces + 1)[1:].float()
        pixels += count
        seen += count > 0
        error += torch.bincount(face, wrong, minlength=faces + 1)[1:]
    return SurfaceMaps(seen, torch.where(pixels > 0, error / pixels.clamp_min(1), torch.nan))
