"""Refines a mesh in the world with posed photos to a mesh with material and light that is never worse than the given one.

The fit runs in the unit frame (object in the unit sphere), so that its rates and weights mean the same for every object. Some
photos are not shown to the fit. The result is the state that explains these best; the mesh as given is one of the states.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon_lib import camera, frames, threads
from recon_lib import mesh as meshes
from recon_lib.camera import Cameras
from recon_lib.mesh import Material, Mesh
from recon_lib.photos import crops
from recon_lib.photos.crops import Photos
from recon_lib.progress import Progress, part, silent
from recon_lib.raster import cpu
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import corrections, fit, new_faces, scales
from recon_lib.refine.config import BATCH, FitConfig, IsosurfaceConfig
from recon_lib.refine.controls import Controls
from recon_lib.refine.corrections import Told
from recon_lib.refine.fit import Begun, FitState
from recon_lib.surface import placement, projection, unseen, untangle, uv

ONE_IN = 8  # one photo in this many is used for validation and not shown to the fit
VALIDATE_EVERY = 50  # steps between two validations
STILL_RISING_DB = 0.2  # a larger difference on the validation photos is mentioned in the Reading
BRIGHTEST_BASE = 0.6  # base colour of the brightest texels at the start; the light is chosen to match
FEWEST_FACES = 8000  # a mesh with new faces is allowed at least this many
ROUGH = 0.5  # roughness at the start
UNTANGLING_COST = 0.3  # dB (`projection.Explained`); a mesh that would lose more on the validation photos stays tangled


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything that a fit needs to start, in the unit frame."""

    T_unit_world: Float[Tensor, "4 4"]
    photos: Photos  # shown to the fit
    validation: Photos | None  # not shown to the fit; None if there are too few photos
    given: Mesh  # the given mesh; if it had no texture, it has the photos' mean colours
    start: Mesh  # the mesh with which the fit starts: `given` with material and light, or one with new faces
    cameras_found: bool = False  # in the photos, so that a fit may correct them (`corrections`)
    own_size: int = 0  # pixels along a side of most crops in the photos themselves; 0 where these are not at hand
    larger: Callable[[int], Photos] | None = None  # gives `photos` anew, with that many pixels along a side


class Kept(NamedTuple):
    """The best state so far. PSNR is in dB, in the mask, the mean over the validation photos; NaN without such photos."""

    step: int  # 0 means the mesh as given
    mesh: Mesh
    psnr_db: float
    given_psnr_db: float  # of the mesh as given
    quality_db: float  # by which the best is chosen (`projection.Explained`)
    corrected: Told | None = None  # how the photos were corrected by then; None at step 0
    by_hand: bool = False  # a person chose this state, which need not be the best


class Saved(NamedTuple):
    """A refinement that was interrupted, as a checkpoint holds it."""

    begun: Begun
    kept: Kept


class Finished(NamedTuple):
    """The result in the world, on the CPU, and which part of its texture photos show."""

    mesh: Mesh
    seen: Bool[Tensor, "H W"]  # of the texels: some photo, for the fit or for validation, shows it
    unseen_share: float  # of the texels on charts, 0 to 1; these were filled from their surroundings
    crossing: tuple[int | None, int | None]  # faces that pass through others, before and after they were smoothed


class RefineState(NamedTuple):
    """One step of the refinement."""

    fit: FitState
    kept: Kept
    psnr_db: float  # of this step's mesh on the validation photos; NaN if it was not measured


def prepare(
    images: tuple[np.ndarray, ...], cameras: Cameras, mesh: Mesh, photo_size: int, raster: Rasteriser,
    texture_size: int = 1024, light_size: int = 0, progress: Progress = silent, cameras_found: bool = False,
) -> Setup:  # fmt: skip
    """Prepares a fit: crops the photos to `photo_size` pixels, and paints a mesh without a texture with their mean colours.

    Photos in which the object is smaller are not enlarged: then the crops have the size of most of them.

    With a `light_size` above 0 (texels along a face of the light's cube map), material and light are fitted, too. Raises
    ValueError for a mesh without faces or with non-finite vertices, and for no photos.
    """
    if len(mesh.faces) == 0 or not torch.isfinite(mesh.verts).all():
        lost = (~torch.isfinite(mesh.verts)).any(-1).sum().item()
        raise ValueError(
            f"refine: got a mesh of {len(mesh.faces)} faces with {lost} non-finite vertices, need faces and none of these; "
            "look at the coarse mesh in stage 2"
        )
    if len(images) == 0:
        raise ValueError("refine: got no photos, need at least one that is not held out")
    threads.one_torch_thread()
    T_unit_world = frames.unit_frame(mesh.verts)
    own_size, cameras = crops.own_size(images), camera.moved(cameras, T_unit_world)

    def crop(size: int, progress: Progress = silent) -> Photos:
        return crops.crop_photos(images, cameras, size, progress, raster.DEVICE)

    photos = crop(min(photo_size, own_size), progress)
    shown, validation = split_for_validation(photos)
    given = placement.transform(mesh, T_unit_world)
    if given.texture is None:
        given = projection.paint(given, shown, texture_size, raster, progress)
    given = meshes.on_device(given, raster.DEVICE)
    start = make_lit(given, light_size, raster) if light_size and given.light is None else given
    return Setup(T_unit_world, shown, validation, given, start, cameras_found, own_size,
                 lambda size: split_for_validation(crop(size))[0])  # fmt: skip


def find_new_faces(
    setup: Setup, kind: str, config: IsosurfaceConfig, raster: Rasteriser, texture_size: int = 1024,
    progress: Progress = silent,
) -> Setup:  # fmt: skip
    """The setup with a start whose faces `dmtet` or `flexicubes` (`kind`) has found. The given mesh is still the one to beat.

    Raises ValueError for an unknown `kind`, and if the surface vanishes.
    """
    faces = max(len(setup.given.faces), FEWEST_FACES)
    found = new_faces.fit_isosurface(
        setup.photos, setup.given, replace(config, kind=kind), raster, faces, part(progress, 0.0, 0.9)
    )
    unlit = projection.paint(found, setup.photos, texture_size, raster, part(progress, 0.9, 1.0))
    return replace(setup, start=make_lit(unlit, config.light_size, raster))


def split_for_validation(photos: Photos) -> tuple[Photos, Photos | None]:
    """The photos for the fit, and those for validation: one in `ONE_IN`, evenly spread; None if there are fewer than that."""
    count = len(photos.cameras)
    if count < ONE_IN:
        return photos, None
    kept = chosen_for_validation(count)
    return Photos(photos.rgba[~kept], photos.cameras[~kept]), Photos(photos.rgba[kept], photos.cameras[kept])


def chosen_for_validation(count: int) -> Bool[Tensor, " N"]:
    """Which of at least ONE_IN photos are kept from the fit."""
    return torch.arange(count) % ONE_IN == ONE_IN // 2


def make_lit(mesh: Mesh, light_size: int, raster: Rasteriser) -> Mesh:
    """The unlit mesh as a rough dielectric under even light, which looks about the same."""
    height, width = mesh.texture.shape[:2]
    known = uv.covered(mesh.uvs, mesh.uv_faces, (height, width), raster)
    radiance = torch.quantile(mesh.texture[known].max(-1).values[:: 1 + known.sum() // 100_000], 0.95) / BRIGHTEST_BASE
    radiance = radiance.clamp_min(1e-2)
    even = mesh.texture.new_tensor([1, ROUGH, 0, 0, 0, 0]).repeat(-(-height // 2), -(-width // 2), 1)
    light = radiance.expand(6, light_size, light_size, 3).contiguous()
    return replace(mesh, texture=(mesh.texture / radiance).clamp(0, 1), material=Material(even), light=light)


def run(
    setup: Setup, config: FitConfig, raster: Rasteriser, controls: Controls | None = None, saved: Saved | None = None
) -> Iterator[RefineState]:
    """Yields the steps of `fit.fit`, each with the best state so far; without validation photos, that is the last state.

    With `saved`, yields the steps after it.

    Raises FloatingPointError as `fit.fit` does, and MemoryError, with the largest batch that fits, if GPU memory runs out.
    """
    kept = Kept(0, setup.given, torch.nan, torch.nan, torch.nan)
    if saved is not None:
        kept = saved.kept
    elif setup.validation:
        given = projection.explain(setup.given, setup.validation, raster)
        kept = Kept(0, setup.given, given.psnr_db, given.psnr_db, given.quality_db)
    controls = controls or Controls(config)
    for state in _steps(setup, config, raster, controls, saved.begun if saved else None):
        is_due = state.step > 0 and (state.step % VALIDATE_EVERY == 0 or state.step == controls.steps)
        psnr_db = kept.psnr_db if state.step == 0 else torch.nan
        if is_due or not setup.validation:
            kept, psnr_db = validate(setup, state, kept, raster)
        yield RefineState(state, kept, psnr_db)


def validate(setup: Setup, state: FitState, kept: Kept, raster: Rasteriser) -> tuple[Kept, float]:
    """The better of the state and the best so far, by the validation photos; and the state's PSNR on these photos in dB.

    Without validation photos the state itself is kept, and its PSNR is NaN.
    """
    if not setup.validation:
        return kept._replace(step=state.step, mesh=state.mesh, corrected=state.corrected.told()), torch.nan
    psnr_db, _ = explained = projection.explain(state.mesh, setup.validation, raster)
    if explained.quality_db > kept.quality_db:
        told = state.corrected.told()
        kept = Kept(state.step, fit.snapshot(state.mesh), psnr_db, kept.given_psnr_db, explained.quality_db, told)
    return kept, psnr_db


def _steps(
    setup: Setup, config: FitConfig, raster: Rasteriser, controls: Controls | None, begun: Begun | None
) -> Iterator[FitState]:
    asked = corrections.wanted(config.correct, setup.cameras_found)
    try:
        yield from scales.fit_scales(setup.photos, setup.start, config, raster, controls, asked, begun)
    except torch.cuda.OutOfMemoryError as error:
        config = replace(config, batch=config.batch or BATCH[raster.DEVICE])
        fits = largest_batch(setup, config, raster)
        raise MemoryError(
            f"batch of {config.batch} photos of {setup.photos.rgba.shape[2]} pixels: out of GPU memory; "
            + (f"the largest batch that fits is {fits}" if fits else "not even one photo fits: lower photo_size")
        ) from error


def largest_batch(setup: Setup, config: FitConfig, raster: Rasteriser) -> int:
    """The largest number of photos per step that fit into the GPU's memory, found by trying; 0 if not even one fits."""
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
    """One sentence: how much refinement improved the mesh."""
    if kept.psnr_db != kept.psnr_db:
        return f"Kept step {kept.step}, the last: too few photos to keep any for validation."
    if kept.by_hand:
        gain = f"{kept.given_psnr_db:.2f} to {kept.psnr_db:.2f} dB"
        return f"Kept step {kept.step}, chosen by hand: {gain} on the validation photos."
    if kept.step == 0:
        return f"Refinement did not help: no step beat the mesh as given, {kept.given_psnr_db:.2f} dB, which is kept."
    gain = f"{kept.given_psnr_db:.2f} to {kept.psnr_db:.2f} dB"
    return f"Kept step {kept.step}, the best on the validation photos by PSNR and SSIM: {gain}."


def reading(kept: Kept, validation: list[tuple[int, float]]) -> str:
    """Sentences for the notebook's Reading: the gain, and whether more steps may help; `validation` has (step, PSNR in dB)."""
    if not validation or kept.by_hand:
        return gain_sentence(kept)
    if len(validation) < 3:
        return f"{gain_sentence(kept)} It was measured at too few steps to say whether more would help."
    last, last_db = validation[-1]
    if kept.step == last and last_db - validation[-3][1] > STILL_RISING_DB:
        return f"{gain_sentence(kept)} It was still rising at the last step: more steps may help."
    if kept.psnr_db - last_db > STILL_RISING_DB:
        return f"{gain_sentence(kept)} Steps after it made it worse, down to {last_db:.2f} dB: lower rates may help."
    return f"{gain_sentence(kept)} The curve has levelled off: more steps will not help."


def corrections_json(setup: Setup, kept: Kept, names: tuple[str, ...]) -> dict:
    """Of each photo that was shown to the fit its gains and by how many pixels its camera moved it, as JSON values.

    `names` are those of the photos that `setup` was made of.
    """
    if kept.corrected is None:
        return {}
    order = torch.arange(len(names))
    shown = order if setup.validation is None else order[~chosen_for_validation(len(names))]
    gains, pixels = kept.corrected
    return {
        names[i]: {"gains": gain, "pixels": moved}
        for i, gain, moved in zip(shown.tolist(), gains.tolist(), pixels.tolist(), strict=True)
    }


def finish(setup: Setup, mesh: Mesh, raster: Rasteriser) -> Finished:
    """Moves a state's mesh back to the world and the CPU, untangled, and fills its textures where no photo shows them."""
    tangled, (verts, *crossing) = mesh, untangle.untangle(mesh.verts.cpu(), mesh.faces.cpu())
    mesh = replace(mesh, verts=verts.to(mesh.verts.device))
    if crossing[0] and setup.validation:
        before, after = (projection.explain(body, setup.validation, raster).quality_db for body in (tangled, mesh))
        if after < before - UNTANGLING_COST:
            mesh, crossing[1] = tangled, crossing[0]
    seen = projection.seen_texels(mesh, setup.photos, raster)
    if setup.validation:
        seen |= projection.seen_texels(mesh, setup.validation, raster)
    seen, mesh = seen.cpu(), meshes.on_device(mesh, "cpu")

    def fill(texels: Tensor) -> Tensor:
        here = torch.nn.functional.adaptive_max_pool2d(seen[None, None].float(), tuple(texels.shape[:2]))[0, 0] > 0
        return unseen.fill(mesh, texels, here, cpu)

    filled = meshes.map_tensors(mesh, fill, ("texture", "material"))
    world = placement.transform(filled, torch.linalg.inv(setup.T_unit_world))
    return Finished(world, seen, unseen.share(mesh, seen, cpu), (crossing[0], crossing[1]))
