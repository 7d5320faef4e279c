import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from recon_lib import camera
from recon_lib.camera import Cameras

VIEWS = list(camera.CANONICAL_VIEWS)


def poses(seed: int, count: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3], T[:, :3, 3] = Rotation.random(count, rng=rng).as_matrix(), rng.normal(size=(count, 3))
    return torch.tensor(T)


def rig(seed: int, count: int = 4) -> Cameras:
    """Cameras of unlike lenses and sizes with off-centre axes, float64."""
    rng = np.random.default_rng(seed)
    sizes = torch.tensor(rng.integers(40, 300, (count, 2)))
    intrinsics = np.concatenate(
        [rng.uniform(100, 400, (count, 2)), sizes.numpy() * rng.uniform(0.3, 0.7, (count, 2))], 1
    )
    return Cameras(poses(seed, count), torch.tensor(intrinsics), sizes)


def points_before(cameras: Cameras, seed: int = 0) -> torch.Tensor:
    """World points before the first camera, 0.5 to 4 away."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 4, (50, 1))
    p_cam = np.concatenate([rng.uniform(-0.5, 0.5, (50, 2)) * depth, -depth], -1)
    T = cameras.T_world_cam[0]
    return torch.tensor(p_cam).to(T) @ T[:3, :3].T + T[:3, 3]


def test_a_point_s_pixel_is_written_out_by_hand():
    """At (1, 2, 3), turned to look along +x with +z up; 2 ahead, 0.5 to the left (+y), 0.25 up."""
    pose = torch.tensor([[[0.0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]])
    cameras = Cameras(pose, torch.tensor([[100.0, 120, 31, 17]]), torch.tensor([[64, 48]]))
    pixels, depth = camera.project(cameras, torch.tensor([[3.0, 2.5, 3.25]]))
    assert pixels[0, 0].tolist() == pytest.approx([31 - 100 / 4, 17 - 120 / 8]) and depth.item() == pytest.approx(2)


def test_clip_space_and_pixels_agree():
    cameras = rig(0)
    p_world = points_before(cameras)
    pixels, depth = camera.project(cameras, p_world)
    P = camera.projection(cameras, 0.5, 4.0)
    clip = torch.nn.functional.pad(p_world, (0, 1), value=1.0) @ P.mT
    # Row 0 is clip y = -1, and the top row.
    from_clip = (clip[..., :2] / clip[..., 3:] + 1) / 2 * cameras.sizes[:, None]
    torch.testing.assert_close(from_clip, pixels, rtol=1e-9, atol=1e-5)
    torch.testing.assert_close(clip[..., 3], depth)


def test_depth_is_minus_1_at_near_and_1_at_far_and_grows():
    cameras = rig(1, 1)
    ahead = torch.tensor([[0, 0, -0.5], [0, 0, -1.0], [0, 0, -2.0], [0, 0, -4.0]], dtype=torch.float64)
    p_world = ahead @ cameras.T_world_cam[0, :3, :3].T + cameras.T_world_cam[0, :3, 3]
    clip = torch.nn.functional.pad(p_world, (0, 1), value=1.0) @ camera.projection(cameras, 0.5, 4.0)[0].T
    z = clip[:, 2] / clip[:, 3]
    assert z[0].item() == pytest.approx(-1) and z[3].item() == pytest.approx(1) and (z.diff() > 0).all()


def test_a_point_behind_has_no_positive_depth():
    cameras = Cameras(torch.eye(4)[None], torch.tensor([[10.0, 10, 5, 5]]), torch.tensor([[10, 10]]))
    assert camera.project(cameras, torch.tensor([[0.0, 0, 1], [0, 0, -1]]))[1].tolist() == [[-1, 1]]


def test_a_rigid_inverse_undoes_the_pose():
    T = poses(2, 5)
    torch.testing.assert_close(camera.invert_rigid(T) @ T, torch.eye(4, dtype=T.dtype).expand(5, 4, 4))


@pytest.mark.parametrize(
    ("name", "to_the_right", "up"),
    [
        ("front", (1, 0, 0), (0, 1, 0)),
        ("back", (-1, 0, 0), (0, 1, 0)),
        ("right", (0, 0, -1), (0, 1, 0)),
        ("left", (0, 0, 1), (0, 1, 0)),
        ("top", (1, 0, 0), (0, 0, -1)),
        ("bottom", (1, 0, 0), (0, 0, 1)),
    ],
)
def test_the_canonical_six_show_the_object_this_way_up(name, to_the_right, up):
    cameras = camera.canonical_six(512)[[VIEWS.index(name)]]
    step = 0.1
    directions = torch.tensor([[0.0, 0, 0], to_the_right, up]) * step
    pixels, depth = camera.project(cameras, directions)
    assert pixels[0, 0].tolist() == pytest.approx([256, 256]) and depth[0, 0].item() == pytest.approx(2.5)
    moved = 1111 * step / 2.5
    assert pixels[0, 1].tolist() == pytest.approx([256 + moved, 256], abs=1e-3)
    assert pixels[0, 2].tolist() == pytest.approx([256, 256 - moved], abs=1e-3)
    nearer = torch.tensor([camera.CANONICAL_VIEWS[name][0]]).float() * step
    assert camera.project(cameras, nearer)[1].item() == pytest.approx(2.5 - step)


def test_the_canonical_right_view_looks_along_minus_x():
    cameras = camera.canonical_six(64)
    right = cameras.T_world_cam[VIEWS.index("right")]
    torch.testing.assert_close(-right[:3, 2], torch.tensor([-1.0, 0, 0]))
    assert right[:3, 3].tolist() == [2.5, 0, 0]


def test_an_opencv_pose_gives_the_opencv_pixel():
    cameras, p_world = rig(3), points_before(rig(3))
    T_world_cv = cameras.T_world_cam
    p_cv = (p_world - T_world_cv[:, None, :3, 3]) @ T_world_cv[:, :3, :3]
    focal, centre = cameras.intrinsics[:, None, :2], cameras.intrinsics[:, None, 2:]
    expected = focal * p_cv[..., :2] / p_cv[..., 2:] + centre
    converted = Cameras(camera.from_opencv(T_world_cv), cameras.intrinsics, cameras.sizes)
    pixels, depth = camera.project(converted, p_world)
    torch.testing.assert_close(pixels, expected)
    torch.testing.assert_close(depth, p_cv[..., 2])


def test_a_similarity_of_the_world_moves_no_pixel_and_scales_depths():
    cameras = rig(4)
    p_world, T = points_before(cameras), poses(5, 1)[0]
    T[:3, :3] *= 3.7
    pixels, depth = camera.project(cameras, p_world)
    moved = camera.moved(cameras, T)
    new_pixels, new_depth = camera.project(moved, p_world @ T[:3, :3].T + T[:3, 3])
    torch.testing.assert_close(new_pixels, pixels)
    torch.testing.assert_close(new_depth, 3.7 * depth)
    R = moved.T_world_cam[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R))


def test_a_cropped_camera_s_pixels_are_the_old_ones_seen_from_the_box():
    cameras = rig(6)
    boxes = torch.tensor(
        [[10.0, 20, 50, 40], [-7, -3, 60, 31], [0, 0, 10, 10], [5.5, 2.25, 9, 80]], dtype=torch.float64
    )
    p_world = points_before(cameras)
    pixels, depth = camera.project(cameras, p_world)
    cut = camera.cropped(cameras, boxes, 96, 64)
    new_pixels, new_depth = camera.project(cut, p_world)
    scale = torch.tensor([96, 64]) / (boxes[:, 2:] - boxes[:, :2])
    torch.testing.assert_close(new_pixels, (pixels - boxes[:, None, :2]) * scale[:, None])
    torch.testing.assert_close(new_depth, depth)
    assert cut.sizes.tolist() == [[96, 64]] * 4


def test_look_at_is_a_rotation_with_the_target_in_the_centre_and_up_upwards():
    rng = np.random.default_rng(7)
    eye, target, up = (torch.tensor(rng.normal(size=(6, 3))) for _ in range(3))
    T = camera.look_at(eye, target, up)
    R = T[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand(6, 3, 3))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(6, dtype=R.dtype))
    local = lambda p: ((p - eye)[:, None] @ R)[:, 0]  # noqa: E731
    distance = (target - eye).norm(dim=-1)
    torch.testing.assert_close(local(target), torch.nn.functional.pad(-distance[:, None], (2, 0)))
    up_cam = local(eye + up)
    assert up_cam[:, 0].abs().max() < 1e-12 and (up_cam[:, 1] > 0).all()


def test_an_orbit_starts_in_front_and_moves_to_the_right():
    cameras = camera.orbit(8, 0.3, 2.0, 1.0, 100)
    eye = cameras.T_world_cam[:, :3, 3]
    torch.testing.assert_close(eye[0], 2 * torch.tensor([0, np.sin(0.3), np.cos(0.3)]).float())
    assert eye[1, 0] > 0.5 and eye[2, 0].item() == pytest.approx(2 * np.cos(0.3), rel=1e-5)
    torch.testing.assert_close(eye.norm(dim=-1), torch.full((8,), 2.0))
    torch.testing.assert_close(eye[:, 1], torch.full((8,), 2 * np.sin(0.3)).float())
    gaps = (eye - eye.roll(1, 0)).norm(dim=-1)
    torch.testing.assert_close(gaps, gaps[:1].expand(8))
    back, right = cameras.T_world_cam[0, :3, 2], cameras.T_world_cam[0, :3, 0]
    border = eye[0] - 2 * back + 2 * np.tan(0.5) * right  # half the field of view to the right
    pixels, _ = camera.project(cameras, torch.stack([torch.zeros(3), torch.tensor([0, 0.1, 0]), border]))
    torch.testing.assert_close(pixels[:, 0], torch.full((8, 2), 50.0))
    assert (pixels[:, 1, 1] < 50).all() and pixels[0, 2, 0].item() == pytest.approx(100, abs=1e-3)


def test_views_are_selected_by_mask_list_and_slice():
    cameras = rig(8)
    for index in (slice(1, 3), [1, 2], torch.tensor([False, True, True, False])):
        chosen = cameras[index]
        assert len(chosen) == 2 and torch.equal(chosen.sizes, cameras.sizes[1:3])
        assert torch.equal(chosen.T_world_cam, cameras.T_world_cam[1:3])
