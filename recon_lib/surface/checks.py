"""Checks whether a mesh is a solid: edges, fans, winding, bodies and faces of an indexed mesh whose seams are merged.

Each value counts offenders, so 0 is right for all but `bodies`, where 1 is right. Axes: V vertices, F faces.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from recon_lib.mesh import connected_parts

DEGENERATE_HEIGHT = 1e-6  # smallest height of a face, relative to the mesh's diagonal


class MeshChecks(NamedTuple):
    """The counts of one mesh."""

    open_edges: int  # edges that only one face has
    non_manifold_edges: int  # edges that more than two faces have
    non_manifold_vertices: int  # vertices whose faces form more than one fan
    flipped_edges: int  # edges along which two faces run in the same direction
    bodies: int  # parts connected through vertices
    degenerate_faces: int  # faces without height, or with the same vertex twice
    non_finite_vertices: int

    def is_solid(self) -> bool:
        """Whether the mesh is closed, manifold, consistently wound, one body, finite and without degenerate faces."""
        return self == MeshChecks(0, 0, 0, 0, 1, 0, 0)


def check_mesh(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> MeshChecks:
    """Counts what `MeshChecks` lists. Vertices are compared by index, so texture seams must be welded before."""
    v, f = verts.double().numpy(), faces.numpy().astype(np.int64)
    start, end = f[:, [0, 1, 2]].ravel(), f[:, [1, 2, 0]].ravel()
    low, high = np.minimum(start, end), np.maximum(start, end)
    _, edge, count = np.unique(low * len(v) + high, return_inverse=True, return_counts=True)
    forward = np.bincount(edge, weights=start < end, minlength=len(count))
    flipped = (count == 2) & (forward != 1)
    used = np.unique(f)
    bodies = len(np.unique(connected_parts(faces, len(v))))
    return MeshChecks(
        int((count == 1).sum()), int((count > 2).sum()), _count_split_vertices(f, edge), int(flipped.sum()), bodies,
        _count_degenerate(v, f), int((~np.isfinite(v[used])).any(1).sum()),
    )  # fmt: skip


def _count_split_vertices(f: np.ndarray, edge: np.ndarray) -> int:
    """The number of vertices with more than one fan: corners (face, vertex) are joined across the edges at their vertex."""
    corner = np.arange(f.size).reshape(f.shape)
    # Edge e of a face runs from corner e to corner e + 1: both corners touch it.
    touched = np.concatenate([corner.ravel(), np.roll(corner, -1, axis=1).ravel()])
    vertex, key = f.ravel()[touched], np.concatenate([edge, edge])
    order = np.lexsort((key, vertex))
    same = (np.diff(vertex[order]) == 0) & (np.diff(key[order]) == 0)
    a, b = touched[order][:-1][same], touched[order][1:][same]
    groups = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(f.size,) * 2), directed=False)[1]
    pairs = np.unique(np.stack([f.ravel(), groups]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def _count_degenerate(v: np.ndarray, f: np.ndarray) -> int:
    a, b, c = v[f[:, 0]], v[f[:, 1]], v[f[:, 2]]
    longest = np.max(
        [np.linalg.norm(b - a, axis=1), np.linalg.norm(c - b, axis=1), np.linalg.norm(a - c, axis=1)], axis=0
    )
    double_area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    diagonal = np.linalg.norm(np.nanmax(v[f.ravel()], axis=0) - np.nanmin(v[f.ravel()], axis=0)) if len(f) else 0
    return int((double_area <= DEGENERATE_HEIGHT * diagonal * longest).sum())
