"""Splitting faces: the surface and its texture stay, the mesh stays closed."""

from dataclasses import replace

import pytest
import torch

from recon_lib import camera, mesh, render
from recon_lib.raster import cpu
from recon_lib.surface import checks, subdivide, uv


@pytest.fixture(scope="module")
def textured():
    ball = mesh.icosphere(2)
    uvs, uv_faces, shape = uv.unwrap(ball.verts, ball.faces, 96)
    return replace(ball, uvs=uvs, uv_faces=uv_faces, texture=torch.rand(*shape, 3))


@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_split_surface_is_the_same_closed_surface(textured, share):
    chosen = torch.rand(len(textured.faces), generator=torch.Generator().manual_seed(1)) < share
    fine = subdivide.split(textured, chosen)
    found = checks.check_mesh(fine.verts, fine.faces)
    assert found.is_solid() and found.non_manifold_edges == 0
    assert len(fine.faces) >= len(textured.faces) + 3 * chosen.sum()
    torch.testing.assert_close(mesh.volume(fine.verts, fine.faces), mesh.volume(textured.verts, textured.faces))


def test_split_faces_show_the_same_texture(textured):
    chosen = torch.rand(len(textured.faces), generator=torch.Generator().manual_seed(2)) < 0.3
    views = camera.orbit(3, 0.4, 4.0, 0.6, 64)
    before, after = (render.render(body, views, cpu) for body in (textured, subdivide.split(textured, chosen)))
    inside = (before[..., 3] == 1) & (after[..., 3] == 1)  # antialiasing at the outline depends on the triangles there
    assert inside.float().mean() > 0.4
    torch.testing.assert_close(before[inside], after[inside], rtol=0, atol=1e-4)


def test_only_chosen_faces_and_their_neighbours_are_split(textured):
    chosen = torch.zeros(len(textured.faces), dtype=torch.bool)
    chosen[7] = True
    assert len(subdivide.split(textured, chosen).faces) == len(textured.faces) + 3 + 3
