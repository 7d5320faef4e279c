"""Known bad meshes must not come out `normal`; a good one must."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from recon_lib import camera
from recon_lib.photos import scene
from recon_lib.raster import cpu
from recon_lib.surface import meshio, placement
from recon_lib.surface.checks import MeshChecks
from recon_lib.verdict import judge
from recon_lib.verdict.diagnosis import Cause
from recon_lib.verdict.images import Score

SOUND = MeshChecks(0, 0, 0, 0, 1, 0, 0)


def judged(mesh, photos: scene.Scene) -> dict:
    return judge.judge(judge.score(mesh, photos, cpu, set()), None, "refined/mesh.glb")


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
    assert judge.decide(Score(psnr, ssim, 99.0, 1.0, 1.0, 99.0, 99.0), SOUND, judge.HELD_OUT, 8)["status"] == expected


def test_a_vertex_that_is_not_finite_fails():
    result = judge.decide(
        Score(40.0, 0.99, 40.0, 0.99, 1.0, 40.0, 40.0), SOUND._replace(non_finite_vertices=1), judge.HELD_OUT, 8
    )
    assert result["status"] == "failure"


def test_what_is_written_is_what_was_judged(painted_jug, few, tmp_path):
    meshio.save(painted_jug, tmp_path, few.up)
    scored = judge.score(meshio.load(tmp_path / "mesh.glb"), few, cpu, set())
    judge.save(tmp_path, judge.judge(scored, None, "refined/mesh.glb"), scored)
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert {"status", "psnr_db", "ssim", "psnr_full_db", "ssim_full", "mask_iou", "views", "checks"} <= set(written)
    assert all(set(c) == {"name", "value", "limit", "unit", "status"} for c in written["checks"])
    rows = list(csv.DictReader((tmp_path / "views.csv").open()))
    assert sum(float(r["psnr_db"]) for r in rows) / len(rows) == pytest.approx(written["psnr_db"])
    sizes = [
        {path.name: Image.open(path).size for path in (tmp_path / folder).glob("*.png")}
        for folder in ("photos", "renders", "errors")
    ]
    assert len(sizes[0]) == 4 and sizes[0] == sizes[1] == sizes[2]


def test_a_held_out_photo_that_the_mesh_was_made_of_is_refused_by_name(painted_jug, few):
    second = list(scene.digests(few).values())[1]
    with pytest.raises(ValueError, match=f"held out: got {few.names[1]}, which the mesh was made of"):
        judge.score(painted_jug, few, cpu, {second, "another"})


def test_a_cause_is_written_and_read_out_and_decides_nothing(painted_jug, few):
    scored, cause = judge.score(painted_jug, few, cpu, set()), Cause("light", "The light turned.", "Move the camera.")
    plain, with_cause = judge.judge(scored, None, "m"), judge.judge(scored, None, "m", [cause])
    assert with_cause["diagnosis"] == [{"kind": "light", "says": "The light turned.", "remedy": "Move the camera."}]
    assert with_cause | {"diagnosis": []} == plain
    assert judge.reading(with_cause) == f"{judge.reading(plain)} The light turned. Move the camera."


def test_the_reason_names_every_check_that_decided():
    assert (
        judge.decide(Score(30.0, 0.9, 99.0, 1.0, 1.0, 30.0, 30.0), SOUND, judge.HELD_OUT, 8)["reason"]
        == "All 10 checks are normal."
    )
    bad = judge.decide(Score(19.0, 0.8, 99.0, 1.0, 1.0, 19.0, 19.0), SOUND._replace(bodies=2), judge.HELD_OUT, 8)
    assert "failure, because PSNR in the mask is 19 dB, needs >= 25" in bad["reason"] and "bodies" not in bad["reason"]
