"""Kernels of `interpolate` and `attributes_at`: vertex attributes weighted by (u, v, 1 - u - v), and their gradients.

Tasks are (view, band of rows) as in `coverage`, or runs of chosen pixels. Each task has its own sum, and the sums are added in
the order of the tasks.
"""

import numpy as np
from numba import prange

from recon_lib.raster.coverage import BANDS
from recon_lib.threads import parallel_kernel

RUNS = 8  # tasks of `at_pixels_backward`
CHUNK = 1024  # pixels per task of `at_pixels`


@parallel_kernel
def interpolate(attr, rast, faces, out):
    """Fills `out` (N H W A, zero on entry); `attr` is N V A or 1 V A."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for task in prange(views * height):
        n, py = task // height, task % height
        m = n if attr.shape[0] > 1 else 0
        for px in range(width):
            f = int(rast[n, py, px, 3]) - 1
            if f < 0:
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            u, v = rast[n, py, px, 0], rast[n, py, px, 1]
            for c in range(attr.shape[2]):
                out[n, py, px, c] = u * attr[m, i, c] + v * attr[m, j, c] + (1 - u - v) * attr[m, k, c]


@parallel_kernel
def interpolate_derivatives(attr, rast, rast_db, faces, chosen, out):
    """Fills `out` (N H W 2k) with (dA/dX, dA/dY) of the chosen attributes."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for task in prange(views * height):
        n, py = task // height, task % height
        m = n if attr.shape[0] > 1 else 0
        for px in range(width):
            f = int(rast[n, py, px, 3]) - 1
            if f < 0:
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            for e in range(len(chosen)):
                c = chosen[e]
                du, dv = attr[m, i, c] - attr[m, k, c], attr[m, j, c] - attr[m, k, c]
                out[n, py, px, 2 * e] = rast_db[n, py, px, 0] * du + rast_db[n, py, px, 2] * dv
                out[n, py, px, 2 * e + 1] = rast_db[n, py, px, 1] * du + rast_db[n, py, px, 3] * dv


@parallel_kernel
def interpolate_backward(attr, rast, faces, grad_out, needs_attr, grad_rast):
    """Fills `grad_rast`'s (u, v) and returns the gradient to `attr`, or an empty array when not `needs_attr`."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    count = attr.shape[2]
    partial = np.zeros((views * BANDS if needs_attr else 0, attr.shape[1], count), attr.dtype)
    for task in prange(views * BANDS):
        n, band = task // BANDS, task % BANDS
        m = n if attr.shape[0] > 1 else 0
        for py in range(band, height, BANDS):
            for px in range(width):
                f = int(rast[n, py, px, 3]) - 1
                if f < 0:
                    continue
                i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                u, v = rast[n, py, px, 0], rast[n, py, px, 1]
                gu, gv = attr.dtype.type(0), attr.dtype.type(0)
                for c in range(count):
                    g = grad_out[n, py, px, c]
                    gu += g * (attr[m, i, c] - attr[m, k, c])
                    gv += g * (attr[m, j, c] - attr[m, k, c])
                    if needs_attr:
                        partial[task, i, c] += u * g
                        partial[task, j, c] += v * g
                        partial[task, k, c] += (1 - u - v) * g
                grad_rast[n, py, px, 0], grad_rast[n, py, px, 1] = gu, gv
    return _sum_tasks(partial, attr.shape[0], needs_attr)


@parallel_kernel
def interpolate_derivatives_backward(attr, rast, rast_db, faces, chosen, grad_da, needs_attr, grad_db):
    """Fills `grad_db` and returns the gradient to `attr`, or an empty array when not `needs_attr`."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    partial = np.zeros((views * BANDS if needs_attr else 0, attr.shape[1], attr.shape[2]), attr.dtype)
    for task in prange(views * BANDS):
        n, band = task // BANDS, task % BANDS
        m = n if attr.shape[0] > 1 else 0
        for py in range(band, height, BANDS):
            for px in range(width):
                f = int(rast[n, py, px, 3]) - 1
                if f < 0:
                    continue
                i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                for e in range(len(chosen)):
                    c = chosen[e]
                    gx, gy = grad_da[n, py, px, 2 * e], grad_da[n, py, px, 2 * e + 1]
                    du, dv = attr[m, i, c] - attr[m, k, c], attr[m, j, c] - attr[m, k, c]
                    grad_db[n, py, px, 0] += gx * du
                    grad_db[n, py, px, 1] += gy * du
                    grad_db[n, py, px, 2] += gx * dv
                    grad_db[n, py, px, 3] += gy * dv
                    if needs_attr:
                        g_du = gx * rast_db[n, py, px, 0] + gy * rast_db[n, py, px, 1]
                        g_dv = gx * rast_db[n, py, px, 2] + gy * rast_db[n, py, px, 3]
                        partial[task, i, c] += g_du
                        partial[task, j, c] += g_dv
                        partial[task, k, c] -= g_du + g_dv
    return _sum_tasks(partial, attr.shape[0], needs_attr)


@parallel_kernel
def at_pixels(attr, flat, faces, index, out):
    """Fills `out` (P A) with the attributes (V A) at the pixels `index` of `flat` (pixels 4); 0 where there is no face."""
    for task in prange((len(index) + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, len(index))):
            f = int(flat[index[p], 3]) - 1 if index[p] < len(flat) else -1
            if f < 0:
                for c in range(attr.shape[1]):
                    out[p, c] = 0
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            u, v = flat[index[p], 0], flat[index[p], 1]
            for c in range(attr.shape[1]):
                out[p, c] = u * attr[i, c] + v * attr[j, c] + (1 - u - v) * attr[k, c]


@parallel_kernel
def at_pixels_backward(attr, flat, faces, index, grad_out, needs_attr, grad_flat):
    """Adds to `grad_flat`'s (u, v); returns the gradient to `attr`, or an empty array when not `needs_attr`.

    No pixel is twice in `index`.
    """
    count, share = attr.shape[1], (len(index) + RUNS - 1) // RUNS
    partial = np.zeros((RUNS if needs_attr else 0, attr.shape[0], count), attr.dtype)
    for task in prange(RUNS):
        for p in range(task * share, min((task + 1) * share, len(index))):
            f = int(flat[index[p], 3]) - 1 if index[p] < len(flat) else -1
            if f < 0:
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            u, v = flat[index[p], 0], flat[index[p], 1]
            gu, gv = attr.dtype.type(0), attr.dtype.type(0)
            for c in range(count):
                g = grad_out[p, c]
                gu += g * (attr[i, c] - attr[k, c])
                gv += g * (attr[j, c] - attr[k, c])
                if needs_attr:
                    partial[task, i, c] += u * g
                    partial[task, j, c] += v * g
                    partial[task, k, c] += (1 - u - v) * g
            grad_flat[index[p], 0] += gu
            grad_flat[index[p], 1] += gv
    return _sum_tasks(partial, 1, needs_attr)


@parallel_kernel
def _sum_tasks(partial, slices, needed):
    """Adds the sums of each view's tasks (`slices` > 1), or of all tasks, in the order of the tasks."""
    verts, count = partial.shape[1], partial.shape[2]
    out = np.zeros((slices if needed else 0, verts, count), partial.dtype)
    tasks = partial.shape[0] // slices
    for v in prange(verts if needed else 0):
        for m in range(slices):
            for t in range(tasks):
                for c in range(count):
                    out[m, v, c] += partial[m * tasks + t, v, c]
    return out
