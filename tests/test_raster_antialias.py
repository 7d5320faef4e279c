"""`antialias`: values and gradients against a slow loop, areas of moving edges in closed form, and what it must leave alone.

The slow loop is differentiable float64 torch code, pair of pixels by pair, with its own search for neighbouring faces.
"""

import numpy as np
import pytest
import torch

from recon_lib import camera
from recon_lib.mesh import icosphere

MARGIN = 1 / 16  # pixels


def far_corner(faces: list, f: int, e: int) -> int | None:
    """Corner opposite edge `e` of face `f` in the first other face with this edge; only an edge's first two faces count."""
    edge = {faces[f][(e + 1) % 3], faces[f][(e + 2) % 3]}
    others = [g for g in range(len(faces)) if edge <= set(faces[g])][:2]
    others = [g for g in others if g != f]
    return (set(faces[others[0]]) - edge).pop() if others else None


def cross(a, b):
    return a[0] * b[1] - a[1] * b[0]


def edge_between(screen, faces, f, centre, vertical, sign):
    """Where the face's silhouette edge crosses the line between the two centres (0 own, 1 other), or None."""
    axis = [1, 0] if vertical else [0, 1]
    p = [(screen[v] - torch.tensor(centre, dtype=torch.float64))[axis] for v in faces[f]]
    crossings = []
    for e in range(3):
        a, b = p[(e + 1) % 3], p[(e + 2) % 3]
        if (a[1] < 0) != (b[1] < 0):
            crossings.append((sign * cross(a, b) / (b[1] - a[1]), e, abs(b - a)))
    if not crossings:
        return None
    where, e, span = max(crossings, key=lambda c: c[0])
    a, b = (screen[faces[f][(e + k) % 3]] for k in (1, 2))
    far = far_corner(faces, f, e)
    folded = far is None or (cross(b - a, screen[far] - a) > 0) == (cross(b - a, screen[faces[f][e]] - a) > 0)
    return where.clamp(0, 1) if folded and span[1] >= span[0] and -MARGIN < where < 1 + MARGIN else None


def slow_antialias(colour, rast, pos, faces):
    """One view."""
    height, width = rast.shape[:2]
    screen = (pos[:, :2] / pos[:, 3:] + 1) / 2 * torch.tensor([width, height])
    out, blended = colour.clone(), 0
    for y, x, vertical in np.ndindex(height, width, 2):
        qx, qy = (x, y + 1) if vertical else (x + 1, y)
        if qx == width or qy == height or rast[y, x, 3] == rast[qy, qx, 3]:
            continue
        (z, one), (other_z, other) = rast[y, x, 2:].tolist(), rast[qy, qx, 2:].tolist()
        first = other == 0 or (one > 0 and z < other_z)
        centre = (x + 0.5, y + 0.5) if first else (qx + 0.5, qy + 0.5)
        sign = 1 if first else -1
        where = edge_between(screen, faces, int(one if first else other) - 1, centre, vertical, sign)
        if where is None:
            continue
        alpha = sign * (0.5 - where)
        at = (y, x) if alpha > 0 else (qy, qx)
        out[at] = out[at] + alpha * (colour[qy, qx] - colour[y, x])
        blended += 1
    return out, blended


def perspective(p_world: np.ndarray) -> np.ndarray:
    """Clip positions, seen from (0, 0, 3) along -z."""
    x, y, z = np.moveaxis(p_world, -1, 0)
    w = 3 - z
    return np.stack([2.2 * x, 2.2 * y, 1.2 * w - 2, w], -1).astype(np.float32)


def random_scene(seed: int, with_fin: bool) -> tuple[np.ndarray, np.ndarray]:
    """A ball of large faces, an open folded sheet that it overlaps and perhaps a fin on it: three faces on one edge."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    ball = icosphere(seed % 2)
    sheet = np.concatenate(
        [np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(9, 2), rng.normal(size=(9, 1))], -1
    )
    sheet = (0.6 * sheet + 0.1 * rng.normal(size=(9, 3))) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    quads = np.array([0, 1, 3, 4])
    squares = np.stack([quads, quads + 1, quads + 4, quads, quads + 4, quads + 3], -1).reshape(-1, 3)
    balls = ball.verts.cpu().numpy() @ turn * 0.7 + 0.3 * rng.normal(size=3)
    verts = np.concatenate([balls, sheet, 0.6 * rng.normal(size=(1, 3))])
    faces = np.concatenate([squares, [[0, 4, 9]]]) if with_fin else squares
    return perspective(verts), np.concatenate([ball.faces.cpu().numpy(), faces + len(balls)])


def assert_equals_the_slow_loop(raster, corners: np.ndarray, index: np.ndarray, seed: int) -> None:
    pos, faces = torch.tensor(corners)[None].requires_grad_(), torch.tensor(index.astype(np.int32))
    rast, _ = raster.rasterize(pos.detach(), faces, (24, 36))
    rng = np.random.default_rng(seed)
    colour, grad = (torch.tensor(rng.uniform(-1, 1, (1, 24, 36, 3)).astype(np.float32)) for _ in range(2))
    colour.requires_grad_()
    out = raster.antialias(colour, rast, pos, faces)
    out.backward(grad)
    slow_colour, slow_pos = (t.detach()[0].cpu().double().requires_grad_() for t in (colour, pos))
    with torch.device("cpu"):
        expected, blended = slow_antialias(slow_colour, rast[0].cpu().double(), slow_pos, index.tolist())
    expected.backward(grad[0].cpu().double())
    assert blended > 25
    np.testing.assert_allclose(out[0].detach().cpu(), expected.detach(), atol=1e-5)
    np.testing.assert_allclose(colour.grad[0].cpu(), slow_colour.grad, atol=1e-5)
    scale = slow_pos.grad.abs().max().item()
    assert scale > 0.1 and (pos.grad[..., 2] == 0).all()
    np.testing.assert_allclose(pos.grad[0].cpu(), slow_pos.grad, atol=2e-3 * scale)


@pytest.mark.parametrize("seed", range(6))
def test_values_and_gradients_equal_the_slow_loop(raster, seed):
    assert_equals_the_slow_loop(raster, *random_scene(seed, with_fin=False), seed)


@pytest.mark.parametrize("seed", range(6))
def test_an_edge_of_three_faces_keeps_its_first_two(raster, seed):
    assert_equals_the_slow_loop(raster, *random_scene(seed, with_fin=True), seed)


def strip(left: float, right: float, lean: float = 0.0, w: tuple = (1, 1, 1, 1)) -> np.ndarray:
    """A quad from below to above the screen between two x of clip space; `lean` is dx/dy of its right side."""
    low, high = right - 3 * lean, right + 3 * lean
    flat = np.float64([[left, -3, 0, 1], [low, -3, 0, 1], [high, 3, 0, 1], [left, 3, 0, 1]])
    return (flat * np.float64(w)[:, None]).astype(np.float32)


QUAD = [[0, 1, 2], [0, 2, 3]]


def covered(raster, corners: torch.Tensor, size: tuple[int, int], values=(0.0, 1.0)) -> torch.Tensor:
    """Antialiased image of the quad in one value over another."""
    faces = torch.tensor(QUAD, dtype=torch.int32)
    rast, _ = raster.rasterize(corners[None], faces, size)
    colour = torch.where(rast[..., 3:] > 0, values[1], values[0])
    return raster.antialias(colour, rast, corners[None], faces)[0, ..., 0]


@pytest.mark.parametrize("upright", [True, False])
def test_the_summed_coverage_of_a_moving_straight_edge_is_its_area(raster, upright):
    size = (16, 24) if upright else (24, 16)
    for right in np.linspace(0.2, 0.5, 41):
        corners = strip(-0.37, right)
        image = covered(raster, torch.tensor(corners if upright else corners[:, [1, 0, 2, 3]]), size)
        assert image.sum().item() == pytest.approx((right + 0.37) / 2 * 24 * 16, rel=1e-5)


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("lean", [-0.4, 0.15, 0.55])
def test_the_summed_coverage_of_a_slanted_edge_is_its_area(raster, snap, lean, upright):
    """Where the snapped edge and the edge itself pass a centre on two sides, its pixel is blended up to `snap` too little."""
    size = (16, 24) if upright else (24, 16)
    for right in np.linspace(-0.1, 0.1, 21):
        corners = strip(-2.0, right, lean)
        image = covered(raster, torch.tensor(corners if upright else corners[:, [1, 0, 2, 3]]), size)
        assert image.sum().item() == pytest.approx((right + 1) / 2 * 24 * 16, rel=1e-4, abs=snap)


def test_a_rectangle_s_summed_coverage_is_its_area_but_for_its_corners(raster):
    for shift in np.linspace(0, 0.1, 17):
        box = np.float32([[-0.61, -0.43, 0, 1], [0.52, -0.43, 0, 1], [0.52, 0.71, 0, 1], [-0.61, 0.71, 0, 1]])
        box[:, :2] += np.float32([shift, shift / 3])
        area = (1.13 / 2 * 24) * (1.14 / 2 * 16)
        # A pixel's blends add up instead of multiplying: at most half a pixel squared a corner.
        assert covered(raster, torch.tensor(box), (16, 24)).sum().item() == pytest.approx(area, abs=4 * 0.25)


@pytest.mark.parametrize("lean", [0.0, 0.3])
@pytest.mark.parametrize("w", [(1, 1, 1, 1), (0.8, 1.7, 0.6, 1.3)])
def test_the_gradient_to_each_corner_equals_differences_over_a_moving_edge(raster, snap, w, lean):
    """The two right corners, in x and w; the object is 0.2 before 0.9. Snapped, the moving edge jumps a little on its way."""
    size, step = (64, 48), 2e-3

    def total(corners: np.ndarray) -> float:
        return covered(raster, torch.tensor(corners), size, (0.9, 0.2)).double().sum().item()

    start = strip(-2.0, 0.05, lean, w)
    pos = torch.tensor(start).requires_grad_()
    covered(raster, pos, size, (0.9, 0.2)).sum().backward()
    for corner in (1, 2):
        for channel in (0, 3):
            ahead, behind = start.copy(), start.copy()
            ahead[corner, channel] += step
            behind[corner, channel] -= step
            slope = (total(ahead) - total(behind)) / (2 * step)
            assert abs(slope) > 1
            assert pos.grad[corner, channel].item() == pytest.approx(slope, rel=0.02 if snap else 0.01)
    if w == (1, 1, 1, 1):
        # Moving the whole edge by 1 in clip x uncovers 24 pixels of each of 64 rows.
        assert pos.grad[1:3, 0].sum().item() == pytest.approx((0.2 - 0.9) * 24 * 64, rel=0.01)
    assert (pos.grad[:, 2] == 0).all()


def test_a_horizontal_edge_s_gradient_is_its_length_in_pixels(raster):
    """The lower edge lies half way between two rows of centres, where nothing is blended."""
    pos = torch.tensor(strip(-0.5, 0.28)[:, [1, 0, 2, 3]]).requires_grad_()
    covered(raster, pos, (20, 33)).sum().backward()
    assert pos.grad[1:3, 1].sum().item() == pytest.approx(10 * 33, rel=0.01)
    assert pos.grad[[0, 3], 1].sum().item() == pytest.approx(-10 * 33, rel=0.01)
    assert pos.grad[:, 0].abs().max().item() < 1e-3


def ball_on_screen(raster, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ball = icosphere(1)
    P = camera.projection(camera.orbit(1, 0.3, 3.0, 0.8, 64), 1.0, 5.0)
    pos = (torch.nn.functional.pad(ball.verts, (0, 1), value=1.0) @ P.mT).to(torch.get_default_device())
    faces = ball.faces.to(pos.device)
    return raster.rasterize(pos, faces, size)[0], pos, faces


def test_the_inside_of_a_closed_convex_mesh_is_left_alone(raster):
    rast, pos, faces = ball_on_screen(raster, (60, 64))
    colour = torch.tensor(np.random.default_rng(0).random((1, 60, 64, 3)).astype(np.float32))
    changed = (raster.antialias(colour, rast, pos, faces) != colour).any(-1)[0].cpu().numpy()
    face = rast[0, ..., 3].cpu().numpy()
    full = np.pad(face, 1)
    inside = (face > 0) & (full[:-2, 1:-1] > 0) & (full[2:, 1:-1] > 0) & (full[1:-1, :-2] > 0) & (full[1:-1, 2:] > 0)
    assert inside.sum() > 1500 and (np.diff(face, axis=1)[inside[:, 1:]] != 0).sum() > 200
    assert not changed[inside].any() and changed.sum() > 50


def test_an_open_border_is_a_silhouette(raster):
    """Two sheets, the upper one ends at x = 0.3 with no neighbour, and nothing else differs there."""
    sheets = np.concatenate([strip(-5, 5), strip(-5, 0.3) - np.float32([0, 0, 0.5, 0])])
    faces = torch.tensor([*QUAD, *(np.array(QUAD) + 4).tolist()], dtype=torch.int32)
    pos = torch.tensor(sheets)[None]
    rast, _ = raster.rasterize(pos, faces, (8, 24))
    colour = torch.where(rast[..., 3:] > 2, 1.0, 0.0)
    out = raster.antialias(colour, rast, pos, faces)[0, ..., 0]
    edge = (
        1.3 / 2 * 24
    )  # 15.6: the centre of column 15 is covered, the edge reaches 0.1 of the pair further than half way
    expected = (edge - torch.arange(24)).clamp(0, 1)
    torch.testing.assert_close(out, expected.expand(8, 24), rtol=0, atol=1e-5)


def test_an_edge_just_beyond_the_other_centre_blends_half_and_is_not_moved(raster):
    """The upper face sinks through the lower one between columns 11 and 12 and ends 0.03 pixels after column 12's centre."""
    columns = np.float32([10.2, 12.53, 12.53])
    upper = np.stack([columns / 12 - 1, [0, -9, 9], (columns - 11.5) / 2, [1, 1, 1]], -1)
    lower = strip(-5, 5) + np.float32([0, 0, 0.3, 0])
    pos = torch.tensor(np.concatenate([upper, lower]).astype(np.float32))[None].requires_grad_()
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [3, 5, 6]], dtype=torch.int32)
    rast, _ = raster.rasterize(pos.detach(), faces, (8, 24))
    colour = torch.where(rast[..., 3:] == 1, 1.0, 0.0)
    assert (colour[0, :, 11] == 1).all() and (colour[0, :, 12] == 0).all()
    column = raster.antialias(colour, rast, pos, faces)[0, :, 12, 0]
    torch.testing.assert_close(column, torch.full((8,), 0.5))
    column.sum().backward()
    assert (pos.grad == 0).all()


def test_a_fold_towards_the_viewer_s_far_side_is_a_silhouette_and_a_flat_shared_edge_is_none(raster):
    for far, blends in ((0.9, False), (-0.6, True)):  # the neighbour goes on, or folds back behind
        corners = np.concatenate([strip(-0.9, 0.3), strip(-0.9, far)[1:3] + np.float32([0, 0, 0.5, 0])])
        faces = torch.tensor([*QUAD, [1, 4, 5], [1, 5, 2]], dtype=torch.int32)
        pos = torch.tensor(corners)[None]
        rast, _ = raster.rasterize(pos, faces, (8, 24))
        colour = torch.where((rast[..., 3:] > 0) & (rast[..., 3:] < 3), 1.0, 0.0)
        out = raster.antialias(colour, rast, pos, faces)
        assert (not torch.equal(out[:, :, 13:18], colour[:, :, 13:18])) == blends


def test_pos_gradient_boost_scales_the_gradient_to_positions_alone(raster):
    rast, pos, faces = ball_on_screen(raster, (60, 64))
    start = torch.tensor(np.random.default_rng(1).random((1, 60, 64, 3)).astype(np.float32))
    grads = []
    for boost in (1.0, 4.0):
        p, colour = pos.clone().requires_grad_(), start.clone().requires_grad_()
        raster.antialias(colour, rast, p, faces, pos_gradient_boost=boost).square().sum().backward()
        grads.append((p.grad, colour.grad))
    assert grads[0][0].abs().max() > 0
    torch.testing.assert_close(grads[1][0], 4 * grads[0][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grads[1][1], grads[0][1], rtol=0, atol=0)


def test_a_given_topology_and_another_memory_order_change_nothing(raster):
    rast, pos, faces = ball_on_screen(raster, (60, 64))
    colour = torch.tensor(np.random.default_rng(2).random((1, 60, 64, 3)).astype(np.float32))
    channels_first = colour.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    given = raster.antialias(channels_first, rast, pos, faces, raster.topology(faces))
    assert torch.equal(given, raster.antialias(colour, rast, pos, faces))


def test_a_constant_image_stays_constant(raster):
    rast, pos, faces = ball_on_screen(raster, (60, 64))
    colour = torch.full((1, 60, 64, 2), 0.7)
    assert torch.equal(raster.antialias(colour, rast, pos, faces), colour)


def test_faces_through_the_camera_plane_leave_values_and_gradients_finite(raster):
    pos = torch.tensor([[[-0.5, -0.9, 0, 1], [0.5, -0.9, 0, 1], [0.5, 2, 0, -0.5], [-0.5, 2, 0, 0]]]).requires_grad_()
    faces = torch.tensor(QUAD, dtype=torch.int32)
    rast, _ = raster.rasterize(pos, faces, (16, 24))
    assert 0 < (rast[..., 3] > 0).sum() < 16 * 24
    out = raster.antialias((rast[..., 3:] > 0).float(), rast.detach(), pos, faces)
    out.square().sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(pos.grad).all()
