"""Kernels of `texture`: bilinear and trilinear lookups in a 2-D mip pyramid.

A pyramid is one array, M x texels x C, level after level; `levels` holds (offset, height, width) of each. Texel (i, j) has
its centre at u = (i + 0.5) / width, v = (j + 0.5) / height. A level is half of log2 of the larger squared axis of the pixel's
footprint in texels, so a level of 0 means one texel a pixel. Gradients to texels: each chunk of texel rows belongs to one
task, which walks all pixels in order, so a texel's sum never depends on the number of threads.
"""

import numpy as np
from numba import njit, prange

NEAREST, LINEAR, MIP_NEAREST, MIP_LINEAR = 0, 1, 2, 3
WRAP, CLAMP, ZERO = 0, 1, 2
OWNERS = 4


def build_pyramid(texture: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Stacks `texture` (M H W C) and `depth` halvings of it by 2 x 2 means."""
    stack, levels, offset = [], [], 0
    level = texture
    for index in range(depth + 1):
        height, width = level.shape[1:3]
        stack.append(level.reshape(level.shape[0], -1, level.shape[3]))
        levels.append((offset, height, width))
        offset += height * width
        if index < depth:
            rows, columns = min(height, 2), min(width, 2)
            split = level.reshape(len(level), height // rows, rows, width // columns, columns, -1)
            level = split.mean(axis=(2, 4))
    texels = stack[0] if depth == 0 else np.concatenate(stack, axis=1)
    return np.ascontiguousarray(texels), np.array(levels, np.int64)


def fold_pyramid(grad: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Transpose of `build_pyramid`: the gradient to the base level, M H W C."""
    carried = None
    for offset, height, width in levels[::-1]:
        own = grad[:, offset : offset + height * width].reshape(len(grad), height, width, -1)
        if carried is not None:
            rows, columns = height // carried.shape[1], width // carried.shape[2]
            own = own + carried.repeat(rows, axis=1).repeat(columns, axis=2) / (rows * columns)
        carried = own
    return carried


@njit(cache=True, error_model="numpy")
def _taps(u, v, height, width, boundary, nearest):
    """Left column, top row (unwrapped), weights to the right and down, and 1 or 0: does (u, v) move the result."""
    if boundary == WRAP:
        u, v = u - np.floor(u), v - np.floor(v)
    x, y = u * width - 0.5, v * height - 0.5
    moves_x, moves_y = 1.0, 1.0
    if nearest:
        x, y = np.floor(x + 0.5), np.floor(y + 0.5)
    if boundary == CLAMP:
        moves_x = 1.0 if 0 < x < width - 1 else 0.0
        moves_y = 1.0 if 0 < y < height - 1 else 0.0
        x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    elif boundary == ZERO:  # keeps the integer cast in range; every tap beyond the border is zero
        x, y = min(max(x, -2.0), width + 1.0), min(max(y, -2.0), height + 1.0)
    i, j = int(np.floor(x)), int(np.floor(y))
    return i, j, x - i, y - j, moves_x, moves_y


@njit(cache=True, error_model="numpy")
def _texel(i, j, height, width, boundary):
    """Index of a tap inside its level; -1 for a tap that counts as zero."""
    if boundary == WRAP:
        i, j = i % width, j % height
    elif boundary == CLAMP:
        i, j = min(max(i, 0), width - 1), min(max(j, 0), height - 1)
    elif i < 0 or j < 0 or i >= width or j >= height:
        return -1
    return j * width + i


@njit(cache=True, error_model="numpy")
def _footprint(da, height, width):
    """Squared length of the footprint's longer axis in texels, and its gradient to the four derivatives."""
    ux, uy, vx, vy = da[0] * width, da[1] * width, da[2] * height, da[3] * height
    a, b, c = ux * ux + uy * uy, vx * vx + vy * vy, ux * vx + uy * vy
    root = np.sqrt(0.25 * (a - b) * (a - b) + c * c)
    # Largest eigenvalue of [[a, c], [c, b]].
    major = 0.5 * (a + b) + root
    ga = 0.5 + (0.25 * (a - b) / root if root > 0 else 0.0)
    gb = 1 - ga
    gc = c / root if root > 0 else 0.0
    return (
        major,
        (2 * ux * ga + vx * gc) * width,
        (2 * uy * ga + vy * gc) * width,
        (2 * vx * gb + ux * gc) * height,
        (2 * vy * gb + uy * gc) * height,
    )


@njit(cache=True, error_model="numpy")
def _level(da, bias, has_da, levels, mode):
    """Lower level, weight of the next one, and whether the level moves with its inputs."""
    top = len(levels) - 1
    if mode < MIP_NEAREST or top == 0:
        return 0, 0.0, False
    level = bias
    if has_da:
        major = _footprint(da, levels[0, 1], levels[0, 2])[0]
        level += 0.5 * np.log2(max(major, 1e-30))
    inside = 0 < level < top
    level = min(max(level, 0.0), float(top))
    if mode == MIP_NEAREST:
        return int(np.floor(level + 0.5)), 0.0, False
    lower = min(int(np.floor(level)), top - 1)
    return lower, level - lower, inside


@njit(parallel=True, cache=True, error_model="numpy")
def sample(texels, levels, uv, da, has_da, bias, has_bias, mode, boundary, out):
    """Fills `out` (N H W C, zero on entry)."""
    views, height, width = uv.shape[0], uv.shape[1], uv.shape[2]
    for task in prange(views * height):
        n, py = task // height, task % height
        m = n if texels.shape[0] > 1 else 0
        for px in range(width):
            b = bias[n, py, px] if has_bias else 0.0
            lower, weight, _ = _level(da[n, py, px] if has_da else da[0, 0, 0], b, has_da, levels, mode)
            for step in range(2):
                share = weight if step else 1 - weight
                if share == 0:
                    continue
                offset, th, tw = levels[lower + step]
                i, j, fx, fy, _, _ = _taps(uv[n, py, px, 0], uv[n, py, px, 1], th, tw, boundary, mode == NEAREST)
                for tap in range(4):
                    w = share * (fx if tap % 2 else 1 - fx) * (fy if tap // 2 else 1 - fy)
                    t = _texel(i + tap % 2, j + tap // 2, th, tw, boundary)
                    if w == 0 or t < 0:
                        continue
                    for c in range(texels.shape[2]):
                        out[n, py, px, c] += w * texels[m, offset + t, c]


@njit(parallel=True, cache=True, error_model="numpy")
def sample_backward_texels(texels, levels, uv, da, has_da, bias, has_bias, mode, boundary, grad_out):
    """Gradient to the pyramid."""
    views, height, width = uv.shape[0], uv.shape[1], uv.shape[2]
    channels = texels.shape[2]
    grad = np.zeros(texels.shape, texels.dtype)
    for owner in prange(OWNERS):
        for n in range(views):
            m = n if texels.shape[0] > 1 else 0
            for py in range(height):
                for px in range(width):
                    used = False
                    for c in range(channels):
                        used |= grad_out[n, py, px, c] != 0
                    if not used:
                        continue
                    b = bias[n, py, px] if has_bias else 0.0
                    lower, weight, _ = _level(da[n, py, px] if has_da else da[0, 0, 0], b, has_da, levels, mode)
                    for step in range(2):
                        share = weight if step else 1 - weight
                        if share == 0:
                            continue
                        offset, th, tw = levels[lower + step]
                        i, j, fx, fy, _, _ = _taps(
                            uv[n, py, px, 0], uv[n, py, px, 1], th, tw, boundary, mode == NEAREST
                        )
                        for tap in range(4):
                            w = share * (fx if tap % 2 else 1 - fx) * (fy if tap // 2 else 1 - fy)
                            t = _texel(i + tap % 2, j + tap // 2, th, tw, boundary)
                            if w == 0 or t < 0 or (t // tw) // 8 % OWNERS != owner:
                                continue
                            for c in range(channels):
                                grad[m, offset + t, c] += w * grad_out[n, py, px, c]
    return grad


@njit(parallel=True, cache=True, error_model="numpy")
def sample_backward_uv(
    texels, levels, uv, da, has_da, bias, has_bias, mode, boundary, grad_out, grad_uv, grad_da, grad_bias
):
    """Fills the gradients to (u, v), to their pixel derivatives and to the level bias (all zero on entry)."""
    views, height, width = uv.shape[0], uv.shape[1], uv.shape[2]
    for task in prange(views * height):
        n, py = task // height, task % height
        m = n if texels.shape[0] > 1 else 0
        for px in range(width):
            b = bias[n, py, px] if has_bias else 0.0
            own = da[n, py, px] if has_da else da[0, 0, 0]
            lower, weight, inside = _level(own, b, has_da, levels, mode)
            g_level = 0.0
            for step in range(2):
                share = weight if step else 1 - weight
                if share == 0 and not inside:
                    continue
                offset, th, tw = levels[lower + step]
                i, j, fx, fy, moves_x, moves_y = _taps(
                    uv[n, py, px, 0], uv[n, py, px, 1], th, tw, boundary, mode == NEAREST
                )
                value, gx, gy = 0.0, 0.0, 0.0
                for tap in range(4):
                    t = _texel(i + tap % 2, j + tap // 2, th, tw, boundary)
                    if t < 0:
                        continue
                    dot = 0.0
                    for c in range(texels.shape[2]):
                        dot += grad_out[n, py, px, c] * texels[m, offset + t, c]
                    wx, wy = (fx if tap % 2 else 1 - fx), (fy if tap // 2 else 1 - fy)
                    value += wx * wy * dot
                    gx += (1 if tap % 2 else -1) * wy * dot
                    gy += (1 if tap // 2 else -1) * wx * dot
                grad_uv[n, py, px, 0] += share * gx * moves_x * tw
                grad_uv[n, py, px, 1] += share * gy * moves_y * th
                g_level += value if step else -value
            if not inside:
                continue
            if has_bias:
                grad_bias[n, py, px] = g_level
            if has_da:
                major, g0, g1, g2, g3 = _footprint(own, levels[0, 1], levels[0, 2])
                scale = g_level * 0.5 / (major * np.log(2.0))
                grad_da[n, py, px, 0], grad_da[n, py, px, 1] = g0 * scale, g1 * scale
                grad_da[n, py, px, 2], grad_da[n, py, px, 3] = g2 * scale, g3 * scale
