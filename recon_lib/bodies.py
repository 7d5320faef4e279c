"""The bodies that a generated mesh falls into, and the one solid that is meant.

Networks leave confetti (specks around the object), inner shells (a second wall inside, which no photo shows) and small holes.
`count` tells, `solid` cleans: what is inside is decided by the winding number, which bears all three (Jacobson et al. 2013;
Barill et al. 2018), hollows are filled and the largest body kept. Axes: V vertices, F faces.
"""

from typing import NamedTuple

import fast_simplification
import gpytoolbox
import numpy as np
import scipy.sparse
import torch
from scipy import ndimage

from recon_lib import hull
from recon_lib.hull import HullConfig
from recon_lib.mesh import Mesh, face_areas, volume

WELD = 1e-6  # vertices closer than this share of the diagonal are one
CONTAINER = 0.01  # share of the area that a body needs for others to count as inside it


class Bodies(NamedTuple):
    bodies: int  # after welding
    largest_share: float  # of the area
    inner_shells: int  # bodies inside another


def welded(mesh: Mesh) -> Mesh:
    """Vertices at one place merged, faces that thereby lost a corner dropped."""
    verts = mesh.verts.double().numpy()
    diagonal = np.linalg.norm(np.ptp(verts, axis=0))
    _, first, index = np.unique(
        np.round(verts / (WELD * diagonal)).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    faces = index.reshape(-1)[mesh.faces.numpy()]
    whole = (faces != np.roll(faces, 1, axis=1)).all(1)
    return Mesh(mesh.verts[torch.from_numpy(first)], torch.from_numpy(faces[whole].astype(np.int32)))


def count(mesh: Mesh) -> Bodies:
    joined = welded(mesh)
    verts, faces = joined.verts.double().numpy(), joined.faces.numpy()
    links = scipy.sparse.coo_array((np.ones(faces.size), (faces.ravel(), np.roll(faces, 1, axis=1).ravel())),
                                   shape=(len(verts),) * 2)  # fmt: skip
    body = scipy.sparse.csgraph.connected_components(links, directed=False)[1][faces[:, 0]]
    names, first, body = np.unique(body, return_index=True, return_inverse=True)
    area = np.bincount(body, weights=face_areas(joined.verts, joined.faces).double().numpy())
    inner = np.zeros(len(names), bool)
    for container in np.flatnonzero(area >= CONTAINER * area.sum()):
        others = np.flatnonzero((np.arange(len(names)) != container) & ~inner)
        around = gpytoolbox.fast_winding_number(verts[faces[first[others], 0]], verts, faces[body == container])
        inner[others] |= np.abs(around) > 0.5
    return Bodies(len(names), float(area.max() / area.sum()), int(inner.sum()))


def simplified(mesh: Mesh, most_faces: int) -> Mesh:
    """By quadric errors, to at most so many faces; all bodies stay."""
    if len(mesh.faces) <= most_faces:
        return mesh
    verts, faces = fast_simplification.simplify(
        mesh.verts.numpy(), mesh.faces.numpy(), 1 - most_faces / len(mesh.faces)
    )
    return Mesh(torch.from_numpy(verts).float(), torch.from_numpy(faces.astype(np.int32)))


def solid(mesh: Mesh, config: HullConfig, progress=lambda share, what: None) -> Mesh:
    """One closed body of even triangles: the largest, without its hollows, sampled at `config.resolution`."""
    joined = welded(mesh)
    verts, faces = joined.verts.double().numpy(), joined.faces.numpy()
    if volume(joined.verts, joined.faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    low, high = verts.min(0), verts.max(0)
    spacing = float((high - low).max() / (config.resolution - 1))
    shape = np.ceil((high - low) / spacing).astype(int) + 3
    origin = low - spacing
    progress(0, "filling the mesh")
    points = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) * spacing + origin
    around = gpytoolbox.fast_winding_number(points.reshape(-1, 3), verts, faces)
    inside = around.reshape(shape) > 0.5
    progress(0.5, "measuring its surface")
    near = ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside)
    squared = gpytoolbox.squared_distance(points[near], verts, faces, use_cpp=True, use_aabb=True)[0]
    distance = np.full(shape, spacing)
    distance[near] = np.minimum(np.sqrt(squared), spacing)
    field = np.where(inside, -distance, distance).astype(np.float32)
    return hull.meshed(
        hull.one_body(field, spacing), origin, spacing, config.faces, lambda s, w: progress(0.7 + 0.3 * s, w)
    )
