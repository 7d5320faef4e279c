"""Bakes the light of a lit mesh into its texture, for viewers, files and tools that have no environment light."""

from dataclasses import replace

import torch

from recon_lib import render
from recon_lib.mesh import Mesh, vertex_normals
from recon_lib.raster.interface import Rasteriser
from recon_lib.shading import environment, pbr
from recon_lib.surface import uv


def bake_light(mesh: Mesh, raster: Rasteriser) -> Mesh:
    """The unlit mesh whose texels show the colours seen along the normals; an unlit mesh is returned unchanged."""
    if mesh.light is None:
        return mesh
    height, width = mesh.texture.shape[:2]
    rast = uv.atlas_raster(mesh.uvs, mesh.uv_faces, (height, width), raster)
    known = rast[0, ..., 3] > 0
    smooth = raster.interpolate(vertex_normals(mesh.verts, mesh.faces)[None], rast, mesh.faces)[0][0][known]
    row, column = known.nonzero().unbind(1)
    at = torch.stack([(column + 0.5) / width, (row + 0.5) / height], -1)
    orm, offset = render.texture_at(mesh.material.values, at, raster).T.split(3)
    normal = torch.nn.functional.normalize(torch.nn.functional.normalize(smooth.T, dim=0) + offset, dim=0)
    seen = pbr.shade(mesh.texture[known].T, orm, normal, normal, environment.of_cube(mesh.light), raster)
    texture = torch.zeros_like(mesh.texture)
    texture[known] = seen.T
    return replace(mesh, texture=uv.dilate(texture, known), material=None, light=None)
