"""The world of cameras that were found in photos: the object in the middle, z up, and a scale that nothing gives.

The middle of the object's box is the origin and its farthest point is at distance 1. Axes: B views, N points.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon_lib import frames
from recon_lib.photos import up

Y_TO_Z = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


class Upright(NamedTuple):
    """The similarity to the new world, as a rotation with a shift and then a scale, and whether its up was measured."""

    T_new_old: Float[np.ndarray, "4 4"]  # rigid
    scale: float  # of positions, after the rigid part
    up_source: str


def upright(T_world_cam: Float[np.ndarray, "B 4 4"], body: Float[np.ndarray, "N 3"]) -> Upright:
    """The new world of cameras around a body."""
    own = up.of_cameras(T_world_cam)
    if own is None:
        mean = T_world_cam[:, :3, 1].mean(0)
        direction = mean if np.linalg.norm(mean) > 1e-3 else np.array((0.0, 0.0, 1.0))
    else:
        direction = own.up
    source = up.MEASURED if own is not None and own.is_sure else "a guess, the cameras' mean up: check the sheet"
    T = Y_TO_Z @ frames.up_to_y(direction)
    turned = body @ T[:3, :3].T
    T[:3, 3] = -(turned.min(0) + turned.max(0)) / 2
    return Upright(T, 1 / float(np.linalg.norm(turned + T[:3, 3], axis=1).max()), source)


def move(T_world_cam: Float[np.ndarray, "B 4 4"], to: Upright) -> Float[np.ndarray, "B 4 4"]:
    """The cameras in the new world."""
    out = to.T_new_old @ T_world_cam
    out[:, :3, 3] *= to.scale
    return out
