"""The jug's shape and colours.

The shape is a signed distance function: negative inside, exact only near the surface. World: y up, the front to +z, the
handle at -x, the spout between +x and +z, a shallow bowl on top that no silhouette shows. All of it fits in the sphere
of radius 0.5 around the origin. Colours are linear base colour. Axes: N points, V vertices, F faces.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from skimage.measure import marching_cubes

HANDLE_CENTRE, HANDLE_RADII = np.array([-0.27, 0.07]), (0.145, 0.034)  # x y; torus radii
SPOUT_FROM, SPOUT_TO = np.array([0.09, 0.10, 0.05]), np.array([0.31, 0.27, 0.18])
SPOUT_RADII = (0.075, 0.030)
DIMPLE_CENTRE, DIMPLE_RADIUS = np.array([0, 0.4887, 0]), 0.1957  # 0.08 below the rim, 11 % of the height


def smooth_union(a, b, k):
    """Union of two distances, blended over a band of width k (polynomial smooth minimum)."""
    h = np.maximum(k - np.abs(a - b), 0) / k
    return np.minimum(a, b) - h * h * k / 4


def smooth_cut(a, b, k):
    """What lies in a and not in b."""
    return -smooth_union(-a, b, k)


def body(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    x, y, z = p.T
    r = np.hypot(x, z)
    belly = np.sqrt(r**2 + (y + 0.10) ** 2) - 0.27
    d = np.stack([r - 0.16, np.abs(y - 0.17) - 0.18])
    neck = np.minimum(d.max(0), 0) + np.hypot(*np.maximum(d, 0)) - 0.01
    rim = np.hypot(r - 0.175, y - 0.335) - 0.03
    solid = smooth_union(smooth_union(belly, neck, 0.12), rim, 0.05)
    solid = smooth_cut(solid, y + 0.335, 0.05)  # the flat foot
    return smooth_cut(solid, np.linalg.norm(p - DIMPLE_CENTRE, axis=1) - DIMPLE_RADIUS, 0.02)


def handle(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    ring = np.hypot(p[:, 0] - HANDLE_CENTRE[0], p[:, 1] - HANDLE_CENTRE[1]) - HANDLE_RADII[0]
    return np.hypot(ring, p[:, 2]) - HANDLE_RADII[1]


def along_spout(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    axis = SPOUT_TO - SPOUT_FROM
    return np.clip((p - SPOUT_FROM) @ axis / (axis @ axis), 0, 1)


def spout(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    t = along_spout(p)
    radius = SPOUT_RADII[0] + t * (SPOUT_RADII[1] - SPOUT_RADII[0])
    return np.linalg.norm(p - SPOUT_FROM - t[:, None] * (SPOUT_TO - SPOUT_FROM), axis=1) - radius


def sdf(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    return smooth_union(smooth_union(body(p), handle(p), 0.04), spout(p), 0.06)


def gradient(p: Float[np.ndarray, "N 3"], step: float = 1e-4) -> Float[np.ndarray, "N 3"]:
    return np.stack([(sdf(p + e) - sdf(p - e)) / (2 * step) for e in step * np.eye(3)], -1)


def newton(p: Float[np.ndarray, "N 3"], steps: int = 6) -> Float[np.ndarray, "N 3"]:
    """Moves points near the surface onto it."""
    for _ in range(steps):
        g = gradient(p)
        p = p - g * (sdf(p) / (g * g).sum(1))[:, None]
    return p


def polygonise(cells: int) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices on the surface and faces: marching cubes, evened out by a few steps of tangential smoothing."""
    axis = np.linspace(-0.5, 0.5, cells + 1)
    y, z = np.meshgrid(axis, axis, indexing="ij")
    layers = [sdf(np.stack([np.full(y.size, x), y.ravel(), z.ravel()], -1)).reshape(y.shape) for x in axis]
    verts, faces, _, _ = marching_cubes(np.stack(layers).astype(np.float32), 0.0, gradient_direction="descent")
    verts = verts.astype(np.float64) / cells - 0.5
    i, j = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    ring = sparse.coo_matrix((np.ones(len(i)), (i, j)), (len(verts),) * 2).tocsr()
    for _ in range(5):
        verts = newton(0.5 * verts + 0.5 * (ring @ verts) / ring.sum(1).A1[:, None], steps=1)
    return newton(verts), faces


def edge(d, width=0.002):
    """1 where d < 0, 0 where d > 0, a ramp of the given half width between."""
    return np.clip(0.5 - d / (2 * width), 0, 1)


def stripes(phase, period, duty=0.5):
    """Stripes that cover `duty` of each period, their edges softened over scene units of `phase`."""
    return edge(np.abs((phase / period) % 1 - 0.5) * period - duty * period / 2)


def paint(colour, mask, other):
    return colour + mask[:, None] * (np.asarray(other) - colour)


def base_colour(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Linear base colour of points on the surface, within 0.05 to 0.8."""
    x, y, z = p.T
    r, azimuth = np.hypot(x, z), np.arctan2(x, z)
    cream, teal, navy, rust = (0.74, 0.62, 0.42), (0.06, 0.36, 0.36), (0.06, 0.09, 0.34), (0.60, 0.16, 0.07)
    ochre, plum, leaf, sky = (0.72, 0.44, 0.08), (0.36, 0.08, 0.26), (0.16, 0.42, 0.10), (0.20, 0.42, 0.70)
    c = np.tile(np.array(cream), (len(p), 1))
    c = paint(c, edge(y + 0.215 - 0.03 * np.cos(9 * azimuth)), teal)  # scalloped lower belly
    c = paint(c, edge(np.abs(y + 0.180 - 0.03 * np.cos(9 * azimuth)) - 0.006), navy)
    c = paint(c, edge(y + 0.25) * stripes(azimuth * 0.25, np.pi / 2 / 24, 0.35), sky)  # fine upright lines below
    hue = azimuth[:, None] + np.array([0, 2.1, 4.2])  # the dots' colour runs once around: no two sides look alike
    dot = 0.38 + 0.30 * np.cos(hue)
    nearest = (np.round(azimuth / (2 * np.pi / 14))) * (2 * np.pi / 14)
    away = np.hypot((azimuth - nearest) * r, y + 0.085) - 0.034 - 0.010 * np.sin(2 * nearest + 0.5)
    c = paint(paint(c, edge(away), dot), edge(away + 0.026), cream)
    zigzag = np.abs((azimuth * 18 / (2 * np.pi)) % 1 - 0.5) * 0.06
    c = paint(c, edge(np.abs(y - 0.015 - zigzag) - 0.007), leaf)
    c = paint(c, edge(np.abs(y - 0.19) - 0.085) * stripes(y, 0.034), rust)  # bands of the neck
    c = paint(c, edge(np.abs(y - 0.19) - 0.085) * stripes(azimuth * 0.17 + 0.35 * y, 0.17 * np.pi / 3, 0.12), navy)
    c = paint(c, edge(0.30 - y), navy)
    c = paint(c, edge(0.30 - y) * stripes(azimuth * 0.19, 0.19 * np.pi / 16, 0.3), ochre)
    dimple = edge(0.28 - y) * edge(r - 0.152)
    c = paint(c, dimple, sky)
    c = paint(c, dimple * edge(r - 0.085 - 0.045 * np.cos(7 * azimuth + 0.4)), plum)  # a flower in the bowl
    c = paint(c, dimple * edge(r - 0.035), ochre)
    foot = edge(y + 0.318)
    c = paint(c, foot, ochre)
    c = paint(c, foot * stripes(r + 0.05 * azimuth / np.pi, 0.05), rust)  # a spiral under the foot
    turn = np.arctan2(y - HANDLE_CENTRE[1], x - HANDLE_CENTRE[0])
    h = paint(np.tile(np.array(plum), (len(p), 1)), stripes(turn * 0.145 + 0.4 * z, 0.145 * np.pi / 10, 0.4), cream)
    c = paint(c, edge(handle(p) - np.minimum(body(p), spout(p)), 0.003), h)
    s = paint(np.tile(np.array(leaf), (len(p), 1)), stripes(along_spout(p) * 0.3, 0.06, 0.3), ochre)
    c = paint(c, edge(spout(p) - np.minimum(body(p), handle(p)), 0.003), paint(s, edge(0.93 - along_spout(p)), rust))
    glaze = 0.92 + 0.08 * np.sin(3 * azimuth + 9 * y)  # slow unevenness of the glaze
    return np.clip(c * glaze[:, None], 0.05, 0.8)
