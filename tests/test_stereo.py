"""Stereo against shapes of known depth, and what it must not do: carve what it cannot see, depend on light or threads."""

from dataclasses import replace

import numba
import numpy as np
import pytest
import torch

from recon_lib import camera, colour, mesh, render
from recon_lib.coarse import bitten, hull
from recon_lib.coarse.config import HullConfig, StereoConfig
from recon_lib.coarse.stereo import stereo
from recon_lib.coarse.stereo import views as views_
from recon_lib.mesh import volume
from recon_lib.raster import cpu
from recon_lib.surface import uv

SMALL = StereoConfig(size=128, resolution=56, bound_resolution=40, coarse_passes=3, fine_passes=2)
SHAPE = HullConfig(resolution=64, faces=4000)
RADIUS = 0.5


def speckled(body: mesh.Mesh, seed: int = 0) -> mesh.Mesh:
    """A texture of patches a few pixels wide in the photos."""
    uvs, uv_faces, (height, width) = uv.unwrap(body.verts, body.faces, 512)
    coarse = torch.rand(1, 1, height // 6, width // 6, generator=torch.Generator().manual_seed(seed))
    grey = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0, 0]
    return replace(body, uvs=uvs, uv_faces=uv_faces, texture=(0.05 + 0.6 * grey)[..., None].repeat(1, 1, 3))


def photographed(body: mesh.Mesh, cameras: camera.Cameras) -> tuple[np.ndarray, ...]:
    """H W 4 uint8, straight alpha, sRGB."""
    rgba = render.photographed(body, cameras, cpu)
    rgb = colour.linear_to_srgb((rgba[..., :3] / rgba[..., 3:].clamp_min(1e-6)).clamp(0, 1))
    return tuple((torch.cat([rgb, rgba[..., 3:]], -1) * 255).round().byte().numpy())


def around(count: int) -> camera.Cameras:
    """Two rings, so that neighbours look from some 20 degrees apart, up and down too."""
    rings = [camera.orbit(count, elevation, 2.5, 0.5, 160) for elevation in (-0.15, 0.25)]
    joined = [torch.cat([getattr(ring, name) for ring in rings]) for name in ("T_world_cam", "intrinsics", "sizes")]
    return camera.Cameras(*joined)


@pytest.fixture(scope="module")
def ball_photos():
    sphere = mesh.icosphere(5)
    cameras = around(9)
    return photographed(speckled(replace(sphere, verts=RADIUS * sphere.verts)), cameras), cameras


@pytest.fixture(scope="module")
def found(ball_photos):
    return stereo.stereo_mesh(*ball_photos, SMALL, SHAPE)


def rays(shown: views_.Views, i: int) -> tuple[np.ndarray, np.ndarray]:
    """The eye, and of each pixel the world vector by which its ray advances per unit of depth."""
    height, width = shown.masks.shape[1:]
    y, x = np.mgrid[:height, :width] + 0.5
    T = np.linalg.inv(shown.T_cv_world[i])
    return T[:3, 3], np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(shown.K[i]).T @ T[:3, :3].T


def depth_of_ball(eye: np.ndarray, ray: np.ndarray, radius: float, centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    """NaN beside the ball."""
    eye = eye - np.array(centre)
    a, b, c = (ray**2).sum(-1), ray @ eye, eye @ eye - radius**2
    inside = b * b - a * c
    return (-b - np.sqrt(np.where(inside > 0, inside, np.nan))) / a


def true_depth(shown: views_.Views, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the sphere along each pixel's ray, and the angle in degrees between ray and normal; NaN beside the sphere."""
    eye, ray = rays(shown, i)
    z = depth_of_ball(eye, ray, RADIUS)
    normal = (eye + ray * z[..., None]) / RADIUS
    cosine = -(ray * normal).sum(-1) / np.linalg.norm(ray, axis=-1)
    return z, np.degrees(np.arccos(cosine.clip(-1, 1)))


def test_depths_of_a_textured_sphere_are_right_up_to_a_slant_of_sixty_degrees(ball_photos, found):
    shown = views_.crop_views(*ball_photos, SMALL.size)
    errors, pixels, facing = [], [], 0
    for i, depth in enumerate(found.depths):
        true, slant = true_depth(shown, i)
        asked = shown.masks[i] & (slant < 60)
        facing += asked.sum()
        off = np.abs(depth / true - 1)[asked & (depth > 0)]
        errors.append(off)
        pixels.append(off * shown.K[i, 0, 0] * np.sin(np.radians(views_.BEST_DEGREES)))
    errors = np.concatenate(errors)
    assert np.median(errors) < 0.002 and np.quantile(errors, 0.95) < 0.006
    assert np.median(np.concatenate(pixels)) < 0.25  # of the shift between neighbours, which is what is measured
    assert len(errors) > 0.9 * facing


def test_the_mesh_of_a_textured_sphere_is_a_solid_of_its_volume(found):
    body = found.mesh
    assert volume(body.verts, body.faces).item() == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)
    distance = body.verts.norm(dim=-1) - RADIUS
    assert distance.abs().mean() < 0.004 and found.agreed.mean() > 0.5 and found.consistent > 0.6


IN_FRONT, SMALLER = (0.0, 0.0, 0.3), 0.2  # a ball's centre and radius, before a wall whose face is z = 0


def ball_before_a_wall() -> mesh.Mesh:
    """A textured ball 0.1 before a textured wall of 1 by 0.8; a rod behind the ball makes them one body."""
    sphere, corners = (
        mesh.icosphere(4),
        torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.4, 0.4) for z in (-0.1, 0)]),
    )
    sides = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    wall = torch.tensor([corner for a, b, c, d in sides for corner in ((a, b, c), (a, c, d))]).int()
    ball = SMALLER * sphere.verts + torch.tensor(IN_FRONT)
    rod = sphere.verts * torch.tensor([0.05, 0.05, 0.2]) + torch.tensor([0, 0, 0.15])
    faces = torch.cat([wall, sphere.faces + 8, sphere.faces + 8 + len(ball)])
    return speckled(mesh.Mesh(torch.cat([corners, ball, rod]), faces), 3)


def facing(azimuths: tuple[float, ...], elevations: tuple[float, ...]) -> camera.Cameras:
    """Views from around +z towards the origin; angles in radians."""
    azimuth, elevation = torch.cartesian_prod(torch.tensor(azimuths), torch.tensor(elevations)).unbind(1)
    flat = elevation.cos()
    towards = torch.stack([azimuth.sin() * flat, elevation.sin(), azimuth.cos() * flat], -1)
    up = torch.tensor([[0.0, 1, 0]]).expand_as(towards)
    poses = camera.look_at(2.5 * towards, torch.zeros_like(towards), up)
    return replace(camera.orbit(len(poses), 0.0, 2.5, 0.5, 160), T_world_cam=poses)


def test_a_wall_is_found_beside_a_ball_that_hides_it_from_all_but_two_of_its_neighbours():
    """A cost that is a mean over all neighbours finds three quarters of these pixels instead of nineteen in twenty."""
    cameras = facing((-0.5, -0.25, 0.0, 0.25, 0.5), (-0.3, 0.0, 0.3))
    made = stereo.stereo_mesh(photographed(ball_before_a_wall(), cameras), cameras, SMALL, SHAPE)
    shown = made.views
    neighbours = views_.neighbours(shown, np.zeros(3), SMALL.neighbours)
    errors, asked_for = [], 0
    for i, depth in enumerate(made.depths):
        eye, ray = rays(shown, i)
        wall = -eye[2] / ray[..., 2]
        p = eye + ray * wall[..., None]
        on_wall = np.isnan(depth_of_ball(eye, ray, SMALLER, IN_FRONT)) & (np.abs(p[..., :2]) < (0.45, 0.35)).all(-1)
        others = [rays(shown, j)[0] for j in neighbours[i] if j >= 0]
        hidden = np.sum([depth_of_ball(other, p - other, SMALLER, IN_FRONT) < 1 for other in others], axis=0)
        asked = on_wall & (hidden == len(others) - 2)
        asked_for += asked.sum()
        errors.append(np.abs(depth / wall - 1)[asked & (depth > 0)])
    errors = np.concatenate(errors)
    assert asked_for > 1000 and len(errors) > 0.9 * asked_for
    assert np.median(errors) < 0.001 and (errors < 0.01).mean() > 0.98  # the ball lies 4 % to 20 % before the wall


def dented() -> mesh.Mesh:
    """A ball with a hollow that no silhouette shows, facing +z."""
    sphere = mesh.icosphere(5)
    depth = 0.25 * torch.exp(-((1 - sphere.verts[:, 2]) / 0.12))
    return speckled(replace(sphere, verts=RADIUS * sphere.verts * (1 - depth)[:, None]), 1)


def test_a_hollow_that_no_silhouette_shows_is_found():
    body, cameras = dented(), around(9)
    photos = photographed(body, cameras)
    made = stereo.stereo_mesh(photos, cameras, SMALL, SHAPE).mesh
    carved = hull.visual_hull([p[..., 3] / np.float32(255) for p in photos], cameras, SHAPE)

    def depth_of_hollow(m: mesh.Mesh) -> float:
        near = (m.verts[:, :2].norm(dim=-1) < 0.08) & (m.verts[:, 2] > 0)
        return m.verts[near, 2].mean().item()

    true, by_stereo, by_hull = (depth_of_hollow(m) for m in (body, made, carved))
    assert by_hull > true + 0.015 and abs(by_stereo - true) < (by_hull - true) / 3, (true, by_stereo, by_hull)


def test_an_untextured_ball_stays_the_hull():
    sphere, cameras = mesh.icosphere(5), around(9)
    plain = speckled(replace(sphere, verts=RADIUS * sphere.verts))
    photos = photographed(replace(plain, texture=torch.full_like(plain.texture, 0.4)), cameras)
    made = stereo.stereo_mesh(photos, cameras, SMALL, SHAPE).mesh
    voxel = 2 * RADIUS / SMALL.resolution
    off = made.verts.norm(dim=-1) - RADIUS
    assert off.abs().mean() < 0.7 * voxel and off.min() > -3 * voxel


def test_a_part_without_texture_is_not_cut_off():
    """A textured ball with an even grey spike upwards that no depth is found on; nothing is seen of its outline, either."""
    sphere, thin = mesh.icosphere(5), mesh.icosphere(4)
    spike = thin.verts * torch.tensor([0.06, 0.25, 0.06]) + torch.tensor([0, 0.32, 0])
    faces = torch.cat([sphere.faces, thin.faces + len(sphere.verts)])
    body, cameras = mesh.Mesh(torch.cat([0.25 * sphere.verts, spike]), faces), around(9)
    pos = render.clip_positions(body.verts, render.views(cameras, body.verts))
    on_spike = (cpu.rasterize(pos, faces, (160, 160), grad_db=False)[0][..., 3] > len(sphere.faces)).numpy()
    photos = []
    for photo, plain in zip(photographed(speckled(body), cameras), on_spike, strict=True):
        even = (plain | (photo[..., 3] == 0))[..., None]
        photos.append(np.dstack([np.where(even, np.uint8(110), photo[..., :3]), photo[..., 3]]))
    made = stereo.stereo_mesh(tuple(photos), cameras, SMALL, SHAPE).mesh
    assert made.verts[:, 1].max() > 0.53 and made.verts[:, 1].min() == pytest.approx(-0.25, abs=0.02)


def test_another_exposure_of_each_photo_changes_nothing_to_speak_of(ball_photos, found):
    photos, cameras = ball_photos
    gains = np.where(np.arange(len(photos)) % 2, 1.3, 1.0)
    brighter = tuple(
        np.dstack([(p[..., :3] * gain).clip(0, 255).astype(np.uint8), p[..., 3]])
        for p, gain in zip(photos, gains, strict=True)
    )
    other = stereo.stereo_mesh(brighter, cameras, SMALL, SHAPE)
    both = (found.depths > 0) & (other.depths > 0)
    assert both.sum() > 0.95 * (found.depths > 0).sum()
    assert np.quantile(np.abs(other.depths / np.where(both, found.depths, 1) - 1)[both], 0.95) < 0.004


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba has one thread on this machine")
def test_one_thread_and_two_give_the_same_bits(ball_photos, found):
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = stereo.stereo_mesh(*ball_photos, SMALL, SHAPE)
    finally:
        numba.set_num_threads(before)
    assert (alone.depths == found.depths).all() and torch.equal(alone.mesh.verts, found.mesh.verts)


def test_photos_that_agree_on_nothing_are_refused_with_what_is_needed(ball_photos):
    photos, cameras = ball_photos
    with pytest.raises(ValueError, match="photos agree on 0 points, need"):
        stereo.stereo_mesh((photos[0], photos[4]), cameras[[0, 4]], SMALL, SHAPE)


def test_a_bitten_mask_carves_no_tunnel_and_is_named(ball_photos):
    images, cameras = ball_photos
    bitten_photo = images[4].copy()
    height, width = bitten_photo.shape[:2]
    y, x = np.mgrid[:height, :width] - np.array([height / 2, width / 2])[:, None, None]
    bitten_photo[np.hypot(x - 10, y) < 9, 3] = 0
    photos = (*images[:4], bitten_photo, *images[5:])
    made = stereo.stereo_mesh(photos, cameras, SMALL, SHAPE)
    assert [i for i, share in enumerate(made.mended) if share] == [4]
    assert made.mended[4] == pytest.approx(
        (bitten_photo[..., 3] < images[4][..., 3]).sum() / (bitten_photo[..., 3] > 127).sum(), rel=0.1
    )
    assert (made.mesh.verts.norm(dim=-1) - RADIUS).abs().max() < 0.05 * RADIUS
    (said,) = bitten.remarks(tuple("abcdefghijklmnopqr"), made.mended)
    assert "1 of 18 masks lack parts" in said and "(e)" in said


def test_whole_masks_are_not_mended(found):
    assert not any(found.mended) and bitten.remarks(tuple("abcdefghijklmnopqr"), found.mended) == ()
