"""Guessed cameras come close to the true ones, and never become worse than the guesses."""

from dataclasses import replace

import fast_simplification
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from recon_lib import camera, frames, mesh
from recon_lib.camera import Cameras
from recon_lib.coarse import camera_fit
from recon_lib.coarse.align import AlignConfig
from recon_lib.coarse.camera_fit import CameraFitConfig
from recon_lib.raster import cpu

QUICK_ALIGN = AlignConfig(starts=400, kept=6, search_steps=25, final_size=80, final_steps=25)
QUICK = CameraFitConfig(size=96, faces=2500, first_steps=30, mask_steps=60, search_steps=25, rounds=2, texture_size=256)
FOCAL_ERROR = 1.08


@pytest.fixture(scope="module")
def eight(jug):
    """Photos all around, path-traced, and their true cameras."""
    return jug.subset(np.isin(np.arange(len(jug.names)), np.flatnonzero(~jug.held_out)[::4]))


@pytest.fixture(scope="module")
def body(true_jug):
    verts, faces = fast_simplification.simplify(true_jug.verts.numpy(), true_jug.faces.numpy(), target_count=6000)
    return mesh.Mesh(torch.from_numpy(verts).float(), torch.from_numpy(faces.astype(np.int32)))


def directions(count: int, rng: np.random.Generator) -> np.ndarray:
    vectors = rng.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def guessed(cameras: Cameras, degrees: float, shift: float, focal: float, seed: int) -> Cameras:
    """Each turned by so much about any axis, moved by a share of its distance, in a world of another place and scale."""
    rng = np.random.default_rng(seed)
    T = cameras.T_world_cam.double().numpy().copy()
    T[:, :3, :3] @= Rotation.from_rotvec(np.radians(degrees) * directions(len(T), rng)).as_matrix()
    T[:, :3, 3] += shift * np.linalg.norm(T[:, :3, 3], axis=1, keepdims=True) * directions(len(T), rng)
    T_guess_world = np.eye(4)
    T_guess_world[:3, :3] = 1.7 * Rotation.random(random_state=rng).as_matrix()
    T_guess_world[:3, 3] = rng.normal(size=3)
    intrinsics = cameras.intrinsics * torch.tensor([focal, focal, 1, 1])
    wrong = Cameras(torch.from_numpy(T).float(), intrinsics, cameras.sizes)
    return camera.moved(wrong, torch.from_numpy(T_guess_world).float())


def errors(found: Cameras, true: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """Degrees; distance as a share of the camera's distance. The mesh fixes the frame: there is no gauge to remove."""
    turns = found.T_world_cam[:, :3, :3].double() @ true.T_world_cam[:, :3, :3].double().mT
    places = [cameras.T_world_cam[:, :3, 3].double().numpy() for cameras in (found, true)]
    away = np.linalg.norm(places[0] - places[1], axis=1) / np.linalg.norm(places[1], axis=1)
    return np.degrees(Rotation.from_matrix(turns.numpy()).magnitude()), away


def test_five_degrees_five_percent_and_a_wrong_focal_length_are_mended(eight, body):
    guesses = guessed(eight.cameras, 5, 0.05, FOCAL_ERROR, 0)
    found = camera_fit.fit_cameras(body, eight.images, guesses, QUICK, QUICK_ALIGN, cpu)
    degrees, away = errors(found.cameras, eight.cameras)
    assert np.median(degrees) < 0.5 and degrees.max() < 1.5
    assert np.median(away) < 0.02 and away.max() < 0.04
    assert found.focal_scale == pytest.approx(1 / FOCAL_ERROR, rel=0.02)
    assert found.cameras.intrinsics[:, 0].numpy() == pytest.approx(eight.cameras.intrinsics[:, 0].numpy(), rel=0.02)
    assert (found.cameras.intrinsics[:, 2:] == guesses.intrinsics[:, 2:]).all()
    assert found.after.iou.min() > 0.97 and found.before.iou.mean() < 0.8
    assert found.after.psnr_db > found.before.psnr_db + 10


def test_true_cameras_stay_and_a_fit_whose_every_step_hurts_gives_the_guesses_back(eight, body):
    few = eight.subset(np.arange(8) % 2 == 0)
    brief = replace(QUICK, rounds=1, round_steps=10, search_steps=5)
    found = camera_fit.fit_cameras(body, few.images, few.cameras, brief, QUICK_ALIGN, cpu)
    degrees, away = errors(found.cameras, few.cameras)
    assert degrees.max() < 0.5 and away.max() < 0.015
    assert found.after.psnr_db >= found.before.psnr_db and found.after.iou.mean() >= found.before.iou.mean() > 0.98
    wild = replace(brief, mask_rate=1.0, colour_rate=1.0, decay=1.0, mask_steps=5, first_steps=0, focal="fixed")
    kept = camera_fit.fit_cameras(body, few.images, few.cameras, wild, QUICK_ALIGN, cpu)
    assert kept.after is kept.before and (kept.focal_scale == 1).all()
    assert np.ptp(errors(kept.cameras, few.cameras)[0]) < 1e-3  # moved as one


def test_focal_lengths_may_be_fitted_each_by_itself(eight, body):
    guesses = guessed(eight.cameras, 1, 0.01, 1.0, 2)
    factor = torch.linspace(0.93, 1.07, 8)[:, None] ** torch.tensor([1.0, 1, 0, 0])
    guesses = replace(guesses, intrinsics=guesses.intrinsics * factor)
    brief = replace(QUICK, focal="each", rounds=2, search_steps=1)
    found = camera_fit.fit_cameras(body, eight.images, guesses, brief, QUICK_ALIGN, cpu)
    off = found.cameras.intrinsics[:, 0] / eight.cameras.intrinsics[:, 0]
    assert (off - 1).abs().median() < 0.03 and found.focal_scale.std() > 0.02
    assert found.after.iou.mean() > 0.97


def test_one_photo_gets_a_camera_from_its_silhouette(eight, body):
    one = eight.subset(np.arange(8) == 2)
    found = camera_fit.fit_cameras(body, one.images, guessed(one.cameras, 5, 0.05, 1.0, 3), QUICK, QUICK_ALIGN, cpu)
    assert found.after.iou[0] > 0.97 and len(found.cameras) == 1


def test_what_cannot_be_fitted_is_refused_by_name(eight, body):
    with pytest.raises(ValueError, match="got focal 'free', need one of"):
        camera_fit.fit_cameras(body, eight.images, eight.cameras, replace(QUICK, focal="free"), QUICK_ALIGN, cpu)
    with pytest.raises(ValueError, match="got 7 masks for 8 cameras"):
        camera_fit.fit_cameras(body, eight.images[:7], eight.cameras, QUICK, QUICK_ALIGN, cpu)
    blank = (np.zeros_like(eight.images[0]), *eight.images[1:])
    with pytest.raises(ValueError, match=r"masks \[0\] have no alpha"):
        camera_fit.fit_cameras(body, blank, eight.cameras, QUICK, QUICK_ALIGN, cpu)


def test_no_photo_is_compared_with_its_own_colours(eight, body):
    red = [image.copy() for image in eight.images]
    red[5][..., :3] = 255, 0, 0
    in_unit = camera.moved(eight.cameras, frames.unit_frame(body.verts))
    task = camera_fit._prepare_task(
        body, tuple(red), [image[..., 3] / np.float32(255) for image in red], in_unit, QUICK, cpu
    )
    rig = camera_fit.Rig(in_unit.T_world_cam, torch.zeros(8))
    reddest = {}
    for group, worn in camera_fit._dress(rig, task, cpu):
        redness = (worn.texture[..., 0] - worn.texture[..., 1:].max(-1).values).max().item()
        reddest |= dict.fromkeys(group.tolist(), redness)
    assert sorted(reddest) == list(range(8))
    assert reddest[1] == reddest[5] < 0.7 < 0.9 < min(reddest[i] for i in (0, 2, 3, 4, 6, 7))
