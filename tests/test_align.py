"""A mesh is found among posed photos from silhouettes alone, at any scale, place and rotation."""

import os
from dataclasses import replace

import fast_simplification
import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from recon_lib import camera, mesh, render
from recon_lib.camera import Cameras
from recon_lib.coarse import align, silhouettes
from recon_lib.coarse.align import AlignConfig
from recon_lib.raster import cpu
from recon_lib.surface import placement

SEEDS = range(50 if os.environ.get("RECON_LONG") == "1" else 3)
QUICK = AlignConfig(starts=300, kept=6, search_views=4, search_steps=30, final_size=96, final_steps=30)


@pytest.fixture(scope="module")
def canonical(true_jug):
    """The jug, which no rotation brings to itself, inside [-0.5, 0.5]³ and z up; its own up is y."""
    verts, faces = fast_simplification.simplify(true_jug.verts.numpy(), true_jug.faces.numpy(), target_count=6000)
    verts = torch.from_numpy(verts).float()[:, [2, 0, 1]]
    middle = (verts.max(0).values + verts.min(0).values) / 2
    return mesh.Mesh((verts - middle) * 0.5 / (verts - middle).abs().max(), torch.from_numpy(faces.astype(np.int32)))


def similarity_of(rng: np.random.Generator, rotation: Rotation | None = None) -> np.ndarray:
    scale = np.exp(rng.uniform(np.log(0.3), np.log(3)))
    T = np.eye(4)
    T[:3, :3] = scale * (rotation or Rotation.random(random_state=rng)).as_matrix()
    T[:3, 3] = scale * rng.normal(size=3)
    return T


def views_of(T: np.ndarray, count: int, rng: np.random.Generator, width: int = 256) -> Cameras:
    """From all sides, rolled at will, the object somewhere near the middle."""
    scale = np.linalg.det(T[:3, :3]) ** (1 / 3)
    towards = rng.normal(size=(count, 3))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    eye = T[:3, 3] + scale * towards * rng.uniform(2.2, 3, (count, 1))
    target = T[:3, 3] + scale * rng.normal(size=(count, 3)) * 0.05
    T_world_cam = camera.look_at(*(torch.from_numpy(x) for x in (eye, target, rng.normal(size=(count, 3)))))
    f = 1.9 * width
    intrinsics = torch.tensor([[f, f, width / 2, width / 2]]).repeat(count, 1)
    return Cameras(T_world_cam.float(), intrinsics, torch.tensor([[width, width]]).repeat(count, 1))


def silhouettes_of(body: mesh.Mesh, T: np.ndarray, cameras: Cameras) -> list[np.ndarray]:
    verts = placement.transform(mesh.Mesh(body.verts.double(), body.faces), torch.from_numpy(T)).verts.float()
    masks = []
    for i in range(len(cameras)):
        width, height = cameras.sizes[i].tolist()
        pos = render.clip_positions(verts, render.views(cameras[[i]], verts))
        rast, _ = cpu.rasterize(pos, body.faces, (height, width), grad_db=False)
        masks.append((rast[0, ..., 3] > 0).numpy().astype(np.float32))
    return masks


def noisy(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The outline moved by one pixel (standard deviation), in waves a few pixels long; its edge soft as after matting."""
    inside = mask > 0.5
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    waves = ndimage.gaussian_filter(rng.normal(size=mask.shape), 2)
    return np.clip(0.5 - (distance - 0.5 * np.sign(distance)) - waves / waves.std(), 0, 1).astype(np.float32)


def errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Degrees; share of scale; distance between the origins' places as a share of the size."""
    scales = [np.linalg.det(T[:3, :3]) ** (1 / 3) for T in (found, true)]
    turn = Rotation.from_matrix(found[:3, :3] / scales[0] @ (true[:3, :3] / scales[1]).T)
    return (
        np.degrees(turn.magnitude()),
        abs(scales[0] / scales[1] - 1),
        np.linalg.norm((found - true)[:3, 3]) / scales[1],
    )


def test_any_similarity_is_recovered_from_eight_masks_with_a_pixel_of_noise(canonical):
    recovered = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        T = similarity_of(rng)
        cameras = views_of(T, 8, rng)
        masks = [noisy(mask, rng) for mask in silhouettes_of(canonical, T, cameras)]
        found = align.fit_similarity(canonical, masks, cameras, AlignConfig(seed=seed), cpu)
        degrees, scale, place = errors(found.T_world_mesh, T)
        recovered.append(degrees < 1 and scale < 0.01 and place < 0.01 and found.iou.mean() >= 0.95)
    assert sum(recovered) >= 0.96 * len(SEEDS)


@pytest.mark.parametrize("count", [2, 24])
def test_few_and_many_masks_of_all_sizes_cut_by_their_borders_are_enough(canonical, count):
    rng = np.random.default_rng(3)
    T = similarity_of(rng)
    cameras = views_of(T, count, rng)
    sizes = [(200 + 10 * (i % 3), 150 + 7 * (i % 5)) for i in range(count)]
    parts = [
        camera.cropped(cameras[[i]], torch.tensor([[10.0 * (i % 8), 20.0, 256, 240]]), *sizes[i]) for i in range(count)
    ]
    cameras = Cameras(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))
    config = AlignConfig(final_size=96)
    found = align.fit_similarity(canonical, silhouettes_of(canonical, T, cameras), cameras, config, cpu)
    degrees, scale, place = errors(found.T_world_mesh, T)
    assert degrees < 1 and scale < 0.01 and place < 0.01
    assert found.iou.shape == (count,) and found.iou.min() > 0.95


def test_one_mask_is_matched_with_the_mesh_at_about_its_own_size(canonical):
    """Size and distance cannot be told apart, and the far side may be any."""
    rng = np.random.default_rng(0)
    T = similarity_of(rng)
    cameras = views_of(T, 1, rng)
    found = align.fit_similarity(canonical, silhouettes_of(canonical, T, cameras), cameras, QUICK, cpu)
    assert found.iou[0] > 0.93
    assert np.linalg.det(found.T_world_mesh[:3, :3]) ** (1 / 3) == pytest.approx(1, abs=0.3)


def test_an_upright_mesh_is_found_by_yaw_alone_where_up_is_known(canonical):
    rng = np.random.default_rng(5)
    up = np.array([0.0, 0.6, -0.8])
    lift = Rotation.from_rotvec(np.arccos(up[2]) * np.array([-1.0, 0, 0]))
    assert lift.apply([0, 0, 1]) == pytest.approx(up)
    T = similarity_of(rng, lift * Rotation.from_rotvec([0, 0, 2.0]))
    cameras = views_of(T, 6, rng)
    few = replace(QUICK, starts=1, upright_starts=24)
    found = align.fit_similarity(canonical, silhouettes_of(canonical, T, cameras), cameras, few, cpu, up)
    assert errors(found.T_world_mesh, T)[0] < 1 and found.starts == 25


def test_size_and_place_of_the_world_do_not_matter_and_a_seed_gives_the_same_bits(canonical):
    rng = np.random.default_rng(6)
    T = similarity_of(rng)
    cameras = views_of(T, 6, rng)
    masks = silhouettes_of(canonical, T, cameras)
    far = np.diag([1e3, 1e3, 1e3, 1.0])
    far[:3, 3] = 5e3, -2e3, 1e3
    here, again = (align.fit_similarity(canonical, masks, cameras, QUICK, cpu) for _ in range(2))
    there = align.fit_similarity(canonical, masks, camera.moved(cameras, torch.from_numpy(far).float()), QUICK, cpu)
    assert (here.T_world_mesh == again.T_world_mesh).all() and (here.iou == again.iou).all()
    degrees, scale, place = errors(there.T_world_mesh, far @ T)
    assert degrees < 1 and scale < 0.01 and place < 0.01


def test_a_mesh_that_half_a_turn_brings_to_itself_has_a_runner_up_as_good():
    ball = mesh.icosphere(3)
    brick = mesh.Mesh(ball.verts.clamp(-0.6, 0.6) * torch.tensor([0.8, 0.5, 0.3]), ball.faces)
    rng = np.random.default_rng(7)
    cameras = views_of(np.eye(4), 6, rng)
    found = align.fit_similarity(brick, silhouettes_of(brick, np.eye(4), cameras), cameras, QUICK, cpu)
    assert found.iou.mean() > 0.95
    assert found.runner_up_iou == pytest.approx(found.iou.mean(), abs=0.01)
    assert found.runner_up_radians == pytest.approx(np.pi, abs=0.05)


def test_two_laps_bring_place_and_size_near_before_any_fit(canonical):
    rng = np.random.default_rng(8)
    cameras = views_of(np.eye(4), 6, rng)
    target = silhouettes.crop_masks(silhouettes_of(canonical, np.eye(4), cameras), cameras, 48, cpu)
    shape = silhouettes.prepare_body(canonical, torch.eye(4).double(), 600, cpu)
    poses = torch.diag(torch.tensor([0.7, 0.7, 0.7, 1.0]))[None]
    poses[0, :3, 3] = torch.tensor([0.15, -0.2, 0.1])
    for _ in range(2):
        poses, _ = align._recentre(poses, shape, target, cpu)
    assert poses[0, :3, 3].norm() < 0.02
    assert poses[0, 0, 0] == pytest.approx(1, abs=0.02)


def test_the_starts_leave_no_rotation_farther_than_24_degrees():
    starts = Rotation.from_matrix(align._starting_rotations(AlignConfig(), None)[:, :3, :3].numpy())
    for some in Rotation.random(300, random_state=1):
        assert np.degrees((starts * some.inv()).magnitude().min()) < 24


def test_what_cannot_be_aligned_is_refused_by_name(canonical):
    cameras = camera.canonical_six(64)
    masks = silhouettes_of(canonical, np.eye(4), cameras)
    empty = [*masks[:2], np.zeros_like(masks[2]), *masks[3:]]
    with pytest.raises(ValueError, match=r"masks \[2\] have no alpha above 0.5"):
        align.fit_similarity(canonical, empty, cameras, QUICK, cpu)
    with pytest.raises(ValueError, match="got a mesh of 0 faces"):
        align.fit_similarity(replace(canonical, faces=canonical.faces[:0]), masks, cameras, QUICK, cpu)
    with pytest.raises(ValueError, match="got 0 masks for 0 cameras"):
        align.fit_similarity(canonical, [], cameras[[]], QUICK, cpu)
    backwards = replace(cameras, T_world_cam=camera.from_opencv(cameras.T_world_cam))
    with pytest.raises(ValueError, match=r"meet behind cameras \[0, 1, 2, 3, 4, 5\], need the object in front"):
        align.fit_similarity(canonical, masks, backwards, QUICK, cpu)
