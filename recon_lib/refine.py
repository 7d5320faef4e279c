"""From a mesh in the world and posed photos to a refined mesh with material and light, never worse than the one given.

The fit runs in the unit frame (object in the unit sphere), so that its rates and weights mean the same for every object.
Some photos are kept from it; the state that explains these best is the result, the mesh as given included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import camera, crops, fit, render, topology, uv
from recon_lib.camera import Cameras
from recon_lib.fit import Controls, FitConfig, FitState, Photos
from recon_lib.mesh import Mesh
from recon_lib.raster import cpu
from recon_lib.shading import cubemap
from recon_lib.topology import TopologyConfig

ONE_IN = 8  # photos is kept from the fit for validation
VALIDATE_EVERY = 25  # steps
VALIDATED_AT_ONCE = 4  # photos
BRIGHTEST_BASE = 0.6  # base colour of the brightest texels at the start; the light is chosen to match
FEWEST_FACES = 8000  # that a mesh of new topology is remeshed to
ROUGH = 0.5  # roughness at the start


@dataclass(frozen=True, eq=False)
class Setup:
    """A fit about to start, in the unit frame."""

    T_unit_world: Float[Tensor, "4 4"]
    photos: Photos  # shown to the fit
    validation: Photos | None  # kept from it; None where there are too few
    given: Mesh  # as it came; its texture, if it had none, is the photos' mean colours
    start: Mesh  # the same with material and light


class Kept(NamedTuple):
    """The best state so far. PSNR: dB in the mask, mean over the validation photos; NaN without any."""

    step: int  # 0: the mesh as given
    mesh: Mesh
    psnr_db: float
    given_psnr_db: float  # of the mesh as given


class RefineState(NamedTuple):
    fit: FitState
    kept: Kept


def unit_frame(verts: Float[Tensor, "V 3"]) -> Float[Tensor, "4 4"]:
    """`T_unit_world`: the box's middle to the origin, the farthest vertex to distance 1."""
    middle = (verts.max(0).values + verts.min(0).values) / 2
    T = torch.eye(4) / (verts - middle).norm(dim=-1).max()
    T[:3, 3], T[3, 3] = -middle * T[0, 0], 1
    return T


def transformed(mesh: Mesh, T: Float[Tensor, "4 4"]) -> Mesh:
    """A similarity; its rotation turns the material's normal offsets and the light, too."""
    R = T[:3, :3] / torch.linalg.det(T[:3, :3]) ** (1 / 3)
    moved = replace(mesh, verts=mesh.verts @ T[:3, :3].T + T[:3, 3])
    if mesh.light is None or torch.equal(R.round(decimals=6), torch.eye(3)):
        return moved
    surface = torch.cat([mesh.surface[..., :3], mesh.surface[..., 3:] @ R.T], -1)
    return replace(moved, surface=surface, light=cubemap.turned(mesh.light, R))


def prepare(
    images: tuple[np.ndarray, ...],
    cameras: Cameras,
    mesh: Mesh,
    photo_size: int,
    raster: ModuleType,
    texture_size: int = 1024,
    light_size: int = 0,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> Setup:
    """Crops the photos to `photo_size` pixels; a mesh without a texture gets one of the photos' mean colours.

    With a `light_size`, texels along a face of the light's cube map, the fit is one of material and light.

    Raises ValueError for a mesh without faces or with vertices that are not finite, and for no photos at all.
    """
    if len(mesh.faces) == 0 or not torch.isfinite(mesh.verts).all():
        lost = (~torch.isfinite(mesh.verts)).any(-1).sum().item()
        raise ValueError(
            f"refine: got a mesh of {len(mesh.faces)} faces with {lost} non-finite vertices, need faces and none of these; "
            "look at the coarse mesh in stage 2"
        )
    if len(images) == 0:
        raise ValueError("refine: got no photos, need at least one that is not held out")
    fit.one_torch_thread()
    T_unit_world = unit_frame(mesh.verts)
    photos = crops.crop_photos(images, camera.moved(cameras, T_unit_world), photo_size, progress)
    photos = fit.Photos(photos.rgba.to(raster.DEVICE), camera.on_device(photos.cameras, raster.DEVICE))
    shown, validation = split(photos)
    given = transformed(mesh, T_unit_world)
    if given.texture is None:
        given = painted(given, shown, texture_size, raster, progress)
    given = on_device(given, raster.DEVICE)
    start = lit(given, light_size, raster) if light_size and given.light is None else given
    return Setup(T_unit_world, shown, validation, given, start)


def with_topology(
    setup: Setup, config: TopologyConfig, raster: ModuleType, texture_size: int = 1024,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> Setup:  # fmt: skip
    """The same fit, starting from faces found anew; the mesh as given stays the one to beat."""
    faces = max(len(setup.given.faces), FEWEST_FACES)
    found = topology.found(setup.photos, setup.given, config, raster, faces, lambda s, what: progress(0.9 * s, what))
    unlit = painted(found, setup.photos, texture_size, raster, lambda s, what: progress(0.9 + 0.1 * s, what))
    return replace(setup, start=lit(unlit, config.light_size, raster))


def painted(
    mesh: Mesh, photos: Photos, texture_size: int, raster: ModuleType, progress: Callable[[float, str], None]
) -> Mesh:
    """A mesh without texture coordinates unwrapped and given the photos' mean colours, on the raster's device."""
    progress(0.5, "unwrapping")
    uvs, uv_faces, shape = uv.unwrap(mesh.verts.cpu(), mesh.faces.cpu(), texture_size)
    blank = on_device(replace(mesh, uvs=uvs, uv_faces=uv_faces, texture=torch.zeros(*shape, 3)), raster.DEVICE)
    progress(0.9, "projecting photos")
    done = replace(blank, texture=projected_texture(blank, photos, raster))
    progress(1.0, "unwrapped and projected")
    return done


def on_device(mesh: Mesh, device: str) -> Mesh:
    return replace(
        mesh, **{name: value.to(device).contiguous() for name, value in vars(mesh).items() if value is not None}
    )


def split(photos: Photos) -> tuple[Photos, Photos | None]:
    """One photo in `ONE_IN` for validation, evenly spread; none of fewer than that."""
    count = len(photos.cameras)
    if count < ONE_IN:
        return photos, None
    kept = torch.arange(count) % ONE_IN == ONE_IN // 2
    return Photos(photos.rgba[~kept], photos.cameras[~kept]), Photos(photos.rgba[kept], photos.cameras[kept])


def lit(mesh: Mesh, light_size: int, raster: ModuleType) -> Mesh:
    """An unlit mesh as a rough dielectric under even light, which looks about the same."""
    height, width = mesh.texture.shape[:2]
    known = uv.covered(mesh.uvs, mesh.uv_faces, (height, width), raster)
    radiance = torch.quantile(mesh.texture[known].max(-1).values[:: 1 + known.sum() // 100_000], 0.95) / BRIGHTEST_BASE
    radiance = radiance.clamp_min(1e-2)
    surface = mesh.texture.new_tensor([1, ROUGH, 0, 0, 0, 0]).repeat(-(-height // 2), -(-width // 2), 1)
    light = radiance.expand(6, light_size, light_size, 3).contiguous()
    return replace(mesh, texture=(mesh.texture / radiance).clamp(0, 1), surface=surface, light=light)


def projected_texture(mesh: Mesh, photos: Photos, raster: ModuleType) -> Float[Tensor, "H W 3"]:
    """Each texel the mean colour of the photos' pixels that show it: the transpose of the texture lookup, normalised."""
    total = mesh.texture.new_zeros(*mesh.texture.shape[:2], 4)
    for i in range(len(photos.cameras)):
        weight = torch.zeros_like(total).requires_grad_(True)
        seen = render.lookup(replace(mesh, texture=weight), photos.cameras[[i]], raster)
        opaque = photos.rgba[[i], ..., 3:] > 0.99
        target = torch.cat([photos.rgba[[i], ..., :3], torch.ones_like(photos.rgba[[i], ..., :1])], -1)
        (seen * target * opaque).sum().backward()
        total += weight.grad
    return uv.dilate(total[..., :3] / total[..., 3:].clamp_min(1e-6), total[..., 3] > 1e-3)


def validation_psnr_db(mesh: Mesh, photos: Photos, raster: ModuleType) -> float:
    """Inside the union of both masks, sRGB on white, mean over the photos."""
    scores = []
    for first in range(0, len(photos.cameras), VALIDATED_AT_ONCE):
        some = slice(first, first + VALIDATED_AT_ONCE)
        rgba, true = render.render(mesh, photos.cameras[some], raster), photos.rgba[some]
        mask = (rgba[..., 3] > 0.5) | (true[..., 3] > 0.5)
        squared = (render.over_white_srgb(rgba) - render.over_white_srgb(true)).square().mean(-1)
        scores.append(-10 * torch.log10((squared * mask).sum((1, 2)) / mask.sum((1, 2))))
    return torch.cat(scores).mean().item()


def run(setup: Setup, config: FitConfig, raster: ModuleType, controls: Controls | None = None) -> Iterator[RefineState]:
    """The steps of `fit.fit` from this setup, and the best state so far; without validation photos that is the last."""
    kept = Kept(0, setup.given, torch.nan, torch.nan)
    if setup.validation:
        with torch.no_grad():
            kept = Kept(0, setup.given, *[validation_psnr_db(setup.given, setup.validation, raster)] * 2)
    for state in _steps(setup, config, raster, controls):
        is_due = state.step > 0 and (state.step % VALIDATE_EVERY == 0 or state.step == config.steps)
        if is_due or not setup.validation:
            kept = better(setup, state, kept, raster)
        yield RefineState(state, kept)


def better(setup: Setup, state: FitState, kept: Kept, raster: ModuleType) -> Kept:
    """The state, if it explains the validation photos better than what is kept; without such photos, the state."""
    if not setup.validation:
        return kept._replace(step=state.step, mesh=state.mesh)
    with torch.no_grad():
        psnr_db = validation_psnr_db(state.mesh, setup.validation, raster)
    if psnr_db <= kept.psnr_db:
        return kept
    return kept._replace(step=state.step, mesh=fit.snapshot(state.mesh), psnr_db=psnr_db)


def _steps(setup: Setup, config: FitConfig, raster: ModuleType, controls: Controls | None) -> Iterator[FitState]:
    try:
        yield from fit.fit(setup.photos, setup.start, config, raster, controls)
    except torch.cuda.OutOfMemoryError as error:
        fits = largest_batch(setup, config, raster)
        raise MemoryError(
            f"batch of {config.batch} photos of {setup.photos.rgba.shape[2]} pixels: out of GPU memory; "
            + (f"the largest batch that fits is {fits}" if fits else "not even one photo fits: lower photo_size")
        ) from error


def largest_batch(setup: Setup, config: FitConfig, raster: ModuleType) -> int:
    """The most photos a step that fit into the GPU's memory, found by trying; 0 for none."""
    fits, too_many = 0, config.batch
    while too_many - fits > 1:
        batch = (fits + too_many) // 2
        torch.cuda.empty_cache()
        try:
            for _ in fit.fit(setup.photos, setup.start, replace(config, batch=batch, steps=1), raster):
                pass
            fits = batch
        except torch.cuda.OutOfMemoryError:
            too_many = batch
    return fits


def gain_sentence(kept: Kept) -> str:
    """What refinement was worth, in words."""
    if kept.psnr_db != kept.psnr_db:
        return f"Kept step {kept.step}, the last: too few photos to keep any for validation."
    if kept.step == 0:
        return f"Refinement did not help: no step beat the mesh as given, {kept.given_psnr_db:.2f} dB, which is kept."
    gain = f"{kept.given_psnr_db:.2f} to {kept.psnr_db:.2f} dB on the validation photos"
    return f"Kept step {kept.step}, the best: {gain}."


def finished(setup: Setup, mesh: Mesh) -> Mesh:
    """A state's mesh back in the world, on the CPU, its textures filled beyond the charts' borders."""
    mesh = on_device(mesh, "cpu")
    for name in ("texture", "surface") if mesh.light is not None else ("texture",):
        texels = getattr(mesh, name)
        known = uv.covered(mesh.uvs, mesh.uv_faces, texels.shape[:2], cpu)
        mesh = replace(mesh, **{name: uv.dilate(texels, known)})
    return transformed(mesh, torch.linalg.inv(setup.T_unit_world))
