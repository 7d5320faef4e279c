"""Folds are smoothed away, and nothing else of a mesh moves."""

import torch

from recon_lib.mesh import icosphere
from recon_lib.surface import intersections, untangle


def folded():
    """A ball of which one vertex was pushed to its other side."""
    ball = icosphere(3)
    verts = ball.verts.clone()
    verts[100] = -1.2 * verts[100]
    return verts, ball


def test_a_fold_is_smoothed_away_and_the_rest_stays_where_it_is():
    verts, ball = folded()
    found = untangle.untangle(verts, ball.faces)
    assert found.before > 0 == found.after
    assert not intersections.find(found.verts, ball.faces, 10.0).any()
    still = (found.verts == ball.verts).all(-1)
    pushed = (verts - ball.verts).norm(dim=-1).max()
    assert still.float().mean() > 0.9 and (found.verts - ball.verts)[~still].norm(dim=-1).max() < 0.4 * pushed


def test_a_mesh_without_folds_is_returned_bit_for_bit():
    ball = icosphere(3)
    found = untangle.untangle(ball.verts, ball.faces)
    assert found.verts is ball.verts and found.before == found.after == 0


def test_two_bodies_that_lie_in_each_other_are_counted_and_not_torn():
    ball = icosphere(2)
    verts = torch.cat([ball.verts, ball.verts + torch.tensor([0.9, 0.0, 0.0])])
    faces = torch.cat([ball.faces, ball.faces + len(ball.verts)]).int()
    found = untangle.untangle(verts, faces)
    assert found.before > 0 and 0 < found.after <= found.before
    assert (found.verts - verts).norm(dim=-1).max() < 0.6


def test_faces_far_from_what_moved_are_not_searched_again_and_nothing_is_missed():
    ball = icosphere(4)
    verts = ball.verts.clone()
    neighbour = verts[ball.faces[(ball.faces == 200).any(1)][0]].mean(0)
    verts[200] = 1.01 * torch.nn.functional.normalize(verts[200] + 8 * (neighbour - verts[200]), dim=0)
    moved = (verts != ball.verts).any(-1).numpy()
    around = untangle._around(verts, ball.faces, moved)
    assert len(around) < 0.5 * len(ball.faces)
    crossing = intersections.find(verts, ball.faces, 10.0)
    assert (intersections.find(verts, ball.faces[around], 10.0) == crossing[around]).all()
    assert crossing.sum() == crossing[around].sum() > 0
