from math import pi

import numpy as np
import pytest
import torch

from recon_lib.mesh import (
    edges,
    face_areas,
    face_normals,
    icosphere,
    laplacian,
    opposite_vertices,
    unique_pairs,
    vertex_normals,
    volume,
)

BOX_VERTS = torch.tensor([[x, y, z] for x in (0.0, 2.0) for y in (0.0, 3.0) for z in (0.0, 5.0)])
BOX_FACES = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def test_a_box_has_its_normals_areas_and_volume():
    normals = torch.tensor([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]]).float()
    torch.testing.assert_close(face_normals(BOX_VERTS, BOX_FACES), normals.repeat_interleave(2, 0))
    areas = torch.tensor([15.0, 15, 10, 10, 6, 6]) / 2
    torch.testing.assert_close(face_areas(BOX_VERTS, BOX_FACES), areas.repeat_interleave(2))
    assert volume(BOX_VERTS, BOX_FACES) == 30
    assert volume(BOX_VERTS + 7, BOX_FACES).item() == pytest.approx(30, rel=1e-5)
    assert volume(BOX_VERTS, BOX_FACES.flip(1)) == -30


def test_a_face_without_area_has_no_normal_and_a_finite_gradient():
    verts = torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2], [1, 0, 0]], requires_grad=True)
    normals = face_normals(verts, torch.tensor([[0, 1, 2], [3, 3, 3], [0, 3, 1]]))
    assert (normals[:2] == 0).all() and normals[2].norm().item() == pytest.approx(1)
    normals.sum().backward()
    assert torch.isfinite(verts.grad).all()


def test_vertex_normals_weigh_faces_by_area():
    # A corner where faces of areas 1/2 (+z) and 3/2 (+x) meet.
    verts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3]])
    normals = vertex_normals(verts, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    expected = torch.tensor([3.0, 0, 1]) / 10**0.5
    torch.testing.assert_close(
        normals, torch.stack([expected, torch.tensor([0.0, 0, 1]), expected, torch.tensor([1.0, 0, 0])])
    )


def test_normals_of_a_sphere_approach_its_directions():
    ball = icosphere(4)
    torch.testing.assert_close(vertex_normals(ball.verts, ball.faces), ball.verts, atol=3e-3, rtol=0)
    centres = torch.nn.functional.normalize(ball.verts[ball.faces.long()].mean(1), dim=-1)
    assert (face_normals(ball.verts, ball.faces) * centres).sum(-1).min() > 0.999


def test_volume_and_area_converge_to_the_ball_s_at_second_order():
    balls = [icosphere(n) for n in (2, 3, 4)]
    for measured, exact in ((volume, 4 / 3 * pi), (lambda v, f: face_areas(v, f).sum(), 4 * pi)):
        errors = [exact - measured(ball.verts.double(), ball.faces).item() for ball in balls]
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.1) and errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("subdivisions", [0, 3])
def test_the_icosphere_is_closed_on_the_unit_sphere(subdivisions):
    ball = icosphere(subdivisions)
    assert len(ball.faces) == 20 * 4**subdivisions and len(ball.verts) - len(edges(ball.faces)) + len(ball.faces) == 2
    torch.testing.assert_close(ball.verts.norm(dim=-1), torch.ones(len(ball.verts)))
    assert (opposite_vertices(ball.faces) >= 0).all()


@pytest.mark.parametrize("count", [0, 1, 500])
def test_pairs_are_each_listed_once_in_order(count):
    pairs = (
        torch.randint(0, 12, (count, 2), generator=torch.Generator().manual_seed(1)) ** 8
    )  # up to 2e8, a mesh's largest
    found, index = unique_pairs(pairs)
    wanted = torch.unique(pairs, dim=0, return_inverse=True) if count else (pairs, pairs[:, 0])
    assert found.equal(wanted[0]) and index.equal(wanted[1])
    assert found[index].equal(pairs)


def test_edges_are_each_listed_once_in_order():
    assert edges(torch.tensor([[2, 1, 0], [1, 2, 3]])).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]


def slow_opposite(faces: list) -> list:
    out = []
    for f, face in enumerate(faces):
        row = []
        for e in range(3):
            edge = {face[(e + 1) % 3], face[(e + 2) % 3]}
            users = [g for g, other in enumerate(faces) if edge <= set(other)]
            others = [g for g in users[:2] if g != f]
            row.append((set(faces[others[0]]) - edge).pop() if others else -1)
        out.append(row)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_opposite_vertices_equal_a_search_through_all_faces(seed):
    """Few corners, so that edges have one, two and more faces."""
    rng = np.random.default_rng(seed)
    faces = [rng.choice(9, 3, replace=False).tolist() for _ in range(25)]
    expected = slow_opposite(faces)
    uses = [sum({a, b} <= set(g) for g in faces) for f in faces for a, b in ((f[1], f[2]), (f[2], f[0]), (f[0], f[1]))]
    assert {1, 2, 3} <= set(uses) and -1 in np.reshape(expected, -1)
    assert opposite_vertices(torch.tensor(faces)).tolist() == expected


def test_opposite_vertices_of_the_sphere_equal_the_search():
    ball = icosphere(1)
    assert opposite_vertices(ball.faces).tolist() == slow_opposite(ball.faces.tolist())


def test_the_laplacian_is_the_graph_s():
    ball = icosphere(1)
    L = laplacian(ball.faces, len(ball.verts) + 1).toarray()  # one vertex in no face
    assert (L.sum(1) == 0).all() and (L == L.T).all() and (L[-1] == 0).all()
    neighbours = {frozenset(edge) for edge in edges(ball.faces).tolist()}
    for i, j in np.ndindex(len(L), len(L)):
        if i != j:
            assert L[i, j] == (-1 if {i, j} in neighbours else 0)
