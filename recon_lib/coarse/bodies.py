"""The bodies (connected parts) of a generated mesh, and the one solid that is made from them.

Networks leave confetti (specks around the object), inner shells (a second wall inside, which no photo shows) and small holes.
`count_bodies` counts them, `solid` removes them: the winding number decides what is inside and tolerates all three (Jacobson et
al. 2013; Barill et al. 2018); then hollows are filled and the largest body is kept. Axes: V vertices, F faces.
"""

from typing import NamedTuple

import gpytoolbox
import numpy as np
from scipy import ndimage

from recon_lib import mesh as meshes
from recon_lib.coarse.config import HullConfig
from recon_lib.mesh import Mesh, face_areas, volume
from recon_lib.progress import Progress, part, silent
from recon_lib.surface import grid_mesh

WELD = 1e-6  # vertices are merged on a grid of this share of the mesh's diagonal
CONTAINER = 0.01  # only a body with at least this share of the area can contain others


class Bodies(NamedTuple):
    """How many bodies a mesh has, and of what kind."""

    bodies: int  # connected parts after welding
    largest_share: float  # the largest body's share of the area, 0 to 1
    inner_shells: int  # bodies that lie inside another

    def sentence(self) -> str:
        """The counts in words."""
        inner = f", {self.inner_shells} of them inside another" if self.inner_shells else ""
        count = "one body" if self.bodies == 1 else f"{self.bodies} bodies"
        return f"{count}{inner}; the largest has {self.largest_share:.0%} of the area"


def weld(mesh: Mesh) -> Mesh:
    """Merges vertices at the same place, and drops the faces that thereby have a vertex twice. Only the shape is kept."""
    diagonal = float(np.linalg.norm(np.ptp(mesh.verts.double().numpy(), axis=0)))
    verts, faces = meshes.weld(mesh.verts, mesh.faces, WELD * diagonal)
    return Mesh(verts, faces[(faces != faces.roll(1, 1)).all(1)])


def count_bodies(mesh: Mesh) -> Bodies:
    """Counts the connected parts of the welded mesh, and those of them that lie inside another."""
    joined = weld(mesh)
    verts, faces = joined.verts.double().numpy(), joined.faces.numpy()
    body = meshes.connected_parts(joined.faces, len(verts))
    names, first = np.unique(body, return_index=True)
    area = np.bincount(body, weights=face_areas(joined.verts, joined.faces).double().numpy())
    inner = np.zeros(len(names), bool)
    for container in np.flatnonzero(area >= CONTAINER * area.sum()):
        others = np.flatnonzero((np.arange(len(names)) != container) & ~inner)
        around = gpytoolbox.fast_winding_number(verts[faces[first[others], 0]], verts, faces[body == container])
        inner[others] |= np.abs(around) > 0.5
    return Bodies(len(names), float(area.max() / area.sum()), int(inner.sum()))


def solid(mesh: Mesh, config: HullConfig, progress: Progress = silent) -> Mesh:
    """The largest body as one closed mesh of even triangles with its hollows filled.

    `config.resolution` is the number of grid points along the longest side. Raises ValueError if the object is thinner than the
    grid.
    """
    joined = weld(mesh)
    verts, faces = joined.verts.double().numpy(), joined.faces.numpy()
    if volume(joined.verts, joined.faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    low, high = verts.min(0), verts.max(0)
    spacing = float((high - low).max() / (config.resolution - 1))
    shape = np.ceil((high - low) / spacing).astype(int) + 3
    origin = low - spacing
    progress(0.0, "filling the mesh")
    points = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) * spacing + origin
    around = gpytoolbox.fast_winding_number(points.reshape(-1, 3), verts, faces)
    inside = around.reshape(shape) > 0.5
    progress(0.5, "measuring its surface")
    near = ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside)
    squared = gpytoolbox.squared_distance(points[near], verts, faces, use_cpp=True, use_aabb=True)[0]
    distance = np.full(shape, spacing)
    distance[near] = np.minimum(np.sqrt(squared), spacing)
    field = np.where(inside, -distance, distance).astype(np.float32)
    return grid_mesh.mesh_of_field(
        grid_mesh.keep_largest_body(field, spacing),
        origin,
        spacing,
        config.faces,
        part(progress, 0.7, 1.0),
    )
