"""Reads a mesh from any other tool, and says what could not be read of it: several materials, colours at vertices, no colours.

All parts become one mesh with one texture. The files' images are stacked in it; a face without an image gets four texels of its
own, at three of whose centres its corners lie, so that the colours between them are exactly linear. Only base colour is read: a
foreign mesh is compared unlit, as its colours are. Coordinates that leave an image repeat it, as glTF and OBJ mean it.
Positions are in the file's frame. Axes: F faces, H W texels, top row first.
"""

import importlib.util
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from PIL import Image
from trimesh.resolvers import FilePathResolver
from trimesh.visual import ColorVisuals, TextureVisuals

from recon_lib import colour
from recon_lib.mesh import Mesh, weld

KINDS = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")
DRACO = "KHR_draco_mesh_compression"
# Extensions that a file may require: those that change the look alone, and those that trimesh reads.
READ = {DRACO, "EXT_texture_webp", "KHR_mesh_quantization"}
GREY = 0.5  # sRGB, of a part without colours
LARGEST = 4096  # texels along a side of an image; larger ones are shrunk
BORDER = 2  # texels around each image, with its own colours, so that filters do not mix neighbours


class Foreign(NamedTuple):
    """A mesh that was read, and what was not."""

    mesh: Mesh  # unlit, with one texture
    has_texture: bool  # whether all of the texture coordinates are the file's own
    notes: tuple[str, ...]  # sentences


class Nearby(FilePathResolver):
    """Finds what a mesh file names: beside it, or beside a file that it named before, as materials name their images."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.folders, self.missing = [path.parent], list[str]()

    def get(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError, and remembers the name, if it is nowhere."""
        named = Path(name.strip().replace("\\", "/"))
        for folder in self.folders:
            found = folder / named
            if found.is_file():
                if found.parent not in self.folders:
                    self.folders.append(found.parent)
                return found.read_bytes()
        if str(named) not in self.missing:
            self.missing.append(str(named))
        raise FileNotFoundError(name)


class Part(NamedTuple):
    """Triangles with their own image, or with a colour per corner."""

    verts: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray | None  # per vertex, v down; None: `image` holds colours, F 3 3 sRGB
    image: np.ndarray  # H W 3 bytes, or F 3 3 bytes


def read(path: Path) -> Foreign:
    """Reads a mesh file. Raises ValueError that names the file and what is wrong with it: no mesh, empty, compressed."""
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"{path}: got {path.suffix or 'no extension'}, needed a mesh: {', '.join(KINDS)}")
    if path.suffix.lower() in (".glb", ".gltf"):
        _check_gltf(path)
    nearby = Nearby(path)
    notes: list[str] = []
    linear = path.suffix.lower() in (".glb", ".gltf")
    try:
        loaded = trimesh.load_scene(path, process=False, resolver=nearby).dump()
        bodies = [body for body in loaded if isinstance(body, trimesh.Trimesh) and len(body.faces)]
        parts = [_part(body, linear, notes) for body in bodies]
    except Exception as error:  # trimesh and Pillow raise whatever they stumble over
        raise ValueError(f"{path}: cannot be read as {path.suffix}: {type(error).__name__}: {error}") from error
    if not parts:
        raise ValueError(f"{path}: no triangles, needed a mesh")
    notes += [f"{name} is named and not there, so its image or material is missing." for name in nearby.missing]
    return Foreign(_joined(parts), all(part.uvs is not None for part in parts), tuple(dict.fromkeys(notes)))


def _check_gltf(path: Path) -> None:
    """Refuses a file that is no glTF, and extensions without which it cannot be read."""
    content = path.read_bytes()
    if path.suffix.lower() == ".glb":
        if content[:4] != b"glTF" or len(content) < 20:
            raise ValueError(f"{path}: not a GLB file, it does not begin with `glTF`")
        content = content[20 : 20 + struct.unpack("<I", content[12:16])[0]]
    try:
        required = set(json.loads(content).get("extensionsRequired", ()))
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not glTF, its JSON is damaged: {error}") from error
    if DRACO in required and importlib.util.find_spec("DracoPy") is None:
        raise ValueError(f"{path}: compressed by Draco ({DRACO}), which needs `pip install dracopy`")
    unread = sorted(name for name in required - READ if not name.startswith("KHR_materials_"))
    if unread:
        raise ValueError(f"{path}: requires {', '.join(unread)}, which is not read here; export it without")


def _part(body: trimesh.Trimesh, linear: bool, notes: list[str]) -> Part:
    """`linear`: the colours of materials and vertices are linear light, as in glTF."""
    verts, faces = np.array(body.vertices, np.float32), np.array(body.faces, np.int64)
    if faces.min() < 0 or faces.max() >= len(verts):
        raise ValueError(f"faces name vertices {faces.min()} to {faces.max()}, needed 0 to {len(verts) - 1}")
    visual = body.visual
    if isinstance(visual, TextureVisuals):
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None and visual.uv is not None:
            picture = image.convert("RGB")
            if max(picture.size) > LARGEST:
                notes.append(f"An image of {picture.size[0]} x {picture.size[1]} texels is shrunk to {LARGEST}.")
                picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
            return Part(verts, faces, _wrapped(np.array(visual.uv), faces, notes), _tinted(picture, material))
        lacking = "no image" if image is None else "an image and no texture coordinates"
        notes.append(f"A part has {lacking}, so it is compared in its material's one colour.")
        return Part(
            verts,
            faces,
            None,
            _encoded(np.broadcast_to(np.asarray(material.main_color)[:3], (len(faces), 3, 3)), linear),
        )
    if isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        notes.append("Colours stand at the vertices: between them they are interpolated, and no texture is measured.")
        return Part(verts, faces, None, _encoded(np.array(visual.vertex_colors)[faces, :3], linear))
    if isinstance(visual, ColorVisuals) and visual.kind == "face":
        notes.append("Colours stand at the faces, so no texture is measured.")
        return Part(verts, faces, None, np.repeat(np.array(visual.face_colors)[:, None, :3], 3, axis=1))
    notes.append("A part has no colours, so it is compared in grey.")
    return Part(verts, faces, None, np.full((len(faces), 3, 3), round(255 * GREY), np.uint8))


def _encoded(rgb: np.ndarray, linear: bool) -> np.ndarray:
    """Bytes of sRGB."""
    if not linear:
        return rgb.astype(np.uint8)
    return (colour.linear_to_srgb(torch.from_numpy(rgb.astype(np.float32) / 255)) * 255).round().byte().numpy()


def _tinted(picture: Image.Image, material) -> np.ndarray:
    """The image times the material's base colour, both linear."""
    factor = getattr(material, "baseColorFactor", None)
    rgb = np.asarray(picture)
    if factor is None or np.all(np.asarray(factor)[:3] == 255):
        return rgb
    linear = colour.linear_of_bytes(rgb) * torch.tensor(np.asarray(factor, np.float32)[:3] / 255)
    return (colour.linear_to_srgb(linear) * 255).round().byte().numpy()


def _wrapped(uv: np.ndarray, faces: np.ndarray, notes: list[str]) -> np.ndarray:
    """Per corner (F 3 2), v down, each face moved by whole images so that it begins in the first one."""
    corners = np.stack([uv[..., 0], 1 - uv[..., 1]], -1)[faces]
    if (corners >= -1e-4).all() and (corners <= 1 + 1e-4).all():
        return corners
    corners = corners - np.floor(corners.min(1, keepdims=True) + 1e-6)
    over = int((corners > 1 + 1e-4).any((1, 2)).sum())
    if over:
        notes.append(f"{over} faces reach over the end of a repeated image; there its last texels are stretched.")
    return corners.clip(0, 1)


def _joined(parts: Sequence[Part]) -> Mesh:
    """One mesh; its texture holds the parts' images below one another, then the texels of faces without an image."""
    pad = ((BORDER,) * 2, (BORDER,) * 2, (0, 0))
    pictures = [colour.linear_of_bytes(np.pad(p.image, pad, mode="edge")) for p in parts if p.uvs is not None]
    bare = [colour.linear_of_bytes(part.image) for part in parts if part.uvs is None]
    images = [*pictures, *([_blocks(torch.cat(bare))] if bare else [])]
    width, tops = max(image.shape[1] for image in images), np.cumsum([0, *(image.shape[0] for image in images)])
    texture = torch.zeros(tops[-1], width, 3)
    for image, top in zip(images, tops, strict=False):
        texture[top : top + image.shape[0], : image.shape[1]] = image
    texels, own, before = [], iter(zip(pictures, tops, strict=False)), 0
    for part in parts:
        if part.uvs is None:
            texels.append(_block_corners(before, len(part.faces), images[-1].shape[1] // 2) + np.array([0, tops[-2]]))
            before += len(part.faces)
        else:
            image, top = next(own)
            texels.append(part.uvs * (np.array(image.shape[1::-1]) - 2 * BORDER) + BORDER + [0, top])
    uvs = np.concatenate(texels).reshape(-1, 2) / [width, tops[-1]]
    starts = np.cumsum([0, *(len(part.verts) for part in parts)])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)])
    all_verts = torch.from_numpy(np.concatenate([part.verts for part in parts]))
    verts, welded = weld(all_verts, torch.from_numpy(faces.astype(np.int32)))
    return Mesh(
        verts, welded, torch.from_numpy(uvs.astype(np.float32)),
        torch.arange(len(uvs), dtype=torch.int32).reshape(-1, 3), texture,
    )  # fmt: skip


def _blocks(corners: Float[torch.Tensor, "F 3 3"]) -> Float[torch.Tensor, "H W 3"]:
    """Two by two texels per face: its corners' colours, and the fourth with which their bilinear mean is linear on the face."""
    columns = int(np.ceil(np.sqrt(len(corners))))
    rows = -(-len(corners) // columns)
    a, b, c = corners.unbind(1)
    four = torch.zeros(rows * columns, 2, 2, 3)
    four[: len(corners)] = torch.stack([a, b, c, b + c - a], 1).reshape(-1, 2, 2, 3)
    return four.reshape(rows, columns, 2, 2, 3).permute(0, 2, 1, 3, 4).reshape(2 * rows, 2 * columns, 3)


def _block_corners(first: int, count: int, columns: int) -> np.ndarray:
    """The texels (x right, y down) at which the corners of faces lie, F 3 2, in the picture of `_blocks`."""
    row, column = np.divmod(first + np.arange(count), columns)
    corner = 2 * np.stack([column, row], -1) + 0.5
    return np.stack([corner, corner + np.array([1, 0]), corner + np.array([0, 1])], 1)
