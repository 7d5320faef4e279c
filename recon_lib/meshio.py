"""Meshes in files.

`save` writes mesh.glb and mesh.obj (+ .mtl, .png) in glTF's frame, y up, and mesh.ply in the world frame; the manifest that
it returns holds for each file `T_world_file`, the 4 x 4 that maps the file's coordinates to the world. The GLB comes first,
and neither of the others can cost it. Colour is baked light, so the GLB's material is unlit (KHR_materials_unlit). Texture
images are 8-bit sRGB. trimesh keeps v up and flips it for glTF; `mesh` has v down.
"""

import json
import logging
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from recon_lib import colour
from recon_lib.mesh import Mesh, vertex_normals
from recon_lib.metrics.checks import weld

log = logging.getLogger(__name__)


def save(mesh: Mesh, folder: Path, up: np.ndarray) -> dict:
    """Writes the three files into `folder`; returns {"files": {name: {"T_world_file"}}, "failed": {name: reason}}."""
    T_file_world = up_to_y(up)
    T_world_file = np.linalg.inv(T_file_world).tolist()
    split = _split(mesh, T_file_world)
    (folder / "mesh.glb").write_bytes(textured_scene(mesh, up).export())
    manifest = {"files": {"mesh.glb": {"T_world_file": T_world_file}}, "failed": {}}
    for name, write, T in (
        ("mesh.obj", lambda: _write_obj(split, mesh, folder), T_world_file),
        ("mesh.ply", lambda: _write_ply(mesh, folder / "mesh.ply"), np.eye(4).tolist()),
    ):
        try:
            write()
        except (OSError, ValueError) as error:
            log.error("%s was not written, mesh.glb is there: %s", name, error)
            manifest["failed"][name] = str(error)
        else:
            manifest["files"][name] = {"T_world_file": T}
    return manifest


def load_from(run_dir: Path, name: str) -> Mesh:
    """A stage's mesh, such as "coarse/mesh.glb", in the world: the folder's manifest says how."""
    path = run_dir / name
    manifest = path.parent / f"{path.parent.name}.json"
    if not manifest.exists():
        raise ValueError(
            f"{manifest}: no such file; run the stage that writes {path.parent.name}/ for this run folder first"
        )
    return load(path, np.array(json.loads(manifest.read_text())["files"][path.name]["T_world_file"]))


def load(path: Path, T_world_file: np.ndarray | None = None) -> Mesh:
    """Reads a textured GLB or OBJ, welds its seams, and moves it to the world.

    Raises ValueError for a file without faces, without texture coordinates or without a base-colour image.
    """
    loaded = trimesh.load_mesh(path, process=False)
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise ValueError(f"{path}: no triangles, need one textured mesh")
    material = getattr(loaded.visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if getattr(loaded.visual, "uv", None) is None or image is None:
        raise ValueError(f"{path}: no texture coordinates or no base-colour image, need both")
    file_verts, file_faces = _tensor(loaded.vertices), torch.from_numpy(np.array(loaded.faces, np.int32))
    verts, faces = weld(file_verts, file_faces)
    uvs = _tensor(loaded.visual.uv)
    uvs = torch.stack([uvs[:, 0], 1 - uvs[:, 1]], -1)
    texture = colour.linear_of_bytes(np.asarray(image.convert("RGB")))
    T = torch.eye(4) if T_world_file is None else _tensor(T_world_file)
    return Mesh(verts @ T[:3, :3].T + T[:3, 3], faces, uvs, file_faces, texture)


def up_to_y(up: np.ndarray) -> np.ndarray:
    """4 x 4 of the shortest rotation that brings the world's up to +y; z up becomes (x, z, -y)."""
    up = np.asarray(up, float) / np.linalg.norm(up)
    T = np.eye(4)
    if up[1] < -1 + 1e-9:
        T[:3, :3] = np.diag([1, -1, -1])
        return T
    axis = np.cross(up, [0, 1, 0])
    K = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    T[:3, :3] += K + K @ K / (1 + up[1])
    return T


def texture_image(mesh: Mesh) -> Image.Image:
    return Image.fromarray((colour.linear_to_srgb(mesh.texture.clamp(0, 1)) * 255).round().byte().numpy())


def _tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _split(mesh: Mesh, T_file_world: np.ndarray) -> trimesh.Trimesh:
    """One vertex for each (position, texture coordinate) in use, as the file formats want it."""
    pairs = torch.stack([mesh.faces.reshape(-1), mesh.uv_faces.reshape(-1)], -1).numpy()
    unique, index = np.unique(pairs, axis=0, return_inverse=True)
    R, t = T_file_world[:3, :3], T_file_world[:3, 3]
    verts = (mesh.verts.double().numpy() @ R.T + t).astype(np.float32)
    normals = vertex_normals(mesh.verts, mesh.faces).double().numpy() @ R.T
    return trimesh.Trimesh(
        verts[unique[:, 0]],
        index.reshape(-1, 3),
        vertex_normals=normals[unique[:, 0]],
        visual=TextureVisuals(uv=mesh.uvs.numpy()[unique[:, 1]] * [1, -1] + [0, 1]),
        process=False,
    )


class UnlitScene(trimesh.Scene):
    """A trimesh scene whose GLB says that its colours are final."""

    def export(self, file_obj=None, file_type: str = "glb", **kwargs) -> bytes:
        assert file_obj is None and file_type == "glb"
        return export_glb(self, include_normals=True, tree_postprocessor=_unlit)


def textured_scene(mesh: Mesh, up: np.ndarray) -> UnlitScene:
    """One textured mesh, y up."""
    material = PBRMaterial(
        name="baked", baseColorTexture=texture_image(mesh), metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
    )
    textured = _split(mesh, up_to_y(up))
    textured.visual = TextureVisuals(uv=textured.visual.uv, material=material)
    return UnlitScene(textured)


def _unlit(tree: dict) -> None:
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for material in tree["materials"]:
        material["extensions"] = {"KHR_materials_unlit": {}}


def _write_obj(split: trimesh.Trimesh, mesh: Mesh, folder: Path) -> None:
    textured = split.copy()
    textured.visual = TextureVisuals(
        uv=split.visual.uv,
        material=SimpleMaterial(name="mesh", image=texture_image(mesh), diffuse=[255, 255, 255, 255]),
    )
    text, extras = export_obj(textured, include_normals=True, return_texture=True, mtl_name="mesh.mtl")
    (folder / "mesh.obj").write_text(text)
    for name, content in extras.items():
        (folder / name).write_bytes(content)


def _write_ply(mesh: Mesh, path: Path) -> None:
    height, width = mesh.texture.shape[:2]
    uv = torch.zeros(len(mesh.verts), 2)
    uv[mesh.faces.long().reshape(-1)] = mesh.uvs[mesh.uv_faces.long().reshape(-1)]
    column = (uv[:, 0] * width).long().clamp(0, width - 1)
    row = (uv[:, 1] * height).long().clamp(0, height - 1)
    rgb = np.asarray(texture_image(mesh))[row.numpy(), column.numpy()]
    trimesh.Trimesh(mesh.verts.numpy(), mesh.faces.numpy(), vertex_colors=rgb, process=False).export(path)
