"""By how many photos each texel of a mesh's texture was seen: what a texel shows is a measurement, or a guess.

A photo sees a texel whose place on the surface it shows, at less than 80 degrees from the face's normal, with no other surface
before it. Of a large texture evenly chosen texels are looked at. Axes: N texels, V vertices.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib import camera, render
from recon_lib.camera import Cameras
from recon_lib.coarse import visibility
from recon_lib.mesh import Mesh, face_normals
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import uv

MOST = 100_000  # texels that are looked at
SIZE = 512  # pixels along the longer side of the mesh's box in the pictures in which they are looked for
BEHIND = 1e-3  # of the mesh's diagonal; a texel that lies less behind what a picture shows is not hidden
CLASSES = ("no photo", "1 photo", "2 photos or more")


def photos_of_texels(mesh: Mesh, used: Cameras, raster: Rasteriser) -> Int[np.ndarray, " N"]:
    """The number of used photos that see each texel on a face; mesh and cameras are in the world."""
    place, normal = _on_surface(mesh, raster)
    finite = mesh.verts[mesh.verts.isfinite().all(-1)]
    near = BEHIND * (finite.amax(0) - finite.amin(0)).norm().item()
    seen = np.zeros(len(place), np.int64)
    for i, small in visibility.close_ups(mesh, used, SIZE):
        shown = _depths(mesh, small, raster)
        xy, depth = (values[0].nan_to_num(-1).double().numpy() for values in camera.project(small, place))
        column, row = np.floor(xy).astype(int).T
        inside = (depth > 0) & (row >= 0) & (row < shown.shape[0]) & (column >= 0) & (column < shown.shape[1])
        front = np.full(len(place), -np.inf)
        front[inside] = shown[row[inside], column[inside]]
        to_eye = torch.nn.functional.normalize(used.T_world_cam[i, :3, 3] - place, dim=-1)
        facing = (normal * to_eye).sum(-1).abs().double().numpy() > visibility.EDGE_ON
        seen += facing & (depth <= front + near)
    return seen


def shares(photos: Int[np.ndarray, " N"]) -> dict[str, float]:
    """The share of the texels by class; their sum is 1."""
    counts = np.bincount(np.minimum(photos, 2), minlength=len(CLASSES)) / max(1, len(photos))
    return dict(zip(CLASSES, counts.tolist(), strict=True))


def _on_surface(mesh: Mesh, raster: Rasteriser) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Where the centres of texels lie on the surface, and their faces' normals."""
    rast = uv.atlas_raster(mesh.uvs, mesh.uv_faces, (mesh.texture.shape[0], mesh.texture.shape[1]), raster)
    places = raster.interpolate(mesh.verts[None].contiguous(), rast, mesh.faces)[0][0]
    face = rast[0, ..., 3].long()
    known = (face > 0).nonzero()
    row, column = known[torch.linspace(0, len(known) - 1, min(MOST, len(known))).long()].unbind(1)
    return places[row, column], face_normals(mesh.verts, mesh.faces)[face[row, column] - 1]


def _depths(mesh: Mesh, view: Cameras, raster: Rasteriser) -> Float[np.ndarray, "H W"]:
    """Before each pixel the depth of the farthest surface that it or a pixel beside it shows; -inf where none does."""
    seen = render.views(view, mesh.verts)
    pos = render.clip_positions(mesh.verts, seen)
    rast, _ = raster.rasterize(pos, mesh.faces, (seen.height, seen.width), grad_db=False)
    depth = raster.interpolate(pos[..., 3:].contiguous(), rast, mesh.faces)[0][0, ..., 0]
    # A texel between pixels' centres lies beside them on a slope, so the farthest of the neighbours counts.
    return cv2.dilate(torch.where(rast[0, ..., 3] > 0, depth, -torch.inf).numpy(), np.ones((3, 3)))
