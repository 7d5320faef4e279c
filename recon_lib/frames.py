"""Frames and the similarities between them: rotation, uniform scale and translation as a 4 x 4 `T_a_b`.

`world` is the frame of the input. `unit` has the middle of the object's bounding box at the origin and the farthest vertex at
distance 1. Mesh files have y up. Lengths are in units of their frame. Axes: K transforms, V vertices.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def unit_frame(verts: Float[Tensor, "V 3"]) -> Float[Tensor, "4 4"]:
    """`T_unit_world`: moves the middle of the bounding box to the origin and the farthest vertex to distance 1."""
    middle = (verts.max(0).values + verts.min(0).values) / 2
    T = torch.eye(4) / (verts - middle).norm(dim=-1).max()
    T[:3, 3], T[3, 3] = -middle * T[0, 0], 1
    return T


def up_to_y(up: np.ndarray) -> np.ndarray:
    """The shortest rotation, 4 x 4, that turns the world's up vector (3) to +y. Where z is up, (x, y, z) becomes (x, z, -y)."""
    up = np.asarray(up, float) / np.linalg.norm(up)
    T = np.eye(4)
    if up[1] < -1 + 1e-9:
        T[:3, :3] = np.diag([1, -1, -1])
        return T
    axis = np.cross(up, [0, 1, 0])
    K = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    T[:3, :3] += K + K @ K / (1 + up[1])
    return T


def rotation_of(T: Float[Tensor, "*K 4 4"]) -> Float[Tensor, "*K 3 3"]:
    """The rotation of a similarity, without its scale."""
    return T[..., :3, :3] / torch.linalg.det(T[..., :3, :3])[..., None, None] ** (1 / 3)
