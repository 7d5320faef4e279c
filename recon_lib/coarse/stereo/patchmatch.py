"""PatchMatch over slanted planes in inverse depth, kernels: which plane makes a pixel's patch look alike in other photos.

The cost of a plane in one other photo is 1 - ZNCC of the patch around the pixel and its image under the plane's homography,
taken as affine over the patch. Pixels that look unlike the patch's centre count less (bilateral weights), so a patch does not
bleed over an edge. ZNCC does not see exposure. The cost is the mean over the `BEST` photos that agree best, because a pixel may
be hidden in the others. Pixels of a chessboard's one colour ask those of the other for better planes, so rows run in parallel
and the result does not depend on the number of threads. All numbers are float32.
"""

import numpy as np
from numba import njit, prange

from recon_lib.threads import parallel_kernel

HALF = 5  # pixels from the patch's centre to its border
STRIDE = 2  # pixels between the patch's samples
SAMPLES = (2 * HALF // STRIDE + 1) ** 2
DY, DX = np.mgrid[-HALF : HALF + 1 : STRIDE, -HALF : HALF + 1 : STRIDE].astype(np.float32).reshape(2, -1)
BEST = 2  # photos that count
WORST, OUTSIDE_MASK, OUTSIDE_IMAGE = np.float32(2), np.float32(2), np.float32(3)  # costs
VARIANCE = np.float32(5e-4)  # of grey values 0 to 1, added to both variances: an even patch is like nothing
SIGMA_GREY = np.float32(0.12)  # bilateral weight
SIGMA_PIXELS = np.float32(5.0)


@njit(cache=True, error_model="numpy")
def _random(state):
    """xorshift32: the next state."""
    state ^= np.uint32(state << np.uint32(13))
    state ^= np.uint32(state >> np.uint32(17))
    state ^= np.uint32(state << np.uint32(5))
    return state


@njit(cache=True, error_model="numpy")
def _uniform(state):
    return np.float32(state >> np.uint32(8)) * np.float32(1 / 16777216)


@njit(cache=True, error_model="numpy")
def _patch(grey, y, x, weights, values):
    """Fills the bilateral weights (sum 1) and grey values of the patch; returns its weighted mean and variance."""
    height, width = grey.shape
    centre, total, k = grey[y, x], np.float32(0), 0
    for dy in range(-HALF, HALF + 1, STRIDE):
        for dx in range(-HALF, HALF + 1, STRIDE):
            value = grey[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
            far = np.sqrt(np.float32(dx * dx + dy * dy)) / SIGMA_PIXELS
            weight = np.exp(-abs(value - centre) / SIGMA_GREY - far)
            weights[k], values[k] = weight, value
            total += weight
            k += 1
    mean = np.float32(0)
    for k in range(SAMPLES):
        weights[k] /= total
        mean += weights[k] * values[k]
    variance = np.float32(0)
    for k in range(SAMPLES):
        values[k] -= mean
        variance += weights[k] * values[k] * values[k]
    return mean, variance


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _cost_in(flat, mask, M, m, y, x, w, wx, wy, weights, values, variance):
    """1 - ZNCC in one other photo, whose grey values come row by row.

    `M` (3 3) and `m` (3) take (x, y, 1) and w to its homogeneous pixel.
    """
    height, width = mask.shape
    px, py = np.float32(x) + np.float32(0.5), np.float32(y) + np.float32(0.5)
    qx = M[0, 0] * px + M[0, 1] * py + M[0, 2] + w * m[0]
    qy = M[1, 0] * px + M[1, 1] * py + M[1, 2] + w * m[1]
    qz = M[2, 0] * px + M[2, 1] * py + M[2, 2] + w * m[2]
    if qz <= np.float32(1e-9):
        return OUTSIDE_IMAGE
    inverse = np.float32(1) / qz
    u, v = qx * inverse, qy * inverse
    if not (u >= 0 and v >= 0 and u < width and v < height):
        return OUTSIDE_IMAGE
    if not mask[int(v), int(u)]:
        return OUTSIDE_MASK
    zx, zy = M[2, 0] + wx * m[2], M[2, 1] + wy * m[2]
    ux, uy = (M[0, 0] + wx * m[0] - u * zx) * inverse, (M[0, 1] + wy * m[0] - u * zy) * inverse
    vx, vy = (M[1, 0] + wx * m[1] - v * zx) * inverse, (M[1, 1] + wy * m[1] - v * zy) * inverse
    u -= np.float32(0.5)
    v -= np.float32(0.5)
    total, squares, product = np.float32(0), np.float32(0), np.float32(0)
    most_x, most_y = np.float32(width) - np.float32(1.001), np.float32(height) - np.float32(1.001)
    zero, across = np.float32(0), np.uint32(width)
    for k in range(SAMPLES):
        a = min(max(u + ux * DX[k] + uy * DY[k], zero), most_x)
        b = min(max(v + vx * DX[k] + vy * DY[k], zero), most_y)
        c, r = np.uint32(a), np.uint32(b)
        fa, fb = a - np.float32(c), b - np.float32(r)
        at = np.uint32(r * across + c)
        above, below = flat[at], flat[np.uint32(at + across)]
        top = above + (flat[np.uint32(at + np.uint32(1))] - above) * fa
        low = below + (flat[np.uint32(at + across + np.uint32(1))] - below) * fa
        value = top + (low - top) * fb
        weighted = weights[k] * value
        total += weighted
        squares += weighted * value
        product += weighted * values[k]
    spread = max(squares - total * total, np.float32(0))
    return np.float32(1) - product / np.sqrt((variance + VARIANCE) * (spread + VARIANCE))


@njit(cache=True, error_model="numpy")
def _cost(greys, masks, neighbours, M, m, y, x, w, wx, wy, weights, values, variance):
    """Mean over the photos that agree best."""
    first, second = WORST, WORST
    for n in range(len(neighbours)):
        j = neighbours[n]
        if j < 0:
            continue
        cost = _cost_in(greys[j].ravel(), masks[j], M[n], m[n], y, x, w, wx, wy, weights, values, variance)
        if cost < first:
            first, second = cost, first
        elif cost < second:
            second = cost
    return np.float32(0.5) * (first + second)


@parallel_kernel
def start(greys, masks, i, neighbours, M, m, low, high, plane, cost, tries, seed):
    """The best of `tries` random depths between the bounds at each pixel of photo `i`, and of the plane that is there."""
    height, width = low.shape
    for row in prange(height):
        y = np.int64(row)  # numba counts parallel loops in uint64, which with int64 makes float64
        weights, values = np.empty(SAMPLES, np.float32), np.empty(SAMPLES, np.float32)
        for x in range(width):
            if not masks[i, y, x] or high[y, x] <= 0:
                cost[y, x] = WORST
                continue
            _, variance = _patch(greys[i], y, x, weights, values)
            state = np.uint32((seed * 7919 + (y * width + x + 1) * 2654435761) & 0xFFFFFFFF)
            best, w, wx, wy = WORST * np.float32(2), np.float32(0), np.float32(0), np.float32(0)
            if plane[y, x, 0] > 0:
                w, wx, wy = plane[y, x, 0], plane[y, x, 1], plane[y, x, 2]
                best = _cost(greys, masks, neighbours, M, m, y, x, w, wx, wy, weights, values, variance)
            for _ in range(tries):
                state = _random(state)
                other = low[y, x] + _uniform(state) * (high[y, x] - low[y, x])
                zero = np.float32(0)
                found = _cost(greys, masks, neighbours, M, m, y, x, other, zero, zero, weights, values, variance)
                if found < best:
                    best, w, wx, wy = found, other, zero, zero
            plane[y, x, 0], plane[y, x, 1], plane[y, x, 2], cost[y, x] = w, wx, wy, best


@parallel_kernel
def improve(greys, masks, i, neighbours, M, m, low, high, plane, cost, colour, radius, seed):
    """One pass over the pixels of one colour: planes from around, then three random changes, the largest `radius` (share)."""
    height, width = low.shape
    for row in prange(height):
        y = np.int64(row)  # numba counts parallel loops in uint64, which with int64 makes float64
        weights, values = np.empty(SAMPLES, np.float32), np.empty(SAMPLES, np.float32)
        for x in range((y + colour) % 2, width, 2):
            if not masks[i, y, x] or high[y, x] <= 0:
                continue
            _, variance = _patch(greys[i], y, x, weights, values)
            best = cost[y, x]
            w, wx, wy = plane[y, x, 0], plane[y, x, 1], plane[y, x, 2]
            for direction in range(4):
                # In each direction the cheapest of some pixels, all of the other colour.
                cheapest, at_y, at_x = WORST, -1, -1
                for step in range(1, 8, 2):
                    yy, xx = y, x
                    if direction == 0:
                        yy = y - step
                    elif direction == 1:
                        yy = y + step
                    elif direction == 2:
                        xx = x - step
                    else:
                        xx = x + step
                    if 0 <= yy < height and 0 <= xx < width and cost[yy, xx] < cheapest:
                        cheapest, at_y, at_x = cost[yy, xx], yy, xx
                if at_y < 0:
                    continue
                sx, sy = plane[at_y, at_x, 1], plane[at_y, at_x, 2]
                other = plane[at_y, at_x, 0] + sx * np.float32(x - at_x) + sy * np.float32(y - at_y)
                if not (low[y, x] <= other <= high[y, x]):
                    continue
                found = _cost(greys, masks, neighbours, M, m, y, x, other, sx, sy, weights, values, variance)
                if found < best:
                    best, w, wx, wy = found, other, sx, sy
            state = np.uint32((seed * 7919 + (y * width + x + 1) * 2654435761) & 0xFFFFFFFF)
            reach = (high[y, x] - low[y, x]) * radius
            for _ in range(3):
                state = _random(state)
                other = w + (_uniform(state) - np.float32(0.5)) * reach
                state = _random(state)
                sx = wx + (_uniform(state) - np.float32(0.5)) * reach * np.float32(0.2)
                state = _random(state)
                sy = wy + (_uniform(state) - np.float32(0.5)) * reach * np.float32(0.2)
                reach *= np.float32(0.4)
                if not (low[y, x] <= other <= high[y, x]):
                    continue
                found = _cost(greys, masks, neighbours, M, m, y, x, other, sx, sy, weights, values, variance)
                if found < best:
                    best, w, wx, wy = found, other, sx, sy
            plane[y, x, 0], plane[y, x, 1], plane[y, x, 2], cost[y, x] = w, wx, wy, best


@parallel_kernel
def prefer_hull(greys, masks, i, neighbours, M, m, surface, reach, least_gain, plane, cost):
    """Where the hull's surface looks about as much alike as what was found close to it, the hull it is.

    Without this, surfaces without texture are carved too deep. `surface` is the hull's plane (w, dw/dx, dw/dy) per pixel,
    `reach` how far around it depths count as the hull's, in inverse depth per pixel; a plane farther than six times that from
    the hull is not asked.
    """
    height, width = cost.shape
    for row in prange(height):
        y = np.int64(row)  # numba counts parallel loops in uint64, which with int64 makes float64
        weights, values = np.empty(SAMPLES, np.float32), np.empty(SAMPLES, np.float32)
        for x in range(width):
            if not masks[i, y, x] or surface[y, x, 0] <= 0 or cost[y, x] >= WORST:
                continue
            if abs(plane[y, x, 0] - surface[y, x, 0]) > np.float32(6) * reach[y, x]:
                continue
            _, variance = _patch(greys[i], y, x, weights, values)
            best, at = WORST * np.float32(2), np.float32(0)
            for k in range(-2, 3):
                w = surface[y, x, 0] + np.float32(0.5 * k) * reach[y, x]
                found = _cost(
                    greys,
                    masks,
                    neighbours,
                    M,
                    m,
                    y,
                    x,
                    w,
                    surface[y, x, 1],
                    surface[y, x, 2],
                    weights,
                    values,
                    variance,
                )
                if found < best:
                    best, at = found, w
            if best - cost[y, x] < least_gain:
                plane[y, x, 0], plane[y, x, 1], plane[y, x, 2] = at, surface[y, x, 1], surface[y, x, 2]
                cost[y, x] = best
