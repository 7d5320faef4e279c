from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from recon_lib import camera, frames, mesh, render
from recon_lib.photos import crops, framing
from recon_lib.progress import silent
from recon_lib.raster import cpu
from recon_lib.refine import fit, headless, losses, refine
from recon_lib.refine.large_steps import Preconditioner
from recon_lib.shading import cubemap
from recon_lib.surface import placement, projection, simplify, uv


def photos_of(body: mesh.Mesh, count: int = 6, size: int = 64) -> crops.Photos:
    views = camera.orbit(count, 0.3, 5.0, 0.5, size)
    return crops.Photos(render.photographed(body, views, cpu), views)


def lit(body: mesh.Mesh, light_size: int = 16) -> mesh.Mesh:
    return refine.make_lit(body, light_size, cpu)


def last(steps) -> fit.FitState:
    return deque(steps, maxlen=1)[0]


def test_the_same_seed_gives_the_same_mesh_bit_for_bit_and_another_seed_another(ball):
    photos = photos_of(ball)
    start = replace(ball, verts=0.95 * ball.verts, texture=torch.full_like(ball.texture, 0.5))
    ends = [last(fit.fit(photos, start, fit.FitConfig(steps=6, seed=s), cpu)).mesh for s in (1, 1, 2)]
    assert torch.equal(ends[0].verts, ends[1].verts) and torch.equal(ends[0].texture, ends[1].texture)
    assert not torch.equal(ends[0].verts, ends[2].verts)


def test_a_sphere_of_the_wrong_size_and_colour_finds_both(ball):
    photos = photos_of(ball)
    wrong = replace(ball, verts=0.9 * ball.verts, texture=torch.full_like(ball.texture, 0.5))
    state = last(fit.fit(photos, wrong, fit.FitConfig(steps=120, lr_texture=0.05), cpu))
    seen = state.mesh.verts[:, 1].abs() < 0.6
    assert state.mesh.verts[seen].norm(dim=-1).mean().item() == pytest.approx(1.0, abs=0.005)
    before, after = ((render.render(m, photos.cameras, cpu) - photos.rgba).abs().mean() for m in (wrong, state.mesh))
    assert after < before / 3


def test_a_zero_vertex_rate_keeps_the_shape_exactly(ball):
    state = last(fit.fit(photos_of(ball), ball, fit.FitConfig(steps=3, lr_vertex=0.0), cpu))
    assert torch.allclose(state.mesh.verts, ball.verts, atol=1e-6)


@pytest.mark.parametrize(
    "knob",
    [
        {"lr_texture": 0.05}, {"lr_vertex": 0.01}, {"lr_material": 0.05}, {"lr_light": 0.01}, {"smoothness": 1.0},
        {"w_alpha": 10.0}, {"w_smooth": 1.0}, {"w_occlusion": 1.0}, {"w_white": 1.0}, {"w_laplacian": 100.0},
        {"warmup": 0}, {"decay": 0.01}, {"batch": 1},
    ],
    ids=str,
)  # fmt: skip
def test_every_knob_changes_the_result(ball, knob):
    photos, start = photos_of(ball), lit(replace(ball, verts=0.9 * ball.verts))
    plain, turned = (last(fit.fit(photos, start, fit.FitConfig(steps=4, **k), cpu)).mesh for k in ({}, knob))
    both = [(m.verts, m.texture, m.material.values, m.light) for m in (plain, turned)]
    assert not all(torch.equal(a, b) for a, b in zip(*both, strict=True))


def weighed(ball, **weight) -> mesh.Mesh:
    """After 60 steps with that weight, on photos of a reddish shiny ball under coloured light."""
    tinted = torch.tensor([1.0, 0.7, 0.4]) * (1 + 0.5 * cubemap.directions(16)[..., 1:2])
    true = replace(lit(ball), light=tinted)
    noise = torch.rand(ball.texture.shape, generator=torch.Generator().manual_seed(0))
    start = lit(replace(ball, texture=0.3 + 0.2 * noise))
    quiet = {"w_smooth": 0.0, "w_occlusion": 0.0, "w_white": 0.0} | weight
    return last(fit.fit(photos_of(true), start, fit.FitConfig(steps=60, **quiet), cpu)).mesh


def test_each_weight_does_what_its_name_says(ball):
    plain = weighed(ball)
    assert losses.whiteness(weighed(ball, w_white=1.0).light) < losses.whiteness(plain.light) / 3
    assert weighed(ball, w_occlusion=0.1).material.values[..., 0].mean() > plain.material.values[..., 0].mean()

    def rough(m):
        inside = uv.covered(m.uvs, m.uv_faces, m.texture.shape[:2], cpu)
        return (m.texture[1:] - m.texture[:-1])[inside[1:] & inside[:-1]].abs().mean()

    assert rough(weighed(ball, w_smooth=1.0)) < 0.8 * rough(plain)
    edges = mesh.edges(ball.faces)
    fair = weighed(ball, w_laplacian=300.0)
    assert losses.laplacian_energy(fair.verts, edges) < losses.laplacian_energy(plain.verts, edges)


def test_material_and_light_of_a_shiny_ball_explain_unseen_photos_better_than_colour_alone(ball):
    sun = (cubemap.directions(32) @ torch.tensor([0.36, 0.8, 0.48])).clamp_min(0).pow(20)[..., None]
    true = lit(replace(ball, texture=ball.texture.clamp(0, 0.6)), 32)
    true.material.values[..., 1] = 0.25
    true = replace(true, light=0.4 + 6 * sun.expand(-1, -1, -1, 3).contiguous())
    seen, unseen = photos_of(true, 16), photos_of(true, 7)
    flat = replace(ball, texture=torch.full_like(ball.texture, 0.4))
    config = fit.FitConfig(steps=200, lr_vertex=0.0, lr_texture=0.02)
    score = [
        projection.explain(last(fit.fit(seen, start, config, cpu)).mesh, unseen, cpu).psnr_db
        for start in (flat, lit(flat, 32))
    ]
    assert score[1] > score[0] + 1.5


def test_rates_can_be_changed_between_steps(ball):
    config = fit.FitConfig(steps=4)
    controls = fit.Controls(config)
    steps = fit.fit(photos_of(ball), ball, config, cpu, controls)
    next(steps), next(steps)
    controls.lr_vertex = controls.lr_texture = 0.0
    before = fit.snapshot(next(steps).mesh)  # the rates were zero in this step already
    after = fit.snapshot(next(steps).mesh)
    assert torch.equal(before.verts, after.verts) and torch.equal(before.texture, after.texture)


def test_a_non_finite_loss_stops_with_its_step_and_keeps_the_last_good_state(ball):
    photos = photos_of(ball)
    broken = crops.Photos(photos.rgba.clone(), photos.cameras)
    broken.rgba[3] = float("nan")
    setup = refine.Setup(torch.eye(4), broken, None, ball, ball)
    steps = refine.run(setup, fit.FitConfig(steps=6, batch=1), cpu)
    result = headless.run_to_end(steps, 6, silent)
    assert "is not finite" in result.error and f"step {len(result.history) + 1}:" in result.error
    assert torch.isfinite(result.mesh.verts).all() and torch.isfinite(result.mesh.texture).all()
    with pytest.raises(FloatingPointError, match="the last good state is kept"):
        headless.require_sound(result)


def test_the_preconditioner_solves_its_own_equation(ball):
    smooth = Preconditioner(ball, 20.0)
    dense = 20 * mesh.laplacian(ball.faces, len(ball.verts)).toarray() + np.eye(len(ball.verts))
    u = smooth.to_differential(ball.verts)
    assert torch.allclose(u, torch.from_numpy(dense @ ball.verts.numpy()).float(), atol=1e-4)
    assert torch.allclose(smooth.to_verts(u), ball.verts, atol=1e-5)
    grad = torch.randn(len(ball.verts), 3)
    u.requires_grad_(True)
    (smooth.to_verts(u) * grad).sum().backward()
    expected = scipy.sparse.linalg.spsolve(scipy.sparse.csc_array(dense), grad.numpy())
    assert torch.allclose(u.grad, torch.from_numpy(expected).float(), atol=1e-4)


def test_log_l1_is_nvdiffrecs_formula():
    def tone(x):
        y = np.log(x + 1)
        return np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)

    a, b = np.random.default_rng(0).random((2, 50))
    ours = losses.log_l1(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert ours == pytest.approx(np.abs(tone(a) - tone(b)).mean())


def test_crops_show_what_their_cameras_see(jug, true_jug):
    """The true mesh, seen by the crops' cameras, has the crops' silhouettes."""
    photos = crops.crop_photos(jug.images[:4], jug.cameras[:4], 128)
    pos = render.clip_positions(true_jug.verts, render.views(photos.cameras, true_jug.verts))
    rast, _ = cpu.rasterize(pos, true_jug.faces, (128, 128), grad_db=False)
    differ = (rast[..., 3] > 0) != (photos.rgba[..., 3] > 0.5)
    assert differ.float().mean() < 0.002
    assert ((photos.rgba[..., 3] > 0.5).float().mean((1, 2)) > 0.3).all()


def test_a_crop_is_the_area_mean_in_linear_light():
    image = np.zeros((64, 64, 4), np.uint8)
    image[16:48, 16:48] = 255
    image[16:48, 16:48:2, :3] = 0  # black and white columns: half the light
    found = crops.crop_photos((image,), camera.canonical_six(64)[[0]], 20).rgba[0]
    assert found[8:12, 8:12, 0].mean().item() == pytest.approx(0.5, abs=0.01)
    assert found[..., 3].max() == 1


def test_crops_on_a_device_are_the_cpu_s_but_for_rounding(jug):
    images = jug.images[:2]
    boxes = [framing.square_box(image[..., 3] / 255, crops.MARGIN) for image in images]
    found = crops.crops_on_device(images, boxes, 96, "cpu")
    assert (found - crops.crop_photos(images, jug.cameras[:2], 96).rgba).abs().max() < 1e-5


def test_projected_texture_gives_back_the_colours_that_were_photographed(ball):
    blank = replace(ball, texture=torch.zeros_like(ball.texture))
    found = projection.project_photos(blank, photos_of(ball, count=12, size=128), cpu)
    flat = torch.nn.functional.pad(2 * ball.uvs - 1, (0, 2))
    flat[:, 3] = 1
    rast, _ = cpu.rasterize(flat[None], ball.uv_faces, ball.texture.shape[:2], grad_db=False)
    height = cpu.interpolate(ball.verts[None, :, 1:2], rast, ball.faces)[0][0, ..., 0]
    seen = (rast[0, ..., 3] > 0) & (height.abs() < 0.5)
    assert (found - ball.texture)[seen].abs().mean() < 0.02


def test_the_unit_frame_and_back_is_where_it_was(jug, jug_hull):
    T = frames.unit_frame(jug_hull.verts)
    unit = placement.transform(jug_hull, T)
    assert unit.verts.norm(dim=-1).max().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(placement.transform(unit, torch.linalg.inv(T)).verts, jug_hull.verts, atol=1e-6)


def test_atlas_charts_do_not_overlap_and_keep_their_distance(jug_hull):
    uvs, uv_faces, (height, width) = uv.unwrap(jug_hull.verts, jug_hull.faces, 512)
    assert max(height, width) <= 512 and uvs.min() >= 0 and uvs.max() <= 1
    a, b, c = (uvs * torch.tensor([width, height]))[uv_faces.long()].unbind(1)
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs().sum() / 2
    texels = uv.covered(uvs, uv_faces, (height, width), cpu).sum()
    assert texels.item() == pytest.approx(area.item(), rel=0.02)  # overlap would lose texels


def test_dilation_repeats_the_nearest_known_colour():
    texture, known = torch.zeros(5, 9, 3), torch.zeros(5, 9, dtype=torch.bool)
    texture[2, 1], texture[2, 7], known[2, 1], known[2, 7] = 0.25, 0.75, True, True
    filled = uv.dilate(texture, known)
    assert (filled[:, :4] == 0.25).all() and (filled[:, 5:] == 0.75).all()


def test_a_light_copy_looks_like_the_original(painted_jug):
    light = simplify.decimated_copy(painted_jug, 3000, 512, cpu)
    assert len(light.faces) <= 3000
    views = camera.canonical_six(128)
    full, small = (render.over_white_srgb(render.render(m, views, cpu)) for m in (painted_jug, light))
    assert (full - small).square().mean() < 10**-2.6  # 26 dB
