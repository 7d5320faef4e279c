"""Measures of a mesh as a body and of its texture, against counts and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib.mesh import Material, Mesh, icosphere
from recon_lib.raster import cpu
from recon_lib.surface import atlas, checks, intersections, solid
from recon_lib.verdict import rules


def torus(around: int = 24, across: int = 12) -> Mesh:
    u, v = torch.meshgrid(torch.arange(around), torch.arange(across), indexing="ij")
    a, b = u * 2 * torch.pi / around, v * 2 * torch.pi / across
    verts = torch.stack([(1 + 0.3 * b.cos()) * a.cos(), (1 + 0.3 * b.cos()) * a.sin(), 0.3 * b.sin()], -1).reshape(
        -1, 3
    )
    at = lambda i, j: (i % around) * across + j % across  # noqa: E731
    quads = torch.stack([at(u, v), at(u + 1, v), at(u + 1, v + 1), at(u, v + 1)], -1).reshape(-1, 4)
    return Mesh(verts, torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).int())


def both(a: Mesh, b: Mesh) -> Mesh:
    return Mesh(torch.cat([a.verts, b.verts]), torch.cat([a.faces, b.faces + len(a.verts)]))


def test_a_balls_measures_are_those_of_a_ball():
    found = solid.measure(icosphere(4))
    assert (found.boundary_loops, found.genus, found.self_intersecting_faces, found.sliver_faces) == (0, 0, 0, 0)
    assert found.volume == pytest.approx(4 / 3 * np.pi, rel=0.01) and found.largest_body_share == 1
    assert found.size == pytest.approx((2, 2, 2), abs=0.01) and found.faces == 5120


def test_the_genus_counts_the_handles_of_all_bodies():
    ring = torus()
    assert solid.measure(ring).genus == 1
    assert solid.measure(both(ring, replace(ring, verts=ring.verts + 5))).genus == 2
    assert solid.measure(replace(ring, faces=ring.faces[1:])).genus is None


def test_two_holes_are_two_loops_with_their_length():
    ball = icosphere(2)
    ends = ball.verts[ball.faces.long()].mean(1)[:, 2]
    kept = torch.ones(len(ends), dtype=torch.bool)
    kept[torch.stack([ends.argmax(), ends.argmin()])] = False
    found = solid.measure(Mesh(ball.verts, ball.faces[kept]))
    corners = ball.verts[ball.faces[~kept].long()]
    assert found.boundary_loops == 2 and found.volume is None
    assert found.boundary_length == pytest.approx((corners - corners.roll(1, 1)).norm(dim=-1).sum().item(), rel=1e-5)


def test_the_largest_bodys_share_is_of_the_area():
    found = solid.measure(both(icosphere(3), Mesh(5 + icosphere(3).verts / 2, icosphere(3).faces)))
    assert found.largest_body_share == pytest.approx(0.8, abs=1e-3)


def test_the_volume_is_negative_inside_out_and_unknown_where_faces_disagree():
    ball = icosphere(2)
    inside_out = solid.measure(replace(ball, faces=ball.faces.flip(1)))
    assert inside_out.volume < -3.9
    found = {c.name: c for c in rules.of_solid(checks.check_mesh(ball.verts, ball.faces.flip(1)), inside_out)}
    assert found["volume"].status == "failure"
    faces = ball.faces.clone()
    faces[::2] = faces[::2].flip(1)
    assert solid.measure(replace(ball, faces=faces)).volume is None


def test_a_sliver_is_counted():
    sliver = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.5, 0.01, 0]]), torch.tensor([[0, 1, 2]], dtype=torch.int32))
    assert solid.measure(sliver).sliver_faces == 1
    assert solid.measure(replace(sliver, verts=sliver.verts * torch.tensor([1.0, 20, 1]))).sliver_faces == 0


def test_faces_that_pass_through_one_another_are_found_and_faces_that_touch_are_not():
    one = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]], dtype=torch.int32))
    through = Mesh(torch.tensor([[0.2, 0.2, -1], [0.3, 0.2, 1], [0.2, 0.3, 1]]), one.faces)
    pair = both(both(one, through), replace(one, verts=one.verts + 3))
    assert intersections.find(pair.verts, pair.faces, 20.0).tolist() == [True, True, False]
    ball = icosphere(2)
    assert not intersections.find(ball.verts, ball.faces, 20.0).any()


def test_a_search_that_takes_too_long_is_given_up_and_the_check_says_so():
    ball = icosphere(2)
    assert intersections.find(ball.verts, ball.faces, 0.01) is None
    found = solid.measure(ball, limit_s=0.01)
    by_name = {c.name: c for c in rules.of_solid(checks.check_mesh(ball.verts, ball.faces), found)}
    assert by_name["self-intersecting faces"].status == "warning" and by_name["self-intersecting faces"].value is None


def test_vertices_that_are_no_numbers_are_survived():
    ball = icosphere(2)
    verts = ball.verts.clone()
    verts[3] = torch.nan
    found = solid.measure(replace(ball, verts=verts))
    assert (
        found.self_intersecting_faces is None
        and found.volume is None
        and found.size == pytest.approx((2, 2, 2), abs=0.1)
    )


def test_lengths_are_in_metres_where_the_scale_is_known():
    ball = icosphere(2)
    found = rules.of_solid(checks.check_mesh(ball.verts, ball.faces), solid.measure(ball), 0.5)
    size = next(c for c in found if c.name == "size along x")
    assert size.value == pytest.approx(1, abs=0.01) and size.unit == "m"
    unknown = rules.of_solid(checks.check_mesh(ball.verts, ball.faces), solid.measure(ball))
    assert next(c for c in unknown if c.name == "size along x").unit == "units, unknown scale"


def square(corners) -> Mesh:
    """A unit square of two triangles, whose texture coordinates are the given four corners."""
    verts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    return Mesh(verts, faces, torch.tensor(corners, dtype=torch.float32), faces, torch.rand(64, 64, 3))


QUARTER = [[0.0, 0.5], [0.5, 0.5], [0.5, 0.0], [0.0, 0.0]]


def test_an_even_square_on_a_quarter_of_the_texture():
    found = atlas.measure(square(QUARTER), cpu)
    assert found.coverage == pytest.approx(0.25, abs=0.02) and found.overlap == 0 and found.charts == 1
    assert found.texels_per_unit == pytest.approx((32, 32, 32)) and found.stretch == pytest.approx(1)
    assert (found.outside_faces, found.flat_faces, found.seam_jump, found.out_of_range) == (0, 0, 0.0, 0)


def test_stretch_is_the_ratio_of_the_two_directions():
    wide = [[0.0, 0.25], [1.0, 0.25], [1.0, 0.0], [0.0, 0.0]]
    found = atlas.measure(square(wide), cpu)
    assert found.stretch == pytest.approx(4) and found.texels_per_unit[1] == pytest.approx(32)


def test_coordinates_outside_and_faces_without_area_are_counted():
    assert atlas.measure(square([[0.0, 0.5], [1.5, 0.5], [0.5, 0.0], [0.0, 0.0]]), cpu).outside_faces == 1
    assert atlas.measure(square([[0.5, 0.5]] * 4), cpu).flat_faces == 2


def test_faces_that_share_texels_overlap_whatever_their_order():
    one = square(QUARTER)
    twice = replace(one, faces=one.faces.repeat(2, 1), uv_faces=one.uv_faces.repeat(2, 1))
    for mesh in (twice, replace(twice, uv_faces=twice.uv_faces.flip(0), faces=twice.faces.flip(0))):
        assert atlas.measure(mesh, cpu).overlap == pytest.approx(1)


def test_the_seam_jump_is_the_difference_between_its_sides():
    one = square(QUARTER)
    uvs = torch.cat([one.uvs, one.uvs + 0.5])
    split = replace(one, uvs=uvs, uv_faces=torch.stack([one.uv_faces[0], one.uv_faces[1] + 4]))
    texture = torch.zeros(64, 64, 3)
    texture[32:, 32:] = 1.0
    found = atlas.measure(replace(split, texture=texture), cpu)
    assert found.charts == 2 and found.seam_jump == pytest.approx(1, abs=0.06)
    assert atlas.measure(replace(split, texture=torch.zeros(64, 64, 3)), cpu).seam_jump == 0


def test_a_roughness_above_one_and_a_texel_that_is_no_number_are_out_of_range():
    values = torch.zeros(4, 4, 6)
    values[1, 2, 1], values[3, 3, 5] = 1.5, torch.inf
    assert atlas.measure(replace(square(QUARTER), material=Material(values)), cpu).out_of_range == 2
    texture = torch.rand(64, 64, 3)
    texture[5, 5] = torch.nan
    assert atlas.measure(replace(square(QUARTER), texture=texture), cpu).out_of_range == 1


def test_a_fault_of_the_texture_is_a_warning_that_names_it():
    twice = square(QUARTER)
    twice = replace(twice, faces=twice.faces.repeat(2, 1), uv_faces=twice.uv_faces.repeat(2, 1))
    found = {c.name: c.status for c in rules.of_atlas(atlas.measure(twice, cpu), 4)}
    assert found["texture overlap"] == "warning" and set(found.values()) == {"warning", "normal"}
