"""Which surface photos see: inside a photo's frame, not hidden by other surface, not edge-on. Axes: F faces.

Edge-on surface does not count, because the hull's walls behind the object lie along the rays that just pass it.
"""

import numpy as np
import torch
from jaxtyping import Int

from recon_lib import camera, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh, face_normals
from recon_lib.raster import cpu

SIZE = 320  # pixels along the longer side of a photo here
EDGE_ON = np.cos(np.radians(80))  # least cosine between a face's normal and the way to the camera


def views_of_faces(mesh: Mesh, cameras: Cameras) -> Int[np.ndarray, " F"]:
    """How many of the cameras see each face."""
    count = np.zeros(len(mesh.faces), np.int64)
    middle = mesh.verts[mesh.faces.long()].mean(1)
    normal = face_normals(mesh.verts, mesh.faces)
    for i in range(len(cameras)):
        width, height = cameras.sizes[i].tolist()
        scale = SIZE / max(width, height)
        size = max(round(scale * width), 1), max(round(scale * height), 1)
        small = camera.cropped(cameras[[i]], torch.tensor([[0.0, 0.0, width, height]]), *size)
        pos = render.clip_positions(mesh.verts, render.views(small, mesh.verts))
        rast, _ = cpu.rasterize(pos, mesh.faces, size[::-1], grad_db=False)
        shown = np.unique(rast[0, ..., 3].long().numpy())
        to_eye = torch.nn.functional.normalize(cameras.T_world_cam[i, :3, 3] - middle, dim=-1)
        facing = ((normal * to_eye).sum(-1) > EDGE_ON).numpy()
        seen = np.zeros(len(count) + 1, bool)
        seen[shown] = True
        count += seen[1:] & facing
    return count
