"""Where the object is in photos and in the world: its box in each mask, and the point where the rays through the boxes meet.

A mask is alpha > 0.5. Boxes are (x0, y0, x1, y1) in pixels from the photo's top-left corner. Axes: B views, H W pixels.
"""

import numpy as np
from jaxtyping import Float

from recon_lib.camera import Cameras


def mask_box(alpha: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "4"]:
    """The smallest box of whole pixels around the mask. The mask must not be empty."""
    inside = alpha > 0.5
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


def square_box(alpha: Float[np.ndarray, "H W"], margin: float) -> list[float]:
    """The square around the mask, with a margin on each side of `margin` times its longer side, cut at the photo's border."""
    low, high = np.split(mask_box(alpha), 2)
    half, middle = (0.5 + margin) * (high - low).max(), (low + high) / 2
    return [*np.maximum(middle - half, 0).tolist(), *np.minimum(middle + half, alpha.shape[::-1]).tolist()]


def mask_rays(
    boxes: Float[np.ndarray, "B 4"], cameras: Cameras
) -> tuple[Float[np.ndarray, "B 3"], Float[np.ndarray, "B 3"]]:
    """The cameras' centres, and unit vectors of the rays through the boxes' middles; both in the world, float64."""
    T, K = cameras.T_world_cam.double().cpu().numpy(), cameras.intrinsics.double().cpu().numpy()
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    ray = np.concatenate([(middle - K[:, 2:]) / K[:, :2] * [1, -1], -np.ones((len(boxes), 1))], 1)
    ray = np.einsum("bij,bj->bi", T[:, :3, :3], ray / np.linalg.norm(ray, axis=1, keepdims=True))
    return T[:, :3, 3], ray


def meeting_point(origins: Float[np.ndarray, "B 3"], rays: Float[np.ndarray, "B 3"]) -> Float[np.ndarray, "3"]:
    """The point with the least sum of squared distances to all rays, which are unit vectors."""
    across = np.eye(3) - rays[:, :, None] * rays[:, None]
    return np.linalg.lstsq(across.sum(0), (across @ origins[:, :, None]).sum(0)[:, 0], rcond=None)[0]
