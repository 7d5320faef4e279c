"""The 3-D viewer that opens offline, a self-contained page. In a notebook that a person watches there is `close_view`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor
from trimesh.viewer import scene_to_html

from recon_lib import colour
from recon_lib.mesh import Mesh
from recon_lib.raster.interface import Rasteriser
from recon_lib.show import modes
from recon_lib.surface import meshio

LIGHT_TEXTURE = 512  # texels along a side of the decimated copy


def save(
    path: Path,
    mesh: Mesh,
    most_faces: int,
    raster: Rasteriser,
    maps: Mapping[str, Float[Tensor, "H W 3"]] | None = None,
) -> None:
    """Writes a self-contained HTML page with three.js and a decimated copy of `mesh` (y up).

    `maps` are sRGB pictures in the mesh's texture coordinates, of the size of its texture: the page's other modes (`modes`).
    """
    few, others = modes.decimated(mesh, maps or {}, most_faces, LIGHT_TEXTURE, raster)
    # trimesh's page decodes the texture to linear light and shows that unchanged, so the texture is encoded twice.
    light = replace(few, texture=colour.linear_to_srgb(few.texture.clamp(0, 1)))
    page = scene_to_html(meshio.textured_scene(light, np.array([0.0, 1.0, 0.0])))
    path.write_text(modes.add(page, others))
