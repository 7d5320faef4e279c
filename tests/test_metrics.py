import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from recon_lib import mesh
from recon_lib.surface import checks
from recon_lib.verdict import box, images

SOUND = checks.MeshChecks(0, 0, 0, 0, 1, 0, 0)


def test_a_sphere_is_sound():
    ball = mesh.icosphere(2)
    assert checks.check_mesh(ball.verts, ball.faces) == SOUND


def test_a_missing_face_opens_three_edges():
    ball = mesh.icosphere(2)
    assert checks.check_mesh(ball.verts, ball.faces[1:]).open_edges == 3


def test_a_flipped_face_disagrees_along_three_edges():
    ball = mesh.icosphere(2)
    faces = ball.faces.clone()
    faces[7] = faces[7].flip(0)
    assert checks.check_mesh(ball.verts, faces).flipped_edges == 3


def test_a_fin_makes_an_edge_of_three_faces():
    ball = mesh.icosphere(1)
    verts = torch.cat([ball.verts, torch.tensor([[2.0, 2, 2]])])
    fin = torch.tensor([[ball.faces[0, 0], ball.faces[0, 1], len(ball.verts)]], dtype=torch.int32)
    assert checks.check_mesh(verts, torch.cat([ball.faces, fin])).non_manifold_edges == 1


def test_two_balls_are_two_bodies_and_sharing_a_vertex_makes_it_non_manifold():
    ball = mesh.icosphere(1)
    apart = torch.cat([ball.verts, ball.verts + 5])
    faces = torch.cat([ball.faces, ball.faces + len(ball.verts)])
    assert checks.check_mesh(apart, faces).bodies == 2
    joined = torch.where(faces == len(ball.verts), 0, faces)
    assert checks.check_mesh(apart, joined)[2:5] == (1, 0, 1)


def test_slivers_and_non_finite_vertices_are_counted():
    ball = mesh.icosphere(1)
    verts = ball.verts.clone()
    verts[ball.faces[0, 0].item()] = verts[ball.faces[0, 1].item()]
    assert checks.check_mesh(verts, ball.faces).degenerate_faces == 2
    verts[5, 1] = float("nan")
    assert checks.check_mesh(verts, ball.faces).non_finite_vertices == 1


def test_welding_closes_seams_and_nothing_else():
    ball = mesh.icosphere(2)
    soup_verts, soup_faces = (
        ball.verts[ball.faces.long()].reshape(-1, 3),
        torch.arange(3 * len(ball.faces)).reshape(-1, 3),
    )
    assert checks.check_mesh(soup_verts, soup_faces.int()).open_edges == 3 * len(ball.faces)
    assert checks.check_mesh(*mesh.weld(soup_verts, soup_faces.int())) == SOUND


def test_psnr_inside_the_mask_ignores_the_white_around():
    true, rendered, mask = np.ones((32, 32, 3)), np.ones((32, 32, 3)), np.zeros((32, 32), bool)
    mask[8:16, 8:16] = True
    true[mask], rendered[mask] = 0.5, 0.6
    found = images.score(true, rendered, mask, mask)
    assert found.psnr_db == pytest.approx(20.0)
    assert found.psnr_full_db == pytest.approx(20 + 10 * np.log10(16))
    assert found.mask_iou == 1


def test_inside_and_rim_part_where_the_true_mask_is_eroded_by_five_pixels():
    true, mask = np.ones((40, 40, 3)), np.zeros((40, 40), bool)
    mask[4:36, 4:36] = True
    true[mask] = 0.5
    rendered = true.copy()
    rendered[4:36, 4:36] += 0.1
    rendered[9:31, 9:31] -= 0.09
    found = images.score(true, rendered, mask, mask)
    assert found.psnr_inside_db == pytest.approx(40.0) and found.psnr_rim_db == pytest.approx(20.0)
    thin = np.zeros_like(mask)
    thin[4:36, 10:14] = True
    found = images.score(true, rendered, thin, thin)
    assert found.psnr_inside_db == found.psnr_rim_db == found.psnr_db


def test_the_union_of_both_masks_counts_so_a_shrunken_mesh_cannot_hide():
    true, mask = np.ones((32, 32, 3)), np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    true[mask] = 0.2
    nothing = np.zeros_like(mask)
    assert images.score(true, np.ones_like(true), mask, nothing).psnr_db == pytest.approx(-20 * np.log10(0.8))


def test_the_union_of_both_masks_counts_so_a_grown_mesh_cannot_hide():
    true, mask, grown = np.ones((32, 32, 3)), np.zeros((32, 32), bool), np.zeros((32, 32), bool)
    mask[8:16, 8:24], grown[8:24, 8:24] = True, True
    rendered = true.copy()
    true[mask], rendered[grown] = 0.2, 0.2
    assert images.score(true, rendered, mask, grown).psnr_db == pytest.approx(-10 * np.log10(0.64 / 2))


def test_ssim_is_the_mean_of_scikit_images_map_in_the_mask():
    rng = np.random.default_rng(0)
    true, rendered = rng.random((2, 40, 50, 3))
    mask = rng.random((40, 50)) > 0.7
    full = structural_similarity(true, rendered, data_range=1.0, channel_axis=-1, full=True)[1]
    expected = np.mean([full[r, c].mean() for r, c in np.argwhere(mask)])
    assert images.score(true, rendered, mask, mask).ssim == pytest.approx(expected)


def test_photos_are_area_averaged_on_white():
    photo = np.zeros((4, 4, 4), np.uint8)
    photo[:2, :2] = 255, 0, 0, 255
    photo[0, 0, 3] = 0
    small, mask = images.on_white(photo, box.Box(0.0, 0.0, 2.0, 2, 2))
    assert small[0, 0] == pytest.approx([1, 0.25, 0.25])
    assert mask.tolist() == [[True, False], [False, False]]


def test_a_truth_scores_like_its_own_noise_floor(jug, true_jug):
    """The photo itself as the rendering is infinitely good; moved by 3 px it is not."""
    photo, mask = images.on_white(jug.images[0], box.Box(0.0, 0.0, 1.0, *jug.images[0].shape[1::-1]))
    moved, moved_mask = np.roll(photo, 3, axis=1), np.roll(mask, 3, axis=1)
    assert images.score(photo, photo, mask, mask).psnr_db >= 100
    assert images.score(photo, moved, mask, moved_mask).psnr_db < 25
