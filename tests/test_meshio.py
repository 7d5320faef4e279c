import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from recon_lib import camera, render
from recon_lib.raster import cpu
from recon_lib.surface import checks, meshio

VALIDATOR = Path(__file__).parents[1] / "build" / "node_modules" / "gltf-validator"
VALIDATE = """
const validator = require(process.argv[1]), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2]))).then(r => console.log(JSON.stringify(r.issues)));
"""
UPS = [(0, 1, 0), (0, 0, 1), (0, -1, 0), (1, 0, 0), (0.1, 0.2, 0.9)]


@pytest.mark.parametrize("name", ["mesh.glb", "mesh.obj"])
@pytest.mark.parametrize("up", UPS)
def test_a_file_read_back_renders_the_same(ball, tmp_path, up, name):
    manifest = meshio.save(ball, tmp_path, np.array(up))
    back = meshio.load(tmp_path / name, np.array(manifest["files"][name]["T_world_file"]))
    view = camera.orbit(3, 0.4, 5.0, 0.5, 96)
    before, after = (render.render(m, view, cpu) for m in (ball, back))
    # 8 bits of sRGB: at most half a step, 1/510, times the curve's largest slope of 2.3 at white.
    assert (before - after).abs().max() < 0.008
    assert checks.check_mesh(back.verts, back.faces) == checks.check_mesh(ball.verts, ball.faces)


@pytest.mark.parametrize("up", UPS)
def test_glb_and_obj_stand_upright_wherever_the_worlds_up_is(ball, tmp_path, up):
    axis = torch.tensor(up, dtype=torch.float32)
    axis /= axis.norm()
    tall = ball.verts + 3 * (ball.verts @ axis)[:, None] * axis  # four times as long along up
    meshio.save(replace(ball, verts=tall), tmp_path, np.array(up))
    for name in ("mesh.glb", "mesh.obj"):
        extent = np.ptp(trimesh.load_mesh(tmp_path / name, process=False).vertices, axis=0)
        assert extent == pytest.approx([2, 8, 2], rel=0.05)


def test_ply_stays_in_the_world_with_shared_vertices_and_colours(ball, tmp_path):
    meshio.save(ball, tmp_path, np.array([0, 0, 1]))
    back = trimesh.load_mesh(tmp_path / "mesh.ply", process=False)
    assert np.allclose(back.vertices, ball.verts.numpy(), atol=1e-6)
    assert back.is_watertight
    right, left = back.vertices[:, 0].argmax(), back.vertices[:, 0].argmin()
    assert back.visual.vertex_colors[right][0] > 230 > 140 > back.visual.vertex_colors[left][0]


def test_the_texture_is_upright_in_other_programs(ball, tmp_path):
    """trimesh's own lookup, which has nothing of ours in it, finds red grow with x, green with y, blue with z."""
    meshio.save(ball, tmp_path, np.array([0, 1, 0]))
    for name in ("mesh.glb", "mesh.obj"):
        body = trimesh.load_mesh(tmp_path / name, process=False)
        rgb = np.asarray(body.visual.to_color().vertex_colors)[:, :3]
        for axis in range(3):
            assert np.corrcoef(rgb[:, axis], body.vertices[:, axis])[0, 1] > 0.98


def test_a_failing_obj_or_ply_never_costs_the_glb(ball, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(meshio, "_write_obj", refuse)
    monkeypatch.setattr(meshio, "_write_ply", refuse)
    manifest = meshio.save(ball, tmp_path, np.array([0, 1, 0]))
    assert manifest["failed"] == {"mesh.obj": "disk full", "mesh.ply": "disk full"}
    assert len(meshio.load(tmp_path / "mesh.glb").faces) == len(ball.faces)


@pytest.mark.skipif(
    not VALIDATOR.exists() or not shutil.which("node"), reason="needs node and build/node_modules/gltf-validator"
)
def test_khronos_validator_finds_nothing_wrong(painted_jug, tmp_path):
    meshio.save(painted_jug, tmp_path, np.array([0, 1, 0]))
    out = subprocess.run(
        ["node", "-e", VALIDATE, str(VALIDATOR), str(tmp_path / "mesh.glb")], capture_output=True, text=True, check=True
    )
    issues = json.loads(out.stdout)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"][:5]


def test_the_glb_says_unlit_and_embeds_its_texture(ball, tmp_path):
    meshio.save(ball, tmp_path, np.array([0, 1, 0]))
    data = (tmp_path / "mesh.glb").read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    assert tree["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert all("bufferView" in image for image in tree["images"])


def test_a_file_without_texture_is_refused(ball, tmp_path):
    trimesh.Trimesh(ball.verts.numpy(), ball.faces.numpy()).export(tmp_path / "bare.glb")
    with pytest.raises(ValueError, match="no texture coordinates or no base-colour image"):
        meshio.load(tmp_path / "bare.glb")


def test_a_texture_reads_the_same_whatever_the_number_of_threads(ball, tmp_path):
    shade = torch.rand(611, 607, 3, generator=torch.Generator().manual_seed(0))
    meshio.save(replace(ball, texture=shade), tmp_path, np.array([0, 1, 0]))
    read = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        read.append(meshio.load(tmp_path / "mesh.glb").texture)
    assert torch.equal(*read)
