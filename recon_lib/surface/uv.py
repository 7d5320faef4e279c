"""Texture atlases: unwrapping a mesh, finding the texels that its faces cover, and filling the others.

Texture coordinates follow `mesh`: u right, v down, (0, 0) the top-left corner.
"""

from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import charts

CHARTS = 40  # least number of charts, because the time to flatten a chart grows faster than its size
PADDING_TEXELS = (3, 1, 0)  # between charts; with 3, bilinear taps and two mip levels stay inside their own chart
SMALLER = 2  # times is the atlas in which the charts of pieces are packed
TRIES = 4  # at each padding


def unwrap(
    verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: int, pieces: int = 1
) -> tuple[Float[Tensor, "T 2"], Int[Tensor, "F 3"], tuple[int, int]]:
    """Unwraps to charts of low distortion in one atlas (xatlas): texture coordinates, their faces, and (height, width).

    Height and width are in texels and at most `size`. Charts too many for their padding get less of it. More than one of
    `pieces` are cut at the same time, and charts end where pieces do. Raises ValueError if the charts do not fit without any
    padding.
    """
    a, b, c = verts[faces.long()].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).sum().item() / 2
    p, f = verts.numpy(), faces.numpy()
    cut = charts.cut_in_pieces(p, f, area / CHARTS, pieces) if pieces > 1 else []
    order = np.argsort(np.concatenate([numbers for numbers, _ in cut])) if cut else slice(None)
    if cut:
        # Packing takes a time that grows with the atlas, so charts are packed into a small one, which is then enlarged.
        atlas = charts.pack([found for _, found in cut], size / SMALLER * (0.56 / area) ** 0.5, PADDING_TEXELS[0] - 1)
        larger = size / max(atlas.width, atlas.height)
        if larger * (PADDING_TEXELS[0] - 1) >= PADDING_TEXELS[0]:
            uv_faces = torch.from_numpy(atlas.uv_faces[order].astype(np.int32))
            shape = int(atlas.height * larger), int(atlas.width * larger)
            return torch.from_numpy(atlas.uvs), uv_faces, shape
    for padding in PADDING_TEXELS:
        # The share of the atlas that charts cover: first a guess, then reduced until one atlas holds all charts.
        fill = 0.56 * (1 - 40 / max(size, 80))
        for _ in range(TRIES):
            texels_per_unit = size * (fill / area) ** 0.5
            if cut:
                atlas = charts.pack([found for _, found in cut], texels_per_unit, padding)
            else:
                atlas = charts.cut_and_pack(p, f, area / CHARTS, texels_per_unit, padding)
            if max(atlas.width, atlas.height) <= size:
                uv_faces = torch.from_numpy(atlas.uv_faces[order].astype(np.int32))
                return torch.from_numpy(atlas.uvs), uv_faces, (atlas.height, atlas.width)
            if atlas.charts * (2 * padding + 2) ** 2 > size**2:
                break  # the padding alone fills the atlas
            fill *= 0.95 * (size / max(atlas.width, atlas.height)) ** 2
    raise ValueError(f"texture_size: got {size}, too small for the {atlas.charts} charts of {len(faces)} faces")


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
    if texture.device.type != "cpu":
        return texture.reshape(-1, texture.shape[-1])[nearest_on_device(known)]
    row, column = ndimage.distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    row, column = (torch.from_numpy(index).long() for index in (row, column))
    return texture[row, column]


def nearest_on_device(known: Bool[Tensor, "H W"]) -> Int[Tensor, "H W"]:
    """For each texel the index into all texels of a nearest known one, by jump flooding (Rong & Tan 2006) on its device.

    Near the middle between several known texels it may be one that is farther by a fraction of a texel.
    """
    height, width = known.shape
    row, column = (torch.arange(n, device=known.device) for n in (height, width))
    here = row[:, None] * width + column
    found = torch.where(known, here, -1)
    jump = 1 << (max(height, width) - 1).bit_length()
    while jump := jump // 2:
        for down, right in product((-jump, 0, jump), repeat=2):
            around = torch.nn.functional.pad(found, [jump] * 4, value=-1)
            other = around[jump + down : jump + down + height, jump + right : jump + right + width]
            nearer = _squared(other, row, column, width) < _squared(found, row, column, width)
            found = torch.where(nearer, other, found)
    return found


def _squared(found: Int[Tensor, "H W"], row: Int[Tensor, " H"], column: Int[Tensor, " W"], width: int) -> Tensor:
    """The squared distance in texels to the texel that was found, far where none was."""
    far = (found // width - row[:, None]).square() + (found % width - column).square()
    return torch.where(found < 0, 1 << 60, far)
