"""Texture atlases: they fit their size, with less padding if need be, or are refused."""

import pytest
import torch
from scipy import ndimage

from recon_lib import mesh
from recon_lib.raster import cpu
from recon_lib.surface import charts, uv


def confetti(count: int) -> mesh.Mesh:
    """Small balls side by side: at least two charts each."""
    ball = mesh.icosphere(0)
    shifts = torch.cartesian_prod(torch.arange(count), torch.arange(count), torch.arange(1)).float() * 3
    faces = torch.cat([ball.faces + i * len(ball.verts) for i in range(len(shifts))])
    return mesh.Mesh((ball.verts + shifts[:, None]).reshape(-1, 3), faces)


def test_many_charts_fit_a_small_atlas_with_less_padding():
    """Their padding alone would need 3 times the atlas' area."""
    body = confetti(12)
    uvs, uv_faces, (height, width) = uv.unwrap(body.verts, body.faces, 80)
    assert max(height, width) <= 80 and len(uv_faces) == len(body.faces)
    assert uvs.min() >= 0 and uvs.max() <= 1
    assert uv.covered(uvs, uv_faces, (height, width), cpu).float().mean() > 0.1


def test_an_atlas_too_small_for_its_charts_is_refused():
    body = confetti(12)
    with pytest.raises(ValueError, match=r"texture_size: got 8, too small for the \d+ charts of 2880 faces"):
        uv.unwrap(body.verts, body.faces, 8)


@pytest.mark.parametrize("pieces", [1, 5])
def test_every_face_has_its_own_texels_in_proportion_to_its_area(pieces):
    ball = mesh.icosphere(3)
    verts = ball.verts * (1 + 0.6 * ball.verts[:, :1])  # large faces on one side, small ones on the other
    found = [uv.unwrap(verts, ball.faces, 256, pieces) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(found[0][:2], found[1][:2], strict=True))
    uvs, uv_faces, (height, width) = found[0]
    assert 200 < max(height, width) <= 256 and len(uv_faces) == len(ball.faces)
    a, b, c = (uvs * torch.tensor([width, height]))[uv_faces.long()].unbind(1)
    flat = torch.linalg.cross(*(torch.nn.functional.pad(side, (0, 1)) for side in (b - a, c - a)))[:, 2].abs() / 2
    density = flat / mesh.face_areas(verts, ball.faces)
    assert (density / density.median() - 1).abs().quantile(0.95) < 0.25
    # Where charts overlapped, their faces' areas would add up to more texels than are covered.
    covered = uv.covered(uvs, uv_faces, (height, width), cpu).sum().item()
    assert flat.sum().item() == pytest.approx(covered, rel=0.02)


def test_pieces_hold_every_face_once_and_lie_apart():
    ball = mesh.icosphere(3)
    verts, faces = ball.verts.numpy(), ball.faces.numpy()
    found = charts.pieces(verts, faces, 6)
    assert sorted(face for piece in found for face in piece.tolist()) == list(range(len(faces)))
    assert min(map(len, found)) > len(faces) / 12
    assert len(charts.pieces(verts, faces[:2], 6)) == 2


def test_a_piece_that_cannot_be_cut_is_an_error_that_says_why(monkeypatch):
    ball = mesh.icosphere(1)
    monkeypatch.setattr(charts, "_cutters", [])
    monkeypatch.setattr(charts, "__file__", "/nowhere/charts.py")
    with pytest.raises(RuntimeError, match=r"unwrapping: a process ended with 2: .*/nowhere/charts\.py"):
        uv.unwrap(ball.verts, ball.faces, 64, 3)


def test_the_processes_that_cut_are_used_again_and_one_that_was_killed_is_replaced():
    ball = mesh.icosphere(2)
    whole = uv.unwrap(ball.verts, ball.faces, 64, 3)
    first = list(charts._cutters)
    again = uv.unwrap(ball.verts, ball.faces, 64, 3)
    assert charts._cutters == first and all(torch.equal(a, b) for a, b in zip(whole[:2], again[:2], strict=True))
    first[1].kill()
    first[1].wait()
    assert torch.equal(uv.unwrap(ball.verts, ball.faces, 64, 3)[0], whole[0])
    assert first[1] not in charts._cutters and len(charts._cutters) >= 3


@pytest.mark.parametrize("shape", [(40, 57), (64, 64), (1, 9)])
def test_the_nearest_known_texel_on_a_device_is_hardly_farther_than_the_nearest(shape):
    known = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.03
    known[0, 0] = True
    found = uv.nearest_on_device(known)
    assert known.reshape(-1)[found].all()
    row, column = (torch.arange(n) for n in shape)
    far = ((found // shape[1] - row[:, None]).square() + (found % shape[1] - column).square()).double().sqrt()
    exact = torch.from_numpy(ndimage.distance_transform_edt(~known.numpy()))
    assert (far - exact).max() < 1 and ((far - exact).abs() < 1e-9).float().mean() > 0.98
