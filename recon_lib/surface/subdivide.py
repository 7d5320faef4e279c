"""Splits chosen faces of a mesh into smaller ones, without moving the surface or its texture.

A chosen face is cut at its edges' midpoints into four. A neighbour with two or three cut edges is cut into four, too; one with
a single cut edge is halved, so that no vertex lies on another face's edge (red and green refinement, Bank et al. 1983).
Texture coordinates are cut with the faces, so charts and texels stay where they are. Axes: F faces, E cut edges.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon_lib.mesh import Mesh, unique_pairs

ENDS = ((0, 1), (1, 2), (2, 0))  # of the three edges of a face


def split(mesh: Mesh, chosen: Bool[Tensor, " F"]) -> Mesh:
    """The mesh with the chosen faces in four. Positions and texture coordinates of old corners keep their numbers."""
    edge, count = _edge_numbers(mesh.faces)
    cut = torch.zeros(count, dtype=torch.bool, device=edge.device)
    cut[edge[chosen]] = True
    while True:  # a face with two cut edges loses the third one, too
        two = cut[edge].sum(1) == 2
        if not two.any():
            break
        cut[edge[two]] = True
    verts, faces = _cut(mesh.verts, mesh.faces, cut[edge])
    if mesh.uvs is None:
        return replace(mesh, verts=verts, faces=faces)
    uvs, uv_faces = _cut(mesh.uvs, mesh.uv_faces, cut[edge])
    return replace(mesh, verts=verts, faces=faces, uvs=uvs, uv_faces=uv_faces)


def _edge_numbers(faces: Int[Tensor, "F 3"]) -> tuple[Int[Tensor, "F 3"], int]:
    """A number for each of a face's edges, the same from both sides; and how many edges there are."""
    pairs = faces.long()[:, ENDS].reshape(-1, 2).sort(dim=-1).values
    unique, number = unique_pairs(pairs)
    return number.reshape(-1, 3), len(unique)


def _cut(
    points: Float[Tensor, "P C"], faces: Int[Tensor, "F 3"], cut: Bool[Tensor, "F 3"]
) -> tuple[Float[Tensor, "Q C"], Int[Tensor, "G 3"]]:
    """Points with the cut edges' midpoints appended, and the faces between them. The cuts must fit on both sides of an edge."""
    corners = faces.long()
    ends, number = unique_pairs(corners[:, ENDS][cut].sort(dim=-1).values)
    middle = torch.full_like(corners, -1)
    middle[cut] = number + len(points)
    whole, half, quarter = (cut.sum(1) == n for n in (0, 1, 3))
    first = cut[half].int().argmax(1, keepdim=True)
    around = (first + torch.arange(3, device=first.device)) % 3
    (a, b, c), m = corners[half].gather(1, around).T, middle[half].gather(1, first)[:, 0]
    halves = torch.stack([a, m, c, m, b, c], -1).reshape(-1, 3)
    (a, b, c), (ab, bc, ca) = corners[quarter].T, middle[quarter].T
    quarters = torch.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], -1).reshape(-1, 3)
    made = torch.cat([corners[whole], halves, quarters]).to(faces.dtype)
    return torch.cat([points, points[ends].mean(1)]), made
