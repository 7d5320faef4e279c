"""Moves a mesh by a similarity."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import frames
from recon_lib.mesh import Material, Mesh
from recon_lib.shading import cubemap


def transform(mesh: Mesh, T: Float[Tensor, "4 4"]) -> Mesh:
    """The mesh moved by a similarity `T`, whose rotation also turns the material's normal offsets and the light."""
    R = frames.rotation_of(T)
    moved = replace(mesh, verts=mesh.verts @ T[:3, :3].T + T[:3, 3])
    if mesh.light is None or torch.equal(R.round(decimals=6), torch.eye(3)):
        return moved
    turned = torch.cat([mesh.material.occlusion_roughness_metallic, mesh.material.normal_offset @ R.T], -1)
    return replace(moved, material=Material(turned), light=cubemap.turned(mesh.light, R))


def stand_upright(mesh: Mesh, up: np.ndarray) -> Mesh:
    """The mesh as the canonical rig sees it: +y up, the middle of its box at the origin, inside the sphere of radius 0.5.

    `up` is the world's up vector (3).
    """
    return transform(mesh, upright_frame(mesh, up))


def upright_frame(mesh: Mesh, up: np.ndarray) -> Float[Tensor, "4 4"]:
    """`T_upright_world`: the similarity by which `stand_upright` moves the mesh."""
    T_turned_world = torch.from_numpy(frames.up_to_y(up)).float()
    T = frames.unit_frame(mesh.verts @ T_turned_world[:3, :3].T)
    T[:3] /= 2
    return T @ T_turned_world
