"""Coarse to fine: one fit at several scales, each with twice the photo size and the texture of the one before.

Faces that cover many pixels are split between two scales, so that triangles, texels and pixels become finer together: finer
texels alone follow the photos' noise, and finer triangles alone have no detail to follow. Axes: F faces.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import mesh, render
from recon_lib.mesh import Mesh
from recon_lib.photos import crops
from recon_lib.photos.crops import Photos
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import fit
from recon_lib.refine.config import FitConfig
from recon_lib.refine.controls import Controls
from recon_lib.refine.corrections import NOTHING, Corrections, Wanted
from recon_lib.refine.fit import Begun, FitState
from recon_lib.surface import subdivide, uv

TEXELS_PER_PIXEL = 2.0  # the texture's side over the photos' side: the atlas holds all sides and gaps, a photo one side
FINEST = 6.0  # square pixels; a face that covers more in some photo, on average over those that show it, is split


def fit_scales(
    photos: Photos,
    start: Mesh,
    config: FitConfig,
    raster: Rasteriser,
    controls: Controls | None = None,
    asked: Wanted = NOTHING,
    begun: Begun | None = None,
) -> Iterator[FitState]:
    """Yields the states of `fit.fit` at each of `config.scales` scales, coarsest first. `photos` have the finest scale.

    `asked` says which corrections of the photos are fitted, through all scales. The steps are shared out evenly; those beyond
    `config.steps` (`controls`) are at the finest scale. A fit that was `begun` goes on after its step. Raises ValueError for
    photos whose size the scales do not divide.
    """
    size, coarsest = photos.rgba.shape[2], 2 ** (config.scales - 1)
    if size % coarsest:
        raise ValueError(f"photo_size: got {size}, need a multiple of {coarsest} for {config.scales} scales")
    taken = -1 if begun is None else begun.step
    if config.scales > 1 and begun is None:
        start = _resized(start, TEXELS_PER_PIXEL * size / coarsest / max(start.texture.shape[:2]), raster)
    corrected = Corrections(photos.cameras, asked)
    for scale in range(config.scales):
        first, last = (config.steps * k // config.scales for k in (scale, scale + 1))
        is_last = scale == config.scales - 1
        if last < taken and not is_last:
            continue
        shown = crops.shrink(photos, 2 ** (config.scales - 1 - scale))
        here = begun if first < taken else None
        if scale and here is None:
            start = finer(start, shown, raster)
        for state in fit.fit(shown, start, config, raster, controls, first, None if is_last else last, corrected, here):
            if state.step > max(first, taken) or (scale == 0 and here is None):
                yield state
        start = fit.snapshot(state.mesh)


def finer(body: Mesh, photos: Photos, raster: Rasteriser) -> Mesh:
    """The mesh with twice the texels along each side, and with the faces split that are large in the photos."""
    return subdivide.split(_resized(body, 2.0, raster), pixels_per_face(body, photos, raster) > FINEST)


def _resized(body: Mesh, times: float, raster: Rasteriser) -> Mesh:
    """The mesh with its texels resampled to `times` as many along each side."""

    def resample(texels: Float[Tensor, "H W C"]) -> Tensor:
        shape = texels.shape[0], texels.shape[1]
        whole = uv.dilate(texels, uv.covered(body.uvs, body.uv_faces, shape, raster))
        size = [max(1, round(n * times)) for n in shape]
        planes = torch.nn.functional.interpolate(
            whole.permute(2, 0, 1)[None], size, mode="bilinear", antialias=times < 1
        )
        return planes[0].permute(1, 2, 0).contiguous()

    return mesh.map_tensors(body, resample, ("texture", "material"))


@torch.no_grad()
def pixels_per_face(body: Mesh, photos: Photos, raster: Rasteriser) -> Float[Tensor, " F"]:
    """The pixels that a face covers, mean over the photos that show it; 0 for one that no photo shows."""
    seen, faces = fit.views(photos), len(body.faces)
    pixels, shown = (torch.zeros(faces, device=body.verts.device) for _ in range(2))
    for i in range(len(photos.cameras)):
        view = fit.select_views(seen, torch.tensor([i], device=body.verts.device))
        pos = render.clip_positions(body.verts, view)
        rast = raster.rasterize(pos, body.faces, (view.height, view.width), grad_db=False)[0]
        count = torch.bincount(rast[..., 3].long().reshape(-1), minlength=faces + 1)[1:]
        pixels += count
        shown += count > 0
    return pixels / shown.clamp_min(1)
