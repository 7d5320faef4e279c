"""Kernels of `rasterize`: which face covers a pixel, and the gradients of (u, v) and their pixel derivatives to the corners.

Homogeneous rasterisation (Olano & Greer 1997): with p_i = (x_i - fx w_i, y_i - fy w_i), a_i = p_j x p_k is a linear
function of the pixel position (fx, fy), (u, v) = (a_0, a_1) / s with s = a_0 + a_1 + a_2, and a_0 w_0 + a_1 w_1 + a_2 w_2
is the constant det[x y w]. No clipper is needed: a pixel is covered where all a_i / s >= 0, w > 0 and -1 <= z/w <= 1.
A shared edge has bitwise opposite a_i on its two sides (no fused multiply-add here), so no pixel falls between them.

Gradients are divided into (view, band) tasks. A band is every `BANDS`-th row, so all bands take about the same time, and the
division never depends on the number of threads.
"""

import numpy as np
from numba import njit, prange

from recon_lib.threads import parallel_kernel

BANDS = 4
STRIPES = 8  # tasks per view, an even number; each is a run of neighbouring rows, so that a small face falls into one
BOX_MARGIN = 1e-3  # pixels; the boxes may be too large, because an exact test follows


@njit(cache=True, error_model="numpy")
def _edge_functions(x0, y0, w0, x1, y1, w1, x2, y2, w2):
    """Coefficients (A, B, C) of a_i = A fx + B fy + C for i = 0, 1, 2."""
    return (
        y1 * w2 - w1 * y2, w1 * x2 - x1 * w2, x1 * y2 - y1 * x2,
        y2 * w0 - w2 * y0, w2 * x0 - x2 * w0, x2 * y0 - y2 * x0,
        y0 * w1 - w0 * y1, w0 * x1 - x0 * w1, x0 * y1 - y0 * x1,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _corners(pos, n, faces, f):
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    return (
        np.float64(pos[n, i, 0]), np.float64(pos[n, i, 1]), np.float64(pos[n, i, 3]),
        np.float64(pos[n, j, 0]), np.float64(pos[n, j, 1]), np.float64(pos[n, j, 3]),
        np.float64(pos[n, k, 0]), np.float64(pos[n, k, 1]), np.float64(pos[n, k, 3]),
    )  # fmt: skip


@parallel_kernel
def face_boxes(pos, faces, height, width):
    """Per view and face, the first and last column and the first and last row of pixel centres in its box, N F 4.

    If the box contains none, the last row is before the first. A face that crosses the plane w = 0 gets the whole image.
    """
    views, count = pos.shape[0], faces.shape[0]
    verts = pos.shape[1]
    screen = np.empty((views, verts, 2), np.float32)
    boxes = np.empty((views, count, 4), np.int32)
    chunk = 2048
    for task in prange(views * ((verts + chunk - 1) // chunk)):
        n, start = task % views, task // views * chunk
        for v in range(start, min(start + chunk, verts)):
            w = pos[n, v, 3]
            screen[n, v, 0] = (pos[n, v, 0] / w + 1) * width * 0.5 if w > 0 else np.nan
            screen[n, v, 1] = (pos[n, v, 1] / w + 1) * height * 0.5 if w > 0 else np.nan
    for task in prange(views * ((count + chunk - 1) // chunk)):
        n, start = task % views, task // views * chunk
        for f in range(start, min(start + chunk, count)):
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            x0, x1, x2 = screen[n, i, 0], screen[n, j, 0], screen[n, k, 0]
            y0, y1, y2 = screen[n, i, 1], screen[n, j, 1], screen[n, k, 1]
            if np.isnan(x0 + x1 + x2 + y0 + y1 + y2):
                boxes[n, f, 0], boxes[n, f, 1], boxes[n, f, 2] = 0, width - 1, 0
                boxes[n, f, 3] = -1 if max(pos[n, i, 3], pos[n, j, 3], pos[n, k, 3]) <= 0 else height - 1
                continue
            left = min(max(min(x0, x1, x2) - 0.5 - BOX_MARGIN, 0.0), float(width))
            right = min(max(max(x0, x1, x2) - 0.5 + BOX_MARGIN, -1.0), width - 1.0)
            low = min(max(min(y0, y1, y2) - 0.5 - BOX_MARGIN, 0.0), float(height))
            high = min(max(max(y0, y1, y2) - 0.5 + BOX_MARGIN, -1.0), height - 1.0)
            boxes[n, f, 0], boxes[n, f, 1] = int(np.ceil(left)), int(np.floor(right))
            boxes[n, f, 2], boxes[n, f, 3] = int(np.ceil(low)), int(np.floor(high))
            if boxes[n, f, 0] > boxes[n, f, 1]:
                boxes[n, f, 2], boxes[n, f, 3] = 1, 0
    return boxes


@parallel_kernel
def cover(pos, faces, boxes, rast):
    """Fills `rast` (N H W 4, zero on entry) with (u, v, z/w, face + 1) of the nearest face at each pixel centre."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for task in prange(views * STRIPES):
        # Even stripes first, then odd ones: threads take runs of tasks, and most of the object is in the middle rows.
        n, stripe = task // STRIPES, 2 * (task % STRIPES) % STRIPES + task % STRIPES * 2 // STRIPES
        low, high = stripe * height // STRIPES, (stripe + 1) * height // STRIPES - 1
        for f in range(faces.shape[0]):
            first, last = max(boxes[n, f, 2], low), min(boxes[n, f, 3], high)
            if first > last:
                continue
            x0, y0, w0, x1, y1, w1, x2, y2, w2 = _corners(pos, n, faces, f)
            A0, B0, C0, A1, B1, C1, A2, B2, C2 = _edge_functions(x0, y0, w0, x1, y1, w1, x2, y2, w2)
            det = C0 * w0 + C1 * w1 + C2 * w2
            if det == 0:
                continue
            inv_det = 1 / det
            z0 = np.float64(pos[n, faces[f, 0], 2])
            z1 = np.float64(pos[n, faces[f, 1], 2])
            z2 = np.float64(pos[n, faces[f, 2], 2])
            for py in range(first, last + 1):
                fy = (2 * py + 1) / height - 1
                for px in range(boxes[n, f, 0], boxes[n, f, 1] + 1):
                    fx = (2 * px + 1) / width - 1
                    a0 = A0 * fx + B0 * fy + C0
                    a1 = A1 * fx + B1 * fy + C1
                    a2 = A2 * fx + B2 * fy + C2
                    s = a0 + a1 + a2
                    # Covered if every a_i >= 0 (det > 0), or every a_i <= 0 (det < 0), and s / det = 1 / w > 0.
                    if a0 * det < 0 or a1 * det < 0 or a2 * det < 0 or s * det <= 0:
                        continue
                    z = rast.dtype.type((a0 * z0 + a1 * z1 + a2 * z2) * inv_det)
                    if not (-1 <= z <= 1) or (rast[n, py, px, 3] > 0 and z > rast[n, py, px, 2]):
                        continue
                    rast[n, py, px, 0] = a0 / s
                    rast[n, py, px, 1] = a1 / s
                    rast[n, py, px, 2] = z
                    rast[n, py, px, 3] = f + 1


@parallel_kernel
def pixel_derivatives(pos, faces, rast, out):
    """Fills `out` (N H W 4) with (du/dX, du/dY, dv/dX, dv/dY), per pixel."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for task in prange(views * height):
        n, py = task // height, task % height
        fy = (2 * py + 1) / height - 1
        for px in range(width):
            f = int(rast[n, py, px, 3]) - 1
            if f < 0:
                continue
            fx = (2 * px + 1) / width - 1
            x0, y0, w0, x1, y1, w1, x2, y2, w2 = _corners(pos, n, faces, f)
            A0, B0, C0, A1, B1, C1, A2, B2, C2 = _edge_functions(x0, y0, w0, x1, y1, w1, x2, y2, w2)
            sA, sB = A0 + A1 + A2, B0 + B1 + B2
            s = sA * fx + sB * fy + C0 + C1 + C2
            u = (A0 * fx + B0 * fy + C0) / s
            v = (A1 * fx + B1 * fy + C1) / s
            out[n, py, px, 0] = (A0 - u * sA) / s * 2 / width
            out[n, py, px, 1] = (B0 - u * sB) / s * 2 / height
            out[n, py, px, 2] = (A1 - v * sA) / s * 2 / width
            out[n, py, px, 3] = (B1 - v * sB) / s * 2 / height


@parallel_kernel
def cover_backward(pos, faces, rast, grad_rast, grad_db, has_db):
    """The gradient to `pos` (N V 4, zero in z) from those to (u, v) and, if `has_db`, to the pixel derivatives."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    partial = np.zeros((views * BANDS, pos.shape[1], 3), pos.dtype)
    for task in prange(views * BANDS):
        n, band = task // BANDS, task % BANDS
        grad = partial[task]
        for py in range(band, height, BANDS):
            fy = (2 * py + 1) / height - 1
            for px in range(width):
                f = int(rast[n, py, px, 3]) - 1
                if f < 0:
                    continue
                gu, gv = np.float64(grad_rast[n, py, px, 0]), np.float64(grad_rast[n, py, px, 1])
                if gu == 0 and gv == 0 and not has_db:
                    continue
                fx = (2 * px + 1) / width - 1
                x0, y0, w0, x1, y1, w1, x2, y2, w2 = _corners(pos, n, faces, f)
                p0x, p0y, p1x, p1y = x0 - fx * w0, y0 - fy * w0, x1 - fx * w1, y1 - fy * w1
                p2x, p2y = x2 - fx * w2, y2 - fy * w2
                a0, a1, a2 = p1x * p2y - p1y * p2x, p2x * p0y - p2y * p0x, p0x * p1y - p0y * p1x
                r = 1 / (a0 + a1 + a2)
                u, v = a0 * r, a1 * r
                gs = 0.0
                if has_db:
                    # From u_X = (A0 - u sA) / s and so on, gradients go to u, v, s and to the coefficients A_i, B_i.
                    A0, B0, _, A1, B1, _, A2, B2, _ = _edge_functions(x0, y0, w0, x1, y1, w1, x2, y2, w2)
                    sA, sB = A0 + A1 + A2, B0 + B1 + B2
                    gux, guy = grad_db[n, py, px, 0] * 2 / width * r, grad_db[n, py, px, 1] * 2 / height * r
                    gvx, gvy = grad_db[n, py, px, 2] * 2 / width * r, grad_db[n, py, px, 3] * 2 / height * r
                    gu -= gux * sA + guy * sB
                    gv -= gvx * sA + gvy * sB
                    gs = -(gux * (A0 - u * sA) + guy * (B0 - u * sB) + gvx * (A1 - v * sA) + gvy * (B1 - v * sB)) * r
                    gA, gB = -(gux * u + gvx * v), -(guy * u + gvy * v)
                    gA0, gA1, gA2, gB0, gB1, gB2 = gux + gA, gvx + gA, gA, guy + gB, gvy + gB, gB
                    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                    grad[i, 0] += gB1 * w2 - gB2 * w1
                    grad[i, 1] += gA2 * w1 - gA1 * w2
                    grad[i, 2] += gA1 * y2 - gA2 * y1 + gB2 * x1 - gB1 * x2
                    grad[j, 0] += gB2 * w0 - gB0 * w2
                    grad[j, 1] += gA0 * w2 - gA2 * w0
                    grad[j, 2] += gA2 * y0 - gA0 * y2 + gB0 * x2 - gB2 * x0
                    grad[k, 0] += gB0 * w1 - gB1 * w0
                    grad[k, 1] += gA1 * w0 - gA0 * w1
                    grad[k, 2] += gA0 * y1 - gA1 * y0 + gB1 * x0 - gB0 * x1
                common = gs - (gu * u + gv * v) * r
                g0, g1, g2 = gu * r + common, gv * r + common, common
                g0x, g0y = g2 * p1y - g1 * p2y, g1 * p2x - g2 * p1x
                g1x, g1y = g0 * p2y - g2 * p0y, g2 * p0x - g0 * p2x
                g2x, g2y = g1 * p0y - g0 * p1y, g0 * p1x - g1 * p0x
                i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                grad[i, 0] += g0x
                grad[i, 1] += g0y
                grad[i, 2] -= fx * g0x + fy * g0y
                grad[j, 0] += g1x
                grad[j, 1] += g1y
                grad[j, 2] -= fx * g1x + fy * g1y
                grad[k, 0] += g2x
                grad[k, 1] += g2y
                grad[k, 2] -= fx * g2x + fy * g2y
    out = np.empty(pos.shape, pos.dtype)
    for n in prange(views):
        for v in range(pos.shape[1]):
            x, y, w = pos.dtype.type(0), pos.dtype.type(0), pos.dtype.type(0)
            for band in range(BANDS):
                x += partial[n * BANDS + band, v, 0]
                y += partial[n * BANDS + band, v, 1]
                w += partial[n * BANDS + band, v, 2]
            out[n, v, 0], out[n, v, 1], out[n, v, 2], out[n, v, 3] = x, y, 0, w
    return out
