"""What a mesh is as a body: its borders, parts, handles, self-intersections, shape of faces, volume and size.

`checks` counts the faults of an indexed mesh; this measures them. Vertices are compared by index, so texture seams must be
welded before. Lengths are world units. Axes: V vertices, F faces.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recon_lib import mesh as meshes
from recon_lib.mesh import Mesh
from recon_lib.surface import intersections

SLIVER = 20.0  # least ratio of a sliver's longest side to its height; of an equilateral face it is 1.15
LIMIT_S = 10.0  # for the search for self-intersections


class Solid(NamedTuple):
    """The measures of one mesh."""

    faces: int
    boundary_loops: int  # parts into which the open edges fall that are connected through vertices
    boundary_length: float  # of all open edges
    largest_body_share: float  # of the area, 0 to 1
    genus: (
        int | None
    )  # handles of all bodies together; None where the mesh is not a closed manifold, which alone has one
    self_intersecting_faces: int | None  # None if the time limit passed or a vertex is not finite
    sliver_faces: int
    volume: float | None  # None where the mesh is open, not finite or wound both ways; negative where it is inside out
    size: tuple[float, float, float]  # of the box along the world's axes


def measure(mesh: Mesh, limit_s: float = LIMIT_S) -> Solid:
    """Measures a mesh with at least one face; the search for self-intersections ends after `limit_s` seconds."""
    v, f = mesh.verts.double().numpy(), mesh.faces.numpy().astype(np.int64)
    directed = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    found, index = meshes.unique_pairs(directed.sort(dim=-1).values)
    edges, count = found.numpy(), np.bincount(index.numpy())
    border, finite = edges[count == 1], bool(np.isfinite(v[f]).all())
    closed = bool((count == 2).all())
    wound = len(meshes.unique_pairs(directed)[0]) == 3 * len(f)  # each direction once
    part, areas = meshes.connected_parts(mesh.faces, len(v)), meshes.face_areas(mesh.verts, mesh.faces).double().numpy()
    by_part = np.bincount(part, weights=np.nan_to_num(areas))
    crossing = intersections.find(mesh.verts, mesh.faces, limit_s)
    euler = len(np.unique(f)) - len(edges) + len(f)
    seen = v[np.unique(f)]
    size = seen[np.isfinite(seen).all(1)]
    return Solid(
        len(f), _count_loops(border), float(np.linalg.norm(v[border[:, 0]] - v[border[:, 1]], axis=1).sum()),
        float(by_part.max() / max(by_part.sum(), 1e-30)), (2 * len(by_part) - euler) // 2 if closed else None,
        None if crossing is None else int(crossing.sum()), _count_slivers(v, f),
        meshes.volume(mesh.verts.double(), mesh.faces).item() if closed and wound and finite else None,
        tuple(np.ptp(size, axis=0).tolist()) if len(size) else (0.0, 0.0, 0.0),
    )  # fmt: skip


def _count_loops(border: np.ndarray) -> int:
    if len(border) == 0:
        return 0
    names, index = np.unique(border, return_inverse=True)
    a, b = index.reshape(-1, 2).T
    return int(connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(len(names),) * 2), directed=False)[0])


def _count_slivers(v: np.ndarray, f: np.ndarray) -> int:
    a, b, c = v[f[:, 0]], v[f[:, 1]], v[f[:, 2]]
    longest = np.max([np.linalg.norm(side, axis=1) for side in (b - a, c - b, a - c)], axis=0)
    double_area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return int((longest**2 > SLIVER * double_area).sum())
