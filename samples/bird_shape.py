"""The shape and colours of a painted wooden bird, richly textured all over.

The shape is a signed distance function: negative inside, exact only near the surface. World: y up, the beak to +z and turned a
little to +x, on a round base whose foot is the table. All of it fits in the sphere of radius 0.5 around the origin. Colours
are linear base colour. Axes: N points, V vertices, F faces.
"""

import numpy as np
from jaxtyping import Float, Int
from jug_shape import edge, paint, smooth_union, stripes
from scipy import ndimage
from skimage.measure import marching_cubes

FOOT = -0.44  # height of the table
BASE_RADIUS, BASE_TOP = 0.19, -0.375
HEAD, HEAD_RADIUS = np.array([0.03, 0.20, 0.15]), 0.135
BEAK_FROM, BEAK_TO = np.array([0.05, 0.18, 0.25]), np.array([0.10, 0.13, 0.375])
TAIL = np.array([-0.02, 0.02, -0.30])
LATTICE = np.random.default_rng(7).random((48, 48, 48, 3)).astype(np.float32)  # of the grain


def capsule(p, a, b, radius_a, radius_b):
    """A rod from a to b that gets thinner, or thicker, on the way."""
    axis = b - a
    t = np.clip((p - a) @ axis / (axis @ axis), 0, 1)
    return np.linalg.norm(p - a - t[:, None] * axis, axis=1) - (radius_a + t * (radius_b - radius_a))


def ellipsoid(p, centre, radii, turn_x=0.0):
    """An ellipsoid, turned about x by radians; nearly a distance close to its surface."""
    c, s = np.cos(turn_x), np.sin(turn_x)
    q = (p - centre) @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    scaled = np.linalg.norm(q / radii, axis=1)
    slope = np.linalg.norm(q / np.square(radii), axis=1)
    return scaled * (scaled - 1) / np.maximum(slope, 1e-6)


def wings(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    left = ellipsoid(p, np.array([-0.185, -0.02, -0.06]), np.array([0.05, 0.11, 0.21]), 0.35)
    right = ellipsoid(p, np.array([0.19, 0.00, -0.05]), np.array([0.05, 0.12, 0.20]), 0.15)
    return np.minimum(left, right)


def base(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    around = np.stack(
        [np.hypot(p[:, 0], p[:, 2]) - BASE_RADIUS, np.abs(p[:, 1] - (FOOT + BASE_TOP) / 2) - (BASE_TOP - FOOT) / 2]
    )
    around += 0.012
    return np.minimum(around.max(0), 0) + np.hypot(*np.maximum(around, 0)) - 0.012


def sdf(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    d = ellipsoid(p, np.array([0.0, -0.07, 0.0]), np.array([0.19, 0.18, 0.27]), -0.25)
    d = smooth_union(d, np.linalg.norm(p - HEAD, axis=1) - HEAD_RADIUS, 0.10)
    d = smooth_union(d, wings(p), 0.03)
    d = smooth_union(d, ellipsoid(p, TAIL, np.array([0.10, 0.035, 0.17]), -0.5), 0.06)
    d = smooth_union(d, capsule(p, np.array([0, 0.30, 0.12]), np.array([-0.04, 0.40, 0.02]), 0.05, 0.018), 0.04)
    legs = np.minimum(
        capsule(p, np.array([-0.07, -0.2, 0.02]), np.array([-0.08, -0.40, 0.03]), 0.05, 0.04),
        capsule(p, np.array([0.07, -0.2, 0.02]), np.array([0.08, -0.40, 0.03]), 0.05, 0.04),
    )
    d = smooth_union(smooth_union(d, legs, 0.06), base(p), 0.03)
    return smooth_union(d, capsule(p, BEAK_FROM, BEAK_TO, 0.05, 0.012), 0.02)


def gradient(p: Float[np.ndarray, "N 3"], step: float = 1e-4) -> Float[np.ndarray, "N 3"]:
    return np.stack([(sdf(p + e) - sdf(p - e)) / (2 * step) for e in step * np.eye(3)], -1)


def polygonise(cells: int) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices on the surface and faces, by marching cubes and a few steps of Newton's."""
    axis = np.linspace(-0.5, 0.5, cells + 1)
    y, z = np.meshgrid(axis, axis, indexing="ij")
    layers = [sdf(np.stack([np.full(y.size, x), y.ravel(), z.ravel()], -1)).reshape(y.shape) for x in axis]
    verts, faces, _, _ = marching_cubes(np.stack(layers).astype(np.float32), 0.0, gradient_direction="descent")
    verts = verts.astype(np.float64) / cells - 0.5
    for _ in range(3):
        g = gradient(verts)
        verts = verts - g * (sdf(verts) / np.maximum((g * g).sum(1), 1e-6))[:, None]
    return verts, faces


def grain(p: Float[np.ndarray, "N 3"], cells: float, channel: int) -> Float[np.ndarray, " N"]:
    """Smooth noise between 0 and 1, of so many cells along the unit."""
    at = (p.T + 10.0) * cells
    return ndimage.map_coordinates(LATTICE[..., channel], at, order=1, mode="grid-wrap")


def base_colour(p: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Linear base colour of points on the surface, within 0.03 to 0.8: painted parts under spots and grain of four sizes."""
    x, y, z = p.T
    blue, sun, coral, cream = (0.05, 0.20, 0.45), (0.75, 0.45, 0.06), (0.62, 0.14, 0.09), (0.72, 0.62, 0.42)
    night, leaf, wood = (0.05, 0.06, 0.14), (0.12, 0.36, 0.12), (0.30, 0.15, 0.06)
    c = np.tile(np.array(blue), (len(p), 1))
    c = paint(c, edge(y + 0.10 - 0.25 * z - 0.03 * np.sin(25 * x), 0.01), sun)  # the belly
    scales = np.abs((np.hypot(x * 9, y * 9 - 1.2 * np.abs(((z * 7) % 1) - 0.5)) % 1) - 0.5)
    c = paint(c, edge(scales - 0.12, 0.03) * edge(z - 0.05, 0.02) * edge(-y - 0.08, 0.02), cream)
    c = paint(c, edge(wings(p) - 0.012, 0.006), leaf)
    c = paint(c, edge(wings(p) - 0.012, 0.006) * stripes(z + 0.35 * y, 0.055, 0.4), sun)
    c = paint(c, edge(z + 0.22, 0.01) * stripes(x + 0.15 * z, 0.04, 0.45), coral)  # the tail
    c = paint(c, edge(0.12 - y, 0.01), coral)  # the head
    c = paint(c, edge(0.12 - y, 0.01) * edge(np.abs(y - 0.2 - 0.02 * np.sin(30 * z)) - 0.018, 0.004), cream)
    c = paint(c, edge(0.29 - y, 0.01), night)  # the crest
    for side in (-1, 1):  # the eyes
        away = np.linalg.norm(p - HEAD - HEAD_RADIUS * np.array([0.75 * side, 0.3, 0.55]), axis=1)
        c = paint(paint(c, edge(away - 0.04), cream), edge(away - 0.022), night)
    c = paint(c, edge(capsule(p, BEAK_FROM, BEAK_TO, 0.05, 0.012) - 0.004, 0.003), sun)
    c = paint(c, edge(y + 0.34, 0.006), wood)  # legs and base
    around = np.arctan2(x, z)
    c = paint(c, edge(y + 0.365, 0.004) * stripes(around + 2 * np.hypot(x, z), np.pi / 9, 0.35), cream)
    c = paint(c, edge(grain(p, 23, 0) - 0.26, 0.03), night)  # spots
    c = paint(c, edge(grain(p, 31, 1) - 0.22, 0.03), cream)
    c = paint(c, edge(grain(p, 57, 2) - 0.2, 0.04), coral)
    fine = 0.55 + 0.5 * grain(p, 90, 0) + 0.4 * (grain(p, 40, 1) - 0.5) + 0.3 * (grain(p, 12, 2) - 0.5)
    return np.clip(c * fine[:, None], 0.03, 0.8)
