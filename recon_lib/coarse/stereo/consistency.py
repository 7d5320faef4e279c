"""What several depth maps agree on: a depth is kept where at least two other views found the same point.

A point agrees where its projection into another view, taken with the depth found there back into the first, lies within
`PIXELS` and `SHARE` of itself. Kept depths become the mean of those that agree. Axes: B views, H W pixels.
"""

import numpy as np
from jaxtyping import Float32
from numba import prange

from recon_lib.threads import parallel_kernel

PIXELS, SHARE = 1.0, 0.01  # largest distance in the image, and of the depth
AGREEING = 2  # other views at least
WIDEST = 60.0  # degrees between two views that are asked
DEAREST = 0.8  # largest cost of a depth that is asked


def agree(
    inverse: Float32[np.ndarray, "B H W"],
    cost: Float32[np.ndarray, "B H W"],
    M: Float32[np.ndarray, "B B 3 3"],
    m: Float32[np.ndarray, "B B 3"],
    asked: np.ndarray,
) -> Float32[np.ndarray, "B H W"]:
    """Depths, 0 where too few agree. `inverse` are inverse depths, 0 where unknown.

    `M[i, j]` and `m[i, j]` take pixels of i to j (`views.homographies`); `asked` (B B) says which pairs are compared.
    """
    trusted = np.where(cost < DEAREST, inverse, 0).astype(np.float32)
    out = np.zeros_like(inverse)
    for i in range(len(inverse)):
        _agree(trusted, i, M[i], m[i], M[:, i].copy(), m[:, i].copy(), asked[i], out[i])
    return out


@parallel_kernel
def _agree(inverse, i, M, m, M_back, m_back, asked, out):
    _, height, width = inverse.shape
    for y in prange(height):
        for x in range(width):
            w = inverse[i, y, x]
            if w <= 0:
                continue
            total, count = 1 / w, 0
            px, py = x + 0.5, y + 0.5
            for j in range(len(inverse)):
                if not asked[j]:
                    continue
                qz = M[j, 2, 0] * px + M[j, 2, 1] * py + M[j, 2, 2] + w * m[j, 2]
                if qz <= 0:
                    continue
                u = (M[j, 0, 0] * px + M[j, 0, 1] * py + M[j, 0, 2] + w * m[j, 0]) / qz
                v = (M[j, 1, 0] * px + M[j, 1, 1] * py + M[j, 1, 2] + w * m[j, 1]) / qz
                if not (0 <= u < width and 0 <= v < height):
                    continue
                there = inverse[j, int(v), int(u)]
                if there <= 0:
                    continue
                back = M_back[j, 2, 0] * u + M_back[j, 2, 1] * v + M_back[j, 2, 2] + there * m_back[j, 2]
                if back <= 0:
                    continue
                bu = (M_back[j, 0, 0] * u + M_back[j, 0, 1] * v + M_back[j, 0, 2] + there * m_back[j, 0]) / back
                bv = (M_back[j, 1, 0] * u + M_back[j, 1, 1] * v + M_back[j, 1, 2] + there * m_back[j, 1]) / back
                depth = back / there
                if (bu - px) ** 2 + (bv - py) ** 2 > PIXELS * PIXELS or abs(depth * w - 1) > SHARE:
                    continue
                total += depth
                count += 1
            if count >= AGREEING:
                out[y, x] = total / (count + 1)
