"""A closed mesh from a grid of signed distances, negative inside. Axes: X Y Z grid points."""

import numpy as np
import torch
from scipy import ndimage
from skimage import measure

from recon_lib.mesh import Mesh
from recon_lib.progress import Progress, silent
from recon_lib.surface import simplify


def mesh_of_field(
    field: np.ndarray, origin: np.ndarray, spacing: float, faces: int, progress: Progress = silent
) -> Mesh:
    """The zero set of a field (X Y Z) that is positive at its border, as a closed mesh of at most `faces` even triangles.

    `origin` is the position of grid point (0, 0, 0), `spacing` the distance between grid points.
    """
    progress(0.0, "meshing")
    verts, triangles = _zero_set(field, origin, spacing)
    progress(0.25, "remeshing")
    remeshed = simplify.remesh_evenly(verts, triangles, faces)
    progress(1.0, "remeshed")
    return remeshed


def dense_mesh(field: np.ndarray, origin: np.ndarray, spacing: float) -> Mesh:
    """The zero set of such a field with a few triangles in each cell of the grid that it crosses, of any shape."""
    verts, triangles = _zero_set(field, origin, spacing)
    return Mesh(torch.from_numpy(verts).float(), torch.from_numpy(triangles))


def _zero_set(field: np.ndarray, origin: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    # scikit-image winds faces so that normals point along the gradient, and the field grows outwards.
    verts, triangles, _, _ = measure.marching_cubes(field, 0.0, spacing=(spacing,) * 3)
    return verts + origin, np.ascontiguousarray(triangles)


def keep_largest_body(field: np.ndarray, spacing: float, counted: np.ndarray | None = None) -> np.ndarray:
    """The field (X Y Z) with only its largest body, whose hollows are filled. Raises ValueError if nothing is negative.

    A body is as large as the number of its grid points; with `counted` (bool) only of those.
    """
    bodies, count = ndimage.label(field < 0)
    if count == 0:
        raise ValueError("visual hull: the object is thinner than the grid; raise resolution")
    sizes = np.bincount(bodies.ravel() if counted is None else bodies[counted], minlength=count + 1)
    kept = bodies == sizes[1:].argmax() + 1
    air, _ = ndimage.label(~kept)
    hollow = ~kept & (air != air[0, 0, 0])
    field = np.where(~kept & (field < 0), np.float32(0.5 * spacing), field)
    return np.where(hollow, np.float32(-spacing), field)
