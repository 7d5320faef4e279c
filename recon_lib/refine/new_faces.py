"""Finds new faces for a mesh whose coarse topology is wrong, by fitting an isosurface to photos (nvdiffrec's first pass).

The unknowns are a signed distance on a grid, which starts from the coarse mesh, and small offsets of the grid's points. The
material is a trilinear volume, the light a cube map. The resulting surface is remeshed evenly, so that a fit of fixed topology
can follow. The frame is the unit frame of `refine`. Axes: G grid points, C cubes, P positions.
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
from recon_lib.refine.adam import Adam
from recon_lib.refine.config import BATCH, IsosurfaceConfig
from recon_lib.refine.controls import PhotoOrder
from recon_lib.refine.large_steps import UniformAdam
from recon_lib.surface import simplify

KINDS = ("dmtet", "flexicubes")
REACH = 1.15  # half side of the grid: the unit sphere with a margin
SMOOTH_REACH = 0.01  # standard deviation of the distance to the place that is compared
SMOOTHINGS = 2  # times that the distance's gradient is averaged over 3 x 3 x 3 grid points
VOLUME = 64  # points per side of the material's volume


def signed_distance(mesh: Mesh | None, points: Float[Tensor, "G 3"]) -> Float[Tensor, " G"]:
    """The signed distance to the mesh, negative inside; without a mesh, to a sphere of radius 0.8 around the origin."""
    if mesh is None:
        return points.norm(dim=-1) - 0.8
    distance, _, _ = gpytoolbox.signed_distance(
        points.double().cpu().numpy(), mesh.verts.double().cpu().numpy(), mesh.faces.cpu().numpy()
    )
    return torch.from_numpy(distance).float().to(points.device)


class Isosurface:
    """The unknowns of the surface: distances in grid cells, offsets of the points, and the weights of FlexiCubes.

    Raises ValueError for an unknown `kind`.
    """

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

    def smooth(self, grad: Float[Tensor, " G"]) -> Float[Tensor, " G"]:
        """The gradient, smoothed over the grid (a Sobolev gradient), so that a silhouette moves its whole neighbourhood."""
        side = round(len(grad) ** (1 / 3))
        cube = grad.reshape(1, 1, side, side, side)
        for _ in range(SMOOTHINGS):
            cube = torch.nn.functional.avg_pool3d(cube, 3, stride=1, padding=1)
        return cube.reshape(-1)

    def mesh(self, training: bool) -> tuple[Mesh, Tensor]:
        """The current surface, and the mean deviation of FlexiCubes in grid cells (0 for dmtet)."""
        moved = self.points + torch.tanh(self.offsets) * (0.5 * self.cell * self.inner[:, None])
        sdf = torch.where(self.inner, self.sdf, self.sdf.detach().clamp_min(0.5))
        if isinstance(self.grid, dmtet.TetGrid):
            verts, faces = dmtet.marching_tetrahedra(moved, sdf, self.grid)
            return Mesh(verts, faces), sdf.new_zeros(())
        alpha, beta, gamma = flexicubes.positive(self.weights).split([8, 12, 1], -1)
        found = flexicubes.flexicubes(moved, sdf, alpha, beta, gamma[:, 0], self.grid, training)
        return Mesh(found.verts, found.faces), found.deviation.mean() / self.cell


class MaterialAndLight:
    """The appearance of the isosurface while it moves: a volume of base colour and material, and the light."""

    def __init__(self, photos: Photos, light_size: int):
        shown = photos.rgba[photos.rgba[..., 3] > 0.9]
        self.radiance = shown[:, :3].max().clamp_min(0.05)
        volume = torch.full((1, 9, VOLUME, VOLUME, VOLUME), 0.5, device=photos.rgba.device)
        volume[:, 3], volume[:, 5:] = 1, 0
        self.volume = volume.requires_grad_(True)
        self.light = self.radiance.expand(6, light_size, light_size, 3).contiguous().requires_grad_(True)

    def at(self, place: Float[Tensor, "P 3"]) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 6"]]:
        """Base colour and `Material.values` at positions in the unit frame."""
        grid = (place.flip(-1) / REACH)[None, None, None]
        texels = torch.nn.functional.grid_sample(self.volume, grid, padding_mode="border", align_corners=True)
        return texels[0, :3, 0, 0].T, texels[0, 3:, 0, 0].T

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamps all channels to their ranges."""
        self.volume[:, :6].clamp_(0, 1)
        self.volume[:, 6:].clamp_(-1, 1)
        self.light.clamp_min_(0)


class _Movers:
    """The optimisers of an isosurface and of its appearance; their rates fall together."""

    def __init__(self, surface: Isosurface, worn: MaterialAndLight, config: IsosurfaceConfig):
        self.surface, self.config = surface, config
        parts = {"offsets": surface.offsets, "weights": surface.weights, "volume": worn.volume, "light": worn.light}
        rates = config.lr_grid, config.lr_grid, config.lr_material, config.lr_light * worn.radiance.item()
        self.adam, self.rates = Adam(parts), dict(zip(parts, rates, strict=True))
        # Plain Adam would take equally large steps where only the regulariser has a gradient and where a silhouette has.
        self.move_sdf = UniformAdam(surface.sdf)

    def step(self, loss: Tensor, share: float) -> None:
        """Takes one step against the gradient of the loss, at the given share of the rates."""
        self.adam.forget()
        self.surface.sdf.grad = None
        loss.backward()
        self.surface.sdf.grad = self.surface.smooth(self.surface.sdf.grad)
        self.move_sdf.step(self.config.lr_sdf * share)
        self.adam.step({name: rate * share for name, rate in self.rates.items()})
        with torch.no_grad():
            self.surface.sdf.clamp_(-3, 3)


def fit_isosurface(
    photos: Photos, start: Mesh | None, config: IsosurfaceConfig, raster: Rasteriser, faces: int,
    progress: Progress = silent,
) -> Mesh:  # fmt: skip
    """The largest body of the isosurface that fits the photos, remeshed to at most `faces` faces.

    Raises ValueError if the surface vanishes during the fit.
    """
    threads.one_torch_thread()
    device = photos.rgba.device
    surface = Isosurface(config.kind, config.grid, start, raster.DEVICE)
    generator = torch.Generator(device).manual_seed(config.seed)
    worn = MaterialAndLight(photos, config.light_size)
    moves = _Movers(surface, worn, config)

    def aside(place: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 3"]:
        return place + SMOOTH_REACH * torch.randn(place.shape, generator=generator, device=device)

    seen = fit.views(photos)
    batch = config.batch or BATCH[device.type]
    order = PhotoOrder(len(photos.cameras), config.seed, device, config.steps * batch)
    for step in range(1, config.steps + 1):
        chosen = order.take(batch)
        body, deviation = surface.mesh(training=True)
        body = Mesh(body.verts, body.faces, light=worn.light)
        rendering = render.surfaces(body, fit.select_views(seen, chosen), raster, material=worn.at, aside=aside)
        pixels, true = rendering.rgba.reshape(-1, 4), photos.rgba[chosen].reshape(-1, 4)
        colour, alpha = losses.of_images(pixels, true, True, losses.random_colours(generator))
        sign = dmtet.sign_change_bce(surface.sdf, surface.grid.edges)
        w_sdf = config.w_sdf * max(0.05, 1 - 0.95 * 4 * step / config.steps)
        loss = colour + config.w_alpha * alpha + w_sdf * sign + config.w_smooth * rendering.covered.material_difference
        loss = loss + config.w_white * losses.whiteness(worn.light) + config.w_deviation * deviation
        moves.step(loss, config.decay ** (step / config.steps))
        worn.clamp()
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
