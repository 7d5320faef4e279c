"""Isosurfaces fitted to photos find shape and topology, from a wrong start or from a sphere."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib import camera, mesh, render
from recon_lib.coarse import hull
from recon_lib.isosurface import dmtet
from recon_lib.photos import crops
from recon_lib.raster import cpu
from recon_lib.refine import new_faces, refine
from recon_lib.surface import checks, projection

RING, TUBE = 0.65, 0.28  # radii of the torus


def from_the_torus(p: torch.Tensor, ring: float, tube: float) -> torch.Tensor:
    return ((p[:, :2].norm(dim=-1) - ring).square() + p[:, 2].square()).sqrt() - tube


def torus(ring: float, tube: float) -> mesh.Mesh:
    grid = dmtet.kuhn_grid(40)
    points = 1.15 * grid.verts
    verts, faces = dmtet.marching_tetrahedra(points, from_the_torus(points, ring, tube), grid)
    return mesh.Mesh(verts, faces)


def grey_photos(body: mesh.Mesh, count: int = 24, size: int = 64) -> crops.Photos:
    """Seen from everywhere."""
    grey = replace(
        body, uvs=torch.full((1, 2), 0.5), uv_faces=torch.zeros_like(body.faces), texture=torch.full((2, 2, 3), 0.5)
    )
    eye = 4 * torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    T = camera.look_at(eye, torch.zeros_like(eye), torch.tensor([[0.1, 0.2, 1.0]]).expand_as(eye))
    lens = torch.tensor([[1.6 * size, 1.6 * size, size / 2, size / 2]]).repeat(count, 1)
    views = camera.Cameras(T, lens, torch.tensor([[size, size]]).repeat(count, 1))
    return crops.Photos(render.photographed(grey, views, cpu), views)


def euler(body: mesh.Mesh) -> int:
    return len(body.verts) - len(mesh.edges(body.faces)) + len(body.faces)


@pytest.mark.parametrize("kind", new_faces.KINDS)
def test_a_torus_of_wrong_radii_becomes_the_one_in_the_photos(kind):
    photos, wrong = grey_photos(torus(RING, TUBE)), torus(0.72, 0.2)
    config = new_faces.IsosurfaceConfig(kind, grid=24, steps=100)
    found = new_faces.fit_isosurface(photos, wrong, config, cpu, 4000)
    before, after = (from_the_torus(body.verts, RING, TUBE).abs().mean() for body in (wrong, found))
    assert after < 0.2 * 2 * new_faces.REACH / 24 < before  # a fifth of a grid cell
    assert euler(found) == 0 and checks.check_mesh(found.verts, found.faces).open_edges == 0
    assert mesh.volume(found.verts, found.faces) > 0


@pytest.mark.parametrize("kind", new_faces.KINDS)
def test_a_sphere_becomes_an_egg(kind):
    ball = mesh.icosphere(3)
    size = torch.tensor([0.9, 0.5, 0.4])
    config = new_faces.IsosurfaceConfig(kind, grid=24, steps=200, w_alpha=5.0)
    found = new_faces.fit_isosurface(grey_photos(replace(ball, verts=ball.verts * size)), None, config, cpu, 4000)
    assert (found.verts / size).norm(dim=-1).mean().item() == pytest.approx(1, abs=0.1) and euler(found) == 2


@pytest.mark.parametrize(
    "knob",
    [{"grid": 20}, {"batch": 1}, {"light_size": 32}, {"lr_sdf": 0.1}, {"lr_grid": 0.1}, {"lr_material": 0.3},
     {"lr_light": 1.0}, {"w_alpha": 9.0}, {"w_sdf": 1.0}, {"w_deviation": 1.0}, {"w_smooth": 9.0}, {"decay": 0.5},
     {"seed": 1}, {"steps": 5}],
    ids=str,
)  # fmt: skip
def test_every_knob_changes_the_surface(knob):
    photos, wrong = grey_photos(torus(RING, TUBE), 6, 32), torus(0.72, 0.2)
    plain = new_faces.IsosurfaceConfig("flexicubes", grid=16, steps=4, light_size=16)
    a, b = (new_faces.fit_isosurface(photos, wrong, config, cpu, 1000) for config in (plain, replace(plain, **knob)))
    assert not torch.equal(a.verts, b.verts)


def test_the_sign_regulariser_is_in_the_loss_of_dmtet():
    photos, wrong = grey_photos(torus(RING, TUBE), 6, 32), torus(0.72, 0.2)
    a, b = (
        new_faces.fit_isosurface(
            photos, wrong, new_faces.IsosurfaceConfig("dmtet", grid=16, steps=4, w_sdf=w), cpu, 1000
        )
        for w in (0.0, 1.0)
    )
    assert not torch.equal(a.verts, b.verts)


def test_the_distance_to_a_mesh_is_negative_inside():
    points = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [2.0, 0, 0]])
    found = new_faces.signed_distance(mesh.icosphere(4), points)
    assert torch.allclose(found, torch.tensor([-1.0, -0.5, 1.0]), atol=5e-3)
    assert torch.allclose(new_faces.signed_distance(None, points), points[:, 0] - 0.8)


def test_only_the_largest_body_is_kept():
    large, small = mesh.icosphere(3), mesh.icosphere(1)
    both = mesh.Mesh(
        torch.cat([large.verts, small.verts + 5]), torch.cat([large.faces, small.faces + len(large.verts)])
    )
    kept = new_faces.largest_body(both)
    assert len(kept.faces) == len(large.faces) and kept.verts.norm(dim=-1).max() < 1.01


def test_another_kind_of_topology_is_refused():
    with pytest.raises(ValueError, match="topology: got 'marching', need mesh or one of"):
        new_faces.Isosurface("marching", 8, None, "cpu")


def test_a_fit_with_new_faces_starts_painted_and_lit_and_still_has_the_given_mesh_to_beat(jug):
    used = jug.subset(~jug.held_out).subset(np.arange(32) % 2 == 0)
    alphas = [image[..., 3] / np.float32(255) for image in used.images]
    carved = hull.visual_hull(alphas, used.cameras, hull.HullConfig(resolution=48, faces=2000))
    setup = refine.prepare(used.images, used.cameras, carved, 96, cpu, 256, 16)
    new = refine.find_new_faces(setup, "dmtet", new_faces.IsosurfaceConfig(grid=24, steps=10), cpu, 256)
    assert new.given is setup.given and len(new.start.faces) != len(setup.start.faces)
    assert new.start.light is not None and new.start.texture.std() > 0.05
    scores = [projection.explain(body, setup.validation, cpu).psnr_db for body in (setup.start, new.start)]
    assert scores[1] > scores[0] - 3
