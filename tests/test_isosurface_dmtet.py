from itertools import combinations
from math import exp, log

import numpy as np
import pytest
import torch

from recon_lib.isosurface.dmtet import TetGrid, kuhn_grid, marching_tetrahedra, sign_cases, sign_change_bce
from recon_lib.mesh import face_areas, face_normals, volume

PAIRS = list(combinations(range(4), 2))


def one_tet(rng) -> TetGrid:
    verts = torch.from_numpy(rng.normal(size=(4, 3)))
    if torch.linalg.det(verts[1:] - verts[0]) < 0:
        verts = verts[[1, 0, 2, 3]]
    return TetGrid(
        verts, torch.tensor([[0, 1, 2, 3]]), torch.tensor(PAIRS), torch.arange(6)[None], torch.from_numpy(sign_cases())
    )


def tet_volumes(grid):
    corners = grid.verts.double()[grid.tets.long()]
    return torch.linalg.det(corners[:, 1:] - corners[:, :1]) / 6


@pytest.mark.parametrize("n", [1, 2, 5])
def test_tets_fill_the_cube_evenly_and_share_whole_faces(n):
    grid = kuhn_grid(n)
    torch.testing.assert_close(tet_volumes(grid), torch.full((6 * n**3,), 8 / (6 * n**3), dtype=torch.float64))
    triangles = grid.tets.long()[:, [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]].reshape(-1, 3).sort(-1).values
    triangles, uses = triangles.unique(dim=0, return_counts=True)
    on_a_side = (grid.verts[triangles].abs() == 1).all(1) & (grid.verts[triangles].diff(dim=1) == 0).all(1)
    assert torch.equal(uses == 1, on_a_side.any(1)) and uses.max() <= 2
    assert on_a_side.any(1).sum() == 6 * 2 * n**2


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_edge_table_equals_a_search_for_unique_pairs(n):
    grid = kuhn_grid(n)
    pairs = np.sort(grid.tets.numpy()[:, PAIRS].reshape(-1, 2), axis=1)
    expected = np.unique(pairs, axis=0)
    assert np.array_equal(np.unique(np.sort(grid.edges.numpy(), axis=1), axis=0), expected)
    assert len(grid.edges) == len(expected)
    assert np.array_equal(np.sort(grid.edges.numpy(), axis=1)[grid.tet_edges.numpy().reshape(-1)], pairs)


@pytest.mark.parametrize("pattern", range(1, 15))
def test_each_sign_pattern_cuts_the_convex_hull_of_its_crossings_facing_outwards(pattern):
    """The hull's area: half the sum over all triangles of corners for four points in convex position in a plane."""
    rng = np.random.default_rng(pattern)
    for _ in range(5):
        grid, distance = one_tet(rng), rng.uniform(0.1, 1, 4)
        sdf = np.where([pattern >> i & 1 for i in range(4)], -distance, distance)
        verts, faces = marching_tetrahedra(grid.verts, torch.from_numpy(sdf), grid)
        x = grid.verts.numpy()
        expected = [(sdf[j] * x[i] - sdf[i] * x[j]) / (sdf[j] - sdf[i]) for i, j in PAIRS if sdf[i] * sdf[j] < 0]
        np.testing.assert_allclose(verts.numpy(), expected)
        gradient = np.linalg.solve(x[1:] - x[0], sdf[1:] - sdf[0])
        normals = face_normals(verts, faces).numpy()
        np.testing.assert_allclose(normals, np.tile(gradient / np.linalg.norm(gradient), (len(faces), 1)), atol=1e-9)
        triples = torch.tensor(list(combinations(range(len(expected)), 3)))
        hull = face_areas(torch.from_numpy(np.array(expected)), triples).sum() / (1 if len(expected) == 3 else 2)
        assert face_areas(verts, faces).sum().item() == pytest.approx(hull.item())


def inside_share(sdf):
    """Share of each tet where the linear function is negative: the divided difference of max(-s, 0)^3."""
    share = 0
    for i in range(4):
        others = [j for j in range(4) if j != i]
        share = share + (sdf[:, i] < 0) * sdf[:, i] ** 3 / (sdf[:, i : i + 1] - sdf[:, others]).prod(-1)
    return share


@pytest.mark.parametrize("seed", range(3))
def test_noise_encloses_exactly_the_volume_where_it_is_negative(seed):
    n, grid, rng = 6, kuhn_grid(6), np.random.default_rng(seed)
    inner = rng.normal(size=(n - 1,) * 3)
    outer = rng.uniform(0.5, 1, (n + 1,) * 3)
    outer[1:-1, 1:-1, 1:-1] = inner
    sdf = torch.from_numpy(outer).reshape(-1)
    exact = (inside_share(sdf[grid.tets.long()]) * tet_volumes(grid)).sum()
    verts, faces = marching_tetrahedra(grid.verts.double(), sdf, grid)
    assert volume(verts, faces).item() == pytest.approx(exact.item(), rel=1e-9)


def slow_bce(sdf, edges):
    total, count = 0.0, 0
    for a, b in edges:
        if (sdf[a] < 0) != (sdf[b] < 0):
            for own, other in ((a, b), (b, a)):
                outside = 1 / (1 + exp(-sdf[own]))
                total -= log(outside) if sdf[other] >= 0 else log(1 - outside)
            count += 1
    return total / count


def test_sign_change_bce_equals_a_loop_over_edges():
    grid = kuhn_grid(3)
    sdf = torch.from_numpy(np.random.default_rng(0).normal(size=64))
    sdf[20] = 0
    assert sign_change_bce(sdf, grid.edges).item() == pytest.approx(slow_bce(sdf.tolist(), grid.edges.tolist()))


def test_sign_change_bce_is_zero_where_nothing_is_cut():
    sdf = torch.ones(64, requires_grad=True)
    loss = sign_change_bce(sdf, kuhn_grid(3).edges)
    loss.backward()
    assert loss == 0 and (sdf.grad == 0).all()


@pytest.mark.parametrize("lonely_sign", [-1.0, 1.0])
def test_descent_on_sign_change_bce_removes_a_lonely_sign(lonely_sign):
    grid = kuhn_grid(4)
    sdf = torch.full((125,), -0.5 * lonely_sign)
    sdf[62] = 0.5 * lonely_sign
    sdf.requires_grad_()
    optimiser = torch.optim.SGD([sdf], lr=1.0)
    for _ in range(20):
        optimiser.zero_grad()
        sign_change_bce(sdf, grid.edges).backward()
        optimiser.step()
    assert (sdf * lonely_sign < 0).all()


def test_a_smooth_surface_has_less_sign_change_bce_than_the_same_with_floaters():
    grid = kuhn_grid(12)
    ball = grid.verts.norm(dim=-1) - 0.6
    noisy = torch.where(torch.from_numpy(np.random.default_rng(0).random(len(ball)) < 0.03), -ball, ball)
    assert sign_change_bce(noisy, grid.edges) > 1.1 * sign_change_bce(ball, grid.edges)
