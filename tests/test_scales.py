"""Coarse to fine: photos, texels and faces grow together, and only where photos look."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib import camera, mesh, render
from recon_lib.photos import crops
from recon_lib.photos.crops import Photos
from recon_lib.raster import cpu
from recon_lib.refine import refine, scales
from recon_lib.refine.config import FitConfig
from recon_lib.surface import uv


@pytest.fixture(scope="module")
def ball():
    """The unit ball with a smooth texture, lit evenly."""
    body = mesh.icosphere(2)
    uvs, uv_faces, (height, width) = uv.unwrap(body.verts, body.faces, 128)
    row = torch.linspace(0.2, 0.8, height)[:, None, None].expand(height, width, 3)
    return refine.make_lit(replace(body, uvs=uvs, uv_faces=uv_faces, texture=row.contiguous()), 16, cpu)


def seen_from_one_side(ball: mesh.Mesh, width: int) -> Photos:
    views = camera.orbit(24, 0.2, 4.0, 0.6, width)[:3]
    return Photos(render.render(ball, views, cpu).detach(), views)


def test_faces_are_split_where_photos_show_them_large_and_nowhere_else(ball):
    photos = seen_from_one_side(ball, 96)
    fine = scales.finer(ball, photos, cpu)
    towards = torch.nn.functional.normalize(photos.cameras.T_world_cam[1, :3, 3], dim=0)
    middle = fine.verts[fine.faces.long()].mean(1) @ towards
    before = ball.verts[ball.faces.long()].mean(1) @ towards
    assert (middle > 0.6).sum() == pytest.approx(4 * (before > 0.6).sum().item(), rel=0.1)
    assert (middle < -0.3).sum() == (before < -0.3).sum()
    assert scales.finer(ball, seen_from_one_side(ball, 16), cpu).faces.shape == ball.faces.shape


def test_pixels_per_face_are_the_area_of_its_projection(ball):
    """The largest faces look straight into the camera; there, area in pixels is area in space times (focal / depth)²."""
    photos = seen_from_one_side(ball, 192)
    found = scales.pixels_per_face(ball, photos, cpu)
    focal, depth = photos.cameras.intrinsics[0, 0].item(), 4.0 - 1.0
    towards = torch.nn.functional.normalize(photos.cameras.T_world_cam[1, :3, 3], dim=0)
    facing = ball.verts[ball.faces.long()].mean(1) @ towards > 0.93
    area = mesh.face_areas(ball.verts, ball.faces)[facing].mean().item() * (focal / depth) ** 2
    assert found[facing].mean().item() == pytest.approx(area, rel=0.12)
    back = camera.orbit(24, 0.2, 4.0, 0.6, 192)[12:15]  # photos that do not show these faces change nothing
    cameras = [
        torch.cat([getattr(c, n) for c in (photos.cameras, back)]) for n in ("T_world_cam", "intrinsics", "sizes")
    ]
    both = Photos(torch.cat([photos.rgba, photos.rgba]), camera.Cameras(*cameras))
    torch.testing.assert_close(scales.pixels_per_face(ball, both, cpu)[facing], found[facing])


def test_a_face_of_more_than_six_pixels_is_split(ball):
    photos = seen_from_one_side(ball, 48)
    pixels = scales.pixels_per_face(ball, photos, cpu)
    large = (pixels > 6).sum().item()
    assert 20 < large < (pixels > 0).sum().item() - 20
    assert len(scales.finer(ball, photos, cpu).faces) >= len(ball.faces) + 3 * large


def test_texels_double_from_scale_to_scale_and_end_at_their_share_of_the_photos(ball):
    photos = seen_from_one_side(ball, 96)
    sides = []
    for state in scales.fit_scales(photos, ball, FitConfig(steps=6, scales=3), cpu):
        sides.append(max(state.mesh.texture.shape))
    assert sides == sorted(sides)
    assert sides[-1] == pytest.approx(scales.TEXELS_PER_PIXEL * 96, abs=4) and sides[-1] == 4 * sides[1]


def test_steps_count_on_over_all_scales(ball):
    photos = seen_from_one_side(ball, 48)
    taken = [s.step for s in scales.fit_scales(photos, ball, FitConfig(steps=7, scales=2), cpu)]
    assert taken == list(range(8))


def test_shrunk_photos_see_the_same(ball):
    photos = seen_from_one_side(ball, 96)
    small = crops.shrink(photos, 2)
    again = render.render(ball, small.cameras, cpu)
    assert (again - small.rgba).abs().mean() < 0.02  # antialiasing is not an area mean
    assert np.allclose(photos.rgba.mean((1, 2)), small.rgba.mean((1, 2)), atol=1e-5)


def test_photos_that_cannot_be_halved_are_refused(ball):
    with pytest.raises(ValueError, match="photo_size: got 50, need a multiple of 4 for 3 scales"):
        next(scales.fit_scales(seen_from_one_side(ball, 50), ball, FitConfig(scales=3), cpu))


def test_photos_cut_by_their_frame_grow_no_fins(ball):
    """Each photo shows about half of the ball, up to the frame's edge; beyond that edge a photo says nothing."""
    views = camera.orbit(12, 0.2, 4.0, 0.6, 96)
    whole = Photos(render.render(ball, views, cpu).detach(), views)
    side = torch.arange(12) % 2 * 48
    boxes = torch.stack([side, torch.zeros(12), side + 48, torch.full((12,), 96)], -1).float()
    halves = torch.stack([photo[:, s : s + 48] for photo, s in zip(whole.rgba, side.tolist(), strict=True)])
    cut = Photos(halves, camera.cropped(views, boxes, 48, 96))
    *_, last = scales.fit_scales(cut, ball, FitConfig(steps=60, scales=2), cpu)
    reach = last.mesh.verts.norm(dim=-1)
    assert reach.max() < 1.06 and reach.min() > 0.9
