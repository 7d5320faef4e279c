"""`rasterize` and `interpolate`: which face is where, and with which weights.

The oracle solves, face by face in float64, [p0 p1 p2] b = (x, y, 1) for the (x, y, w) of the corners: b are the weights of the
point with w = 1 seen through the pixel, so the face is there when every b >= 0, and its z is z/w.
"""

import numpy as np
import pytest
import torch

from recon_lib import camera
from recon_lib.mesh import icosphere

SIZES = [(37, 53), (64, 24)]


def centres(height: int, width: int) -> np.ndarray:
    """Clip-space (x, y, 1) of the pixel centres, H W 3."""
    x, y = (2 * np.arange(width) + 1) / width - 1, (2 * np.arange(height) + 1) / height - 1
    return np.stack([*np.meshgrid(x, y), np.ones((height, width))], -1)


def solve(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ np.linalg.inv(corners[:, [0, 1, 3]].astype(np.float64).T).T


def slow_rasterize(pos: np.ndarray, faces: np.ndarray, height: int, width: int) -> np.ndarray:
    points, out = centres(height, width), np.zeros((height, width, 4))
    for f, corners in enumerate(pos[faces]):
        b = solve(corners, points)
        z, total = b @ corners[:, 2], b.sum(-1)
        here = (b >= 0).all(-1) & (total > 0) & (np.abs(z) <= 1) & ((out[..., 3] == 0) | (z <= out[..., 2]))
        out[here] = np.stack([b[..., 0] / total, b[..., 1] / total, z, np.full_like(z, f + 1)], -1)[here]
    return out


def edge_distance(corners: np.ndarray, px: int, py: int, height: int, width: int) -> float:
    """Pixels from a pixel's centre to the nearest of the lines through the face's edges."""
    lines = np.linalg.inv(corners[:, [0, 1, 3]].astype(np.float64).T)  # of b, which is 0 on an edge
    return (
        np.abs(lines @ centres(height, width)[py, px]) / np.hypot(*(lines[:, :2] * [2 / width, 2 / height]).T)
    ).min()


def seen(p_cam: np.ndarray, near: float, far: float) -> np.ndarray:
    """Clip positions of points before a camera that looks along -z with 90 degrees of view."""
    x, y, z = np.moveaxis(p_cam, -1, 0)
    return np.stack([x, y, (-z * (far + near) - 2 * far * near) / (far - near), -z], -1).astype(np.float32)


def soup(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Loose triangles from a hundredth of a pixel to the whole screen, some through or behind the camera."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(-0.5, 6, (count, 1, 1))
    centre = np.concatenate([rng.uniform(-1.1, 1.1, (count, 1, 2)) * np.abs(depth), -depth], -1)
    size = np.where(rng.random((count, 1, 1)) < 0.03, 1.0, np.abs(depth) * 10 ** rng.uniform(-3, -0.8, (count, 1, 1)))
    p_cam = centre + rng.normal(size=(count, 3, 3)) * size
    return seen(p_cam, 0.2, 5).reshape(-1, 4), np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def rasterized(raster, pos, faces, size):
    rast, db = raster.rasterize(torch.tensor(pos)[None], torch.tensor(faces), size)
    return rast[0].cpu().numpy(), db[0].cpu().numpy()


def grid(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The screen cut into `steps`² quads of two triangles: x, y in -1 to 1 and faces."""
    x, y = np.meshgrid(np.linspace(-1, 1, steps + 1), np.linspace(-1, 1, steps + 1))
    a = (np.arange(steps)[:, None] * (steps + 1) + np.arange(steps)).reshape(-1)
    quads = np.stack([a, a + 1, a + steps + 2, a, a + steps + 2, a + steps + 1], -1)
    return np.stack([x, y], -1).reshape(-1, 2), quads.reshape(-1, 3).astype(np.int32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_faces_weights_and_depths_equal_the_slow_loop(raster, snap, size, seed):
    """Snapped, an edge passes other pixel centres: with these small faces at most a hundredth of all."""
    pos, faces = soup(seed)
    assert (pos[:, 3] <= 0).sum() > 10 and (pos[:, 2] < -pos[:, 3]).sum() > 10
    got, expected = rasterized(raster, pos, faces, size)[0], slow_rasterize(pos, faces, *size)
    same = got[..., 3] == expected[..., 3]
    assert same.mean() >= (0.99 if snap else 0.999) and len(np.unique(expected[..., 3])) > 40
    for py, px in np.argwhere(~same) if snap else ():
        found = [int(image[py, px, 3]) - 1 for image in (got, expected) if image[py, px, 3] > 0]
        assert min(edge_distance(pos[faces[f]], px, py, *size) for f in found) < snap
    np.testing.assert_allclose(got[same], expected[same], atol=1e-5, rtol=0)
    assert got[..., :2].min() >= 0 and got[..., :2].sum(-1).max() <= 1 + 1e-6


def test_the_ground_under_and_behind_the_camera_is_seen_from_the_horizon_to_the_near_plane(raster):
    flat, faces = grid(5)
    # 1 below the camera, from 40 before it to 40 behind it; rows look down at slopes of -y
    pos = seen(np.stack([60 * flat[:, 0], np.full(len(flat), -1.0), 40 * flat[:, 1]], -1), near=2.0, far=30)
    rast, _ = rasterized(raster, pos, faces, (64, 48))
    depth = -1 / centres(64, 48)[..., 1]
    np.testing.assert_array_equal(rast[..., 3] > 0, (depth > 2) & (depth < 30))
    corners = np.take(pos[faces].astype(np.float64), rast[..., 3].astype(int) - 1, axis=0)
    weights = np.concatenate([rast[..., :2], 1 - rast[..., :2].sum(-1, keepdims=True)], -1)
    w = (weights * corners[..., 3]).sum(-1)
    covered = rast[..., 3] > 0
    np.testing.assert_allclose(w[covered], depth[covered], rtol=1e-4)


def test_interpolated_clip_positions_lie_over_their_pixel_centres(raster, snap):
    """Snapped, a face may hold a centre that lies outside it; its weights there are clamped, and belong to its edge."""
    pos, faces = soup(2)
    p, f = torch.tensor(pos)[None], torch.tensor(faces)
    rast, _ = raster.rasterize(p, f, (37, 53))
    inner, _ = raster.interpolate(p, rast, f)
    inner, z, face = inner[0].cpu().numpy(), rast[0, ..., 2].cpu().numpy(), rast[0, ..., 3].cpu().numpy()
    assert (face > 0).sum() > 500 and (inner[face == 0] == 0).all() and (inner[face > 0, 3] > 0).all()
    # Weights are float32 and a corner may be far outside, so the error is relative to the face's extent.
    extent = np.abs(pos[faces]).max((1, 2))[face.astype(int) - 1]
    error = inner[..., :2] - centres(37, 53)[..., :2] * inner[..., 3:]
    off = np.maximum(np.abs(error).max(-1), np.abs(inner[..., 2] - z * inner[..., 3]))[face > 0] / extent[face > 0]
    assert (off >= 1e-6).mean() <= (0.01 if snap else 0)


def test_u_is_the_weight_of_corner_0_and_v_of_corner_1(raster):
    corners = np.float32([[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1]])
    rast, _ = rasterized(raster, corners, np.int32([[0, 1, 2]]), (16, 16))
    got = [rast[row, column, :2].tolist() for row, column in ((0, 0), (0, 14), (14, 0))]
    np.testing.assert_allclose(got, np.float64([[30, 1], [2, 29], [2, 1]]) / 32, atol=1e-6)


def test_row_0_is_clip_y_minus_1(raster):
    low = np.float32([[-1, -1, 0, 1], [1, -1, 0, 1], [0, -0.5, 0, 1]])
    rast, _ = rasterized(raster, low, np.int32([[0, 1, 2]]), (12, 20))
    assert rast[0, :, 3].any() and not rast[4:, :, 3].any()


def test_both_windings_are_drawn_alike(raster):
    pos, faces = soup(3)
    there, _ = rasterized(raster, pos, faces, (37, 53))
    turned, _ = rasterized(raster, pos, faces[:, [1, 0, 2]], (37, 53))
    np.testing.assert_array_equal(turned[..., 3], there[..., 3])
    np.testing.assert_allclose(turned[..., [1, 0, 2]], there[..., :3], atol=1e-6)


def test_the_nearest_face_wins_and_on_equal_depth_the_later(raster):
    corners = np.float32([[-1, -1, 0.2, 1], [5, -1.3, 0.7, 1.3], [-1, 3, -0.3, 0.8]])
    nearer = corners - np.float32([0, 0, 0.05, 0])
    pos = np.concatenate([corners, nearer, corners, corners])
    order = np.arange(12, dtype=np.int32).reshape(4, 3)
    for chosen, winner in (([0, 2, 3], 3), ([3, 0], 2), ([0, 1, 2], 2), ([1, 0], 1)):
        rast, _ = rasterized(raster, pos, order[chosen], (9, 14))
        assert (rast[..., 3] == winner).all()


def test_depth_outside_minus_1_to_1_is_not_drawn(raster):
    ramp = np.float32([[-1, -1, -2, 1], [3, -1, 6, 1], [-1, 3, -2, 1]])  # z = 2 x
    rast, _ = rasterized(raster, ramp, np.int32([[0, 1, 2]]), (4, 16))
    np.testing.assert_array_equal(rast[..., 3] > 0, np.abs(centres(4, 16)[..., 0]) <= 0.5)


@pytest.mark.parametrize("seed", range(6))
def test_neighbouring_faces_leave_no_crack(raster, seed):
    rng = np.random.default_rng(seed)
    flat, faces = grid(24)
    jitter = rng.uniform(-0.4, 0.4, flat.shape) * (2 / 24) * (np.abs(flat) < 1)
    w = 10 ** rng.uniform(-1, 1, (len(flat), 1))
    pos = np.concatenate([1.01 * flat + jitter, rng.uniform(-0.9, 0.9, (len(flat), 1)), np.ones_like(w)], -1) * w
    rast, _ = rasterized(raster, pos.astype(np.float32), rng.permutation(faces), (150, 211))
    assert (rast[..., 3] > 0).all()


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_edges_and_corners_through_pixel_centres_leave_no_gap(raster, steps):
    """16 x 16 pixels: the diagonals of the quads pass through centres; moved by half a pixel, corners lie on centres."""
    flat, faces = grid(steps)
    for shift in (0, 1 / 16):
        pos = np.concatenate([flat * (1 if shift == 0 else 17 / 16), np.tile([0, 1], (len(flat), 1))], -1)
        pos[:, :2] = np.round((pos[:, :2] + shift) * 16) / 16
        assert (rasterized(raster, pos.astype(np.float32), faces, (16, 16))[0][..., 3] > 0).all()


def assert_drawn_alone(raster, extra: np.ndarray, flat: list) -> None:
    """Face 0 is a real one of corners 0 to 2; of the others none is drawn, and the corners from 3 on get no gradient."""
    real = np.float32([[-1, -1, 0.5, 1], [1, -1, 0.5, 1], [-1, 1, 0.5, 1]])
    pos = torch.tensor(np.concatenate([real, extra]))[None].requires_grad_()
    rast, db = raster.rasterize(pos, torch.tensor([[0, 1, 2], *flat], dtype=torch.int32), (5, 5))
    assert set(rast[..., 3].unique().tolist()) == {0, 1}
    (rast[..., :2].square().sum() + db.sum()).backward()
    assert all(torch.isfinite(t).all() for t in (rast, db, pos.grad)) and (pos.grad[0, 3:] == 0).all()


def test_faces_without_area_are_not_drawn_and_their_gradients_are_finite(raster):
    line = np.float32([[-1, -1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1]])  # through pixel centres
    dots = np.float32([[0, 0, 0, 1]] * 3)
    eye = np.zeros((3, 4), np.float32)
    flat = [[3, 4, 5], [6, 7, 8], [9, 10, 11], [0, 0, 1], [2, 2, 2]]
    assert_drawn_alone(raster, np.concatenate([line, dots, eye]), flat)


def test_a_face_with_a_corner_in_the_eye_is_not_drawn_and_its_gradients_are_finite(raster):
    assert_drawn_alone(raster, np.zeros((1, 4), np.float32), [[0, 1, 3]])


def test_an_empty_pixel_is_zero_in_every_channel(raster):
    corner = np.float32([[0, 0, 0.3, 1], [1, 0, 0.3, 1], [0, 1, 0.3, 1]])
    rast, db = rasterized(raster, corner, np.int32([[0, 1, 2]]), (10, 12))
    empty = rast[..., 3] == 0
    assert 0 < empty.sum() < empty.size and (rast[empty] == 0).all() and (db[empty] == 0).all()


@pytest.mark.parametrize(("faces", "size"), [(0, (8, 8)), (1, (0, 8)), (1, (8, 0))])
def test_nothing_to_draw_or_nowhere_is_an_error(raster, faces, size):
    with pytest.raises(ValueError, match="at least one"):
        raster.rasterize(torch.ones(1, 3, 4), torch.tensor([[0, 1, 2]] * faces).reshape(-1, 3).int(), size)


def test_more_faces_than_a_float_counts_are_an_error(raster):
    many = torch.tensor([[0, 1, 2]], dtype=torch.int32).expand(2**24, 3)
    with pytest.raises(ValueError, match="fewer than 16777216"):
        raster.rasterize(torch.ones(1, 3, 4), many, (8, 8))


def test_faces_of_another_integer_type_or_memory_order_change_nothing(raster):
    ball = icosphere(1)
    cameras = camera.orbit(1, 0.4, 2.0, 0.9, 40)
    P = camera.projection(cameras, 0.5, 4.0)
    pos = (torch.nn.functional.pad(ball.verts, (0, 1), value=1.0) @ P.mT).to(torch.get_default_device())
    plain = ball.faces.to(pos.device)

    def drawn(faces):
        rast, db = raster.rasterize(pos, faces, (40, 56))
        values, da = raster.interpolate(pos, rast, faces, db, (0,))
        return rast, db, values, da, raster.antialias(values, rast, pos, faces, raster.topology(faces))

    expected = drawn(plain)
    columns = torch.stack([plain[:, k] for k in range(3)]).T
    assert not columns.is_contiguous()
    for faces in (columns, plain.long(), plain[torch.arange(len(plain)).repeat_interleave(2)][::2]):
        for one, two in zip(drawn(faces), expected, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_derivatives_without_those_of_the_weights_or_of_an_attribute_that_is_not_there_are_refused(raster):
    rast, db = torch.zeros(1, 4, 5, 4), torch.zeros(1, 4, 5, 4)
    attr, faces = torch.ones(1, 3, 2), torch.tensor([[0, 1, 2]], dtype=torch.int32)
    with pytest.raises(ValueError, match="diff_attrs without rast_db"):
        raster.interpolate(attr, rast, faces, None, (0,))
    for chosen in (2, -3):
        with pytest.raises(ValueError, match="of 2 attributes, need -2 to 1"):
            raster.interpolate(attr, rast, faces, db, (chosen,))


def test_views_of_a_batch_equal_single_views(raster):
    ball = icosphere(2)
    cameras = camera.orbit(3, 0.4, 2.0, 0.9, 40)
    verts = ball.verts.to(torch.get_default_device())
    P = camera.projection(cameras, 0.5, 4.0).to(verts)
    pos = verts @ P[:, :, :3].mT + P[:, None, :, 3]
    faces = ball.faces.to(verts.device)
    rast, db = raster.rasterize(pos, faces, (40, 56))
    attr, attr_da = raster.interpolate(pos, rast, faces, db, (0, 2))
    for i in range(3):
        one, one_db = raster.rasterize(pos[i : i + 1], faces, (40, 56))
        one_attr, one_da = raster.interpolate(pos[i : i + 1], one, faces, one_db, (0, 2))
        for both in ((rast, one), (db, one_db), (attr, one_attr), (attr_da, one_da)):
            torch.testing.assert_close(both[0][i], both[1][0], rtol=0, atol=0)


def test_pixel_derivatives_equal_differences_of_the_weights_inside_the_pixel(raster):
    pos, faces = soup(4)
    height, width = 37, 53
    rast, db = rasterized(raster, pos, faces, (height, width))
    points, step = centres(height, width), 1e-3  # pixels
    for y, x in np.argwhere(rast[..., 3] > 0)[::7]:
        corners = pos[faces[int(rast[y, x, 3]) - 1]]
        slopes = []
        for axis, extent in ((0, width), (1, height)):
            offset = np.eye(3)[axis] * step * 2 / extent
            ahead, behind = solve(corners, points[y, x] + offset), solve(corners, points[y, x] - offset)
            slopes.append((ahead[:2] / ahead.sum() - behind[:2] / behind.sum()) / (2 * step))
        expected = np.transpose(slopes).reshape(-1)  # du/dX du/dY dv/dX dv/dY
        np.testing.assert_allclose(db[y, x], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_without_derivatives_the_weights_are_the_same(raster):
    pos, faces = soup(5)
    p, f = torch.tensor(pos)[None], torch.tensor(faces)
    rast, db = raster.rasterize(p, f, (37, 53), grad_db=False)
    assert db.shape == (1, 37, 53, 0)
    torch.testing.assert_close(rast, raster.rasterize(p, f, (37, 53))[0], rtol=0, atol=0)


def test_attributes_linear_on_the_screen_have_those_slopes(raster):
    flat, faces = grid(3)
    pos = torch.tensor(np.concatenate([1.1 * flat, np.tile([0, 1], (len(flat), 1))], -1).astype(np.float32))[None]
    slopes = torch.tensor([[3.0, -1.0], [0.5, 2.0], [-4.0, 0.0]])  # per clip unit in x and y
    attr = pos[..., :2] @ slopes.T
    f, size = torch.tensor(faces), (20, 30)
    rast, db = raster.rasterize(pos, f, size)
    values, da = raster.interpolate(attr, rast, f, db, (2, -2))
    expected = torch.tensor(centres(*size)[..., :2].astype(np.float32)) @ slopes.T
    torch.testing.assert_close(values[0], expected, rtol=0, atol=1e-5)
    per_pixel = (slopes * torch.tensor([2 / 30, 2 / 20]))[[2, 1]].reshape(-1)
    torch.testing.assert_close(da[0], per_pixel.expand(20, 30, 4), rtol=0, atol=1e-5)


def test_shared_attributes_equal_repeated_ones(raster):
    flat, faces = grid(2)
    pos = torch.tensor(np.float32([np.c_[s * flat, np.tile([0, 1], (len(flat), 1))] for s in (0.5, 0.9)]))
    f, attr = torch.tensor(faces), torch.arange(18.0).reshape(1, 9, 2)
    rast, db = raster.rasterize(pos, f, (11, 13))
    shared, repeated = attr.clone().requires_grad_(), attr.repeat(2, 1, 1).requires_grad_()
    one, two = (raster.interpolate(a, rast, f, db, (0,)) for a in (shared, repeated))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for out in (one, two):
        (out[0].square().sum() + out[1].square().sum()).backward()
    torch.testing.assert_close(shared.grad, repeated.grad.sum(0, keepdim=True), rtol=1e-5, atol=1e-4)


def test_attributes_at_some_pixels_and_their_gradients_are_those_of_the_whole_images(raster):
    ball, size = icosphere(2), (48, 40)
    views = camera.orbit(2, 0.4, 3.0, 0.75, 48)
    T = camera.projection(camera.Cameras(views.T_world_cam, views.intrinsics, torch.tensor([[40, 48]] * 2)), 1.0, 5.0)
    T, verts, faces = (x.to(raster.DEVICE) for x in (T, ball.verts, ball.faces))
    other = faces.roll(1, 0)
    at_first = {"verts": verts, "uvs": 3 * verts[:, :2], "pos": verts @ T[:, :, :3].mT + T[:, None, :, 3]}
    found = []
    for some in (True, False):
        verts, uvs, pos = (x.clone().requires_grad_() for x in at_first.values())
        rast, _ = raster.rasterize(pos, faces, size, grad_db=False)
        covered = (rast[..., 3] > 0).reshape(-1).nonzero()[:, 0]
        index = torch.cat([covered[::3], rast.new_full((5,), rast[..., 0].numel(), dtype=torch.int64)])
        layers = [(verts, faces), (0.5 * verts.detach(), faces), (uvs, other)]
        if some:
            values = [v[: len(index) - 5] for v in raster.attributes_at(rast, index, layers)]
        else:
            whole = [raster.interpolate(attr[None], rast, f)[0] for attr, f in layers]
            values = [v.reshape(-1, v.shape[-1])[covered[::3]] for v in whole]
        loss = sum((v * (1 + torch.arange(len(v), device=v.device)[:, None].sin())).sum() for v in values)
        found.append([*values, *torch.autograd.grad(loss, [verts, uvs, pos])])
    for part, whole in zip(*found, strict=True):
        assert whole.abs().max() > 0
        assert torch.allclose(part, whole, rtol=1e-4, atol=1e-5 * whole.abs().max().item())
