"""Makes meshes of fewer, or more even, triangles for the same surface. Axes: V vertices, F faces."""

import fast_simplification
import gpytoolbox
import numpy as np
import torch

from recon_lib.mesh import Mesh, face_areas
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import remeshing, uv

PASSES = (
    2  # of remeshing; more make triangles a little more even, take longer, and draw thin parts away from the surface
)


def remesh_evenly(verts: np.ndarray, faces: np.ndarray, most: int) -> Mesh:
    """Isotropic remeshing (`remeshing`) to at most `most` faces. `verts` are V 3, `faces` F 3, wound outwards."""
    area = face_areas(torch.from_numpy(verts), torch.from_numpy(faces)).sum().item()
    budget = 0.97 * most
    while True:
        edge = float(np.sqrt(4 * area / np.sqrt(3) / budget))
        out, tris = remeshing.remesh(verts, faces, edge, PASSES)
        if len(tris) <= most:
            return Mesh(torch.from_numpy(out.astype(np.float32)), torch.from_numpy(tris.astype(np.int32)))
        budget *= 0.97 * most / len(tris)


def decimate(mesh: Mesh, most_faces: int) -> Mesh:
    """The mesh decimated by quadric errors to at most `most_faces`, without its texture; all bodies stay."""
    if len(mesh.faces) <= most_faces:
        return mesh
    verts, faces = fast_simplification.simplify(
        mesh.verts.numpy(), mesh.faces.numpy(), 1 - most_faces / len(mesh.faces)
    )
    return Mesh(torch.from_numpy(verts).float(), torch.from_numpy(faces.astype(np.int32)))


def decimated_copy(mesh: Mesh, most_faces: int, size: int, raster: Rasteriser) -> Mesh:
    """The mesh decimated and unwrapped again; each texel has the colour of the nearest point of the original.

    `size` is the largest side of the new texture in texels. A mesh that has few enough faces is returned unchanged.
    """
    if len(mesh.faces) <= most_faces:
        return mesh
    few = decimate(mesh, most_faces)
    verts, faces = few.verts, few.faces
    uvs, uv_faces, shape = uv.unwrap(verts, faces, size)
    rast = uv.atlas_raster(uvs, uv_faces, shape, raster)
    known = rast[0, ..., 3] > 0
    points = raster.interpolate(verts[None], rast, faces)[0][0][known]
    _, face, weights = gpytoolbox.squared_distance(
        points.double().numpy(), mesh.verts.double().numpy(), mesh.faces.numpy(), use_cpp=True
    )
    corners = mesh.uvs[mesh.uv_faces.long()[torch.from_numpy(face).long()]]
    at = (corners * torch.from_numpy(weights).float()[..., None]).sum(1)
    texture = torch.zeros(*shape, mesh.texture.shape[-1])
    texture[known] = raster.texture(mesh.texture[None], at[None, None], boundary_mode="clamp")[0, 0]
    return Mesh(verts, faces, uvs, uv_faces, uv.dilate(texture, known))
