"""Remeshing keeps the surface, its topology and its borders, and makes edges equally long."""

import numpy as np
import pytest
import torch

from recon_lib import mesh as meshes
from recon_lib.surface import checks, grid_mesh, half_edges, intersections, remeshing


def grid(size=64):
    x = np.linspace(-1, 1, size)
    return np.stack(np.meshgrid(x, x, x, indexing="ij"), -1), x[1] - x[0]


def zero_set(field, spacing):
    dense = grid_mesh.dense_mesh(field, np.full(3, -1.0), spacing)
    return dense.verts.double().numpy(), dense.faces.long().numpy()


def torus():
    points, spacing = grid()
    ring = np.hypot(np.hypot(points[..., 0], points[..., 1]) - 0.6, points[..., 2])
    return zero_set(ring - 0.2, spacing)


def euler(faces):
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    return len(np.unique(faces)) - len(np.unique(sides, axis=0)) + len(faces)


def lengths(verts, faces):
    return np.linalg.norm(verts[faces] - verts[np.roll(faces, -1, 1)], axis=2)


def smallest_angles(verts, faces):
    a = lengths(verts, faces)
    b, c = np.roll(a, 1, 1), np.roll(a, -1, 1)
    return np.degrees(np.arccos(((b * b + c * c - a * a) / (2 * b * c)).clip(-1, 1))).min(1)


@pytest.mark.parametrize("edge", [0.03, 0.09], ids=["split", "collapsed"])
def test_a_torus_becomes_even_and_stays_a_torus(edge):
    verts, faces = torus()
    out, tris = remeshing.remesh(verts, faces, edge, 3)
    assert euler(tris) == 0 and checks.check_mesh(torch.from_numpy(out), torch.from_numpy(tris).int()).bodies == 1
    found = lengths(out, tris)
    assert 0.85 < found.mean() / edge < 1.15 and found.std() / found.mean() < 0.2
    assert np.percentile(smallest_angles(out, tris), 1) > 25
    away = np.abs(np.hypot(np.hypot(out[:, 0], out[:, 1]) - 0.6, out[:, 2]) - 0.2)
    assert away.max() < 2e-3  # the given mesh is as far from the torus
    middle = out[tris].mean(1)
    assert np.abs(np.hypot(np.hypot(middle[:, 0], middle[:, 1]) - 0.6, middle[:, 2]) - 0.2).max() < 0.6 * edge**2 / 0.2
    normal = np.cross(out[tris[:, 1]] - out[tris[:, 0]], out[tris[:, 2]] - out[tris[:, 0]])
    assert ((normal * out[tris[:, 0]]).sum() / 6) == pytest.approx(2 * np.pi**2 * 0.6 * 0.2**2, rel=0.04)
    assert not intersections.find(torch.from_numpy(out), torch.from_numpy(tris), 20.0).any()


def test_the_sides_of_a_plate_thinner_than_an_edge_stay_apart():
    points, spacing = grid()
    field = np.abs(points) - np.array([0.8, 0.8, 0.05])
    verts, faces = zero_set(field.max(-1), spacing)
    out, tris = remeshing.remesh(verts, faces, 0.15, 2)
    flat = np.abs(out[:, :2]).max(1) < 0.6
    assert np.abs(np.abs(out[flat, 2]) - 0.05).max() < 1e-3 and (out[flat, 2] > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert euler(tris) == 2


def test_a_border_stays_as_it_is():
    ball = meshes.icosphere(4)
    verts, faces = ball.verts.double().numpy(), ball.faces.long().numpy()
    faces = faces[verts[faces].mean(1)[:, 2] > -0.5]
    used, faces = np.unique(faces, return_inverse=True)
    verts, faces = verts[used], faces.reshape(-1, 3)
    border = half_edges.connect(verts, faces)
    edges = np.flatnonzero(border.twin < 0)
    rim = np.unique(border.tail[edges])
    out, tris = remeshing.remesh(verts, faces, 0.2, 2)
    assert all((out == verts[v]).all(1).any() for v in rim)
    assert (half_edges.connect(out, tris).twin < 0).sum() == len(edges) and euler(tris) == 1
    assert len(tris) < 0.7 * len(faces)


def test_three_faces_at_an_edge_are_refused():
    verts = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0]])
    with pytest.raises(ValueError, match="got 1 edges with two faces on one side"):
        remeshing.remesh(verts, np.array([[0, 1, 2], [0, 1, 3]]), 0.5, 1)


def test_two_balls_that_touch_in_a_vertex_are_not_torn():
    ball = meshes.icosphere(2)
    verts, faces = ball.verts.double().numpy(), ball.faces.long().numpy()
    top = int(verts[:, 2].argmax())
    other = verts * [1, 1, -1] + [0, 0, 2 * verts[top, 2]]
    joined = faces[:, ::-1] + len(verts)
    both = np.concatenate([faces, np.where(joined == top + len(verts), top, joined)])
    out, tris = remeshing.remesh(np.concatenate([verts, other]), both, 0.4, 2)
    assert (out == verts[top]).all(1).any() and len(tris) < len(both)
    half_edges.connect(out, tris)


def test_half_edges_know_each_other_after_every_change():
    verts, faces = torus()
    mesh = half_edges.connect(verts, faces)
    changes = {
        "split": lambda m: half_edges.split(m, len(verts), len(faces), 0.03),
        "collapse": lambda m: half_edges.collapse(m, half_edges.find_shorter(m, 0.03)[0], 0.03, 0.06),
        "flip": half_edges.flip,
    }
    mesh = remeshing.with_room(mesh, half_edges.count_longer(mesh, 0.03))
    for name, change in changes.items():
        before = mesh.tail.copy()
        change(mesh)
        assert (mesh.tail != before).sum() > 100, name
        alive = np.flatnonzero(mesh.tail >= 0)
        ahead = np.where(alive % 3 < 2, alive + 1, alive - 2)
        assert (mesh.twin[mesh.twin[alive]] == alive).all(), name
        assert (mesh.tail[mesh.twin[alive]] == mesh.tail[ahead]).all(), name
        used = np.unique(mesh.tail[alive])
        assert (mesh.tail[mesh.out[used]] == used).all(), name
        assert (np.bincount(mesh.tail[alive], minlength=len(mesh.out)) == mesh.valence)[used].all(), name
