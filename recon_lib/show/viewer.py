"""The 3-D viewer that opens offline, a self-contained page. In a notebook that a person watches there is `close_view`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from trimesh.viewer import scene_to_html

from recon_lib import colour
from recon_lib.mesh import Mesh
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import bake, meshio, simplify

LIGHT_TEXTURE = 512  # texels along a side of the decimated copy


def save(path: Path, mesh: Mesh, most_faces: int, raster: Rasteriser) -> None:
    """Writes a self-contained HTML page with three.js and a decimated copy of `mesh` (y up)."""
    light = simplify.decimated_copy(bake.bake_light(mesh, raster), most_faces, LIGHT_TEXTURE, raster)
    # trimesh's page decodes the texture to linear light and shows that unchanged, so the texture is encoded twice.
    light = replace(light, texture=colour.linear_to_srgb(light.texture.clamp(0, 1)))
    path.write_text(scene_to_html(meshio.textured_scene(light, np.array([0.0, 1.0, 0.0]))))
