"""Reads and writes mesh files.

`save` writes mesh.glb and mesh.obj (+ .mtl, .png) in glTF's frame, y up, and mesh.ply in the world frame. The manifest that it
returns holds for each file `T_world_file`, the 4 x 4 that maps the file's coordinates to the world. The GLB is written first,
and stays even if another file fails. A lit mesh gets glTF's metallic-roughness material with tangents and a normal map; its
light becomes light.hdr, latitude-longitude (`shading.cubemap`), in the GLB's frame; OBJ and PLY show only the base colour. The
colours of an unlit mesh are final, so its GLB uses KHR_materials_unlit. Images have 8 bits: base colour sRGB, all others
linear. trimesh has v up and flips it for glTF; `mesh` has v down.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from recon_lib import colour, frames
from recon_lib.mesh import Material, Mesh, vertex_normals, weld
from recon_lib.raster import cpu
from recon_lib.surface import hdr, normal_map

log = logging.getLogger(__name__)
UNLIT = "baked"  # name of a material whose colours are final
NORMAL_ZERO = 128 / 255  # what an 8-bit normal map holds for 0, so that a flat one is exactly flat


def save(mesh: Mesh, folder: Path, up: np.ndarray) -> dict:
    """Writes the mesh files into `folder`; returns {"files": {name: {"T_world_file"}}, "failed": {name: reason}}.

    `up` is the world's up vector (3). Raises an error if the GLB or the light cannot be written.
    """
    T_file_world = frames.up_to_y(up)
    T_world_file = np.linalg.inv(T_file_world).tolist()
    split = _split(mesh, T_file_world)
    (folder / "mesh.glb").write_bytes(textured_scene(mesh, up).export())
    manifest: dict[str, dict[str, Any]] = {"files": {"mesh.glb": {"T_world_file": T_world_file}}, "failed": {}}
    if mesh.light is not None:  # a lit mesh is useless without its light, so an error here is raised, as for the GLB
        hdr.write_light(folder / "light.hdr", mesh.light, torch.from_numpy(T_file_world[:3, :3]).float())
        manifest["files"]["light.hdr"] = {"T_world_file": T_world_file, "cube_size": mesh.light.shape[1]}
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


def written_sentence(manifest: dict) -> str:
    """One sentence: the files that `save` wrote, and those that it could not write."""
    failed = "".join(f" NOT WRITTEN: {name}, {reason}." for name, reason in manifest["failed"].items())
    return f"written: {', '.join(manifest['files'])}.{failed}"


def load_from(run_dir: Path, name: str) -> Mesh:
    """A stage's mesh, such as "coarse/mesh.glb", moved to the world by the manifest in the same folder, with its light.

    Raises ValueError if there is no manifest.
    """
    path = run_dir / name
    manifest = path.parent / f"{path.parent.name}.json"
    if not manifest.exists():
        raise ValueError(
            f"{manifest}: no such file; run the stage that writes {path.parent.name}/ for this run folder first"
        )
    files = json.loads(manifest.read_text())["files"]
    light = path.parent / "light.hdr" if "light.hdr" in files else None
    size = files["light.hdr"]["cube_size"] if light else 0
    return load(path, np.array(files[path.name]["T_world_file"]), light, size)


def load(
    path: Path, T_world_file: np.ndarray | None = None, light: Path | None = None, light_size: int = hdr.CUBE_SIZE
) -> Mesh:
    """Reads a textured GLB or OBJ, welds its seams, and moves it to the world.

    With `light`, a .hdr image in the file's frame, the mesh is lit by a cube map of `light_size` texels per side. Raises
    ValueError for a file without faces, without texture coordinates or without a base-colour image.
    """
    loaded = trimesh.load_mesh(path, process=False)
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise ValueError(f"{path}: no triangles, need one textured mesh")
    material = getattr(loaded.visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uv = getattr(loaded.visual, "uv", None)
    if uv is None or image is None:
        raise ValueError(f"{path}: no texture coordinates or no base-colour image, need both")
    file_verts, file_faces = _tensor(loaded.vertices), torch.from_numpy(np.array(loaded.faces, np.int32))
    verts, faces = weld(file_verts, file_faces)
    uvs = _tensor(uv)
    uvs = torch.stack([uvs[:, 0], 1 - uvs[:, 1]], -1)
    texture = colour.linear_of_bytes(np.asarray(image.convert("RGB")))
    T = torch.eye(4) if T_world_file is None else _tensor(T_world_file)
    mesh = Mesh(verts @ T[:3, :3].T + T[:3, 3], faces, uvs, file_faces, texture)
    if light is None or _is_unlit(path):
        return mesh
    fitted = _read_material(mesh, material)
    return replace(mesh, material=fitted, light=hdr.read_light(light, frames.rotation_of(T), light_size))


def relight(mesh: Mesh, image: Path) -> Mesh:
    """The lit mesh under another light: a latitude-longitude HDR image whose top row is the world's +y.

    Raises ValueError for an unlit mesh, whose colours contain the light in which it was seen.
    """
    if mesh.light is None:
        raise ValueError("relit: the mesh is unlit, its light is baked into its colours; need one with a material")
    return replace(mesh, light=hdr.read_light(image, torch.eye(3), mesh.light.shape[1]))


def texture_image(mesh: Mesh) -> Image.Image:
    """The texture as an 8-bit sRGB picture."""
    return Image.fromarray((colour.linear_to_srgb(mesh.texture.clamp(0, 1)) * 255).round().byte().numpy())


def _is_unlit(path: Path) -> bool:
    return path.suffix == ".glb" and b"KHR_materials_unlit" in path.read_bytes()[: 1 << 20]


def _read_material(mesh: Mesh, material: PBRMaterial) -> Material:
    """Occlusion, roughness, metallic and normal offsets of a glTF material, with glTF's defaults for what it lacks."""
    packed, normals = getattr(material, "metallicRoughnessTexture", None), getattr(material, "normalTexture", None)
    images = [image for image in (packed, normals) if image is not None]
    width, height = images[0].size if images else (1, 1)
    orm = torch.ones(height, width, 3)
    if packed is not None:
        orm = _tensor(packed.convert("RGB")) / 255
        if getattr(material, "occlusionTexture", None) is None:
            orm[..., 0] = 1
    for channel, name in ((1, "roughnessFactor"), (2, "metallicFactor")):
        factor = getattr(material, name, None)
        orm[..., channel] *= 1.0 if factor is None else factor
    smooth = Material(torch.cat([orm, torch.zeros_like(orm)], -1))
    if normals is None:
        return smooth
    tangent = (_tensor(normals.resize((width, height)).convert("RGB")) / 255 - NORMAL_ZERO) / (1 - NORMAL_ZERO)
    tangent = torch.nn.functional.normalize(tangent, dim=-1)
    return Material(torch.cat([orm, normal_map.to_offsets(replace(mesh, material=smooth), tangent, cpu)], -1))


def _material_images(mesh: Mesh) -> tuple[Image.Image, Image.Image]:
    """Two pictures: occlusion, roughness and metallic in one, and the tangent-space normal map."""
    orm = (mesh.material.occlusion_roughness_metallic.clamp(0, 1) * 255).round().byte().numpy()
    tangent = normal_map.from_offsets(mesh, cpu) * (1 - NORMAL_ZERO) + NORMAL_ZERO
    return Image.fromarray(orm), Image.fromarray((tangent.clamp(0, 1) * 255).round().byte().numpy())


def _tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _split(mesh: Mesh, T_file_world: np.ndarray) -> trimesh.Trimesh:
    """The mesh with one vertex per used pair of position and texture coordinate, as the file formats need it."""
    pairs, faces = (tensor.numpy() for tensor in normal_map.split(mesh))
    R, t = T_file_world[:3, :3], T_file_world[:3, 3]
    verts = (mesh.verts.double().numpy() @ R.T + t).astype(np.float32)
    normals = vertex_normals(mesh.verts, mesh.faces).double().numpy() @ R.T
    return trimesh.Trimesh(
        verts[pairs[:, 0]],
        faces,
        vertex_normals=normals[pairs[:, 0]],
        visual=TextureVisuals(uv=mesh.uvs.numpy()[pairs[:, 1]] * [1, -1] + [0, 1]),
        process=False,
    )


class GltfScene(trimesh.Scene):
    """A trimesh scene whose GLB also states what trimesh cannot write: that colours are final, or the tangents."""

    def export(self, file_obj=None, file_type: str = "glb", **kwargs) -> bytes:
        """The scene as the content of a GLB file, the only type that is supported."""
        assert file_obj is None and file_type == "glb"
        return export_glb(self, include_normals=True, tree_postprocessor=_finish)


def textured_scene(mesh: Mesh, up: np.ndarray) -> GltfScene:
    """A scene with the one textured mesh, turned so that the world's `up` is y."""
    T_file_world = frames.up_to_y(up)
    textured = _split(mesh, T_file_world)
    if mesh.light is None:
        material = PBRMaterial(name=UNLIT, baseColorTexture=texture_image(mesh), metallicFactor=0.0,
                               roughnessFactor=1.0, doubleSided=True)  # fmt: skip
    else:
        orm, normals = _material_images(mesh)
        material = PBRMaterial(name="fitted", baseColorTexture=texture_image(mesh), metallicRoughnessTexture=orm,
                               occlusionTexture=orm, normalTexture=normals, metallicFactor=1.0, roughnessFactor=1.0,
                               doubleSided=True)  # fmt: skip
        tangents = normal_map.tangents(mesh).double().numpy()
        tangents[:, :3] = tangents[:, :3] @ T_file_world[:3, :3].T
        textured.vertex_attributes["_TANGENT"] = tangents.astype(np.float32)
    assert isinstance(textured.visual, TextureVisuals)
    textured.visual = TextureVisuals(uv=textured.visual.uv, material=material)
    return GltfScene(textured)


def _finish(tree: dict) -> None:
    for material in tree["materials"]:
        if material["name"] == UNLIT:
            tree["extensionsUsed"] = ["KHR_materials_unlit"]
            material["extensions"] = {"KHR_materials_unlit": {}}
    for part in tree["meshes"]:
        for primitive in part["primitives"]:  # trimesh writes attributes that it does not know only with an underscore
            if "_TANGENT" in primitive["attributes"]:
                primitive["attributes"]["TANGENT"] = primitive["attributes"].pop("_TANGENT")


def _write_obj(split: trimesh.Trimesh, mesh: Mesh, folder: Path) -> None:
    assert isinstance(split.visual, TextureVisuals)
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
