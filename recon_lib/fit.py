"""Differentiable-rendering refinement of a mesh and its texture against posed photos, topology fixed.

Vertices move by large steps (Nicolet et al. 2021): the unknown is u = (I + lambda L) v, so every update is smooth and the
mesh stays well shaped without a weight to balance; Adam with one step size for all coordinates. The texture is base colour,
linear, one bilinear lookup a pixel. Losses are nvdiffrec's: log-L1 on colour over random backgrounds, squared on alpha.

Frame: the caller's, with the object in the unit sphere. Photos are premultiplied linear RGBA crops of one size.
Axes: B photos, V vertices, T texture coordinates.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan
from types import ModuleType
from typing import NamedTuple

import numba
import numpy as np
import scipy.sparse
import torch
from cholespy import CholeskySolverF, MatrixType
from jaxtyping import Float
from torch import Tensor

from recon_lib import losses, render
from recon_lib import mesh as meshes
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh


@dataclass(frozen=True)
class FitConfig:
    steps: int = 500  # optimiser steps
    batch: int = 2  # photos a step
    lr_vertex: float = 0.02  # unit-sphere radii a step; 0 keeps the shape
    lr_texture: float = 0.01  # linear base colour a step
    smoothness: float = 12.0  # lambda of the large steps
    w_alpha: float = 1.0  # weight of the alpha loss
    decay: float = 0.1  # both rates fall to this share at the last step, geometrically
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Photos:
    rgba: Float[Tensor, "B H W 4"]  # premultiplied, linear
    cameras: Cameras


class FitState(NamedTuple):
    """One step of a fit. `mesh` shares memory with the running fit: `snapshot` it to keep it beyond the next step."""

    step: int  # steps taken
    mesh: Mesh
    loss: float  # of this step; NaN before the first one
    loss_colour: float
    loss_alpha: float


def snapshot(state: FitState) -> Mesh:
    return replace(state.mesh, verts=state.mesh.verts.clone(), texture=state.mesh.texture.clone())


def history_csv(rows: list[tuple]) -> str:
    """(step, loss, loss_colour, loss_alpha) rows as a table."""
    return "step,loss,loss_colour,loss_alpha\n" + "".join(",".join(f"{v:.7g}" for v in row) + "\n" for row in rows)


class Controls:
    """What a person may change while the fit runs; read before every step."""

    def __init__(self, config: FitConfig):
        self.lr_vertex = config.lr_vertex
        self.lr_texture = config.lr_texture


def fit(
    photos: Photos, start: Mesh, config: FitConfig, raster: ModuleType, controls: Controls | None = None
) -> Iterator[FitState]:
    """Yields the state at the start, then after each step.

    Raises FloatingPointError at a non-finite loss or gradient; the state yielded last is the last good one.
    """
    one_torch_thread()
    controls = controls or Controls(config)
    generator = torch.Generator().manual_seed(config.seed)
    topology = meshes.opposite_vertices(start.faces)
    smooth = _Preconditioner(start, config.smoothness)
    u = smooth.to_differential(start.verts).requires_grad_(True)
    texture = start.texture.clone().requires_grad_(True)
    move_verts, move_texture = _UniformAdam(u), torch.optim.Adam([texture], fused=True)
    verts = start.verts
    order: list[int] = []
    yield FitState(0, replace(start, texture=texture.detach()), nan, nan, nan)
    for step in range(1, config.steps + 1):
        if len(order) < config.batch:
            order += torch.randperm(len(photos.cameras), generator=generator).tolist()
        chosen, order = order[: config.batch], order[config.batch :]
        shape_moves = controls.lr_vertex > 0
        verts = smooth.to_verts(u) if shape_moves else verts.detach()
        rgba = render.render(replace(start, verts=verts, texture=texture), photos.cameras[chosen], raster, topology)
        colour, alpha = _image_losses(rgba.reshape(-1, 4), photos.rgba[chosen].reshape(-1, 4), generator)
        loss = colour + config.w_alpha * alpha
        u.grad = texture.grad = None
        loss.backward()
        # A sum is not finite when a term is not: one pass over the texture instead of three.
        total = loss.detach() + texture.grad.sum() + (u.grad.sum() if shape_moves else 0)
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"step {step}: loss {loss.item():.4g} or its gradient is not finite, need finite; the state after step "
                f"{step - 1} is kept. Lower lr_vertex ({controls.lr_vertex:g}) or lr_texture ({controls.lr_texture:g})"
            )
        rate = config.decay ** (step / config.steps)
        if shape_moves:
            move_verts.step(controls.lr_vertex * rate)
        move_texture.param_groups[0]["lr"] = controls.lr_texture * rate
        move_texture.step()
        with torch.no_grad():
            texture.clamp_(0, 1)
        shown = replace(start, verts=smooth.to_verts(u.detach()), texture=texture.detach())
        yield FitState(step, shown, loss.item(), colour.item(), alpha.item())


def one_torch_thread() -> None:
    """Holds torch to one thread, so that a seed gives the same bits on every machine.

    torch cuts elementwise work by thread, and a cut's last few elements round differently. It is faster here, too: the
    kernels have threads of their own, which numba has to start first, because that resets torch's number.
    """
    numba.get_num_threads()
    torch.set_num_threads(1)


def _image_losses(
    rgba: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"], generator: torch.Generator
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Colour and alpha loss, means over all pixels; where both are empty there is nothing to compute."""
    shown = ((rgba[:, 3] > 0) | (target[:, 3] > 0)).nonzero()[:, 0]
    share = len(shown) / len(rgba)
    rgba, target = rgba.index_select(0, shown), target.index_select(0, shown)
    background = torch.rand(len(shown), 3, generator=generator)
    colour = losses.log_l1(_over(rgba, background), _over(target, background))
    return share * colour, share * losses.squared(rgba[:, 3], target[:, 3])


def _over(rgba: Tensor, background: Tensor) -> Tensor:
    return rgba[..., :3] + (1 - rgba[..., 3:]) * background


class _Preconditioner:
    """v <-> u = (I + lambda L) v; the map back is a Cholesky solve, its gradient the same solve."""

    def __init__(self, mesh: Mesh, smoothness: float):
        count = len(mesh.verts)
        L = meshes.laplacian(mesh.faces, count)
        self.matrix = (smoothness * L + scipy.sparse.eye_array(count)).tocoo()
        row, column = (torch.from_numpy(index.astype(np.int32)) for index in self.matrix.coords)
        self.solver = CholeskySolverF(count, row, column, torch.from_numpy(self.matrix.data), MatrixType.COO)

    def to_differential(self, verts: Tensor) -> Tensor:
        return torch.from_numpy(self.matrix @ verts.double().numpy()).float()

    def to_verts(self, u: Tensor) -> Tensor:
        return _Solve.apply(u, self.solver)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, b, solver):
        ctx.solver = solver
        x = torch.zeros_like(b)
        solver.solve(b.detach().contiguous(), x)
        return x

    @staticmethod
    def backward(ctx, grad):
        x = torch.zeros_like(grad)
        ctx.solver.solve(grad.contiguous(), x)
        return x, None


class _UniformAdam:
    """Adam whose second moment is the largest of all coordinates: a step keeps the gradient's direction in space."""

    def __init__(self, parameter: Tensor, betas: tuple[float, float] = (0.9, 0.999)):
        self.parameter, self.betas, self.count = parameter, betas, 0
        self.first, self.second = torch.zeros_like(parameter), torch.zeros_like(parameter)

    def step(self, lr: float) -> None:
        a, b = self.betas
        self.count += 1
        grad = self.parameter.grad
        self.first = a * self.first + (1 - a) * grad
        self.second = b * self.second + (1 - b) * grad.square()
        scale = (self.second.max() / (1 - b**self.count)).sqrt().clamp_min(1e-12)
        with torch.no_grad():
            self.parameter -= lr / (1 - a**self.count) / scale * self.first
