"""A ball in speckles, which shows any shift of a camera; for tests of cameras that are a little wrong."""

from dataclasses import replace

import torch

from recon_lib import mesh
from recon_lib.surface import uv


def ball(texels: int, texels_per_speckle: int, contrast: float) -> mesh.Mesh:
    """An unlit ball in the unit sphere; its colours are 0.1 to 0.1 + `contrast`, linear."""
    sphere = mesh.icosphere(3)
    uvs, uv_faces, (height, width) = uv.unwrap(sphere.verts, sphere.faces, texels)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // texels_per_speckle, width // texels_per_speckle, generator=generator)
    speckles = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]
    return replace(sphere, uvs=uvs, uv_faces=uv_faces, texture=0.1 + contrast * speckles.permute(1, 2, 0))
