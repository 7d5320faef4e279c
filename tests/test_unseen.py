"""Texels that no photo shows: which they are, and that their fill is harmonic on the surface and not on the atlas."""

from dataclasses import replace

import pytest
import torch

from recon_lib import camera, mesh, render
from recon_lib.photos.crops import Photos
from recon_lib.raster import cpu
from recon_lib.surface import projection, unseen, uv


@pytest.fixture(scope="module")
def ball():
    body = mesh.icosphere(4)
    uvs, uv_faces, shape = uv.unwrap(body.verts, body.faces, 256)
    return replace(body, uvs=uvs, uv_faces=uv_faces, texture=torch.zeros(*shape, 3))


def places(ball: mesh.Mesh) -> tuple[torch.Tensor, torch.Tensor]:
    """The position of each texel on the sphere, H W 3, and whether it lies on a chart."""
    rast = uv.atlas_raster(ball.uvs, ball.uv_faces, tuple(ball.texture.shape[:2]), cpu)
    return cpu.interpolate(ball.verts[None], rast, ball.faces)[0][0], rast[0, ..., 3] > 0


def test_a_texel_is_seen_where_the_camera_looks_from(ball):
    view = camera.orbit(4, 0.0, 4.0, 0.6, 256)[:1]
    photos = Photos(render.render(replace(ball, texture=torch.ones_like(ball.texture)), view, cpu).detach(), view)
    seen = projection.seen_texels(ball, photos, cpu)
    at, covered = places(ball)
    towards = at @ torch.nn.functional.normalize(view.T_world_cam[0, :3, 3], dim=0)
    assert seen[covered & (towards > 0.45)].float().mean() > 0.98  # the limb is where the cosine is 1 / 4
    assert not seen[covered & (towards < 0.2)].any()


def test_the_fill_of_a_cap_is_the_harmonic_function_of_its_rim(ball):
    """On the sphere the longitude's cosine times tan(colatitude / 2) is harmonic: 1 around the rim, 0 at the pole."""
    at, covered = places(ball)
    at = torch.nn.functional.normalize(at, dim=-1)
    x, y, _ = at.unbind(-1)
    true = x / (1 + y.clamp_min(-0.9))  # tan(colatitude / 2) cos(longitude), with the pole along y
    texels = true[..., None].repeat(1, 1, 3)
    seen = covered & (y < 0.5)
    filled = unseen.fill(ball, torch.where(seen[..., None], texels, 7.0), seen, cpu)
    cap = covered & ~seen
    assert cap.sum() > 1000 and true[cap].abs().max() > 0.4
    error = (filled[..., 0] - true)[cap].abs()
    assert error.mean() < 0.016 and error.max() < 0.06  # of values up to 0.5; vertices are 0.07 apart
    assert torch.equal(filled[seen], texels[seen])


def test_a_body_of_which_nothing_is_seen_gets_the_mean_colour(ball):
    two = replace(
        ball,
        verts=torch.cat([ball.verts, ball.verts + 3]),
        faces=torch.cat([ball.faces, ball.faces + len(ball.verts)]),
        uvs=torch.cat([ball.uvs * torch.tensor([0.5, 1]), ball.uvs * torch.tensor([0.5, 1]) + torch.tensor([0.5, 0])]),
        uv_faces=torch.cat([ball.uv_faces, ball.uv_faces + len(ball.uvs)]),
    )
    height, width = ball.texture.shape[:2]
    seen = torch.zeros(height, width, dtype=torch.bool)
    seen[:, : width // 2] = True
    filled = unseen.fill(two, torch.full((height, width, 3), 0.25), seen, cpu)
    torch.testing.assert_close(filled, torch.full_like(filled, 0.25))
