"""A view in 3-D of a mesh that changes, for the panel of a running fit."""

import warnings

import ipywidgets
import numpy as np
import torch

from recon_lib import frames
from recon_lib.mesh import Mesh


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
