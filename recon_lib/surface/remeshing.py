"""Isotropic remeshing (Botsch & Kobbelt 2004): edges are split, collapsed and flipped until they are about equally long.

After that vertices move within the surface to the mean of their neighbours, and to the nearest point of the given surface. That
point is found by walking over the surface from where the vertex was, so that a thin part is not taken for its other side.
Manifold meshes stay manifold, with as many bodies and handles. Vertices at a border stay where they are, with all their edges.
Axes: V vertices, F faces, H = 3 F half-edges (`half_edges`).
"""

import numpy as np
from jaxtyping import Float, Int

from recon_lib.surface import gliding, half_edges
from recon_lib.surface.half_edges import Connected

LONG, SHORT = 4 / 3, 4 / 5  # of the asked length: longer edges are split, shorter ones are collapsed
ROUNDS = 30  # of splitting, collapsing and flipping in a pass, at most


def remesh(
    verts: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], edge: float, passes: int
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    """The same surface with edges of about the length `edge`. Raises ValueError if more than two faces share an edge."""
    given, corners = np.ascontiguousarray(verts, np.float64), np.ascontiguousarray(faces, np.int64)
    mesh = half_edges.connect(given, corners)
    surface = (given, corners, *gliding.faces_around(corners, len(given)))
    for _ in range(passes):
        for _ in range(ROUNDS):
            count = half_edges.count_longer(mesh, LONG * edge)
            if not count:
                break
            first = len(mesh.out), len(mesh.tail) // 3
            mesh = with_room(mesh, count)
            half_edges.split(mesh, *first, LONG * edge)
        for _ in range(ROUNDS):
            shorter, length = half_edges.find_shorter(mesh, SHORT * edge)
            if not half_edges.collapse(mesh, shorter[np.argsort(length, kind="stable")], SHORT * edge, LONG * edge):
                break
        for _ in range(ROUNDS):
            if not half_edges.flip(mesh):
                break
        gliding.relax(mesh)
        gliding.to_surface(mesh, *surface)
    alive = mesh.tail.reshape(-1, 3)
    used, corners = np.unique(alive[alive[:, 0] >= 0], return_inverse=True)
    return mesh.verts[used], corners.reshape(-1, 3)


def with_room(mesh: Connected, splits: int) -> Connected:
    """The mesh in arrays that have room for so many edges to be split."""

    def longer(array: np.ndarray, more: int, value: int) -> np.ndarray:
        return np.concatenate([array, np.full((more, *array.shape[1:]), value, array.dtype)])

    tail, twin, out, valence, home, verts = mesh
    return Connected(
        longer(tail, 6 * splits, -1), longer(twin, 6 * splits, -1), longer(out, splits, -1), longer(valence, splits, 0),
        longer(home, splits, -1), longer(verts, splits, 0),
    )  # fmt: skip
