"""Kernels of `texture`: bilinear and trilinear lookups in a 2-D mip pyramid; `cubes` has those for cube maps.

A pyramid is one array, M x texels x C, level after level; `levels` holds (offset, height, width) of each. Texel (i, j) has
its centre at u = (i + 0.5) / width, v = (j + 0.5) / height. A pixel's level is log2 of the longer axis of its footprint in
texels, so level 0 means one texel per pixel. A tap is a texel that a lookup reads. For the gradients to texels, each stretch of
texels belongs to one task, which goes through all pixels in order, so a sum never depends on the number of threads.
Axes: M textures (1, or one per view), P pixels of all views in order, C channels.
"""

import numpy as np
from numba import njit, prange

from recon_lib.threads import parallel_kernel

NEAREST, LINEAR, MIP_NEAREST, MIP_LINEAR = 0, 1, 2, 3
WRAP, CLAMP, ZERO, CUBE = 0, 1, 2, 3
OWNERS, OWNED_BITS = 4, 10  # number of tasks (a power of two), which own stretches of 2^10 texels in turn
CHUNK = 2048  # pixels per task


def halvings(texture: np.ndarray, depth: int) -> list[np.ndarray]:
    """`texture` (M H W C) and its `depth` halvings by 2 x 2 means."""
    stack = [texture]
    for _ in range(depth):
        height, width = stack[-1].shape[1:3]
        rows, columns = min(height, 2), min(width, 2)
        split = stack[-1].reshape(len(texture), height // rows, rows, width // columns, columns, -1)
        stack.append(split.mean(axis=(2, 4)))
    return stack


def join(stack: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The pyramid (M texels C) of the levels in `stack`, each M H W C, and its `levels`: rows of offset, height, width."""
    sizes = np.array([level.shape[1:3] for level in stack], np.int64)
    ends = sizes.prod(1).cumsum()
    flat = [level.reshape(len(level), -1, level.shape[3]) for level in stack]
    texels = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
    return np.ascontiguousarray(texels), np.column_stack([ends - sizes.prod(1), sizes])


def separate(texels: np.ndarray, levels: np.ndarray) -> list[np.ndarray]:
    """The inverse of `join`."""
    return [texels[:, o : o + h * w].reshape(len(texels), h, w, -1) for o, h, w in levels]


def fold(stack: list[np.ndarray]) -> np.ndarray:
    """The transpose of `halvings`: the gradient to the base level (M H W C) from the gradients to all levels."""
    carried = stack[-1]
    for own in stack[-2::-1]:
        rows, columns = own.shape[1] // carried.shape[1], own.shape[2] // carried.shape[2]
        carried = own + carried.repeat(rows, axis=1).repeat(columns, axis=2) / (rows * columns)
    return carried


@njit(cache=True, error_model="numpy")
def _taps(u, v, height, width, boundary, nearest):
    """Left column and top row of the four taps, not wrapped yet; the weights of the right and lower taps; and per axis 1 or
    0, whether the result changes with u or v."""
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
    elif boundary == ZERO:  # the clamp keeps the integer cast in range; every tap beyond the border is zero anyway
        x, y = min(max(x, -2.0), width + 1.0), min(max(y, -2.0), height + 1.0)
    i, j = int(np.floor(x)), int(np.floor(y))
    return i, j, x - i, y - j, moves_x, moves_y


@njit(cache=True, error_model="numpy")
def _inside(i, size, boundary):
    """Column or row of a tap inside its level; -1 for a tap that counts as zero."""
    if boundary == WRAP:  # u and v are in [0, 1) already, so one step back or forth is enough; modulo is slow
        return i + size if i < 0 else (i - size if i >= size else i)
    if boundary == CLAMP:
        return min(max(i, 0), size - 1)
    return i if 0 <= i < size else -1


@njit(cache=True, error_model="numpy")
def _texel(i, j, height, width, boundary):
    """Index of a tap inside its level; -1 for a tap that counts as zero."""
    i, j = _inside(i, width, boundary), _inside(j, height, boundary)
    return j * width + i if i >= 0 and j >= 0 else -1


@njit(cache=True, error_model="numpy")
def _footprint(ux, uy, vx, vy, height, width):
    """Squared length of the footprint's longer axis in texels, and its gradient to the four derivatives."""
    ux, uy, vx, vy = ux * width, uy * width, vx * height, vy * height
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
def between_levels(level, top, mode):
    """The lower level, the weight of the next one, and whether the result changes with the level. NaN counts as level 0."""
    inside = 0 < level < top
    level = min(level, float(top)) if level > 0 else 0.0
    if mode == MIP_NEAREST:  # as in nvdiffrast, the level below rather than the nearer one
        return int(np.floor(level)), 0.0, False
    lower = min(int(np.floor(level)), top - 1)
    return lower, level - lower, inside


@njit(cache=True, error_model="numpy")
def _level(da, bias, p, has_da, has_bias, levels, mode):
    """`between_levels` for one pixel."""
    top = len(levels) - 1
    if mode < MIP_NEAREST or top == 0:
        return 0, 0.0, False
    level = np.float64(bias[p]) if has_bias else 0.0
    if has_da:
        major = _footprint(da[p, 0], da[p, 1], da[p, 2], da[p, 3], levels[0, 1], levels[0, 2])[0]
        level += 0.5 * np.log2(max(major, 1e-30))
    return between_levels(level, top, mode)


@parallel_kernel
def find_taps(count, levels, uv, da, has_da, bias, has_bias, mode, boundary, index, weight):
    """Fills `index` and `weight` (P x 4, or P x 8 for two levels) with each pixel's taps; index -1 for a tap that is zero.

    `count` is the number of textures in the stack; each has the same number of pixels.
    """
    pixels, share_of, stride = len(uv), len(uv) // count, levels[-1, 0] + levels[-1, 1] * levels[-1, 2]
    for task in prange((pixels + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, pixels)):
            base = p // share_of * stride
            lower, mix, _ = _level(da, bias, p, has_da, has_bias, levels, mode)
            for step in range(index.shape[1] // 4):
                share = mix if step else 1 - mix
                which = min(lower + step, len(levels) - 1)
                offset, th, tw = levels[which, 0] + base, levels[which, 1], levels[which, 2]
                i, j, fx, fy, _, _ = _taps(uv[p, 0], uv[p, 1], th, tw, boundary, mode == NEAREST)
                left, right = _inside(i, tw, boundary), _inside(i + 1, tw, boundary)
                top, low = _inside(j, th, boundary), _inside(j + 1, th, boundary)
                index[p, 4 * step] = offset + top * tw + left if top >= 0 and left >= 0 else -1
                index[p, 4 * step + 1] = offset + top * tw + right if top >= 0 and right >= 0 else -1
                index[p, 4 * step + 2] = offset + low * tw + left if low >= 0 and left >= 0 else -1
                index[p, 4 * step + 3] = offset + low * tw + right if low >= 0 and right >= 0 else -1
                weight[p, 4 * step], weight[p, 4 * step + 1] = share * (1 - fx) * (1 - fy), share * fx * (1 - fy)
                weight[p, 4 * step + 2], weight[p, 4 * step + 3] = share * (1 - fx) * fy, share * fx * fy


@njit(cache=True, error_model="numpy")
def gather_run(texels, index, weight, out, start, stop):
    """Fills `out` (P C) for pixels `start` to `stop` - 1 with the weighted sums of their taps in `texels` (M * texels, C)."""
    for p in range(start, stop):
        for c in range(texels.shape[1]):
            total = texels.dtype.type(0)
            for tap in range(index.shape[1]):
                t = index[p, tap]
                if t >= 0:
                    total += weight[p, tap] * texels[t, c]
            out[p, c] = total


@parallel_kernel
def gather(texels, index, weight, out):
    """`gather_run` for all pixels."""
    for task in prange((len(index) + CHUNK - 1) // CHUNK):
        gather_run(texels, index, weight, out, task * CHUNK, min((task + 1) * CHUNK, len(index)))


@parallel_kernel
def scatter(grad_out, index, weight, grad):
    """The transpose of `gather`: adds to `grad` (M * texels, C)."""
    pixels, channels = grad_out.shape
    owners = np.zeros(pixels, np.uint8)  # bit k is set if task k owns some tap of the pixel
    for task in prange((pixels + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, pixels)):
            used = False
            for c in range(channels):
                used |= grad_out[p, c] != 0
            for tap in range(index.shape[1] if used else 0):
                if index[p, tap] >= 0:
                    owners[p] |= 1 << (index[p, tap] >> OWNED_BITS & (OWNERS - 1))
    for owner in prange(OWNERS):
        for p in range(pixels):
            if not owners[p] >> owner & 1:
                continue
            for tap in range(index.shape[1]):
                t = index[p, tap]
                if t >= 0 and t >> OWNED_BITS & (OWNERS - 1) == owner:
                    for c in range(channels):
                        grad[t, c] += weight[p, tap] * grad_out[p, c]


@parallel_kernel
def bilinear_backward_uv(texels, index, uv, height, width, boundary, grad_out, grad_uv):
    """`sample_backward_uv` for one level: fills the gradient to (u, v), zero on entry; `index` holds the taps in `texels`."""
    pixels = len(uv)
    for task in prange((pixels + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, pixels)):
            _, _, fx, fy, moves_x, moves_y = _taps(uv[p, 0], uv[p, 1], height, width, boundary, False)
            t0, t1, t2, t3 = index[p, 0], index[p, 1], index[p, 2], index[p, 3]
            d0, d1, d2, d3 = 0.0, 0.0, 0.0, 0.0  # the loss per unit of each tap's weight
            for c in range(texels.shape[1]):
                g = grad_out[p, c]
                d0 += g * texels[max(t0, 0), c]
                d1 += g * texels[max(t1, 0), c]
                d2 += g * texels[max(t2, 0), c]
                d3 += g * texels[max(t3, 0), c]
            d0, d1 = 0.0 if t0 < 0 else d0, 0.0 if t1 < 0 else d1
            d2, d3 = 0.0 if t2 < 0 else d2, 0.0 if t3 < 0 else d3
            grad_uv[p, 0] = ((1 - fy) * (d1 - d0) + fy * (d3 - d2)) * moves_x * width
            grad_uv[p, 1] = ((1 - fx) * (d2 - d0) + fx * (d3 - d1)) * moves_y * height


@parallel_kernel
def sample_backward_uv(
    texels, levels, uv, da, has_da, bias, has_bias, mode, boundary, grad_out, grad_uv, grad_da, grad_bias
):
    """Fills the gradients to (u, v), to their derivatives per pixel and to the level bias (all zero on entry)."""
    pixels, share_of = len(uv), len(uv) // texels.shape[0]
    for task in prange((pixels + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, pixels)):
            used = False
            for c in range(texels.shape[2]):
                used |= grad_out[p, c] != 0
            if not used:
                continue
            m = p // share_of
            lower, weight, inside = _level(da, bias, p, has_da, has_bias, levels, mode)
            g_level = 0.0
            for step in range(2 if inside or weight > 0 else 1):
                share = weight if step else 1 - weight
                offset, th, tw = levels[lower + step, 0], levels[lower + step, 1], levels[lower + step, 2]
                i, j, fx, fy, moves_x, moves_y = _taps(uv[p, 0], uv[p, 1], th, tw, boundary, mode == NEAREST)
                value, gx, gy = 0.0, 0.0, 0.0
                for tap in range(4):
                    t = _texel(i + (tap & 1), j + (tap >> 1), th, tw, boundary)
                    if t < 0:
                        continue
                    dot = 0.0
                    for c in range(texels.shape[2]):
                        dot += grad_out[p, c] * texels[m, offset + t, c]
                    wx, wy = (fx if tap & 1 else 1 - fx), (fy if tap >> 1 else 1 - fy)
                    value += wx * wy * dot
                    gx += (wy if tap & 1 else -wy) * dot
                    gy += (wx if tap >> 1 else -wx) * dot
                grad_uv[p, 0] += share * gx * moves_x * tw
                grad_uv[p, 1] += share * gy * moves_y * th
                g_level += value if step else -value
            if not inside:
                continue
            if has_bias:
                grad_bias[p] = g_level
            if has_da:
                major, g0, g1, g2, g3 = _footprint(da[p, 0], da[p, 1], da[p, 2], da[p, 3], levels[0, 1], levels[0, 2])
                scale = g_level * 0.5 / (major * np.log(2.0))
                grad_da[p, 0], grad_da[p, 1], grad_da[p, 2], grad_da[p, 3] = (
                    g0 * scale,
                    g1 * scale,
                    g2 * scale,
                    g3 * scale,
                )
