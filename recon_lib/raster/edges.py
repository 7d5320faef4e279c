"""Kernels of `antialias`: where a silhouette edge crosses between two neighbouring pixel centres, and blending by that.

A pair is a pixel and its right (0) or lower (1) neighbour whose faces differ. The nearer face owns the pair; if one of its
silhouette edges crosses between the two centres, the pixel on the far side of the middle is blended towards the other one
by `alpha`, so that moving the edge moves colour continuously. `alpha` is stored per pair, positive when the first pixel
receives; |alpha| < 0.5.
"""

import numpy as np
from numba import njit, prange

from recon_lib.threads import parallel_kernel

CROSSING_MARGIN = 1 / 16  # pixels; a crossing just outside the pair still counts, and is clamped
TINY = 1e-30  # alpha of an edge exactly half way, which blends nothing but has a gradient; 0 means no edge
MIN_SPAN = 1e-3  # pixels; keeps 1 / dy in the gradient finite


@parallel_kernel
def silhouettes(pos, faces, opposite, height, width):
    """Per view, the screen positions in pixels (N V 2, NaN at w <= 0) and, per face, 3 bits (N F): bit i is set if the edge
    opposite corner i may be a silhouette.

    That is so if the neighbour lies on the same side of the edge on the screen, or if there is no neighbour.
    """
    views, verts, count = pos.shape[0], pos.shape[1], faces.shape[0]
    screen = np.empty((views, verts, 2), pos.dtype)
    bits = np.zeros((views, count), np.uint8)
    chunk = 1024
    for task in prange(views * ((verts + chunk - 1) // chunk)):
        n, start = task % views, task // views * chunk
        for v in range(start, min(start + chunk, verts)):
            w = pos[n, v, 3]
            screen[n, v, 0] = (pos[n, v, 0] / w + 1) * width / 2 if w > 0 else np.nan
            screen[n, v, 1] = (pos[n, v, 1] / w + 1) * height / 2 if w > 0 else np.nan
    for task in prange(views * ((count + chunk - 1) // chunk)):
        n, start = task % views, task // views * chunk
        for f in range(start, min(start + chunk, count)):
            for e in range(3):
                own, a, b = faces[f, e], faces[f, (e + 1) % 3], faces[f, (e + 2) % 3]
                far = opposite[f, e]
                if far < 0:
                    bits[n, f] |= 1 << e
                    continue
                ax, ay = screen[n, a, 0], screen[n, a, 1]
                bx, by = screen[n, b, 0] - ax, screen[n, b, 1] - ay
                area = bx * (screen[n, own, 1] - ay) - by * (screen[n, own, 0] - ax)
                folded = bx * (screen[n, far, 1] - ay) - by * (screen[n, far, 0] - ax)
                if (area > 0) == (folded > 0):
                    bits[n, f] |= 1 << e
    return screen, bits


@njit(cache=True, error_model="numpy")
def _crossing(screen, faces, n, f, cx, cy, vertical, sign):
    """The edge with the largest signed crossing of the line through the pair's centres, and that crossing in pixels.

    (-1, 0) if no edge straddles the line, or if that edge is closer to the line's direction than to the other axis.
    """
    best, where = -1, 0.0
    for e in range(3):
        a, b = faces[f, (e + 1) % 3], faces[f, (e + 2) % 3]
        if vertical:
            xa, ya = screen[n, a, 1] - cy, screen[n, a, 0] - cx
            xb, yb = screen[n, b, 1] - cy, screen[n, b, 0] - cx
        else:
            xa, ya = screen[n, a, 0] - cx, screen[n, a, 1] - cy
            xb, yb = screen[n, b, 0] - cx, screen[n, b, 1] - cy
        if (ya < 0) == (yb < 0) or np.isnan(xa + ya + xb + yb):
            continue
        dx, dy = xb - xa, yb - ya
        crossing = sign * (xa * dy - ya * dx) / dy
        if best < 0 or crossing > where:
            best, where = e, crossing
            steep = abs(dy) >= abs(dx)
    if best >= 0 and not steep:
        return -1, 0.0
    return best, where


@parallel_kernel
def blend_weights(rast, screen, bits, faces, alpha):
    """Fills `alpha` (N H W 2, zero on entry) for the pairs that a silhouette edge crosses."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for task in prange(views * height):
        n, py = task // height, task % height
        for px in range(width):
            own = int(rast[n, py, px, 3])
            for pair in range(2):
                qx, qy = px + 1 - pair, py + pair
                if qx >= width or qy >= height:
                    continue
                other = int(rast[n, qy, qx, 3])
                if other == own:
                    continue
                first = other == 0 or (own > 0 and rast[n, py, px, 2] < rast[n, qy, qx, 2])
                f = (own if first else other) - 1
                if bits[n, f] == 0:
                    continue
                sign = 1.0 if first else -1.0
                cx, cy = (px + 0.5, py + 0.5) if first else (qx + 0.5, qy + 0.5)
                e, where = _crossing(screen, faces, n, f, cx, cy, pair == 1, sign)
                if e < 0 or not bits[n, f] >> e & 1:
                    continue
                if -CROSSING_MARGIN < where < 1 + CROSSING_MARGIN:
                    weight = sign * (0.5 - min(max(where, 0.0), 1.0))
                    alpha[n, py, px, pair] = weight if weight != 0 else -TINY


@parallel_kernel
def blend(colour, alpha, out):
    """For each pair, adds alpha (second - first) to the receiving pixel of `out`, which is a copy of `colour` on entry.

    Few pairs have an edge, so one thread goes through all pairs of a view in order.
    """
    views, height, width = colour.shape[0], colour.shape[1], colour.shape[2]
    for n in prange(views):
        for py in range(height):
            for px in range(width):
                for pair in range(2):
                    w = alpha[n, py, px, pair]
                    if w == 0:
                        continue
                    qx, qy = px + 1 - pair, py + pair
                    dx, dy = (px, py) if w > 0 else (qx, qy)
                    for c in range(colour.shape[3]):
                        out[n, dy, dx, c] += w * (colour[n, qy, qx, c] - colour[n, py, px, c])


@parallel_kernel
def blend_backward(alpha, grad_out, grad_colour):
    """The transpose of `blend`: adds to `grad_colour`, which is a copy of `grad_out` on entry."""
    views, height, width = alpha.shape[0], alpha.shape[1], alpha.shape[2]
    for n in prange(views):
        for py in range(height):
            for px in range(width):
                for pair in range(2):
                    w = alpha[n, py, px, pair]
                    if w == 0:
                        continue
                    qx, qy = px + 1 - pair, py + pair
                    dx, dy = (px, py) if w > 0 else (qx, qy)
                    for c in range(grad_out.shape[3]):
                        g = w * grad_out[n, dy, dx, c]
                        grad_colour[n, py, px, c] -= g
                        grad_colour[n, qy, qx, c] += g


@parallel_kernel
def edge_backward(colour, rast, pos, screen, faces, alpha, grad_out, boost):
    """The gradient to `pos` (N V 4, zero in z), which only the two corners of each blended edge receive."""
    views, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    out = np.zeros(pos.shape, pos.dtype)
    for n in prange(views):
        for py in range(height):
            for px in range(width):
                for pair in range(2):
                    w = alpha[n, py, px, pair]
                    if w == 0 or abs(w) >= 0.5:
                        continue
                    qx, qy = px + 1 - pair, py + pair
                    dx, dy = (px, py) if w > 0 else (qx, qy)
                    slope = 0.0
                    for c in range(colour.shape[3]):
                        slope += grad_out[n, dy, dx, c] * (colour[n, qy, qx, c] - colour[n, py, px, c])
                    if slope == 0:
                        continue
                    own, other = int(rast[n, py, px, 3]), int(rast[n, qy, qx, 3])
                    first = other == 0 or (own > 0 and rast[n, py, px, 2] < rast[n, qy, qx, 2])
                    f = (own if first else other) - 1
                    cx, cy = (px + 0.5, py + 0.5) if first else (qx + 0.5, qy + 0.5)
                    e, _ = _crossing(screen, faces, n, f, cx, cy, pair == 1, 1.0 if first else -1.0)
                    _edge_corners(pos, screen, faces, n, f, e, cx, cy, pair, -slope * boost, height, width, out)
    return out


@njit(cache=True, error_model="numpy")
def _edge_corners(pos, screen, faces, n, f, e, cx, cy, pair, grad, height, width, out):
    """Adds d(crossing)/d(x, y, w) of the edge's corners; the crossing is x_a - y_a dx / dy along the pair's axis."""
    a, b = faces[f, (e + 1) % 3], faces[f, (e + 2) % 3]
    along, across = (1, 0) if pair == 1 else (0, 1)
    centre = cx if pair == 1 else cy
    ya, yb = screen[n, a, across] - centre, screen[n, b, across] - centre
    dy = yb - ya
    inverse = 1 / (dy + np.copysign(MIN_SPAN, dy))
    lean = (screen[n, b, along] - screen[n, a, along]) * inverse
    extent = (width, height)
    for end in range(2):
        v = a if end == 0 else b
        weight = grad * (yb * inverse if end == 0 else -ya * inverse)
        inv_w = 1 / pos[n, v, 3]
        for axis in range(2):
            g = weight * (1 if axis == along else -lean) * extent[axis] * 0.5 * inv_w
            out[n, v, axis] += g
            out[n, v, 3] -= g * pos[n, v, axis] * inv_w
