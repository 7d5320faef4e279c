"""A lit mesh in files: material, normal map, tangents, light; and what becomes of it without light."""

import json
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_meshio import UPS, VALIDATE, VALIDATOR

from recon_lib import camera, mesh, render
from recon_lib.raster import cpu
from recon_lib.shading import cubemap
from recon_lib.surface import bake, hdr, meshio, normal_map, placement, uv

VIEWS = camera.orbit(4, 0.3, 5.0, 0.5, 96)


def smooth(height: int, width: int, low: float, high: float, channels: int, seed: int) -> torch.Tensor:
    noise = torch.rand(1, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)[0]
    return image.permute(1, 2, 0) * (high - low) + low


@pytest.fixture(scope="module")
def lit_ball(ball):
    """The ball with varied material, dented normals and a sky that is brighter above and to the right."""
    height, width = ball.texture.shape[:2]
    values = torch.cat([smooth(height, width, 0.3, 0.9, 3, 0), smooth(height, width, -0.3, 0.3, 3, 1)], -1)
    values = uv.dilate(values, uv.covered(ball.uvs, ball.uv_faces, (height, width), cpu))
    d = cubemap.directions(16)
    light = 0.5 + (d @ torch.tensor([0.6, 0.8, 0.0])).clamp_min(0).pow(6)[..., None] * torch.tensor([3.0, 2.5, 2.0])
    return replace(ball, material=mesh.Material(values), light=light)


def saved(body: mesh.Mesh, folder: Path, up) -> mesh.Mesh:
    manifest = meshio.save(body, folder, np.array(up, float))
    assert manifest["failed"] == {}
    (folder / f"{folder.name}.json").write_text(json.dumps(manifest))
    return meshio.load_from(folder.parent, f"{folder.name}/mesh.glb")


@pytest.mark.parametrize("up", UPS)
def test_a_lit_mesh_read_back_renders_the_same(lit_ball, tmp_path, up):
    back = saved(lit_ball, tmp_path, up)
    before, after = (render.render(m, VIEWS, cpu)[..., :3] for m in (lit_ball, back))
    assert (before - after).square().mean().sqrt() < 0.004 and before.max() > 0.5
    smooth_only = back.material.values * torch.tensor([1.0, 1, 1, 0, 0, 0])
    flat = replace(back, material=mesh.Material(smooth_only))
    assert (before - render.render(flat, VIEWS, cpu)[..., :3]).square().mean().sqrt() > 0.02  # the dents show


def test_the_lit_glb_is_plain_gltf_without_an_error(lit_ball, tmp_path):
    saved(lit_ball, tmp_path, (0, 0, 1))
    data = (tmp_path / "mesh.glb").read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    assert set(attributes) == {"POSITION", "NORMAL", "TANGENT", "TEXCOORD_0"} and "extensionsUsed" not in tree
    material = tree["materials"][0]
    assert {"normalTexture", "occlusionTexture", "pbrMetallicRoughness"} <= set(material)
    if not VALIDATOR.exists():
        pytest.skip("gltf-validator is not installed: make validator (needs npm)")
    command = ["node", "-e", VALIDATE, str(VALIDATOR), str(tmp_path / "mesh.glb")]
    issues = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"][:5]


def test_normal_maps_and_offsets_are_inverse(lit_ball):
    tangent = normal_map.from_offsets(lit_ball, cpu)
    assert torch.allclose(tangent.norm(dim=-1), torch.ones(()), atol=1e-5) and tangent[..., 2].mean() > 0.8
    shape = lit_ball.material.values.shape[:2]
    known = uv.covered(lit_ball.uvs, lit_ball.uv_faces, shape, cpu)
    rast = uv.atlas_raster(lit_ball.uvs, lit_ball.uv_faces, shape, cpu)
    normal = cpu.interpolate(mesh.vertex_normals(lit_ball.verts, lit_ball.faces)[None], rast, lit_ball.faces)[0][0]
    normal = torch.nn.functional.normalize(normal, dim=-1)
    wanted, found = (
        torch.nn.functional.normalize(normal + offset, dim=-1)[known]
        for offset in (lit_ball.material.normal_offset, normal_map.to_offsets(lit_ball, tangent, cpu))
    )
    assert (wanted - found).abs().max() < 1e-3


def test_tangents_run_along_u_and_bitangents_up_the_image():
    """A square in the x-y plane whose texture lies on it like a picture: u along +x, v along -y."""
    verts = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    uvs = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    picture = mesh.Mesh(verts, faces, uvs, faces, torch.zeros(2, 2, 3))
    assert torch.allclose(normal_map.tangents(picture), torch.tensor([1.0, 0, 0, 1]).expand(4, 4), atol=1e-6)
    mirrored = replace(picture, uvs=uvs * torch.tensor([-1.0, 1]) + torch.tensor([1.0, 0]))
    assert torch.allclose(normal_map.tangents(mirrored), torch.tensor([-1.0, 0, 0, -1]).expand(4, 4), atol=1e-6)


def test_the_light_file_is_upright_and_in_the_frame_of_the_glb(lit_ball, tmp_path):
    up = (
        cubemap.directions(16)[..., 2:].clamp_min(0).expand(-1, -1, -1, 3).contiguous()
    )  # bright towards the world's +z
    saved(replace(lit_ball, light=up), tmp_path, (0, 0, 1))
    image = cv2.imread(str(tmp_path / "light.hdr"), cv2.IMREAD_UNCHANGED)
    assert image.shape == (256, 512, 3) and image[0].mean() > 0.9 and image[128:].max() < 0.1


def test_relighting_is_one_call_and_does_what_the_new_sky_does(lit_ball, tmp_path):
    image = np.zeros((32, 64, 3), np.float32)
    image[:16] = (0.0, 0.0, 4.0)  # a red upper half: cv2 is BGR
    cv2.imwrite(str(tmp_path / "red.hdr"), image)
    seen = render.render(meshio.relight(lit_ball, tmp_path / "red.hdr"), VIEWS, cpu)
    assert seen[..., 0].max() > 0.5 and seen[..., 1:3].max() < 1e-3
    top, bottom = seen[:, :48, :, 0].mean(), seen[:, 48:, :, 0].mean()
    assert top > 2 * bottom
    with pytest.raises(ValueError, match="the mesh is unlit"):
        meshio.relight(replace(lit_ball, light=None), tmp_path / "red.hdr")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no Radiance HDR colour image"),
        (np.zeros((8, 8, 3), np.float32), "8 x 8 pixels, need a width of twice the height"),
        ("text", "no Radiance HDR colour image"),
    ],
)
def test_a_bad_light_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "sky.hdr"
    if isinstance(content, np.ndarray):
        cv2.imwrite(str(path), content)
    elif content:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        hdr.read_light(path, torch.eye(3))


def test_turning_the_world_turns_light_and_dents_with_it(lit_ball):
    T = torch.eye(4)
    T[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    T[:3, :3] *= 2
    turned = placement.transform(lit_ball, T)
    before = render.render(lit_ball, VIEWS, cpu)
    after = render.render(turned, camera.moved(VIEWS, T), cpu)
    assert (before - after).abs().mean() < 1e-3
    assert (
        before - render.render(replace(turned, light=lit_ball.light), camera.moved(VIEWS, T), cpu)
    ).abs().mean() > 0.01


def test_a_baked_copy_looks_like_the_lit_mesh_where_nothing_shines(lit_ball):
    matt = lit_ball.material.values.clone()
    matt[..., 1], matt[..., 2] = 1, 0
    matt = replace(lit_ball, material=mesh.Material(matt))
    flat = bake.bake_light(matt, cpu)
    assert flat.light is None and flat.material is None
    before, after = (render.render(m, VIEWS, cpu)[..., :3] for m in (matt, flat))
    assert (before - after).square().mean().sqrt() < 0.03 < before.std()
    assert bake.bake_light(flat, cpu) is flat
