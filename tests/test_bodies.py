"""Confetti and inner shells are counted, and removed without changing the object itself."""

import pytest
import torch

from recon_lib.coarse import bodies
from recon_lib.coarse.hull import HullConfig
from recon_lib.mesh import Mesh, icosphere
from recon_lib.surface import checks


def ball(radius: float, centre=(0.0, 0.0, 0.0), level: int = 4, inverted: bool = False) -> Mesh:
    sphere = icosphere(level)
    return Mesh(radius * sphere.verts + torch.tensor(centre), sphere.faces.flip(1) if inverted else sphere.faces)


def together(*meshes: Mesh) -> Mesh:
    first = torch.tensor([0, *[len(mesh.verts) for mesh in meshes[:-1]]]).cumsum(0)
    faces = [mesh.faces + start.int() for mesh, start in zip(meshes, first, strict=True)]
    return Mesh(torch.cat([mesh.verts for mesh in meshes]), torch.cat(faces))


def unwelded(mesh: Mesh) -> Mesh:
    return Mesh(mesh.verts[mesh.faces.long()].reshape(-1, 3), torch.arange(mesh.faces.numel()).reshape(-1, 3).int())


CONFETTI = [ball(0.01, (0.3, 0.3, 0.1 * i), level=1) for i in range(-3, 3)]


def test_a_ball_whose_faces_share_no_vertex_is_one_body():
    assert bodies.count_bodies(unwelded(ball(0.4))) == (1, 1.0, 0)


def test_confetti_and_shells_are_counted_apart():
    mesh = together(ball(0.4), ball(0.35, inverted=True), ball(0.2), *CONFETTI)
    found = bodies.count_bodies(mesh)
    assert (found.bodies, found.inner_shells) == (3 + len(CONFETTI), 2)
    assert found.largest_share == pytest.approx(0.4**2 / (0.4**2 + 0.35**2 + 0.2**2 + 6 * 0.01**2), rel=0.01)


def test_a_body_beside_another_is_no_shell():
    assert bodies.count_bodies(together(ball(0.2, (-0.25, 0, 0)), ball(0.2, (0.25, 0, 0)))).inner_shells == 0


@pytest.mark.parametrize(
    "mesh",
    [
        ball(0.4),
        ball(0.4, inverted=True),
        unwelded(ball(0.4)),
        together(ball(0.4), ball(0.36, inverted=True)),
        together(ball(0.4), ball(0.3), *CONFETTI),
        Mesh(ball(0.4).verts, ball(0.4).faces[20:]),  # a hole
    ],
    ids=["whole", "inside out", "unwelded", "inner shell", "shell and confetti", "hole"],
)
def test_the_solid_is_the_ball_that_was_meant(mesh):
    found = bodies.solid(mesh, HullConfig(resolution=64, faces=4000))
    whole = checks.check_mesh(found.verts, found.faces)
    assert whole._replace(bodies=0) == (0,) * 7 and whole.bodies == 1
    spacing = 0.8 / 63
    # A hole is closed flat at worst; everywhere else the grid's own error is left.
    off = (found.verts.norm(dim=-1) - 0.4).abs()
    assert off.quantile(0.98) < 0.2 * spacing and off.max() < 2.5 * spacing
    assert bodies.volume(found.verts, found.faces) == pytest.approx(4 / 3 * torch.pi * 0.4**3, rel=0.02)
