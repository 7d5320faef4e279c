"""Texture atlases: unwrapping a mesh, finding the texels that its faces cover, and filling the others.

Texture coordinates follow `mesh`: u right, v down, (0, 0) the top-left corner.
"""

import numpy as np
import torch
import xatlas
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from recon_lib.raster.interface import Rasteriser

CHARTS = 40  # least number of charts, because the time to flatten a chart grows faster than its size
PADDING_TEXELS = (3, 1, 0)  # between charts; with 3, bilinear taps and two mip levels stay inside their own chart
TRIES = 4  # at each padding


def unwrap(
    verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: int
) -> tuple[Float[Tensor, "T 2"], Int[Tensor, "F 3"], tuple[int, int]]:
    """Unwraps to charts of low distortion in one atlas (xatlas): texture coordinates, their faces, and (height, width).

    Height and width are in texels and at most `size`. Charts too many for their padding get less of it. Raises ValueError if
    they do not fit without any.
    """
    a, b, c = verts[faces.long()].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).sum().item() / 2
    charts = xatlas.ChartOptions()
    charts.max_chart_area = area / CHARTS
    for padding in PADDING_TEXELS:
        # The share of the atlas that charts cover: first a guess, then reduced until one atlas holds all charts.
        fill = 0.56 * (1 - 40 / max(size, 80))
        for _ in range(TRIES):
            atlas = xatlas.Atlas()
            atlas.add_mesh(verts.numpy(), faces.numpy().astype(np.uint32))
            pack = xatlas.PackOptions()
            pack.padding = padding
            pack.texels_per_unit = size * (fill / area) ** 0.5
            pack.create_image = False
            atlas.generate(charts, pack)
            if max(atlas.width, atlas.height) <= size:
                _, uv_faces, uvs = atlas[0]
                shape = atlas.height, atlas.width
                return torch.from_numpy(uvs), torch.from_numpy(uv_faces.astype(np.int32)), shape
            if atlas.chart_count * (2 * padding + 2) ** 2 > size**2:
                break  # the padding alone fills the atlas
            fill *= 0.95 * (size / max(atlas.width, atlas.height)) ** 2
    raise ValueError(f"texture_size: got {size}, too small for the {atlas.chart_count} charts of {len(faces)} faces")


def covered(
    uvs: Float[Tensor, "T 2"], uv_faces: Int[Tensor, "F 3"], shape: tuple[int, int], raster: Rasteriser
) -> Bool[Tensor, "H W"]:
    """Whether each texel's centre lies on a face; `shape` is (height, width)."""
    return atlas_raster(uvs, uv_faces, shape, raster)[0, ..., 3] > 0


def atlas_raster(
    uvs: Float[Tensor, "T 2"], uv_faces: Int[Tensor, "F 3"], shape: tuple[int, int], raster: Rasteriser
) -> Float[Tensor, "1 H W 4"]:
    """The atlas rasterised: which face is at each texel's centre, and where in it; `shape` is (height, width)."""
    flat = torch.cat([2 * uvs - 1, torch.zeros_like(uvs[:, :1]), torch.ones_like(uvs[:, :1])], -1)
    return raster.rasterize(flat[None], uv_faces, shape, grad_db=False)[0]


def dilate(texture: Float[Tensor, "H W C"], known: Bool[Tensor, "H W"]) -> Float[Tensor, "H W C"]:
    """Gives every unknown texel the value of the nearest known one, so that filters read no undefined texel at a border."""
    if not known.any():
        return texture
    row, column = ndimage.distance_transform_edt(~known.cpu().numpy(), return_distances=False, return_indices=True)
    row, column = (torch.from_numpy(index).long().to(texture.device) for index in (row, column))
    return texture[row, column]
