"""Held-out cameras that were found in the photos are moved onto the mesh before they judge, and by how far is told."""

from dataclasses import replace

import numpy as np
import pytest
import speckles
import torch

from recon_lib import camera, colour, mesh, render
from recon_lib.camera import Cameras
from recon_lib.photos.scene import Scene
from recon_lib.raster import cpu
from recon_lib.verdict import judge, placement

PIXELS, DISTANCE = 1.2, 3.5


@pytest.fixture(scope="module")
def ball() -> mesh.Mesh:
    return speckles.ball(256, 6, 0.6)


def scene_of(ball: mesh.Mesh, pixels: float) -> Scene:
    """Two held-out photos, whose cameras are recorded as shifted by so many pixels to the right and up."""
    cameras = camera.orbit(2, 0.2, DISTANCE, 0.7, 160)
    rgba = render.photographed(ball, cameras, cpu)
    rgb = colour.linear_to_srgb((rgba[..., :3] / rgba[..., 3:].clamp_min(1e-6)).clamp(0, 1))
    photos = tuple((torch.cat([rgb, rgba[..., 3:]], -1) * 255).round().byte().numpy())
    wrong = cameras.T_world_cam.clone()
    wrong[:, :3, 3] += pixels / 2**0.5 * DISTANCE / cameras.intrinsics[:, :1] * (wrong[:, :3, 0] + wrong[:, :3, 1])
    placed = Cameras(wrong, cameras.intrinsics, cameras.sizes)
    out = np.ones(2, bool)
    return Scene(("a", "b"), photos, placed, out, np.array([0.0, 0, 1]), cameras_found=True)


def test_a_camera_that_is_a_pixel_off_is_moved_back_and_both_scores_are_told(ball):
    scored = judge.score(ball, scene_of(ball, PIXELS), cpu, set())
    assert scored.moved_pixels == pytest.approx([PIXELS] * 2, abs=0.35)
    assert scored.mean.psnr_db > scored.as_placed.psnr_db + 6
    judged = judge.judge(scored, "refined/mesh.glb", judge.Evidence())
    moved = next(check for check in judged["checks"] if check["name"] == "held-out cameras moved")
    assert moved["status"] == "warning" and judged["status"] == "warning"
    assert f"before that the scores were {scored.as_placed.psnr_db:.2f} dB" in judge.reading(judged)


def test_no_camera_is_moved_farther_than_the_bound(ball):
    far = judge.score(ball, scene_of(ball, 8.0), cpu, set())
    assert max(far.moved_pixels) <= placement.MOST + 1e-3


def test_given_cameras_are_never_moved(ball):
    scored = judge.score(ball, replace(scene_of(ball, PIXELS), cameras_found=False), cpu, set())
    assert scored.as_placed is None and scored.moved_pixels == ()
    assert "as_placed" not in judge.judge(scored, "refined/mesh.glb", judge.Evidence())
