"""What both isosurface methods promise."""

from functools import cache
from math import pi

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recon_lib.isosurface.dmtet import kuhn_grid, marching_tetrahedra
from recon_lib.isosurface.flexicubes import flexicubes, voxel_grid
from recon_lib.mesh import volume

CENTRE = torch.tensor([0.03, -0.02, 0.05])
TETS, TRAINING, EXPORT = "marching tetrahedra", "flexicubes in training", "flexicubes for export"
both_methods = pytest.mark.parametrize("method", [TETS, TRAINING, EXPORT])

tets, cubes = cache(kuhn_grid), cache(voxel_grid)


def extract(method, verts, sdf, n):
    if method == TETS:
        return marching_tetrahedra(verts, sdf, tets(n))
    ones = verts.new_ones(n**3, 21)
    return flexicubes(verts, sdf, ones[:, :8], ones[:, 8:20], ones[:, 20], cubes(n), training=method == TRAINING)[:2]


def sphere(p):
    return (p - CENTRE.to(p)).norm(dim=-1) - 0.6


def torus(p):
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, 2.5]), dim=0).to(p)
    along = (p - CENTRE.to(p)) @ axis
    across = (p - CENTRE.to(p) - along[:, None] * axis).norm(dim=-1)
    return torch.stack([across - 0.55, along], -1).norm(dim=-1) - 0.25


def random_distances(n, seed):
    """All kinds of sign patterns, those most that pinch; the boundary of the grid is outside."""
    inner = np.random.default_rng(seed).normal(-0.6, 1, (n - 1,) * 3)
    return torch.from_numpy(np.pad(inner, 1, constant_values=1.0)).reshape(-1)


def directed_edges(faces):
    return faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).tolist()


def is_closed_and_wound_alike(faces):
    """Each directed edge once, and once the other way: so each edge has exactly two faces."""
    there = sorted(map(tuple, directed_edges(faces)))
    return len(set(there)) == len(there) and there == sorted((b, a) for a, b in there)


def components(count, pairs):
    i, j = np.reshape(pairs, (-1, 2)).T
    return connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(count, count)))[0]


def fans(faces):
    """Fans of faces around vertices: as many as there are used vertices where no two fans share one."""
    leaves = {edge: corner for corner, edge in enumerate(map(tuple, directed_edges(faces)))}
    # A corner's neighbour across the edge that leads into its vertex is the corner that leaves along it.
    pairs = [(3 * (corner // 3) + (corner + 1) % 3, leaves[b, a]) for (a, b), corner in leaves.items()]
    return components(3 * len(faces), pairs)


@both_methods
@pytest.mark.parametrize(("solid", "euler"), [(sphere, 2), (torus, 0)])
def test_a_solid_is_one_closed_outward_body_of_its_genus(method, solid, euler):
    grid_verts = tets(24).verts
    verts, faces = extract(method, grid_verts, solid(grid_verts), 24)
    assert is_closed_and_wound_alike(faces) and volume(verts, faces) > 0
    assert torch.equal(faces.unique(), torch.arange(len(verts)))
    assert len(verts) - 3 * len(faces) // 2 + len(faces) == euler
    assert components(len(verts), directed_edges(faces)) == 1


@both_methods
@pytest.mark.parametrize(
    ("solid", "exact"), [(sphere, 4 / 3 * pi * 0.6**3), (torus, 2 * pi**2 * 0.55 * 0.25**2)], ids=["sphere", "torus"]
)
def test_volume_and_surface_converge_at_second_order(method, solid, exact):
    volume_errors, surface_errors = [], []
    for n in (20, 40):
        grid_verts = tets(n).verts.double()
        verts, faces = extract(method, grid_verts, solid(grid_verts), n)
        volume_errors.append(abs(volume(verts, faces).item() - exact))
        surface_errors.append(solid(verts).square().mean().sqrt().item())
    assert volume_errors[0] / volume_errors[1] == pytest.approx(4, rel=0.15)
    assert surface_errors[0] / surface_errors[1] == pytest.approx(4, rel=0.15)


@both_methods
@pytest.mark.parametrize("seed", range(4))
def test_noise_gives_a_closed_manifold_mesh(method, seed):
    grid_verts = tets(9).verts.double()
    verts, faces = extract(method, grid_verts, random_distances(9, seed), 9)
    assert is_closed_and_wound_alike(faces)
    assert fans(faces) == len(verts) == len(faces.unique())


@both_methods
def test_distance_zero_is_outside(method):
    grid_verts = tets(4).verts
    sdf = torch.ones(125)
    sdf[62] = -1
    sdf[[61, 63]] = 0
    verts, faces = extract(method, grid_verts, sdf, 4)
    assert is_closed_and_wound_alike(faces) and components(len(verts), directed_edges(faces)) == 1
    with pytest.raises(ValueError, match="no sign change"):
        extract(method, grid_verts, sdf.clamp_min(0), 4)


@both_methods
def test_no_sign_change_is_an_error(method):
    for value in (-1.0, 1.0):
        with pytest.raises(ValueError, match="no sign change"):
            extract(method, tets(3).verts, torch.full((64,), value), 3)


@both_methods
def test_moved_grid_points_carry_the_surface_along(method):
    """The distances stay with their points, so an affine map of the grid is one of the mesh."""
    grid_verts = tets(8).verts.double()
    verts, faces = extract(method, grid_verts, sphere(grid_verts), 8)
    A = torch.tensor([[1.0, 0.2, 0], [0, 0.7, 0.1], [0.3, 0, 1.2]], dtype=torch.float64)
    moved_verts, moved_faces = extract(method, grid_verts @ A.T + 5, sphere(grid_verts), 8)
    torch.testing.assert_close(moved_verts, verts @ A.T + 5)
    assert torch.equal(moved_faces, faces)


@both_methods
def test_gradients_equal_finite_differences(method):
    rng = np.random.default_rng(3)
    sdf = torch.from_numpy(rng.normal(size=27)).requires_grad_()
    grid_verts = tets(2).verts.double() + 0.1 * torch.from_numpy(rng.normal(size=(27, 3)))
    assert torch.autograd.gradcheck(lambda v, s: extract(method, v, s, 2)[0], (grid_verts.requires_grad_(), sdf))


@both_methods
def test_descent_on_the_distances_grows_a_small_sphere(method):
    grid_verts = tets(12).verts
    sdf = (grid_verts.norm(dim=-1) - 0.3).requires_grad_()
    optimiser = torch.optim.Adam([sdf], lr=0.02)
    for _ in range(150):
        verts, faces = extract(method, grid_verts, sdf, 12)
        optimiser.zero_grad()
        (verts.norm(dim=-1) - 0.6).square().mean().backward()
        optimiser.step()
    assert (verts.norm(dim=-1) - 0.6).abs().max() < 0.02
    assert is_closed_and_wound_alike(faces) and volume(verts, faces).item() == pytest.approx(
        4 / 3 * pi * 0.6**3, rel=0.05
    )
