"""Finding a mesh's faces anew: an isosurface fitted to photos, where the coarse topology is wrong (nvdiffrec's first pass).

A signed distance on a grid, started from the coarse mesh, moves with the photos; the grid's points move a little, too.
Material is a volume of its own, trilinear; the light is a cube map. The surface found is remeshed evenly, so that a fit of
fixed topology can follow. Frame: the unit frame of `refine`. Axes: G grid points, C cubes, P positions.
"""

import gpytoolbox
import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import mesh as meshes
from recon_lib import render, threads
from recon_lib.isosurface import dmtet, flexicubes
from recon_lib.mesh import Mesh
from recon_lib.photos.crops import Photos
from recon_lib.progress import Progress, silent
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import fit, losses
from recon_lib.refine.config import IsosurfaceConfig
from recon_lib.refine.large_steps import UniformAdam
from recon_lib.surface import simplify

KINDS = ("dmtet", "flexicubes")
REACH = 1.15  # half side of the grid: the unit sphere and some air
SMOOTH_REACH = 0.01  # standard deviation of the distance to the place whose material should be the same
SMOOTHINGS = 2  # of the distance's gradient, over 3 x 3 x 3 grid points each
VOLUME = 64  # points along a side of the material's volume


def signed_distance(mesh: Mesh | None, points: Float[Tensor, "G 3"]) -> Float[Tensor, " G"]:
    """Negative inside the mesh; without one, of a sphere of radius 0.8."""
    if mesh is None:
        return points.norm(dim=-1) - 0.8
    distance, _, _ = gpytoolbox.signed_distance(
        points.double().cpu().numpy(), mesh.verts.double().cpu().numpy(), mesh.faces.cpu().numpy()
    )
    return torch.from_numpy(distance).float().to(points.device)


class Isosurface:
    """What moves: distances in grid cells, the points' offsets, and FlexiCubes' weights."""

    def __init__(self, kind: str, grid: int, start: Mesh | None, device: str):
        if kind not in KINDS:
            raise ValueError(f"topology: got {kind!r}, need mesh or one of {KINDS}")
        self.grid = (dmtet.kuhn_grid if kind == "dmtet" else flexicubes.voxel_grid)(grid, device)
        self.points, self.cell = REACH * self.grid.verts, 2 * REACH / grid
        border = (self.grid.verts.abs() > 1 - 1e-4).any(-1)
        sdf = signed_distance(start, self.points) / self.cell
        self.sdf = torch.where(border, sdf.clamp_min(0.5), sdf.clamp(-3, 3)).requires_grad_(True)
        self.inner = ~border
        self.offsets = torch.zeros_like(self.points).requires_grad_(True)
        cubes = grid**3 if kind == "flexicubes" else 0
        self.weights = torch.zeros(cubes, 21, device=device).requires_grad_(True)

    def smoothed(self, grad: Float[Tensor, " G"]) -> Float[Tensor, " G"]:
        """The gradient as smooth changes of the field make it (a Sobolev gradient): a silhouette moves its neighbourhood."""
        side = round(len(grad) ** (1 / 3))
        cube = grad.reshape(1, 1, side, side, side)
        for _ in range(SMOOTHINGS):
            cube = torch.nn.functional.avg_pool3d(cube, 3, stride=1, padding=1)
        return cube.reshape(-1)

    def mesh(self, training: bool) -> tuple[Mesh, Tensor]:
        """The surface now, and FlexiCubes' deviation (0 for the other)."""
        moved = self.points + torch.tanh(self.offsets) * (0.5 * self.cell * self.inner[:, None])
        sdf = torch.where(self.inner, self.sdf, self.sdf.detach().clamp_min(0.5))
        if isinstance(self.grid, dmtet.TetGrid):
            verts, faces = dmtet.marching_tetrahedra(moved, sdf, self.grid)
            return Mesh(verts, faces), sdf.new_zeros(())
        alpha, beta, gamma = flexicubes.positive(self.weights).split([8, 12, 1], -1)
        found = flexicubes.flexicubes(moved, sdf, alpha, beta, gamma[:, 0], self.grid, training)
        return Mesh(found.verts, found.faces), found.deviation.mean() / self.cell


def fit_isosurface(
    photos: Photos, start: Mesh | None, config: IsosurfaceConfig, raster: Rasteriser, faces: int,
    progress: Progress = silent,
) -> Mesh:  # fmt: skip
    """The largest body of the isosurface that explains the photos, remeshed to at most `faces` faces.

    Raises ValueError where the surface vanishes.
    """
    threads.one_torch_thread()
    device = photos.rgba.device
    surface = Isosurface(config.kind, config.grid, start, raster.DEVICE)
    generator = torch.Generator(device).manual_seed(config.seed)
    shown = photos.rgba[photos.rgba[..., 3] > 0.9]
    radiance = shown[:, :3].max().clamp_min(0.05)
    volume = torch.full((1, 9, VOLUME, VOLUME, VOLUME), 0.5, device=device)
    volume[:, 3], volume[:, 5:] = 1, 0
    light = radiance.expand(6, config.light_size, config.light_size, 3).contiguous().requires_grad_(True)
    volume.requires_grad_(True)
    rates = (
        (surface.offsets, config.lr_grid), (surface.weights, config.lr_grid), (volume, config.lr_material),
        (light, config.lr_light * radiance.item()),
    )  # fmt: skip
    adam = torch.optim.Adam([{"params": [p], "lr": rate, "rate": rate} for p, rate in rates], fused=True)
    # Plain Adam takes as large a step where only the regulariser speaks as where a silhouette does.
    move_sdf = UniformAdam(surface.sdf)

    def material(place: Float[Tensor, "P 3"]) -> tuple[Tensor, Tensor]:
        at = (place.flip(-1) / REACH)[None, None, None]
        texels = torch.nn.functional.grid_sample(volume, at, padding_mode="border", align_corners=True)[0, :, 0, 0].T
        return texels[:, :3], texels[:, 3:]

    def aside(place: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 3"]:
        return place + SMOOTH_REACH * torch.randn(place.shape, generator=generator, device=device)

    seen = fit.views(photos)
    order = fit.order_of_photos(len(photos.cameras), config.steps, config.batch, config.seed, device)
    for step in range(1, config.steps + 1):
        chosen = order[(step - 1) * config.batch : step * config.batch]
        body, deviation = surface.mesh(training=True)
        body = Mesh(body.verts, body.faces, light=light)
        rendering = render.surfaces(body, fit.chosen_views(seen, chosen), raster, material=material, aside=aside)
        colour, alpha = fit.image_losses(
            rendering.rgba.reshape(-1, 4), photos.rgba[chosen].reshape(-1, 4), True, generator
        )
        sign = dmtet.sign_change_bce(surface.sdf, surface.grid.edges)
        w_sdf = config.w_sdf * max(0.05, 1 - 0.95 * 4 * step / config.steps)
        loss = colour + config.w_alpha * alpha + w_sdf * sign + config.w_smooth * rendering.covered.material_difference
        loss = loss + 0.005 * losses.whiteness(light) + config.w_deviation * deviation
        adam.zero_grad()
        surface.sdf.grad = None
        loss.backward()
        surface.sdf.grad = surface.smoothed(surface.sdf.grad)
        share = config.decay ** (step / config.steps)
        move_sdf.step(config.lr_sdf * share)
        for group in adam.param_groups:
            group["lr"] = group["rate"] * share
        adam.step()
        with torch.no_grad():
            volume[:, :6].clamp_(0, 1)
            volume[:, 6:].clamp_(-1, 1)
            light.clamp_min_(0)
            surface.sdf.clamp_(-3, 3)
        progress(step / config.steps, f"{config.kind}, step {step} of {config.steps}")
    with torch.no_grad():
        body, _ = surface.mesh(training=False)
    largest = largest_body(Mesh(body.verts.cpu(), body.faces.cpu()))
    return simplify.remesh_evenly(largest.verts.double().numpy(), largest.faces.numpy(), faces)


def largest_body(mesh: Mesh) -> Mesh:
    """The connected part with the most faces."""
    part = torch.from_numpy(meshes.connected_parts(mesh.faces, len(mesh.verts)))
    faces = mesh.faces[part == part.mode().values]
    used, index = torch.unique(faces, return_inverse=True)
    return Mesh(mesh.verts[used.long()], index.int())
