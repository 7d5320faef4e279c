"""Pinhole cameras.

Camera frame is OpenGL: +x right, +y up, looks along -z, as in `transforms.json`. `T_a_b` maps frame b to frame a, so the
pose stored is `T_world_cam`. Pixel origin is the image's top-left corner, pixel centres lie at +0.5; intrinsics are
(fx, fy, cx, cy) in pixels, one set per view. Lengths are scene units, angles radians.

Clip space is the rasteriser's: row 0 is clip y = -1. `projection` negates y so that row 0 is the image's top row; nothing
else in the library flips. Axes: B views, N points.
"""

from dataclasses import dataclass
from math import tan

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CANONICAL_DISTANCE = 2.5  # scene units from the centre of an object in the sphere of radius 0.5
CANONICAL_FOCAL = 1111 / 512  # focal length over image width: a field of view of 26 degrees
# name -> (direction from the object to the camera, image-up), world y up
CANONICAL_VIEWS = {
    "front": ((0, 0, 1), (0, 1, 0)),
    "back": ((0, 0, -1), (0, 1, 0)),
    "right": ((1, 0, 0), (0, 1, 0)),
    "left": ((-1, 0, 0), (0, 1, 0)),
    "top": ((0, 1, 0), (0, 0, -1)),
    "bottom": ((0, -1, 0), (0, 0, 1)),
}


@dataclass(frozen=True, eq=False)
class Cameras:
    """Pinhole cameras without distortion, one row per view."""

    T_world_cam: Float[Tensor, "B 4 4"]
    intrinsics: Float[Tensor, "B 4"]  # fx fy cx cy, pixels
    sizes: Int[Tensor, "B 2"]  # width height, pixels

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index) -> "Cameras":
        """The views that a slice, list or boolean mask selects."""
        return Cameras(self.T_world_cam[index], self.intrinsics[index], self.sizes[index])


def on_device(cameras: Cameras, device: str) -> Cameras:
    """Poses and intrinsics on a torch device; the sizes stay on the CPU."""
    return Cameras(cameras.T_world_cam.to(device), cameras.intrinsics.to(device), cameras.sizes)


def invert_rigid(T: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """The inverse of rotations with translations, by transposing the rotation; wrong for a transform with a scale."""
    out = T.clone()
    out[..., :3, :3] = T[..., :3, :3].mT
    out[..., :3, 3] = -(T[..., :3, :3].mT @ T[..., :3, 3:])[..., 0]
    return out


def from_opencv(T_world_cv: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """Pose of the OpenGL camera that looks as the given OpenCV/COLMAP one (+y down, looks along +z)."""
    return T_world_cv * T_world_cv.new_tensor([1, -1, -1, 1])


def look_at(
    eye: Float[Tensor, "B 3"], target: Float[Tensor, "B 3"], up: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 4 4"]:
    """`T_world_cam` of cameras at `eye` that see `target` in the centre and `up` upwards."""
    back = torch.nn.functional.normalize(eye - target, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=-1)
    T = torch.eye(4, dtype=eye.dtype).repeat(len(eye), 1, 1)
    T[:, :3, :3] = torch.stack([right, torch.linalg.cross(back, right), back], dim=-1)
    T[:, :3, 3] = eye
    return T


def canonical_six(width: int) -> Cameras:
    """The rig of six square views around an object in the sphere of radius 0.5, in the order of `CANONICAL_VIEWS`."""
    towards, up = torch.tensor(list(CANONICAL_VIEWS.values()), dtype=torch.float32).unbind(1)
    T_world_cam = look_at(CANONICAL_DISTANCE * towards, torch.zeros_like(towards), up)
    f = CANONICAL_FOCAL * width
    return Cameras(
        T_world_cam,
        torch.tensor([[f, f, width / 2, width / 2]]).repeat(6, 1),
        torch.tensor([[width, width]]).repeat(6, 1),
    )


def orbit(count: int, elevation_radians: float, distance: float, fov_x_radians: float, width: int) -> Cameras:
    """`count` square views evenly spaced around the origin, world y up. The first is from +z, the next ones turn towards +x.

    `distance` is in scene units, `width` in pixels.
    """
    azimuth = torch.arange(count) * (2 * torch.pi / count)
    height = torch.full_like(azimuth, np.sin(elevation_radians))
    flat = np.cos(elevation_radians)
    towards = torch.stack([flat * azimuth.sin(), height, flat * azimuth.cos()], -1)
    up = torch.tensor([[0.0, 1, 0]]).expand_as(towards)
    f = width / 2 / tan(fov_x_radians / 2)
    return Cameras(
        look_at(distance * towards, torch.zeros_like(towards), up),
        torch.tensor([[f, f, width / 2, width / 2]]).repeat(count, 1),
        torch.tensor([[width, width]]).repeat(count, 1),
    )


def cropped(cameras: Cameras, boxes: Float[Tensor, "B 4"], width: int, height: int) -> Cameras:
    """The same views, cut to `boxes` (x0, y0, x1, y1 in pixels, may leave the image) and resampled to one size."""
    boxes = boxes.to(cameras.intrinsics.device)
    scale = torch.stack([width / (boxes[:, 2] - boxes[:, 0]), height / (boxes[:, 3] - boxes[:, 1])], -1)
    focal, centre = cameras.intrinsics[:, :2], cameras.intrinsics[:, 2:]
    intrinsics = torch.cat([focal * scale, (centre - boxes[:, :2]) * scale], -1)
    return Cameras(cameras.T_world_cam, intrinsics, torch.tensor([[width, height]]).repeat(len(cameras), 1))


def moved(cameras: Cameras, T_new_world: Float[Tensor, "4 4"]) -> Cameras:
    """The same views with their poses in another world frame. `T_new_world` is a similarity: rotation, uniform scale, shift."""
    T = T_new_world.to(cameras.T_world_cam) @ cameras.T_world_cam
    scale = torch.linalg.det(T_new_world[:3, :3]) ** (1 / 3)
    rigid = T.clone()
    rigid[:, :3, :3] /= scale.to(T)
    return Cameras(rigid, cameras.intrinsics, cameras.sizes)


def projection(cameras: Cameras, near: float, far: float) -> Float[Tensor, "B 4 4"]:
    """`T_clip_world`: w is the depth along the viewing axis; z/w is -1 at depth `near` and 1 at depth `far` (scene units)."""
    fx, fy, cx, cy = cameras.intrinsics.unbind(-1)
    width, height = cameras.sizes.to(fx).unbind(-1)
    P = fx.new_zeros(len(cameras), 4, 4)
    P[:, 0, 0], P[:, 0, 2] = 2 * fx / width, 1 - 2 * cx / width
    P[:, 1, 1], P[:, 1, 2] = -2 * fy / height, 1 - 2 * cy / height
    P[:, 2, 2], P[:, 2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    P[:, 3, 2] = -1
    return P @ invert_rigid(cameras.T_world_cam)


def project(cameras: Cameras, p_world: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N"]]:
    """Pixel positions (x right, y down) and depths along the view; a depth ≤ 0 lies behind the camera."""
    T_cam_world = invert_rigid(cameras.T_world_cam)
    p_cam = p_world @ T_cam_world[:, :3, :3].mT + T_cam_world[:, None, :3, 3]
    depth = -p_cam[..., 2]
    xy = p_cam[..., :2] * p_cam.new_tensor([1, -1]) / depth[..., None]
    return xy * cameras.intrinsics[:, None, :2] + cameras.intrinsics[:, None, 2:], depth
