"""Moving vertices by large steps (Nicolet et al. 2021, "Large Steps in Inverse Rendering of Geometry").

The unknown is u = (I + lambda L) v with the combinatorial Laplacian L, so every update is smooth, and the mesh stays well
shaped without a regulariser whose weight has to be tuned. The map back is a linear solve, and its gradient is the same solve:
on the CPU with a sparse Cholesky factor, on a GPU with the dense inverse if that is small enough. Axes: V vertices.
"""

import numpy as np
import scipy.sparse
import torch
from cholespy import CholeskySolverF, MatrixType
from jaxtyping import Float
from torch import Tensor

from recon_lib import mesh as meshes
from recon_lib.mesh import Mesh

LARGEST_INVERSE = 16384  # largest number of vertices for the dense inverse, which then takes 1 GiB


class Preconditioner:
    """Converts between vertices v and unknowns u; `smoothness` is lambda."""

    def __init__(self, mesh: Mesh, smoothness: float):
        count, device = len(mesh.verts), mesh.verts.device
        L = meshes.laplacian(mesh.faces.cpu(), count)
        self.matrix = (smoothness * L + scipy.sparse.eye_array(count)).tocoo()
        self.solver = self.inverse = None
        row, column = (torch.from_numpy(index.astype(np.int32)).to(device) for index in self.matrix.coords)
        if device.type == "cuda" and count <= LARGEST_INVERSE:
            dense = torch.zeros(count, count, device=device)
            dense[row.long(), column.long()] = torch.from_numpy(self.matrix.data).float().to(device)
            self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(dense))
        else:
            data = torch.from_numpy(self.matrix.data).to(device)
            self.solver = CholeskySolverF(count, row, column, data, MatrixType.COO)

    def to_differential(self, verts: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
        """u of v; not differentiable."""
        return torch.from_numpy(self.matrix @ verts.double().cpu().numpy()).float().to(verts.device)

    def to_verts(self, u: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
        """v of u; differentiable."""
        return self.inverse @ u if self.solver is None else _Solve.apply(u, self.solver)


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


class UniformAdam:
    """Adam with one second moment for all coordinates, their largest, so that a step keeps the gradient's direction in space.

    Nicolet et al. 2021.
    """

    def __init__(self, parameter: Tensor, betas: tuple[float, float] = (0.9, 0.999)):
        self.parameter, self.betas, self.count = parameter, betas, 0
        self.first, self.second = torch.zeros_like(parameter), torch.zeros_like(parameter)

    def step(self, lr: float) -> None:
        """Moves the parameter by its gradient at the rate `lr`."""
        a, b = self.betas
        self.count += 1
        grad = self.parameter.grad
        self.first = a * self.first + (1 - a) * grad
        self.second = b * self.second + (1 - b) * grad.square()
        scale = (self.second.max() / (1 - b**self.count)).sqrt().clamp_min(1e-12)
        with torch.no_grad():
            self.parameter -= lr / (1 - a**self.count) / scale * self.first
