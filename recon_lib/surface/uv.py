"""Texture atlases: unwrapping, filling the texels that no face covers, and moving a texture to another mesh.

Texture coordinates follow `mesh`: u right, v down, (0, 0) the top-left corner.
"""

import numpy as np
import torch
import xatlas
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from recon_lib.raster.interface import Rasteriser

CHARTS = 40  # at least: flattening a chart takes time that grows faster than its size
PADDING_TEXELS = 3  # between charts, so that bilinear taps and two mip levels stay inside their own chart


def unwrap(
    verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: int
) -> tuple[Float[Tensor, "T 2"], Int[Tensor, "F 3"], tuple[int, int]]:
    """Charts of low distortion (xatlas) in one atlas: coordinates, their faces, and the atlas' (height, width) <= `size`."""
    # Share of the atlas that charts cover, first guess; shrinks until one atlas holds them all.
    fill = 0.56 * (1 - 40 / size)
    a, b, c = verts[faces.long()].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).sum().item() / 2
    charts = xatlas.ChartOptions()
    charts.max_chart_area = area / CHARTS
    while True:
        atlas = xatlas.Atlas()
        atlas.add_mesh(verts.numpy(), faces.numpy().astype(np.uint32))
        pack = xatlas.PackOptions()
        pack.padding = PADDING_TEXELS
        pack.texels_per_unit = size * (fill / area) ** 0.5
        pack.create_image = False
        atlas.generate(charts, pack)
        if max(atlas.width, atlas.height) <= size:
            _, uv_faces, uvs = atlas[0]
            return torch.from_numpy(uvs), torch.from_numpy(uv_faces.astype(np.int32)), (atlas.height, atlas.width)
        fill *= 0.95 * (size / max(atlas.width, atlas.height)) ** 2


def covered(
    uvs: Float[Tensor, "T 2"], uv_faces: Int[Tensor, "F 3"], shape: tuple[int, int], raster: Rasteriser
) -> Bool[Tensor, "H W"]:
    """Texels whose centre lies on a face."""
    return atlas_raster(uvs, uv_faces, shape, raster)[0, ..., 3] > 0


def atlas_raster(
    uvs: Float[Tensor, "T 2"], uv_faces: Int[Tensor, "F 3"], shape: tuple[int, int], raster: Rasteriser
) -> Float[Tensor, "1 H W 4"]:
    """The atlas as a picture: which face is at each texel's centre, and where in it."""
    flat = torch.cat([2 * uvs - 1, torch.zeros_like(uvs[:, :1]), torch.ones_like(uvs[:, :1])], -1)
    return raster.rasterize(flat[None], uv_faces, shape, grad_db=False)[0]


def dilate(texture: Float[Tensor, "H W C"], known: Bool[Tensor, "H W"]) -> Float[Tensor, "H W C"]:
    """Gives every unknown texel the colour of the nearest known one, so that no filter tap brings in a stray colour."""
    if not known.any():
        return texture
    row, column = ndimage.distance_transform_edt(~known.cpu().numpy(), return_distances=False, return_indices=True)
    row, column = (torch.from_numpy(index).long().to(texture.device) for index in (row, column))
    return texture[row, column]
