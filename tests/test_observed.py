"""What photos see of a ball, by how many, from where and with what error."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib import camera, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh, icosphere
from recon_lib.raster import cpu
from recon_lib.verdict import images, observed, rules, texels
from recon_lib.verdict.observed import CLASSES, SIDES

UP = np.array([0.0, 1.0, 0.0])
BALL = icosphere(3)
DISTANCE, REACH = 5.0, np.cos(np.radians(80))


def look(*directions: str) -> Cameras:
    """Cameras of a rig around the ball, by the names of the canonical views."""
    six = camera.canonical_six(128)
    chosen = six[[list(camera.CANONICAL_VIEWS).index(name) for name in directions]]
    T = chosen.T_world_cam.clone()
    T[:, :3, 3] *= DISTANCE / camera.CANONICAL_DISTANCE
    return Cameras(T, chosen.intrinsics, chosen.sizes)


def seen(cameras: Cameras, mesh=BALL, up=UP, compared=()) -> observed.Observed:
    return observed.observe(mesh, cameras, compared, up, cpu)


def centres() -> np.ndarray:
    return BALL.verts[BALL.faces.long()].mean(1).numpy()


def cosines(direction) -> np.ndarray:
    """Of the angle between each face's normal and its way to a camera at that direction, by the closed form of a ball."""
    towards = DISTANCE * np.array(direction) - centres()
    normal = centres() / np.linalg.norm(centres(), axis=1, keepdims=True)
    return (normal * towards).sum(1) / np.linalg.norm(towards, axis=1)


def test_a_face_is_seen_by_the_cameras_in_front_of_it_and_from_their_angle():
    found = seen(look("front", "right", "top"))
    expected = np.stack([cosines(direction) for direction in ([0, 0, 1], [1, 0, 0], [0, 1, 0])])
    certain = (abs(expected - REACH) > 0.1).all(0)
    assert (found.photos == (expected > REACH).sum(0))[
        certain
    ].mean() > 0.97  # the least faces at the rim fall between pixels
    both = np.isfinite(found.angle_degrees) & certain
    assert found.angle_degrees[both] == pytest.approx(np.degrees(np.arccos(expected.max(0)))[both], abs=2)
    assert np.isnan(found.angle_degrees[found.photos == 0]).all()


def test_the_shares_are_of_the_area_and_name_the_side_that_nobody_sees():
    found = seen(look("front", "top", "left", "right", "back"))
    shares = found.shares()
    assert sum(shares.values()) == pytest.approx(1) and tuple(shares) == CLASSES
    below = (cosines([0, 0, 1]) < REACH) & (cosines([0, 0, -1]) < REACH) & (cosines([1, 0, 0]) < REACH)
    below &= (cosines([-1, 0, 0]) < REACH) & (cosines([0, 1, 0]) < REACH)
    assert shares["no photo"] == pytest.approx(found.area[below].sum() / found.area.sum(), abs=0.02)
    assert found.unseen_side()[0] == "bottom"
    assert seen(look(*SIDES)).unseen_side() == ("", 0.0) and seen(look(*SIDES)).shares()["no photo"] == 0


def test_the_sides_follow_the_worlds_up():
    assert seen(look("front", "top"), up=np.array([0.0, 0.0, 1.0])).unseen_side()[0] != "top"
    assert seen(look("back", "bottom", "left", "right", "front"), up=-UP).unseen_side()[0] == "bottom"


def test_more_than_a_quarter_unseen_is_a_warning_that_names_the_side():
    half = {c.name: c for c in rules.of_observed(seen(look("front")), 0.25)}["surface that no used photo shows"]
    # By the sine rule: where the view is at 80 degrees to the normal, the cap that is seen ends.
    cap = np.radians(80) - np.arcsin(np.sin(np.radians(80)) / DISTANCE)
    assert half.value == pytest.approx((1 + np.cos(cap)) / 2, abs=0.01)
    assert half.status == "warning" and "on the back" in half.unit
    whole = rules.of_observed(seen(look(*SIDES)), 0.25)
    assert {c.status for c in whole} == {"normal"} and whole[0].value == 0


def test_a_face_behind_another_body_is_not_seen():
    wall = replace(BALL, verts=BALL.verts + torch.tensor([0.0, 0, 2.3]), faces=BALL.faces)
    pair = replace(
        BALL, verts=torch.cat([BALL.verts, 1.2 * wall.verts]), faces=torch.cat([BALL.faces, wall.faces + 642])
    )
    found = seen(look("front"), pair)
    assert found.photos[: len(BALL.faces)].sum() < 0.02 * (cosines([0, 0, 1]) > REACH).sum()


def test_the_error_lies_on_the_faces_that_show_it(ball):
    cameras = look("front")
    right = render.photographed(ball, cameras, cpu)[0]
    photo = (torch.cat([render.over_white_srgb(right), right[..., 3:]], -1) * 255).round().byte().numpy()
    photo[:, :64, :3] = 255 - photo[:, :64, :3]  # the left half of the photo is wrong
    compared = [images.compare(ball, photo, cameras, cpu)]
    found = seen(cameras, ball, compared=compared)
    x, towards = centres()[:, 0], cosines([0, 0, 1])
    left, sound = (found.error[side & (towards > 0.4)] for side in (x < -0.15, x > 0.15))
    assert np.nanmin(left) > 5 * np.nanmax(sound) and np.isnan(found.error[towards < -0.1]).all()
    shown = observed.colours_of_error(found)
    assert (shown[np.isnan(found.error)] == 153).all() and shown[np.nanargmax(found.error)].sum() > 150


def test_the_map_has_each_texel_in_the_colour_of_its_face(ball):
    of_face = np.random.default_rng(0).integers(0, 255, (len(ball.faces), 3)).astype(np.uint8)
    picture = observed.in_texture(ball, of_face, cpu)
    middle = ball.uvs[ball.uv_faces.long()].mean(1) * torch.tensor(picture.shape[1::-1])
    column, row = middle.long().T.numpy()
    assert (picture[row, column] == of_face).all(1).mean() > 0.95 and picture.dtype == np.uint8


def test_texels_are_seen_by_as_many_photos_as_the_closed_form_of_a_ball_says(ball):
    cameras = look("front", "right", "top")
    places, _ = texels._on_surface(ball, cpu)
    expected = []
    for direction in ([0, 0, 1], [1, 0, 0], [0, 1, 0]):
        towards = DISTANCE * np.array(direction) - places.numpy()
        normal = places.numpy() / np.linalg.norm(places, axis=1, keepdims=True)
        expected.append((normal * towards).sum(1) / np.linalg.norm(towards, axis=1))
    certain = (abs(np.array(expected) - REACH) > 0.12).all(0)
    found = texels.photos_of_texels(ball, cameras, cpu)
    assert certain.mean() > 0.6 and len(found) == len(places)
    assert (found == (np.array(expected) > REACH).sum(0))[certain].mean() > 0.998
    shares = {check.name: check.value for check in rules.of_texels(found)}
    assert sum(shares.values()) == pytest.approx(1) and shares["texels shown by no photo"] == (found == 0).mean()
    assert shares["texels shown by 2 photos or more"] == (found >= 2).mean() > 0.2


def test_a_texel_behind_another_part_of_the_mesh_is_not_seen(ball):
    """Two walls, a large one before a small one, each with half of the texture."""
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    verts = torch.cat([0.8 * corners + torch.tensor([0.0, 0, 1]), 0.5 * corners])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], dtype=torch.int32)
    square = torch.tensor([[0.0, 1], [0.5, 1], [0.5, 0], [0, 0]])
    uvs = torch.cat([square, square + torch.tensor([0.5, 0])])
    walls = Mesh(verts, faces, uvs, faces, torch.ones(32, 64, 3))
    for side, expected in (
        ("front", [1, 0]),
        ("back", [1, 1]),
    ):  # from behind, the small wall hides a part of the large one
        found = texels.photos_of_texels(walls, look(side), cpu).reshape(32, 64)
        halves = found[:, :32], found[:, 32:]
        assert [half.max() for half in halves] == expected
    assert 0.3 < halves[0].mean() < 0.8 and halves[1].all()


def test_the_angle_is_yellow_where_a_photo_looks_straight_at_the_surface_and_its_slanted_share_is_told():
    found = seen(look("front"))
    shown = observed.colours_of_angle(found).astype(int)
    straight, edge = np.nanargmin(found.angle_degrees), np.nanargmax(found.angle_degrees)
    assert shown[straight, :2].min() > 200 > 90 > shown[edge].max() and (shown[found.photos == 0] == 153).all()
    told = {check.name: check.value for check in rules.of_observed(found, 0.25)}
    far = np.radians([observed.SLANTED_DEGREES, 80])
    caps = (1 - np.cos(far - np.arcsin(np.sin(far) / DISTANCE))) / 2  # shares of the ball inside these angles
    assert told["surface shown, but only from more than 60° beside its normal"] == pytest.approx(
        caps[1] - caps[0], abs=0.01
    )
    assert told["surface that differs from its photos by more than 0.1 of 1"] is None
    half = found._replace(error=np.where(centres()[:, 0] < 0, 0.2, 0.05))
    assert half.wrong() == pytest.approx(0.5, abs=0.02)
