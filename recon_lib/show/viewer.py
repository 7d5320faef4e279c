"""3-D viewers: a live one for a notebook that a person watches, and a self-contained page that opens offline."""

import io
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ipywidgets
import numpy as np
import torch
from IPython.display import display
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from trimesh.viewer import scene_to_html

from recon_lib import colour, frames, progress
from recon_lib.mesh import Mesh
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.show import modes, still, stills
from recon_lib.surface import bake, meshio, placement, simplify

STILL = 400  # pixels along a side of the picture that stands for the view
LIGHT_TEXTURE = 512  # texels along a side of the decimated copy


def inspect(mesh: Mesh, photos: Scene, raster: Rasteriser, before: Mesh | None = None) -> None:
    """Shows the view of `inspector.Inspector` of a mesh in the world; does nothing in a kernel that nobody watches."""
    if not progress.watched():
        return
    from recon_lib.show.inspector import Inspector

    display(Inspector(mesh, photos, raster, before).widget)
    picture = io.BytesIO()
    (front,) = stills.turntable(placement.stand_upright(mesh, photos.up), 1, STILL, raster)
    Image.fromarray(front).save(picture, "PNG")
    display(still.still("recon-inspector", "The viewer; run the cell to turn it", picture.getvalue()))


class LiveMesh:
    """A view of a mesh that changes, in colours of its normals, in which the mouse orbits. It is made when first asked for."""

    def __init__(self, up: np.ndarray):
        self.R = torch.from_numpy(frames.up_to_y(up)[:3, :3]).float()
        self.toggle = ipywidgets.ToggleButton(description="3-D view", icon="cube", layout={"width": "auto"})
        self.toggle.observe(lambda change: self._open(change["new"]), "value")
        self.widget = ipywidgets.VBox([])
        self.mesh: Mesh | None = None
        self.geometry = self.body = None
        self.faces = 0

    def update(self, mesh: Mesh) -> None:
        """Shows the mesh, which lies in the sphere of radius 1 around the origin, if the view is open."""
        self.mesh = mesh
        if self.body is None or not self.toggle.value:
            return
        positions = (mesh.verts.detach().cpu() @ self.R.T).numpy()
        if self.faces == len(mesh.faces):
            self.geometry.attributes["position"].array = positions
        else:
            self.geometry = self.body.geometry = _geometry(positions, mesh.faces.cpu().numpy())
            self.faces = len(mesh.faces)

    def _open(self, wanted: bool) -> None:
        import pythreejs as three

        if wanted and self.body is None and self.mesh is not None:
            positions = (self.mesh.verts.detach().cpu() @ self.R.T).numpy()
            self.geometry, self.faces = _geometry(positions, self.mesh.faces.cpu().numpy()), len(self.mesh.faces)
            self.body = three.Mesh(self.geometry, three.MeshNormalMaterial(flatShading=True, side="DoubleSide"))
            eye = three.PerspectiveCamera(fov=26, aspect=4 / 3, position=[2.4, 1.8, 4.4], near=0.1, far=20)
            room = three.Scene(children=[self.body, eye], background="#ffffff")
            orbit = three.OrbitControls(controlling=eye)
            self.view = three.Renderer(camera=eye, scene=room, controls=[orbit], width=480, height=360)
        self.widget.children = [self.view] if wanted and self.body is not None else []
        if wanted and self.mesh is not None:
            self.update(self.mesh)


def _geometry(positions: np.ndarray, faces: np.ndarray):
    import pythreejs as three

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # traittypes warns of the dtype of every attribute
        return three.BufferGeometry(
            attributes={
                "position": three.BufferAttribute(positions.astype(np.float32)),
                "index": three.BufferAttribute(faces.reshape(-1).astype(np.uint32)),
            }
        )


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
    own = bake.bake_light(mesh, raster)
    layers = torch.cat([own.texture, *(maps or {}).values()], -1)
    few = simplify.decimated_copy(replace(own, texture=layers), most_faces, LIGHT_TEXTURE, raster)
    colours, *others = few.texture.split(3, -1)
    # trimesh's page decodes the texture to linear light and shows that unchanged, so the texture is encoded twice.
    light = replace(few, texture=colour.linear_to_srgb(colours.clamp(0, 1)))
    page = scene_to_html(meshio.textured_scene(light, np.array([0.0, 1.0, 0.0])))
    path.write_text(modes.add(page, dict(zip(maps or {}, others, strict=True))))
