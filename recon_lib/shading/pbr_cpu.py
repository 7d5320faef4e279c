"""`pbr.radiance` on the CPU in one kernel forward and one backward, instead of a hundred passes over all points.

`pbr` is the description and the oracle. Whatever the number of threads, results are the same bits: a point's values depend on
no other point, and the light's gradient is summed in PARTS runs of points. These kernels call some of `cubes` and `sampling`,
and numba's cache does not notice a change there, so delete `__pycache__` after one. Axes: P points, T texels of all faces and
levels.
"""

from functools import cache

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from recon_lib.raster import cubes, sampling
from recon_lib.shading.environment import MIRROR, Light
from recon_lib.shading.pbr import DIELECTRIC_F0, GRAZING
from recon_lib.threads import parallel_kernel

CHUNK = 512  # points per task
PARTS = 8  # separate sums of the light's gradient


def radiance(smooth: Tensor, towards: Tensor, base_colour: Tensor, values: Tensor, light: Light) -> Tensor:
    """As `pbr.radiance`."""
    cubes_ = light.irradiance, *light.specular
    return _Radiance.apply(smooth, towards, base_colour, values, light.table, *cubes_)


class _Radiance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, smooth, towards, base_colour, values, table, irradiance, *specular):
        ctx.points = [x.detach().contiguous().numpy() for x in (smooth, towards, base_colour, values)]
        ctx.light = _cube(*specular), _cube(irradiance), table.numpy()
        out = np.empty_like(ctx.points[0])
        ctx.kept = np.empty((len(out), 8), out.dtype)
        _shade(*ctx.points, *ctx.light, out, ctx.kept)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad_out):
        specular, irradiance = ctx.light[:2]
        grads = [np.empty_like(x) for x in ctx.points]
        sums = [np.zeros((PARTS, *texels.shape), texels.dtype) for texels, *_ in (specular, irradiance)]
        _shade_backward(*ctx.points, *ctx.light, ctx.kept, grad_out.contiguous().numpy(), *grads, *sums)
        of_specular, of_irradiance = (
            sampling.separate(parts.sum(0).reshape(6, -1, 3), levels)
            for parts, (_, levels, *_) in zip(sums, (specular, irradiance), strict=True)
        )
        levels = [torch.from_numpy(np.ascontiguousarray(level)) for level in (*of_irradiance, *of_specular)]
        return *map(torch.from_numpy, grads), None, *levels


def _cube(*stack: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A cube's texels (T 3), its levels as `sampling.join` gives them, and its `cubes.seams`."""
    texels, levels = sampling.join([level.detach().contiguous().numpy() for level in stack])
    return texels.reshape(-1, 3), levels, *_seams(levels.tobytes())


@cache
def _seams(levels: bytes) -> tuple[np.ndarray, np.ndarray]:
    return cubes.seams(np.frombuffer(levels, np.int64).reshape(-1, 3).copy())


@njit(cache=True, error_model="numpy")
def _unit(x, y, z):
    """The unit vector, and the inverse of the length."""
    inverse = 1 / np.sqrt(max(x * x + y * y + z * z, 1e-20))
    return x * inverse, y * inverse, z * inverse, inverse


@njit(cache=True, error_model="numpy")
def _unit_backward(x, y, z, inverse, gx, gy, gz):
    """The gradient to the vector of which `_unit` gave these (x, y, z) and `inverse`."""
    along = x * gx + y * gy + z * gz
    return inverse * (gx - along * x), inverse * (gy - along * y), inverse * (gz - along * z)


@njit(cache=True, error_model="numpy")
def _level(roughness, top):
    """The level of the specular cube, and its slope."""
    slope = top / (1 - MIRROR)
    level = (roughness - MIRROR) * slope
    return min(max(level, 0.0), float(top)), slope if 0 <= level <= top else 0.0


@njit(cache=True, error_model="numpy")
def _split_sum(split, n_dot_v, roughness):
    """The first column and row of the split sum's table, how far beyond them the place is, and, per axis, 1 or 0, whether the
    result changes with n.v or roughness."""
    rows, columns = split.shape[0], split.shape[1]
    x, y = n_dot_v * columns - 0.5, roughness * rows - 0.5
    moves_x, moves_y = 1.0 if 0 < x < columns - 1 else 0.0, 1.0 if 0 < y < rows - 1 else 0.0
    i, j = min(max(int(x), 0), columns - 2), min(max(int(y), 0), rows - 2)
    return i, j, min(max(x - i, 0.0), 1.0), min(max(y - j, 0.0), 1.0), moves_x, moves_y


@njit(cache=True, error_model="numpy")
def _between(level, top):
    """`sampling.between_levels`, also for a cube of one level, whose `top` is 0."""
    return sampling.between_levels(level, top, sampling.MIP_LINEAR) if top > 0 else (0, 0.0, False)


@njit(cache=True, error_model="numpy")
def _look(texels, levels, table, starts, level, x, y, z):
    """The colour of the cube in a direction, interpolated between texels and levels."""
    if not cubes.is_direction(x, y, z):
        return 0.0, 0.0, 0.0
    lower, mix, _ = _between(level, len(levels) - 1)
    face, sc, tc, major = cubes.on_face(x, y, z)
    r, g, b = 0.0, 0.0, 0.0
    for step in range(2 if mix > 0 else 1):
        start, size = starts[lower + step], levels[lower + step, 1]
        t0, t1, t2, t3, fx, fy = cubes.taps(
            table, start, size, face, 0.5 + 0.5 * (sc / major), 0.5 + 0.5 * (tc / major), False
        )
        w0, w1, w2, w3 = cubes.weights(mix if step else 1 - mix, fx, fy, t0, t1, t2, t3)
        t0, t1, t2, t3 = max(t0, 0), max(t1, 0), max(t2, 0), max(t3, 0)
        r += w0 * texels[t0, 0] + w1 * texels[t1, 0] + w2 * texels[t2, 0] + w3 * texels[t3, 0]
        g += w0 * texels[t0, 1] + w1 * texels[t1, 1] + w2 * texels[t2, 1] + w3 * texels[t3, 1]
        b += w0 * texels[t0, 2] + w1 * texels[t1, 2] + w2 * texels[t2, 2] + w3 * texels[t3, 2]
    return r, g, b


@njit(cache=True, error_model="numpy")
def _look_backward(texels, levels, table, starts, level, x, y, z, gr, gg, gb, grad):
    """Adds the gradient to the texels to `grad` (T 3); returns those to the direction and to the level."""
    if not cubes.is_direction(x, y, z):
        return 0.0, 0.0, 0.0, 0.0
    lower, mix, inside = _between(level, len(levels) - 1)
    face, sc, tc, major = cubes.on_face(x, y, z)
    sc, tc = sc / major, tc / major
    g_sc, g_tc, g_level = 0.0, 0.0, 0.0
    for step in range(2 if inside or mix > 0 else 1):
        start, size = starts[lower + step], levels[lower + step, 1]
        t0, t1, t2, t3, fx, fy = cubes.taps(table, start, size, face, 0.5 + 0.5 * sc, 0.5 + 0.5 * tc, False)
        share = mix if step else 1 - mix
        w0, w1, w2, w3 = cubes.weights(share, fx, fy, t0, t1, t2, t3)
        d0, d1 = _add(texels, grad, t0, w0, gr, gg, gb), _add(texels, grad, t1, w1, gr, gg, gb)
        d2, d3 = _add(texels, grad, t2, w2, gr, gg, gb), _add(texels, grad, t3, w3, gr, gg, gb)
        value, right, down = cubes.slopes(d0, d1, d2, d3, fx, fy, t0, t1, t2, t3)
        g_sc += share * 0.5 * size * right
        g_tc += share * 0.5 * size * down
        g_level += value if step else -value
    g_major = -(g_sc * sc + g_tc * tc)
    gx, gy, gz = cubes.off_face(face, g_sc / major, g_tc / major, g_major / major)
    return gx, gy, gz, g_level if inside else 0.0


@njit(cache=True, error_model="numpy")
def _add(texels, grad, t, weight, gr, gg, gb):
    """Adds a tap's part of the gradient to `grad`, and returns the loss per unit of the tap's weight; 0 for a missing tap."""
    if t < 0:
        return 0.0
    grad[t, 0] += weight * gr
    grad[t, 1] += weight * gg
    grad[t, 2] += weight * gb
    return gr * texels[t, 0] + gg * texels[t, 1] + gb * texels[t, 2]


@njit(cache=True, error_model="numpy")
def _normal(smooth, towards, values, p):
    """The shading normal bent towards the eye; the vectors on the way to it, each with its inverse length; and n.v before."""
    sx, sy, sz, s_inverse = _unit(np.float64(smooth[p, 0]), np.float64(smooth[p, 1]), np.float64(smooth[p, 2]))
    ex, ey, ez, e_inverse = _unit(np.float64(towards[p, 0]), np.float64(towards[p, 1]), np.float64(towards[p, 2]))
    nx, ny, nz, n_inverse = _unit(sx + values[p, 3], sy + values[p, 4], sz + values[p, 5])
    n_dot_v = nx * ex + ny * ey + nz * ez
    bend = max(GRAZING - n_dot_v, 0.0)
    normal = _unit(nx + bend * ex, ny + bend * ey, nz + bend * ez)
    return normal, (sx, sy, sz, s_inverse), (ex, ey, ez, e_inverse), (nx, ny, nz, n_inverse), n_dot_v


@parallel_kernel
def _shade(smooth, towards, base_colour, values, specular, irradiance, split, out, kept):
    """Fills `out` (P 3), and `kept` (P 8) with what `_shade_backward` needs again."""
    texels, levels, table, starts = specular
    even_texels, even_levels, even_table, even_starts = irradiance
    for task in prange((len(out) + CHUNK - 1) // CHUNK):
        for p in range(task * CHUNK, min((task + 1) * CHUNK, len(out))):
            (nx, ny, nz, _), _, (ex, ey, ez, _), _, _ = _normal(smooth, towards, values, p)
            occlusion, roughness, metallic = (
                np.float64(values[p, 0]),
                np.float64(values[p, 1]),
                np.float64(values[p, 2]),
            )
            n_dot_v = nx * ex + ny * ey + nz * ez
            level, _ = _level(roughness, len(levels) - 1)
            rx, ry, rz = 2 * n_dot_v * nx - ex, 2 * n_dot_v * ny - ey, 2 * n_dot_v * nz - ez
            lobe = _look(texels, levels, table, starts, level, rx, ry, rz)
            diffuse = _look(even_texels, even_levels, even_table, even_starts, 0.0, nx, ny, nz)
            i, j, fx, fy, _, _ = _split_sum(split, n_dot_v, roughness)
            a, b, c, d = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
            scale = a * split[j, i, 0] + b * split[j, i + 1, 0] + c * split[j + 1, i, 0] + d * split[j + 1, i + 1, 0]
            bias = a * split[j, i, 1] + b * split[j, i + 1, 1] + c * split[j + 1, i, 1] + d * split[j + 1, i + 1, 1]
            whole, left = DIELECTRIC_F0 * (1 - metallic) * scale + bias, 1 - (DIELECTRIC_F0 * scale + bias)
            for k in range(3):
                base = np.float64(base_colour[p, k])
                lit = base * ((1 - metallic) * left) * diffuse[k] + lobe[k] * (base * metallic * scale + whole)
                out[p, k] = occlusion * lit
                kept[p, k], kept[p, 3 + k] = lobe[k], diffuse[k]
            kept[p, 6], kept[p, 7] = scale, bias


@parallel_kernel
def _shade_backward(
    smooth, towards, base_colour, values, specular, irradiance, split, kept, grad_out,
    g_smooth, g_towards, g_base, g_values, g_specular, g_irradiance,
):  # fmt: skip
    """Fills the gradients to the points' values, and adds those to the cubes to `g_specular` and `g_irradiance` (PARTS T 3)."""
    texels, levels, table, starts = specular
    even_texels, even_levels, even_table, even_starts = irradiance
    count, parts = len(grad_out), len(g_specular)
    share = (count + parts - 1) // parts
    for part in prange(parts):
        g_texels, g_even = g_specular[part], g_irradiance[part]
        for p in range(part * share, min((part + 1) * share, count)):
            g0, g1, g2 = np.float64(grad_out[p, 0]), np.float64(grad_out[p, 1]), np.float64(grad_out[p, 2])
            if g0 == 0 and g1 == 0 and g2 == 0:
                for k in range(3):
                    g_smooth[p, k], g_towards[p, k], g_base[p, k], g_values[p, k], g_values[p, 3 + k] = 0, 0, 0, 0, 0
                continue
            normal, smooth_unit, eye, n, n_dot_v_before = _normal(smooth, towards, values, p)
            (nx, ny, nz, _), (ex, ey, ez, _) = normal, eye
            occlusion, roughness, metallic = (
                np.float64(values[p, 0]),
                np.float64(values[p, 1]),
                np.float64(values[p, 2]),
            )
            n_dot_v, dielectric = nx * ex + ny * ey + nz * ez, 1 - metallic
            scale, bias = np.float64(kept[p, 6]), np.float64(kept[p, 7])
            whole, left = DIELECTRIC_F0 * dielectric * scale + bias, 1 - (DIELECTRIC_F0 * scale + bias)

            g_occlusion, g_metallic, g_left, g_scale, g_bias = 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(3):
                g, base = np.float64(grad_out[p, k]), np.float64(base_colour[p, k])
                lobe, diffuse = np.float64(kept[p, k]), np.float64(kept[p, 3 + k])
                g_occlusion += g * (base * (dielectric * left) * diffuse + lobe * (base * metallic * scale + whole))
                g *= occlusion
                g_base[p, k] = g * (dielectric * left * diffuse + lobe * scale * metallic)
                g_metallic += g * (lobe * scale * (base - DIELECTRIC_F0) - base * left * diffuse)
                g_left += g * base * dielectric * diffuse
                g_scale += g * lobe * (DIELECTRIC_F0 * dielectric + base * metallic)
                g_bias += g * lobe
            g_scale, g_bias = g_scale - DIELECTRIC_F0 * g_left, g_bias - g_left
            i, j, fx, fy, moves_x, moves_y = _split_sum(split, n_dot_v, roughness)
            d0 = g_scale * split[j, i, 0] + g_bias * split[j, i, 1]
            d1 = g_scale * split[j, i + 1, 0] + g_bias * split[j, i + 1, 1]
            d2 = g_scale * split[j + 1, i, 0] + g_bias * split[j + 1, i, 1]
            d3 = g_scale * split[j + 1, i + 1, 0] + g_bias * split[j + 1, i + 1, 1]
            g_n_dot_v = moves_x * split.shape[1] * ((1 - fy) * (d1 - d0) + fy * (d3 - d2))
            g_roughness = moves_y * split.shape[0] * ((1 - fx) * (d2 - d0) + fx * (d3 - d1))

            g0, g1, g2 = g0 * occlusion, g1 * occlusion, g2 * occlusion
            b0, b1, b2 = np.float64(base_colour[p, 0]), np.float64(base_colour[p, 1]), np.float64(base_colour[p, 2])
            level, level_slope = _level(roughness, len(levels) - 1)
            tint, own = metallic * scale, dielectric * left
            gx, gy, gz, g_level = _look_backward(
                texels, levels, table, starts, level,
                2 * n_dot_v * nx - ex, 2 * n_dot_v * ny - ey, 2 * n_dot_v * nz - ez,
                g0 * (b0 * tint + whole), g1 * (b1 * tint + whole), g2 * (b2 * tint + whole), g_texels,
            )  # fmt: skip
            ix, iy, iz, _ = _look_backward(
                even_texels, even_levels, even_table, even_starts, 0.0, nx, ny, nz,
                g0 * b0 * own, g1 * b1 * own, g2 * b2 * own, g_even,
            )  # fmt: skip
            # The reflected direction is 2 (n.v) n - e.
            g_n_dot_v += 2 * (nx * gx + ny * gy + nz * gz)
            ux, uy, uz = _unit_backward(
                *normal, ix + 2 * n_dot_v * gx + g_n_dot_v * ex, iy + 2 * n_dot_v * gy + g_n_dot_v * ey,
                iz + 2 * n_dot_v * gz + g_n_dot_v * ez,
            )  # fmt: skip
            vx, vy, vz = g_n_dot_v * nx - gx, g_n_dot_v * ny - gy, g_n_dot_v * nz - gz
            bend = GRAZING - n_dot_v_before
            if bend >= 0:
                turn = -(ux * ex + uy * ey + uz * ez)
                vx, vy, vz = vx + bend * ux + turn * n[0], vy + bend * uy + turn * n[1], vz + bend * uz + turn * n[2]
                ux, uy, uz = ux + turn * ex, uy + turn * ey, uz + turn * ez
            ox, oy, oz = _unit_backward(*n, ux, uy, uz)
            g_values[p, 0], g_values[p, 1], g_values[p, 2] = (
                g_occlusion,
                g_roughness + g_level * level_slope,
                g_metallic,
            )
            g_values[p, 3], g_values[p, 4], g_values[p, 5] = ox, oy, oz
            g_smooth[p, 0], g_smooth[p, 1], g_smooth[p, 2] = _unit_backward(*smooth_unit, ox, oy, oz)
            g_towards[p, 0], g_towards[p, 1], g_towards[p, 2] = _unit_backward(*eye, vx, vy, vz)
