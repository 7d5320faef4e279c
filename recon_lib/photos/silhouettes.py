"""How well masks and cameras agree: whether one body can have all the silhouettes.

Axes: B views, H W pixels of small masks, top row first.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from recon_lib import camera
from recon_lib.camera import Cameras
from recon_lib.photos import framing

POINTS = 72  # points a side of the grid that is carved
SIDE = 40  # pixels of the long side of the small masks


def small(alpha: UInt8[np.ndarray, "_ _"]) -> Bool[np.ndarray, "_ _"]:
    """The mask at the size at which masks are compared."""
    scale = min(1.0, SIDE / max(alpha.shape))
    size = (max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale)))
    return cv2.resize(np.ascontiguousarray(alpha), size, interpolation=cv2.INTER_AREA) > 127


def small_cameras(
    poses: list[Float[np.ndarray, "4 4"]], intrinsics: list[tuple[float, float, float, float]], sizes: list[tuple[int, int]],
    masks: list[Bool[np.ndarray, "_ _"]],
) -> Cameras:  # fmt: skip
    """The cameras of photos of these sizes, for their small masks."""
    rows = []
    for (fx, fy, cx, cy), (width, height), mask in zip(intrinsics, sizes, masks, strict=True):
        sx, sy = mask.shape[1] / width, mask.shape[0] / height
        rows.append([fx * sx, fy * sy, cx * sx, cy * sy])
    return Cameras(
        torch.from_numpy(np.stack(poses)).float(),
        torch.tensor(rows, dtype=torch.float32),
        torch.tensor([mask.shape[::-1] for mask in masks]),
    )


def agreement(masks: list[Bool[np.ndarray, "_ _"]], cameras: Cameras) -> float:
    """The mean share of each silhouette that the body inside all silhouettes fills: 1 where masks and cameras agree.

    The cameras' intrinsics are those of the small masks.
    """
    T = cameras.T_world_cam.double().numpy()
    eyes, forward = T[:, :3, 3], -T[:, :3, 2]
    centre = framing.meeting_point(eyes, forward)
    focal = cameras.intrinsics.double().numpy()[:, :2]
    reach = (cameras.sizes.double().numpy() / 2 / focal).max(1)
    half = np.median(np.linalg.norm(eyes - centre, axis=1) * reach)
    steps = np.linspace(-half, half, POINTS)
    points = centre + np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    kept, places = np.ones(len(points), bool), []
    for i, mask in enumerate(masks):
        xy, depth = camera.project(cameras[[i]], torch.from_numpy(points).float())
        at = np.floor(np.nan_to_num(xy[0].numpy()[:, ::-1], nan=-1).clip(-1, max(mask.shape))).astype(int)
        seen = (depth[0].numpy() > 0) & (at >= 0).all(1) & (at < mask.shape).all(1)
        at[~seen] = 0
        kept &= seen & mask[at[:, 0], at[:, 1]]
        places.append(at)
    shares = []
    for mask, at in zip(masks, places, strict=True):
        filled = np.zeros_like(mask)
        filled[at[kept, 0], at[kept, 1]] = True
        shares.append((filled & mask).sum() / max(mask.sum(), 1))
    return float(np.mean(shares))
