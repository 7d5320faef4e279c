"""Kernels of `texture` for cube maps: which texels a pixel reads, and the gradients to texels, directions and levels.

Faces are OpenGL's, in the order +x -x +y -y +z -z. A direction belongs to the face of its longest component, whose length
is `major`; along the face it has the coordinates (sc, tc) of the OpenGL table, from -major to major. Column i and row j of
a face of S x S texels have their centre at sc / major = (2 i + 1) / S - 1 and tc / major = (2 j + 1) / S - 1.
Pyramids are those of `sampling`, with six textures per cube. A tap (a texel that a lookup reads) beyond an edge is the nearest
texel of the face across that edge. Beyond a corner there is no texel: the tap's index is negative, and its weight goes to the
three corner texels in equal parts. These kernels call some of `sampling`, and numba's cache does not notice a change there, so
delete `__pycache__` after one.
Axes: M cubes (1, or one per view), P pixels of all views in order, T texels of all cubes, faces and levels, C channels.
"""

import numpy as np
from numba import njit, prange

from recon_lib.raster import sampling
from recon_lib.threads import parallel_kernel

CHUNK = 512  # pixels per task, so few that their taps stay in the processor's cache until they are gathered
PARTS = 4  # separate sums in `scatter`
MISSING = -(2**30)  # index of a missing tap; negative even after a cube's offset is added


@njit(cache=True, error_model="numpy")
def on_face(x, y, z):
    """Face, sc, tc and major of a direction."""
    ax, ay, az = abs(x), abs(y), abs(z)
    if ax >= ay and ax >= az:
        return (0, -z, -y, ax) if x > 0 else (1, z, -y, ax)
    if ay >= az:
        return (2, x, z, ay) if y > 0 else (3, x, -z, ay)
    return (4, x, -y, az) if z > 0 else (5, -x, -y, az)


@njit(cache=True, error_model="numpy")
def off_face(face, sc, tc, major):
    """The inverse of `on_face`, for directions and for their gradients."""
    if face < 2:
        return (major, -tc, -sc) if face == 0 else (-major, -tc, sc)
    if face < 4:
        return (sc, major, tc) if face == 2 else (sc, -major, -tc)
    return (sc, -tc, major) if face == 4 else (-sc, -tc, -major)


@njit(cache=True, error_model="numpy")
def _texel_beyond(face, i, j, size, stride):
    """Index of the texel one step beyond an edge, counted from the level's start in face 0; MISSING beyond a corner."""
    if not (0 <= i < size or 0 <= j < size):
        return MISSING
    # In half texels. The step beyond the edge lands in the first row of the face across, half a texel from the edge.
    sc, tc = min(max(2 * i + 1 - size, -size), size), min(max(2 * j + 1 - size, -size), size)
    face, sc, tc, _ = on_face(*off_face(face, sc, tc, size - 1))
    return face * stride + (tc + size - 1) // 2 * size + (sc + size - 1) // 2


@njit(cache=True, error_model="numpy")
def seams(levels):
    """Indices of the first cube's texels with a border one texel wide around each face, level after level; and the levels'
    starts in that table."""
    starts = np.zeros(len(levels) + 1, np.int64)
    starts[1:] = np.cumsum(6 * (levels[:, 1] + 2) ** 2)
    table, stride = np.empty(starts[-1], np.int32), levels[-1, 0] + levels[-1, 1] ** 2
    for level in range(len(levels)):
        offset, size, at = levels[level, 0], levels[level, 1], starts[level]
        for face in range(6):
            for j in range(-1, size + 1):
                is_border = j < 0 or j == size
                for i in range(-1, size + 1, 1 if is_border else size + 1):
                    table[at + i + 1] = offset + _texel_beyond(face, i, j, size, stride)
                if not is_border:
                    for i in range(size):
                        table[at + i + 1] = offset + face * stride + j * size + i
                at += size + 2
    return table, starts


@njit(cache=True, error_model="numpy")
def is_direction(x, y, z):
    """Whether a direction is finite and not zero; a lookup along any other is zero."""
    return np.isfinite(x) and np.isfinite(y) and np.isfinite(z) and (x != 0 or y != 0 or z != 0)


@njit(cache=True, error_model="numpy")
def _level(bias, p, levels, mode):
    """`sampling.between_levels` for one pixel."""
    if mode < sampling.MIP_NEAREST or len(levels) == 1:
        return 0, 0.0, False
    return sampling.between_levels(bias[p], len(levels) - 1, mode)


@njit(cache=True, error_model="numpy")
def _without_corner(d0, d1, d2, d3, t0, t1, t2, t3, mean):
    """With `mean`, replaces the missing one of four values by the mean of the others; without, shares it among the others."""
    missing = d0 if t0 < 0 else (d1 if t1 < 0 else (d2 if t2 < 0 else d3))
    own, given = ((d0 + d1 + d2 + d3 - missing) / 3, 0.0) if mean else (0.0, missing / 3)
    return (
        own if t0 < 0 else d0 + given,
        own if t1 < 0 else d1 + given,
        own if t2 < 0 else d2 + given,
        own if t3 < 0 else d3 + given,
    )


@njit(cache=True, error_model="numpy")
def taps(table, start, size, face, s, t, nearest):
    """The four taps around (s, t) of a face, each 0 to 1, and how many texels to the right and downwards it is from the first.

    The level of `size` texels along a side begins at `start` of `table` (see `seams`).
    """
    x, y = s * size + 0.5, t * size + 0.5  # in texels from the centre of the border's corner
    if nearest:
        x, y = np.floor(min(x + 0.5, size)), np.floor(min(y + 0.5, size))
    i, j = int(x), int(y)
    at = start + (face * (size + 2) + j) * (size + 2) + i
    return table[at], table[at + 1], table[at + size + 2], table[at + size + 3], x - i, y - j


@njit(cache=True, error_model="numpy")
def weights(share, fx, fy, t0, t1, t2, t3):
    """The taps' weights in a lookup to which their level contributes `share`."""
    low = share * fy
    w1, w3 = (share - low) * fx, low * fx
    w0, w2 = share - low - w1, low - w3
    if t0 < 0 or t1 < 0 or t2 < 0 or t3 < 0:
        w0, w1, w2, w3 = _without_corner(w0, w1, w2, w3, t0, t1, t2, t3, False)
    return w0, w1, w2, w3


@njit(cache=True, error_model="numpy")
def slopes(d0, d1, d2, d3, fx, fy, t0, t1, t2, t3):
    """What the taps' values d0 to d3 are at a place between them, and how that changes per texel to the right and downwards."""
    if t0 < 0 or t1 < 0 or t2 < 0 or t3 < 0:
        d0, d1, d2, d3 = _without_corner(d0, d1, d2, d3, t0, t1, t2, t3, True)
    right, down, bend = d1 - d0, d2 - d0, d3 - d2 - d1 + d0
    return d0 + fx * right + fy * (down + fx * bend), right + fy * bend, down + fx * bend


@parallel_kernel
def sample(texels, count, levels, table, starts, directions, bias, mode, index, weight, out):
    """Fills `index` and `weight` (P x 4, or P x 8 for two levels) with each pixel's taps, and `out` (P C) with their sums.

    `count` is the number of cubes in `texels` (T C), each with the same number of pixels; `table` and `starts` are the results
    of `seams`.
    """
    pixels, share_of, stride = len(directions), len(directions) // count, levels[-1, 0] + levels[-1, 1] ** 2
    for task in prange((pixels + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, pixels)):
            x, y, z = directions[p, 0], directions[p, 1], directions[p, 2]
            if not is_direction(x, y, z):
                index[p], weight[p] = MISSING, 0
                continue
            face, sc, tc, major = on_face(x, y, z)
            s, t = 0.5 + 0.5 * (sc / major), 0.5 + 0.5 * (tc / major)
            lower, mix, _ = _level(bias, p, levels, mode)
            base = p // share_of * 6 * stride
            for step in range(index.shape[1] // 4):
                share, k = mix if step else 1 - mix, 4 * step
                size = levels[lower + step, 1]
                t0, t1, t2, t3, fx, fy = taps(table, starts[lower + step], size, face, s, t, mode == sampling.NEAREST)
                w0, w1, w2, w3 = weights(share, fx, fy, t0, t1, t2, t3)
                weight[p, k], weight[p, k + 1], weight[p, k + 2], weight[p, k + 3] = w0, w1, w2, w3
                index[p, k], index[p, k + 1] = base + t0, base + t1
                index[p, k + 2], index[p, k + 3] = base + t2, base + t3
        sampling.gather_run(texels, index, weight, out, task * CHUNK, min((task + 1) * CHUNK, pixels))


def scatter(grad_out: np.ndarray, index: np.ndarray, weight: np.ndarray, texels: int) -> np.ndarray:
    """The gradient to the texels (T C) from the gradient to `out` of `sample`.

    A cube has few texels and many pixels, so threads make separate sums. How they are divided and added depends only on sizes.
    """
    parts = np.zeros((PARTS if texels < 2 * len(index) else 1, texels, grad_out.shape[1]), weight.dtype)
    _scatter_parts(grad_out, index, weight, parts)
    return parts.sum(axis=0)


@parallel_kernel
def _scatter_parts(grad_out, index, weight, parts):
    """Sums each run of pixels into its own part of `parts` (parts T C)."""
    share = (len(index) + len(parts) - 1) // len(parts)
    for part in prange(len(parts)):
        for p in range(part * share, min((part + 1) * share, len(index))):
            for c in range(grad_out.shape[1]):
                g = grad_out[p, c]
                if g == 0:
                    continue
                for tap in range(index.shape[1]):
                    t = index[p, tap]
                    if t >= 0:
                        parts[part, t, c] += weight[p, tap] * g


@parallel_kernel
def sample_backward(texels, levels, directions, bias, mode, index, grad_out, grad_directions, grad_bias):
    """Fills the gradients to the directions and to the level bias (both zero on entry); `texels` is T C."""
    pixels = len(directions)
    for task in prange((pixels + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, pixels)):
            used = False
            for c in range(texels.shape[1]):
                used |= grad_out[p, c] != 0
            x, y, z = directions[p, 0], directions[p, 1], directions[p, 2]
            if not used or not is_direction(x, y, z):
                continue
            face, sc, tc, major = on_face(x, y, z)
            sc, tc = sc / major, tc / major
            lower, mix, inside = _level(bias, p, levels, mode)
            g_sc, g_tc, g_level = 0.0, 0.0, 0.0
            for step in range(index.shape[1] // 4):
                share, k = mix if step else 1 - mix, 4 * step
                size = levels[lower + step, 1]
                x, y = (0.5 + 0.5 * sc) * size + 0.5, (0.5 + 0.5 * tc) * size + 0.5
                fx, fy = x - int(x), y - int(y)
                t0, t1, t2, t3 = index[p, k], index[p, k + 1], index[p, k + 2], index[p, k + 3]
                d0, d1, d2, d3 = 0.0, 0.0, 0.0, 0.0  # the loss per unit of each tap's weight
                for c in range(texels.shape[1]):
                    g = grad_out[p, c]
                    d0 += g * texels[max(t0, 0), c]
                    d1 += g * texels[max(t1, 0), c]
                    d2 += g * texels[max(t2, 0), c]
                    d3 += g * texels[max(t3, 0), c]
                value, right, down = slopes(d0, d1, d2, d3, fx, fy, t0, t1, t2, t3)
                g_sc += share * 0.5 * size * right
                g_tc += share * 0.5 * size * down
                g_level += value if step else -value
            g_major = -(g_sc * sc + g_tc * tc)
            gx, gy, gz = off_face(face, g_sc / major, g_tc / major, g_major / major)
            grad_directions[p, 0], grad_directions[p, 1], grad_directions[p, 2] = gx, gy, gz
            if inside:
                grad_bias[p] = g_level
