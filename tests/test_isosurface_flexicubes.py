from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recon_lib.isosurface import dual_cases
from recon_lib.isosurface.flexicubes import flexicubes, positive, voxel_grid

CORNERS = list(product((0, 1), repeat=3))
CUBE_EDGES = [(p, tuple(np.eye(3, dtype=int)[a] + p)) for a in range(3) for p in CORNERS if p[a] == 0]
CUBE_FACES = [[p for p in CORNERS if p[a] == s] for a in range(3) for s in (0, 1)]


def regions(inside, joined_faces=()):
    """The region of the cube's surface that each corner lies in: signs joined along edges and across ambiguous faces."""
    pairs = [(p, q) for p, q in CUBE_EDGES if inside[p] == inside[q]]
    for face, (a, b, c, d) in enumerate(CUBE_FACES):  # a, d and b, c are the diagonals
        if inside[a] == inside[d] != inside[b] == inside[c]:
            pairs.append((a, d) if inside[a] == (face in joined_faces) else (b, c))
    i, j = np.array([(CORNERS.index(p), CORNERS.index(q)) for p, q in pairs]).T
    labels = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(8, 8)))[1]
    return dict(zip(CORNERS, labels.tolist(), strict=True))


def curves(inside, joined_faces=()):
    """Between two regions lies one curve: cut edges by the pair of regions that they join."""
    region = regions(inside, joined_faces)
    return [tuple(sorted((region[p], region[q]))) if inside[p] != inside[q] else None for p, q in CUBE_EDGES]


def pinched_faces(inside):
    curve = curves(inside)
    return [
        face
        for face, corners in enumerate(CUBE_FACES)
        if len(on := [c for c, (p, q) in zip(curve, CUBE_EDGES, strict=True) if c and p in corners and q in corners])
        == 4
        and len(set(on)) == 1
    ]


def signs(pattern):
    return {p: bool(pattern >> i & 1) for i, p in enumerate(CORNERS)}


def same_partition(loops, labels):
    cut = [i for i, label in enumerate(labels) if label is not None]
    assert [i for i, loop in enumerate(loops) if loop >= 0] == cut
    pairs = {(loops[i], labels[i]) for i in cut}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize("otherwise", [False, True])
def test_loops_are_the_curves_between_regions_of_the_cube_s_surface(otherwise):
    table, pinched = dual_cases.loop_table()
    for pattern, row in enumerate(table[256 * otherwise :][:256].tolist()):
        assert pinched_faces(signs(pattern)) == [face for face in [pinched[pattern]] if face >= 0]
        assert same_partition(row, curves(signs(pattern), [pinched[pattern]] if otherwise else []))
        assert set(row) - {-1} == set(range(max(row) + 1))


def test_pairing_the_pinched_face_otherwise_splits_its_loop_in_two():
    table, pinched = dual_cases.loop_table()
    assert (pinched >= 0).sum() == 36
    assert np.array_equal(table[256:].max(1) - table[:256].max(1), pinched >= 0)


def slow_quads(verts, sdf, alpha, beta, n):
    """Dual vertices of the four cubes around each cut inner edge, by the paper's formulas; how many cubes were re-paired."""
    x, s = verts.reshape(n + 1, n + 1, n + 1, 3), sdf.reshape((n + 1,) * 3)
    alpha, beta = alpha.reshape(n, n, n, 8), beta.reshape(n, n, n, 12)
    cubes = list(product(range(n), repeat=3))
    inside = {cube: {p: bool(s[tuple(np.add(cube, p))] < 0) for p in CORNERS} for cube in cubes}
    pinched = {cube: pinched_faces(inside[cube]) for cube in cubes}
    dual, repaired = {}, 0
    for cube in cubes:
        beyond = [tuple(np.add(cube, (2 * (f % 2) - 1) * np.eye(3, dtype=int)[f // 2])) for f in pinched[cube]]
        joined = [f for f, other in zip(pinched[cube], beyond, strict=True) if f ^ 1 in pinched.get(other, [])]
        repaired += len(joined)
        curve = curves(inside[cube], joined)
        for c in set(curve) - {None}:
            total, weight = 0, 0
            for e in [i for i in range(12) if curve[i] == c]:
                (p, q), b = CUBE_EDGES[e], beta[cube][e]
                s_p = s[tuple(np.add(cube, p))] * alpha[cube][CORNERS.index(p)]
                s_q = s[tuple(np.add(cube, q))] * alpha[cube][CORNERS.index(q)]
                crossing = (s_p * x[tuple(np.add(cube, q))] - s_q * x[tuple(np.add(cube, p))]) / (s_p - s_q)
                total, weight = total + b * crossing, weight + b
            for e in [i for i in range(12) if curve[i] == c]:
                p, q = (tuple(np.add(cube, end).tolist()) for end in CUBE_EDGES[e])
                dual.setdefault((p, q), []).append(total / weight)
    inner = [(p, q) for p, q in dual if sum(0 < p[a] < n for a in range(3) if p[a] == q[a]) == 2]
    assert all(len(dual[edge]) == 4 for edge in inner)
    return {frozenset(tuple(np.round(v, 9)) for v in dual[edge]) for edge in inner}, repaired


def random_inputs(n, seed):
    rng = np.random.default_rng(seed)
    G, C = (n + 1) ** 3, n**3
    verts = voxel_grid(n).verts.double() + 0.2 / n * torch.from_numpy(rng.normal(size=(G, 3)))
    weights = (torch.from_numpy(rng.uniform(0.2, 1.8, (C, k))) for k in (8, 12, 1))
    alpha, beta, gamma = weights
    return verts, torch.from_numpy(rng.normal(-0.6, 1, G)), alpha, beta, gamma[:, 0]


@pytest.mark.parametrize("seed", [4, 6, 14])  # some pinch at the grid's boundary, opposite to another pinch in memory
def test_quads_equal_a_loop_over_cubes(seed):
    n, inputs = 5, random_inputs(5, seed)
    expected, repaired = slow_quads(*(value.numpy() for value in inputs[:4]), n)
    surface = flexicubes(*inputs, voxel_grid(n), training=True)
    quads = surface.verts[surface.faces.long()[:, 0]].reshape(-1, 4, 3).numpy()
    found = [frozenset(tuple(np.round(v, 9)) for v in quad) for quad in quads]
    assert repaired > 0 and len(set(found)) == len(found) and set(found) == expected


def test_gradients_equal_finite_differences_in_all_weights():
    verts, *inputs = random_inputs(2, 0)
    grid = voxel_grid(2)
    surface = flexicubes(verts, *inputs, grid, training=True)
    assert len(surface.verts) > len(surface.deviation) > 8

    def vertices_and_deviation(*values):
        surface = flexicubes(verts, *values, grid, training=True)
        return surface.verts, surface.deviation

    assert torch.autograd.gradcheck(vertices_and_deviation, [value.requires_grad_() for value in inputs])


def lonely_point(offset=0.0):
    """One inside point amid eight cubes, its neighbours at the same distance but for one."""
    grid = voxel_grid(2)
    sdf = torch.ones(27)
    sdf[13] = -1
    sdf[14] += offset
    return grid, sdf


def test_deviation_is_zero_where_crossings_are_equally_far_and_grows_as_they_differ():
    means = []
    for offset in (0.0, 0.5, 2.0):
        grid, sdf = lonely_point(offset)
        surface = flexicubes(grid.verts, sdf, torch.ones(8, 8), torch.ones(8, 12), torch.ones(8), grid, training=False)
        assert len(surface.deviation) == len(surface.verts) == 8
        means.append(surface.deviation.mean().item())
    assert means[0] == pytest.approx(0, abs=1e-6) and 1e-3 < means[1] < means[2]


def test_deviation_is_the_mean_over_each_dual_vertex_s_crossings():
    grid, sdf = lonely_point(2.0)
    deviation = flexicubes(
        grid.verts, sdf, torch.ones(8, 8), torch.ones(8, 12), torch.ones(8), grid, training=False
    ).deviation
    # The crossings of a cube beside the odd neighbour: half way along x and y, a quarter along z.
    crossings = np.diag([0.5, 0.5, 0.25])
    distance = np.linalg.norm(crossings - crossings.mean(0), axis=1)
    assert deviation[1].item() == pytest.approx(np.abs(distance - distance.mean()).mean(), rel=1e-5)


def test_scaling_a_kind_of_weight_changes_nothing():
    verts, sdf, alpha, beta, gamma = random_inputs(4, 0)
    for training in (True, False):
        a = flexicubes(verts, sdf, alpha, beta, gamma, voxel_grid(4), training=training)
        b = flexicubes(verts, sdf, 3 * alpha, 0.2 * beta, 7 * gamma, voxel_grid(4), training=training)
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("seed", range(3))
def test_the_middle_and_the_diagonal_follow_gamma(seed):
    """One inside point: the dual vertices are the eight cubes' own, in order, so corners find their gamma by number."""
    verts, sdf, alpha, beta, gamma = random_inputs(2, seed)
    sdf = sdf.abs()
    sdf[13] *= -1
    fine = flexicubes(verts, sdf, alpha, beta, gamma, voxel_grid(2), training=True)
    coarse = flexicubes(verts, sdf, alpha, beta, gamma, voxel_grid(2), training=False)
    assert torch.equal(fine.verts[:8], coarse.verts) and len(fine.verts) == 8 + 6 and len(fine.faces) == 24
    split = {frozenset(triangle) for triangle in coarse.faces.tolist()}
    assert len(split) == len(coarse.faces) == 12
    for quad, middle in zip(fine.faces[:, 0].reshape(6, 4).tolist(), fine.faces[::4, 2].tolist(), strict=True):
        a, b, c, d = quad
        ac, bd = gamma[a] * gamma[c], gamma[b] * gamma[d]
        expected = (ac * (fine.verts[a] + fine.verts[c]) / 2 + bd * (fine.verts[b] + fine.verts[d]) / 2) / (ac + bd)
        torch.testing.assert_close(fine.verts[middle], expected)
        halves = ((a, b, c), (a, c, d)) if ac > bd else ((a, b, d), (b, c, d))
        assert {frozenset(half) for half in halves} <= split


def test_positive_weights_start_at_one_and_stay_above_zero():
    raw = torch.tensor([-1e3, -1, 0, 1, 1e3])
    weights = positive(raw)
    assert weights[2] == 1 and (weights.diff() > 0).all() and weights.min() > 0.009 and weights.max() < 2


def test_a_surface_that_cuts_only_the_grid_s_outer_edges_is_an_error():
    grid = voxel_grid(3)
    sdf = torch.ones(64)
    sdf[0] = -1
    with pytest.raises(ValueError, match="inner edge: 1 of 64"):
        flexicubes(grid.verts, sdf, torch.ones(27, 8), torch.ones(27, 12), torch.ones(27), grid, training=True)
