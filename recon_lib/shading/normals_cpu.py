"""`mesh.vertex_normals` on the CPU in one kernel forward and one backward, instead of thirty passes over all corners.

`mesh` is the description and the oracle. One thread goes through the faces in order, because faces share vertices.
Axes: V vertices, F faces.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

SHORTEST = 1e-12  # a shorter sum of normals is divided by this, as `torch.nn.functional.normalize` does


def vertex_normals(verts: Tensor, faces: Tensor) -> Tensor:
    """As `mesh.vertex_normals`."""
    return _VertexNormals.apply(verts, faces)


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx, verts, faces):
        ctx.arrays = verts.detach().contiguous().numpy(), faces.contiguous().numpy()
        ctx.total = np.zeros_like(ctx.arrays[0])
        out = np.empty_like(ctx.total)
        _add_up(*ctx.arrays, ctx.total, out)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad_out):
        grad = np.zeros_like(ctx.total)
        _add_up_backward(*ctx.arrays, ctx.total, grad_out.contiguous().numpy(), grad)
        return torch.from_numpy(grad), None


@njit(cache=True, error_model="numpy")
def _sides(verts, i, j, k):
    """The vectors from corner i to the corners j and k."""
    return (
        verts[j, 0] - verts[i, 0], verts[j, 1] - verts[i, 1], verts[j, 2] - verts[i, 2],
        verts[k, 0] - verts[i, 0], verts[k, 1] - verts[i, 1], verts[k, 2] - verts[i, 2],
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _add_up(verts, faces, total, out):
    """Adds to `total` (V 3, zero on entry) the normals of the faces around each vertex; `out` has their unit vectors."""
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az, bx, by, bz = _sides(verts, i, j, k)
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            total[v, 0] += nx
            total[v, 1] += ny
            total[v, 2] += nz
    for v in range(len(verts)):
        x, y, z = total[v, 0], total[v, 1], total[v, 2]
        length = max(np.sqrt(x * x + y * y + z * z), verts.dtype.type(SHORTEST))
        out[v, 0], out[v, 1], out[v, 2] = x / length, y / length, z / length


@njit(cache=True, error_model="numpy")
def _add_up_backward(verts, faces, total, grad_out, grad):
    """Adds to `grad` (V 3, zero on entry) the gradient to the vertices."""
    g_total = np.empty_like(total)
    for v in range(len(verts)):
        x, y, z = total[v, 0], total[v, 1], total[v, 2]
        length = np.sqrt(x * x + y * y + z * z)
        gx, gy, gz = grad_out[v, 0], grad_out[v, 1], grad_out[v, 2]
        along = verts.dtype.type(0)
        if length > SHORTEST:
            along = (x * gx + y * gy + z * gz) / (length * length)
        length = max(length, verts.dtype.type(SHORTEST))
        g_total[v, 0], g_total[v, 1] = (gx - along * x) / length, (gy - along * y) / length
        g_total[v, 2] = (gz - along * z) / length
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az, bx, by, bz = _sides(verts, i, j, k)
        gx = g_total[i, 0] + g_total[j, 0] + g_total[k, 0]
        gy = g_total[i, 1] + g_total[j, 1] + g_total[k, 1]
        gz = g_total[i, 2] + g_total[j, 2] + g_total[k, 2]
        # The normal is a x b, so its gradients are b x g to a and g x a to b.
        jx, jy, jz = by * gz - bz * gy, bz * gx - bx * gz, bx * gy - by * gx
        kx, ky, kz = gy * az - gz * ay, gz * ax - gx * az, gx * ay - gy * ax
        grad[j, 0], grad[j, 1], grad[j, 2] = grad[j, 0] + jx, grad[j, 1] + jy, grad[j, 2] + jz
        grad[k, 0], grad[k, 1], grad[k, 2] = grad[k, 0] + kx, grad[k, 1] + ky, grad[k, 2] + kz
        grad[i, 0], grad[i, 1], grad[i, 2] = grad[i, 0] - jx - kx, grad[i, 1] - jy - ky, grad[i, 2] - jz - kz
