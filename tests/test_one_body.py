"""What is left of an object that the grid tears apart, and what is not believed: stray pieces, cones behind, other bodies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.optimize import brentq

from recon_lib import camera, mesh, render
from recon_lib.coarse import config, hull, one_body, reconstruct, sources, visibility
from recon_lib.coarse.config import HullConfig
from recon_lib.coarse.stereo import stereo
from recon_lib.raster import cpu

SPACING = 0.05


def balls(*bodies: tuple[float, tuple[float, float, float]]) -> np.ndarray:
    """Signed distance to balls (radius, centre) on a grid of 50 points a side around the origin; no centre lies on a point."""
    p = (np.stack(np.meshgrid(*[np.arange(50)] * 3, indexing="ij"), -1) - 24.5) * SPACING
    each = [np.linalg.norm(p - np.array(centre), axis=-1) - radius for radius, centre in bodies]
    return np.min(each, axis=0).astype(np.float32)


def with_neck(field: np.ndarray, radius: float) -> np.ndarray:
    """A rod along x from -0.5 to 0.5 halfway between rows of grid points."""
    p = (np.stack(np.meshgrid(*[np.arange(50)] * 3, indexing="ij"), -1) - 24.5) * SPACING
    rod = np.linalg.norm(np.concatenate([np.maximum(np.abs(p[..., :1]) - 0.5, 0), p[..., 1:]], -1), axis=-1) - radius
    return np.minimum(field, rod.astype(np.float32))


ORIGIN = np.full(3, -24.5 * SPACING)
ALL_ROUND = camera.orbit(20, 0.3, 6.0, 0.6, 200)  # each shows the whole grid


def keep(field: np.ndarray, rig: camera.Cameras = ALL_ROUND) -> tuple[np.ndarray, one_body.Kept]:
    return one_body.keep(field, ORIGIN, SPACING, rig)


TWO = ((0.35, (-0.5, 0.0, 0.0)), (0.35, (0.5, 0.0, 0.0)))
AT = ((14, 24, 24), (34, 24, 24))  # the grid points by their centres


def test_balls_on_a_neck_thinner_than_the_grid_stay_one_body():
    torn = with_neck(balls(*TWO), 0.2 * SPACING)
    assert ndimage.label(torn < 0)[1] == 2
    whole, kept = keep(torn)
    assert all(whole[at] < 0 for at in AT) and ndimage.label(whole < 0)[1] == 1
    assert kept == (2, 1, 0, 0.0, 0, 0.0)
    added = ((whole < 0) & (torn >= 0)).sum()
    assert added <= 5 * (0.3 / SPACING + 2)  # nothing but a rod of five points' thickness in the gap


def test_without_a_neck_the_gap_is_real_and_the_object_is_refused():
    apart = balls(*TWO)
    with pytest.raises(one_body.TornApart, match=r"in 2 bodies that stand apart.* 50\.0% of its volume"):
        keep(apart)


def test_a_small_body_apart_is_dropped_and_told_by_its_share():
    radii = 0.6, 0.14
    field = balls((radii[0], (-0.5, 0.0, 0.0)), (radii[1], (0.75, 0.0, 0.0)))
    whole, kept = keep(field)
    assert (whole[39:] >= 0).all() and kept[:3] == (2, 0, 1)
    assert kept.dropped_share == pytest.approx(radii[1] ** 3 / (radii[0] ** 3 + radii[1] ** 3), rel=0.2)
    assert f"2 bodies; 1 of them and crumbs were dropped, {kept.dropped_share:.2%} of the volume" in kept.sentence()


def test_what_few_views_look_at_is_neither_kept_nor_missed_however_large():
    """Eighteen views hold the smaller ball and no more, two hold both."""
    field = balls((0.3, (0.0, -0.6, 0.0)), (0.5, (0.0, 0.5, 0.0)))
    down = torch.eye(4)
    down[1, 3] = -0.6
    tight = camera.moved(camera.orbit(18, 0.0, 6.0, 0.12, 200), down)
    whole, kept = keep(field, joined(tight, camera.orbit(2, 0.0, 6.0, 0.6, 200)))
    assert whole[24, 12, 24] < 0 and (whole[:, 25:] >= 0).all() and kept == (1, 0, 0, 0.0, 0, 0.0)
    assert kept.sentence() == "On the grid the object was in one body; nothing was dropped." and kept.remarks() == ()


def test_a_body_that_lies_behind_the_object_in_every_photo_is_a_phantom_and_not_missed():
    field = balls((0.5, (0.0, 0.0, 0.3)), (0.17, (0.0, 0.0, -0.55)))
    whole, kept = keep(field, from_one_side(15))
    assert kept[:3] == (1, 0, 0) and kept.phantoms == 1 and kept.phantom_share > one_body.MOST_DROPPED
    assert whole[24, 24, 30] < 0 and (whole[:, :, :18] >= 0).all()
    with pytest.raises(one_body.TornApart):  # from the side it shows
        keep(field)
    with pytest.raises(one_body.TornApart):  # depths were found on it
        one_body.keep(field, ORIGIN, SPACING, from_one_side(15), np.ones(field.shape, bool))


def test_phantoms_do_not_widen_the_grid():
    """Two rings of nine views leave pieces of space around a ball that no mask denies and none needs."""
    body = ball(0.5, level=5)
    rig = joined(*[camera.orbit(9, elevation, 2.5, 0.5, 160) for elevation in (-0.15, 0.25)])
    field, _, spacing = hull.carve_field(silhouettes(body, rig), rig, 40)
    assert max(field.shape) * spacing < 1.3


def ball(radius: float, centre=(0.0, 0.0, 0.0), level: int = 4) -> mesh.Mesh:
    sphere = mesh.icosphere(level)
    return mesh.Mesh(radius * sphere.verts + torch.tensor(centre), sphere.faces)


def both(one: mesh.Mesh, other: mesh.Mesh) -> mesh.Mesh:
    return mesh.Mesh(torch.cat([one.verts, other.verts]), torch.cat([one.faces, other.faces + len(one.verts)]))


def silhouettes(body: mesh.Mesh, cameras: camera.Cameras) -> list[np.ndarray]:
    pos = render.clip_positions(body.verts, render.views(cameras, body.verts))
    width, height = cameras.sizes[0].tolist()
    return list((cpu.rasterize(pos, body.faces, (height, width), grad_db=False)[0][..., 3] > 0).float().numpy())


def joined(*rigs: camera.Cameras) -> camera.Cameras:
    names = ("T_world_cam", "intrinsics", "sizes")
    return camera.Cameras(*[torch.cat([getattr(rig, name) for rig in rigs]) for name in names])


def test_a_stray_piece_that_two_of_twenty_views_allow_does_not_widen_the_grid():
    """Eighteen views hold a ball and no more; two are wide and show another one, where the eighteen do not look."""
    one, far = ball(0.4), ball(0.3, (0.0, 2.0, 0.0))
    tight, wide = camera.orbit(18, 0.3, 3.0, 0.4, 128), camera.orbit(2, 0.0, 3.0, 1.8, 128)
    masks = silhouettes(one, tight) + silhouettes(both(one, far), wide)
    field, _, spacing = hull.carve_field(masks, joined(tight, wide), 40)
    assert max(field.shape) * spacing < 1.5 * 0.8
    made = hull.hull_in_one(masks, joined(tight, wide), HullConfig(resolution=40, faces=2000))
    assert made.mesh.verts.norm(dim=-1).max() < 0.6 and made.kept[:3] == (1, 0, 0)


def test_two_balls_apart_are_no_hull():
    rig = camera.canonical_six(128)
    pair = both(ball(0.2, (-0.25, 0, 0)), ball(0.2, (0.25, 0, 0)))
    with pytest.raises(one_body.TornApart, match="if only the largest is kept"):
        hull.visual_hull(silhouettes(pair, rig), rig, HullConfig(resolution=48))


def from_one_side(count: int) -> camera.Cameras:
    """Eyes in a cap of 25 degrees around +z, three units away."""
    turn = torch.arange(count) * 2.4
    tilt = torch.deg2rad(torch.linspace(2, 25, count))
    towards = torch.stack([tilt.sin() * turn.cos(), tilt.sin() * turn.sin(), tilt.cos()], -1)
    poses = camera.look_at(3 * towards, torch.zeros(count, 3), torch.tensor([[0.0, 1, 0]]).expand(count, 3))
    rig = camera.orbit(count, 0.0, 3.0, 0.5, 128)
    return replace(rig, T_world_cam=poses)


def test_the_cone_behind_what_was_photographed_from_one_side_is_cut_and_reported_as_unseen():
    body, rig = ball(0.5, level=5), from_one_side(15)
    masks = silhouettes(body, rig)
    carved = hull.hull_in_one(masks, rig, HullConfig(resolution=48, faces=3000)).mesh
    low, high = carved.verts.min(0).values, carved.verts.max(0).values
    assert -0.6 < low[2] < 0.1 and high[2] > 0.5  # the cone itself ends at z = -0.5 / sin(25 - 9.6 degrees) = -1.9
    assert torch.allclose(high[:2] - low[:2], torch.tensor(1.0), atol=0.06)
    # Without its hull's own bulge towards the cameras, half a ball would be unseen, and the disc behind it.
    surface = sources.of_mesh(carved, rig, ("hull",))
    shares = surface.shares()
    assert f"No photo sees {shares['unseen']:.0%} of its surface" in surface.sentence()
    assert 0.3 < shares["unseen"] < 0.7 and sum(shares.values()) == pytest.approx(1)


def test_of_an_object_photographed_from_all_around_nothing_is_unseen():
    rig = joined(camera.canonical_six(128), camera.orbit(8, 0.5, 2.5, 0.5, 128))
    assert visibility.views_of_faces(ball(0.5), rig).min() >= 1


@pytest.mark.parametrize("fov_radians", [0.5, 3.0], ids=["large in the photo", "small"])
def test_one_view_sees_the_cap_of_a_ball_that_faces_it(fov_radians):
    radius, distance = 0.5, 2.5
    view = camera.orbit(1, 0.0, distance, fov_radians, 256)

    def beyond(angle: float) -> float:
        """The cosine of the angle under which a point of the ball shows, above the least one."""
        cosine = (distance * np.cos(angle) - radius) / np.sqrt(
            distance**2 + radius**2 - 2 * distance * radius * np.cos(angle)
        )
        return cosine - np.cos(np.radians(80))

    cap = (1 - np.cos(brentq(beyond, 0.1, np.pi / 2))) / 2
    shares = sources.of_mesh(ball(radius), view, ("hull",)).shares()
    assert 1 - shares["unseen"] == pytest.approx(cap, rel=0.02)


def test_what_stands_behind_is_not_seen():
    view = camera.orbit(1, 0.0, 2.5, 0.6, 256)
    pair = both(ball(0.3), ball(0.1, (0.0, 0.0, -0.5)))
    seen = visibility.views_of_faces(pair, view)
    assert seen[: len(pair.faces) // 2].any() and not seen[len(pair.faces) // 2 :].any()


def test_sources_tell_depths_from_the_hull_by_the_corners_of_a_face():
    body = ball(0.5)
    of_depths = (body.verts[:, 0] > 0).numpy()
    rig = joined(camera.canonical_six(128), camera.orbit(8, 0.5, 2.5, 0.5, 128))
    shares = sources.of_mesh(body, rig, ("stereo", "hull"), of_depths).shares()
    assert shares["stereo"] == pytest.approx(0.5, abs=0.03) and shares["unseen"] == 0


def test_stereo_that_falls_apart_becomes_the_hull_only_where_auto_chose_it(jug, monkeypatch):
    def apart(*_):
        raise one_body.TornApart("the object is in 2 bodies")

    monkeypatch.setattr(stereo, "stereo_mesh", apart)
    used = jug.subset(~jug.held_out)

    def make(backend: str) -> reconstruct.Coarse:
        return reconstruct.reconstruct(
            used,
            config.BackendConfig(backend=backend),
            HullConfig(32, 1000),
            config.SampleConfig(),
            config.GeneratedConfig(),
        )

    made = make("auto")
    assert made.backend == "hull" and "in 2 bodies; so it is the visual hull" in made.reason
    with pytest.raises(one_body.TornApart):
        make("stereo")


def test_bodies_and_shares_are_on_record_and_in_the_reading(jug):
    used = jug.subset(~jug.held_out)
    made = reconstruct.make_hull(used, HullConfig(48, 1000), "why")
    provenance = made.record()["provenance"]
    assert provenance["bodies_on_the_grid"] == made.kept._asdict()
    assert set(provenance["shares_of_surface"]) == {"hull", "unseen"}
    found = reconstruct.checks.check_mesh(made.mesh.verts, made.mesh.faces)
    assert "Photos see all of its surface." in made.reading(found)
    assert "On the grid the object was in one body" in made.reading(found)
