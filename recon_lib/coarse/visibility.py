"""What photos look at, and which surface they see. Lengths are world units. Axes: F faces, X Y Z grid points.

A view looks at a point that lies in its image. It sees a face there that no other surface hides and that is not edge-on:
edge-on surface does not count, because the hull's walls behind the object lie along the rays that just pass it.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from recon_lib import camera, render
from recon_lib.camera import Cameras, invert_rigid
from recon_lib.coarse.carving import count
from recon_lib.mesh import Mesh, face_normals
from recon_lib.raster import cpu

ENOUGH = 0.5  # of the number of views that look at the best seen point
SIZE = 320  # pixels along the longer side of the mesh's box in a photo here
EDGE_ON_DEGREES = 80
EDGE_ON = np.cos(np.radians(EDGE_ON_DEGREES))  # least cosine between a face's normal and the way to the camera


def well_seen(
    field: Float32[np.ndarray, "X Y Z"], below: float, cameras: Cameras, origin: np.ndarray, spacing: float
) -> Bool[np.ndarray, "X Y Z"]:
    """Where the field is less than `below` and enough views look: ENOUGH times as many as at the best seen such point.

    That is half of the views where the object is whole in each, and fewer where photos show parts of it.
    """
    seen = np.zeros(field.shape, np.int32)
    T_cam_world = invert_rigid(cameras.T_world_cam.double()).numpy()
    intrinsics, sizes = cameras.intrinsics.double().numpy(), cameras.sizes.numpy()
    for T, k, (width, height) in zip(T_cam_world, intrinsics, sizes, strict=True):
        count(seen, field, np.float32(below), origin, spacing, T, k, width, height)
    return seen >= max(1.0, ENOUGH * seen.max())


def views_of_faces(mesh: Mesh, cameras: Cameras, size: int = SIZE) -> Int[np.ndarray, " F"]:
    """How many of the cameras see each face; `size` is as `facing` has it."""
    return sum((cosine > EDGE_ON for cosine in facing(mesh, cameras, size)), np.zeros(len(mesh.faces), np.int64))


def facing(mesh: Mesh, cameras: Cameras, size: int = SIZE) -> Iterator[Float[np.ndarray, " F"]]:
    """For each camera the cosine between each face's plane's normal and the way to the camera; -1 where a face is not shown.

    `size` is the longer side in pixels of the mesh's box in the photo; a face that no pixel's centre shows does not count.
    """
    middle = mesh.verts[mesh.faces.long()].mean(1)
    normal = face_normals(mesh.verts, mesh.faces)
    close = dict(close_ups(mesh, cameras, size))
    for i in range(len(cameras)):
        found = np.full(len(mesh.faces) + 1, -1.0)
        if i in close:
            seen = render.views(close[i], mesh.verts)
            pos = render.clip_positions(mesh.verts, seen)
            rast, _ = cpu.rasterize(pos, mesh.faces, (seen.height, seen.width), grad_db=False)
            shown = np.zeros(len(found), bool)
            shown[rast[0, ..., 3].int().numpy()] = True
            to_eye = torch.nn.functional.normalize(cameras.T_world_cam[i, :3, 3] - middle, dim=-1)
            cosine = (normal * to_eye).sum(-1).abs().double().numpy()
            found[1:][shown[1:]] = cosine[shown[1:]]
        yield found[1:]


def close_ups(mesh: Mesh, cameras: Cameras, size: int) -> Iterator[tuple[int, Cameras]]:
    """Each camera that shows the mesh, by its index, cut to the mesh's box in its photo; the longer side is `size` pixels."""
    for i in range(len(cameras)):
        xy, depth = camera.project(cameras[[i]], mesh.verts)
        in_front = xy[0][depth[0] > 0]
        if not len(in_front):
            continue
        low, high = in_front.amin(0).clamp_min(0), torch.minimum(in_front.amax(0), cameras.sizes[i].to(in_front))
        if (high > low).all():
            width, height = (size * (high - low) / (high - low).max()).ceil().long().tolist()
            yield i, camera.cropped(cameras[[i]], torch.cat([low, high])[None], width, height)
