"""Known bad meshes must not come out `normal`; a good one must."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib import camera
from recon_lib.photos import scene
from recon_lib.raster import cpu
from recon_lib.surface import meshio, placement
from recon_lib.surface.checks import Topology
from recon_lib.verdict import judge
from recon_lib.verdict.images import Score

SOUND = Topology(0, 0, 0, 0, 1, 0, 0)


def judged(mesh, photos: scene.Scene) -> dict:
    scored = judge.score(mesh, photos, cpu)
    return judge.judge(scored.mean, scored.topology, scored.label, len(scored.views))


def statuses(result: dict) -> dict:
    return {check["name"]: check["status"] for check in result["checks"]}


@pytest.fixture(scope="module")
def few(jug) -> scene.Scene:
    """The held-out photos, four of them."""
    held = jug.subset(jug.held_out)
    return held.subset(np.arange(len(held.names)) % 2 == 0)


def test_a_good_mesh_is_normal(painted_jug, few):
    result = judged(painted_jug, few)
    assert result["status"] == "normal", statuses(result)
    assert result["views"] == judge.HELD_OUT and result["view_count"] == 4


def test_a_blank_mesh_fails(painted_jug, few):
    assert judged(replace(painted_jug, texture=torch.ones_like(painted_jug.texture)), few)["status"] == "failure"


def test_a_flat_silhouette_is_not_normal(painted_jug, few):
    mean = painted_jug.texture.mean((0, 1))
    assert judged(replace(painted_jug, texture=mean.expand_as(painted_jug.texture).clone()), few)["status"] != "normal"


def test_half_the_faces_flipped_is_a_warning_that_names_the_winding(painted_jug, few):
    def flipped(faces):
        half = faces.clone()
        half[::2] = half[::2].flip(1)
        return half

    bad = replace(painted_jug, faces=flipped(painted_jug.faces), uv_faces=flipped(painted_jug.uv_faces))
    result = judged(bad, few)
    assert result["status"] == "warning" and statuses(result)["inconsistently wound edges"] == "warning"


def test_a_hole_is_a_warning_that_names_the_open_edges(painted_jug, few):
    bad = replace(painted_jug, faces=painted_jug.faces[20:], uv_faces=painted_jug.uv_faces[20:])
    result = judged(bad, few)
    assert result["status"] != "normal" and statuses(result)["open edges"] == "warning"


def test_a_second_body_is_a_warning(painted_jug, few):
    T = torch.eye(4) * 0.02
    T[3, 3] = 1
    crumb = placement.transform(painted_jug, T)
    bad = replace(
        painted_jug,
        verts=torch.cat([painted_jug.verts, crumb.verts]),
        faces=torch.cat([painted_jug.faces, crumb.faces + len(painted_jug.verts)]),
        uv_faces=torch.cat([painted_jug.uv_faces, painted_jug.uv_faces]),
    )
    assert statuses(judged(bad, few))["bodies"] == "warning"


def test_a_mesh_moved_by_three_pixels_is_not_normal(painted_jug, few):
    pixel = camera.CANONICAL_DISTANCE / few.cameras.intrinsics[0, 0].item()
    T = torch.eye(4)
    T[:3, 3] = 3 * pixel * torch.tensor([0.6, 0.5, 0.6])
    assert judged(placement.transform(painted_jug, T), few)["status"] != "normal"


def test_poses_of_another_object_are_not_normal(painted_jug, few):
    turned = replace_cameras(few, few.cameras[[1, 2, 3, 0]])
    assert judged(painted_jug, turned)["status"] == "failure"


def replace_cameras(photos: scene.Scene, cameras: camera.Cameras) -> scene.Scene:
    return replace(photos, cameras=cameras)


def test_scores_on_used_views_are_labelled_and_at_most_a_warning(painted_jug, few):
    none = replace(few, held_out=np.zeros(4, bool))
    result = judged(painted_jug, none)
    assert (result["status"], result["views"]) == ("warning", "used views")


@pytest.mark.parametrize(
    ("psnr", "ssim", "expected"),
    [
        (25.0, 0.85, "normal"),
        (24.9, 0.9, "warning"),
        (30.0, 0.84, "warning"),
        (19.9, 0.9, "failure"),
        (30.0, 0.7, "failure"),
    ],
)
def test_both_scores_must_pass_for_a_level(psnr, ssim, expected):
    assert judge.judge(Score(psnr, ssim, 99.0, 1.0, 1.0), SOUND, judge.HELD_OUT, 8)["status"] == expected


def test_a_vertex_that_is_not_finite_fails():
    result = judge.judge(Score(40.0, 0.99, 40.0, 0.99, 1.0), SOUND._replace(non_finite_vertices=1), judge.HELD_OUT, 8)
    assert result["status"] == "failure"


def test_what_is_written_is_what_was_judged(painted_jug, few, tmp_path):
    meshio.save(painted_jug, tmp_path, few.up)
    scored = judge.score(meshio.load(tmp_path / "mesh.glb"), few, cpu)
    result = judge.judge(scored.mean, scored.topology, scored.label, len(scored.views))
    judge.save(tmp_path, result, scored, None, "refined/mesh.glb")
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert {"status", "psnr_db", "ssim", "psnr_full_db", "ssim_full", "mask_iou", "views", "checks"} <= set(written)
    assert all(set(c) == {"name", "value", "limit", "unit", "status"} for c in written["checks"])
    rows = list(csv.DictReader((tmp_path / "views.csv").open()))
    assert sum(float(r["psnr_db"]) for r in rows) / len(rows) == pytest.approx(written["psnr_db"])
    assert len(list((tmp_path / "renders").glob("*.png"))) == len(list((tmp_path / "errors").glob("*.png"))) == 4
