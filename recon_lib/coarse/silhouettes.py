"""Silhouettes of a mesh in many poses at once, and their overlap with the photos' masks.

A pose is `T_ball_unit`. In the frame `unit` the mesh has the middle of its box at the origin and its farthest vertex at
distance 1; `ball` is any frame of the cameras in which the object is about as large and as near the origin.
Axes: B views, K poses, N pairs of both, V vertices, H W pixels of a square crop, top row first.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib import camera, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh
from recon_lib.photos import framing
from recon_lib.photos.resample import area_means
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import simplify

MARGIN = 0.3  # margin around the object in a crop, as a share of its extent in the photo
STRAY = 2.0  # radii from the ball's centre that the depth planes enclose


class Masks(NamedTuple):
    """Masks cropped around the object, and the cameras, with poses in the ball, that see exactly these crops."""

    alpha: Float[Tensor, "B H W"]
    cameras: Cameras


class Body(NamedTuple):
    """A mesh in its unit frame, ready to be drawn."""

    verts: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    topology: object  # `raster.topology` of the faces


def prepare_body(mesh: Mesh, T_unit_mesh: Float[Tensor, "4 4"], most_faces: int, raster: Rasteriser) -> Body:
    """Moves the mesh to its unit frame, decimates it (quadric errors) to about `most_faces`, and puts it on the device."""
    verts = (mesh.verts.double() @ T_unit_mesh[:3, :3].T + T_unit_mesh[:3, 3]).float()
    few = simplify.decimate(Mesh(verts, mesh.faces.int()), most_faces)
    faces = few.faces.contiguous().to(raster.DEVICE)
    return Body(few.verts.contiguous().to(raster.DEVICE), faces, raster.topology(faces))


def crop_masks(alphas: list[np.ndarray], in_ball: Cameras, size: int, raster: Rasteriser) -> Masks:
    """Crops each mask (H W, 0 to 1) to a rectangle around the object, cut at the photo's border, by exact area means.

    `size` is the crops' side in pixels.
    """
    boxes, crops = [], []
    for alpha in alphas:
        box = framing.square_box(alpha, MARGIN)
        plane = area_means(alpha.astype(np.float32), (box[0], box[1], box[2], box[3]), size, size)
        boxes.append(box)
        crops.append(torch.from_numpy(plane))
    cropped = camera.cropped(in_ball, torch.tensor(boxes, dtype=in_ball.intrinsics.dtype), size, size)
    return Masks(torch.stack(crops).to(raster.DEVICE), camera.on_device(cropped, raster.DEVICE))


def draw(
    verts: Float[Tensor, "N V 3"], T_clip_ball: Float[Tensor, "N 4 4"], size: int, shape: Body, raster: Rasteriser
) -> Float[Tensor, "N H W"]:
    """Draws each set of vertices (in the ball) in a view of its own; the pixels hold the antialiased coverage, 0 to 1."""
    pos = verts @ T_clip_ball[:, :, :3].mT + T_clip_ball[:, None, :, 3]
    rast, _ = raster.rasterize(pos, shape.faces, (size, size), grad_db=False)
    return raster.antialias((rast[..., 3:] > 0).float(), rast, pos, shape.faces, shape.topology)[..., 0]


def draw_poses(
    T_ball_unit: Float[Tensor, "K 4 4"], shape: Body, target: Masks, raster: Rasteriser
) -> Float[Tensor, "K B H W"]:
    """Draws the body in every pose for every view of the masks; the pixels hold the antialiased coverage, 0 to 1."""
    T_clip_ball, count, size = compute_projections(target.cameras), *target.alpha.shape[:2]
    verts = shape.verts @ T_ball_unit[:, :3, :3].mT + T_ball_unit[:, None, :3, 3]
    each_view = T_clip_ball.repeat(len(T_ball_unit), 1, 1)
    shown = draw(verts.repeat_interleave(count, 0), each_view, size, shape, raster)
    return shown.reshape(-1, count, size, size)


def compute_projections(in_ball: Cameras) -> Float[Tensor, "B 4 4"]:
    """`T_clip_ball` of each camera, with depth planes that enclose the ball."""
    corners = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * (STRAY / 3**0.5)
    return render.views(in_ball, corners.to(in_ball.intrinsics)).T_clip_world


def overlap(shown: Float[Tensor, "*K B H W"], alpha: Float[Tensor, "B H W"]) -> Float[Tensor, "*K B"]:
    """Intersection over union of coverages, which counts partly covered pixels in part."""
    return torch.minimum(shown, alpha).sum((-1, -2)) / torch.maximum(shown, alpha).sum((-1, -2))


@torch.no_grad()
def iou(T_ball_unit: Float[Tensor, "K 4 4"], shape: Body, target: Masks, raster: Rasteriser) -> Float[Tensor, "K B"]:
    """Intersection over union of the masks cut at coverage 0.5, for each pose and view. Draws one view at a time."""
    columns = []
    for i in range(len(target.alpha)):
        view = Masks(target.alpha[[i]], target.cameras[[i]])
        shown = draw_poses(T_ball_unit, shape, view, raster) > 0.5
        columns.append(overlap(shown.float(), (view.alpha > 0.5).float()))
    return torch.cat(columns, 1)
