"""A mesh against its true surface: distances with their convention, volumes, and alignment of a frame that nobody knows."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from recon_lib.mesh import Mesh, icosphere
from recon_lib.verdict import reference, surface_distance

BALL = icosphere(4)


def scaled(factor: float) -> Mesh:
    return replace(BALL, verts=factor * BALL.verts)


def test_two_balls_differ_by_their_radii_and_volumes():
    found = reference.compare(scaled(1.02), BALL, align=False)
    assert found.distance.chamfer_percent == pytest.approx(100 * 0.02 / 12**0.5, rel=0.03)
    assert found.volume_iou == pytest.approx(1 / 1.02**3, abs=0.006)
    assert found.deviation == pytest.approx(0.02, rel=0.06) and found.noise_percent < 0.01
    assert found.distance.normal_consistency > 0.999


def test_f_scores_count_what_lies_within_their_share_of_the_diagonal():
    diagonal = 12**0.5
    found = surface_distance.distance(scaled(1 + 0.0075 * diagonal), BALL)
    assert found.f_score_half_percent == 0 and found.f_score_1_percent == found.f_score_2_percent == 1


def test_normals_count_whichever_way_faces_wind_but_not_across():
    flipped = replace(BALL, faces=BALL.faces.flip(1))
    assert surface_distance.distance(flipped, BALL).normal_consistency > 0.999
    plane = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]], dtype=torch.int32))
    across = replace(plane, verts=plane.verts[:, [2, 0, 1]])
    assert surface_distance.distance(across, plane).normal_consistency < 0.01


def test_one_sided_loss_is_told_apart():
    half = replace(BALL, faces=BALL.faces[BALL.verts[BALL.faces.long()].mean(1)[:, 2] > 0])
    found = surface_distance.distance(half, BALL)
    assert found.accuracy < 1e-6 and found.completeness > 0.1
    assert reference.compare(half, BALL, align=False).volume_iou is None


def lopsided() -> Mesh:
    verts = (
        BALL.verts * torch.tensor([1.0, 0.6, 0.35]) + 0.25 * (3 * BALL.verts[:, :1]).sin() * BALL.verts[:, [1, 2, 0]]
    )
    return replace(BALL, verts=verts)


@pytest.mark.parametrize("seed", range(10 if os.environ.get("RECON_LONG") == "1" else 1))
def test_a_mesh_in_a_frame_of_its_own_is_brought_to_the_truth(seed):
    rng = np.random.default_rng(seed)
    R = torch.from_numpy(Rotation.random(rng=rng).as_matrix()).float()
    truth = lopsided()
    elsewhere = replace(
        truth, verts=rng.uniform(0.3, 3) * truth.verts @ R.T + torch.from_numpy(rng.normal(size=3)).float()
    )
    assert reference.compare(elsewhere, truth, align=False).distance.chamfer_percent > 5
    found = reference.compare(elsewhere, truth, align=True)
    assert found.distance.chamfer_percent < 0.5 and found.volume_iou > 0.97 and "ICP" in found.aligned_by


def test_a_reference_file_is_read_with_its_seams_merged_or_refused_by_name(tmp_path):
    body = trimesh.Trimesh(BALL.verts.numpy(), BALL.faces.numpy(), process=False)
    body.unmerge_vertices()
    body.export(tmp_path / "truth.ply")
    assert len(reference.read(tmp_path / "truth.ply").verts) == len(BALL.verts)
    (tmp_path / "empty.obj").write_text("v 0 0 0\n")
    for name in ("none.ply", "empty.obj"):
        with pytest.raises(ValueError, match=name):
            reference.read(tmp_path / name)
