"""Kernels of the visual hull: a view carves a grid of signed distances with its mask, or is counted where it looks.

Lengths are world units.
"""

import numpy as np
from numba import njit, prange

from recon_lib.threads import parallel_kernel


@njit(inline="always", error_model="numpy")
def _distance(x, y, z, T, k, distance):
    """The signed distance by the view's mask at a point of the world, in world units; -inf where the view does not see it."""
    height, width = distance.shape
    depth = -(T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3])
    if depth <= 0:
        return -np.inf
    u = k[0] * (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / depth + k[2] - 0.5
    v = -k[1] * (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / depth + k[3] - 0.5
    if not (0 <= u <= width - 1 and 0 <= v <= height - 1):
        return -np.inf
    c, r = min(int(u), width - 2), min(int(v), height - 2)
    fu, fv = u - c, v - r
    top = distance[r, c] * (1 - fu) + distance[r, c + 1] * fu
    low = distance[r + 1, c] * (1 - fu) + distance[r + 1, c + 1] * fu
    return (top * (1 - fv) + low * fv) * depth / k[0]


@parallel_kernel
def carve(field, origin, spacing, T, k, distance):
    """Raises `field` (X Y Z) at each grid point that the view sees to the signed distance by its mask, where that is larger.

    `origin` is the position of grid point (0, 0, 0). `T` is the view's `T_cam_world`, `k` its (fx, fy, cx, cy), `distance`
    (H W) the signed pixel distance to the mask's outline, negative inside.
    """
    enough = 4 * spacing  # further outside than this, the exact distance no longer matters
    for i in prange(field.shape[0]):
        x = origin[0] + i * spacing
        for j in range(field.shape[1]):
            y = origin[1] + j * spacing
            for m in range(field.shape[2]):
                if field[i, j, m] <= enough:
                    d = _distance(x, y, origin[2] + m * spacing, T, k, distance)
                    field[i, j, m] = max(field[i, j, m], d)


@parallel_kernel
def carve_but_one(field, second, origin, spacing, T, k, distance):
    """As `carve`, and raises `second` to the second largest distance of all views so far."""
    for i in prange(field.shape[0]):
        x = origin[0] + i * spacing
        for j in range(field.shape[1]):
            y = origin[1] + j * spacing
            for m in range(field.shape[2]):
                d = _distance(x, y, origin[2] + m * spacing, T, k, distance)
                second[i, j, m] = max(second[i, j, m], min(d, field[i, j, m]))
                field[i, j, m] = max(field[i, j, m], d)


@parallel_kernel
def count(seen, field, below, origin, spacing, T, k, width, height):
    """Adds 1 to `seen` (X Y Z) at each grid point of the view's image at which `field` is less than `below`."""
    for i in prange(field.shape[0]):
        x = origin[0] + i * spacing
        for j in range(field.shape[1]):
            y = origin[1] + j * spacing
            for m in range(field.shape[2]):
                if field[i, j, m] >= below:
                    continue
                z = origin[2] + m * spacing
                depth = -(T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3])
                if depth <= 0:
                    continue
                u = k[0] * (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / depth + k[2]
                v = -k[1] * (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / depth + k[3]
                if 0.5 <= u <= width - 0.5 and 0.5 <= v <= height - 0.5:
                    seen[i, j, m] += 1


@parallel_kernel
def look_up(pixels, depths, points, T, k, width, height):
    """Writes each point's pixel (P 2; x, y) in the view and its depth (P), which is 0 where the view does not see the point."""
    for i in prange(len(points)):
        x, y, z = points[i]
        depth = -(T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3])
        depths[i] = 0
        if depth <= 0:
            continue
        u = k[0] * (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / depth + k[2]
        v = -k[1] * (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / depth + k[3]
        if 0 <= u < width and 0 <= v < height:
            pixels[i, 0], pixels[i, 1], depths[i] = u, v, depth


@parallel_kernel
def enter_cells(cells, pixels, depths, size, columns):
    """Writes each seen point's cell of `size` pixels a side; a row has `columns` cells, two of them a border."""
    for i in prange(len(cells)):
        if depths[i] > 0:
            cells[i] = (int(pixels[i, 1] / size) + 1) * columns + int(pixels[i, 0] / size) + 1
