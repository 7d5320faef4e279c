"""Meshes of other tools: what each kind of file looks like from the front after reading, or by which name it is refused."""

import json
import re
import struct

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from recon_lib import camera, colour, render
from recon_lib.mesh import icosphere
from recon_lib.raster import cpu
from recon_lib.surface import checks, foreign

RED, GREEN, BLUE = (200, 40, 30), (40, 180, 60), (30, 60, 220)


def box(x: float = 0.0) -> trimesh.Trimesh:
    body = trimesh.creation.box((0.4, 0.4, 0.4))
    body.apply_translation((x, 0, 0))
    return body


def textured(x: float, colour, uv=None, factor=None) -> trimesh.Trimesh:
    body = box(x)
    body.unmerge_vertices()
    coordinates = np.random.default_rng(0).random((len(body.vertices), 2)) if uv is None else uv(len(body.vertices))
    material = PBRMaterial(baseColorTexture=Image.new("RGB", (8, 4), colour), baseColorFactor=factor)
    body.visual = TextureVisuals(uv=coordinates, material=material)
    return body


def from_front(path) -> tuple[np.ndarray, foreign.Foreign]:
    """sRGB bytes of a picture from +z of what lies within 0.5 of the origin."""
    found = foreign.read(path)
    rgba = render.render(found.mesh, camera.canonical_six(64)[[0]], cpu)
    return (render.over_white_srgb(rgba)[0] * 255).round().byte().numpy(), found


def at(picture: np.ndarray, x: float) -> list[int]:
    """The colour at (x, 0, 0.2) or so."""
    return picture[32, round(32 + x * 64 * camera.CANONICAL_FOCAL / 2.3)].tolist()


def test_several_materials_become_one_texture(tmp_path):
    scene = trimesh.Scene([textured(-0.22, RED), textured(0.22, BLUE)])
    scene.export(tmp_path / "two.glb")
    picture, found = from_front(tmp_path / "two.glb")
    assert at(picture, -0.22) == pytest.approx(RED, abs=2) and at(picture, 0.22) == pytest.approx(BLUE, abs=2)
    assert found.has_texture and found.notes == ()
    assert checks.check_mesh(found.mesh.verts, found.mesh.faces)[:5] == (0, 0, 0, 0, 2)


def test_without_texture_coordinates_the_materials_colour_is_taken(tmp_path):
    body = box()
    body.visual = TextureVisuals(material=PBRMaterial(baseColorFactor=[255, 0, 0, 255]))
    body.export(tmp_path / "bare.glb")
    picture, found = from_front(tmp_path / "bare.glb")
    assert at(picture, 0) == [255, 0, 0] and not found.has_texture


def test_vertex_colours_are_interpolated_linearly(tmp_path):
    body = box()
    body.visual = ColorVisuals(
        body, vertex_colors=np.where(body.vertices[:, :1] < 0, 250, 10) * [[1, 1, 1, 1]] | [[0, 0, 0, 255]]
    )
    body.export(tmp_path / "mesh.ply")
    picture, found = from_front(tmp_path / "mesh.ply")
    row = colour.srgb_to_linear(torch.from_numpy(picture[32, 22:42, 0] / 255)).numpy()
    assert not found.has_texture and "vertices" in found.notes[0]
    assert (np.diff(row) < -0.02).all() and abs(np.diff(row, 2)).max() < 0.01  # falls from left to right, evenly


def test_the_colours_of_many_faces_stay_apart(tmp_path):
    ball = icosphere(2)
    body = trimesh.Trimesh(0.4 * ball.verts.numpy(), ball.faces.numpy(), process=False)
    body.visual.face_colors = np.where(body.triangles_center[:, :1] < 0, [RED], [BLUE]).astype(np.uint8)
    body.export(tmp_path / "mesh.ply")
    picture, _ = from_front(tmp_path / "mesh.ply")
    assert at(picture, -0.2) == pytest.approx(RED, abs=2) and at(picture, 0.2) == pytest.approx(BLUE, abs=2)


def test_coordinates_outside_repeat_the_image(tmp_path):
    for u, expected in ((3.25, GREEN), (3.75, BLUE)):  # green in the left half of the image, blue in its right
        body = textured(0, BLUE, uv=lambda n, u=u: np.full((n, 2), (u, 0.5)))
        body.visual.material.baseColorTexture.paste(GREEN, (0, 0, 4, 4))
        body.export(tmp_path / "far.glb")
        picture, found = from_front(tmp_path / "far.glb")
        assert at(picture, 0) == pytest.approx(expected, abs=2) and found.mesh.uvs.max() <= 1


def test_a_factor_tints_the_image(tmp_path):
    textured(0, (255, 255, 255), factor=[255, 0, 255, 255]).export(tmp_path / "tinted.glb")
    assert at(from_front(tmp_path / "tinted.glb")[0], 0) == [255, 0, 255]


def test_an_obj_whose_materials_and_images_lie_in_folders(tmp_path):
    (tmp_path / "materials" / "images").mkdir(parents=True)
    Image.new("RGB", (4, 4), GREEN).save(tmp_path / "materials" / "images" / "green.png")
    (tmp_path / "materials" / "mesh.mtl").write_text("newmtl g\nKd 1 1 1\nmap_Kd images/green.png\n")
    lines = ["mtllib materials/mesh.mtl", "vt 0.5 0.5", "usemtl g"]
    lines += [f"v {x} {y} {z}" for x, y, z in box().vertices] + [
        "f " + " ".join(f"{i + 1}/1" for i in face) for face in box().faces
    ]
    (tmp_path / "mesh.obj").write_text("\n".join(lines))
    picture, found = from_front(tmp_path / "mesh.obj")
    assert at(picture, 0) == pytest.approx(GREEN, abs=2) and found.has_texture


def test_an_image_that_is_missing_is_said_by_name(tmp_path):
    (tmp_path / "mesh.mtl").write_text("newmtl g\nKd 1 1 1\nmap_Kd lost.png\n")
    lines = ["mtllib mesh.mtl", "vt 0.5 0.5", "usemtl g", *(f"v {x} {y} {z}" for x, y, z in box().vertices)]
    lines += ["f " + " ".join(f"{i + 1}/1" for i in face) for face in box().faces]
    (tmp_path / "mesh.obj").write_text("\n".join(lines))
    found = foreign.read(tmp_path / "mesh.obj")
    assert not found.has_texture and any("lost.png" in note for note in found.notes)


def test_no_colours_are_grey(tmp_path):
    box().export(tmp_path / "mesh.stl")
    picture, found = from_front(tmp_path / "mesh.stl")
    assert at(picture, 0) == [128, 128, 128] and "grey" in found.notes[0]


def test_draco_is_read(tmp_path):
    pytest.importorskip("DracoPy")
    (tmp_path / "mesh.glb").write_bytes(
        trimesh.exchange.gltf.export_glb(trimesh.Scene(textured(0, RED)), extension_draco=True)
    )
    assert b"KHR_draco_mesh_compression" in (tmp_path / "mesh.glb").read_bytes()
    assert at(from_front(tmp_path / "mesh.glb")[0], 0) == pytest.approx(RED, abs=2)


def glb(tree: dict) -> bytes:
    content = json.dumps(tree).encode()
    content += b" " * (-len(content) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(content), len(content), b"JSON") + content


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.glb", None, "no such file"),
        ("mesh.docx", b"text", "got .docx, needed a mesh: .glb"),
        ("mesh.glb", b"", "does not begin with `glTF`"),
        ("mesh.glb", b"P6 not a mesh at all", "does not begin with `glTF`"),
        ("mesh.glb", glb({"asset": {"version": "2.0"}, "extensionsRequired": ["EXT_meshopt_compression"]}),
         "requires EXT_meshopt_compression, which is not read here"),
        ("mesh.glb", glb({"asset": {"version": "2.0"}, "scenes": [{"nodes": []}], "scene": 0}), "no triangles"),
        ("mesh.gltf", b"{ damaged", "its JSON is damaged"),
        ("mesh.obj", b"v 0 0 0\nv 1 0 0\n", "no triangles"),
        ("mesh.ply", b"ply\nformat ascii 1.0\nelement vertex 1\n", "cannot be read as .ply"),
    ],
)  # fmt: skip
def test_what_is_no_mesh_is_refused_by_name(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        foreign.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_draco_without_its_package_is_refused_with_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "mesh.glb").write_bytes(glb({"asset": {"version": "2.0"}, "extensionsRequired": [foreign.DRACO]}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install dracopy"):
        foreign.read(tmp_path / "mesh.glb")


def test_the_blocks_of_bare_faces_show_each_corners_colour():
    corners = np.random.default_rng(0).integers(0, 120, (7, 3, 3)).astype(np.uint8)
    picture = foreign._blocks(torch.from_numpy(corners).float())
    texels = foreign._block_corners(0, 7, picture.shape[1] // 2)
    uv = torch.from_numpy((texels / picture.shape[1::-1]).reshape(-1, 2)).float()
    assert torch.allclose(
        render.texture_at(picture, uv, cpu).reshape(7, 3, 3), torch.from_numpy(corners).float(), atol=1e-3
    )
