import numpy as np
import pytest
import torch

from recon_lib import camera, mesh, render
from recon_lib.coarse import hull
from recon_lib.raster import cpu
from recon_lib.surface import checks, grid_mesh
from recon_lib.verdict import surface_distance


def silhouettes(body: mesh.Mesh, cameras: camera.Cameras) -> list[np.ndarray]:
    pos = render.clip_positions(body.verts, render.views(cameras, body.verts))
    width, height = cameras.sizes[0].tolist()
    rast, _ = cpu.rasterize(pos, body.faces, (height, width), grad_db=False)
    return list((rast[..., 3] > 0).float().numpy())


def all_round(width: int) -> camera.Cameras:
    return camera.canonical_six(width)


def test_the_hull_of_the_sample_is_closed_manifold_outward_one_body_and_within_its_budget(jug_hull):
    found = checks.check_mesh(jug_hull.verts, jug_hull.faces)
    assert found == checks.MeshChecks(0, 0, 0, 0, 1, 0, 0)
    assert mesh.volume(jug_hull.verts, jug_hull.faces) > 0
    assert len(jug_hull.faces) <= 8000


def test_the_hull_of_the_sample_keeps_its_handle(jug_hull):
    v, e, f = len(jug_hull.verts), len(mesh.edges(jug_hull.faces)), len(jug_hull.faces)
    assert v - e + f == 0  # genus 1


def test_the_hull_of_the_sample_lies_within_half_a_percent_of_the_truth(jug_hull, true_jug):
    assert surface_distance.distance(jug_hull, true_jug).chamfer_percent < 0.5


def test_the_hull_contains_the_object(jug_hull, true_jug):
    overlap = mesh.volume(true_jug.verts, true_jug.faces) / mesh.volume(jug_hull.verts, jug_hull.faces)
    assert 0.9 < overlap < 1.0


def test_triangles_are_even(jug_hull):
    e = mesh.edges(jug_hull.faces)
    length = (jug_hull.verts[e[:, 0]] - jug_hull.verts[e[:, 1]]).norm(dim=-1)
    assert length.std() / length.mean() < 0.2
    assert length.min() > length.mean() / 3


def test_the_hull_of_a_ball_from_six_sides_has_its_extent_and_place():
    ball = mesh.icosphere(4)
    body = mesh.Mesh(0.3 * ball.verts + torch.tensor([0.1, -0.05, 0.07]), ball.faces)
    carved = hull.visual_hull(
        silhouettes(body, all_round(256)), all_round(256), hull.HullConfig(resolution=64, faces=4000)
    )
    for side in (torch.amin, torch.amax):
        assert torch.allclose(side(carved.verts, 0), side(body.verts, 0), atol=0.01)


def test_size_and_place_of_the_world_do_not_matter():
    ball = mesh.icosphere(3)
    near = hull.HullConfig(resolution=48, faces=2000)
    rig = all_round(128)
    masks = silhouettes(mesh.Mesh(0.4 * ball.verts, ball.faces), rig)
    T = torch.diag(torch.tensor([1e3, 1e3, 1e3, 1.0]))
    T[:3, 3] = torch.tensor([5e3, -2e3, 1e3])
    here, there = (hull.visual_hull(masks, cams, near) for cams in (rig, camera.moved(rig, T)))
    assert mesh.volume(there.verts, there.faces) == pytest.approx(
        1e9 * mesh.volume(here.verts, here.faces).item(), rel=0.01
    )


def test_only_the_largest_body_is_kept_and_its_cavities_are_filled():
    field = np.ones((16, 16, 16), np.float32)
    field[1:3, 1:3, 1:3] = -1  # a crumb, first in memory
    field[5:13, 5:13, 5:13] = -1
    field[8, 8, 8] = 1  # no air reaches it
    solid = grid_mesh.keep_largest_body(field, 0.1) < 0
    expected = np.zeros_like(solid)
    expected[5:13, 5:13, 5:13] = True
    assert (solid == expected).all()


def test_masks_that_contradict_the_cameras_are_refused():
    rig = all_round(64)
    masks = [np.zeros((64, 64), np.float32) for _ in range(6)]
    for i, mask in enumerate(masks):
        mask[(5, 50)[i % 2] :, :][:6, (5, 50)[i // 2 % 2] :][:, :6] = 1
    with pytest.raises(ValueError, match="no point of space lies inside all 6 masks"):
        hull.visual_hull(masks, rig, hull.HullConfig(resolution=32))


def test_a_soft_mask_edge_moves_the_outline_by_its_coverage():
    alpha = np.zeros((8, 8), np.float32)
    alpha[:, :4], alpha[:, 4] = 1, 0.8
    distance = hull.signed_distance(alpha)[4]
    assert distance[4] == pytest.approx(-0.3)  # the outline lies 0.8 of a pixel into column 4
    assert distance[0] < distance[3] < 0 < distance[5] < distance[7]
