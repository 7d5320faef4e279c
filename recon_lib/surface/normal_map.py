"""Converts between glTF's tangent-space normal maps and the normal offsets that a `Mesh` keeps in its own frame.

Tangents follow the texture coordinates: t along +u, b = w (n x t) along the image's up direction, that is -v. They are written
to the file, so every reader uses the same frame. A texel m of the map means the normal t m_x + b m_y + n m_z.
Axes: S vertices split at texture seams, F faces, H W texels.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib.mesh import Mesh, unique_pairs, vertex_normals
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import uv


def split(mesh: Mesh) -> tuple[Int[Tensor, "S 2"], Int[Tensor, "F 3"]]:
    """The used pairs (vertex, texture coordinate), each once, and the faces as indices into them."""
    pairs = torch.stack([mesh.faces.long().reshape(-1), mesh.uv_faces.long().reshape(-1)], -1)
    unique, index = unique_pairs(pairs)
    return unique, index.reshape(-1, 3).int()


def tangents(mesh: Mesh) -> Float[Tensor, "S 4"]:
    """Per split vertex, the unit tangent t (perpendicular to the normal) and the sign w."""
    pairs, faces = split(mesh)
    normal = vertex_normals(mesh.verts, mesh.faces)[pairs[:, 0]]
    place, at = mesh.verts[pairs[:, 0]][faces.long()], mesh.uvs[pairs[:, 1]][faces.long()]
    (e1, e2), (d1, d2) = (x[:, 1:].sub(x[:, :1]).unbind(1) for x in (place, at))
    signed = d1[:, :1] * d2[:, 1:] - d1[:, 1:] * d2[:, :1]
    along_u = (e1 * d2[:, 1:] - e2 * d1[:, 1:]) * signed.sign()
    along_v = (e2 * d1[:, :1] - e1 * d2[:, :1]) * signed.sign()
    corner = faces.long().reshape(-1)
    u, v = (torch.zeros_like(normal).index_add(0, corner, x.repeat_interleave(3, 0)) for x in (along_u, along_v))
    t = u - normal * (u * normal).sum(-1, keepdim=True)
    # Where u has no direction, any tangent is as good as another.
    spare = torch.linalg.cross(normal, normal.roll(1, -1) + normal.new_tensor([0.3, 0.5, 0.7]))
    t = torch.nn.functional.normalize(torch.where(t.norm(dim=-1, keepdim=True) > 1e-12, t, spare), dim=-1)
    w = torch.where((torch.linalg.cross(normal, t) * -v).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return torch.cat([t, w], -1)


def from_offsets(mesh: Mesh, raster: Rasteriser) -> Float[Tensor, "H W 3"]:
    """The normal map of a mesh with a material, as unit vectors; texels outside the charts copy the nearest inside."""
    normal, frame, known = _frames(mesh, raster)
    wanted = torch.nn.functional.normalize(normal + mesh.material.normal_offset, dim=-1)
    m = torch.linalg.solve(frame, wanted[..., None])[..., 0]
    return uv.dilate(torch.nn.functional.normalize(m, dim=-1), known)


def to_offsets(mesh: Mesh, normal_map: Float[Tensor, "H W 3"], raster: Rasteriser) -> Float[Tensor, "H W 3"]:
    """The inverse of `from_offsets`; only the resolution of `mesh.material` is used."""
    normal, frame, known = _frames(mesh, raster)
    n = torch.nn.functional.normalize((frame @ normal_map[..., None])[..., 0], dim=-1)
    return uv.dilate(n - normal, known)


def _frames(mesh: Mesh, raster: Rasteriser) -> tuple[Tensor, Tensor, Tensor]:
    """Per texel, the unit normal, the matrix with columns t, b, n, and whether a face covers it."""
    height, width = mesh.material.values.shape[:2]
    pairs, faces = split(mesh)
    rast = uv.atlas_raster(mesh.uvs[pairs[:, 1]], faces, (height, width), raster)
    attributes = torch.cat([vertex_normals(mesh.verts, mesh.faces)[pairs[:, 0]], tangents(mesh)], -1)
    n, t, w = raster.interpolate(attributes[None], rast, faces)[0][0].split([3, 3, 1], -1)
    known = rast[0, ..., 3] > 0
    n = torch.where(known[..., None], torch.nn.functional.normalize(n, dim=-1), n.new_tensor([0.0, 0, 1]))
    t = torch.where(known[..., None], torch.nn.functional.normalize(t, dim=-1), t.new_tensor([1.0, 0, 0]))
    b = torch.linalg.cross(n, t) * torch.where(w < 0, -1.0, 1.0)
    return n, torch.stack([t, b, n], -1), known
