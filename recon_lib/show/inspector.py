"""A 3-D view to look at a finished mesh closely, in a live notebook: its surface in several ways, and the photos around it.

The mouse orbits. The photos stand on the frusta of their cameras; a click on one, or its name in the list, shows the mesh
through that camera over the photo. A mesh with more than MOST_FACES is decimated for the view. What photos say of the surface
are the maps that stage 4 made (`modes`). Exported HTML shows nothing of it; the notebook has stills beside it. In three.js
texture rows start at v = 0, so glTF's coordinates hold as they are.
"""

import warnings
from collections.abc import Mapping
from math import atan, degrees

import ipywidgets
import numpy as np
import pythreejs as three
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon_lib import camera
from recon_lib.mesh import Mesh, vertex_normals
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.show import modes
from recon_lib.surface import meshio, placement
from recon_lib.verdict import images

MOST_FACES, TEXTURE = 50_000, 1024  # of the view's copy; texels along a side
MOST_FRUSTA = 48  # of more photos, as many evenly spread ones are drawn
THUMBNAIL, BEHIND = 96, 800  # pixels along a photo's long side, on its frustum and behind the mesh
FRUSTUM = 0.2  # depth of a frustum, as a share of its camera's distance
OVERLAID = 0.6  # opacity with which the mesh is first shown over a photo
EDGE = 0.01  # beyond the mesh, where the cut begins and ends
START = (1.2, 0.9, 2.2)  # of the eye; the mesh is y up, in the sphere of radius 0.5
PLAIN = ("texture", "wireframe", "normals")  # ways to show the surface; the maps' names are the others


class Inspector:
    """The view and its controls: `widget`."""

    def __init__(
        self, mesh: Mesh, photos: Scene, raster: Rasteriser, before: Mesh | None = None,
        maps: Mapping[str, Float[Tensor, "H W 3"]] | None = None, size=(760, 520),
    ):  # fmt: skip
        """`mesh` and the earlier mesh `before` are in the world, as the photos' cameras are; `maps` are as in `modes.read`."""
        T = placement.upright_frame(mesh, photos.up)
        self.photos, self.cameras = photos, None if photos.cameras is None else camera.moved(photos.cameras, T)
        self.mesh, self.maps = modes.decimated(placement.transform(mesh, T), maps or {}, MOST_FACES, TEXTURE, raster)
        self.size = size
        self.bodies: dict[str, three.Mesh] = {}
        self.left, self.right = three.Plane((-1, 0, 0), 1.0), three.Plane((1, 0, 0), 1.0)
        self.eye = three.PerspectiveCamera(fov=26, aspect=size[0] / size[1], position=START, near=0.02, far=30)
        self.orbit = three.OrbitControls(controlling=self.eye)
        self.rims, self.thumbs, self.behind = three.Group(), three.Group(), three.Group()
        self.solid = three.Group(children=[self.thumbs])  # and the meshes, which hide what is behind them
        room = three.Scene(children=[self.eye, self.solid, self.rims, self.behind], background="#ffffff")
        # No lines are picked from, as three.js hits them from as far as 1 unit.
        self.pressed, self.clicked = (
            three.Picker(controlling=self.solid, event=event) for event in ("mousedown", "click")
        )
        self.controls = [self.orbit, self.pressed, self.clicked]
        self.view = three.Renderer(
            camera=self.eye, scene=room, controls=self.controls, width=size[0], height=size[1],
            localClippingEnabled=True,
        )  # fmt: skip
        self.before, earlier = None, self.mesh
        if before is not None:
            earlier, _ = modes.decimated(placement.transform(before, T), {}, MOST_FACES, TEXTURE, raster)
            self.before = self._body(earlier, PLAIN[0], self.left)
            self.solid.add(self.before)
        ends = [end.item() for body in (self.mesh, earlier) for end in body.verts[:, 0].aminmax()]
        self.width = min(ends) - EDGE, max(ends) + EDGE  # where the slider's ends cut
        known = self.cameras is not None
        ways = (*PLAIN, *self.maps)
        self.mode = ipywidgets.Dropdown(options=ways, description="surface", layout={"width": "220px"})
        self.opacity = ipywidgets.FloatSlider(1.0, min=0, max=1, step=0.05, description="opacity")
        self.cut = ipywidgets.FloatSlider(0.0, min=0, max=1, step=0.01, description="before")
        names = [("free view", ""), *((name, name) for name in photos.names)] if known else [("free view", "")]
        self.through = ipywidgets.Dropdown(options=names, description="through", layout={"width": "260px"})
        self.cameras_shown = ipywidgets.ToggleButton(known, description="cameras", layout={"width": "auto"})
        self.says = ipywidgets.HTML()
        self.mode.observe(lambda change: self._show(change["new"]), "value")
        self.opacity.observe(lambda change: self._fade(change["new"]), "value")
        self.cut.observe(lambda change: self._move_cut(change["new"]), "value")
        self.through.observe(lambda change: self._look_through(change["new"]), "value")
        self.cameras_shown.observe(lambda change: self._show_cameras(change["new"]), "value")
        self.clicked.observe(self._pick, "object")
        if known:
            self._draw_frusta()
        self._show(PLAIN[0])
        self._move_cut(0.0)
        rows = [[self.mode, self.through, self.cameras_shown], [self.opacity, *([self.cut] if before else [])]]
        self.widget = ipywidgets.VBox([*(ipywidgets.HBox(row) for row in rows), self.view, self.says])
        self.widget.add_class("recon-inspector")

    def _show(self, mode: str) -> None:
        """Shows the surface in one of the ways; each is made when it is first asked for."""
        if mode not in self.bodies:
            self.says.value = "one moment…"
            self.bodies[mode] = self._body(self.mesh, mode, self.right)
            self.solid.add(self.bodies[mode])
        for name, body in self.bodies.items():
            body.visible = name == mode
        self._fade(self.opacity.value)
        self.says.value = modes.LEGENDS[mode] if mode in self.maps else f"{len(self.mesh.faces)} faces"

    def _body(self, mesh: Mesh, mode: str, plane: three.Plane) -> three.Mesh:
        faces = mesh.faces.long()
        parts = {"position": mesh.verts[faces], "uv": mesh.uvs[mesh.uv_faces.long()]}
        look = {
            "side": "DoubleSide" if mode == "wireframe" else "FrontSide",
            "clippingPlanes": [plane],
            "transparent": True,
        }
        if mode == "normals":
            parts["normal"] = vertex_normals(mesh.verts, mesh.faces)[faces]
            material = three.MeshNormalMaterial(**look)
        else:
            whole = images.picture(self.maps[mode].numpy()) if mode in self.maps else meshio.texture_image(mesh)
            picture = np.asarray(whole.convert("RGBA"))
            only = {"wireframe": True, "color": "#335"} if mode == "wireframe" else {"map": _texture(picture)}
            material = three.MeshBasicMaterial(**only, **look)
        flat = {name: part.reshape(-1, part.shape[-1]).float().numpy() for name, part in parts.items()}
        return three.Mesh(_geometry(flat), material)

    def _fade(self, opacity: float) -> None:
        for body in filter(None, (*self.bodies.values(), self.before)):
            body.material.opacity = opacity

    def _move_cut(self, share: float) -> None:
        """Shows the earlier mesh in this share of the mesh's width, from the left."""
        x = self.width[0] + share * (self.width[1] - self.width[0])
        self.right.constant, self.left.constant = -x, x
        if self.before is not None:
            self.before.visible = share > 0

    def _draw_frusta(self) -> None:
        count = len(self.photos.names)
        for i in np.unique(np.linspace(0, count - 1, min(count, MOST_FRUSTA)).astype(int)).tolist():
            eye = self.cameras.T_world_cam[i, :3, 3].numpy()
            corners = self._corners(i, FRUSTUM * float(np.linalg.norm(eye)))
            rim = np.concatenate([corners, np.roll(corners, -1, 0)], 1).reshape(-1, 3)
            rays = np.stack([corners, np.broadcast_to(eye, corners.shape)], 1).reshape(-1, 3)
            colour = "#ff7f0e" if self.photos.held_out[i] else "#1f77b4"
            lines = three.LineSegments(
                _geometry({"position": np.concatenate([rim, rays])}), three.LineBasicMaterial(color=colour)
            )
            photo = self._quad(i, corners, THUMBNAIL)
            photo.name = self.photos.names[i]
            self.rims.add(lines)
            self.thumbs.add(photo)

    def _show_cameras(self, wanted: bool) -> None:
        self.rims.visible = self.thumbs.visible = wanted

    def _corners(self, i: int, depth: float) -> np.ndarray:
        """The corners of a photo's picture at a depth before its camera: top left, top right, bottom right, bottom left."""
        width, height = self.cameras.sizes[i].tolist()
        fx, fy, cx, cy = self.cameras.intrinsics[i].tolist()
        ends = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
        p_cam = np.column_stack([(ends[:, 0] - cx) / fx, (cy - ends[:, 1]) / fy, -np.ones(4)]) * depth
        T = self.cameras.T_world_cam[i].double().numpy()
        return p_cam @ T[:3, :3].T + T[:3, 3]

    def _quad(self, i: int, corners: np.ndarray, side: int) -> three.Mesh:
        small = Image.fromarray(self.photos.images[i])
        small.thumbnail((side, side))
        white = Image.new("RGBA", small.size, "white")
        picture = np.asarray(Image.alpha_composite(white, small))
        order = [0, 3, 2, 0, 2, 1]
        uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])[order]
        material = three.MeshBasicMaterial(
            map=_texture(picture), side="DoubleSide", polygonOffset=True, polygonOffsetFactor=1, polygonOffsetUnits=1
        )  # fmt: skip  behind its rim
        return three.Mesh(_geometry({"position": corners[order], "uv": uv}), material)

    def _pick(self, change: dict) -> None:
        """Looks through the photo that was clicked on; the end of an orbit is a click as well, but elsewhere than it began."""
        name = getattr(change["new"], "name", "")
        if (
            self.thumbs.visible
            and name in self.photos.names
            and np.allclose(self.pressed.point, self.clicked.point, atol=1e-3)
        ):
            self.through.value = name
        self.pressed.object = self.clicked.object = None  # so that the same photo can be clicked on again

    def _look_through(self, name: str) -> None:
        """Puts the eye where a photo was taken, the photo behind the mesh; an empty name gives the eye back to the mouse."""
        self._show_cameras(self.cameras_shown.value and not name)
        if not name:
            self.behind.children, self.opacity.value = [], 1.0
            self.eye.fov, self.eye.position = 26, START
            self.eye.lookAt((0, 0, 0))
            self.view.controls = self.controls
            return
        self.opacity.value = min(self.opacity.value, OVERLAID)
        i = self.photos.names.index(name)
        T = self.cameras.T_world_cam[i].double().numpy()
        far = float(np.linalg.norm(T[:3, 3])) + 0.6
        self.behind.children = [self._quad(i, self._corners(i, far), BEHIND)]
        height, fy = self.cameras.sizes[i, 1].item(), self.cameras.intrinsics[i, 1].item()
        self.view.controls = []
        self.eye.fov = degrees(2 * atan(1.05 * height / 2 / fy))
        self.eye.position = tuple(T[:3, 3].tolist())
        self.eye.quaternion = tuple(Rotation.from_matrix(T[:3, :3]).as_quat().tolist())


def _texture(picture: np.ndarray) -> three.DataTexture:
    return three.DataTexture(data=np.ascontiguousarray(picture), format="RGBAFormat", type="UnsignedByteType",
                             magFilter="LinearFilter", minFilter="LinearFilter")  # fmt: skip


def _geometry(parts: dict[str, np.ndarray]) -> three.BufferGeometry:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # traittypes warns of the dtype of every attribute
        attributes = {name: three.BufferAttribute(part.astype(np.float32)) for name, part in parts.items()}
        return three.BufferGeometry(attributes=attributes)
