"""Projects photos onto a mesh's texture, and measures how well the textured mesh explains photos.

Axes: B photos, H W texels or pixels.
"""

import math
from dataclasses import replace
from typing import NamedTuple

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
GATHERED_AT_ONCE = {"cpu": 1, "cuda": 16}  # the same
SSIM_WINDOW = 7  # pixels along its side
PIECES = {"cpu": 1, "cuda": 8}  # cut at the same time where everything else is done before they are
LEAST_WEIGHT = 1e-3  # pixels; a texel that is shown by less counts as unseen


def paint(mesh: Mesh, photos: Photos, texture_size: int, raster: Rasteriser, progress: Progress) -> Mesh:
    """Unwraps a mesh and gives it the photos' mean colours as its texture; the result is on the rasteriser's device."""
    progress(0.5, "unwrapping")
    uvs, uv_faces, shape = uv.unwrap(mesh.verts.cpu(), mesh.faces.cpu(), texture_size, PIECES[raster.DEVICE])
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
    at_once = GATHERED_AT_ONCE[raster.DEVICE]
    for first in range(0, len(photos.cameras), at_once):
        some = slice(first, first + at_once)
        weight = torch.zeros_like(total).requires_grad_(True)
        looked_up = render.lookup(replace(mesh, texture=weight), photos.cameras[some], raster)
        (looked_up * values[some] * (photos.rgba[some, ..., 3:] > 0.99)).sum().backward()
        total += weight.grad
    return total


class Explained(NamedTuple):
    """How well a mesh's images explain photos: sRGB on white, in the union of both masks, mean over the photos."""

    psnr_db: float
    ssim: float

    @property
    def quality_db(self) -> float:
        """The mean of PSNR and of SSIM in dB, -10 log10(1 - SSIM). PSNR alone prefers a blurred surface to a sharp one."""
        return (self.psnr_db - 10 * math.log10(max(1 - self.ssim, 1e-6))) / 2


@torch.no_grad()
def explain(mesh: Mesh, photos: Photos, raster: Rasteriser) -> Explained:
    """Compares the mesh's images with the photos."""
    psnr_db, ssim = [], []
    for first in range(0, len(photos.cameras), VALIDATED_AT_ONCE):
        some = slice(first, first + VALIDATED_AT_ONCE)
        rgba, true = render.render(mesh, photos.cameras[some], raster), photos.rgba[some]
        mask = (rgba[..., 3] > 0.5) | (true[..., 3] > 0.5)
        shown, asked = render.over_white_srgb(rgba), render.over_white_srgb(true)
        pixels = mask.sum((1, 2))
        psnr_db.append(-10 * torch.log10(((shown - asked).square().mean(-1) * mask).sum((1, 2)) / pixels))
        ssim.append((ssim_map(shown, asked) * mask).sum((1, 2)) / pixels)
    return Explained(torch.cat(psnr_db).mean().item(), torch.cat(ssim).mean().item())


def ssim_map(a: Float[Tensor, "B H W C"], b: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W"]:
    """SSIM (Wang et al. 2004) around each pixel, mean over the channels, of values from 0 to 1: scikit-image's default.

    The window is a square of SSIM_WINDOW pixels, and photos go on mirrored beyond their borders.
    """
    a, b = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)

    def mean(image: Float[Tensor, "B C H W"]) -> Tensor:
        around = torch.nn.functional.pad(image, [SSIM_WINDOW // 2] * 4, mode="reflect")
        return torch.nn.functional.avg_pool2d(around, SSIM_WINDOW, 1)

    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    mean_a, mean_b = mean(a), mean(b)
    spread = unbiased * (mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2)
    shared = unbiased * (mean(a * b) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_a * mean_b + c1) * (2 * shared + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread + c2))
    return similar.mean(1)
