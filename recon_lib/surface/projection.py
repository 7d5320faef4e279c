"""Projects photos onto a mesh's texture, and measures how well the textured mesh explains photos.

Axes: B photos, H W texels or pixels.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import mesh as meshes
from recon_lib import render
from recon_lib.mesh import Mesh
from recon_lib.photos.crops import Photos
from recon_lib.progress import Progress
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import uv

VALIDATED_AT_ONCE = 4  # photos per rendering


def paint(mesh: Mesh, photos: Photos, texture_size: int, raster: Rasteriser, progress: Progress) -> Mesh:
    """Unwraps a mesh and gives it the photos' mean colours as its texture; the result is on the rasteriser's device."""
    progress(0.5, "unwrapping")
    uvs, uv_faces, shape = uv.unwrap(mesh.verts.cpu(), mesh.faces.cpu(), texture_size)
    blank = meshes.on_device(replace(mesh, uvs=uvs, uv_faces=uv_faces, texture=torch.zeros(*shape, 3)), raster.DEVICE)
    progress(0.9, "projecting photos")
    done = replace(blank, texture=project_photos(blank, photos, raster))
    progress(1.0, "unwrapped and projected")
    return done


def project_photos(mesh: Mesh, photos: Photos, raster: Rasteriser) -> Float[Tensor, "H W 3"]:
    """A texture whose texels are the mean colours of the photos' pixels that show them (the normalised transposed lookup).

    Texels that no photo shows take the colour of the nearest known one.
    """
    total = mesh.texture.new_zeros(*mesh.texture.shape[:2], 4)
    for i in range(len(photos.cameras)):
        weight = torch.zeros_like(total).requires_grad_(True)
        seen = render.lookup(replace(mesh, texture=weight), photos.cameras[[i]], raster)
        opaque = photos.rgba[[i], ..., 3:] > 0.99
        target = torch.cat([photos.rgba[[i], ..., :3], torch.ones_like(photos.rgba[[i], ..., :1])], -1)
        (seen * target * opaque).sum().backward()
        total += weight.grad
    return uv.dilate(total[..., :3] / total[..., 3:].clamp_min(1e-6), total[..., 3] > 1e-3)


@torch.no_grad()
def psnr_in_mask_db(mesh: Mesh, photos: Photos, raster: Rasteriser) -> float:
    """PSNR in dB of the mesh's images against the photos: sRGB on white, in the union of both masks, mean over the photos."""
    scores = []
    for first in range(0, len(photos.cameras), VALIDATED_AT_ONCE):
        some = slice(first, first + VALIDATED_AT_ONCE)
        rgba, true = render.render(mesh, photos.cameras[some], raster), photos.rgba[some]
        mask = (rgba[..., 3] > 0.5) | (true[..., 3] > 0.5)
        squared = (render.over_white_srgb(rgba) - render.over_white_srgb(true)).square().mean(-1)
        scores.append(-10 * torch.log10((squared * mask).sum((1, 2)) / mask.sum((1, 2))))
    return torch.cat(scores).mean().item()
