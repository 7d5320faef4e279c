"""Differentiable-rendering refinement of a mesh, its material and its light against posed photos (Munkberg et al. 2022).

The topology is fixed. Vertices move by large steps (`large_steps`), everything else by Adam. In a mesh without a light only
vertices and texture are fitted. The losses are nvdiffrec's: log-L1 of colours over random backgrounds, squared difference of
alpha, and terms that keep the material smooth, the light white, occlusion open and, if wanted, the surface smooth.

The frame is the caller's, with the object in the unit sphere. Photos are premultiplied linear RGBA crops of one size. On a GPU,
steps do not wait for the device; whether all numbers are finite is checked only every CHECK_EVERY steps.
Axes: B photos, P covered pixels, L losses.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import mesh as meshes
from recon_lib import render, threads
from recon_lib.mesh import Mesh
from recon_lib.photos.crops import Photos
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import losses
from recon_lib.refine.adam import Adam
from recon_lib.refine.config import BATCH, FitConfig
from recon_lib.refine.controls import Controls, PhotoOrder
from recon_lib.refine.corrections import NOTHING, Corrections
from recon_lib.refine.large_steps import Preconditioner, UniformAdam
from recon_lib.refine.measured import Batch, Fixed, Measured, Recorded, measure
from recon_lib.render import Views

LOSSES = ("loss", "colour", "alpha", "smooth", "occlusion", "white", "laplacian")
SMOOTH_REACH = 2.0  # texels; standard deviation of the distance to the place that is compared
STRAY = 2.0  # radii from the centre that a vertex may reach before the depth planes cut it off
MARGIN = 1.25  # pixel slots allocated per step on a GPU, divided by the covered pixels of the largest masks
CHECK_EVERY = 25  # steps on a GPU between two checks that all numbers are finite
RECORD_AFTER = 30  # steps on a GPU before they are recorded, which takes as long as saves some twenty of them


class FitState(NamedTuple):
    """One step of a fit. `mesh` shares memory with the running fit; use `snapshot` to keep it beyond the next step."""

    step: int  # steps taken
    mesh: Mesh
    losses: Float[Tensor, " L"]  # of this step, in the order of LOSSES; NaN before the first step
    corrected: Corrections  # of the photos; the running fit changes them
    inside: Callable[[], dict[str, Tensor]]  # gives what a fit needs to go on from here (`Begun`), not copied


class Begun(NamedTuple):
    """A fit that was interrupted after a step; with this, `fit` takes the steps after it with the same numbers."""

    step: int
    mesh: Mesh
    inside: dict[str, Tensor]  # as `FitState.inside` gave it


def snapshot(mesh: Mesh) -> Mesh:
    """A copy of the mesh that the running fit does not change."""
    return meshes.map_tensors(mesh, torch.clone, meshes.MOVING)


def fit(
    photos: Photos, start: Mesh, config: FitConfig, raster: Rasteriser, controls: Controls | None = None,
    first: int = 0, last: int | None = None, corrected: Corrections | None = None, begun: Begun | None = None,
) -> Iterator[FitState]:  # fmt: skip
    """Yields the state after `first` steps, which is `start`, then after each step until `last` (None: `controls.steps`).

    `corrected` are the photos' corrections, which the fit changes; without them photos are taken as they are.
    A fit that was `begun` goes on from its step and its mesh instead of `start`.
    Raises FloatingPointError for a non-finite loss or gradient. On the CPU, the state yielded last is then the last good one.
    """
    threads.one_torch_thread()
    controls, device = controls or Controls(config), start.verts.device
    corrected = corrected or Corrections(photos.cameras, NOTHING)
    taken, start = (first, start) if begun is None else (begun.step, begun.mesh)
    generator = torch.Generator(device).manual_seed(config.seed)
    batch = controls.photos_per_step(device)
    before = int(begun.inside["order.taken"]) if begun else first * batch
    order = PhotoOrder(len(photos.cameras), config.seed, device, config.steps * batch, before)
    shown, size = photos, 0
    seen, edges = views(photos), meshes.edges(start.faces)
    room = _room(photos, batch) if device.type == "cuda" else None
    fixed = Fixed(raster, raster.topology(start.faces), room, controls.glare)
    recorded = Recorded() if fixed.room and start.light is not None and not corrected.adam else None
    smoothness = begun.inside["smoothness"].item() if begun else controls.smoothness  # of `smooth`
    smooth = Preconditioner(start, smoothness)
    u = smooth.to_differential(start.verts).requires_grad_(True)
    mesh = _make_trainable(start)
    moves = _Movers(u, mesh, config)
    none, background = torch.zeros((), device=device), losses.random_colours(generator)
    height, width = start.texture.shape[:2]
    reach = torch.tensor([SMOOTH_REACH / width, SMOOTH_REACH / height], device=device)

    def aside(uv: Float[Tensor, "Q 2"]) -> Float[Tensor, "Q 2"]:
        return uv + reach * torch.randn(uv.shape, generator=generator, device=device)

    def inside() -> dict[str, Tensor]:
        kept = {"generator": generator.get_state(), "order.taken": torch.tensor(order.taken)}
        own = {"smoothness": torch.tensor(smoothness, dtype=torch.float64)}
        return moves.tensors() | corrected.tensors() | kept | own

    if begun is not None:
        moves.load(begun.inside)
        corrected.load(begun.inside)
        generator.set_state(begun.inside["generator"])
    yield FitState(taken, _detach(start), torch.full((len(LOSSES),), torch.nan), corrected, inside)
    verts = start.verts
    for step in count(taken + 1):
        if step > (controls.steps if last is None else last):
            return
        if (batch, size) != (now := (controls.photos_per_step(device), controls.photo_size)):
            batch, size = now
            shown = controls.sized(size) if size else photos
            seen, fixed = views(shown), fixed._replace(room=_room(shown, batch) if fixed.room else None)
        fixed = fixed._replace(glare=controls.glare)
        if smoothness != controls.smoothness:
            smoothness, verts = controls.smoothness, verts.detach()
            smooth = Preconditioner(start, smoothness)
            moves.restart_vertices(smooth.to_differential(verts))
        if controls.lr_vertex > 0 and not verts.requires_grad:
            verts = smooth.to_verts(u)
        mesh = replace(mesh, verts=verts)
        chosen = order.take(batch)
        view = corrected.views(select_views(seen, chosen), chosen)
        shot = Batch(shown.rgba.index_select(0, chosen), view.eye, *render.rasterised(mesh, view, raster))
        drawn = aside if controls.w_smooth else None, background
        if recorded and step - first > RECORD_AFTER:
            found = recorded(mesh, shot, fixed, *drawn)
        else:
            found = measure(mesh, shot, fixed, *drawn, partial(corrected.brightened, chosen=chosen))
        terms = {"colour": (1.0, found.colour), "alpha": (controls.w_alpha, found.alpha)}
        terms |= _material_terms(mesh, found, controls)
        if controls.w_laplacian:
            fading = controls.w_laplacian * max(0.0, 1 - step / config.steps)
            terms["laplacian"] = (fading, losses.laplacian_energy(verts, edges))
        loss = sum((weight * value for weight, value in terms.values()), none)
        if corrected.adam:
            loss = loss + corrected.pull()
        moves.forget()
        corrected.forget()
        loss.backward()
        is_asked = device.type == "cpu" or step % CHECK_EVERY == 0
        if fixed.room and is_asked and found.last < shot.target[..., 0].numel():
            fixed = fixed._replace(
                room=int(MARGIN * fixed.room)
            )  # all slots were taken, so some pixels may have been dropped
        if is_asked and not moves.finite(loss):
            raise FloatingPointError(_describe_not_finite(step, loss, controls))
        rate = min(1, (step - first) / max(config.warmup, 1)) * config.decay ** min(1, step / config.steps)
        moves.step(rate, controls)
        corrected.step(rate)
        verts = smooth.to_verts(u) if controls.lr_vertex > 0 else verts.detach()
        values = torch.stack([loss.detach(), *(terms[n][1].detach() if n in terms else none for n in LOSSES[1:])])
        yield FitState(step, _detach(replace(mesh, verts=verts)), values, corrected, inside)


def _describe_not_finite(step: int, loss: Tensor, controls: Controls) -> str:
    return (
        f"step {step}: loss {loss.item():.4g} or a gradient is not finite, need finite; the last good state is kept. Lower "
        f"lr_vertex ({controls.lr_vertex:g}) or lr_texture ({controls.lr_texture:g})"
    )


def views(photos: Photos) -> Views:
    """The photos' views with depth planes that leave room for STRAY radii around the origin."""
    corners = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * (STRAY / 3**0.5)
    return render.views(photos.cameras, corners.to(photos.rgba.device))


def select_views(seen: Views, chosen: Tensor) -> Views:
    """The views with the given indices."""
    return Views(seen.T_clip_world[chosen], seen.eye[chosen], seen.width, seen.height)


def _room(photos: Photos, batch: int) -> int:
    """Pixel slots to allocate per step: MARGIN times the covered pixels of a batch from the quarter with the largest masks."""
    covered = (photos.rgba[..., 3] > 0).sum((1, 2)).sort(descending=True).values
    return int(MARGIN * batch * covered[: max(1, len(covered) // 4)].float().mean().item())


def _make_trainable(start: Mesh) -> Mesh:
    names = ("texture",) if start.light is None else ("texture", "material", "light")
    return meshes.map_tensors(start, lambda tensor: tensor.clone().requires_grad_(True), names)


def _detach(mesh: Mesh) -> Mesh:
    return meshes.map_tensors(mesh, torch.detach, meshes.MOVING)


def _leaf(mesh: Mesh, name: str) -> Tensor:
    part = getattr(mesh, name)
    return part.values if isinstance(part, meshes.Material) else part


class _Movers:
    """The optimisers, one per parameter, and the ranges to which the parameters are clamped."""

    def __init__(self, u: Tensor, mesh: Mesh, config: FitConfig):
        self.u, self.mesh = u, mesh
        self.vertex = UniformAdam(u)
        self.units = {"texture": 1.0}  # what a rate of 1 is worth
        if mesh.light is not None:
            self.units |= {"material": 1.0, "light": mesh.light.detach().mean().item()}
        self.adam = Adam({name: _leaf(mesh, name) for name in self.units})

    def forget(self) -> None:
        self.u.grad = None
        self.adam.forget()

    def finite(self, loss: Tensor) -> Tensor:
        """Whether loss and gradients are finite, without waiting for the device: a sum is not finite if a term is not."""
        total = loss.detach() + sum(parameter.grad.sum() for parameter in self.adam.parameters.values())
        return torch.isfinite(total if self.u.grad is None else total + self.u.grad.sum())

    def tensors(self) -> dict[str, Tensor]:
        """All parameters, what the optimisers remember, and the units that the start decided."""
        found = {f"vertex.{name}": torch.as_tensor(getattr(self.vertex, name)) for name in ("first", "second", "count")}
        found |= {f"{name}.unit": torch.tensor(unit, dtype=torch.float64) for name, unit in self.units.items()}
        return found | {"vertex.value": self.u} | self.adam.tensors()

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` gave."""
        self.u.copy_(tensors["vertex.value"])
        self.vertex.first, self.vertex.second = (tensors[f"vertex.{n}"].to(self.u.device) for n in ("first", "second"))
        self.vertex.count = int(tensors["vertex.count"])
        self.units = {name: tensors[f"{name}.unit"].item() for name in self.units}
        self.adam.load(tensors)

    @torch.no_grad()
    def restart_vertices(self, u: Tensor) -> None:
        """Takes other unknowns for the vertices; what was remembered of the earlier ones means nothing for these."""
        self.u.copy_(u)
        self.vertex = UniformAdam(self.u)

    @torch.no_grad()
    def step(self, rate: float, controls: Controls) -> None:
        if self.u.grad is not None:
            # The mean of more photos has less noise, so its steps may be longer (Krizhevsky 2014, section 5: by the root).
            per_photo = (controls.photos_per_step(self.u.device) / BATCH["cpu"]) ** 0.5
            self.vertex.step(controls.lr_vertex * per_photo * rate)
        asked = {"texture": controls.lr_texture, "material": controls.lr_material, "light": controls.lr_light}
        self.adam.step({name: rate * (asked[name] * unit) for name, unit in self.units.items()})
        self.mesh.texture.clamp_(0, 1)
        if self.mesh.light is not None:
            self.mesh.material.occlusion_roughness_metallic.clamp_(0, 1)
            self.mesh.material.normal_offset.clamp_(-1, 1)
            self.mesh.light.clamp_min_(0)


def _material_terms(mesh: Mesh, found: Measured, controls: Controls) -> dict:
    """Name to (weight, value) of the terms that keep material and light plausible; empty for an unlit mesh."""
    if mesh.light is None:
        return {}
    terms = {}
    if controls.w_smooth:
        terms["smooth"] = controls.w_smooth, found.smooth
    if controls.w_occlusion:
        terms["occlusion"] = controls.w_occlusion, found.occlusion
    if controls.w_white:
        terms["white"] = controls.w_white, found.white
    return terms
