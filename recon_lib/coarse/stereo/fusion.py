"""One closed surface of all depth maps: a truncated signed distance that votes, smoothed, inside the hull.

Each view votes at each grid point that it sees: before its depth the point is free, just behind it inside. The votes' mean is
smoothed by TV-L2 (Rudin et al. 1992; primal-dual, Chambolle & Pock 2011), so that single wrong depths vanish. Where no depth
speaks, the hull does. Distances in here are shares of the truncation, positive outside. Axes: X Y Z grid points, B views,
H W pixels.
"""

import numpy as np
from jaxtyping import Float, Float32
from numba import prange

from recon_lib.threads import parallel_kernel

TRUNCATION = 3.0  # voxels
FREE_VOTE = 0.3  # weight of "nothing here" from far before the surface, beside 1 near it
HULL_VOTE = 0.15  # weight of the hull everywhere
FIDELITY = 8.0  # lambda of TV-L2
ITERATIONS = 60


def fuse(
    depths: Float32[np.ndarray, "B H W"],
    P: Float[np.ndarray, "B 3 4"],
    hull: Float32[np.ndarray, "X Y Z"],
    origin: np.ndarray,
    spacing: float,
) -> tuple[Float32[np.ndarray, "X Y Z"], Float32[np.ndarray, "X Y Z"]]:
    """The smoothed field in world units, positive outside, and how much weight the depths had near each grid point.

    `depths` are 0 where unknown; `P` takes world points to homogeneous pixels whose third entry is the depth. `hull` is the
    hull's signed distance at the same grid points.
    """
    reach = TRUNCATION * spacing
    prior = np.clip(hull / reach, -1, 1).astype(np.float32)
    total, weight = HULL_VOTE * prior, np.full(hull.shape, HULL_VOTE, np.float32)
    near = np.zeros(hull.shape, np.float32)
    for depth, matrix in zip(depths, P, strict=True):
        _vote(depth, matrix, origin, spacing, np.float32(reach), total, weight, near)
    smooth = _denoise(total / weight, weight)
    return np.maximum(smooth * np.float32(reach), hull), near


@parallel_kernel
def _vote(depth, P, origin, spacing, reach, total, weight, near):
    height, width = depth.shape
    for i in prange(total.shape[0]):
        x = origin[0] + i * spacing
        for j in range(total.shape[1]):
            y = origin[1] + j * spacing
            for k in range(total.shape[2]):
                z = origin[2] + k * spacing
                d = P[2, 0] * x + P[2, 1] * y + P[2, 2] * z + P[2, 3]
                if d <= 0:
                    continue
                u = (P[0, 0] * x + P[0, 1] * y + P[0, 2] * z + P[0, 3]) / d
                v = (P[1, 0] * x + P[1, 1] * y + P[1, 2] * z + P[1, 3]) / d
                if not (0 <= u < width and 0 <= v < height):
                    continue
                found = depth[int(v), int(u)]
                if found <= 0:
                    continue
                distance = np.float32((found - d) / reach)
                if distance > 1:
                    total[i, j, k] += np.float32(FREE_VOTE)
                    weight[i, j, k] += np.float32(FREE_VOTE)
                elif distance > -1:
                    total[i, j, k] += distance
                    weight[i, j, k] += np.float32(1)
                    near[i, j, k] += np.float32(1)


def _denoise(field: Float32[np.ndarray, "X Y Z"], weight: Float32[np.ndarray, "X Y Z"]) -> Float32[np.ndarray, "X Y Z"]:
    """The u that minimises TV(u) + lambda/2 sum weight' (u - field)^2, where weight' is at most 1."""
    fidelity = (FIDELITY * np.minimum(weight, 1)).astype(np.float32)
    step = np.float32(1 / np.sqrt(12))  # tau = sigma = 1 / ||gradient|| in three dimensions
    u, ahead = field.copy(), field.copy()
    dual = np.zeros((3, *field.shape), np.float32)
    for _ in range(ITERATIONS):
        _ascend(dual, ahead, step)
        _descend(u, ahead, dual, field, fidelity, step)
    return u


@parallel_kernel
def _ascend(dual, u, step):
    X, Y, Z = u.shape
    for i in prange(X):
        for j in range(Y):
            for k in range(Z):
                here = u[i, j, k]
                a = dual[0, i, j, k] + (step * (u[i + 1, j, k] - here) if i + 1 < X else np.float32(0))
                b = dual[1, i, j, k] + (step * (u[i, j + 1, k] - here) if j + 1 < Y else np.float32(0))
                c = dual[2, i, j, k] + (step * (u[i, j, k + 1] - here) if k + 1 < Z else np.float32(0))
                length = max(np.float32(1), np.sqrt(a * a + b * b + c * c))
                dual[0, i, j, k], dual[1, i, j, k], dual[2, i, j, k] = a / length, b / length, c / length


@parallel_kernel
def _descend(u, ahead, dual, field, fidelity, step):
    X, Y, Z = u.shape
    for i in prange(X):
        for j in range(Y):
            for k in range(Z):
                flow = (
                    (dual[0, i, j, k] if i + 1 < X else np.float32(0)) - (dual[0, i - 1, j, k] if i > 0 else np.float32(0))
                    + (dual[1, i, j, k] if j + 1 < Y else np.float32(0)) - (dual[1, i, j - 1, k] if j > 0 else np.float32(0))
                    + (dual[2, i, j, k] if k + 1 < Z else np.float32(0)) - (dual[2, i, j, k - 1] if k > 0 else np.float32(0))
                )  # fmt: skip
                trust = step * fidelity[i, j, k]
                new = (u[i, j, k] + step * flow + trust * field[i, j, k]) / (np.float32(1) + trust)
                ahead[i, j, k] = np.float32(2) * new - u[i, j, k]
                u[i, j, k] = new
