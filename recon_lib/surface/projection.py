"""Projects photos onto a mesh's texture, and measures how well the textured mesh explains photos.

Axes: B photos, H W texels or pixels.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon_lib import mesh as meshes
from recon_lib import render
from recon_lib.mesh import Mesh
from recon_lib.photos.crops import Photos
from recon_lib.progress import Progress
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import unseen, uv

VALIDATED_AT_ONCE = 4  # photos per rendering
LEAST_WEIGHT = 1e-3  # pixels; a texel that is shown by less counts as unseen


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
    """A texture whose texels are the mean colours of the photos' pixels that show them.

    Texels that no photo shows are filled from their surroundings (`unseen`).
    """
    total = _gather(mesh, photos, torch.cat([photos.rgba[..., :3], torch.ones_like(photos.rgba[..., :1])], -1), raster)
    colours = total[..., :3] / total[..., 3:].clamp_min(1e-6)
    return unseen.fill(mesh, colours, total[..., 3] > LEAST_WEIGHT, raster)


def seen_texels(mesh: Mesh, photos: Photos, raster: Rasteriser) -> Bool[Tensor, "H W"]:
    """Whether some photo shows each texel of the mesh's texture."""
    return _gather(mesh, photos, torch.ones_like(photos.rgba[..., :1]), raster)[..., 0] > LEAST_WEIGHT


def _gather(
    mesh: Mesh, photos: Photos, values: Float[Tensor, "B H W C"], raster: Rasteriser
) -> Float[Tensor, "TH TW C"]:
    """Spreads each opaque pixel's values over the texels that it shows, by its weights of lookup, and sums over the photos."""
    total = mesh.texture.new_zeros(*mesh.texture.shape[:2], values.shape[-1])
    for i in range(len(photos.cameras)):
        weight = torch.zeros_like(total).requires_grad_(True)
        looked_up = render.lookup(replace(mesh, texture=weight), photos.cameras[[i]], raster)
        (looked_up * values[[i]] * (photos.rgba[[i], ..., 3:] > 0.99)).sum().backward()
        total += weight.grad
    return total


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
