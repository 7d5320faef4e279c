"""Per photo: exposure and white balance that a camera chose itself, and poses that are a little wrong."""

from collections import deque

import pytest
import speckles
import torch

from recon_lib import camera, mesh, render
from recon_lib.camera import Cameras
from recon_lib.photos.crops import Photos
from recon_lib.raster import cpu
from recon_lib.refine import corrections, fit, scales
from recon_lib.refine.config import FitConfig

COUNT = 12
CONFIG = FitConfig(steps=240, scales=1, smoothness=10.0, lr_vertex=0.01)


@pytest.fixture(scope="module")
def ball() -> mesh.Mesh:
    return speckles.ball(128, 5, 0.5)


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    rings = [camera.orbit(COUNT // 2, elevation, 3.5, 0.7, 96) for elevation in (-0.3, 0.4)]
    joined = [torch.cat([getattr(ring, name) for ring in rings]) for name in ("T_world_cam", "intrinsics", "sizes")]
    return Cameras(*joined)


def fitted(photos: Photos, start: mesh.Mesh, asked: corrections.Wanted) -> fit.FitState:
    return deque(scales.fit_scales(photos, start, CONFIG, cpu, asked=asked), maxlen=1)[0]


def test_the_exposure_and_white_balance_of_each_photo_are_found(ball, cameras):
    true = torch.exp(0.25 * torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(1)).clamp(-1.5, 1.5))
    rgba = render.render(ball, cameras, cpu) * torch.nn.functional.pad(true, [0, 1], value=1.0)[:, None, None]
    found = fitted(Photos(rgba, cameras), ball, corrections.Wanted(True, False)).corrected.told().gains
    relative = [gains / torch.exp(gains.log().mean(0)) for gains in (true, found)]
    off = (relative[1] / relative[0] - 1).abs()
    untouched = (1 / relative[0] - 1).abs()
    assert off.median() < 0.5 * untouched.median()
    assert found.min() > 0.6 and found.max() < 1.66


def test_cameras_that_are_a_little_wrong_are_moved_back(ball, cameras):
    rgba = render.render(ball, cameras, cpu)
    generator = torch.Generator().manual_seed(2)
    shift = 0.006 * 3.5 * torch.randn(COUNT, 3, generator=generator).clamp(-1.3, 1.3)
    wrong = cameras.T_world_cam.clone()
    wrong[:, :3, 3] += shift - shift.mean(0)
    photos = Photos(rgba, Cameras(wrong, cameras.intrinsics, cameras.sizes))
    as_given = fitted(photos, ball, corrections.NOTHING)
    moved = fitted(photos, ball, corrections.Wanted(False, True))

    def colour_loss(state: fit.FitState) -> float:
        return state.losses[fit.LOSSES.index("colour")].item()

    assert colour_loss(moved) < 0.7 * colour_loss(as_given)
    told = moved.corrected.told()
    assert told.pixels.median() > 0.2 and "cameras by" in told.sentence()
    assert as_given.corrected.told().sentence() == ""


def test_corrections_stay_within_their_bounds(cameras):
    corrected = corrections.Corrections(cameras, corrections.Wanted(True, True))
    with torch.no_grad():
        corrected.gain.fill_(50)
        corrected.pose.fill_(50)
    everything = torch.arange(COUNT)
    T = corrected._moves(everything)
    assert T[:, :3, 3].abs().max() <= 0.01 * 3.5 + 1e-5
    angle = torch.arccos(((T[:, 0, 0] + T[:, 1, 1] + T[:, 2, 2] - 1) / 2).clamp(-1, 1))
    assert torch.rad2deg(angle).max() <= 3**0.5 + 1e-3
    assert corrected.told().gains.max() == pytest.approx(torch.e**0.5, rel=1e-3)


def test_what_is_corrected_by_default():
    assert corrections.wanted("auto", False) == corrections.wanted("none", True) == corrections.NOTHING
    assert corrections.wanted("auto", True) == corrections.wanted("both", False) == (True, True)
    assert corrections.wanted("exposure", True) == (True, False) and corrections.wanted("cameras", False) == (
        False,
        True,
    )
