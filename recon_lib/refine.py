"""From a mesh in the world and posed photos to a refined, textured mesh in the world.

The fit runs in the unit frame (object in the unit sphere), so that its rates and weights mean the same for every object.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon_lib import camera, crops, fit, render, uv
from recon_lib.camera import Cameras
from recon_lib.fit import Controls, FitConfig, FitState, Photos
from recon_lib.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Setup:
    """A fit about to start, in the unit frame."""

    T_unit_world: Float[Tensor, "4 4"]
    photos: Photos
    start: Mesh
    known: Bool[Tensor, "H W"]  # texels that a face covers


def unit_frame(verts: Float[Tensor, "V 3"]) -> Float[Tensor, "4 4"]:
    """`T_unit_world`: the box's middle to the origin, the farthest vertex to distance 1."""
    middle = (verts.max(0).values + verts.min(0).values) / 2
    T = torch.eye(4) / (verts - middle).norm(dim=-1).max()
    T[:3, 3], T[3, 3] = -middle * T[0, 0], 1
    return T


def transformed(mesh: Mesh, T: Float[Tensor, "4 4"]) -> Mesh:
    return replace(mesh, verts=mesh.verts @ T[:3, :3].T + T[:3, 3])


def prepare(
    images: tuple[np.ndarray, ...],
    cameras: Cameras,
    mesh: Mesh,
    photo_size: int,
    raster: ModuleType,
    texture_size: int = 1024,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> Setup:
    """Crops the photos to `photo_size` pixels; a mesh without a texture gets one of the photos' mean colours."""
    fit.one_torch_thread()
    T_unit_world = unit_frame(mesh.verts)
    photos = crops.crop_photos(images, camera.moved(cameras, T_unit_world), photo_size, progress)
    start = transformed(mesh, T_unit_world)
    if start.texture is None:
        progress(0.5, "unwrapping")
        uvs, uv_faces, shape = uv.unwrap(start.verts, start.faces, texture_size)
        start = replace(start, uvs=uvs, uv_faces=uv_faces, texture=torch.zeros(*shape, 3))
        progress(0.9, "projecting photos")
        start = replace(start, texture=projected_texture(start, photos, raster))
        progress(1.0, "unwrapped and projected")
    known = uv.covered(start.uvs, start.uv_faces, start.texture.shape[:2], raster)
    return Setup(T_unit_world, photos, start, known)


def projected_texture(mesh: Mesh, photos: Photos, raster: ModuleType) -> Float[Tensor, "H W 3"]:
    """Each texel the mean colour of the photos' pixels that show it: the transpose of the texture lookup, normalised."""
    total = torch.zeros(*mesh.texture.shape[:2], 4)
    for i in range(len(photos.cameras)):
        weight = torch.zeros_like(total).requires_grad_(True)
        seen = render.lookup(replace(mesh, texture=weight), photos.cameras[[i]], raster)
        opaque = photos.rgba[[i], ..., 3:] > 0.99
        target = torch.cat([photos.rgba[[i], ..., :3], torch.ones_like(photos.rgba[[i], ..., :1])], -1)
        (seen * target * opaque).sum().backward()
        total += weight.grad
    return uv.dilate(total[..., :3] / total[..., 3:].clamp_min(1e-6), total[..., 3] > 1e-3)


def run(setup: Setup, config: FitConfig, raster: ModuleType, controls: Controls | None = None) -> Iterator[FitState]:
    """The steps of `fit.fit` from this setup."""
    return fit.fit(setup.photos, setup.start, config, raster, controls)


def finished(setup: Setup, mesh: Mesh) -> Mesh:
    """A state's mesh back in the world, its texture filled beyond the charts' borders."""
    filled = replace(mesh, texture=uv.dilate(mesh.texture, setup.known))
    return transformed(filled, torch.linalg.inv(setup.T_unit_world))
