"""Removes lens distortion: a photo through a lens becomes the pinhole photo with the same intrinsics.

Pixels are interpolated bilinearly, the border's are repeated outside. Axes: H W top row first.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from numba import njit

from recon_lib.photos.distortion import Distortion, distort, largest_r2


def undistort(
    rgba: UInt8[np.ndarray, "H W 4"], intrinsics: tuple[float, float, float, float], lens: Distortion
) -> UInt8[np.ndarray, "H W 4"]:
    """The pinhole photo; alpha is 0 where the lens saw nothing. `intrinsics`: fx fy cx cy, pixels."""
    height, width = rgba.shape[:2]
    grid, seen = _grid(width, height, intrinsics, lens)
    out = np.empty_like(rgba)
    _sample(rgba, grid, seen, out)
    return out


@lru_cache(maxsize=2)  # all photos of one camera share it
def _grid(
    width: int, height: int, intrinsics: tuple[float, float, float, float], lens: Distortion
) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel comes from, as a fraction of the photo, -1 to 1 from edge to edge; and whether the lens saw it."""
    fx, fy, cx, cy = intrinsics
    x, y = np.meshgrid(
        ((np.arange(width) + 0.5 - cx) / fx).astype(np.float32),
        ((np.arange(height) + 0.5 - cy) / fy).astype(np.float32),
    )
    x_lens, y_lens = distort(x, y, lens)
    grid = np.stack([(x_lens * fx + cx) * (2 / width) - 1, (y_lens * fy + cy) * (2 / height) - 1], -1)
    seen = (np.abs(grid) <= 1).all(-1) & (x * x + y * y < largest_r2(lens))
    return np.nan_to_num(grid.astype(np.float32), nan=2.0), seen


@njit(nogil=True, cache=True)
def _sample(rgba, grid, seen, out):
    """Colours are weighted by alpha; otherwise the black behind a cut-out object would bleed into its rim."""
    one, half = np.float32(1), np.float32(0.5)
    height, width = rgba.shape[:2]
    for i in range(height):
        for j in range(width):
            x = ((grid[i, j, 0] + one) * np.float32(width) - one) * half
            y = ((grid[i, j, 1] + one) * np.float32(height) - one) * half
            x = min(max(x, np.float32(0)), np.float32(width - 1))
            y = min(max(y, np.float32(0)), np.float32(height - 1))
            x0, y0 = np.floor(x), np.floor(y)
            right, down = x - x0, y - y0
            nw, ne, sw, se = (one - down) * (one - right), (one - down) * right, down * (one - right), down * right
            c0, r0 = int(x0), int(y0)
            c1, r1 = min(c0 + 1, width - 1), min(r0 + 1, height - 1)
            a_nw, a_ne = np.float32(rgba[r0, c0, 3]), np.float32(rgba[r0, c1, 3])
            a_sw, a_se = np.float32(rgba[r1, c0, 3]), np.float32(rgba[r1, c1, 3])
            alpha = a_nw * nw + a_ne * ne + a_sw * sw + a_se * se
            for c in range(3):
                v_nw, v_ne = np.float32(rgba[r0, c0, c]), np.float32(rgba[r0, c1, c])
                v_sw, v_se = np.float32(rgba[r1, c0, c]), np.float32(rgba[r1, c1, c])
                if alpha > half:
                    value = (v_nw * a_nw * nw + v_ne * a_ne * ne + v_sw * a_sw * sw + v_se * a_se * se) / alpha
                else:
                    value = v_nw * nw + v_ne * ne + v_sw * sw + v_se * se
                out[i, j, c] = np.uint8(min(max(np.rint(value), np.float32(0)), np.float32(255)))
            out[i, j, 3] = np.uint8(np.rint(alpha)) if seen[i, j] else np.uint8(0)
